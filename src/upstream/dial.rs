//! Opens a connection to a node and encrypts it as the node's `node_tls` says
//! (decision 4).
//!
//! A host name is resolved at each connect, from a cache of at most
//! `NAME_MAX_AGE`; all its addresses are tried in turn within the caller's
//! deadline, each with its share of the time, so that one that drops packets
//! does not eat the others' (trap C-16).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::directory::Node;
use crate::domain::{NodeAddress, NodeTls};
use crate::net::node_tls::{AuthorityError, client_config};
use crate::net::{Connection, Socket};
use crate::wire::startup::write_ssl_request;

/// How long a resolved name is used.
const NAME_MAX_AGE: Duration = Duration::from_secs(15);

/// Opens connections to nodes; clones share their caches.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    names: Arc<Mutex<HashMap<String, Resolved>>>,
    tls: Arc<Mutex<HashMap<TlsKey, Option<Arc<ClientConfig>>>>>,
}

type TlsKey = (NodeTls, Option<Arc<str>>);

#[derive(Debug, Clone)]
struct Resolved {
    at: Instant,
    addresses: Arc<[SocketAddr]>,
}

/// An open connection that has said nothing yet.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub connection: Connection,
    /// The hash of the node's certificate, for channel binding.
    pub binding: Option<Box<[u8]>>,
}

/// Why a node could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address of the node took the connection.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// The time was up.
    #[error("no answer within the connect timeout")]
    Timeout,
    /// `node_tls` demands encryption that the node does not offer.
    #[error("the node does not offer TLS, which node_tls demands")]
    NoTls,
    /// The TLS handshake failed, or the certificate is not trusted.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// The configured authorities cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Dialer {
    /// Connects to a node, encrypted where its `node_tls` says so.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, node: &Node, deadline: Instant) -> Result<Dialed, DialError> {
        let connection = self.connect(&node.address, deadline).await?;
        let encrypted = self.encrypt(connection, node);
        timeout_at(deadline, encrypted).await.map_err(|_| DialError::Timeout)?
    }

    /// The addresses that a node's name stands for, as [`Dialer::dial`] would
    /// try them; nothing for a node that is reached over a unix socket.
    ///
    /// # Errors
    /// If the name cannot be resolved.
    pub async fn addresses(&self, node: &NodeAddress) -> io::Result<Arc<[SocketAddr]>> {
        match node {
            NodeAddress::Tcp { host, port } => self.resolve(host, *port).await,
            NodeAddress::Unix { .. } => Ok(Arc::new([])),
        }
    }

    async fn connect(
        &self,
        address: &NodeAddress,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        match address {
            NodeAddress::Tcp { host, port } => self.connect_tcp(host, *port, deadline).await,
            NodeAddress::Unix { .. } => {
                let path = address.socket_path().expect("a unix address has a path");
                let stream = timeout_at(deadline, UnixStream::connect(path)).await;
                let stream = stream.map_err(|_| DialError::Timeout)?.map_err(DialError::Connect)?;
                Ok(Connection::plain(Socket::Unix(stream)))
            }
        }
    }

    async fn connect_tcp(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        let resolved = timeout_at(deadline, self.resolve(host, port)).await;
        let addresses = resolved.map_err(|_| DialError::Timeout)?.map_err(DialError::Connect)?;
        let mut last = DialError::Connect(io::Error::other("the name has no address"));
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = Instant::now() + left / others;
            last = match timeout_at(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => match Socket::tcp(stream) {
                    Ok(socket) => return Ok(Connection::plain(socket)),
                    Err(error) => DialError::Connect(error),
                },
                Ok(Err(error)) => DialError::Connect(error),
                Err(_) => DialError::Timeout,
            };
        }
        self.forget(host);
        Err(last)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(ip) = host.parse() {
            return Ok(Arc::new([SocketAddr::new(ip, port)]));
        }
        let key = format!("{host}:{port}");
        let known = lock(&self.names).get(&key).cloned();
        if let Some(resolved) = known.filter(|resolved| resolved.at.elapsed() < NAME_MAX_AGE) {
            return Ok(resolved.addresses);
        }
        let at = Instant::now();
        let addresses: Arc<[SocketAddr]> = tokio::net::lookup_host(&key).await?.collect();
        lock(&self.names).insert(key, Resolved { at, addresses: Arc::clone(&addresses) });
        Ok(addresses)
    }

    /// A name none of whose addresses answers is asked for again at once.
    fn forget(&self, host: &str) {
        lock(&self.names)
            .retain(|key, _| key.rsplit_once(':').is_none_or(|(name, _)| name != host));
    }

    async fn encrypt(&self, connection: Connection, node: &Node) -> Result<Dialed, DialError> {
        let tls = self.tls_config(node)?;
        let (Some(config), true) = (tls, connection.can_become_tls()) else {
            return Ok(Dialed { connection, binding: None });
        };
        let mut connection = connection;
        if !offers_tls(&mut connection).await.map_err(DialError::Connect)? {
            return match node.tls {
                NodeTls::Prefer => Ok(Dialed { connection, binding: None }),
                _ => Err(DialError::NoTls),
            };
        }
        let encrypted = connection.connect_tls(config, certificate_name(&node.address)).await;
        let (connection, binding) = encrypted.map_err(DialError::Tls)?;
        Ok(Dialed { connection, binding })
    }

    fn tls_config(&self, node: &Node) -> Result<Option<Arc<ClientConfig>>, DialError> {
        let key = (node.tls, node.authorities.clone());
        if let Some(config) = lock(&self.tls).get(&key) {
            return Ok(config.clone());
        }
        let config = client_config(node.tls, node.authorities.as_deref())?;
        lock(&self.tls).insert(key, config.clone());
        Ok(config)
    }
}

