//! The few messages of a client that are read into on the way to its server,
//! and those that Postern puts in between; [`super::answer`] is the other
//! direction.

use bytes::{BufMut, BytesMut};

use super::frame::{put_head, put_message};

/// The value that a Bind gives to a parameter, counted from one; of text the
/// binary form is the text.
#[must_use]
pub fn bound_value(body: &[u8], number: u16) -> Option<&[u8]> {
    let (_, rest) = split_string(body)?;
    let (_, rest) = split_string(rest)?;
    let (formats, rest) = rest.split_first_chunk()?;
    let rest = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
    let (count, mut rest) = rest.split_first_chunk()?;
    let mut value = None;
    for _ in 0..number.min(u16::from_be_bytes(*count)) {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (this, behind) = behind.split_at_checked(length)?;
        (value, rest) = (Some(this), behind);
    }
    value.filter(|_| (1..=u16::from_be_bytes(*count)).contains(&number))
}

/// How many values a Bind has; `None` if it has not as many formats for them
/// as it must.
#[must_use]
pub fn value_count(body: &[u8]) -> Option<u16> {
    let (_, rest) = split_string(body)?;
    let (_, rest) = split_string(rest)?;
    let (formats, rest) = rest.split_first_chunk()?;
    let formats = u16::from_be_bytes(*formats);
    let rest = rest.get(2 * usize::from(formats)..)?;
    let values = u16::from_be_bytes(*rest.first_chunk()?);
    (formats <= 1 || formats == values).then_some(values)
}

/// The portal and the statement of a Bind, if both names are there.
#[must_use]
pub fn names_of_bind(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = split_string(body)?;
    let (name, _) = split_string(rest)?;
    Some((portal, name))
}

/// The name in the body of a Describe or Close of a statement.
#[must_use]
pub fn statement_name(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(b"S")?;
    split_string(rest).map(|(name, _)| name)
}

/// The text up to a zero byte, and what is behind it.
#[must_use]
pub fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Appends a simple query.
pub fn put_query(out: &mut BytesMut, sql: &[u8]) {
    put_message(out, b'Q', &[sql, b"\0"]);
}

/// Appends a Parse: `definition` is everything behind the name.
pub fn put_parse(out: &mut BytesMut, name: &[u8], definition: &[u8]) {
    put_message(out, b'P', &[name, b"\0", definition]);
}

/// Appends the beginning of a Bind whose whole body has so many bytes.
pub fn put_bind_head(out: &mut BytesMut, body: usize, portal: &[u8], name: &[u8]) {
    put_head(out, b'B', body);
    for text in [portal, name] {
        out.put_slice(text);
        out.put_u8(0);
    }
}

/// Appends a Bind of a statement without parameters.
pub fn put_bind(out: &mut BytesMut, portal: &[u8], name: &[u8]) {
    // No formats, no values, no formats of columns.
    let counts = [0; 6];
    put_bind_head(out, portal.len() + name.len() + 2 + counts.len(), portal, name);
    out.put_slice(&counts);
}

/// Appends an Execute of all of a portal.
pub fn put_execute(out: &mut BytesMut, portal: &[u8]) {
    put_message(out, b'E', &[portal, b"\0", &[0; 4]]);
}

/// Appends a Close of a portal.
pub fn put_close_portal(out: &mut BytesMut, portal: &[u8]) {
    put_message(out, b'C', &[b"P", portal, b"\0"]);
}

/// Appends a Describe of a statement.
pub fn put_describe(out: &mut BytesMut, name: &[u8]) {
    put_message(out, b'D', &[b"S", name, b"\0"]);
}

/// Appends a Close of a statement.
pub fn put_close(out: &mut BytesMut, name: &[u8]) {
    put_message(out, b'C', &[b"S", name, b"\0"]);
}

/// Appends a Sync.
pub fn put_sync(out: &mut BytesMut) {
    put_message(out, b'S', &[]);
}
