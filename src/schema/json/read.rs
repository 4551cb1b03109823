//! Reads a record into a tape: one pass, no recursion, and no allocation once the scratch has grown.
//!
//! What is accepted is what the batch splitter accepts (docs/adr/0008), so that no record of a batch fails for its form
//! alone: numbers of any size, and lone surrogates, which count as U+FFFD. Of several members with one name the last
//! holds, as it does for nearly every consumer; the others are taken out of the tape.

use super::tape::{Entry, Kind, Tape};
use crate::limits::{JSON_DEPTH_MAX, SCHEMA_JSON_VALUES_MAX};
use std::hash::{BuildHasher, RandomState};

/// What is kept from one record to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    entries: Vec<Entry>,
    unescaped: String,
    open: Vec<Open>,
    names: Names,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum Unreadable {
    /// It is not JSON.
    Malformed { at: usize, reason: &'static str },
    /// It has more values than [`SCHEMA_JSON_VALUES_MAX`].
    TooMany,
}

/// A container that has begun and not ended.
#[derive(Debug)]
struct Open {
    entry: usize,
    is_object: bool,
    /// A bit for each name, by a poor hash: two names may be one only if they share a bit.
    seen: u64,
    suspicious: bool,
}

/// Reads a record.
pub(in crate::schema) fn read<'a>(record: &'a [u8], scratch: &'a mut Scratch) -> Result<Tape<'a>, Unreadable> {
    let text = std::str::from_utf8(record)
        .map_err(|error| Unreadable::Malformed { at: error.valid_up_to(), reason: "text that is not UTF-8" })?;
    if record.len() > u32::MAX as usize {
        return Err(Unreadable::TooMany);
    }
    scratch.entries.clear();
    scratch.unescaped.clear();
    scratch.open.clear();
    Reader { text, bytes: record, at: 0, scratch }.read()?;
    Ok(Tape { record: text, unescaped: &scratch.unescaped, entries: &scratch.entries, exact: None })
}

struct Reader<'a, 's> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    scratch: &'s mut Scratch,
}

impl Reader<'_, '_> {
    fn read(&mut self) -> Result<(), Unreadable> {
        loop {
            // A value begins here.
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'{') => {
                    if self.begin(Kind::Object, b'}')? {
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    if self.begin(Kind::Array, b']')? {
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true", Kind::True)?,
                Some(b'f') => self.literal(b"false", Kind::False)?,
                Some(b'n') => self.literal(b"null", Kind::Null)?,
                Some(_) => return self.fault("expected a value"),
                None => return self.fault("the text ends within a value"),
            }
            if self.end_of_value()? {
                return Ok(());
            }
        }
    }

    /// What comes after a value: the next one of its container, the container's end, or the end of all, which is
    /// `true`.
    #[inline]
    fn end_of_value(&mut self) -> Result<bool, Unreadable> {
        loop {
            let next = self.peek();
            let Some(open) = self.scratch.open.last() else {
                return if next.is_none() { Ok(true) } else { self.fault("expected nothing more after the value") };
            };
            let is_object = open.is_object;
            let entry = open.entry;
            if let Some(container) = self.scratch.entries.get_mut(entry) {
                container.len += 1;
            }
            match (next, is_object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.name()?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    self.end();
                }
                (None, _) => return self.fault("the text ends within a value"),
                (Some(_), true) => return self.fault("expected `,` or `}`"),
                (Some(_), false) => return self.fault("expected `,` or `]`"),
            }
        }
    }

    /// Begins a container; `false` if it ends at once.
    #[inline]
    fn begin(&mut self, kind: Kind, end: u8) -> Result<bool, Unreadable> {
        if self.scratch.open.len() >= JSON_DEPTH_MAX {
            return self.fault("too many containers within one another");
        }
        let entry = self.scratch.entries.len();
        self.push(kind, self.at, 0)?;
        self.at += 1;
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        self.scratch.open.push(Open { entry, is_object: kind == Kind::Object, seen: 0, suspicious: false });
        Ok(true)
    }

