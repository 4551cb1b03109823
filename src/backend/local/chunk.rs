//! Chunks: consecutive records of one partition in one value. Pure.
//!
//! What the database does for a key (place in the memtable, journal entry, block, merge) costs several times what
//! a small record does. So the records that a commit adds to a partition are cut into chunks of at most
//! [`LOCAL_CHUNK_RECORDS_MAX`] records and [`LOCAL_CHUNK_BYTES_MAX`] bytes, and each chunk is one key. A record
//! that is larger than that is a chunk of its own.
//!
//! A chunk's key has the sequence of its *last* record. So
//! - the records from a sequence on begin in the first chunk whose key is not below it,
//! - the last key of a partition names its newest record,
//! - a chunk whose key is below a partition's mark holds nothing that lives.
//!
//! ```text
//! time ms u64   count u32   count times: bytes of the rest u32   header bytes u32   headers   payload
//! ```
//!
//! The time is that of the commit, the same for all records in it. What follows the first u32 of a record is
//! its *body*, which [`super::format::Record`] takes apart.

use super::format::{ID_FIELD, parse_record_key};
use crate::limits::{LOCAL_CHUNK_BYTES_MAX, LOCAL_CHUNK_RECORDS_MAX};

/// Bytes in front of the first record.
const HEAD: usize = 12;
/// Bytes in front of a record's headers.
pub(super) const RECORD_HEAD: usize = 8;
/// Bytes of a body that are neither headers nor payload.
pub(super) const BODY_HEAD: usize = 4;

/// A record that is to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRecord<'a> {
    /// The request's header block,
    pub(super) headers: &'a [u8],
    /// the record's own behind it,
    pub(super) own: &'a [u8],
    /// to which the message id is added,
    pub(super) id: Option<&'a [u8]>,
    /// and what was posted.
    pub(super) payload: &'a [u8],
}

impl NewRecord<'_> {
    fn header_bytes(&self) -> usize {
        self.headers.len() + self.own.len() + self.id.map_or(0, |id| ID_FIELD.len() + id.len() + 2)
    }

    /// Bytes of headers and payload: what limits and lists count.
    pub(super) fn bytes(&self) -> usize {
        self.header_bytes() + self.payload.len()
    }
}

/// A chunk in the making.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    value: Vec<u8>,
    count: usize,
}

impl ChunkBuilder {
    /// Whether there is no record in it.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether another record may go into it. The first one always may.
    pub(super) fn has_room(&self, record: &NewRecord<'_>) -> bool {
        self.is_empty()
            || (self.count < LOCAL_CHUNK_RECORDS_MAX
                && self.value.len() + RECORD_HEAD + record.bytes() <= LOCAL_CHUNK_BYTES_MAX)
    }

    /// Begins with a buffer that is used again.
    pub(super) fn begin(&mut self, mut buffer: Vec<u8>, time_ms: u64) {
        buffer.clear();
        buffer.extend_from_slice(&time_ms.to_be_bytes());
        buffer.extend_from_slice(&[0; 4]);
        *self = Self { value: buffer, count: 0 };
    }

    /// Adds a record; how many bytes the chunk has grown by.
    pub(super) fn push(&mut self, record: &NewRecord<'_>) -> usize {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
        let before = self.value.len();
        self.value.reserve(RECORD_HEAD + record.bytes());
        self.value.extend_from_slice(&length(BODY_HEAD + record.bytes()));
        self.value.extend_from_slice(&length(record.header_bytes()));
        self.value.extend_from_slice(record.headers);
        self.value.extend_from_slice(record.own);
        if let Some(id) = record.id {
            self.value.extend_from_slice(ID_FIELD);
            self.value.extend_from_slice(id);
            self.value.extend_from_slice(b"\r\n");
        }
        self.value.extend_from_slice(record.payload);
        self.count += 1;
        self.value.len() - before
    }

    /// The value as it is stored, and an empty chunk in its place. Its buffer may be given to [`Self::begin`] again.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let Self { mut value, count } = std::mem::take(self);
        if let Some(slot) = value.get_mut(8..HEAD) {
            slot.copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        value
    }
}

