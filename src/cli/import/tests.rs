//! Imports into a gateway that keeps what it is told in two maps.

use super::*;
use crate::{
    api::{
        schemas::SchemaKind,
        stations::{NewStation, StorageKind},
    },
    cli::{client::Reply, exit::Exit},
    station::{Attributes, Name},
};
use std::{cell::RefCell, collections::BTreeMap};

const SAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/memphis-dump.json"));

/// As much of the admin API as an import uses.
#[derive(Default)]
struct Fake {
    schemas: RefCell<BTreeMap<String, SchemaView>>,
    stations: RefCell<BTreeMap<String, StationView>>,
    changes: RefCell<Vec<String>>,
    /// Answers this to every request.
    only: Option<u16>,
}

fn reply(status: u16, body: &impl serde::Serialize) -> Reply {
    Reply { status, retry_after: None, delivery: None, body: serde_json::to_vec(body).unwrap() }
}

fn problem(status: u16, detail: &str) -> Reply {
    reply(status, &json!({ "status": status, "detail": detail }))
}

impl Fake {
    fn send(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        if let Some(status) = self.only {
            return problem(status, "no");
        }
        let parts: Vec<&str> = path.strip_prefix("/api/v1/").unwrap().split('/').collect();
        if method != "GET" {
            self.changes.borrow_mut().push(format!("{method} {path}"));
        }
        let value = || serde_json::from_str::<serde_json::Value>(body.unwrap()).unwrap();
        match (method, parts.as_slice()) {
            ("GET", ["schemas", name]) => found(self.schemas.borrow().get(*name)),
            ("GET", ["stations", name]) => found(self.stations.borrow().get(*name)),
            ("POST", ["schemas"]) => self.add_schema(serde_json::from_str(body.unwrap()).unwrap()),
            ("PUT", ["schemas", name, "active"]) => {
                let mut schemas = self.schemas.borrow_mut();
                let schema = schemas.get_mut(*name).unwrap();
                schema.active_version = u32::try_from(value()["version"].as_u64().unwrap()).unwrap();
                reply(200, schema)
            }
            ("POST", ["stations"]) => self.make_station(serde_json::from_str(body.unwrap()).unwrap()),
            ("PUT", ["stations", name, "schema"]) => {
                let mut stations = self.stations.borrow_mut();
                let station = stations.get_mut(*name).unwrap();
                station.schema = value()["schema"].as_str().map(str::to_owned);
                reply(200, station)
            }
            ("PATCH", ["stations", name]) => {
                let change: ChangeStation = serde_json::from_str(body.unwrap()).unwrap();
                let mut stations = self.stations.borrow_mut();
                let station = stations.get_mut(*name).unwrap();
                station.dead_letters = change.dead_letters.unwrap();
                reply(200, station)
            }
            _ => panic!("{method} {path}"),
        }
    }

    fn add_schema(&self, new: NewSchema) -> Reply {
        if new.schema.contains("does not compile") {
            return problem(400, "it does not compile");
        }
        let mut schemas = self.schemas.borrow_mut();
        let schema = schemas.entry(new.name.clone()).or_insert(SchemaView {
            name: new.name,
            kind: new.kind,
            active_version: 1,
            versions: Vec::new(),
            stations: Vec::new(),
        });
        let version = u32::try_from(schema.versions.len()).unwrap() + 1;
        schema.versions.push(SchemaVersionView {
            version,
            schema: new.schema,
            message: new.message,
            imports: new.imports,
            created_by: "root".to_owned(),
            created_ms: 0,
        });
        let mut body = serde_json::to_value(&*schema).unwrap();
        body["version"] = version.into();
        reply(201, &body)
    }

    fn make_station(&self, new: NewStation) -> Reply {
        let unknown = new.schema.as_ref().is_some_and(|schema| !self.schemas.borrow().contains_key(schema));
        if unknown {
            return problem(404, "there is no such schema");
        }
        let station = StationView {
            name: new.name.clone(),
            partitions: new.partitions.unwrap(),
            retention_age_s: new.retention_age_s.unwrap(),
            retention_records: new.retention_records.unwrap(),
            retention_bytes: new.retention_bytes.unwrap(),
            retention_acknowledged: new.retention_acknowledged.unwrap(),
            storage: new.storage.unwrap(),
            replicas: new.replicas.unwrap(),
            idempotency_window_ms: new.idempotency_window_ms.unwrap(),
            schema: new.schema,
            ..StationView::of(&Name::parse(&new.name).unwrap(), &Attributes::default(), new.dead_letters.unwrap())
        };
        let made = reply(201, &station);
        self.stations.borrow_mut().insert(new.name, station);
        made
    }

