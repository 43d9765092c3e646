//! The command line's side of the API: over the admin socket, or over HTTP
//! with a token.

use std::io;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Uri, header};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::problem::Problem;
use crate::control::exposition::NoAnswer;
use crate::control::exposition::http::{self, Answer};
use crate::domain::Secret;

/// For the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// For the answer: some operations wait for nodes.
const ANSWER: Duration = Duration::from_secs(120);

/// Where the API is.
#[derive(Debug, Clone)]
pub enum Target {
    /// The admin socket of this host.
    Socket(PathBuf),
    /// `[admin] listen`.
    Http {
        /// `https://postern.internal:8443`
        url: Uri,
        /// The token.
        token: Secret<String>,
        /// The authority of the API's certificate, for https.
        authority: Option<PathBuf>,
    },
}

/// Speaks to the API.
#[derive(Debug, Clone)]
pub struct ApiClient {
    target: Target,
}

/// Why there is no answer, or which problem it is.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("cannot connect to {0}: {1}; is Postern running there?")]
    Connect(String, #[source] io::Error),
    /// The certificate cannot be checked.
    #[error("{0}")]
    Tls(String),
    /// The connection was taken, and no answer came.
    #[error("no answer: {0}")]
    NoAnswer(#[from] NoAnswer),
    /// The API says no.
    #[error("{}", told(.0))]
    Problem(Box<Problem>),
    /// An answer that this version does not know.
    #[error(
        "an answer that this version does not understand (status {0}): is the same version running?"
    )]
    Unknown(u16),
}

fn told(problem: &Problem) -> String {
    let several = problem.errors.len() > 1;
    let lines = problem.errors.iter().filter(|_| several);
    let lines = lines.map(|error| format!("\n  {}: {}", error.pointer, error.detail));
    format!("{}{}", problem.detail, lines.collect::<String>())
}

impl ClientError {
    /// The status of a problem.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }
}

impl ApiClient {
    /// Speaks to the API there.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target }
    }

    /// What is at a path.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(&self.send(Method::GET, path, None).await?)
    }

    /// Sends a body, and reads what comes back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn with_body<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        read(&self.send(method, path, Some(body)).await?)
    }

    /// An order without a body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn order<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        read(&self.send(method, path, None).await?)
    }

    /// Takes something away, and reads nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let answer = self.send(Method::DELETE, path, None).await?;
        check(&answer)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let host = match &self.target {
            Target::Socket(_) => "postern",
            Target::Http { url, token, .. } => {
                let bearer = format!("Bearer {}", token.expose());
                request = request.header(header::AUTHORIZATION, bearer);
                url.host().unwrap_or_default()
            }
        };
        let request = request.header(header::HOST, host);
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request.body(body).map_err(|error| ClientError::Tls(error.to_string()))?;
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        match &self.target {
            Target::Socket(path) => {
                let name = path.display().to_string();
                let stream = connected(&name, UnixStream::connect(path)).await?;
                Ok(http::send(stream, request, ANSWER).await?)
            }
            Target::Http { url, authority, .. } => {
                let https = url.scheme_str() == Some("https");
                let host = url.host().unwrap_or_default();
                let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
                let stream = tcp(host, port).await?;
                if !https {
                    return Ok(http::send(stream, request, ANSWER).await?);
                }
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(|_| ClientError::Tls(format!("{host} is no host name")))?;
                let connector = TlsConnector::from(Arc::new(client_config(authority.as_deref())?));
                let stream = connected(host, connector.connect(name, stream)).await?;
                Ok(http::send(stream, request, ANSWER).await?)
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ClientError> {
    let name = format!("{host}:{port}");
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs();
    let addresses: Vec<_> =
        addresses.map_err(|error| ClientError::Connect(name.clone(), error))?.collect();
    connected(&name, TcpStream::connect(&addresses[..])).await
}

async fn connected<S>(
    name: &str,
    connecting: impl Future<Output = io::Result<S>>,
) -> Result<S, ClientError> {
    let connected = timeout(CONNECT, connecting).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error| ClientError::Connect(name.to_owned(), error))
}

fn client_config(authority: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let Some(path) = authority else {
        let text = "https needs the authority of the API's certificate: --ca FILE";
        return Err(ClientError::Tls(text.to_owned()));
    };
    let wrong = |why: String| ClientError::Tls(format!("{}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    check(answer)?;
    serde_json::from_slice(&answer.body).map_err(|_| ClientError::Unknown(answer.status.as_u16()))
}

fn check(answer: &Answer) -> Result<(), ClientError> {
    if answer.status.is_success() {
        return Ok(());
    }
    let unknown = |_| ClientError::Unknown(answer.status.as_u16());
    let problem = serde_json::from_slice(&answer.body).map_err(unknown)?;
    Err(ClientError::Problem(Box::new(problem)))
}
