//! One row a corner of RFC 8259: texts that every parser must take, must refuse, and those where the
//! standard leaves it open and we do as `serde_json`'s raw values do. Each row is held against both.

use super::{reference::check_value, tests::split, *};
use serde_json::value::RawValue;

/// Texts that are JSON.
const YES: &[&str] = &[
    // Structure.
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "{\"\":{}}",
    "[[],[]]",
    "[[[[[[[[[[]]]]]]]]]]",
    "[null,1,\"1\",{}]",
    "[1,null,null,2]",
    "[ ]",
    "{ }",
    "[\n]",
    "[\t]",
    "[\r]",
    " []",
    "[] ",
    "\t[]\r\n",
    "[1\n]",
    "[\n1]",
    "[1\n,1\n,\n1]",
    "[2] ",
    "{\"a\":[]}",
    "{\"a\":\n1}",
    "{\"a\" \t:\r1}",
    "{\"a\":1,\"b\":2}",
    "{\"a\":1,\"a\":1}",
    "{\"a\":1,\"a\":2}",
    "{\"\":0}",
    "{\"a\":{\"b\":{\"c\":{}}}}",
    "[[1],[2,[3]],{\"4\":[5]}]",
    "{\"x\":[{\"id\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}],\"id\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
    "{\"min\":-1.0e+28,\"max\":1.0e+28}",
    "{\"title\":\"\\u041f\\u043e\"}",
    "{\"a\\u0000b\":0}",
    "{\"[\":\"]\"}",
    "{\"\\\"\":\"{\"}",
    // Scalars alone.
    "0",
    "42",
    "-0.1",
    "null",
    "true",
    "false",
    "\"\"",
    "\"asd\"",
    "\" \"",
    " 1 ",
    // Numbers.
    "-0",
    "-1",
    "-123",
    "0e1",
    "0E+2",
    "0e+1",
    "0.0",
    "-0.0",
    "1e1",
    "1E22",
    "1E-2",
    "1E+2",
    "123e45",
    "123e-10000000",
    "123.456e78",
    "123.456789",
    "1.0",
    "0.4e5",
    "20e1",
    "123123e100000",
    "-0.000000000000000000000000000000000000000000000000000000000000000000000000000001",
    "9007199254740993",
    "18446744073709551616",
    "100000000000000000000000000000000000000000",
    "1.5e+9999",
    "-1e+9999",
    "0.4e00669999999999999999999999999999999999999999999999",
    // Strings.
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\\\u0000\"",
    "\"\\u0060\\u012a\\u12AB\"",
    "\"\\uD801\\udc37\"",
    "\"\\ud83d\\ude39\\ud83d\\udc8d\"",
    "\"\\u0000\"",
    "\"\\uFFFF\"",
    "\"\\u002c\"",
    "\"\\u0022\"",
    "\"\\u005C\"",
    "\"\\uDBFF\\uDFFE\"",
    "\"\\u2064\"",
    "\"a/*b*/c/*d//e\"",
    "\"\\\\a\"",
    "\"\\\\n\"",
    "\"\u{7f}\"",
    "\"\u{80}\"",
    "\"é\"",
    "\"π\"",
    "\"⍂㈴⍂\"",
    "\"\u{2028}\u{2029}\"",
    "\"\u{feff}\"",
    "\"\u{ffff}\"",
    "\"\u{10ffff}\"",
    "\"日本語日本語日本語\"",
    "\"1234567\"",
    "\"12345678\"",
    "\"123456789\"",
    "\"1234567é\"",
    "\"12345678\\n\"",
    "\"\\\"\"",
];

