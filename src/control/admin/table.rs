//! The status as people read it on a terminal.

use std::fmt;
use std::time::Duration;

use super::status::{ClientCounts, NodeStatus, ServiceStatus, Stage, Status};

const HEAD: [&str; 13] = [
    "SERVICE", "KIND", "PLAN", "NODE", "ROLE", "TIMELINE", "LAG", "SLOTS", "CLOSING", "WAITING",
    "CLIENTS", "ACTIVE", "IN TX",
];

type Row = [String; HEAD.len()];

impl fmt::Display for Status {
    /// The program, its clients, a row for each node, and what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uptime = Duration::from_secs(self.uptime_seconds.into());
        let uptime = humantime::format_duration(uptime);
        let (version, pid, phase) = (&self.version, self.pid, self.phase);
        writeln!(f, "postern {version}, process {pid}, up {uptime}: {phase}")?;
        for listener in &self.listeners {
            let address = visible(&listener.address);
            writeln!(f, "listening on {address} ({})", listener.endpoint)?;
        }
        writeln!(f, "{}\n", self.clients)?;
        write_aligned(f, &self.services.iter().flat_map(rows).collect::<Vec<_>>())?;
        self.services.iter().try_for_each(|s| write_trouble(f, s))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        })
    }
}

impl fmt::Display for ClientCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "clients: {} ({} logging in, {} idle, {} active, {} idle in transaction)",
            self.total(),
            self.login,
            self.idle,
            self.active,
            self.idle_in_transaction
        )
    }
}

fn write_trouble(f: &mut fmt::Formatter<'_>, service: &ServiceStatus) -> fmt::Result {
    match &service.unavailable {
        Some(why) => {
            let (name, epoch, decided) = (&service.name, &service.epoch, &service.decided);
            writeln!(f, "\n{name} has no primary: {}", visible(why))?;
            writeln!(f, "  since epoch {epoch}: {decided}")
        }
        None => Ok(()),
    }
}

/// A row for each node; what is the service's own stands in the first.
fn rows(service: &ServiceStatus) -> Vec<Row> {
    let mut rows: Vec<Row> = service.nodes.iter().map(node_row).collect();
    if rows.is_empty() {
        rows.push(Row::default());
    }
    let clients = &service.clients;
    let own = [&service.name, &service.kind, &service.plan];
    rows[0][..3].clone_from_slice(&own.map(|text| visible(text)));
    rows[0][10] = clients.total().to_string();
    rows[0][11] = clients.active.to_string();
    rows[0][12] = clients.idle_in_transaction.to_string();
    rows
}

fn node_row(node: &NodeStatus) -> Row {
    let lacks = match node.pgvector {
        Some(false) => ", no pgvector",
        Some(true) | None => "",
    };
    let others = match node.other_posterns {
        0 => String::new(),
        1 => ", 1 other Postern".to_owned(),
        others => format!(", {others} other Posterns"),
    };
    let slots = &node.slots;
    let mut row = Row::default();
    row[3] = visible(&node.address);
    row[4] = format!("{}{lacks}{others}", node.role.label());
    row[5] = node.timeline.map(|timeline| timeline.to_string()).unwrap_or_default();
    row[6] = node.lag_seconds.map(|seconds| format!("{seconds} s")).unwrap_or_default();
    row[7] = format!("{}/{}", slots.used, slots.limit);
    row[8] = slots.closing.to_string();
    row[9] = slots.waiting.to_string();
    row
}

fn write_aligned(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let head = HEAD.map(str::to_owned);
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
        let cells = rows.iter().chain([&head]).map(|row| &row[column]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    for row in [&head].into_iter().chain(rows) {
        let cells = row.iter().zip(widths);
        let line: Vec<_> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

/// A text without what a terminal would obey.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
