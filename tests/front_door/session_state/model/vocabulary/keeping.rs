//! State that keeps a session on its server connection, and what ends it.

use super::one_of;
use crate::random::Random;

const TEXTS: &[&str] = &[
    "Q CREATE TEMP TABLE tt (n integer)",
    "Q CREATE TEMP TABLE tt (n integer, m text) ON COMMIT DROP",
    "Q CREATE TABLE pg_temp.tt (n integer)",
    "Q SELECT 1 AS n INTO TEMP tt",
    "Q BEGIN; CREATE TEMP TABLE tt (n integer) ON COMMIT DROP; COMMIT",
    "Q SET search_path = pg_temp, public",
    "Q BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE tt (n integer); COMMIT",
    "Q CREATE TABLE tt{n} (n integer)",
    "Q INSERT INTO tt{n} VALUES (1)",
    "Q DROP TABLE tt{n}",
    "Q INSERT INTO tt VALUES (1)",
    "Q SELECT * FROM tt",
    "Q CREATE TEMP VIEW tv AS SELECT 1 AS one",
    "Q SELECT * FROM tv",
    "Q CREATE TEMP SEQUENCE ts",
    "Q DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 4)",
    "Q DECLARE c CURSOR FOR SELECT generate_series(1, 4)",
    "Q FETCH 2 FROM c",
    "Q MOVE 1 IN c",
    "Q FETCH 1 FROM c1",
    "Q SELECT pg_advisory_lock({n})",
    "Q SELECT pg_advisory_lock_shared(50)",
    "Q SELECT pg_try_advisory_lock(77)",
    "Q SELECT pg_advisory_xact_lock({n})",
    "Q SELECT pg_try_advisory_xact_lock(77)",
    "P - SELECT pg_try_advisory_lock($1) | B - - 77 | E - | S",
    "Q LISTEN news",
    "Q LISTEN other",
    "Q NOTIFY news, 'from {n}'",
    "Q NOTIFY other",
    "Q SELECT pg_notify('news', 'called by {n}')",
    "Q SELECT nextval('public.one'), nextval('public.two'), currval('public.one'), lastval()",
    "Q SELECT currval('public.one'), lastval()",
    "Q SELECT currval('public.two')",
    "Q SELECT nextval('public.one')",
];

const ENDS: &[&str] = &[
    "Q DROP TABLE IF EXISTS tt",
    "Q DROP VIEW tv",
    "Q DISCARD TEMP",
    "Q CLOSE c",
    "Q CLOSE ALL",
    "Q SELECT pg_advisory_unlock({n})",
    "Q SELECT pg_advisory_unlock(77)",
    "Q SELECT pg_advisory_unlock_all()",
    "Q UNLISTEN news",
    "Q UNLISTEN *",
    "Q DISCARD SEQUENCES",
    "Q DEALLOCATE ALL",
    "Q DISCARD ALL",
    "Q DISCARD ALL",
    "Q DISCARD ALL",
    "X",
    "X",
];

pub fn text(random: &mut Random, session: usize) -> String {
    one_of(random, TEXTS, session)
}

pub fn end(random: &mut Random, session: usize) -> String {
    one_of(random, ENDS, session)
}
