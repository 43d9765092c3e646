//! Reads single values, and says what was expected when one cannot be read.
//!
//! A text names what is expected first and what was found last, shortened:
//! the reader of a problem wants to know what to write.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use toml::Value;

use super::reading::Place;
use super::wording::{found, listed};
use crate::domain::{NodeAddress, ServiceName};
use crate::domain::{PinReason, allowlist::AllowEntry};

/// A type that a key's value can be read into.
pub(super) trait Setting: Sized {
    /// What may be written, as the words behind "expected".
    const EXPECTED: &'static str;

    /// The value, or `None` after a problem was reported at `place`.
    fn read(value: &Value, place: &Place) -> Option<Self>;
}

/// A type written as text that has a parser of its own.
pub(super) trait TextSetting: FromStr<Err: Display> {
    /// As [`Setting::EXPECTED`].
    const EXPECTED: &'static str;
}

impl<T: TextSetting> Setting for T {
    const EXPECTED: &'static str = <T as TextSetting>::EXPECTED;

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let text = text(value, place, Self::EXPECTED)?;
        let report = |error| place.problem(format!("{error}; found {}", found(value)));
        text.parse().map_err(report).ok()
    }
}

impl TextSetting for PinReason {
    const EXPECTED: &'static str = "a kind of session state such as \"listen\"";
}

impl TextSetting for ServiceName {
    const EXPECTED: &'static str = "a service name";
}

impl TextSetting for NodeAddress {
    const EXPECTED: &'static str = "a node address";
}

impl TextSetting for AllowEntry {
    const EXPECTED: &'static str = "an allowlist entry";
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let flag = value.as_bool();
        or_mismatch(flag, value, place, Self::EXPECTED)
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text that is not empty";

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let text = text(value, place, Self::EXPECTED)?;
        let usable = !text.is_empty() && !text.contains(char::is_control);
        or_mismatch(usable.then(|| text.into()), value, place, Self::EXPECTED)
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let text = text(value, place, Self::EXPECTED)?;
        let usable = !text.is_empty() && !text.contains(char::is_control);
        let path = usable.then(|| place.resolve(text));
        or_mismatch(path, value, place, Self::EXPECTED)
    }
}

impl Setting for IpNet {
    const EXPECTED: &'static str = "an IP address or a CIDR block such as \"10.0.0.0/8\"";

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let text = text(value, place, Self::EXPECTED)?;
        let block = text.parse::<IpNet>().ok();
        let block = block.or_else(|| text.parse::<IpAddr>().ok().map(Self::from));
        or_mismatch(block.map(canonical), value, place, Self::EXPECTED)
    }
}

/// A block of IPv4 addresses mapped into IPv6 as the IPv4 block it means:
/// addresses of clients are canonical too.
fn canonical(block: IpNet) -> IpNet {
    let mapped = match block {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            let length = v6.prefix_len() - 96;
            let v4 = v6.addr().to_ipv4_mapped();
            v4.and_then(|v4| Ipv4Net::new(v4, length).ok())
        }
        IpNet::V6(_) | IpNet::V4(_) => None,
    };
    mapped.map_or(block, IpNet::V4)
}

/// An address to listen on, or `""` for none.
impl Setting for Option<SocketAddr> {
    const EXPECTED: &'static str = "\"IP:port\", \"[IPv6]:port\" or \"\" for none";

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let text = text(value, place, Self::EXPECTED)?;
        if text.is_empty() {
            return Some(None);
        }
        let address = text.parse().ok().filter(|a: &SocketAddr| a.port() != 0);
        or_mismatch(address.map(Some), value, place, Self::EXPECTED)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const EXPECTED: &'static str = "a list in [ ]";

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let Some(list) = value.as_array() else {
            return or_mismatch(None, value, place, Self::EXPECTED);
        };
        let each = list.iter().enumerate();
        let read: Vec<Option<T>> = each.map(|(i, v)| T::read(v, &place.index(i))).collect();
        read.into_iter().collect()
    }
}

/// An integer type that settings come in.
pub(super) trait Number: TryFrom<i64> + PartialOrd + Display + Copy {}

impl Number for u32 {}
impl Number for usize {}

/// Reads a whole number within limits.
pub(super) fn number<T: Number>(
    value: &Value,
    place: &Place,
    limits: RangeInclusive<T>,
) -> Option<T> {
    let number = value.as_integer().and_then(|n| T::try_from(n).ok());
    let number = number.filter(|n| limits.contains(n));
    or_mismatch(number, value, place, &within(&limits))
}

/// What a number may be.
pub(super) fn within<T: Number>(limits: &RangeInclusive<T>) -> String {
    format!("a number from {} to {}", limits.start(), limits.end())
}

/// Reads a span of time: `"30s"`, `"1500ms"`, `"5m"`, and `"0"` or 0 where the
/// limits allow it. A number alone is refused, because nobody can see whether
/// it means seconds or milliseconds.
pub(super) fn duration(
    value: &Value,
    place: &Place,
    limits: RangeInclusive<Duration>,
) -> Option<Duration> {
    let written = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Ok(number) = written.parse::<f64>()
        && number != 0.0
    {
        place.problem(format!(
            "expected a duration with its unit, such as \"30s\", \"1500ms\" or \"5m\", found {}",
            found(value)
        ));
        return None;
    }
    let duration = humantime::parse_duration(&written).ok();
    let (from, to) = (limits.start(), limits.end());
    let expected = format!(
        "a duration from {} to {}",
        humantime::format_duration(*from),
        humantime::format_duration(*to)
    );
    or_mismatch(duration.filter(|d| limits.contains(d)), value, place, &expected)
}

/// Reads one of a few words.
pub(super) fn choice<T: Copy>(value: &Value, place: &Place, choices: &[(&str, T)]) -> Option<T> {
    let chosen = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
    or_mismatch(chosen.map(|(_, choice)| *choice), value, place, &listed(&words, "or"))
}

fn text<'v>(value: &'v Value, place: &Place, expected: &str) -> Option<&'v str> {
    or_mismatch(value.as_str(), value, place, expected)
}

fn or_mismatch<T>(read: Option<T>, value: &Value, place: &Place, expected: &str) -> Option<T> {
    if read.is_none() {
        place.problem(format!("expected {expected}, found {}", found(value)));
    }
    read
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{accepted, refused};

    #[test]
    fn blocks_are_canonical() {
        let text =
            "[tls]\nplain_from = [\"::ffff:10.0.0.0/104\", \"::ffff:10.0.0.1\", \"2001:db8::/32\"]";
        let blocks = accepted(text).tls.plain_from;
        let shown: Vec<String> = blocks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "10.0.0.1/32", "2001:db8::/32"]);
    }

    #[test]
    fn paths_and_texts_hold_something() {
        for (value, found) in [("\"\"", "\"\""), ("\"a\\nb\"", "\"a\\nb\""), ("true", "true")] {
            refused(
                &format!("[admin]\nsocket = {value}"),
                &[&format!("admin.socket: expected a path, found {found}")],
            );
        }
    }

    #[test]
    fn each_type_of_value_is_shown() {
        for (value, found) in [
            ("[1]", "a list"),
            ("{ a = 1 }", "a section"),
            ("1.5", "1.5"),
            ("1979-05-27", "1979-05-27"),
        ] {
            refused(
                &format!("[log]\nformat = {value}"),
                &[&format!("log.format: expected \"text\" or \"json\", found {found}")],
            );
        }
    }
}
