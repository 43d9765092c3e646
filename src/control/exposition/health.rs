//! `postern health`: what a container's health check runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::{self, NoAnswer};

/// For all of it: less than a container engine waits.
const DEADLINE: Duration = Duration::from_secs(2);

/// Why Postern is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// Nobody takes the connection.
    #[error("nobody answers at {address} ([metrics] listen): {source}")]
    Unreachable {
        /// Where metrics are expected.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The connection was taken, and no answer came.
    #[error("{address} ([metrics] listen) does not answer: {source}")]
    Silent {
        /// Where metrics are expected.
        address: SocketAddr,
        /// Why not.
        source: NoAnswer,
    },
    /// Postern says that it is not ready.
    #[error("not ready: {0}")]
    NotReady(String),
}

/// Asks the Postern that serves metrics here whether it is ready, for at most
/// two seconds. An address such as `0.0.0.0` means this host.
pub async fn health(metrics: SocketAddr) -> Result<(), Unhealthy> {
    let address = reachable(metrics);
    let late = || Unhealthy::Silent { address, source: NoAnswer::Late(DEADLINE) };
    let asked = timeout(DEADLINE, ask(address)).await;
    asked.unwrap_or_else(|_| Err(late()))
}

async fn ask(address: SocketAddr) -> Result<(), Unhealthy> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Unhealthy::Unreachable { address, source })?;
    let answer = http::ask(stream, Method::GET, "/readyz", DEADLINE)
        .await
        .map_err(|source| Unhealthy::Silent { address, source })?;
    if answer.status == StatusCode::OK {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&answer.body);
    let line = why.lines().next().unwrap_or_default();
    Err(Unhealthy::NotReady(line.to_owned()))
}

/// Every address of this host listens: any of them is asked.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
