//! Schemas: what a station's records must look like, compiled, and how a record is validated by it. Pure.
//!
//! A [`Schema`] is compiled by the control plane, once for each shard, so that what its engines keep for themselves is
//! touched by one core alone. Checking a record allocates nothing if the record is valid (JSON), is bounded in time
//! whatever the schema and the record are ([`crate::limits`]), and never reaches for a file or the network.

mod avro;
mod bounds;
mod graphql;
mod json;
mod protobuf;
mod violation;

pub use violation::{Fault, Violation, cut};

use crate::{byte_order_mark, limits::CHECKED_RECORD_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The four languages of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaType {
    /// JSON Schema.
    Json,
    /// Protocol Buffers, proto2 or proto3.
    Protobuf,
    /// Apache Avro.
    Avro,
    /// A GraphQL schema; records are executable documents.
    Graphql,
}

impl SchemaType {
    /// The word for it in the API, on the command line and in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
            Self::Avro => "avro",
            Self::Graphql => "graphql",
        }
    }
}

/// A schema as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaSource {
    /// Its language.
    pub kind: SchemaType,
    /// Its text.
    pub text: String,
    /// Protobuf: the message that records are; `None`: the first of the file.
    pub message: Option<String>,
    /// Protobuf: files that it imports, by the name that the import says.
    pub imports: BTreeMap<String, String>,
}

impl SchemaSource {
    /// Returns the source with texts that begin with what they say.
    fn without_marks(&self) -> Self {
        let plain = |text: &String| byte_order_mark::strip(text).to_owned();
        let imports = self.imports.iter().map(|(name, text)| (name.clone(), plain(text))).collect();
        Self { kind: self.kind, text: plain(&self.text), message: self.message.clone(), imports }
    }
}

/// Why a schema does not compile, in its compiler's words: one line or more, without a path of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError(pub String);

impl fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The media type of what JSON becomes on a Protobuf station.
pub const PROTOBUF_MEDIA_TYPE: &str = "application/x-protobuf";

/// Media types of the schema languages' own binary forms. None of Protobuf's and Avro's is registered: each of these is
/// in use.
const BINARY_MEDIA_TYPES: [&str; 11] = [
    PROTOBUF_MEDIA_TYPE,
    "application/octet-stream",
    "application/protobuf",
    "application/vnd.google.protobuf",
    "application/x-google-protobuf",
    "avro/bytes",
    "avro/binary",
    "application/avro",
    "application/avro+binary",
    "application/x-avro",
    "application/vnd.apache.avro+binary",
];

/// How a record is written, as far as the request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON: an element of a batch, or a body whose media type says JSON or text.
    Json,
    /// The schema language's own binary form: `application/x-protobuf`, `avro/bytes`, and what else they are called.
    Binary,
    /// No media type: whichever it is.
    Unsaid,
}

impl Encoding {
    /// What a media type says, lower-cased and without parameters.
    #[must_use]
    pub fn of_media_type(kind: Option<&str>) -> Self {
        match kind {
            None => Self::Unsaid,
            Some(kind) if BINARY_MEDIA_TYPES.contains(&kind) => Self::Binary,
            Some(_) => Self::Json,
        }
    }
}

/// What becomes of a valid record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It is stored as it came.
    AsIs,
    /// What is stored was appended to the output: JSON on a Protobuf station becomes wire format.
    Transcoded,
}

/// What a shard keeps from one check to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    json: json::Scratch,
}

/// A compiled schema.
#[derive(Debug)]
pub enum Schema {
    /// JSON Schema.
    Json(json::JsonSchema),
    /// Protocol Buffers.
    Protobuf(protobuf::ProtobufSchema),
    /// Apache Avro.
    Avro(avro::AvroSchema),
    /// GraphQL.
    Graphql(graphql::GraphqlSchema),
}

