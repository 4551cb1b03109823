//! The header fields of a reply.
//!
//! They are kept as HTTP/1.1 writes them, `Name: value\r\n` each, so that writing them is one copy; another version of
//! HTTP reads them back by name and value. The fields of common replies are constants, and nothing is allocated for
//! them. Every line is checked once, when it is added (a constant when it is compiled), so no value can break out of its
//! field.

use super::{is_token_byte, is_value_byte, trimmed};
use std::borrow::Cow;

/// Header fields, in their order. A name may come more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Cow<'static, [u8]>);

impl Fields {
    /// Returns constant fields, `Name: value\r\n` each. Anything else does not compile, or panics where it is no
    /// constant.
    #[must_use]
    pub const fn of(lines: &'static str) -> Self {
        assert!(are_lines(lines.as_bytes()), "fields are whole lines, name: value, each ended by CRLF");
        Self(Cow::Borrowed(lines.as_bytes()))
    }

    /// Adds a field. A value that holds a control character is a bug of ours: it stops a debug build, and the field is
    /// left out in a release.
    pub fn push(&mut self, name: &'static str, value: &[u8]) {
        let is_good = is_name(name.as_bytes()) && value.iter().all(|byte| is_value_byte(*byte));
        debug_assert!(is_good, "a name that is a token, and a value without control characters");
        if is_good {
            let lines = self.0.to_mut();
            lines.reserve(name.len() + value.len() + b": \r\n".len());
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
    }

    /// Adds a field whose value is a number.
    pub fn push_number(&mut self, name: &'static str, number: u64) {
        self.push(name, itoa::Buffer::new().format(number).as_bytes());
    }

    /// Adds other fields behind these.
    pub fn extend(&mut self, more: &Self) {
        self.0.to_mut().extend_from_slice(&more.0);
    }

    /// Takes all fields of this name out.
    pub fn remove(&mut self, name: &str) {
        let is_other = |line: &&[u8]| !split(line).0.eq_ignore_ascii_case(name.as_bytes());
        self.0 = Cow::Owned(lines(&self.0).filter(is_other).collect::<Vec<_>>().concat());
    }

    /// Returns the value of the first field of this name, in any letter case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Returns all fields in their order: name, value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        lines(&self.0).map(split)
    }

    /// Returns the fields as HTTP/1.1 writes them.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the lines with their ends. No field holds a LF.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split_inclusive(|byte| *byte == b'\n')
}

/// Returns name and value of a line.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    let value = value.strip_suffix(b"\r\n").unwrap_or(value);
    (name, trimmed(value.get(1..).unwrap_or_default()))
}

/// Returns whether the bytes are a token.
const fn is_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    while let [byte, rest @ ..] = name {
        if !is_token_byte(*byte) {
            return false;
        }
        name = rest;
    }
    true
}

/// Returns whether the bytes are whole field lines and nothing else.
const fn are_lines(mut block: &[u8]) -> bool {
    let mut name_bytes = 0_usize;
    while let [byte, rest @ ..] = block {
        block = rest;
        if is_token_byte(*byte) {
            name_bytes += 1;
            continue;
        }
        if name_bytes == 0 || *byte != b':' {
            return false;
        }
        name_bytes = 0;
        while let [byte, rest @ ..] = block
            && is_value_byte(*byte)
        {
            block = rest;
        }
        let [b'\r', b'\n', rest @ ..] = block else { return false };
        block = rest;
    }
    name_bytes == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: Fields = Fields::of("Content-Type: text/plain\r\nVary:Origin\r\nVary:  Accept \r\n");

    #[test]
    fn fields_are_read_by_name_and_value() {
        let common = COMMON;
        let all: Vec<_> = common.iter().map(|(name, value)| [name, value].map(String::from_utf8_lossy)).collect();
        assert_eq!(all, [["Content-Type", "text/plain"], ["Vary", "Origin"], ["Vary", "Accept"]]);
        assert_eq!(common.get("vary"), Some(&b"Origin"[..]));
        assert_eq!(common.get("Var"), None);
        assert_eq!(Fields::default().iter().count(), 0);
    }

    #[test]
    fn fields_are_added_and_taken_out() {
        let mut fields = COMMON;
        fields.push("Retry-After", b"2");
        fields.push_number("X-N", u64::MAX);
        fields.remove("VARY");
        fields.extend(&Fields::of("A: b\r\n"));
        let expect = "Content-Type: text/plain\r\nRetry-After: 2\r\nX-N: 18446744073709551615\r\nA: b\r\n";
        assert_eq!(String::from_utf8_lossy(fields.lines()), expect);
        assert_eq!(COMMON.iter().count(), 3, "the constant is as it was");
    }

    #[test]
    fn only_whole_lines_are_fields() {
        for (block, expect) in [
            ("", true),
            ("a: b\r\n", true),
            ("a:\r\nb: \u{e4}\t\r\n", true),
            ("a: b", false),
            ("a: b\r\n\r\n", false),
            ("a: b\nc: d\r\n", false),
            (": b\r\n", false),
            ("a b\r\n", false),
            ("a: b\r\nc", false),
            ("a: b\rc: d\r\n", false),
            ("a: \0\r\n", false),
        ] {
            assert_eq!(are_lines(block.as_bytes()), expect, "{block:?}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_value_that_would_break_out_of_its_field_stops_a_debug_build() {
        for (name, value) in [("A", "a\r\nb: c"), ("Allow", "GET\n"), ("", "b"), ("a b", "c"), ("a:", "c")] {
            let push = || Fields::default().push(name, value.as_bytes());
            assert!(std::panic::catch_unwind(push).is_err(), "{name} {value:?}");
        }
    }
}
