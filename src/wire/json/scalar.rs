//! The validator, portable: one value at a time, eight bytes at a time inside strings.
//!
//! [`value`] is a loop over two states (a value begins; a value has ended) with one bit of memory for each
//! open container. It is the reference that any faster implementation is tested against.
//!
//! UTF-8 is checked only in strings that hold a byte above 0x7F: everywhere else such a byte is a
//! syntax error anyway.

use crate::limits::JSON_DEPTH_MAX;

/// Where the text is not JSON, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Offset of the first byte that cannot stand where it stands (the length, if bytes are missing).
    pub(super) offset: usize,
    /// What was expected or found, in words.
    pub(super) reason: &'static str,
}

/// The open containers: one bit each, 1 for an object.
#[derive(Debug)]
pub(super) struct Nesting {
    /// The innermost (up to) 64, the innermost in bit 0.
    bits: u64,
    /// What was in `bits` each time it was full, outermost first.
    full: [u64; JSON_DEPTH_MAX / 64],
    depth: usize,
    depth_max: usize,
}

impl Nesting {
    pub(super) fn new(depth_max: usize) -> Self {
        Self { bits: 0, full: [0; JSON_DEPTH_MAX / 64], depth: 0, depth_max: depth_max.min(JSON_DEPTH_MAX) }
    }

    /// Opens a container that begins at `offset`.
    #[inline]
    pub(super) fn push(&mut self, is_object: bool, offset: usize) -> Result<(), Fault> {
        if self.depth >= self.depth_max {
            return Err(Fault { offset, reason: TOO_DEEP });
        }
        if self.depth != 0
            && self.depth.is_multiple_of(64)
            && let Some(word) = self.full.get_mut(self.depth / 64 - 1)
        {
            *word = self.bits;
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
        Ok(())
    }

    /// How many are open.
    #[inline]
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Closes the innermost container.
    #[inline]
    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.bits >>= 1;
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.bits = self.full.get(self.depth / 64 - 1).copied().unwrap_or_default();
        }
    }

    #[inline]
    pub(super) fn innermost_is_object(&self) -> bool {
        self.bits & 1 == 1
    }
}

/// Reason of a fault about depth.
pub(super) const TOO_DEEP: &str = "nested too deep";
const ENDS_EARLY: &str = "the text ends inside a value";

/// Validates the value that begins at `start` (no white space before it); returns where it ends.
///
/// What is in `nesting` from before does not matter, only its bound; it is handed in so that it is not made anew
/// for each element.
pub(super) fn value(bytes: &[u8], start: usize, nesting: &mut Nesting) -> Result<usize, Fault> {
    nesting.depth = 0;
    let mut at = start;
    'value: loop {
        let end = match bytes.get(at) {
            Some(b'"') => string(bytes, at + 1)?,
            Some(b'-' | b'0'..=b'9') => number(bytes, at)?,
            Some(b'{') => {
                nesting.push(true, at)?;
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(&b'}') {
                    at = key(bytes, at, "expected '\"' or '}'")?;
                    continue 'value;
                }
                nesting.pop();
                at + 1
            }
            Some(b'[') => {
                nesting.push(false, at)?;
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(&b']') {
                    continue 'value;
                }
                nesting.pop();
                at + 1
            }
            Some(b't') => literal(bytes, at, b"true")?,
            Some(b'f') => literal(bytes, at, b"false")?,
            Some(b'n') => literal(bytes, at, b"null")?,
            Some(_) => return Err(Fault { offset: at, reason: "expected a JSON value" }),
            None => return Err(Fault { offset: bytes.len(), reason: ENDS_EARLY }),
        };
        at = end;
        while nesting.depth != 0 {
            at = skip_space(bytes, at);
            let in_object = nesting.innermost_is_object();
            match bytes.get(at) {
                Some(b',') => {
                    at = skip_space(bytes, at + 1);
                    if in_object {
                        at = key(bytes, at, "expected '\"'")?;
                    }
                    continue 'value;
                }
                Some(b'}') if in_object => {}
                Some(b']') if !in_object => {}
                found => return Err(separator_fault(found.copied(), at, in_object)),
            }
            nesting.pop();
            at += 1;
        }
        return Ok(at);
    }
}

