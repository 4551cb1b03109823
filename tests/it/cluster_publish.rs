//! Publishing to a cluster: what several servers do to one record, and what becomes of it at its client.

use crate::support::{
    PATIENCE, StopOnDrop,
    broker::Broker,
    cluster::Cluster,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    nats::version_line,
    proxy::Way,
    readback::stream_of,
    setup::Setup,
    unique,
};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const OK: &str = "{\"error\":null,\"success\":true}";

/// A gateway of one shard, so that all requests share one window, on a cluster of the test's own.
fn gateway_of(cluster: &Cluster) -> Gateway {
    Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).shards(1).start()
}

fn post(gateway: &Gateway, station: &str, form: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    gateway.post(&format!("/stations/{station}/produce/{form}"), &all, body.as_bytes())
}

#[test]
fn c2_a_strict_batch_of_which_some_ids_are_known_is_refused_and_its_stream_lives() {
    if version_line().contains("v2.10.") {
        return; // It knows no atomic batches: there is no such request.
    }
    let gateway = Setup::CLUSTER.shared();
    let station = unique("known");
    let headers = [("Prefer", "handling=strict"), ("Idempotency-Key", "S")];
    post(gateway, &station, "batch", &headers, r#"["a","b"]"#).is(200, OK);
    // Sent again whole: it is stored already, and where is known.
    let receipts = [headers[0], headers[1], ("Prefer", "return=representation")];
    let again = post(gateway, &station, "batch", &receipts, r#"["a","b"]"#);
    let receipt = |sequence| json!({"stream": stream_of(&station), "sequence": sequence, "duplicate": true});
    assert_eq!(again.json()["receipts"], json!([receipt(1), receipt(2)]), "{}", again.text());
    let some = post(gateway, &station, "batch", &headers, r#"["a","b","c"]"#);
    assert_eq!(some.status, 400, "{}", some.text());
    assert!(some.text().contains("the message id is known already"), "{}", some.text());
    for number in 0..20 {
        post(gateway, &station, "single", &[], &number.to_string()).is(200, OK);
    }
}

/// What a client was told of a record, and what it was.
type Told = (u64, String);

/// Stores records one after the other, singly, in batches and all or nothing, until `enough`, and remembers what the
/// receipts say.
fn store(gateway: &Gateway, station: &str, who: usize, enough: impl Fn() -> bool) -> Vec<Told> {
    let mut http = Http::connect(gateway.address());
    let mut told = Vec::new();
    for round in (0..).take_while(|_| !enough()) {
        let records: Vec<String> = (0..=2 * (round % 3)).map(|index| format!("\"{who}-{round}-{index}\"")).collect();
        let (form, body) = match records.as_slice() {
            [only] => ("single", only.clone()),
            several => ("batch", format!("[{}]", several.join(","))),
        };
        let preferences =
            if round % 2 == 0 { "return=representation" } else { "return=representation, handling=strict" };
        let headers = [("Content-Type", "application/json"), ("Prefer", preferences)];
        let path = format!("/stations/{station}/produce/{form}");
        let response = http.exchange(&gateway.authorized("POST", &path, &headers, body.as_bytes()));
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        let places = answer["receipts"].as_array().unwrap().iter().map(|receipt| receipt["sequence"].as_u64().unwrap());
        told.extend(places.zip(records));
    }
    told
}

#[test]
fn c1_an_answer_that_comes_twice_acknowledges_nobody_elses_record() {
    let cluster = Cluster::start_behind_proxies();
    let gateway = gateway_of(&cluster);
    let station = unique("twice");
    post(&gateway, &station, "single", &[], "\"first\"").is(200, OK);
    for index in 0..3 {
        // As late as a few other records: their tokens would be the same ones.
        cluster.client_link(index).repeat_answers(Some(Duration::from_millis(40)));
    }
    // Answers have to come again while others are waited for: a fast machine stores hundreds before the first does.
    let repeated = || (0..3).map(|index| cluster.client_link(index).answers_repeated()).sum::<usize>();
    let deadline = Instant::now() + PATIENCE;
    let enough = || repeated() > 200 || Instant::now() > deadline;
    let told: Vec<Told> = thread::scope(|scope| {
        let producers: Vec<_> = (0..6)
            .map(|who| {
                scope.spawn({
                    let (gateway, station, enough) = (&gateway, &station, &enough);
                    move || store(gateway, station, who, enough)
                })
            })
            .collect();
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    });
    assert!(repeated() > 200, "{} answers came twice", repeated());
    let stored: HashMap<u64, String> = cluster
        .broker()
        .messages(&stream_of(&station))
        .into_iter()
        .map(|message| (message.sequence, String::from_utf8(message.payload).unwrap()))
        .collect();
    let wrong: Vec<_> = told.iter().filter(|(sequence, record)| stored.get(sequence) != Some(record)).collect();
    assert!(wrong.is_empty(), "{} of {} receipts name another record: {:?}", wrong.len(), told.len(), wrong.first());
    eventually("answers that came twice are counted", PATIENCE, || {
        let metrics = gateway.metrics();
        let line = metrics.lines().find(|line| line.starts_with("sluicegate_acknowledgements_unmatched_total "))?;
        let counted: f64 = line.split(' ').nth(1)?.parse().ok()?;
        (counted > 100.0).then_some(())
    });
}

/// What one producer was answered: each request's status, and each record of an acknowledged one.
#[derive(Debug, Default)]
struct Answered {
    statuses: Vec<(u16, String)>,
    acknowledged: Vec<String>,
    /// When each acknowledged request was answered.
    served: Vec<Instant>,
}

impl Answered {
    fn failed(&self) -> Vec<&(u16, String)> {
        self.statuses.iter().filter(|(status, _)| *status != 200).collect()
    }
}

/// How a producer of [`under_load`] sends.
#[derive(Debug, Clone, Copy)]
struct Load {
    producers: usize,
    /// Records of one request; one is sent by itself.
    records: usize,
    ids: bool,
}

/// Sends requests all the time, one after the other on each connection, while something is done to the cluster, and a little longer.
/// Each producer's records are numbered in its order. A request that failed is not sent again.
fn under_load<T>(gateway: &Gateway, station: &str, load: Load, during: impl FnOnce() -> T) -> (T, Vec<Answered>) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let producers: Vec<_> =
            (0..load.producers).map(|who| scope.spawn(move || produce(gateway, station, load, who, stop))).collect();
        let stopper = StopOnDrop(stop);
        thread::sleep(Duration::from_millis(500));
        let result = during();
        thread::sleep(Duration::from_millis(500));
        drop(stopper);
        (result, producers.into_iter().map(|producer| producer.join().unwrap()).collect())
    })
}

