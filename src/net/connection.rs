//! A transport with what was read and not yet used, and what was written and
//! not yet taken by the peer.
//!
//! Both buffers are empty, and own nothing, whenever the connection is idle
//! (decision 16). The login uses the asynchronous half; the relay the polling
//! one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::server_tls::ServerTls;
use super::socket::Socket;
use super::transport::{TlsStream, Transport};

/// Bytes read at a time while a login is under way.
const LOGIN_READ: usize = 4096;

thread_local! {
    /// Lent to whoever reads: who waits owns no memory for it.
    static LOGIN_SCRATCH: RefCell<[u8; LOGIN_READ]> = const { RefCell::new([0; LOGIN_READ]) };
}

/// One peer.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    /// Read, and not yet used.
    pub input: BytesMut,
    output: BytesMut,
    /// An error has come: after it the system reports the end of the stream,
    /// which the peer did not say.
    broken: Option<io::ErrorKind>,
    /// The peer was told that nothing more will come.
    shut: bool,
}

/// What TLS agreed on with a client.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// The name the client asked for, if it is one.
    pub server_name: Option<String>,
    /// Whether ALPN agreed on `postgresql`.
    pub has_alpn: bool,
    /// The hash that channel binding binds to.
    pub binding: Option<Box<[u8]>>,
}

impl Connection {
    /// A connection without encryption.
    #[must_use]
    pub fn plain(socket: Socket) -> Self {
        Self {
            transport: Transport::Plain(socket),
            input: BytesMut::new(),
            output: BytesMut::new(),
            broken: None,
            shut: false,
        }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }

    /// Whether TLS is possible: over TCP, and not yet there.
    #[must_use]
    pub fn can_become_tls(&self) -> bool {
        matches!(self.transport, Transport::Plain(Socket::Tcp(_)))
    }

    /// Reads more into `input`; 0 is the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// As the socket and rustls.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let filled = poll_fn(|cx| {
            LOGIN_SCRATCH.with_borrow_mut(|scratch| {
                let filled = self.transport.poll_fill(cx, scratch);
                if let Poll::Ready(Ok(read)) = &filled {
                    self.input.extend_from_slice(&scratch[..*read]);
                }
                filled
            })
        });
        filled.await
    }

    /// Sends all of the bytes. Not cancel-safe: a part may have been sent.
    ///
    /// # Errors
    /// As the socket and rustls.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(bytes);
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// As the socket and rustls.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_close(cx)).await
    }

    /// Whether the peer was told that nothing more will come.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.shut
    }

    /// Says that nothing more will come, without another byte, even of TLS.
    pub fn shut(&mut self) {
        self.transport.shut();
        self.shut = true;
    }

    /// Ends the connection without another byte: what was sent and is still on
    /// this host is thrown away.
    pub fn sever(self) {
        self.transport.sever();
    }

    /// Reads and throws away until the peer closes. Once an error has come it is
    /// told again: nobody knows any more what the peer has said.
    ///
    /// # Errors
    /// As the socket and rustls.
    pub async fn read_to_end(&mut self) -> io::Result<()> {
        self.input = BytesMut::new();
        let mut scratch = vec![0; LOGIN_READ];
        while self.broken.is_none() && poll_fn(|cx| self.poll_fill(cx, &mut scratch)).await? > 0 {}
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Whether something is still to be sent.
    #[must_use]
    #[inline]
    pub fn has_unsent(&self) -> bool {
        !self.output.is_empty() || self.transport.has_unsent()
    }

    /// Sends what is still to be sent.
    #[inline]
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.output.is_empty() {
            ready!(self.poll_drain(cx))?;
            // A buffer that was advanced to its end still holds its memory.
            self.output = BytesMut::new();
        }
        self.transport.poll_flush(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let drained = ready!(self.transport.poll_drain(cx, &self.output));
            match drained.inspect_err(|error| self.broken = Some(error.kind()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.output.advance(taken),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into the scratch; 0 is the end of the stream. `input` must have
    /// been used up before.
    #[inline]
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let filled = self.transport.poll_fill(cx, scratch);
        if let Poll::Ready(Err(error)) = &filled {
            self.broken = Some(error.kind());
        }
        filled
    }

    /// Reads what is there already; nobody is woken when more comes. `input`
    /// must have been used up before.
    #[inline]
    pub fn fill_at_once(&mut self, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let filled = self.transport.fill_at_once(scratch);
        if let Poll::Ready(Err(error)) = &filled {
            self.broken = Some(error.kind());
        }
        filled
    }

    /// Sends as much as the peer takes at once and keeps the rest. Nothing may
    /// be unsent before.
    ///
    /// # Errors
    /// As the socket and rustls.
    #[inline]
    pub fn push(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.transport.poll_drain(cx, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(taken)) => bytes = &bytes[taken..],
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error.kind());
                    return Err(error);
                }
                Poll::Pending => {
                    self.output.extend_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(())
    }

    /// From now on the socket is watched by the runtime that this is called on.
    ///
    /// # Errors
    /// If that cannot be; then it is watched as before.
    pub fn attach_here(&mut self) -> io::Result<()> {
        self.transport.attach_here()
    }

    /// Wakes the reader only when as many bytes have come.
    ///
    /// # Errors
    /// As the system; unix sockets cannot.
    pub fn wake_at(&self, bytes: u32) -> io::Result<()> {
        self.transport.wake_at(bytes)
    }

    /// Appends bytes behind everything unsent.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Says that nothing more will come.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = self.transport.poll_close(cx);
        self.shut |= matches!(closed, Poll::Ready(Ok(())));
        closed
    }

    /// Makes the connection a TLS connection, as the server. What is in
    /// `input` is the beginning of the handshake.
    ///
    /// # Errors
    /// If the handshake fails; rustls has then sent its alert.
    pub async fn accept_tls(self, tls: &ServerTls) -> io::Result<(Self, ClientTls)> {
        let stream = TlsAcceptor::from(tls.config()).accept(self.into_early()?).await?;
        let (early, session) = stream.into_inner();
        let server_name = session.server_name().map(str::to_owned);
        let agreed = ClientTls {
            has_alpn: session.alpn_protocol().is_some(),
            binding: tls.binding(server_name.as_deref()),
            server_name,
        };
        Ok((Self::encrypted(early, session.into()), agreed))
    }

    /// Makes the connection a TLS connection, as the client. Returns the hash
    /// of the server's certificate that channel binding binds to.
    ///
    /// # Errors
    /// If the handshake fails or the certificate is not trusted.
    pub async fn connect_tls(
        self,
        config: std::sync::Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
    ) -> io::Result<(Self, Option<Box<[u8]>>)> {
        let stream = TlsConnector::from(config).connect(name, self.into_early()?).await?;
        let (early, session) = stream.into_inner();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let binding = certificate.and_then(|der| super::binding::end_point_hash(der));
        Ok((Self::encrypted(early, session.into()), binding))
    }

    fn encrypted(early: Early, session: rustls::Connection) -> Self {
        let stream = TlsStream::new(early.socket, session, early.bytes);
        Self {
            transport: Transport::Tls(Box::new(stream)),
            input: BytesMut::new(),
            output: BytesMut::new(),
            broken: None,
            shut: false,
        }
    }

    fn into_early(self) -> io::Result<Early> {
        match self.transport {
            Transport::Plain(socket) => Ok(Early { socket, bytes: self.input }),
            Transport::Tls(_) => Err(io::Error::other("the connection is encrypted already")),
        }
    }
}

