//! What the admin API takes and gives: plain data with the names of its JSON.
//!
//! Durations are whole seconds or milliseconds, as their names say. `Option` in a request means "as it is" or "by default".

use super::{
    texts::{NameText, PatternText, StreamText, SubjectText},
    typed,
};
use crate::schema::SchemaType;
use crate::station::Storage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A value and the tag of what it was when it was read: any change changes the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// Opaque: letters, digits and hyphens.
    pub tag: String,
    /// The value.
    pub value: T,
}

/// Which part of a list, in the order of names (or numbers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsk {
    /// Begins behind this one.
    pub after: Option<String>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// These.
    pub items: Vec<T>,
    /// `after` of the next part; absent if this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The attributes of a station that is to be made: what is absent is as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewStation {
    /// Its name.
    #[schema(value_type = NameText, required = true)]
    pub name: String,
    /// 1 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub partitions: Option<u16>,
    /// Seconds; 0 keeps records whatever their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: Option<u64>,
    /// Records of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_records: Option<u64>,
    /// Bytes of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_bytes: Option<u64>,
    /// Records go when every consumer group has acknowledged them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_acknowledged: Option<bool>,
    /// Where records are kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::word_or_null")]
    pub storage: Option<Storage>,
    /// Copies, 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5)]
    pub replicas: Option<u8>,
    /// Milliseconds, 100 to 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub idempotency_window_ms: Option<u64>,
    /// What becomes of records that fail.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::object")]
    pub dead_letters: Option<DeadLetterSettings>,
    /// A schema to attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub schema: Option<String>,
}

/// What is to become of a station; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeStation {
    /// Seconds; 0 keeps records whatever their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: Option<u64>,
    /// Records of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_records: Option<u64>,
    /// Bytes of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_bytes: Option<u64>,
    /// Copies, 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5)]
    pub replicas: Option<u8>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub idempotency_window_ms: Option<u64>,
    /// What becomes of records that fail.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::object")]
    pub dead_letters: Option<DeadLetterSettings>,
    /// Fixed when the station is made: naming another number is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub partitions: Option<u16>,
    /// Fixed when the station is made: naming another is an error.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::word_or_null")]
    pub storage: Option<Storage>,
}

/// What becomes of a station's records that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSettings {
    /// Records that fail validation are kept.
    pub invalid: bool,
    /// Records that were handed out this often without an acknowledgement are kept and no longer handed out; 0: never.
    #[schema(maximum = 4_294_967_295_u64)]
    pub deliveries_max: u32,
    /// Seconds that dead letters are kept; 0 for ever.
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: u64,
}

/// An existing stream that becomes a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptStation {
    /// The stream.
    #[schema(value_type = StreamText)]
    pub stream: String,
    /// A subject without wildcards that it listens on.
    #[schema(value_type = SubjectText)]
    pub subject: String,
}

/// A station, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StationView {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Seconds; 0: for ever.
    pub retention_age_s: u64,
    /// Records of a partition; 0: no limit.
    pub retention_records: u64,
    /// Bytes of a partition; 0: no limit.
    pub retention_bytes: u64,
    /// Records go when every consumer group has acknowledged them.
    pub retention_acknowledged: bool,
    /// Where records are kept.
    pub storage: Storage,
    /// Copies.
    pub replicas: u8,
    /// Milliseconds that a message id is remembered.
    pub idempotency_window_ms: u64,
    /// What becomes of records that fail.
    pub dead_letters: DeadLetterSettings,
    /// The schema that is attached.
    pub schema: Option<String>,
    /// The stream and subject that it was adopted with.
    pub adopted: Option<AdoptStation>,
    /// Records that are there.
    pub records: u64,
    /// Bytes that are there.
    pub bytes: u64,
}

