//! Stations and consumer groups on a real broker.

use super::{
    super::support::{Gateway, block_on, name, settings},
    Server,
};
use crate::{
    config::{BackendSettings, Layout, NatsCredential, Secret, Settings},
    directory::messages::{Request, Response},
    limits::ACK_WAIT,
    reject::Reject,
    rt::clock,
    station::{Station, Storage},
};
use async_nats::jetstream::{self, consumer, stream};
use futures_util::TryStreamExt;
use std::{sync::Arc, time::Duration};

fn places(station: &Station) -> Vec<(&str, &str)> {
    station.partitions.iter().map(|partition| (&*partition.stream, &*partition.subject)).collect()
}

fn stream_config(server: &Server, name: &str) -> stream::Config {
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        let stream = jetstream.get_stream(name).await.expect("the stream exists");
        stream.cached_info().config.clone()
    })
}

fn make_stream(server: &Server, config: stream::Config) {
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        jetstream.create_stream(config).await.expect("the stream is made");
    });
}

fn stream_names(server: &Server) -> Vec<String> {
    block_on(async {
        let mut names: Vec<String> =
            jetstream::new(server.client().await).stream_names().try_collect().await.expect("names");
        names.retain(|name| !name.starts_with("KV_"));
        names.sort();
        names
    })
}

#[test]
fn a_station_is_made_with_the_originals_defaults_and_found_again() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let station = gateway.station("My.Orders", true).expect("made");
    assert_eq!(places(&station), [("my#orders", "my.orders")]);
    assert_eq!((station.record_bytes_max, station.replicas), (None, 1));
    let config = stream_config(&server, "my#orders");
    assert_eq!(config.subjects, ["my.orders"]);
    assert_eq!(config.max_age, Duration::from_secs(3_600));
    assert_eq!((config.max_messages, config.max_bytes, config.num_replicas), (-1, -1, 1));
    assert_eq!(config.duplicate_window, Duration::from_secs(120));
    assert_eq!((config.retention, config.discard), (stream::RetentionPolicy::Limits, stream::DiscardPolicy::Old));
    assert_eq!(config.storage, stream::StorageType::File);
    assert_eq!(config.metadata.get("sluicegate.station").map(String::as_str), Some("my.orders"));
    assert_eq!(gateway.station("my.orders", false), Ok(station));
    assert_eq!(stream_names(&server), ["my#orders"]);
}

#[test]
fn settings_of_retention_reach_the_stream() {
    let server = Server::start("");
    let mut settings = settings(server.port);
    settings.stations.attributes.retention_age = Some(Duration::from_secs(30));
    settings.stations.attributes.retention_records = Some(1_000);
    settings.stations.attributes.retention_bytes = Some(1 << 20);
    settings.stations.attributes.storage = Storage::Memory;
    let gateway = Gateway::start(settings);
    gateway.station("short", true).expect("made");
    let config = stream_config(&server, "short");
    assert_eq!((config.max_messages, config.max_bytes), (1_000, 1 << 20));
    // The window never exceeds the age: the server would refuse that.
    assert_eq!((config.max_age, config.duplicate_window), (Duration::from_secs(30), Duration::from_secs(30)));
    assert_eq!(config.storage, stream::StorageType::Memory);
}

#[test]
fn a_station_is_not_made_where_that_is_not_allowed() {
    let server = Server::start("");
    let allowed = settings(server.port);
    let mut forbidden = allowed.clone();
    forbidden.stations.auto_create = false;
    for (settings, create) in [(allowed, false), (forbidden, true)] {
        let gateway = Gateway::start(settings);
        assert_eq!(gateway.station("nowhere", create), Err(Reject::StationUnknown("nowhere".into())));
    }
    assert_eq!(stream_names(&server), [""; 0]);
}

#[test]
fn a_stream_that_captures_the_subject_is_used_as_it_is() {
    let server = Server::start("");
    make_stream(
        &server,
        stream::Config {
            name: "EVERYTHING".to_owned(),
            subjects: vec!["shop.>".to_owned()],
            max_message_size: 512,
            ..stream::Config::default()
        },
    );
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("shop.orders", false).expect("found");
    assert_eq!(places(&station), [("EVERYTHING", "shop.orders")]);
    assert_eq!(station.record_bytes_max, Some(512));
    assert_eq!(stream_names(&server), ["EVERYTHING"]);
}

