//! Asks a node to cancel what one of its backends is doing.

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::dial::{DialError, Dialed, Dialer};
use crate::directory::Node;
use crate::domain::Secret;
use crate::wire::startup::write_cancel_request;

/// A backend, and the key that cancels its query.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its process id.
    pub process_id: u32,
    /// The key it told at login.
    pub key: Secret<Vec<u8>>,
}

impl Backend {
    /// A backend that can be cancelled; `None` if the server told no key, as
    /// some poolers in front of a server do (trap B-8).
    #[must_use]
    pub fn new(process_id: u32, key: &Bytes) -> Option<Self> {
        (!key.is_empty()).then(|| Self { process_id, key: Secret::new(key.to_vec()) })
    }
}

/// Sends a cancel request and waits until the server has closed: then the
/// signal has been sent, and cannot reach whatever the backend does next
/// unless it is slow to arrive.
///
/// # Errors
/// [`DialError`].
pub async fn cancel(
    dialer: &Dialer,
    node: &Node,
    backend: &Backend,
    deadline: Instant,
) -> Result<(), DialError> {
    let Dialed { mut connection, .. } = dialer.dial(node, deadline).await?;
    let mut request = BytesMut::new();
    write_cancel_request(&mut request, backend.process_id, backend.key.expose());
    let exchange = async {
        connection.send(&request).await?;
        connection.read_to_end().await
    };
    match timeout_at(deadline, exchange).await {
        Ok(Ok(())) => Ok(()),
        // A server that resets the connection has read the request as well.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Ok(Err(error)) => Err(DialError::Connect(error)),
        Err(_) => Err(DialError::Timeout),
    }
}
