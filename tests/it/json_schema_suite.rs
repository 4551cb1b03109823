//! The official JSON-Schema-Test-Suite's behaviour, through the gateway: each schema is attached, each instance posted.
//!
//! `tests/data/json-schema` holds a sample, a folder for each draft; `SLUICEGATE_JSON_SCHEMA_SUITE` may name a checkout's
//! `tests` folder instead. What is left out, and why, stands in [`LEFT_OUT`].

use crate::support::{admin::api, gateway::Gateway, report, setup::Setup};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::path::{Path, PathBuf};

on_setups!(
    local_epoll LOCAL_EPOLL, broker_io_uring NATS_IO_URING => [the_suite_holds_through_the_gateway]
);

/// Folders of the suite, and what a schema of it says of its draft if it does not say so itself.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Files of the suite that the gateway is not tested with: they want schemas from the network, which it never asks.
const LEFT_OUT: [&str; 3] = ["refRemote.json", "vocabulary.json", "optional"];

/// A schema of the suite and the instances that are validated by it: as they are written, for numbers that no float
/// holds.
#[derive(Debug, Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    description: String,
    data: Box<RawValue>,
    valid: bool,
}

/// Where the suite expects other documents to be served.
const REMOTE: &str = "http://localhost:1234/";

#[derive(Debug, Default)]
struct Count {
    schemas: usize,
    instances: usize,
    /// Schemas that want a document from elsewhere, and were refused for it.
    remote: usize,
    /// Refused when they were added, with the reason.
    refused: Vec<String>,
    wrong: Vec<String>,
}

fn the_suite_holds_through_the_gateway(setup: Setup) {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-schema");
    let directory = std::env::var_os("SLUICEGATE_JSON_SCHEMA_SUITE").map_or(own, PathBuf::from);
    let gateway = Gateway::start(setup);
    let mut count = Count::default();
    for (draft, dialect) in DRAFTS {
        let folder = directory.join(draft);
        let before = count.instances;
        for file in json_files(&folder) {
            let groups: Vec<Group> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            for group in groups {
                let name = format!("{draft}/{}", file.file_name().unwrap().to_string_lossy());
                one_schema(&gateway, &name, dialect, &group, &mut count);
            }
        }
        assert!(count.instances > before + 20, "{} holds hardly anything of {draft}", directory.display());
    }
    report(&format!(
        "{setup:?}: {} schemas ({} want another document), {} instances, {} wrong, refused: {:#?}",
        count.schemas,
        count.remote,
        count.instances,
        count.wrong.len(),
        count.refused
    ));
    assert_eq!(count.wrong, [""; 0]);
    assert_eq!(count.refused, [""; 0]);
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| !LEFT_OUT.iter().any(|left| path.ends_with(left)))
        .collect();
    files.sort();
    files
}

/// A schema with the draft that it is of.
fn of_draft(schema: &Value, dialect: &str) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.entry("$schema").or_insert_with(|| dialect.into());
    }
    schema
}

fn one_schema(gateway: &Gateway, file: &str, dialect: &str, group: &Group, count: &mut Count) {
    let title = format!("{file}: {}", group.description);
    count.schemas += 1;
    let (schema, station) = (format!("s{}", count.schemas), format!("t{}", count.schemas));
    let text = of_draft(&group.schema, dialect).to_string();
    let added = api(gateway, "POST", "/schemas", Some(&json!({"name": schema, "type": "json", "schema": text})));
    if added.status == 400 && added.text().contains(REMOTE) {
        // As it should: nothing is fetched.
        count.remote += 1;
        return;
    }
    if added.status != 201 {
        count.refused.push(format!("{title}: {}", added.text()));
        return;
    }
    let made = api(gateway, "POST", "/stations", Some(&json!({"name": station, "schema": schema})));
    assert_eq!(made.status, 201, "{title}: {}", made.text());
    let body = serde_json::to_vec(&group.tests.iter().map(|test| &test.data).collect::<Vec<_>>()).unwrap();
    let headers = [("Content-Type", "application/json"), ("Prefer", "return=representation")];
    let answer = gateway.post(&format!("/stations/{station}/produce/batch"), &headers, &body).json();
    for (test, receipt) in group.tests.iter().zip(answer["receipts"].as_array().unwrap()) {
        count.instances += 1;
        let stored = receipt.get("sequence").is_some();
        if test.valid != stored {
            count.wrong.push(format!("{title}: {}: {receipt}", test.description));
        }
    }
    // One station at a time: a broker need not keep hundreds of streams for this.
    assert_eq!(api(gateway, "DELETE", &format!("/stations/{station}"), None).status, 204);
}

#[test]
fn a_boolean_schema_stays_one() {
    assert_eq!(of_draft(&json!(true), "d"), json!(true));
    assert_eq!(of_draft(&json!({"$schema": "x"}), "d"), json!({"$schema": "x"}));
    assert_eq!(of_draft(&json!({}), "d"), json!({"$schema": "d"}));
}
