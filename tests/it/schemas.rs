//! Records against schemas of the four types, on both backends: what is stored, and what exactly is answered.

use crate::support::{
    admin::{add_schema, api, done, run, station_with_schema},
    gateway::Gateway,
    readback::{stored, texts},
    unique,
};
use serde_json::{Value, json};

on_every_setup!(
    json_records_are_held_against_json_schema,
    protobuf_records_are_validated_and_json_is_transcoded,
    avro_records_are_json_or_single_object,
    graphql_records_are_documents,
    a_schema_that_does_not_compile_is_refused_with_the_reason,
    a_version_is_in_force_when_it_is_activated_and_so_is_an_older_one,
    every_fault_is_told_with_its_place,
);

const OK: &str = "{\"error\":null,\"success\":true}";

/// How a record is posted.
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const AVRO: &str = "avro/bytes";

/// Media type, body, and what is wrong with it: `None` if nothing is.
type Row<'a> = (&'a str, &'a [u8], Option<&'a str>);

/// Posts each record by itself; valid ones are stored as they came (or as `stored_as` says), others answered exactly so.
#[track_caller]
fn table(gateway: &Gateway, station: &str, rows: &[Row<'_>]) {
    for (media_type, body, fault) in rows {
        let response = gateway.single(station, media_type, body);
        let shown = String::from_utf8_lossy(body);
        match fault {
            None => assert_eq!((response.status, response.text()), (200, OK), "{shown}"),
            Some(text) => {
                let expect = json!({"error": format!("Schema validation has failed: {text}"), "success": false});
                assert_eq!((response.status, response.json()), (400, expect), "{shown}");
            }
        }
    }
}

// The original's documented example.
const DOCUMENTED_JSON: &str = r#"{
    "$id": "https://example.com/address.schema.json",
    "description": "An address similar to http://microformats.org/wiki/h-card",
    "type": "object",
    "properties": {"field1": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["field1", "n"],
    "additionalProperties": false
}"#;

fn json_records_are_held_against_json_schema(gateway: &Gateway) {
    let station = unique("json");
    station_with_schema(gateway, &station, "json", DOCUMENTED_JSON, &[]);
    table(
        gateway,
        &station,
        &[
            (JSON, br#"{"field1":"foo","n":1}"#, None),
            (JSON, b" { \"n\" : 9007199254740993 ,\t\"field1\":\"\\u0041\" } ", None),
            (JSON, br#"{"n":1.0,"field1":""}"#, None),
            ("text/plain", br#"{"field1":"foo","n":2}"#, None),
            (JSON, br#"{"field1":"foo","n":"x"}"#, Some(r#"'/n': "x" is not of type "integer""#)),
            (JSON, br#"{"field1":"foo","n":1.5}"#, Some(r#"'/n': 1.5 is not of type "integer""#)),
            (JSON, br#"{"n":1}"#, Some(r#""field1" is a required property"#)),
            (
                JSON,
                br#"{"field1":"foo","n":1,"bad":true}"#,
                Some("Additional properties are not allowed ('bad' was unexpected)"),
            ),
        ],
    );
    assert_eq!(texts(gateway, &station).len(), 4);
    assert_eq!(texts(gateway, &station)[1], " { \"n\" : 9007199254740993 ,\t\"field1\":\"\\u0041\" } ");
    let syntax = gateway.single(&station, JSON, b"{not json").is_error(400);
    assert!(syntax.starts_with("Schema validation has failed: Bad JSON format - "), "{syntax}");
    let batch = gateway.batch(&station, r#"[{"field1":"a","n":1},{"n":2},{"field1":"c","n":3},7]"#);
    assert_eq!(batch.status, 400);
    assert_eq!(
        batch.json(),
        json!({
            "errors": [
                "record 1: Schema validation has failed: \"field1\" is a required property",
                "record 3: Schema validation has failed: 7 is not of type \"object\"",
            ],
            "fail": 2, "sent": 2, "success": false
        })
    );
    assert_eq!(texts(gateway, &station)[4..], [r#"{"field1":"a","n":1}"#, r#"{"field1":"c","n":3}"#]);
}

const DOCUMENTED_PROTO: &str =
    "syntax = \"proto3\";\nmessage Test {\n  string field1 = 1;\n  string field2 = 2;\n  int32 field3 = 3;\n}\n";

fn protobuf_records_are_validated_and_json_is_transcoded(gateway: &Gateway) {
    let station = unique("protobuf");
    station_with_schema(gateway, &station, "protobuf", DOCUMENTED_PROTO, &["--message", "Test"]);
    let wire = b"\x0a\x03foo\x12\x03bar\x18\x7b";
    gateway.single(&station, PROTOBUF, wire).is(200, OK);
    // By JSON, as the original's documents promise.
    gateway.single(&station, JSON, br#"{"field1": "foo", "field2": "bar", "field3": 123}"#).is(200, OK);
    gateway.batch(&station, r#"[{"field1":"foo","field2":"bar","field3":123}]"#).is(200, OK);
    for record in stored(gateway, &station) {
        assert_eq!(record.payload, wire);
    }
    assert_eq!(stored(gateway, &station).len(), 3);
    for (media_type, body) in [
        (PROTOBUF, &b"\x0a\xff"[..]),
        (PROTOBUF, b"\x18"),
        (PROTOBUF, b"\x0a\x02\xff\xfe"),
        (JSON, br#"{"field1":7}"#),
        (JSON, br#"{"nope":"x"}"#),
        (JSON, b"[]"),
    ] {
        let text = gateway.single(&station, media_type, body).is_error(400);
        assert!(text.starts_with("Schema validation has failed: "), "{text}");
    }
    assert_eq!(stored(gateway, &station).len(), 3);
    let text = gateway.single(&station, JSON, br#"{"nope":"x"}"#).is_error(400);
    assert!(text.contains("nope"), "{text}");
}

const DOCUMENTED_AVRO: &str = r#"{"type":"record","namespace":"com.example","name":"test_schema","fields":[
    {"name":"username","type":"string"},{"name":"age","type":"int"}]}"#;

fn avro_records_are_json_or_single_object(gateway: &Gateway) {
    let station = unique("avro");
    station_with_schema(gateway, &station, "avro", DOCUMENTED_AVRO, &[]);
    gateway.single(&station, JSON, br#"{"username":"foo","age":22}"#).is(200, OK);
    gateway.batch(&station, r#"[{"username":"a","age":-2147483648},{"age":1,"username":""}]"#).is(200, OK);
    assert_eq!(texts(gateway, &station)[0], r#"{"username":"foo","age":22}"#, "as it came");
    for (media_type, body, part) in [
        (JSON, &br#"{"username":"foo","age":"22"}"#[..], "age"),
        (JSON, br#"{"username":"foo","age":2147483648}"#, "age"),
        (JSON, br#"{"username":"foo","age":1.5}"#, "age"),
        (JSON, br#"{"username":"foo"}"#, "avro: missing required field age"),
        (JSON, br#"{"username":"foo","age":1,"x":2}"#, "x"),
        (JSON, b"zzz", "Bad Avro format - "),
        (AVRO, b"\x06foo\x2c", ""),
        (AVRO, b"\xc3\x01\0\0\0\0\0\0\0\0\x06foo\x2c", ""),
    ] {
        let text = gateway.single(&station, media_type, body).is_error(400);
        assert!(text.starts_with("Schema validation has failed: ") && text.contains(part), "{text}");
    }
    // Single-object encoding: marker, fingerprint of the schema's canonical form, datum.
    let canonical = r#"{"name":"com.example.test_schema","type":"record","fields":[{"name":"username","type":"string"},{"name":"age","type":"int"}]}"#;
    let datum = [b"\xc3\x01".as_slice(), &rabin(canonical.as_bytes()).to_le_bytes(), b"\x06foo\x2c"].concat();
    gateway.single(&station, AVRO, &datum).is(200, OK);
    assert_eq!(stored(gateway, &station)[3].payload, datum);
    let longer = [datum.as_slice(), b"\0"].concat();
    gateway.single(&station, AVRO, &longer).is_error(400);
}

/// CRC-64-AVRO, as the specification gives it.
fn rabin(text: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    text.iter().fold(EMPTY, |state, byte| {
        let mut word = (state ^ u64::from(*byte)) & 0xff;
        for _ in 0..8 {
            word = (word >> 1) ^ (EMPTY & 0u64.wrapping_sub(word & 1));
        }
        (state >> 8) ^ word
    })
}

fn graphql_records_are_documents(gateway: &Gateway) {
    let station = unique("graphql");
    let schema = "type Query { greeting: String students: [Student] }\ntype Student { id: ID! name: String }\n";
    station_with_schema(gateway, &station, "graphql", schema, &[]);
    table(
        gateway,
        &station,
        &[
            ("text/plain", b"query myQuery { greeting }", None),
            (JSON, b"{ students { id name } }", None),
            (
                "text/plain",
                b"query myQuery { nope }",
                Some(r#"graphql: Cannot query field "nope" on type "Query". (line 1, column 17)"#),
            ),
            (
                "text/plain",
                b"query {",
                Some(
                    "invalid message format, expecting GraphQL: \
                     expected at least one Selection in Selection Set (line 1, column 8)",
                ),
            ),
        ],
    );
    assert_eq!(texts(gateway, &station), ["query myQuery { greeting }", "{ students { id name } }"]);
}

fn a_schema_that_does_not_compile_is_refused_with_the_reason(gateway: &Gateway) {
    for (kind, text, part) in [
        ("json", r#"{"type":"nothing"}"#, "nothing"),
        ("json", "{", "JSON"),
        ("json", r#"{"$ref":"http://127.0.0.1:1/x.json"}"#, "127.0.0.1:1"),
        ("json", r#"{"$ref":"file:///etc/passwd"}"#, "file:///etc/passwd"),
        ("protobuf", "syntax = \"proto3\";\nmessage A { B b = 1; }\n", "B"),
        ("protobuf", "import \"other.proto\";\nmessage A {}\n", "other.proto"),
        ("avro", r#"{"type":"record","name":"x"}"#, "fields"),
        ("graphql", "type Query { a: Missing }", "Missing"),
    ] {
        let name = unique("refused");
        let body = json!({"name": name, "type": kind, "schema": text});
        let response = api(gateway, "POST", "/schemas", Some(&body));
        assert_eq!(response.status, 400, "{text}: {}", response.text());
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(part), "{text}: {detail}");
        assert_eq!(api(gateway, "GET", &format!("/schemas/{name}"), None).status, 404);
    }
    let path = gateway.dir().join("broken.json");
    std::fs::write(&path, r#"{"type":"nothing"}"#).unwrap();
    let output = run(gateway, &["schema", "add", "broken", "--type", "json", "--file", path.to_str().unwrap()], "");
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing"));
}

fn a_version_is_in_force_when_it_is_activated_and_so_is_an_older_one(gateway: &Gateway) {
    let (station, schema) = (unique("versions"), unique("schema"));
    add_schema(gateway, &schema, "json", r#"{"type":"integer"}"#, &[]);
    add_schema(gateway, &schema, "json", r#"{"type":"string"}"#, &[]);
    done(gateway, &["station", "create", &station], "");
    let takes = |body: &str| gateway.single(&station, JSON, body.as_bytes()).status == 200;
    assert!(takes("1") && takes("\"x\""), "nothing is attached");
    done(gateway, &["station", "attach", &station, "--schema", &schema], "");
    assert!(takes("1") && !takes("\"x\""), "the first version is active, the second is not yet");
    done(gateway, &["schema", "activate", &schema, "2"], "");
    assert!(!takes("1") && takes("\"x\""));
    done(gateway, &["schema", "activate", &schema, "1"], "");
    assert!(takes("1") && !takes("\"x\""), "rolled back");
    assert_ne!(run(gateway, &["schema", "activate", &schema, "3"], "").status.code(), Some(0), "there is no third");
    let shown: Value = api(gateway, "GET", &format!("/schemas/{schema}"), None).json();
    assert_eq!((&shown["active_version"], &shown["stations"]), (&json!(1), &json!([station])));
    assert_eq!(api(gateway, "DELETE", &format!("/schemas/{schema}"), None).status, 409, "it is attached");
    done(gateway, &["station", "detach", &station], "");
    assert!(takes("1") && takes("\"x\""));
    assert_eq!(api(gateway, "DELETE", &format!("/schemas/{schema}"), None).status, 204);
}

fn every_fault_is_told_with_its_place(gateway: &Gateway) {
    let station = unique("faults");
    let schema =
        r#"{"type":"object","required":["id"],"properties":{"a":{"type":"array","items":{"type":"integer"}}}}"#;
    station_with_schema(gateway, &station, "json", schema, &[]);
    let text = gateway.single(&station, JSON, br#"{"a":[1,"x",2,null]}"#).is_error(400);
    for part in ["'/a/1': \"x\" is not of type \"integer\"", "'/a/3': null is not of type", "\"id\" is a required"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.matches("; ").count(), 2, "separated: {text}");
    // What is shown of a value is bounded.
    let long = format!("{{\"id\":1,\"a\":[\"{}\"]}}", "x".repeat(100_000));
    let text = gateway.single(&station, JSON, long.as_bytes()).is_error(400);
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert!(!text.contains("file:"), "{text}");
}
