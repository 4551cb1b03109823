//! Acknowledgements as the broker writes them, and against `serde_json` as it could write them.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

fn stored(sequence: u64, duplicate: bool, count: Option<u32>) -> Verdict {
    Verdict::Stored(sequence, duplicate, count)
}

fn refused(code: u16, err_code: u32, description: &str) -> Verdict {
    Verdict::Refused(code, err_code, description.to_owned())
}

/// An acknowledgement with its description resolved.
#[derive(Debug, PartialEq)]
enum Verdict {
    Stored(u64, bool, Option<u32>),
    Refused(u16, u32, String),
    Started,
}

fn show(payload: &[u8]) -> Option<Verdict> {
    Some(match parse(payload)? {
        PubAck::Stored { sequence, duplicate, count, .. } => stored(sequence, duplicate, count),
        PubAck::Error { code, err_code, description } => {
            refused(code, err_code, &description_text(payload, description))
        }
        PubAck::BatchStarted => Verdict::Started,
    })
}

/// What `serde_json` makes of it: members that nobody reads are checked to be JSON, and no more.
fn oracle(payload: &[u8]) -> Option<Verdict> {
    let object: Members = serde_json::from_slice(payload).ok()?;
    let sequence = member(&object, "seq", Value::as_u64)?;
    let count = member(&object, "count", Value::as_u64)?;
    member(&object, "batch", |value| value.as_str().map(str::to_owned))?;
    let stream = member(&object, "stream", |value| value.as_str().map(str::to_owned))?;
    let duplicate = member(&object, "duplicate", Value::as_bool)?.unwrap_or(false);
    if let Some(error) = object.get("error").filter(|error| error.get() != "null") {
        let error: Members = serde_json::from_str(error.get()).ok()?;
        let code = u16::try_from(member(&error, "code", Value::as_u64)?.unwrap_or(0)).ok()?;
        let err_code = u32::try_from(member(&error, "err_code", Value::as_u64)?.unwrap_or(0)).ok()?;
        let description = member(&error, "description", |value| value.as_str().map(str::to_owned))?;
        return Some(refused(code, err_code, &description.unwrap_or_default()));
    }
    let count = count.map(u32::try_from).transpose().ok()?;
    let sequence = sequence.filter(|sequence| *sequence > 0 && stream.is_some_and(|name| !name.is_empty()))?;
    if count.is_some_and(|count| count == 0 || u64::from(count) > sequence) {
        return None;
    }
    Some(stored(sequence, duplicate, count))
}

type Members = BTreeMap<String, Box<RawValue>>;

/// A member of the type that `read` reads; `None` if it has another, and `Some(None)` if it is `null` or not there.
#[expect(clippy::option_option, reason = "wrong, absent and there are three cases")]
fn member<T>(object: &Members, key: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    match object.get(key) {
        None => Some(None),
        Some(raw) => match serde_json::from_str::<Value>(raw.get()).ok()? {
            Value::Null => Some(None),
            value => read(&value).map(Some),
        },
    }
}

