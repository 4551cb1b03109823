//! The snapshot of the registry: all documents of the registry that load, by kind, and where they come from.
//!
//! A document that does not load never replaces the one that did: the fault is logged once, with its reason, and
//! counted.
//!
//! News may come late: a server of the broker's cluster that lags behind answers with an old state. So a change that is
//! older than what is known of the same key changes nothing, until the registry itself is another or has lost what was
//! known.

use super::{
    Change, Listing,
    documents::{Document, KeyDocument, SchemaDocument, StationDocument, UserDocument},
};
use crate::{
    auth::{self, UserRecord},
    config::AuthSettings,
    reject::Reject,
    station::Name,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The root user, who comes from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Root {
    /// Lower-cased name.
    pub(in crate::control) name: String,
    /// Version of its password.
    pub(in crate::control) version: u32,
}

impl Root {
    pub(in crate::control) fn new(settings: &AuthSettings) -> Self {
        let version = auth::root_version(settings.access_key.expose(), settings.root_password.expose());
        Self { name: settings.root_user.clone(), version }
    }
}

/// The documents of one kind. Immutable once published; a copy shares them.
#[derive(Debug)]
pub(in crate::control) struct Collection<D> {
    entries: BTreeMap<Name, Entry<D>>,
    /// Documents that do not load, by what their key says after the prefix, with the revision that was looked at.
    faults: BTreeMap<String, u64>,
    /// The removed documents, with the removal's revision. Bounded as the bucket is, which keeps the same.
    removed: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(in crate::control) struct Entry<D> {
    /// Revision of the document that loaded.
    pub(in crate::control) revision: u64,
    pub(in crate::control) document: Arc<D>,
}

impl<D> Clone for Entry<D> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, document: Arc::clone(&self.document) }
    }
}

impl<D> Default for Collection<D> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), faults: BTreeMap::new(), removed: BTreeMap::new() }
    }
}

impl<D> Clone for Collection<D> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), faults: self.faults.clone(), removed: self.removed.clone() }
    }
}

impl<D: Document> Collection<D> {
    pub(in crate::control) fn get(&self, name: &Name) -> Option<&Entry<D>> {
        self.entries.get(name)
    }

    /// Returns the revision of the document that is stored, whether it loads or not. (A document that loads has a name
    /// that is written as its key.)
    pub(in crate::control) fn stored_revision(&self, name: &Name) -> Option<u64> {
        let loaded = self.entries.get(name).map(|entry| entry.revision);
        loaded.max(self.faults.get(name.as_str()).copied())
    }

    pub(in crate::control) fn iter(&self) -> impl Iterator<Item = (&Name, &Entry<D>)> {
        self.entries.iter()
    }

    pub(in crate::control) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(in crate::control) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Returns the names that have a document that does not load, and none that did.
    pub(in crate::control) fn unknown(&self) -> impl Iterator<Item = Name> {
        let names = self.faults.keys().filter_map(|text| D::name(text).ok());
        names.filter(|name| !self.entries.contains_key(name))
    }

    /// Returns whether both hold the very same documents.
    pub(in crate::control) fn same(&self, other: &Self) -> bool {
        let mut pairs = self.entries.iter().zip(&other.entries);
        self.len() == other.len()
            && self.faults == other.faults
            && pairs.all(|((name, one), (other_name, other))| {
                name == other_name && Arc::ptr_eq(&one.document, &other.document)
            })
    }

    /// Takes one change in, if it is one of this kind.
    fn apply(&mut self, change: &Change) {
        let Some(text) = change.key.strip_prefix(D::PREFIX) else { return };
        if self.newest(text) >= change.revision {
            return;
        }
        let name = D::name(text);
        let Some(bytes) = &change.bytes else {
            self.faults.remove(text);
            if let Ok(name) = name {
                self.entries.remove(&name);
            }
            self.removed.insert(text.to_owned(), change.revision);
            return;
        };
        self.removed.remove(text);
        match name.and_then(|name| D::load(bytes).map(|document| (name, document))) {
            Ok((name, document)) => {
                self.faults.remove(text);
                // The same document again is nothing new for those who look at it.
                let known = self.entries.get(&name).filter(|known| *known.document == document);
                let document = known.map_or_else(|| Arc::new(document), |known| Arc::clone(&known.document));
                self.entries.insert(name, Entry { revision: change.revision, document });
            }
            Err(reason) => {
                self.faults.insert(text.to_owned(), change.revision);
                tracing::error!(key = %change.key, revision = change.revision, %reason, "registry: a document does not load and is not used");
            }
        }
    }