#[test]
fn a_stream_that_has_the_name_and_not_the_subject_is_named_in_the_error() {
    let server = Server::start("");
    let taken = stream::Config {
        name: "orders".to_owned(),
        subjects: vec!["elsewhere".to_owned()],
        ..stream::Config::default()
    };
    make_stream(&server, taken);
    make_stream(
        &server,
        stream::Config {
            name: "MUTE".to_owned(),
            subjects: vec!["mute".to_owned()],
            no_ack: true,
            ..stream::Config::default()
        },
    );
    let gateway = Gateway::start(settings(server.port));
    let refused = gateway.station("orders", true);
    assert!(matches!(&refused, Err(Reject::StationBlocked(text)) if text.contains("\"orders\"")), "{refused:?}");
    make_stream(
        &server,
        stream::Config { name: "WIDE".to_owned(), subjects: vec!["w.>".to_owned()], ..stream::Config::default() },
    );
    let partitioned = Gateway::start(with(&server, Layout::Plain, 2));
    let refused = partitioned.station("w", true);
    assert!(matches!(&refused, Err(Reject::StationBlocked(text)) if text.contains("overlap")), "{refused:?}");
    let refused = gateway.station("mute", true);
    assert!(matches!(&refused, Err(Reject::StationBlocked(text)) if text.contains("no_ack")), "{refused:?}");
}

fn with(server: &Server, layout: Layout, partitions: u16) -> Settings {
    let mut settings = settings(server.port);
    settings.stations.layout = layout;
    settings.stations.attributes.partitions = partitions;
    settings
}

#[test]
fn partitions_are_one_stream_each_and_their_number_is_remembered() {
    let server = Server::start("");
    let gateway = Gateway::start(with(&server, Layout::Plain, 3));
    let expect = [("a#b$1", "a.b.$1"), ("a#b$2", "a.b.$2"), ("a#b$3", "a.b.$3")];
    assert_eq!(places(&gateway.station("a.b", true).expect("made")), expect);
    // Another gateway, configured otherwise, uses what is there.
    let other = Gateway::start(with(&server, Layout::Plain, 1));
    let station = other.station("a.b", true).expect("found");
    assert_eq!(places(&station), expect);
    assert_eq!(stream_names(&server), ["a#b$1", "a#b$2", "a#b$3"]);
    let consumer = other.consumer(&station, None).expect("made");
    assert_eq!(&*consumer.durable, "rest-gateway");
}

#[test]
fn a_set_of_partitions_that_was_left_incomplete_is_completed() {
    let server = Server::start("");
    let gateway = Gateway::start(with(&server, Layout::Plain, 3));
    gateway.station("s", true).expect("made");
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        jetstream.delete_stream("s$2").await.expect("deleted");
    });
    let incomplete = gateway.station("s", false);
    assert!(incomplete.is_err(), "{incomplete:?}");
    assert_eq!(gateway.station("s", true).map(|station| station.partitions.len()), Ok(3));
    assert_eq!(stream_names(&server), ["s$1", "s$2", "s$3"]);
}

#[test]
fn the_memphis_layout_has_the_originals_names() {
    let server = Server::start("");
    let gateway = Gateway::start(with(&server, Layout::Memphis, 2));
    let station = gateway.station("my.s", true).expect("made");
    assert_eq!(places(&station), [("my#s$1", "my#s$1.final"), ("my#s$2", "my#s$2.final")]);
    assert_eq!(stream_config(&server, "my#s$2").subjects, ["my#s$2.>"]);
    let consumer = gateway.consumer(&station, Some("Bill.ing")).expect("made");
    assert_eq!(&*consumer.durable, "bill#ing-rest-gateway");
    // A broker that Memphis itself has filled: no metadata of ours; and a station from before partitions.
    for (name, subject) in [("old$1", "old$1.>"), ("old$2", "old$2.>"), ("old$3", "old$3.>"), ("ancient", "ancient.>")]
    {
        let config =
            stream::Config { name: name.to_owned(), subjects: vec![subject.to_owned()], ..stream::Config::default() };
        make_stream(&server, config);
    }
    let old = gateway.station("old", false).expect("found");
    assert_eq!(places(&old), [("old$1", "old$1.final"), ("old$2", "old$2.final"), ("old$3", "old$3.final")]);
    let ancient = gateway.station("ancient", true).expect("found");
    assert_eq!(places(&ancient), [("ancient", "ancient.final")]);
}

