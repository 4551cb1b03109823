//! The text of a schema with every digit of its numbers, also of those that `serde_json` would round.
//!
//! A number that neither 64 bits nor a double hold exactly is replaced, before the text is parsed, by a double near to
//! it that occurs nowhere else in the schema; its own text is kept under that one. So the tree stays what everybody
//! works with, and [`Exact::text`] gives back what was written.

use super::{super::CompileError, decimal::Decimal};
use crate::limits::SCHEMA_JSON_LONG_NUMBERS_MAX;
use serde_json::{Number, Value, value::RawValue};
use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    ops::Range,
};

/// Bytes of the longest number of a tree, with room to spare.
const NUMBER_BYTES: usize = 40;

/// Numbers of a schema that its tree does not hold exactly.
#[derive(Debug, Default)]
pub(super) struct Exact {
    /// By the bits of the double that stands for it.
    texts: HashMap<u64, Box<str>>,
}

impl Exact {
    /// Whether the tree holds every number as it was written.
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Returns a number of the schema as it was written, where the tree has another.
    fn written(&self, number: &Number) -> Option<&str> {
        let stand_in = bits(number).filter(|_| number.is_f64())?;
        self.texts.get(&stand_in).map(|text| &**text)
    }

    /// Returns a number of the schema with all its digits.
    pub(super) fn text(&self, number: &Number) -> String {
        self.written(number).map_or_else(|| number.to_string(), str::to_owned)
    }

    /// Returns a value of the schema as JSON, with all digits of its numbers.
    pub(super) fn show(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => self.text(number),
            Value::Array(elements) if !self.is_empty() => {
                let elements: Vec<String> = elements.iter().map(|element| self.show(element)).collect();
                format!("[{}]", elements.join(","))
            }
            Value::Object(members) if !self.is_empty() => {
                let member =
                    |(name, value): (&String, _)| format!("{}:{}", Value::from(name.as_str()), self.show(value));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
            other => other.to_string(),
        }
    }
}

/// Calls `with` with what a number of the schema is worth. Allocates nothing.
pub(super) fn with_decimal<T>(exact: Option<&Exact>, number: &Number, with: impl FnOnce(Decimal<'_>) -> T) -> T {
    if let Some(text) = exact.and_then(|exact| exact.written(number)) {
        return with(Decimal::parse(text));
    }
    let mut buffer = [0; NUMBER_BYTES];
    let mut rest = &mut buffer[..];
    let fits = write!(rest, "{number}").is_ok();
    let left = rest.len();
    let text = buffer.get(..NUMBER_BYTES - left).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text.filter(|_| fits) {
        Some(text) => with(Decimal::parse(text)),
        None => with(Decimal::parse(&number.to_string())),
    }
}

/// Parses the text of a schema.
pub(super) fn parse(text: &str) -> Result<(Value, Exact), CompileError> {
    let not_json = |error| CompileError(format!("the schema is not JSON: {error}"));
    let _is_json: &RawValue = serde_json::from_str(text).map_err(not_json)?;
    let mut exact = Exact::default();
    let mut taken = HashSet::new();
    let mut rounded = Vec::new();
    for place in numbers(text) {
        let written = text.get(place.clone()).unwrap_or_default();
        match serde_json::from_str::<Number>(written) {
            Ok(number) if Decimal::parse(&number.to_string()) == Decimal::parse(written) => {
                taken.extend(bits(&number));
            }
            _ => rounded.push(place),
        }
    }
    if rounded.is_empty() {
        return Ok((serde_json::from_str(text).map_err(not_json)?, exact));
    }
    if rounded.len() > SCHEMA_JSON_LONG_NUMBERS_MAX {
        let most = SCHEMA_JSON_LONG_NUMBERS_MAX;
        return Err(CompileError(format!("it has more than {most} numbers that 64 bits and doubles do not hold")));
    }
    let mut replaced = String::with_capacity(text.len() + 8 * rounded.len());
    let mut at = 0;
    for place in rounded {
        let written = text.get(place.clone()).unwrap_or_default();
        let (stand_in, bits) = stand_in(written, &taken);
        replaced.push_str(text.get(at..place.start).unwrap_or_default());
        replaced.push_str(&stand_in);
        at = place.end;
        taken.insert(bits);
        exact.texts.insert(bits, written.into());
    }
    replaced.push_str(text.get(at..).unwrap_or_default());
    Ok((serde_json::from_str(&replaced).map_err(not_json)?, exact))
}

/// Returns where the numbers of a JSON text are.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    at += 1;
                    while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                        at += 1 + usize::from(*byte == b'\\');
                    }
                    at += 1;
                }
                b'-' | b'0'..=b'9' => {
                    let begin = at;
                    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    at += bytes.get(begin..).unwrap_or_default().iter().take_while(is_part).count();
                    return Some(begin..at);
                }
                _ => at += 1,
            }
        }
        None
    })
}

