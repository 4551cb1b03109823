//! The documents of the registry: what each kind holds, and what of it loads.
//!
//! A document is JSON with a format version, so that a later gateway can change it and an earlier one refuses what it
//! does not understand instead of guessing. An error about a document never shows its content, which may hold a hash.
//!
//! A kind is a prefix of keys and a type. The snapshot ([`super::snapshot`]) keeps the documents, by revision.

mod keys;
mod schemas;
mod stations;
mod users;

pub(in crate::control) use keys::KeyDocument;
pub(in crate::control) use schemas::{SchemaDocument, SchemaVersion};
pub(in crate::control) use stations::{DeadLetters, StationDocument};
pub(in crate::control) use users::{PasswordHash, UserDocument};

use crate::{
    auth::ACCOUNT_DEFAULT,
    limits::{PATTERNS_MAX, REGISTRY_DOCUMENT_BYTES_MAX},
    station::{Name, Pattern},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The only account without further configuration.
pub(in crate::control) const ACCOUNT: u32 = ACCOUNT_DEFAULT;
/// Version of the form that documents have now, all kinds alike.
const FORMAT: u32 = 1;

/// A kind of documents.
pub(in crate::control) trait Document:
    Serialize + DeserializeOwned + PartialEq + Send + Sync + 'static
{
    /// The prefix of its keys.
    const PREFIX: &'static str;
    /// The subject of its errors, with which they begin.
    const WHAT: &'static str;

    /// Checks what serde does not see: everything that a document written by hand may have wrong.
    fn check(&self) -> Result<(), String>;

    /// Returns its key.
    fn key(name: &Name) -> String {
        format!("{}{name}", Self::PREFIX)
    }

    /// Returns the name that follows the prefix of a key. A key that is not in lower case has no name.
    fn name(text: &str) -> Result<Name, String> {
        match Name::parse(text) {
            Ok(name) if name.as_str() == text => Ok(name),
            Ok(_) => Err("the name is not in lower case".to_owned()),
            Err(fault) => Err(fault.text(Self::WHAT)),
        }
    }

    /// Reads a document. The error says what is wrong and shows nothing of the content.
    fn load(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|error| place(&error))?;
        if head.format != FORMAT {
            return Err(format!("format {} is not known here (this is format {FORMAT})", head.format));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|error| place(&error))?;
        document.check()?;
        Ok(document)
    }

    /// Returns its bytes. The error says why it cannot be stored.
    fn store(&self) -> Result<Vec<u8>, String> {
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        if bytes.len() > REGISTRY_DOCUMENT_BYTES_MAX {
            let length = bytes.len();
            return Err(format!(
                "{} would take {length} bytes of the registry, and one document may have {REGISTRY_DOCUMENT_BYTES_MAX}",
                Self::WHAT
            ));
        }
        Ok(bytes)
    }
}

/// Returns where the fault is and of what kind; never the text itself, which may hold a hash.
fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a field is missing, unknown or of the wrong type",
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Io => "cannot be read",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

/// Checks that an allow-list is short enough.
pub(in crate::control) fn check_patterns(what: &str, patterns: &[Pattern]) -> Result<(), String> {
    if patterns.len() > PATTERNS_MAX {
        return Err(format!("{what}: at most {PATTERNS_MAX} patterns"));
    }
    Ok(())
}

/// Checks the lists of a document that somebody may have written by hand: `Pattern` is read as it stands, and may be
/// one that the rules refuse.
fn check_written(lists: [(&str, &[Pattern]); 2]) -> Result<(), String> {
    for (what, patterns) in lists {
        check_patterns(what, patterns)?;
        for pattern in patterns {
            if Pattern::parse(pattern.as_str())? != *pattern {
                return Err(format!("station pattern {:?} is not in lower case", pattern.as_str()));
            }
        }
    }
    Ok(())
}
