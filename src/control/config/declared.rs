//! What the services have declared so far: what must be unique among them, and
//! what other keys may refer to.
//!
//! A name counts as declared whether or not the rest of its service can be
//! read, so that one mistake is not reported as two.

use std::collections::{BTreeMap, BTreeSet};

use super::reading::Place;
use super::wording;
use crate::domain::{NodeAddress, ServiceName};

/// The names and nodes of the services read so far.
#[derive(Default)]
pub(super) struct Declared {
    names: BTreeSet<ServiceName>,
    /// The path of the first key that lists each node.
    nodes: BTreeMap<NodeAddress, String>,
}

impl Declared {
    /// Whether there was no service at all.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A name may be given once.
    pub(super) fn add_name(&mut self, name: &ServiceName, place: &Place) {
        if !self.names.insert(name.clone()) {
            place.problem(format!("there is a service \"{name}\" already"));
        }
    }

    /// The default service must be one of those declared.
    pub(super) fn check_default(&self, name: &ServiceName, place: &Place) {
        if self.names.contains(name) {
            return;
        }
        let names: Vec<&str> = self.names.iter().map(ServiceName::as_str).collect();
        let question = match wording::nearest(name.as_str(), &names) {
            Some(near) => format!("; is \"{near}\" meant?"),
            None => String::new(),
        };
        place.problem(format!("no service \"{name}\" is declared{question}"));
    }

    /// A node may be listed once in a service, under the key given. Another
    /// service may list it too, but then what both plans allow adds up there.
    pub(super) fn add_node(&mut self, node: &NodeAddress, place: &Place, nodes_key: &str) {
        match self.nodes.get(node) {
            Some(first) if first.starts_with(nodes_key) => {
                place.problem(format!("{node} is listed at {first} already"));
            }
            Some(first) => place.warning(format!(
                "{node} is listed at {first} too: the connections of both plans add up there"
            )),
            None => drop(self.nodes.insert(node.clone(), place.key().to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{accepted, read, refused, service};

    #[test]
    fn a_node_of_two_services_is_a_warning() {
        let other = service("").replace("orders\"", "carts\"");
        let settings = accepted(&format!("{}{other}", service("")));
        assert_eq!(
            settings.warnings[0].to_string(),
            "services[1].nodes[0]: db1:5432 is listed at services[0].nodes[0] too: the connections of both plans add up there"
        );
    }

    #[test]
    fn the_default_service_is_declared() {
        let routed = |default: &str, services: &str| {
            format!("[routing]\ndefault_service = \"{default}\"\n{services}")
        };
        accepted(&routed("orders", &service("")));
        refused(
            &routed("order", &service("")),
            &["routing.default_service: no service \"order\" is declared; is \"orders\" meant?"],
        );
        refused(&routed("a", ""), &["routing.default_service: no service \"a\" is declared"]);
        // A service that cannot be read is declared all the same.
        let text = routed("orders", &service("plan = \"startup4\""));
        assert_eq!(read(&text).unwrap_err().len(), 1);
    }
}
