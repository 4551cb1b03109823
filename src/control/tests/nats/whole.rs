//! What the data path does with stations that the control plane found: all or nothing, header fields of single records,
//! how often a message was delivered.

use super::{
    super::support::{Gateway, block_on, settings},
    Server,
    publishing::{api, minor},
};
use crate::{
    backend::{
        Backend, Fetch, Publish, Settlement,
        nats::{Connection, ConnectionSettings, Credential},
    },
    directory::{Directory, Local},
    limits::Limits,
    metrics::ShardMetrics,
    record::{MessageId, Outcome, Partitions, Placement, Receipt, RecordHeaders},
    reject::{Reject, SizeLimit},
    retry::Publisher,
    rt::{self, Flavor, clock},
    station::{STREAM_NOT_ATOMIC, Station},
    wire::Span,
};
use serde_json::json;
use std::{rc::Rc, sync::Arc, time::Duration};

/// Runs something on a shard's connection to the server of this port.
pub(super) fn on_connection<T, F: Future<Output = T>>(
    port: u16,
    limits: &Limits,
    work: impl FnOnce(Rc<Connection>) -> F,
) -> T {
    let settings = ConnectionSettings {
        servers: vec![("127.0.0.1".to_owned(), port)],
        credential: Credential::None,
        name: "test".to_owned(),
        flavor: Flavor::Epoll,
    };
    let limits = limits.clone();
    let ran = rt::run(Flavor::Epoll, || async move {
        let connection = Connection::new(settings, "0123456789abcdef", limits, Arc::new(ShardMetrics::default()));
        rt::spawn(Rc::clone(&connection).run(0));
        let result = work(Rc::clone(&connection)).await;
        connection.stop().await;
        result
    });
    ran.expect("a runtime")
}

/// Records one after the other, and where each is.
fn body(records: &[&str]) -> (Vec<u8>, Vec<Span>) {
    let (mut body, mut spans) = (Vec::new(), Vec::new());
    for record in records {
        let start = u32::try_from(body.len()).expect("short");
        body.extend_from_slice(record.as_bytes());
        spans.push(Span { start, end: u32::try_from(body.len()).expect("short") });
    }
    (body, spans)
}

struct Request<'a> {
    records: &'a [&'a str],
    /// Of each record, if there are any.
    own: &'a [&'a str],
    id: Option<MessageId<'a>>,
    /// Which of what was posted they are, if not all.
    places: Option<&'a [u32]>,
    whole: bool,
}

fn whole<'a>(records: &'a [&'a str], id: Option<&'a str>) -> Request<'a> {
    let id = id.map(|base| MessageId { base, numbered: Some(0) });
    Request { records, own: &[], id, places: None, whole: true }
}

async fn publish(
    connection: &Rc<Connection>,
    station: &Station,
    request: &Request<'_>,
) -> Result<Vec<Outcome>, Reject> {
    let (body, records) = body(request.records);
    let (block, spans) = self::body(request.own);
    let own = (!request.own.is_empty()).then_some(RecordHeaders { block: &block, spans: &spans });
    let publish = Publish {
        headers: b"All: 1\r\n",
        id: request.id,
        record_headers: own,
        indexes: request.places,
        atomic: request.whole,
        ..Publish::of(station, &body, &records)
    };
    // Nobody answers: what is known of the station stays as it is.
    let (asks, _questions) = flume::bounded(8);
    let (directory, backend) = (Rc::new(Directory::new(0, asks)), Backend::Nats(Rc::clone(connection)));
    let publisher = Publisher {
        directory: &directory,
        backend: &backend,
        name: &station.name,
        create: false,
        placement: Placement::Auto,
        turn: 0,
    };
    let (mut known, mut outcomes) = (Rc::new(Local::new(Arc::new(station.clone()))), Vec::new());
    publisher.publish(&publish, &mut known, &mut outcomes).await.map(|()| outcomes)
}

