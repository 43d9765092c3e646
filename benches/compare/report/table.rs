//! Tables in Markdown.

use std::fmt::Write as _;

use super::{Results, encryption};
use crate::contender::Kind;
use crate::point::{Bound, Encryption, Goal};
use crate::sample::Metric;

/// All numbers of a point: median (least–most) of the rounds.
pub fn of(results: &Results) -> String {
    let point = &results.point;
    let metrics = results.metrics();
    let mut text = format!("\n### {} ({})\n\n| |", point.name(), encryption(point));
    for metric in &metrics {
        let _ = write!(text, " {} |", metric.label());
    }
    let main = metrics.first().copied();
    text.push_str(" × PgBouncer |\n|---|");
    (0..=metrics.len()).for_each(|_| text.push_str("---|"));
    text.push('\n');
    for kind in Kind::ALL {
        row(&mut text, results, kind, &metrics, main);
    }
    text
}

fn row(text: &mut String, results: &Results, kind: Kind, metrics: &[Metric], main: Option<Metric>) {
    let is_here = metrics.iter().any(|metric| results.spread(kind, *metric).is_some());
    if !is_here {
        let reason = if kind == Kind::PgBouncer { "n/a" } else { return };
        let _ = writeln!(
            text,
            "| {} |{}",
            kind.label(),
            format!(" {reason} |").repeat(metrics.len() + 1)
        );
        return;
    }
    let _ = write!(text, "| {} |", kind.label());
    for metric in metrics {
        let _ = write!(text, " {} |", cell(results, kind, *metric));
    }
    let shown = if kind == Kind::Direct { Some(Metric::Throughput) } else { main };
    let ratio = shown.and_then(|metric| results.ratio(kind, metric));
    let ratio = ratio.filter(|_| kind != Kind::PgBouncer && kind != Kind::Direct);
    let _ = writeln!(text, " {} |", ratio.map_or_else(String::new, |ratio| ratio.text(2)));
}

/// A direct connection has no process in between whose CPU time counted.
fn cell(results: &Results, kind: Kind, metric: Metric) -> String {
    let spread = results.spread(kind, metric);
    let spread = spread.filter(|spread| kind != Kind::Direct || spread.median > 0.0);
    spread.map_or_else(String::new, |spread| spread.text(metric.decimals()))
}

/// What was to be reached, and whether it was.
pub fn goals(all: &[Results]) -> String {
    let mut text =
        String::from("\n## Goals\n\n| point | of | goal | measured | |\n|---|---|---|---|---|\n");
    for results in all {
        for goal in &results.point.goals {
            let _ = writeln!(text, "{}", goal_row(results, goal));
        }
    }
    for (label, encryption_wanted, bound) in [("plain", true, 0.9), ("TLS", false, 0.85)] {
        if let Some(median) = median_of_selects(all, encryption_wanted) {
            let verdict = verdict(median <= bound);
            let _ = writeln!(
                text,
                "| all selects, {label} | {} | median of × PgBouncer ≤ {bound}: {} | {median:.2} | {verdict} |",
                Kind::PosternOneWorker.label(),
                Metric::CpuPerTransaction.label(),
            );
        }
    }
    text.push_str("\n## Numbers\n\nMedian (least–most) of the rounds; the last column is the first number, divided round by round.\n");
    text
}

fn goal_row(results: &Results, goal: &Goal) -> String {
    let (sign, bound) = match goal.bound {
        Bound::RatioAtMost(bound) => ("× PgBouncer ≤", bound),
        Bound::RatioAtLeast(bound) => ("× PgBouncer ≥", bound),
        Bound::AtMost(bound) => ("≤", bound),
    };
    let measured = results.verdict(goal);
    let value = measured.map_or_else(|| "n/a".into(), |(value, _)| format!("{value:.2}"));
    let verdict = measured.map_or("", |(_, reached)| verdict(reached));
    let (point, of, metric) = (results.point.name(), goal.of.label(), goal.metric.label());
    format!("| {point} | {of} | {metric} {sign} {bound} | {value} | {verdict} |")
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "**missed**" }
}

/// The median over the transaction endpoint's `-S` points, where there are several.
fn median_of_selects(all: &[Results], plain: bool) -> Option<f64> {
    let is_meant = |results: &&Results| {
        let point = &results.point;
        point.name().starts_with("transaction-select-simple")
            && (point.encryption == Encryption::Plain) == plain
    };
    let ratios = all
        .iter()
        .filter(is_meant)
        .filter_map(|results| results.ratio(Kind::PosternOneWorker, Metric::CpuPerTransaction));
    let ratios: Vec<f64> = ratios.map(|ratio| ratio.median).collect();
    super::Spread::of(ratios).map(|spread| spread.median)
}