    /// The newest revision that is known of what a key says after its prefix; 0 for none.
    fn newest(&self, text: &str) -> u64 {
        let loaded = D::name(text).ok().and_then(|name| self.entries.get(&name)).map(|entry| entry.revision);
        let others = self.faults.get(text).max(self.removed.get(text)).copied();
        loaded.max(others).unwrap_or(0)
    }

    /// Revisions are given anew: every document that is there now is news.
    fn begin_again(&mut self) {
        self.faults.clear();
        self.removed.clear();
        self.entries.values_mut().for_each(|entry| entry.revision = 0);
    }

    /// Removes the documents of this kind whose keys are not present.
    fn retain(&mut self, present: &BTreeSet<&str>) {
        self.entries.retain(|name, _| present.contains(D::key(name).as_str()));
        self.faults.retain(|text, _| present.contains(format!("{}{text}", D::PREFIX).as_str()));
    }
}

/// All documents of the registry. Immutable once published.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Snapshot {
    pub(in crate::control) users: Collection<UserDocument>,
    pub(in crate::control) schemas: Collection<SchemaDocument>,
    pub(in crate::control) stations: Collection<StationDocument>,
    pub(in crate::control) keys: Collection<KeyDocument>,
    /// When the registry was made that all revisions belong to.
    made: Option<i128>,
    /// Everything up to this revision is known.
    pub(in crate::control) revision: u64,
    /// Whether the whole registry was read at least once.
    pub(in crate::control) loaded: bool,
    /// Attached schemas that are being compiled: their stations take no record until they are.
    pub(in crate::control) compiling: BTreeSet<Name>,
    /// Whether all of them were compiled once, or found not to compile.
    pub(in crate::control) compiled: bool,
    /// Why the registry was not read, where waiting does not help.
    pub(in crate::control) refused: Option<Reject>,
    /// Whether the registry has not confirmed it for too long.
    pub(in crate::control) unconfirmed: bool,
}

impl Snapshot {
    pub(in crate::control) fn faults(&self) -> usize {
        self.users.faults() + self.schemas.faults() + self.stations.faults() + self.keys.faults()
    }

    /// Takes one change in. Keys of other kinds are passed over.
    pub(in crate::control) fn apply(&mut self, change: &Change) {
        self.revision = self.revision.max(change.revision);
        self.users.apply(change);
        self.schemas.apply(change);
        self.stations.apply(change);
        self.keys.apply(change);
    }

    /// Takes the whole registry in: documents that are not in the listing are gone.
    pub(in crate::control) fn reconcile(&mut self, listing: &Listing) {
        let Listing { made, last, seen, documents } = listing;
        if self.made != Some(*made) || *last < self.revision {
            // It was removed and made again, or restored, or has lost what was not yet on disk.
            self.made = Some(*made);
            self.revision = 0;
            self.users.begin_again();
            self.schemas.begin_again();
            self.stations.begin_again();
            self.keys.begin_again();
        }
        let present: BTreeSet<&str> =
            documents.iter().filter(|change| change.bytes.is_some()).map(|change| change.key.as_str()).collect();
        self.users.retain(&present);
        self.schemas.retain(&present);
        self.stations.retain(&present);
        self.keys.retain(&present);
        for change in documents {
            self.apply(change);
        }
        self.revision = self.revision.max(*seen);
        self.loaded = true;
        self.refused = None;
    }

    /// Returns whether this snapshot is of the registry that was made then, with everything up to this revision.
    pub(in crate::control) fn is_as_far(&self, made: i128, revision: u64) -> bool {
        self.is_of(made) && self.revision >= revision
    }

    /// Returns whether this snapshot is of the registry that was made then.
    pub(in crate::control) fn is_of(&self, made: i128) -> bool {
        self.made == Some(made)
    }