fn publish_on(server: &Server, station: &Station, request: &Request<'_>) -> Result<Vec<Outcome>, Reject> {
    on_connection(
        server.port,
        &Limits::default(),
        |connection| async move { publish(&connection, station, request).await },
    )
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what a publish returns")]
fn stored(sequences: &[u64], duplicate: bool) -> Result<Vec<Outcome>, Reject> {
    Ok(sequences
        .iter()
        .map(|sequence| Outcome::Stored(Receipt { partition: 0, sequence: *sequence, duplicate }))
        .collect())
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what a publish returns")]
fn failed(rejects: Vec<Reject>) -> Result<Vec<Outcome>, Reject> {
    Ok(rejects.into_iter().map(Outcome::Failed).collect())
}

fn messages(server: &Server, stream: &str) -> u64 {
    api(server, &format!("STREAM.INFO.{stream}"), &json!({}))["state"]["messages"].as_u64().expect("a number")
}

/// Header block and payload of a record.
fn record(server: &Server, stream: &str, sequence: u64) -> (String, String) {
    block_on(async {
        let jetstream = async_nats::jetstream::new(server.client().await);
        let stream = jetstream.get_stream(stream).await.expect("the stream exists");
        let message = stream.get_raw_message(sequence).await.expect("the record exists");
        let mut fields: Vec<String> = Vec::new();
        for (name, values) in message.headers.iter() {
            fields.extend(values.iter().map(|value| format!("{name}={value}")));
        }
        fields.retain(|field| !field.starts_with("Nats-Batch-"));
        fields.sort();
        (fields.join(" "), String::from_utf8(message.payload.to_vec()).expect("text"))
    })
}

#[test]
fn a_request_is_stored_whole_and_again_found_whole() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("s", true).expect("made");
    let three = whole(&["a", "b", "c"], Some("x"));
    if minor(&server) < 12 {
        let why = "the broker is older than 2.12";
        assert_eq!((station.not_atomic, station.atomic_records_max), (Some(why), 0));
        assert_eq!(publish_on(&server, &station, &three), Err(Reject::NotAtomic(why)));
        // A single record is stored or not in any case.
        assert_eq!(publish_on(&server, &station, &whole(&["a"], None)), stored(&[1], false));
        return;
    }
    assert_eq!((station.not_atomic, station.atomic_records_max), (None, 1_000));
    assert_eq!(publish_on(&server, &station, &whole(&["z"], None)), stored(&[1], false));
    assert_eq!(publish_on(&server, &station, &three), stored(&[2, 3, 4], false));
    // As after an answer that was lost.
    assert_eq!(publish_on(&server, &station, &three), stored(&[2, 3, 4], true));
    assert_eq!(messages(&server, "s"), 4);
    let own = Request { own: &["Own: 1\r\n", "", "Own: 3\r\n"], ..whole(&["d", "e", "f"], None) };
    assert_eq!(publish_on(&server, &station, &own), stored(&[5, 6, 7], false));
    assert_eq!(record(&server, "s", 3), ("All=1 Nats-Msg-Id=x 1".to_owned(), "b".to_owned()));
    for (sequence, fields, payload) in [(5, "All=1 Own=1", "d"), (6, "All=1", "e"), (7, "All=1 Own=3", "f")] {
        assert_eq!(record(&server, "s", sequence), (fields.to_owned(), payload.to_owned()));
    }
    let many = vec!["r"; 1_000];
    let sequences: Vec<u64> = (8..1_008).collect();
    assert_eq!(publish_on(&server, &station, &whole(&many, Some("many"))), stored(&sequences, false));
    assert_eq!(publish_on(&server, &station, &whole(&many, Some("many"))), stored(&sequences, true));
    let refused = publish_on(&server, &station, &whole(&vec!["r"; 1_001], None));
    assert!(matches!(refused, Err(Reject::NotAtomic(_))), "{refused:?}");
    assert_eq!(messages(&server, "s"), 1_007);
}

#[test]
fn ids_are_numbered_by_the_place_in_what_was_posted() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("s", true).expect("made");
    let singly = |records, places| Request { places, whole: false, ..whole(records, Some("x")) };
    assert_eq!(publish_on(&server, &station, &singly(&["a", "c"], Some(&[0, 2]))), stored(&[1, 2], false));
    let all = publish_on(&server, &station, &singly(&["a", "b", "c"], None)).expect("outcomes");
    let is = |sequence, duplicate| Outcome::Stored(Receipt { partition: 0, sequence, duplicate });
    assert_eq!(all, [is(1, true), is(3, false), is(2, true)]);
    if station.not_atomic.is_none() {
        let part = Request { places: Some(&[1, 3]), ..whole(&["f", "h"], Some("y")) };
        assert_eq!(publish_on(&server, &station, &part), stored(&[4, 5], false));
        assert_eq!(publish_on(&server, &station, &part), stored(&[4, 5], true), "each is asked for under its own id");
        assert_eq!(record(&server, "s", 5), ("All=1 Nats-Msg-Id=y 3".to_owned(), "h".to_owned()));
    }
}

