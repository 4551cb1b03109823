//! What the splitter promises: exact texts, exact offsets, exact bounds, and agreement with `serde_json`.

use super::{reference::check_value, *};
use crate::reject::SizeLimit;
use proptest::prelude::*;

/// [`super::split`] on every engine, which must agree to the last word.
pub(super) fn split(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    let (verdict, spans) = fuzz::agreed(|engine, spans| engine.split(body, limits, spans));
    *out = spans;
    verdict
}

/// [`Engine::split_lines`], likewise.
fn split_lines(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    let (verdict, spans) = fuzz::agreed(|engine, spans| engine.split_lines(body, limits, spans));
    *out = spans;
    verdict
}

const LIMITS: SplitLimits = SplitLimits { records_max: 1_000, depth_max: JSON_DEPTH_MAX };

fn texts(body: &str) -> Result<Vec<&str>, Reject> {
    let mut spans = vec![Span { start: 7, end: 9 }];
    split(body.as_bytes(), &LIMITS, &mut spans)?;
    Ok(spans.iter().map(|span| std::str::from_utf8(span.of(body.as_bytes())).expect("cut at characters")).collect())
}

fn json<T>(offset: u64, reason: &'static str) -> Result<T, Reject> {
    Err(Reject::Json { offset, reason })
}

