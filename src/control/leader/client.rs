//! The little HTTP that stores are asked with: one request on a connection of
//! its own, its answer read whole or line by line, everything within a
//! deadline. hyper speaks the protocol.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ANSWER_WITHIN;
use crate::control::config::Url;
use crate::domain::NodeTls;
use crate::net::node_tls::client_config;

/// The largest answer, and the longest line of a stream, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why a store could not be asked.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum StoreError {
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// What came was not HTTP, or broke off.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Timeout,
    /// An answer that says no.
    #[error("the answer is {0}")]
    Refused(StatusCode),
    /// An answer that is not what was asked for.
    #[error("an answer that is not understood: {0}")]
    Answer(String),
    /// The authorities cannot be used.
    #[error("{0}")]
    Authorities(String),
}

/// Asks stores; clones share what is needed for TLS.
#[derive(Debug, Clone)]
pub(super) struct Client {
    tls: Option<Arc<ClientConfig>>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    /// A `POST` with this JSON; none: a `GET`.
    pub(super) body: Option<serde_json::Value>,
    /// What proves who asks: etcd's token, or a login.
    pub(super) token: Option<&'a str>,
}

impl Client {
    /// A client that trusts these authorities.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, StoreError> {
        let Some(ca) = ca else { return Ok(Self { tls: None }) };
        let pem = std::fs::read_to_string(ca)?;
        let config = client_config(NodeTls::VerifyFull, Some(&pem));
        let config = config.map_err(|error| StoreError::Authorities(error.to_string()))?;
        let tls = config.map(|config| {
            let mut config = ClientConfig::clone(&config);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        });
        Ok(Self { tls })
    }

    /// The answer to a question, read to its end.
    pub(super) async fn ask(&self, url: &Url, question: Question<'_>) -> Result<Bytes, StoreError> {
        self.ask_for(ANSWER_WITHIN, url, question).await
    }

    /// The same, of an answer that may take this long.
    pub(super) async fn ask_for(
        &self,
        limit: Duration,
        url: &Url,
        question: Question<'_>,
    ) -> Result<Bytes, StoreError> {
        let asking = async {
            let stream = self.stream(url, question).await?;
            let body = Limited::new(stream.body, MAX_ANSWER).collect().await;
            body.map_err(|error| StoreError::Answer(error.to_string()))
        };
        let body = timeout(limit, asking).await;
        Ok(body.map_err(|_| StoreError::Timeout)??.to_bytes())
    }

    /// The beginning of an answer that goes on and on.
    pub(super) async fn lines(
        &self,
        url: &Url,
        question: Question<'_>,
    ) -> Result<Lines, StoreError> {
        let stream = timeout(ANSWER_WITHIN, self.stream(url, question)).await;
        let stream = stream.map_err(|_| StoreError::Timeout)??;
        Ok(Lines { stream, unread: BytesMut::new() })
    }

    async fn stream(&self, url: &Url, question: Question<'_>) -> Result<Stream, StoreError> {
        let request = request(url, question);
        let tcp = TcpStream::connect((url.host.as_str(), url.port)).await?;
        tcp.set_nodelay(true)?;
        let (answer, driver) = match self.tls.clone().filter(|_| url.encrypted) {
            None => exchange(tcp, request).await?,
            Some(tls) => {
                let name = ServerName::try_from(url.host.clone());
                let name = name.map_err(|error| StoreError::Authorities(error.to_string()))?;
                exchange(TlsConnector::from(tls).connect(name, tcp).await?, request).await?
            }
        };
        match answer.status() {
            StatusCode::OK => Ok(Stream { body: answer.into_body(), _driver: driver }),
            status => Err(StoreError::Refused(status)),
        }
    }
}

/// An answer's body and the connection that it comes over.
#[derive(Debug)]
struct Stream {
    body: Incoming,
    /// Ends with the stream.
    _driver: JoinSet<Result<(), hyper::Error>>,
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(super) struct Lines {
    stream: Stream,
    unread: BytesMut,
}

impl Lines {
    /// The next line, without its end; none: the answer is over. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1).freeze();
                return Ok(Some(line.slice(..end)));
            }
            if self.unread.len() > MAX_ANSWER {
                return Err(StoreError::Answer("a line without end".to_owned()));
            }
            match self.stream.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Some(data) = frame?.data_ref() {
                        self.unread.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

fn request(url: &Url, question: Question<'_>) -> Request<Full<Bytes>> {
    let method = if question.body.is_some() { Method::POST } else { Method::GET };
    let host = url.to_string();
    let host = host.split_once("://").map_or("", |(_, host)| host).to_owned();
    let mut request =
        Request::builder().method(method).uri(question.path).header(header::HOST, host);
    if let Some(token) = question.token {
        request = request.header(header::AUTHORIZATION, token);
    }
    let body = question.body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    request.body(Full::new(body)).expect("paths are constants, and what proves who asks is ASCII")
}

async fn exchange<S>(
    io: S,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, JoinSet<Result<(), hyper::Error>>), StoreError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((sender.send_request(request).await?, driver))
}

/// From one failure to the next attempt.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