#[test]
fn of_a_request_that_cannot_be_stored_whole_nothing_is_stored() {
    let server = Server::start("");
    if minor(&server) < 12 {
        return a_request_is_refused_by_an_old_broker(&server);
    }
    let gateway = Gateway::start(settings(server.port));
    // A record of it was stored before, another way.
    let station = gateway.station("known", true).expect("made");
    let one = Request { id: Some(MessageId { base: "x 1", numbered: None }), ..whole(&["b"], None) };
    assert_eq!(publish_on(&server, &station, &one), stored(&[1], false));
    let outcomes = publish_on(&server, &station, &whole(&["a", "b", "c"], Some("x"))).expect("outcomes");
    assert!(matches!(outcomes[1], Outcome::Failed(Reject::MessageId(_))), "{outcomes:?}");
    assert_eq!([&outcomes[0], &outcomes[2]], [&Outcome::Failed(Reject::NothingStored); 2]);
    assert_eq!(messages(&server, "known"), 1);

    // One is too large for the stream, and has no room for a batch's fields besides.
    let limits = json!({"name": "SMALL", "subjects": ["small"], "max_msg_size": 512, "allow_atomic": true});
    api(&server, "STREAM.CREATE.SMALL", &limits);
    let station = gateway.station("small", false).expect("found");
    let (large, fitting) = ("x".repeat(450), "y".repeat(300));
    let outcomes = publish_on(&server, &station, &whole(&[&fitting, &large], None)).expect("outcomes");
    assert!(matches!(outcomes[1], Outcome::Failed(Reject::TooLarge(SizeLimit::Record, 1..512))), "{outcomes:?}");
    assert_eq!(outcomes[0], Outcome::Failed(Reject::NothingStored));
    assert_eq!(publish_on(&server, &station, &whole(&[&fitting, &fitting], None)), stored(&[1, 2], false));

    // The stream has room for some of them.
    let limits = json!({"name": "FULL", "subjects": ["full"], "max_msgs": 2, "discard": "new", "allow_atomic": true});
    api(&server, "STREAM.CREATE.FULL", &limits);
    let station = gateway.station("full", false).expect("found");
    let outcomes = publish_on(&server, &station, &whole(&["a", "b", "c"], Some("x"))).expect("outcomes");
    assert!(outcomes.iter().all(|one| matches!(one, Outcome::Failed(Reject::StreamFull(_)))), "{outcomes:?}");
    assert_eq!(messages(&server, "FULL"), 0);
    assert_eq!(publish_on(&server, &station, &whole(&["a", "b"], Some("x"))), stored(&[1, 2], false));

    // The stream does not allow it any more, and is no more.
    let station = gateway.station("known", false).expect("found");
    let mut info = api(&server, "STREAM.INFO.known", &json!({}));
    info["config"]["allow_atomic"] = json!(false);
    api(&server, "STREAM.UPDATE.known", &info["config"]);
    let refused = failed(vec![Reject::NotAtomic(STREAM_NOT_ATOMIC); 2]);
    assert_eq!(publish_on(&server, &station, &whole(&["a", "b"], None)), refused);
    let station_now = gateway.station("known", false).expect("found");
    assert_eq!(station_now.not_atomic, Some(STREAM_NOT_ATOMIC));
    assert_eq!(publish_on(&server, &station_now, &whole(&["a", "b"], None)), Err(Reject::NotAtomic(STREAM_NOT_ATOMIC)));
    api(&server, "STREAM.DELETE.known", &json!({}));
    assert_eq!(publish_on(&server, &station, &whole(&["a", "b"], None)), failed(vec![Reject::NoStream; 2]));
}

