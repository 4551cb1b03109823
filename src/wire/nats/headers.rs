//! The header block of a message: a version line that may carry a status, fields, a blank line.
//!
//! As tolerant as the broker's own clients: a line that is no field is passed over, white space around a
//! value does not count, a missing blank line at the end is forgiven. Spans are relative to the block.

use crate::wire::Span;
use memchr::memchr;
use std::{borrow::Cow, fmt::Write as _};

/// The status that the broker put into the version line: `NATS/1.0 503 No Responders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Three digits.
    pub code: u16,
    /// The text after the code; older servers and some codes have none.
    pub description: Span,
}

/// No one listens on the subject.
pub const NO_RESPONDERS: u16 = 503;

/// The status of a block, if it has one: then the message is the broker's, and not a user's.
#[must_use]
pub fn status(block: &[u8]) -> Option<Status> {
    let (line, _) = line_at(block, 0);
    let text = line.strip_prefix(b"NATS/1.")?.get(1..)?.trim_ascii_start();
    let (code, description) = text.split_at_checked(3)?;
    let code =
        code.iter().try_fold(0u16, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u16::from(byte - b'0')))?;
    if !matches!(description.first(), None | Some(b' ' | b'\t')) {
        return None;
    }
    let description = description.trim_ascii_start();
    Some(Status { code, description: trimmed(block, line.len() - description.len(), line.len()) })
}

/// The fields of a block, in order, each as name and value.
#[must_use]
pub fn fields(block: &[u8]) -> Fields<'_> {
    Fields { block, at: line_at(block, 0).1 }
}

/// The value of the first field of that name, in any letter case.
#[must_use]
pub fn find<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(block)
        .find(|(field, _)| field.of(block).eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.of(block))
}

/// The field lines as they stand (`Name: value\r\n` each), without version line and blank line.
#[must_use]
pub fn field_lines(block: &[u8]) -> Span {
    let start = line_at(block, 0).1;
    let mut end = start;
    while end < block.len() {
        let (line, next) = line_at(block, end);
        if line.is_empty() {
            break;
        }
        end = next;
    }
    span(start, end)
}

/// A field's value as text that every client of the broker can read: valid UTF-8 on one line.
///
/// What is valid UTF-8 stays as it is; anything else is taken for Latin-1, as HTTP once had it (RFC 9110, section 5.5). Of both, what
/// ends a line or controls a terminal is percent-encoded; a `%` that was sent stays a `%`. Clients of the broker give up a whole
/// connection at a header block that is not UTF-8, and come back to the same message for ever.
#[must_use]
pub fn text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        // Nearly every value is visible ASCII.
        Ok(text) if value.iter().all(|byte| matches!(byte, b' '..=b'~')) => Cow::Borrowed(text),
        Ok(text) if text.chars().all(is_on_a_line) => Cow::Borrowed(text),
        Ok(text) => {
            let mut bytes = [0; 4];
            Cow::Owned(encoded(text.chars(), |char, out| push_encoded(char.encode_utf8(&mut bytes).as_bytes(), out)))
        }
        Err(_) => {
            let chars = value.iter().copied().map(char::from);
            // Of Latin-1 only what is one byte there can be a control character.
            Cow::Owned(encoded(chars, |char, out| push_encoded(&[u8::try_from(char).unwrap_or(b'?')], out)))
        }
    }
}

/// Whether a name can be a field's: a token (RFC 9110, section 5.6.2).
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token_byte)
}

/// Whether a character may stand in a value as it is. Some readers take the separators of lines and paragraphs for line ends.
#[must_use]
pub fn is_on_a_line(char: char) -> bool {
    char == '\t' || !(char.is_control() || matches!(char, '\u{2028}' | '\u{2029}'))
}

fn encoded(chars: impl Iterator<Item = char>, mut encode: impl FnMut(char, &mut String)) -> String {
    let mut out = String::new();
    for char in chars {
        if is_on_a_line(char) { out.push(char) } else { encode(char, &mut out) }
    }
    out
}

/// Appends bytes percent-encoded.
pub fn push_encoded(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

/// Iterator of [`fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = (Span, Span);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.block.len() {
            let start = self.at;
            let (line, next) = line_at(self.block, start);
            if line.is_empty() {
                self.at = self.block.len();
                return None;
            }
            self.at = next;
            if let Some(colon) = memchr(b':', line)
                && colon > 0
            {
                let name = span(start, start + colon);
                return Some((name, trimmed(self.block, start + colon + 1, start + line.len())));
            }
        }
        None
    }
}

/// The line that begins at `start`, without its end, and where the next one begins.
fn line_at(block: &[u8], start: usize) -> (&[u8], usize) {
    let rest = block.get(start..).unwrap_or_default();
    match memchr(b'\n', rest) {
        None => (rest, block.len()),
        Some(end) => {
            let line = rest.get(..end).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), start + end + 1)
        }
    }
}

/// `start..end` without white space at its ends.
fn trimmed(block: &[u8], start: usize, end: usize) -> Span {
    let text = block.get(start..end).unwrap_or_default().trim_ascii_start();
    let start = end - text.len();
    span(start, start + text.trim_ascii_end().len())
}

