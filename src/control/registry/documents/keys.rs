//! API keys: the registry keeps the hash of a key, which has 256 random bits.

use super::{Document, FORMAT, check_written};
use crate::{
    auth::keys::{KeyRecord, KeyUses},
    control::hex::hex,
    limits::KEY_DESCRIPTION_BYTES_MAX,
    station::{Name, Pattern},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One key, as stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct KeyDocument {
    pub(in crate::control) format: u32,
    /// SHA-256 of the whole key, as 64 hexadecimal digits.
    pub(in crate::control) hash: String,
    /// What it is for.
    pub(in crate::control) description: Option<String>,
    /// Stations that it may produce to.
    pub(in crate::control) produce: Vec<Pattern>,
    /// Stations that it may consume from.
    pub(in crate::control) consume: Vec<Pattern>,
    /// Whether it may use the admin API.
    pub(in crate::control) admin: bool,
    /// When it was made, ms since 1970.
    pub(in crate::control) created_ms: u64,
    /// When it is no longer good, ms since 1970.
    pub(in crate::control) expires_ms: Option<u64>,
}

impl std::fmt::Debug for KeyDocument {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyDocument").field("description", &self.description).finish_non_exhaustive()
    }
}

impl KeyDocument {
    /// A key of this hash without any right.
    pub(in crate::control) fn new(hash: [u8; 32], created_ms: u64) -> Self {
        Self {
            format: FORMAT,
            hash: hex(&hash),
            description: None,
            produce: Vec::new(),
            consume: Vec::new(),
            admin: false,
            created_ms,
            expires_ms: None,
        }
    }

    /// Returns the SHA-256 of the key. (A document that has loaded has one.)
    pub(in crate::control) fn hash(&self) -> Option<[u8; 32]> {
        let digits = self.hash.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(hash)
    }

    /// Returns the key as the shards get it.
    pub(in crate::control) fn record(&self, id: &Name, uses: Arc<KeyUses>) -> Option<KeyRecord> {
        Some(KeyRecord {
            id: id.as_str().into(),
            hash: self.hash()?,
            produce: self.produce.clone(),
            consume: self.consume.clone(),
            admin: self.admin,
            expires_unix_s: self.expires_ms.map(|ms| ms / 1_000),
            uses,
        })
    }
}

impl Document for KeyDocument {
    const PREFIX: &'static str = "keys.";
    const WHAT: &'static str = "Key";

    fn check(&self) -> Result<(), String> {
        self.hash().ok_or("the hash is not 64 hexadecimal digits")?;
        if self.description.as_ref().is_some_and(|text| text.len() > KEY_DESCRIPTION_BYTES_MAX) {
            return Err(format!("the description is longer than {KEY_DESCRIPTION_BYTES_MAX} bytes"));
        }
        check_written([("produce", &self.produce), ("consume", &self.consume)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_that_are_whole_load() {
        let mut hash = [7; 32];
        hash[31] = 0xfe;
        let document = KeyDocument { expires_ms: Some(2_999), ..KeyDocument::new(hash, 5) };
        let text = String::from_utf8(document.store().expect("stored")).expect("text");
        let loaded = KeyDocument::load(text.as_bytes()).expect("loads");
        assert_eq!((loaded.hash(), &loaded), (Some(hash), &document));
        assert!(!format!("{document:?}").contains("0707"), "{document:?}");
        let record =
            document.record(&Name::parse("abc").expect("a name"), Arc::new(KeyUses::new(1))).expect("a record");
        assert_eq!((record.hash, record.expires_unix_s), (hash, Some(2)));
        for (from, to, expect) in [
            ("07fe", "07f", "hexadecimal"),
            ("07fe", "07g0", "hexadecimal"),
            ("07fe", "07+0", "hexadecimal"),
            ("\"admin\":false,", "", "missing"),
            ("\"produce\":[]", "\"produce\":[\"A\"]", "lower case"),
        ] {
            let reason = KeyDocument::load(text.replace(from, to).as_bytes()).expect_err("a fault");
            assert!(reason.contains(expect), "{to}: {reason}");
            assert!(!reason.contains("0707"), "{reason}");
        }
    }
}
