//! Everything a client can be turned away for, and what it hears.
//!
//! [`Refusal::answer`] is the one table from cause to SQLSTATE, text and
//! metric label (promise 6); the README repeats it and a test holds the two
//! together. Causes that concern only the operator go to the log instead.

use std::fmt::Write as _;

use super::address::ClientAddress;
use super::name::ServiceName;
use super::pin::PinReason;
use super::sqlstate::SqlState;

/// Why a client is turned away, or its session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A frontend protocol other than 3.x.
    UnsupportedProtocol {
        /// The major version asked for.
        major: u16,
        /// The minor version asked for.
        minor: u16,
    },
    /// Bytes that are no legal message here; the text is PostgreSQL's own.
    ProtocolViolation(ProtocolViolation),
    /// No `user` in the startup packet.
    NoUser,
    /// TLS server name and `options` name different services.
    ServiceDisagreement,
    /// `access=` or `pool=` in `options` with a value that does not exist.
    InvalidOption(InvalidOption),
    /// The connection is not encrypted, and must be.
    TlsRequired {
        /// The client.
        address: ClientAddress,
    },
    /// No service of this name for this address: the same answer for a
    /// denied address and for a service that does not exist.
    NotPermitted {
        /// The client.
        address: ClientAddress,
    },
    /// The SQL console was asked for.
    NoConsole,
    /// Wrong password, no such role, or a role that may not log in.
    PasswordFailed {
        /// The role asked for.
        user: String,
    },
    /// The client agreed to less channel binding than was offered.
    ChannelBindingMismatch,
    /// Authentication took longer than `client_login_timeout`.
    LoginTimeout,
    /// The plan's connections are all in use.
    PlanFull(Box<PlanUse>),
    /// `max_clients` is reached.
    TooManyClients,
    /// No server connection came free within `query_wait_timeout`.
    QueueTimeout {
        /// For how many seconds the client waited.
        seconds: u64,
        /// The most connections that the pools may hold.
        pool_size: u32,
    },
    /// The statement would make session state that the service refuses.
    StateRefused {
        /// What it would keep.
        reason: PinReason,
    },
    /// A statement was cancelled while it waited for a server connection.
    CanceledWhileWaiting,
    /// The service has no node that can serve the client.
    NoPrimary {
        /// The service.
        service: ServiceName,
        /// What is known of it, for DETAIL.
        reason: Unavailable,
    },
    /// The node answered the login in a way that Postern cannot follow.
    ServerLogin(ServerLoginFailure),
    /// Postern is shutting down and takes no new clients.
    ShuttingDown,
    /// As many clients of the transaction endpoint as the service may have.
    TooManyPooledClients {
        /// How many that is.
        most: usize,
    },
    /// The client has taken longer than its service allows.
    Overdue(Overdue),
    /// The session ends because Postern shuts down or an operator says so.
    AdminShutdown,
    /// The service's allowlist was tightened.
    NoLongerPermitted,
    /// The server connection was lost with nothing under way.
    ServerLost(Aftermath),
    /// The server connection was lost in a transaction whose end had not been
    /// asked for.
    TransactionLost(Aftermath),
    /// The server connection was lost while a statement could have committed.
    OutcomeUnknown(Aftermath),
}

/// What becomes of a session whose server connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aftermath {
    /// It goes on, with another connection.
    GoesOn,
    /// It ends.
    Ends,
    /// It ends, because it held state that went with the connection.
    EndsHolding {
        /// The names of that state, for DETAIL.
        state: String,
    },
}

/// What a client may take a limited time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Overdue {
    /// Taking what was sent to it; nobody can be told.
    Write,
    /// A statement.
    Query,
    /// A transaction.
    Transaction,
    /// Nothing, inside a transaction.
    IdleInTransaction,
    /// Nothing, outside a transaction.
    Idle,
}

