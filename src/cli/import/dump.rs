//! The dump of a Memphis broker, and the schemas and stations that are made of it.
//!
//! Field names are those of the original's API and tables. Values that the original would have rounded are rounded in
//! the same way. Whatever is not imported as it stands is noted.

use crate::{
    api::{
        dead_letters::DeadLetterSettings,
        schemas::SchemaKind,
        stations::{NewStation, StorageKind},
    },
    byte_order_mark,
    limits::{DEAD_LETTERS_AGE, PARTITIONS_MAX},
    station::Name,
};
use serde::Deserialize;

/// The format that this program reads.
const FORMAT: u64 = 1;
/// The original's defaults and bounds.
const RETENTION_AGE_S: u64 = 3_600;
const WINDOW_MS: u64 = 120_000;
const WINDOW_MS_MIN: u64 = 100;
const WINDOW_MS_MAX: u64 = 86_400_000;
const REPLICAS_MAX: u8 = 5;
/// How often the original delivered a message before it called it poison.
pub(super) const DELIVERIES_MAX: u32 = 10;

/// A dump.
#[derive(Debug, Deserialize)]
pub(super) struct Dump {
    format: Option<u64>,
    schemas: Option<Vec<DumpedSchema>>,
    stations: Option<Vec<DumpedStation>>,
}

/// A row of `schemas` with its rows of `schema_versions`.
#[derive(Debug, Deserialize)]
pub(super) struct DumpedSchema {
    pub(super) name: String,
    #[serde(rename = "type")]
    kind: SchemaKind,
    versions: Option<Vec<DumpedVersion>>,
}

#[derive(Debug, Deserialize)]
struct DumpedVersion {
    version_number: u32,
    #[serde(default)]
    active: bool,
    schema_content: String,
    #[serde(alias = "msg_struct_name")]
    message_struct_name: Option<String>,
}

/// A row of `stations`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DumpedStation {
    pub(super) name: String,
    retention_type: Option<String>,
    retention_value: Option<i64>,
    storage_type: Option<String>,
    replicas: Option<i64>,
    #[serde(alias = "idempotency_window_ms")]
    idempotency_window_in_ms: Option<i64>,
    partitions_number: Option<i64>,
    dls_configuration: Option<DeadLetterFlags>,
    schema_name: Option<String>,
    tiered_storage_enabled: Option<bool>,
    dls_station: Option<String>,
    functions: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct DeadLetterFlags {
    poison: Option<bool>,
    schemaverse: Option<bool>,
}

/// A schema that is to be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SchemaPlan {
    pub(super) name: Name,
    pub(super) kind: SchemaKind,
    /// The versions in the order of their numbers; not empty.
    pub(super) versions: Vec<VersionPlan>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct VersionPlan {
    /// Number of the version in the original.
    pub(super) number: u32,
    pub(super) active: bool,
    pub(super) text: String,
    pub(super) message: Option<String>,
}

/// A station that is to be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StationPlan {
    pub(super) name: Name,
    /// It names every attribute, so that no default of the gateway's configuration is mixed in.
    pub(super) new: NewStation,
    /// What differs from the dump.
    pub(super) notes: Vec<String>,
}

impl Dump {
    /// Reads a dump. The error says what is wrong, and where.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let dump: Self = serde_json::from_slice(byte_order_mark::strip_bytes(text))
            .map_err(|fault| format!("this is not a dump: {fault}"))?;
        match dump.format {
            None | Some(FORMAT) => Ok(dump),
            Some(other) => Err(format!("the dump says format {other}; this program reads format {FORMAT}")),
        }
    }

    pub(super) fn schemas(&self) -> &[DumpedSchema] {
        self.schemas.as_deref().unwrap_or_default()
    }

    pub(super) fn stations(&self) -> &[DumpedStation] {
        self.stations.as_deref().unwrap_or_default()
    }
}

impl DumpedSchema {
    /// Returns the schema as it is to be imported. The error says why it cannot be.
    pub(super) fn plan(&self) -> Result<SchemaPlan, String> {
        let name = Name::parse(&self.name).map_err(|fault| fault.text("Schema"))?;
        let mut versions: Vec<VersionPlan> = self.versions.iter().flatten().map(DumpedVersion::plan).collect();
        versions.sort_by_key(|version| version.number);
        if versions.is_empty() {
            return Err("it has no versions in the dump".to_owned());
        }
        if versions.windows(2).any(|pair| matches!(pair, [first, second] if first.number == second.number)) {
            return Err("two of its versions have the same number in the dump".to_owned());
        }
        if versions.iter().filter(|version| version.active).count() > 1 {
            return Err("more than one of its versions is active in the dump".to_owned());
        }
        Ok(SchemaPlan { name, kind: self.kind, versions })
    }
}

impl DumpedVersion {
    fn plan(&self) -> VersionPlan {
        let message = self.message_struct_name.clone().filter(|name| !name.is_empty());
        VersionPlan { number: self.version_number, active: self.active, text: self.schema_content.clone(), message }
    }
}

