//! Makes a connection whose session is over as good as a new one, and finds
//! out whether it is.
//!
//! `DISCARD ALL` ends what PostgreSQL knows of a session: settings go back to
//! the startup values, and statements, cursors, temporary objects, locks,
//! channels and sequences are forgotten. It leaves the role alone that the
//! role's own settings may name, hence `RESET ROLE`; the unnamed statement ends
//! with any simple query.
//!
//! What else a new login would find is compared: one query shows it as a row,
//! the [`Likeness`], which is taken after the login, after the reset and before
//! the next session. A connection whose row has changed is not used again.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use crate::net::Connection;
use crate::wire::frame::messages;
use crate::wire::login::{MAX_SERVER_MESSAGE, parse_parameter, take_message};
use crate::wire::request::put_query;

/// What a connection shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likeness {
    query: Bytes,
    row: Bytes,
}

/// Whether connections to this database could be used again at all. Login
/// triggers run once a login; other languages and these extensions keep state
/// of the session where `DISCARD ALL` does not look.
const IS_UNFIT: &str = "SELECT \
     EXISTS (SELECT FROM pg_catalog.pg_event_trigger \
      WHERE evtevent OPERATOR(pg_catalog.=) 'login') OR \
     EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname OPERATOR(pg_catalog.<>) \
      ALL (ARRAY['internal','c','sql','plpgsql']::pg_catalog.name[])) OR \
     EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) \
      ANY (ARRAY['age','dblink','orafce','pg_background','pg_variables','pgtt','postgres_fdw',\
      'session_variable','set_user']::pg_catalog.name[]))";

/// What a new login would be told, or refused for: who it is, the role and the
/// database as they are now, their settings, when the server last read its
/// configuration (`pg_hba.conf` included), and whether there is a schema of
/// temporary objects.
const STANDING: &str = ",session_user,current_user,\
     (SELECT pg_catalog.concat(r) FROM pg_catalog.pg_roles AS r \
      WHERE rolname OPERATOR(pg_catalog.=) session_user),\
     (SELECT pg_catalog.concat_ws(' ',datname,datallowconn,datconnlimit,\
      pg_catalog.has_database_privilege(oid,'CONNECT')) FROM pg_catalog.pg_database \
      WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),\
     (SELECT pg_catalog.string_agg(pg_catalog.concat(s),' ' ORDER BY setdatabase,setrole) \
      FROM pg_catalog.pg_db_role_setting AS s \
      WHERE setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid,(SELECT oid \
      FROM pg_catalog.pg_database \
      WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())]) \
      AND setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid,(SELECT oid \
      FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) session_user)])),\
     pg_catalog.pg_conf_load_time(),pg_catalog.pg_my_temp_schema()";

impl Likeness {
    /// Takes it of a connection on which nothing is under way, whose server
    /// said these messages at its login; none if it cannot be used again.
    ///
    /// # Errors
    /// The connection is lost, or says what makes no sense.
    pub async fn take(connection: &mut Connection, greeting: &[u8]) -> io::Result<Option<Self>> {
        let query = query(greeting);
        let mut out = BytesMut::new();
        put_query(&mut out, &query);
        let row = ask(connection, &out, 1).await?;
        // The first column: one byte.
        Ok(row.filter(|row| row.get(2..7) == Some(b"\0\0\0\x01f")).map(|row| Self { query, row }))
    }

    /// Whether a connection still shows the same.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub async fn is_true(&self, connection: &mut Connection) -> io::Result<bool> {
        let mut out = BytesMut::new();
        put_query(&mut out, &self.query);
        Ok(ask(connection, &out, 1).await?.as_ref() == Some(&self.row))
    }

    /// Ends everything that the last session has left, and finds out whether
    /// the connection shows the same again.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub async fn restore(&self, connection: &mut Connection) -> io::Result<bool> {
        let mut out = BytesMut::new();
        put_query(&mut out, b"DISCARD ALL");
        put_query(&mut out, b"RESET ROLE");
        put_query(&mut out, &self.query);
        Ok(ask(connection, &out, 3).await?.as_ref() == Some(&self.row))
    }
}

/// The query, with the settings that the server reports.
fn query(greeting: &[u8]) -> Bytes {
    let mut query = BytesMut::from(IS_UNFIT);
    query.put_slice(STANDING.as_bytes());
    for message in messages(greeting).filter(|message| message.kind == b'S') {
        let parsed = parse_parameter(Bytes::copy_from_slice(message.body()));
        if let Some((name, _)) = parsed.filter(|(name, _)| is_plain(name)) {
            query.put_slice(b",pg_catalog.current_setting('");
            query.put_slice(&name);
            query.put_slice(b"',true)");
        }
    }
    query.freeze()
}

fn is_plain(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

/// Sends so many queries in one write. Returns the body of the last row, or
/// nothing if one of them failed; what came unasked is thrown away.
async fn ask(
    connection: &mut Connection,
    queries: &[u8],
    mut count: u32,
) -> io::Result<Option<Bytes>> {
    connection.send(queries).await?;
    let (mut row, mut failed) = (None, false);
    while count > 0 {
        let message = take_message(&mut connection.input, MAX_SERVER_MESSAGE);
        let message = message.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let Some(message) = message else {
            if connection.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        match message.kind {
            b'Z' => {
                count -= 1;
                failed |= &*message.body() != b"I";
            }
            b'D' => row = Some(message.body()),
            b'E' => failed = true,
            _ => {}
        }
    }
    Ok(row.filter(|_| !failed && connection.input.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer::parameter_status;

    #[test]
    fn every_reported_setting_is_compared_and_no_name_is_sql() {
        let mut greeting = BytesMut::new();
        parameter_status(&mut greeting, "TimeZone", b"UTC");
        parameter_status(&mut greeting, "a','b", b"");
        let query = query(&greeting);
        assert!(query.ends_with(b"pg_catalog.current_setting('TimeZone',true)"));
        assert!(!query.windows(5).any(|part| part == b"a','b"));
    }
}
