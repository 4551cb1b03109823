//! Apache Avro: JSON records and the single-object encoding, checked as they stand.
//!
//! A schema is parsed by apache-avro and then laid out flat ([`types`]). Logical types are their base types: a
//! `timestamp-millis` is a long, a `decimal` bytes, a `uuid` what it annotates.
//!
//! **JSON.** Users post plain JSON, Avro's own tools its JSON encoding; both are valid. They differ in unions alone:
//! see [`json`]. What comes is what is stored.
//!
//! **Binary.** The single-object encoding and nothing else: two bytes of magic, the fingerprint of this schema, one
//! datum. A bare datum could be anything, and Confluent's framing names a registry that is not ours.

mod binary;
mod canonical;
mod json;
#[cfg(test)]
mod tests;
mod types;

use super::{CompileError, Encoding, Violation, bounds};
use types::Types;

/// What the original said of a record that is not Avro.
const NOT_AVRO: &str = "Bad Avro format - ";
/// The first bytes of the single-object encoding.
const MAGIC: [u8; 2] = [0xc3, 0x01];

/// A compiled schema.
#[derive(Debug)]
pub struct AvroSchema {
    types: Types,
    fingerprint: [u8; 8],
}

impl AvroSchema {
    /// Compiles a schema, written in JSON.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        bounds::schema_text(text.len(), text)?;
        let schema = apache_avro::Schema::parse_str(text).map_err(|error| bounds::compiler_says(error.to_string()))?;
        let types = Types::of(&schema).map_err(bounds::compiler_says)?;
        let fingerprint = canonical::fingerprint(&canonical::form(&types));
        Ok(Self { types, fingerprint })
    }

    /// Holds a record against the schema.
    pub fn check(&self, record: &[u8], encoding: Encoding) -> Result<(), Violation> {
        match encoding {
            Encoding::Json => json::check(&self.types, record),
            Encoding::Unsaid if !record.starts_with(&MAGIC) => json::check(&self.types, record),
            Encoding::Binary | Encoding::Unsaid => self.single_object(record),
        }
    }

    fn single_object(&self, record: &[u8]) -> Result<(), Violation> {
        let Some((fingerprint, _)) = record.strip_prefix(&MAGIC).and_then(<[u8]>::split_first_chunk::<8>) else {
            let begin = hex(&record[..record.len().min(MAGIC.len())]);
            let begin = if begin.is_empty() { "is empty".to_owned() } else { format!("begins with {begin}") };
            let text = format!(
                "{NOT_AVRO}expecting the single-object encoding: c301, the schema's fingerprint {}, the datum; the record {begin}",
                hex(&self.fingerprint)
            );
            return Err(Violation::one("", text));
        };
        if *fingerprint != self.fingerprint {
            let text = format!(
                "{NOT_AVRO}written with another schema: its fingerprint is {}, that of this one {}",
                hex(fingerprint),
                hex(&self.fingerprint)
            );
            return Err(Violation::one("", text));
        }
        binary::check(&self.types, record, MAGIC.len() + self.fingerprint.len())
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
