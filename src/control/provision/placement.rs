//! Which free nodes a service is placed on: a decision over the inventory.
//!
//! Postern makes no standbys on nodes of the operator's: nodes that hold the
//! same data (one `system_identifier`) come together, a primary with its
//! standbys. A service gets one such group, or part of one that has more
//! standbys than its plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::catalog::record::{NodeRecord, ServiceKind, Usage};
use crate::domain::Plan;

/// Connections that Postern takes on a node beside its clients' (decision 9).
const OWN_CONNECTIONS: u32 = 3;

/// What nodes are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the nodes must offer.
    pub kind: ServiceKind,
    /// Where; nothing: anywhere.
    pub cloud: Option<&'a str>,
    /// Where; nothing: anywhere.
    pub region: Option<&'a str>,
}

/// Chooses nodes, the primary first.
///
/// # Errors
/// What is missing, in a sentence.
pub fn choose<'n>(
    wanted: Wanted<'_>,
    nodes: &'n [NodeRecord],
) -> Result<Vec<&'n NodeRecord>, String> {
    let here: Vec<_> = nodes.iter().filter(|node| is_there(wanted, node)).collect();
    let usable = here.iter().copied().filter(|node| unfit(wanted, node).is_none());
    let mut groups: BTreeMap<&str, Vec<&NodeRecord>> = BTreeMap::new();
    for node in usable {
        let data = node.found.as_ref().map_or("", |found| &found.system_identifier);
        groups.entry(data).or_default().push(node);
    }
    // The smallest group that will do, so that larger ones are left.
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(Vec::len);
    let chosen = groups.iter().find_map(|group| of_group(wanted.plan, group));
    chosen.ok_or_else(|| missing(wanted, &here, &groups))
}

/// Whether these nodes, named by the caller, will do.
///
/// # Errors
/// Everything that is in the way.
pub fn check<'n>(
    wanted: Wanted<'_>,
    nodes: &[&'n NodeRecord],
) -> Result<Vec<&'n NodeRecord>, Vec<String>> {
    let mut problems: Vec<_> = nodes
        .iter()
        .filter_map(|node| unfit(wanted, node).map(|why| format!("node {}: {why}", node.id)))
        .collect();
    let promised = wanted.plan.nodes as usize;
    if nodes.len() != promised {
        let (count, name) = (nodes.len(), &wanted.plan.name);
        problems.push(format!("{count} nodes are named, plan \"{name}\" has {promised}"));
    }
    let data: BTreeSet<_> =
        nodes.iter().filter_map(|node| Some(&node.found.as_ref()?.system_identifier)).collect();
    if data.len() > 1 {
        problems.push(
            "the nodes do not hold the same data: their standbys are none of their primary's"
                .to_owned(),
        );
    }
    let primaries = nodes.iter().filter(|node| is_primary(node)).count();
    if problems.is_empty() && primaries != 1 {
        problems.push(format!("{primaries} of the nodes take writes, one must"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut ordered = nodes.to_vec();
    ordered.sort_by_key(|node| !is_primary(node));
    Ok(ordered)
}

fn is_there(wanted: Wanted<'_>, node: &NodeRecord) -> bool {
    wanted.cloud.is_none_or(|cloud| cloud == node.cloud)
        && wanted.region.is_none_or(|region| region == node.region)
}

/// Why a node cannot be used, if it cannot.
fn unfit(wanted: Wanted<'_>, node: &NodeRecord) -> Option<String> {
    match &node.usage {
        Usage::Free => {}
        Usage::Used(service) => return Some(format!("service \"{service}\" uses it")),
        Usage::Dirty => return Some("it is dirty: it holds what somebody left there".to_owned()),
    }
    if let Some(why) = &node.unreachable {
        return Some(format!("it does not answer: {why}"));
    }
    let Some(found) = &node.found else {
        return Some("it has never been looked at".to_owned());
    };
    let needed = needed_connections(wanted.plan, found.reserved);
    if found.max_connections < needed {
        return Some(format!(
            "max_connections is {}, plan \"{}\" needs {needed}",
            found.max_connections, wanted.plan.name
        ));
    }
    let promised = wanted.plan.max_connections.get();
    if node.capacity.is_some_and(|capacity| capacity < promised) {
        return Some(format!("its capacity is below the plan's {promised} connections"));
    }
    let has_vector = found.extensions.iter().any(|name| name == "vector");
    if wanted.kind == ServiceKind::Vector && !has_vector {
        return Some("pgvector is not installed there".to_owned());
    }
    None
}

/// `max_connections` of a node that keeps a plan's promise (decision 9).
#[must_use]
pub fn needed_connections(plan: &Plan, reserved: u32) -> u32 {
    plan.max_connections.get() + reserved + OWN_CONNECTIONS
}

fn is_primary(node: &NodeRecord) -> bool {
    node.found.as_ref().is_some_and(|found| !found.standby)
}

/// The nodes of a group that a plan would get, over as many zones as it can.
fn of_group<'n>(plan: &Plan, group: &[&'n NodeRecord]) -> Option<Vec<&'n NodeRecord>> {
    let mut primaries = group.iter().copied().filter(|node| is_primary(node));
    let (primary, None) = (primaries.next()?, primaries.next()) else {
        return None;
    };
    // A plan of one node gets no primary that others replicate from.
    if plan.nodes == 1 && group.len() > 1 {
        return None;
    }
    let mut chosen = vec![primary];
    let mut zones = BTreeSet::from([&primary.zone]);
    let mut standbys: Vec<_> = group.iter().copied().filter(|node| !is_primary(node)).collect();
    while chosen.len() < plan.nodes as usize {
        let elsewhere = standbys.iter().position(|node| !zones.contains(&node.zone));
        let index = match elsewhere {
            Some(index) => index,
            None if plan.multi_az || standbys.is_empty() => return None,
            None => 0,
        };
        let standby = standbys.remove(index);
        zones.insert(&standby.zone);
        chosen.push(standby);
    }
    Some(chosen)
}

