//! The body of a stream on its way to records: read ahead, decoded, divided into lines, gathered into batches.
//!
//! Everything is bounded. What is read ahead waits in `raw` while a batch is stored; what is decoded lies in `text` until
//! the lines in it are settled. What does not fit stays in the connection, and so with the client.

use crate::{
    budget::Held,
    dialect::Source,
    limits::{
        STREAM_AHEAD_BYTES_MAX, STREAM_BATCH_BYTES_MAX, STREAM_BATCH_RECORDS_MAX, STREAM_BUFFER_BYTES,
        STREAM_LINE_BYTES_MAX,
    },
    reject::Reject,
    wire::{
        Span,
        content_encoding::{Codings, PieceDecoder, Step},
        json_lines::{Framing, JsonLines, Line},
    },
};
use std::{
    pin::pin,
    task::{Context, Poll},
};

/// Lines that a batch may go on for, blank ones included: the ids of its records are numbered from the first one.
const BATCH_LINES: u64 = 16 * STREAM_BATCH_RECORDS_MAX as u64;
/// Lines between two looks at the clock.
const LINES_AT_ONCE: usize = 64;
/// A buffer that has grown for a long line is given back.
const TEXT_BYTES_KEPT: usize = 2 * STREAM_BATCH_BYTES_MAX;

/// Lines that are settled together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The records, in the text.
    pub(super) payloads: Vec<Span>,
    /// The number of the first record's line.
    pub(super) first: u64,
    /// The number of each record's line, counted from `first`.
    pub(super) indexes: Vec<u32>,
    /// Lines that are no records, and why.
    pub(super) faults: Vec<(u64, Reject)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.indexes.is_empty() && self.faults.is_empty()
    }

    fn push(&mut self, line: Line) {
        match line.text {
            Ok(payload) => {
                if self.indexes.is_empty() {
                    self.first = line.number;
                }
                // A batch has no more lines than `BATCH_LINES`.
                let index = u32::try_from(line.number - self.first).unwrap_or(u32::MAX);
                self.payloads.push(payload);
                self.indexes.push(index);
            }
            Err(reject) => self.faults.push((line.number, reject)),
        }
    }

    fn is_full(&self, next_line: u64) -> bool {
        self.indexes.len() >= STREAM_BATCH_RECORDS_MAX
            || self.faults.len() >= STREAM_BATCH_RECORDS_MAX
            || (!self.indexes.is_empty() && next_line - self.first >= BATCH_LINES)
    }

    fn bytes(&self) -> usize {
        self.payloads.capacity() * size_of::<Span>()
            + self.indexes.capacity() * size_of::<u32>()
            + self.faults.capacity() * size_of::<(u64, Reject)>()
    }
}

/// What came and was not decoded.
#[derive(Debug)]
pub(super) struct Feed {
    source: Source,
    /// What the source yielded last.
    piece: Vec<u8>,
    /// From `at` on it was not decoded.
    raw: Vec<u8>,
    at: usize,
    /// How the body has ended, once it has.
    end: Option<Result<(), Reject>>,
}

impl Feed {
    /// Reads once. Ready when something came, or the body has ended.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        // The wait holds nothing: it may be dropped and begun again.
        let Poll::Ready(read) = pin!(self.source.read(&mut self.piece)).poll(context) else { return Poll::Pending };
        match read {
            Ok(true) if self.raw.is_empty() => std::mem::swap(&mut self.raw, &mut self.piece),
            Ok(true) => self.raw.extend_from_slice(&self.piece),
            Ok(false) => self.end = Some(Ok(())),
            Err(reject) => self.end = Some(Err(reject)),
        }
        Poll::Ready(())
    }

    /// Reads what is there, as far as there is room. Leaves a waker for what comes.
    pub(super) fn read_ahead(&mut self, context: &mut Context<'_>) {
        while self.end.is_none() && self.raw.len() < STREAM_AHEAD_BYTES_MAX && self.poll_read(context).is_ready() {}
    }

    fn rest(&self) -> &[u8] {
        self.raw.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at >= self.raw.len() {
            self.raw.clear();
            self.at = 0;
            // Only what was read ahead is this large.
            self.raw.shrink_to(2 * STREAM_BUFFER_BYTES);
        }
    }
}

/// The body of a stream.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) feed: Feed,
    decoder: Option<PieceDecoder>,
    /// Decoded lines that are not settled, and what was decoded of the next one.
    pub(super) text: Vec<u8>,
    lines: JsonLines,
    /// The text ends with the body.
    is_complete: bool,
    /// Why the rest of the body is of no use: it does not decode, or there is no memory for it.
    broken: Option<Reject>,
    held: Held,
}

