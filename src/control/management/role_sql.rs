//! The SQL that makes the management role on a node (decision 20).
//!
//! What must stay true: it can be run any number of times; nobody but the role
//! may execute the lookup; nobody but superusers may put anything into the
//! schema that the role calls into, or the role's rights would be theirs.

/// The SQL that makes the management role of this name, for PostgreSQL 13 to
/// 18. It sets no password.
#[must_use]
pub fn node_sql(role: &str) -> String {
    let (identifier, literal) = (quote_identifier(role), quote_literal(role));
    TEMPLATE
        .replace("{title}", &role.replace(char::is_control, "?"))
        .replace("{literal}", &literal)
        .replace("{role}", &identifier)
}

/// `CONNECTION LIMIT 3`: `postern serve`, `postern check --connect`, and one
/// that the server has not yet noticed to be gone.
const TEMPLATE: &str = "\
-- The role with which Postern looks after a service: {title}
--
-- Run this as a superuser on the service's primary, in the database that
-- `management.database` names (\"postgres\" unless it says otherwise). It can be
-- run again at any time. Then give the role a password, in psql by \\password,
-- with password_encryption = 'scram-sha-256', and let it in from Postern's
-- address in pg_hba.conf.
BEGIN READ WRITE;
SET LOCAL search_path = pg_catalog;
SET LOCAL client_min_messages = warning;
SELECT pg_catalog.set_config('postern.management_role', {literal}, true);
DO $postern$
DECLARE
    role_name CONSTANT pg_catalog.text := pg_catalog.current_setting('postern.management_role');
    schema_owner pg_catalog.text;
BEGIN
    SELECT r.rolname INTO schema_owner
    FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
    WHERE n.nspname = 'postern' AND NOT r.rolsuper;
    IF FOUND THEN
        RAISE EXCEPTION 'the schema \"postern\" belongs to \"%\", who is no superuser', schema_owner
            USING HINT = 'Rename or drop that schema first.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
        EXECUTE pg_catalog.format('CREATE ROLE %I', role_name);
    END IF;
END
$postern$;
ALTER ROLE {role} LOGIN CONNECTION LIMIT 3;
GRANT pg_monitor, pg_signal_backend TO {role};
-- For `postern check --connect`.
GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {role};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {role};
CREATE SCHEMA IF NOT EXISTS postern;
REVOKE ALL ON SCHEMA postern FROM PUBLIC;
GRANT USAGE ON SCHEMA postern TO {role};
DROP FUNCTION IF EXISTS postern.lookup(pg_catalog.text);
CREATE FUNCTION postern.lookup(
    role_name pg_catalog.text,
    OUT verifier pg_catalog.text, OUT can_login pg_catalog.bool, OUT expired pg_catalog.bool)
RETURNS SETOF pg_catalog.record
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $postern$
    SELECT a.rolpassword, a.rolcanlogin, coalesce(a.rolvaliduntil < pg_catalog.now(), false)
    FROM pg_catalog.pg_authid a
    WHERE a.rolname = role_name
$postern$;
COMMENT ON FUNCTION postern.lookup(pg_catalog.text) IS 'Looks up what Postern checks a client''s password against';
REVOKE ALL ON FUNCTION postern.lookup(pg_catalog.text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.lookup(pg_catalog.text) TO {role};
COMMIT;
";

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal that means the same whatever `standard_conforming_strings` says.
fn quote_literal(text: &str) -> String {
    let prefix = if text.contains('\\') { "E" } else { "" };
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("{prefix}'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_name_cannot_break_out() {
        let name = "a\"b'c\\d\n; DROP TABLE x; --$postern$";
        let sql = node_sql(name);
        assert!(sql.contains("ALTER ROLE \"a\"\"b'c\\d\n; DROP TABLE x; --$postern$\" LOGIN"));
        assert!(sql.contains("E'a\"b''c\\\\d\n; DROP TABLE x; --$postern$'"));
        let comment = "-- The role with which Postern looks after a service: a\"b'c\\d?; DROP";
        assert!(sql.starts_with(comment));
    }
}
