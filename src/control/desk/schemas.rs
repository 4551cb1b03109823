//! Schemas and their versions.

use super::{
    Desk, DeskError,
    views::{NewSchema, Page, PageAsk, SchemaView, Tagged},
};
use crate::reject::Reject;

impl Desk {
    /// Schemas, by name.
    pub async fn schemas(&self, page: &PageAsk) -> Result<Page<SchemaView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// One schema with all versions.
    pub async fn schema(&self, name: &str) -> Result<Tagged<SchemaView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Compiles and adds a schema, or the next version of the one of this name. The first version is active, others are not yet.
    /// Returns it and the version that was added.
    pub async fn add_schema(&self, new: NewSchema, created_by: &str) -> Result<(Tagged<SchemaView>, u32), DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Puts a version in force, everywhere: also an older one (the original's "roll back").
    pub async fn activate_schema(
        &self,
        name: &str,
        version: u32,
        expected: Option<&str>,
    ) -> Result<Tagged<SchemaView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Removes a schema that no station is attached to.
    pub async fn remove_schema(&self, name: &str, expected: Option<&str>) -> Result<(), DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }
}
