//! A session on the transaction endpoint is a session: random programs of
//! statements of every kind are run by five sessions on three server
//! connections and by the same sessions on connections of their own, and every
//! answer must be the same, and everything that a session can see of its state.
//!
//! Every hand-over is audited, too (decision 28). What is known to differ, and
//! is said to in the README, is not in the vocabulary: what functions do to the
//! session inside, `currval` of what happened before its first use, a custom
//! setting that is NULL here and empty there.
//!
//! A program that fails is made shorter, printed, and written to `cases/`,
//! where it is run from then on. `scripts/model` runs fresh seeds for as long
//! as it is told; among the other tests, the same few are run each time.

mod answer;
mod look;
mod program;
mod run;
mod shrink;
mod twins;
mod vocabulary;
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postern::cluster::Cluster;

use crate::stage::{server, vector_server};
use program::Program;
use twins::{Mismatch, Tally, Twins};

/// Where programs are kept that once differed.
const CASES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/front_door/session_state/model/cases");
/// The programs that run among the other tests.
const USUAL: u64 = 24;
/// How many run at once on each server when it goes by time: most of it is
/// waiting for one another's answers.
const LANES: usize = 5;
/// Between two lines about how far it has come.
const NEWS: Duration = Duration::from_secs(10);

/// A server, the kind of its service, and whether the role is a superuser.
type Kind = (fn() -> &'static Cluster, &'static str, bool);

const KINDS: [Kind; 2] = [(server, "postgresql", false), (vector_server, "vector", true)];

/// Which seeds are run.
struct Seeds {
    next: AtomicU64,
    until: Until,
}

enum Until {
    Seed(u64),
    Time(Instant),
}

impl Seeds {
    /// The same few; or fresh ones for `POSTERN_MODEL_SECONDS`, or those from
    /// `POSTERN_MODEL_SEED`.
    fn wanted() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        let Some(seconds) = number("POSTERN_MODEL_SECONDS") else {
            return Self { next: AtomicU64::new(0), until: Until::Seed(USUAL) };
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let first = number("POSTERN_MODEL_SEED").unwrap_or(now.as_secs() << 20);
        let until = Until::Time(Instant::now() + Duration::from_secs(seconds));
        Self { next: AtomicU64::new(first), until }
    }

    fn next(&self) -> Option<u64> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let goes_on = match self.until {
            Until::Seed(last) => seed < last,
            Until::Time(end) => Instant::now() < end,
        };
        goes_on.then_some(seed)
    }
}

#[test]
fn no_program_tells_the_transaction_endpoint_from_a_server() {
    let seeds = &Seeds::wanted();
    let lanes = if matches!(seeds.until, Until::Time(_)) { LANES } else { 1 };
    std::thread::scope(|scope| {
        for kind in KINDS.into_iter().cycle().take(lanes * KINDS.len()) {
            scope.spawn(move || run_seeds(kind, seeds));
        }
    });
}

fn run_seeds((server, kind, is_superuser): Kind, seeds: &Seeds) {
    let mut twins = Twins::new(server(), kind, is_superuser);
    let (mut programs, mut total, mut told) = (0, Tally::default(), Instant::now());
    while let Some(seed) = seeds.next() {
        match twins.run(&vocabulary::program(seed)) {
            Ok(tally) => total += tally,
            Err(mismatch) => fail(&mut twins, seed, &mismatch),
        }
        programs += 1;
        if told.elapsed() > NEWS {
            told = Instant::now();
            println!("{kind}: seed {seed}, {programs} programs, {total:?}");
        }
    }
    println!("{kind}: {programs} programs, {total:?}: no mismatch");
    assert!(total.steps > programs * 10, "{total:?}");
}

/// Makes the program of a seed as short as it gets, keeps and prints it.
fn fail(twins: &mut Twins, seed: u64, first: &Mismatch) -> ! {
    println!("seed {seed}: {first}\nmaking it shorter");
    let program = shrink::shrink(vocabulary::program(seed), |program| twins.run(program).is_err());
    let Err(last) = twins.run(&program) else {
        panic!("seed {seed} does not fail each time: {first}\n{program}");
    };
    let name = format!("{CASES}/seed-{seed}.txt");
    std::fs::write(&name, format!("# Found by seed {seed}.\n{program}")).unwrap();
    panic!("seed {seed}, kept as {name}:\n{program}\n{last}");
}

#[test]
fn what_once_differed_differs_no_more() {
    let mut names: Vec<_> =
        std::fs::read_dir(Path::new(CASES)).unwrap().collect::<Result<_, _>>().unwrap();
    names.sort_by_key(std::fs::DirEntry::file_name);
    assert!(!names.is_empty());
    std::thread::scope(|scope| {
        for (server, kind, is_superuser) in KINDS {
            let names = &names;
            scope.spawn(move || {
                let mut twins = Twins::new(server(), kind, is_superuser);
                for name in names {
                    let text = std::fs::read_to_string(name.path()).unwrap();
                    let program: Program = text.parse().unwrap();
                    if let Err(mismatch) = twins.run(&program) {
                        panic!("{}: {kind}: {mismatch}", name.path().display());
                    }
                }
            });
        }
    });
}
