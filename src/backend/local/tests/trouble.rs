//! A store that cannot write, or is asked for too much, says so and stays right.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, parse, publish, stored};
use crate::{
    backend::{
        Publish,
        local::{
            Clock, Health, Store,
            messages::{Job, Request, RetentionCommand},
        },
    },
    limits::{
        HOLD, LOCAL_COMMIT_BYTES_MAX, LOCAL_COMMIT_RECORDS_MAX, LOCAL_QUEUE_BYTES_MAX, LOCAL_RECORDS_MEMTABLE_BYTES,
        LOCAL_SEALED_MEMTABLES_MAX, Limits,
    },
    record::{MessageId, Outcome},
    reject::Reject,
    rt::clock,
    wire::Span,
};
use fjall::AbstractTree;
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Barrier, atomic::Ordering},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_what_was_is_still_read() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    publish(&handle, &station, &["before"], None).expect("published");
    fixture.store().shared.fail_next_commit.store(true, Ordering::SeqCst);
    let outcomes = publish(&handle, &station, &["a", "b"], None).expect("answered");
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Failed(Reject::StoreFailed(_))), "{outcome:?}");
    }
    assert!(matches!(fixture.store().health(), Health::ReadOnly(_)));
    assert!(matches!(publish(&handle, &station, &["c"], None), Err(Reject::StoreReadOnly(_))), "not tried again");
    assert!(block_on(fixture.store().registry_put("a", b"", None)).is_err());
    assert!(block_on(fixture.store().station(&parse("new"), true)).is_err());
    assert_eq!(block_on(fixture.store().station(&parse("orders"), true)), Ok(Arc::clone(&station)));
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    assert_eq!(content(&delivered), [(0, 1, "before".to_owned())]);
    acknowledge(&handle, &consumer, &delivered);
    fixture.reopen();
    let handle = fixture.store().handle();
    assert_eq!(stored(&publish(&handle, &station, &["d"], None).expect("published")), [(0, 2, false)]);
}

#[test]
fn jobs_of_one_commit_that_fails_all_fail_also_a_duplicate_of_one_of_them() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    fixture.store().shared.fail_next_commit.store(true, Ordering::SeqCst);
    let id = Some(MessageId { base: "same", numbered: None });
    let outcomes = publish(&handle, &station, &["a", "a"], id).expect("answered");
    assert!(outcomes.iter().all(|one| matches!(one, Outcome::Failed(Reject::StoreFailed(_)))), "{outcomes:?}");
}

#[test]
fn a_queue_that_is_full_refuses_and_takes_again_when_it_is_not() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let share = fixture.store().shared.share(LOCAL_QUEUE_BYTES_MAX, usize::MAX).expect("taken");
    assert_eq!(publish(&handle, &station, &["a"], None), Err(Reject::Overloaded("the embedded store's queue")));
    drop(share);
    assert_eq!(stored(&publish(&handle, &station, &["a"], None).expect("published")), [(0, 1, false)]);
}

#[test]
fn a_request_larger_than_a_commit_is_stored_whole_and_in_order() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let count = LOCAL_COMMIT_RECORDS_MAX * 2 + 100;
    let records = vec![Span { start: 0, end: 3 }; count];
    let publish = Publish::of(&station, b"abc", &records);
    let mut outcomes = Vec::new();
    block_on(handle.publish(&publish, &mut outcomes)).expect("published");
    let expect: Vec<(u16, u64, bool)> = (1..=count as u64).map(|sequence| (0, sequence, false)).collect();
    assert_eq!(stored(&outcomes), expect);
}

#[test]
fn one_id_from_many_shards_at_once_is_stored_once() {
    let fixture = Fixture::new(defaults(4));
    let station = fixture.station("orders");
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (handle, station, start) = (fixture.store().handle(), Arc::clone(&station), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let id = Some(MessageId { base: "same", numbered: None });
                stored(&publish(&handle, &station, &["x"], id).expect("published"))
            })
        })
        .collect();
    let places: Vec<(u16, u64, bool)> = threads.into_iter().flat_map(|one| one.join().expect("ends")).collect();
    assert_eq!(places.iter().filter(|(_, _, duplicate)| !duplicate).count(), 1);
    assert!(places.iter().all(|(partition, sequence, _)| (*partition, *sequence) == (places[0].0, 1)), "{places:?}");
}

