//! Users as documents of the registry, and the book of those that load.
//!
//! A document is JSON with a format version, so that a later gateway can change it and an earlier
//! one refuses what it does not understand instead of guessing. A document that does not load never
//! replaces the user that did: the fault is logged once, with its reason, and counted.
//!
//! The password hash stays here. What the shards get ([`Users`]) has none.

use super::registry::Listing;
use crate::{
    auth::{self, ACCOUNT_DEFAULT, UserRecord, Users, password},
    config::AuthSettings,
    station::{Name, Pattern},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where the keys of users begin.
pub(super) const KEY_PREFIX: &str = "users.";
/// The one account there is without further configuration.
pub(super) const ACCOUNT: u32 = ACCOUNT_DEFAULT;
/// Patterns in one allow-list.
const PATTERNS_MAX: usize = 256;
/// Version of the document's form.
const FORMAT: u32 = 1;

/// One user, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserDocument {
    /// [`FORMAT`].
    format: u32,
    /// Tenant.
    pub(super) account: u32,
    /// Changes with the password and never comes back, not even if the user is removed and added again:
    /// what carries it (a token) is then no longer valid.
    pub(super) version: u32,
    /// Argon2id, as a PHC string.
    pub(super) password: PasswordHash,
    /// Stations that the user may produce to.
    pub(super) produce: Vec<Pattern>,
    /// Stations that the user may consume from.
    pub(super) consume: Vec<Pattern>,
}

/// A PHC string that is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct PasswordHash(pub(super) String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("********")
    }
}

impl UserDocument {
    pub(super) fn new(version: u32, password: PasswordHash, produce: Vec<Pattern>, consume: Vec<Pattern>) -> Self {
        Self { format: FORMAT, account: ACCOUNT, version, password, produce, consume }
    }

    /// Reads a document. The error says what is wrong and shows nothing of the hash.
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
        if document.account != ACCOUNT {
            return Err(format!("account {} is not configured", document.account));
        }
        check_patterns("produce", &document.produce)?;
        check_patterns("consume", &document.consume)?;
        // `Pattern` is read as it stands; a document written by hand may hold one that the rules refuse.
        for pattern in document.produce.iter().chain(&document.consume) {
            let same = Pattern::parse(pattern.as_str())?;
            if same != *pattern {
                return Err(format!("station pattern {:?} is not in lower case", pattern.as_str()));
            }
        }
        password::check_hash(&document.password.0)?;
        Ok(document)
    }

    pub(super) fn store(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Where and what kind of fault; never the text itself, which may hold a hash.
fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a field is missing, unknown or of the wrong type",
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Io => "cannot be read",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

/// Whether an allow-list is short enough.
pub(super) fn check_patterns(what: &str, patterns: &[Pattern]) -> Result<(), String> {
    if patterns.len() > PATTERNS_MAX {
        return Err(format!("{what}: at most {PATTERNS_MAX} patterns"));
    }
    Ok(())
}

/// The name that a key tells after its prefix. A key that is not in lower case is nobody's.
fn plain_name(text: &str) -> Option<Name> {
    Name::parse(text).ok().filter(|name| name.as_str() == text)
}

/// The key of a user's document.
pub(super) fn key(name: &Name) -> String {
    format!("{KEY_PREFIX}{name}")
}

/// The root user, who comes from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// Lower-cased name.
    pub(super) name: String,
    /// Version of its password.
    pub(super) version: u32,
}

impl Root {
    pub(super) fn new(settings: &AuthSettings) -> Self {
        let version = auth::root_version(settings.access_key.expose(), settings.root_password.expose());
        Self { name: settings.root_user.clone(), version }
    }
}

