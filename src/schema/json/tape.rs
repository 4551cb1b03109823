//! A record as a row of entries, in the order of its text: what the validator walks over in place of a tree.
//!
//! Entries are spans of the record; numbers stay text, so that none is too large or loses digits. Only strings with
//! escapes are copied. An object's members are two entries each, name and value; an entry knows where the next of its
//! own level stands.

use super::exact::Exact;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum Kind {
    /// `null`
    Null,
    /// `false`
    False,
    /// `true`
    True,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Float,
    /// A string, as it stands in the record.
    Text,
    /// A string that had escapes; its span is of the unescaped text.
    Unescaped,
    /// An array.
    Array,
    /// An object.
    Object,
    /// The name of a member that another of the same name replaces later on.
    Replaced,
}

/// One value, or the name of a member.
#[derive(Debug, Clone, Copy)]
pub(in crate::schema) struct Entry {
    pub(in crate::schema) kind: Kind,
    /// Scalars: where the text begins.
    pub(in crate::schema) at: u32,
    /// Scalars: how long the text is. Containers: how many elements or members there are.
    pub(in crate::schema) len: u32,
    /// The entry behind this value and all that is within it.
    pub(super) next: u32,
}

/// A record that has been read.
#[derive(Debug, Clone, Copy)]
pub(in crate::schema) struct Tape<'a> {
    pub(super) record: &'a str,
    pub(super) unescaped: &'a str,
    pub(super) entries: &'a [Entry],
    /// The numbers of the schema that it is validated against, if some are not as they stand in its tree.
    pub(super) exact: Option<&'a Exact>,
}

impl<'a> Tape<'a> {
    /// The entry at an index; `null` where there is none.
    #[inline]
    pub(in crate::schema) fn entry(&self, index: u32) -> Entry {
        self.entries.get(index as usize).copied().unwrap_or(Entry { kind: Kind::Null, at: 0, len: 0, next: index + 1 })
    }

    /// The text of a scalar.
    #[inline]
    pub(in crate::schema) fn text(&self, entry: Entry) -> &'a str {
        let all = if entry.kind == Kind::Unescaped { self.unescaped } else { self.record };
        let from = entry.at as usize;
        all.get(from..from + entry.len as usize).unwrap_or("")
    }

    /// The members of an object, as the entries of name and value; those that were replaced are left out.
    #[inline]
    pub(super) fn members(&self, index: u32) -> Members<'a> {
        Members { tape: *self, at: index + 1, left: self.entry(index).len }
    }

    /// Returns the members of an object in the order of the text, also those that a later one of the same name
    /// replaces.
    pub(in crate::schema) fn every_member(&self, index: u32) -> impl Iterator<Item = (Entry, u32)> + use<'a> {
        let (tape, end) = (*self, self.entry(index).next);
        let mut at = index + 1;
        std::iter::from_fn(move || {
            let (name, value) = (tape.entry(at), at + 1);
            (at < end).then(|| {
                at = tape.entry(value).next;
                (name, value)
            })
        })
    }

    /// The elements of an array.
    #[inline]
    pub(in crate::schema) fn elements(&self, index: u32) -> Elements<'a> {
        Elements { tape: *self, at: index + 1, left: self.entry(index).len }
    }
}

/// See [`Tape::members`].
#[derive(Debug)]
pub(super) struct Members<'a> {
    tape: Tape<'a>,
    at: u32,
    left: u32,
}

impl Iterator for Members<'_> {
    type Item = (Entry, u32);

    #[inline]
    fn next(&mut self) -> Option<(Entry, u32)> {
        while self.left > 0 {
            let (name, value) = (self.tape.entry(self.at), self.at + 1);
            self.at = self.tape.entry(value).next;
            if name.kind != Kind::Replaced {
                self.left -= 1;
                return Some((name, value));
            }
        }
        None
    }
}

/// See [`Tape::elements`].
#[derive(Debug)]
pub(in crate::schema) struct Elements<'a> {
    tape: Tape<'a>,
    at: u32,
    left: u32,
}

impl Iterator for Elements<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let index = self.at;
        self.at = self.tape.entry(index).next;
        Some(index)
    }
}
