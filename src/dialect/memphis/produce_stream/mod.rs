//! `POST /stations/<name>/produce/stream`: lines in, receipts out while lines still come (ADR 42).
//!
//! One future per stream takes turns: it gathers the complete lines that are there into a batch, stores them by the same
//! `ingest.produce` that a batch request goes by, and writes a receipt for each. While a batch is stored the next lines are
//! read. There is one batch in flight, never two: of two, a refused record of the first could be stored again behind
//! the second.
//!
//! Invariants: a receipt is written when its record is acknowledged, and not before; receipts have the order of their lines; what was
//! not received in whole is not stored.

mod input;
mod params;
mod report;
#[cfg(test)]
mod tests;

use super::{Memphis, produce, reply, route};
use crate::{
    auth::Principal,
    dialect::{Body, BodyStream, Broken, Ended, OpenStream, Reply, Request, Services, Sink, Source},
    ingest::{Encoding, Produce, Produced},
    limits::{STREAM_BUFFER_BYTES, STREAM_LINE_BYTES_MAX, STREAM_RECEIPTS_BYTES},
    record::{MessageId, Outcome, Records, message_id},
    reject::Reject,
    station::Name,
    wire::{content_encoding::Codings, json_lines::Framing},
};
use input::{Batch, Input};
use params::Parameters;
use report::Report;
use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

/// An admitted stream.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) station: Name,
    /// How the body is compressed.
    pub(super) codings: Codings,
    /// How its lines are kept apart.
    pub(super) framing: Framing,
    /// Who sends it.
    pub(super) principal: Rc<Principal>,
    /// Its place among the streams.
    pub(super) open: OpenStream,
}

/// Returns how the lines of a stream of this media type (lower-cased, without parameters) are kept apart; `None`: the
/// route does not take it.
pub(super) fn framing_of(media_type: Option<&str>) -> Option<Framing> {
    match media_type {
        None => Some(Framing::Lines),
        Some(kind) => produce::framing_of(kind),
    }
}

impl Memphis {
    /// Begins a stream. What can be refused is refused here; from then on the answer is 200, and its last line says how
    /// the stream ended.
    pub(super) async fn produce_stream(&self, call: Call, request: &Request<'_>, source: Source) -> Reply {
        match self.begin_stream(call, request, source).await {
            Ok((stream, window)) => {
                let body = BodyStream::new(STREAM_BUFFER_BYTES, |sink| stream.run(sink));
                let mut reply = reply::ndjson(route::PRODUCE_STREAM);
                reply.fields.push("Sluicegate-Idempotency-Window", seconds(window).as_bytes());
                Reply { body: Body::Stream(body), ..reply }
            }
            Err(reject) => reply::reject(&reject, route::PRODUCE_STREAM),
        }
    }

    async fn begin_stream(
        &self,
        call: Call,
        request: &Request<'_>,
        source: Source,
    ) -> Result<(Stream, Duration), Reject> {
        let Call { station: name, codings, framing, principal, open } = call;
        let ingest = &self.services.ingest;
        let Parameters { receipts, first_line } =
            Parameters::of(request.head.query.map(|query| query.of(request.bytes)))?;
        let id = message_id::of_fields(|name| request.head.field(request.bytes, name))?;
        let id = id.as_deref().map(message_id::of_lines);
        let mut headers = Vec::new();
        ingest.policy.select(&request.head.fields(request.bytes), true, &mut headers)?;
        let station = ingest.directory.station(&name, true, request.now.instant).await?;
        let line_bytes_max = station.record_bytes_max.map_or(STREAM_LINE_BYTES_MAX, |most| most as usize);
        let input = Input::new(source, codings, framing, first_line, line_bytes_max, ingest.budget.hold());
        let (services, report) = (Rc::clone(&self.services), Report::new(receipts));
        let stream =
            Stream { services, open, name, principal, headers, id, input, report, first_line, out: Vec::new() };
        Ok((stream, station.duplicate_window))
    }
}

/// A stream that has begun.
#[derive(Debug)]
struct Stream {
    services: Rc<Services>,
    open: OpenStream,
    name: Name,
    principal: Rc<Principal>,
    /// Header fields stored with every record.
    headers: Vec<u8>,
    /// The base of the lines' message ids.
    id: Option<String>,
    input: Input,
    report: Report,
    first_line: u64,
    /// What was not written of the answer.
    out: Vec<u8>,
}

