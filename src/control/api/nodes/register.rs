//! `POST /v1/nodes`

use axum::extract::State;
use axum::response::Response;

use super::{seen, view};
use crate::control::api::authority::{Admin, Permit};
use crate::control::api::model::{NodeCreate, NodeView};
use crate::control::api::problem::{Problem, Problems};
use crate::control::api::request::{Body, Findings};
use crate::control::api::{Api, created, segment};
use crate::control::catalog::record::{Found, NodeRecord, Usage};
use crate::control::catalog::store::{Expect, Range};
use crate::control::catalog::{Audit, Versioned};
use crate::control::provision::look;
use crate::control::provision::superuser::Login;
use crate::domain::{NodeAddress, NodeTls, Secret};

/// Registers a node and looks at it. One that holds databases already is
/// `dirty`, and nothing is placed there.
#[utoipa::path(post, path = "/nodes", tag = "nodes", request_body = NodeCreate,
    responses((status = 201, description = "The node", body = NodeView), Problems))]
pub(in crate::control::api) async fn create(
    permit: Permit<Admin>,
    State(api): State<Api>,
    Body(body): Body<NodeCreate>,
) -> Result<Response, Problem> {
    check(&body)?;
    let password = Secret::new(body.password.clone());
    let record = seen(new_record(&body), look_with(&api, &body, &password).await);
    let detail = serde_json::json!({
        "address": record.address, "cloud": record.cloud, "region": record.region,
        "zone": record.zone, "user": record.user,
    });
    let audit = Audit { actor: permit.caller.name, action: "node.create".to_owned(), detail };
    let shown = record.clone();
    let version = api.with_catalog(move |catalog| {
        let nodes: Vec<Versioned<NodeRecord>> = catalog.list(Range::ALL)?;
        let same =
            nodes.iter().find(|n| n.record.id == record.id || n.record.address == record.address);
        if let Some(same) = same {
            let NodeRecord { id, address, .. } = &same.record;
            return Err(Problem::conflict(format!(
                "Node {id} is registered already, at {address}."
            )));
        }
        let change =
            catalog.change().put(&record, Expect::Absent).seal(&record.secret(), &password);
        Ok(change.audit(&format!("nodes/{}", record.id), &audit).commit()?)
    });
    let version = version.await?;
    Ok(created(&format!("/v1/nodes/{}", segment(&shown.id)), version, view(shown)))
}

fn check(body: &NodeCreate) -> Result<(), Problem> {
    let mut findings = Findings::default();
    if let Some(id) = &body.id
        && !is_id(id)
    {
        findings
            .add("/id", "expected 1 to 63 of a-z, 0-9, \".\" and \"-\", not beginning with these");
    }
    if let Err(error) = body.address.parse::<NodeAddress>() {
        findings.add("/address", error);
    }
    findings.check_text("/cloud", &body.cloud);
    findings.check_text("/region", &body.region);
    if let Some(zone) = &body.zone {
        findings.check_text("/zone", zone);
    }
    findings.check_text("/user", &body.user);
    if body.password.is_empty() || body.password.len() > 1_000 || body.password.contains('\0') {
        findings.add("/password", "expected 1 to 1000 bytes");
    }
    if body.capacity.is_some_and(|capacity| !(1..=100_000).contains(&capacity)) {
        findings.add("/capacity", "expected 1 to 100000");
    }
    let verifies = matches!(body.node_tls, NodeTls::VerifyCa | NodeTls::VerifyFull);
    if verifies && body.node_ca.is_none() {
        findings.add("/node_ca", "is missing; this node_tls verifies the node's certificate");
    }
    findings.finish()
}

fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let legal = |byte: u8| plain(byte) || matches!(byte, b'-' | b'.');
    (1..=63).contains(&id.len()) && id.bytes().all(legal) && plain(id.as_bytes()[0])
}

/// `db1.internal:5432` → `db1.internal-5432`
fn id_of(address: &str) -> String {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let id: String = address.chars().map(plain).collect();
    let id = id.trim_matches(['-', '.']);
    id[id.len().saturating_sub(63)..].trim_start_matches(['-', '.']).to_owned()
}

fn new_record(body: &NodeCreate) -> NodeRecord {
    NodeRecord {
        id: body.id.clone().unwrap_or_else(|| id_of(&body.address)),
        address: body.address.clone(),
        cloud: body.cloud.clone(),
        region: body.region.clone(),
        zone: body.zone.clone(),
        capacity: body.capacity,
        node_tls: body.node_tls,
        node_ca: body.node_ca.clone(),
        user: body.user.clone(),
        usage: Usage::Free,
        found: None,
        unreachable: None,
        looked_at: None,
    }
}

async fn look_with(
    api: &Api,
    body: &NodeCreate,
    password: &Secret<String>,
) -> Result<Found, String> {
    let provisioner = api.provisioner().map_err(|problem| problem.detail)?;
    let login = Login {
        address: body.address.parse().map_err(|error| format!("{error}"))?,
        tls: body.node_tls,
        authorities: body.node_ca.as_deref().map(Into::into),
        user: body.user.clone(),
        password: password.clone(),
    };
    look::look(provisioner.dialer(), &login).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_the_address() {
        for (address, id) in [
            ("db1.Internal:5432", "db1.internal-5432"),
            ("[2001:db8::1]:5432", "2001-db8--1--5432"),
            ("/var/run/postgresql:5432", "var-run-postgresql-5432"),
        ] {
            assert_eq!(id_of(address), id);
            assert!(is_id(id), "{id}");
        }
        assert!(is_id(&id_of(&format!("{}:1", "a-".repeat(60)))));
    }
}
