//! What it costs to hold a valid event against a schema: JSON Schema on 256 B and 1 KiB, with one schema and with a thousand in
//! turn, beside parsing with `serde_json` and validating its tree, beside reading over the record without keeping anything,
//! and beside the tape that `simd-json` makes.
//!
//! `cargo bench --bench schema`

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::de::IgnoredAny;
use sluicegate::internals::schema::{Encoding, Schema, SchemaSource, SchemaType, Scratch};
use std::{collections::BTreeMap, hint::black_box};

/// The schema of the events: seven properties. Each `index` makes another one of it.
fn source(index: usize) -> String {
    format!(
        r#"{{"$id": "urn:event:{index}", "type": "object", "required": ["id", "source", "time", "seq"], "additionalProperties": false, "properties": {{
            "id": {{"type": "string", "minLength": 1, "maxLength": 64}},
            "source": {{"type": "string"}},
            "type": {{"enum": ["created", "changed", "deleted"]}},
            "time": {{"type": "string", "minLength": 20}},
            "seq": {{"type": "integer", "minimum": {index}}},
            "value": {{"type": "number", "exclusiveMinimum": -1000}},
            "data": {{"type": "object", "properties": {{"tags": {{"type": "array", "items": {{"type": "string"}}}}, "text": {{"type": "string"}}}}}}
        }}}}"#
    )
}

/// An event of this size.
fn event(bytes: usize) -> String {
    let with = |text: &str| {
        format!(
            r#"{{"id":"01J9Z3NDEKTSV4RRFFQ69G5FAV","source":"/sensors/berlin/17","type":"changed","time":"2026-08-01T12:00:00.000Z","seq":184467,"value":21.625,"data":{{"tags":["indoor","north","b2"],"text":"{text}"}}}}"#
        )
    };
    let words = "the quick brown fox jumps over the lazy dog ";
    with(&words.repeat(bytes / words.len() + 1)[..bytes - with("").len()])
}

fn compiled(index: usize) -> Schema {
    let source = SchemaSource { kind: SchemaType::Json, text: source(index), message: None, imports: BTreeMap::new() };
    Schema::compile(&source).expect("the schema compiles")
}

fn json(criterion: &mut Criterion) {
    let thousand: Vec<Schema> = (0..1_000).map(compiled).collect();
    let tree =
        jsonschema::validator_for(&serde_json::from_str(&source(0)).expect("JSON")).expect("the schema compiles");
    for bytes in [256, 1_024] {
        let event = event(bytes);
        let record = event.as_bytes();
        let mut group = criterion.benchmark_group("schema/json");
        group.throughput(Throughput::Bytes(bytes as u64));
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        for (name, schemas) in [("check, 1 schema", &thousand[..1]), ("check, 1000 schemas", &thousand[..])] {
            let mut next = schemas.iter().cycle();
            group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
                bencher.iter(|| {
                    let schema = next.next().expect("a cycle");
                    schema.check(black_box(record), Encoding::Json, &mut scratch, &mut out).expect("the event is valid")
                });
            });
        }
        group.bench_function(BenchmarkId::new("serde_json and validate", bytes), |bencher| {
            bencher.iter(|| tree.is_valid(&serde_json::from_slice(black_box(record)).expect("JSON")));
        });
        group.bench_function(BenchmarkId::new("serde_json, nothing kept", bytes), |bencher| {
            bencher.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(record)).expect("JSON"));
        });
        let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
        let mut kept = Some(simd_json::Tape::null());
        group.bench_function(BenchmarkId::new("simd-json, tape alone", bytes), |bencher| {
            bencher.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(record));
                let mut tape = kept.take().expect("it was put back").reset();
                simd_json::fill_tape(&mut copy, &mut buffers, &mut tape).expect("JSON");
                kept = Some(tape.reset());
            });
        });
        group.finish();
    }
}

criterion_group!(benches, json);
criterion_main!(benches);
