//! Sockets and TLS: bytes in and out, towards clients and towards nodes.
//!
//! Nothing here knows PostgreSQL's messages. The data path uses
//! [`Connection`]: a [`transport::Transport`] with the input that nobody has
//! taken yet and the output that the peer has not taken yet.

pub mod authority;
pub mod binding;
pub mod connection;
pub mod listener;
pub mod node_tls;
pub mod server_tls;
pub mod socket;
pub mod transport;
pub mod worker;

pub use connection::Connection;
pub use listener::Listener;
pub use server_tls::ServerTls;
pub use socket::Socket;
pub use worker::Worker;
