//! What can be measured: the points, their names and their goals.

use crate::Fallible;
use crate::contender::{Contender, Kind};
use crate::options::Options;
use crate::sample::Metric;
use crate::servers::Stage;
use crate::work::{Copy, Load, Protocol, Script, Work, WorkKind};

/// Server connections of a pool.
pub const POOL_SIZE: u32 = 20;

const IDLE_CLIENTS: u32 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Session,
    Transaction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Plain,
    Tls(KeyType),
}

/// The key of the certificate that both proxies show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    Ecdsa,
    Rsa,
}

/// One line of the comparison.
#[derive(Clone, Debug)]
pub struct Point {
    pub endpoint: Endpoint,
    pub encryption: Encryption,
    pub kind: WorkKind,
    pub goals: Vec<Goal>,
}

/// What a contender's median has to reach.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub of: Kind,
    pub metric: Metric,
    pub bound: Bound,
}

#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Times what `PgBouncer` needs, in the same round.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    AtMost(f64),
}

/// All points, in the order of the tables.
pub fn all() -> Vec<Point> {
    let mut points = session();
    points.extend(connect());
    for script in [Script::Select, Script::TpcB] {
        for protocol in [Protocol::Simple, Protocol::Extended, Protocol::Prepared] {
            points.extend(pooled(script, protocol));
        }
    }
    points.extend([256, 2_000].map(at_a_rate));
    points.extend([Encryption::Plain, Encryption::Tls(KeyType::Ecdsa)].map(idle));
    points.push(system_calls());
    points
}

const BOTH: [Encryption; 2] = [Encryption::Plain, Encryption::Tls(KeyType::Ecdsa)];

fn session() -> Vec<Point> {
    let mut points = Vec::new();
    for encryption in BOTH {
        let load = Load { script: Script::Select, protocol: Protocol::Simple, clients: 16 };
        let goal = ratio(Kind::PosternOneWorker, Metric::CpuPerTransaction, 1.0);
        points.push(Point::new(Endpoint::Session, encryption, WorkKind::Load(load), vec![goal]));
    }
    for copy in [Copy::Out, Copy::In] {
        for encryption in BOTH {
            let judged = copy == Copy::Out && encryption == Encryption::Plain;
            let goal = ratio(Kind::PosternOneWorker, Metric::CpuPerGigabyte, 0.6);
            let goals = if judged { vec![goal] } else { Vec::new() };
            points.push(Point::new(Endpoint::Session, encryption, WorkKind::Copy(copy), goals));
        }
    }
    points
}

fn connect() -> Vec<Point> {
    let keys = [Encryption::Plain, Encryption::Tls(KeyType::Ecdsa), Encryption::Tls(KeyType::Rsa)];
    let mut points = Vec::new();
    for endpoint in [Endpoint::Session, Endpoint::Transaction] {
        for encryption in keys {
            // A session has a new server connection each time, unlike PgBouncer's.
            let is_judged = endpoint == Endpoint::Transaction;
            let goal = ratio(Kind::PosternOneWorker, Metric::CpuPerConnection, 0.7);
            let goals = if is_judged { vec![goal] } else { Vec::new() };
            points.push(Point::new(endpoint, encryption, WorkKind::Connect, goals));
        }
    }
    points
}

fn pooled(script: Script, protocol: Protocol) -> Vec<Point> {
    let mut points = Vec::new();
    for encryption in BOTH {
        for clients in [1, 16, 64, 256, 2_000] {
            let load = Load { script, protocol, clients };
            let goals = match (script, protocol) {
                (Script::Select, Protocol::Simple) => goals_of_a_select(encryption, clients),
                _ => Vec::new(),
            };
            let kind = WorkKind::Load(load);
            points.push(Point::new(Endpoint::Transaction, encryption, kind, goals));
        }
    }
    points
}

