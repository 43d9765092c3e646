//! A client that can say anything: bytes in, messages out, no opinion.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::BytesMut;
use postern::auth::client::{Hello, derive_keys};
use postern::auth::server::Binding;
use postern::wire::login;
use rustls::pki_types::pem::PemObject as _;

use super::stage::{PASSWORD, Stage, certificates};

/// The protocol versions of startup packets.
pub const V3_0: u32 = 3 << 16;
pub const V3_2: u32 = 3 << 16 | 2;
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// How long a test waits for bytes that must come.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

/// One connection.
pub struct Raw {
    stream: Stream,
}

/// A message: its type and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an `ErrorResponse`.
    pub fn field(&self, code: u8) -> Option<String> {
        assert_eq!(self.kind, b'E', "no error: {self:?}");
        login::error_field(&self.body, code).map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    pub fn sqlstate(&self) -> String {
        self.field(b'C').unwrap()
    }
}

impl Raw {
    pub fn connect(port: u16) -> Self {
        Self::connect_to("127.0.0.1", port)
    }

    pub fn connect_to(host: &str, port: u16) -> Self {
        let stream = TcpStream::connect((host, port)).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: Stream::Plain(stream) }
    }

    /// Begins TLS, with this server name and ALPN.
    pub fn start_tls(self, name: &str, alpn: &[&[u8]]) -> io::Result<Self> {
        let Stream::Plain(mut socket) = self.stream else { panic!("encrypted already") };
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(certificates().join("ca.crt")).unwrap();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let stream = rustls::StreamOwned::new(session, socket);
        Ok(Self { stream: Stream::Tls(Box::new(stream)) })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_exact(buffer),
            Stream::Tls(stream) => stream.read_exact(buffer),
        }
    }

    pub fn read_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    pub fn try_read(&mut self) -> io::Result<Message> {
        let mut header = [0; 5];
        self.read_exact(&mut header)?;
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        self.read_exact(&mut body)?;
        Ok(Message { kind: header[0], body })
    }

    pub fn read(&mut self) -> Message {
        self.try_read().unwrap()
    }

    /// The messages up to the next one of this kind, which is the last.
    pub fn read_until(&mut self, kind: u8) -> Vec<Message> {
        let mut messages = vec![self.read()];
        while messages.last().unwrap().kind != kind {
            messages.push(self.read());
        }
        messages
    }

    /// Every byte until the server closes, or resets.
    pub fn read_rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = match &mut self.stream {
            Stream::Plain(stream) => stream.read_to_end(&mut rest),
            Stream::Tls(stream) => stream.read_to_end(&mut rest),
        };
        rest
    }

    pub fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) {
        self.send(&startup_packet(version, parameters));
    }

    /// `SSLRequest`, and the handshake behind its answer.
    pub fn request_tls(mut self, name: &str) -> Self {
        self.send(&SSL_REQUEST);
        assert_eq!(self.read_byte().unwrap(), b'S');
        self.start_tls(name, &[b"postgresql"]).unwrap()
    }

    /// SCRAM without channel binding, up to the server's verdict; whatever the
    /// server says next.
    pub fn authenticate(&mut self, password: &str) -> Message {
        let request = self.read();
        if request.kind != b'R' {
            return request;
        }
        let hello = Hello::new(Binding::Unavailable, &[7; 18]);
        let mut out = BytesMut::new();
        login::write_sasl_initial(&mut out, hello.mechanism(), hello.client_first().as_bytes());
        self.send(&out);
        let challenge = self.read();
        if challenge.kind != b'R' {
            return challenge;
        }
        let server_first = String::from_utf8(challenge.body[4..].to_vec()).unwrap();
        let attribute = |name: &str| {
            server_first.split(',').find_map(|a| a.strip_prefix(name)).unwrap().to_owned()
        };
        let salt = BASE64_STANDARD.decode(attribute("s=")).unwrap();
        let iterations: u32 = attribute("i=").parse().unwrap();
        let keys = derive_keys(password, &salt, NonZeroU32::new(iterations).unwrap());
        let sent = hello.answer(server_first.as_bytes(), &keys).unwrap();
        out.clear();
        login::write_sasl_response(&mut out, sent.client_final.as_bytes());
        self.send(&out);
        self.read()
    }

    /// A login of the test's role on the session endpoint.
    pub fn log_in(
        stage: &Stage,
        further: &[(&str, &str)],
    ) -> Result<(Self, Vec<Message>), Message> {
        Self::enter(stage, stage.session_port, further)
    }

    /// The same at this port.
    pub fn enter(
        stage: &Stage,
        port: u16,
        further: &[(&str, &str)],
    ) -> Result<(Self, Vec<Message>), Message> {
        let user = format!("{}.orders", stage.role);
        let mut parameters = vec![("user", user.as_str()), ("database", stage.role.as_str())];
        parameters.extend(further);
        Self::enter_with(port, &parameters, PASSWORD)
    }

    /// A whole login without TLS, up to the first `ReadyForQuery` or the error.
    pub fn enter_with(
        port: u16,
        parameters: &[(&str, &str)],
        password: &str,
    ) -> Result<(Self, Vec<Message>), Message> {
        let mut raw = Self::connect(port);
        raw.startup(V3_0, parameters);
        let verdict = raw.authenticate(password);
        if verdict.kind == b'E' {
            return Err(verdict);
        }
        let mut messages = Vec::new();
        loop {
            let message = raw.read();
            match message.kind {
                b'E' => return Err(message),
                b'Z' => return Ok((raw, messages)),
                _ => messages.push(message),
            }
        }
    }

    pub fn query(&mut self, sql: &str) {
        self.send(&simple(sql));
    }

    /// The FATAL error that ends the connection.
    pub fn last_words(&mut self) -> Message {
        let error = self.read_until(b'E').pop().unwrap();
        assert_eq!(error.field(b'S').unwrap(), "FATAL");
        assert!(self.read_rest().is_empty());
        error
    }
}

pub fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    message
}

/// A Query message.
pub fn simple(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}
