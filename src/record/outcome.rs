//! What became of a record. Pure.

use crate::reject::Reject;

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged by the backend.
    Stored(Receipt),
    /// Not stored, or not known to be ([`Reject::OutcomeUnknown`]).
    Failed(Reject),
}

/// Where a record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Index of the partition.
    pub partition: u16,
    /// Its place in the partition's stream.
    pub sequence: u64,
    /// Whether the message id was known: then this is the place of the record that was stored before.
    pub duplicate: bool,
}

impl Outcome {
    /// Whether the backend has acknowledged the record.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    /// Whether the record may be stored or not.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::Failed(Reject::OutcomeUnknown)
    }

    /// Takes in what became of the record when it was published again. Once it may be stored, only an acknowledgement
    /// settles it: a later failure says nothing of the first attempt.
    pub fn take(&mut self, news: Self) {
        if news.is_stored() || !self.is_unknown() {
            *self = news;
        }
    }
}
