//! A gigabyte of rows of 100 bytes, by psql.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::contender::Contender;
use crate::process::Cpu;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

const LIMIT: Duration = Duration::from_secs(120);

/// With its newline; 10,000,000 of them are a gigabyte.
const ROW: usize = 100;
const ROWS: usize = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    Out,
    In,
}

impl Copy {
    pub fn run(self, stage: &Stage, contender: &Contender) -> Fallible<Sample> {
        let (before, start) = (contender.cpu()?, Instant::now());
        match self {
            Self::Out => copy_out(stage, contender)?,
            Self::In => copy_in(stage, contender)?,
        }
        let time = start.elapsed();
        let Cpu { user, system } = contender.cpu()?.since(before);
        Ok(Sample::default()
            .with(Metric::CpuPerGigabyte, (user + system).as_secs_f64())
            .with(Metric::UserPerGigabyte, user.as_secs_f64())
            .with(Metric::Seconds, time.as_secs_f64()))
    }
}

fn copy_out(stage: &Stage, contender: &Contender) -> Fallible<()> {
    let mut psql = psql(stage, contender);
    psql.arg(format!(
        "\\copy (SELECT repeat('x', {}) FROM generate_series(1, {ROWS})) TO '/dev/null'",
        ROW - 1
    ));
    expect(&psql.output()?, &format!("COPY {ROWS}"))
}

/// The server reads every row and keeps none.
fn copy_in(stage: &Stage, contender: &Contender) -> Fallible<()> {
    let mut psql = psql(stage, contender);
    psql.arg("COPY copied FROM STDIN WHERE length(line) <> 99").stdin(Stdio::piped());
    let mut child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().ok_or("no stdin")?;
    let row = [&[b'x'; ROW - 1][..], b"\n"].concat();
    let block = row.repeat(1_000);
    let written = (0..ROWS / 1_000).try_for_each(|_| input.write_all(&block));
    drop(input);
    // If it could not be written, psql says why.
    expect(&child.wait_with_output()?, "COPY 0")?;
    Ok(written?)
}

fn psql(stage: &Stage, contender: &Contender) -> Command {
    let mut psql = contender.client(stage, "psql", LIMIT);
    psql.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-c"]);
    psql
}

fn expect(output: &Output, tag: &str) -> Fallible<()> {
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && said.trim() == tag {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("psql said {said:?}, not {tag:?}: {complaint}").into())
}