#[test]
fn two_gateways_that_make_the_same_station_at_once_agree() {
    let server = Server::start("");
    let (one, two) = (Gateway::start(settings(server.port)).ready(), Gateway::start(settings(server.port)).ready());
    let stations = 40;
    for gateway in [&one, &two] {
        for at in 0..stations {
            gateway.ask(Request::Station { name: name(&format!("race{at}")), create: true });
        }
    }
    for gateway in [&one, &two] {
        for _ in 0..stations {
            let (ticket, answer) = gateway.next_answer();
            let Response::Station(Ok(station)) = answer else { panic!("{answer:?}") };
            assert_eq!(station.name.as_str(), format!("race{ticket}"));
        }
    }
    assert_eq!(stream_names(&server).len(), stations);
}

#[test]
fn the_same_question_from_many_is_asked_once_and_answered_to_each() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let mut tickets: Vec<u64> =
        (0..500).map(|_| gateway.ask(Request::Station { name: name("hot"), create: true })).collect();
    let mut stations: Vec<Arc<Station>> = Vec::new();
    while !tickets.is_empty() {
        let (ticket, answer) = gateway.next_answer();
        let Response::Station(Ok(station)) = answer else { panic!("{answer:?}") };
        tickets.retain(|open| *open != ticket);
        stations.push(station);
    }
    assert_eq!(stations.len(), 500);
    let distinct: std::collections::HashSet<*const Station> = stations.iter().map(Arc::as_ptr).collect();
    assert!(distinct.len() < 50, "{} lookups for 500 questions", distinct.len());
}

#[test]
fn consumers_hand_out_everything_until_it_is_acknowledged() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("orders", true).expect("made");
    let group = gateway.consumer(&station, Some("billing")).expect("made");
    assert_eq!((&*group.durable, group.ack_wait), ("billing-rest-gateway", ACK_WAIT));
    assert_eq!(gateway.consumer(&station, Some("billing")), Ok(group));
    let config = block_on(async {
        let jetstream = jetstream::new(server.client().await);
        let made: consumer::PullConsumer =
            jetstream.get_consumer_from_stream("billing-rest-gateway", "orders").await.expect("it exists");
        made.cached_info().config.clone()
    });
    assert_eq!((config.max_deliver, config.ack_wait), (-1, ACK_WAIT));
    assert_eq!(
        (config.ack_policy, config.deliver_policy),
        (consumer::AckPolicy::Explicit, consumer::DeliverPolicy::All)
    );
    assert_eq!((config.filter_subject.as_str(), config.max_ack_pending), ("orders", 100_000));
}

