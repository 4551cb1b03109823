//! Schemas and their versions: how they are added, activated and shown.

use super::{texts::NameText, typed};
use crate::schema::SchemaType;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, num::NonZeroU32};
use utoipa::ToSchema;

/// A new schema, or the next version of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchema {
    /// Name of the schema.
    #[schema(value_type = NameText)]
    pub name: String,
    /// Language of the schema.
    #[serde(rename = "type", deserialize_with = "typed::word")]
    pub kind: SchemaKind,
    /// Text of the schema.
    pub schema: String,
    /// Protobuf: the message type of the records. By default the first of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Protobuf: the imported files, by the names in the import statements.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, String>,
}

/// A schema, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaView {
    /// Name of the schema.
    pub name: String,
    /// Language of the schema.
    #[serde(rename = "type")]
    pub kind: SchemaKind,
    /// The active version.
    pub active_version: u32,
    /// All versions, oldest first.
    pub versions: Vec<SchemaVersionView>,
    /// Stations that the schema is attached to.
    pub stations: Vec<String>,
}

/// A version of a schema, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaVersionView {
    /// Number of the version, from 1.
    pub version: u32,
    /// Text of the schema.
    pub schema: String,
    /// Protobuf: the message type of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Protobuf: the imported files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, String>,
    /// User or API key that added the version.
    pub created_by: String,
    /// When the version was added, in ms since 1970.
    pub created_ms: u64,
}

/// A schema with the version that was just added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedSchema {
    /// The version that was added.
    pub version: u32,
    /// The schema with all versions.
    #[serde(flatten)]
    pub schema: SchemaView,
}

/// The version that is to be activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateSchema {
    /// Number of the version. An older one may be activated again.
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u64)]
    pub version: NonZeroU32,
}

/// The four languages of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SchemaType)]
pub enum SchemaKind {
    /// JSON Schema.
    Json,
    /// Protocol Buffers, proto2 or proto3.
    Protobuf,
    /// Apache Avro.
    Avro,
    /// A GraphQL schema; records are executable documents.
    Graphql,
}

impl SchemaKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Protobuf, Self::Avro, Self::Graphql];

    /// Returns its name in JSON and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        SchemaType::from(self).word()
    }
}

impl From<SchemaType> for SchemaKind {
    fn from(kind: SchemaType) -> Self {
        match kind {
            SchemaType::Json => Self::Json,
            SchemaType::Protobuf => Self::Protobuf,
            SchemaType::Avro => Self::Avro,
            SchemaType::Graphql => Self::Graphql,
        }
    }
}

impl From<SchemaKind> for SchemaType {
    fn from(kind: SchemaKind) -> Self {
        match kind {
            SchemaKind::Json => Self::Json,
            SchemaKind::Protobuf => Self::Protobuf,
            SchemaKind::Avro => Self::Avro,
            SchemaKind::Graphql => Self::Graphql,
        }
    }
}