#[test]
fn a_publisher_that_goes_away_leaves_the_store_whole() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    {
        let records = [Span { start: 0, end: 1 }];
        let gone = Publish::of(&station, b"a", &records);
        let mut outcomes = Vec::new();
        let mut future = pin!(handle.publish(&gone, &mut outcomes));
        assert!(matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    }
    assert_eq!(stored(&publish(&handle, &station, &["b"], None).expect("published")), [(0, 2, false)]);
}

#[test]
fn records_are_held_for_as_long_as_the_limits_say() {
    let dir = tempfile::tempdir().expect("a directory");
    for (hold_ms, ack_timeout_ms, expect_ms) in [(100, 10_000, 100), (5_000, 300, 150)] {
        let limits = Limits {
            hold: Duration::from_millis(hold_ms),
            ack_timeout: Duration::from_millis(ack_timeout_ms),
            ..Limits::default()
        };
        let store = Store::open_within(&limits, dir.path(), defaults(1), Clock::system()).expect("opens");
        let station = block_on(store.station(&parse("orders"), true)).expect("a station");
        store.shared.is_behind.store(true, Ordering::SeqCst);
        let begun = clock::now();
        let outcomes = publish(&store.handle(), &station, &["a"], None).expect("answered");
        assert_eq!(outcomes, vec![Outcome::Failed(Reject::Overloaded("the embedded store's queue"))]);
        let waited = clock::since(begun);
        let expect = Duration::from_millis(expect_ms);
        assert!(waited >= expect && waited < expect + Duration::from_secs(2), "{waited:?}");
        assert!(store.close(Duration::from_secs(20)));
    }
}

#[test]
fn a_database_that_falls_behind_makes_records_wait_and_then_be_refused() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    publish(&handle, &station, &["before"], None).expect("published");
    let behind = |is: bool| fixture.store().shared.is_behind.store(is, Ordering::SeqCst);
    behind(true);
    let begun = clock::now();
    let outcomes = publish(&handle, &station, &["a", "b"], None).expect("answered");
    assert_eq!(outcomes, vec![Outcome::Failed(Reject::Overloaded("the embedded store's queue")); 2]);
    assert!(clock::since(begun) >= HOLD);
    assert_eq!(fixture.store().health(), Health::Writable, "it is slow, not broken");
    // What nobody waits for is kept: the acknowledgement is saved when there is room again.
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    acknowledge(&handle, &consumer, &delivered);
    let late = thread::spawn({
        let (handle, station) = (handle.clone(), Arc::clone(&station));
        move || publish(&handle, &station, &["c"], None)
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!late.is_finished(), "it waits");
    behind(false);
    assert_eq!(stored(&late.join().expect("ends").expect("published")), [(0, 2, false)]);
    let mut fixture = fixture;
    fixture.reopen();
    let handle = fixture.store().handle();
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    assert_eq!(content(&delivered), [(0, 2, "c".to_owned())]);
}

#[test]
fn memtables_are_written_out_without_being_asked_for() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let payload = "x".repeat(1_000_000);
    let disk = fixture.disk();
    let records = &disk.records;
    let limit = LOCAL_RECORDS_MEMTABLE_BYTES + LOCAL_COMMIT_BYTES_MAX as u64 + (1 << 20);
    for _ in 0..40 {
        publish(&handle, &station, &[&payload, &payload, &payload], None).expect("published");
        assert!(records.tree.active_memtable().size() <= limit);
        assert!(records.sealed_memtable_count() <= LOCAL_SEALED_MEMTABLES_MAX);
    }
    let begun = clock::now();
    while records.table_count() == 0 || records.sealed_memtable_count() > 0 {
        assert!(clock::since(begun) < Duration::from_secs(20), "they are written out");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_thread_that_has_ended_is_reported() {
    for (at, name) in ["store-writer", "store-reader", "store-retention"].into_iter().enumerate() {
        let fixture = Fixture::new(defaults(1));
        let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
        let store = fixture.store();
        assert_eq!(store.health(), Health::Writable);
        match at {
            0 => store.writer.send(Job::Close).expect("sent"),
            1 => store.reader.send(Request::Close).expect("sent"),
            _ => store.keep.send(RetentionCommand::Close).expect("sent"),
        }
        let begun = clock::now();
        while store.health() == Health::Writable && clock::since(begun) < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(store.health(), Health::Failed(name));
        assert_eq!(publish(&handle, &station, &["a"], None).is_err(), at == 0, "{name}");
    }
}