/// What is not atomic is refused before anything is sent.
fn a_request_is_refused_by_an_old_broker(server: &Server) {
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("s", true).expect("made");
    let refused = publish_on(server, &station, &whole(&["a", "b"], None));
    assert!(matches!(refused, Err(Reject::NotAtomic(why)) if why.contains("2.12")), "{refused:?}");
    assert_eq!(messages(server, "s"), 0);
}

#[test]
fn what_the_window_or_the_partitions_cannot_take_whole_is_refused_before_it_is_sent() {
    let server = Server::start("");
    let mut partitioned = settings(server.port);
    partitioned.stations.attributes.partitions = 2;
    let station = Gateway::start(partitioned).station("two", true).expect("made");
    let refused = publish_on(&server, &station, &whole(&["a", "b"], None));
    let expect = if minor(&server) < 12 { "2.12" } else { "several partitions" };
    assert!(matches!(refused, Err(Reject::NotAtomic(why)) if why.contains(expect)), "{refused:?}");
    if minor(&server) < 12 {
        return;
    }
    let station = Gateway::start(settings(server.port)).station("one", true).expect("made");
    let narrow = Limits { window_messages_max: 3, ..Limits::default() };
    let (three, four) = (whole(&["a", "b", "c"], None), whole(&["a", "b", "c", "d"], None));
    on_connection(server.port, &narrow, |connection| async move {
        let refused = publish(&connection, &station, &four).await;
        assert!(matches!(refused, Err(Reject::NotAtomic(why)) if why.contains("in flight")), "{refused:?}");
        // Two at once that do not both fit: one waits for the other.
        let both =
            futures_util::future::join(publish(&connection, &station, &three), publish(&connection, &station, &three))
                .await;
        assert_eq!(both, (stored(&[1, 2, 3], false), stored(&[4, 5, 6], false)));
    });
}

#[test]
fn a_request_whose_answer_is_lost_is_sent_again_as_a_whole_if_it_has_a_message_id() {
    let server = Server::start("");
    if minor(&server) < 12 {
        return a_request_is_refused_by_an_old_broker(&server);
    }
    let station = Gateway::start(settings(server.port)).station("s", true).expect("made");
    let server = std::cell::RefCell::new(server);
    for (id, expect) in [(Some("x"), stored(&[2, 3, 4], false)), (None, failed(vec![Reject::OutcomeUnknown; 3]))] {
        let (port, station) = (server.borrow().port, &station);
        let outcomes = on_connection(port, &Limits::default(), |connection| {
            let server = &server;
            async move {
                let first = publish(&connection, station, &whole(&["z"], Some("first"))).await;
                assert!(matches!(first.as_deref(), Ok([Outcome::Stored(Receipt { sequence: 1, .. })])), "{first:?}");
                server.borrow().freeze();
                let restart = async {
                    rt::sleep(Duration::from_millis(300)).await;
                    let mut server = server.borrow_mut();
                    server.kill();
                    server.run();
                };
                futures_util::future::join(publish(&connection, station, &whole(&["a", "b", "c"], id)), restart).await.0
            }
        });
        assert_eq!(outcomes, expect, "{id:?}");
    }
    assert_eq!(messages(&server.borrow(), "s"), 4);
}

#[test]
fn records_published_singly_have_fields_of_their_own_however_they_are_answered() {
    let server = Server::start("");
    let mut partitioned = settings(server.port);
    partitioned.stations.attributes.partitions = 2;
    let in_order = Gateway::start(settings(server.port)).station("one", true).expect("made");
    let each = Gateway::start(partitioned).station("two", true).expect("made");
    assert!(in_order.answers_in_order && !each.answers_in_order);
    let own = ["Own: a\r\n", "", "Own: c\r\nMore: d\r\n"];
    let request = Request { own: &own, whole: false, ..whole(&["a", "b", "c"], None) };
    for station in [&in_order, &each] {
        let outcomes = publish_on(&server, station, &request).expect("outcomes");
        for (outcome, (fields, payload)) in
            outcomes.iter().zip([("All=1 Own=a", "a"), ("All=1", "b"), ("All=1 More=d Own=c", "c")])
        {
            let Outcome::Stored(Receipt { partition, sequence, .. }) = outcome else { panic!("{outcome:?}") };
            let stream = &station.partitions[usize::from(*partition)].stream;
            assert_eq!(record(&server, stream, *sequence), (fields.to_owned(), payload.to_owned()));
        }
    }
}

