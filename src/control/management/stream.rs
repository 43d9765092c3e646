//! A node's connection as tokio-postgres wants it: dialled and encrypted
//! already, by the same code that dials for clients, so that `node_tls` means
//! one thing.
//!
//! tokio-postgres is told that TLS begins with the first byte and is then
//! handed the stream that it gave: it learns the channel binding that way.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::net::Connection;
use crate::upstream::Dialed;

/// The stream under a management connection.
#[derive(Debug)]
pub(in crate::control) struct NodeStream {
    connection: Connection,
    binding: Option<Box<[u8]>>,
}

impl From<Dialed> for NodeStream {
    fn from(dialed: Dialed) -> Self {
        Self { connection: dialed.connection, binding: dialed.binding }
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = &mut self.get_mut().connection;
        if !connection.input.is_empty() {
            let taken = buf.remaining().min(connection.input.len());
            buf.put_slice(&connection.input.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        let read = ready!(connection.poll_fill(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let connection = &mut self.get_mut().connection;
        ready!(connection.poll_send(cx))?;
        connection.push(cx, buf)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().connection.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut self.get_mut().connection;
        ready!(connection.poll_send(cx))?;
        connection.poll_close(cx)
    }
}

impl TlsStream for NodeStream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.binding {
            Some(hash) => ChannelBinding::tls_server_end_point(hash.to_vec()),
            None => ChannelBinding::none(),
        }
    }
}

/// Stands for the handshake that has been done.
#[derive(Debug)]
pub(in crate::control) struct AlreadyEncrypted;

impl TlsConnect<NodeStream> for AlreadyEncrypted {
    type Stream = NodeStream;
    type Error = Infallible;
    type Future = Ready<Result<NodeStream, Infallible>>;

    fn connect(self, stream: NodeStream) -> Self::Future {
        ready(Ok(stream))
    }
}