/// The fault of something other than a comma or the container's end after a value.
pub(super) fn separator_fault(found: Option<u8>, offset: usize, in_object: bool) -> Fault {
    let reason = match (found, in_object) {
        (None, _) => ENDS_EARLY,
        (Some(_), true) => "expected ',' or '}'",
        (Some(_), false) => "expected ',' or ']'",
    };
    Fault { offset, reason }
}

/// First offset from `at` on that is not white space, or the length.
#[inline]
pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    // Almost always there is none, or exactly one space.
    match bytes.get(at) {
        Some(byte) if *byte > b' ' => at,
        _ => skip_run_of_space(bytes, at),
    }
}

/// Whether there is nothing but white space from `at` on.
pub(super) fn is_space_from(bytes: &[u8], at: usize) -> bool {
    skip_space(bytes, at) == bytes.len()
}

fn skip_run_of_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at.min(bytes.len())
}

/// A member's key and its colon, up to the first byte of the member's value.
#[inline]
fn key(bytes: &[u8], at: usize, expected: &'static str) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'"') => {}
        Some(_) => return Err(Fault { offset: at, reason: expected }),
        None => return Err(Fault { offset: at, reason: ENDS_EARLY }),
    }
    let end = match short_plain(bytes, at + 1) {
        Some(end) => end,
        None => string(bytes, at + 1)?,
    };
    let colon = skip_space(bytes, end);
    match bytes.get(colon) {
        Some(b':') => Ok(skip_space(bytes, colon + 1)),
        Some(_) => Err(Fault { offset: colon, reason: "expected ':'" }),
        None => Err(Fault { offset: colon, reason: ENDS_EARLY }),
    }
}

/// A string of a few plain ASCII characters, from behind its opening quote, if it is one.
///
/// The keys of a batch repeat from record to record, so their lengths are foreseen by the processor's branch
/// prediction, and going byte by byte lets it run ahead; looking at a word would make it wait for the length.
#[inline]
#[expect(clippy::indexing_slicing, reason = "every byte has an entry")]
fn short_plain(bytes: &[u8], start: usize) -> Option<usize> {
    let few = bytes.get(start..).and_then(<[u8]>::first_chunk::<16>)?;
    for (length, byte) in few.iter().enumerate() {
        if !PLAIN[usize::from(*byte)] {
            return (*byte == b'"').then_some(start + length + 1);
        }
    }
    None
}

/// Whether a byte stands for itself in a string and is ASCII.
#[expect(clippy::indexing_slicing, reason = "every index is under 0x80")]
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

fn literal(bytes: &[u8], at: usize, word: &'static [u8]) -> Result<usize, Fault> {
    let found = bytes.get(at..).unwrap_or_default();
    if found.starts_with(word) {
        return Ok(at + word.len());
    }
    let agreeing = found.iter().zip(word).take_while(|(one, other)| one == other).count();
    let reason = if agreeing == found.len() { ENDS_EARLY } else { "expected 'true', 'false' or 'null'" };
    Err(Fault { offset: at + agreeing, reason })
}

#[inline]
fn number(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    match bytes.get(at) {
        Some(b'0') => {
            at += 1;
            if let Some(b'0'..=b'9') = bytes.get(at) {
                return Err(Fault { offset: at, reason: "a number must not begin with a zero" });
            }
        }
        Some(b'1'..=b'9') => at = digits(bytes, at + 1),
        found => return Err(digit_fault(found.copied(), at)),
    }
    if bytes.get(at) == Some(&b'.') {
        at = some_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = some_digits(bytes, at)?;
    }
    Ok(at)
}

#[inline]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline]
fn some_digits(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'0'..=b'9') => Ok(digits(bytes, at + 1)),
        found => Err(digit_fault(found.copied(), at)),
    }
}

fn digit_fault(found: Option<u8>, offset: usize) -> Fault {
    Fault { offset, reason: if found.is_none() { ENDS_EARLY } else { "expected a digit" } }
}

const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * EACH_BYTE;

/// Marks, in the high bit of each byte, the bytes that end a run of plain string: `"`, `\` and what is
/// below 0x20. Exact up to and including the first marked byte; later marks may be false.
#[inline]
fn marks(word: u64) -> u64 {
    // `byte ^ 2` swaps 0x22 with 0x20 and keeps the control characters among themselves,
    // so that one comparison with 0x21 finds the quote and all of them.
    let quote_or_control = (word ^ (0x02 * EACH_BYTE)).wrapping_sub(0x21 * EACH_BYTE);
    let backslash = (word ^ (0x5c * EACH_BYTE)).wrapping_sub(EACH_BYTE);
    (quote_or_control | backslash) & !word & HIGH_BITS
}

