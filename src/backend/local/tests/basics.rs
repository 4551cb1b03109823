//! Publish, fetch, settle, restart: the plain way.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, parse, publish, stored};
use crate::{
    backend::{
        Settlement,
        local::{Clock, Health, OpenError, PutError, Store},
    },
    limits::LOCAL_RECORD_BYTES_MAX,
    record::{MessageId, Outcome},
    reject::{Reject, SizeLimit},
};
use std::{os::unix::fs::PermissionsExt, time::Duration};

fn single(base: &str) -> MessageId<'_> {
    MessageId { base, numbered: None }
}

#[test]
fn what_was_published_comes_out_once_in_order_with_dense_sequences() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    let outcomes = publish(&handle, &station, &["a", "", "c"], None).expect("published");
    assert_eq!(stored(&outcomes), [(0, 1, false), (0, 2, false), (0, 3, false)]);
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    let expect = [(0, 1, "a".to_owned()), (0, 2, String::new()), (0, 3, "c".to_owned())];
    assert_eq!(content(&delivered), expect);
    assert_eq!(delivered.messages[0].headers.of(&delivered.arena), b"X-Test: yes\r\n");
    acknowledge(&handle, &consumer, &delivered);
    assert!(fetch(&handle, &station, &consumer, 10, 0).expect("fetched").messages.is_empty());
    let other = fixture.consumer(&station, "other");
    assert_eq!(
        content(&fetch(&handle, &station, &other, 10, 0).expect("fetched")),
        expect,
        "a new group reads from the first"
    );
}

#[test]
fn records_registry_and_positions_survive_a_restart() {
    let mut fixture = Fixture::new(defaults(1));
    let station = fixture.station("orders");
    {
        let handle = fixture.store().handle();
        let consumer = fixture.consumer(&station, "g");
        publish(&handle, &station, &["a", "b", "c"], None).expect("published");
        let delivered = fetch(&handle, &station, &consumer, 2, 0).expect("fetched");
        let one =
            crate::backend::Delivered { arena: delivered.arena.clone(), messages: delivered.messages[..1].to_vec() };
        acknowledge(&handle, &consumer, &one);
        assert_eq!(block_on(fixture.store().registry_put("user/root", b"doc", Some(0))), Ok(1));
    }
    fixture.reopen();
    let handle = fixture.store().handle();
    assert_eq!(block_on(fixture.store().station(&parse("orders"), false)), Ok(fixture.station("orders")));
    let consumer = fixture.consumer(&station, "g");
    let outcomes = publish(&handle, &station, &["d"], None).expect("published");
    assert_eq!(stored(&outcomes), [(0, 4, false)]);
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    let sequences: Vec<u64> = delivered.messages.iter().map(|one| one.sequence).collect();
    assert_eq!(sequences, [2, 3, 4], "1 was acknowledged, 2 was in flight");
    let document = fixture.store().registry_get("user/root").expect("read").expect("there");
    assert_eq!((document.revision, document.value.as_slice()), (1, b"doc".as_slice()));
    assert_eq!(block_on(fixture.store().registry_put("other", b"", None)), Ok(2), "revisions go on");
}

#[test]
fn a_message_id_is_stored_once_within_its_window_also_after_a_restart() {
    let mut fixture = Fixture::new(defaults(1));
    let station = fixture.station("orders");
    let handle = fixture.store().handle();
    assert_eq!(stored(&publish(&handle, &station, &["a"], Some(single("x"))).expect("published")), [(0, 1, false)]);
    assert_eq!(stored(&publish(&handle, &station, &["b"], Some(single("x"))).expect("published")), [(0, 1, true)]);
    let batch = Some(MessageId { base: "y", numbered: Some(0) });
    let outcomes = publish(&handle, &station, &["p", "q"], batch).expect("published");
    assert_eq!(stored(&outcomes), [(0, 2, false), (0, 3, false)]);
    fixture.reopen();
    let handle = fixture.store().handle();
    let outcomes = publish(&handle, &station, &["p", "q", "r"], batch).expect("published");
    assert_eq!(stored(&outcomes), [(0, 2, true), (0, 3, true), (0, 4, false)]);
    fixture.advance(Duration::from_secs(120));
    assert_eq!(stored(&publish(&handle, &station, &["b"], Some(single("x"))).expect("published")), [(0, 5, false)]);
    let consumer = fixture.consumer(&station, "g");
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    let headers = delivered.messages[1].headers.of(&delivered.arena);
    assert_eq!(headers, b"X-Test: yes\r\nNats-Msg-Id: y 0\r\n");
}

#[test]
fn the_same_id_twice_in_one_request_is_stored_once() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let outcomes = publish(&handle, &station, &["a", "b"], Some(single("x"))).expect("published");
    assert_eq!(stored(&outcomes), [(0, 1, false), (0, 1, true)]);
}

