//! Wire format, walked along the tables of its type: nothing is decoded, nothing allocated unless there is a fault.
//!
//! The walk calls itself for messages within messages, [`FORMAT_DEPTH_MAX`] deep at most, and looks at
//! [`FORMAT_VALUES_MAX`] fields at most. Unknown fields are valid, groups among them, as long as they end. What
//! protobuf's decoders take, the walk takes: packed or not, fields in any order and more than once. In one point it is
//! stricter: a message that is written in several parts must have its required fields in each.

use super::{NOT_PROTOBUF, tables::Field, tables::Shape, tables::Tables};
use crate::{
    limits::{FORMAT_DEPTH_MAX, FORMAT_VALUES_MAX, PROTOBUF_FIELDS_COUNTED_MAX, VIOLATION_FAULTS_MAX},
    schema::{
        Violation,
        bounds::{path_end, too_deep, too_many},
    },
};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const DELIMITED: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// Holds a record in wire format against the first type of the tables.
pub(super) fn check(tables: &Tables, record: &[u8]) -> Result<(), Violation> {
    let mut walk = Walk { tables, record, fields: 0, violation: None };
    let whole = Part { place: 0, from: 0, to: record.len(), group: None };
    let end = walk.message(whole, 0, None);
    match (end, walk.violation) {
        (_, Some(violation)) => Err(violation),
        (Err(Stop), None) => Err(Violation::one("", NOT_PROTOBUF)),
        (Ok(_), None) => Ok(()),
    }
}

/// A fault after which nothing that follows can be read; it has been noted.
struct Stop;

/// A message within the record.
#[derive(Clone, Copy)]
struct Part {
    /// Its type.
    place: usize,
    from: usize,
    to: usize,
    /// It ends with the end tag of this number, not at `to`.
    group: Option<u32>,
}

/// A field on the way from the record to where the walk is.
#[derive(Clone, Copy)]
struct Crumb<'a> {
    up: Option<&'a Crumb<'a>>,
    /// The message that has the field.
    part: Part,
    field: &'a Field,
    /// Where its tag stands.
    at: usize,
}

struct Walk<'a> {
    tables: &'a Tables,
    record: &'a [u8],
    fields: usize,
    violation: Option<Violation>,
}

