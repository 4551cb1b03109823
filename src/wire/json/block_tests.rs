//! What only goes wrong where a block of 64 bytes ends: every construct across every place of a boundary, on
//! every engine, against the scalar one and `serde_json`.

use super::{tests::json_value, *};
use proptest::prelude::*;

/// Constructs that are JSON, or are not only because of their last bytes.
const PIECES: &[&[u8]] = &[
    b"0",
    b"-0",
    b"-",
    b"01",
    b"-01",
    b"00",
    b"1.",
    b"1.5",
    b"1.5.5",
    b"1..5",
    b".5",
    b"1e5",
    b"1E+5",
    b"1e-05",
    b"1e",
    b"1e+",
    b"1e5e5",
    b"1e5.5",
    b"1e5-5",
    b"1.5e5",
    b"1.e5",
    b"1-5",
    b"--1",
    b"-1.25E-12",
    b"+1",
    b"12345678901234567890123456789012345678901234567890123456789012345678901234567890.5",
    b"1.234567890123456789012345678901234567890123456789012345678901234567890123456789.5",
    b"1e1234567890123456789012345678901234567890123456789012345678901234567890123456789e5",
    b"true",
    b"false",
    b"null",
    b"truefalse",
    b"true1",
    b"1true",
    b"nul",
    b"falsE",
    b"fals",
    b"true\"\"",
    b"nulltrue,1",
    b"\"\"",
    b"\"\"\"\"",
    b"\"a\"1",
    b"1\"a\"",
    b"\"\\\\\"",
    b"\"\\\\\\\"\"",
    b"\"\\\\\\\\\\\\\\n\"",
    b"\"\\\\\\\\\\\\\\\\\"",
    b"\"\\\"",
    b"\"\\u12aF\"",
    b"\"\\u12g4\"",
    b"\"\\u123\"",
    b"\"\\ud83e\\udd80\\u\"",
    b"\"\\a\"",
    b"\"\\\0\"",
    b"\"\t\"",
    b"\"\x7f\"",
    "\"é\u{800}\u{ffff}🦀\u{10ffff}\"".as_bytes(),
    b"\"\xc3\"",
    b"\"\xe3\x81\"",
    b"\"\xf0\x9f\xa6\"",
    b"\"\x80\"",
    b"\"\xc3\xa9\xa9\"",
    b"\"\xc0\x80\"",
    b"\"\xc1\xbf\"",
    b"\"\xe0\x9f\xbf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf0\x8f\xbf\xbf\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xf5\x80\x80\x80\"",
    b"\"\xff\"",
    "é".as_bytes(),
    b"{}",
    b"[]",
    b"{]",
    b"[}",
    b"{\"a\":1}",
    b"{\"a\" : 1 , \"b\" : [ 2 , { } ] }",
    b"{\"a\"}",
    b"{\"a\",1}",
    b"{\"a\":}",
    b"{\"a\":1,}",
    b"{\"a\":1:2}",
    b"{\"a\":\"b\":1}",
    b"{\"a\" \"b\"}",
    b"{1:2}",
    b"{,}",
    b"[\"a\":1]",
    b"[,]",
    b"[1,]",
    b"[1,,2]",
    b"[1 2]",
    b"[[] []]",
    b"[1[2]]",
    b"{}{}",
    b"[[[[]]]]",
    b"[{\"k\":[{\"k\":[]}]}]",
    b"1,2",
    b"1\n2",
    b"1 \r\n\n\t2",
    b"\n",
    b",",
    b":",
    b"]",
    b"] ]",
    b"1] ",
    b"1]\n]",
    b"\\",
    b"\0",
];

#[test]
fn a_boundary_changes_nothing() {
    for piece in PIECES {
        for offset in 0..=130 {
            // White space is skipped, elements are counted, and strings are what masks are made of.
            for before in [[b' '].repeat(offset), b"1,".repeat(offset / 2), string_of(offset)] {
                let batch = [b"[", before.as_slice(), piece, b"]"].concat();
                fuzz_split(&batch);
                fuzz_split(&[&batch, [b' '].repeat(offset).as_slice()].concat());
                fuzz_lines(&[before.as_slice(), piece].concat());
                fuzz_lines(&[before.as_slice(), b"\n", piece, b"\n0"].concat());
            }
            let text = vec![b'a'; offset];
            fuzz_split(&[b"[{\"", text.as_slice(), b"\":", piece, b" , \"", &text, b"\":[", piece, b"]}]"].concat());
            fuzz_split(&[b"[\"", text.as_slice(), piece, b"\"]"].concat());
        }
    }
}

/// A string and its comma, `bytes` long where that is possible.
fn string_of(bytes: usize) -> Vec<u8> {
    match bytes.checked_sub(3) {
        Some(inside) => [b"\"", vec![b'a'; inside].as_slice(), b"\","].concat(),
        None => Vec::new(),
    }
}

#[test]
fn every_pair_of_tokens_is_judged_alike_in_every_container() {
    const TOKENS: &[&str] = &["{", "}", "[", "]", ",", ":", "\"k\"", "1", "null", " ", "\n"];
    for before in ["", "1,", "{", "{\"k\"", "{\"k\":", "{\"k\":1", "{\"k\":1,", "[", "[1", "[1,"] {
        for after in ["", "}", "]", "1}", ":1}", "\"k\":1}", ",1]"] {
            for first in TOKENS {
                for second in TOKENS {
                    let inside = format!("{before}{first}{second}{after}");
                    fuzz_split(format!("[{inside}]").as_bytes());
                    fuzz_lines(inside.as_bytes());
                }
            }
        }
    }
}

#[test]
fn depth_is_counted_alike() {
    for open in ["[", "{\"k\":", "[{\"k\":"] {
        for depth in [1, 31, 32, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1_023, 1_024, 1_025, 2_000] {
            let mut text = open.repeat(depth);
            text.push('0');
            for bracket in open.repeat(depth).chars().rev() {
                match bracket {
                    '[' => text.push(']'),
                    '{' => text.push('}'),
                    _ => {}
                }
            }
            fuzz_split(format!("[{text},{text}]").as_bytes());
            fuzz_lines(format!("{text}\n{text}").as_bytes());
        }
    }
}

proptest! {
    #[test]
    fn changed_batches_are_judged_alike_wherever_they_stand(
        values in prop::collection::vec(json_value(), 1..8),
        shift in 0..130_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<prop::sample::Index>()), 0..3),
    ) {
        let choices = b"[]{},:\"\\ \n\t0-+.eEut\x00\x1f\x80\xc3\xed\xf4\xff";
        for separator in [",", "\n"] {
            let mut text = [&[b' '].repeat(shift), values.join(separator).as_bytes()].concat();
            for (place, kind, choice) in &changes {
                let (at, byte) = (place.index(text.len()), choices[choice.index(choices.len())]);
                match kind {
                    0 => text[at] = byte,
                    1 => text.insert(at, byte),
                    _ if text.len() > 1 => { text.remove(at); }
                    _ => {}
                }
            }
            fuzz_lines(&text);
            fuzz_split(&[b"[".as_slice(), &text, b"]"].concat());
        }
    }
}