/// What was wrong with a message before the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// A startup packet whose length is impossible.
    StartupLength,
    /// A startup packet without its terminator, or with bytes behind it.
    StartupLayout,
    /// Bytes behind `SSLRequest` that were not encrypted.
    DataAfterSslRequest,
    /// Bytes behind `GSSENCRequest` that were not encrypted.
    DataAfterGssRequest,
    /// Something else than a password message during authentication.
    ExpectedSasl(u8),
    /// A SASL mechanism that was not offered.
    SaslMechanism,
    /// A SCRAM message that does not parse.
    MalformedScram,
    /// A SCRAM nonce, or channel binding data, other than agreed on.
    ScramMismatch,
}

/// A value of `access=` or `pool=` that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidOption {
    /// `access=` takes `read-write` and `read-only`.
    Access,
    /// `pool=` takes `session` and `transaction`.
    Pool,
}

/// Why a service has nobody to serve a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// No node could be reached.
    Unreachable,
    /// Nodes answer, but none is a primary.
    NoPrimary,
    /// Nodes of a vector service lack the extension.
    NoPgvector {
        /// The nodes without it.
        nodes: Vec<String>,
    },
    /// There is no standby for the read-only endpoint.
    NoStandby,
    /// Its owner has powered it off.
    PoweredOff,
    /// Its operator lets nothing begin for a while.
    Paused,
}

/// Why the login on the node did not end in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerLoginFailure {
    /// The node closed the connection, or sent what is not PostgreSQL's
    /// protocol.
    Broken,
    /// The node asks for a kind of authentication that SCRAM keys cannot do.
    UnsupportedAuthentication,
    /// The node did not prove that it knows the role's verifier.
    Untrusted,
}

/// Who uses a service's connections: the explanation of decision 43.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanUse {
    /// The plan's name.
    pub plan: String,
    /// Connections in use.
    pub used: u32,
    /// Connections the plan allows.
    pub limit: u32,
    /// The largest users: application, address, connections; most first.
    pub largest: Vec<(String, String, u32)>,
    /// Connections without a statement for longer than five minutes.
    pub idle_long: u32,
    /// The port of the transaction endpoint, if there is one.
    pub pooled_port: Option<u16>,
}

/// What a client hears: the fields of one `ErrorResponse`, and the label that
/// counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `C`
    pub sqlstate: SqlState,
    /// `M`
    pub message: String,
    /// `D`
    pub detail: Option<String>,
    /// `H`
    pub hint: Option<String>,
    /// `reason` in `postern_refusals_total`.
    pub label: &'static str,
}