impl Walk<'_> {
    /// Walks one message and returns where it ends.
    fn message(&mut self, part: Part, depth: usize, up: Option<&Crumb<'_>>) -> Result<usize, Stop> {
        let message = self.tables.message(part.place);
        let mut seen = Seen::of(message.required.len());
        self.count(seen.rest.len())?;
        let mut at = part.from;
        loop {
            if at == part.to && part.group.is_none() {
                break;
            }
            let start = at;
            let (number, wire) = self.tag(&mut at, part.to, up)?;
            if wire == GROUP_END {
                if part.group == Some(number) {
                    break;
                }
                return Err(self.broken(up, start, &format!("an end of group {number} that did not begin")));
            }
            self.count(1)?;
            match message.field(number) {
                None => self.skip(number, wire, &mut at, part.to, depth, up)?,
                Some(field) => {
                    if let Some(nth) = field.required {
                        seen.add(nth);
                    }
                    let crumb = Crumb { up, part, field, at: start };
                    self.field(&crumb, wire, &mut at, depth)?;
                }
            }
        }
        let mut missing = message.required.len() - seen.count;
        for (nth, place) in message.required.iter().enumerate() {
            if missing == 0 {
                break;
            }
            if let Some(violation) = self.full() {
                violation.more += missing;
                break;
            }
            if !seen.has(nth) {
                missing -= 1;
                self.note(up, || format!("proto: required field {} not set", message.fields[*place].full_name));
            }
        }
        Ok(at)
    }

    /// Walks the value of a field that the type knows.
    fn field(&mut self, crumb: &Crumb<'_>, wire: u8, at: &mut usize, depth: usize) -> Result<(), Stop> {
        let Crumb { field, part, .. } = *crumb;
        let to = part.to;
        let here = Some(crumb);
        match (field.shape, wire) {
            (Shape::Varint, VARINT) => self.varint(at, to, here).map(drop),
            (Shape::Fixed32, FIXED32) => self.take(4, at, to, here),
            (Shape::Fixed64, FIXED64) => self.take(8, at, to, here),
            (Shape::Bytes, DELIMITED) => self.delimited(at, to, here).map(drop),
            (Shape::Text, DELIMITED) => {
                let from = self.delimited(at, to, here)?;
                if str::from_utf8(&self.record[from..*at]).is_err() {
                    self.note(here, || format!("proto: field {} contains invalid UTF-8", field.full_name));
                }
                Ok(())
            }
            (Shape::Message(place), DELIMITED) => {
                let from = self.delimited(at, to, here)?;
                self.deeper(Part { place, from, to: *at, group: None }, depth, here).map(drop)
            }
            (Shape::Group(place), GROUP_START) => {
                *at = self.deeper(Part { place, from: *at, to, group: Some(field.number) }, depth, here)?;
                Ok(())
            }
            (Shape::Varint, DELIMITED) if field.repeated => {
                let mut from = self.delimited(at, to, here)?;
                if are_varints(&self.record[from..*at]) {
                    return Ok(());
                }
                while from < *at {
                    self.varint(&mut from, *at, here)?;
                }
                Ok(())
            }
            (Shape::Fixed32 | Shape::Fixed64, DELIMITED) if field.repeated => {
                let from = self.delimited(at, to, here)?;
                let size = if field.shape == Shape::Fixed32 { 4 } else { 8 };
                if (*at - from).is_multiple_of(size) {
                    return Ok(());
                }
                Err(self.broken(here, from, &format!("{} bytes are not a number of {size} byte items", *at - from)))
            }
            (shape, wire) => {
                let text = format!("wire type {wire}, where the field has {}", shape.wire());
                Err(self.broken(here, crumb.at, &text))
            }
        }
    }

    fn deeper(&mut self, part: Part, depth: usize, here: Option<&Crumb<'_>>) -> Result<usize, Stop> {
        if depth < FORMAT_DEPTH_MAX {
            return self.message(part, depth + 1, here);
        }
        self.violation = Some(too_deep(&self.path(here)));
        Err(Stop)
    }

    /// Steps over a field that the type does not know. Groups nest: their numbers are kept, and bound how deep.
    fn skip(
        &mut self,
        number: u32,
        wire: u8,
        at: &mut usize,
        to: usize,
        depth: usize,
        up: Option<&Crumb<'_>>,
    ) -> Result<(), Stop> {
        let mut open = [0_u32; FORMAT_DEPTH_MAX];
        let mut groups = 0;
        let (mut number, mut wire, mut start) = (number, wire, *at);
        loop {
            match wire {
                VARINT => self.varint(at, to, up).map(drop)?,
                FIXED64 => self.take(8, at, to, up)?,
                DELIMITED => self.delimited(at, to, up).map(drop)?,
                FIXED32 => self.take(4, at, to, up)?,
                GROUP_START if depth + groups < FORMAT_DEPTH_MAX => {
                    open[groups] = number;
                    groups += 1;
                }
                GROUP_START => {
                    self.violation = Some(too_deep(&self.path(up)));
                    return Err(Stop);
                }
                _ if groups > 0 && open[groups - 1] == number => groups -= 1,
                _ => return Err(self.broken(up, start, &format!("an end of group {number} that did not begin"))),
            }
            if groups == 0 {
                return Ok(());
            }
            start = *at;
            (number, wire) = self.tag(at, to, up)?;
            self.count(1)?;
        }
    }

    /// Counts fields, and what is as much work as they are.
    fn count(&mut self, fields: usize) -> Result<(), Stop> {
        self.fields += fields;
        if self.fields > FORMAT_VALUES_MAX {
            self.violation = Some(too_many(FORMAT_VALUES_MAX));
            return Err(Stop);
        }
        Ok(())
    }

    /// A field's number and its wire type, which exists.
    fn tag(&mut self, at: &mut usize, to: usize, up: Option<&Crumb<'_>>) -> Result<(u32, u8), Stop> {
        let start = *at;
        let tag = self.varint(at, to, up)?;
        let Ok(tag) = u32::try_from(tag) else {
            return Err(self.broken(up, start, "a field number over 536870911"));
        };
        let (number, wire) = (tag >> 3, tag.to_le_bytes()[0] & 7);
        if number == 0 {
            return Err(self.broken(up, start, "field number 0"));
        }
        if wire > FIXED32 {
            return Err(self.broken(up, start, &format!("wire type {wire}, which does not exist")));
        }
        Ok((number, wire))
    }

    fn varint(&mut self, at: &mut usize, to: usize, here: Option<&Crumb<'_>>) -> Result<u64, Stop> {
        let start = *at;
        let mut value = 0_u64;
        for (nth, byte) in self.record[start..to].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * nth);
            if *byte < 0x80 {
                // The tenth byte has room for one bit.
                if nth == 9 && *byte > 1 {
                    break;
                }
                *at = start + nth + 1;
                return Ok(value);
            }
        }
        let what = if to - start < 10 { "a number that does not end" } else { "a number of more than 64 bits" };
        Err(self.broken(here, start, what))
    }

    /// Steps over `size` bytes.
    fn take(&mut self, size: u64, at: &mut usize, to: usize, here: Option<&Crumb<'_>>) -> Result<(), Stop> {
        let left = to - *at;
        match usize::try_from(size) {
            Ok(size) if size <= left => {
                *at += size;
                Ok(())
            }
            _ => Err(self.broken(here, *at, &format!("{size} bytes announced, {left} left"))),
        }
    }

    /// Steps over a length and what it announces; returns where that begins.
    fn delimited(&mut self, at: &mut usize, to: usize, here: Option<&Crumb<'_>>) -> Result<usize, Stop> {
        let size = self.varint(at, to, here)?;
        let from = *at;
        self.take(size, at, to, here)?;
        Ok(from)
    }

    /// Notes a fault after which nothing can be read.
    fn broken(&mut self, here: Option<&Crumb<'_>>, at: usize, what: &str) -> Stop {
        self.note(here, || format!("{NOT_PROTOBUF}: {what}, at byte {at}"));
        Stop
    }

    /// Notes a fault; if there are enough, that there was one.
    fn note(&mut self, here: Option<&Crumb<'_>>, text: impl FnOnce() -> String) {
        if let Some(violation) = self.full() {
            violation.more += 1;
            return;
        }
        let path = self.path(here);
        self.violation.get_or_insert(Violation { faults: Vec::new(), more: 0 }).add(path, text());
    }

    /// What was found, if it holds as many faults as are told.
    fn full(&mut self) -> Option<&mut Violation> {
        self.violation.as_mut().filter(|violation| violation.faults.len() >= VIOLATION_FAULTS_MAX)
    }

    /// The names of the fields on the way, items of repeated fields by their place.
    fn path(&self, here: Option<&Crumb<'_>>) -> String {
        let mut names = Vec::new();
        let mut next = here;
        while let Some(crumb) = next {
            let name = &crumb.field.name;
            names.push(if !crumb.field.repeated {
                name.clone()
            } else if let Some(nth) = self.nth(crumb) {
                format!("{name}[{nth}]")
            } else {
                format!("{name}[…]")
            });
            next = crumb.up;
        }
        names.reverse();
        path_end(names.join("."))
    }

    /// How many fields of its number stand before this one in its message: all of them have been walked.
    fn nth(&self, crumb: &Crumb<'_>) -> Option<usize> {
        let mut again = Walk { tables: self.tables, record: self.record, fields: 0, violation: None };
        let (mut at, mut nth) = (crumb.part.from, 0);
        for _ in 0..PROTOBUF_FIELDS_COUNTED_MAX {
            if at >= crumb.at {
                return Some(nth);
            }
            let (number, wire) = again.tag(&mut at, crumb.at, None).ok()?;
            nth += usize::from(number == crumb.field.number);
            again.skip(number, wire, &mut at, crumb.at, 0, None).ok()?;
        }
        None
    }
}

