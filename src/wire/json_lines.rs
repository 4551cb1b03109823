//! Finds JSON texts that come one after the other, in bytes that come in pieces: newline-delimited JSON (NDJSON, JSON
//! Lines), and JSON text sequences (RFC 7464). Each text is validated by [`super::json`].
//!
//! **Lines.** A line ends with `\n`, the last one also with the bytes. Lines are numbered as an editor numbers them;
//! blank ones count and are skipped.
//!
//! **Sequences.** A text begins with RS (0x1e) and ends with `\n`, or where the next one begins. A `\n` within a text,
//! such as in an indented object, does not end it. Texts are numbered one after the other; RS without a text behind it
//! does not count.
//! A number or a word that no `\n` ends may have been cut off, so it is not taken (RFC 7464, section 2.4).
//!
//! In both, a byte order mark at the beginning and white space around a text are no part of it. White space behind a text
//! counts for its length, but for a carriage return at the end of a line.
//!
//! Invariants: a text that is too long is skipped in constant memory; every byte is looked at once; how the bytes were
//! divided does not matter.

use super::{
    Span,
    json::{self, SplitLimits},
};
use crate::{
    limits::JSON_DEPTH_MAX,
    reject::{Reject, SizeLimit},
};

/// How texts are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By line ends.
    Lines,
    /// By RS (RFC 7464).
    Sequence,
}

/// A text that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub number: u64,
    /// Where it is in the buffer, without white space around it; or why it cannot be taken.
    pub text: Result<Span, Reject>,
}

/// A text that was found and not validated.
type Found = (u64, Result<Span, LineFault>);

/// Why a text cannot be taken, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineFault {
    /// It is longer than the limit.
    TooLong,
    /// No RS stands before it.
    Unmarked,
    /// No line end stands behind it, and what is there may be a part of it.
    Cut,
}

/// Finds the texts in a buffer to which bytes are appended, and from which its user removes what is not needed any more
/// ([`Self::done`]).
#[derive(Debug)]
pub struct JsonLines {
    framing: Framing,
    bytes_max: usize,
    /// The number of the line, or the text, that comes next.
    next: u64,
    /// Up to here the buffer was looked at.
    seen: usize,
    /// Where the text begins that was not found in whole yet; at most `seen`.
    begin: usize,
    /// Whether the beginning was looked at for a byte order mark.
    is_past_mark: bool,
    /// White space before the text that was not found in whole yet was parted with.
    is_begun: bool,
    /// The text that was not found in whole yet is too long. Its bytes are not needed.
    is_too_long: bool,
    nesting: Nesting,
    scratch: Vec<Span>,
}

/// What a sequence needs to know of the text that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Nesting {
    place: Place,
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

/// Where in a sequence the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Before RS.
    #[default]
    Between,
    /// In a text behind RS; or before its first byte.
    Text,
    /// In a text without RS.
    Unmarked,
}

/// What is said of a text without RS before it, and of one that may be cut off.
const UNMARKED: Reject = Reject::Body("a text of a JSON text sequence begins with RS (RFC 7464)");
const CUT: Reject =
    Reject::Body("the text has no line end behind it, so it may have been cut off (RFC 7464, section 2.4)");

const RECORD_SEPARATOR: u8 = 0x1e;
const MARK: &[u8] = "\u{feff}".as_bytes();

impl JsonLines {
    /// Returns a reader of texts of up to `bytes_max` bytes, of which the first has the number `first`.
    #[must_use]
    pub fn new(framing: Framing, first: u64, bytes_max: usize) -> Self {
        Self {
            framing,
            bytes_max,
            next: first,
            seen: 0,
            begin: 0,
            is_past_mark: false,
            is_begun: false,
            is_too_long: false,
            nesting: Nesting::default(),
            scratch: Vec::new(),
        }
    }

    /// Returns the number of the line, or the text, that comes next.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Returns how many bytes at the front of the buffer are not needed any more.
    #[must_use]
    pub fn done(&self) -> usize {
        self.begin
    }

    /// Notes that so many bytes were removed from the front of the buffer, [`Self::done`] at most.
    pub fn removed(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_sub(bytes);
        self.begin = self.begin.saturating_sub(bytes);
    }

