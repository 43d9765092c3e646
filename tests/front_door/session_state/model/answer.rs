//! What a client hears, as text that two worlds can be compared by: without
//! what differs between any two connections.

use std::collections::BTreeMap;

use crate::raw::Message;

/// Fields of errors and notices that are compared, with the letter of each.
const FIELDS: [u8; 11] = [b'S', b'V', b'C', b'M', b'D', b'H', b'P', b'p', b'q', b's', b't'];
/// The first object id that no two databases have in common.
const FIRST_OWN_OID: u32 = 16384;

/// What came between the answers, at a moment of the server's choosing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Asides {
    /// Channel and payload of each notification.
    pub notifications: Vec<String>,
    /// The last report of each parameter.
    pub reports: BTreeMap<String, String>,
}

/// The text of an answer; none if it is an aside.
pub fn told(message: &Message, asides: &mut Asides) -> Option<String> {
    let body = &message.body;
    let kind = char::from(message.kind);
    Some(match message.kind {
        b'A' => {
            asides.notifications.push(texts(&body[4..]).join(" "));
            return None;
        }
        b'S' => {
            let pair = texts(body);
            asides.reports.insert(pair[0].clone(), pair[1].clone());
            return None;
        }
        b'E' | b'N' => format!("{kind} {}", without_name(fields(body))),
        b'T' => format!("T {}", columns(body)),
        b't' => format!("t {:?}", parameters(body)),
        b'D' => format!("D {}", row(body)),
        b'C' => format!("C {}", texts(body).concat()),
        _ => format!("{kind} {}", String::from_utf8_lossy(body).escape_debug()),
    })
}

/// Texts that end with a zero byte.
fn texts(body: &[u8]) -> Vec<String> {
    let text = body.strip_suffix(b"\0").unwrap_or(body);
    text.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

fn fields(body: &[u8]) -> String {
    let all = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
    let compared = all.filter(|field| FIELDS.contains(&field[0]));
    compared.map(|field| String::from_utf8_lossy(field).into_owned()).collect::<Vec<_>>().join(" ")
}

fn parameters(body: &[u8]) -> Vec<u32> {
    let (types, _) = body[2..].as_chunks::<4>();
    types.iter().map(|oid| u32::from_be_bytes(*oid).min(FIRST_OWN_OID)).collect()
}

/// Names and types of columns; that they are of a table, but not of which.
fn columns(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, behind) = (&rest[..end], &rest[end + 1..]);
        let (of, next) = behind.split_at(18);
        let number = |at: usize| u32::from_be_bytes(of[at..at + 4].try_into().unwrap());
        columns.push(format!(
            "{}({}.{}: {} {:?})",
            String::from_utf8_lossy(name),
            number(0).min(FIRST_OWN_OID),
            u16::from_be_bytes([of[4], of[5]]),
            number(6).min(FIRST_OWN_OID),
            &of[10..],
        ));
        rest = next;
    }
    columns.join(", ")
}

fn row(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (column, behind) = behind.split_at(length.unwrap_or(0));
        let text = || without_number(&String::from_utf8_lossy(column).escape_debug().to_string());
        columns.push(length.map_or_else(|| "NULL".to_owned(), |_| text()));
        rest = behind;
    }
    columns.join(", ")
}

/// Every session has a schema of its own for what is temporary.
fn without_number(text: &str) -> String {
    let Some((before, behind)) = text.split_once("pg_temp_") else { return text.to_owned() };
    format!("{before}pg_temp_{}", behind.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Where a client has two names for one text, an error may speak of the other.
fn without_name(fields: String) -> String {
    match fields.split_once("but prepared statement") {
        Some((before, _)) if fields.contains("Mbind message supplies") => before.to_owned(),
        _ => fields,
    }
}
