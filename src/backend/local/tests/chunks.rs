//! Records lie on disk in chunks; nobody who reads, retires or repeats them notices.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, publish, stored, with};
use crate::{
    backend::{
        Delivered, Publish, Settlement,
        local::{Handle, format, messages::RetentionCommand},
    },
    limits::{LOCAL_CHUNK_BYTES_MAX, LOCAL_CHUNK_RECORDS_MAX},
    record::MessageId,
    station::Station,
    wire::Span,
};

const CHUNK: u64 = LOCAL_CHUNK_RECORDS_MAX as u64;

/// Publishes `from..=to`, each number its own record, in one request.
fn publish_numbers(handle: &Handle, station: &Station, from: u64, to: u64, id: Option<&str>) -> Vec<(u16, u64, bool)> {
    let texts: Vec<String> = (from..=to).map(|number| number.to_string()).collect();
    let payloads: Vec<&str> = texts.iter().map(String::as_str).collect();
    let id = id.map(|base| MessageId { base, numbered: Some(0) });
    stored(&publish(handle, station, &payloads, id).expect("published"))
}

/// The last sequence of each chunk that lies on disk.
fn ends(fixture: &Fixture) -> Vec<u64> {
    let keys = fixture.disk().records.range::<&[u8], _>(..).map(|item| item.key().expect("read").to_vec());
    keys.filter_map(|key| format::parse_record_key(&key)).map(|(_, last)| last).collect()
}

fn look(fixture: &Fixture) {
    let (done, seen) = flume::bounded(1);
    fixture.store().keep.send(RetentionCommand::Look(done)).expect("the thread runs");
    seen.recv().expect("it looked");
    // The writer has done what it was asked for.
    block_on(fixture.store().stations()).expect("listed");
}

fn numbers(delivered: &Delivered) -> Vec<u64> {
    let content = content(delivered);
    assert!(content.iter().all(|(_, sequence, text)| sequence.to_string() == *text), "each in its place: {content:?}");
    content.into_iter().map(|(_, sequence, _)| sequence).collect()
}

#[test]
fn what_is_read_does_not_depend_on_where_chunks_end() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let last = 2 * CHUNK + 90;
    publish_numbers(&handle, &station, 1, last, None);
    assert_eq!(ends(&fixture), [CHUNK, 2 * CHUNK, last], "one request, three chunks");
    publish_numbers(&handle, &station, last + 1, last + 10, None);
    assert_eq!(ends(&fixture), [CHUNK, 2 * CHUNK, last, last + 10], "a commit adds its own");
    for (group, records_max, reopens) in [("ones", 1, false), ("sevens", 7, false), ("much", 300, true)] {
        if reopens {
            fixture.disk().records.rotate_memtable_and_wait().expect("flushed");
            fixture.reopen();
        }
        let handle = fixture.store().handle();
        let consumer = fixture.consumer(&station, group);
        let mut found = Vec::new();
        while found.len() < usize::try_from(last + 10).expect("small") {
            let delivered = fetch(&handle, &station, &consumer, records_max, 0).expect("fetched");
            acknowledge(&handle, &consumer, &delivered);
            found.extend(numbers(&delivered));
        }
        assert_eq!(found, (1..=last + 10).collect::<Vec<_>>(), "{group}");
    }
}

#[test]
fn single_records_out_of_the_middle_come_again() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    publish_numbers(&handle, &station, 1, CHUNK + 50, None);
    let consumer = fixture.consumer(&station, "g");
    let all = fetch(&handle, &station, &consumer, 1_000, 0).expect("fetched");
    let (back, done): (Vec<_>, Vec<_>) =
        all.messages.iter().copied().partition(|one| [1, 77, CHUNK, CHUNK + 1, CHUNK + 50].contains(&one.sequence));
    let arena = all.arena;
    acknowledge(&handle, &consumer, &Delivered { arena: arena.clone(), messages: done });
    handle.settle(&station.name, &consumer, &Delivered { arena, messages: back }, Settlement::Redeliver);
    let again = fetch(&handle, &station, &consumer, 1_000, 0).expect("fetched");
    assert_eq!(numbers(&again), [1, 77, CHUNK, CHUNK + 1, CHUNK + 50]);
}

#[test]
fn a_limit_that_falls_into_a_chunk_is_exact() {
    let kept = CHUNK + 100;
    let mut fixture = Fixture::new(with(1, |attributes| attributes.retention_records = Some(kept)));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let last = 3 * CHUNK;
    publish_numbers(&handle, &station, 1, last, None);
    for step in ["at once", "compacted", "after a restart"] {
        match step {
            "compacted" => {
                fixture.disk().records.rotate_memtable_and_wait().expect("flushed");
                fixture.disk().records.major_compact().expect("compacted");
                assert_eq!(ends(&fixture), [2 * CHUNK, last], "what is all dead is gone, what lives in part is not");
            }
            "after a restart" => fixture.reopen(),
            _ => {}
        }
        look(&fixture);
        look(&fixture);
        let info = block_on(fixture.store().stations()).expect("listed")[0].partitions[0];
        assert_eq!((info.first, info.last), (last - kept + 1, last), "{step}");
        let handle = fixture.store().handle();
        let consumer = fixture.consumer(&station, &step.replace(' ', "_"));
        let delivered = fetch(&handle, &station, &consumer, 2_000, 0).expect("fetched");
        assert_eq!(numbers(&delivered), (last - kept + 1..=last).collect::<Vec<_>>(), "{step}");
        let bytes: usize = delivered.messages.iter().map(|one| one.headers.len() + one.payload.len()).sum();
        assert_eq!(info.bytes, bytes as u64, "{step}: bytes are those of what is kept");
    }
}

#[test]
fn ids_inside_chunks_are_known_after_a_restart() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let count = CHUNK + 20;
    let first = publish_numbers(&handle, &station, 1, count, Some("batch"));
    fixture.reopen();
    let handle = fixture.store().handle();
    let again = publish_numbers(&handle, &station, 1, count + 5, Some("batch"));
    let expect: Vec<_> = (1..=count + 5).map(|sequence| (0, sequence, sequence <= count)).collect();
    assert_eq!(again, expect, "what was stored is a duplicate, what is new is not");
    assert!(first.iter().all(|(_, _, duplicate)| !duplicate));
}

#[test]
fn large_and_small_records_of_one_request_keep_their_order() {
    let fixture = Fixture::new(defaults(2));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let sizes = [1, LOCAL_CHUNK_BYTES_MAX, 10, 3 * LOCAL_CHUNK_BYTES_MAX, 0, LOCAL_CHUNK_BYTES_MAX - 100, 5, 5, 5];
    let body: Vec<u8> = sizes.iter().enumerate().flat_map(|(at, size)| vec![b"abcdefghi"[at]; *size]).collect();
    let mut at = 0;
    let records: Vec<Span> = sizes
        .iter()
        .map(|size| {
            let start = at;
            at += u32::try_from(*size).expect("small");
            Span { start, end: at }
        })
        .collect();
    let mut outcomes = Vec::new();
    let call = Publish::of(&station, &body, &records);
    block_on(handle.publish(&call, &mut outcomes)).expect("published");
    let places = stored(&outcomes);
    let consumer = fixture.consumer(&station, "g");
    let found = content(&fetch(&handle, &station, &consumer, 100, 0).expect("fetched"));
    assert_eq!(found.len(), sizes.len());
    for ((partition, sequence, _), span) in places.iter().zip(&records) {
        let text = String::from_utf8(span.of(&body).to_vec()).expect("text");
        assert!(found.contains(&(*partition, *sequence, text)), "record {sequence} of partition {partition}");
    }
}