impl Shape {
    /// The wire type, as a fault names it.
    fn wire(self) -> &'static str {
        match self {
            Self::Varint => "0 (varint)",
            Self::Fixed64 => "1 (64 bits)",
            Self::Bytes | Self::Text | Self::Message(_) => "2 (length-delimited)",
            Self::Group(_) => "3 (group)",
            Self::Fixed32 => "5 (32 bits)",
        }
    }
}

/// Are these bytes varints, one after the other, and nothing else?
fn are_varints(bytes: &[u8]) -> bool {
    let mut run = 0;
    for byte in bytes {
        if *byte >= 0x80 {
            run += 1;
        } else if run >= 9 && (run > 9 || *byte > 1) {
            return false;
        } else {
            run = 0;
        }
    }
    run == 0
}

/// Which required fields of a message have been met. Only messages with more than 64 of them allocate.
struct Seen {
    count: usize,
    first: u64,
    rest: Vec<u64>,
}

impl Seen {
    fn of(required: usize) -> Self {
        Self { count: 0, first: 0, rest: vec![0; required.saturating_sub(64).div_ceil(64)] }
    }

    fn add(&mut self, nth: usize) {
        let word = nth.checked_sub(64).and_then(|place| self.rest.get_mut(place / 64)).unwrap_or(&mut self.first);
        let bit = 1_u64 << (nth % 64);
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
    }

    fn has(&self, nth: usize) -> bool {
        let word = nth.checked_sub(64).and_then(|place| self.rest.get(place / 64)).unwrap_or(&self.first);
        word & (1_u64 << (nth % 64)) != 0
    }
}