#[test]
fn records_spread_over_partitions_and_all_partitions_are_read() {
    let fixture = Fixture::new(defaults(3));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    let texts: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let payloads: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut places = stored(&publish(&handle, &station, &payloads, None).expect("published"));
    places.sort_unstable();
    let expect: Vec<(u16, u64, bool)> = (0..3).flat_map(|p| (1..=3).map(move |s| (p, s, false))).collect();
    assert_eq!(places, expect, "three to each");
    let delivered = fetch(&handle, &station, &consumer, 100, 0).expect("fetched");
    let order: Vec<(u16, u64)> = delivered.messages.iter().map(|one| (one.partition, one.sequence)).collect();
    assert_eq!(order, expect.iter().map(|(p, s, _)| (*p, *s)).collect::<Vec<_>>());
}

#[test]
fn a_record_over_the_limit_fails_alone() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let large = "x".repeat(LOCAL_RECORD_BYTES_MAX);
    let outcomes = publish(&handle, &station, &["a", &large, "c"], None).expect("published");
    let limit = LOCAL_RECORD_BYTES_MAX as u64;
    assert_eq!(outcomes[1], Outcome::Failed(Reject::TooLarge(SizeLimit::Record, limit)));
    assert_eq!(stored(&[outcomes[0].clone(), outcomes[2].clone()]), [(0, 1, false), (0, 2, false)]);
    let fits = "x".repeat(LOCAL_RECORD_BYTES_MAX - "X-Test: yes\r\n".len());
    assert_eq!(stored(&publish(&handle, &station, &[&fits], None).expect("published")), [(0, 3, false)]);
}

#[test]
fn what_is_not_settled_comes_again_and_what_is_given_back_comes_at_once() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    publish(&handle, &station, &["a", "b", "c"], None).expect("published");
    let first = fetch(&handle, &station, &consumer, 2, 0).expect("fetched");
    handle.settle(&station.name, &consumer, &first, Settlement::Redeliver);
    let again = fetch(&handle, &station, &consumer, 3, 0).expect("fetched");
    assert_eq!(content(&again).iter().map(|one| one.1).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(fetch(&handle, &station, &consumer, 3, 0).expect("fetched").messages.is_empty(), "in flight");
    fixture.advance(consumer.ack_wait);
    let expired = fetch(&handle, &station, &consumer, 3, 0).expect("fetched");
    // The reader learns of the time with the next request; the one after that sees what has expired.
    let expired =
        if expired.messages.is_empty() { fetch(&handle, &station, &consumer, 3, 0).expect("fetched") } else { expired };
    assert_eq!(content(&expired).iter().map(|one| one.1).collect::<Vec<_>>(), [1, 2, 3]);
    handle.settle(&station.name, &consumer, &again, Settlement::Redeliver);
    assert!(
        fetch(&handle, &station, &consumer, 3, 0).expect("fetched").messages.is_empty(),
        "a late word takes nothing"
    );
    acknowledge(&handle, &consumer, &again);
    fixture.advance(consumer.ack_wait);
    for _ in 0..2 {
        assert!(fetch(&handle, &station, &consumer, 3, 0).expect("fetched").messages.is_empty(), "a late yes counts");
    }
}

#[test]
fn a_message_says_how_often_it_was_handed_out() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let (consumer, other) = (fixture.consumer(&station, "g"), fixture.consumer(&station, "other"));
    publish(&handle, &station, &["a", "b"], None).expect("published");
    let deliveries = |consumer: &crate::station::Consumer, settlement: Option<Settlement>| {
        // The reader learns of the time with the first request; the second one sees what has expired.
        let first = fetch(&handle, &station, consumer, 10, 0).expect("fetched");
        let delivered =
            if first.messages.is_empty() { fetch(&handle, &station, consumer, 10, 0).expect("fetched") } else { first };
        if let Some(settlement) = settlement {
            handle.settle(&station.name, consumer, &delivered, settlement);
        }
        delivered.messages.iter().map(|one| (one.sequence, one.deliveries)).collect::<Vec<_>>()
    };
    assert_eq!(deliveries(&consumer, Some(Settlement::Redeliver)), [(1, 1), (2, 1)]);
    assert_eq!(deliveries(&consumer, None), [(1, 2), (2, 2)], "given back");
    fixture.advance(consumer.ack_wait);
    assert_eq!(deliveries(&consumer, Some(Settlement::Redeliver)), [(1, 3), (2, 3)], "not acknowledged in time");
    assert_eq!(deliveries(&other, None), [(1, 1), (2, 1)], "each group counts for itself");
    publish(&handle, &station, &["c"], None).expect("published");
    assert_eq!(deliveries(&consumer, Some(Settlement::Acknowledge)), [(1, 4), (2, 4), (3, 1)]);
    publish(&handle, &station, &["d"], None).expect("published");
    assert_eq!(deliveries(&consumer, None), [(4, 1)]);
    fixture.reopen();
    let handle = fixture.store().handle();
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    let counts: Vec<(u64, u32)> = delivered.messages.iter().map(|one| (one.sequence, one.deliveries)).collect();
    assert_eq!(counts, [(4, 1)], "a restart begins anew");
}

