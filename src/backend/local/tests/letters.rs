//! Records that are read for their own sake and removed one by one: dead letters.

use super::support::{Fixture, START_MS, block_on, defaults, parse, publish, stored};
use crate::{
    backend::local::{Found, Records, StationError, StoredRecord},
    limits::{LOCAL_READ_BYTES_MAX, LOCAL_REMOVED_MAX},
    record::MessageId,
    station::{AttributesChange, Name, Station},
};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Bytes that the test's header field takes.
const HEADER: u64 = 13;

struct DeadLetters {
    fixture: Fixture,
    station: Arc<Station>,
}

impl DeadLetters {
    fn new() -> Self {
        let fixture = Fixture::new(defaults(1));
        let station = block_on(fixture.store().station(&parse("orders").dead_letters(), true)).expect("a station");
        Self { fixture, station }
    }

    fn name(&self) -> &Name {
        &self.station.name
    }

    fn publish(&self, payloads: &[&str]) {
        stored(&publish(&self.fixture.store().handle(), &self.station, payloads, None).expect("published"));
    }

    fn records(&self) -> Records {
        block_on(self.fixture.store().records(self.name())).expect("answered").expect("there")
    }

    fn discard(&self, sequences: Option<&[u64]>) -> u64 {
        let records = self.records();
        let found = sequences.map(|sequences| records.find(sequences).expect("read"));
        block_on(self.fixture.store().discard(&records, found)).expect("discarded")
    }

    /// First, last, records and bytes, as they are listed.
    fn info(&self) -> (u64, u64, u64, u64) {
        let one = self.fixture.info(self.name()).partitions[0];
        (one.first, one.last, one.records, one.bytes)
    }

    fn keep(&self, records: Option<u64>) {
        let change = AttributesChange { retention_records: Some(records), ..AttributesChange::default() };
        block_on(self.fixture.store().change_station(self.name(), &change)).expect("changed");
    }

    /// Entries in the catalog about records that were removed.
    fn remembered(&self) -> usize {
        self.fixture.disk().catalog.prefix(b"d").count()
    }
}

fn sequences(records: &[StoredRecord]) -> Vec<u64> {
    records.iter().map(|record| record.sequence).collect()
}

#[test]
fn records_are_read_in_order_page_by_page() {
    let letters = DeadLetters::new();
    letters.publish(&["a", "", "c"]);
    letters.fixture.advance(Duration::from_secs(5));
    letters.publish(&["d"]);
    let records = letters.records();
    let all = records.read(0, 100).expect("read");
    assert_eq!(sequences(&all), [1, 2, 3, 4]);
    let expect = StoredRecord {
        sequence: 4,
        time_ms: START_MS + 5_000,
        headers: b"X-Test: yes\r\n".to_vec(),
        payload: b"d".to_vec(),
    };
    assert_eq!((all[0].time_ms, &all[3]), (START_MS, &expect));
    for (after, limit, expect) in
        [(0, 2, vec![1, 2]), (2, 2, vec![3, 4]), (4, 2, vec![]), (3, 9, vec![4]), (1, 0, vec![]), (u64::MAX, 1, vec![])]
    {
        assert_eq!(sequences(&records.read(after, limit).expect("read")), expect, "{after} {limit}");
    }
    assert!(block_on(letters.fixture.store().records(&parse("none"))).expect("answered").is_none());
}

#[test]
fn a_page_is_bounded_in_bytes_and_never_empty_before_the_end() {
    let letters = DeadLetters::new();
    let large = "x".repeat(1_000_000);
    for _ in 0..10 {
        letters.publish(&[&large]);
    }
    let records = letters.records();
    let mut after = 0;
    let mut pages = Vec::new();
    while let page = records.read(after, 100).expect("read")
        && let Some(last) = page.last()
    {
        after = last.sequence;
        let bytes: usize = page.iter().map(|one| one.headers.len() + one.payload.len()).sum();
        assert!(bytes <= LOCAL_READ_BYTES_MAX, "{bytes}");
        pages.push(page.len());
    }
    assert_eq!(pages, [8, 2]);
}

#[test]
fn records_are_removed_one_by_one_and_what_is_counted_stays_right() {
    let mut letters = DeadLetters::new();
    letters.publish(&["a", "bb", "ccc", "dddd", "eeeee"]);
    assert_eq!(letters.info(), (1, 5, 5, 5 * HEADER + 15));
    assert_eq!(letters.discard(Some(&[3, 3, 9, 0])), 1, "twice is once, and what is not there does not count");
    assert_eq!(letters.info(), (1, 5, 4, 4 * HEADER + 12));
    assert_eq!(letters.discard(Some(&[3])), 0);
    assert_eq!(letters.discard(Some(&[])), 0);
    for step in ["at once", "after a restart"] {
        assert_eq!(sequences(&letters.records().read(0, 9).expect("read")), [1, 2, 4, 5], "{step}");
        assert_eq!(sequences(&letters.records().read(2, 1).expect("read")), [4], "{step}: what is removed is no page");
        assert_eq!(letters.info(), (1, 5, 4, 4 * HEADER + 12), "{step}");
        letters.fixture.reopen();
    }
    assert_eq!((letters.discard(Some(&[2, 1])), letters.info()), (2, (4, 5, 2, 2 * HEADER + 9)), "the beginning moves");
    assert_eq!(letters.remembered(), 0, "what is in front of all is not remembered");
    assert_eq!((letters.discard(Some(&[5])), letters.info()), (1, (4, 5, 1, HEADER + 4)));
    assert_eq!((letters.discard(None), letters.info()), (1, (6, 5, 0, 0)));
    assert_eq!((letters.discard(None), letters.remembered()), (0, 0));
    letters.publish(&["f"]);
    assert_eq!(letters.info(), (6, 6, 1, HEADER + 1));
    assert_eq!(sequences(&letters.records().read(0, 9).expect("read")), [6]);
}

