//! Reads what PgBouncer reads: its ini file, connection strings, `userlist.txt`.

/// A section with its keys, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) keys: Vec<(String, String)>,
}

/// The sections of a file. Lines that are none of `[section]`, `key = value`
/// and comments come back as they are.
pub(super) fn read(text: &str) -> (Vec<Section>, Vec<String>) {
    let (mut sections, mut strange) = (Vec::<Section>::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.trim().to_owned(), keys: Vec::new() });
            continue;
        }
        match (line.split_once('='), sections.last_mut()) {
            (Some((key, value)), Some(section)) if !line.starts_with('%') => {
                section.keys.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            _ => strange.push(line.to_owned()),
        }
    }
    (sections, strange)
}

/// The words of a connection string: `host=db1 port=5432 password='a b'`.
pub(super) fn words(text: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = value(after.trim_start());
        words.push((key.trim().to_owned(), value));
        rest = left.trim_start();
    }
    words
}

/// A value up to a blank, or in quotes, where two stand for one.
fn value(text: &str) -> (String, &str) {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    while let Some((before, after)) = rest.split_once('\'') {
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return (value, after),
        }
    }
    (value + rest, "")
}

/// How a password of `userlist.txt` is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Plain,
    Md5,
    Scram,
}

/// The users of `userlist.txt`: `"name" "password"` a line.
pub(super) fn users(text: &str) -> Vec<(String, Kept)> {
    let user = |line: &str| {
        let line = line.trim();
        let (name, rest) = quoted(line)?;
        let (password, _) = quoted(rest.trim_start())?;
        let kept = if password.starts_with("SCRAM-SHA-256$") {
            Kept::Scram
        } else if password.starts_with("md5") && password.len() == 35 {
            Kept::Md5
        } else {
            Kept::Plain
        };
        Some((name, kept))
    };
    text.lines().filter_map(user).collect()
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ini_file_is_read_with_its_oddities() {
        let (sections, strange) = read(
            "; c\n[databases]\na = host=x\n\n[pgbouncer]\nk=v\n%include other.ini\nnonsense\n",
        );
        assert_eq!(sections[0].keys, [("a".to_owned(), "host=x".to_owned())]);
        assert_eq!(sections[1].keys, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(strange, ["%include other.ini", "nonsense"]);
    }

    #[test]
    fn words_may_be_quoted() {
        let pair = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        let expected = [("host", "db1"), ("password", "it's a b"), ("port", "1")].map(pair);
        assert_eq!(words("host=db1  password='it''s a b' port = 1"), expected);
        assert_eq!(words(""), []);
        assert_eq!(words("host='open"), [pair(("host", "open"))]);
    }

    #[test]
    fn users_are_told_by_how_their_passwords_are_kept() {
        let md5 = format!("md5{}", "0".repeat(32));
        let text =
            format!("\"a\" \"plain\"\n\"b\"\"c\" \"{md5}\"\n;x\n\"d\" \"SCRAM-SHA-256$1:a$b:c\"\n");
        let expected = [
            ("a".to_owned(), Kept::Plain),
            ("b\"c".to_owned(), Kept::Md5),
            ("d".to_owned(), Kept::Scram),
        ];
        assert_eq!(users(&text), expected);
    }
}
