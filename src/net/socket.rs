//! A stream socket of either family, with the options every one of them gets.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::setsockopt_impl;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A dead peer is found after at most [`KEEPALIVE_IDLE`] and
/// [`KEEPALIVE_PROBES`] unanswered probes (promise 7).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Data that a peer's host does not acknowledge for this long ends the
/// connection.
const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// `SO_RCVLOWAT`, which neither socket2 nor rustix offers.
#[derive(Debug, Clone, Copy)]
struct ReceiveLowWater;
setsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, u32, SetStruct<u32>);

/// TCP or unix.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with `TCP_NODELAY` and keepalive.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A socket that no runtime watches.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A unix socket.
    Unix(unix::net::UnixStream),
}

impl Detached {
    /// The socket, watched by the runtime that this is called on.
    ///
    /// # Errors
    /// If the system cannot watch it.
    pub fn attach(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => Ok(Socket::Tcp(TcpStream::from_std(stream)?)),
            Self::Unix(stream) => Ok(Socket::Unix(UnixStream::from_std(stream)?)),
        }
    }
}

impl Socket {
    /// The socket, watched by no runtime any more.
    ///
    /// # Errors
    /// As the system.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Self::Unix(stream) => stream.into_std().map(Detached::Unix),
        }
    }

    /// Takes over a TCP stream that was connected.
    ///
    /// # Errors
    /// If the socket is dead already.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        set_tcp_options(&SockRef::from(&stream))?;
        Ok(Self::Tcp(stream))
    }

    /// The same socket, watched by the runtime that this is called on.
    ///
    /// # Errors
    /// If the system has no descriptor or cannot watch it.
    pub fn attached_here(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => {
                Detached::Tcp(stream.as_fd().try_clone_to_owned()?.into()).attach()
            }
            Self::Unix(stream) => {
                Detached::Unix(stream.as_fd().try_clone_to_owned()?.into()).attach()
            }
        }
    }

    /// Makes the socket readable only when as many bytes have come, or the
    /// peer has closed. A unix socket does not know this option.
    ///
    /// # Errors
    /// As the system.
    pub fn wake_at(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => Ok(setsockopt(stream, ReceiveLowWater, &bytes)?),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads what is there already, and leaves nobody waiting for more.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; otherwise as the system.
    #[inline]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Unix(stream) => stream.try_read(buf),
        }
    }

    /// Says that nothing more will come.
    pub fn shut(&self) {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        };
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// Makes the close that follows throw away what the peer has not taken yet:
    /// nothing more reaches it.
    pub fn forget_unsent(&self) {
        if let Self::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// What every TCP socket gets. A listening one hands it down to those that are
/// accepted on it, which saves six system calls each.
///
/// # Errors
/// As the system.
pub fn set_tcp_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
