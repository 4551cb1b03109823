//! What the broker answers to a publish, read without building a tree.
//!
//! ```text
//! {"stream":"S","seq":1}
//! {"stream":"S", "seq":1}                       (2.10)
//! {"stream":"S","seq":2,"duplicate": true}
//! {"stream":"S","seq":8,"batch":"b2","count":3}
//! {"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"S","seq":0}
//! ```
//!
//! The first two are nearly all of them and have a path of their own; everything else goes through a small JSON reader
//! that takes any key order, white space and unknown members. It reads what is JSON and refuses what is not, as
//! `serde_json` does, so that no garbled answer is taken for an acknowledgement. (It does not look whether a string is
//! UTF-8, nor whether a number that it skips fits a double.) The last of equal keys counts.

use crate::wire::Span;
use memchr::memchr2;

/// An answer to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubAck {
    /// In the stream.
    Stored {
        /// Its place, from 1.
        sequence: u64,
        /// Its message id was known: the place is that of the record stored before.
        duplicate: bool,
        /// Records of an atomic batch, which end at `sequence` and have no gap: at least 1, at most `sequence`.
        /// Only the answer to a commit has it. See [`first_sequence`](super::atomic::first_sequence).
        count: Option<u32>,
        /// What that batch is called; empty if it is not said.
        batch: Span,
    },
    /// Not stored.
    Error {
        /// Class of the error, as in HTTP.
        code: u16,
        /// JetStream's own number; 0 if it gives none.
        err_code: u32,
        /// The broker's words, as JSON text without the quotes: see [`description_text`].
        description: Span,
    },
    /// No bytes at all: the first record of an atomic batch was taken, nothing is stored yet.
    BatchStarted,
}

/// Reads an acknowledgement. `None` if it is none: then nothing is known of the record.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<PubAck> {
    if payload.is_empty() {
        return Some(PubAck::BatchStarted);
    }
    parse_common(payload).or_else(|| parse_any(payload))
}

/// A description of an [`PubAck::Error`] as text.
#[must_use]
pub fn description_text(payload: &[u8], description: Span) -> Box<str> {
    let raw = String::from_utf8_lossy(description.of(payload));
    let text = serde_json::from_str::<String>(&format!("\"{raw}\""));
    text.unwrap_or_else(|_| raw.into_owned()).into_boxed_str()
}

/// `{"stream":"<plain>","seq":<digits>}`, perhaps with the blank of 2.10, and with `,"duplicate": true` at most.
fn parse_common(payload: &[u8]) -> Option<PubAck> {
    let rest = payload.strip_prefix(b"{\"stream\":\"")?;
    let name_end = memchr2(b'"', b'\\', rest)?;
    // A control character in a string is for the careful reader, and so is the empty name.
    let name = rest.get(..name_end)?;
    if name.is_empty() || name.iter().any(|byte| *byte < b' ') {
        return None;
    }
    let rest = rest.get(name_end..)?.strip_prefix(b"\",")?;
    let digits = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"\"seq\":")?;
    if matches!(digits.first(), Some(b'0')) {
        return None;
    }
    let (mut sequence, mut at) = (0u64, 0);
    while let Some(digit @ 0..=9) = digits.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        sequence = sequence.checked_mul(10)?.checked_add(u64::from(digit))?;
        at += 1;
    }
    let duplicate = match digits.get(at..)? {
        b"}" => false,
        b",\"duplicate\": true}" | b",\"duplicate\":true}" => true,
        _ => return None,
    };
    (sequence > 0).then_some(PubAck::Stored { sequence, duplicate, count: None, batch: Span::default() })
}

/// Any JSON object with the members that an acknowledgement has.
fn parse_any(payload: &[u8]) -> Option<PubAck> {
    let mut reader = Reader { text: payload, at: 0 };
    let (mut stream, mut sequence, mut duplicate, mut count, mut batch) = (false, None, false, None, Span::default());
    let mut error = None;
    reader.object(|reader, key| {
        match key {
            b"stream" => stream = reader.nullable(Reader::string)?.is_some_and(|name| !name.is_empty()),
            b"seq" => sequence = reader.nullable(Reader::unsigned)?,
            b"duplicate" => duplicate = reader.nullable(Reader::boolean)?.unwrap_or(false),
            b"count" => count = reader.nullable(Reader::unsigned)?,
            b"batch" => batch = reader.nullable(Reader::string)?.unwrap_or_default(),
            b"error" => error = reader.nullable(read_error)?,
            _ => reader.skip()?,
        }
        Some(())
    })?;
    reader.end()?;
    if let Some(error) = error {
        return Some(error);
    }
    let sequence = sequence.filter(|sequence| stream && *sequence > 0)?;
    // A batch of none, or one that begins before the first record, is garbled.
    if count.is_some_and(|count| count == 0 || count > sequence) {
        return None;
    }
    let count = count.map(u32::try_from).transpose().ok()?;
    Some(PubAck::Stored { sequence, duplicate, count, batch })
}