#[test]
fn stations_are_made_when_allowed_and_deleted_for_good() {
    let mut fixture = Fixture::new(defaults(2));
    let unknown = block_on(fixture.store().station(&parse("orders"), false));
    assert_eq!(unknown, Err(Reject::StationUnknown("orders".into())));
    let station = fixture.station("orders");
    let handle = fixture.store().handle();
    publish(&handle, &station, &["a", "b"], Some(single("x"))).expect("published");
    let consumer = fixture.consumer(&station, "g");
    fetch(&handle, &station, &consumer, 1, 0).expect("fetched");
    assert_eq!(block_on(fixture.store().delete_station(&parse("orders"))), Ok(true));
    assert_eq!(block_on(fixture.store().delete_station(&parse("orders"))), Ok(false));
    let outcomes = publish(&handle, &station, &["a"], None).expect("answered");
    assert_eq!(outcomes, [Outcome::Failed(Reject::NoStream)]);
    assert_eq!(fetch(&handle, &station, &consumer, 1, 0).err(), Some(Reject::NoStream));
    let station = fixture.station("orders");
    let outcomes = publish(&handle, &station, &["new"], Some(single("x"))).expect("published");
    assert_eq!(stored(&outcomes).first().map(|one| (one.1, one.2)), Some((1, false)), "nothing of the old one is left");
    fixture.reopen();
    let handle = fixture.store().handle();
    let consumer = fixture.consumer(&station, "g");
    let delivered = fetch(&handle, &station, &consumer, 10, 0).expect("fetched");
    assert_eq!(content(&delivered).iter().map(|one| one.2.as_str()).collect::<Vec<_>>(), ["new"]);
    let list = block_on(fixture.store().stations()).expect("listed");
    assert_eq!(
        list.iter().map(|one| (one.station.name.as_str(), one.groups.len())).collect::<Vec<_>>(),
        [("orders", 1)]
    );
}

#[test]
fn registry_documents_are_compared_and_their_revisions_grow() {
    let fixture = Fixture::new(defaults(1));
    let store = fixture.store();
    assert_eq!(block_on(store.registry_put("a", b"1", None)), Ok(1));
    assert_eq!(block_on(store.registry_put("b", b"2", Some(0))), Ok(2));
    assert_eq!(block_on(store.registry_put("a", b"3", Some(0))), Err(PutError::Conflict { found: 1 }));
    assert_eq!(block_on(store.registry_put("a", b"3", Some(1))), Ok(3));
    assert_eq!(block_on(store.registry_delete("a", Some(1))), Err(PutError::Conflict { found: 3 }));
    assert_eq!(block_on(store.registry_delete("a", None)), Ok(true));
    assert_eq!(block_on(store.registry_delete("a", None)), Ok(false));
    assert_eq!(block_on(store.registry_put("a", b"5", Some(0))), Ok(5));
    let listed: Vec<(String, u64)> =
        store.registry_list("").expect("listed").into_iter().map(|one| (one.key, one.revision)).collect();
    assert_eq!(listed, [("a".to_owned(), 5), ("b".to_owned(), 2)]);
    assert!(matches!(block_on(store.registry_put("", b"", None)), Err(PutError::Rejected(_))));
}

#[test]
fn a_directory_has_one_holder_and_a_known_format() {
    let mut fixture = Fixture::new(defaults(1));
    let open = |dir: &std::path::Path| Store::open(dir, defaults(1), Clock::system());
    assert!(matches!(open(&fixture.dir()), Err(OpenError::InUse(_))));
    let mode = std::fs::metadata(fixture.dir()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fixture.close();
    std::fs::create_dir(fixture.dir().join("store.building")).expect("made");
    std::fs::write(fixture.dir().join("store.building/half"), b"a first start that was cut").expect("written");
    open(&fixture.dir())
        .expect("opens over what a crash left")
        .close(Duration::from_secs(20))
        .then_some(())
        .expect("closes");
    std::fs::write(fixture.dir().join("store/FORMAT"), b"sluicegate store 1\n").expect("written");
    let error = open(&fixture.dir()).expect_err("refused").to_string();
    assert!(error.contains("sluicegate store 2") && error.contains("sluicegate store 1"), "{error}");
}

#[test]
fn after_the_end_everything_is_refused_and_nobody_waits() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    let waiting = std::thread::spawn({
        let (handle, station, consumer) = (handle.clone(), station.clone(), consumer.clone());
        move || fetch(&handle, &station, &consumer, 1, 60_000)
    });
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(fixture.store().health(), Health::Writable);
    fixture.close();
    assert_eq!(waiting.join().expect("ends").err(), Some(Reject::Draining));
    assert_eq!(publish(&handle, &station, &["a"], None), Err(Reject::Draining));
    assert_eq!(fetch(&handle, &station, &consumer, 1, 1_000).err(), Some(Reject::Draining));
}
