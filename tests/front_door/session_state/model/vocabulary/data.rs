//! Data, COPY, functions and blocks of code.

use super::one_of;
use crate::random::Random;

const TEXTS: &[&str] = &[
    "Q SELECT who FROM place",
    "Q SELECT current_user, session_user, current_schema",
    "Q SELECT now() > '2020-01-01', timestamptz '2024-01-02 03:04:05+00'",
    "Q INSERT INTO public.own{n} VALUES (1), (2)",
    "Q SELECT n FROM public.own{n} ORDER BY n",
    "Q DELETE FROM public.own{n}",
    "Q UPDATE public.own{n} SET n = n + 1 RETURNING n",
    "Q COPY public.own{n} FROM STDIN | d 4 | d 5 | c",
    "Q COPY public.own{n} FROM STDIN | d 4 | d x | c",
    "Q COPY public.own{n} FROM STDIN | d 4 | f no",
    "P - COPY public.own{n} FROM STDIN | B - - | E - | d 6 | c | S",
    "Q COPY (SELECT generate_series(1, 3)) TO STDOUT",
    "Q COPY (SELECT who FROM place) TO STDOUT; SELECT 1",
    "Q SELECT public.for_itself(), current_setting('work_mem')",
    "Q SELECT public.complains('loud')",
    "Q CALL public.until_commit()",
    "Q CALL public.inside()",
    "P - CALL public.inside() | B - - | E - | S",
    "Q DO $$ BEGIN RAISE NOTICE 'done'; END $$",
    "Q DO $$ BEGIN PERFORM 1/0; END $$",
    "Q DO $$ BEGIN CREATE TEMP TABLE IF NOT EXISTS tt (n integer); END $$",
];

pub fn text(random: &mut Random, session: usize) -> String {
    one_of(random, TEXTS, session)
}