impl Stream {
    /// Serves the stream to its end, and says how it ended.
    async fn run(mut self, sink: Sink) -> Result<(), Broken> {
        let broken = self.serve(&sink).await?;
        self.report.summary(&mut self.out, self.first_line, self.input.next_line(), broken.as_ref());
        self.write(&sink).await?;
        sink.end(Ok(()));
        Ok(())
    }

    /// Settles lines until there are no more. Returns why that is before the end of the body, if it is. In between no
    /// line is on its way: each that was found has its receipt.
    async fn serve(&mut self, sink: &Sink) -> Result<Option<Reject>, Broken> {
        loop {
            match self.open.end() {
                Some(Ended::Draining) => return Ok(Some(Reject::Draining)),
                Some(Ended::Revoked(why)) => return Ok(Some(why)),
                None => {}
            }
            let mut batch = self.gather().await;
            if batch.is_empty() {
                if let Some(end) = self.input.end() {
                    return Ok(end.err());
                }
                self.wait(sink).await?;
                continue;
            }
            let produced = self.store(&mut batch).await;
            self.answer(sink, batch, produced).await?;
            self.input.forget_settled();
        }
    }

    /// Gathers the lines that are there, in time slices.
    async fn gather(&mut self) -> Batch {
        let mut batch = Batch::default();
        let Self { services, input, .. } = self;
        // Nothing in it fails.
        let _ = services.ingest.in_time_slices(|is_over| Ok(input.gather(&mut batch, is_over))).await;
        batch
    }

    /// Waits until more has come, or the stream must end, or its client has left.
    async fn wait(&mut self, sink: &Sink) -> Result<(), Broken> {
        let Self { input, open, .. } = self;
        let mut closed = pin!(sink.closed());
        poll_fn(|context| {
            if input.feed.poll_read(context).is_ready() || open.poll_ended(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            closed.as_mut().poll(context).map(|()| Err(Broken))
        })
        .await
    }

    /// Stores the records of a batch, and reads on meanwhile. An error means that none of them is stored.
    async fn store(&mut self, batch: &mut Batch) -> Result<Produced, Reject> {
        let Self { services, name, principal, headers, id, input, .. } = self;
        let ingest = &services.ingest;
        let payloads = std::mem::take(&mut batch.payloads);
        let id = id.as_deref().map(|base| MessageId { base, numbered: Some(batch.first) });
        let Input { feed, text, .. } = input;
        let indexes = Some(batch.indexes.as_slice());
        let records = Records { headers: headers.as_slice(), id, indexes, ..Records::of(text.as_slice(), payloads) };
        let produce = Produce {
            station: name,
            create: true,
            encoding: Encoding::Json,
            strict: false,
            receipts: false,
            principal: principal.label(),
            now: ingest.now(),
        };
        let mut work = pin!(ingest.produce(&produce, records, ingest.budget.hold()));
        poll_fn(|context| {
            let produced = work.as_mut().poll(context);
            if produced.is_pending() {
                feed.read_ahead(context);
            }
            produced
        })
        .await
    }

    /// Writes what became of the lines of a batch, in their order.
    async fn answer(&mut self, sink: &Sink, batch: Batch, produced: Result<Produced, Reject>) -> Result<(), Broken> {
        let Batch { first, indexes, faults, .. } = batch;
        let mut faults = faults.iter().peekable();
        for (at, index) in indexes.iter().enumerate() {
            let line = first + u64::from(*index);
            while let Some((line, why)) = faults.next_if(|(fault, _)| *fault < line) {
                self.report.failed(&mut self.out, *line, why);
                self.write_much(sink).await?;
            }
            match &produced {
                Ok(Produced { outcomes, station, .. }) => {
                    let missing = Outcome::Failed(Reject::Internal("a record without an outcome"));
                    let outcome = outcomes.get(at).unwrap_or(&missing);
                    self.report.outcome(&mut self.out, line, outcome, &station.partitions);
                }
                Err(why) => self.report.failed(&mut self.out, line, why),
            }
            self.write_much(sink).await?;
        }
        for (line, why) in faults {
            self.report.failed(&mut self.out, *line, why);
            self.write_much(sink).await?;
        }
        self.write(sink).await
    }

    /// Writes if much has gathered.
    async fn write_much(&mut self, sink: &Sink) -> Result<(), Broken> {
        if self.out.len() >= STREAM_RECEIPTS_BYTES { self.write(sink).await } else { Ok(()) }
    }

    async fn write(&mut self, sink: &Sink) -> Result<(), Broken> {
        if self.out.is_empty() {
            return Ok(());
        }
        sink.send(&self.out).await?;
        self.out.clear();
        Ok(())
    }
}

/// Returns a time in seconds, with a fraction if it has one.
fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}
