//! Requests that are stored whole or not at all, and header fields that single records have.

use super::{
    recovery::{Written, journal_end, open},
    support::{Fixture, block_on, content, defaults, fetch, parse, spans, stored},
};
use crate::{
    backend::{
        Publish,
        local::{Handle, Store},
    },
    limits::{LOCAL_COMMIT_BYTES_MAX, LOCAL_COMMIT_RECORDS_MAX, LOCAL_RECORD_BYTES_MAX},
    record::{MessageId, Outcome, RecordHeaders},
    reject::{Reject, SizeLimit},
    station::Station,
    wire::Span,
};
use std::{
    pin::pin,
    sync::atomic::Ordering,
    task::{Context, Waker},
    time::Duration,
};

fn publish(handle: &Handle, publish: &Publish<'_>) -> Result<Vec<Outcome>, Reject> {
    let mut outcomes = Vec::new();
    block_on(handle.publish(publish, &mut outcomes)).map(|()| outcomes)
}

fn whole<'a>(station: &'a Station, body: &'a [u8], records: &'a [Span]) -> Publish<'a> {
    Publish { atomic: true, ..Publish::of(station, body, records) }
}

/// Newest sequence of each partition.
fn lasts(store: &Store) -> Vec<u64> {
    let list = block_on(store.stations()).expect("listed");
    list[0].partitions.iter().map(|partition| partition.last).collect()
}

#[test]
fn a_records_own_fields_stand_between_the_common_ones_and_its_id() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let (body, records) = spans(&["a", "b", "c"]);
    let (block, own) = spans(&["Own: 1\r\nMore: 2\r\n", "", "Own: 3\r\n"]);
    let call = Publish {
        headers: b"Common: yes\r\n",
        id: Some(MessageId { base: "id", numbered: Some(0) }),
        record_headers: Some(RecordHeaders { block: &block, spans: &own }),
        indexes: None,
        atomic: false,
        deadline: None,
        ..whole(&station, &body, &records)
    };
    assert_eq!(stored(&publish(&handle, &call).expect("published")), [(0, 1, false), (0, 2, false), (0, 3, false)]);
    fixture.reopen();
    let handle = fixture.store().handle();
    let again = publish(&handle, &call).expect("published");
    assert_eq!(stored(&again), [(0, 1, true), (0, 2, true), (0, 3, true)], "the ids are found behind them");
    let consumer = fixture.consumer(&station, "g");
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    let headers: Vec<String> = delivered
        .messages
        .iter()
        .map(|one| String::from_utf8(one.headers.of(&delivered.arena).to_vec()).expect("text"))
        .collect();
    assert_eq!(
        headers,
        [
            "Common: yes\r\nOwn: 1\r\nMore: 2\r\nNats-Msg-Id: id 0\r\n",
            "Common: yes\r\nNats-Msg-Id: id 1\r\n",
            "Common: yes\r\nOwn: 3\r\nNats-Msg-Id: id 2\r\n"
        ]
    );
    assert_eq!(content(&delivered).into_iter().map(|one| one.2).collect::<Vec<_>>(), ["a", "b", "c"]);
    let bytes: usize = headers.iter().map(|one| one.len() + 1).sum();
    assert_eq!(fixture.info(&station.name).partitions[0].bytes, bytes as u64);
}

#[test]
fn own_fields_count_for_the_size_of_a_record() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let large = "x".repeat(LOCAL_RECORD_BYTES_MAX - 8);
    let (body, records) = spans(&[&large, &large]);
    let (block, own) = spans(&["Own: 1\r\n", "Own: 12\r\n"]);
    let own = Some(RecordHeaders { block: &block, spans: &own });
    let outcomes =
        publish(&handle, &Publish { record_headers: own, atomic: false, ..whole(&station, &body, &records) })
            .expect("done");
    let too_large = Outcome::Failed(Reject::TooLarge(SizeLimit::Record, LOCAL_RECORD_BYTES_MAX as u64));
    assert_eq!((stored(&outcomes[..1]), &outcomes[1]), (vec![(0, 1, false)], &too_large));
}