    /// What the import printed, how it ended, and which changes it asked for.
    fn import(&self, dump: &str, dry_run: bool) -> (String, Result<(), Failure>, Vec<String>) {
        let mut out = Vec::new();
        let send = |method: &str, path: &str, body: Option<&str>| Ok(self.send(method, path, body));
        let dump = Dump::read(dump.as_bytes()).unwrap();
        let done = Import { gateway: Gateway { send: &send, dry_run }, out: &mut out }.run(&dump);
        (String::from_utf8(out).unwrap(), done, self.changes.take())
    }
}

fn found<T: serde::Serialize>(value: Option<&T>) -> Reply {
    value.map_or_else(|| problem(404, "there is no such thing"), |value| reply(200, value))
}

#[test]
fn the_sample_is_imported_once_and_passed_over_the_second_time() {
    let fake = Fake::default();
    let (text, done, changes) = fake.import(SAMPLE, false);
    let expect = "schema orders: added version 1, added version 2, activated version 2\n\
                  schema readings: added version 1\n\
                  schema payments: added version 1\n\
                  schema queries: added version 1\n\
                  station orders: made\n\
                  station readings.raw: made\n\
                  \x20 replicas 2 are 3, as in the original\n\
                  \x20 idempotency_window_in_ms 50 is 100, as in the original\n\
                  \x20 not taken over: tiered_storage_enabled (records that age out are not kept elsewhere)\n\
                  \x20 not taken over: dls_station \"all-dead-letters\" (the dead letters of a station are kept in readings.raw$dls)\n\
                  station jobs: made\n\
                  7 imported, 0 here already, 0 not imported\n";
    assert_eq!((text.as_str(), done), (expect, Ok(())));
    assert_eq!(changes.len(), 9, "{changes:?}");

    let schemas = fake.schemas.borrow().clone();
    let kinds: Vec<SchemaKind> = schemas.values().map(|schema| schema.kind).collect();
    assert_eq!(kinds, [SchemaKind::Json, SchemaKind::Avro, SchemaKind::Graphql, SchemaKind::Protobuf]);
    assert_eq!((schemas["orders"].active_version, schemas["orders"].versions.len()), (2, 2));
    assert_eq!(schemas["readings"].versions[0].message.as_deref(), Some("Reading"));
    assert_eq!(schemas["payments"].versions[0].message, None);
    let stations = fake.stations.borrow().clone();
    let raw = &stations["readings.raw"];
    assert_eq!(
        (raw.storage, raw.replicas, raw.retention_records, raw.retention_age_s),
        (StorageKind::Memory, 3, 1_000_000, 0)
    );
    assert_eq!((raw.dead_letters.invalid, raw.dead_letters.deliveries_max), (true, 0));
    assert_eq!((stations["orders"].partitions, stations["orders"].schema.as_deref()), (3, Some("orders")));
    assert!(stations["jobs"].retention_acknowledged && stations["jobs"].schema.is_none());

    let (text, done, changes) = fake.import(SAMPLE, false);
    assert!(text.ends_with("0 imported, 7 here already, 0 not imported\n"), "{text}");
    assert_eq!((done, changes), (Ok(()), vec![]));
    assert_eq!((fake.schemas.take(), fake.stations.take()), (schemas, stations));
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let fake = Fake::default();
    let (text, done, changes) = fake.import(SAMPLE, true);
    assert!(
        text.starts_with("schema orders: would be: added version 1, added version 2, activated version 2\n"),
        "{text}"
    );
    assert!(text.ends_with("7 would be imported, 0 here already, 0 not imported\n"), "{text}");
    assert_eq!((done, changes), (Ok(()), vec![]));
}

#[test]
fn an_import_that_broke_off_is_completed() {
    let fake = Fake::default();
    let (all, _, _) = fake.import(SAMPLE, false);
    assert!(all.contains("added version 2"));
    fake.schemas.borrow_mut().get_mut("orders").unwrap().versions.pop();
    fake.schemas.borrow_mut().get_mut("orders").unwrap().active_version = 1;
    fake.stations.borrow_mut().remove("jobs");
    let (text, done, changes) = fake.import(SAMPLE, false);
    assert_eq!(done, Ok(()), "{text}");
    assert!(
        text.contains("schema orders: added version 2, activated version 2\n") && text.contains("station jobs: made\n")
    );
    assert_eq!(changes, ["POST /api/v1/schemas", "PUT /api/v1/schemas/orders/active", "POST /api/v1/stations"]);
}