/// The users that load, and where they come from. Immutable once published.
///
/// News may come late: a follower in the broker's cluster that lags behind answers with what was. So what is
/// older than what is known of the same key changes nothing, until the registry itself is another
/// or has lost what was known.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    users: BTreeMap<Name, Entry>,
    /// Documents that do not load, by key, with the revision that was looked at.
    faults: BTreeMap<String, u64>,
    /// Keys whose removal was seen, with its revision. Bounded as the bucket is, which keeps the same.
    removed: BTreeMap<String, u64>,
    /// When the registry was made that all revisions are of.
    made: Option<i128>,
    /// The highest revision that this book has seen.
    pub(super) revision: u64,
    /// Whether the registry was read whole at least once.
    pub(super) loaded: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Revision of the document that loaded.
    pub(super) revision: u64,
    pub(super) document: Arc<UserDocument>,
}

/// A change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    /// `None`: removed.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) revision: u64,
}

impl Book {
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        let name = Name::parse(name).ok()?;
        self.users.get(&name)
    }

    /// The revision of the document that is stored, whether it loads or not. (What loads has a name
    /// that is written as its key.)
    pub(super) fn stored_revision(&self, name: &Name) -> Option<u64> {
        let loaded = self.users.get(name).map(|entry| entry.revision);
        loaded.max(self.faults.get(&key(name)).copied())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.users.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Takes one change in. Keys of other kinds are passed over.
    pub(super) fn apply(&mut self, change: &Change) {
        self.revision = self.revision.max(change.revision);
        let Some(text) = change.key.strip_prefix(KEY_PREFIX) else { return };
        if self.newest(&change.key, text) >= change.revision {
            return;
        }
        let Some(bytes) = &change.bytes else {
            self.faults.remove(&change.key);
            if let Some(name) = plain_name(text) {
                self.users.remove(&name);
            }
            self.removed.insert(change.key.clone(), change.revision);
            return;
        };
        self.removed.remove(&change.key);
        let loaded = match Name::parse(text) {
            Ok(name) if name.as_str() != text => Err("the name is not in lower case".to_owned()),
            Ok(name) => UserDocument::load(bytes).map(|document| (name, document)),
            Err(fault) => Err(fault.text("User")),
        };
        match loaded {
            Ok((name, document)) => {
                self.faults.remove(&change.key);
                self.users.insert(name, Entry { revision: change.revision, document: Arc::new(document) });
            }
            Err(reason) => {
                self.faults.insert(change.key.clone(), change.revision);
                tracing::error!(key = %change.key, revision = change.revision, %reason, "registry: a user document does not load and is not used");
            }
        }
    }

    /// The newest revision that is known of a key, `text` after the prefix; 0 for none.
    fn newest(&self, key: &str, text: &str) -> u64 {
        let loaded = plain_name(text).and_then(|name| self.users.get(&name)).map(|entry| entry.revision);
        let others = self.faults.get(key).max(self.removed.get(key)).copied();
        loaded.max(others).unwrap_or(0)
    }

    /// Takes the whole registry in: what is not in the listing is gone.
    pub(super) fn reconcile(&mut self, listing: &Listing) {
        let Listing { made, last, documents } = listing;
        if self.made != Some(*made) || *last < self.revision {
            // Removed and made again, or restored, or what was not yet on disk is lost: revisions are given
            // anew, and whatever is there now is news.
            self.made = Some(*made);
            self.revision = 0;
            self.faults.clear();
            self.removed.clear();
            self.users.values_mut().for_each(|entry| entry.revision = 0);
        }
        let present: BTreeSet<&str> =
            documents.iter().filter(|change| change.bytes.is_some()).map(|change| change.key.as_str()).collect();
        self.users.retain(|name, _| present.contains(key(name).as_str()));
        self.faults.retain(|key, _| present.contains(key.as_str()));
        for change in documents {
            self.apply(change);
        }
        self.loaded = true;
    }

    /// Whether both books say the same about users.
    pub(super) fn same_users(&self, other: &Self) -> bool {
        let revisions = |book: &Self| -> Vec<(Name, u64, u32)> {
            book.iter().map(|(name, entry)| (name.clone(), entry.revision, entry.document.version)).collect()
        };
        revisions(self) == revisions(other)
    }

    /// What the shards get.
    pub(super) fn snapshot(&self, root: &Root) -> Arc<Users> {
        let Root { name: root, version: root_version } = root;
        let records = self.users.iter().filter(|(name, _)| name.as_str() != root).map(|(name, entry)| UserRecord {
            name: name.clone(),
            account: entry.document.account,
            version: entry.document.version,
            produce: entry.document.produce.clone(),
            consume: entry.document.consume.clone(),
        });
        let users =
            if self.loaded { Users::new(root, *root_version, records) } else { Users::unread(root, *root_version) };
        Arc::new(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$ZX2aMhTrPKuE1PmXlvjrUPOKFJbQrWLxJdMkeRS2bHo";

    fn text(version: u32, produce: &str) -> String {
        format!(
            r#"{{"format":1,"account":1,"version":{version},"password":"{HASH}","produce":{produce},"consume":["*"]}}"#
        )
    }

    fn put(key: &str, text: &str, revision: u64) -> Change {
        Change { key: key.to_owned(), bytes: Some(text.as_bytes().to_vec()), revision }
    }

    fn listing(made: i128, documents: Vec<Change>) -> Listing {
        Listing { made, last: 100, documents }
    }

    fn version(book: &Book, name: &str) -> Option<u32> {
        book.get(name).map(|entry| entry.document.version)
    }

    #[test]
    fn only_documents_that_are_whole_load() {
        for (document, expect) in [
            (text(1, r#"["a.*"]"#), Ok(())),
            (text(1, "[]"), Ok(())),
            (text(1, r#"["A"]"#), Err("lower case")),
            (text(1, r#"["a b"]"#), Err("station pattern")),
            (text(1, "null"), Err("wrong type")),
            (text(1, "[]").replace("\"format\":1", "\"format\":2"), Err("format 2")),
            (text(1, "[]").replace("\"account\":1", "\"account\":7"), Err("account 7")),
            (text(1, "[]").replace("\"consume\"", "\"konsume\""), Err("missing, unknown")),
            (text(1, "[]").replace("argon2id", "argon2i"), Err("argon2id")),
            (text(1, "[]").replace("m=8", "m=4000000"), Err("too much work")),
            (text(1, "[]").replace(HASH, "hunter2"), Err("PHC string")),
            (String::new(), Err("ends too early")),
            ("[1]".to_owned(), Err("wrong type")),
            (format!("[{}\"a\"]", "\"a\",".repeat(PATTERNS_MAX)), Err("at most")),
        ] {
            let document = if document.starts_with("[\"a\"") { text(1, &document) } else { document };
            match (UserDocument::load(document.as_bytes()).map(drop), expect) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) => {
                    assert!(reason.contains(part), "{document}: {reason}");
                    assert!(!reason.contains("ZX2aMh"), "no hash in {reason}");
                }
                (got, _) => panic!("{document}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_is_stored_loads_again_and_is_not_shown() {
        let patterns = vec![Pattern::parse("prod.*").expect("a pattern")];
        let document = UserDocument::new(7, PasswordHash(HASH.to_owned()), patterns, Vec::new());
        assert_eq!(UserDocument::load(&document.store()), Ok(document.clone()));
        assert!(!format!("{document:?}").contains("argon2"));
    }

    #[test]
    fn a_broken_document_never_replaces_the_one_that_works() {
        let mut book = Book::default();
        book.apply(&put("users.ann", &text(1, "[]"), 1));
        book.apply(&put("users.ann", "{", 2));
        book.apply(&put("users.bob", "{", 3));
        book.apply(&put("users.B..B", &text(1, "[]"), 4));
        assert_eq!((version(&book, "ann"), version(&book, "bob"), book.faults()), (Some(1), None, 3));
        // Also when everything is read again.
        book.reconcile(&listing(1, vec![put("users.ann", "{", 2), put("users.bob", &text(5, "[]"), 9)]));
        assert_eq!((version(&book, "ann"), version(&book, "bob"), book.faults()), (Some(1), Some(5), 1));
        book.apply(&put("users.ann", &text(2, "[]"), 10));
        assert_eq!((version(&book, "ann"), book.faults(), book.revision), (Some(2), 0, 10));
    }

    #[test]
    fn removals_and_old_news_leave_the_newest_state() {
        let removal = |revision| Change { key: "users.ann".to_owned(), bytes: None, revision };
        let mut book = Book::default();
        book.apply(&put("users.ann", &text(2, "[]"), 5));
        book.apply(&put("users.ann", &text(1, "[]"), 4));
        book.apply(&removal(3));
        book.apply(&Change { key: "users.Ann".to_owned(), bytes: None, revision: 9 });
        assert_eq!(version(&book, "ann"), Some(2));
        book.apply(&removal(6));
        assert_eq!(version(&book, "ann"), None);
        book.apply(&put("users.ann", &text(2, "[]"), 5));
        assert_eq!(version(&book, "ann"), None, "what was removed does not come back");
        book.apply(&put("users.ann", &text(3, "[]"), 7));
        assert_eq!(version(&book, "ann"), Some(3));
    }

    #[test]
    fn a_follower_that_lags_behind_rolls_nothing_back() {
        let (old, new) = (text(1, "[]"), text(2, "[]"));
        let removal = Change { key: "users.dan".to_owned(), bytes: None, revision: 24 };
        let mut book = Book::default();
        let first = vec![
            put("users.ann", &old, 11),
            put("users.bob", &old, 12),
            put("users.carl", &old, 13),
            put("users.dan", &old, 14),
        ];
        book.reconcile(&listing(1, first.clone()));
        for change in [put("users.ann", &new, 21), put("users.carl", "{", 23), removal] {
            book.apply(&change);
        }
        let state = |book: &Book| (["ann", "bob", "carl", "dan"].map(|name| version(book, name)), book.faults());
        let expect = ([Some(2), Some(1), Some(1), None], 1);
        assert_eq!(state(&book), expect);
        book.reconcile(&listing(1, first.clone()));
        assert_eq!(state(&book), expect, "the same bucket: what is older changes nothing");
        assert_eq!(book.revision, 24);
        // Removed while nobody watched.
        book.reconcile(&listing(1, vec![put("users.bob", &new, 25)]));
        assert_eq!(state(&book), ([None, Some(2), None, None], 0));
        // The bucket was removed and made again, and revisions begin at 1.
        book.reconcile(&listing(2, vec![put("users.bob", &old, 1), put("users.dan", &old, 2)]));
        assert_eq!(state(&book), ([None, Some(1), None, Some(1)], 0));
        assert_eq!(book.revision, 2);
        // A bucket that was restored, or has lost its last writes, gives the same revisions once more.
        book.apply(&put("users.bob", &new, 9));
        book.reconcile(&Listing { made: 2, last: 8, documents: vec![put("users.bob", &old, 1)] });
        assert_eq!((state(&book), book.revision), (([None, Some(1), None, None], 0), 1));
        book.apply(&put("users.bob", &new, 9));
        assert_eq!(version(&book, "bob"), Some(2));
        // A broken document in it leaves alone the user that works.
        book.reconcile(&listing(3, vec![put("users.bob", "{", 1)]));
        assert_eq!(state(&book), ([None, Some(2), None, None], 1));
    }

    #[test]
    fn documents_of_other_kinds_are_passed_over() {
        let mut book = Book::default();
        book.apply(&put("stations.orders", "whatever", 3));
        assert_eq!((book.len(), book.faults(), book.revision), (0, 0, 3));
    }

    #[test]
    fn the_shards_get_rights_and_never_a_second_root() {
        let mut book = Book::default();
        book.apply(&put("users.ann", &text(2, r#"["a.*"]"#), 1));
        book.apply(&put("users.root", &text(2, r#"["*"]"#), 2));
        let root = Root { name: "root".to_owned(), version: 7 };
        assert_eq!(book.snapshot(&root), Arc::new(Users::unread("root", 7)), "as long as nothing was read");
        book.loaded = true;
        let users = book.snapshot(&root);
        assert!(!format!("{users:?}").contains("argon2"));
        assert_eq!(users.find(ACCOUNT, "ann").map(|ann| ann.version), Some(2));
        assert_eq!(users.find(ACCOUNT, "root").map(|root| root.version), Some(7));
    }
}
