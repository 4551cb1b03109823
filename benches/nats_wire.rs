//! What one record costs on its way to the broker and back: encoding, the window, the acknowledgement.
//!
//! Each benchmark handles 1,000 records, so microseconds read as nanoseconds a record. "read to outcome" is
//! everything from the broker's bytes to the outcomes of a batch, on one window at a time.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use sluicegate::internals::wire::{
    jetstream::{AckMode, AckOutcome, Acks, DueWakers, PubAck, Token, Window, WindowLimits, WindowRequest, puback},
    nats::{self, Op, ParseLimits, Parsed, RecordId, Reply, Template, hpub_record, pub_record, record_bytes},
};
use std::hint::black_box;

const RECORDS: u32 = 1_000;
const PREFIX: &[u8] = b"_SG.0000000000000001.";
const SUBJECT: &[u8] = b"orders.created";
const HEADERS: &[u8] = b"Content-Type: application/json\r\n";
const LIMITS: WindowLimits =
    WindowLimits { messages: 8_192, bytes: 32 * 1024 * 1024, grant_messages: 1_024, waiters: 1_024 };

/// An acknowledgement as `serde_json` reads it: the measure for our own reader.
#[derive(Deserialize)]
struct Ack<'a> {
    #[serde(borrow)]
    stream: &'a str,
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

fn window_with_records() -> (Window, sluicegate::internals::wire::jetstream::BatchKey, Vec<Token>) {
    let mut window = Window::new(LIMITS);
    let mut tokens = Vec::new();
    let ask = WindowRequest {
        ack_mode: AckMode::PerRecord,
        once: false,
        sizes: (0..RECORDS).map(|_| 300),
        all: false,
        tag: 0,
        deadline_ms: 10_000,
    };
    let opened = window.open(ask, &mut tokens).expect("an empty window has room");
    (window, opened.key, tokens)
}

/// 1,000 acknowledgements as the broker writes them, in one buffer.
fn acknowledgements() -> Vec<u8> {
    let (_, _, tokens) = window_with_records();
    let mut buffer = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let payload = format!("{{\"stream\":\"orders#created\",\"seq\":{}}}", 1_000_000 + index);
        buffer.extend_from_slice(b"MSG ");
        buffer.extend_from_slice(PREFIX);
        buffer.extend_from_slice(token.text().as_bytes());
        buffer.extend_from_slice(format!(" 1 {}\r\n{payload}\r\n", payload.len()).as_bytes());
    }
    buffer
}

/// Calls `each` with subject and payload of every message in the buffer.
fn messages(buffer: &[u8], limits: &ParseLimits, mut each: impl FnMut(&[u8], &[u8])) {
    let mut rest = buffer;
    while let Ok(Parsed::Op { op, consumed }) = nats::next(rest, limits) {
        if let Op::Msg { subject, payload, .. } = op {
            each(subject.of(rest), payload.of(rest));
        }
        rest = rest.get(consumed..).unwrap_or_default();
    }
}

