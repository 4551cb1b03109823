//! Schemas: all versions in one document, so that what is active can be changed in one step.

use super::{Document, FORMAT};
use crate::{
    limits::SCHEMA_VERSIONS_MAX,
    schema::{SchemaSource, SchemaType},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A schema, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct SchemaDocument {
    pub(in crate::control) format: u32,
    /// The language of all versions.
    #[serde(rename = "type")]
    pub(in crate::control) kind: SchemaType,
    /// The active version; there is such a version.
    pub(in crate::control) active: u32,
    /// At least one, oldest first, numbered upwards.
    pub(in crate::control) versions: Vec<SchemaVersion>,
}

/// One version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct SchemaVersion {
    /// Its number, from 1.
    pub(in crate::control) version: u32,
    pub(in crate::control) text: String,
    /// Protobuf: the message that records are.
    pub(in crate::control) message: Option<String>,
    /// Protobuf: files that it imports.
    pub(in crate::control) imports: BTreeMap<String, String>,
    /// Who added it.
    pub(in crate::control) created_by: String,
    /// When it was added, ms since 1970.
    pub(in crate::control) created_ms: u64,
}

impl SchemaVersion {
    /// Returns whether both have the same content, whoever added them.
    pub(in crate::control) fn says_the_same(&self, other: &Self) -> bool {
        (&self.text, &self.message, &self.imports) == (&other.text, &other.message, &other.imports)
    }
}

impl SchemaDocument {
    /// A schema with its first version, which is active.
    pub(in crate::control) fn new(kind: SchemaType, first: SchemaVersion) -> Self {
        Self { format: FORMAT, kind, active: first.version, versions: vec![first] }
    }

    pub(in crate::control) fn version(&self, number: u32) -> Option<&SchemaVersion> {
        self.versions.iter().find(|version| version.version == number)
    }

    /// Returns the version that was added last.
    pub(in crate::control) fn newest(&self) -> Option<&SchemaVersion> {
        self.versions.last()
    }

    /// Returns the source that a version is compiled from.
    pub(in crate::control) fn source(&self, number: u32) -> Option<SchemaSource> {
        let version = self.version(number)?;
        Some(SchemaSource {
            kind: self.kind,
            text: version.text.clone(),
            message: version.message.clone(),
            imports: version.imports.clone(),
        })
    }
}

impl Document for SchemaDocument {
    const PREFIX: &'static str = "schemas.";
    const WHAT: &'static str = "Schema";

    fn check(&self) -> Result<(), String> {
        if self.versions.len() > SCHEMA_VERSIONS_MAX {
            return Err(format!("at most {SCHEMA_VERSIONS_MAX} versions"));
        }
        let numbers = || self.versions.iter().map(|version| version.version);
        if numbers().next() == Some(0) || !numbers().zip(numbers().skip(1)).all(|(one, next)| one < next) {
            return Err("the versions are not numbered upwards from 1".to_owned());
        }
        match self.version(self.active) {
            Some(_) => Ok(()),
            None => Err(format!("the active version {} is not there", self.active)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REGISTRY_DOCUMENT_BYTES_MAX;

    fn version(version: u32, text: &str) -> SchemaVersion {
        SchemaVersion {
            version,
            text: text.to_owned(),
            message: None,
            imports: BTreeMap::new(),
            created_by: "root".to_owned(),
            created_ms: 1,
        }
    }

    #[test]
    fn only_documents_that_are_whole_load() {
        let mut document = SchemaDocument::new(SchemaType::Avro, version(1, "\"int\""));
        document.versions.push(version(2, "\"long\""));
        let text = String::from_utf8(document.store().expect("stored")).expect("text");
        assert_eq!(SchemaDocument::load(text.as_bytes()), Ok(document));
        for (from, to, expect) in [
            ("\"format\":1", "\"format\":9", "format 9"),
            ("\"active\":1", "\"active\":3", "version 3 is not there"),
            ("\"version\":2", "\"version\":1", "upwards"),
            ("\"version\":1", "\"version\":0", "upwards"),
            ("\"avro\"", "\"thrift\"", "wrong type"),
            ("\"created_by\"", "\"created_for\"", "unknown"),
        ] {
            let reason = SchemaDocument::load(text.replace(from, to).as_bytes()).expect_err("a fault");
            assert!(reason.contains(expect), "{to}: {reason}");
        }
        let none = br#"{"format":1,"type":"json","active":1,"versions":[]}"#;
        assert!(SchemaDocument::load(none).is_err_and(|reason| reason.contains("not there")));
    }

    #[test]
    fn a_document_that_no_broker_would_take_is_not_stored() {
        let document = SchemaDocument::new(SchemaType::Json, version(1, &"x".repeat(REGISTRY_DOCUMENT_BYTES_MAX)));
        assert!(document.store().is_err_and(|reason| reason.contains(&REGISTRY_DOCUMENT_BYTES_MAX.to_string())));
    }
}
