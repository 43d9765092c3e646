//! Counters and histograms that the program adds to while it runs.
//!
//! What can be counted by looking (sessions, slots, bytes) is not kept here
//! but looked up when somebody asks (`control::exposition`). Series by service
//! are counters and gauges only; histograms are by endpoint (decision 41).

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::domain::{PinReason, PoolMode, ServiceName};

/// Seconds: from a login on the same host to one that waited for a failover.
const LOGIN_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The program's own counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    refusals: IntCounterVec,
    logins: HistogramVec,
    server_connects: HistogramVec,
    pins: IntCounterVec,
    audits: IntCounterVec,
    cancels: IntCounterVec,
    sessions: IntCounterVec,
    holds: HistogramVec,
    held: IntGaugeVec,
    lost: IntCounterVec,
    failovers: IntCounterVec,
    drills: IntCounterVec,
    drill_pauses: GaugeVec,
    drill_lost: IntGaugeVec,
    /// Connections accepted, before anything is known of them.
    pub accepted: IntCounter,
    /// Connections closed for being one too many before authentication.
    pub crowded_out: IntCounter,
    /// Connections that are not authenticated yet.
    pub unauthenticated: IntGauge,
    /// `accept()` errors: descriptors or memory ran out.
    pub accept_errors: IntCounter,
    /// Backends ended by force because they had not closed in time.
    pub terminated_backends: IntCounter,
}

/// What came of a cancel request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// Sent to the server.
    Forwarded,
    /// No session has this key.
    UnknownKey,
    /// The session's allowlist does not permit the address.
    NotPermitted,
    /// The session was doing nothing.
    Idle,
    /// Too many wrong keys from this address.
    Limited,
    /// The server could not be reached.
    Failed,
}

impl CancelOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::UnknownKey => "unknown_key",
            Self::NotPermitted => "not_permitted",
            Self::Idle => "idle",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

/// What is known of a transaction whose server connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostOutcome {
    /// Nothing of it was committed.
    NotCommitted,
    /// It may have been committed.
    Unknown,
}

impl LostOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::NotCommitted => "not_committed",
            Self::Unknown => "unknown",
        }
    }
}