impl DumpedStation {
    /// Returns the station as it is to be imported. The error says why it cannot be.
    pub(super) fn plan(&self) -> Result<StationPlan, String> {
        let name = Name::parse(&self.name).map_err(|fault| fault.text("Station"))?;
        let mut notes = Vec::new();
        let mut new = NewStation {
            name: name.as_str().to_owned(),
            partitions: Some(self.partitions()?),
            storage: Some(self.storage()?),
            replicas: Some(self.copies(&mut notes)),
            dead_letters: Some(self.dead_letters()),
            schema: self.schema()?,
            retention_age_s: Some(0),
            retention_records: Some(0),
            retention_bytes: Some(0),
            retention_acknowledged: Some(false),
            ..NewStation::default()
        };
        self.retention(&mut new, &mut notes)?;
        new.idempotency_window_ms = Some(self.window(new.retention_age_s.unwrap_or(0), &mut notes));
        self.left_behind(&mut notes);
        Ok(StationPlan { name, new, notes })
    }

    /// Sets the one kind of retention that the original has, of age, records, bytes and acknowledgement. The others
    /// have no limit.
    fn retention(&self, new: &mut NewStation, notes: &mut Vec<String>) -> Result<(), String> {
        let value = self.retention_value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
        let kind = self.retention_type.as_deref().unwrap_or("message_age_sec");
        match (kind, value) {
            ("ack_based", _) => new.retention_acknowledged = Some(true),
            ("message_age_sec", Some(seconds)) => new.retention_age_s = Some(seconds),
            ("messages", Some(records)) => new.retention_records = Some(records),
            ("bytes", Some(bytes)) => new.retention_bytes = Some(bytes),
            ("message_age_sec" | "messages" | "bytes", None) => {
                new.retention_age_s = Some(RETENTION_AGE_S);
                if let Some(said) = self.retention_value {
                    notes.push(format!("retention {kind} {said} is an age of {RETENTION_AGE_S} s, as in the original"));
                }
            }
            _ => return Err(format!("retention_type {kind:?} is none of message_age_sec, messages, bytes, ack_based")),
        }
        Ok(())
    }

    fn storage(&self) -> Result<StorageKind, String> {
        match self.storage_type.as_deref().unwrap_or("file") {
            "file" | "disk" => Ok(StorageKind::File),
            "memory" => Ok(StorageKind::Memory),
            other => Err(format!("storage_type {other:?} is neither file nor memory")),
        }
    }

    fn copies(&self, notes: &mut Vec<String>) -> u8 {
        let copies = match self.replicas.unwrap_or(1) {
            ..=1 => 1,
            2..=4 => 3,
            5.. => REPLICAS_MAX,
        };
        if let Some(said) = self.replicas.filter(|said| *said != i64::from(copies)) {
            notes.push(format!("replicas {said} are {copies}, as in the original"));
        }
        copies
    }

    /// Returns the duplicate window: within the bounds of the original, and not longer than records are kept.
    fn window(&self, age_s: u64, notes: &mut Vec<String>) -> u64 {
        let said = self.idempotency_window_in_ms;
        let asked =
            said.and_then(|window| u64::try_from(window).ok()).filter(|window| *window > 0).unwrap_or(WINDOW_MS);
        let age_ms = if age_s == 0 { WINDOW_MS_MAX } else { age_s.saturating_mul(1_000) };
        let window = asked.clamp(WINDOW_MS_MIN, WINDOW_MS_MAX).min(age_ms);
        if let Some(said) = said.filter(|said| u64::try_from(*said) != Ok(window)) {
            notes.push(format!("idempotency_window_in_ms {said} is {window}, as in the original"));
        }
        window
    }

    fn partitions(&self) -> Result<u16, String> {
        let said = self.partitions_number.unwrap_or(1).max(1);
        let partitions = u16::try_from(said).ok().filter(|partitions| *partitions <= PARTITIONS_MAX);
        partitions.ok_or_else(|| format!("partitions_number {said} is more than {PARTITIONS_MAX}"))
    }

    fn dead_letters(&self) -> DeadLetterSettings {
        let flags = self.dls_configuration.as_ref();
        let poison = flags.and_then(|flags| flags.poison).unwrap_or(true);
        DeadLetterSettings {
            invalid: flags.and_then(|flags| flags.schemaverse).unwrap_or(true),
            deliveries_max: if poison { DELIVERIES_MAX } else { 0 },
            retention_age_s: DEAD_LETTERS_AGE.as_secs(),
        }
    }

    fn schema(&self) -> Result<Option<String>, String> {
        let name = self.schema_name.as_deref().filter(|name| !name.is_empty());
        let parsed = name.map(|name| Name::parse(name).map_err(|fault| fault.text("Schema"))).transpose()?;
        Ok(parsed.map(|name| name.as_str().to_owned()))
    }

    /// Notes what the gateway has no counterpart of.
    fn left_behind(&self, notes: &mut Vec<String>) {
        if self.tiered_storage_enabled == Some(true) {
            notes.push(
                "not taken over: tiered_storage_enabled (records that age out are not kept elsewhere)".to_owned(),
            );
        }
        if let Some(station) = self.dls_station.as_deref().filter(|station| !station.is_empty()) {
            notes.push(format!(
                "not taken over: dls_station {station:?} (the dead letters of a station are kept in {}$dls)",
                self.name
            ));
        }
        if let Some(functions) = self.functions.as_ref().filter(|functions| !functions.is_empty()) {
            notes.push(format!("not taken over: {} function(s)", functions.len()));
        }
    }
}