#[test]
fn what_was_removed_keeps_its_message_id() {
    let letters = DeadLetters::new();
    let id = Some(MessageId { base: "stream:7:group", numbered: None });
    let put = || stored(&publish(&letters.fixture.store().handle(), &letters.station, &["a"], id).expect("published"));
    assert_eq!(put(), [(0, 1, false)]);
    assert_eq!(letters.discard(Some(&[1])), 1);
    assert_eq!(put(), [(0, 1, true)], "the same delivery, told again");
}

#[test]
fn retention_does_not_count_what_was_removed_and_forgets_what_it_passes() {
    let letters = DeadLetters::new();
    letters.publish(&["a", "b", "c", "d", "e", "f"]);
    assert_eq!(letters.discard(Some(&[2, 4, 5])), 3);
    letters.keep(Some(3));
    assert_eq!(letters.fixture.look(&letters.station), (1, 6, 3 * (HEADER + 1)), "three are there");
    letters.keep(Some(2));
    assert_eq!(letters.fixture.look(&letters.station), (3, 6, 2 * (HEADER + 1)));
    assert_eq!((letters.info().2, letters.remembered()), (2, 2));
    letters.keep(Some(1));
    assert_eq!(letters.fixture.look(&letters.station), (6, 6, HEADER + 1));
    assert_eq!((letters.info().2, letters.remembered()), (1, 0));
    // Deleted: nothing is left of what was removed.
    letters.keep(None);
    letters.publish(&["g", "h"]);
    assert_eq!((letters.discard(Some(&[7])), letters.remembered()), (1, 1));
    let records = letters.records();
    assert_eq!(block_on(letters.fixture.store().delete_station(letters.name())), Ok(true));
    assert_eq!(letters.remembered(), 0);
    assert_eq!(records.read(0, 9).expect("read"), []);
    assert_eq!(block_on(letters.fixture.store().discard(&records, None)), Err(StationError::Unknown));
}

#[test]
fn how_much_is_removed_from_between_is_bounded_and_the_rest_is_told_why() {
    let letters = DeadLetters::new();
    let payloads = vec!["x"; 2 * LOCAL_REMOVED_MAX + 3];
    letters.publish(&payloads);
    let records = letters.records();
    let every_other = |from: u64, count: usize| Found((from..).step_by(2).take(count).map(|one| (one, 14)).collect());
    let discard = |found: Found| block_on(letters.fixture.store().discard(&records, Some(found)));
    assert_eq!(discard(every_other(2, LOCAL_REMOVED_MAX)), Ok(LOCAL_REMOVED_MAX as u64));
    let refused = discard(Found(vec![(2 * LOCAL_REMOVED_MAX as u64 + 2, 14)]));
    assert!(matches!(&refused, Err(StationError::Invalid(text)) if text.contains("65536")), "{refused:?}");
    assert_eq!(letters.info().2, LOCAL_REMOVED_MAX as u64 + 3, "nothing of it was done");
    assert_eq!(discard(Found(vec![(1, 14)])), Ok(1), "the oldest makes room");
    assert_eq!(discard(Found(vec![(2 * LOCAL_REMOVED_MAX as u64 + 2, 14)])), Ok(1));
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<u8>),
    /// Of what is there or was: those whose bit is set.
    Discard(u32),
    DiscardAll,
    Keep(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(0_u8..20, 1..8).prop_map(Step::Publish),
        4 => any::<u32>().prop_map(Step::Discard),
        1 => Just(Step::DiscardAll),
        2 => (0_u64..12).prop_map(Step::Keep),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn under_any_order_of_steps_what_is_read_and_counted_is_what_is_there(steps in vec(step(), 1..14)) {
        let mut letters = DeadLetters::new();
        let mut there: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Publish(sizes) => {
                    let texts: Vec<String> = sizes.iter().map(|size| "x".repeat(usize::from(*size))).collect();
                    letters.publish(&texts.iter().map(String::as_str).collect::<Vec<_>>());
                    for size in sizes {
                        last += 1;
                        there.insert(last, HEADER + u64::from(size));
                    }
                }
                Step::Discard(bits) => {
                    let chosen: Vec<u64> = (1..=last).filter(|sequence| bits >> (sequence % 32) & 1 == 1).collect();
                    let gone = chosen.iter().filter(|sequence| there.remove(sequence).is_some()).count();
                    prop_assert_eq!(letters.discard(Some(&chosen)), gone as u64);
                }
                Step::DiscardAll => prop_assert_eq!(letters.discard(None), std::mem::take(&mut there).len() as u64),
                Step::Keep(count) => {
                    letters.keep(Some(count));
                    letters.fixture.look(&letters.station);
                    letters.keep(None);
                    while there.len() as u64 > count {
                        there.pop_first();
                    }
                }
                Step::Reopen => letters.fixture.reopen(),
            }
            let (_, newest, records, bytes) = letters.info();
            prop_assert_eq!((newest, records, bytes), (last, there.len() as u64, there.values().sum::<u64>()));
            let read = letters.records().read(0, 1_000).expect("read");
            prop_assert_eq!(sequences(&read), there.keys().copied().collect::<Vec<_>>());
            let remembered = letters.remembered() as u64;
            prop_assert!(there.first_key_value().is_none_or(|(first, _)| remembered <= last - first), "{}", remembered);
        }
    }
}