#[test]
fn one_record_that_cannot_be_stored_keeps_all_the_others_out() {
    let fixture = Fixture::new(defaults(2));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let large = "x".repeat(LOCAL_RECORD_BYTES_MAX + 1);
    let (body, records) = spans(&["a", &large, "c"]);
    let outcomes = publish(&handle, &whole(&station, &body, &records)).expect("answered");
    let too_large = Reject::TooLarge(SizeLimit::Record, LOCAL_RECORD_BYTES_MAX as u64);
    assert_eq!(outcomes, [Reject::NothingStored, too_large, Reject::NothingStored].map(Outcome::Failed));
    assert_eq!(lasts(fixture.store()), [0, 0]);
    // A station that has become smaller behind the caller's back.
    assert_eq!(block_on(fixture.store().delete_station(&station.name)), Ok(true));
    let (body, records) = spans(&["a", "b", "c"]);
    let call = whole(&station, &body, &records);
    assert_eq!(publish(&handle, &call).expect("answered"), vec![Outcome::Failed(Reject::NoStream); 3]);
    let smaller = defaults(1).attributes();
    block_on(fixture.store().create_station(&station.name, &smaller)).expect("made");
    assert_eq!(publish(&handle, &call).expect("answered"), vec![Outcome::Failed(Reject::NoStream); 3]);
    assert_eq!(lasts(fixture.store()), [0]);
}

#[test]
fn what_does_not_go_into_one_commit_is_refused_and_what_just_does_is_stored() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    assert_eq!(station.atomic_records_max as usize, LOCAL_COMMIT_RECORDS_MAX);
    let many = vec![Span { start: 0, end: 1 }; LOCAL_COMMIT_RECORDS_MAX + 1];
    assert!(matches!(publish(&handle, &whole(&station, b"x", &many)), Err(Reject::NotAtomic(_))));
    let body = vec![b'x'; LOCAL_RECORD_BYTES_MAX];
    let much = vec![Span { start: 0, end: u32::try_from(body.len()).expect("small") }; LOCAL_COMMIT_BYTES_MAX >> 20];
    assert!(matches!(publish(&handle, &whole(&station, &body, &much)), Err(Reject::NotAtomic(_))));
    assert_eq!(lasts(fixture.store()), [0]);
    let commits = fixture.store().metrics().commits.get();
    let outcomes = publish(&handle, &whole(&station, b"x", &many[1..])).expect("published");
    assert_eq!(stored(&outcomes).last(), Some(&(0, LOCAL_COMMIT_RECORDS_MAX as u64, false)));
    stored(&publish(&handle, &whole(&station, &body, &much[1..])).expect("published"));
    assert_eq!(fixture.store().metrics().commits.get(), commits + 2, "one each");
}

#[test]
fn duplicates_in_a_whole_request_count_as_stored() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let (body, records) = spans(&["a", "b", "c"]);
    let id = Some(MessageId { base: "id", numbered: Some(0) });
    let call = |count: usize| Publish { id, ..whole(&station, &body, &records[..count]) };
    assert_eq!(stored(&publish(&handle, &call(2)).expect("published")), [(0, 1, false), (0, 2, false)]);
    let again = publish(&handle, &call(3)).expect("published");
    assert_eq!(stored(&again), [(0, 1, true), (0, 2, true), (0, 3, false)]);
}

/// Opens the store with its journal cut at many places; the records that it then holds, each number once.
fn found_after_cuts(written: &Written, cuts: u64) -> Vec<u64> {
    let bytes = written.bytes();
    let (from, to) = (written.ends[0], bytes.len() as u64);
    let mut found = Vec::new();
    for step in 0..=cuts {
        let cut = usize::try_from(from + (to - from) * step / cuts).expect("small");
        let store = open(&written.with_journal(&bytes[..cut])).expect("opens");
        found.push(lasts(&store).iter().sum());
        assert!(store.close(Duration::from_secs(20)));
    }
    found.dedup();
    found
}

