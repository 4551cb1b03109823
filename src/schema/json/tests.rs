//! What is valid, what is not, and what is said of it; and that the tape says what a tree would.

use super::{JsonSchema, Scratch, read::read, tape::Kind};
use crate::limits::{JSON_DEPTH_MAX, SCHEMA_JSON_VALUES_MAX};
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

/// What is wrong with a record; nothing if it is valid.
fn verdict(schema: &Value, record: &str) -> String {
    let schema = JsonSchema::compile(&schema.to_string()).unwrap_or_else(|error| panic!("{schema}: {error:?}"));
    schema
        .check(record.as_bytes(), &mut Scratch::default())
        .err()
        .map_or_else(String::new, |violation| violation.to_string())
}

/// Why a schema does not compile.
fn refusal(schema: &str) -> String {
    JsonSchema::compile(schema).expect_err("the schema is refused").0
}

/// The example of the original's documentation.
#[test]
fn the_documented_example_of_the_original_holds() {
    let schema = json!({
        "$id": "https://example.com/person.schema.json",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Person",
        "type": "object",
        "properties": {"field1": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["field1", "n"],
        "additionalProperties": false,
    });
    let rows = [
        (r#"{"field1":"a","n":1}"#, ""),
        (r#"{"n":2,"field1":""}"#, ""),
        ("{}", r#""field1" is a required property; "n" is a required property"#),
        (r#"{"n":"x"}"#, r#""field1" is a required property; '/n': "x" is not of type "integer""#),
        (r#"{"field1":"a","n":1.5}"#, r#"'/n': 1.5 is not of type "integer""#),
        (r#"{"field1":"a","n":1.0}"#, ""),
        (r#"{"field1":"a","n":1,"m":2}"#, "Additional properties are not allowed ('m' was unexpected)"),
        ("[]", r#"[] is not of type "object""#),
        ("", "Bad JSON format - the text ends within a value at byte 0"),
        (r#"{"field1":"a","n":1}x"#, "Bad JSON format - expected nothing more after the value at byte 20"),
        ("{field1:1}", "Bad JSON format - expected the name of a member at byte 1"),
    ];
    for (record, expected) in rows {
        assert_eq!(verdict(&schema, record), expected, "{record}");
    }
}

#[test]
fn each_keyword_says_what_is_wrong() {
    let rows = [
        (json!({"enum": ["a", 1, null]}), r#""b""#, r#""b" is not one of "a", 1 or null"#),
        (json!({"const": {"a": [1]}}), r#"{"a":[2]}"#, r#"{"a":[1]} was expected"#),
        (json!({"minLength": 3}), r#""é1""#, r#""é1" is shorter than 3 characters"#),
        (json!({"maximum": 10}), "11", "11 is greater than the maximum of 10"),
        (json!({"exclusiveMinimum": 0}), "0.0", "0.0 is less than or equal to the minimum of 0"),
        (json!({"multipleOf": 0.5}), "0.7", "0.7 is not a multiple of 0.5"),
        (json!({"pattern": "^a+$"}), r#""ab""#, r#""ab" does not match "^a+$""#),
        (
            json!({"items": {"type": "string"}}),
            r#"["a",1,{}]"#,
            r#"'/1': 1 is not of type "string"; '/2': {} is not of type "string""#,
        ),
        (
            json!({"uniqueItems": true}),
            r#"[{"a":1,"b":2},{"b":2.0,"a":1}]"#,
            r#"[{"a":1,"b":2},{"a":1,"b":2.0}] has non-unique elements"#,
        ),
        (json!({"contains": {"const": 1}}), "[2]", "None of [2] are valid under the given schema"),
        (json!({"properties": {"a/b~c": false}}), r#"{"a/b~c":1}"#, "'/a~1b~0c': False schema does not allow 1"),
        (
            json!({"anyOf": [{"type": "string"}, {"minimum": 2}]}),
            "1",
            "1 is not valid under any of the schemas listed in the 'anyOf' keyword",
        ),
        (json!({"not": {"type": "null"}}), "null", r#"{"type":"null"} is not allowed for null"#),
        (json!({"propertyNames": {"maxLength": 1}}), r#"{"ab":1}"#, r#""ab" is longer than 1 character"#),
        (json!({"dependentRequired": {"a": ["b"]}}), r#"{"a":1}"#, r#""b" is a required property"#),
        (
            json!({"properties": {"a": true}, "unevaluatedProperties": false}),
            r#"{"b":1}"#,
            "Unevaluated properties are not allowed ('b' was unexpected)",
        ),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [true], "additionalItems": false}),
            "[0,1,2,3,4,5,6,7,8,9,10]",
            "more than 1 items are not allowed",
        ),
        // Not asserted: formats and contents are annotations.
        (json!({"format": "email", "contentEncoding": "base64", "contentMediaType": "application/json"}), r#""§""#, ""),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "contentEncoding": "base64", "contentMediaType": "application/json"}),
            r#""§""#,
            "",
        ),
        (json!(false), "1", "False schema does not allow 1"),
        (json!(true), "1", ""),
    ];
    for (schema, record, expected) in rows {
        assert_eq!(verdict(&schema, record), expected, "{schema} {record}");
    }
}

/// What the splitter takes and most parsers do not.
#[test]
fn the_corners_of_json_are_validated_for_what_they_are() {
    let rows = [
        (json!({"type": "integer"}), "123456789012345678901234567890", true),
        (json!({"type": "integer"}), "1e999", true),
        (json!({"type": "integer"}), "1e-999", false),
        (json!({"type": "number", "maximum": 1}), "1e999", false),
        (json!({"type": "number", "minimum": 1}), "1e999", true),
        (json!({"maximum": 9_007_199_254_740_992_u64}), "9007199254740993", false),
        (json!({"const": 18_446_744_073_709_551_615_u64}), "18446744073709551615", true),
        (json!({"const": 18_446_744_073_709_551_615_u64}), "18446744073709551614", false),
        (json!({"const": 1}), "1.0", true),
        (json!({"const": 0}), "-0", true),
        (json!({"uniqueItems": true}), "[1e999,2e999]", true),
        (json!({"uniqueItems": true}), "[123456789012345678901234567890,123456789012345678901234567891]", true),
        (json!({"minLength": 1, "maxLength": 1}), r#""\ud800""#, true),
        (json!({"minLength": 2, "maxLength": 2}), r#""\ud800\u0041""#, true),
        (json!({"minLength": 1, "maxLength": 1}), r#""\ud83d\ude00""#, true),
        (json!({"const": "\u{1F600}\n"}), r#""\uD83D\uDE00\n""#, true),
        // Of members of one name the last holds, however it is written.
        (json!({"properties": {"a": {"type": "integer"}}, "maxProperties": 1}), r#"{"a":"x","a":1}"#, true),
        (json!({"properties": {"a": {"type": "integer"}}}), r#"{"a":1,"a":"x"}"#, false),
        (json!({"properties": {"a": {"type": "integer"}}}), r#"{"a":1,"\u0061":"x"}"#, false),
        (json!({"required": ["a", "b"]}), r#"{"a":{"c":[1,{"d":2}]},"c":3,"a":1,"b":[]}"#, true),
        (json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}), "1.0", false),
    ];
    for (schema, record, valid) in rows {
        assert_eq!(verdict(&schema, record).is_empty(), valid, "{schema} {record}");
    }
}

#[test]
fn what_is_told_is_cut() {
    let long = "é".repeat(1_000);
    let told = verdict(&json!({"type": "integer"}), &format!(r#""{long}""#));
    assert_eq!(told, format!(r#""{}…" is not of type "integer""#, "é".repeat(32)));
    let many = verdict(&json!({"items": {"type": "null"}}), "[1,2,3,4,5,6,7,8,9,10,11,12,13]");
    assert!(many.ends_with(r#"'/9': 10 is not of type "null"; and 3 more"#), "{many}");
    let deep = verdict(&json!({"type": "null"}), r#"{"a":[[[[1]]]]}"#);
    assert_eq!(deep, r#"{"a":[["…"]]} is not of type "null""#);
    let names = format!(r#"{{"{long}":1}}"#);
    let path = verdict(&json!({"additionalProperties": {"type": "null"}}), &names);
    assert!(path.len() < 700, "{path}");
}

#[test]
fn a_schema_that_does_not_compile_is_refused_with_the_reason() {
    let rows = [
        ("", "the schema is not JSON: EOF while parsing a value at line 1 column 0"),
        (
            r#"{"type": "strin"}"#,
            r#"'/type': "strin" is not valid under any of the schemas listed in the 'anyOf' keyword"#,
        ),
        (r#"{"minimum": "1"}"#, r#"'/minimum': "1" is not of type "number""#),
        (
            r#"{"properties": {"a": {"$ref": "https://example.com/a.json"}}}"#,
            "`https://example.com/a.json` is not in the schema: a schema may refer to itself and to the metaschemas only",
        ),
        (
            r#"{"$ref": "file:///etc/passwd"}"#,
            "`file:///etc/passwd` is not in the schema: a schema may refer to itself and to the metaschemas only",
        ),
        (
            r#"{"$ref": "other.json#/a"}"#,
            "`other.json#/a` is not in the schema: a schema may refer to itself and to the metaschemas only",
        ),
        (
            r#"{"$schema": "https://example.com/mine"}"#,
            "`https://example.com/mine` is not in the schema, and is none of the drafts 4, 6, 7, 2019-09 and 2020-12",
        ),
        (r##"{"$ref": "#/$defs/a"}"##, "Pointer '/$defs/a' does not exist"),
    ];
    for (schema, expected) in rows {
        assert_eq!(refusal(schema), expected, "{schema}");
    }
}

/// ECMA-262, annex B.1.2, and Go's RE2, which the original used.
#[test]
fn r13_patterns_that_others_take_are_taken_and_a_refusal_says_why() {
    let matches =
        |pattern: &str, text: &str| verdict(&json!({"pattern": pattern}), &json!(text).to_string()).is_empty();
    // Each verdict is that of an ECMA-262 engine without the flag `u`.
    for (pattern, valid, invalid) in [
        (r"^[\w-.]+@[a-z.]+$", &["a-b.c@x.de", "a_b@x"][..], &["@x.de", "a+b@x.de", "é@x.de"][..]),
        (r"^[\w.-]+$", &["a-b."], &["a+b"]),
        (r"^[\d-x]+$", &["1-x"], &["e", "٣"]),
        (r"^[+--]+$", &["+,-"], &["*", "."]),
        (r"^[a-\d]+$", &["a-1"], &["b"]),
        (r"^\{[a-z]+}$", &["{abc}"], &["abc"]),
        (r"^{[a-z]+}$", &["{abc}"], &["abc"]),
        (r"^a{,2}$", &["a{,2}"], &["aa", ""]),
        (r"^a{2}$", &["aa"], &["a{2}"]),
        (r"^\<[a-z]+\>$", &["<b>"], &["b"]),
        (r"^[\<\>]$", &["<", ">"], &["\\"]),
        (r"^https?:\/\/[^\s/$.?#].[^\s]*$", &["https://x.de/a"], &["ftp://x.de", "http:// x"]),
        (r"^\u00e9\x41\cI$", &["éA\t"], &["eA\t"]),
        (r"^\uD83D\uDE00$", &["😀"], &["x"]),
        (r"^[^]$", &["a", "\n"], &["", "ab"]),
        (r"[]", &[], &["", "a"]),
        (r"^]$", &["]"], &["["]),
        (r"^[[a]$", &["[", "a"], &["b"]),
        (r"^[a&&b]+$", &["a&b"], &["c"]),
        (r"^\0$", &["\0"], &["0"]),
        (r"^(?<year>\d{4})-(?:0[1-9]|1[0-2])$", &["2026-11"], &["2026-13"]),
    ] {
        for text in valid {
            assert!(matches(pattern, text), "{pattern} takes {text:?}");
        }
        for text in invalid {
            assert!(!matches(pattern, text), "{pattern} refuses {text:?}");
        }
    }
    let names = json!({"patternProperties": {r"^[\w-.]+$": {"type": "integer"}}, "additionalProperties": false});
    assert_eq!(verdict(&names, r#"{"a-b.c":1}"#), "");
    assert_eq!(verdict(&names, r#"{"a-b":"x"}"#), r#"'/a-b': "x" is not of type "integer""#);
    assert_ne!(verdict(&names, r#"{"a+b":1}"#), "");
    // The pattern is shown as it was written.
    assert_eq!(verdict(&json!({"pattern": r"^[\w-.]$"}), r#""+""#), r#""+" does not match "^[\\w-.]$""#);
    let engine = "is not a pattern of the linear-time engine:";
    for (pattern, why) in [
        ("(?=a)b", "at character 1 look-around, which takes more than linear time"),
        ("é(?<!a)", "at character 2 look-around, which takes more than linear time"),
        (r"(a)\1", "at character 4 a back-reference, which takes more than linear time"),
        ("ab(", "at character 3 unclosed group"),
        ("a[b", "at character 2 unclosed character class"),
        ("[b-a]", "at character 2 invalid character class range, the start must be <= the end"),
        ("*a", "at character 1 repetition operator missing expression"),
        (r"\y", "at character 1 unrecognized escape sequence"),
        (r"[\w-.](", "unclosed group"),
        ("(a{100}){100}", "it takes more than 262144 bytes when it is compiled"),
    ] {
        let schema = json!({"properties": {"a": {"pattern": pattern}}}).to_string();
        assert_eq!(refusal(&schema), format!("'/properties/a/pattern': {} {engine} {why}", json!(pattern)));
    }
    let named = refusal(r#"{"patternProperties": {"(?!a)": true}}"#);
    assert!(named.contains("look-around"), "{named}");
}

#[test]
fn references_within_the_schema_and_to_the_metaschemas_work() {
    let tree = json!({
        "$id": "https://example.com/tree",
        "type": "object",
        "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["value"],
    });
    assert_eq!(verdict(&tree, r#"{"value":1,"children":[{"value":2,"children":[{"value":3}]}]}"#), "");
    assert_eq!(
        verdict(&tree, r#"{"value":1,"children":[{"value":2,"children":[{}]}]}"#),
        r#"'/children/0/children/0': "value" is a required property"#
    );
    let by_id =
        json!({"$ref": "https://example.com/b", "$defs": {"b": {"$id": "https://example.com/b", "type": "integer"}}});
    assert_eq!(verdict(&by_id, "1"), "");
    assert_eq!(verdict(&by_id, "\"1\""), r#""1" is not of type "integer""#);
    for meta in ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"] {
        let schema = json!({"$schema": meta, "$ref": meta});
        assert_eq!(verdict(&schema, r#"{"type":"string"}"#), "");
        assert_ne!(verdict(&schema, r#"{"type":"strin"}"#), "");
    }
}

/// JSON Schema core (2020-12), section 8.2.1; RFC 3986, section 5.2: an `$id` is resolved once, against what is around
/// it.
#[test]
fn r16_a_nested_id_with_a_folder_is_resolved_once() {
    let address = |id: &str| {
        json!({
            "$id": id, "type": "object", "properties": {"n": {"$ref": "#/$defs/s"}},
            "$defs": {"s": {"type": "string"}},
        })
    };
    let root = "https://example.com/schemas/customer";
    // The reference of the outer schema, and what is around the inner one.
    let by_reference = |reference: &str, id: &str| json!({"$id": root, "properties": {"a": {"$ref": reference}}, "$defs": {"x": address(id)}});
    let draft7 = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "$id": root, "properties": {"a": {"$ref": "common/address.json"}},
        "definitions": {"x": {"$id": "common/address.json", "properties": {"n": {"$ref": "#/definitions/s"}}, "definitions": {"s": {"type": "string"}}}},
    });
    let draft4 = json!({
        "$schema": "http://json-schema.org/draft-04/schema#", "id": root, "properties": {"a": {"$ref": "common/address.json"}},
        "definitions": {"x": {"id": "common/address.json", "properties": {"n": {"$ref": "#/definitions/s"}}, "definitions": {"s": {"type": "string"}}}},
    });
    let anchored = json!({
        "$id": root, "properties": {"a": {"$ref": "common/address.json#here"}},
        "$defs": {"x": {"$id": "common/address.json", "$anchor": "here", "properties": {"n": {"$ref": "#/$defs/s"}}, "$defs": {"s": {"type": "string"}}}},
    });
    let twice = json!({
        "$id": root, "properties": {"a": {"$ref": "one/two/address.json"}},
        "$defs": {"x": {"$id": "one/other", "$defs": {"y": address("two/address.json")}}},
    });
    let schemas = [
        by_reference("common/address.json", "common/address.json"),
        by_reference("#/$defs/x", "common/address.json"),
        by_reference("https://example.com/schemas/common/address.json", "common/address.json"),
        by_reference("../other/address.json", "../other/address.json"),
        by_reference("/address.json", "/address.json"),
        by_reference("address.json#", "address.json"),
        draft7,
        draft4,
        anchored,
        twice,
    ];
    for schema in schemas {
        assert_eq!(verdict(&schema, r#"{"a":{"n":"x"}}"#), "", "{schema}");
        assert_eq!(verdict(&schema, r#"{"a":{"n":1}}"#), r#"'/a/n': 1 is not of type "string""#, "{schema}");
    }
}

/// JSON Schema core, section 4.2.2: a number is its mathematical value, by whatever keyword it is compared.
#[test]
fn r17_integers_beyond_64_bits_are_compared_by_their_digits() {
    let (below, at, above) = (
        "99999999999999999999999999999999999998",
        "99999999999999999999999999999999999999",
        "100000000000000000000000000000000000000",
    );
    // The schema is text: a tree of serde_json's would round it.
    let check = |schema: &str, valid: &[&str], invalid: &[&str]| {
        let compiled = JsonSchema::compile(schema).expect(schema);
        let verdict = |record: &str| compiled.check(record.as_bytes(), &mut Scratch::default()).is_ok();
        for record in valid {
            assert!(verdict(record), "{schema} takes {record}");
        }
        for record in invalid {
            assert!(!verdict(record), "{schema} refuses {record}");
        }
    };
    check(
        r#"{"type":"integer","minimum":-9223372036854775808}"#,
        &["-9223372036854775808", "-9223372036854775807.0", "18446744073709551616"],
        &["-9223372036854775809", "-9223372036854775808.5", "-1e30"],
    );
    check(
        &format!(r#"{{"maximum":{at}}}"#),
        &[at, below, "9.9999999999999999999999999999999999999e37", "0"],
        &[above, "1e38", "1e999"],
    );
    check(&format!(r#"{{"exclusiveMaximum":{at}}}"#), &[below], &[at, above]);
    check(&format!(r#"{{"exclusiveMinimum":{at}}}"#), &[above, "1e38"], &[at, below]);
    check(&format!(r#"{{"minimum":{at}}}"#), &[at, above], &[below]);
    check(&format!(r#"{{"const":{at}}}"#), &[at, "99999999999999999999999999999999999999.0"], &[below, above, "1e38"]);
    check(&format!(r#"{{"enum":[1,"x",{at}]}}"#), &[at, "1.0"], &[below, above, "2"]);
    check(&format!(r#"{{"enum":[1,2,{at}]}}"#), &[at, "2"], &[below, above]);
    check(
        &format!(r#"{{"const":{{"a":[{at}]}}}}"#),
        &[&format!(r#"{{"a":[{at}]}}"#)],
        &[&format!(r#"{{"a":[{below}]}}"#)],
    );
    check(r#"{"const":9007199254740993}"#, &["9007199254740993", "9007199254740993.0"], &["9007199254740992.0"]);
    check(r#"{"const":18446744073709551616}"#, &["18446744073709551616"], &["18446744073709551617"]);
    check(r#"{"multipleOf":2}"#, &[below, above, "1e999", "18446744073709551616"], &[at, "18446744073709551617"]);
    check(
        &format!(r#"{{"multipleOf":{at}}}"#)
            .replace("99999999999999999999999999999999999999", "9999999999999999999999999999999999999"),
        &["9999999999999999999999999999999999999", "0"],
        &[at, "1"],
    );
    check(r#"{"uniqueItems":true}"#, &[&format!("[{below},{at},{above}]")], &[&format!("[{above},1e38]"), "[1.0,1]"]);
    let many = |last: &str| format!("[{},{at},{last}]", (0..20).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    check(r#"{"uniqueItems":true}"#, &[&many(below)], &[&many("9.9999999999999999999999999999999999999e37")]);
    check(
        r#"{"$schema":"http://json-schema.org/draft-04/schema#","minimum":9223372036854775808,"exclusiveMinimum":true}"#,
        &["9223372036854775809"],
        &["9223372036854775808", "9223372036854775807"],
    );
    check(
        r#"{"$schema":"http://json-schema.org/draft-04/schema#","maximum":5,"exclusiveMaximum":false}"#,
        &["5"],
        &["6"],
    );
}

/// What is said of such a number has all digits, too.
#[test]
fn r17_numbers_are_shown_with_all_digits() {
    let (at, above) = ("99999999999999999999999999999999999999", "100000000000000000000000000000000000000");
    let said = |schema: &str, record: &str| {
        let compiled = JsonSchema::compile(schema).expect(schema);
        compiled.check(record.as_bytes(), &mut Scratch::default()).map_err(|violation| violation.to_string())
    };
    for (schema, expect) in [
        (format!(r#"{{"maximum":{at}}}"#), format!("{above} is greater than the maximum of {at}")),
        (format!(r#"{{"const":{at}}}"#), format!("{at} was expected")),
        (r#"{"multipleOf":3}"#.to_owned(), format!("{above} is not a multiple of 3")),
    ] {
        assert_eq!(said(&schema, above), Err(expect));
    }
    let options = said(&format!(r#"{{"enum":[{at},1]}}"#), "2");
    assert_eq!(options, Err(format!("2 is none of [{at},1]")));
    assert_eq!(
        refusal(&format!(r#"{{"multipleOf":{}}}"#, "1".repeat(38))),
        format!("'/multipleOf': {} has more than 37 digits to divide by", "1".repeat(38))
    );
}

#[test]
fn a_record_is_json_when_serde_json_says_so() {
    let texts = [
        "1",
        "-",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "-0.0e-0",
        "tru",
        "true",
        "nulll",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\t\"",
        "[",
        "[]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1]]",
        "{",
        "{}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "{\"a\":1]",
        " \r\n\t[ 1 , { \"a\" : [ ] } ] ",
        "\u{feff}1",
        "1 2",
        "\"\u{7f}\"",
        "\"12345678\\n12345678\"",
        "\"1234567\u{1f}\"",
        "\"\\ud800\\ud800\"",
        "nul",
        "",
        " ",
    ];
    for text in texts {
        let ours = read(text.as_bytes(), &mut Scratch::default()).is_ok();
        assert_eq!(ours, serde_json::from_str::<&RawValue>(text).is_ok(), "{text:?}");
    }
    assert!(read(b"\"\xff\"", &mut Scratch::default()).is_err());
    for (depth, valid) in [(JSON_DEPTH_MAX, true), (JSON_DEPTH_MAX + 1, false)] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(nested.as_bytes(), &mut Scratch::default()).is_ok(), valid, "{depth}");
    }
    let many = format!("[{}0]", "0,".repeat(SCHEMA_JSON_VALUES_MAX));
    assert!(read(many.as_bytes(), &mut Scratch::default()).is_err());
}

/// The tree of a tape, to be compared with that of `serde_json`.
fn tree(record: &str) -> Value {
    fn value(tape: &super::tape::Tape<'_>, index: u32) -> Value {
        let entry = tape.entry(index);
        match entry.kind {
            Kind::Null => Value::Null,
            Kind::True | Kind::False => Value::Bool(entry.kind == Kind::True),
            Kind::Integer | Kind::Float => serde_json::from_str(tape.text(entry)).expect("a number"),
            Kind::Text | Kind::Unescaped | Kind::Replaced => tape.text(entry).into(),
            Kind::Array => tape.elements(index).map(|index| value(tape, index)).collect(),
            Kind::Object => {
                tape.members(index).map(|(name, index)| (tape.text(name).to_owned(), value(tape, index))).collect()
            }
        }
    }
    value(&read(record.as_bytes(), &mut Scratch::default()).expect("it is JSON"), 0)
}

/// Values of all kinds, of few names and numbers, so that schemas and records meet.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..12).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-20_i32..20).prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        any::<f64>().prop_map(|number| if number.is_finite() { Value::from(number) } else { Value::Null }),
        "[a-c]{0,5}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            prop::collection::vec(("[a-d]{1,2}", inner), 0..10)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Schemas that between them use each keyword.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": ["integer", "string"]}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": ["string", "null"]}, "c": {"minimum": 1}}, "required": ["a"]}),
        json!({"properties": {"a": true, "b": {"maxLength": 2}}, "additionalProperties": false}),
        json!({"properties": {"a": {"type": "array"}}, "patternProperties": {"^b": {"type": "number"}}, "additionalProperties": {"type": "string"}}),
        json!({"required": ["a", "b", "c"], "minProperties": 1, "maxProperties": 4, "propertyNames": {"pattern": "^[abc]+$"}}),
        json!({"items": {"type": "number", "multipleOf": 0.25, "exclusiveMaximum": 100}, "uniqueItems": true, "minItems": 1, "maxItems": 9}),
        json!({"prefixItems": [{"type": "integer"}, true], "items": {"const": 1}, "contains": {"type": "string"}, "minContains": 0, "maxContains": 2}),
        json!({"enum": [1, "a", null, [], {}, {"a": 1}, [1, "b"], 1.5, true]}),
        json!({"anyOf": [{"type": "string", "minLength": 2}, {"minimum": 2}, {"required": ["b"]}]}),
        json!({"oneOf": [{"type": "integer"}, {"minimum": 2}], "not": {"const": 7}}),
        json!({"if": {"required": ["a"]}, "then": {"properties": {"a": {"type": "integer"}}}, "else": {"type": ["array", "null"]}}),
        json!({"allOf": [{"properties": {"a": true}}, {"properties": {"b": true}}], "unevaluatedProperties": {"type": "string"}}),
        json!({"prefixItems": [true], "unevaluatedItems": {"type": "integer"}}),
        json!({"$defs": {"n": {"type": ["integer", "null"]}}, "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/$defs/n"}}, "additionalProperties": {"$ref": "#"}, "items": {"$ref": "#"}}),
        json!({"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"maxProperties": 2}}, "uniqueItems": true}),
        json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "object", "properties": {"a": {"minimum": 0, "exclusiveMinimum": true}}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}], "additionalItems": {"type": "string"}, "dependencies": {"a": ["b"]}}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Verdicts, and where the faults are, are the crate's own over a tree.
    #[test]
    fn the_tape_says_what_a_tree_says(value in values(), pretty in any::<bool>()) {
        let record = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("JSON");
        prop_assert_eq!(&tree(&record), &value);
        let mut scratch = Scratch::default();
        thread_local! {
            static COMPILED: Vec<(JsonSchema, jsonschema::Validator)> = schemas()
                .iter()
                .map(|schema| {
                    let tree = jsonschema::options().should_validate_formats(false).build(schema).expect("it compiles");
                    (JsonSchema::compile(&schema.to_string()).expect("it compiles"), tree)
                })
                .collect();
        }
        COMPILED.with(|compiled| {
            for (index, (ours, theirs)) in compiled.iter().enumerate() {
                let expected: Vec<String> = theirs.iter_errors(&value).map(|error| error.instance_path().as_str().to_owned()).collect();
                match ours.check(record.as_bytes(), &mut scratch) {
                    Ok(()) => prop_assert!(expected.is_empty(), "schema {}: {:?}", index, expected),
                    Err(violation) => {
                        let mut expected: Vec<_> = expected.into_iter().collect();
                        prop_assert_eq!(violation.faults.len() + violation.more, expected.len(), "schema {}: {}", index, violation);
                        if violation.more == 0 {
                            let mut found: Vec<_> = violation.faults.iter().map(|fault| fault.path.clone()).collect();
                            found.sort();
                            expected.sort();
                            prop_assert_eq!(found, expected, "schema {}", index);
                        }
                    }
                }
            }
            Ok(())
        })?;
    }

    /// Whatever bytes come, it is the opinion of `serde_json` whether they are JSON.
    #[test]
    fn the_reader_agrees_with_serde_json(text in r#"[\[\]{},:"\\eE+.0-2a-cnulltruefals \u{e9}-]{0,24}"#) {
        let ours = read(text.as_bytes(), &mut Scratch::default()).is_ok();
        prop_assert_eq!(ours, serde_json::from_str::<&RawValue>(&text).is_ok());
    }

    /// Of members of one name the last holds, in objects of any size.
    #[test]
    fn the_last_of_one_name_holds(names in prop::collection::vec("[a-z]{1,2}|\\\\u006[1-9]", 0..300)) {
        let members: Vec<String> = names.iter().enumerate().map(|(index, name)| format!(r#""{name}":{index}"#)).collect();
        let record = format!("{{{}}}", members.join(","));
        prop_assert_eq!(tree(&record), serde_json::from_str::<Value>(&record).expect("JSON"));
    }
}
