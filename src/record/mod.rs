//! Records, as everybody who handles them speaks of them: what is stored with one, what it is called, what became of it.
//! Pure.

pub mod headers;
pub mod message_id;
mod outcome;
pub mod placement;

pub use message_id::MessageId;
pub use outcome::{Outcome, Receipt};
pub use placement::{Partitions, Placement};

use crate::wire::Span;

/// Header fields of single records: `Name: value\r\n` each.
#[derive(Debug, Clone, Copy)]
pub struct RecordHeaders<'a> {
    /// All of them.
    pub block: &'a [u8],
    /// Those of each record, in `block`, in the order of the records.
    pub spans: &'a [Span],
}

impl<'a> RecordHeaders<'a> {
    /// The fields of record `index`.
    #[must_use]
    pub fn of(&self, index: usize) -> &'a [u8] {
        self.spans.get(index).copied().unwrap_or_default().of(self.block)
    }
}
