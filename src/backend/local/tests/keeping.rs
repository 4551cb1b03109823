//! Retention: the oldest go first, readers never see them again, and their space comes back.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, publish, stored, with};
use crate::{
    backend::{
        Publish,
        local::{format, messages::RetentionCommand},
    },
    record::MessageId,
    rt::clock,
    station::Station,
    wire::Span,
};
use std::{sync::atomic::Ordering, thread, time::Duration};

/// Bytes that the test's header field takes.
const HEADER: u64 = 13;

impl Fixture {
    /// The retention thread has looked at everything and the writer has done what it asked for.
    pub(super) fn look(&self, station: &Station) -> (u64, u64, u64) {
        let (done, seen) = flume::bounded(1);
        self.store().keep.send(RetentionCommand::Look(done)).expect("the thread runs");
        seen.recv().expect("it looked");
        let list = block_on(self.store().stations()).expect("listed");
        let info = list.iter().find(|one| one.station.name == station.name).expect("there").partitions[0];
        (info.first, info.last, info.bytes)
    }
}

#[test]
fn what_is_over_a_limit_goes_oldest_first() {
    let age = with(1, |attributes| attributes.retention_age = Some(Duration::from_secs(100)));
    let records = with(1, |attributes| attributes.retention_records = Some(4));
    let bytes = with(1, |attributes| attributes.retention_bytes = Some(3 * (HEADER + 1)));
    // Ten records, one every ten seconds; the newest is 10 s old.
    for (name, defaults, expect_first) in
        [("age", age, 2), ("records", records, 7), ("bytes", bytes, 8), ("none", defaults(1), 1)]
    {
        let mut fixture = Fixture::new(defaults);
        let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
        for _ in 0..10 {
            publish(&handle, &station, &["x"], None).expect("published");
            fixture.advance(Duration::from_secs(10));
        }
        let kept = 11 - expect_first;
        let expect = (expect_first, 10, kept * (HEADER + 1));
        assert_eq!(fixture.look(&station), expect, "{name}");
        assert_eq!(fixture.look(&station), expect, "{name}: once is enough");
        fixture.reopen();
        assert_eq!(fixture.look(&station), expect, "{name}: after a restart");
        let handle = fixture.store().handle();
        let consumer = fixture.consumer(&station, "g");
        let delivered = fetch(&handle, &station, &consumer, 100, 0).expect("fetched");
        let sequences: Vec<u64> = delivered.messages.iter().map(|one| one.sequence).collect();
        assert_eq!(sequences, (expect_first..=10).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_partition_that_lost_all_its_records_goes_on_counting_and_knows_its_ids() {
    let mut fixture = Fixture::new(with(1, |attributes| attributes.retention_age = Some(Duration::from_secs(10))));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let id = Some(MessageId { base: "x", numbered: None });
    publish(&handle, &station, &["a"], id).expect("published");
    publish(&handle, &station, &["b"], None).expect("published");
    fixture.advance(Duration::from_secs(10));
    assert_eq!(fixture.look(&station), (3, 2, 0));
    let again = publish(&handle, &station, &["a"], id).expect("published");
    assert_eq!(stored(&again), [(0, 1, true)], "the window is longer than the record's life");
    fixture.reopen();
    assert_eq!(fixture.look(&station), (3, 2, 0));
    let handle = fixture.store().handle();
    assert_eq!(stored(&publish(&handle, &station, &["c"], None).expect("published")), [(0, 3, false)]);
}

#[test]
fn a_group_goes_on_behind_what_retention_took() {
    let fixture = Fixture::new(with(1, |attributes| attributes.retention_records = Some(2)));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    publish(&handle, &station, &["a", "b", "c", "d"], None).expect("published");
    let first = fetch(&handle, &station, &consumer, 3, 0).expect("fetched");
    assert_eq!(fixture.look(&station).0, 3);
    acknowledge(&handle, &consumer, &crate::backend::Delivered { messages: first.messages[..1].to_vec(), ..first });
    publish(&handle, &station, &["e", "f", "g"], None).expect("published");
    assert_eq!(fixture.look(&station).0, 6);
    fixture.advance(consumer.ack_wait);
    publish(&handle, &fixture.station("elsewhere"), &["tick"], None).expect("published");
    let rest = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    let texts: Vec<String> = content(&rest).into_iter().map(|one| one.2).collect();
    assert_eq!(texts, ["f", "g"], "neither b, c (not acknowledged in time) nor d, e (never handed out)");
}

/// Records that lie on disk, dead ones too.
fn on_disk(fixture: &Fixture) -> usize {
    fixture.disk().records.range::<&[u8], _>(..).count()
}

#[test]
fn tables_of_dead_records_are_dropped_whole() {
    let fixture = Fixture::new(with(1, |attributes| attributes.retention_bytes = Some(3_000_000)));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let payload = "x".repeat(900_000);
    let flush = || fixture.disk().records.rotate_memtable_and_wait().expect("flushed");
    for _ in 0..4 {
        for _ in 0..12 {
            publish(&handle, &station, &[&payload], None).expect("published");
        }
        flush();
    }
    // The first look retires, the second finds it done and gives the space back.
    for _ in 0..2 {
        assert_eq!(fixture.look(&station).0, 46);
    }
    let left = on_disk(&fixture);
    assert!(left <= 12, "{left} records are left of 48, 3 of them alive");
    let bytes = fixture.disk().records.disk_space();
    assert!(bytes < 24 * 900_000, "{bytes} bytes for 3 records of 900,000");
    let consumer = fixture.consumer(&station, "g");
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    assert_eq!(content(&delivered).first().map(|one| (one.1, one.2.len())), Some((46, 900_000)));
}

#[test]
fn a_compaction_drops_dead_records_and_no_living_one() {
    let mut fixture = Fixture::new(with(2, |attributes| attributes.retention_records = Some(10)));
    let handle = fixture.store().handle();
    let (kept, gone) = (fixture.station("kept"), fixture.station("gone"));
    for station in [&kept, &gone] {
        for _ in 0..50 {
            publish(&handle, station, &["a", "b"], None).expect("published");
        }
    }
    fixture.disk().records.rotate_memtable_and_wait().expect("flushed");
    assert_eq!(on_disk(&fixture), 200);
    fixture.look(&kept);
    fixture.look(&kept);
    assert_eq!(block_on(fixture.store().delete_station(&gone.name)), Ok(true));
    fixture.look(&kept);
    fixture.disk().records.major_compact().expect("compacted");
    assert_eq!(on_disk(&fixture), 20, "ten in each of two partitions");
    fixture.reopen();
    // The journal may bring dead records back; nobody sees them, and the next compaction drops them again.
    fixture.disk().records.rotate_memtable_and_wait().expect("flushed");
    fixture.disk().records.major_compact().expect("compacted");
    assert_eq!(on_disk(&fixture), 20, "also with floors that were read back");
    let handle = fixture.store().handle();
    let consumer = fixture.consumer(&kept, "g");
    assert_eq!(fetch(&handle, &kept, &consumer, 100, 0).expect("fetched").messages.len(), 20);
}

#[test]
fn what_was_deleted_before_a_restart_stays_dead() {
    let mut fixture = Fixture::new(defaults(1));
    let handle = fixture.store().handle();
    let (kept, gone) = (fixture.station("kept"), fixture.station("gone"));
    publish(&handle, &gone, &["a", "b"], None).expect("published");
    publish(&handle, &kept, &["c"], None).expect("published");
    let consumer = fixture.consumer(&gone, "g");
    let delivered = fetch(&handle, &gone, &consumer, 1, 0).expect("fetched");
    acknowledge(&handle, &consumer, &delivered);
    assert_eq!(block_on(fixture.store().delete_station(&gone.name)), Ok(true));
    fixture.reopen();
    fixture.disk().records.rotate_memtable_and_wait().expect("flushed");
    fixture.disk().records.major_compact().expect("compacted");
    let keys = fixture.disk().records.range::<&[u8], _>(..).map(|item| item.key().expect("read").to_vec());
    let places: Vec<_> = keys.filter_map(|key| format::parse_record_key(&key)).collect();
    assert_eq!(places.iter().map(|(_, sequence)| *sequence).collect::<Vec<_>>(), [1], "only what is kept");
    assert_eq!(fixture.disk().cursors.iter().count(), 0);
}

#[test]
fn a_record_from_the_future_grows_old_from_when_it_was_seen() {
    let year_ms = 365 * 24 * 3_600_000;
    let fixture = Fixture::new(with(1, |attributes| attributes.retention_age = Some(Duration::from_secs(100))));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    fixture.now.fetch_add(year_ms, Ordering::SeqCst);
    publish(&handle, &station, &["a", "b"], None).expect("published");
    fixture.now.fetch_sub(year_ms, Ordering::SeqCst);
    publish(&handle, &station, &["c"], None).expect("published");
    assert_eq!(fixture.look(&station).0, 1, "first seen");
    fixture.advance(Duration::from_secs(99));
    assert_eq!(fixture.look(&station).0, 1);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(fixture.look(&station).0, 4, "and what is behind it has its own time");
    publish(&handle, &station, &["d"], None).expect("published");
    fixture.advance(Duration::from_secs(99));
    assert_eq!(fixture.look(&station).0, 4);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(fixture.look(&station).0, 5);
}

#[test]
fn more_than_one_look_can_take_goes_at_once_all_the_same() {
    let fixture = Fixture::new(with(1, |attributes| attributes.retention_records = Some(1)));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let records = vec![Span { start: 0, end: 1 }; 300_000];
    let publish = Publish::of(&station, b"x", &records);
    block_on(handle.publish(&publish, &mut Vec::new())).expect("published");
    // Nineteen looks, of which all but the first follow in milliseconds; a quarter of a second each would be 4.75 s.
    let begun = clock::now();
    loop {
        let list = block_on(fixture.store().stations()).expect("listed");
        if list[0].partitions[0].first == 300_000 {
            break;
        }
        assert!(clock::since(begun) < Duration::from_secs(4), "{:?}", list[0].partitions[0]);
        thread::sleep(Duration::from_millis(5));
    }
}