fn bits(number: &Number) -> Option<u64> {
    number.as_f64().map(f64::to_bits)
}

/// Returns a double of the same sign as the number, as near to it as nobody else is, and its bits as they are read
/// back.
fn stand_in(written: &str, taken: &HashSet<u64>) -> (String, u64) {
    let near: f64 = written.parse().unwrap_or(f64::MAX);
    let size = near.abs().clamp(f64::MIN_POSITIVE, f64::MAX).to_bits();
    // Toward the middle of the doubles, where there are always more.
    let towards_zero = size > 1.0_f64.to_bits();
    let sign = if written.starts_with('-') { -1.0 } else { 1.0 };
    (0..)
        .find_map(|step| {
            let bits = if towards_zero { size - step } else { size + step };
            let text = Number::from_f64(sign * f64::from_bits(bits))?.to_string();
            let bits = bits_read_back(&text)?;
            (!taken.contains(&bits)).then_some((text, bits))
        })
        .unwrap_or_default()
}

fn bits_read_back(text: &str) -> Option<u64> {
    serde_json::from_str::<Number>(text).ok().as_ref().and_then(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_tree_would_round_keep_their_text() {
        let text = r#"{"\"1\\":[1,-2.50,1e38,99999999999999999999999999999999999999,100000000000000000000000000000000000001],
            "b":{"c":1e999,"d":-1e-999,"e":"3.00000000000000000000000000001"},"f":0.1,"g":0.10000000000000000000001,"h":9007199254740993}"#;
        let (value, exact) = parse(text).expect("it is JSON");
        let texts = |value: &Value| exact.text(value.as_number().expect("a number"));
        let list: Vec<String> = value["\"1\\"].as_array().expect("an array").iter().map(texts).collect();
        let expect =
            ["1", "-2.5", "1e38", "99999999999999999999999999999999999999", "100000000000000000000000000000000000001"];
        assert!(
            list.iter().zip(expect).all(|(text, expect)| Decimal::parse(text) == Decimal::parse(expect)),
            "{list:?}"
        );
        for (place, expect) in [
            (&value["b"]["c"], "1e999"),
            (&value["b"]["d"], "-1e-999"),
            (&value["f"], "0.1"),
            (&value["g"], "0.10000000000000000000001"),
            (&value["h"], "9007199254740993"),
        ] {
            assert_eq!(texts(place), expect);
        }
        assert_eq!(value["b"]["e"], "3.00000000000000000000000000001");
        assert!(value["b"]["d"].as_f64().is_some_and(|number| number < 0.0), "the sign stays");
    }

    #[test]
    fn what_is_no_json_is_refused_where_it_is_wrong() {
        for (text, at) in [("", 0), ("{\"a\":1e}", 8), ("[01]", 3), ("[1 2]", 4), ("99999999999999999999x", 21)] {
            let refused = parse(text).expect_err(text).0;
            assert!(refused.ends_with(&format!(" at line 1 column {at}")), "{text}: {refused}");
        }
    }
}
