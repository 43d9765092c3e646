//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::Fallible;
use crate::point::{self, Point};

/// Compares Postern with `PgBouncer` and a direct connection, in interleaved rounds.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench", max_term_width = 100)]
pub struct Options {
    /// What to measure: words that a point's name must hold, joined by "-", such as
    /// "session", "select-64" or "connect-rsa". Without any: the points that have a goal.
    #[arg(value_name = "POINT")]
    pub names: Vec<String>,
    /// Rounds; in each, every contender has its turn.
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Seconds of each turn, after one to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Where the table and the picture go.
    #[arg(long, default_value = "target/compare")]
    pub out: PathBuf,
    /// Only print the names of all points.
    #[arg(long)]
    pub list: bool,
    /// What `cargo bench` adds to the arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub fn read() -> Self {
        Self::parse()
    }

    /// How long one turn is measured.
    pub fn turn(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The points that were asked for.
    pub fn selected(&self) -> Fallible<Vec<Point>> {
        let all = point::all();
        if self.names.is_empty() {
            return Ok(all.into_iter().filter(Point::has_goal).collect());
        }
        for name in &self.names {
            if !all.iter().any(|point| point.answers_to(name)) {
                return Err(format!("no point is called {name}; --list names them all").into());
            }
        }
        let asked = |point: &Point| self.names.iter().any(|name| point.answers_to(name));
        Ok(all.into_iter().filter(asked).collect())
    }
}
