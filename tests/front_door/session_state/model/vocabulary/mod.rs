//! Everything that a program may say, by kind.

mod data;
mod keeping;
mod settings;
mod statements;
mod transactions;

use super::program::{Program, Step};
use super::twins::SESSIONS;
use crate::random::Random;

/// Names of prepared statements; SQL and the protocol share them.
pub const STATEMENTS: [&str; 5] = ["-", "s1", "s2", "p1", "p2"];

/// What a session of this number may say.
type Kind = fn(&mut Random, usize) -> String;

/// The kinds, and how often each is meant to occur.
const KINDS: [(u64, Kind); 6] = [
    (30, settings::text),
    (22, transactions::text),
    (30, statements::text),
    (16, keeping::text),
    (8, keeping::end),
    (14, data::text),
];

/// The program of a seed.
pub fn program(seed: u64) -> Program {
    let mut random = Random(seed);
    let length = 10 + random.below(50);
    Program((0..length).map(|_| step(&mut random)).collect())
}

fn step(random: &mut Random) -> Step {
    let session = random.index(SESSIONS);
    let all: u64 = KINDS.iter().map(|(weight, _)| weight).sum();
    let mut chosen = random.below(all);
    let kind = KINDS.iter().find(|(weight, _)| {
        let found = chosen < *weight;
        chosen = chosen.saturating_sub(*weight);
        found
    });
    Step { session, says: kind.expect("less than all").1(random, session) }
}

/// One of these, for a session: `{n}` is its number.
fn one_of(random: &mut Random, texts: &[&str], session: usize) -> String {
    random.pick(texts).replace("{n}", &session.to_string())
}
