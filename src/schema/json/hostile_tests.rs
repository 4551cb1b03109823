//! Schemas and records that are made to be dear: each is refused, or comes to its end within the fuel.
//!
//! The tests hold on to verdicts and to fuel, never to time. With `--nocapture`, in release, they print how long each
//! took: that is how the prices were found.

use super::{JsonSchema, Scratch, TOO_MUCH, fuel};
use crate::{
    limits::{SCHEMA_FUEL, SCHEMA_JSON_BYTES_MAX},
    rt::clock,
};
use serde_json::{Value, json};
use std::{fmt::Write, thread};

/// Compiles with no more stack than a thread has, and prints what it took.
fn compile(name: &str, schema: String) -> Result<JsonSchema, String> {
    let name = name.to_owned();
    let work = move || {
        let begin = clock::now();
        let compiled = JsonSchema::compile(&schema).map_err(|error| error.0);
        println!("{:>10.2?} compile {name}: {:?}", clock::since(begin), compiled.as_ref().err());
        compiled
    };
    thread::spawn(work).join().expect("no panic, no overflow")
}

/// What is said of a record: nothing if it is valid. The fuel bounds it in any case.
fn check(name: &str, schema: &Value, record: &str) -> String {
    let schema = compile(name, schema.to_string()).expect("the schema is allowed");
    let begin = clock::now();
    let verdict = schema.check(record.as_bytes(), &mut Scratch::default());
    println!("{:>10.2?} check   {name}: {} of {SCHEMA_FUEL}", clock::since(begin), fuel::used());
    verdict.err().map_or_else(String::new, |violation| violation.to_string())
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    let items: Vec<String> = (0..count).map(item).collect();
    format!("[{}]", items.join(","))
}

