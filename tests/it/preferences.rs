//! `Prefer: handling=strict` (all or nothing) and `Prefer: return=representation` (receipts).

use crate::support::{
    admin::{api, station_with_schema},
    gateway::Gateway,
    http::Response,
    readback::texts,
    setup::Backend,
    unique,
};
use serde_json::{Value, json};

on_every_setup_and_the_cluster!(
    receipts_say_where_each_record_is,
    receipts_of_a_batch_say_which_failed,
    strict_stores_nothing_if_one_record_fails,
    strict_is_refused_where_it_cannot_be_kept,
    other_preferences_change_nothing,
);

const OK: &str = "{\"error\":null,\"success\":true}";
const NUMBER: &str = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#;

fn post(gateway: &Gateway, path: &str, prefer: &[&str], body: &str) -> Response {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(prefer.iter().map(|value| ("Prefer", *value)));
    gateway.post(path, &headers, body.as_bytes())
}

fn receipts_say_where_each_record_is(gateway: &Gateway) {
    let station = unique("receipts");
    let path = format!("/stations/{station}/produce");
    let response = post(gateway, &format!("{path}/single"), &["return=representation"], "1");
    let receipt = |sequence: u64| json!({"stream": station, "sequence": sequence, "duplicate": false});
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json(), json!({"error": null, "receipts": [receipt(1)], "success": true}));
    assert_eq!(response.header("preference-applied"), Some("return=representation"));
    for prefer in [&["handling=lenient, Return=Representation"][..], &["foo", "return=\"representation\""]] {
        let response = post(gateway, &format!("{path}/batch"), prefer, "[2,3]");
        let receipts = response.json()["receipts"].clone();
        assert_eq!(receipts.as_array().map(Vec::len), Some(2), "{prefer:?} {}", response.text());
    }
    let response = post(gateway, &format!("{path}/batch"), &["return=representation; handling=strict"], "[6]");
    assert_eq!(response.json()["receipts"], json!([receipt(6)]), "a parameter of a preference is not one itself");
    // All or nothing, the sequences are those of the records all the same.
    let strict = ["return=representation", "handling=strict"];
    if atomic(gateway) {
        let response = post(gateway, &format!("{path}/batch"), &strict, "[7,8,9]");
        assert_eq!(response.json()["receipts"], json!([receipt(7), receipt(8), receipt(9)]), "{}", response.text());
        let applied = response.header("preference-applied").unwrap().to_owned();
        assert!(applied.contains("handling=strict") && applied.contains("return=representation"), "{applied}");
    }
}

/// Whether this backend can store several records all or nothing.
fn atomic(gateway: &Gateway) -> bool {
    gateway.setup().backend == Backend::Local || !crate::support::nats::version_line().contains("v2.10.")
}

fn receipts_of_a_batch_say_which_failed(gateway: &Gateway) {
    let station = unique("mixed");
    station_with_schema(gateway, &station, "json", NUMBER, &[]);
    let path = format!("/stations/{station}/produce/batch");
    let response = post(gateway, &path, &["return=representation"], r#"[{"n":1},{"n":"x"},{"n":3}]"#);
    assert_eq!(response.status, 400);
    let answer = response.json();
    let receipts = answer["receipts"].as_array().unwrap();
    assert_eq!((receipts.len(), &answer["sent"], &answer["fail"]), (3, &json!(2), &json!(1)), "{answer}");
    assert_eq!(receipts[0]["sequence"], 1);
    assert_eq!(receipts[2]["sequence"], 2);
    let error = receipts[1]["error"].as_str().unwrap();
    assert!(error.starts_with("Schema validation has failed: '/n': "), "{error}");
}

fn strict_stores_nothing_if_one_record_fails(gateway: &Gateway) {
    let station = unique("strict");
    station_with_schema(gateway, &station, "json", NUMBER, &[]);
    let path = format!("/stations/{station}/produce/batch");
    let strict = ["handling=strict"];
    let response = post(gateway, &path, &strict, r#"[{"n":1},{"n":"x"},{"n":3},{}]"#);
    if !atomic(gateway) {
        // Such a broker can keep no batch whole, valid or not; one record always is.
        response.is_error(501);
        assert_eq!(texts(gateway, &station), [""; 0]);
        post(gateway, &format!("/stations/{station}/produce/single"), &strict, r#"{"n":5}"#).is(200, OK);
        return;
    }
    assert_eq!(response.status, 400);
    let answer = response.json();
    assert_eq!((&answer["sent"], &answer["fail"], &answer["success"]), (&json!(0), &json!(4), &Value::Bool(false)));
    let errors: Vec<&str> = answer["errors"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(errors[0].starts_with("record 1: Schema validation has failed: "), "{errors:?}");
    assert!(errors[1].starts_with("record 3: Schema validation has failed: "), "{errors:?}");
    assert_eq!(texts(gateway, &station), [""; 0]);
    assert_eq!(crate::support::admin::dead_letters(gateway, &station), [Value::Null; 0], "the client has them all");
    // One record is always all or nothing.
    let single = format!("/stations/{station}/produce/single");
    post(gateway, &single, &strict, r#"{"n":5}"#).is(200, OK);
    post(gateway, &path, &strict, r#"[{"n":6},{"n":7}]"#).is(200, OK);
    assert_eq!(texts(gateway, &station), [r#"{"n":5}"#, r#"{"n":6}"#, r#"{"n":7}"#]);
}

fn strict_is_refused_where_it_cannot_be_kept(gateway: &Gateway) {
    let strict = ["handling=strict"];
    let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    let station = unique("wide");
    let made = api(gateway, "POST", "/stations", Some(&json!({"name": station, "partitions": 3})));
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("/stations/{station}/produce/batch");
    let one_partition = unique("narrow");
    let narrow = format!("/stations/{one_partition}/produce/batch");
    if gateway.setup().backend == Backend::Local {
        post(gateway, &path, &strict, &many(10)).is(200, OK);
        post(gateway, &narrow, &strict, &many(16_384)).is(200, OK);
        let text = post(gateway, &narrow, &strict, &many(16_385)).is_error(501);
        assert!(text.contains("16384"), "{text}");
        return;
    }
    let text = post(gateway, &path, &strict, &many(2)).is_error(501);
    assert!(text.contains(if atomic(gateway) { "partitions" } else { "2.12" }), "{text}");
    assert_eq!(crate::support::admin::records_of(gateway, &station), 0);
    let refused = if atomic(gateway) {
        post(gateway, &narrow, &strict, &many(1_000)).is(200, OK);
        post(gateway, &narrow, &strict, &many(1_001))
    } else {
        post(gateway, &narrow, &strict, &many(2))
    };
    let text = refused.is_error(501);
    assert!(text.contains(if atomic(gateway) { "1000" } else { "2.12" }), "{text}");
}

fn other_preferences_change_nothing(gateway: &Gateway) {
    let station = unique("plain");
    for prefer in ["handling=lenient", "return=minimal", "respond-async", ",,", "handling", "strict", "return"] {
        let response = post(gateway, &format!("/stations/{station}/produce/batch"), &[prefer], "[1]");
        response.is_json(200, OK);
        assert_eq!(response.header("preference-applied"), None, "{prefer}");
    }
}