/// A schema, or its next version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchema {
    /// Its name.
    #[schema(value_type = NameText)]
    pub name: String,
    /// Its language.
    #[serde(rename = "type", deserialize_with = "typed::word")]
    pub kind: SchemaType,
    /// Its text.
    pub schema: String,
    /// Protobuf: the message that records are; the first of the file unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Protobuf: files that it imports, by the name that the import says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, String>,
}

/// A schema, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaView {
    /// Its name.
    pub name: String,
    /// Its language.
    #[serde(rename = "type")]
    pub kind: SchemaType,
    /// The active version.
    pub active_version: u32,
    /// All versions, oldest first.
    pub versions: Vec<SchemaVersionView>,
    /// Stations it is attached to.
    pub stations: Vec<String>,
}

/// A version of a schema, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaVersionView {
    /// From 1.
    pub version: u32,
    /// Its text.
    pub schema: String,
    /// Protobuf: the message that records are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Protobuf: files that it imports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, String>,
    /// Who added it.
    pub created_by: String,
    /// When, ms since 1970.
    pub created_ms: u64,
}

/// A key that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    /// What it is for, in the owner's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub description: Option<String>,
    /// Patterns of stations it may produce to; absent together with `consume`: none of either.
    #[schema(value_type = Vec<PatternText>, max_items = 256)]
    pub produce: Vec<String>,
    /// Patterns of stations it may consume from.
    #[schema(value_type = Vec<PatternText>, max_items = 256)]
    pub consume: Vec<String>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// Seconds until it is no longer good; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    pub expires_in_s: Option<u64>,
}

/// A key that was just made: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key itself.
    pub key: String,
    /// What is shown of it from now on.
    #[serde(flatten)]
    pub view: KeyView,
}

/// A key, as shown: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// What it is called; the beginning of the key says it too.
    pub id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Patterns of stations it may produce to.
    pub produce: Vec<String>,
    /// Patterns of stations it may consume from.
    pub consume: Vec<String>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
    /// When it is no longer good, ms since 1970; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Requests that this gateway has served with it since it started.
    pub requests: u64,
    /// The same within the last minute that is over.
    pub requests_last_minute: u64,
}

/// Which rights a user is to have; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeUser {
    /// Patterns of stations that the user may produce to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<PatternText>>, max_items = 256)]
    pub produce: Option<Vec<String>>,
    /// Patterns of stations that the user may consume from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<PatternText>>, max_items = 256)]
    pub consume: Option<Vec<String>>,
}

/// Why a record is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetterKind {
    /// It failed validation.
    Schema,
    /// It was handed out too often without an acknowledgement.
    Deliveries,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Its number in the station's dead letters.
    pub id: u64,
    /// Why it is one.
    pub kind: DeadLetterKind,
    /// What was wrong with it.
    pub error: String,
    /// Schema that it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// And its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// Consumer group that did not acknowledge it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who posted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When it became one, ms since 1970.
    pub time_ms: u64,
    /// The record's bytes, if they are UTF-8;
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// else as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_base64: Option<String>,
    /// Header fields that were, or would have been, stored with it.
    pub headers: BTreeMap<String, String>,
}

/// Which dead letters: these, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterSelection {
    /// Their numbers; absent: all that are there now.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(nullable = false, max_items = 10_000)]
    pub ids: Option<Vec<u64>>,
}

/// What became of dead letters that were replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayReport {
    /// Stored in the station, and no longer dead letters.
    pub replayed: u64,
    /// Not valid now either, or not stored: they stay where they are.
    pub failed: Vec<ReplayFailure>,
}

/// A dead letter that stays one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayFailure {
    /// Its number.
    pub id: u64,
    /// Why.
    pub error: String,
}

/// A consumer group of a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsumerGroupView {
    /// Its name.
    pub name: String,
    /// When it was made, ms since 1970; absent if an older version made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// When it was last used, ms since 1970: to the hour in the embedded store, as JetStream knows it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_ms: Option<u64>,
    /// Who made it: a user's name, or `key:` and the key's id; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// How many dead letters were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeReport {
    /// So many.
    pub purged: u64,
}
