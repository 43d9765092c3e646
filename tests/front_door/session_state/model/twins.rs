//! Two worlds that differ only in how their sessions are connected: one
//! program runs in both, step by step, and every answer is compared.
//!
//! A step that would have to wait for another session to let go of its server
//! connection is left out of both.

use std::fmt;
use std::ops::AddAssign;

use postern::cluster::Cluster;

use super::program::Program;
use super::run::Run;
use super::world::Way;
use crate::stage::{Audit, Stage, Wanted};

/// Sessions of a program.
pub const SESSIONS: usize = 5;
/// Server connections that the pooled ones share.
pub const POOL: u32 = 3;

/// Where the two worlds differ.
#[derive(Debug)]
pub struct Mismatch {
    /// Behind which step; none: in what the sessions see at the end.
    pub at: String,
    pub pooled: Vec<String>,
    pub direct: Vec<String>,
}

/// What a program has come to where both worlds agree.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub left_out: u64,
    /// Steps behind which the session kept its connection.
    pub pinned: u64,
}

/// The stage of both worlds.
pub struct Twins {
    pub stage: Stage,
    pub direct: Way,
    pub pooled: Way,
    server: &'static Cluster,
    mismatches: u64,
}

impl Twins {
    /// Two databases of one role, alike in all.
    pub fn new(server: &'static Cluster, kind: &str, is_superuser: bool) -> Self {
        let pool_size = format!("pool_size = {POOL}");
        let stage = Stage::new(&Wanted {
            kind,
            server: Some(server),
            settings: &[("services", &pool_size)],
            audit: Audit::Found,
            ..Wanted::default()
        });
        let role = stage.role.clone();
        let twin = format!("{role}_direct");
        server.psql(&format!("CREATE DATABASE {twin} OWNER {role}")).unwrap();
        let roles = include_str!("roles.sql").replace("{role}", &role);
        server.psql(&roles).unwrap();
        if is_superuser {
            server.psql(&format!("ALTER ROLE {role} SUPERUSER")).unwrap();
        }
        for database in [&role, &twin] {
            if kind == "vector" {
                server.psql_in(database, "CREATE EXTENSION vector").unwrap();
            }
            server.psql_in(database, include_str!("objects.sql")).unwrap();
        }
        let pooled = Way {
            port: stage.transaction_port,
            user: format!("{role}.orders"),
            database: role.clone(),
        };
        let direct = Way { port: server.port(), user: role, database: twin };
        Self { stage, server, direct, pooled, mismatches: 0 }
    }

    /// Runs a program in both worlds.
    pub fn run(&mut self, program: &Program) -> Result<Tally, Mismatch> {
        for database in [&self.direct.database, &self.pooled.database] {
            self.server.psql_in(database, "SELECT public.begin_anew()").unwrap();
        }
        let mut run = Run::new(self);
        let outcome = run.all(program);
        run.leave();
        let found = self.stage.postern().door().metrics.mismatches(&"orders".parse().unwrap());
        let new = found - std::mem::replace(&mut self.mismatches, found);
        let of_audit = Mismatch {
            at: "the audit".to_owned(),
            pooled: vec![format!("{new} mismatches: see the log")],
            direct: Vec::new(),
        };
        outcome.and_then(|tally| if new == 0 { Ok(tally) } else { Err(of_audit) })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.steps += more.steps;
        self.left_out += more.left_out;
        self.pinned += more.pinned;
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} differs", self.at)?;
        let only = |these: &[String], those: &[String]| -> String {
            let these = these.iter().filter(|answer| !those.contains(answer));
            these.flat_map(|answer| ["\n    ", answer.as_str()]).collect()
        };
        writeln!(f, "  only on the transaction endpoint:{}", only(&self.pooled, &self.direct))?;
        writeln!(f, "  only on the server:{}", only(&self.direct, &self.pooled))?;
        write!(f, "  {} and {} answers", self.pooled.len(), self.direct.len())
    }
}
