//! API keys: `sgk_<id>_<secret>`, a credential for those who cannot log in and refresh tokens.
//!
//! The secret has 256 random bits, so its SHA-256 is kept and no password hash is needed: nobody can try them all, and
//! a shard can check a key itself. A key has a fixed length and form, so that a text of another form is refused before
//! anything is computed.

use crate::{metrics::Counter, station::Pattern};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use subtle::ConstantTimeEq;

/// The prefix of every key; no token of another kind has it.
pub const PREFIX: &str = "sgk_";
/// Length of a key in bytes: prefix, id, `_`, secret.
pub const KEY_BYTES: usize = PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS;
/// Length of an id: 62 bits of chance, so that ids do not meet.
const ID_CHARS: usize = 12;
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Length of a secret in base64url without padding.
const SECRET_CHARS: usize = (SECRET_BYTES * 4).div_ceil(3);
/// What ids are made of.
const ID_ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A key as the registry has it, ready to be compared.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// Its id.
    pub id: Box<str>,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// The stations that it may produce to.
    pub produce: Vec<Pattern>,
    /// The stations that it may consume from.
    pub consume: Vec<Pattern>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// Seconds since 1970 from which it is no longer valid.
    pub expires_unix_s: Option<u64>,
    /// How often it was used, by the shards of this process.
    pub uses: Arc<KeyUses>,
}

/// How often a key was used: one cell for each shard, which alone writes it, and one for the control thread.
#[derive(Debug)]
pub struct KeyUses {
    shards: Box<[ShardUses]>,
}

/// A cell of its own cache lines, for the reason that `metrics` has.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ShardUses(Counter);

impl KeyUses {
    /// Counters of a key that was never used, for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { shards: std::iter::repeat_with(ShardUses::default).take(shards).collect() }
    }

    /// Counts one more request with this key, on this shard. Nobody but that shard calls it; behind the shards comes
    /// the control thread.
    pub fn count(&self, shard: u16) {
        if let Some(uses) = self.shards.get(usize::from(shard)) {
            uses.0.increment();
        }
    }

    /// Returns the sum of all shards.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.shards.iter().map(|uses| uses.0.get()).sum()
    }
}

/// Counters have no value to be compared: a counter equals itself and no other.
impl PartialEq for KeyUses {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for KeyUses {}

/// A key that was just made.
pub struct NewKeyText {
    /// Its id.
    pub id: String,
    /// The key: shown once, and stored nowhere.
    pub text: String,
    /// What the registry keeps of it.
    pub hash: [u8; 32],
}

impl fmt::Debug for NewKeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewKeyText").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Makes a key. `None`: the system gives no random numbers.
#[must_use]
pub fn new_key() -> Option<NewKeyText> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).ok()?;
    let id = id_from(getrandom::u64().ok()?);
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = hash(text.as_bytes());
    Some(NewKeyText { id, text, hash })
}

/// A number in base 36, its last digits. An id is no secret: that some are a little likelier does not matter.
fn id_from(mut number: u64) -> String {
    let base = ID_ALPHABET.len() as u64;
    let digits = std::iter::repeat_with(|| {
        let digit = usize::try_from(number % base).unwrap_or_default();
        number /= base;
        char::from(ID_ALPHABET.get(digit).copied().unwrap_or_default())
    });
    digits.take(ID_CHARS).collect()
}

/// Returns the id in a text, if the text has the form of a key. The secret may hold `_` itself.
#[must_use]
pub fn id_of(text: &str) -> Option<&str> {
    if text.len() != KEY_BYTES {
        return None;
    }
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let secret_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (id.len() == ID_CHARS && id.bytes().all(|byte| ID_ALPHABET.contains(&byte)) && secret.bytes().all(secret_char))
        .then_some(id)
}

/// Compares the SHA-256 of a key in constant time.
#[must_use]
pub fn is_key(text: &str, hash: &[u8; 32]) -> bool {
    self::hash(text.as_bytes()).ct_eq(hash).into()
}