/// A chunk that was read, and found to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// When its records were stored, ms since the epoch.
    pub(super) time_ms: u64,
    /// Sequence of the first record.
    first: u64,
    records: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// From a key and its value; `None` if they are not a chunk's.
    pub(super) fn parse(key: &[u8], value: &'a [u8]) -> Option<Self> {
        let (_, last) = parse_record_key(key)?;
        let (time, rest) = value.split_first_chunk::<8>()?;
        let (count, records) = rest.split_first_chunk::<4>()?;
        let count = u64::from(u32::from_be_bytes(*count));
        let first = last.checked_add(1)?.checked_sub(count).filter(|first| (1..=last).contains(first))?;
        let mut left = records;
        for _ in 0..count {
            left = split_body(left)?.1;
        }
        left.is_empty().then_some(Self { time_ms: u64::from_be_bytes(*time), first, records })
    }

    /// Sequence and body of each record, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let mut left = self.records;
        let bodies = std::iter::from_fn(move || {
            let (body, rest) = split_body(left)?;
            left = rest;
            Some(body)
        });
        (self.first..).zip(bodies)
    }
}

/// The first record's body, and what is behind it.
fn split_body(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bytes, rest) = records.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::local::format::{Record, record_key};
    use proptest::prelude::*;

    /// Common fields, own fields, id, payload.
    type Row = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, Vec<u8>);

    fn build(rows: &[Row]) -> Vec<u8> {
        let mut builder = ChunkBuilder::default();
        builder.begin(b"left over".to_vec(), 77);
        for (headers, own, id, payload) in rows {
            builder.push(&NewRecord { headers, own, id: id.as_deref(), payload });
        }
        builder.finish()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let headers = || "([A-Z]: [a-z]{0,9}\r\n){0,3}".prop_map(String::into_bytes);
        let id = prop::option::of("[!-~]{1,20}".prop_map(String::into_bytes));
        let payload = prop::collection::vec(any::<u8>(), 0..40);
        prop::collection::vec((headers(), headers(), id, payload), 1..20)
    }

    proptest! {
        #[test]
        fn records_come_back_in_order_under_their_sequences(rows in rows(), before in 0_u64..1 << 40) {
            let value = build(&rows);
            let last = before + rows.len() as u64;
            let chunk = Chunk::parse(&record_key(3, last), &value).expect("a chunk");
            prop_assert_eq!(chunk.time_ms, 77);
            let found: Vec<_> = chunk.records().collect();
            prop_assert_eq!(found.len(), rows.len());
            for ((sequence, body), (at, (headers, own, id, payload))) in found.into_iter().zip((before + 1..).zip(rows)) {
                let record = Record::parse(body).expect("a body");
                prop_assert_eq!((sequence, record.payload), (at, payload.as_slice()));
                prop_assert!(record.headers.starts_with(&[headers.as_slice(), &own].concat()));
                let new = NewRecord { headers: &headers, own: &own, id: id.as_deref(), payload: &payload };
                prop_assert_eq!(body.len(), BODY_HEAD + new.bytes());
                if let Some(id) = &id {
                    prop_assert_eq!(record.id(), Some(id.as_slice()));
                }
            }
        }

        #[test]
        fn what_is_cut_or_too_long_is_no_chunk(rows in rows(), at in any::<prop::sample::Index>()) {
            let value = build(&rows);
            let key = record_key(3, 100);
            prop_assert_eq!(Chunk::parse(&key, &value[..at.index(value.len())]), None);
            let longer = [value.as_slice(), b"x"].concat();
            prop_assert_eq!(Chunk::parse(&key, &longer), None);
            let too_early = record_key(3, rows.len() as u64 - 1);
            prop_assert_eq!(Chunk::parse(&too_early, &value), None, "more records than sequences");
        }
    }

    #[test]
    fn a_chunk_of_nothing_is_none() {
        assert_eq!(Chunk::parse(&record_key(3, 100), &build(&[])), None);
    }

    #[test]
    fn a_chunk_is_full_by_records_or_by_bytes_and_takes_any_first_record() {
        let large = vec![b'x'; 2 * LOCAL_CHUNK_BYTES_MAX];
        for (payload, expect) in [
            (&b"x"[..], LOCAL_CHUNK_RECORDS_MAX),
            (&large[..LOCAL_CHUNK_BYTES_MAX / 4], 3),
            (&large[..LOCAL_CHUNK_BYTES_MAX - HEAD - RECORD_HEAD], 1),
            (&large, 1),
        ] {
            let record = NewRecord { headers: b"", own: b"", id: None, payload };
            let mut builder = ChunkBuilder::default();
            builder.begin(Vec::new(), 1);
            let mut count = 0;
            while builder.has_room(&record) {
                assert_eq!(builder.push(&record), RECORD_HEAD + payload.len());
                count += 1;
            }
            assert_eq!(count, expect, "{} bytes", payload.len());
        }
    }
}
