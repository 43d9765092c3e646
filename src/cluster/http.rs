//! One question to a program on this host, over HTTP/1.0: the answer ends with
//! the connection. etcd and Patroni are told and asked so while they start.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For the connection, and for each wait of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The status of a `GET`.
pub(super) fn get(port: u16, path: &str) -> io::Result<u16> {
    ask(port, &format!("GET {path} HTTP/1.0\r\n\r\n")).map(|(status, _)| status)
}

/// A `POST` of JSON: the status, and the head and body of the answer.
pub(super) fn post(port: u16, path: &str, body: &str) -> io::Result<(u16, String)> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nContent-Type: application/json\r\n");
    ask(port, &format!("{head}Content-Length: {length}\r\n\r\n{body}"))
}

fn ask(port: u16, question: &str) -> io::Result<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("an answer that is not HTTP"))?;
    Ok((status, answer))
}
