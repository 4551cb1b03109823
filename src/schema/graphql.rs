//! To be built.

use super::{CompileError, Violation};

/// A compiled schema.
#[derive(Debug)]
pub struct GraphqlSchema;

impl GraphqlSchema {
    /// Compiles.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        Err(CompileError("not built".into()))
    }

    /// Holds a record against it.
    pub fn check(&self, record: &[u8]) -> Result<(), Violation> {
        Err(Violation::one("", "not built"))
    }
}