fn parsing(criterion: &mut Criterion) {
    let limits = ParseLimits::default();
    let buffer = acknowledgements();
    let mut payloads = Vec::new();
    messages(&buffer, &limits, |_, payload| payloads.push(payload.to_vec()));
    assert_eq!(payloads.len(), RECORDS as usize);

    let mut group = criterion.benchmark_group("acknowledgements");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function("MSG", |bencher| {
        bencher.iter(|| messages(black_box(&buffer), &limits, |subject, payload| _ = black_box((subject, payload))));
    });
    group.bench_function("MSG, token and PubAck", |bencher| {
        bencher.iter(|| {
            messages(black_box(&buffer), &limits, |subject, payload| {
                black_box((Token::of_subject(subject, PREFIX), puback::parse(payload)));
            });
        });
    });
    group.bench_function("runs of plain ones", |bencher| {
        let mut acks = Acks::new("_SG.0000000000000001.", 1);
        bencher.iter(|| {
            let (mut rest, mut count) = (black_box(&*buffer), 0);
            while let Some(ack) = acks.next(rest) {
                rest = rest.get(ack.consumed..).unwrap_or_default();
                count += 1;
            }
            assert_eq!(count, RECORDS);
        });
    });
    group.bench_function("PubAck", |bencher| {
        bencher.iter(|| payloads.iter().for_each(|payload| _ = black_box(puback::parse(black_box(payload)))));
    });
    let rare: Vec<Vec<u8>> =
        (1..=RECORDS).map(|seq| format!("{{\"seq\":{seq},\"stream\":\"S\"}}").into_bytes()).collect();
    group.bench_function("PubAck, other shape", |bencher| {
        bencher.iter(|| rare.iter().for_each(|payload| _ = black_box(puback::parse(black_box(payload)))));
    });
    group.bench_function("PubAck by serde_json", |bencher| {
        bencher.iter(|| {
            for payload in &payloads {
                let ack: Ack<'_> = serde_json::from_slice(black_box(payload)).expect("it is an acknowledgement");
                black_box((ack.stream, ack.seq, ack.duplicate));
            }
        });
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let (_, _, tokens) = window_with_records();
    let payload = [b'x'; 256];
    let mut out = Vec::with_capacity(1 << 20);
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function("PUB", |bencher| {
        bencher.iter(|| {
            out.clear();
            for token in &tokens {
                let text = token.text();
                pub_record(&mut out, SUBJECT, Reply { prefix: PREFIX, token: text.as_bytes() }, black_box(&payload));
            }
            black_box(out.len())
        });
    });
    group.bench_function("HPUB by template", |bencher| {
        let mut template = Template::default();
        bencher.iter(|| {
            out.clear();
            template.set(SUBJECT, Reply { prefix: PREFIX, token: b"B" }, HEADERS);
            for _ in 0..RECORDS {
                template.write(&mut out, black_box(&payload));
            }
            black_box(out.len())
        });
    });
    group.bench_function("HPUB with message id", |bencher| {
        bencher.iter(|| {
            out.clear();
            for (index, token) in (0..RECORDS).zip(&tokens) {
                let (text, id) =
                    (token.text(), RecordId { base: b"0193a5c2-8f0e-7000-9a51", index: Some(index.into()) });
                let reply = Reply { prefix: PREFIX, token: text.as_bytes() };
                hpub_record(&mut out, SUBJECT, reply, HEADERS, Some(id), black_box(&payload));
            }
            black_box(out.len())
        });
    });
    group.finish();
}

fn window(criterion: &mut Criterion) {
    let stored = |sequence| AckOutcome::Stored { sequence, duplicate: false };
    let (mut tokens, mut outcomes, mut wakes) = (Vec::new(), Vec::new(), DueWakers::default());
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    for batch in [1usize, 100, 1_000] {
        let mut window = Window::new(LIMITS);
        group.bench_function(format!("open, complete, take: batches of {batch}"), |bencher| {
            bencher.iter(|| {
                for _ in 0..RECORDS as usize / batch {
                    tokens.clear();
                    outcomes.clear();
                    let sizes = std::iter::repeat_n(record_bytes(32, 36, 256), batch);
                    let opened = window.open(
                        WindowRequest {
                            ack_mode: AckMode::InOrder,
                            once: false,
                            sizes,
                            all: false,
                            tag: 0,
                            deadline_ms: 10_000,
                        },
                        &mut tokens,
                    );
                    for token in tokens.iter().cycle().take(batch) {
                        window.complete(*token, stored(7), &mut wakes);
                    }
                    black_box(opened.map(|opened| window.take(opened.key, &mut outcomes)));
                }
            });
        });
    }
    let buffer = acknowledgements();
    group.bench_function("read to outcome", |bencher| {
        bencher.iter_batched_ref(
            window_with_records,
            |(window, key, _)| {
                messages(&buffer, &ParseLimits::default(), |subject, payload| {
                    if let (Some(token), Some(PubAck::Stored { sequence, duplicate, .. })) =
                        (Token::of_subject(subject, PREFIX), puback::parse(payload))
                    {
                        window.complete(token, AckOutcome::Stored { sequence, duplicate }, &mut wakes);
                    }
                });
                outcomes.clear();
                assert!(window.take(*key, &mut outcomes));
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, parsing, encoding, window);
criterion_main!(benches);
