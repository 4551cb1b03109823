//! Atomic batches: the header fields of their records, and what the answer to a commit says.
//!
//! ```text
//! HPUB s          … Nats-Batch-Id: b, Nats-Batch-Sequence: 1
//! HPUB s          … Nats-Batch-Id: b, Nats-Batch-Sequence: 2
//! HPUB s <reply>  … Nats-Batch-Id: b, Nats-Batch-Sequence: 3, Nats-Batch-Commit: 1
//! MSG <reply>     {"stream":"S","seq":8,"batch":"b","count":3}
//! ```
//!
//! A batch is written in one go and only its last record asks for an answer: all of it is stored, at sequences
//! without a gap, or nothing. What is wrong with a record before the last is said on *its* reply subject, which
//! it does not have; the commit then only says that the batch is incomplete. Whoever wants to know which record
//! it was publishes them singly ([`may_go_singly`]).
//!
//! The broker stores the header fields with each record. It knows the open batches of a stream by their ids alone,
//! whoever sends them, so ids must differ between connections: [`BatchIds`] begins with what makes an inbox unique.

use crate::limits::ATOMIC_RECORDS_MAX;

/// Bytes of the part of a batch id that its connection has.
const ORIGIN_BYTES: usize = 8;
/// Digits of the part that counts: 64 bits, in base 32.
const SERIAL_DIGITS: usize = 13;
/// Bytes of the longest id. The broker takes 64 (error 10179).
const BATCH_ID_BYTES: usize = ORIGIN_BYTES + 1 + SERIAL_DIGITS;
const _: () = assert!(BATCH_ID_BYTES <= 64);

const ID_FIELD: &[u8] = b"Nats-Batch-Id: ";
const SEQUENCE_FIELD: &[u8] = b"\r\nNats-Batch-Sequence: ";
const COMMIT_FIELD: &[u8] = b"Nats-Batch-Commit: 1\r\n";
const CRLF: &[u8] = b"\r\n";

/// Bytes that a batch adds to the headers of one record, at most.
pub const FIELDS_BYTES: usize =
    ID_FIELD.len() + BATCH_ID_BYTES + SEQUENCE_FIELD.len() + 4 + CRLF.len() + COMMIT_FIELD.len();
const _: () = assert!(ATOMIC_RECORDS_MAX <= 9_999, "a sequence has four digits");

/// The ids of the batches of one connection, one after the other.
#[derive(Debug, Clone)]
pub struct BatchIds {
    origin: [u8; ORIGIN_BYTES],
    origin_len: u8,
    serial: u64,
}

impl BatchIds {
    /// `identity` is what makes the connection's inbox unique: its letters and digits are random.
    #[must_use]
    pub fn new(identity: &str) -> Self {
        let mut origin = [0; ORIGIN_BYTES];
        let mut origin_len = 0;
        for (place, byte) in origin.iter_mut().zip(identity.bytes().filter(u8::is_ascii_alphanumeric)) {
            *place = byte;
            origin_len += 1;
        }
        Self { origin, origin_len, serial: 0 }
    }

    /// An id that this connection has not used. A batch that was cut off keeps its id for ten seconds: it is
    /// never taken up again.
    #[expect(clippy::indexing_slicing, reason = "five bits choose one of 32 digits")]
    pub fn next_id(&mut self) -> BatchId {
        let mut id = BatchId { bytes: [0; BATCH_ID_BYTES], len: 0 };
        for byte in self.origin.iter().take(usize::from(self.origin_len)) {
            id.push(*byte);
        }
        id.push(b'-');
        let mut rest = self.serial;
        loop {
            // Lowest digit first: nobody reads it as a number.
            id.push(b"0123456789abcdefghijklmnopqrstuv"[(rest & 31) as usize]);
            rest >>= 5;
            if rest == 0 {
                break;
            }
        }
        self.serial = self.serial.wrapping_add(1);
        id
    }
}

/// The name of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId {
    bytes: [u8; BATCH_ID_BYTES],
    len: u8,
}

impl BatchId {
    /// The id as text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Origin, hyphen and digits are at most what there is room for.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }
}