fn read_error(reader: &mut Reader<'_>) -> Option<PubAck> {
    let (mut code, mut err_code, mut description) = (None, None, Span::default());
    reader.object(|reader, key| {
        match key {
            b"code" => code = reader.nullable(Reader::unsigned)?,
            b"err_code" => err_code = reader.nullable(Reader::unsigned)?,
            b"description" => description = reader.nullable(Reader::string)?.unwrap_or_default(),
            _ => reader.skip()?,
        }
        Some(())
    })?;
    let code = u16::try_from(code.unwrap_or(0)).ok()?;
    let err_code = u32::try_from(err_code.unwrap_or(0)).ok()?;
    Some(PubAck::Error { code, err_code, description })
}

/// Nesting of a value that is skipped: one bit each.
const SKIP_DEPTH: u32 = 64;

/// Reads JSON from the front. Each method returns `None` on what is no JSON, or another type than it reads.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// An object; `member` reads the value of each key. Keys are compared as they stand: the members of an
    /// acknowledgement have no escapes.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &[u8]) -> Option<()>) -> Option<()> {
        self.token(b'{')?;
        if self.peek()? == b'}' {
            return self.token(b'}');
        }
        loop {
            self.peek()?;
            let raw = self.string()?;
            let key = raw.of(self.text);
            self.token(b':')?;
            if key.contains(&b'\\') {
                let key = serde_json::from_slice::<String>(self.text.get(raw.start as usize - 1..=raw.end as usize)?);
                member(self, key.ok()?.as_bytes())?;
            } else {
                member(self, key)?;
            }
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.token(b'}'),
            }
        }
    }

    /// `null`, or what `read` reads.
    #[expect(clippy::option_option, reason = "no JSON of that type, `null`, and a value are three cases")]
    fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.peek()? == b'n' { self.literal(b"null").map(|()| None) } else { read(self).map(Some) }
    }

    /// A string: what is between its quotes, escapes and all.
    fn string(&mut self) -> Option<Span> {
        self.token(b'"')?;
        let start = self.at;
        loop {
            match self.byte()? {
                b'"' => return Some(Span { start: u32::try_from(start).ok()?, end: u32::try_from(self.at - 1).ok()? }),
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    /// What follows a backslash. Surrogates must come in pairs.
    fn escape(&mut self) -> Option<()> {
        match self.byte()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hex()? {
                0xd800..=0xdbff => {
                    (self.byte()? == b'\\' && self.byte()? == b'u').then_some(())?;
                    (0xdc00..=0xdfff).contains(&self.hex()?).then_some(())
                }
                0xdc00..=0xdfff => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |sum, _| Some(sum << 4 | char::from(self.byte()?).to_digit(16)?))
    }

    /// A whole number that is not negative and fits.
    fn unsigned(&mut self) -> Option<u64> {
        self.peek()?;
        let start = self.at;
        self.number()?;
        std::str::from_utf8(self.text.get(start..self.at)?).ok()?.parse().ok()
    }

    /// Any number, as JSON writes it.
    fn number(&mut self) -> Option<()> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let leading_zero = self.text.get(self.at) == Some(&b'0');
        let count = self.digits();
        if count == 0 || (leading_zero && count > 1) {
            return None;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            (self.digits() > 0).then_some(())?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            (self.digits() > 0).then_some(())?;
        }
        Some(())
    }

    /// How many digits stand here; passes over them.
    fn digits(&mut self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn boolean(&mut self) -> Option<bool> {
        let value = self.peek()? == b't';
        self.literal(if value { b"true" } else { b"false" }).map(|()| value)
    }

    /// Any value.
    fn skip(&mut self) -> Option<()> {
        // One bit for each open bracket: 1 for an object.
        let (mut objects, mut depth) = (0u64, 0u32);
        loop {
            let open = match self.peek()? {
                b'{' | b'[' if depth == SKIP_DEPTH => return None,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    objects = objects << 1 | u64::from(open == b'{');
                    depth += 1;
                    let close = if open == b'{' { b'}' } else { b']' };
                    self.peek()? != close
                }
                _ => {
                    self.scalar()?;
                    false
                }
            };
            // After a value: close what ends here, then go on with the next member of what is open.
            if !open {
                while depth > 0 {
                    let close = if objects & 1 == 1 { b'}' } else { b']' };
                    match self.peek()? {
                        byte if byte == close => {
                            self.at += 1;
                            objects >>= 1;
                            depth -= 1;
                        }
                        b',' => break,
                        _ => return None,
                    }
                }
                if depth == 0 {
                    return Some(());
                }
                self.token(b',')?;
            }
            if objects & 1 == 1 {
                self.peek()?;
                self.string()?;
                self.token(b':')?;
            }
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    /// Nothing but white space is left.
    fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// Passes over white space to the next byte.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn token(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        let found = self.text.get(self.at..)?.starts_with(word);
        found.then(|| self.at += word.len())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        byte
    }
}

#[cfg(test)]
mod tests;
