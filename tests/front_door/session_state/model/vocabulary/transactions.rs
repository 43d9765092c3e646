//! Transactions, and what makes them fail.

use super::one_of;
use crate::random::Random;

const TEXTS: &[&str] = &[
    "Q BEGIN",
    "Q BEGIN",
    "Q BEGIN ISOLATION LEVEL REPEATABLE READ",
    "Q START TRANSACTION READ ONLY",
    "P - BEGIN | B - - | E - | S",
    "Q COMMIT",
    "Q COMMIT",
    "Q COMMIT",
    "Q END",
    "P - COMMIT | B - - | E - | S",
    "Q ROLLBACK",
    "Q ROLLBACK",
    "Q ABORT",
    "Q COMMIT AND CHAIN",
    "Q ROLLBACK AND CHAIN",
    "Q SAVEPOINT a",
    "Q SAVEPOINT b",
    "Q ROLLBACK TO a",
    "Q ROLLBACK TO SAVEPOINT b",
    "Q RELEASE a",
    "Q SELECT 1/0",
    "Q SELECT 1; SELECT 1/0; SELECT 2",
    "Q SELECT 1; COMMIT; SELECT 2",
    "Q nonsense",
    "Q ",
    "Q ;",
    "Q SELECT 1; SELECT 'two'; SELECT 3.0",
    "Q BEGIN; INSERT INTO public.own{n} VALUES (1); COMMIT; SELECT count(*) FROM public.own{n}",
    "Q PREPARE TRANSACTION 'x'",
    "P - SELECT 1/0 | B - - | E - | S | Q SELECT 'behind'",
    "Q SELECT pg_catalog.fails()",
    "Q SELECT public.fails()",
];

pub fn text(random: &mut Random, session: usize) -> String {
    one_of(random, TEXTS, session)
}
