//! Messages that Postern itself says to a client.
//!
//! They are encoded by `pgwire`; each function appends one message.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey,
};

use super::conversation::TransactionStatus;
use super::frame::put_message;
use super::startup::ProtocolVersion;
use crate::domain::refusal::Answer;

/// How an error ends: with the connection, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The session goes on.
    Error,
    /// The connection is closed behind it.
    Fatal,
}

/// The answer to `SSLRequest` and `GSSENCRequest`.
pub const YES_TLS: u8 = b'S';
/// The answer to `SSLRequest` and `GSSENCRequest` that go on unencrypted.
pub const NO_ENCRYPTION: u8 = b'N';

/// Appends an `ErrorResponse`. `id` is what the operator looks a refusal up by;
/// clients that are not authenticated are told none.
pub fn error(out: &mut BytesMut, severity: Severity, answer: &Answer, id: Option<&str>) {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let mut fields = vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', answer.sqlstate.as_str().to_owned()),
        (b'M', without_nul(&answer.message)),
    ];
    let id = id.map(|id| format!("Refusal {id}."));
    let detail = [answer.detail.clone(), id].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if !detail.is_empty() {
        fields.push((b'D', without_nul(&detail)));
    }
    if let Some(hint) = &answer.hint {
        fields.push((b'H', without_nul(hint)));
    }
    encode(out, &ErrorResponse::new(fields));
}

/// Appends a `ParameterStatus`.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &[u8]) {
    put_message(out, b'S', &[name.as_bytes(), b"\0", value, b"\0"]);
}

/// Appends a `NoticeResponse`.
pub fn notice(out: &mut BytesMut, message: &str) {
    let field = |code, text: &str| (code, text.to_owned());
    encode(
        out,
        &NoticeResponse::new(vec![
            field(b'S', "NOTICE"),
            field(b'V', "NOTICE"),
            field(b'C', "00000"),
            field(b'M', message),
        ]),
    );
}

/// A NUL would end the field early and shift the rest of the message.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// Appends `NegotiateProtocolVersion`: the version that will be spoken, and the
/// protocol options that are not known.
pub fn negotiate(out: &mut BytesMut, spoken: ProtocolVersion, unknown: &[Bytes]) {
    let names = unknown.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let version = spoken.code().cast_signed();
    encode(out, &NegotiateProtocolVersion::new(version, names));
}

/// Appends `AuthenticationSASL` with these mechanisms.
pub fn sasl_mechanisms(out: &mut BytesMut, mechanisms: &[&str]) {
    let names = mechanisms.iter().map(|name| (*name).to_owned()).collect();
    encode(out, &Authentication::SASL(names));
}

/// Appends `AuthenticationSASLContinue`.
pub fn sasl_continue(out: &mut BytesMut, data: &[u8]) {
    encode(out, &Authentication::SASLContinue(Bytes::copy_from_slice(data)));
}

/// Appends `AuthenticationSASLFinal`.
pub fn sasl_final(out: &mut BytesMut, data: &[u8]) {
    encode(out, &Authentication::SASLFinal(Bytes::copy_from_slice(data)));
}

/// Appends `AuthenticationOk`.
pub fn authentication_ok(out: &mut BytesMut) {
    encode(out, &Authentication::Ok);
}

/// Appends `BackendKeyData`.
pub fn backend_key(out: &mut BytesMut, process_id: u32, key: &[u8]) {
    let key = SecretKey::Bytes(Bytes::copy_from_slice(key));
    encode(out, &BackendKeyData::new(process_id.cast_signed(), key));
}

/// Appends `ReadyForQuery` outside a transaction.
pub fn ready(out: &mut BytesMut) {
    ready_in(out, TransactionStatus::Idle);
}

/// Appends `ReadyForQuery` with this transaction status.
pub fn ready_in(out: &mut BytesMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::InBlock => b'T',
        TransactionStatus::Failed => b'E',
    };
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// Appends the `CommandComplete` of a ROLLBACK.
pub fn rolled_back(out: &mut BytesMut) {
    out.put_slice(b"C\0\0\0\x0dROLLBACK\0");
}

fn encode(out: &mut BytesMut, message: &impl Message) {
    message.encode(out).expect("Postern's own messages are short and well formed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Refusal;

    #[test]
    fn a30_an_error_holds_its_fields_and_nothing_a_name_could_break() {
        let answer = Refusal::PasswordFailed { user: "a\0b\"\n'\\{%".into() }.answer();
        let mut out = BytesMut::new();
        error(&mut out, Severity::Fatal, &answer, Some("k3x9"));
        let body = &out[5..];
        let fields: Vec<&[u8]> = body.split(|b| *b == 0).filter(|f| !f.is_empty()).collect();
        let expected: [&[u8]; 5] = [
            b"SFATAL",
            b"VFATAL",
            b"C28P01",
            b"Mpassword authentication failed for user \"ab\"\n'\\{%\"",
            b"DRefusal k3x9.",
        ];
        assert_eq!(fields, expected);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize + 1, out.len());
    }

    #[test]
    fn keys_of_both_lengths_are_sent_whole() {
        for length in [4usize, 32, 256] {
            let mut out = BytesMut::new();
            backend_key(&mut out, 7, &vec![1; length]);
            assert_eq!(out.len(), 1 + 4 + 4 + length);
        }
    }
}