/// Skips plain string 32 bytes at a time, in a form that compilers turn into vector instructions.
#[inline(never)]
fn stride(bytes: &[u8], mut at: usize, seen: &mut u64) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        let ends = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
        if chunk.iter().fold(0, |any, byte| any | ends(*byte)) != 0 {
            break;
        }
        *seen |= u64::from(chunk.iter().fold(0, |any, byte| any | byte));
        at += 32;
    }
    at
}

/// A string from behind its opening quote; returns the offset behind the closing one.
#[inline]
fn string(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    let mut seen = 0_u64;
    loop {
        let run = at;
        while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let marked = marks(word);
            if marked != 0 {
                let plain = marked.trailing_zeros() / 8;
                seen |= word & ((1_u64 << (8 * plain)) - 1);
                at += plain as usize;
                break;
            }
            seen |= word;
            at += 8;
            // A run this long is likely to go on: strides, and words again for the rest.
            if at - run == 64 {
                at = stride(bytes, at, &mut seen);
            }
        }
        match bytes.get(at) {
            Some(b'"') => {
                if seen & HIGH_BITS != 0 {
                    check_utf8(bytes, start, at)?;
                }
                return Ok(at + 1);
            }
            Some(b'\\') => at = escape(bytes, at)?,
            Some(0..=0x1f) => {
                return Err(Fault { offset: at, reason: "a control character in a string must be escaped" });
            }
            Some(byte) => {
                seen |= u64::from(*byte);
                at += 1;
            }
            None => return Err(Fault { offset: at, reason: "the text ends inside a string" }),
        }
    }
}

/// An escape sequence from its backslash on.
#[inline]
fn escape(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            for offset in at + 2..at + 6 {
                match bytes.get(offset) {
                    Some(byte) if byte.is_ascii_hexdigit() => {}
                    Some(_) => return Err(Fault { offset, reason: "expected four hexadecimal digits after '\\u'" }),
                    None => return Err(Fault { offset, reason: "the text ends inside a string" }),
                }
            }
            Ok(at + 6)
        }
        Some(_) => Err(Fault { offset: at + 1, reason: "no such escape sequence" }),
        None => Err(Fault { offset: at + 1, reason: "the text ends inside a string" }),
    }
}

#[cold]
fn utf8_fault(offset: usize) -> Fault {
    Fault { offset, reason: "not UTF-8" }
}

fn check_utf8(bytes: &[u8], start: usize, end: usize) -> Result<(), Fault> {
    match std::str::from_utf8(bytes.get(start..end).unwrap_or_default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(utf8_fault(start + error.valid_up_to())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_find_exactly_the_first_byte_that_ends_a_run() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, 0xa2, 0xdc] {
                    let mut text = [filler; 8];
                    if let Some(slot) = text.get_mut(place) {
                        *slot = byte;
                    }
                    let expect = (byte < 0x20 || byte == b'"' || byte == b'\\').then_some(place);
                    let marked = marks(u64::from_le_bytes(text));
                    let found = (marked != 0).then(|| marked.trailing_zeros() as usize / 8);
                    assert_eq!(found, expect, "{byte:#x} at {place} among {filler:#x}");
                }
            }
        }
    }

    #[test]
    fn every_open_container_is_remembered_at_every_depth() {
        let mut nesting = Nesting::new(JSON_DEPTH_MAX);
        // A pattern whose period divides no power of two, so that no two words are alike.
        let kind = |depth: usize| depth.is_multiple_of(3) || depth.is_multiple_of(7);
        for depth in 0..JSON_DEPTH_MAX {
            assert_eq!(nesting.push(kind(depth), 0), Ok(()));
        }
        assert_eq!(nesting.push(true, 5), Err(Fault { offset: 5, reason: TOO_DEEP }));
        for depth in (0..JSON_DEPTH_MAX).rev() {
            assert_eq!(nesting.innermost_is_object(), kind(depth), "{depth}");
            nesting.pop();
        }
        assert_eq!(nesting.depth, 0);
    }
}
