//! `sluicegate import memphis` against a real gateway: what comes of the sample dump, and that it can be repeated.

use crate::support::{
    admin::{api, done, run},
    gateway::{Gateway, bare_command, with_input},
    setup::{Backend, Setup},
};
use serde_json::{Value, json};
use std::process::Output;

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        a_dry_run_tells_and_changes_nothing,
        what_the_backend_cannot_have_is_told_and_the_rest_is_imported,
        a_dump_that_can_be_is_here_as_it_says_and_a_second_time_nothing_is_done,
        what_was_set_here_is_left_and_told,
        what_is_no_dump_is_refused_before_anything_is_done,
    ]
);

const SAMPLE: &str = include_str!("../data/memphis-dump.json");

/// The sample as its documentation lets `jq` change it, and, for the embedded store, without what needs a broker.
fn possible(setup: Setup) -> Value {
    let mut dump: Value = serde_json::from_str(SAMPLE).unwrap();
    for station in dump["stations"].as_array_mut().unwrap() {
        station["replicas"] = json!(1);
        if setup.backend == Backend::Local {
            station["storage_type"] = json!("file");
        }
    }
    dump
}

/// Imports from standard input.
fn import(gateway: &Gateway, dump: &str, more: &[&str]) -> Output {
    run(gateway, &[&["import", "memphis", "-"], more].concat(), dump)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Everything that an import could touch.
fn state(gateway: &Gateway) -> [Value; 2] {
    ["/stations", "/schemas"].map(|list| api(gateway, "GET", list, None).json()["items"].clone())
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

fn a_dry_run_tells_and_changes_nothing(setup: Setup) {
    let gateway = Gateway::start(setup);
    let before = state(&gateway);
    let path = gateway.dir().join("memphis-dump.json");
    std::fs::write(&path, SAMPLE).unwrap();
    let said = done(&gateway, &["import", "memphis", path.to_str().unwrap(), "--dry-run"], "");
    for part in ["schema orders: would be: ", "station jobs: would be: made", "7 would be imported, 0 here already"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // What is not taken over is told before anything is done.
    for part in ["tiered_storage_enabled", "all-dead-letters", "replicas 2 are 3", "idempotency_window_in_ms 50 is 100"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(state(&gateway), before);
    ends_with(&import(&gateway, &possible(setup).to_string(), &[]), 0);
    let before = state(&gateway);
    let said = ends_with(&import(&gateway, &possible(setup).to_string(), &["--dry-run"]), 0);
    assert!(said.contains("0 would be imported, 7 here already, 0 not imported"), "{said}");
    assert_eq!(state(&gateway), before);
}

/// A server that is alone and the embedded store have one copy, and the embedded store has files only.
fn what_the_backend_cannot_have_is_told_and_the_rest_is_imported(setup: Setup) {
    let gateway = Gateway::start(setup);
    for round in ["6 imported, 0 here already, 1 not imported", "0 imported, 6 here already, 1 not imported"] {
        let said = ends_with(&import(&gateway, SAMPLE, &[]), 1);
        assert!(said.contains(round), "{round} in {said}");
        let line = said.lines().find(|line| line.starts_with("station readings.raw: NOT IMPORTED: ")).unwrap();
        assert!(line.contains("HTTP 400"), "{line}");
        let why = if setup.backend == Backend::Local { "embedded store" } else { "replicas" };
        assert!(line.contains(why), "{line}");
    }
    let [stations, schemas] = state(&gateway);
    assert_eq!(names(&stations), ["jobs", "orders"]);
    assert_eq!(names(&schemas), ["orders", "payments", "queries", "readings"]);
    assert_eq!(api(&gateway, "GET", "/stations/readings.raw", None).status, 404, "nothing is left of it");
}

fn a_dump_that_can_be_is_here_as_it_says_and_a_second_time_nothing_is_done(setup: Setup) {
    let gateway = Gateway::start(setup);
    let dump = possible(setup).to_string();
    let said = ends_with(&import(&gateway, &dump, &[]), 0);
    assert!(said.contains("7 imported, 0 here already, 0 not imported"), "{said}");
    let first = state(&gateway);
    is_as_the_dump_says(&gateway, setup);
    let said = ends_with(&import(&gateway, &dump, &[]), 0);
    assert!(said.contains("0 imported, 7 here already, 0 not imported"), "{said}");
    assert_eq!(state(&gateway), first);
    // And it is active: the second version of the orders, and the Protobuf message that the dump names.
    gateway.single("orders", "application/json", br#"{"id":1,"total":1}"#).is_json(200, OK);
    gateway.single("orders", "application/json", br#"{"id":1}"#).is_error(400);
    gateway.single("readings.raw", "application/json", br#"{"sensor":"a","value":1}"#).is_json(200, OK);
    gateway.single("readings.raw", "application/json", br#"{"nothing":"a"}"#).is_error(400);
    gateway.single("jobs", "text/plain", b"anything").is_json(200, OK);
}

const OK: &str = "{\"error\":null,\"success\":true}";

fn is_as_the_dump_says(gateway: &Gateway, setup: Setup) {
    let [stations, schemas] = state(gateway);
    assert_eq!(names(&schemas), ["orders", "payments", "queries", "readings"]);
    for (schema, (kind, active, versions)) in
        schemas.as_array().unwrap().iter().zip([("json", 2, 2), ("avro", 1, 1), ("graphql", 1, 1), ("protobuf", 1, 1)])
    {
        assert_eq!((&schema["type"], &schema["active_version"]), (&json!(kind), &json!(active)), "{schema}");
        assert_eq!(schema["versions"].as_array().map(Vec::len), Some(versions), "{schema}");
    }
    let dumped: Value = serde_json::from_str(SAMPLE).unwrap();
    for version in [0, 1] {
        let dumped = &dumped["schemas"][0]["versions"][version]["schema_content"];
        assert_eq!(&schemas[0]["versions"][version]["schema"], dumped, "byte for byte");
    }
    assert_eq!(schemas[3]["versions"][0]["message"], "Reading");
    assert_eq!(names(&stations), ["jobs", "orders", "readings.raw"]);
    let [jobs, orders, readings] = [&stations[0], &stations[1], &stations[2]];
    let of = |station: &Value, fields: &[&str]| fields.iter().map(|field| station[*field].clone()).collect::<Vec<_>>();
    let kept = ["partitions", "retention_age_s", "retention_records", "retention_acknowledged", "schema"];
    assert_eq!(Value::from(of(orders, &kept)), json!([3, 604_800, 0, false, "orders"]));
    assert_eq!(Value::from(of(readings, &kept)), json!([1, 0, 1_000_000, false, "readings"]));
    assert_eq!(Value::from(of(jobs, &kept)), json!([1, 0, 0, true, null]));
    let windows = [jobs, orders, readings].map(|station| station["idempotency_window_ms"].clone());
    assert_eq!(windows, [120_000, 120_000, 100].map(Value::from));
    let letters = [jobs, orders, readings].map(|station| of(&station["dead_letters"], &["invalid", "deliveries_max"]));
    assert_eq!(json!(letters), json!([[false, 10], [true, 10], [true, 0]]));
    let memory = if setup.backend == Backend::Local { "file" } else { "memory" };
    assert_eq!([jobs, orders, readings].map(|station| station["storage"].clone()), ["file", "file", memory]);
}

fn what_was_set_here_is_left_and_told(setup: Setup) {
    let gateway = Gateway::start(setup);
    // A station that was made on first use, one that is otherwise, and a version that was rolled back here.
    gateway.single("orders", "text/plain", b"x").is_json(200, OK);
    done(&gateway, &["station", "create", "jobs", "--retention-age", "5h"], "");
    let said = ends_with(&import(&gateway, &possible(setup).to_string(), &[]), 1);
    for part in [
        "station orders: HERE WITH OTHER VALUES",
        "partitions is 1 here, and 3 in the dump",
        "attached schema orders",
        "station jobs: HERE WITH OTHER VALUES",
        "retention_age_s is 18000 here, and 0 in the dump",
        "5 imported, 0 here already, 2 not imported",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    done(&gateway, &["schema", "activate", "orders", "1"], "");
    let before = state(&gateway);
    let said = ends_with(&import(&gateway, &possible(setup).to_string(), &[]), 1);
    assert!(said.contains("version 1 is active, and 2 would be"), "{said}");
    assert_eq!(state(&gateway), before, "nothing that is set here is changed");
}

fn what_is_no_dump_is_refused_before_anything_is_done(setup: Setup) {
    let gateway = Gateway::start(setup);
    let newer = SAMPLE.replace("\"format\": 1", "\"format\": 2");
    let typo = SAMPLE.replace("\"type\": \"graphql\"", "\"type\": \"xml\"");
    for (dump, part) in [("", "dump"), ("[]", "dump"), (newer.as_str(), "format 2"), (typo.as_str(), "xml")] {
        let said = ends_with(&import(&gateway, dump, &[]), 64);
        assert!(said.contains(part), "{said}");
    }
    let missing = run(&gateway, &["import", "memphis", "/nothing/here.json"], "");
    assert!(ends_with(&missing, 64).contains("/nothing/here.json"));
    assert_eq!(state(&gateway), [json!([]), json!([])]);
    // Somebody who may not: nothing was done, and it is told once.
    let mut command = bare_command(gateway.dir());
    command.args(["import", "memphis", "-", "--url", &format!("http://{}", gateway.admin())]);
    command.env("SLUICEGATE_USER", "root").env("SLUICEGATE_PASSWORD", "wrong");
    let said = ends_with(&with_input(command, SAMPLE), 77);
    assert_eq!(said.lines().count(), 1, "{said}");
}
