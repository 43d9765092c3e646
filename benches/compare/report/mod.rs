//! The results, as a table and as a picture.

mod machine;
mod picture;
mod statistics;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::Fallible;
use crate::contender::Kind;
use crate::options::Options;
use crate::point::{Bound, Encryption, Endpoint, Goal, KeyType, Point};
use crate::sample::{Metric, Sample};
use crate::servers::{Stage, pgbouncer, postern};
use statistics::Spread;

/// The samples of one point.
#[derive(Clone, Debug)]
pub struct Results {
    point: Point,
    /// In the order of the rounds.
    samples: Vec<(Kind, Sample)>,
}

impl Results {
    pub fn new(point: &Point) -> Self {
        Self { point: point.clone(), samples: Vec::new() }
    }

    pub fn add(&mut self, kind: Kind, sample: Sample) {
        self.samples.push((kind, sample));
    }

    /// All numbers, as a table.
    pub fn table(&self) -> String {
        table::of(self)
    }

    fn metrics(&self) -> Vec<Metric> {
        self.samples.first().map(|(_, sample)| sample.metrics().collect()).unwrap_or_default()
    }

    fn values(&self, kind: Kind, metric: Metric) -> Vec<f64> {
        let of_kind = self.samples.iter().filter(|(of, _)| *of == kind);
        of_kind.filter_map(|(_, sample)| sample.value(metric)).collect()
    }

    fn spread(&self, kind: Kind, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(kind, metric))
    }

    /// Times what `PgBouncer` has in the same round.
    fn ratio(&self, kind: Kind, metric: Metric) -> Option<Spread> {
        let (own, other) = (self.values(kind, metric), self.values(Kind::PgBouncer, metric));
        Spread::of(own.iter().zip(other).map(|(own, other)| own / other).collect())
            .filter(|ratio| ratio.median.is_finite())
    }

    /// The goal's value here, and whether it is reached; none without PgBouncer.
    fn verdict(&self, goal: &Goal) -> Option<(f64, bool)> {
        let ratio = || self.ratio(goal.of, goal.metric).map(|ratio| ratio.median);
        Some(match goal.bound {
            Bound::RatioAtMost(bound) => ratio().map(|value| (value, value <= bound))?,
            Bound::RatioAtLeast(bound) => ratio().map(|value| (value, value >= bound))?,
            Bound::AtMost(bound) => {
                let value = self.spread(goal.of, goal.metric)?.median;
                (value, value <= bound)
            }
        })
    }
}

/// The report, written anew after every point.
pub struct Report {
    directory: PathBuf,
    circumstances: String,
    configurations: String,
    results: Vec<Results>,
    skipped: Vec<String>,
}

impl Report {
    pub fn begin(stage: &Stage, options: &Options) -> Fallible<Self> {
        fs::create_dir_all(&options.out)
            .map_err(|error| format!("{}: {error}", options.out.display()))?;
        let circumstances = machine::circumstances(stage, options)?;
        print!("{circumstances}");
        Ok(Self {
            directory: options.out.clone(),
            circumstances,
            configurations: configurations(stage),
            results: Vec::new(),
            skipped: Vec::new(),
        })
    }

    pub fn add(&mut self, results: &Results) -> Fallible<()> {
        self.results.push(results.clone());
        self.write()
    }

    pub fn skip(&mut self, point: &Point, reason: &str) {
        let line = format!("{}: {reason}", point.name());
        eprintln!("bench: skipped {line}");
        self.skipped.push(line);
    }

    pub fn finish(&mut self) -> Fallible<()> {
        let _ = writeln!(self.circumstances, "- load at the end: {}", machine::load()?);
        self.write()
    }

    pub fn whereabouts(&self) -> String {
        format!("written: {0}/results.md, {0}/results.svg", self.directory.display())
    }

    fn write(&self) -> Fallible<()> {
        fs::write(self.directory.join("results.md"), self.text())?;
        fs::write(self.directory.join("results.svg"), picture::of(&self.results))?;
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = format!("# Results\n\n{}\n", self.circumstances);
        text.push_str(&table::goals(&self.results));
        self.results.iter().for_each(|results| text.push_str(&table::of(results)));
        if !self.skipped.is_empty() {
            text.push_str("\n## Not measured\n\n");
            for line in &self.skipped {
                let _ = writeln!(text, "- {line}");
            }
        }
        text.push_str(&self.configurations);
        text
    }
}

fn configurations(stage: &Stage) -> String {
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    let postern = postern::configuration(stage, 0, KeyType::Ecdsa, address(5432), address(6432));
    let mut text = format!(
        "\n## Configurations\n\nPostern, here with its default workers:\n\n```toml\n{postern}```\n"
    );
    for endpoint in [Endpoint::Session, Endpoint::Transaction] {
        let file = pgbouncer::configuration(stage, endpoint, address(6432));
        let _ = write!(text, "\nPgBouncer:\n\n```ini\n{file}```\n");
    }
    let directory = stage.directory().display().to_string();
    text.replace(&directory, "…")
}

/// What a heading says of a point's encryption.
fn encryption(point: &Point) -> &'static str {
    match point.encryption {
        Encryption::Plain => "plain",
        Encryption::Tls(KeyType::Ecdsa) => "TLS, ECDSA P-256",
        Encryption::Tls(KeyType::Rsa) => "TLS, RSA-2048",
    }
}
