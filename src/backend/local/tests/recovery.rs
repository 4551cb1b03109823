//! After a power cut at any byte: what was acknowledged is there once, and nothing else.
//!
//! A power cut is a copy of the directory whose newest journal ends somewhere, or ends in bytes that were never
//! written. Everything before the copied point was acknowledged, one commit a record.

use super::support::{Fixture, block_on, content, copy_dir, defaults, fetch, parse, publish, stored};
use crate::backend::{
    MessageId,
    local::{Clock, OpenError, Store, journal::Tail},
};
use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
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
        let id = Some(MessageId { base: &id, numbered: false });
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

    /// A copy whose journal holds exactly `bytes`.
    pub(super) fn with_journal(&self, bytes: &[u8]) -> PathBuf {
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
    let clock = Clock::Manual(std::sync::Arc::new(super::support::START_MS.into()));
    Store::open(dir, defaults(1), clock)
}

/// The store opens and holds the first `whole` records, knows their ids, and goes on after them; also when it
/// is closed and opened once more.
fn check_holds(dir: &Path, whole: usize, case: &str) {
    let store = open(dir).unwrap_or_else(|error| panic!("{case}: {error}"));
    let handle = store.handle();
    let station = block_on(store.station(&parse("orders"), false)).unwrap_or_else(|why| panic!("{case}: {why:?}"));
    let consumer = block_on(store.consumer(&station, None)).expect("a consumer");
    let delivered = fetch(&handle, &station, &consumer, 1_000, 0).expect("fetched");
    let expect: Vec<(u16, u64, String)> = (1..=whole).map(|number| (0, number as u64, payload(number))).collect();
    assert_eq!(content(&delivered), expect, "{case}");
    if whole > 0 {
        let id = format!("id-{whole}");
        let id = Some(MessageId { base: &id, numbered: false });
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
    let mut cuts: Vec<usize> = written
        .ends
        .iter()
        .flat_map(|end| {
            let end = usize::try_from(*end).expect("small");
            [end, end + 1, end + 13, end + 14, end + 40, end.saturating_sub(1), end.saturating_sub(5)]
        })
        .filter(|cut| *cut as u64 >= written.ends[0] && *cut <= bytes.len())
        .collect();
    let span = bytes.len() - usize::try_from(written.ends[0]).expect("small");
    cuts.extend((0..24).map(|step| bytes.len() - 1 - step * span / 24));
    for cut in cuts {
        let dir = written.with_journal(&bytes[..cut]);
        check_holds(&dir, written.whole(cut as u64), &format!("cut at {cut}"));
    }
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