impl Input {
    /// Returns the body that `source` yields. Its first line has the number `first_line`; lines are at most `line_bytes_max`
    /// long. `held` counts what it takes.
    pub(super) fn new(
        source: Source,
        codings: Codings,
        framing: Framing,
        first_line: u64,
        line_bytes_max: usize,
        held: Held,
    ) -> Self {
        let feed = Feed { source, piece: Vec::new(), raw: Vec::new(), at: 0, end: None };
        let lines = JsonLines::new(framing, first_line, line_bytes_max.min(STREAM_LINE_BYTES_MAX));
        let decoder = codings.piece_decoder();
        Self { feed, decoder, text: Vec::new(), lines, is_complete: false, broken: None, held }
    }

    /// Returns the number of the line that comes next.
    pub(super) fn next_line(&self) -> u64 {
        self.lines.next_number()
    }

    /// Returns how the body has ended, once all of it that is of use was gathered.
    pub(super) fn end(&self) -> Option<Result<(), Reject>> {
        if self.is_complete {
            return Some(Ok(()));
        }
        self.broken.clone().map(Err)
    }

    /// Gathers lines that are there, until the batch is full or `is_over`. Returns whether there are no more for it.
    pub(super) fn gather(&mut self, batch: &mut Batch, is_over: &dyn Fn() -> bool) -> bool {
        let mut found = 0_usize;
        loop {
            while let Some(line) = self.lines.next(&self.text, self.is_complete) {
                batch.push(line);
                found += 1;
                if self.is_full(batch) {
                    return true;
                }
                if found.is_multiple_of(LINES_AT_ONCE) && is_over() {
                    return false;
                }
            }
            if batch.indexes.is_empty() {
                self.forget_settled();
            }
            if self.is_full(batch) || self.is_complete || self.broken.is_some() || !self.decode(batch.bytes()) {
                return true;
            }
            if is_over() {
                return false;
            }
        }
    }

    fn is_full(&self, batch: &Batch) -> bool {
        let has_records = !batch.indexes.is_empty();
        batch.is_full(self.next_line()) || (has_records && self.lines.done() >= STREAM_BATCH_BYTES_MAX)
    }

    /// Drops the text of lines that are settled.
    pub(super) fn forget_settled(&mut self) {
        let done = self.lines.done();
        self.text.drain(..done.min(self.text.len()));
        self.lines.removed(done);
        if self.text.capacity() > TEXT_BYTES_KEPT && self.text.len() < STREAM_BATCH_BYTES_MAX {
            self.text.shrink_to(STREAM_BATCH_BYTES_MAX);
        }
        let bytes = self.bytes();
        self.held.shrink_to(bytes);
    }

    /// Decodes more of what came. `false`: there is nothing, or it is of no use.
    fn decode(&mut self, beside: usize) -> bool {
        let more = if self.decoder.is_some() { PieceDecoder::STEP_BYTES } else { self.feed.rest().len() };
        if let Err(reject) = self.make_room(more, beside) {
            self.broken = Some(reject);
            return false;
        }
        let (input, is_last) = (self.feed.rest(), self.feed.end == Some(Ok(())));
        let step = match &mut self.decoder {
            None => {
                self.text.extend_from_slice(input);
                Ok(Step { taken: input.len(), has_moved: !input.is_empty(), is_complete: is_last })
            }
            Some(decoder) => decoder.step(input, is_last, &mut self.text),
        };
        match step {
            Ok(Step { taken, has_moved, is_complete }) => {
                self.feed.take(taken);
                self.is_complete = is_complete;
                if let (false, false, Some(Err(reject))) = (has_moved, is_complete, &self.feed.end) {
                    self.broken = Some(reject.clone());
                }
                has_moved || is_complete
            }
            Err(reject) => {
                self.broken = Some(reject);
                false
            }
        }
    }

    /// Makes room for more text, and counts it.
    fn make_room(&mut self, more: usize, beside: usize) -> Result<(), Reject> {
        let needed = self.text.len() + more;
        if needed > self.text.capacity() {
            // A long line does not move with every piece of it.
            let room = needed.max(self.text.capacity() + self.text.capacity() / 2).max(STREAM_BUFFER_BYTES);
            self.held.grow_to(self.bytes() + beside + room - self.text.capacity())?;
            self.text.reserve_exact(room - self.text.len());
        }
        self.held.grow_to(self.bytes() + beside)
    }

    /// Returns the bytes that are held.
    fn bytes(&self) -> usize {
        self.text.capacity()
            + self.feed.raw.capacity()
            + self.feed.piece.capacity()
            + self.decoder.as_ref().map_or(0, PieceDecoder::bytes)
    }
}
