//! Users and API keys with their rights, as one immutable snapshot.
//!
//! The control plane builds it, the shards share it behind an `Arc`, and it is replaced as a whole. It holds no
//! password hash: a shard never needs one. Of an API key it holds the SHA-256, which a shard compares itself.

use super::keys::{self, KeyRecord, KeyUses};
use crate::{
    reject::{Action, Reject},
    station::{Name, Pattern},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::{collections::HashMap, fmt, sync::Arc};

/// The account of everyone who names none, and of root.
pub const ACCOUNT_DEFAULT: u32 = 1;

/// A user as the registry has it, without the password hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Lower-cased name.
    pub name: Name,
    /// Tenant; 1 by default.
    pub account: u32,
    /// Changes with the password: tokens of another version are refused.
    pub version: u32,
    /// The stations that this user may produce to.
    pub produce: Vec<Pattern>,
    /// The stations that this user may consume from.
    pub consume: Vec<Pattern>,
}

/// Whose credential it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A user of this lower-cased name.
    User(Name),
    /// An API key.
    Key(KeyLabel),
}

/// `key:` and the id of an API key. No user's name holds a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLabel(Box<str>);

impl KeyLabel {
    const PREFIX: &str = "key:";

    fn new(id: &str) -> Self {
        Self([Self::PREFIX, id].concat().into())
    }

    fn id(&self) -> &str {
        self.0.strip_prefix(Self::PREFIX).unwrap_or(&self.0)
    }
}

/// Someone whose credential was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user or the API key.
    pub identity: Identity,
    /// Tenant.
    pub account: u32,
    /// Version of the user's password, see [`UserRecord::version`]; 0 of a key, which has none.
    pub version: u32,
    rights: Rights,
    /// Where the requests of an API key are counted.
    uses: Option<Arc<KeyUses>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rights {
    /// The root user.
    Everything,
    Listed {
        produce: Vec<Pattern>,
        consume: Vec<Pattern>,
    },
}

impl Principal {
    /// Returns the name for logs and dead letters: the user's name, or `key:` and the key's id.
    #[must_use]
    pub fn label(&self) -> &str {
        match &self.identity {
            Identity::User(name) => name.as_str(),
            Identity::Key(label) => &label.0,
        }
    }

    /// Counts one more request, on this shard. Only those of API keys are counted.
    pub(super) fn count_use(&self, shard: u16) {
        if let Some(uses) = &self.uses {
            uses.count(shard);
        }
    }

    /// Returns whether the principal may do this to the station of this (lower-cased) name.
    #[must_use]
    pub fn may(&self, action: Action, station: &str) -> bool {
        match (&self.rights, action) {
            (Rights::Everything, _) => true,
            (Rights::Listed { produce, .. }, Action::Produce) => produce.iter().any(|pattern| pattern.matches(station)),
            (Rights::Listed { consume, .. }, Action::Consume) => consume.iter().any(|pattern| pattern.matches(station)),
        }
    }

    /// Checks [`Self::may`]; [`Reject::Forbidden`] if not.
    pub fn check(&self, action: Action, station: &Name) -> Result<(), Reject> {
        if self.may(action, station.as_str()) {
            return Ok(());
        }
        let who = match &self.identity {
            Identity::User(name) => format!("user {name}"),
            Identity::Key(label) => format!("API key {}", label.id()),
        };
        Err(Reject::Forbidden(format!("{who} is not allowed to {} station {station}", action.word()).into()))
    }
}

impl From<UserRecord> for Principal {
    fn from(record: UserRecord) -> Self {
        let UserRecord { name, account, version, produce, consume } = record;
        Self {
            identity: Identity::User(name),
            account,
            version,
            rights: Rights::Listed { produce, consume },
            uses: None,
        }
    }
}

/// An API key, and the principal with its rights.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The principal, with the key's rights.
    pub(super) principal: Principal,
    /// Seconds since 1970 from which it is no longer valid.
    pub(super) expires_unix_s: u64,
    hash: [u8; 32],
}

impl Key {
    /// Returns whether this text is the key.
    pub(super) fn is(&self, text: &str) -> bool {
        keys::is_key(text, &self.hash)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("who", &self.principal.label()).finish_non_exhaustive()
    }
}

impl From<KeyRecord> for Key {
    fn from(record: KeyRecord) -> Self {
        let KeyRecord { id, hash, produce, consume, expires_unix_s, uses, .. } = record;
        let principal = Principal {
            identity: Identity::Key(KeyLabel::new(&id)),
            account: ACCOUNT_DEFAULT,
            version: 0,
            rights: Rights::Listed { produce, consume },
            uses: Some(uses),
        };
        Self { principal, expires_unix_s: expires_unix_s.unwrap_or(u64::MAX), hash }
    }
}

/// Everyone who may log in, by account and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    accounts: HashMap<u32, HashMap<Box<str>, Principal>>,
    /// The API keys, by id.
    keys: HashMap<Box<str>, Key>,
    complete: bool,
}

impl Users {
    /// The snapshot of root, at this version of its password (see [`root_version`]), and of these users. Root
    /// has every right, in account 1; a user of the same account and name is shadowed by it. A root name that
    /// is no [`Name`] names nobody: configuration refuses it before, and here it must not open a door. Of two
    /// records of one user the last counts.
    pub fn new(root_name: &str, root_version: u32, users: impl IntoIterator<Item = UserRecord>) -> Self {
        let root = Name::parse(root_name).ok().map(|name| Principal {
            identity: Identity::User(name),
            account: ACCOUNT_DEFAULT,
            version: root_version,
            rights: Rights::Everything,
            uses: None,
        });
        let mut accounts: HashMap<u32, HashMap<Box<str>, Principal>> = HashMap::new();
        for principal in users.into_iter().map(Principal::from).chain(root) {
            let names = accounts.entry(principal.account).or_default();
            names.insert(principal.label().into(), principal);
        }
        Self { accounts, keys: HashMap::new(), complete: true }
    }

