//! Dead letters: read, replayed through validation again, purged.

use super::{
    Desk, DeskError,
    views::{DeadLetterSelection, DeadLetterView, Page, PageAsk, PurgeReport, ReplayReport},
};
use crate::reject::Reject;

impl Desk {
    /// Dead letters of a station, oldest first.
    pub async fn dead_letters(&self, station: &str, page: &PageAsk) -> Result<Page<DeadLetterView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// One dead letter.
    pub async fn dead_letter(&self, station: &str, id: u64) -> Result<DeadLetterView, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Stores dead letters in their station, if they are valid now; what was stored is a dead letter no longer.
    pub async fn replay_dead_letters(
        &self,
        station: &str,
        which: DeadLetterSelection,
    ) -> Result<ReplayReport, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Removes dead letters.
    pub async fn purge_dead_letters(
        &self,
        station: &str,
        which: DeadLetterSelection,
    ) -> Result<PurgeReport, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }
}
