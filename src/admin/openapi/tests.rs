//! The description is one: valid by the official schema, complete, and without references into nothing.

use super::text;
use serde_json::Value;
use std::collections::BTreeSet;

const OFFICIAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openapi-3.1-schema.json"));

fn document() -> Value {
    serde_json::from_str(text()).expect("JSON")
}

#[test]
fn it_is_what_the_official_schema_says() {
    let schema: Value = serde_json::from_str(OFFICIAL).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let document = document();
    let errors: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // The schema can fail.
    let mut broken = document;
    broken["paths"]["/healthz"]["get"]["responses"]["200"].as_object_mut().expect("an object").remove("description");
    assert!(!validator.is_valid(&broken));
}

#[test]
fn its_schemas_are_schemas_and_its_references_lead_somewhere() {
    let document = document();
    let meta = jsonschema::draft202012::meta::validator();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        assert!(meta.is_valid(schema), "{name}: {schema}");
    }
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn every_operation_says_what_it_needs_and_what_it_may_answer() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let shown = format!("{method} {path}");
            assert!(names.insert(operation["operationId"].to_string()), "{shown}: a name twice");
            let statuses: BTreeSet<&str> =
                operation["responses"].as_object().expect("responses").keys().map(String::as_str).collect();
            assert!(statuses.iter().any(|status| status.starts_with('2')), "{shown}: {statuses:?}");
            let open = operation["security"] == serde_json::json!([{}]);
            let below_api = path.starts_with("/api/v1/");
            let data = operation["servers"][0]["url"] == "http://localhost:4444";
            assert_eq!(data, operation["tags"][0] == "data", "{shown}");
            assert_eq!(open, !below_api && !path.starts_with("/stations/"), "{shown}: {}", operation["security"]);
            if below_api {
                assert!(statuses.contains("401") && statuses.contains("403"), "{shown}: {statuses:?}");
            }
            let takes_body = operation.get("requestBody").is_some();
            assert_eq!(takes_body && below_api, statuses.contains("415") && below_api, "{shown}: {statuses:?}");
        }
    }
}