    /// Adds these API keys to the snapshot.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = KeyRecord>) -> Self {
        self.keys.extend(keys.into_iter().map(|record| (record.id.clone(), Key::from(record))));
        self
    }

    /// The snapshot before the registry was read: root. Of anybody else it is not known whether they exist.
    #[must_use]
    pub fn unread(root_name: &str, root_version: u32) -> Self {
        Self { complete: false, ..Self::new(root_name, root_version, []) }
    }

    /// Returns whether a user or key that is not found does not exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the user of this (lower-cased) name in this account.
    #[must_use]
    pub fn find(&self, account: u32, name: &str) -> Option<&Principal> {
        self.accounts.get(&account)?.get(name)
    }

    /// Returns the API key of this id.
    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }
}

/// Returns the version of root's password, which is in the configuration and so has no other version: the first bytes
/// of HMAC-SHA256 under the key of access tokens, so that a change of the password ends root's tokens, all gateways of
/// one configuration agree, and a token tells nothing of the password. Never 0.
#[must_use]
pub fn root_version(access_key: &str, root_password: &str) -> u32 {
    let mut mac = Hmac::<Sha256>::new_from_slice(access_key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"root");
    mac.update(root_password.as_bytes());
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    let [first, second, third, fourth, ..] = digest;
    u32::from_be_bytes([first, second, third, fourth]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn user(name: &str, account: u32, produce: &[&str], consume: &[&str]) -> UserRecord {
        let patterns =
            |texts: &[&str]| texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect::<Vec<_>>();
        UserRecord {
            name: Name::parse(name).expect("a name"),
            account,
            version: 3,
            produce: patterns(produce),
            consume: patterns(consume),
        }
    }

    #[test]
    fn who_is_not_found_before_the_registry_was_read_may_still_exist() {
        assert!(Users::new("root", 1, []).is_complete());
        let unread = Users::unread("root", 1);
        assert!(!unread.is_complete() && unread.find(1, "root").is_some());
    }

    #[test]
    fn rights_are_what_the_lists_say() {
        let users =
            Users::new("Root", 1, [user("etl", 1, &["prod.*", "logs"], &["prod.a"]), user("mute", 1, &[], &[])]);
        for (name, action, station, expect) in [
            ("root", Action::Produce, "anything", true),
            ("root", Action::Consume, "anything", true),
            ("etl", Action::Produce, "prod.x", true),
            ("etl", Action::Produce, "logs", true),
            ("etl", Action::Produce, "logs2", false),
            ("etl", Action::Consume, "prod.a", true),
            ("etl", Action::Consume, "prod.x", false),
            ("etl", Action::Consume, "logs", false),
            ("mute", Action::Produce, "logs", false),
            ("mute", Action::Consume, "logs", false),
        ] {
            let principal = users.find(1, name).expect("a user");
            assert_eq!(principal.may(action, station), expect, "{name} {action:?} {station}");
            let verdict = principal.check(action, &Name::parse(station).expect("a name"));
            let text = format!("user {name} is not allowed to {} station {station}", action.word());
            assert_eq!(verdict, if expect { Ok(()) } else { Err(Reject::Forbidden(text.into())) });
        }
    }

    #[test]
    fn an_account_is_a_world_of_its_own() {
        let users =
            Users::new("root", 1, [user("etl", 1, &[], &[]), user("etl", 2, &["*"], &[]), user("two", 2, &[], &[])]);
        let may = |account, name: &str| users.find(account, name).map(|found| found.may(Action::Produce, "s"));
        for (account, name, expect) in [
            (1, "etl", Some(false)),
            (2, "etl", Some(true)),
            (1, "two", None),
            (2, "root", None),
            (0, "root", None),
            (1, "ROOT", None),
            (1, "", None),
        ] {
            assert_eq!(may(account, name), expect, "{account} {name}");
        }
    }

    #[test]
    fn root_is_not_shadowed_by_a_user_of_its_name() {
        let users = Users::new("root", 7, [user("root", 1, &[], &[])]);
        let root = users.find(1, "root").expect("root");
        assert!(root.may(Action::Produce, "s"));
        assert_eq!(root.version, 7);
    }

    #[test]
    fn a_root_name_that_is_no_name_names_nobody() {
        for name in ["", "a b", "-", "a$1"] {
            assert_eq!(Users::new(name, 1, []).find(1, name), None);
        }
    }

    #[test]
    fn the_version_of_root_changes_with_its_password_and_with_the_key_alone() {
        // RFC 4231 has no such message: computed with `openssl dgst -sha256 -hmac key` of "rootpassword".
        assert_eq!(root_version("key", "password"), 0xa03e_cbdf);
        let versions = [
            root_version("key", "password"),
            root_version("key", "password2"),
            root_version("key2", "password"),
            root_version("", "password"),
            root_version("key", ""),
            root_version(&"k".repeat(1_000), "password"),
        ];
        let different: HashSet<u32> = versions.into_iter().collect();
        assert_eq!(different.len(), versions.len());
        assert!(!different.contains(&0));
    }
}
