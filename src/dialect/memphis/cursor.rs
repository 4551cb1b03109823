//! Where a tail or a page of records begins, as clients say it: `?from=`, `?partition=`, `?limit=`, and the cursors that
//! they are given to go on with. Pure.
//!
//! A cursor is `0:17,1:5`: for each partition the sequence that comes next.

use crate::{
    consume::Begin,
    reject::Reject,
    wire::time::{UNITS, unix_ms},
};
use percent_encoding::percent_decode;
use std::{borrow::Cow, fmt::Write as _, time::Duration};

const FROM: &str =
    "from is new, first, a time back such as -15m, a time such as 2026-12-01T10:20:30Z, or a cursor such as 0:17,1:5";
const CURSOR: &str = "a cursor names each partition once, with the sequence that comes next, such as 0:17,1:5";

/// What the URL asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) begin: Begin,
    /// The only partition, if it is one.
    pub(super) partition: Option<u16>,
    /// How many records, if it says so.
    pub(super) limit: Option<u64>,
}

impl Wanted {
    /// Reads the raw query (what follows `?`). Without `from`, what is read begins with `default`. What a browser saw last
    /// (`Last-Event-ID`) wins over `from`: when it connects again it sends both. Parameters that are not known are
    /// skipped; of one that comes twice the first counts.
    pub(super) fn of(query: Option<&[u8]>, last_event_id: Option<&[u8]>, default: Begin) -> Result<Self, Reject> {
        let query = query.unwrap_or_default();
        let last_event_id = last_event_id.map(<[u8]>::trim_ascii).filter(|id| !id.is_empty());
        let begin = match (last_event_id, parameter(query, "from")?) {
            (Some(id), _) => std::str::from_utf8(id).ok().and_then(cursor).ok_or(Reject::Field(CURSOR))?,
            (None, Some(from)) => begin(&from)?,
            (None, None) => default,
        };
        let partition = match parameter(query, "partition")? {
            Some(text) => Some(number(&text).ok_or(Reject::Field("partition is the number of a partition, from 0"))?),
            None => None,
        };
        let limit = match parameter(query, "limit")? {
            Some(text) => Some(
                number(&text)
                    .filter(|limit| *limit > 0)
                    .ok_or(Reject::Field("limit is a number of records, from 1"))?,
            ),
            None => None,
        };
        Ok(Self { begin, partition, limit })
    }
}

/// Returns the decoded value of a parameter, if it is there and not empty. A plus sign stays one: times have them.
fn parameter<'a>(query: &'a [u8], name: &str) -> Result<Option<Cow<'a, str>>, Reject> {
    let mut pairs = query.split(|byte| *byte == b'&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    percent_decode(value).decode_utf8().map(Some).map_err(|_| Reject::Field("a parameter of the URL is not UTF-8"))
}

fn begin(text: &str) -> Result<Begin, Reject> {
    match text {
        "new" => return Ok(Begin::New),
        "first" => return Ok(Begin::First),
        _ => {}
    }
    if let Some(ago) = text.strip_prefix('-') {
        return duration(ago).map(Begin::Ago).ok_or(Reject::Field(FROM));
    }
    if let Some(time) = unix_ms(text) {
        return Ok(Begin::Since(time));
    }
    let is_cursor = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b','));
    cursor(text).ok_or(Reject::Field(if is_cursor { CURSOR } else { FROM }))
}

/// Reads a time in the units of the configuration.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(unit)?;
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    Some(Duration::from_millis(number::<u64>(digits)?.checked_mul(*factor)?))
}

fn cursor(text: &str) -> Option<Begin> {
    let mut places: Vec<(u16, u64)> = Vec::new();
    for place in text.split(',') {
        let (partition, sequence) = place.split_once(':')?;
        let (partition, sequence) = (number(partition)?, number(sequence)?);
        places.push((partition, sequence));
    }
    places.sort_unstable();
    let is_twice = places.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
    (!is_twice).then_some(Begin::At(places))
}

