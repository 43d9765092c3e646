//! Long answers are read in large pieces.
//!
//! A server sends a COPY in pieces of 8 KiB, and a proxy that is woken by each
//! of them spends more on waking than on moving. So once an answer has gone on
//! for a while, the kernel is told to wake the session only when a whole
//! scratch has come (`SO_RCVLOWAT`). The end of the answer is not waited for
//! long: if nothing has come for `PATIENCE`, whatever there is wakes again.
//!
//! An answer that is short costs one addition.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::net::Connection;

/// Bytes of one answer before it counts as long.
const LONG: usize = 1024 * 1024;
/// Bytes that are waited for then.
const PIECE: u32 = 64 * 1024;
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_millis(2);

/// How the answers of one server connection are read.
#[derive(Debug, Default)]
pub struct Bulk {
    /// Bytes of the answer since it began, or since they last came slowly.
    moved: usize,
    /// Set while pieces are waited for.
    pieces: bool,
    /// Runs since the last bytes came, if `waits`.
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Bulk {
    /// Bytes of an answer came, which is over with them or goes on.
    #[inline]
    pub fn came(&mut self, bytes: usize, is_over: bool, server: &Connection) {
        if is_over {
            self.moved = 0;
            if self.pieces {
                self.stop(server);
            }
            return;
        }
        self.moved += bytes;
        self.waits = false;
        if !self.pieces && self.moved >= LONG {
            self.pieces = server.wake_at(PIECE).is_ok();
        }
    }

    /// Nothing can be read at the moment.
    #[inline]
    pub fn wait(&mut self, cx: &mut Context<'_>, server: &Connection) {
        if self.pieces {
            self.wait_for_a_piece(cx, server);
        }
    }

    fn wait_for_a_piece(&mut self, cx: &mut Context<'_>, server: &Connection) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if !std::mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(Instant::now() + PATIENCE);
        }
        if timer.as_mut().poll(cx) == Poll::Ready(()) {
            self.moved = 0;
            self.stop(server);
        }
    }

    #[cold]
    fn stop(&mut self, server: &Connection) {
        (self.pieces, self.waits, self.timer) = (false, false, None);
        // The kernel signals at once what has come already. A socket that
        // refuses is broken, and says so when it is read.
        let _ = server.wake_at(1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::net::Socket;

    #[tokio::test]
    async fn the_end_of_a_long_answer_is_not_waited_for_long() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server =
            tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = Connection::plain(Socket::tcp(stream).unwrap());
        let mut bulk = Bulk::default();
        // The end comes alone, and is less than what is waited for.
        for end in [1, 100, 40_000] {
            let length = 3 * LONG + end;
            let everything = vec![7; length];
            let sending = async {
                server.write_all(&everything[..3 * LONG]).await.unwrap();
                tokio::time::sleep(PATIENCE / 2).await;
                server.write_all(&everything[3 * LONG..]).await.unwrap();
            };
            let reading = async {
                let (mut read, mut scratch) = (0, vec![0; 64 * 1024]);
                while read < length {
                    let more = poll_fn(|cx| {
                        let filled = connection.poll_fill(cx, &mut scratch);
                        if filled.is_pending() {
                            bulk.wait(cx, &connection);
                        }
                        filled
                    });
                    let more = tokio::time::timeout(Duration::from_secs(10), more).await;
                    let more = more.expect("the rest is read").unwrap();
                    read += more;
                    bulk.came(more, read == length, &connection);
                }
                assert_eq!((bulk.moved, bulk.pieces), (0, false));
            };
            tokio::join!(sending, reading);
        }
    }
}
