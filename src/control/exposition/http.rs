//! HTTP within bounds: both sides of what Postern says about itself.
//!
//! A connection carries one exchange. It has a deadline for its header and one
//! for all of it, and there are only so many at a time; those beyond wait in
//! the kernel's backlog. Whoever drops the server's future ends its
//! connections.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::server::conn::http1 as server;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// For a request's header to arrive.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// The largest header of a request, in bytes; a scraper's has a few hundred.
const MAX_HEADER: usize = 16 * 1024;
/// The most lines of a request's header.
const MAX_HEADER_LINES: usize = 64;
/// The largest answer that is read, in bytes: the status of 10,000 services
/// has about five million.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What one server's peers may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct Bounds {
    /// Connections at a time.
    pub(in crate::control) connections: usize,
    /// For a connection, from accept to its end.
    pub(in crate::control) lifetime: Duration,
}

/// Serves each connection by the router chosen for it, until it is dropped.
pub(in crate::control) async fn serve<L: Listener>(
    mut listener: L,
    router_for: impl Fn(&L::Io) -> Router,
    bounds: Bounds,
) -> Infallible {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= bounds.connections {
            open.join_next().await;
        }
        let (io, _) = listener.accept().await;
        while open.try_join_next().is_some() {}
        let router = router_for(&io);
        open.spawn(converse(io, router, bounds.lifetime));
    }
}

/// One connection with one exchange, within its lifetime.
pub(in crate::control) async fn converse<S>(io: S, router: Router, lifetime: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = server::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_HEADER_LINES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    match timeout(lifetime, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection failed"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(in crate::control) struct Answer {
    /// Its status.
    pub(in crate::control) status: StatusCode,
    /// Its body.
    pub(in crate::control) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The deadline passed.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The connection ended too early, or its peer does not speak HTTP.
    #[error("the connection failed: {0}")]
    Broken(#[from] hyper::Error),
    /// The body broke off, or is too large.
    #[error("the answer is incomplete: {0}")]
    Incomplete(#[source] Box<dyn Error + Send + Sync>),
}

/// One request without a body, and its answer, within a deadline.
pub(in crate::control) async fn ask<S>(
    io: S,
    method: Method,
    path: &str,
    deadline: Duration,
) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "postern")
        .body(Full::default())
        .expect("paths are constants");
    send(io, request, deadline).await
}

/// One request and its answer, within a deadline.
pub(in crate::control) async fn send<S>(
    io: S,
    request: Request<Full<Bytes>>,
    deadline: Duration,
) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = timeout(deadline, exchange(io, request)).await;
    answer.map_err(|_| NoAnswer::Late(deadline))?
}

async fn exchange<S>(io: S, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    // Ends with the exchange, on every way out.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    let body = body.map_err(NoAnswer::Incomplete)?.to_bytes();
    Ok(Answer { status: head.status, body })
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn started(bounds: Bounds) -> (std::net::SocketAddr, JoinSet<Infallible>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let mut running = JoinSet::new();
        running.spawn(serve(listener, move |_| router.clone(), bounds));
        (address, running)
    }

    fn bounds(connections: usize, milliseconds: u64) -> Bounds {
        Bounds { connections, lifetime: Duration::from_millis(milliseconds) }
    }

    async fn hello(address: std::net::SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).await.unwrap();
        let deadline = Duration::from_secs(5);
        ask(stream, Method::GET, "/", deadline).await.unwrap()
    }

    #[tokio::test]
    async fn connections_beyond_the_most_wait_for_the_silent_ones_to_be_closed() {
        let (address, _running) = started(bounds(2, 300)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let began = std::time::Instant::now();
        assert_eq!(hello(address).await.body, "hello");
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert_eq!(silent.read(&mut [0; 9]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_header_without_end_is_refused() {
        let (address, _running) = started(bounds(2, 5000)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; MAX_HEADER]].concat();
        stream.write_all(&endless).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let deadline = Duration::from_millis(50);
        let answer = ask(stream.await.unwrap(), Method::GET, "/", deadline).await;
        assert!(matches!(answer, Err(NoAnswer::Late(_))));
    }
}
