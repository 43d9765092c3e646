//! The catalogue of service plans: the shipped one, or the operator's.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::files;
use super::problems::Problem;
use super::section::{Place, Reading, Section};
use super::value::TextSetting;
use crate::domain::Plan;

/// The catalogue that is used when the configuration names no other.
const SHIPPED: &str = include_str!("../../../config/plans.toml");

/// The plans that services can be on, in the catalogue's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans(Vec<CatalogueRow>);

/// A plan, and what is told to customers about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueRow {
    /// The plan's promises.
    pub plan: Plan,
    /// What a customer may expect when a node fails, in words.
    pub availability: String,
}

impl Plans {
    /// The plan of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Plan> {
        let mut plans = self.iter().map(|row| &row.plan);
        plans.find(|plan| &*plan.name == name)
    }

    /// The rows, in the catalogue's order.
    pub fn iter(&self) -> impl Iterator<Item = &CatalogueRow> {
        self.0.iter()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.iter().map(|row| &*row.plan.name).collect()
    }
}

/// A plan's name: letters, digits, `-`, `_` and `.`, at most 63 of them.
struct PlanName(Box<str>);

#[derive(Debug, thiserror::Error)]
#[error("expected {}", <PlanName as TextSetting>::EXPECTED)]
struct InvalidPlanName;

impl TextSetting for PlanName {
    const EXPECTED: &'static str =
        "a plan's name of 1 to 63 letters, digits, \"-\", \"_\" or \".\"";
}

impl std::str::FromStr for PlanName {
    type Err = InvalidPlanName;

    fn from_str(text: &str) -> Result<Self, InvalidPlanName> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let valid = (1..=63).contains(&text.len()) && text.bytes().all(legal);
        valid.then(|| Self(text.into())).ok_or(InvalidPlanName)
    }
}

/// Reads `[plans]` and the catalogue that it names; `None` after a problem
/// with the catalogue.
pub(super) fn read(section: &mut Section) -> Option<Plans> {
    let file: Option<PathBuf> = section.optional("file");
    let place = section.at("file");
    match file {
        None => parse(SHIPPED, &place, "the shipped catalogue"),
        Some(path) => read_file(&path, &place),
    }
}

fn read_file(path: &Path, place: &Place) -> Option<Plans> {
    let text = files::read_text(path)
        .map_err(|why| place.problem(why))
        .ok()?;
    parse(&text, place, &path.display().to_string())
}

/// Reads a catalogue; its problems are reported at the key that names it.
fn parse(text: &str, place: &Place, name: &str) -> Option<Plans> {
    let reading = Reading::new(PathBuf::new());
    let plans = reading.read(text, read_catalogue);
    let report = |problem: &Problem| place.problem(format!("{name}: {problem}"));
    match reading.finish(plans) {
        Ok((plans, _)) => Some(plans),
        Err(problems) => {
            problems.iter().for_each(report);
            None
        }
    }
}

pub(super) fn read_catalogue(section: &mut Section) -> Plans {
    let mut names = Vec::new();
    let rows = section.sections("plans", |section| read_plan(section, &mut names));
    if names.is_empty() {
        section
            .at("plans")
            .problem("expected at least one [[plans]]");
    }
    Plans(rows)
}

fn read_plan(section: &mut Section, names: &mut Vec<Box<str>>) -> Option<CatalogueRow> {
    let name: Option<PlanName> = section.required("name");
    let name = name.map_or_else(|| "".into(), |name| name.0);
    if !name.is_empty() && names.contains(&name) {
        let place = section.at("name");
        place.problem(format!("there is a plan {name:?} already"));
    }
    names.push(name.clone());
    let max_connections = section.required_number("max_connections", 1..=100_000);
    let nodes = section.required_number("nodes", 1..=100);
    let backup_retention_days = section.number("backup_retention_days", 0, 0..=36_500);
    let multi_az = section.or("multi_az", false);
    let availability = section.or("availability", "not stated".to_owned());
    let plan = Plan {
        name,
        max_connections: NonZeroU32::new(max_connections?)?,
        nodes: nodes?,
        backup_retention_days,
        multi_az,
    };
    Some(CatalogueRow { plan, availability })
}
