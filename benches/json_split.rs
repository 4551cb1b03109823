//! The batch splitter, on each engine that the processor has, beside `serde_json` doing the same work (`Vec<&RawValue>`,
//! or one `&RawValue` a line), by shape and size of the batch.
//!
//! `cargo bench --bench json_split`

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::value::RawValue;
use sluicegate::internals::wire::json::{Engine, SplitLimits};
use std::hint::black_box;

fn splitting(criterion: &mut Criterion) {
    let limits = SplitLimits { records_max: usize::MAX, ..SplitLimits::default() };
    for (shape, element) in SHAPES {
        let mut group = criterion.benchmark_group(format!("json_split/{shape}"));
        for bytes in [1 << 10, 64 << 10, 4 << 20] {
            let body = [b"[", joined(*element, b',', bytes).as_slice(), b"]"].concat();
            let mut spans = Vec::new();
            group.throughput(Throughput::Bytes(body.len() as u64));
            for engine in Engine::all() {
                group.bench_with_input(BenchmarkId::new(engine.name(), bytes), &body, |bencher, body| {
                    bencher.iter(|| engine.split(black_box(body), &limits, &mut spans).expect("the batch is valid"));
                });
            }
            group.bench_with_input(BenchmarkId::new("serde_json", bytes), &body, |bencher, body| {
                bencher.iter(|| serde_json::from_slice::<Vec<&RawValue>>(black_box(body)).expect("the batch is valid"));
            });
        }
        group.finish();
    }
}

fn splitting_lines(criterion: &mut Criterion) {
    let limits = SplitLimits { records_max: usize::MAX, ..SplitLimits::default() };
    // A line has no line ends in it.
    for (shape, element) in SHAPES.iter().filter(|(shape, _)| *shape != "pretty") {
        let mut group = criterion.benchmark_group(format!("json_lines/{shape}"));
        for bytes in [1 << 10, 64 << 10, 4 << 20] {
            let body = joined(*element, b'\n', bytes);
            let mut spans = Vec::new();
            group.throughput(Throughput::Bytes(body.len() as u64));
            for engine in Engine::all() {
                group.bench_with_input(BenchmarkId::new(engine.name(), bytes), &body, |bencher, body| {
                    bencher.iter(|| {
                        engine.split_lines(black_box(body), &limits, &mut spans).expect("the lines are valid");
                    });
                });
            }
            group.bench_with_input(BenchmarkId::new("serde_json", bytes), &body, |bencher, body| {
                bencher.iter(|| lines_by_serde_json(black_box(body)));
            });
        }
        group.finish();
    }
}

/// The fast way to do it without a splitter.
fn lines_by_serde_json(body: &[u8]) -> Vec<&RawValue> {
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    let lines = ends.scan(0, |start, end| body.get(std::mem::replace(start, end + 1)..end));
    lines.map(|line| serde_json::from_slice(line).expect("a line is valid")).collect()
}

criterion_group!(benches, splitting, splitting_lines);
criterion_main!(benches);

/// One element of a batch, by its number.
type Element = fn(usize) -> String;

/// The shapes that are measured.
const SHAPES: &[(&str, Element)] = &[
    ("flat", flat),
    ("debezium", debezium),
    ("ints", ints),
    ("numbers", numbers),
    ("literals", literals),
    ("empty", empty),
    ("deep", deep),
    ("short_strings", short_strings),
    ("strings", strings),
    ("escapes", escapes),
    ("unicode", unicode),
    ("pretty", pretty),
];

/// Elements with a separator between them, about `bytes` long altogether; one at least.
fn joined(element: Element, separator: u8, bytes: usize) -> Vec<u8> {
    let mut text = element(0).into_bytes();
    for number in 1.. {
        let next = element(number);
        if text.len() + next.len() > bytes {
            break;
        }
        text.push(separator);
        text.extend_from_slice(next.as_bytes());
    }
    text
}

/// An event of 142 bytes.
fn flat(number: usize) -> String {
    format!(
        r#"{{"id":{:010},"sensor":"sensor-{:06}","temp":21.5,"hum":40.25,"ok":true,"ts":1767323045123,"site":"berlin-1","note":"in range, no action"}}"#,
        1_000_000_000 + number,
        number % 1_000_000
    )
}

/// A change event of about 380 bytes.
fn debezium(number: usize) -> String {
    format!(
        r#"{{"before":null,"after":{{"id":{number},"first_name":"Anne","last_name":"Kretchmar","email":"annek@noanswer.org"}},"source":{{"version":"2.7.0.Final","connector":"postgresql","name":"dbserver1","ts_ms":1767323045123,"snapshot":"false","db":"postgres","sequence":"[\"24023119\",\"24023128\"]","schema":"inventory","table":"customers","txId":555,"lsn":24023128}},"op":"c","ts_ms":1767323045456}}"#
    )
}

fn ints(number: usize) -> String {
    (number % 1_000).to_string()
}

/// Numbers with all that numbers can have, of many lengths.
fn numbers(number: usize) -> String {
    format!("-{}.{}e-{}", number * 7_919 % 10_007, number * 104_729 % 100_003, number % 19)
}

fn literals(number: usize) -> String {
    ["true", "false", "null"][number * number % 3].to_owned()
}

fn empty(number: usize) -> String {
    ["{}", "[]"][number % 2].to_owned()
}

/// As deep as an element may be half way, and nothing but brackets.
fn deep(_: usize) -> String {
    ["[".repeat(512), "]".repeat(512)].concat()
}

fn short_strings(number: usize) -> String {
    format!("\"{}\"", "abcdefgh".split_at(number * 7_919 % 9).0)
}

/// One string of 2,000 plain characters.
fn strings(number: usize) -> String {
    format!("\"{}{number:06}\"", "The quick brown fox jumps over the lazy dog. ".repeat(44))
}

/// Text that is full of escapes.
fn escapes(number: usize) -> String {
    format!(r#""line {number}\n\t\"quoted\"\\path\\to\\file\u00e9\r\n""#)
}

/// Text in which every character is three bytes long.
fn unicode(number: usize) -> String {
    format!(r#"{{"id":{number},"text":"日本語のテキストがここにあります","note":"それだけです"}}"#)
}

/// An object as an editor would lay it out.
fn pretty(number: usize) -> String {
    format!(
        "\n  {{\n    \"id\": {number},\n    \"name\": \"a name\",\n    \"tags\": [\n      \"a\",\n      \"b\"\n    ]\n  }}"
    )
}
