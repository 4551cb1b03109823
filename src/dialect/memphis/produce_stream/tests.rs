//! The body of a stream on its way to records: what is gathered, and how much memory that takes.

use super::input::{Batch, Input};
use crate::{
    budget::Budget,
    dialect::{Sink, pipe},
    limits::{PRODUCE_STREAM_BYTES_MAX, STREAM_BATCH_RECORDS_MAX, STREAM_BUFFER_BYTES, STREAM_LINE_BYTES_MAX},
    reject::Reject,
    wire::{content_encoding::Codings, json_lines::Framing},
};
use std::{
    rc::Rc,
    task::{Context, Waker},
};

struct World {
    sink: Option<Sink>,
    input: Input,
    budget: Rc<Budget>,
    /// What was settled: the numbers of lines that are records, their texts, and the lines that are none.
    records: Vec<(u64, String)>,
    faults: Vec<u64>,
    /// The largest number of records of a batch, and of bytes that were held.
    batch_most: usize,
    held_most: usize,
}

impl World {
    fn new(coding: &str) -> Self {
        let budget = Budget::new(PRODUCE_STREAM_BYTES_MAX);
        let (sink, source) = pipe(STREAM_BUFFER_BYTES);
        let codings = Codings::parse([coding.as_bytes()]).expect("a coding");
        let input = Input::new(source, codings, Framing::Lines, 1, usize::MAX, budget.hold());
        let (records, faults) = (Vec::new(), Vec::new());
        Self { sink: Some(sink), input, budget, records, faults, batch_most: 0, held_most: 0 }
    }

    /// Sends bytes, and settles what is there.
    fn send(&mut self, bytes: &[u8]) {
        let mut context = Context::from_waker(Waker::noop());
        for piece in bytes.chunks(STREAM_BUFFER_BYTES) {
            self.sink.as_ref().expect("open").write(|buffer| buffer.extend_from_slice(piece));
            assert!(self.input.feed.poll_read(&mut context).is_ready());
            self.settle();
        }
    }

    fn end(&mut self, end: Result<(), Reject>) {
        self.sink.take().expect("open").end(end);
        assert!(self.input.feed.poll_read(&mut Context::from_waker(Waker::noop())).is_ready());
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut batch = Batch::default();
            while !self.input.gather(&mut batch, &|| true) {}
            self.held_most = self.held_most.max(self.budget.used());
            if batch.is_empty() {
                return;
            }
            self.batch_most = self.batch_most.max(batch.payloads.len());
            for (index, payload) in batch.indexes.iter().zip(&batch.payloads) {
                let text = String::from_utf8_lossy(payload.of(&self.input.text)).into_owned();
                self.records.push((batch.first + u64::from(*index), text));
            }
            self.faults.extend(batch.faults.iter().map(|(number, _)| *number));
            self.input.forget_settled();
        }
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut out = vec![0; compressor.gzip_compress_bound(data.len())];
    let written = compressor.gzip_compress(data, &mut out).expect("room");
    out.truncate(written);
    out
}

#[test]
fn lines_are_gathered_as_they_are_complete() {
    let mut world = World::new("");
    world.send(b"1\n\n2\nx\n{\"a\":");
    assert_eq!(world.records, [(1, "1".to_owned()), (3, "2".to_owned())]);
    assert_eq!(world.faults, [4]);
    world.send(b"3}\n4");
    assert_eq!(world.records.last(), Some(&(5, "{\"a\":3}".to_owned())));
    assert_eq!((world.input.end(), world.input.next_line()), (None, 6));
    world.end(Ok(()));
    assert_eq!(world.records.last(), Some(&(6, "4".to_owned())));
    assert_eq!((world.input.end(), world.input.next_line()), (Some(Ok(())), 7));
}

#[test]
fn the_end_of_a_body_that_broke_off_is_no_line() {
    for coding in ["", "gzip"] {
        let mut world = World::new(coding);
        let body = b"1\n2\n3".as_slice();
        world.send(&if coding.is_empty() { body.to_vec() } else { gzip(body) });
        world.end(Err(Reject::RequestTimeout));
        assert_eq!(world.records.len(), 2, "{coding}");
        assert_eq!((world.input.end(), world.input.next_line()), (Some(Err(Reject::RequestTimeout)), 3), "{coding}");
    }
    // A body that ends within its coding is cut off, however it was framed.
    let mut world = World::new("gzip");
    let body = gzip(b"1\n2\n3");
    world.send(&body[..body.len() - 1]);
    world.end(Ok(()));
    assert!(matches!(world.input.end(), Some(Err(Reject::CorruptEncoding(_)))), "{:?}", world.input.end());
    assert_eq!(world.records.len(), 2);
}

#[test]
fn a_stream_of_any_length_is_held_in_bounded_memory() {
    let short: String = (0..200_000).map(|number: u32| number.to_string() + "\n").collect();
    let long = format!("\"{}\"\n", "x".repeat(STREAM_LINE_BYTES_MAX - 2));
    let too_long = format!("\"{}\"\n", "x".repeat(4 * STREAM_LINE_BYTES_MAX));
    for (coding, body, records, faults) in [
        ("", short.as_bytes().to_vec(), 200_000, 0),
        ("gzip", gzip(short.as_bytes()), 200_000, 0),
        ("", [&long, &short, &long].map(String::as_bytes).concat(), 200_002, 0),
        ("gzip", gzip(&[&short, &long].map(String::as_bytes).concat()), 200_001, 0),
        ("", [too_long.as_bytes(), b"1\n"].concat(), 1, 1),
        ("gzip", gzip(&[too_long.as_bytes(), b"1\n"].concat()), 1, 1),
        ("gzip", gzip(&[vec![b'\n'; 32 << 20], b"1\n".to_vec()].concat()), 1, 0),
        ("", b"x\n".repeat(300_000), 0, 300_000),
    ] {
        let mut world = World::new(coding);
        world.send(&body);
        world.end(Ok(()));
        assert_eq!(world.input.end(), Some(Ok(())));
        assert_eq!((world.records.len(), world.faults.len()), (records, faults));
        assert!(world.batch_most <= STREAM_BATCH_RECORDS_MAX);
        assert!(world.held_most <= PRODUCE_STREAM_BYTES_MAX, "{}", world.held_most);
        let numbers: Vec<u64> = world.records.iter().map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted());
    }
}

#[test]
fn without_memory_the_stream_ends_and_says_so() {
    let budget = Budget::new(1_000);
    let (sink, source) = pipe(STREAM_BUFFER_BYTES);
    let mut input = Input::new(source, Codings::default(), Framing::Lines, 1, usize::MAX, budget.hold());
    sink.write(|buffer| buffer.extend_from_slice(b"1\n"));
    assert!(input.feed.poll_read(&mut Context::from_waker(Waker::noop())).is_ready());
    let mut batch = Batch::default();
    assert!(input.gather(&mut batch, &|| false) && batch.is_empty());
    assert!(matches!(input.end(), Some(Err(Reject::Overloaded(_)))));
    assert_eq!(input.next_line(), 1);
}