/// A socket some of whose bytes were read already.
#[derive(Debug)]
struct Early {
    socket: Socket,
    bytes: BytesMut,
}

impl AsyncRead for Early {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let taken = buf.remaining().min(this.bytes.len());
        buf.put_slice(&this.bytes.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (Connection, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Connection::plain(Socket::tcp(stream).unwrap()), peer)
    }

    #[tokio::test]
    async fn what_the_peer_does_not_take_is_kept_and_sent_later() {
        let (mut connection, mut peer) = pair().await;
        let data: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
        poll_fn(|cx| Poll::Ready(connection.push(cx, &data))).await.unwrap();
        assert!(connection.has_unsent());
        let reader = tokio::spawn(async move {
            let mut read = vec![0; 20_000_000];
            peer.read_exact(&mut read).await.unwrap();
            read
        });
        poll_fn(|cx| connection.poll_send(cx)).await.unwrap();
        assert!(!connection.has_unsent());
        assert_eq!(connection.output.capacity(), 0);
        assert!(reader.await.unwrap() == data);
    }

    #[tokio::test]
    async fn what_is_still_here_when_a_connection_is_severed_reaches_nobody() {
        let (mut connection, mut peer) = pair().await;
        let data = vec![7; 20_000_000];
        poll_fn(|cx| Poll::Ready(connection.push(cx, &data))).await.unwrap();
        connection.sever();
        let mut read = Vec::new();
        assert!(peer.read_to_end(&mut read).await.is_err());
        assert!(read.len() < data.len());
    }

    #[tokio::test]
    async fn the_end_of_the_stream_reads_as_zero() {
        let (mut connection, mut peer) = pair().await;
        peer.write_all(b"last").await.unwrap();
        drop(peer);
        assert_eq!(connection.fill().await.unwrap(), 4);
        assert_eq!(connection.fill().await.unwrap(), 0);
        assert_eq!(&connection.input[..], b"last");
    }
}
