//! A datum in Avro's binary encoding, walked along its schema: nothing is decoded, nothing allocated unless there is a
//! fault, and what a length announces is compared with what is left.
//!
//! Every value that is looked at has at least one byte, or is counted: items without bytes (`null`) may be announced by
//! the million in a single number, and are refused as too many values.

use super::{NOT_AVRO, json::Crumb, types::Type, types::Types};
use crate::{
    limits::{FORMAT_DEPTH_MAX, FORMAT_VALUES_MAX},
    schema::{
        Violation,
        bounds::{too_deep, too_many},
    },
};

/// Holds the datum that begins at `from` against the schema; nothing may stand behind it.
pub(super) fn check(types: &Types, record: &[u8], from: usize) -> Result<(), Violation> {
    let mut walk = Walk { types, record, at: from, values: 0 };
    walk.value(types.root(), 0, &Crumb::Root)?;
    match record.len() - walk.at {
        0 => Ok(()),
        left => Err(walk.bad(&Crumb::Root, &format!("{left} bytes behind the datum"))),
    }
}

struct Walk<'a> {
    types: &'a Types,
    record: &'a [u8],
    at: usize,
    values: usize,
}

impl Walk<'_> {
    fn value(&mut self, place: usize, depth: usize, here: &Crumb<'_>) -> Result<(), Violation> {
        if self.types.is_empty(place) {
            return Ok(());
        }
        self.count(1)?;
        if depth > FORMAT_DEPTH_MAX {
            return Err(too_deep(&here.path()));
        }
        match self.types.at(place) {
            Type::Null => Ok(()),
            Type::Boolean => match self.byte(here)? {
                0 | 1 => Ok(()),
                other => Err(self.bad(here, &format!("{other} is not a boolean"))),
            },
            Type::Int => {
                let value = self.long(here)?;
                i32::try_from(value).map(drop).map_err(|_| self.bad(here, &format!("{value} is out of range for int")))
            }
            Type::Long => self.long(here).map(drop),
            Type::Float => self.skip(4, here),
            Type::Double => self.skip(8, here),
            Type::Fixed(_, size) => self.skip(*size as u64, here),
            Type::Bytes => self.delimited(here).map(drop),
            Type::String => self.text(here),
            Type::Enum(of) => {
                let nth = self.long(here)?;
                match usize::try_from(nth) {
                    Ok(place) if place < of.symbols.len() => Ok(()),
                    _ => Err(self.bad(here, &format!("{nth} is not a symbol of {}", of.name))),
                }
            }
            Type::Union(branches) => {
                let nth = self.long(here)?;
                match usize::try_from(nth).ok().and_then(|nth| branches.get(nth)) {
                    // Unions hold no unions: this is no level of its own.
                    Some(branch) => self.value(*branch, depth, here),
                    None => Err(self.bad(here, &format!("{nth} is not a branch of the union"))),
                }
            }
            Type::Record(record) => {
                for place in &record.written {
                    let field = &record.fields[*place];
                    self.value(field.of, depth + 1, &Crumb::Field(&field.name, here))?;
                }
                Ok(())
            }
            Type::Array(items) => self.blocks(*items, false, depth, here),
            Type::Map(values) => self.blocks(*values, true, depth, here),
        }
    }

    /// The blocks of an array or a map, up to the empty one.
    fn blocks(&mut self, of: usize, keys: bool, depth: usize, here: &Crumb<'_>) -> Result<(), Violation> {
        let mut nth = 0;
        loop {
            let count = self.long(here)?;
            if count == 0 {
                return Ok(());
            }
            // A negative count is followed by the block's size, for those who skip it.
            let end = if count < 0 {
                let size = self.long(here)?;
                let end = usize::try_from(size).ok().and_then(|size| self.at.checked_add(size));
                let end = end.filter(|end| *end <= self.record.len());
                Some(end.ok_or_else(|| self.bad(here, &format!("a block of {size} bytes, {} left", self.left())))?)
            } else {
                None
            };
            let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            if self.types.is_empty(of) && !keys {
                self.count(count)?;
            } else if count > self.left() {
                return Err(self.bad(here, &format!("{count} items announced, {} bytes left", self.left())));
            } else {
                for _ in 0..count {
                    let crumb = Crumb::Item(nth, here);
                    if keys {
                        self.count(1)?;
                        self.text(&crumb)?;
                    }
                    self.value(of, depth + 1, &crumb)?;
                    nth += 1;
                }
            }
            if end.is_some_and(|end| end != self.at) {
                return Err(self.bad(here, "a block that is not as long as it says"));
            }
        }
    }

    fn count(&mut self, values: usize) -> Result<(), Violation> {
        self.values = self.values.saturating_add(values);
        if self.values > FORMAT_VALUES_MAX { Err(too_many(FORMAT_VALUES_MAX)) } else { Ok(()) }
    }

    fn left(&self) -> usize {
        self.record.len() - self.at
    }

    fn byte(&mut self, here: &Crumb<'_>) -> Result<u8, Violation> {
        let byte = self.record.get(self.at).copied().ok_or_else(|| self.bad(here, "the record ends"))?;
        self.at += 1;
        Ok(byte)
    }

    /// A number in zigzag.
    fn long(&mut self, here: &Crumb<'_>) -> Result<i64, Violation> {
        let mut value = 0_u64;
        for nth in 0..10 {
            let byte = self.byte(here)?;
            value |= u64::from(byte & 0x7f) << (7 * nth);
            if byte < 0x80 {
                if nth == 9 && byte > 1 {
                    break;
                }
                return Ok((value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg());
            }
        }
        Err(self.bad(here, "a number of more than 64 bits"))
    }

    fn skip(&mut self, size: u64, here: &Crumb<'_>) -> Result<(), Violation> {
        match usize::try_from(size) {
            Ok(size) if size <= self.left() => {
                self.at += size;
                Ok(())
            }
            _ => Err(self.bad(here, &format!("{size} bytes announced, {} left", self.left()))),
        }
    }

    /// Steps over a length and what it announces; returns where that begins.
    fn delimited(&mut self, here: &Crumb<'_>) -> Result<usize, Violation> {
        let size = self.long(here)?;
        let size = u64::try_from(size).map_err(|_| self.bad(here, &format!("a length of {size}")))?;
        let from = self.at;
        self.skip(size, here)?;
        Ok(from)
    }

    fn text(&mut self, here: &Crumb<'_>) -> Result<(), Violation> {
        let from = self.delimited(here)?;
        str::from_utf8(&self.record[from..self.at]).map(drop).map_err(|_| self.bad(here, "a string that is not UTF-8"))
    }

    fn bad(&self, here: &Crumb<'_>, what: &str) -> Violation {
        Violation::one(here.path(), format!("{NOT_AVRO}{what}, at byte {}", self.at))
    }
}