/// Reads a number of digits alone.
fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Appends the cursor of these places.
pub(super) fn write_cursor(places: impl Iterator<Item = (u16, u64)>, out: &mut String) {
    for (at, (partition, next)) in places.enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{}{partition}:{next}", if at == 0 { "" } else { "," });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(query: &str, last_event_id: Option<&str>) -> Result<Wanted, Reject> {
        Wanted::of(Some(query.as_bytes()), last_event_id.map(str::as_bytes), Begin::New)
    }

    #[test]
    fn a_url_says_where_to_begin() {
        let at = |places: &[(u16, u64)]| Ok(Begin::At(places.to_vec()));
        let ago = |seconds| Ok(Begin::Ago(Duration::from_secs(seconds)));
        let (from, cursor) = (Err(Reject::Field(FROM)), Err(Reject::Field(CURSOR)));
        for (query, last_event_id, expect) in [
            ("", None, Ok(Begin::New)),
            ("from=", None, Ok(Begin::New)),
            ("x=1&from=first&from=new", None, Ok(Begin::First)),
            ("from=-15m", None, ago(900)),
            ("from=-2H", None, ago(7_200)),
            ("from=-1d&partition=3", None, ago(86_400)),
            ("from=-500ms", None, Ok(Begin::Ago(Duration::from_millis(500)))),
            ("from=2026-12-01T10:20:30.123Z", None, Ok(Begin::Since(1_796_120_430_123))),
            ("from=2026-12-01T11:20:30.123+01:00", None, Ok(Begin::Since(1_796_120_430_123))),
            ("from=2026-12-01T11%3A20%3A30.123%2B01%3A00", None, Ok(Begin::Since(1_796_120_430_123))),
            ("from=0:17,1:5", None, at(&[(0, 17), (1, 5)])),
            ("from=1%3A5%2C0%3A17", None, at(&[(0, 17), (1, 5)])),
            ("from=0:17", Some(""), at(&[(0, 17)])),
            ("from=0:17", Some(" 0:18,1:6 "), at(&[(0, 18), (1, 6)])),
            ("from=nonsense", Some("0:18"), at(&[(0, 18)])),
            ("from=first", Some("x"), cursor.clone()),
            ("from=FIRST", None, from.clone()),
            ("from=15m", None, from.clone()),
            ("from=-15", None, from.clone()),
            ("from=-m", None, from.clone()),
            ("from=-1w", None, from.clone()),
            ("from=-99999999999999999d", None, from.clone()),
            ("from=2026-12-01", None, from.clone()),
            ("from=%ff", None, Err(Reject::Field("a parameter of the URL is not UTF-8"))),
            ("from=17", None, cursor.clone()),
            ("from=0:17,", None, cursor.clone()),
            ("from=0:17,0:18", None, cursor.clone()),
            ("from=65536:1", None, cursor.clone()),
            ("from=0:18446744073709551616", None, cursor.clone()),
            ("from=0:%2B1", None, from.clone()),
            ("from=:1", None, cursor),
        ] {
            let begin = wanted(query, last_event_id).map(|wanted| wanted.begin);
            assert_eq!(begin, expect, "{query} {last_event_id:?}");
        }
    }

    #[test]
    fn a_url_says_how_much() {
        let check = |query: &str, partition, limit| {
            assert_eq!(wanted(query, None), Ok(Wanted { begin: Begin::New, partition, limit }), "{query}");
        };
        check("", None, None);
        check("limit=10&partition=0", Some(0), Some(10));
        check("limit=18446744073709551615", None, Some(u64::MAX));
        for query in ["limit=0", "limit=-1", "limit=x", "limit=1.5", "partition=-1", "partition=65536", "partition=all"]
        {
            assert!(matches!(wanted(query, None), Err(Reject::Field(_))), "{query}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_that_was_written_is_read(places in prop::collection::btree_map(any::<u16>(), any::<u64>(), 1..70)) {
            let places: Vec<(u16, u64)> = places.into_iter().collect();
            let mut text = String::new();
            write_cursor(places.iter().copied(), &mut text);
            prop_assert_eq!(cursor(&text), Some(Begin::At(places)));
        }

        #[test]
        fn nothing_panics(query in "[a-z]{0,3}(from|limit|partition)=[ -~]{0,40}", id in "\\PC{0,40}") {
            let _ = (wanted(&query, None), wanted(&query, Some(&id)));
        }
    }
}