/// Asks for TLS. Anything else than one byte `S` or `N` is no answer: bytes
/// behind it were sent by somebody in between.
async fn offers_tls(connection: &mut Connection) -> io::Result<bool> {
    let mut request = BytesMut::new();
    write_ssl_request(&mut request);
    connection.send(&request).await?;
    if connection.fill().await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match &connection.input.split()[..] {
        b"S" => Ok(true),
        b"N" => Ok(false),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an invalid answer to SSLRequest")),
    }
}

/// The name a node's certificate must have; names that can stand in no
/// certificate are replaced by one that none has.
fn certificate_name(address: &NodeAddress) -> ServerName<'static> {
    let host = match address {
        NodeAddress::Tcp { host, .. } => host.to_string(),
        NodeAddress::Unix { .. } => "localhost".to_owned(),
    };
    ServerName::try_from(host)
        .unwrap_or_else(|_| ServerName::try_from("invalid.invalid").expect("a legal name"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address that drops whoever comes: its queue is full.
    async fn black_hole() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&loopback.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        let soon = || Instant::now() + Duration::from_millis(200);
        while let Ok(Ok(stream)) = timeout_at(soon(), TcpStream::connect(address)).await {
            queue.push(stream);
        }
        (listener, queue, address)
    }

    #[tokio::test]
    async fn c16_an_address_that_drops_packets_leaves_time_for_the_next() {
        let (_listener, _queue, dropping) = black_hole().await;
        let answering = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [dropping, answering.local_addr().unwrap()];
        let dialer = Dialer::default();
        let resolved = Resolved { at: Instant::now(), addresses: addresses.into() };
        dialer.names.lock().unwrap().insert("db.internal:5432".to_owned(), resolved);
        let began = Instant::now();
        let budget = Duration::from_secs(4);
        dialer.connect_tcp("db.internal", 5432, began + budget).await.unwrap();
        let took = began.elapsed();
        assert!(took >= budget / 4, "the first was tried: {took:?}");
        assert!(took < budget * 3 / 4, "its share was half: {took:?}");
        // The whole budget is kept to where nobody answers.
        let resolved = Resolved { at: Instant::now(), addresses: [dropping, dropping].into() };
        dialer.names.lock().unwrap().insert("db.internal:5432".to_owned(), resolved);
        let (began, budget) = (Instant::now(), Duration::from_secs(1));
        let failed = dialer.connect_tcp("db.internal", 5432, began + budget).await;
        assert!(matches!(failed, Err(DialError::Timeout)), "{failed:?}");
        assert!(began.elapsed() < budget * 3, "{:?}", began.elapsed());
    }
}