/// One record's place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    /// Of which batch.
    pub id: BatchId,
    /// From 0.
    pub index: u16,
    /// Records of the batch, 1 to [`ATOMIC_RECORDS_MAX`].
    pub count: u16,
}

impl BatchPlace {
    /// The last record commits the batch, and is the only one that wants an answer.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.index.checked_add(1).is_none_or(|next| next >= self.count)
    }

    /// Appends the fields, whole lines each, to a header block.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        debug_assert!(self.index < self.count && self.count <= ATOMIC_RECORDS_MAX);
        out.extend_from_slice(ID_FIELD);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(SEQUENCE_FIELD);
        out.extend_from_slice(itoa::Buffer::new().format(u32::from(self.index) + 1).as_bytes());
        out.extend_from_slice(CRLF);
        if self.is_last() {
            out.extend_from_slice(COMMIT_FIELD);
        }
    }
}

/// The sequence of the first record of a batch of `sent`, whose commit was answered with `sequence` and `count` of
/// [`PubAck::Stored`](super::PubAck::Stored): record `i` is at the first plus `i`. `None`: the answer is not
/// that of such a batch, and what became of its records is unknown. (So does a broker answer that knows no batches.)
#[must_use]
pub fn first_sequence(sequence: u64, count: Option<u32>, sent: u16) -> Option<u64> {
    if sent == 0 || count != Some(u32::from(sent)) {
        return None;
    }
    sequence.checked_sub(u64::from(sent) - 1).filter(|first| *first > 0)
}

/// "atomic publish batch contains duplicate message id": it is known already, or occurs twice in the batch.
pub const DUPLICATE_ID: u32 = 10_201;
/// "atomic publish is disabled": the stream takes no batches (any more).
pub(super) const DISABLED: u32 = 10_174;
/// "atomic publish batch is incomplete": a record before the last was refused, or too many batches were open for the
/// first.
pub(super) const INCOMPLETE: u32 = 10_176;
/// "atomic publish batch is too large": more records than this broker takes at once.
pub(super) const TOO_MANY_RECORDS: u32 = 10_199;
/// "atomic publish too many inflight": fifty batches are open in the stream.
pub(super) const TOO_MANY_OPEN: u32 = 10_210;

/// Errors of a commit that are the batch's and not each record's. Nothing of it is stored and none of its message
/// ids is remembered, so its records may be published singly, and each then fares as it deserves. (Any other
/// error stores nothing either; it would meet every record singly too.)
const SINGLY: [u32; 11] = [
    10_054, // the last record is larger than the stream takes
    10_077, // the stream is full: some of them may fit
    DISABLED,
    10_175, // no sequence
    INCOMPLETE,
    10_177, // a header field that batches may not have
    10_179, // an id that this broker does not take
    TOO_MANY_RECORDS,
    10_200, // a commit that this broker does not know
    DUPLICATE_ID,
    TOO_MANY_OPEN,
];