fn object(count: usize, member: impl Fn(usize) -> String) -> String {
    let members: Vec<String> = (0..count).map(member).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn a_schema_that_is_too_large_too_deep_or_a_circle_is_refused() {
    let chain = |count: usize| {
        let defs = object(count, |index| format!(r##""d{index}":{{"$ref":"#/$defs/d{}"}}"##, index + 1));
        format!(r##"{{"$ref":"#/$defs/d0","$defs":{}}}"##, defs.replacen('{', &format!(r#"{{"d{count}":true,"#), 1))
    };
    let doubling = object(40, |index| {
        format!(
            r##""d{index}":{{"anyOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}}"##,
            (index + 1).min(39)
        )
    });
    let rows = [
        ("brackets", "[".repeat(10_000_000), "longer than"),
        ("size", format!(r#"{{"title":"{}"}}"#, "x".repeat(SCHEMA_JSON_BYTES_MAX)), "longer than"),
        ("deep", format!("{}true{}", r#"{"not":"#.repeat(25_000), "}".repeat(25_000)), "recursion limit"),
        ("itself", r##"{"$ref":"#"}"##.into(), "comes back"),
        ("circle", r##"{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}"##.into(), "comes back"),
        ("dynamic circle", r##"{"$dynamicAnchor":"a","if":{"$dynamicRef":"#a"}}"##.into(), "comes back"),
        (
            "recursive circle",
            r##"{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"oneOf":[{"$recursiveRef":"#"}]}"##.into(),
            "comes back",
        ),
        ("circle out of the way", r##"{"properties":{"a":{"$ref":"#/x"}},"x":{"items":{"$ref":"#/x/items"}}}"##.into(), "comes back"),
        ("doubling", format!(r##"{{"$ref":"#/$defs/d0","$defs":{doubling}}}"##).replace("#/$defs/d39", "#/$defs/end").replacen("\"d0\"", "\"end\":true,\"d0\"", 1), "keywords apply"),
        ("chain", chain(2_000), "steps of"),
        ("wide", format!(r#"{{"anyOf":{}}}"#, list(9_000, |_| "{\"type\":\"null\"}".into())), "keywords apply"),
        ("subschemas", format!(r#"{{"properties":{}}}"#, object(12_000, |index| format!(r#""{index}":true"#))), "subschemas"),
        ("patterns", format!(r#"{{"patternProperties":{}}}"#, object(300, |index| format!(r#""{index}":true"#))), "patterns"),
        ("large pattern", r#"{"pattern":"(?:a{1000}){1000}"}"#.into(), "pattern"),
        ("large classes", r#"{"pattern":"\\p{L}{1000}"}"#.into(), "pattern"),
    ];
    for (name, schema, expected) in rows {
        let told = compile(name, schema).expect_err(name);
        assert!(told.contains(expected) && told.len() < 700, "{name}: {told}");
    }
    compile("a chain that is short enough", chain(90)).expect("it is");
}

/// Few bytes that a compiler might unfold into very many.
#[test]
fn a_schema_that_unfolds_moves_into_the_record_or_is_refused() {
    let doubling = object(60, |index| {
        format!(
            r##""d{index}":{{"properties":{{"a":{{"$ref":"#/$defs/d{0}"}},"b":{{"$ref":"#/$defs/d{0}"}}}}}}"##,
            (index + 1) % 60
        )
    });
    compile("doubling, downwards", format!(r##"{{"$ref":"#/$defs/d0","$defs":{doubling}}}"##)).expect("it is a schema");
    let big = object(4_000, |index| format!(r#""{index}":{{"type":"null"}}"#));
    let uses = object(4_000, |index| format!(r##""{index}":{{"$ref":"#/$defs/big"}}"##));
    compile("large, often", format!(r#"{{"properties":{uses},"$defs":{{"big":{{"properties":{big}}}}}}}"#))
        .expect("it is a schema");
    for (count, allowed) in [(2, true), (3, false), (40, false)] {
        let resources = object(count, |index| {
            let others = object(count, |other| format!(r#""{other}":{{"$ref":"r{other}"}}"#));
            format!(
                r##""r{index}":{{"$id":"r{index}","$dynamicAnchor":"x","items":{{"$dynamicRef":"#x"}},"properties":{others}}}"##
            )
        });
        let name = format!("dynamic scopes, {count}");
        let schema = format!(r#"{{"$id":"http://example.com/r","$ref":"r0","$defs":{resources}}}"#);
        assert_eq!(compile(&name, schema).is_ok(), allowed, "{name}");
    }
}

/// Checks them all before it complains.
fn hold<const COUNT: usize>(rows: [(&str, Value, String, &str); COUNT]) {
    let wrong: Vec<String> = rows
        .into_iter()
        .filter_map(|(name, schema, record, expected)| {
            let told = check(name, &schema, &record);
            let right = told.contains(expected) && told.is_empty() == expected.is_empty() && told.len() < 4_000;
            (!right).then(|| format!("{name}: {told}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn much_work_for_many_items_is_not_done() {
    let numbers = list(100_000, |index| (index % 20_000).to_string());
    let long = format!("\"{}\"", "0".repeat(1 << 20));
    let long_number = format!("{}.5", "9".repeat(1 << 20));
    let anything = |count: usize, schema: Value| json!(vec![schema; count]);
    hold([
        (
            "trivial schemas by many items",
            json!({"items": {"allOf": anything(4_000, json!(true))}}),
            numbers.clone(),
            TOO_MUCH,
        ),
        (
            "schemas by many items",
            json!({"items": {"anyOf": anything(2_000, json!({"type": "string"}))}}),
            numbers.clone(),
            "anyOf",
        ),
        (
            "large enum by many items",
            json!({"items": {"enum": (0..20_000).rev().map(Value::from).chain([json!("x")]).collect::<Vec<_>>()}}),
            numbers.clone(),
            TOO_MUCH,
        ),
        (
            "contains by contains",
            json!({"contains": {"const": 1}, "allOf": anything(300, json!({"contains": {"const": -1}, "minContains": 0}))}),
            numbers.clone(),
            TOO_MUCH,
        ),
        (
            "lengths of a long string",
            json!({"allOf": (0..2_000).map(|index| json!({"minLength": index})).collect::<Vec<_>>()}),
            long,
            TOO_MUCH,
        ),
        (
            "a long number",
            json!({"allOf": (0..300).map(|index| json!({"minimum": index})).collect::<Vec<_>>()}),
            long_number,
            TOO_MUCH,
        ),
        ("many faults", json!({"items": {"type": "null"}}), numbers, "and"),
        (
            "many faults in branches",
            json!({"items": {"oneOf": anything(20, json!({"type": "null"}))}}),
            list(3_000, |index| index.to_string()),
            "oneOf",
        ),
    ]);
}

#[test]
fn much_work_for_many_names_is_not_done() {
    let keys = object(50_000, |index| format!(r#""k{index}":1"#));
    let anything = |count: usize, schema: Value| json!(vec![schema; count]);
    hold([
        (
            "patterns by many names",
            json!({"patternProperties": (0..200).map(|index| (format!("^x{index}.*y"), json!(true))).collect::<serde_json::Map<_, _>>()}),
            keys.clone(),
            TOO_MUCH,
        ),
        (
            "properties by many names",
            json!({"properties": (0..5_000).map(|index| (format!("p{index}"), json!(true))).collect::<serde_json::Map<_, _>>()}),
            keys.clone(),
            "",
        ),
        (
            "required by many names",
            json!({"required": (0..9_000).map(|index| format!("k{index}")).collect::<Vec<_>>()}),
            keys.clone(),
            TOO_MUCH,
        ),
        (
            "a name after the other",
            json!({"propertyNames": {"allOf": anything(200, json!({"pattern": "k.*[0-9]$"}))}}),
            keys,
            TOO_MUCH,
        ),
    ]);
}

#[test]
fn much_work_for_depth_and_for_equality_is_not_done() {
    let numbers = list(100_000, |index| (index % 20_000).to_string());
    let deep = format!("{}1{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
    let deep_arrays = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    hold([
        (
            "two to the depth",
            json!({"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["x"]}, {"properties": {"a": {"$ref": "#"}}, "required": ["y"]}]}),
            deep.clone(),
            "too much work",
        ),
        (
            "unevaluated all the way",
            json!({"$dynamicAnchor": "n", "anyOf": [{"properties": {"a": {"$dynamicRef": "#n"}}}, {"properties": {"a": {"$dynamicRef": "#n"}}}], "unevaluatedProperties": false, "unevaluatedItems": false}),
            format!("{}1{}", r#"{"a":"#.repeat(60), "}".repeat(60)),
            "",
        ),
        // Without its end the stack would be the thread's.
        (
            "deep in the stack",
            (0..45).fold(
                json!({"properties": {"a": {"$ref": "#"}}}),
                |inner, _| json!({"allOf": [inner, {"minProperties": 1}]}),
            ),
            deep.clone(),
            TOO_MUCH,
        ),
        ("deep", json!({"items": {"$ref": "#"}, "properties": {"a": {"$ref": "#"}}}), deep_arrays.clone(), ""),
        (
            "many equal hashes",
            json!({"uniqueItems": true}),
            list(250, |index| format!("[{}]", vec![index.to_string(); 900].join(","))),
            TOO_MUCH,
        ),
        ("unique numbers", json!({"uniqueItems": true}), numbers.clone(), TOO_MUCH),
        (
            "unique objects",
            json!({"uniqueItems": true}),
            list(10_000, |index| format!(r#"{{"a":{index},"b":[]}}"#)),
            "",
        ),
    ]);
}

/// Text against patterns: what is quick for all text, and what is not.
#[test]
fn a_long_string_is_matched_as_far_as_the_pattern_allows() {
    // Bits without a pattern of their own, by a shift register: else automata come round to where they were.
    let text = |bytes: usize| -> String {
        let bits = std::iter::successors(Some(0x9E37_79B9_7F4A_7C15_u64), |state| {
            let state = state ^ (state << 13);
            let state = state ^ (state >> 7);
            Some(state ^ (state << 17))
        });
        format!("\"{}\"", bits.take(bytes).map(|state| if state & 64 == 0 { '0' } else { '1' }).collect::<String>())
    };
    let rows = [
        ("simple", "^[01]+$".to_owned(), true),
        ("words", "^[0-9A-Za-z .,-]*$".to_owned(), true),
        ("exponential if run backwards", "^(0|1|01|10)*[^01]".to_owned(), false),
        ("states by the thousand", "1[01]{12}[^01]".to_owned(), false),
        ("states by the million", "1[01]{24}[^01]".to_owned(), false),
        ("states without end", "1[01]{60}[^01]".to_owned(), false),
        ("a large one", "1[01]{400}[^01]".to_owned(), false),
        ("the largest", "1[01]{2000}[^01]".to_owned(), false),
        ("nested stars", "^(([01]+)*)*[^01]".to_owned(), false),
        ("dots", ".*.*.*.*.*[^01].*[^01]".to_owned(), false),
        ("optional", format!("^{}[^01]", "(?:0?1?)".repeat(100)), false),
        ("letters", "^\\p{L}+[01]*\\p{L}{3}$".to_owned(), false),
        (
            "alternatives",
            (0..100).fold("x".to_owned(), |mut all, index| {
                let _ = write!(all, "|[01]*{index:09b}[^01]");
                all
            }),
            false,
        ),
    ];
    for (name, pattern, valid) in rows {
        for bytes in [1 << 7, 1 << 13, 1 << 16, 1 << 20] {
            let told = check(&format!("{name}, {bytes}"), &json!({"pattern": pattern}), &text(bytes));
            assert!(told.is_empty() == valid || told == TOO_MUCH, "{name}: {told}");
            assert!(bytes > 1 << 7 || told != TOO_MUCH, "a short string can be held against {name}");
        }
    }
}

/// Reading the text of a schema costs what it is long: as much as others of its size, not the square of it.
#[test]
fn a_schema_of_long_numbers_or_of_braces_ends() {
    let numbers = format!(r#"{{"enum":[{}1]}}"#, "1e999,".repeat(40_000));
    let refused = JsonSchema::compile(&numbers).expect_err("too many").0;
    assert!(refused.contains("1000 numbers"), "{refused}");
    let few = format!(r#"{{"enum":[{}1]}}"#, "1e999,".repeat(1_000));
    assert!(JsonSchema::compile(&few).is_ok());
    let braces = format!(r#"{{"pattern":"{}"}}"#, "{".repeat(250_000));
    assert!(JsonSchema::compile(&braces).is_err(), "a pattern that is too large");
}
