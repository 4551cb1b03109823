//! Records, and what is said of them: their message ids, the header fields stored with them, their partitions, what became
//! of them. Pure.

pub mod headers;
pub mod message_id;
mod outcome;
pub mod placement;

pub use message_id::MessageId;
pub use outcome::{Outcome, Receipt};
pub use placement::{Partitions, Placement};

use crate::wire::Span;

/// Records of one request, decoded and split, with what the request says of them: what a dialect hands to `ingest`.
#[derive(Debug)]
pub struct Records<'a> {
    /// What the payloads point into.
    pub bytes: &'a [u8],
    /// The payload of each record, in input order.
    pub payloads: Vec<Span>,
    /// The index of each record in the request, in ascending order, if others of it are not among them. Message ids,
    /// header fields of single records and named partitions go by it.
    pub indexes: Option<&'a [u32]>,
    /// Header fields stored with every record: `Name: value\r\n` each, without the message id.
    pub headers: &'a [u8],
    /// Header fields that single records have beside these.
    pub record_headers: Option<RecordHeaders<'a>>,
    /// The request's message id, if it has one.
    pub id: Option<MessageId<'a>>,
    /// The partitions that the request names.
    pub placement: Placement<'a>,
}

impl<'a> Records<'a> {
    /// Returns records as they are, with nothing beside them.
    #[must_use]
    pub fn of(bytes: &'a [u8], payloads: Vec<Span>) -> Self {
        Self {
            bytes,
            payloads,
            indexes: None,
            headers: b"",
            record_headers: None,
            id: None,
            placement: Placement::Auto,
        }
    }
}

/// Header fields of single records: `Name: value\r\n` each.
#[derive(Debug, Clone, Copy)]
pub struct RecordHeaders<'a> {
    /// All of them.
    pub block: &'a [u8],
    /// Those of each record, in `block`, in the order of the request's records.
    pub spans: &'a [Span],
}

impl<'a> RecordHeaders<'a> {
    /// Returns the fields of the request's record `index`.
    #[must_use]
    pub fn of(&self, index: usize) -> &'a [u8] {
        self.spans.get(index).copied().unwrap_or_default().of(self.block)
    }
}
