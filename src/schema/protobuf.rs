//! To be built.

use super::{Checked, CompileError, Encoding, SchemaSource, Violation};

/// A compiled schema.
#[derive(Debug)]
pub struct ProtobufSchema;

impl ProtobufSchema {
    /// Compiles.
    pub fn compile(source: &SchemaSource) -> Result<Self, CompileError> {
        Err(CompileError("not built".into()))
    }

    /// Holds a record against it.
    pub fn check(&self, record: &[u8], encoding: Encoding, out: &mut Vec<u8>) -> Result<Checked, Violation> {
        Err(Violation::one("", "not built"))
    }
}
