//! Registry documents after a power cut at any byte of their journal: each is the old one or the new one, whole.

use super::{
    recovery::{Written, journal_end, open},
    support::{Fixture, block_on, defaults},
};
use crate::{backend::local::Document, limits::LOCAL_DOCUMENT_BYTES_MAX};
use std::time::Duration;

/// Documents as a test names them: key, revision, value.
type Documents = Vec<(String, u64, Vec<u8>)>;

fn all(documents: Vec<Document>) -> Documents {
    documents.into_iter().map(|one| (one.key, one.revision, one.value)).collect()
}

#[test]
fn a_registry_cut_at_any_byte_holds_whole_documents_and_goes_on() {
    let steps: [(&str, Option<&[u8]>); 7] = [
        ("users.ann", Some(b"one")),
        ("schemas.order", Some(b"version 1")),
        ("users.ann", Some(b"two")),
        ("users.ann", None),
        ("schemas.order", Some(b"version 2, which is longer")),
        ("users.ann", Some(b"three")),
        ("schemas.order", None),
    ];
    let fixture = Fixture::new(defaults(1));
    let mut ends = vec![journal_end(&fixture)];
    let mut states: Vec<Documents> = vec![Vec::new()];
    for (key, value) in steps {
        match value {
            Some(value) => drop(block_on(fixture.store().registry_put(key, value, None)).expect("put")),
            None => assert_eq!(block_on(fixture.store().registry_delete(key, None)), Ok(true)),
        }
        ends.push(journal_end(&fixture));
        states.push(all(fixture.store().registry_list("").expect("listed")));
    }
    assert_eq!(states.last().expect("some").len(), 1);
    let written = Written::of(fixture, ends);
    let bytes = written.bytes();
    for cut in usize::try_from(written.ends[0]).expect("small")..=bytes.len() {
        let store = open(&written.with_journal(&bytes[..cut])).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let done = written.whole(cut as u64);
        assert_eq!(all(store.registry_list("").expect("listed")), states[done], "cut at {cut}");
        let revision = block_on(store.registry_put("next", b"", Some(0))).expect("put");
        assert_eq!(revision, done as u64 + 1, "cut at {cut}: revisions go on, and no change shares one");
        assert!(store.close(Duration::from_secs(20)));
    }
}

#[test]
fn the_largest_document_is_kept_and_a_larger_one_is_refused() {
    let mut fixture = Fixture::new(defaults(1));
    let mut value = vec![b'x'; LOCAL_DOCUMENT_BYTES_MAX];
    assert_eq!(block_on(fixture.store().registry_put("schemas.large", &value, None)), Ok(1));
    value.push(b'x');
    assert!(block_on(fixture.store().registry_put("schemas.large", &value, None)).is_err());
    fixture.reopen();
    let found = fixture.store().registry_get("schemas.large").expect("read").expect("there");
    assert_eq!((found.revision, found.value.len()), (1, LOCAL_DOCUMENT_BYTES_MAX));
}
