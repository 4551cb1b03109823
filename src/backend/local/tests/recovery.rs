//! After a power cut at any byte: what was acknowledged is there once, and nothing else.
//!
//! A power cut is a copy of the directory whose newest journal ends somewhere, or ends in bytes that were never
//! written. Everything before the copied point was acknowledged, one commit a record, and the note of the last synced commit is
//! of that moment. Where the note is of a later one, somebody has shortened the journal.

use super::support::{Fixture, START_MS, block_on, content, copy_dir, defaults, fetch, parse, publish, stored};
use crate::rt::clock;
use crate::{
    backend::local::{Clock, Health, OpenError, Store, journal::Tail, synced::SYNCED},
    record::MessageId,
};
use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A store's directory as it was, and where each of its commits ends in the journal.
pub(super) struct Written {
    _fixture: Fixture,
    dir: PathBuf,
    journal: PathBuf,
    /// End of the journal after step `i` was acknowledged; `ends[0]` before the first.
    pub(super) ends: Vec<u64>,
}

fn payload(number: usize) -> String {
    // Some cross a page, so that a hole in the middle of one leaves its ends whole.
    let fill = if number.is_multiple_of(3) { 9_000 } else { number * 7 % 200 };
    format!("{number}:{}", "p".repeat(fill))
}

/// Publishes `count` records one by one and keeps a copy of the directory.
fn write(count: usize) -> Written {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let mut ends = vec![journal_end(&fixture)];
    for number in 1..=count {
        let id = format!("id-{number}");
        let id = Some(MessageId { base: &id, numbered: None });
        let outcomes = publish(&handle, &station, &[&payload(number)], id).expect("published");
        assert_eq!(stored(&outcomes), [(0, number as u64, false)]);
        ends.push(journal_end(&fixture));
    }
    Written::of(fixture, ends)
}

/// Where the last commit ends in the journal.
pub(super) fn journal_end(fixture: &Fixture) -> u64 {
    Tail::read(&newest_journal(&fixture.dir())).expect("read").valid
}

