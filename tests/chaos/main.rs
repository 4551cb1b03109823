//! `make chaos`: two gateways before a cluster of three nats-servers, through proxies; producers of every kind,
//! consumers, and a publisher without a gateway; faults by a seed. Afterwards everything is read back and compared with
//! what clients were told. It ends with 0 only if every promise was kept.
//!
//! `SEED`, `MINUTES` (of faults), `FAULTS` (names, by commas; all of them if it is not set), `SLUICEGATE_NATS_SERVER`.
#![allow(clippy::unwrap_used, reason = "what cannot go on has failed: the panic is the report")]
#![allow(clippy::disallowed_types, reason = "the ban on locks is for the data path")]
#![allow(
    clippy::disallowed_methods,
    reason = "the time of a test of processes is the real one: it needs no `rt::clock`"
)]
#![allow(unreachable_pub, clippy::must_use_candidate, reason = "a program has no outside")]

mod faults;
mod load;
mod native;
mod readers;
#[allow(dead_code, unused_macros, reason = "the suite's support, of which this needs a part")]
#[path = "../it/support/mod.rs"]
mod support;
mod table;
#[allow(dead_code, reason = "its tests run in the suite")]
mod verdict;

use faults::{FAULTS, Fault, Field, Random, Window};
use load::{Load, Producer, Report};
use std::{
    collections::HashSet,
    process::ExitCode,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};
use support::{
    StopOnDrop,
    admin::{api, station_with_schema},
    cluster::Cluster,
    gateway::{Gateway, Plan},
    nats::version_line,
    setup::{Driver, Setup},
};
use verdict::Key;

/// The station to whose stream the native publisher publishes as well.
const BESIDE: &str = "plain";
const STATIONS: [&str; 3] = [BESIDE, "wide", "checked"];
const SCHEMA: &str = r#"{"type":"object","required":["p","r","i"],"properties":{"p":{"type":"integer"}}}"#;
/// Tokens outlast any run.
const CONFIG: &str = "[auth]\naccess_lifetime = \"24h\"";

/// What a run is.
#[derive(Debug)]
struct Settings {
    seed: u64,
    length: Duration,
    faults: Vec<(&'static str, Fault)>,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let seed = number("SEED").map_or_else(|| u64::from(std::process::id()), |text| text.parse().unwrap());
        let minutes: f64 = number("MINUTES").map_or(10.0, |text| text.parse().unwrap());
        let named = number("FAULTS");
        let chosen = |name: &str| named.as_ref().is_none_or(|names| names.split(',').any(|one| one == name));
        let faults: Vec<_> = FAULTS.into_iter().filter(|(name, _)| chosen(name)).collect();
        assert!(!faults.is_empty(), "FAULTS names none of {:?}", FAULTS.map(|(name, _)| name));
        Self { seed, length: Duration::from_secs_f64(minutes * 60.0), faults }
    }
}

/// What a run brought to light.
#[derive(Debug)]
struct Run {
    windows: Vec<Window>,
    reports: Vec<Report>,
    native: Vec<Duration>,
    consumed: Vec<HashSet<Key>>,
}

fn main() -> ExitCode {
    let settings = Settings::read();
    let faults: Vec<&str> = settings.faults.iter().map(|(name, _)| *name).collect();
    eprintln!("seed {}, {:?} of {}, {}", settings.seed, settings.length, faults.join(" "), version_line());
    let mut cluster = Cluster::start_behind_proxies();
    let mut gateways = gateways(&cluster);
    let streams = streams(&cluster);
    let run = run(&settings, &mut cluster, &mut gateways, &streams);
    for stream in &streams {
        cluster.wait_for_leader(stream);
    }
    let stored = readers::stored(&cluster);
    let requests: Vec<_> = run.reports.iter().flat_map(|report| report.requests.iter().cloned()).collect();
    let verdict = verdict::judge(&requests, &stored);
    let consumed: HashSet<Key> = run.consumed.into_iter().flatten().collect();
    let missing =
        stored.values().flatten().collect::<HashSet<_>>().into_iter().filter(|key| !consumed.contains(*key)).count();
    println!("{}", table::table(&run.windows, &run.reports, &run.native, BESIDE));
    for example in &verdict.examples {
        println!("{example}");
    }
    println!(
        "seed {}, {}: requests {}, acknowledged {}, stored {}, consumed {}\n\
         lost {}, torn {}, refused and stored {}, refused {}, doubled {}, misplaced {}, stored and not consumed {missing}; \
         overtaken within their request {}",
        settings.seed,
        version_line(),
        requests.len(),
        verdict.acknowledged,
        verdict.stored,
        consumed.len(),
        verdict.lost,
        verdict.torn,
        verdict.refused_and_stored,
        verdict.refused,
        verdict.doubled,
        verdict.misplaced,
        verdict.overtaken
    );
    if verdict.is_clean() && missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One on each driver, and the stations.
fn gateways(cluster: &Cluster) -> Vec<Gateway> {
    let setups = [Setup::CLUSTER, Setup { driver: Driver::IoUring, ..Setup::CLUSTER }];
    let gateways: Vec<_> =
        setups.into_iter().map(|setup| Plan::new(setup).nats_url(&cluster.url()).config(CONFIG).start()).collect();
    for body in [serde_json::json!({"name": BESIDE}), serde_json::json!({"name": "wide", "partitions": 5})] {
        let made = api(&gateways[0], "POST", "/stations", Some(&body));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    station_with_schema(&gateways[0], "checked", "json", SCHEMA, &[]);
    gateways
}

/// The streams of the stations.
fn streams(cluster: &Cluster) -> Vec<String> {
    readers::stored(cluster).into_keys().collect()
}

/// Load and faults at the same time, then what consumers have still to get.
fn run(settings: &Settings, cluster: &mut Cluster, gateways: &mut [Gateway], streams: &[String]) -> Run {
    let load = Load {
        gateways: gateways.iter().map(Gateway::address).collect(),
        token: gateways[0].token().to_owned(),
        start: Instant::now(),
        stop: AtomicBool::new(false),
    };
    let (load, consumed) = (&load, &AtomicBool::new(false));
    let servers = cluster.addresses();
    thread::scope(|scope| {
        let (stop, end) = (StopOnDrop(&load.stop), StopOnDrop(consumed));
        let producers: Vec<_> = (0..)
            .zip(load::kinds())
            .map(|(number, kind)| scope.spawn(move || Producer::new(number, kind, load).run()))
            .collect();
        let native = scope.spawn(|| native::publish(load, BESIDE, &servers));
        let consumers = STATIONS.map(|station| scope.spawn(move || readers::consume(load, station, consumed)));
        thread::sleep(Duration::from_secs(3));
        let mut field = Field { cluster, gateways, streams, random: Random(settings.seed) };
        let windows = field.play(load.start, settings.length, &settings.faults);
        drop(stop);
        let reports = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        let native = native.join().unwrap();
        readers::wait_until_consumed(field.cluster, streams);
        drop(end);
        let consumed = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect();
        Run { windows, reports, native, consumed }
    })
}