#[test]
fn elements_are_cut_without_changing_a_byte() {
    for (body, expect) in [
        ("[]", vec![]),
        (" \t\r\n[ \n ] \r\n", vec![]),
        ("[null]", vec!["null"]),
        ("[1,2,3]", vec!["1", "2", "3"]),
        ("[ 1 ,\t2\n,\r3 ]", vec!["1", "2", "3"]),
        (r#"[{"a":1},{"a":2}]"#, vec![r#"{"a":1}"#, r#"{"a":2}"#]),
        (r#"["a","]",",","\"","\\"]"#, vec![r#""a""#, r#""]""#, r#"",""#, r#""\"""#, r#""\\""#]),
        ("[true,false,null,-0,0.5e-7]", vec!["true", "false", "null", "-0", "0.5e-7"]),
        ("[[],{},[[]],[{}]]", vec!["[]", "{}", "[[]]", "[{}]"]),
        (r#"["é","日本語","🦀"]"#, vec![r#""é""#, r#""日本語""#, r#""🦀""#]),
        (
            "[ {\"id\" : 9007199254740993, \"price\":1.0,\n\t\"id\": 1e21 , \"z\":[ [1 , [2]] , [ ] ],\"a\" :\"<>&\" } , \
             [1.0,[9007199254740993 ]],1.0 ]",
            vec![
                "{\"id\" : 9007199254740993, \"price\":1.0,\n\t\"id\": 1e21 , \"z\":[ [1 , [2]] , [ ] ],\"a\" :\"<>&\" }",
                "[1.0,[9007199254740993 ]]",
                "1.0",
            ],
        ),
    ] {
        assert_eq!(texts(body), Ok(expect), "{body}");
        fuzz_split(body.as_bytes());
    }
}

#[test]
fn an_error_says_where_and_why() {
    let separator = "expected ',' or ']'";
    let member = "expected ',' or '}'";
    for (body, offset, reason) in [
        ("", 0, "there is nothing here, expected a JSON value"),
        (" \n", 2, "there is nothing here, expected a JSON value"),
        ("[", 1, "the text ends inside a value"),
        ("[1", 2, "the text ends inside a value"),
        ("[1,", 3, "the text ends inside a value"),
        ("[1,]", 3, "expected a JSON value"),
        ("[,1]", 1, "expected a JSON value"),
        ("[1 2]", 3, separator),
        ("[1}", 2, separator),
        ("[[1}]", 3, separator),
        ("[1]]", 3, "expected nothing after the end of the JSON value"),
        ("[1] x", 4, "expected nothing after the end of the JSON value"),
        ("[] []", 3, "expected nothing after the end of the JSON value"),
        ("[01]", 2, "a number must not begin with a zero"),
        ("[-]", 2, "expected a digit"),
        ("[1.]", 3, "expected a digit"),
        ("[1e+]", 4, "expected a digit"),
        ("[+1]", 1, "expected a JSON value"),
        ("[NaN]", 1, "expected a JSON value"),
        ("[nul]", 4, "expected 'true', 'false' or 'null'"),
        ("[nul", 4, "the text ends inside a value"),
        ("[truE]", 4, "expected 'true', 'false' or 'null'"),
        ("['a']", 1, "expected a JSON value"),
        ("[\"a\nb\"]", 3, "a control character in a string must be escaped"),
        ("[\"a", 3, "the text ends inside a string"),
        ("[\"\\x\"]", 3, "no such escape sequence"),
        ("[\"\\u12g4\"]", 6, "expected four hexadecimal digits after '\\u'"),
        ("[{a:1}]", 2, "expected '\"' or '}'"),
        ("[{\"a\" 1}]", 6, "expected ':'"),
        ("[{\"a\":1,}]", 8, "expected '\"'"),
        ("[{\"a\":1 \"b\":2}]", 8, member),
        ("[{\"a\":1]", 7, member),
        ("[{\"a\":}]", 6, "expected a JSON value"),
        ("{\"a\":", 5, "the text ends inside a value"),
        ("hello", 0, "expected a JSON value"),
        ("\u{feff}[1]", 0, "a byte order mark, which JSON must not begin with"),
        ("[\u{a0}1]", 1, "expected a JSON value"),
    ] {
        assert_eq!(texts(body), json(offset, reason), "{body:?}");
        fuzz_split(body.as_bytes());
    }
    for (body, offset) in [
        (&b"[\"a\xff\"]"[..], 3),
        (b"[\"abcdefgh\xc3\"]", 10),
        (b"[\"\\n\xed\xa0\x80\"]", 4),
        (b"[\"\xc0\x80\"]", 2),
        (b"[\"\xf5\x80\x80\x80\"]", 2),
    ] {
        assert_eq!(split(body, &LIMITS, &mut Vec::new()), json(offset, "not UTF-8"), "{body:?}");
        fuzz_split(body);
    }
}

#[test]
fn every_byte_counts_at_every_place_of_a_long_string() {
    for length in 0..140 {
        for place in 0..=length {
            for special in [&b"\""[..], b"\\", b"\\n", b"\x1f", b"\x80", "é".as_bytes(), b"\x7f"] {
                let (before, after) = (vec![b'a'; place], vec![b'b'; length - place]);
                let string = [b"\"", before.as_slice(), special, after.as_slice(), b"\""].concat();
                // As a key and as a value apart, so that neither hides what the other lets through.
                fuzz_split(&[b"[{", string.as_slice(), b":0 }             ]"].concat());
                fuzz_split(&[b"[", string.as_slice(), b"]"].concat());
            }
        }
    }
}

#[test]
fn json_that_is_no_array_is_told_so() {
    for body in ["{}", "{\"a\":[1]}", "1", "\"[]\"", " null ", "true"] {
        assert_eq!(texts(body), Err(Reject::Body("the body must be an array of JSON values")), "{body}");
    }
}

#[test]
fn nothing_is_left_after_an_error() {
    let mut spans = Vec::new();
    assert!(split(b"[1,2,3,x]", &LIMITS, &mut spans).is_err());
    assert_eq!(spans, []);
    assert!(split_lines(b"1\n2\nx", &LIMITS, &mut spans).is_err());
    assert_eq!(spans, []);
}

#[test]
fn the_number_of_records_is_bounded() {
    let limits = SplitLimits { records_max: 3, ..LIMITS };
    let mut spans = Vec::new();
    let too_many = Err(Reject::TooLarge(SizeLimit::BatchRecords, 3));
    assert_eq!(split(b"[1,2,3]", &limits, &mut spans), Ok(()));
    assert_eq!(spans.len(), 3);
    assert_eq!(split(b"[1,2,3,4]", &limits, &mut spans), too_many);
    assert_eq!(split_lines(b"1\n2\n3\n\n", &limits, &mut spans), Ok(()));
    assert_eq!(split_lines(b"1\n2\n3\n4", &limits, &mut spans), too_many);
    assert_eq!(split(b"[]", &SplitLimits { records_max: 0, ..LIMITS }, &mut spans), Ok(()));
}

/// `depth` containers within one another, alternately of both kinds, around nothing.
fn nested(depth: usize) -> String {
    let open = |level: usize| if level.is_multiple_of(3) { "{\"k\":" } else { "[" };
    let close = |level: usize| if level.is_multiple_of(3) { "}" } else { "]" };
    let mut text: String = (0..depth).map(open).collect();
    text.push('0');
    text.extend((0..depth).rev().map(close));
    text
}

#[test]
fn depth_counts_the_containers_of_one_element() {
    for (depth_max, depth, fits) in [
        (0, 0, true),
        (0, 1, false),
        (1, 1, true),
        (1, 2, false),
        (63, 64, false),
        (64, 64, true),
        (64, 65, false),
        (65, 65, true),
        (128, 128, true),
        (128, 129, false),
        (1_023, 1_024, false),
        (1_024, 1_024, true),
        (1_024, 1_025, false),
        // The program's own bound holds whatever a caller asks for.
        (usize::MAX, 1_024, true),
        (usize::MAX, 1_025, false),
        (usize::MAX, 5_000, false),
    ] {
        let body = format!("[1, {0}, {0}]", nested(depth));
        let verdict = split(body.as_bytes(), &SplitLimits { depth_max, ..LIMITS }, &mut Vec::new());
        let expect = if fits { Ok(()) } else { Err("nested too deep") };
        let reason = verdict.map_err(|reject| match reject {
            Reject::Json { reason, .. } => reason,
            other => panic!("{other:?}"),
        });
        assert_eq!(reason, expect, "{depth} of {depth_max}");
        assert_eq!(check_value(nested(depth).as_bytes(), depth_max).is_ok(), fits);
    }
}

#[test]
fn a_hundred_thousand_brackets_are_refused_at_the_first_that_is_too_deep() {
    for unit in ["[", "{\"\":", "[[],"] {
        let bomb = unit.repeat(100_000);
        for body in [bomb.clone(), format!("[{bomb}"), format!("[1,{bomb}")] {
            let verdict = split(body.as_bytes(), &LIMITS, &mut Vec::new());
            assert!(matches!(verdict, Err(Reject::Json { reason: "nested too deep", .. })), "{unit} {verdict:?}");
            fuzz_split(body.as_bytes());
        }
    }
    assert_eq!(split("[".repeat(100_000).as_bytes(), &LIMITS, &mut Vec::new()), json(1_025, "nested too deep"));
    let wide = format!("[{}]", vec!["[]"; 999].join(","));
    assert_eq!(split(wide.as_bytes(), &LIMITS, &mut Vec::new()), Ok(()));
}

#[test]
fn lines_are_cut_as_elements_are() {
    let value = "expected a JSON value";
    for (body, expect) in [
        ("", Ok(vec![])),
        ("\n\r\n \t \n", Ok(vec![])),
        ("1", Ok(vec!["1"])),
        ("1\n", Ok(vec!["1"])),
        ("1\n2\r\n\n  {\"a\" : 1.0}  \r\n[ 1 ]", Ok(vec!["1", "2", "{\"a\" : 1.0}", "[ 1 ]"])),
        ("\"a\\nb\"\n\"\"", Ok(vec!["\"a\\nb\"", "\"\""])),
        ("{\"a\":\r1}\n", Ok(vec!["{\"a\":\r1}"])),
        ("1\n{\n}", json(3, "the text ends inside a value")),
        ("1 2\n", json(2, "expected nothing after the end of the JSON value")),
        ("1\n\n x", json(4, value)),
        ("1,\n2", json(1, "expected nothing after the end of the JSON value")),
        ("\u{feff}1", json(0, "a byte order mark, which JSON must not begin with")),
    ] {
        let mut spans = Vec::new();
        let verdict = split_lines(body.as_bytes(), &LIMITS, &mut spans);
        let found: Vec<&str> =
            spans.iter().map(|span| std::str::from_utf8(span.of(body.as_bytes())).expect("UTF-8")).collect();
        assert_eq!(verdict.map(|()| found), expect, "{body:?}");
        fuzz_lines(body.as_bytes());
    }
}

#[test]
fn one_value_is_found_where_it_stands() {
    assert_eq!(check_value(b" \n{\"a\":[]}\t", 2), Ok(Span { start: 2, end: 10 }));
    assert_eq!(check_value(b" \n{\"a\":[]}\t", 1), json(7, "nested too deep"));
    assert_eq!(check_value(b"1 1", 9), json(2, "expected nothing after the end of the JSON value"));
    assert_eq!(check_value(b"", 9), json(0, "there is nothing here, expected a JSON value"));
}

/// White space as nobody writes it.
fn space() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec![' ', '\t', '\n', '\r']), 0..3)
        .prop_map(|characters| characters.into_iter().collect())
}

