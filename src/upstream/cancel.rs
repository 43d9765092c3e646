//! Asks a node to cancel what one of its backends is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::dial::{DialError, Dialed, Dialer};
use crate::directory::{Node, Tenure};
use crate::domain::Secret;
use crate::wire::startup::write_cancel_request;

/// A backend, and the key that cancels its query.
#[derive(Debug)]
pub struct Backend {
    node: Arc<Node>,
    tenure: Arc<Tenure>,
    process_id: u32,
    key: Secret<Vec<u8>>,
    /// Cancel requests that are being delivered to it.
    requests: AtomicU32,
}

impl Backend {
    /// A backend that can be cancelled; `None` if the server told no key, as
    /// some poolers in front of a server do (trap B-8).
    #[must_use]
    pub fn new(
        node: &Arc<Node>,
        tenure: &Arc<Tenure>,
        process_id: u32,
        key: &Bytes,
    ) -> Option<Arc<Self>> {
        let backend = || Self {
            node: Arc::clone(node),
            tenure: Arc::clone(tenure),
            process_id,
            key: Secret::new(key.to_vec()),
            requests: AtomicU32::new(0),
        };
        (!key.is_empty()).then(|| Arc::new(backend()))
    }

    /// Whether its node has lost the role in which it was connected to: then
    /// nothing is sent there any more.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        self.tenure.is_over()
    }

    /// The node it runs on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether a cancel request may still reach it: until then its connection
    /// goes to nobody else (decision 37).
    #[must_use]
    pub fn is_being_cancelled(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }
}

/// A cancel request under way, until this is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<Backend>);

impl UnderWay {
    /// Begins a request for this backend.
    #[must_use]
    pub fn to(backend: &Arc<Backend>) -> Self {
        backend.requests.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(backend))
    }

    /// Whom it will reach.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
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
    backend: &Backend,
    deadline: Instant,
) -> Result<(), DialError> {
    let Dialed { mut connection, .. } = dialer.dial(&backend.node, deadline).await?;
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