    /// Returns the next text. `None`: more bytes are needed; or there are no more, if the buffer holds the last ones.
    pub fn next(&mut self, buffer: &[u8], is_last: bool) -> Option<Line> {
        let (number, text) = self.find(buffer, is_last)?;
        let text = match text {
            Ok(span) => json::check(span.of(buffer), JSON_DEPTH_MAX, &mut self.scratch).map(|()| span),
            Err(LineFault::TooLong) => Err(Reject::TooLarge(SizeLimit::Record, self.bytes_max as u64)),
            Err(LineFault::Unmarked) => Err(UNMARKED),
            Err(LineFault::Cut) => Err(CUT),
        };
        Some(Line { number, text })
    }

    fn find(&mut self, buffer: &[u8], is_last: bool) -> Option<Found> {
        if !self.is_past_mark && !self.skip_mark(buffer, is_last) {
            return None;
        }
        let found = match self.framing {
            Framing::Lines => self.find_line(buffer, is_last),
            Framing::Sequence => self.find_text(buffer, is_last),
        };
        if found.is_none() {
            self.keep_little(buffer);
        }
        found
    }

    /// Skips a byte order mark. `false`: whether there is one is not known yet.
    fn skip_mark(&mut self, buffer: &[u8], is_last: bool) -> bool {
        if buffer.len() < MARK.len() && MARK.starts_with(buffer) && !is_last {
            return false;
        }
        if buffer.starts_with(MARK) {
            (self.seen, self.begin) = (MARK.len(), MARK.len());
        }
        self.is_past_mark = true;
        true
    }

    fn find_line(&mut self, buffer: &[u8], is_last: bool) -> Option<Found> {
        loop {
            let rest = buffer.get(self.seen..).unwrap_or_default();
            let end = match memchr::memchr(b'\n', rest) {
                Some(at) => {
                    let end = self.seen + at;
                    self.seen = end + 1;
                    end
                }
                None if is_last && (self.begin < buffer.len() || self.is_begun || self.is_too_long) => {
                    self.seen = buffer.len();
                    buffer.len()
                }
                None => {
                    self.seen = buffer.len();
                    return None;
                }
            };
            let text = self.text(buffer, end);
            let number = self.next;
            self.next += 1;
            if let Some(text) = text {
                return Some((number, text));
            }
        }
    }

    fn find_text(&mut self, buffer: &[u8], is_last: bool) -> Option<Found> {
        while let Some(byte) = buffer.get(self.seen).copied() {
            let at = self.seen;
            let place = self.nesting.place;
            match byte {
                RECORD_SEPARATOR => {
                    let found = self.end_text(buffer, at, place, true);
                    (self.seen, self.begin) = (at + 1, at + 1);
                    self.nesting = Nesting { place: Place::Text, ..Nesting::default() };
                    if found.is_some() {
                        return found;
                    }
                }
                b'\n' if place != Place::Between && self.nesting.is_complete() => {
                    self.seen = at + 1;
                    let found = self.end_text(buffer, at, place, false);
                    if found.is_some() {
                        self.nesting = Nesting::default();
                        return found;
                    }
                }
                byte if place == Place::Between && is_space(byte) => (self.seen, self.begin) = (at + 1, at + 1),
                byte => {
                    if place == Place::Between {
                        (self.begin, self.nesting.place) = (at, Place::Unmarked);
                    }
                    self.nesting.take(byte);
                    self.seen = at + 1;
                }
            }
        }
        if !is_last {
            return None;
        }
        let place = std::mem::take(&mut self.nesting).place;
        self.end_text(buffer, buffer.len(), place, true)
    }

    /// Ends a text of a sequence. `is_cut`: no line end stands behind it. `None`: there was none.
    fn end_text(&mut self, buffer: &[u8], end: usize, place: Place, is_cut: bool) -> Option<Found> {
        let text = match (place, self.text(buffer, end)?) {
            (Place::Unmarked, _) => Err(LineFault::Unmarked),
            (_, Ok(span)) if is_cut && !ends_by_itself(span.of(buffer)) && !ends_in_space(buffer, span, end) => {
                Err(LineFault::Cut)
            }
            (_, text) => text,
        };
        let number = self.next;
        self.next += 1;
        Some((number, text))
    }

