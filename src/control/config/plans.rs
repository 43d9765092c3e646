//! The catalogue of service plans: the shipped one, or the operator's.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::files;
use super::problems::Problem;
use super::reading::{Place, Reading};
use super::section::{self, Section};
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
    let text = files::read_text(path).map_err(|why| place.problem(why)).ok()?;
    parse(&text, place, &path.display().to_string())
}

/// Reads a catalogue; its problems are reported at the key that names it.
fn parse(text: &str, place: &Place, name: &str) -> Option<Plans> {
    let reading = Reading::new(PathBuf::new());
    let plans = section::read_file(&reading, text, read_catalogue);
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
    let mut names = BTreeSet::new();
    let mut any = false;
    let rows = section.sections("plans", |section| {
        any = true;
        read_plan(section, &mut names)
    });
    if !any {
        section.at("plans").problem("expected at least one [[plans]]");
    }
    Plans(rows)
}

fn read_plan(section: &mut Section, names: &mut BTreeSet<Box<str>>) -> Option<CatalogueRow> {
    let name: Option<PlanName> = section.required("name");
    if let Some(PlanName(name)) = &name
        && !names.insert(name.clone())
    {
        let place = section.at("name");
        place.problem(format!("there is a plan \"{name}\" already"));
    }
    let max_connections = section.required_number("max_connections", 1..=100_000);
    let nodes = section.required_number("nodes", 1..=100);
    let backup_retention_days = section.number("backup_retention_days", 0, 0..=36_500);
    let multi_az = section.or("multi_az", false);
    let availability = section.or("availability", "not stated".to_owned());
    let plan = Plan {
        name: name?.0,
        max_connections: NonZeroU32::new(max_connections?)?,
        nodes: nodes?,
        backup_retention_days,
        multi_az,
    };
    Some(CatalogueRow { plan, availability })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Directory, service};
    use super::super::parse;

    #[test]
    fn the_catalogues_problems_are_reported_at_the_key_that_names_it() {
        let directory = Directory::new();
        let with = |catalogue: &str| {
            directory.file("plans.toml", catalogue, 0o644);
            let text = format!("[plans]\nfile = \"plans.toml\"\n{}", service(""));
            directory.file("orders.password", "x", 0o600);
            let problems = parse(&text, directory.path()).unwrap_err().to_string();
            problems.replace(&format!("{}/", directory.path().display()), "")
        };
        assert_eq!(with(""), "plans.file: plans.toml: plans: expected at least one [[plans]]");
        let row = "[[plans]]\nname = \"a\"\nmax_connections = 1\nnodes = 1\n";
        assert_eq!(
            with(&format!("{row}{row}")),
            "plans.file: plans.toml: plans[1].name: there is a plan \"a\" already"
        );
        assert_eq!(
            with("[[plans]]\nname = \"a b\"\nmax_connections = 100001\nnodes = 0\nstandbys = 1"),
            "plans.file: plans.toml: plans[0].name: expected a plan's name of 1 to 63 letters, digits, \"-\", \"_\" or \".\"; found \"a b\"\n\
         plans.file: plans.toml: plans[0].max_connections: expected a number from 1 to 100000, found 100001\n\
         plans.file: plans.toml: plans[0].nodes: expected a number from 1 to 100, found 0\n\
         plans.file: plans.toml: plans[0].standbys: unknown key; known here: name, max_connections, nodes, backup_retention_days, multi_az and availability"
        );
        assert_eq!(
            with("[[plans]]\nname = \"a\""),
            "plans.file: plans.toml: plans[0].max_connections: is missing; expected a number from 1 to 100000\n\
         plans.file: plans.toml: plans[0].nodes: is missing; expected a number from 1 to 100"
        );
        // The plans of another catalogue are those that services can be on.
        assert_eq!(
            with(row),
            "services[0].plan: no plan \"startup-4\" in the catalogue; there are a"
        );
    }
}
