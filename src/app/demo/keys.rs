//! The Enter key of whoever watches.
//!
//! Standard input is read by a thread of its own: a read that waits there must
//! not keep the demo from ending.

use std::io::{self, BufRead as _};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Lines of the standard input.
pub(super) struct Keys(UnboundedReceiver<()>);

impl Keys {
    /// Reads from now on.
    pub(super) fn read() -> Self {
        let (told, keys) = unbounded_channel();
        std::thread::spawn(move || {
            let lines = io::stdin().lock().lines();
            for _ in lines.map_while(Result::ok) {
                if told.send(()).is_err() {
                    return;
                }
            }
        });
        Self(keys)
    }

    /// Waits for the next one; for ever if nobody is there. Keys pressed while
    /// nobody waited count as one.
    pub(super) async fn enter(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while self.0.try_recv().is_ok() {}
    }
}