impl Answer {
    fn new(label: &'static str, sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None, label }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Refusal {
    /// The client's answer: one row for each cause.
    #[must_use]
    #[allow(clippy::too_many_lines, reason = "one table, with a row for each cause")]
    pub fn answer(&self) -> Answer {
        use SqlState as S;
        match self {
            Self::UnsupportedProtocol { major, minor } => Answer::new(
                "protocol_version",
                S::FEATURE_NOT_SUPPORTED,
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
            ),
            Self::ProtocolViolation(violation) => violation.answer(),
            Self::NoUser => Answer::new(
                "no_user",
                S::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
            ),
            Self::ServiceDisagreement => Answer::new(
                "service_disagreement",
                S::INVALID_AUTHORIZATION,
                "the host name and the options of this connection name different services",
            )
            .hint("Remove \"service=\" from options, or connect to the host name of the service meant."),
            Self::InvalidOption(option) => option.answer(),
            Self::TlsRequired { address } => Answer::new(
                "tls_required",
                S::INVALID_AUTHORIZATION,
                format!("connections from {address} must be encrypted"),
            )
            .hint("Use sslmode=require or, with the service's CA certificate, sslmode=verify-full."),
            Self::NotPermitted { address } => Answer::new(
                "not_permitted",
                S::INVALID_AUTHORIZATION,
                format!("no service accepts this connection from {address}"),
            )
            .hint("Check the service name, or allow this address."),
            Self::NoConsole => Answer::new(
                "no_console",
                S::FEATURE_NOT_SUPPORTED,
                "the SQL console is not available",
            )
            .hint("Use \"postern status\" on the host, or name a service to reach its databases."),
            Self::PasswordFailed { user } => Answer::new(
                "password",
                S::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            ),
            Self::ChannelBindingMismatch => Answer::new(
                "channel_binding",
                S::INVALID_AUTHORIZATION,
                "SCRAM channel binding negotiation error",
            )
            .detail(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding.",
            ),
            Self::LoginTimeout => {
                Answer::new("login_timeout", S::QUERY_CANCELED, "canceling authentication due to timeout")
            }
            Self::PlanFull(plan) => plan.answer(),
            Self::TooManyClients => {
                Answer::new("max_clients", S::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                    .detail("The proxy serves as many clients as it is configured for.")
                    .hint("Try again later.")
            }
            Self::QueueTimeout { seconds, pool_size } => Answer::new(
                "query_wait_timeout",
                S::TOO_MANY_CONNECTIONS,
                "no server connection became free in time",
            )
            .detail(format!(
                "The statement waited for {seconds} s; {pool_size} connections are in use."
            ))
            .hint("Try again, keep transactions short, or raise pool_size or query_wait_timeout."),
            Self::StateRefused { reason } => Answer::new(
                "state_refused",
                S::FEATURE_NOT_SUPPORTED,
                format!(
                    "this service keeps no server connection for {}",
                    reason.description()
                ),
            )
            .detail(format!("Its setting refuse_state names \"{}\".", reason.label()))
            .hint("Use the session endpoint for it."),
            Self::CanceledWhileWaiting => Answer::new(
                "canceled",
                S::QUERY_CANCELED,
                "canceling statement due to user request",
            ),
            Self::NoPrimary { service, reason } => Answer::new(
                reason.label(),
                S::CANNOT_CONNECT_NOW,
                format!("service \"{service}\" cannot be reached at the moment"),
            )
            .detail(reason.detail())
            .hint("Try again; the service URI stays the same."),
            Self::ServerLogin(failure) => failure.answer(),
            Self::ShuttingDown => {
                Answer::new("shutting_down", S::CANNOT_CONNECT_NOW, "the database system is shutting down")
            }
            Self::TooManyPooledClients { most } => Answer::new(
                "max_pooled_clients",
                S::TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
            )
            .detail(format!("The service takes {most} clients on its transaction endpoint."))
            .hint("Close connections that are not needed, or raise max_pooled_clients."),
            Self::Overdue(overdue) => overdue.answer(),
            Self::AdminShutdown => Answer::new(
                "admin_shutdown",
                S::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            ),
            Self::NoLongerPermitted => Answer::new(
                "no_longer_permitted",
                S::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            )
            .detail("The service's allowlist no longer permits this address."),
            Self::ServerLost(aftermath) => aftermath.of(Answer::new(
                "server_lost",
                S::ADMIN_SHUTDOWN,
                "terminating connection because the connection to the server was lost",
            ), "nothing was under way"),
            Self::TransactionLost(aftermath) => aftermath.of(Answer::new(
                "transaction_lost",
                S::SERIALIZATION_FAILURE,
                "the connection to the server was lost in the middle of a transaction",
            )
            .detail("Nothing of the transaction was committed."), "repeat the transaction"),
            Self::OutcomeUnknown(aftermath) => aftermath.of(Answer::new(
                "outcome_unknown",
                S::TRANSACTION_RESOLUTION_UNKNOWN,
                "the connection to the server was lost before it confirmed the last statement",
            )
            .detail("The statement may have been committed, or not."), "look before repeating it"),
        }
    }
}

impl Overdue {
    /// All of them, the most pressing first.
    pub const ALL: [Self; 5] =
        [Self::Write, Self::Query, Self::Transaction, Self::IdleInTransaction, Self::Idle];

    /// As PostgreSQL says it of its own timeouts; a statement's is PgBouncer's,
    /// which ends the session.
    fn answer(self) -> Answer {
        use SqlState as S;
        match self {
            Self::Write => Answer::new(
                "client_write_timeout",
                S::CONNECTION_FAILURE,
                "terminating connection because the client does not read",
            ),
            Self::Query => Answer::new(
                "query_timeout",
                S::QUERY_CANCELED,
                "terminating connection due to query timeout",
            )
            .hint("A statement that should fail alone is limited by statement_timeout."),
            Self::Transaction => Answer::new(
                "transaction_timeout",
                S::TRANSACTION_TIMEOUT,
                "terminating connection due to transaction timeout",
            ),
            Self::IdleInTransaction => Answer::new(
                "idle_transaction_timeout",
                S::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            ),
            Self::Idle => Answer::new(
                "client_idle_timeout",
                S::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            ),
        }
    }
}

impl ProtocolViolation {
    fn answer(self) -> Answer {
        let text = match self {
            Self::StartupLength => "invalid length of startup packet".to_owned(),
            Self::StartupLayout => {
                "invalid startup packet layout: expected terminator as last byte".to_owned()
            }
            Self::DataAfterSslRequest => "received unencrypted data after SSL request".to_owned(),
            Self::DataAfterGssRequest => {
                "received unencrypted data after GSSAPI encryption request".to_owned()
            }
            Self::ExpectedSasl(kind) => {
                format!("expected SASL response, got message type {kind}")
            }
            Self::SaslMechanism => {
                "client selected an invalid SASL authentication mechanism".to_owned()
            }
            Self::MalformedScram | Self::ScramMismatch => "malformed SCRAM message".to_owned(),
        };
        let answer = Answer::new("protocol_violation", SqlState::PROTOCOL_VIOLATION, text);
        match self {
            Self::DataAfterSslRequest | Self::DataAfterGssRequest => answer.detail(
                "This could be either a client-software bug or evidence of an attempted \
                 man-in-the-middle attack.",
            ),
            Self::ScramMismatch => {
                answer.detail("The nonce or the channel binding is not the one agreed on.")
            }
            _ => answer,
        }
    }
}

impl InvalidOption {
    fn answer(self) -> Answer {
        let text = match self {
            Self::Access => "access= in options is read-write or read-only",
            Self::Pool => "pool= in options is session or transaction",
        };
        Answer::new("invalid_option", SqlState::INVALID_AUTHORIZATION, text)
    }
}

impl Aftermath {
    /// The answer, with what the client can do about it.
    fn of(&self, answer: Answer, advice: &str) -> Answer {
        let again = format!("Connect again; {advice}.");
        match self {
            Self::GoesOn => {
                let (first, rest) = advice.split_at(1);
                answer.hint(format!("{}{rest}; the session goes on.", first.to_uppercase()))
            }
            Self::Ends => answer.hint(again),
            Self::EndsHolding { state } => {
                let lost = format!("The session held state that was lost with it: {state}.");
                let before = answer.detail.clone().map(|detail| detail + " ").unwrap_or_default();
                answer.detail(before + &lost).hint(again)
            }
        }
    }
}

impl Unavailable {
    fn label(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NoPrimary => "no_primary",
            Self::NoPgvector { .. } => "no_pgvector",
            Self::NoStandby => "no_standby",
            Self::PoweredOff => "powered_off",
            Self::Paused => "paused",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unreachable => "None of its nodes answers.".to_owned(),
            Self::NoPrimary => "Its nodes answer, but none of them is a primary.".to_owned(),
            Self::NoPgvector { nodes } => {
                format!("The pgvector extension is not installed on {}.", nodes.join(", "))
            }
            Self::NoStandby => "None of its standbys can serve read-only connections.".to_owned(),
            Self::PoweredOff => "The service is powered off.".to_owned(),
            Self::Paused => "The service is paused for maintenance.".to_owned(),
        }
    }
}

impl ServerLoginFailure {
    fn answer(self) -> Answer {
        match self {
            Self::Broken => Answer::new(
                "server_login",
                SqlState::CONNECTION_FAILURE,
                "the server closed the connection unexpectedly during login",
            )
            .hint("Try again."),
            Self::UnsupportedAuthentication => Answer::new(
                "server_authentication",
                SqlState::INVALID_AUTHORIZATION,
                "the server asks for an authentication method that is not supported",
            )
            .hint("The service's pg_hba.conf must use scram-sha-256 for this role."),
            Self::Untrusted => Answer::new(
                "server_untrusted",
                SqlState::CONNECTION_FAILURE,
                "the server could not prove that it knows this role's password",
            )
            .hint("Try again; if it persists, report it to the operator of the service."),
        }
    }
}

impl PlanUse {
    fn answer(&self) -> Answer {
        let Self { plan, used, limit, .. } = self;
        let mut detail = format!("{used} of the {limit} connections of plan {plan} are in use");
        for (index, (application, address, count)) in self.largest.iter().enumerate() {
            let separator = if index == 0 { ": " } else { ", " };
            let _ = write!(detail, "{separator}{count} by \"{application}\" from {address}");
        }
        detail.push('.');
        if self.idle_long > 0 {
            let _ = write!(detail, " Idle for more than 5 minutes: {}.", self.idle_long);
        }
        let hint = match self.pooled_port {
            Some(port) => format!(
                "Close connections that are not needed, choose a larger plan, or use the pooled URI (port {port})."
            ),
            None => "Close connections that are not needed, or choose a larger plan.".to_owned(),
        };
        Answer::new("plan_full", SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
            .detail(detail)
            .hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_plan_says_who_uses_it() {
        let used = PlanUse {
            plan: "hobbyist".into(),
            used: 25,
            limit: 25,
            largest: vec![
                ("app".into(), "10.0.0.1".into(), 20),
                ("psql".into(), "local".into(), 5),
            ],
            idle_long: 3,
            pooled_port: Some(6432),
        };
        let answer = Refusal::PlanFull(Box::new(used)).answer();
        assert_eq!(answer.sqlstate.as_str(), "53300");
        assert_eq!(answer.message, "sorry, too many clients already");
        assert_eq!(
            answer.detail.unwrap(),
            "25 of the 25 connections of plan hobbyist are in use: 20 by \"app\" from 10.0.0.1, \
             5 by \"psql\" from local. Idle for more than 5 minutes: 3."
        );
        assert!(answer.hint.unwrap().contains("port 6432"));
    }

    #[test]
    fn a_lost_session_hears_what_was_lost_and_what_to_do() {
        let state = "temporary object, listen".to_owned();
        let answer = Refusal::TransactionLost(Aftermath::EndsHolding { state }).answer();
        assert_eq!(
            answer.detail.unwrap(),
            "Nothing of the transaction was committed. The session held state that was lost with \
             it: temporary object, listen."
        );
        assert_eq!(answer.hint.unwrap(), "Connect again; repeat the transaction.");
        let answer = Refusal::TransactionLost(Aftermath::GoesOn).answer();
        assert_eq!(answer.hint.unwrap(), "Repeat the transaction; the session goes on.");
    }

    #[test]
    fn a_denied_address_hears_nothing_about_the_service() {
        let address = ClientAddress::tcp("203.0.113.9:1".parse().unwrap());
        let answer = Refusal::NotPermitted { address }.answer();
        assert_eq!(answer.message, "no service accepts this connection from 203.0.113.9");
        assert_eq!((answer.sqlstate.as_str(), answer.detail), ("28000", None));
    }
}
