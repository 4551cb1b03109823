//! API keys: `sgk_<id>_<secret>`. The secret has 256 random bits, so its SHA-256 is kept and no password hash is needed.

use crate::station::Pattern;
use std::sync::Arc;

/// A key as the registry has it, ready to be compared.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// What it is called.
    pub id: Box<str>,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// Stations it may put records into.
    pub produce: Vec<Pattern>,
    /// Stations it may read.
    pub consume: Vec<Pattern>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// Not good from here on, seconds since 1970.
    pub expires_unix_s: Option<u64>,
    /// How often it was used, by the shards of this process.
    pub uses: Arc<KeyUses>,
}

/// How often a key was used: one cell for each shard, which alone writes it.
#[derive(Debug)]
pub struct KeyUses;

impl KeyUses {
    /// Never used, by any of so many shards.
    #[must_use]
    pub fn new(_shards: usize) -> Self {
        Self
    }

    /// Of all shards.
    #[must_use]
    pub fn total(&self) -> u64 {
        0
    }
}

/// A key that was just made.
#[derive(Debug)]
pub struct NewKeyText {
    /// What it is called.
    pub id: String,
    /// The key: shown once, and kept nowhere.
    pub text: String,
    /// What is kept of it.
    pub hash: [u8; 32],
}

/// Makes a key. `None`: the system gives no random numbers.
#[must_use]
pub fn new_key() -> Option<NewKeyText> {
    None
}

/// The id that a text says, if it has the form of a key.
#[must_use]
pub fn id_of(_text: &str) -> Option<&str> {
    None
}

/// SHA-256 of a key, compared in constant time.
#[must_use]
pub fn is_key(_text: &str, _hash: &[u8; 32]) -> bool {
    false
}
