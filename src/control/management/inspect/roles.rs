//! Roles that may log in on the node, but not through Postern.

use tokio_postgres::Row;

use super::finding::Findings;
use crate::control::management::error::NodeError;
use crate::control::management::lookup::LookupForm;
use crate::control::management::session::{Session, value};

/// Roles that a finding names.
const NAMED: i64 = 5;

/// `pg_authid` for a superuser; for the management role the lookup of every
/// role there is.
const PASSWORDS_OF_ALL: &str = "\
    SELECT a.rolname::pg_catalog.text AS role, a.rolpassword AS verifier
    FROM pg_catalog.pg_authid a WHERE a.rolcanlogin";
const PASSWORDS_LOOKED_UP: &str = "\
    SELECT r.rolname::pg_catalog.text AS role, found.verifier
    FROM pg_catalog.pg_roles r, postern.lookup(r.rolname::pg_catalog.text) AS found
    WHERE r.rolcanlogin";

/// Names roles whose passwords cannot be checked by SCRAM (decision 19).
pub(super) async fn check(session: &Session, findings: &mut Findings<'_>) -> Result<(), NodeError> {
    let passwords = match session.lookup_form {
        Some(LookupForm::Function) => PASSWORDS_LOOKED_UP,
        Some(LookupForm::Catalog) => PASSWORDS_OF_ALL,
        None => return Ok(()),
    };
    let kinds = [
        (
            "p.verifier IS NOT NULL AND p.verifier NOT LIKE 'SCRAM-SHA-256$%'",
            "with a password kept as MD5 cannot log in through Postern: set their passwords again \
             with password_encryption = 'scram-sha-256'",
        ),
        (
            "p.verifier IS NULL",
            "without a password cannot log in through Postern, however pg_hba.conf lets them in",
        ),
    ];
    for (condition, text) in kinds {
        let sql = format!(
            "SELECT pg_catalog.count(*), \
                    (pg_catalog.array_agg(p.role ORDER BY p.role))[1:{NAMED}] \
             FROM ({passwords}) AS p WHERE {condition}"
        );
        report(&session.one_row(&sql, &[]).await?, text, findings)?;
    }
    Ok(())
}

fn report(row: &Row, text: &str, findings: &mut Findings<'_>) -> Result<(), NodeError> {
    let count: i64 = value(row, 0)?;
    let names: Option<Vec<String>> = value(row, 1)?;
    if count > 0 {
        let mut names = names.unwrap_or_default().join(", ");
        if count > NAMED {
            names.push_str(", …");
        }
        let noun = if count == 1 { "role" } else { "roles" };
        findings.warning(format!("{count} {noun} ({names}) {text}"));
    }
    Ok(())
}