#[test]
fn a_stream_that_was_found_gets_what_only_the_gateway_keeps() {
    let fake = Fake::default();
    fake.import(SAMPLE, false).1.unwrap();
    for station in fake.stations.borrow_mut().values_mut() {
        (station.schema, station.dead_letters) = (None, default_letters());
    }
    let (text, done, _) = fake.import(SAMPLE, false);
    assert_eq!(done, Ok(()), "{text}");
    for line in [
        "station orders: attached schema orders\n",
        "station readings.raw: set what becomes of its dead letters, attached schema readings\n",
        "station jobs: set what becomes of its dead letters\n",
        "3 imported, 4 here already, 0 not imported\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn what_is_here_with_other_values_is_told_and_left() {
    let fake = Fake::default();
    fake.import(SAMPLE, false).1.unwrap();
    fake.schemas.borrow_mut().get_mut("orders").unwrap().active_version = 1;
    fake.schemas.borrow_mut().get_mut("queries").unwrap().kind = SchemaKind::Json;
    {
        let mut stations = fake.stations.borrow_mut();
        stations.get_mut("orders").unwrap().schema = Some("payments".to_owned());
        let jobs = stations.get_mut("jobs").unwrap();
        (jobs.replicas, jobs.storage) = (3, StorageKind::Memory);
        jobs.dead_letters = DeadLetterSettings { invalid: true, deliveries_max: 5, retention_age_s: 1 };
    }
    let (text, done, changes) = fake.import(SAMPLE, false);
    assert_eq!(done.map_err(|failure| failure.exit), Err(Exit::Failed));
    assert_eq!(changes, Vec::<String>::new());
    for line in [
        "schema orders: HERE WITH OTHER VALUES, which were left\n  version 1 is active, and 2 would be\n",
        "schema queries: NOT IMPORTED: is here as json, and in the dump as graphql\n",
        "station orders: HERE WITH OTHER VALUES, which were left\n  its schema is payments here, and orders in the dump\n",
        "station jobs: HERE WITH OTHER VALUES, which were left\n  replicas is 3 here, and 1 in the dump\n  \
         storage is Memory here, and File in the dump\n  other records become dead letters\n",
        "0 imported, 3 here already, 4 not imported\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn what_cannot_be_imported_does_not_keep_the_rest_from_it() {
    let dump = json!({
        "schemas": [
            {"name": "bad", "type": "json", "versions": [{"version_number": 1, "schema_content": "does not compile"}]},
            {"name": "none", "type": "json", "versions": null},
            {"name": "_x", "type": "json", "versions": []},
            {"name": "twice", "type": "json", "versions": [
                {"version_number": 1, "schema_content": "a", "active": true}, {"version_number": 2, "schema_content": "b", "active": true}]},
            {"name": "good", "type": "json", "versions": [{"version_number": 4, "schema_content": "{}", "active": true}]},
        ],
        "stations": [
            {"name": "Upper", "schema_name": "good"},
            {"name": "a#b"},
            {"name": "s", "retention_type": "for ever"},
            {"name": "t", "storage_type": "tape"},
            {"name": "u", "partitions_number": 10_001},
            {"name": "v", "schema_name": "bad"},
            {"name": "w", "functions": [1, 2]},
        ],
    });
    let fake = Fake::default();
    let (text, done, _) = fake.import(&dump.to_string(), false);
    assert_eq!(done, Err(Failure::other("9 of 12 could not be imported as they are")));
    for line in [
        "schema bad: NOT IMPORTED: version 1: it does not compile (HTTP 400)\n",
        "schema none: NOT IMPORTED: it has no versions in the dump\n",
        "schema _x: NOT IMPORTED: Schema name can not start or end with non alphanumeric character\n",
        "schema twice: NOT IMPORTED: more than one of its versions is active in the dump\n",
        "schema good: added version 1\n  version 4 of the dump is version 1 here\n",
        "station Upper: made\n",
        "station a#b: NOT IMPORTED: Only alphanumeric",
        "station s: NOT IMPORTED: retention_type \"for ever\" is none of",
        "station t: NOT IMPORTED: storage_type \"tape\"",
        "station u: NOT IMPORTED: partitions_number 10001 is more than 10000\n",
        "station v: NOT IMPORTED: there is no such schema (HTTP 404)\n",
        "station w: made\n  not taken over: 2 function(s)\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(fake.stations.borrow()["upper"].schema.as_deref(), Some("good"));
}

#[test]
fn the_values_of_a_station_are_rounded_as_the_original_does() {
    let plan = |values: &str| {
        let dump = Dump::read(format!(r#"{{"stations":[{{"name":"s",{values}}}]}}"#).as_bytes()).unwrap();
        dump.stations()[0].plan().unwrap()
    };
    for (said, copies) in [(-1, 1), (0, 1), (1, 1), (2, 3), (3, 3), (4, 3), (5, 5), (6, 5), (i64::MAX, 5)] {
        let plan = plan(&format!(r#""replicas":{said}"#));
        assert_eq!(plan.new.replicas, Some(copies), "{said}");
        assert_eq!(plan.notes.is_empty(), said == i64::from(copies), "{said}: {:?}", plan.notes);
    }
    for (said, window) in [
        (-1, 120_000),
        (0, 120_000),
        (1, 100),
        (100, 100),
        (86_400_000, 86_400_000),
        (86_400_001, 86_400_000),
        (i64::MAX, 86_400_000),
    ] {
        let plan = plan(&format!(r#""retention_value":100000,"idempotency_window_ms":{said}"#));
        assert_eq!(plan.new.idempotency_window_ms, Some(window), "{said}");
        assert_eq!(plan.notes.is_empty(), u64::try_from(said) == Ok(window), "{said}: {:?}", plan.notes);
    }
    for (values, expect) in [
        (
            r#""retention_value":60,"idempotency_window_in_ms":120000"#,
            (Some(60), Some(0), Some(0), Some(false), Some(60_000)),
        ),
        (r#""retention_type":"bytes","retention_value":7"#, (Some(0), Some(0), Some(7), Some(false), Some(120_000))),
        (r#""retention_type":"messages","retention_value":7"#, (Some(0), Some(7), Some(0), Some(false), Some(120_000))),
        (
            r#""retention_type":"messages","retention_value":0"#,
            (Some(3_600), Some(0), Some(0), Some(false), Some(120_000)),
        ),
        (r#""retention_type":"ack_based","retention_value":9"#, (Some(0), Some(0), Some(0), Some(true), Some(120_000))),
        (r#""retention_type":null"#, (Some(3_600), Some(0), Some(0), Some(false), Some(120_000))),
    ] {
        let new = plan(values).new;
        let seen = (
            new.retention_age_s,
            new.retention_records,
            new.retention_bytes,
            new.retention_acknowledged,
            new.idempotency_window_ms,
        );
        assert_eq!(seen, expect, "{values}");
    }
}

#[test]
fn who_may_not_do_the_first_thing_is_not_asked_for_the_next() {
    for (status, exit) in [(401, Exit::NoPermission), (403, Exit::NoPermission), (503, Exit::Unavailable)] {
        let fake = Fake { only: Some(status), ..Fake::default() };
        let (text, done, _) = fake.import(SAMPLE, false);
        assert_eq!((text.as_str(), done.map_err(|failure| failure.exit)), ("", Err(exit)), "{status}");
    }
}

#[test]
fn what_is_no_dump_is_refused_with_the_place() {
    for (text, expect) in [
        ("", "this is not a dump"),
        ("[]", "this is not a dump"),
        (r#"{"format":2}"#, "the dump says format 2"),
        (r#"{"schemas":[{"name":"x","type":"xml"}]}"#, "line 1 column"),
        (r#"{"stations":[{"name":7}]}"#, "line 1 column"),
    ] {
        let fault = Dump::read(text.as_bytes()).unwrap_err();
        assert!(fault.contains(expect), "{text}: {fault}");
    }
    // A query over tables without rows makes nulls.
    let nothing = Dump::read(br#"{"format":1,"schemas":null,"stations":null}"#).unwrap();
    assert!(nothing.schemas().is_empty() && nothing.stations().is_empty());
}

#[test]
fn r20_a_byte_order_mark_before_a_dump_is_passed_over() {
    let dump = Dump::read("\u{feff}{\"schemas\":[]}".as_bytes()).unwrap();
    assert!(dump.schemas().is_empty());
    assert!(Dump::read("\u{feff}\u{feff}{}".as_bytes()).is_err());
}