/// Pieces of strings: plain of every width, escapes, lone surrogates.
fn string_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -!#-\\[\\]-~]{0,20}",
        "[\u{80}-\u{ffff}]{0,6}",
        Just("🦀".to_owned()),
        Just("\u{7f}".to_owned()),
        prop::sample::select(vec!["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]).prop_map(str::to_owned),
        any::<u16>().prop_map(|unit| format!("\\u{unit:04x}")),
        any::<u16>().prop_map(|unit| format!("\\u{unit:04X}")),
        Just("\\ud83e\\udd80".to_owned()),
        Just("\\udead".to_owned()),
    ]
}

fn json_string() -> impl Strategy<Value = String> {
    prop::collection::vec(string_piece(), 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

pub(super) fn json_value() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?";
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        number.prop_map(|text| text),
        json_string(),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        let element =
            (space(), inner.clone(), space()).prop_map(|(before, value, after)| before + &value + &after).boxed();
        let member = (space(), json_string(), space(), element.clone())
            .prop_map(|(before, key, after, value)| format!("{before}{key}{after}:{value}"));
        prop_oneof![
            prop::collection::vec(element, 0..5).prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
            space().prop_map(|inside| format!("[{inside}]")),
            space().prop_map(|inside| format!("{{{inside}}}")),
        ]
    })
}