/// What came of a drill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rehearsed {
    /// It can be told how it was.
    ToItsEnd {
        /// Clients noticed nothing but a pause.
        passed: bool,
        /// Seconds that the client in the middle stood still.
        pause_p50: f64,
        /// Seconds that the one in a hundred stood still.
        pause_p99: f64,
        /// Acknowledged rows that are not there.
        lost: usize,
    },
    /// It had to be given up.
    BrokenOff,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counts at zero.
    ///
    /// # Panics
    /// If two metrics had one name, which the tests rule out.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let register = Register(&registry);
        Self {
            refusals: register.counters(
                "postern_refusals_total",
                "Clients turned away or sessions ended by Postern, by reason",
                &["service", "reason"],
            ),
            logins: register.histogram(
                "postern_login_duration_seconds",
                "Time from a client's first byte to the answer to its login",
                &["endpoint"],
            ),
            server_connects: register.histogram(
                "postern_server_connect_duration_seconds",
                "Time to connect to a node and log in there",
                &["endpoint"],
            ),
            pins: register.counters(
                "postern_pins_total",
                "Times that a client began to keep its server connection, by what for",
                &["service", "reason"],
            ),
            audits: register.counters(
                "postern_audits_total",
                "Hand-overs of a server connection that were audited, by what was found",
                &["service", "outcome"],
            ),
            cancels: register.counters(
                "postern_cancels_total",
                "Cancel requests, by what came of them",
                &["outcome"],
            ),
            sessions: register.counters(
                "postern_sessions_total",
                "Sessions that were let in",
                &["service", "endpoint"],
            ),
            holds: register.histogram(
                "postern_hold_duration_seconds",
                "Time that a login or transaction was held because nobody could serve it",
                &["endpoint"],
            ),
            held: register.gauges(
                "postern_held_clients",
                "Logins and transactions held because nobody can serve them",
                &["service"],
            ),
            lost: register.counters(
                "postern_lost_transactions_total",
                "Transactions whose server connection was lost, by what is known of their outcome",
                &["service", "outcome"],
            ),
            failovers: register.counters(
                "postern_failovers_total",
                "Primaries that followed another, by what became of the former one",
                &["service", "cause"],
            ),
            drills: register.counters(
                "postern_drills_total",
                "Drills, by whether clients noticed more than a pause",
                &["service", "outcome"],
            ),
            drill_pauses: register.seconds(
                "postern_drill_pause_seconds",
                "How long clients stood still in the last drill",
                &["service", "quantile"],
            ),
            drill_lost: register.gauges(
                "postern_drill_lost_rows",
                "Rows that were acknowledged in the last drill and are not there",
                &["service"],
            ),
            accepted: register
                .counter("postern_connections_accepted_total", "Connections accepted"),
            crowded_out: register.counter(
                "postern_connections_crowded_out_total",
                "Connections closed at once: too many were not authenticated yet",
            ),
            unauthenticated: register.gauge(
                "postern_unauthenticated_connections",
                "Connections that are not authenticated yet",
            ),
            accept_errors: register.counter(
                "postern_accept_errors_total",
                "accept() errors, such as running out of descriptors",
            ),
            terminated_backends: register.counter(
                "postern_terminated_backends_total",
                "Server processes ended by pg_terminate_backend because they did not close in time",
            ),
            registry,
        }
    }

    /// Counts a refusal. The service is named only once the client has proved
    /// who it is, or is known to be real: names a stranger made up never
    /// become series.
    pub fn refused(&self, service: Option<&ServiceName>, reason: &str) {
        let service = service.map_or("", ServiceName::as_str);
        self.refusals.with_label_values(&[service, reason]).inc();
    }

    /// A client's login was answered.
    pub fn login_answered(&self, mode: PoolMode, seconds: f64) {
        self.logins.with_label_values(&[mode.label()]).observe(seconds);
    }

    /// A server connection was made.
    pub fn server_connected(&self, mode: PoolMode, seconds: f64) {
        self.server_connects.with_label_values(&[mode.label()]).observe(seconds);
    }

    /// A session began.
    pub fn session_began(&self, service: &ServiceName, mode: PoolMode) {
        self.sessions.with_label_values(&[service.as_str(), mode.label()]).inc();
    }

    /// A client is held from now on.
    pub fn hold_began(&self, service: &ServiceName) {
        self.held.with_label_values(&[service.as_str()]).inc();
    }

    /// A client that was held goes on, or gives up.
    pub fn hold_ended(&self, service: &ServiceName, mode: PoolMode, seconds: f64) {
        self.held.with_label_values(&[service.as_str()]).dec();
        self.holds.with_label_values(&[mode.label()]).observe(seconds);
    }

    /// A transaction's server connection was lost.
    pub fn transaction_lost(&self, service: &ServiceName, outcome: LostOutcome) {
        self.lost.with_label_values(&[service.as_str(), outcome.label()]).inc();
    }

    /// One primary of a service followed another.
    pub fn failed_over(&self, service: &ServiceName, cause: &str) {
        self.failovers.with_label_values(&[service.as_str(), cause]).inc();
    }

    /// A drill is over.
    pub fn drilled(&self, service: &ServiceName, rehearsed: Rehearsed) {
        let service = service.as_str();
        let outcome = match rehearsed {
            Rehearsed::ToItsEnd { passed: true, .. } => "passed",
            Rehearsed::ToItsEnd { passed: false, .. } => "failed",
            Rehearsed::BrokenOff => "broken_off",
        };
        self.drills.with_label_values(&[service, outcome]).inc();
        if let Rehearsed::ToItsEnd { pause_p50, pause_p99, lost, .. } = rehearsed {
            self.drill_pauses.with_label_values(&[service, "0.5"]).set(pause_p50);
            self.drill_pauses.with_label_values(&[service, "0.99"]).set(pause_p99);
            let lost = i64::try_from(lost).unwrap_or(i64::MAX);
            self.drill_lost.with_label_values(&[service]).set(lost);
        }
    }

    /// A client keeps its server connection for something more.
    pub fn pinned(&self, service: &ServiceName, reason: PinReason) {
        self.pins.with_label_values(&[service.as_str(), reason.label()]).inc();
    }

    /// A server connection was looked at closely before its next client.
    pub fn audited(&self, service: &ServiceName, is_clean: bool) {
        let outcome = if is_clean { "clean" } else { "mismatch" };
        self.audits.with_label_values(&[service.as_str(), outcome]).inc();
    }

    /// How often a server connection was not as it was believed to be.
    #[must_use]
    pub fn mismatches(&self, service: &ServiceName) -> u64 {
        self.audits.with_label_values(&[service.as_str(), "mismatch"]).get()
    }

    /// A cancel request was dealt with.
    pub fn cancel_handled(&self, outcome: CancelOutcome) {
        self.cancels.with_label_values(&[outcome.label()]).inc();
    }

    /// How often clients were refused for this reason, over all services.
    #[must_use]
    pub fn refusals(&self, service: Option<&ServiceName>, reason: &str) -> u64 {
        let service = service.map_or("", ServiceName::as_str);
        self.refusals.with_label_values(&[service, reason]).get()
    }

    /// All of them, for the exposition.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> C {
        let collector = made.expect("metric names and labels are constants");
        self.0.register(Box::new(collector.clone())).expect("each metric is registered once");
        collector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(LOGIN_BUCKETS.to_vec());
        self.add(HistogramVec::new(options, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_counts() {
        let metrics = Metrics::new();
        metrics.refused(None, "not_permitted");
        metrics.refused(None, "not_permitted");
        metrics.cancel_handled(CancelOutcome::Forwarded);
        metrics.login_answered(PoolMode::Session, 0.003);
        assert_eq!(metrics.refusals(None, "not_permitted"), 2);
        assert!(metrics.gather().iter().any(|family| family.name() == "postern_cancels_total"));
    }
}
