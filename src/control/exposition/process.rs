//! What the system says about this process, at constant cost: no directory
//! is walked, however many descriptors are open.

use std::fs;

use prometheus::proto::MetricFamily;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::family::{Family, value};

/// What proc(5) says in `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Clock ticks, in user and kernel mode.
    cpu_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

/// The families of the process; what the system does not tell is left out.
pub(super) fn families() -> Vec<MetricFamily> {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.and_then(|text| parse(&text));
    let mut families = stat.map_or(vec![], |stat| of_stat(&stat));
    families.extend(open_descriptors());
    families.extend(most_descriptors());
    families
}

fn of_stat(stat: &Stat) -> Vec<MetricFamily> {
    let cpu = value(stat.cpu_ticks) / value(clock_ticks_per_second());
    let resident = value(stat.resident_pages) * value(page_size());
    [
        Family::counter("process_cpu_seconds_total", "CPU time used, in user and kernel mode", &[])
            .with(&[], cpu),
        Family::gauge("process_resident_memory_bytes", "Memory that is not swapped out", &[])
            .with(&[], resident),
        Family::gauge("process_threads", "Threads", &[]).with(&[], value(stat.threads)),
    ]
    .map(Family::finish)
    .into()
}

/// Since Linux 6.2 the directory's size is the number of descriptors; before,
/// it was always 0.
fn open_descriptors() -> Option<MetricFamily> {
    let open = fs::metadata("/proc/self/fd").ok()?.len();
    let family = Family::gauge("process_open_fds", "Descriptors that are open", &[]);
    (open > 0).then(|| family.with(&[], value(open)).finish())
}

fn most_descriptors() -> Option<MetricFamily> {
    let most = getrlimit(Resource::Nofile).current?;
    let family = Family::gauge("process_max_fds", "Descriptors that may be open", &[]);
    Some(family.with(&[], value(most)).finish())
}

/// Fields are counted behind the last parenthesis, as the name before it may
/// hold anything. The numbers are those of proc(5).
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 1 2 3 0 -1 4194304 90 0 0 0 7 5 0 0 20 0 11 0 99 123 77 18446";
        let expected = Stat { cpu_ticks: 12, threads: 11, resident_pages: 77 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("42 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let families = families();
        let sample = |name: &str| {
            let family = families.iter().find(|family| family.name() == name);
            family.unwrap().get_metric()[0].get_gauge().get_value()
        };
        assert!(sample("process_resident_memory_bytes") > 100_000.0);
        assert!(sample("process_threads") >= 1.0);
        assert!(sample("process_max_fds") >= 3.0);
    }
}
