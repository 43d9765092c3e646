//! What a node is, found by looking.

use super::superuser::{Login, Superuser};
use crate::control::catalog::record::Found;
use crate::control::management::NodeError;
use crate::upstream::Dialer;

const LOOK: &str = "\
    SELECT pg_catalog.current_setting('server_version'),
           pg_catalog.current_setting('max_connections')::pg_catalog.int4,
           pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
               + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4,
           pg_catalog.pg_is_in_recovery(),
           (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()),
           ARRAY(SELECT name::pg_catalog.text FROM pg_catalog.pg_available_extensions
                 WHERE name IN ('vector', 'pg_stat_statements') ORDER BY 1),
           ARRAY(SELECT datname::pg_catalog.text FROM pg_catalog.pg_database
                 WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1),
           pg_catalog.current_setting('is_superuser') = 'on'";

/// Looks at a node.
///
/// # Errors
/// Why it could not be looked at; a login that is no superuser's among it.
pub async fn look(dialer: &Dialer, login: &Login) -> Result<Found, String> {
    let found = found(dialer, login).await.map_err(|error| error.to_string())?;
    found.ok_or_else(|| {
        format!("the role \"{}\" is no superuser, and making services needs one", login.user)
    })
}

async fn found(dialer: &Dialer, login: &Login) -> Result<Option<Found>, NodeError> {
    let session = Superuser::connect(dialer, login, "postgres").await?;
    let row = session.rows(LOOK, &[]).await?.pop();
    let row = row.ok_or_else(|| NodeError::Broken("no row".to_owned()))?;
    let broken = |error: tokio_postgres::Error| NodeError::of_query(&error);
    let count = |column| -> Result<u32, NodeError> {
        let value: i32 = row.try_get(column).map_err(broken)?;
        Ok(value.unsigned_abs())
    };
    let version: String = row.try_get(0).map_err(broken)?;
    let is_superuser: bool = row.try_get(7).map_err(broken)?;
    let found = Found {
        // Without what a distribution adds: "15.20 (Debian …)".
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        max_connections: count(1)?,
        reserved: count(2)?,
        standby: row.try_get(3).map_err(broken)?,
        system_identifier: row.try_get(4).map_err(broken)?,
        extensions: row.try_get(5).map_err(broken)?,
        databases: row.try_get(6).map_err(broken)?,
    };
    Ok(is_superuser.then_some(found))
}
