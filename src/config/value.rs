//! Values as they are written: text from a flag or the environment, text, numbers or lists from the file.
//!
//! One parser for each kind of value, whatever the source, and the inverse that `config print` uses:
//! what is printed is read back as the same value. Times are whole milliseconds.

use super::error::Bad;
use crate::{
    limits::{CONFIG_SIZE_MAX, CONFIG_TIME_MAX},
    wire::time::UNITS,
};
use std::{net::SocketAddr, time::Duration};

/// A value as it was written. No `Debug`: it may be a secret.
#[derive(Clone, PartialEq)]
pub(super) enum Raw {
    /// Text; all that flags and the environment know.
    Text(String),
    /// A number of the file.
    Integer(i64),
    /// A boolean of the file.
    Bool(bool),
    /// A list of texts of the file.
    List(Vec<String>),
}

const SIZE_UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Raw {
    /// The value as the user wrote it, for messages. Not for secrets.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::List(list) => format!("{list:?}"),
        }
    }

    /// Non-empty text. The error does not repeat the value, so that it serves for secrets too.
    pub(super) fn text(&self) -> Result<String, Bad> {
        match self {
            Self::Text(text) if text.is_empty() => {
                Err(Bad::new("is empty", "give it a value, or remove it to have the default"))
            }
            Self::Text(text) => Ok(text.clone()),
            _ => Err(Bad::new("is not text", "write it in quotes")),
        }
    }

    /// A boolean, in any spelling that the original took.
    pub(super) fn flag(&self) -> Result<bool, Bad> {
        let word = match self {
            Self::Bool(flag) => return Ok(*flag),
            Self::Text(text) => text.to_ascii_lowercase(),
            _ => self.shown(),
        };
        match word.as_str() {
            "true" | "t" | "1" | "yes" | "on" => Ok(true),
            "false" | "f" | "0" | "no" | "off" => Ok(false),
            _ => Err(Bad::new(format!("is {}, which is neither true nor false", self.shown()), "write true or false")),
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn count(&self, min: u64, max: u64) -> Result<u64, Bad> {
        let number = match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| {
            Bad::new(format!("is {}", self.shown()), format!("write a whole number from {min} to {max}"))
        })
    }

    /// A number of bytes: `16777216`, `"16MiB"`, `"1 GB"`.
    pub(super) fn size(&self) -> Result<u64, Bad> {
        let number = match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Text(text) => with_unit(text, &SIZE_UNITS, Some(1)),
            _ => None,
        };
        number.filter(|number| *number <= CONFIG_SIZE_MAX).ok_or_else(|| {
            Bad::new(
                format!("is {}, which is no size", self.shown()),
                "write a number of bytes up to 1 TiB, such as 65536, 64KiB, 16MiB or 1GiB",
            )
        })
    }

    /// A time with its unit: `"500ms"`, `"10s"`, `"15m"`, `"7d"`; at least `min`.
    pub(super) fn time(&self, min: Duration) -> Result<Duration, Bad> {
        let millis = match self {
            Self::Text(text) if text.trim() == "0" => Some(0),
            Self::Integer(0) => Some(0),
            Self::Text(text) => with_unit(text, &UNITS, None),
            _ => None,
        };
        let time = millis.map(Duration::from_millis).filter(|time| *time <= CONFIG_TIME_MAX);
        match time {
            None => Err(Bad::new(
                format!("is {}, which is no time", self.shown()),
                "write a time with its unit, such as 500ms, 10s, 15m or 7d",
            )),
            Some(time) if time < min => {
                Err(Bad::new(format!("is {}", self.shown()), format!("write at least {}", show_time(min))))
            }
            Some(time) => Ok(time),
        }
    }

    /// A list; text is split at commas. Empty elements are dropped.
    pub(super) fn list(&self) -> Result<Vec<String>, Bad> {
        let parts = match self {
            Self::Text(text) => text.split(',').map(str::to_owned).collect(),
            Self::List(list) => list.clone(),
            _ => return Err(Bad::new("is not a list", "write [\"a\", \"b\"], or \"a,b\"")),
        };
        Ok(parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }

    /// One word out of several.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Bad> {
        let text = if let Self::Text(text) = self { text.to_ascii_lowercase() } else { String::new() };
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Bad::new(format!("is {}", self.shown()), format!("write one of: {}", all.join(", ")))
        })
    }

    /// `IP:PORT`, `[IPv6]:PORT` or `localhost:PORT`.
    pub(super) fn address(&self) -> Result<SocketAddr, Bad> {
        let text = if let Self::Text(text) = self { text.trim() } else { "" };
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
            Bad::new(
                format!("is {}, which is no address", self.shown()),
                "write an IP address and a port, such as 127.0.0.1:4444, 0.0.0.0:4444 or [::]:4444",
            )
        })
    }
}

/// A time as a command line has it: with its unit, in the words of the configuration.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    Raw::Text(text.to_owned()).time(Duration::ZERO).map_err(|bad| bad.remedy)
}