/// A block is part of a message, and a message has a limit far under 4 GiB.
fn span(start: usize, end: usize) -> Span {
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) => Span { start, end },
        _ => Span::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_is_three_digits_after_the_version() {
        for (block, expect) in [
            ("NATS/1.0 503\r\n\r\n", Some((503, ""))),
            ("NATS/1.0 503 No Responders\r\n\r\n", Some((503, "No Responders"))),
            ("NATS/1.0 404 No Messages \r\n\r\n", Some((404, "No Messages"))),
            ("NATS/1.0   100\tIdle Heartbeat\r\nNats-Last-Stream: 4\r\n\r\n", Some((100, "Idle Heartbeat"))),
            ("NATS/1.0\r\nA: 503\r\n\r\n", None),
            ("NATS/1.0 \r\n\r\n", None),
            ("NATS/1.0 50\r\n\r\n", None),
            ("NATS/1.0 5034\r\n\r\n", None),
            ("NATS/1.0 5x3 no\r\n\r\n", None),
            ("NATS/2.0 503\r\n\r\n", None),
            ("NATS/1.", None),
            ("", None),
        ] {
            let found = status(block.as_bytes()).map(|status| {
                (status.code, String::from_utf8_lossy(status.description.of(block.as_bytes())).into_owned())
            });
            assert_eq!(found, expect.map(|(code, text)| (code, text.to_owned())), "{block:?}");
        }
    }

    #[test]
    fn fields_are_read_leniently() {
        for (block, expect, lines) in [
            ("NATS/1.0\r\n\r\n", vec![], ""),
            ("NATS/1.0\r\nA: b\r\n\r\n", vec![("A", "b")], "A: b\r\n"),
            ("NATS/1.0\r\nA:b\r\nA: \t c d \r\n\r\n", vec![("A", "b"), ("A", "c d")], "A:b\r\nA: \t c d \r\n"),
            ("NATS/1.0 503\r\nNats-Subject: x:y\r\n\r\n", vec![("Nats-Subject", "x:y")], "Nats-Subject: x:y\r\n"),
            ("NATS/1.0\r\nno colon\r\n: no name\r\nA:\r\n\r\n", vec![("A", "")], "no colon\r\n: no name\r\nA:\r\n"),
            ("NATS/1.0\nA: b\n\nC: d\n", vec![("A", "b")], "A: b\n"),
            ("NATS/1.0\r\nA: b", vec![("A", "b")], "A: b"),
            ("NATS/1.0", vec![], ""),
            ("", vec![], ""),
        ] {
            let bytes = block.as_bytes();
            let text = |span: Span| std::str::from_utf8(span.of(bytes)).unwrap();
            let found: Vec<_> = fields(bytes).map(|(name, value)| (text(name), text(value))).collect();
            assert_eq!(found, expect, "{block:?}");
            assert_eq!(text(field_lines(bytes)), lines, "{block:?}");
        }
        let block = b"NATS/1.0\r\nNats-Subject: one\r\nnats-subject: two\r\n\r\n";
        assert_eq!(find(block, "NATS-SUBJECT"), Some(b"one".as_slice()));
        assert_eq!(find(block, "Nats"), None);
    }

    #[test]
    fn a_value_is_text_on_one_line() {
        for (value, expect) in [
            (&b""[..], ""),
            (b"plain \t 100%41", "plain \t 100%41"),
            ("J\u{fc}rgen \u{2713}".as_bytes(), "J\u{fc}rgen \u{2713}"),
            (b"J\xfcrgen", "J\u{fc}rgen"),
            (b"\xa0\xff", "\u{a0}\u{ff}"),
            (b"\x93quoted\x94", "%93quoted%94"),
            (b"cut \xe2\x9c", "cut \u{e2}%9C"),
            ("\u{85}\u{93}".as_bytes(), "%C2%85%C2%93"),
            ("a\u{2028}b\u{2029}".as_bytes(), "a%E2%80%A8b%E2%80%A9"),
            (b"a\r\nB: c\0\x7f", "a%0D%0AB: c%00%7F"),
            (b"\xed\xa0\x80", "\u{ed}\u{a0}%80"),
        ] {
            assert_eq!(text(value), expect, "{value:?}");
        }
        for (name, expect) in
            [("X-A_b.1", true), ("", false), ("a b", false), ("a:", false), ("\u{fc}", false), ("a\x7f", false)]
        {
            assert_eq!(is_name(name.as_bytes()), expect, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_one_line_of_text(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let text = text(&value);
            prop_assert!(text.chars().all(is_on_a_line));
            prop_assert_eq!(super::text(text.as_bytes()), text.as_ref(), "and stays what it is");
        }

        #[test]
        fn no_block_panics(block in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), any::<u8>()], 0..60)) {
            let _ = status(&block);
            let _ = field_lines(&block);
            prop_assert!(fields(&block).all(|(name, value)| !name.is_empty() && value.end as usize <= block.len()));
        }
    }
}