    /// Ends the innermost container.
    #[inline]
    fn end(&mut self) {
        let next = u32::try_from(self.scratch.entries.len()).unwrap_or(u32::MAX);
        let Some(open) = self.scratch.open.pop() else { return };
        if let Some(container) = self.scratch.entries.get_mut(open.entry) {
            container.next = next;
        }
        if open.suspicious {
            let Scratch { entries, unescaped, names, .. } = &mut *self.scratch;
            names.replace(entries, open.entry, self.text, unescaped);
        }
    }

    /// The name of a member and the colon behind it.
    #[inline]
    fn name(&mut self) -> Result<(), Unreadable> {
        if self.peek() != Some(b'"') {
            return self.fault("expected the name of a member");
        }
        self.string()?;
        if self.peek() != Some(b':') {
            return self.fault("expected `:`");
        }
        self.at += 1;
        let Some(name) = self.scratch.entries.last().copied() else { return Ok(()) };
        let from = name.at as usize;
        let hash = if name.kind == Kind::Text && name.len > 0 {
            let first = self.bytes.get(from).copied().unwrap_or(0);
            let last = self.bytes.get(from + name.len as usize - 1).copied().unwrap_or(0);
            u32::from(first).wrapping_mul(7) ^ u32::from(last).wrapping_mul(29) ^ name.len.wrapping_mul(11)
        } else {
            // Escapes are rare in names: whatever has them is looked at.
            if let Some(open) = self.scratch.open.last_mut() {
                open.suspicious = true;
            }
            0
        };
        if let Some(open) = self.scratch.open.last_mut() {
            let bit = 1_u64 << (hash & 63);
            open.suspicious |= open.seen & bit != 0;
            open.seen |= bit;
        }
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), Unreadable> {
        let from = self.at + 1;
        let end = plain_until(self.bytes, from);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return self.push(Kind::Text, from, end - from);
        }
        self.escaped_string(from, end)
    }

    /// A string whose first special byte, at `end`, is not its end.
    #[cold]
    fn escaped_string(&mut self, from: usize, mut end: usize) -> Result<(), Unreadable> {
        let start = self.scratch.unescaped.len();
        let mut plain = from;
        loop {
            self.scratch.unescaped.push_str(self.text.get(plain..end).unwrap_or(""));
            self.at = end;
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fault("a control character within a string"),
                None => return self.fault("the text ends within a string"),
            }
            plain = self.at;
            end = plain_until(self.bytes, plain);
        }
        self.at = end + 1;
        self.push(Kind::Unescaped, start, self.scratch.unescaped.len() - start)
    }

    fn escape(&mut self) -> Result<(), Unreadable> {
        let plain = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fault("an escape that JSON does not know"),
        };
        self.scratch.unescaped.push(plain);
        self.at += 2;
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<(), Unreadable> {
        let Some(first) = self.four_digits() else { return self.fault("expected four hexadecimal digits after `\\u`") };
        self.at += 6;
        if (0xD800..0xDC00).contains(&first)
            && self.bytes.get(self.at..self.at + 2) == Some(b"\\u")
            && let Some(second @ 0xDC00..0xE000) = self.four_digits()
        {
            self.at += 6;
            let point = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            self.scratch.unescaped.push(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
            return Ok(());
        }
        self.scratch.unescaped.push(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(())
    }

    /// The digits of the escape `\u….` that begins here.
    fn four_digits(&self) -> Option<u32> {
        let digits = self.bytes.get(self.at + 2..self.at + 6)?;
        digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
    }

    #[inline]
    fn number(&mut self) -> Result<(), Unreadable> {
        let from = self.at;
        let mut kind = Kind::Integer;
        self.at += usize::from(self.bytes.get(self.at) == Some(&b'-'));
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            kind = Kind::Float;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            kind = Kind::Float;
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.push(kind, from, self.at - from)
    }

    /// At least one digit.
    #[inline]
    fn digits(&mut self) -> Result<(), Unreadable> {
        let from = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { self.fault("expected a digit") } else { Ok(()) }
    }

    fn literal(&mut self, word: &'static [u8], kind: Kind) -> Result<(), Unreadable> {
        if self.bytes.get(self.at..self.at + word.len()) != Some(word) {
            return self.fault("expected a value");
        }
        self.push(kind, self.at, word.len())?;
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn push(&mut self, kind: Kind, at: usize, len: usize) -> Result<(), Unreadable> {
        let index = self.scratch.entries.len();
        if index >= SCHEMA_JSON_VALUES_MAX {
            return Err(Unreadable::TooMany);
        }
        // A record is shorter than 4 GiB, and unescaping makes text shorter.
        let narrow = |wide: usize| u32::try_from(wide).unwrap_or(u32::MAX);
        self.scratch.entries.push(Entry { kind, at: narrow(at), len: narrow(len), next: narrow(index + 1) });
        Ok(())
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[cold]
    fn fault<T>(&self, reason: &'static str) -> Result<T, Unreadable> {
        Err(Unreadable::Malformed { at: self.at.min(self.bytes.len()), reason })
    }
}

/// The first quote, backslash or control character from `at` on, or the end: eight bytes at a time.
#[inline]
fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The lowest high bit of the result is exact; those above it may be carries.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let special = (quotes | backslashes | controls) & HIGHS;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\') {
        at += 1;
    }
    at
}

/// Finds members of one name: a hash table that is kept, with a seed of its own, so that nobody can choose names that
/// collide.
#[derive(Debug, Default)]
struct Names {
    seed: RandomState,
    /// Indices of names, plus one; zero is empty.
    slots: Vec<u32>,
}

impl Names {
    /// Marks all but the last member of each name as replaced.
    fn replace(&mut self, entries: &mut [Entry], object: usize, record: &str, unescaped: &str) {
        let members = entries.get(object).map_or(0, |entry| entry.len as usize);
        if members <= FEW_MEMBERS && all_different(Tape { record, unescaped, entries, exact: None }, object) {
            return;
        }
        let size = (2 * members).next_power_of_two();
        self.slots.clear();
        self.slots.resize(size, 0);
        let seed = self.seed.hash_one(0_u8);
        let mut index = object + 1;
        for _ in 0..members {
            let tape = Tape { record, unescaped, entries, exact: None };
            let (Ok(at), Some(name), Some(value)) = (u32::try_from(index), entries.get(index), entries.get(index + 1))
            else {
                return;
            };
            let (next, text) = (value.next as usize, tape.text(*name));
            let mut slot = hash(text.as_bytes(), seed) & (size - 1);
            let mut replaced = None;
            while let Some(occupant @ 1..) = self.slots.get(slot).copied() {
                if tape.text(tape.entry(occupant - 1)) == text {
                    replaced = Some(occupant - 1);
                    break;
                }
                slot = (slot + 1) & (size - 1);
            }
            if let Some(place) = self.slots.get_mut(slot) {
                *place = at + 1;
            }
            if let Some(earlier) = replaced {
                if let Some(name) = entries.get_mut(earlier as usize) {
                    name.kind = Kind::Replaced;
                }
                if let Some(object) = entries.get_mut(object) {
                    object.len -= 1;
                }
            }
            index = next;
        }
    }
}

/// As many names are compared each with each before anything is hashed.
const FEW_MEMBERS: usize = 16;

/// Whether no two of an object's few members have one name.
fn all_different(tape: Tape<'_>, object: usize) -> bool {
    let mut earlier = [""; FEW_MEMBERS];
    let index = u32::try_from(object).unwrap_or(u32::MAX);
    tape.members(index).enumerate().all(|(count, (name, _))| {
        let name = tape.text(name);
        let new = earlier.iter().take(count).all(|other| *other != name);
        if let Some(place) = earlier.get_mut(count) {
            *place = name;
        }
        new
    })
}

/// Folded multiplication under a secret seed: quick, and good enough where a collision costs a comparison.
fn hash(text: &[u8], seed: u64) -> usize {
    let fold = |left: u64, right: u64| {
        let product = u128::from(left) * u128::from(right);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded
    };
    let mut state = seed ^ text.len() as u64;
    for part in text.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        state = fold(state ^ u64::from_le_bytes(word), 0x9E37_79B9_7F4A_7C15 ^ seed.rotate_left(32)).wrapping_add(seed);
    }
    usize::try_from(fold(state, seed | 1)).unwrap_or(0)
}
