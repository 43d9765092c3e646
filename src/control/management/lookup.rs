//! Asks one node for verifiers (decision 19).
//!
//! Several roles are asked for in one query, as its parameter. What comes back
//! is judged here and not by the server, so that every reason for a refusal
//! looks the same to a client and different to the operator.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::error::NodeError;
use super::session::{Session, value};
use crate::auth::verifier::NoVerifier;
use crate::auth::{Lookup, Verifier};

/// How a management role may look verifiers up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupForm {
    /// By the function that `postern node sql` makes.
    Function,
    /// In `pg_authid`: a superuser.
    Catalog,
}

/// A function of that name counts only if a superuser made it: anybody who may
/// make schemas in the management database could have made another, and it
/// would run with the management role's rights.
const FORMS: &str = "\
    SELECT EXISTS (
               SELECT FROM pg_catalog.pg_proc p
               JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
               JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
               WHERE n.nspname = 'postern' AND p.proname = 'lookup'
                 AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.text'::pg_catalog.regtype
                 AND p.prosecdef AND o.rolsuper
                 AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                 AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')),
           pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";

const BY_FUNCTION: &str = "\
    SELECT asked.name, found.verifier, found.can_login, found.expired
    FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked (name), postern.lookup(asked.name) AS found";

const IN_CATALOG: &str = "\
    SELECT a.rolname::pg_catalog.text, a.rolpassword, a.rolcanlogin,
           coalesce(a.rolvaliduntil < pg_catalog.now(), false)
    FROM pg_catalog.pg_authid a WHERE a.rolname = ANY ($1::pg_catalog.text[])";

impl LookupForm {
    /// Which form the role of this session may use; the function first.
    pub(super) async fn detect(session: &Session) -> Result<Option<Self>, NodeError> {
        let row = session.one_row(FORMS, &[]).await?;
        Ok(match (value(&row, 0)?, value(&row, 1)?) {
            (true, _) => Some(Self::Function),
            (false, true) => Some(Self::Catalog),
            (false, false) => None,
        })
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Function => BY_FUNCTION,
            Self::Catalog => IN_CATALOG,
        }
    }
}

/// What the server says about these roles, one answer for each.
pub(super) async fn look_up(session: &Session, roles: &[&str]) -> Result<Vec<Lookup>, NodeError> {
    let form = session.lookup_form.ok_or(NodeError::NoGrant)?;
    let mut found = match found(session, form, roles).await {
        // A name that the database's encoding does not know; it can be no
        // role's, and the others must not suffer for it.
        Err(error) if is_about_data(&error) => one_by_one(session, form, roles).await?,
        other => other?,
    };
    let unknown = || Lookup::Refused(NoVerifier::UnknownRole);
    let answers = roles.iter().map(|role| found.remove(*role));
    Ok(answers.map(|found| found.unwrap_or_else(unknown)).collect())
}

type Found = HashMap<String, Lookup>;

async fn found(session: &Session, form: LookupForm, roles: &[&str]) -> Result<Found, NodeError> {
    let rows = session.rows(form.sql(), &[(&roles, Type::TEXT_ARRAY)]).await?;
    let mut found = Found::new();
    for row in rows {
        let role: String = value(&row, 0)?;
        let lookup = judge(value(&row, 1)?, value(&row, 2)?, value(&row, 3)?);
        if found.insert(role.clone(), lookup).is_some() {
            return Err(NodeError::Broken(format!("two rows for role {role:?}")));
        }
    }
    Ok(found)
}

async fn one_by_one(
    session: &Session,
    form: LookupForm,
    roles: &[&str],
) -> Result<Found, NodeError> {
    let mut all = Found::new();
    for role in roles {
        match found(session, form, &[role]).await {
            Err(error) if is_about_data(&error) => {}
            other => all.extend(other?),
        }
    }
    Ok(all)
}

/// SQLSTATE class 22, data exception.
fn is_about_data(error: &NodeError) -> bool {
    error.sqlstate().is_some_and(|code| code.starts_with("22"))
}

fn judge(verifier: Option<&str>, can_login: Option<bool>, expired: Option<bool>) -> Lookup {
    let refused = match (verifier, can_login, expired) {
        (_, Some(false) | None, _) => NoVerifier::NoLogin,
        (None, ..) => NoVerifier::NoPassword,
        (Some(_), _, Some(true) | None) => NoVerifier::Expired,
        (Some(text), ..) => match Verifier::parse(text) {
            Some(verifier) => return Lookup::Verifier(Arc::new(verifier)),
            None => NoVerifier::NotScram,
        },
    };
    Lookup::Refused(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
        AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn only_a_whole_answer_lets_a_role_in() {
        let refused = |verifier, can_login, expired| match judge(verifier, can_login, expired) {
            Lookup::Refused(reason) => Some(reason),
            Lookup::Verifier(_) | Lookup::Rotated { .. } => None,
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(refused(Some(GOOD), yes, no), None);
        assert_eq!(refused(Some(GOOD), yes, yes), Some(NoVerifier::Expired));
        assert_eq!(refused(Some(GOOD), yes, None), Some(NoVerifier::Expired));
        assert_eq!(refused(Some(GOOD), no, no), Some(NoVerifier::NoLogin));
        assert_eq!(refused(Some(GOOD), None, no), Some(NoVerifier::NoLogin));
        assert_eq!(refused(None, yes, no), Some(NoVerifier::NoPassword));
        assert_eq!(refused(Some("md5abc"), yes, no), Some(NoVerifier::NotScram));
    }
}