#[test]
fn a_durable_that_cannot_keep_the_promise_is_refused_and_one_that_can_is_used() {
    use consumer::AckPolicy::{All, Explicit};
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("orders", true).expect("made");
    make_stream(
        &server,
        stream::Config { name: "WIDE".to_owned(), subjects: vec!["w.*".to_owned()], ..stream::Config::default() },
    );
    let wide = gateway.station("w.a", false).expect("found");
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        let (orders, wide) = (jetstream.get_stream("orders").await, jetstream.get_stream("WIDE").await);
        let (orders, wide) = (orders.expect("exists"), wide.expect("exists"));
        let pull = |durable: &str, filter: &str, ack_policy| consumer::pull::Config {
            durable_name: Some(durable.to_owned()),
            filter_subject: filter.to_owned(),
            ack_policy,
            ack_wait: Duration::from_secs(7),
            ..consumer::pull::Config::default()
        };
        orders.create_consumer(pull("bare-rest-gateway", "", Explicit)).await.expect("made");
        orders.create_consumer(pull("all-rest-gateway", "orders", All)).await.expect("made");
        wide.create_consumer(pull("bare-rest-gateway", "", Explicit)).await.expect("made");
        wide.create_consumer(pull("other-rest-gateway", "w.b", Explicit)).await.expect("made");
        let push = consumer::push::Config {
            durable_name: Some("push-rest-gateway".to_owned()),
            deliver_subject: "somewhere".to_owned(),
            ..consumer::push::Config::default()
        };
        orders.create_consumer(push).await.expect("made");
    });
    let used = gateway.consumer(&station, Some("bare")).expect("usable");
    assert_eq!(used.ack_wait, Duration::from_secs(7));
    for (station, group, expect) in [(&station, "push", "push consumer"), (&station, "all", "not explicit")] {
        let refused = gateway.consumer(station, Some(group));
        assert!(matches!(&refused, Err(Reject::Conflict(text)) if text.contains(expect)), "{refused:?}");
    }
    // Those that read other subjects than the station's are another station's, or nobody's.
    for (group, expect) in
        [("bare", "bare-rest-gateway$w#a"), ("other", "other-rest-gateway$w#a"), ("new", "new-rest-gateway")]
    {
        for _ in 0..2 {
            let used = gateway.consumer(&wide, Some(group)).expect("made, and then found");
            assert_eq!(&*used.durable, expect);
        }
    }
}

#[test]
fn a_station_that_is_gone_is_said_to_be_gone() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port));
    let station = gateway.station("orders", true).expect("made");
    block_on(async {
        jetstream::new(server.client().await).delete_stream("orders").await.expect("deleted");
    });
    assert_eq!(gateway.consumer(&station, None), Err(Reject::NoStream));
    assert!(gateway.station("orders", true).is_ok());
}

#[test]
fn what_the_broker_forbids_or_lacks_is_said_and_not_timed_out() {
    let permissions = r#"authorization { users: [
        { user: app, password: secret, permissions: { publish: { allow: ["$JS.API.STREAM.NAMES", "$KV.>"] }, subscribe: ["_INBOX.>"] } }
        { user: other, password: secret }
    ] }"#;
    let server = Server::start(permissions);
    let mut limited = settings(server.port);
    if let BackendSettings::Nats(nats) = &mut limited.backend {
        nats.credential = NatsCredential::UserPassword("app".to_owned(), Secret::new("secret"));
    }
    let began = clock::now();
    let gateway = Gateway::start(limited);
    let refused = gateway.station("orders", true);
    assert!(matches!(&refused, Err(Reject::BrokerForbidden(subject)) if subject.contains("STREAM")), "{refused:?}");
    assert!(clock::since(began) < Duration::from_secs(4), "{:?}", clock::since(began));
    // Wrong credentials are the same as no broker: the gateway keeps trying.
    let mut wrong = settings(server.port);
    wrong.limits.hold = Duration::from_millis(300);
    let gateway = Gateway::start(wrong);
    assert_eq!(gateway.station("orders", true), Err(Reject::BrokerAway));
    assert!(gateway.service.reasons_not_ready().contains(&"broker away"));
}

#[test]
fn without_a_broker_the_gateway_starts_and_is_not_ready_until_there_is_one() {
    let mut server = Server::start("");
    server.kill();
    let mut settings = settings(server.port);
    settings.limits.hold = Duration::from_millis(300);
    let gateway = Gateway::start(settings);
    assert!(gateway.service.reasons_not_ready().contains(&"broker away"));
    assert_eq!(gateway.station("orders", true), Err(Reject::BrokerAway));
    server.run();
    let gateway = gateway.ready();
    assert!(gateway.station("orders", true).is_ok());
    server.kill();
    gateway.until("away", |gateway| gateway.service.reasons_not_ready().contains(&"broker away"));
    server.run();
    let gateway = gateway.ready();
    gateway.metrics.link_up.set(0);
    assert_eq!(gateway.service.reasons_not_ready(), ["broker away"]);
    gateway.handle().drain();
    assert!(gateway.service.reasons_not_ready().contains(&"draining"));
}
