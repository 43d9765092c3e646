//! Under which circumstances the numbers were measured.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use crate::Fallible;
use crate::options::Options;
use crate::servers::Stage;

/// A list in Markdown.
pub fn circumstances(stage: &Stage, options: &Options) -> Fallible<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "- {name}: {value}");
    line("date", &humantime::format_rfc3339_seconds(SystemTime::now()).to_string())?;
    line("CPU", &format!("{}, {} cores", cpu_model()?, cores()))?;
    line("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim())?;
    line("Postern", &stage.postern.version)?;
    // Also that of the binary, unless another one was named.
    line("source of this harness", &revision())?;
    line("PgBouncer", &stage.pgbouncer.version)?;
    line("PostgreSQL and pgbench", &version(stage)?)?;
    line("certificates", "ECDSA P-256, and RSA-2048 where a point says so; TLS 1.3")?;
    line("connections to PostgreSQL", "TCP on the loopback, plain")?;
    line("rounds", &format!("{} of {} s", options.rounds, options.seconds))?;
    line("load at the beginning", &load()?)?;
    if !stage.postern.pools {
        line(
            "caution",
            "this Postern does not pool: its transaction endpoint has session semantics",
        )?;
    }
    Ok(text)
}

/// Of the last 1, 5 and 15 minutes.
pub fn load() -> Fallible<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(", "))
}

fn cpu_model() -> Fallible<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, model)| model);
    Ok(model.trim().to_owned())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn revision() -> String {
    let mut git = Command::new("git");
    let output = git.args(["describe", "--always", "--dirty"]).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "unknown".into())
}

fn version(stage: &Stage) -> Fallible<String> {
    let output = stage.installation().command("pgbench").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("pgbench ").to_owned())
}