#[test]
fn acknowledgements_are_read_as_the_broker_writes_them() {
    for (text, expect) in [
        (r#"{"stream":"S","seq":1}"#, stored(1, false, None)),
        (r#"{"stream":"S", "seq":1}"#, stored(1, false, None)),
        (r#"{"stream":"S", "seq":1,"duplicate": true}"#, stored(1, true, None)),
        (r#"{"stream":"S","seq":18446744073709551615}"#, stored(u64::MAX, false, None)),
        (r#"{"stream":"S","seq":2,"duplicate": true}"#, stored(2, true, None)),
        (r#"{"stream":"S","seq":2,"duplicate":true}"#, stored(2, true, None)),
        (r#"{"stream":"S","seq":2,"duplicate":false}"#, stored(2, false, None)),
        (r#"{"stream":"S","seq":8,"batch":"b2","count":3}"#, stored(8, false, Some(3))),
        (r#"{"stream":"A","seq":1016,"batch":"k1","count":1000}"#, stored(1_016, false, Some(1_000))),
        (r#"{"stream":"A","seq":1,"batch":"b3","count":1}"#, stored(1, false, Some(1))),
        (r#"{"stream":"a#b$1","domain":"hub","seq":7}"#, stored(7, false, None)),
        (r#"{"stream":"S\"}","seq":9}"#, stored(9, false, None)),
        (r#"{"stream":"S\\","seq":9}"#, stored(9, false, None)),
        ("{\"stream\":\"S\",\"seq\":1}\n", stored(1, false, None)),
        (" { \"seq\" : 5 , \"stream\" : \"S\" } ", stored(5, false, None)),
        (r#"{"x":{"seq":9,"y":[1,{"stream":3}]},"stream":"S","seq":4}"#, stored(4, false, None)),
        (r#"{"stream":"S","seq":1,"seq":6}"#, stored(6, false, None)),
        (r#"{"stream":"S","\u0073eq":6}"#, stored(6, false, None)),
        (r#"{"stream":"S","seq":3,"duplicate":null,"count":null,"error":null}"#, stored(3, false, None)),
        (
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"S","seq":0}"#,
            refused(400, 10_071, "wrong last sequence: 2"),
        ),
        (
            r#"{"type":"io.nats","stream":"S","seq":0,"error":{"description":"a \"b\" \u00e9","code":503}}"#,
            refused(503, 0, "a \"b\" é"),
        ),
        (r#"{"error":{}}"#, refused(0, 0, "")),
        (
            r#"{"error":{"code":400,"err_code":10201,"description":"atomic publish batch contains duplicate message id"},"stream":"A","seq":0}"#,
            refused(400, 10_201, "atomic publish batch contains duplicate message id"),
        ),
        (
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"F","seq":0}"#,
            refused(503, 10_077, "maximum messages exceeded"),
        ),
    ] {
        assert_eq!(show(text.as_bytes()).as_ref(), Some(&expect), "{text}");
        assert_eq!(oracle(text.as_bytes()), Some(expect), "serde_json: {text}");
    }
    assert_eq!(parse(b""), Some(PubAck::BatchStarted));
}

#[test]
fn the_answer_to_a_commit_names_its_batch() {
    for (text, expect) in [
        (r#"{"stream":"S","seq":8,"batch":"b2","count":3}"#, "b2"),
        (r#"{"batch":"x-0","stream":"S","seq":8,"count":3}"#, "x-0"),
        (r#"{"stream":"S","seq":8,"count":3}"#, ""),
        (r#"{"stream":"S","seq":8,"batch":null,"count":3}"#, ""),
        (r#"{"stream":"S","seq":1}"#, ""),
    ] {
        let Some(PubAck::Stored { batch, .. }) = parse(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(batch.of(text.as_bytes()), expect.as_bytes(), "{text}");
    }
}

#[test]
fn what_is_no_acknowledgement_is_none() {
    let deep = format!(r#"{{"x":{}1{},"stream":"S","seq":1}}"#, "[".repeat(65), "]".repeat(65));
    for text in [
        " ",
        "+OK",
        "null",
        "[]",
        "{}",
        r#"{"stream":"S"}"#,
        r#"{"seq":1}"#,
        r#"{"stream":"","seq":1}"#,
        r#"{"stream":"S","seq":0}"#,
        r#"{"stream":"S","seq":-1}"#,
        r#"{"stream":"S","seq":3,"batch":"b","count":0}"#,
        r#"{"stream":"S","seq":3,"batch":"b","count":4}"#,
        r#"{"stream":"S","seq":9999999999,"batch":"b","count":4294967296}"#,
        r#"{"stream":"S","seq":1.0}"#,
        r#"{"stream":"S","seq":1e3}"#,
        r#"{"stream":"S","seq":01}"#,
        r#"{"stream":"S","seq":"1"}"#,
        r#"{"stream":"S","seq":18446744073709551616}"#,
        r#"{"stream":1,"seq":1}"#,
        r#"{"stream":"S","seq":1"#,
        r#"{"stream":"S","seq":1}}"#,
        r#"{"stream":"S","seq":1,}"#,
        r#"{"stream":"S","seq":1,"duplicate":true"#,
        r#"{"stream":"S","seq":1,"duplicate":1}"#,
        r#"{"stream":"S","seq":1,"count":4294967296}"#,
        r#"{"stream":"S","seq":1,"error":"x"}"#,
        r#"{"stream":"S","seq":1,"x":{"y":]}}"#,
        r#"{"stream":"S","seq":1,"x":{"y"}}"#,
        r#"{"stream":"S","seq":1,"x":[1,]}"#,
        r#"{"stream":"S","seq":1,"x":tru}"#,
        "{\"stream\":\"S\u{1}\",\"seq\":1}",
        r#"{"stream":"S\x","seq":1}"#,
        r#"{"stream":"\ud800","seq":1}"#,
        r#"{"stream":"\udc00","seq":1}"#,
        r#"{"stream":"\ud800\u0041","seq":1}"#,
        r#"{"stream":"\u12g4","seq":1}"#,
        r#"{"error":{"code":65536}}"#,
        deep.as_str(),
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
}

/// Any JSON value, small and not very deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        "\\PC{0,6}|[\\x00-\\x7f]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z\"\\\\é]{0,4}", inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A member of an acknowledgement: mostly what belongs there.
fn any_member() -> impl Strategy<Value = (String, Value)> {
    let number = || prop_oneof![4 => (0u64..100_000).prop_map(Value::from), 1 => any_value()];
    let text = || prop_oneof![4 => "\\PC{0,5}".prop_map(Value::from), 1 => any_value()];
    let error = prop::collection::vec(
        prop_oneof![
            number().prop_map(|value| ("code".to_owned(), value)),
            number().prop_map(|value| ("err_code".to_owned(), value)),
            text().prop_map(|value| ("description".to_owned(), value)),
            ("[a-z]{1,3}", any_value()),
        ],
        0..4,
    );
    prop_oneof![
        4 => text().prop_map(|value| ("stream".to_owned(), value)),
        4 => number().prop_map(|value| ("seq".to_owned(), value)),
        1 => prop_oneof![any::<bool>().prop_map(Value::from), any_value()].prop_map(|value| ("duplicate".to_owned(), value)),
        1 => number().prop_map(|value| ("count".to_owned(), value)),
        1 => text().prop_map(|value| ("batch".to_owned(), value)),
        1 => error.prop_map(|members| ("error".to_owned(), members.into_iter().collect())),
        2 => ("[a-z\"\\\\]{0,6}", any_value()),
    ]
}

/// Writes the members as an object, in their order, with white space from `blanks` between tokens.
fn written(members: &[(String, Value)], blanks: &[&str]) -> Vec<u8> {
    let mut blanks = blanks.iter().cycle();
    let mut text = String::new();
    for (index, (key, value)) in members.iter().enumerate() {
        let gap = |blanks: &mut std::iter::Cycle<std::slice::Iter<'_, &str>>| (*blanks.next().unwrap()).to_owned();
        let value = if index % 2 == 0 { value.to_string() } else { serde_json::to_string_pretty(value).unwrap() };
        text += &gap(&mut blanks);
        text += &serde_json::to_string(key).unwrap();
        text += &gap(&mut blanks);
        text += ":";
        text += &gap(&mut blanks);
        text += &value;
        text += &gap(&mut blanks);
        if index + 1 < members.len() {
            text += ",";
        }
    }
    format!("{{{text}}}").into_bytes()
}

proptest! {
    #[test]
    fn any_object_reads_as_serde_json_reads_it(
        members in prop::collection::vec(any_member(), 0..6),
        blanks in prop::collection::vec(prop_oneof![3 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")], 1..5),
    ) {
        let payload = written(&members, &blanks);
        // The oracle sees one value for a key, the last one, where the reader sees each: a value of another
        // type that is overwritten later is an error only to the reader.
        let mut keys: Vec<_> = members.iter().map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let found = show(&payload);
        if keys.len() == members.len() {
            prop_assert_eq!(&found, &oracle(&payload), "{}", String::from_utf8_lossy(&payload));
        } else if found.is_some() {
            prop_assert_eq!(&found, &oracle(&payload), "{}", String::from_utf8_lossy(&payload));
        }
    }

    #[test]
    fn a_damaged_acknowledgement_is_never_read_as_another_one(
        members in prop::collection::vec(any_member(), 1..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b','), Just(b':'), Just(b'0'), Just(b'-'), Just(b' '), 0u8..0x80
        ]), 1..4),
        cut in any::<prop::sample::Index>(), whole in any::<bool>(),
    ) {
        let mut payload = written(&members, &[""]);
        for (at, byte) in edits {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if !whole {
            payload.truncate(cut.index(payload.len()).max(1));
        }
        if let Some(found) = show(&payload) {
            // Bytes that are not UTF-8 after the damage are the one thing that only the oracle minds.
            if std::str::from_utf8(&payload).is_ok() {
                prop_assert_eq!(Some(found), oracle(&payload), "{}", String::from_utf8_lossy(&payload));
            }
        }
    }

    #[test]
    fn the_common_shape_reads_the_same_on_both_paths(name in "[ -~é]{1,20}", sequence in any::<u64>(), duplicate in 0usize..3, blank in 0usize..2) {
        let tail = ["", ",\"duplicate\": true", ",\"duplicate\":true"][duplicate];
        let payload = format!("{{\"stream\":{},{}\"seq\":{sequence}{tail}}}", serde_json::to_string(&name).unwrap(), ["", " "][blank]);
        prop_assert_eq!(parse(payload.as_bytes()), parse_any(payload.as_bytes()));
        prop_assert_eq!(show(payload.as_bytes()), oracle(payload.as_bytes()));
    }

    #[test]
    fn no_bytes_panic(payload in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'{'), Just(b'\\'), Just(b'u'), any::<u8>()], 0..40)) {
        let _ = parse(&payload);
    }
}
