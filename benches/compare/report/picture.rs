//! A picture: for every point, what Postern needs of what `PgBouncer` needs.

use std::fmt::Write as _;

use super::Results;
use crate::contender::Kind;
use crate::sample::Metric;

const WIDTH: f64 = 900.0;
const LABELS: f64 = 330.0;
/// Pixels of a ratio of 1.
const UNIT: f64 = 280.0;
const MOST: f64 = 1.8;
const ROW: f64 = 34.0;
const TOP: f64 = 56.0;

const BARS: [(Kind, &str); 2] = [(Kind::PosternOneWorker, "#2a6f97"), (Kind::Postern, "#89c2d9")];

/// The picture, SVG.
pub fn of(all: &[Results]) -> String {
    let shown: Vec<(&Results, Metric)> = all
        .iter()
        .filter_map(|results| Some((results, *results.metrics().first()?)))
        .filter(|(results, metric)| {
            BARS.iter().any(|(kind, _)| results.ratio(*kind, *metric).is_some())
        })
        .collect();
    let height = shown.iter().fold(TOP, |height, _| height + ROW) + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    legend(&mut svg);
    let mut y = TOP;
    for (results, metric) in shown {
        row(&mut svg, results, metric, y);
        y += ROW;
    }
    let one = LABELS + UNIT;
    let _ = writeln!(
        svg,
        "<line x1=\"{one}\" x2=\"{one}\" y1=\"{}\" y2=\"{y}\" stroke=\"#c1121f\"/>\n</svg>",
        TOP - 8.0
    );
    svg
}

fn legend(svg: &mut String) {
    text(
        svg,
        12.0,
        20.0,
        "start",
        "What Postern needs of what PgBouncer needs (red line: the same); shorter is better",
    );
    for (place, (kind, colour)) in BARS.iter().enumerate() {
        let x = if place == 0 { LABELS } else { LABELS + 160.0 };
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"30\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        text(svg, x + 18.0, 41.0, "start", kind.label());
    }
}

fn row(svg: &mut String, results: &Results, metric: Metric, y: f64) {
    let unit = metric.label().split(',').next().unwrap_or_default();
    let name = results.point.name();
    text(svg, LABELS - 10.0, y + 12.0, "end", &name);
    text(svg, LABELS - 10.0, y + 25.0, "end", unit);
    let ratios =
        BARS.iter().filter_map(|(kind, colour)| Some((results.ratio(*kind, metric)?, colour)));
    for (place, (ratio, colour)) in ratios.enumerate() {
        let top = if place == 0 { y } else { y + 14.0 };
        let length = ratio.median.min(MOST) * UNIT;
        let _ = writeln!(
            svg,
            "<rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"12\" fill=\"{colour}\"/>"
        );
        let (least, most) = (ratio.least.min(MOST) * UNIT, ratio.most.min(MOST) * UNIT);
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{2:.1}\" y1=\"{1}\" y2=\"{1}\" stroke=\"#333\"/>",
            LABELS + least,
            top + 6.0,
            LABELS + most,
        );
        text(
            svg,
            LABELS + length.max(most) + 6.0,
            top + 10.0,
            "start",
            &format!("{:.2}", ratio.median),
        );
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}