fn produce(gateway: &Gateway, station: &str, load: Load, who: usize, stop: &AtomicBool) -> Answered {
    let mut http = Http::connect(gateway.address());
    let mut answered = Answered::default();
    let mut number = 0;
    let form = if load.records == 1 { "single" } else { "batch" };
    let path = format!("/stations/{station}/produce/{form}");
    while !stop.load(Ordering::Relaxed) {
        let records: Vec<String> =
            (number..number + load.records).map(|number| format!("\"{who}:{number}\"")).collect();
        let body = if load.records == 1 { records[0].clone() } else { format!("[{}]", records.join(",")) };
        let key = format!("{who}-{number}");
        number += load.records;
        let mut headers = vec![("Content-Type", "application/json")];
        if load.ids {
            headers.push(("Idempotency-Key", &key));
        }
        let response = http.exchange(&gateway.authorized("POST", &path, &headers, body.as_bytes()));
        answered.statuses.push((response.status, response.text().to_owned()));
        if response.status == 200 {
            answered.acknowledged.extend(records);
            answered.served.push(Instant::now());
        }
    }
    answered
}

/// Every acknowledged record is stored; with ids once; and those of a producer and partition are in their order.
#[track_caller]
fn all_is_kept(cluster: &Cluster, streams: &[String], load: Load, answered: &[Answered]) {
    let stored: Vec<Vec<String>> = streams
        .iter()
        .map(|stream| {
            cluster.wait_for_leader(stream);
            let messages = cluster.broker().messages(stream).into_iter();
            messages.map(|message| String::from_utf8(message.payload).unwrap()).collect()
        })
        .collect();
    let all: HashSet<&String> = stored.iter().flatten().collect();
    let missing: Vec<_> =
        answered.iter().flat_map(|one| &one.acknowledged).filter(|record| !all.contains(record)).collect();
    assert!(missing.is_empty(), "{} acknowledged records are not stored: {:?}", missing.len(), missing.first());
    if load.ids {
        assert_eq!(all.len(), stored.iter().map(Vec::len).sum::<usize>(), "something is stored twice");
    }
    let acknowledged: HashSet<&String> = answered.iter().flat_map(|one| &one.acknowledged).collect();
    for stream in &stored {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for record in stream.iter().filter(|record| acknowledged.contains(record)) {
            let (who, number) = record.trim_matches('"').split_once(':').unwrap();
            let number: u64 = number.parse().unwrap();
            let before = last.insert(who, number);
            assert!(before.is_none_or(|before| before < number), "{record} stands behind {before:?}");
        }
    }
}

