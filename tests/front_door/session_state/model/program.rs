//! A program: who says what, one step after the other, as text that a person
//! can read and a file can keep.
//!
//! A line is a step: the number of a session, and the messages that it sends,
//! with ` | ` between them. It has been answered when every Query and Sync in
//! it has.
//!
//! ```text
//! 2: Q SET search_path = other
//! 0: P s1 SELECT $1::int + 1 | B - s1 5 | E - | S
//! ```
//!
//! | message | |
//! |---|---|
//! | `Q sql` | Query |
//! | `P name sql` | Parse; `-` is the unnamed one here and below |
//! | `B portal name values…` | Bind |
//! | `DS name`, `DP portal` | Describe |
//! | `E portal [rows]` | Execute |
//! | `CS name`, `CP portal` | Close |
//! | `S`, `H` | Sync, Flush |
//! | `d line`, `c`, `f reason` | `CopyData`, `CopyDone`, `CopyFail` |
//! | `X` | leaves, and comes back as a new session |

use std::fmt;
use std::str::FromStr;

use crate::raw::message;

/// Between two messages.
const BETWEEN: &str = " | ";
/// Stands for the role that logs in.
const ROLE: &str = "{role}";

/// What one session says at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub session: usize,
    pub says: String,
}

/// Steps, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(pub Vec<Step>);

impl Step {
    /// Whether the session leaves and comes back.
    pub fn is_new_session(&self) -> bool {
        self.says == "X"
    }

    /// The bytes of its messages, for clients of this role.
    pub fn bytes(&self, role: &str) -> Vec<u8> {
        let says = self.says.replace(ROLE, role);
        says.split(BETWEEN).flat_map(encode).collect()
    }

    /// How many `ReadyForQuery` answer it.
    pub fn groups(&self) -> usize {
        let ends_group = |said: &&str| said.starts_with("Q ") || *said == "Q" || *said == "S";
        self.says.split(BETWEEN).filter(ends_group).count()
    }
}

/// One message.
fn encode(said: &str) -> Vec<u8> {
    let (kind, rest) = said.split_once(' ').unwrap_or((said, ""));
    let (first, behind) = rest.split_once(' ').unwrap_or((rest, ""));
    let name = |word: &str| if word == "-" { String::new() } else { word.to_owned() };
    match kind {
        "Q" => message(b'Q', format!("{rest}\0").as_bytes()),
        "P" => message(b'P', format!("{}\0{behind}\0\0\0", name(first)).as_bytes()),
        "B" => bind(&name(first), behind, name),
        "DS" | "DP" => about(b'D', kind, &name(first)),
        "CS" | "CP" => about(b'C', kind, &name(first)),
        "E" => {
            let rows: u32 = behind.parse().unwrap_or(0);
            message(b'E', &[name(first).as_bytes(), b"\0", &rows.to_be_bytes()].concat())
        }
        "S" => message(b'S', b""),
        "H" => message(b'H', b""),
        "d" => message(b'd', format!("{rest}\n").as_bytes()),
        "c" => message(b'c', b""),
        "f" => message(b'f', format!("{rest}\0").as_bytes()),
        _ => panic!("no message: {said}"),
    }
}

fn bind(portal: &str, behind: &str, name: impl Fn(&str) -> String) -> Vec<u8> {
    let mut words = behind.split_whitespace();
    let statement = name(words.next().unwrap_or("-"));
    let values: Vec<_> = words.collect();
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend(b"\0\0");
    message(b'B', &body)
}

/// Describe and Close: of a statement, or of a portal.
fn about(code: u8, kind: &str, name: &str) -> Vec<u8> {
    message(code, &[&kind.as_bytes()[1..], name.as_bytes(), b"\0"].concat())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.session, self.says)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl FromStr for Program {
    type Err = String;

    /// Lines that begin with `#` say what the program is about.
    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let step = |line: &str| {
            let (session, says) = line.split_once(": ")?;
            Some(Step { session: session.parse().ok()?, says: says.to_owned() })
        };
        lines
            .map(|line| step(line).ok_or_else(|| line.to_owned()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[test]
fn a_program_is_read_as_it_was_written() {
    let text =
        "2: Q SELECT 1; SELECT 2\n0: P s1 SELECT $1 | B - s1 5 | E - 2 | S | Q COMMIT\n1: X\n";
    let program: Program = text.parse().unwrap();
    assert_eq!(program.to_string(), text);
    assert_eq!(program.0.iter().map(Step::groups).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(encode("E c1 2"), message(b'E', b"c1\0\0\0\0\x02"));
    assert_eq!(encode("B - s1 5"), message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x015\0\0"));
    assert!("SELECT 1".parse::<Program>().is_err());
}
