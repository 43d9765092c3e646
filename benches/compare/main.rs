//! Postern beside PgBouncer and a direct connection, in interleaved rounds:
//! `scripts/bench`. What is measured, and how, is in `benches/README.md`.
//!
//! ```text
//! Options ─▶ points ─▶ for each point: start its contenders
//!                        for each round: measure one after the other ─▶ Sample
//!                        stop them ─▶ Results ─▶ table and picture
//! ```
//!
//! What must stay true: every measurement proves that it did its work and
//! fails loudly otherwise; nothing runs without an end; everything listens on
//! the loopback; nothing is left behind, however this process ends.

#![allow(unreachable_pub, reason = "this binary has one module tree and no users outside it")]

mod contender;
mod options;
mod point;
mod process;
mod report;
mod sample;
mod servers;
mod work;

use std::error::Error;
use std::process::ExitCode;

use contender::Contender;
use options::Options;
use point::Point;
use report::{Report, Results};
use servers::Stage;

/// A failure ends the whole run: half a comparison misleads.
type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let options = Options::read();
    if options.list {
        for point in point::all() {
            println!("{}", point.name());
        }
        return ExitCode::SUCCESS;
    }
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Fallible<()> {
    let points = options.selected()?;
    progress("starting PostgreSQL");
    let stage = Stage::start()?;
    let mut report = Report::begin(&stage, options)?;
    for point in &points {
        if let Some(obstacle) = point.obstacle(&stage) {
            report.skip(point, &obstacle);
            continue;
        }
        let results = measure(&stage, point, options)?;
        report.add(&results)?;
        print!("{}", results.table());
    }
    report.finish()?;
    println!("\n{}", report.whereabouts());
    Ok(())
}

/// All rounds of one point.
fn measure(stage: &Stage, point: &Point, options: &Options) -> Fallible<Results> {
    let mut results = Results::new(point);
    let mut contenders = start(stage, point)?;
    let work = point.prepare(stage, &contenders, options)?;
    for round in 0..options.rounds {
        progress(&format!("{} {}/{}", point.name(), round + 1, options.rounds));
        let count = contenders.len();
        for turn in 0..count {
            // Each goes first as often as the others.
            let contender = &mut contenders[(turn + round) % count];
            if work.needs_a_fresh_process() {
                contender.restart(stage, point)?;
            }
            let sample = work.run(stage, contender)?;
            results.add(contender.kind(), sample);
        }
    }
    Ok(results)
}

fn start(stage: &Stage, point: &Point) -> Fallible<Vec<Contender>> {
    let kinds = point.contenders(stage).into_iter();
    kinds.map(|kind| Contender::start(stage, point, kind)).collect()
}

/// Progress goes to the standard error.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}