/// A station with three copies of each partition, and its streams.
fn station_of(gateway: &Gateway, name: &str, partitions: u16) -> (String, Vec<String>) {
    let station = unique(name);
    let arguments = ["station", "create", &station, "--partitions", &partitions.to_string()];
    crate::support::admin::done(gateway, &arguments, "");
    let streams = if partitions == 1 {
        vec![stream_of(&station)]
    } else {
        (1..=partitions).map(|number| format!("{}${number}", stream_of(&station))).collect()
    };
    (station, streams)
}

#[test]
fn c6_a_leader_that_hands_over_is_no_clients_problem() {
    let cluster = Cluster::start();
    let gateway = Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).start();
    for (records, ids) in [(1, false), (1, true), (40, true)] {
        let (station, streams) = station_of(&gateway, "handed", 1);
        let load = Load { producers: 6, records, ids };
        let (handed, answered) = under_load(&gateway, &station, load, || {
            let hand_over = |_: &usize| {
                thread::sleep(Duration::from_millis(300));
                cluster.wait_for_leader(&streams[0]);
                cluster.step_down(&streams[0])
            };
            (0..6).filter(hand_over).count()
        });
        assert!(handed >= 4, "{handed}");
        let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
        // What was in flight when the leader went the broker forgets without a word: without an id only the client can decide.
        let unknown = |one: &&&(u16, String)| !ids && one.1.contains("may be stored or not");
        let forgotten = failed.iter().filter(unknown).count();
        assert_eq!(forgotten, failed.len(), "{load:?}: {:?}", failed.iter().find(|one| !unknown(one)));
        assert!(forgotten <= handed * load.producers);
        all_is_kept(&cluster, &streams, load, &answered);
    }
}

#[test]
fn c3_a_partition_without_a_leader_makes_no_batch_a_final_failure() {
    let mut cluster = Cluster::start();
    let gateway = Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).start();
    let (station, streams) = station_of(&gateway, "parts", 5);
    let load = Load { producers: 4, records: 50, ids: true };
    let ((), answered) = under_load(&gateway, &station, load, || {
        let leader = cluster.wait_for_leader(&streams[2]);
        cluster.kill9(leader);
        thread::sleep(Duration::from_secs(10));
    });
    for (status, text) in answered.iter().flat_map(Answered::failed) {
        assert_eq!(*status, 503, "{text}");
        assert!(!text.contains("nothing was stored"), "{text}");
    }
    all_is_kept(&cluster, &streams, load, &answered);
}

#[test]
fn c7_what_a_dead_leader_did_not_answer_is_published_again_if_it_has_an_id() {
    let mut cluster = Cluster::start();
    let gateway = Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).start();
    let (station, streams) = station_of(&gateway, "frozen", 1);
    let load = Load { producers: 6, records: 1, ids: true };
    let (leader, answered) = under_load(&gateway, &station, load, || {
        let leader = cluster.wait_for_leader(&streams[0]);
        cluster.freeze(leader);
        // Longer than an answer is waited for.
        thread::sleep(Duration::from_secs(16));
        leader
    });
    cluster.thaw(leader);
    cluster.wait_for_all();
    cluster.wait_for_copies(&streams[0]);
    let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
    // Elections take up to nine seconds, and a connection has to find that its server sleeps: then a request may fail
    // once.
    assert!(failed.len() <= load.producers, "{} requests failed: {:?}", failed.len(), failed.first());
    let went_on = answered.iter().filter(|one| one.statuses.last().is_some_and(|(status, _)| *status == 200)).count();
    assert_eq!(went_on, load.producers);
    all_is_kept(&cluster, &streams, load, &answered);
}