    /// Returns the text that was begun and ends before `end`; `None` if it is blank. The next one begins at `seen`.
    fn text(&mut self, buffer: &[u8], end: usize) -> Option<Result<Span, LineFault>> {
        let begin = std::mem::replace(&mut self.begin, self.seen);
        self.is_begun = false;
        if std::mem::take(&mut self.is_too_long) {
            return Some(Err(LineFault::TooLong));
        }
        let line = buffer.get(begin..end).unwrap_or_default();
        let before = line.iter().take_while(|byte| is_space(**byte)).count();
        let behind = line.iter().rev().take_while(|byte| is_space(**byte)).count();
        if before == line.len() {
            return None;
        }
        let is_too_long = self.is_over(line.get(before..).unwrap_or_default());
        Some(if is_too_long { Err(LineFault::TooLong) } else { Ok(Span::between(begin + before, end - behind)) })
    }

    /// Returns whether a text that begins so is too long.
    fn is_over(&self, begun: &[u8]) -> bool {
        begun.strip_suffix(b"\r").unwrap_or(begun).len() > self.bytes_max
    }

    /// Parts with what is not needed of the text that goes on: white space before it, and all of one that is too long.
    fn keep_little(&mut self, buffer: &[u8]) {
        let line = buffer.get(self.begin..self.seen).unwrap_or_default();
        if !self.is_too_long {
            let before = line.iter().take_while(|byte| is_space(**byte)).count();
            self.begin += before;
            self.is_begun |= before > 0;
            self.is_too_long = self.is_over(line.get(before..).unwrap_or_default());
        }
        if self.is_too_long {
            self.begin = self.seen;
        }
    }
}

/// Cuts a whole body into its texts, as [`json::split`] cuts an array: all are there, or none.
///
/// Errors: [`Reject::Line`], with the number of the first text that is wrong; [`Reject::TooLarge`] over
/// `limits.records_max`. After an error `out` is empty.
pub fn split(framing: Framing, body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    // What is refused here, also for a byte order mark, is read again: that says in which line it is.
    if framing == Framing::Lines && json::split_lines(body, limits, out).is_ok() {
        return Ok(());
    }
    out.clear();
    let verdict = each(framing, body, limits.records_max, out);
    if verdict.is_err() {
        out.clear();
    }
    verdict
}

fn each(framing: Framing, body: &[u8], records_max: usize, out: &mut Vec<Span>) -> Result<(), Reject> {
    let mut lines = JsonLines::new(framing, 1, usize::MAX);
    while let Some(Line { number, text }) = lines.next(body, true) {
        if out.len() >= records_max {
            return Err(Reject::TooLarge(SizeLimit::BatchRecords, records_max as u64));
        }
        out.push(text.map_err(|reject| Reject::Line(number, Box::new(reject)))?);
    }
    Ok(())
}

impl Nesting {
    /// Returns whether a line end here is behind a text, and not within it.
    fn is_complete(self) -> bool {
        self.depth == 0 && !self.in_string
    }

