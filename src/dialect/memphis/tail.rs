//! `GET /stations/<name>/tail`: what is stored, as server-sent events, for as long as the client stays.
//!
//! A client that is slow is not written ahead of: the next records are read from the store when it has taken those before.
//! Every event says where to go on, so a client that was cut off comes back and misses nothing. An end that the gateway
//! decides on is an event as well, `end`, with the reason; after it the body is complete.

use super::{
    Memphis,
    cursor::{Wanted, write_cursor},
    records, reply, route,
};
use crate::{
    auth::Principal,
    consume::{Begin, Bounds, Piece, Step, Tail},
    dialect::{Body, BodyStream, Broken, Ended, NewStream, OpenStream, Reply, Request, Sink},
    limits::{STREAM_BUFFER_BYTES, TAIL_QUIET, TAIL_READ_BYTES_MAX, TAIL_READ_RECORDS_MAX, TAIL_RETRY_MS},
    metrics::ShardMetrics,
    reject::{Action, Reject},
    station::Name,
    wire::{http::Fields, sse},
};
use serde_json::json;
use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll};

/// Nothing between may keep or gather what is sent (`X-Accel-Buffering` is what nginx heeds).
const FIELDS: Fields = Fields::of(
    "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n\
    Access-Control-Allow-Origin: *\r\nVary: Origin\r\n",
);
/// The same for all: readers that are at the same place share their reads.
const BOUNDS: Bounds = Bounds { records: TAIL_READ_RECORDS_MAX, bytes: TAIL_READ_BYTES_MAX };

/// An admitted call that reads by place.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) station: Name,
    pub(super) principal: Rc<Principal>,
}

impl Memphis {
    /// Answers with a stream of events.
    pub(super) async fn tail(&self, call: &Call, request: &Request<'_>) -> Reply {
        self.follow(call, request).await.unwrap_or_else(|reject| reply::reject(&reject, route::TAIL))
    }

    async fn follow(&self, call: &Call, request: &Request<'_>) -> Result<Reply, Reject> {
        let query = request.head.query.map(|query| query.of(request.bytes));
        let last_event_id = request.head.field(request.bytes, "last-event-id");
        let Wanted { begin, partition, limit } = Wanted::of(query, last_event_id, Begin::New)?;
        let services = &self.services;
        let credential = super::credential_of(request).ok_or(Reject::Unauthorized)?;
        let stream = services.open_streams.open(NewStream {
            credential: &credential,
            principal: &call.principal,
            action: Action::Consume,
            station: &call.station,
            route: route::TAIL,
        })?;
        let tail =
            Tail::open(&services.reader, &call.station, partition, &begin, services.limits.hold).await?.sharing();
        let metrics = Arc::clone(&services.ingest.metrics);
        let follow = Follow { tail, stream, left: limit, id: String::new(), metrics };
        let body = BodyStream::new(STREAM_BUFFER_BYTES, |sink| follow.run(sink));
        Ok(Reply { body: Body::Stream(body), ..Reply::new(200, FIELDS, route::TAIL) })
    }
}

/// A tail that is sent.
struct Follow {
    tail: Tail,
    stream: OpenStream,
    /// Records that are still wanted, if they are counted.
    left: Option<u64>,
    /// Where the client goes on.
    id: String,
    metrics: Arc<ShardMetrics>,
}

/// Why a tail stops.
enum Stop {
    /// The client has left.
    Left,
    /// The gateway ends it: with this reason, and whether to connect again is of use.
    End(String, bool),
}

impl From<Broken> for Stop {
    fn from(_: Broken) -> Self {
        Self::Left
    }
}

impl From<Ended> for Stop {
    fn from(why: Ended) -> Self {
        match why {
            Ended::Revoked(reject) => Self::End(reject.to_string(), false),
            Ended::Draining => Self::End(Reject::Draining.to_string(), true),
        }
    }
}

impl Follow {
    async fn run(mut self, sink: Sink) -> Result<(), Broken> {
        sink.write(|out| {
            sse::retry(out, TAIL_RETRY_MS);
            sse::comment(out, "tail");
        });
        self.set_id();
        let Err(stop) = self.send(&sink).await;
        let Stop::End(reason, retry) = stop else { return Err(Broken) };
        let end = json!({"reason": reason, "retry": retry}).to_string();
        sink.write(|out| sse::event(out, &self.id, Some("end"), |out| out.extend_from_slice(end.as_bytes())));
        sink.end(Ok(()));
        Ok(())
    }

    /// Sends what comes, until something ends it.
    async fn send(&mut self, sink: &Sink) -> Result<std::convert::Infallible, Stop> {
        loop {
            match self.next(sink).await? {
                Step::Piece(piece) => self.write(sink, &piece).await?,
                Step::Quiet => sink.write(|out| sse::comment(out, "quiet")),
                Step::Draining => return Err(Ended::Draining.into()),
            }
        }
    }

    /// Waits for what comes next, unless the client leaves or the tail has to end.
    async fn next(&mut self, sink: &Sink) -> Result<Step, Stop> {
        let Self { tail, stream, .. } = self;
        let (mut closed, mut next) = (pin!(sink.closed()), pin!(tail.next(BOUNDS, TAIL_QUIET)));
        poll_fn(|context| {
            if let Poll::Ready(why) = stream.poll_ended(context) {
                return Poll::Ready(Err(why.into()));
            }
            if closed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Stop::Left));
            }
            next.as_mut().poll(context).map_err(|reject| {
                let retry = reject.retry_after().is_some();
                Stop::End(reject.to_string(), retry)
            })
        })
        .await
    }

    /// Writes records as the client takes them. The page is held until it has taken them all.
    async fn write(&mut self, sink: &Sink, piece: &Piece) -> Result<(), Stop> {
        if let Some(gap) = &piece.gap {
            self.pass(piece, gap.end);
            self.metrics.read_gaps.increment();
            let (partition, from, to) = (piece.partition, gap.start, gap.end.saturating_sub(1));
            let data = json!({"partition": partition, "from": from, "to": to}).to_string();
            sink.write(|out| sse::event(out, &self.id, Some("gap"), |out| out.extend_from_slice(data.as_bytes())));
        }
        for (record, element) in piece.page.records.iter().zip(records::elements(piece)) {
            sink.room().await?;
            self.pass(piece, record.sequence.saturating_add(1));
            sink.write(|out| sse::event(out, &self.id, None, |out| element.encode(out)));
            self.metrics.records_read.increment();
            self.metrics.record_bytes_read.add((element.payload.len() + element.headers.len()) as u64);
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    return Err(Stop::End("the limit is reached".into(), false));
                }
            }
        }
        self.pass(piece, piece.page.next);
        Ok(sink.room().await?)
    }

    fn pass(&mut self, piece: &Piece, next: u64) {
        self.tail.pass(piece, next);
        self.set_id();
    }

    fn set_id(&mut self) {
        self.id.clear();
        write_cursor(self.tail.places(), &mut self.id);
    }
}