/// The lines of a gateway's log that say this.
fn said(gateway: &Gateway, what: &str) -> usize {
    gateway.process().stderr().lines().filter(|line| line.contains(what)).count()
}

#[test]
fn c8_a_silent_connection_is_given_up_and_what_has_an_id_goes_over_the_next() {
    let cluster = Cluster::start_behind_proxies();
    for ways in [&[Way::Up, Way::Down][..], &[Way::Down], &[Way::Up]] {
        let gateway = gateway_of(&cluster);
        let (station, streams) = station_of(&gateway, "silent", 1);
        let load = Load { producers: 6, records: 1, ids: true };
        // The first shard begins at the first server.
        let ((), answered) = under_load(&gateway, &station, load, || {
            cluster.client_link(0).silence(ways);
            thread::sleep(Duration::from_secs(8));
        });
        cluster.client_link(0).heal();
        let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
        assert!(failed.is_empty(), "{ways:?}: {} requests failed: {:?}", failed.len(), failed.first());
        let left = ["the broker's server is silent", "does not serve publishes"].map(|what| said(&gateway, what));
        assert!(left.iter().sum::<usize>() >= 1, "{ways:?}");
        all_is_kept(&cluster, &streams, load, &answered);
    }
}

#[test]
fn c4_a_link_leaves_a_server_that_has_lost_its_cluster() {
    let cluster = Cluster::start_behind_proxies();
    let gateway = gateway_of(&cluster);
    let (station, streams) = station_of(&gateway, "minority", 1);
    cluster.make_leader(&streams[0], 1);
    let load = Load { producers: 6, records: 1, ids: true };
    let ((), answered) = under_load(&gateway, &station, load, || {
        for link in cluster.route_links_of(0) {
            link.silence(&[Way::Up, Way::Down]);
        }
        thread::sleep(Duration::from_secs(12));
    });
    for link in cluster.route_links_of(0) {
        link.heal();
    }
    let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
    assert!(failed.is_empty(), "{} requests failed: {:?}", failed.len(), failed.first());
    assert!(said(&gateway, "does not serve publishes; going to another one") >= 1);
    // C10: an operator is told once that publishes fail, and once that they work again, however many failed.
    assert_eq!((said(&gateway, "publishes fail for the moment"), said(&gateway, "publishes work again")), (1, 1));
    cluster.wait_for_all();
    cluster.wait_for_copies(&streams[0]);
    all_is_kept(&cluster, &streams, load, &answered);
}

/// How long it takes until a client of the broker's own stores something at one of these servers.
fn served_by(cluster: &Cluster, servers: &[usize], subject: &str) -> Duration {
    let (begun, mut attempt) = (Instant::now(), 0);
    eventually("another server takes a record", 2 * PATIENCE, || {
        attempt += 1;
        let server = cluster.server(servers[attempt % servers.len()]);
        let mut broker = Broker::try_connect(server.address(), "", Duration::from_millis(500)).ok()?;
        let answer = broker.try_request(subject, format!("native {attempt}").as_bytes()).ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
        answer.get("error").is_none().then(|| begun.elapsed())
    })
}

#[test]
fn c4_a_link_leaves_a_leader_that_has_lost_its_cluster_about_as_soon_as_another_one_leads() {
    let cluster = Cluster::start_behind_proxies();
    let gateway = gateway_of(&cluster);
    let (station, streams) = station_of(&gateway, "deposed", 1);
    // The connection's own server: it goes on to say of a record that comes again that it is under way.
    cluster.make_leader(&streams[0], 0);
    let load = Load { producers: 6, records: 1, ids: true };
    let ((cut, native), answered) = under_load(&gateway, &station, load, || {
        let cut = Instant::now();
        for link in cluster.route_links_of(0) {
            link.silence(&[Way::Up, Way::Down]);
        }
        let native = served_by(&cluster, &[1, 2], &station);
        thread::sleep(3 * native + Duration::from_secs(2));
        (cut, native)
    });
    for link in cluster.route_links_of(0) {
        link.heal();
    }
    // What was under way when the line was cut may still have come.
    let again = answered.iter().flat_map(|one| &one.served).filter_map(|at| at.checked_duration_since(cut));
    let ours = again.filter(|after| *after > native / 2).min().expect("somebody is served");
    assert!(ours < 3 * native, "nobody was served for {ours:?}; without a gateway for {native:?}");
    let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
    // A request is given up after ten seconds, and an election may take as long.
    let given_up = load.producers * (1 + usize::try_from(native.as_secs() / 5).unwrap());
    assert!(failed.len() <= given_up, "{} requests failed: {:?}", failed.len(), failed.first());
    cluster.wait_for_all();
    cluster.wait_for_copies(&streams[0]);
    all_is_kept(&cluster, &streams, load, &answered);
}

