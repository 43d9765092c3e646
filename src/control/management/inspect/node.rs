//! One node: can it be reached, is it what its service needs, and may the
//! management role do its work there?

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::finding::Findings;
use super::{hba, roles};
use crate::control::config;
use crate::control::management::error::NodeError;
use crate::control::management::node::OWN_CONNECTIONS;
use crate::control::management::probe::{self, Look};
use crate::control::management::session::{Session, Traits, value};
use crate::directory::Node;
use crate::domain::{Kind, NodeTls};
use crate::upstream::Dialer;
use crate::upstream::dial::DialError;

/// Major versions that Postern is tested with.
const MAJORS: RangeInclusive<u32> = 13..=18;

/// What a node turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Standby,
    Unseen,
}

/// Looks at one node.
pub(super) async fn inspect(
    dialer: &Dialer,
    node: &Node,
    service: &config::Service,
    within: Duration,
    findings: &mut Findings<'_>,
) -> Role {
    let session =
        match Session::open(dialer, node, &service.management, within, Arc::default()).await {
            Ok(session) => session,
            Err(error) => {
                findings.problem(unreachable(&error, service));
                return Role::Unseen;
            }
        };
    let look = match look_closely(&session, service, findings).await {
        Ok(look) => look,
        Err(error) => {
            findings.problem(format!("could not be looked at to the end: {error}"));
            return Role::Unseen;
        }
    };
    if look.writable() { Role::Primary } else { Role::Standby }
}

async fn look_closely(
    session: &Session,
    service: &config::Service,
    findings: &mut Findings<'_>,
) -> Result<Look, NodeError> {
    let (look, _) = probe::look(session, service.kind).await?;
    check_version(look.traits, findings);
    check_connections(look.traits, service, findings);
    if service.kind == Kind::Vector && look.pgvector != Some(true) {
        findings.problem(
            "pgvector is not installed, and a node of a vector service without it is not routed \
             to: install the package postgresql-NN-pgvector there",
        );
    }
    check_grants(session, service, findings).await?;
    roles::check(session, findings).await?;
    hba::check(session, &service.management, findings).await?;
    Ok(look)
}

/// Whether the nodes of a service add up.
pub(super) fn compare(roles: &[Role], findings: &mut Findings<'_>) {
    let count = |wanted| roles.iter().filter(|role| **role == wanted).count();
    match (count(Role::Primary), count(Role::Unseen)) {
        (1, _) => {}
        (0, 0) => findings.problem("none of its nodes is a primary: promote one"),
        // Each of them has been reported.
        (0, unseen) if unseen == roles.len() => {}
        (0, _) => findings.problem("no primary was found among the nodes that answered"),
        (several, _) => findings.problem(format!(
            "{several} of its nodes take writes: nodes of one service are one primary and its \
             standbys, so all but one must become standbys or belong to another service"
        )),
    }
}

fn check_version(traits: Traits, findings: &mut Findings<'_>) {
    let major = traits.version / 10_000;
    if !MAJORS.contains(&major) {
        let (first, last) = MAJORS.into_inner();
        findings
            .problem(format!("runs PostgreSQL {major}; Postern knows versions {first} to {last}"));
    }
}

/// Decision 9.
fn check_connections(traits: Traits, service: &config::Service, findings: &mut Findings<'_>) {
    let promised = service.plan.max_connections.get();
    let needed = promised + traits.reserved + OWN_CONNECTIONS;
    let max_connections = traits.max_connections;
    if max_connections < needed {
        findings.problem(format!(
            "max_connections is {max_connections}, plan \"{}\" needs {needed} (its {promised}, {} \
             reserved ones and {OWN_CONNECTIONS} for Postern): set max_connections = {needed} and \
             restart the node, or clients get fewer than the plan promises",
            service.plan.name, traits.reserved
        ));
    }
}

const GRANTS: &str = "\
    SELECT pg_catalog.current_setting('is_superuser') = 'on',
           pg_catalog.pg_has_role('pg_monitor', 'USAGE'),
           pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'),
           r.rolconnlimit, pg_catalog.current_database()::pg_catalog.text
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

async fn check_grants(
    session: &Session,
    service: &config::Service,
    findings: &mut Findings<'_>,
) -> Result<(), NodeError> {
    let user = &service.management.user;
    let row = session.one_row(GRANTS, &[]).await?;
    let superuser: bool = value(&row, 0)?;
    let limit: i32 = value(&row, 3)?;
    let database: String = value(&row, 4)?;
    if session.lookup_form.is_none() {
        findings.problem(format!(
            "the management role \"{user}\" may not look verifiers up, so nobody can log in: run \
             the output of `postern node sql` as a superuser in database \"{database}\""
        ));
    }
    for (column, role, use_of_it) in [
        (1, "pg_monitor", "see which backends are there"),
        (2, "pg_signal_backend", "end backends that do not end by themselves"),
    ] {
        if !superuser && !value::<bool>(&row, column)? {
            findings.problem(format!(
                "the management role \"{user}\" cannot {use_of_it}: GRANT {role} TO \"{}\", as the \
                 output of `postern node sql` does",
                user.replace('"', "\"\"")
            ));
        }
    }
    let own = i32::try_from(OWN_CONNECTIONS).unwrap_or(i32::MAX);
    if !superuser && (0..own).contains(&limit) {
        findings.warning(format!(
            "the management role \"{user}\" has CONNECTION LIMIT {limit}: {own} leave room for a \
             check beside a running Postern"
        ));
    }
    Ok(())
}

/// What to do about a node that cannot be logged in on.
fn unreachable(error: &NodeError, service: &config::Service) -> String {
    let management = &service.management;
    let (user, database) = (&management.user, &management.database);
    match error {
        NodeError::Dial(dial) => format!("{error}{}", advice(dial, service.node_tls)),
        NodeError::Login { sqlstate, .. } => {
            let advice = match sqlstate.as_str() {
                "28P01" => "password_file does not hold the role's password, or the role has none",
                "28000" => "let the role in from here by a line of pg_hba.conf with scram-sha-256",
                "3D000" => "name a database that exists as management.database",
                "53300" => "raise max_connections, or the role's CONNECTION LIMIT",
                _ => "see the node's own log",
            };
            format!("role \"{user}\", database \"{database}\": {error}: {advice}")
        }
        other => format!("role \"{user}\", database \"{database}\": {other}"),
    }
}

fn advice(error: &DialError, tls: NodeTls) -> &'static str {
    match error {
        DialError::Connect(_) | DialError::Timeout => {
            ": is the server running, does it listen there (listen_addresses), and is there no \
             firewall in between?"
        }
        DialError::NoTls => ": set ssl = on and a certificate there, or node_tls = \"prefer\"",
        DialError::Tls(_) if tls == NodeTls::VerifyFull => {
            ": its certificate must be signed by an authority in node_ca and name the host as it \
             is written in nodes"
        }
        DialError::Tls(_) if tls == NodeTls::VerifyCa => {
            ": its certificate must be signed by an authority in node_ca"
        }
        DialError::Tls(_) | DialError::Authority(_) => "",
    }
}