fn missing(wanted: Wanted<'_>, here: &[&NodeRecord], groups: &[Vec<&NodeRecord>]) -> String {
    let plan = wanted.plan;
    let place = match (wanted.cloud, wanted.region) {
        (Some(cloud), Some(region)) => format!(" in {cloud} {region}"),
        (Some(one), None) | (None, Some(one)) => format!(" in {one}"),
        (None, None) => String::new(),
    };
    let wants = match (plan.nodes, plan.multi_az) {
        (1, _) => "one free node".to_owned(),
        (nodes, false) => format!("a free primary with {} free standbys", nodes - 1),
        (nodes, true) => {
            format!("a free primary with {} free standbys, each in a zone of its own", nodes - 1)
        }
    };
    let usable: usize = groups.iter().map(Vec::len).sum();
    let mut text = format!(
        "Plan \"{}\" needs {wants}{place}; of {} nodes there, {usable} could be used",
        plan.name,
        here.len()
    );
    let unfit =
        here.iter().filter_map(|node| Some(format!("{}: {}", node.id, unfit(wanted, node)?)));
    let unfit: Vec<_> = unfit.take(10).collect();
    if !unfit.is_empty() {
        text = format!("{text} ({})", unfit.join("; "));
    }
    text + ". Register nodes with `postern node add`."
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::control::catalog::record::Found;
    use crate::domain::NodeTls;

    fn plan(nodes: u32, multi_az: bool) -> Plan {
        let max_connections = NonZeroU32::new(100).unwrap();
        Plan { name: "test".into(), max_connections, nodes, backup_retention_days: 0, multi_az }
    }

    /// `primary a z1`: its role, its data, its zone.
    fn node(id: &str, role: &str, data: &str, zone: &str) -> NodeRecord {
        let found = Found {
            version: "16.4".to_owned(),
            max_connections: 200,
            reserved: 3,
            standby: role == "standby",
            system_identifier: data.to_owned(),
            extensions: Vec::new(),
            databases: Vec::new(),
        };
        NodeRecord {
            id: id.to_owned(),
            address: format!("{id}:5432"),
            cloud: "aws".to_owned(),
            region: "eu-west-1".to_owned(),
            zone: Some(zone.to_owned()),
            capacity: None,
            node_tls: NodeTls::Prefer,
            node_ca: None,
            user: "postgres".to_owned(),
            usage: Usage::Free,
            found: Some(found),
            unreachable: None,
            looked_at: None,
        }
    }

    fn wanted(plan: &Plan) -> Wanted<'_> {
        Wanted { plan, kind: ServiceKind::Postgresql, cloud: Some("aws"), region: None }
    }

    fn chosen(plan: &Plan, nodes: &[NodeRecord]) -> Result<Vec<String>, String> {
        let chosen = choose(wanted(plan), nodes)?;
        Ok(chosen.into_iter().map(|node| node.id.clone()).collect())
    }

    #[test]
    fn a_single_node_is_one_that_nobody_replicates_from() {
        let nodes = [
            node("a1", "primary", "a", "z1"),
            node("a2", "standby", "a", "z2"),
            node("b1", "primary", "b", "z1"),
        ];
        assert_eq!(chosen(&plan(1, false), &nodes).unwrap(), ["b1"]);
        let none = chosen(&plan(1, false), &nodes[..2]).unwrap_err();
        assert!(none.contains("needs one free node in aws; of 2 nodes there"), "{none}");
    }

    #[test]
    fn standbys_follow_their_primary_into_different_zones() {
        let nodes = [
            node("a1", "standby", "a", "z1"),
            node("a2", "primary", "a", "z1"),
            node("a3", "standby", "a", "z2"),
            node("b1", "standby", "b", "z3"),
        ];
        assert_eq!(chosen(&plan(2, true), &nodes).unwrap(), ["a2", "a3"]);
        assert_eq!(chosen(&plan(3, false), &nodes).unwrap(), ["a2", "a3", "a1"]);
        let none = chosen(&plan(3, true), &nodes).unwrap_err();
        assert!(none.contains("each in a zone of its own"), "{none}");
    }

    #[test]
    fn what_is_in_the_way_is_said_of_each_node() {
        let mut nodes = vec![node("a", "primary", "a", "z"); 5];
        nodes[0].usage = Usage::Used("carts".to_owned());
        nodes[1].usage = Usage::Dirty;
        nodes[2].unreachable = Some("refused".to_owned());
        nodes[3].found.as_mut().unwrap().max_connections = 105;
        nodes[4].capacity = Some(50);
        let why = chosen(&plan(1, false), &nodes).unwrap_err();
        for text in [
            "service \"carts\" uses it",
            "dirty",
            "does not answer: refused",
            "max_connections is 105, plan \"test\" needs 106",
            "capacity",
        ] {
            assert!(why.contains(text), "{text} in {why}");
        }
        let single = plan(1, false);
        let vector = Wanted { kind: ServiceKind::Vector, ..wanted(&single) };
        let why = choose(vector, &[node("a", "primary", "a", "z")]).unwrap_err();
        assert!(why.contains("pgvector is not installed"), "{why}");
    }

    #[test]
    fn named_nodes_are_checked_all_at_once() {
        let (a, b) = (node("a", "primary", "a", "z"), node("b", "primary", "b", "z"));
        let problems = check(wanted(&plan(3, false)), &[&a, &b]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        let (c, d) = (node("c", "standby", "a", "z"), node("a", "primary", "a", "z"));
        let ordered = check(wanted(&plan(2, false)), &[&c, &d]).unwrap();
        assert_eq!(ordered[0].id, "a");
        assert!(check(wanted(&plan(2, false)), &[&c, &c]).is_err());
    }
}