fn goals_of_a_select(encryption: Encryption, clients: u32) -> Vec<Goal> {
    let cpu = Metric::CpuPerTransaction;
    if encryption != Encryption::Plain {
        return vec![ratio(Kind::PosternOneWorker, cpu, 0.85)];
    }
    let mut goals = vec![ratio(Kind::PosternOneWorker, cpu, 1.0)];
    let faster = |bound| Goal {
        of: Kind::Postern,
        metric: Metric::Throughput,
        bound: Bound::RatioAtLeast(bound),
    };
    goals.extend(match clients {
        1 => vec![faster(1.0)],
        16 => vec![ratio(Kind::Postern, cpu, 1.2)],
        _ => vec![ratio(Kind::Postern, cpu, 1.0), faster(1.1)],
    });
    goals
}

fn at_a_rate(clients: u32) -> Point {
    let goal = ratio(Kind::Postern, Metric::Percentile99, 0.8);
    Point::new(Endpoint::Transaction, Encryption::Plain, WorkKind::Rate { clients }, vec![goal])
}

fn idle(encryption: Encryption) -> Point {
    let kilobytes = if encryption == Encryption::Plain { 2.0 } else { 14.0 };
    let goal = absolute(Kind::Postern, Metric::Memory, kilobytes);
    let kind = WorkKind::Idle { clients: IDLE_CLIENTS };
    Point::new(Endpoint::Transaction, encryption, kind, vec![goal])
}

fn system_calls() -> Point {
    let goals = [(Metric::Reads, 2.0), (Metric::Writes, 2.0), (Metric::Futexes, 0.2)];
    let goals = goals.map(|(metric, bound)| absolute(Kind::Postern, metric, bound));
    Point::new(Endpoint::Transaction, Encryption::Plain, WorkKind::SystemCalls, goals.into())
}

fn ratio(of: Kind, metric: Metric, at_most: f64) -> Goal {
    Goal { of, metric, bound: Bound::RatioAtMost(at_most) }
}

fn absolute(of: Kind, metric: Metric, at_most: f64) -> Goal {
    Goal { of, metric, bound: Bound::AtMost(at_most) }
}

impl Point {
    fn new(endpoint: Endpoint, encryption: Encryption, kind: WorkKind, goals: Vec<Goal>) -> Self {
        Self { endpoint, encryption, kind, goals }
    }

    /// `transaction-select-simple-64-plain`.
    pub fn name(&self) -> String {
        let endpoint = match self.endpoint {
            Endpoint::Session => "session",
            Endpoint::Transaction => "transaction",
        };
        let encryption = match self.encryption {
            Encryption::Plain => "plain",
            Encryption::Tls(KeyType::Ecdsa) => "tls",
            Encryption::Tls(KeyType::Rsa) => "tls-rsa",
        };
        format!("{endpoint}-{}-{encryption}", self.kind.name())
    }

    /// Whether the name holds all these words, joined by `-`.
    pub fn answers_to(&self, words: &str) -> bool {
        let name = self.name();
        let has = |word: &str| name.split('-').any(|part| part == word);
        words == "all" || words.split('-').all(has)
    }

    pub fn has_goal(&self) -> bool {
        !self.goals.is_empty()
    }

    /// Who is measured here.
    pub fn contenders(&self, stage: &Stage) -> Vec<Kind> {
        let takes_part = |kind: &Kind| match kind {
            // Its server has the other certificate.
            Kind::Direct => {
                self.kind.has_direct() && self.encryption != Encryption::Tls(KeyType::Rsa)
            }
            Kind::PgBouncer => stage.pgbouncer.prepares() || !self.needs_pooled_statements(),
            Kind::PosternOneWorker => self.kind.has_one_worker(),
            Kind::Postern => true,
        };
        Kind::ALL.into_iter().filter(takes_part).collect()
    }

    fn needs_pooled_statements(&self) -> bool {
        self.endpoint == Endpoint::Transaction && self.kind.prepares()
    }

    /// Why the point cannot be measured with this build of Postern.
    pub fn obstacle(&self, stage: &Stage) -> Option<String> {
        let wants = self.kind.clients();
        let pools = stage.postern.pools || self.endpoint == Endpoint::Session;
        let has_room = pools || wants <= 256;
        (!has_room).then(|| format!("{wants} clients need a pool, which this Postern lacks"))
    }

    /// What is done in each turn.
    pub fn prepare(
        &self,
        stage: &Stage,
        contenders: &[Contender],
        options: &Options,
    ) -> Fallible<Work> {
        Work::prepare(self.kind, stage, contenders, options.turn())
    }
}
