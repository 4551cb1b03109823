//! Records that are valid and records that are not, with what is said of them; what is hostile; both encodings
//! against apache-avro's.

use super::*;
use crate::limits;
use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value, writer::datum::GenericDatumWriter};
use proptest::prelude::*;

fn compile(text: &str) -> AvroSchema {
    AvroSchema::compile(text).unwrap()
}

fn refused(text: &str) -> String {
    AvroSchema::compile(text).unwrap_err().0
}

/// What is said of a JSON record; nothing if it is valid.
fn json(schema: &AvroSchema, record: &str) -> String {
    schema.check(record.as_bytes(), Encoding::Json).map_or_else(|violation| violation.to_string(), |()| String::new())
}

/// What is said of a datum in the single-object encoding.
fn datum(schema: &AvroSchema, datum: &[u8]) -> String {
    let record = [&MAGIC, schema.fingerprint.as_slice(), datum].concat();
    schema.check(&record, Encoding::Binary).map_or_else(|violation| violation.to_string(), |()| String::new())
}

const EVENT: &str = r#"{"type": "record", "name": "Event", "namespace": "com.acme", "fields": [
    {"name": "i", "type": "int"},
    {"name": "l", "type": "long", "default": 0},
    {"name": "f", "type": "float", "default": 0},
    {"name": "d", "type": "double", "default": 0},
    {"name": "b", "type": "boolean", "default": false},
    {"name": "n", "type": "null", "default": null},
    {"name": "s", "type": "string", "default": ""},
    {"name": "y", "type": "bytes", "default": ""},
    {"name": "x", "type": {"type": "fixed", "name": "Four", "size": 4}, "default": "abcd"},
    {"name": "e", "type": {"type": "enum", "name": "Suit", "symbols": ["CLUBS", "HEARTS"]}, "default": "CLUBS"},
    {"name": "a", "type": {"type": "array", "items": "int"}, "default": []},
    {"name": "m", "type": {"type": "map", "values": "long"}, "default": {}},
    {"name": "o", "type": ["null", "string"], "default": null},
    {"name": "u", "type": ["int", "string", "Four", {"type": "array", "items": "Suit"}], "default": 0},
    {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
    {"name": "c", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "default": ""},
    {"name": "next", "type": ["null", "Event"], "default": null}
]}"#;

