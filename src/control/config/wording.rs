//! The words of problems: what was found, and what may have been meant.

use toml::Value;

/// The longest excerpt of a value that a problem shows, in characters.
const MAX_EXCERPT: usize = 60;

/// A value as a problem shows it.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a section".to_owned(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            value.to_string()
        }
    }
}

fn quoted(text: &str) -> String {
    if text.chars().count() <= MAX_EXCERPT {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(MAX_EXCERPT).collect();
    format!("{start:?}…")
}

/// `a, b or c`
pub(super) fn listed(words: &[String], conjunction: &str) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} {conjunction} {last}", rest.join(", ")),
    }
}

/// What to say about a key that nobody asked for.
/// `all` are the
/// patterns of the keys that exist anywhere.
pub(super) fn unknown_key(name: &str, siblings: &[&str], all: &[&str]) -> String {
    let ending = format!(".{name}");
    let elsewhere = all.iter().filter(|pattern| pattern.ends_with(&ending));
    let meant = elsewhere.min().copied();
    if let Some(meant) = meant.or_else(|| nearest(name, siblings)) {
        return format!("unknown key; is \"{meant}\" meant?");
    }
    let known: Vec<String> = siblings.iter().map(ToString::to_string).collect();
    format!("unknown key; known here: {}", listed(&known, "and"))
}

/// How alike two words must be for one to be taken for the other; 1 is equal.
const ALIKE: f64 = 0.6;

/// The word most like this one, if one is like it at all.
pub(super) fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(word, other);
    let best =
        words.iter().map(|other| (likeness(other), *other)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{read, refused, service};

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        refused("[lissten]\n", &["lissten: unknown key; is \"listen\" meant?"]);
        refused(
            "[limits]\ndrain_timeout = \"5s\"\n",
            &["limits.drain_timeout: unknown key; is \"timeouts.drain_timeout\" meant?"],
        );
        refused(
            "[log]\ncolour = true\n",
            &["log.colour: unknown key; known here: format and level"],
        );
        refused(
            &service("alowlist = []"),
            &["services[0].alowlist: unknown key; is \"allowlist\" meant?"],
        );
    }

    #[test]
    fn long_values_are_shown_shortened() {
        let text = format!("[tls]\nmode = \"{}\"", "é".repeat(1000));
        let found = read(&text).unwrap_err().remove(0);
        assert!(found.ends_with(&format!("found \"{}\"…", "é".repeat(60))), "{found}");
    }
}
