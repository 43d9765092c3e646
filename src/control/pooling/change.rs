//! A change of some settings of the pools: what is not given stays.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PoolSettings;

/// Some of the settings, by their names. Each can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct PoolChange(Map<String, Value>);

impl PoolChange {
    /// The settings after the change.
    ///
    /// # Panics
    /// Never: a change that cannot be read is not made.
    #[must_use]
    pub fn apply(&self, settings: &PoolSettings) -> PoolSettings {
        self.try_apply(settings).expect("it was applied when it was made")
    }

    fn try_apply(&self, settings: &PoolSettings) -> Result<PoolSettings, serde_json::Error> {
        let mut all = fields(settings);
        all.extend(self.0.clone());
        serde_json::from_value(Value::Object(all))
    }

    /// Those of the settings that are not as usual.
    #[must_use]
    pub fn unusual(settings: &PoolSettings) -> Self {
        let usual = fields(&PoolSettings::default());
        let fields = fields(settings).into_iter();
        Self(fields.filter(|(key, value)| usual.get(key) != Some(value)).collect())
    }
}

fn fields(settings: &PoolSettings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("settings are an object of plain data: {other:?}"),
    }
}

impl TryFrom<Map<String, Value>> for PoolChange {
    type Error = serde_json::Error;

    fn try_from(given: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let change = Self(given);
        change.try_apply(&PoolSettings::default())?;
        Ok(change)
    }
}

impl From<PoolChange> for Map<String, Value> {
    fn from(change: PoolChange) -> Self {
        change.0
    }
}

/// `pool_size=20`, `query_timeout=30s`, `refuse_state=listen,load`: for command
/// lines.
impl FromStr for PoolChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let given = Map::from_iter([(key.to_owned(), value_of(value)?)]);
        Self::try_from(given).map_err(|error| error.to_string())
    }
}

fn value_of(text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let Ok(time) = humantime::parse_duration(text) else {
        return Ok(text.split(',').filter(|word| !word.is_empty()).collect());
    };
    match (time.as_secs(), time.subsec_nanos()) {
        (seconds, 0) => Ok(seconds.into()),
        _ => Err("expected whole seconds".to_owned()),
    }
}

impl Extend<PoolChange> for PoolChange {
    fn extend<I: IntoIterator<Item = PoolChange>>(&mut self, changes: I) {
        self.0.extend(changes.into_iter().flat_map(|change| change.0));
    }
}

impl std::fmt::Display for PoolChange {
    /// `pool_size=20, query_timeout=30`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = |(key, value): (&String, &Value)| format!("{key}={value}");
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PinReason;

    #[test]
    fn what_is_not_given_stays() {
        let mut change: PoolChange = "query_timeout=90s".parse().unwrap();
        change.extend(["refuse_state=listen,load", "read_only_fallback=true"].map(|text| {
            let change: PoolChange = text.parse().unwrap();
            change
        }));
        let before = PoolSettings { pool_size: 7, ..PoolSettings::default() };
        let after = change.apply(&before);
        assert_eq!((after.pool_size, after.query_timeout), (7, 90));
        assert_eq!(after.refuse_state, [PinReason::Listen, PinReason::Load]);
        assert!(after.read_only_fallback);
        let text = "pool_size=7, query_timeout=90, read_only_fallback=true, \
                    refuse_state=[\"listen\",\"load\"]";
        assert_eq!(PoolChange::unusual(&after).to_string(), text);
        let none: PoolChange = "refuse_state=".parse().unwrap();
        assert!(none.apply(&after).refuse_state.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_no_change() {
        for (text, why) in [
            ("pool_size", "KEY=VALUE"),
            ("pool_sise=3", "unknown field `pool_sise`"),
            ("pool_size=many", "invalid type"),
            ("pool_size=null", "invalid type"),
            ("query_timeout=1500ms", "whole seconds"),
            ("refuse_state=nothing", "unknown variant"),
        ] {
            let error = text.parse::<PoolChange>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(serde_json::from_str::<PoolChange>("{\"pool_size\": -1}").is_err());
    }
}
