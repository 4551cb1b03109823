//! Reads by place: records of one partition from a sequence or a time on, outside of any consumer group.
//!
//! A read leaves nothing behind: no consumer, no position, no acknowledgement. Both backends answer alike, and a caller
//! goes on with [`Page::next`]. A page may have fewer records than it might: only an empty one says that there are no more.

use crate::{station::Station, wire::Span};
use std::ops::Range;

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// With the oldest record that is kept.
    First,
    /// Behind the newest record: the page is empty, and says where the partition begins and ends ([`Page::kept`]).
    New,
    /// With this sequence, or the next one that is kept.
    Sequence(u64),
    /// With the first record that was stored at that time, in milliseconds since 1970, or later.
    Since(u64),
}

/// A read of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Read<'a> {
    /// The station.
    pub station: &'a Station,
    /// Index of the partition.
    pub partition: u16,
    /// Where it begins.
    pub start: Start,
    /// Where it ends.
    pub bounds: Bounds,
}

/// How much one read returns at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Records; at least one is read.
    pub records: u32,
    /// Bytes of headers and payload (one record may exceed it alone).
    pub bytes: usize,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRecord {
    /// Its place in the partition.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub time_ms: u64,
    /// Header fields, `Name: value\r\n` each, in the arena.
    pub headers: Span,
    /// Payload, in the arena.
    pub payload: Span,
}

/// The answer to a read: one arena, and spans into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Headers and payloads.
    pub arena: Vec<u8>,
    /// The records, in the order of their sequences, which need not be without gaps.
    pub records: Vec<PageRecord>,
    /// The sequence with which the next read goes on. Nothing that is kept lies between the records and this.
    pub next: u64,
    /// The sequences that the partition kept when it was read: known where the page is empty, or begins behind the sequence that
    /// was asked for.
    pub kept: Option<Range<u64>>,
}

impl Page {
    /// Adds a record, unless the page is full. The first one always fits.
    pub(super) fn push(
        &mut self,
        bounds: &Bounds,
        (sequence, time_ms): (u64, u64),
        headers: &[u8],
        payload: &[u8],
    ) -> bool {
        let bytes = self.arena.len() + headers.len() + payload.len();
        if !self.records.is_empty() && (bytes > bounds.bytes || self.is_full(bounds)) {
            return false;
        }
        let headers = Span::append(&mut self.arena, headers);
        let payload = Span::append(&mut self.arena, payload);
        self.records.push(PageRecord { sequence, time_ms, headers, payload });
        self.next = sequence.saturating_add(1);
        true
    }

    /// Returns how many bytes it holds in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.records.len() * size_of::<PageRecord>()
    }

    /// Returns whether no further record can be added.
    pub(super) fn is_full(&self, bounds: &Bounds) -> bool {
        self.records.len() >= bounds.records.max(1) as usize || self.arena.len() >= bounds.bytes
    }

    /// Returns whether it does not begin with the record that was asked for.
    pub(super) fn misses(&self, start: Start) -> bool {
        match (self.records.first(), start) {
            (None, _) => true,
            (Some(first), Start::Sequence(asked)) => first.sequence > asked.max(1),
            (Some(_), Start::First | Start::New | Start::Since(_)) => false,
        }
    }

    /// Returns the sequences that retention removed before they were read, where the read began with one of them.
    #[must_use]
    pub fn gap(&self, start: Start) -> Option<Range<u64>> {
        let Start::Sequence(asked) = start else { return None };
        let first = self.kept.as_ref()?.start;
        (asked.max(1) < first).then_some(asked.max(1)..first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_what_retention_took_from_where_the_read_begins() {
        let page = |kept| Page { kept, ..Page::default() };
        for (start, kept, expect) in [
            (Start::Sequence(5), Some(9..20), Some(5..9)),
            (Start::Sequence(0), Some(2..2), Some(1..2)),
            (Start::Sequence(0), Some(1..2), None),
            (Start::Sequence(9), Some(9..20), None),
            (Start::Sequence(30), Some(9..20), None),
            (Start::Sequence(5), None, None),
            (Start::First, Some(9..20), None),
            (Start::New, Some(9..20), None),
            (Start::Since(5), Some(9..20), None),
        ] {
            assert_eq!(page(kept.clone()).gap(start), expect, "{start:?} of {kept:?}");
        }
    }
}