#[test]
fn c4_the_control_plane_leaves_a_server_that_takes_itself_for_the_leader_of_all() {
    let cluster = Cluster::start_behind_proxies();
    eventually("JetStream is led by the first server", 3 * PATIENCE, || {
        if cluster.meta_leader() == Some(0) {
            return Some(());
        }
        cluster.meta_step_down();
        cluster.wait_for_all();
        None
    });
    // The control plane begins at the first server.
    let gateway = gateway_of(&cluster);
    cluster.make_leader("KV_sluicegate", 0);
    for link in cluster.route_links_of(0) {
        link.silence(&[Way::Up, Way::Down]);
    }
    eventually("the first server knows that it is alone", 3 * PATIENCE, || {
        let mut broker = Broker::try_connect(cluster.server(0).address(), "", PATIENCE).ok()?;
        let answer = broker.try_request("$JS.API.INFO", b"").ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
        answer.get("error").map(drop)
    });
    assert!(said(&gateway, "the registry has no leader there") >= 1, "left before it knew");
    for link in cluster.route_links_of(0) {
        link.heal();
    }
    cluster.wait_for_all();
}

#[test]
fn c6_a_link_has_another_server_before_it_leaves_one_that_is_about_to_stop() {
    let mut cluster = Cluster::start();
    let gateway = gateway_of(&cluster);
    let (station, streams) = station_of(&gateway, "duck", 1);
    let (quiet, others) = (unique("quiet"), [&streams[0], "KV_sluicegate"]);
    post(&gateway, &quiet, "single", &[], "\"x\"").is(200, OK);
    let waits = r#"{"consumer_name":"c","batch_max_wait_time_ms":30000}"#;
    gateway.consume(&quiet, r#"{"consumer_name":"c","batch_max_wait_time_ms":1000}"#);
    cluster.wait_for_copies(&stream_of(&quiet));
    for stream in others.into_iter().chain([stream_of(&quiet).as_str()]) {
        cluster.make_leader(stream, 1);
    }
    // Without ids: whatever is lost would be a failure.
    let load = Load { producers: 6, records: 1, ids: false };
    let (consumed, answered) = under_load(&gateway, &station, load, || {
        thread::scope(|scope| {
            let consumed = scope.spawn(|| gateway.consume(&quiet, waits));
            thread::sleep(Duration::from_millis(500));
            cluster.lame_duck(0);
            cluster.wait_for_its_end(0);
            consumed.join().unwrap()
        })
    });
    cluster.restart(0);
    cluster.wait_for_all();
    assert_eq!(said(&gateway, "about to stop: going elsewhere"), 1);
    assert_eq!(said(&gateway, "the connection to the broker is lost"), 0, "the next one stood by");
    assert_eq!(consumed.status, 200, "{}", consumed.text());
    let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
    assert!(failed.is_empty(), "{} requests failed: {:?}", failed.len(), failed.first());
    all_is_kept(&cluster, &streams, load, &answered);
}

#[test]
fn c6_a_rolling_restart_by_lame_duck_costs_at_most_one_request() {
    let mut cluster = Cluster::start();
    let gateway = Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).start();
    let (station, streams) = station_of(&gateway, "rolling", 1);
    let load = Load { producers: 16, records: 1, ids: true };
    let ((), answered) = under_load(&gateway, &station, load, || {
        for index in 0..3 {
            cluster.wait_for_copies(&streams[0]);
            cluster.lame_duck(index);
            cluster.wait_for_its_end(index);
            cluster.restart(index);
            cluster.wait_for_all();
        }
    });
    let failed: Vec<_> = answered.iter().flat_map(Answered::failed).collect();
    assert!(failed.len() <= 1, "{} requests failed: {:?}", failed.len(), failed.first());
    all_is_kept(&cluster, &streams, load, &answered);
}