fn hash(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn a_new_key_has_the_form_and_is_the_key_of_its_hash_alone() {
        let keys: Vec<NewKeyText> = (0..200).map(|_| new_key().expect("randomness")).collect();
        for key in &keys {
            assert_eq!(key.text.len(), KEY_BYTES);
            assert_eq!(id_of(&key.text), Some(key.id.as_str()), "{}", key.text);
            assert!(is_key(&key.text, &key.hash));
            let shown = format!("{key:?}");
            assert!(shown.contains(&key.id) && !shown.contains(&key.text[KEY_BYTES - SECRET_CHARS..]), "{shown}");
        }
        let (first, second) = (&keys[0], &keys[1]);
        assert!(!is_key(&first.text, &second.hash));
        let ids: HashSet<&str> = keys.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(ids.len(), keys.len());
        // Secrets that hold the separator are common, and are read right.
        assert!(keys.iter().any(|key| key.text[KEY_BYTES - SECRET_CHARS..].contains('_')));
    }

    #[test]
    fn the_hash_is_sha_256_of_the_whole_text() {
        // The beginning of `printf %s sgk_abcdefghijkl_AAAA… | sha256sum`, with 43 times A.
        let text = format!("sgk_abcdefghijkl_{}", "A".repeat(43));
        let expect = [0x4f, 0x21, 0x79, 0xe1, 0x9d, 0xdb, 0x97, 0x45, 0x85, 0x52, 0x3e, 0xc2, 0xf7, 0x70, 0x2a, 0xb1];
        assert_eq!(hash(text.as_bytes())[..16], expect);
    }

    #[test]
    fn what_has_not_the_form_says_no_id() {
        let secret = "A".repeat(SECRET_CHARS);
        for (text, expect) in [
            (format!("sgk_abcdefghij09_{secret}"), Some("abcdefghij09")),
            (format!("sgk_abcdefghij09_{}", "_".repeat(SECRET_CHARS)), Some("abcdefghij09")),
            (format!("sgk_abcdefghij09_{}", "-".repeat(SECRET_CHARS)), Some("abcdefghij09")),
            (format!("sgk_abcdefghij09_{secret}A"), None),
            (format!("sgk_abcdefghij09_{}", &secret[1..]), None),
            (format!("sgk_abcdefghij0_{secret}A"), None),
            (format!("sgk_abcdefghij_9_{secret}"), None),
            (format!("sgk_Abcdefghij09_{secret}"), None),
            (format!("SGK_abcdefghij09_{secret}"), None),
            (format!("sgk-abcdefghij09-{secret}"), None),
            (format!("sgk_abcdefghij09_{}+", &secret[1..]), None),
            (format!("sgk_abcdefghij09_{}=", &secret[1..]), None),
            (format!("sgk_abcdefghij09_{}é", &secret[2..]), None),
            (String::new(), None),
            ("sgk_".to_owned(), None),
        ] {
            assert_eq!(id_of(&text), expect, "{text}");
        }
    }

    #[test]
    fn uses_are_the_sum_of_what_each_shard_counted() {
        let uses = KeyUses::new(3);
        for shard in [0, 2, 2, 2] {
            uses.count(shard);
        }
        assert_eq!(uses.total(), 4);
        // A shard that is not there counts nothing, and breaks nothing.
        uses.count(3);
        assert_eq!(uses.total(), 4);
        assert_eq!(align_of::<ShardUses>(), 128);
    }

    proptest! {
        #[test]
        fn an_id_that_is_told_stands_where_it_should(text in "(sgk_)?[a-z0-9_]{0,14}_?[-_=a-zA-Z0-9é]{0,46}") {
            if let Some(id) = id_of(&text) {
                prop_assert_eq!(&text[..4], PREFIX);
                prop_assert_eq!(&text[4..16], id);
                prop_assert_eq!(text.as_bytes()[16], b'_');
            }
        }

        #[test]
        fn a_key_that_is_changed_anywhere_is_another(at in 0..KEY_BYTES) {
            let key = new_key().expect("randomness");
            let mut changed = key.text.into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            prop_assert!(!is_key(std::str::from_utf8(&changed).expect("ASCII"), &key.hash));
        }
    }
}
