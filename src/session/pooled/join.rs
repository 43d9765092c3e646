//! The login on the transaction endpoint (decision 13): the first of a pool
//! leases a server connection, so that PostgreSQL answers for the role, the
//! database and the startup settings; later ones hear what it said then.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::client_state::ClientState;
use super::{Member, Pooled};
use crate::auth::client::Keys;
use crate::auth::credential::Credential;
use crate::directory::cancel_keys::Registration;
use crate::directory::roster::{Activity, Seated};
use crate::domain::PoolMode;
use crate::pool::{Greeting, PoolKey};
use crate::session::authenticate::{Known, unless_gone};
use crate::session::cancel::{CancelTarget, cancel_key};
use crate::session::door::random;
use crate::session::farewell::{Acquaintance, turn_away};
use crate::session::introduce::Client;
use crate::session::login::{after_authentication, occupant, take_seat};
use crate::session::standing::Standing;
use crate::session::{Departure, FrontDoor};
use crate::wire::answer;
use crate::wire::frame::messages;
use crate::wire::login::parse_parameter;

const APPLICATION_NAME: &str = "application_name";

impl Known {
    /// Whether the client gets a connection for each transaction. Replication
    /// is a session for life on either port (decision 42).
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        let replication = self.parameters.iter().any(|(name, _)| name == "replication");
        self.endpoint.mode == PoolMode::Transaction && !replication
    }

    /// Makes the client one of its pool's.
    pub async fn join_pool(self: Box<Self>, door: &FrontDoor) -> Option<Box<Pooled>> {
        let Self { client, allowed: _, endpoint, role, parameters, keys, sasl_final } = *self;
        let Client { mut connection, address, version, stranger, clock, .. } = client;
        drop(stranger);
        let occupant = occupant(&endpoint, &role, &parameters, address);
        let joined = async {
            let seat = take_seat(door, occupant)?;
            let mut member = Member::new(seat, &parameters, keys);
            let greeting = if let Some(greeting) = member.known_greeting(door)? {
                greeting
            } else {
                let first = Box::pin(member.first_greeting(door));
                unless_gone(&mut connection, first).await??
            };
            Ok::<_, Departure>((member, greeting))
        };
        let joined = joined.await;
        door.metrics.login_answered(endpoint.mode, clock.came_at.elapsed().as_secs_f64());
        match joined {
            Ok((mut member, greeting)) => {
                let mut out = sasl_final;
                let long_key = version.has_long_cancel_keys();
                let registration = member.greet(door, &mut out, &greeting, &parameters, long_key);
                connection.send(&out).await.ok()?;
                door.metrics.session_began(&endpoint.service, endpoint.mode);
                Some(Box::new(Pooled { connection, member, registration }))
            }
            Err(departure) => {
                let who = Acquaintance::known(address, &endpoint.service, &role);
                let departure = after_authentication(departure, sasl_final);
                turn_away(door, connection, departure, who).await;
                None
            }
        }
    }
}

impl Member {
    fn new(seat: Seated, parameters: &[(Bytes, Bytes)], keys: Keys) -> Self {
        let state = ClientState::new(seat.id);
        let target = Arc::new(CancelTarget::new(seat.occupant.endpoint.service.clone()));
        let key = PoolKey::new(parameters, Credential::of_keys(&keys));
        Self {
            seat,
            state,
            key,
            keys: Arc::new(keys),
            target,
            place: None,
            standing: Standing::default(),
        }
    }

    /// Appends everything from `AuthenticationOk` to `ReadyForQuery`, with a
    /// process id of Postern's own.
    fn greet(
        &mut self,
        door: &FrontDoor,
        out: &mut BytesMut,
        greeting: &Greeting,
        parameters: &[(Bytes, Bytes)],
        long_key: bool,
    ) -> Registration<CancelTarget> {
        let application = parameters.iter().rev().find(|(name, _)| name == APPLICATION_NAME);
        let application = application.map(|(_, value)| value.clone()).unwrap_or_default();
        let mut reports = greeting.reports.clone();
        reports.set(APPLICATION_NAME, application.clone());
        self.state.first_name = (reports != greeting.reports).then(|| application.clone());
        self.state.reported(&reports);
        self.standing = Standing::of(&greeting.messages);
        answer::authentication_ok(out);
        put_greeting(out, &greeting.messages, &application);
        let process_id = u32::from_be_bytes(random::<4>()) >> 1 | 1;
        let key = cancel_key(long_key);
        answer::backend_key(out, process_id, &key);
        answer::ready(out);
        self.seat.set_activity(Activity::Idle);
        door.cancel_keys.register(process_id, &key, Arc::clone(&self.target))
    }
}

/// The pool's messages, with the client's own application name.
fn put_greeting(out: &mut BytesMut, greeting: &[u8], application: &Bytes) {
    for message in messages(greeting) {
        let body = Bytes::copy_from_slice(message.body());
        let name = parse_parameter(body).filter(|_| message.kind == b'S').map(|(name, _)| name);
        if name.is_some_and(|name| name == APPLICATION_NAME.as_bytes()) {
            answer::parameter_status(out, APPLICATION_NAME, application);
        } else {
            out.put_slice(message.bytes);
        }
    }
}