    /// Returns the users but root, as the shards get them.
    pub(in crate::control) fn user_records(&self, root: &Root) -> impl Iterator<Item = UserRecord> {
        self.users.iter().filter(|(name, _)| name.as_str() != root.name).map(|(name, entry)| UserRecord {
            name: name.clone(),
            account: entry.document.account,
            version: entry.document.version,
            produce: entry.document.produce.clone(),
            consume: entry.document.consume.clone(),
        })
    }

    /// Returns the stations that this schema is attached to.
    pub(in crate::control) fn attached_to(&self, schema: &Name) -> Vec<Name> {
        let attached = self.stations.iter().filter(|(_, entry)| entry.document.schema.as_ref() == Some(schema));
        attached.map(|(name, _)| name.clone()).collect()
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
        Listing { made, last: 100, seen: 0, documents }
    }

    fn version(snapshot: &Snapshot, name: &str) -> Option<u32> {
        snapshot.users.get(&Name::parse(name).expect("a name")).map(|entry| entry.document.version)
    }

    #[test]
    fn a_broken_document_never_replaces_the_one_that_works() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&put("users.ann", &text(1, "[]"), 1));
        snapshot.apply(&put("users.ann", "{", 2));
        snapshot.apply(&put("users.bob", "{", 3));
        snapshot.apply(&put("users.B..B", &text(1, "[]"), 4));
        assert_eq!((version(&snapshot, "ann"), version(&snapshot, "bob"), snapshot.faults()), (Some(1), None, 3));
        // The same when everything is read again.
        snapshot.reconcile(&listing(1, vec![put("users.ann", "{", 2), put("users.bob", &text(5, "[]"), 9)]));
        assert_eq!((version(&snapshot, "ann"), version(&snapshot, "bob"), snapshot.faults()), (Some(1), Some(5), 1));
        snapshot.apply(&put("users.ann", &text(2, "[]"), 10));
        assert_eq!((version(&snapshot, "ann"), snapshot.faults(), snapshot.revision), (Some(2), 0, 10));
    }

    #[test]
    fn removals_and_old_news_leave_the_newest_state() {
        let removal = |revision| Change { key: "users.ann".to_owned(), bytes: None, revision };
        let mut snapshot = Snapshot::default();
        snapshot.apply(&put("users.ann", &text(2, "[]"), 5));
        snapshot.apply(&put("users.ann", &text(1, "[]"), 4));
        snapshot.apply(&removal(3));
        snapshot.apply(&Change { key: "users.Ann".to_owned(), bytes: None, revision: 9 });
        assert_eq!(version(&snapshot, "ann"), Some(2));
        snapshot.apply(&removal(6));
        assert_eq!(version(&snapshot, "ann"), None);
        snapshot.apply(&put("users.ann", &text(2, "[]"), 5));
        assert_eq!(version(&snapshot, "ann"), None, "what was removed does not come back");
        snapshot.apply(&put("users.ann", &text(3, "[]"), 7));
        assert_eq!(version(&snapshot, "ann"), Some(3));
    }

    #[test]
    fn a_follower_that_lags_behind_rolls_nothing_back() {
        let (old, new) = (text(1, "[]"), text(2, "[]"));
        let removal = Change { key: "users.dan".to_owned(), bytes: None, revision: 24 };
        let mut snapshot = Snapshot::default();
        let first = vec![
            put("users.ann", &old, 11),
            put("users.bob", &old, 12),
            put("users.carl", &old, 13),
            put("users.dan", &old, 14),
        ];
        snapshot.reconcile(&listing(1, first.clone()));
        for change in [put("users.ann", &new, 21), put("users.carl", "{", 23), removal] {
            snapshot.apply(&change);
        }
        let state = |snapshot: &Snapshot| {
            (["ann", "bob", "carl", "dan"].map(|name| version(snapshot, name)), snapshot.faults())
        };
        let expect = ([Some(2), Some(1), Some(1), None], 1);
        assert_eq!(state(&snapshot), expect);
        snapshot.reconcile(&listing(1, first.clone()));
        assert_eq!(state(&snapshot), expect, "the same bucket: what is older changes nothing");
        assert_eq!(snapshot.revision, 24);
        // Removed while nobody watched.
        snapshot.reconcile(&listing(1, vec![put("users.bob", &new, 25)]));
        assert_eq!(state(&snapshot), ([None, Some(2), None, None], 0));
        // The bucket was removed and made again, and revisions begin at 1.
        snapshot.reconcile(&listing(2, vec![put("users.bob", &old, 1), put("users.dan", &old, 2)]));
        assert_eq!(state(&snapshot), ([None, Some(1), None, Some(1)], 0));
        assert_eq!(snapshot.revision, 2);
        // A bucket that was restored, or has lost its last writes, gives the same revisions once more.
        snapshot.apply(&put("users.bob", &new, 9));
        snapshot.reconcile(&Listing { made: 2, last: 8, seen: 0, documents: vec![put("users.bob", &old, 1)] });
        assert_eq!((state(&snapshot), snapshot.revision), (([None, Some(1), None, None], 0), 1));
        snapshot.apply(&put("users.bob", &new, 9));
        assert_eq!(version(&snapshot, "bob"), Some(2));
        // A broken document in it leaves alone the user that works.
        snapshot.reconcile(&listing(3, vec![put("users.bob", "{", 1)]));
        assert_eq!(state(&snapshot), ([None, Some(2), None, None], 1));
    }

    #[test]
    fn documents_of_other_kinds_are_passed_over() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&put("bridges.orders", "whatever", 3));
        assert_eq!((snapshot.users.len(), snapshot.faults(), snapshot.revision), (0, 0, 3));
    }

    #[test]
    fn each_kind_goes_to_its_own_collection_and_names_that_are_not_known_are_told() {
        let mut snapshot = Snapshot::default();
        let station = StationDocument::default().store().expect("stored");
        snapshot.apply(&Change { key: "stations.orders".to_owned(), bytes: Some(station), revision: 1 });
        snapshot.apply(&put("stations.orders", "{", 2));
        snapshot.apply(&put("stations.prices", "{", 3));
        snapshot.apply(&put("stations.Prices", "{", 4));
        snapshot.apply(&put("schemas.orders", "{", 5));
        snapshot.apply(&put("keys.orders", "{", 6));
        assert_eq!((snapshot.users.len(), snapshot.stations.len(), snapshot.faults()), (0, 1, 5));
        let unknown = |names: &mut dyn Iterator<Item = Name>| names.map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(unknown(&mut snapshot.stations.unknown()), ["prices"]);
        assert_eq!(unknown(&mut snapshot.schemas.unknown()), ["orders"]);
    }

    #[test]
    fn the_same_document_again_is_no_news() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&put("users.ann", &text(2, "[]"), 1));
        let before = snapshot.clone();
        snapshot.apply(&put("users.ann", &text(2, "[]"), 2));
        assert!(snapshot.users.same(&before.users));
        assert_eq!(snapshot.users.stored_revision(&Name::parse("ann").expect("a name")), Some(2));
        snapshot.apply(&put("users.ann", &text(3, "[]"), 3));
        assert!(!snapshot.users.same(&before.users));
        let before = snapshot.clone();
        snapshot.apply(&put("users.bob", &text(3, "[]"), 4));
        assert!(!snapshot.users.same(&before.users) && !before.users.same(&snapshot.users));
    }

    #[test]
    fn what_was_read_up_to_a_removal_is_known_up_to_it() {
        let mut snapshot = Snapshot::default();
        snapshot.reconcile(&Listing {
            made: 1,
            last: 9,
            seen: 9,
            documents: vec![put("users.ann", &text(1, "[]"), 4)],
        });
        assert_eq!(snapshot.revision, 9);
    }

    #[test]
    fn nobody_becomes_a_second_root() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&put("users.ann", &text(2, r#"["a.*"]"#), 1));
        snapshot.apply(&put("users.root", &text(2, r#"["*"]"#), 2));
        let root = Root { name: "root".to_owned(), version: 7 };
        let records: Vec<String> = snapshot.user_records(&root).map(|record| record.name.to_string()).collect();
        assert_eq!(records, ["ann"]);
    }
}