#[test]
fn a_whole_request_is_in_one_commit_whatever_comes_before_and_after_it() {
    let fixture = Fixture::new(defaults(3));
    let station = fixture.station("orders");
    let ends = vec![journal_end(&fixture)];
    let part = LOCAL_COMMIT_RECORDS_MAX as u64 * 2 / 3;
    let records = vec![Span { start: 0, end: 1 }; usize::try_from(part).expect("small")];
    let mut outcomes = [const { Vec::new() }; 4];
    {
        let handle = fixture.store().handle();
        let calls = [(&records[..1], false), (&records, false), (&records, true), (&records, false)];
        let publishes = calls.map(|(records, all)| Publish { atomic: all, ..whole(&station, b"x", records) });
        // The first keeps the writer waiting until all of them are queued.
        let shared = &fixture.store().shared;
        shared.is_behind.store(true, Ordering::SeqCst);
        let mut context = Context::from_waker(Waker::noop());
        let [one, two, three, four] = &publishes;
        let [a, b, c, d] = &mut outcomes;
        let mut one = pin!(handle.publish(one, a));
        let mut two = pin!(handle.publish(two, b));
        let mut three = pin!(handle.publish(three, c));
        let mut four = pin!(handle.publish(four, d));
        assert!(one.as_mut().poll(&mut context).is_pending());
        assert!(two.as_mut().poll(&mut context).is_pending());
        assert!(three.as_mut().poll(&mut context).is_pending());
        assert!(four.as_mut().poll(&mut context).is_pending());
        shared.is_behind.store(false, Ordering::SeqCst);
        for call in [one, two, three, four] {
            assert_eq!(block_on(call), Ok(()));
        }
    }
    assert!(outcomes.iter().flatten().all(|one| matches!(one, Outcome::Stored(_))));
    let ends = [ends, vec![journal_end(&fixture)]].concat();
    let written = Written::of(fixture, ends);
    let found = found_after_cuts(&written, 60);
    let before = found.iter().position(|held| *held == 1 + part).expect("the cut before the whole one was found");
    assert!(found[before + 1..].iter().all(|held| *held > 2 * part), "all of it or none: {found:?}");
}

#[test]
fn after_a_crash_a_whole_request_is_there_whole_or_not_at_all() {
    let fixture = Fixture::new(defaults(3));
    let station = fixture.station("orders");
    let handle = fixture.store().handle();
    let texts: Vec<String> = (0..900).map(|number| format!("record {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (body, records) = spans(&texts);
    let mut ends = vec![journal_end(&fixture)];
    for base in ["first", "second"] {
        let id = Some(MessageId { base, numbered: Some(0) });
        stored(&publish(&handle, &Publish { id, ..whole(&station, &body, &records) }).expect("published"));
        ends.push(journal_end(&fixture));
    }
    let written = Written::of(fixture, ends);
    assert_eq!(found_after_cuts(&written, 50), [0, 900, 1_800]);
    // Bytes in the middle of the last one that never reached the disk.
    let [.., before, end] = written.ends.as_slice() else { panic!("three ends") };
    for at in [before + 4_096, (before + end) / 2, end - 4_096] {
        let mut bytes = written.bytes();
        let at = usize::try_from(at).expect("small");
        bytes[at..at + 512].fill(0);
        let store = open(&written.with_journal(&bytes)).expect("opens");
        assert_eq!(lasts(&store).iter().sum::<u64>(), 900, "torn at {at}");
        let name = parse("orders");
        assert_eq!(block_on(store.station(&name, false)).expect("there").partitions.len(), 3);
        assert!(store.close(Duration::from_secs(20)));
    }
}