/// Texts that are not.
const NO: &[&[u8]] = &[
    // Structure.
    b"",
    b" ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"[1",
    b"[1,",
    b"[1 ",
    b"[,",
    b"[,1]",
    b"[1,]",
    b"[1,,2]",
    b"[,]",
    b"[1 true]",
    b"[1,\n1\n,1",
    b"[\"a\",\n4\n,1,",
    b"[]]",
    b"[1]x",
    b"[x]",
    b"[[1]",
    b"[1}",
    b"{1]",
    b"[}",
    b"{]",
    b"[*]",
    b"[\"\": 1]",
    b"[\"\"",
    b"[1:2]",
    b"[a",
    b"[\x0c]",
    b"[\x0b1]",
    b"[\\f]",
    b"[\"x\", truth]",
    b"{,}",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\":1,}",
    b"{\"a\":1,,}",
    b"{\"a\",1}",
    b"{\"a\"=1}",
    b"{\"a\" b}",
    b"{:\"b\"}",
    b"{a:1}",
    b"{1:1}",
    b"{null:1}",
    b"{'a':0}",
    b"{\"a\":\"a",
    b"{\"a\"",
    b"{\"a\":1 \"b\":2}",
    b"{\"a\":\"b\"}#",
    b"{\"a\":\"b\"}/**/",
    b"{\"a\":/*x*/1}",
    b"{\"a\":1}}",
    b"{\"a\":1]",
    b"{[]:1}",
    b"{\"a\":1:2}",
    b"{{}}",
    b"[{]",
    b"{\"a\" 1",
    b"{\"a\":1,\"b\"",
    b"[1]\x00",
    b"\x00",
    b"[\x00]",
    b"1 2",
    b"1,",
    b",1",
    b"{}{}",
    b"<null>",
    b"<.>",
    b"*",
    b"[\xe2\x81\xa0]",
    b"\xe2\x81\xa0",
    b"\xef\xbb\xbf[]",
    b"\xef\xbb\xbf1",
    b"\xff\xfe[\x00]\x00",
    b"[\xa0]",
    b"\xe9",
    // Words.
    b"nul",
    b"nulll",
    b"tru",
    b"truee",
    b"fals",
    b"fa1se",
    b"True",
    b"NULL",
    b"nil",
    b"undefined",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-NaN",
    b"n",
    b"t",
    b"f",
    // Numbers.
    b"-",
    b"+1",
    b"++1",
    b"--1",
    b"- 1",
    b"-a",
    b"01",
    b"-01",
    b"00",
    b"-012",
    b"1.",
    b"1.e1",
    b".5",
    b"-.5",
    b"0.",
    b"0.e1",
    b"1e",
    b"1E",
    b"1e+",
    b"1e-",
    b"1eE2",
    b"0e",
    b"0e+",
    b"1.0e",
    b"1.0e+",
    b"1.0e-",
    b"0.1.2",
    b"0.3e+",
    b"9.e+",
    b"2.e3",
    b"1 000.0",
    b"0x1",
    b"0x",
    b"1_000",
    b"1a",
    b"1+2",
    b"-1x",
    b"1ea",
    b"-2.",
    b"2.e-3",
    b"\xef\xbc\x91",
    b"1e1\xe5",
    b"0\xe5",
    b"1.2a-3",
    b"-123.123foo",
    // Strings.
    b"\"",
    b"\"a",
    b"'a'",
    b"a",
    b"\"\\\"",
    b"\"\\",
    b"\"\\a\"",
    b"\"\\x00\"",
    b"\"\\'\"",
    b"\"\\0\"",
    b"\"\\U0041\"",
    b"\"\\\xf0\x9f\x8c\x80\"",
    b"\"\\u\"",
    b"\"\\u1\"",
    b"\"\\u00A\"",
    b"\"\\u00",
    b"\"\\u123",
    b"\"\\u00G0\"",
    b"\"\\uqqqq\"",
    b"\"\\u 123\"",
    b"\"\\uD800\\u\"",
    b"\"\\uD800\\uD\"",
    b"\"\\{[\"",
    b"\"\n\"",
    b"\"\t\"",
    b"\"\x00\"",
    b"\"\x1f\"",
    b"\"\x1bx\"",
    b"\"a\x00a\"",
    b"\"1234567\x01\"",
    b"\"12345678\x01\"",
    b"\"\"x",
    b"\"\" \"\"",
    b"\"a\"\"b\"",
    b"\\u0020\"asd\"",
    b"\"\\\t\"",
    // UTF-8.
    b"\"\xff\"",
    b"\"\x80\"",
    b"\"\xc3\"",
    b"\"\xc3(\"",
    b"\"\xc0\xaf\"",
    b"\"\xe0\x80\xaf\"",
    b"\"\xf0\x80\x80\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xed\xbf\xbf\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe6\x97\xa5\xd1\"",
    b"\"\xf8\x88\x80\x80\x80\"",
    b"\"12345678\xe2\x82\"",
    b"\"\xe9\"",
    b"{\"\xb9\":1}",
];

/// Texts that the standard leaves to the parser: all of these are taken, as raw values take them.
const OPEN: &[&str] = &[
    "\"\\uD800\"",
    "\"\\udFAA\"",
    "\"\\uDd1e\\uD834\"",
    "\"\\uD888\\u1234\"",
    "\"\\uD800\\n\"",
    "\"\\uD800\\uD800\\n\"",
    "\"\\ud800abc\"",
    "\"\\uDADA\"",
    "1e999",
    "-1e999",
    "1e-999",
    "123123123123123123123123123123",
    "-123123123123123123123123123123",
    "0.4e006699999999999999999999999999999",
    "-237462374673276894279832749832423479823246327846",
];

fn check(text: &[u8], expect: bool) {
    let shown = String::from_utf8_lossy(text);
    let alone = check_value(text, JSON_DEPTH_MAX);
    assert_eq!(alone.is_ok(), expect, "{shown} alone: {alone:?}");
    let theirs = serde_json::from_slice::<&RawValue>(text);
    assert_eq!(theirs.is_ok(), expect, "{shown} by serde_json: {theirs:?}");
    let batch = [b"[0,".as_slice(), text, b" ,0]"].concat();
    let mut spans = Vec::new();
    let verdict = split(&batch, &SplitLimits::default(), &mut spans);
    if expect {
        assert_eq!(verdict, Ok(()), "{shown} in a batch");
        assert_eq!(spans.len(), 3, "{shown} in a batch");
    }
    fuzz_split(&batch);
    fuzz_split(text);
    fuzz_lines(text);
}

#[test]
fn what_is_json_is_taken() {
    for text in YES {
        check(text.as_bytes(), true);
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in NO {
        check(text, false);
    }
}

#[test]
fn what_the_standard_leaves_open_is_taken_as_raw_values_take_it() {
    for text in OPEN {
        check(text.as_bytes(), true);
    }
}

#[test]
fn every_prefix_of_a_batch_is_refused() {
    let batch = "[ {\"a\" : [1.5e+3, -0, \"\\u12ab\\n\u{e9}\"], \"b\":{} } , true,false , null,\"12345678\" ]";
    for length in 0..batch.len() {
        let prefix = &batch.as_bytes()[..length];
        let verdict = split(prefix, &SplitLimits::default(), &mut Vec::new());
        assert!(matches!(verdict, Err(Reject::Json { .. })), "{length}: {verdict:?}");
        fuzz_split(prefix);
    }
    assert_eq!(split(batch.as_bytes(), &SplitLimits::default(), &mut Vec::new()), Ok(()));
}