/// A number of bytes as a command line has it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    Raw::Text(text.to_owned()).size().map_err(|bad| bad.remedy)
}

/// Takes off one pair of quotes that shells and compose files leave around a value (`"true"`, `'4444'`).
pub(super) fn unquote(text: &str) -> Option<&str> {
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

/// A time as it can be written again: in the largest unit that divides it.
pub(super) fn show_time(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    show_unit(millis, &UNITS).unwrap_or_else(|| "0s".to_owned())
}

/// A number of bytes as it can be written again: in the largest binary unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let binary = SIZE_UNITS.get(..3).unwrap_or_default();
    show_unit(bytes, binary).unwrap_or_else(|| bytes.to_string())
}

fn show_unit(number: u64, units: &[(&str, u64)]) -> Option<String> {
    let (unit, factor) = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor))?;
    Some(format!("{}{unit}", number / factor))
}

/// `10s` → 10 × 1000. A bare number needs a `bare` factor.
fn with_unit(text: &str, units: &[(&str, u64)], bare: Option<u64>) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let unit = unit.trim();
    let factor = if unit.is_empty() {
        bare?
    } else {
        units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)?
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn times_need_a_unit_and_a_sane_size() {
        for (written, millis) in [
            (text("500ms"), Some(500)),
            (text("10s"), Some(10_000)),
            (text(" 75 s "), Some(75_000)),
            (text("15m"), Some(900_000)),
            (text("2H"), Some(7_200_000)),
            (text("7d"), Some(604_800_000)),
            (text("0"), Some(0)),
            (Raw::Integer(0), Some(0)),
            (text("10"), None),
            (Raw::Integer(10), None),
            (text("-1s"), None),
            (text("1.5s"), None),
            (text("s"), None),
            (text(""), None),
            (text("10 parsecs"), None),
            (text("99999999999999999999s"), None),
            (text("18446744073709551615d"), None),
            (text("18446744073709551615ms"), None),
            (Raw::Bool(true), None),
        ] {
            let parsed = written.time(Duration::ZERO).ok().map(|time| time.as_millis());
            assert_eq!(parsed, millis, "{}", written.shown());
        }
        assert!(text("9ms").time(Duration::from_millis(10)).is_err_and(|bad| bad.remedy == "write at least 10ms"));
    }

    #[test]
    fn sizes_are_bytes_with_or_without_a_unit() {
        for (written, bytes) in [
            (text("16777216"), Some(16_777_216)),
            (Raw::Integer(16_777_216), Some(16_777_216)),
            (text("16MiB"), Some(16_777_216)),
            (text("16 mib"), Some(16_777_216)),
            (text("1GB"), Some(1_000_000_000)),
            (text("3kB"), Some(3_000)),
            (text("7B"), Some(7)),
            (text("1024GiB"), Some(1 << 40)),
            (text("1025GiB"), None),
            (Raw::Integer(-1), None),
            (text("99999999999GiB"), None),
            (text("MiB"), None),
            (text("5 apples"), None),
        ] {
            assert_eq!(written.size().ok(), bytes, "{}", written.shown());
        }
    }

    #[test]
    fn booleans_are_what_the_original_took_for_one() {
        for (written, expect) in [
            (text("true"), Some(true)),
            (text("TRUE"), Some(true)),
            (text("1"), Some(true)),
            (Raw::Integer(1), Some(true)),
            (Raw::Bool(false), Some(false)),
            (text("F"), Some(false)),
            (text("no"), Some(false)),
            (text("maybe"), None),
            (text(""), None),
            (Raw::Integer(2), None),
        ] {
            assert_eq!(written.flag().ok(), expect, "{}", written.shown());
        }
    }

    #[test]
    fn addresses_are_numeric_or_localhost() {
        for (written, expect) in [
            ("127.0.0.1:4444", Some("127.0.0.1:4444")),
            ("localhost:1", Some("127.0.0.1:1")),
            ("[::1]:80", Some("[::1]:80")),
            (":4444", None),
            ("4444", None),
            ("example.org:80", None),
            ("127.0.0.1", None),
            ("127.0.0.1:65536", None),
        ] {
            let parsed = text(written).address().ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expect, "{written}");
        }
    }

    #[test]
    fn one_pair_of_quotes_comes_off_and_no_more() {
        for (written, expect) in [
            ("\"true\"", Some("true")),
            ("'4444'", Some("4444")),
            ("\"\"x\"\"", Some("\"x\"")),
            ("\"\"", Some("")),
            ("\"", None),
            ("'x\"", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(unquote(written), expect, "{written}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0u64..3_000_000_000_000, bytes in 0u64..=CONFIG_SIZE_MAX) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(text(&show_time(time)).time(Duration::ZERO), Ok(time));
            prop_assert_eq!(text(&show_size(bytes)).size(), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_parser_panic(written in "\\PC*") {
            let raw = text(&written);
            let _ = (raw.time(Duration::ZERO).is_ok(), raw.size().is_ok(), raw.address().is_ok(), raw.list().is_ok());
        }
    }
}