fn newest_journal(dir: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(dir.join("store/db"))
        .expect("read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "jnl"))
        .collect();
    found.sort_by_key(|path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    found.pop().expect("a journal")
}

impl Written {
    /// What is there now of a store whose commits end there.
    pub(super) fn of(fixture: Fixture, ends: Vec<u64>) -> Self {
        let dir = fixture.dir().with_file_name("copy");
        copy_dir(&fixture.dir(), &dir);
        Self { journal: newest_journal(&dir), dir, ends, _fixture: fixture }
    }

    /// Records that a journal of `length` bytes holds whole.
    pub(super) fn whole(&self, length: u64) -> usize {
        self.ends.iter().filter(|end| **end <= length).count().saturating_sub(1)
    }

    /// A copy whose journal holds exactly `bytes`, as a power cut could leave it.
    pub(super) fn with_journal(&self, bytes: &[u8]) -> PathBuf {
        let dir = self.with_shortened_journal(bytes);
        let (_, last) = Tail::read(&newest_journal(&dir)).expect("read").commits.unwrap_or_default();
        fs::write(dir.join("store").join(SYNCED), format!("{last:020}\n")).expect("written");
        dir
    }

    /// A copy whose journal holds exactly `bytes`, with the note of what was synced before.
    fn with_shortened_journal(&self, bytes: &[u8]) -> PathBuf {
        let dir = self.dir.with_file_name("case");
        fs::remove_dir_all(&dir).ok();
        copy_dir(&self.dir, &dir);
        let journal = dir.join("store/db").join(self.journal.file_name().expect("a name"));
        OpenOptions::new().write(true).truncate(true).open(&journal).expect("opened");
        fs::write(&journal, bytes).expect("written");
        dir
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let end = usize::try_from(*self.ends.last().expect("one")).expect("small");
        fs::read(&self.journal).expect("read").get(..end).expect("as long").to_vec()
    }
}

pub(super) fn open(dir: &Path) -> Result<Store, OpenError> {
    // Within the duplicate window of what was written.
    let clock = Clock::Manual(Arc::new(START_MS.into()));
    Store::open(dir, defaults(1), clock)
}

/// The store opens and holds the first `whole` records, knows their ids, and goes on after them; also when it
/// is closed and opened once more.
fn check_holds(dir: &Path, whole: usize, case: &str) {
    let store = open(dir).unwrap_or_else(|error| panic!("{case}: {error}"));
    let handle = store.handle();
    let station = block_on(store.station(&parse("orders"), false)).unwrap_or_else(|why| panic!("{case}: {why:?}"));
    let consumer = block_on(store.consumer(&station, None, "tests")).expect("a consumer");
    let delivered = fetch(&handle, &station, &consumer, 1_000, 0).expect("fetched");
    let expect: Vec<(u16, u64, String)> = (1..=whole).map(|number| (0, number as u64, payload(number))).collect();
    assert_eq!(content(&delivered), expect, "{case}");
    if whole > 0 {
        let id = format!("id-{whole}");
        let id = Some(MessageId { base: &id, numbered: None });
        let outcomes = publish(&handle, &station, &["x"], id).expect("published");
        assert_eq!(stored(&outcomes), [(0, whole as u64, true)], "{case}: its id is known");
    }
    let outcomes = publish(&handle, &station, &["next"], None).expect("published");
    assert_eq!(stored(&outcomes), [(0, whole as u64 + 1, false)], "{case}: sequences are dense");
    assert!(store.close(Duration::from_secs(20)));
    let store = open(dir).unwrap_or_else(|error| panic!("{case}, again: {error}"));
    let info = block_on(store.stations()).expect("listed");
    assert_eq!(info[0].partitions[0].last, whole as u64 + 1, "{case}, again");
    assert!(store.close(Duration::from_secs(20)));
}

#[test]
fn a_journal_cut_at_any_byte_holds_every_commit_before_the_cut() {
    let written = write(9);
    let bytes = written.bytes();
    for cut in cuts(&written, &bytes) {
        let dir = written.with_journal(&bytes[..cut]);
        check_holds(&dir, written.whole(cut as u64), &format!("cut at {cut}"));
    }
}

/// Cuts at all kinds of places: between commits, in their heads, items and ends, and anywhere.
fn cuts(written: &Written, bytes: &[u8]) -> Vec<usize> {
    let place = |end: &u64| usize::try_from(*end).expect("small");
    let mut cuts: Vec<usize> = (written.ends.iter().map(place))
        .flat_map(|end| [end, end + 1, end + 13, end + 14, end + 40, end.saturating_sub(1), end.saturating_sub(5)])
        .filter(|cut| *cut as u64 >= written.ends[0] && *cut <= bytes.len())
        .collect();
    let span = bytes.len() - place(&written.ends[0]);
    cuts.extend((0..24).map(|step| bytes.len() - 1 - step * span / 24));
    cuts
}

#[test]
fn c11_a_journal_that_was_shortened_keeps_the_store_shut_wherever_it_ends() {
    let written = write(9);
    let bytes = written.bytes();
    let check_is_refused = |dir: &Path, case: &str| {
        let journal = newest_journal(dir);
        let before = fs::read(&journal).expect("read");
        let error = open(dir).expect_err(case).to_string();
        assert!(error.contains("acknowledged records"), "{case}: {error}");
        assert!(error.contains("Put the whole directory back"), "{case}: {error}");
        assert!(error.contains(".jnl") || error.contains(SYNCED), "{case}: names a file: {error}");
        error
            .contains(".jnl")
            .then(|| assert_eq!(fs::read(&journal).expect("read"), before, "{case}: nothing was touched"));
    };
    for cut in cuts(&written, &bytes).into_iter().chain([0, 1, 5_000]).filter(|cut| *cut < bytes.len()) {
        let case = format!("cut at {cut} of {}", bytes.len());
        check_is_refused(&written.with_shortened_journal(&bytes[..cut]), &case);
        let allocated = [&bytes[..cut], &vec![0; 1 << 16]].concat();
        check_is_refused(&written.with_shortened_journal(&allocated), &format!("{case}, and zeros behind"));
    }
    let dir = written.with_shortened_journal(&bytes);
    check_holds(&dir, 9, "not shortened");
    // All of it gone. What it was in front of is not known then, so it is told by the tables.
    let dir = written.with_shortened_journal(&bytes);
    fs::remove_file(newest_journal(&dir)).expect("removed");
    let error = open(&dir).expect_err("no journal").to_string();
    assert!(error.contains("acknowledged records are missing"), "{error}");
    // Whoever says so opens it with what is left.
    let dir = written.with_shortened_journal(&bytes[..usize::try_from(written.ends[4]).expect("small")]);
    assert!(open(&dir).is_err());
    fs::remove_file(dir.join("store").join(SYNCED)).expect("removed");
    check_holds(&dir, 4, "without the note");
}

#[test]
fn a_note_of_an_earlier_commit_keeps_no_store_shut() {
    let written = write(5);
    let dir = written.with_shortened_journal(&written.bytes());
    for text in ["00000000000000000001\n", "", "nonsense"] {
        fs::write(dir.join("store").join(SYNCED), text).expect("written");
        let store = open(&dir).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(store.close(Duration::from_secs(20)));
    }
}

#[test]
fn c11_a_damaged_table_is_named_with_what_helps_and_makes_the_store_not_ready() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    fixture.consumer(&station, "g");
    for number in 0..40 {
        publish(&handle, &station, &[&format!("{number}:{}", "x".repeat(60_000))], None).expect("published");
    }
    let disk = fixture.disk();
    for keyspace in [&disk.records, &disk.catalog] {
        keyspace.rotate_memtable_and_wait().expect("written out");
    }
    let tables = disk.records.path().join("tables");
    drop(disk);
    fixture.close();
    let table = fs::read_dir(&tables).expect("read").next().expect("one").expect("read").path();
    let name = |text: &str| text.contains(&format!("tables/{}", table.file_name().expect("a name").display()));
    let sound = fs::read(&table).expect("read");
    let (mut opened, mut shut) = (0, 0);
    for part in 0..12 {
        let mut bytes = sound.clone();
        let at = bytes.len() * part / 12 + 40;
        bytes[at] ^= 0x10;
        fs::write(&table, &bytes).expect("written");
        // Late enough for no message id to be read back.
        let clock = Clock::Manual(Arc::new((START_MS + 3_600_000).into()));
        let store = match Store::open(&fixture.dir(), defaults(1), clock) {
            Ok(store) => store,
            Err(error) => {
                let text = error.to_string();
                assert!(name(&text) && text.contains("Put the whole directory back"), "at {at}: {text}");
                shut += 1;
                continue;
            }
        };
        let (handle, begun) = (store.handle(), clock::now());
        let consumer = block_on(store.consumer(&station, Some(&parse("g")), "tests")).expect("a consumer");
        let failure = loop {
            match fetch(&handle, &station, &consumer, 1_000, 0) {
                Ok(delivered) => assert!(!delivered.messages.is_empty(), "at {at}: all was read"),
                Err(why) if name(&format!("{why:?}")) => break format!("{why:?}"),
                Err(_) => assert!(clock::since(begun) < Duration::from_secs(20), "at {at}: it is found"),
            }
        };
        assert!(failure.contains("Put the whole directory back"), "{failure}");
        assert!(matches!(store.health(), Health::Damaged(text) if name(&text)), "at {at}: {:?}", store.health());
        assert!(store.close(Duration::from_secs(20)));
        opened += 1;
    }
    assert!(opened > 0, "{shut} did not open: the other way was not looked at");
    fs::remove_file(&table).expect("removed");
    let error = open(&fixture.dir()).expect_err("a table is missing").to_string();
    assert!(name(&error) && error.contains("is missing"), "{error}");
}

#[test]
fn a_torn_last_commit_is_dropped_whatever_its_bytes_are() {
    let written = write(6);
    let bytes = written.bytes();
    let before = usize::try_from(written.ends[5]).expect("small");
    let (head, last) = bytes.split_at(before);
    assert!(last.len() > 8_192, "the last one crosses a page");
    let torn = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut last = last.to_vec();
        edit(&mut last);
        [head, &last].concat()
    };
    let garbage: Vec<u8> = (0..5_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let huge_item = [&[1, 1, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0][..], &[0xff; 64]].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a hole in the middle of the payload, the end is whole", torn(&|last| last[4_096..8_192].fill(0))),
        ("a hole at the beginning", torn(&|last| last[..4_096].fill(0))),
        ("a hole at the end", torn(&|last| last[4_096..].fill(0))),
        ("one bit of the payload", torn(&|last| last[5_000] ^= 1)),
        ("the checksum", torn(&|last| *last.iter_mut().rev().nth(6).expect("long") ^= 1)),
        ("garbage instead", [head, &garbage].concat()),
        ("garbage behind half of it", [head, &last[..3_000], &garbage].concat()),
        ("an item of 4 GiB", [head, &huge_item].concat()),
        ("zeros, as allocated", [head, &vec![0; 1 << 20]].concat()),
    ];
    for (case, bytes) in cases {
        check_holds(&written.with_journal(&bytes), 5, case);
    }
}

#[test]
fn damage_before_the_last_commit_is_not_mistaken_for_a_torn_tail() {
    let written = write(4);
    for (case, at) in [("a bit of a payload", 60), ("a batch's beginning", 0), ("an item's tag", 13)] {
        let mut bytes = written.bytes();
        bytes[usize::try_from(written.ends[1]).expect("small") + at] ^= 0x10;
        let dir = written.with_journal(&bytes);
        let error = open(&dir).expect_err("acknowledged records are missing");
        assert!(matches!(error, OpenError::Damaged(..)), "{case}: {error}");
        assert!(error.to_string().contains(&format!("byte {}", written.ends[1])), "{case}: {error}");
        assert_eq!(fs::read(newest_journal(&dir)).expect("read"), bytes, "{case}: nothing was touched");
    }
}
