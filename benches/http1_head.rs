//! What a request's head costs: ours, checked and kept as spans, beside bare httparse in the same run.
//!
//! `cargo bench --bench http1_head`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::internals::wire::{
    HEAD_FIELDS_MAX,
    http1::{Body, Fields, Framing, Head, HeadLimits, Progress, Response, date},
};
use std::{hint::black_box, mem::MaybeUninit};

/// A produce request as a client library sends it: ten fields, a token of common size.
const REQUEST: &[u8] = b"POST /stations/orders.eu/produce/single HTTP/1.1\r\n\
    Host: gateway.example.org:4444\r\n\
    User-Agent: okhttp/4.12.0\r\n\
    Accept: */*\r\n\
    Accept-Encoding: gzip\r\n\
    Connection: keep-alive\r\n\
    Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhY2NvdW50X2lkIjoxLCJleHAiOjE3OTUyMjAwMDAsInN1YiI6InJvb3Q\
iLCJ0eXAiOiJhY2Nlc3MifQ.Zm9yIG1lYXN1cmVtZW50IG9ubHksIG5vIHNlY3JldCE\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 256\r\n\
    Idempotency-Key: 0192f3c1-7b0e-7c3a-9d55-3f1d1c9be0aa\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    \r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("httparse alone", |bencher| {
        bencher.iter(|| {
            let mut slots = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
            let mut request = httparse::Request::new(&mut []);
            let status = request.parse_with_uninit_headers(black_box(REQUEST), &mut slots);
            black_box((status.is_ok(), request.headers.len()))
        });
    });
    let limits = HeadLimits::default();
    let mut head = Head::default();
    assert_eq!(head.parse(REQUEST, &limits), Ok(true));
    assert_eq!((head.len, head.http.fields.len(), head.framing), (REQUEST.len(), 10, Framing::Length(256)));
    group.bench_function("checked", |bencher| {
        bencher.iter(|| black_box(head.parse(black_box(REQUEST), &limits)));
    });
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let chunk = [b"400\r\n".to_vec(), vec![b'x'; 1_024], b"\r\n".to_vec()].concat();
    let wire = [chunk.repeat(64), b"0\r\n\r\n".to_vec()].concat();
    let mut buf = Vec::with_capacity(wire.len());
    let mut group = criterion.benchmark_group("body");
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("64 chunks of 1 KiB, with the copy into the buffer", |bencher| {
        bencher.iter(|| {
            buf.clear();
            buf.extend_from_slice(&wire);
            let done = Body::new(Framing::Chunked, 1 << 20).and_then(|mut body| body.feed(&mut buf, 0));
            assert!(matches!(black_box(done), Ok(Progress::Done { .. })));
        });
    });
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let (mut out, now) = (Vec::with_capacity(1_024), date(1_795_220_000));
    let (fields, body) = (Fields::of("Content-Type: application/json\r\n"), br#"{"error":null,"success":true}"#);
    criterion.bench_function("response", |bencher| {
        bencher.iter(|| {
            out.clear();
            let response = Response { body, ..Response::new(200, &fields) };
            black_box(response).write(&mut out, &now);
            black_box(out.len())
        });
    });
}

criterion_group!(benches, heads, bodies, responses);
criterion_main!(benches);
