//! A client that logs in, does one SELECT and stays: the smallest there is, so
//! that thousands of them fit into this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern::auth::client::{Hello, Keys};
use postern::auth::scram::RAW_NONCE;
use postern::auth::server::Binding;
use postern::wire::login::{
    AuthenticationRequest, MAX_SERVER_MESSAGE, RawMessage, error_field, parse_authentication,
    take_message, write_sasl_initial, write_sasl_response,
};
use postern::wire::startup::{write_ssl_request, write_startup};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::Fallible;
use crate::contender::Contender;
use crate::servers::{Stage, USER};

const LIMIT: Duration = Duration::from_secs(30);

/// A client that is logged in.
pub struct Client {
    _stream: Box<dyn Stream>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How clients log in.
#[derive(Clone)]
pub struct Logins {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    keys: Arc<Keys>,
}

impl Logins {
    pub fn new(stage: &Stage, contender: &Contender) -> Fallible<Self> {
        let tls = contender.is_encrypted().then(trusting).transpose()?;
        let keys = Arc::new(stage.client_keys()?);
        Ok(Self { address: contender.address(), tls, keys })
    }

    pub async fn client(&self) -> Fallible<Client> {
        timeout(LIMIT, self.log_in()).await?
    }

    async fn log_in(&self) -> Fallible<Client> {
        let mut stream: Box<dyn Stream> = Box::new(TcpStream::connect(self.address).await?);
        if let Some(tls) = &self.tls {
            stream = Box::new(encrypt(stream, tls).await?);
        }
        let mut talk = Talk { stream, input: BytesMut::new() };
        let mut startup = BytesMut::new();
        let name = |name: &'static str| Bytes::from_static(name.as_bytes());
        let parameters = [(name("user"), name(USER)), (name("database"), name(USER))];
        write_startup(&mut startup, &parameters);
        talk.stream.write_all(&startup).await?;
        talk.authenticate(&self.keys).await?;
        talk.until_ready().await?;
        talk.stream.write_all(b"Q\0\0\0\x0dSELECT 1\0").await?;
        if !talk.until_ready().await?.contains(&b'D') {
            return Err("SELECT 1 has no row".into());
        }
        Ok(Client { _stream: talk.stream })
    }
}

async fn encrypt(mut stream: Box<dyn Stream>, tls: &TlsConnector) -> Fallible<impl Stream + use<>> {
    let mut request = BytesMut::new();
    write_ssl_request(&mut request);
    stream.write_all(&request).await?;
    if stream.read_u8().await? != b'S' {
        return Err("TLS is refused".into());
    }
    Ok(tls.connect(ServerName::try_from("localhost")?, stream).await?)
}

struct Talk {
    stream: Box<dyn Stream>,
    input: BytesMut,
}

impl Talk {
    async fn authenticate(&mut self, keys: &Keys) -> Fallible<()> {
        let mut random = [0; RAW_NONCE];
        aws_lc_rs::rand::fill(&mut random)?;
        self.request(|request| matches!(request, AuthenticationRequest::Sasl(_))).await?;
        let hello = Hello::new(Binding::Unavailable, &random);
        let mut out = BytesMut::new();
        write_sasl_initial(&mut out, hello.mechanism(), hello.client_first().as_bytes());
        self.stream.write_all(&out).await?;
        let AuthenticationRequest::SaslContinue(first) = self.request(|_| true).await? else {
            return Err("no server-first".into());
        };
        let sent = hello.answer(&first, keys)?;
        out.clear();
        write_sasl_response(&mut out, sent.client_final.as_bytes());
        self.stream.write_all(&out).await?;
        let AuthenticationRequest::SaslFinal(last) = self.request(|_| true).await? else {
            return Err("no server-final".into());
        };
        Ok(sent.verify(&last)?)
    }

    /// A request for authentication that passes the test.
    async fn request(
        &mut self,
        is_expected: impl Fn(&AuthenticationRequest) -> bool,
    ) -> Fallible<AuthenticationRequest> {
        let message = self.message().await?;
        let request = parse_authentication(message.body()).ok_or("malformed authentication")?;
        if message.kind != b'R' || !is_expected(&request) {
            return Err(format!("unexpected {request:?}").into());
        }
        Ok(request)
    }

    /// The types of all messages up to `ReadyForQuery`.
    async fn until_ready(&mut self) -> Fallible<Vec<u8>> {
        let mut kinds = Vec::new();
        while kinds.last() != Some(&b'Z') {
            kinds.push(self.message().await?.kind);
        }
        Ok(kinds)
    }

    async fn message(&mut self) -> Fallible<RawMessage> {
        loop {
            if let Some(message) = take_message(&mut self.input, MAX_SERVER_MESSAGE)? {
                return if message.kind == b'E' { Err(complaint(&message)) } else { Ok(message) };
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err("the connection was closed".into());
            }
        }
    }
}

fn complaint(message: &RawMessage) -> Box<dyn std::error::Error> {
    let body = message.body();
    let text = error_field(&body, b'M').unwrap_or_default();
    String::from_utf8_lossy(text).into_owned().into()
}

/// TLS as with `sslmode=require`: any certificate will do.
fn trusting() -> Fallible<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