    fn take(&mut self, byte: u8) {
        if std::mem::take(&mut self.is_escaped) {
            return;
        }
        match byte {
            b'\\' if self.in_string => self.is_escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'[' | b'{' if !self.in_string => self.depth += 1,
            b']' | b'}' if !self.in_string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// White space of JSON (RFC 8259, section 2).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Returns whether the end of a text shows in its last byte: that of an object, an array or a string.
fn ends_by_itself(text: &[u8]) -> bool {
    matches!(text.last(), Some(b'}' | b']' | b'"'))
}

/// Returns whether white space stands between a text and where it was ended.
fn ends_in_space(buffer: &[u8], span: Span, end: usize) -> bool {
    (span.end as usize) < end && buffer.get(span.end as usize).is_some_and(|byte| is_space(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Text = (u64, Result<String, LineFault>);

    /// Everything that is found in pieces, and the number that would come next. What is not needed is removed after
    /// each piece.
    fn find(framing: Framing, pieces: &[&[u8]], bytes_max: usize) -> (Vec<Text>, u64) {
        let mut lines = JsonLines::new(framing, 1, bytes_max);
        let (mut found, mut buffer) = (Vec::new(), Vec::new());
        for at in 0..=pieces.len() {
            buffer.extend_from_slice(pieces.get(at).copied().unwrap_or_default());
            while let Some((number, text)) = lines.find(&buffer, at == pieces.len()) {
                let text = text.map(|span| String::from_utf8_lossy(span.of(&buffer)).into_owned());
                found.push((number, text));
            }
            let done = lines.done();
            buffer.drain(..done);
            lines.removed(done);
            let most = (bytes_max + 1).max(MARK.len() - 1);
            assert!(buffer.len() <= most, "{} bytes are kept of {most}", buffer.len());
        }
        (found, lines.next_number())
    }

    fn check(framing: Framing, body: &str, expect: &[(u64, Result<&str, LineFault>)], next: u64) {
        let expect: Vec<Text> = expect.iter().map(|(number, text)| (*number, text.map(str::to_owned))).collect();
        let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        for pieces in [&[body.as_bytes()][..], &bytes] {
            assert_eq!(find(framing, pieces, 8), (expect.clone(), next), "{body:?}");
        }
    }

    #[test]
    fn lines_are_numbered_as_an_editor_numbers_them() {
        let lines = |body, expect: &[_], next| check(Framing::Lines, body, expect, next);
        lines("", &[], 1);
        lines("1", &[(1, Ok("1"))], 2);
        lines("1\n", &[(1, Ok("1"))], 2);
        lines("1\n2", &[(1, Ok("1")), (2, Ok("2"))], 3);
        lines("1\r\n\r\n 2 \t\r\n", &[(1, Ok("1")), (3, Ok("2"))], 4);
        lines("\n\n \n", &[], 4);
        lines("\n\n ", &[], 4);
        lines("\u{feff}1\n\u{feff}\n", &[(1, Ok("1")), (2, Ok("\u{feff}"))], 3);
        lines("\u{feff}", &[], 1);
        lines("a b\rc\n", &[(1, Ok("a b\rc"))], 2);
        lines("123456789\n1\n", &[(1, Err(LineFault::TooLong)), (2, Ok("1"))], 3);
        lines("123456789", &[(1, Err(LineFault::TooLong))], 2);
        lines("          12345678\r\n1", &[(1, Ok("12345678")), (2, Ok("1"))], 3);
        lines("12345678 \n1\n  ", &[(1, Err(LineFault::TooLong)), (2, Ok("1"))], 4);
    }

    #[test]
    fn texts_of_a_sequence_begin_with_rs_and_end_with_a_line_end() {
        let texts = |body, expect: &[_], next| check(Framing::Sequence, body, expect, next);
        texts("", &[], 1);
        texts("\u{1e}1\n", &[(1, Ok("1"))], 2);
        texts("\u{1e}{}\n\u{1e}[]\n", &[(1, Ok("{}")), (2, Ok("[]"))], 3);
        texts("\u{1e}\u{1e}\u{1e}1\n\u{1e}", &[(1, Ok("1"))], 2);
        texts("\u{1e} \n \u{1e}1 \n\n", &[(1, Ok("1"))], 2);
        texts("\u{1e}{\n1\n}\n\u{1e}2\n", &[(1, Ok("{\n1\n}")), (2, Ok("2"))], 3);
        texts("\u{1e}\"\n}\\\"\"\n", &[(1, Ok("\"\n}\\\"\""))], 2);
        texts("\u{1e}{\u{1e}1\n", &[(1, Err(LineFault::Cut)), (2, Ok("1"))], 3);
        texts("\u{1e}12", &[(1, Err(LineFault::Cut))], 2);
        texts("\u{1e}12 ", &[(1, Ok("12"))], 2);
        texts("\u{1e}12\u{1e}{}", &[(1, Err(LineFault::Cut)), (2, Ok("{}"))], 3);
        texts("1\n2\n\u{1e}3\n", &[(1, Err(LineFault::Unmarked)), (2, Err(LineFault::Unmarked)), (3, Ok("3"))], 4);
        texts("\u{1e}1\n2\n", &[(1, Ok("1")), (2, Err(LineFault::Unmarked))], 3);
        texts("\u{1e}[1,2,3,4,5]\n\u{1e}1\n", &[(1, Err(LineFault::TooLong)), (2, Ok("1"))], 3);
    }

    #[test]
    fn a_body_is_taken_as_a_whole_or_the_first_text_that_is_wrong_is_named() {
        let split = |framing, body: &str, records_max| {
            let mut out = vec![Span::between(7, 9)];
            let limits = SplitLimits { records_max, ..SplitLimits::default() };
            let verdict = split(framing, body.as_bytes(), &limits, &mut out);
            assert!(verdict.is_ok() || out.is_empty());
            verdict.map(|()| {
                out.iter().map(|span| String::from_utf8_lossy(span.of(body.as_bytes())).into_owned()).collect()
            })
        };
        let ok = |texts: &[&str]| Ok(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>());
        assert_eq!(split(Framing::Lines, "1\r\n\n {\"a\": 1}", 9), ok(&["1", "{\"a\": 1}"]));
        assert_eq!(split(Framing::Lines, "\u{feff}1\n2\n", 9), ok(&["1", "2"]));
        assert_eq!(split(Framing::Lines, "", 9), ok(&[]));
        assert_eq!(split(Framing::Sequence, "\u{1e}1\n\u{1e}[\n2]\n", 9), ok(&["1", "[\n2]"]));
        for (framing, body, line) in [
            (Framing::Lines, "1\n\n1 2\n", 3),
            (Framing::Lines, "\u{feff}x", 1),
            (Framing::Lines, "1\n\u{feff}1\n", 2),
            (Framing::Sequence, "\u{1e}1\n\u{1e}[\n", 2),
            (Framing::Sequence, "1\n", 1),
        ] {
            let verdict: Result<Vec<String>, Reject> = split(framing, body, 9);
            assert!(matches!(verdict, Err(Reject::Line(number, _)) if number == line), "{body:?} {verdict:?}");
        }
        assert_eq!(split(Framing::Lines, "1\n2\n", 1), Err(Reject::TooLarge(SizeLimit::BatchRecords, 1)));
        assert_eq!(
            split(Framing::Sequence, "\u{1e}1\n\u{1e}2\n", 1),
            Err(Reject::TooLarge(SizeLimit::BatchRecords, 1))
        );
    }

    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b'\n'),
            Just(b'\r'),
            Just(b' '),
            Just(0x1e),
            Just(b'{'),
            Just(b'}'),
            Just(b'"'),
            Just(b'\\'),
            Just(b'1'),
            Just(0xef),
            Just(0xbb),
            Just(0xbf),
            any::<u8>()
        ];
        prop::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_divided_does_not_matter(body in any_body(), cuts in prop::collection::vec(0_usize..60, 0..6), bytes_max in 1_usize..12) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            for framing in [Framing::Lines, Framing::Sequence] {
                prop_assert_eq!(find(framing, &pieces, bytes_max), find(framing, &[&body], bytes_max));
            }
        }

        #[test]
        fn lines_are_what_stands_between_line_ends(body in any_body()) {
            let rest = body.strip_prefix(MARK).unwrap_or(&body);
            let trimmed = |line: &[u8]| String::from_utf8_lossy(line.trim_ascii()).into_owned();
            let is_blank = |line: &&[u8]| line.iter().all(|byte| is_space(*byte));
            let expect: Vec<String> = rest.split(|byte| *byte == b'\n').filter(|line| !is_blank(line)).map(trimmed).collect();
            let (found, _) = find(Framing::Lines, &[&body], 1_000);
            let found: Vec<String> = found.into_iter().filter_map(|(_, text)| text.ok()).collect();
            // Form feeds are white space to an editor and not to JSON.
            if !body.contains(&0x0c) && !body.contains(&0x0b) {
                prop_assert_eq!(found, expect);
            }
        }

        #[test]
        fn a_sequence_is_read_as_it_was_written(values in prop::collection::vec("(\\{\"a\": \"[a-z\\\\\\\\]{0,4}\"\\}|\\[\n1\n\\]|\"\"|-1)", 0..6)) {
            let body: String = values.iter().map(|value| ["\u{1e}", value, "\n"].concat()).collect();
            let (found, _) = find(Framing::Sequence, &[body.as_bytes()], 1_000);
            let found: Vec<String> = found.into_iter().filter_map(|(_, text)| text.ok()).collect();
            // An odd number of backslashes before the quote leaves the string open.
            if !body.contains("\\\"") {
                prop_assert_eq!(found, values);
            }
        }
    }
}
