//! What makes a service out of servers: its roles, its database, its
//! extension. Each step can be repeated, and leaves the same.

use super::superuser::{Superuser, identifier, scram_verifier};
use crate::control::management::{NodeError, node_sql};
use crate::domain::Secret;

/// The customer's databases may be made by his own roles, and with them the
/// roles of his applications.
const ADMIN_RIGHTS: &str = "LOGIN CREATEDB CREATEROLE";

/// The role with which Postern looks after a service (decision 20).
///
/// # Errors
/// [`NodeError`].
pub async fn management_role(
    session: &Superuser,
    role: &str,
    password: &Secret<String>,
) -> Result<(), NodeError> {
    session.run(&node_sql(role)).await?;
    set_verifier(session, role, &scram_verifier(password)).await
}

/// The customer's first role.
///
/// # Errors
/// [`NodeError`].
pub async fn admin_role(
    session: &Superuser,
    role: &str,
    password: &Secret<String>,
) -> Result<(), NodeError> {
    make_role(session, role, ADMIN_RIGHTS, password).await
}

/// Another role, which may log in and nothing else.
///
/// # Errors
/// [`NodeError`].
pub async fn role(
    session: &Superuser,
    role: &str,
    password: &Secret<String>,
) -> Result<(), NodeError> {
    make_role(session, role, "LOGIN", password).await
}

async fn make_role(
    session: &Superuser,
    role: &str,
    rights: &str,
    password: &Secret<String>,
) -> Result<(), NodeError> {
    let name = identifier(role);
    let verb = if has_role(session, role).await? { "ALTER" } else { "CREATE" };
    let verifier = scram_verifier(password);
    session.run(&format!("{verb} ROLE {name} {rights} PASSWORD '{}'", verifier.expose())).await
}

/// Whether the node has such a role.
///
/// # Errors
/// [`NodeError`].
pub async fn has_role(session: &Superuser, role: &str) -> Result<bool, NodeError> {
    session.finds("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", role).await
}

/// What the node keeps of a role's password.
///
/// # Errors
/// [`NodeError`].
pub async fn verifier(
    session: &Superuser,
    role: &str,
) -> Result<Option<Secret<String>>, NodeError> {
    let kept = "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1";
    let rows = session.rows(kept, &[&role]).await?;
    let text = rows.first().and_then(|row| row.get::<_, Option<String>>(0));
    Ok(text.map(Secret::new))
}

/// Gives a role the password of this verifier, which holds nothing that needs
/// quoting.
///
/// # Errors
/// [`NodeError`].
pub async fn set_verifier(
    session: &Superuser,
    role: &str,
    verifier: &Secret<String>,
) -> Result<(), NodeError> {
    let name = identifier(role);
    session.run(&format!("ALTER ROLE {name} PASSWORD '{}'", verifier.expose())).await
}

/// Takes a role away; what it owns becomes the admin role's.
///
/// # Errors
/// [`NodeError`]; a role that owns something in another database stays.
pub async fn drop_role(session: &Superuser, role: &str, heir: &str) -> Result<(), NodeError> {
    if !has_role(session, role).await? {
        return Ok(());
    }
    let (name, heir) = (identifier(role), identifier(heir));
    session
        .run(&format!("REASSIGN OWNED BY {name} TO {heir}; DROP OWNED BY {name}; DROP ROLE {name}"))
        .await
}

/// A database of a role's.
///
/// # Errors
/// [`NodeError`].
pub async fn database(session: &Superuser, name: &str, owner: &str) -> Result<(), NodeError> {
    let (quoted, owner) = (identifier(name), identifier(owner));
    if session.finds("SELECT FROM pg_catalog.pg_database WHERE datname = $1", name).await? {
        session.run(&format!("ALTER DATABASE {quoted} OWNER TO {owner}")).await
    } else {
        session.run(&format!("CREATE DATABASE {quoted} OWNER {owner}")).await
    }
}

/// Takes a database away, and whoever is in it.
///
/// # Errors
/// [`NodeError`].
pub async fn drop_database(session: &Superuser, name: &str) -> Result<(), NodeError> {
    session.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name))).await
}

/// The extension of a vector service, in the database of this session.
///
/// # Errors
/// [`NodeError`].
pub async fn vector(session: &Superuser) -> Result<(), NodeError> {
    session.run("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public").await
}
