//! What sessions are asked at the end of a program: all that they can see of
//! their own state.

use super::vocabulary::STATEMENTS;

/// The source of reported settings tells nothing: a new connection is told of
/// them as `SET` does. Custom settings are not shown, and those of pgvector are
/// where another client has loaded it.
pub const IN_THE_END: [&str; 8] = [
    "SELECT current_user, session_user, current_setting('role'), current_schemas(false)",
    "SELECT name, setting, CASE WHEN lower(name) NOT IN ('application_name', 'client_encoding', \
     'datestyle', 'intervalstyle', 'timezone', 'standard_conforming_strings', \
     'transaction_isolation', 'transaction_read_only', 'transaction_deferrable') \
     THEN source END FROM pg_catalog.pg_settings WHERE name NOT LIKE '%.%' ORDER BY name",
    "SELECT name, nullif(current_setting(name, true), '') FROM unnest('{my.x,my.y}'::text[]) name",
    "SELECT name, statement FROM pg_catalog.pg_prepared_statements WHERE from_sql ORDER BY name",
    "SELECT name, statement, is_holdable, is_scrollable FROM pg_catalog.pg_cursors ORDER BY name",
    "SELECT classid, objid, objsubid, mode FROM pg_catalog.pg_locks \
     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_catalog.pg_database \
     WHERE datname = current_database()) ORDER BY objid, mode",
    "SELECT pg_catalog.pg_listening_channels() ORDER BY 1",
    "SELECT relname, relkind FROM pg_catalog.pg_class \
     WHERE relnamespace = pg_catalog.pg_my_temp_schema() ORDER BY relname",
];

/// Every name that a statement of the protocol may have; each in a group of
/// its own.
pub fn of_statement() -> String {
    STATEMENTS.map(|name| format!("DS {name} | S")).join(" | ")
}