proptest! {
    #[test]
    fn generated_batches_are_cut_as_they_were_put_together(
        values in prop::collection::vec((space(), json_value(), space()), 0..6),
        before in space(),
        after in space(),
    ) {
        let inside: Vec<String> = values.iter().map(|(left, value, right)| format!("{left}{value}{right}")).collect();
        let body = format!("{before}[{}]{after}", inside.join(","));
        let expect: Vec<&str> = values.iter().map(|(_, value, _)| value.as_str()).collect();
        prop_assert_eq!(texts(&body), Ok(expect));
        fuzz_split(body.as_bytes());
        for (left, value, right) in &values {
            let whole = format!("{left}{value}{right}");
            let span = check_value(whole.as_bytes(), JSON_DEPTH_MAX).expect("a generated value is valid");
            prop_assert_eq!(span.of(whole.as_bytes()), value.as_bytes());
        }
    }

    #[test]
    fn mutated_batches_are_judged_as_serde_json_judges_them(
        values in prop::collection::vec(json_value(), 1..4),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..4),
    ) {
        let mut body = format!("[{}]", values.join(",")).into_bytes();
        for (place, kind, byte) in mutations {
            let choices = b"[]{},:\"\\ \n\t0-+.eEu\x00\x1f\x80\xc3\xff";
            let structural = choices[usize::from(byte) % choices.len()];
            match kind {
                _ if body.is_empty() => body.push(structural),
                0 => { let at = place.index(body.len()); body[at] = structural; }
                1 => { let at = place.index(body.len()); body.remove(at); }
                2 => { let at = place.index(body.len()); body.insert(at, structural); }
                _ => body.truncate(place.index(body.len())),
            }
        }
        fuzz_split(&body);
        fuzz_lines(&body);
    }

    #[test]
    fn noise_of_structural_bytes_is_judged_as_serde_json_judges_it(
        noise in prop::collection::vec(prop::sample::select(b"[]{},:\"\\ \n1-0.eEtrufalsn\xc3\xa9".to_vec()), 0..40),
    ) {
        fuzz_split(&noise);
        fuzz_lines(&noise);
        fuzz_split(&[b"[".as_slice(), &noise, b"]"].concat());
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz_split(&bytes);
        fuzz_lines(&bytes);
        fuzz_split(&[b"[\"".as_slice(), &bytes, b"\"]"].concat());
    }
}