#[test]
fn json_records_are_valid_or_told_why_not() {
    let schema = compile(EVENT);
    let cases = [
        (r#"{"i": 1}"#, ""),
        (r#"{"i": -2147483648, "l": 9223372036854775807}"#, ""),
        (r#"{"l": 1}"#, "avro: missing required field i"),
        ("{}", "avro: missing required field i"),
        (r#"{"i": "1"}"#, "'i': avro: \"1\" is not an int"),
        (r#"{"i": 1.0}"#, "'i': avro: 1.0 is not an int"),
        (r#"{"i": 1e2}"#, "'i': avro: 100.0 is not an int"),
        (r#"{"i": null}"#, "'i': avro: null is not an int"),
        (r#"{"i": 2147483648}"#, "'i': avro: 2147483648 is out of range for int"),
        (r#"{"i": 1, "l": 9223372036854775808}"#, "'l': avro: 9223372036854775808 is out of range for long"),
        (r#"{"i": 1, "l": 92233720368547758080}"#, "'l': avro: 9.223372036854776e19 is not a long"),
        (r#"{"i": 1, "f": 1, "d": 1.5}"#, ""),
        (r#"{"i": 1, "f": 1e39}"#, "'f': avro: 1e39 is out of range for float"),
        (r#"{"i": 1, "f": "NaN", "d": "-Infinity"}"#, ""),
        (r#"{"i": 1, "f": "nan"}"#, "'f': avro: \"nan\" is not a float"),
        (r#"{"i": 1, "b": 1}"#, "'b': avro: 1 is not a boolean"),
        (r#"{"i": 1, "n": 0}"#, "'n': avro: 0 is not null"),
        (r#"{"i": 1, "s": ["x"]}"#, "'s': avro: an array is not a string"),
        (r#"{"i": 1, "y": "\u00ff\u0000a"}"#, ""),
        (r#"{"i": 1, "y": "\u0100"}"#, "'y': avro: \"Ā\" is not a byte: bytes are the characters U+0000 to U+00FF"),
        (r#"{"i": 1, "y": 1}"#, "'y': avro: 1 is not bytes"),
        (r#"{"i": 1, "x": "\u00ffabc"}"#, ""),
        (r#"{"i": 1, "x": "abc"}"#, "'x': avro: 3 bytes, com.acme.Four has 4"),
        (r#"{"i": 1, "e": "HEARTS"}"#, ""),
        (r#"{"i": 1, "e": "SPADES"}"#, "'e': avro: \"SPADES\" is not a symbol of com.acme.Suit"),
        (r#"{"i": 1, "e": 1}"#, "'e': avro: 1 is not a com.acme.Suit"),
        (r#"{"i": 1, "a": [1, 2]}"#, ""),
        (r#"{"i": 1, "a": [1, "2", {}]}"#, "'a[1]': avro: \"2\" is not an int; 'a[2]': avro: an object is not an int"),
        (r#"{"i": 1, "a": {}}"#, "'a': avro: an object is not an array"),
        (r#"{"i": 1, "m": {"k": 1}}"#, ""),
        (r#"{"i": 1, "m": {"k": 1.5}}"#, "'m.k': avro: 1.5 is not a long"),
        (r#"{"i": 1, "t": 1700000000000, "c": "\u0001"}"#, ""),
        (r#"{"i": 1, "t": "2026-01-01"}"#, "'t': avro: \"2026-01-01\" is not a long"),
        (r#"{"i": 1, "z": 1}"#, "avro: unknown field \"z\""),
        (r#"{"i": 1, "i": 2}"#, "avro: field i is there twice"),
        (r#"{"i": 1, "next": {"i": 2, "next": {"l": 1}}}"#, "'next.next': avro: missing required field i"),
        (
            r#"{"i": "1", "z": 1, "b": 0}"#,
            "'i': avro: \"1\" is not an int; avro: unknown field \"z\"; 'b': avro: 0 is not a boolean",
        ),
        ("[]", "avro: an array is not a com.acme.Event"),
        ("1", "avro: 1 is not a com.acme.Event"),
        ("zzz", "Bad Avro format - expected value at line 1 column 1"),
        ("", "Bad Avro format - EOF while parsing a value at line 1 column 0"),
        (r#"{"i": 1} x"#, "Bad Avro format - trailing characters at line 1 column 10"),
        (r#"{"i": 01}"#, "Bad Avro format - invalid number at line 1 column 8"),
    ];
    for (record, text) in cases {
        assert_eq!(json(&schema, record), text, "{record}");
        let unsaid = schema.check(record.as_bytes(), Encoding::Unsaid);
        assert_eq!(unsaid.is_ok(), text.is_empty(), "{record}");
    }
    let long = format!(r#"{{"i": "{}"}}"#, "a".repeat(1_000));
    assert_eq!(json(&schema, &long), format!("'i': avro: \"{}…\" is not an int", "a".repeat(40)));
    assert_eq!(
        schema.check(b"{\"i\": \"\xff\"}", Encoding::Json).unwrap_err().to_string(),
        "Bad Avro format - invalid unicode code point at line 1 column 8"
    );
}

#[test]
fn unions_take_plain_values_and_those_that_name_their_branch() {
    let schema = compile(EVENT);
    let cases = [
        (r#"{"i": 1, "o": null}"#, ""),
        (r#"{"i": 1, "o": "a"}"#, ""),
        (r#"{"i": 1, "o": {"string": "a"}}"#, ""),
        (r#"{"i": 1, "o": 1}"#, "'o': avro: 1 is not a string"),
        (r#"{"i": 1, "o": {"string": 1}}"#, "'o.string': avro: 1 is not a string"),
        (r#"{"i": 1, "o": {"int": 1}}"#, "'o': avro: an object is of no branch of the union [null, string]"),
        (r#"{"i": 1, "o": {"null": null}}"#, ""),
        (r#"{"i": 1, "u": "abcd"}"#, ""),
        (r#"{"i": 1, "u": {"com.acme.Four": "abcd"}}"#, ""),
        (r#"{"i": 1, "u": {"com.acme.Four": "abc"}}"#, "'u.com.acme.Four': avro: 3 bytes, com.acme.Four has 4"),
        (r#"{"i": 1, "u": ["CLUBS"]}"#, ""),
        (r#"{"i": 1, "u": {"array": ["CLUBS"]}}"#, ""),
        (r#"{"i": 1, "u": ["SPADES"]}"#, "'u[0]': avro: \"SPADES\" is not a symbol of com.acme.Suit"),
        (r#"{"i": 1, "u": 1.5}"#, "'u': avro: 1.5 is of no branch of the union [int, string, com.acme.Four, array]"),
        (r#"{"i": 1, "next": {"i": 1}}"#, ""),
        (r#"{"i": 1, "next": {"com.acme.Event": {"i": 1}}}"#, ""),
        (r#"{"i": 1, "next": {"com.acme.Event": {"l": 1}}}"#, "'next.com.acme.Event': avro: missing required field i"),
    ];
    for (record, text) in cases {
        assert_eq!(json(&schema, record), text, "{record}");
    }
    let pets = compile(
        r#"[{"type":"record","name":"Cat","fields":[{"name":"name","type":"string"},{"name":"Cat","type":"int","default":0}]},
            {"type":"record","name":"Dog","fields":[{"name":"name","type":"string"},{"name":"tail","type":"int"}]}, "string"]"#,
    );
    let none = "avro: an object is of no branch of the union [Cat, Dog, string]";
    let cases = [
        (r#"{"name": "a"}"#, ""),
        (r#"{"name": "a", "tail": 1}"#, ""),
        (r#"{"name": "a", "tail": "1"}"#, "'tail': avro: \"1\" is not an int"),
        (r#"{"name": "a", "claw": 1}"#, none),
        (r#"{"Cat": {"name": "a"}}"#, ""),
        (r#"{"Cat": 1}"#, none),
        (r#"{"Dog": {"name": "a"}}"#, "'Dog': avro: missing required field tail"),
        (r#""a""#, ""),
        (r#"{"string": "a"}"#, ""),
    ];
    for (record, text) in cases {
        assert_eq!(json(&pets, record), text, "{record}");
    }
    let map = compile(r#"["null", "string", {"type": "map", "values": "string"}]"#);
    for record in [r#"{"a": "b", "c": "d"}"#, r#"{"map": {"a": "b"}}"#, r#"{"map": "b"}"#, r#"{"string": "b"}"#, "{}"] {
        assert_eq!(json(&map, record), "", "{record}");
    }
    assert_eq!(json(&map, r#"{"a": 1}"#), "'a': avro: 1 is not a string");
}

/// Ints posted as JSON: what the original's documents showed, and its program refused.
#[test]
fn the_documented_example_of_the_original() {
    let schema = compile(
        r#"{"type": "record", "namespace": "com.example", "name": "test_schema", "fields": [
            {"name": "Master_Brand", "type": "string"}, {"name": "Product_Count", "type": "int"}]}"#,
    );
    assert_eq!(json(&schema, r#"{"Master_Brand": "a", "Product_Count": 7}"#), "");
    assert_eq!(json(&schema, r#"{"Master_Brand": "a"}"#), "avro: missing required field Product_Count");
}

#[test]
fn the_canonical_form_and_fingerprints_are_those_of_the_specification() {
    // The first three from the specification's own test cases.
    for (text, expect) in [
        ("\"null\"", 7_195_948_357_588_979_594_i64),
        ("\"boolean\"", -6_970_731_678_124_411_036),
        (r#"{"type":"fixed", "name":"foo", "size":15}"#, 1_756_455_273_707_447_556),
        ("\"int\"", 8_247_732_601_305_521_295),
    ] {
        assert_eq!(i64::from_le_bytes(compile(text).fingerprint), expect, "{text}");
    }
    let form = |text: &str| canonical::form(&compile(text).types);
    assert_eq!(form(r#"{"type": "long", "logicalType": "timestamp-millis"}"#), "\"long\"");
    assert_eq!(form(r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#), "\"bytes\"");
    assert_eq!(
        form(
            r#"{"doc": "d", "type": "record", "name": "A", "namespace": "x.y", "aliases": ["Z"], "fields": [
                {"name": "a", "order": "ignore", "type": {"type": "enum", "name": "E", "symbols": ["P", "Q"]}},
                {"default": "P", "name": "b", "type": "E"},
                {"name": "c", "type": {"type": "array", "items": ["null", "A", {"type": "map", "values": "x.y.E"}]}},
                {"name": "d", "type": {"type": "fixed", "name": "z.F", "size": 2}}]}"#
        ),
        r#"{"name":"x.y.A","type":"record","fields":[{"name":"a","type":{"name":"x.y.E","type":"enum","symbols":["P","Q"]}},{"name":"b","type":"x.y.E"},{"name":"c","type":{"type":"array","items":["null","x.y.A",{"type":"map","values":"x.y.E"}]}},{"name":"d","type":{"name":"z.F","type":"fixed","size":2}}]}"#
    );
}

#[test]
fn single_objects_are_valid_or_told_why_not() {
    let schema = compile(
        r#"{"type": "record", "name": "R", "fields": [{"name": "i", "type": "int"}, {"name": "s", "type": "string"},
            {"name": "a", "type": {"type": "array", "items": "long"}}, {"name": "u", "type": ["null", "boolean"]},
            {"name": "m", "type": {"type": "map", "values": "R"}},
            {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}}]}"#,
    );
    let bad = "Bad Avro format - ";
    let cases: [(&[u8], String); 17] = [
        (b"\x02\x02a\0\0\0\x02", String::new()),
        (b"\x02\x02a\x04\x02\x04\0\x02\x01\0\x02", String::new()),
        // A block that tells its size, and a record in a map.
        (b"\x02\x02a\x03\x04\x02\x04\0\x02\x01\0\x02", String::new()),
        (b"\x02\0\0\0\x02\x02k\x02\0\0\0\0\0\0\0", String::new()),
        (b"", format!("'i': {bad}the record ends, at byte 10")),
        (b"\x02\x06a", format!("'s': {bad}3 bytes announced, 1 left, at byte 12")),
        (b"\x02\x01", format!("'s': {bad}a length of -1, at byte 12")),
        (b"\x02\x02\xff", format!("'s': {bad}a string that is not UTF-8, at byte 13")),
        (b"\x80\x80\x80\x80\x20", format!("'i': {bad}4294967296 is out of range for int, at byte 15")),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", format!("'i': {bad}a number of more than 64 bits, at byte 20")),
        (b"\x02\0\x06\x02", format!("'a': {bad}3 items announced, 1 bytes left, at byte 13")),
        (b"\x02\0\x03\x02\x02\x04\0\0\0\0", format!("'a': {bad}a block that is not as long as it says, at byte 16")),
        (b"\x02\0\x03\x40\x02", format!("'a': {bad}a block of 32 bytes, 1 left, at byte 14")),
        (b"\x02\0\0\x04", format!("'u': {bad}2 is not a branch of the union, at byte 14")),
        (b"\x02\0\0\x02\x02", format!("'u': {bad}2 is not a boolean, at byte 15")),
        (b"\x02\0\0\0\0\x04", format!("'e': {bad}2 is not a symbol of E, at byte 16")),
        (b"\x02\0\0\0\0\0\0\0", format!("{bad}2 bytes behind the datum, at byte 16")),
    ];
    for (bytes, text) in cases {
        assert_eq!(datum(&schema, bytes), text, "{bytes:x?}");
    }
    assert_eq!(
        datum(&schema, b"\x02\0\0\0\x02\x02k\x02\x02\xff"),
        format!("'m[0].s': {bad}a string that is not UTF-8, at byte 20")
    );
    let own = hex(&schema.fingerprint);
    let begin = format!(
        "{bad}expecting the single-object encoding: c301, the schema's fingerprint {own}, the datum; the record "
    );
    for (record, text) in [
        (b"".as_slice(), "is empty"),
        (b"\0\0\0\0\x01\x02", "begins with 0000"),
        (b"\x02\x02a\0\0\0\x02", "begins with 0202"),
        (b"\xc3\x01\x01\x02", "begins with c301"),
    ] {
        let said = schema.check(record, Encoding::Binary).unwrap_err().to_string();
        assert_eq!(said, format!("{begin}{text}"));
    }
    let said = schema.check(b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02", Encoding::Unsaid).unwrap_err().to_string();
    let other =
        format!("{bad}written with another schema: its fingerprint is 0102030405060708, that of this one {own}");
    assert_eq!(said, other);
}

#[test]
fn what_does_not_compile_is_told() {
    assert!(refused("zzz").contains("JSON"), "{}", refused("zzz"));
    for text in
        [r#"{"type": "record"}"#, r#""nope""#, r#"{"type":"enum","name":"E","symbols":["a b"]}"#, "{}", "[[]]", "7"]
    {
        assert!(!refused(text).is_empty());
    }
    let endless = "record A contains itself without end";
    assert_eq!(refused(r#"{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}"#), endless);
    assert_eq!(
        refused(
            r#"{"type":"record","name":"A","fields":[{"name":"b","type":{"type":"record","name":"B","fields":[
                {"name":"a","type":["A"]}]}}]}"#
        ),
        endless
    );
    compile(r#"{"type":"record","name":"A","fields":[{"name":"a","type":{"type":"array","items":"A"}}]}"#);
}

#[test]
fn hostile_schemas_end() {
    assert!(refused(&"[".repeat(20_000)).contains("nested deeper than 64 levels"));
    assert!(refused(&"{\"type\":".repeat(20_000)).contains("nested deeper than 64 levels"));
    assert!(refused(&" ".repeat(limits::FORMAT_SCHEMA_BYTES_MAX + 1)).contains("at most"));
    let depth = limits::FORMAT_SCHEMA_DEPTH_MAX;
    let array = "{\"type\":\"array\",\"items\":";
    compile(&format!("{}\"int\"{}", array.repeat(depth), "}".repeat(depth)));
    let typed = format!("{}\"int\"{}", "{\"type\":".repeat(depth), "}".repeat(depth));
    drop(AvroSchema::compile(&typed));
    assert!(!refused(r#"{"type":"fixed","name":"F","size":-1}"#).is_empty());
}

/// A record of `fields` fields, each a record of the next level, the last of nothing.
fn doubling(levels: usize) -> String {
    let mut text = "\"null\"".to_owned();
    for level in 0..levels {
        text = format!(
            r#"{{"type":"record","name":"L{level}","fields":[{{"name":"a","type":{text}}},{{"name":"b","type":"{}"}}]}}"#,
            if level == 0 { "null".to_owned() } else { format!("L{}", level - 1) }
        );
    }
    text
}

#[test]
fn hostile_records_are_bounded() {
    // Two to the twentieth values of no bytes.
    assert_eq!(datum(&compile(&doubling(20)), b""), "");
    let nulls = compile(r#"{"type": "array", "items": "null"}"#);
    assert_eq!(datum(&nulls, b"\x80\x80\x01\0"), "");
    let many = "the record has more than 100000 values";
    assert_eq!(datum(&nulls, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\0"), many);
    assert_eq!(datum(&nulls, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0"), many);
    assert_eq!(datum(&nulls, &b"\x80\x89\x7a".repeat(100)), many);
    let ints = compile(r#"{"type": "array", "items": "int"}"#);
    assert!(
        datum(&ints, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\0")
            .contains("9223372036854775807 items announced, 1 bytes left")
    );
    let bytes = compile("\"bytes\"");
    assert!(
        datum(&bytes, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01")
            .contains("9223372036854775807 bytes announced, 0 left")
    );
    let map = compile(r#"{"type": "map", "values": "null"}"#);
    assert!(datum(&map, b"\xfe\xff\xff\xff\x0f\0").contains("items announced"));
    let node = compile(r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#);
    let most = limits::FORMAT_DEPTH_MAX;
    assert_eq!(datum(&node, &[b"\x02".repeat(most - 1), vec![0]].concat()), "");
    assert!(datum(&node, &b"\x02".repeat(100_000)).contains("nested deeper than 100 levels"));
    let list = format!("{}null{}", "{\"next\":".repeat(100_000), "}".repeat(100_000));
    assert_eq!(json(&node, &list), "nested deeper than 100 levels");
    let list = format!("{}null{}", "{\"next\":".repeat(most), "}".repeat(most));
    assert_eq!(json(&node, &list), "");
    // Many unions, each with many branches; many faults.
    let branches: Vec<String> = (0..2_000)
        .map(|n| format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"f{n}","type":"int"}}]}}"#))
        .collect();
    let union = compile(&format!("{{\"type\":\"array\",\"items\":[{}]}}", branches.join(",")));
    assert_eq!(json(&union, "[{\"f1999\":1},{\"f7\":1}]"), "");
    assert_eq!(json(&union, &format!("[{}{{}}]", "{\"f1999\":1},".repeat(10_000))), many);
    let said = json(&ints, &format!("[{}0]", "\"\",".repeat(20_000)));
    assert!(said.ends_with("; and 19990 more"), "{said}");
    let fields: Vec<String> = (0..5_000).map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#)).collect();
    let wide = compile(&format!(
        r#"{{"type":"array","items":{{"type":"record","name":"W","fields":[{}]}}}}"#,
        fields.join(",")
    ));
    assert!(json(&wide, &format!("[{}{{}}]", "{},".repeat(10_000))).ends_with("; and 50004990 more"));
}

/// A schema, and a value of it.
fn valued(levels: u32) -> BoxedStrategy<(String, Value)> {
    let leaf = prop_oneof![
        Just(("\"null\"".to_owned(), Value::Null)),
        any::<bool>().prop_map(|value| ("\"boolean\"".to_owned(), Value::Boolean(value))),
        any::<i32>().prop_map(|value| ("\"int\"".to_owned(), Value::Int(value))),
        any::<i64>().prop_map(|value| ("\"long\"".to_owned(), Value::Long(value))),
        any::<f64>().prop_map(|value| ("\"double\"".to_owned(), Value::Double(value))),
        any::<f32>().prop_map(|value| ("\"float\"".to_owned(), Value::Float(value))),
        any::<String>().prop_map(|value| ("\"string\"".to_owned(), Value::String(value))),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|value| ("\"bytes\"".to_owned(), Value::Bytes(value))),
    ];
    if levels == 0 {
        return leaf.boxed();
    }
    let inner = valued(levels - 1);
    prop_oneof![
        leaf,
        (inner.clone(), 0_usize..4).prop_map(|((schema, value), times)| {
            (format!("{{\"type\":\"array\",\"items\":{schema}}}"), Value::Array(vec![value; times]))
        }),
        (inner.clone(), 0_usize..4).prop_map(|((schema, value), times)| {
            let entries = (0..times).map(|n| (format!("k{n}"), value.clone())).collect();
            (format!("{{\"type\":\"map\",\"values\":{schema}}}"), Value::Map(entries))
        }),
        (inner.clone(), any::<bool>()).prop_map(|((schema, value), null)| {
            if schema == "\"null\"" || schema.starts_with('[') {
                return (schema, value);
            }
            let value = if null { Value::Union(0, Value::Null.into()) } else { Value::Union(1, value.into()) };
            (format!("[\"null\",{schema}]"), value)
        }),
        prop::collection::vec(inner, 0..4).prop_map(move |fields| {
            let typed: Vec<String> = fields
                .iter()
                .enumerate()
                // Each in a namespace of its own: the same name may not be defined twice.
                .map(|(n, (schema, _))| {
                    let schema = schema.replace("\"name\":\"r", &format!("\"name\":\"r{levels}{n}"));
                    format!("{{\"name\":\"f{n}\",\"type\":{schema}}}")
                })
                .collect();
            let values = fields.into_iter().enumerate().map(|(n, (_, value))| (format!("f{n}"), value)).collect();
            let schema = format!("{{\"type\":\"record\",\"name\":\"r{levels}\",\"fields\":[{}]}}", typed.join(","));
            (schema, Value::Record(values))
        }),
    ]
    .boxed()
}

/// A value as plain JSON.
fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Boolean(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Long(value) => (*value).into(),
        Value::Float(value) => f64::from(*value).into(),
        Value::Double(value) => (*value).into(),
        Value::String(value) => value.clone().into(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Record(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Union(_, value) => plain(value),
        _ => serde_json::Value::Null,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_apache_avro_writes_is_valid_in_both_encodings((text, value) in valued(3), cut in any::<prop::sample::Index>()) {
        let theirs = Schema::parse_str(&text).unwrap();
        let ours = compile(&text);
        let bytes = GenericDatumWriter::builder(&theirs).build().unwrap().write_value_to_vec(value.clone()).unwrap();
        prop_assert_eq!(datum(&ours, &bytes), "");
        let text = plain(&value).to_string();
        // JSON has no word for a number that is not finite.
        if !text.contains("null") {
            prop_assert_eq!(json(&ours, &text), "", "{}", text);
        }
        if !bytes.is_empty() {
            prop_assert_ne!(datum(&ours, &bytes[..cut.index(bytes.len())]), "");
        }
        prop_assert_ne!(datum(&ours, &[bytes.as_slice(), b"\0"].concat()), "");
    }

    #[test]
    fn what_the_walk_takes_apache_avro_reads(bytes in prop::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..24)) {
        thread_local!(static BOTH: (AvroSchema, Schema) = {
            let text = EVENT.replace("\"precision\": 9", "\"precision\": 1000");
            (compile(&text), Schema::parse_str(&text).unwrap())
        });
        BOTH.with(|(ours, theirs)| {
            let mut rest = bytes.as_slice();
            let read = GenericDatumReader::builder(theirs).build().unwrap().read_value(&mut rest);
            if datum(ours, &bytes).is_empty() {
                prop_assert!(read.is_ok() && rest.is_empty(), "{:?}", read);
            }
            Ok(())
        })?;
    }
}
