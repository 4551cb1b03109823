//! Stations made, described, changed and removed on a real broker, and their records.

use super::{
    super::super::{
        nats::client::NatsClient,
        streams::{
            Adopted, Description, RecordStore, StreamAdmin, StreamsError,
            nats::{NatsStreams, provision},
        },
        tests::support::{block_on, name, settings},
    },
    Server,
    publishing::{api, minor},
};
use crate::{
    config::{BackendSettings, Layout, StationSettings},
    limits::DEAD_LETTERS_AGE,
    metrics::ControlMetrics,
    reject::Reject,
    station::{Attributes, AttributesChange, Storage},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Runs something on the streams of a server.
fn on_streams<T, F: Future<Output = T>>(
    server: &Server,
    stations: StationSettings,
    work: impl FnOnce(NatsStreams, NatsClient) -> F,
) -> T {
    block_on(async {
        let settings = settings(server.port);
        let BackendSettings::Nats(nats) = &settings.backend else { panic!("a broker") };
        let hold = settings.limits.hold;
        let broker = NatsClient::connect(nats, hold, Arc::new(ControlMetrics::default())).await.expect("settings");
        work(NatsStreams::new(broker.clone(), Arc::new(stations)), broker).await
    })
}

fn defaults() -> StationSettings {
    StationSettings::default()
}

fn attributes() -> Attributes {
    Attributes::default()
}

fn config(server: &Server, stream: &str) -> Value {
    api(server, &format!("STREAM.INFO.{stream}"), &json!({}))["config"].clone()
}

fn exists(server: &Server, stream: &str) -> bool {
    config(server, stream).is_object()
}

#[test]
fn all_attributes_reach_the_streams_and_come_back() {
    let server = Server::start("");
    let all = Attributes {
        partitions: 3,
        retention_age: Some(Duration::from_secs(60)),
        retention_records: Some(10),
        retention_bytes: Some(1 << 20),
        retention_acknowledged: true,
        storage: Storage::Memory,
        ..attributes()
    };
    // The window that a stream of this age can have.
    let described = Attributes { duplicate_window: Duration::from_secs(60), ..all.clone() };
    on_streams(&server, defaults(), |streams, _| async move {
        let station = name("a.b");
        assert_eq!(streams.describe(&station, None).await, Err(StreamsError::Unknown));
        for _ in 0..2 {
            assert_eq!(streams.create(&station, &all).await, Ok(()), "and again");
        }
        let other = Attributes { partitions: 2, ..all.clone() };
        assert_eq!(streams.create(&station, &other).await, Err(StreamsError::Exists));
        assert_eq!(streams.create(&name("plain"), &attributes()).await, Ok(()));
        let expect = Description { name: station.clone(), attributes: described, records: 0, bytes: 0 };
        assert_eq!(streams.describe(&station, None).await, Ok(expect.clone()));
        // Dead letters and streams of others are no stations.
        streams.create(&station.dead_letters(), &attributes()).await.expect("made");
        let plain = Description { name: name("plain"), attributes: attributes(), records: 0, bytes: 0 };
        assert_eq!(streams.list().await, Ok(vec![expect, plain]));
        let copies = Attributes { replicas: 3, ..attributes() };
        let refused = streams.create(&name("copies"), &copies).await;
        assert!(matches!(&refused, Err(StreamsError::Invalid(text)) if text.contains("replicas")), "{refused:?}");
    });
    assert_eq!(config(&server, "a#b$2")["retention"], "interest");
    assert_eq!(config(&server, "a#b$2")["storage"], "memory");
}

#[test]
fn records_are_counted_listed_and_stored_also_where_acknowledgement_removes_them() {
    let server = Server::start("");
    on_streams(&server, defaults(), |streams, _| async move {
        let acknowledged = Attributes { retention_acknowledged: true, ..attributes() };
        streams.create(&name("acked"), &acknowledged).await.expect("made");
        streams.create(&name("two"), &Attributes { partitions: 2, ..attributes() }).await.expect("made");
        for station in ["acked", "two"] {
            let station = name(station);
            for id in (0..20).chain(0..20) {
                let id = format!("id-{id}");
                let stored = streams.store(&station, None, (b"A: b\r\n", b"payload"), &id).await;
                assert_eq!(stored, Ok(()), "{station} {id}");
            }
            let described = streams.describe(&station, None).await.expect("there");
            assert_eq!(described.records, 20, "{station}: nobody has read them");
            assert!(described.bytes > 0);
        }
        assert_eq!(streams.store(&name("none"), None, (b"", b""), "x").await, Err(StreamsError::Unknown));
        let names: Vec<String> = streams.list().await.expect("a list").iter().map(|one| one.name.to_string()).collect();
        assert_eq!(names, ["acked", "two"]);
    });
}

#[test]
fn a_change_keeps_what_it_does_not_name_and_the_brokers_refusal_is_told() {
    let server = Server::start("");
    let foreign = json!({
        "name": "FOREIGN", "subjects": ["foreign", "more.>"], "max_age": 3_600_000_000_000_u64, "max_msgs_per_subject": 7,
        "description": "theirs", "deny_delete": true, "metadata": {"owner": "team"}, "max_msg_size": 1000,
    });
    api(&server, "STREAM.CREATE.FOREIGN", &foreign);
    let before = config(&server, "FOREIGN");
    on_streams(&server, defaults(), |streams, _| async move {
        let adopted = Adopted { stream: "FOREIGN".to_owned(), subject: "foreign".to_owned() };
        let change = AttributesChange { retention_records: Some(Some(50)), ..AttributesChange::default() };
        assert_eq!(streams.change(&name("any"), Some(&adopted), &change).await, Ok(()));
        let described = streams.describe(&name("any"), Some(&adopted)).await.expect("there");
        assert_eq!(
            described.attributes.retention_records,
            Some(7),
            "a station is one subject: that has a limit of its own"
        );

        let set = name("set");
        streams.create(&set, &Attributes { partitions: 2, ..attributes() }).await.expect("made");
        let change = AttributesChange {
            retention_age: Some(Some(Duration::from_secs(30))),
            retention_bytes: Some(Some(1 << 20)),
            ..AttributesChange::default()
        };
        for _ in 0..2 {
            assert_eq!(streams.change(&set, None, &change).await, Ok(()), "and again");
        }
        let attributes = streams.describe(&set, None).await.expect("there").attributes;
        assert_eq!(attributes.retention_age, Some(Duration::from_secs(30)));
        assert_eq!((attributes.retention_bytes, attributes.duplicate_window), (Some(1 << 20), Duration::from_secs(30)));
        let change = AttributesChange { replicas: Some(3), ..AttributesChange::default() };
        let refused = streams.change(&set, None, &change).await;
        assert!(matches!(&refused, Err(StreamsError::Invalid(text)) if text.contains("replicas")), "{refused:?}");
        assert_eq!(streams.change(&name("none"), None, &change).await, Err(StreamsError::Unknown));
    });
    assert_eq!(config(&server, "set$2")["max_age"], 30_000_000_000_u64);
    let mut expect = before;
    expect["max_msgs"] = json!(50);
    assert_eq!(config(&server, "FOREIGN"), expect);
}

#[test]
fn a_station_is_removed_with_all_its_streams_and_no_others() {
    let server = Server::start("");
    for (stream, subject) in [("ALL", "shop.>"), ("set$9", "elsewhere"), ("hand", "hand")] {
        api(&server, &format!("STREAM.CREATE.{stream}"), &json!({"name": stream, "subjects": [subject]}));
    }
    on_streams(&server, defaults(), |streams, _| async move {
        let set = name("set");
        streams.create(&set, &Attributes { partitions: 3, ..attributes() }).await.expect("made");
        streams.create(&name("set2"), &attributes()).await.expect("made");
        assert_eq!(streams.remove(&set).await, Ok(()));
        assert_eq!(streams.describe(&set, None).await, Err(StreamsError::Unknown));
        assert_eq!(streams.remove(&set).await, Ok(()), "that there is none is no error");
        assert_eq!(streams.remove(&name("hand")).await, Ok(()), "it has the name and nothing but the subject");
        let refused = streams.remove(&name("shop.orders")).await;
        assert!(matches!(&refused, Err(StreamsError::Invalid(text)) if text.contains("ALL")), "{refused:?}");
    });
    let left = ["set$1", "set$2", "set$3", "hand", "ALL", "set$9", "set2"].map(|stream| exists(&server, stream));
    assert_eq!(left, [false, false, false, false, true, true, true]);
}

#[test]
fn a_removal_or_creation_that_was_cut_off_leaves_what_is_removed_again() {
    let server = Server::start("");
    let set = name("set");
    on_streams(&server, defaults(), |streams, _| {
        let (server, set) = (&server, &set);
        async move {
            for missing in ["set$2", "set$1"] {
                streams.create(set, &Attributes { partitions: 3, ..attributes() }).await.expect("made");
                // On a thread of its own: it brings its runtime.
                std::thread::scope(|scope| {
                    let cut = || api(server, &format!("STREAM.DELETE.{missing}"), &json!({}));
                    scope.spawn(cut).join().expect("deleted");
                });
                assert_eq!(streams.remove(set).await, Ok(()), "{missing}");
            }
        }
    });
    assert_eq!(["set$1", "set$2", "set$3"].map(|stream| exists(&server, stream)), [false; 3]);
}

#[test]
fn dead_letters_are_kept_beside_the_station_read_and_discarded() {
    let server = Server::start("");
    // What is used as it is captures all below the station's subject.
    api(&server, "STREAM.CREATE.WIDE", &json!({"name": "WIDE", "subjects": ["wide.>"]}));
    let no_auto = StationSettings { auto_create: false, ..defaults() };
    on_streams(&server, no_auto.clone(), |streams, broker| async move {
        for (station, stream, subject) in [("s.t", "s#t$dls", "s.t.$dls"), ("wide.a", "wide#a$dls", "wide#a$dls.final")]
        {
            let letters = name(station).dead_letters();
            assert_eq!(streams.read(&letters, 0, 10).await, Ok(vec![]), "there is no such station");
            assert_eq!(streams.discard(&letters, None).await, Ok(0));
            let attributes = attributes().of_dead_letters(Some(DEAD_LETTERS_AGE));
            for create in [Some(&attributes), None] {
                let found = provision::resolve(&broker, &no_auto, &letters, None, create).await.expect("kept");
                let [partition] = &*found.station.partitions else { panic!("one partition") };
                assert_eq!((&*partition.stream, &*partition.subject), (stream, subject));
            }
            let described = streams.describe(&letters, None).await.expect("there").attributes;
            assert_eq!((described.retention_age, described.partitions), (Some(DEAD_LETTERS_AGE), 1));
            for at in 0..5_u8 {
                let stored =
                    streams.store(&letters, None, (b"X-A: 1\r\nX-A: 2\r\n", &[at, 0xff]), &at.to_string()).await;
                assert_eq!(stored, Ok(()));
            }
            let read = streams.read(&letters, 1, 3).await.expect("letters");
            let sequences: Vec<u64> = read.iter().map(|letter| letter.sequence).collect();
            assert_eq!(sequences, [2, 3, 4]);
            assert_eq!(read[0].payload, [1, 0xff]);
            let mut lines: Vec<&str> =
                std::str::from_utf8(&read[0].headers).expect("text").split_terminator("\r\n").collect();
            lines.sort_unstable();
            assert_eq!(lines, ["Nats-Msg-Id: 1", "X-A: 1", "X-A: 2"]);
            assert!(read[0].time_ms > 1_600_000_000_000, "{}", read[0].time_ms);
            assert_eq!(streams.discard(&letters, Some(&[2, 4, 2, 99])).await, Ok(2));
            let left: Vec<u64> =
                streams.read(&letters, 0, 10).await.expect("letters").iter().map(|letter| letter.sequence).collect();
            assert_eq!(left, [1, 3, 5]);
            assert_eq!(streams.discard(&letters, None).await, Ok(3));
            assert_eq!(streams.read(&letters, 0, 10).await, Ok(vec![]));
            assert_eq!(streams.remove(&letters).await, Ok(()));
            assert_eq!(streams.describe(&letters, None).await, Err(StreamsError::Unknown));
        }
        assert_eq!(streams.list().await, Ok(vec![]));
    });
    assert!(exists(&server, "WIDE"));
}

#[test]
fn the_memphis_layout_keeps_dead_letters_under_its_own_names() {
    let server = Server::start("");
    let memphis = StationSettings { layout: Layout::Memphis, ..defaults() };
    on_streams(&server, memphis.clone(), |streams, broker| async move {
        let letters = name("a.b").dead_letters();
        let attributes = attributes().of_dead_letters(Some(DEAD_LETTERS_AGE));
        let found = provision::resolve(&broker, &memphis, &letters, None, Some(&attributes)).await.expect("made");
        let partition = &found.station.partitions[0];
        assert_eq!((&*partition.stream, &*partition.subject), ("a#b$dls", "a#b$dls.final"));
        streams.create(&name("a.b"), &Attributes { partitions: 2, ..attributes.clone() }).await.expect("made");
        assert_eq!(streams.list().await.expect("a list").len(), 1);
        assert_eq!(streams.remove(&name("a.b")).await, Ok(()));
        assert!(streams.describe(&letters, None).await.is_ok(), "a station's letters are removed for themselves");
    });
}

#[test]
fn an_adopted_station_is_that_stream_and_subject_whatever_its_name() {
    let server = Server::start("");
    for (stream, subjects) in [("THEIRS", json!(["theirs.>"])), ("orders", json!(["orders"]))] {
        api(&server, &format!("STREAM.CREATE.{stream}"), &json!({"name": stream, "subjects": subjects}));
    }
    let knows = minor(&server) >= 12;
    on_streams(&server, defaults(), |streams, broker| async move {
        let adopted = |stream: &str, subject: &str| Adopted { stream: stream.to_owned(), subject: subject.to_owned() };
        let theirs = adopted("THEIRS", "theirs.a");
        let found =
            provision::resolve(&broker, &defaults(), &name("orders"), Some(&theirs), None).await.expect("found");
        let partition = &found.station.partitions[0];
        assert_eq!((&*partition.stream, &*partition.subject), ("THEIRS", "theirs.a"));
        let why = found.station.not_atomic.expect("not atomic");
        assert!(why.contains(if knows { "allow_atomic" } else { "2.12" }), "{why}");
        streams.store(&name("orders"), Some(&theirs), (b"", b"x"), "id").await.expect("stored");
        assert_eq!(streams.describe(&name("orders"), Some(&theirs)).await.expect("there").records, 1);
        assert_eq!(streams.describe(&name("orders"), None).await.expect("there").records, 0);
        for (wrong, expect) in
            [(adopted("GONE", "theirs.a"), "does not exist"), (adopted("THEIRS", "elsewhere"), "does not capture")]
        {
            let create = attributes();
            let refused = provision::resolve(&broker, &defaults(), &name("orders"), Some(&wrong), Some(&create)).await;
            let Err(Reject::BrokerRefused(_, text) | Reject::StationBlocked(text)) = &refused else {
                panic!("{refused:?}")
            };
            assert!(text.contains(expect), "{text}");
        }
    });
}
