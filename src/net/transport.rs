//! How the data path moves bytes: plain or under TLS, without tokio's
//! `AsyncRead` and `AsyncWrite` in between (decision 14).
//!
//! rustls takes bytes that it has not sent yet, and may hold plaintext while
//! the socket is silent. So a reader asks rustls before the socket, and a
//! writer can ask what is still unsent and must not wait for anything else
//! before it is gone.

use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;

/// Bytes of plaintext given to rustls at a time.
const TLS_CHUNK: usize = 64 * 1024;

/// An open connection, encrypted or not.
#[derive(Debug)]
pub enum Transport {
    /// Bytes go as they are.
    Plain(Socket),
    /// Bytes go through rustls.
    Tls(Box<TlsStream>),
}

/// A TLS session after its handshake.
#[derive(Debug)]
pub struct TlsStream {
    socket: Socket,
    session: rustls::Connection,
    /// Ciphertext that was read together with what came before the handshake.
    early: BytesMut,
}

impl TlsStream {
    /// Goes on with a session whose handshake is done.
    #[must_use]
    pub fn new(socket: Socket, mut session: rustls::Connection, early: BytesMut) -> Self {
        // Bounded by the relay, which gives one chunk at a time.
        session.set_buffer_limit(None);
        Self { socket, session, early }
    }
}

impl Transport {
    /// Reads into the scratch; 0 is the end of the stream. Readiness is
    /// cleared by a short read, so that the next call costs nothing.
    #[inline]
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => poll_read(socket, cx, scratch),
            Self::Tls(stream) => stream.poll_fill(cx, scratch),
        }
    }

    /// Reads what is there already; nobody is woken when more comes.
    #[inline]
    pub fn fill_at_once(&mut self, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => match socket.try_read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                read => Poll::Ready(read),
            },
            Self::Tls(stream) => stream.poll_fill(&mut Context::from_waker(Waker::noop()), scratch),
        }
    }

    /// Takes bytes from the front and says how many. What it took may still be
    /// [unsent](Self::has_unsent).
    #[inline]
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_drain(cx, bytes),
        }
    }

    /// Whether bytes that were taken have not reached the socket.
    #[must_use]
    #[inline]
    pub fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.session.wants_write(),
        }
    }

    /// Brings everything taken to the socket.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// Wakes the reader only when as many bytes have come; under TLS, of
    /// ciphertext.
    ///
    /// # Errors
    /// As the system; unix sockets cannot.
    pub fn wake_at(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.wake_at(bytes),
            Self::Tls(stream) => stream.socket.wake_at(bytes),
        }
    }

    /// From now on the socket is watched by the runtime that this is called on.
    ///
    /// # Errors
    /// If that cannot be; then it is watched as before.
    pub fn attach_here(&mut self) -> io::Result<()> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.socket,
        };
        *socket = socket.attached_here()?;
        Ok(())
    }

    /// Says that nothing more will come: `close_notify` and FIN. Everything
    /// taken must have been flushed.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => {
                stream.session.send_close_notify();
                match stream.poll_flush(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(flushed) => flushed?,
                }
                Pin::new(&mut stream.socket).poll_shutdown(cx)
            }
        }
    }

    /// Says that nothing more will come, by FIN alone.
    pub fn shut(&self) {
        match self {
            Self::Plain(socket) => socket.shut(),
            Self::Tls(stream) => stream.socket.shut(),
        }
    }

    /// Ends the connection without another byte, also of those that were sent
    /// and are still on this host.
    pub fn sever(self) {
        match self {
            Self::Plain(socket) => socket.forget_unsent(),
            Self::Tls(stream) => stream.socket.forget_unsent(),
        }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl TlsStream {
    fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.reader().read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Most PostgreSQL clients close without `close_notify`; the
                // protocol's own Terminate says whether the end was meant.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(0));
                }
                read => return Poll::Ready(read),
            }
            let Self { socket, session, early } = self;
            match session.read_tls(&mut Ciphertext { socket, cx, early }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) => {}
            }
            if let Err(error) = self.session.process_new_packets() {
                // The alert that says why is worth one try.
                let _ = self.poll_flush(cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.session.wants_write() {
            match self.poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(flushed) => flushed?,
            }
        }
        let chunk = &bytes[..bytes.len().min(TLS_CHUNK)];
        let taken = self.session.writer().write(chunk)?;
        if let Poll::Ready(flushed) = self.poll_flush(cx) {
            flushed?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, session, early } = self;
        while session.wants_write() {
            match session.write_tls(&mut Ciphertext { socket, cx, early }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[inline]
fn poll_read(
    socket: &mut Socket,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(scratch);
    Pin::new(socket).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
}

/// The socket as rustls wants it: blocking calls that would block.
struct Ciphertext<'a, 'b> {
    socket: &'a mut Socket,
    cx: &'a mut Context<'b>,
    early: &'a mut BytesMut,
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Ciphertext<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let taken = buf.len().min(self.early.len());
            self.early.copy_to_slice(&mut buf[..taken]);
            return Ok(taken);
        }
        ready(poll_read(self.socket, self.cx, buf))
    }
}

impl io::Write for Ciphertext<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        ready(Pin::new(&mut *self.socket).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        ready(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
