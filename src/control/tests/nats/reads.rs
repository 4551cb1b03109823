//! Reads by place and watches on a real broker of any version: as the embedded store answers them, in streams that
//! allow Direct Get and in those that do not.

use super::{
    super::support::{Gateway, PATIENCE, name, settings},
    Server,
    publishing::api,
    whole::on_connection,
};
use crate::{
    backend::{
        Backend, Bounds, Page, Read, Start,
        nats::Connection,
        read_contract::{self, content, store},
    },
    directory::messages::{Request, Response},
    limits::{DIRECT_GET_RECORDS_MAX, Limits, SINGLE_GETS_PER_READ_MAX},
    reject::Reject,
    rt,
    station::{DirectGet, Partition, Station},
};
use serde_json::{Value, json};
use std::{rc::Rc, sync::Arc, time::Duration};

const ALL: Bounds = Bounds { records: 5_000, bytes: 1 << 24 };

fn config(server: &Server, stream: &str) -> Value {
    api(server, &format!("STREAM.INFO.{stream}"), &json!({}))["config"].clone()
}

fn consumers(server: &Server, stream: &str) -> Value {
    api(server, &format!("STREAM.INFO.{stream}"), &json!({}))["state"]["consumer_count"].clone()
}

async fn page(connection: &Connection, station: &Station, start: Start, bounds: Bounds) -> Result<Page, Reject> {
    connection.read_page(&Read { station, partition: 0, start, bounds }).await
}

fn sequences(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.sequence).collect()
}

fn allow_direct_get(gateway: &Gateway, station: &str) -> Result<Arc<Station>, Reject> {
    match gateway.answer_to(Request::AllowDirectGet { name: name(station) }) {
        Response::Station(result) => result,
        other => panic!("unexpected {other:?}"),
    }
}

/// Checks a station of one partition whose stream is empty.
fn check(server: &Server, station: &Arc<Station>) {
    let stream = &*station.partitions[0].stream;
    on_connection(server.port, &Limits::default(), |connection| async move {
        let backend = Backend::Nats(connection);
        let trim = async |first: u64| {
            let purged = api(server, &format!("STREAM.PURGE.{stream}"), &json!({ "seq": first }));
            assert_eq!(purged["success"], true, "{purged}");
        };
        read_contract::check(&backend, station, trim).await;
        read_contract::check_watch(&backend, station).await;
    });
    assert_eq!(consumers(server, stream), 0, "nothing is left behind");
}

#[test]
fn a_stream_that_is_made_answers_direct_gets_as_every_backend_does() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("orders", true).expect("made");
    assert_eq!(
        (station.direct_get, config(&server, "orders")["allow_direct"].clone()),
        (DirectGet::Allowed, json!(true))
    );
    check(&server, &station);
}

#[test]
fn the_leader_of_a_stream_that_allows_no_direct_gets_answers_alike() {
    let server = Server::start("");
    api(&server, "STREAM.CREATE.THEIRS", &json!({ "name": "THEIRS", "subjects": ["theirs"] }));
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("theirs", false).expect("there");
    assert_eq!(station.direct_get, DirectGet::Denied);
    check(&server, &station);
    assert_eq!(allow_direct_get(&gateway, "theirs").expect("there").direct_get, DirectGet::Denied);
    assert_ne!(config(&server, "THEIRS")["allow_direct"], json!(true), "a stream of somebody else stays as it is");
}

#[test]
fn a_stream_that_allows_direct_gets_no_longer_is_read_from_its_leader() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("orders", true).expect("made");
    let mut changed = config(&server, "orders");
    changed["allow_direct"] = json!(false);
    assert_eq!(api(&server, "STREAM.UPDATE.orders", &changed)["error"], Value::Null);
    assert_eq!(station.direct_get, DirectGet::Allowed, "as a shard knows it");
    check(&server, &station);
}

#[test]
fn a_stream_that_was_made_before_allows_direct_gets_once_it_is_asked_to() {
    let server = Server::start("");
    for stream in ["old$1", "old$2"] {
        let metadata = json!({ "sluicegate.station": "old", "sluicegate.partitions": "2" });
        let subject = format!("old.{}", &stream[3..]);
        let body = json!({
            "name": stream, "subjects": [subject], "metadata": metadata, "max_age": 3_600_000_000_000_u64,
            "max_msgs_per_subject": -1,
        });
        let made = api(&server, &format!("STREAM.CREATE.{stream}"), &body);
        assert_eq!(made["error"], Value::Null);
    }
    let before = config(&server, "old$2");
    let gateway = Gateway::start(settings(server.port));
    assert_eq!(gateway.station("old", false).expect("there").direct_get, DirectGet::Possible);
    for _ in 0..2 {
        assert_eq!(allow_direct_get(&gateway, "old").expect("there").direct_get, DirectGet::Allowed);
    }
    assert_eq!(gateway.station("old", false).expect("there").direct_get, DirectGet::Allowed);
    let mut expect = before;
    expect["allow_direct"] = json!(true);
    let after = config(&server, "old$2");
    for key in ["allow_direct", "max_age", "subjects", "max_msgs", "duplicate_window", "num_replicas"] {
        assert_eq!(after[key], expect[key], "{key}");
    }
    let missing = allow_direct_get(&gateway, "none").map(drop);
    assert!(matches!(missing, Err(Reject::StationUnknown(_))), "{missing:?}");
}

