//! Prepared statements, of SQL and of the protocol; portals.

use super::STATEMENTS;
use crate::random::Random;

/// What is prepared; its parameter, if it has one, may be a number.
const TEXTS: &[&str] = &[
    "SELECT who FROM place",
    "SELECT current_user, current_setting('work_mem')",
    "SELECT date '02/03/2024', interval '1 day 2 hours'",
    "SELECT timestamptz '2024-01-02 03:04:05+00', 1.5::float8 / 7",
    "SELECT * FROM tt",
    "INSERT INTO public.own{n} VALUES (7) RETURNING n",
    "SELECT $1::int + 1",
    "SELECT $1::text || current_schema",
    "SELECT generate_series(1, 5)",
    "SELECT 1/0",
    "SELECT 'a''b', 'now'::text",
    "SELEC",
    "SELECT",
    "",
    "BEGIN",
    "COMMIT",
    "SET work_mem = '8MB'",
    "SELECT set_config('my.x', $1, false)",
    "SELECT set_config('statement_timeout', '91s', false)",
    "SELECT pg_advisory_lock_shared(70)",
    "LISTEN news",
    "DEALLOCATE p1",
    "DEALLOCATE ALL",
    "SHOW search_path",
];

/// What SQL prepares.
const SQL: &[&str] = &[
    "SELECT who FROM place",
    "SELECT current_user, current_setting('work_mem')",
    "SELECT date '02/03/2024'",
    "SELECT generate_series(1, 3)",
    "INSERT INTO public.own{n} VALUES (8)",
    "SELECT set_config('my.y', 'by execute', false)",
    "SELECT set_config('work_mem', '11MB', false)",
    "SELECT pg_try_advisory_lock(60{n})",
];

/// What changes how literals are read behind it in its batch.
const READINGS: &[&str] = &[
    "SET datestyle = 'ISO, DMY'",
    "SET LOCAL datestyle = 'ISO, DMY'",
    "SELECT set_config('timezone', 'Asia/Tokyo', true)",
    "RESET datestyle",
];

pub fn text(random: &mut Random, session: usize) -> String {
    let number = session.to_string();
    let text = random.pick(TEXTS).replace("{n}", &number);
    let sql = random.pick(SQL).replace("{n}", &number);
    let name = *random.pick(&STATEMENTS);
    let named = *random.pick(&STATEMENTS[1..]);
    let other = *random.pick(&STATEMENTS);
    let is_right = random.below(12) != 0;
    let value = if text.contains("$1") == is_right { " 5" } else { "" };
    let guess = if random.below(3) == 0 { " 5" } else { "" };
    let reading = format!("P - {} | B - - | E -", random.pick(READINGS));
    match random.below(28) {
        0..2 => format!("P {name} {text} | S"),
        2..6 => format!("P {name} {text} | B - {name}{value} | E - | S"),
        6..8 => format!("P {name} {text} | DS {name} | S"),
        8..11 => format!("B - {name}{guess} | DP - | E - | S"),
        11 => format!("DS {name} | S"),
        12 => format!("CS {name} | S"),
        13 => format!("P {name} {text} | B c1 {name}{value} | E c1 2 | S"),
        14 => "E c1 2 | S".to_owned(),
        15 => "CP c1 | S".to_owned(),
        16 => format!("B - {name} | E - | S | B - {other} | E - | S | B - {name} | E - | S"),
        17 => format!("P {named} SELECT 1 | P {other} SELEC | P {named} SELECT 2 | S"),
        // What is sent behind it hides a DEALLOCATE ALL.
        18 if text == "DEALLOCATE ALL" => "Q DEALLOCATE ALL; SELECT 1".to_owned(),
        18 => format!("P - {text} | B - -{value} | E - | H | CS {named} | S | Q SELECT 'behind'"),
        19 => format!("CS {named} | P {named} {text} | B - {named}{value} | E - | S"),
        20 => format!("Q PREPARE {named} AS {sql}"),
        21 => format!("Q PREPARE {named} (int) AS SELECT $1 + 1"),
        22 => format!("Q EXECUTE {named}"),
        23 => format!("Q EXECUTE {named}(3)"),
        24 => format!("Q DEALLOCATE {named}"),
        25 => format!("{reading} | P {named} {text} | B - {named}{value} | E - | S"),
        26 => format!("{reading} | B - {named}{guess} | E - | S"),
        // No EXPLAIN EXECUTE: of a utility statement that the protocol has
        // prepared, it ends PostgreSQL 15 by a signal.
        _ => "Q DEALLOCATE ALL".to_owned(),
    }
}
