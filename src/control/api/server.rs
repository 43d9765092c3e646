//! `[admin] listen`: the API over TCP, and over TLS beyond loopback.
//!
//! A connection carries one exchange, within deadlines, and there are only so
//! many at a time: those beyond wait in the kernel's backlog.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Api;
use crate::control::exposition::http;

/// Connections at a time.
const CONNECTIONS: usize = 128;
/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For an exchange: some operations wait for nodes.
const LIFETIME: Duration = Duration::from_secs(120);
/// After the system refused a connection, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How the API is spoken.
pub enum Transport {
    /// On loopback.
    Plain,
    /// Beyond it, with the certificate that is in force; without one nobody is
    /// served.
    Tls(Box<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>),
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, api: Api, transport: Transport) -> Infallible {
    let router = api.by_token();
    let mut open = JoinSet::new();
    loop {
        while open.len() >= CONNECTIONS {
            open.join_next().await;
        }
        while open.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        match &transport {
            Transport::Plain => drop(open.spawn(http::converse(stream, router, LIFETIME))),
            Transport::Tls(certificate) => {
                if let Some(tls) = certificate() {
                    open.spawn(encrypted(stream, tls, router));
                }
            }
        }
    }
}

async fn encrypted(stream: TcpStream, tls: Arc<ServerConfig>, router: axum::Router) {
    match timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => http::converse(stream, router, LIFETIME).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake of the admin API failed"),
        Err(_) => tracing::debug!("a TLS handshake of the admin API took too long"),
    }
}