#[test]
fn a_read_gathers_from_as_many_answers_as_it_takes() {
    const COUNT: u64 = 2_300;
    let server = Server::start("");
    api(&server, "STREAM.CREATE.THEIRS", &json!({ "name": "THEIRS", "subjects": ["theirs"] }));
    let gateway = Gateway::start(settings(server.port));
    let direct = gateway.station("orders", true).expect("made");
    let by_leader = gateway.station("theirs", false).expect("there");
    on_connection(server.port, &Limits::default(), |connection| async move {
        let backend = Backend::Nats(Rc::clone(&connection));
        for station in [&direct, &by_leader] {
            let stored = (1..=COUNT).map(|number| {
                let backend = &backend;
                async move { store(backend, station, &format!("{number}"), None).await }
            });
            futures_util::future::join_all(stored).await;
            let (mut next, mut pages) = (1, Vec::new());
            while pages.last().is_none_or(|page: &Page| !page.records.is_empty()) {
                let page = page(&connection, station, Start::Sequence(next), ALL).await.expect("a page");
                assert!(page.records.first().is_none_or(|first| first.sequence == next), "nothing is left out");
                next = page.next;
                pages.push(page);
            }
            let all: Vec<u64> = pages.iter().flat_map(sequences).collect();
            assert_eq!(all, (1..=COUNT).collect::<Vec<_>>());
            assert_eq!(next, COUNT + 1);
            let reads = COUNT.div_ceil(SINGLE_GETS_PER_READ_MAX as u64) + 1;
            assert!(pages.len() as u64 <= reads, "{} pages", pages.len());
        }
        let some = Bounds { records: DIRECT_GET_RECORDS_MAX / 2, bytes: 3_000 };
        let page = page(&connection, &direct, Start::First, some).await.expect("a page");
        assert!(page.arena.len() <= some.bytes && page.records.len() > 50, "{}", page.records.len());
    });
}

#[test]
fn records_of_other_subjects_of_a_stream_are_passed_over() {
    let server = Server::start("");
    for (direct, stream) in [(true, "A"), (false, "B")] {
        let subjects = [format!("{stream}.one"), format!("{stream}.two")];
        let body = json!({ "name": stream, "subjects": subjects, "allow_direct": direct });
        assert_eq!(api(&server, &format!("STREAM.CREATE.{stream}"), &body)["error"], Value::Null);
    }
    let gateway = Gateway::start(settings(server.port));
    let like = gateway.station("like", true).expect("made");
    for (stream, direct_get) in [("A", DirectGet::Allowed), ("B", DirectGet::Denied)] {
        let of = |subject: &str| {
            let partition = Partition { stream: stream.into(), subject: format!("{stream}.{subject}").into() };
            Arc::new(Station { partitions: [partition].into(), direct_get, ..Station::clone(&like) })
        };
        let (station, other) = (of("one"), of("two"));
        on_connection(server.port, &Limits::default(), |connection| async move {
            let backend = Backend::Nats(Rc::clone(&connection));
            for (of, number) in [(&station, 1), (&other, 2), (&other, 3), (&station, 4), (&other, 5)] {
                assert_eq!(store(&backend, of, &format!("{number}"), None).await, number);
            }
            for (start, expect, next) in [
                (Start::First, vec![1, 4], 5),
                (Start::Sequence(2), vec![4], 5),
                (Start::Sequence(5), vec![], 6),
                (Start::New, vec![], 6),
            ] {
                let page = page(&connection, &station, start, ALL).await.expect("a page");
                assert_eq!((sequences(&page), page.next, page.gap(start)), (expect, next, None), "{start:?}");
            }
            let mut watch = backend.watch(Arc::clone(&station));
            let waited = rt::deadline(Duration::from_millis(300), watch.reached(&[(0, 5)])).await;
            assert!(waited.is_err(), "what came is another's");
            assert_eq!(store(&backend, &station, "6", None).await, 6);
            assert_eq!(watch.reached(&[(0, 5)]).await, Ok(vec![(0, 6)]));
        });
    }
}

#[test]
fn a_watch_outlives_a_broker_that_is_away_and_ends_with_its_stream() {
    let server = std::cell::RefCell::new(Server::start(""));
    let port = server.borrow().port;
    let gateway = Gateway::start(settings(port));
    let station = gateway.station("orders", true).expect("made");
    on_connection(port, &Limits { hold: Duration::from_millis(200), ..Limits::default() }, |connection| {
        let (server, station) = (&server, &station);
        async move {
            let backend = Backend::Nats(Rc::clone(&connection));
            assert_eq!(store(&backend, station, "one", None).await, 1);
            let mut watch = backend.watch(Arc::clone(station));
            let restart = async {
                rt::sleep(Duration::from_millis(200)).await;
                server.borrow_mut().kill();
                let away = page(&connection, station, Start::First, ALL).await;
                assert!(matches!(away, Err(Reject::BrokerAway)), "{away:?}");
                rt::sleep(Duration::from_millis(500)).await;
                server.borrow_mut().run();
                while page(&connection, station, Start::First, ALL).await.is_err() {
                    rt::sleep(Duration::from_millis(50)).await;
                }
                store(&backend, station, "two", None).await
            };
            let (reached, _) = futures_util::future::join(watch.reached(&[(0, 2)]), restart).await;
            assert_eq!(reached, Ok(vec![(0, 2)]));
            let first = page(&connection, station, Start::First, ALL).await.expect("a page");
            assert_eq!(content(&first), [(1, "one".to_owned()), (2, "two".to_owned())]);
            let deleting = async {
                rt::sleep(Duration::from_millis(100)).await;
                api(&server.borrow(), "STREAM.DELETE.orders", &json!({}))
            };
            let ended = rt::deadline(PATIENCE, futures_util::future::join(watch.reached(&[(0, 9)]), deleting)).await;
            assert_eq!(ended.expect("in time").0, Err(Reject::NoStream));
            assert_eq!(page(&connection, station, Start::First, ALL).await, Err(Reject::NoStream));
        }
    });
}