impl Schema {
    /// Compiles a schema. May take long: not for shards.
    pub fn compile(source: &SchemaSource) -> Result<Self, CompileError> {
        let source = &source.without_marks();
        Ok(match source.kind {
            SchemaType::Json => Self::Json(json::JsonSchema::compile(&source.text)?),
            SchemaType::Protobuf => Self::Protobuf(protobuf::ProtobufSchema::compile(source)?),
            SchemaType::Avro => Self::Avro(avro::AvroSchema::compile(&source.text)?),
            SchemaType::Graphql => Self::Graphql(graphql::GraphqlSchema::compile(&source.text)?),
        })
    }

    /// Its language.
    #[must_use]
    pub fn kind(&self) -> SchemaType {
        match self {
            Self::Json(_) => SchemaType::Json,
            Self::Protobuf(_) => SchemaType::Protobuf,
            Self::Avro(_) => SchemaType::Avro,
            Self::Graphql(_) => SchemaType::Graphql,
        }
    }

    /// Validates a record. What is to be stored in its place, if anything, is appended to `out`.
    pub fn check(
        &self,
        record: &[u8],
        encoding: Encoding,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Checked, Violation> {
        bounds::record_bytes(record, CHECKED_RECORD_BYTES_MAX)?;
        match self {
            Self::Json(schema) => schema.check(record, &mut scratch.json).map(|()| Checked::AsIs),
            Self::Protobuf(schema) => schema.check(record, encoding, &mut scratch.json, out),
            Self::Avro(schema) => schema.check(record, encoding).map(|()| Checked::AsIs),
            Self::Graphql(schema) => schema.check(record).map(|()| Checked::AsIs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Unicode Standard, section 23.8: at the beginning of a text the mark is none of its characters.
    #[test]
    fn r20_a_byte_order_mark_before_a_schema_is_passed_over() {
        for (kind, text) in [
            (SchemaType::Json, r#"{"type":"integer"}"#),
            (SchemaType::Protobuf, "syntax = \"proto3\"; import \"part.proto\"; message M { Part a = 1; }"),
            (SchemaType::Avro, r#""int""#),
            (SchemaType::Graphql, "type Query { a: Int }"),
        ] {
            let part = "\u{feff}syntax = \"proto3\"; message Part { int32 a = 1; }".to_owned();
            let imports = BTreeMap::from([("part.proto".to_owned(), part)]);
            let source = SchemaSource { kind, text: format!("\u{feff}{text}"), message: None, imports };
            assert_eq!(Schema::compile(&source).map(|schema| schema.kind()), Ok(kind));
            // Only the first; to GraphQL it is white space anywhere.
            let twice = SchemaSource { text: format!("\u{feff}{}", source.text), ..source };
            assert_eq!(Schema::compile(&twice).is_ok(), kind == SchemaType::Graphql, "{kind:?}");
        }
    }

    /// A dead letter that is replayed is validated by the control plane, past the limit that the shards have.
    #[test]
    fn no_language_validates_a_record_over_the_one_limit() {
        let proto = "syntax = \"proto3\"; message M { bytes a = 1; }";
        for (kind, text, encoding) in [
            (SchemaType::Json, "{}", Encoding::Json),
            (SchemaType::Protobuf, proto, Encoding::Binary),
            (SchemaType::Protobuf, proto, Encoding::Json),
            (SchemaType::Avro, r#""bytes""#, Encoding::Binary),
            (SchemaType::Avro, r#""string""#, Encoding::Json),
        ] {
            let source = SchemaSource { kind, text: text.to_owned(), message: None, imports: BTreeMap::new() };
            let schema = Schema::compile(&source).unwrap();
            let check = |record: &[u8]| schema.check(record, encoding, &mut Scratch::default(), &mut Vec::new());
            let record = " ".repeat(CHECKED_RECORD_BYTES_MAX + 1);
            let said = check(record.as_bytes()).unwrap_err().to_string();
            assert_eq!(said, "the record has 1048577 bytes; at most 1048576 can be validated", "{kind:?}");
        }
    }
}
