//! Switchovers, and their rehearsals.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A switchover that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchoverOrder {
    /// The node to be promoted, as its address or as Patroni calls it;
    /// whichever is fit unless given.
    #[serde(default)]
    pub to: Option<String>,
}

/// A switchover that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchoverView {
    /// The primary before.
    pub from: String,
    /// The primary after.
    pub to: String,
    /// How long new transactions were held, in seconds.
    pub held: f64,
}

/// A drill that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillOrder {
    /// The node to be promoted, as its address or as Patroni calls it;
    /// whichever is fit unless given.
    #[serde(default)]
    pub to: Option<String>,
    /// How many canaries write; 8 unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 64)]
    pub writers: Option<u16>,
}