/// Whether the records of a batch whose commit was answered with this error may be published singly.
#[must_use]
pub fn may_go_singly(err_code: u32) -> bool {
    SINGLY.contains(&err_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::jetstream::{PubAck, puback};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn fields(place: BatchPlace) -> String {
        let mut out = Vec::new();
        place.write_fields(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn the_fields_say_batch_and_place_and_the_last_commits() {
        let id = BatchIds::new("aB3-_xyz9Qrs").next_id();
        for (index, count, expect) in [
            (0, 3, "Nats-Batch-Id: aB3xyz9Q-0\r\nNats-Batch-Sequence: 1\r\n"),
            (1, 3, "Nats-Batch-Id: aB3xyz9Q-0\r\nNats-Batch-Sequence: 2\r\n"),
            (2, 3, "Nats-Batch-Id: aB3xyz9Q-0\r\nNats-Batch-Sequence: 3\r\nNats-Batch-Commit: 1\r\n"),
            (0, 1, "Nats-Batch-Id: aB3xyz9Q-0\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1\r\n"),
            (999, 1_000, "Nats-Batch-Id: aB3xyz9Q-0\r\nNats-Batch-Sequence: 1000\r\nNats-Batch-Commit: 1\r\n"),
        ] {
            assert_eq!(fields(BatchPlace { id, index, count }), expect, "{index} of {count}");
        }
    }

    #[test]
    fn ids_do_not_come_back_and_differ_between_connections() {
        let (mut one, mut two) = (BatchIds::new("aaaaaaaaaaaa"), BatchIds::new("aaaaaaabbbbb"));
        let ids: HashSet<BatchId> = (0..2_000).flat_map(|_| [one.next_id(), two.next_id()]).collect();
        assert_eq!(ids.len(), 4_000);
        assert!(ids.iter().all(|id| id.as_bytes().len() <= 12));
        let mut last = BatchIds { serial: u64::MAX, ..BatchIds::new("aaaaaaaaaaaa") };
        assert_eq!(last.next_id().as_bytes().len(), BATCH_ID_BYTES);
        // Never seen: an identity of other letters alone.
        assert_eq!(BatchIds::new("-_").next_id().as_bytes(), b"-0");
    }

    #[test]
    fn a_commits_answer_gives_each_record_its_sequence() {
        for (answer, sent, expect) in [
            (r#"{"stream":"A","seq":3,"batch":"b1","count":3}"#, 3, Some(1)),
            (r#"{"stream":"A","seq":1016,"batch":"k1","count":1000}"#, 1_000, Some(17)),
            (r#"{"stream":"A","seq":10,"batch":"b3","count":1}"#, 1, Some(10)),
            // Fewer or more than were sent; a broker that took the last record for one by itself.
            (r#"{"stream":"A","seq":10,"batch":"b3","count":2}"#, 3, None),
            (r#"{"stream":"A","seq":10,"batch":"b3","count":4}"#, 3, None),
            (r#"{"stream":"A","seq":10}"#, 1, None),
            (r#"{"stream":"A","seq":10}"#, 3, None),
            (r#"{"stream":"A","seq":10,"batch":"b3","count":3}"#, 0, None),
        ] {
            let Some(PubAck::Stored { sequence, duplicate: false, count, .. }) = puback::parse(answer.as_bytes())
            else {
                panic!("{answer}")
            };
            assert_eq!(first_sequence(sequence, count, sent), expect, "{answer} {sent}");
        }
        assert_eq!(first_sequence(2, Some(3), 3), None, "it would begin before the first");
    }

    #[test]
    fn only_errors_of_the_batch_itself_lead_to_singles() {
        // As nats-server 2.12.8, 2.14.6 and 2.15.1 answered them, and what is left of the table.
        for (err_code, expect) in [
            (10_054, true),  // message size exceeds maximum allowed
            (10_077, true),  // maximum messages exceeded; maximum bytes exceeded
            (10_174, true),  // atomic publish is disabled
            (10_176, true),  // atomic publish batch is incomplete
            (10_177, true),  // atomic publish unsupported header used: Nats-Expected-Last-Msg-Id
            (10_179, true),  // atomic publish batch ID is invalid
            (10_199, true),  // atomic publish batch is too large: 1000
            (10_200, true),  // atomic publish batch commit is invalid
            (10_201, true),  // atomic publish batch contains duplicate message id
            (10_210, true),  // atomic publish too many inflight
            (10_060, false), // expected stream does not match
            (10_166, false), // per-message TTL is disabled
            (10_111, false), // rollup not permitted
            (10_158, false), // duplicate message id is in process
            (10_167, false), // too many requests
            (10_076, false), // JetStream not enabled
            (10_008, false), // temporarily unavailable
            (10_205, false), // batch publish (fast ingest) is disabled
            (0, false),
        ] {
            assert_eq!(may_go_singly(err_code), expect, "{err_code}");
        }
    }

    proptest! {
        #[test]
        fn fields_are_never_longer_than_is_reckoned_with(serial: u64, index in 0_u16..1_000, more in 0_u16..1_000) {
            let count = (index + 1 + more).min(1_000);
            let id = BatchIds { serial, ..BatchIds::new("0123456789ab") }.next_id();
            let place = BatchPlace { id, index, count };
            prop_assert!(fields(place).len() <= FIELDS_BYTES);
        }
    }
}