#[test]
fn records_go_to_the_partition_that_was_chosen_for_them() {
    let server = Server::start("");
    let mut partitioned = settings(server.port);
    partitioned.stations.attributes.partitions = 3;
    let station = Gateway::start(partitioned).station("three", true).expect("made");
    let three = &station;
    on_connection(server.port, &Limits::default(), |connection| async move {
        let (body, records) = body(&["a", "b", "c"]);
        for (partitions, expect) in [
            (Partitions::All(2), [2, 2, 2]),
            (Partitions::Each(&[1, 0, 2]), [1, 0, 2]),
            (Partitions::in_turns(5, 3), [2, 0, 1]),
        ] {
            let mut outcomes = Vec::new();
            let publish = Publish { partitions, ..Publish::of(three, &body, &records) };
            connection.publish(&publish, &mut outcomes).await.expect("sent");
            let chosen: Vec<u16> = outcomes
                .iter()
                .map(|outcome| match outcome {
                    Outcome::Stored(receipt) => receipt.partition,
                    Outcome::Failed(why) => panic!("not stored: {why}"),
                })
                .collect();
            assert_eq!(chosen, expect);
        }
    });
    let stored: Vec<u64> = station.partitions.iter().map(|partition| messages(&server, &partition.stream)).collect();
    assert_eq!(stored, [2, 2, 5]);
}

#[test]
fn a_message_says_its_place_and_how_often_it_was_handed_out() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("s", true).expect("made");
    let group = gateway.consumer(&station, None).expect("made");
    on_connection(server.port, &Limits::default(), |connection| async move {
        let request = Request { whole: false, ..whole(&["a", "b"], None) };
        assert_eq!(publish(&connection, &station, &request).await, stored(&[1, 2], false));
        for deliveries in 1..4 {
            let fetch = Fetch {
                station: &station,
                consumer: &group,
                records_max: 2,
                bytes_max: 1 << 20,
                wait: Duration::from_secs(5),
            };
            let delivered = connection.fetch(&fetch).await.expect("messages");
            let places: Vec<(u64, u32)> =
                delivered.messages.iter().map(|message| (message.sequence, message.deliveries)).collect();
            assert_eq!(places, [(1, deliveries), (2, deliveries)]);
            connection.settle(&delivered, Settlement::Redeliver);
        }
    });
}

#[test]
fn what_is_published_again_is_not_sent_after_its_time() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("s", true).expect("made");
    on_connection(server.port, &Limits::default(), |connection| async move {
        let (body, records) = body(&["a", "b"]);
        let now = clock::now();
        let (over, later) = (Some(now), Some(now + Duration::from_secs(60)));
        // Whoever publishes for the first time has looked at the time; then it ends by its own limits.
        for (again, until, sent) in [(true, over, false), (true, later, true), (true, None, true), (false, over, true)]
        {
            for whole in [false, station.not_atomic.is_none()] {
                let publish =
                    Publish { again, atomic: whole, deadline: until, ..Publish::of(&station, &body, &records) };
                let mut outcomes = Vec::new();
                assert_eq!(connection.publish(&publish, &mut outcomes).await, Ok(()));
                if sent {
                    assert!(outcomes.iter().all(Outcome::is_stored), "{again} {until:?} {whole} {outcomes:?}");
                } else {
                    assert_eq!(outcomes, [const { Outcome::Failed(Reject::WindowFull) }; 2], "{whole}");
                }
            }
        }
    });
    assert_eq!(messages(&server, "s"), 3 * 2 * 2);
}
