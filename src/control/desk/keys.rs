//! API keys.

use super::{
    Desk, DeskError,
    views::{CreatedKey, KeyView, NewKey, Page, PageAsk, Tagged},
};
use crate::reject::Reject;

impl Desk {
    /// Keys, by id.
    pub async fn keys(&self, page: &PageAsk) -> Result<Page<KeyView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// One key.
    pub async fn key(&self, id: &str) -> Result<Tagged<KeyView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Makes a key.
    pub async fn create_key(&self, new: NewKey) -> Result<CreatedKey, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Ends a key, everywhere.
    pub async fn revoke_key(&self, id: &str, expected: Option<&str>) -> Result<(), DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// The id of the key that this is, if it is one that may use the admin API now.
    #[must_use]
    pub fn admin_key(&self, _key: &str) -> Option<String> {
        None
    }

    /// Whether this is a key that is good now, whatever it may do.
    #[must_use]
    pub fn is_key(&self, _key: &str) -> bool {
        false
    }
}
