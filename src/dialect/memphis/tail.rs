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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{Authenticator, TokenKeys, Users},
        backend::{
            Backend,
            local::{Clock, StationDefaults, Store},
        },
        budget::Budget,
        consume::Reader,
        dialect::OpenStreams,
        directory::Directory,
        limits::TAIL_TROUBLE_MAX,
        rt::{clock, virtual_time},
        station::Attributes,
    };
    use std::time::Duration;

    /// What a tail sends, and when, on a shard whose control plane answers nothing.
    async fn sent_without_answers(backend: Backend) -> Vec<(Duration, String)> {
        let metrics: Arc<ShardMetrics> = Arc::default();
        let (asks, _questions) = flume::bounded(1_024);
        let directory = Rc::new(Directory::new(0, asks));
        let reader = Reader::new(directory, backend, Budget::new(1 << 30), Arc::clone(&metrics), Rc::default());
        let station = Name::parse("orders").unwrap();
        let users = Arc::new(Users::new("root", 7, []));
        let mut authenticator = Authenticator::new(0, TokenKeys::new("access key", "refresh key"), users);
        let principal = authenticator.user(1, "root", 7).unwrap();
        let new = NewStream {
            credential: b"",
            principal: &principal,
            action: Action::Consume,
            station: &station,
            route: route::TAIL,
        };
        let stream = OpenStreams::new(1, Arc::clone(&metrics)).open(new).unwrap();
        let tail = Tail::at(reader, station.clone(), 17);
        let follow = Follow { tail, stream, left: None, id: String::new(), metrics };
        let mut body = BodyStream::new(STREAM_BUFFER_BYTES, |sink| follow.run(sink));
        let (begun, mut pieces, mut piece) = (clock::now(), Vec::new(), Vec::new());
        while poll_fn(|context| body.poll_next(context, &mut piece)).await == Ok(true) {
            pieces.push((clock::since(begun), String::from_utf8(piece.clone()).unwrap()));
        }
        pieces
    }

    #[test]
    fn a_tail_shows_that_it_is_alive_and_ends_when_its_reads_fail_for_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let defaults = StationDefaults { attributes: Attributes::default(), group_expiry: None };
        // Nothing is asked of it: no thread of it has a part in this.
        let store = Store::open(&dir.path().join("data"), defaults, Clock::system()).unwrap();
        let backend = Backend::Local(Rc::new(store.handle()));
        let pieces = virtual_time::run(sent_without_answers(backend));
        let (first, rest) = pieces.split_first().unwrap();
        assert_eq!(*first, (Duration::ZERO, "retry: 1000\n\n: tail\n\n".to_owned()));
        let (end, quiet) = rest.split_last().unwrap();
        for ((after, text), number) in quiet.iter().zip(1_u32..) {
            assert_eq!(text, ": quiet\n\n");
            let due = number * TAIL_QUIET;
            assert!((due..due + Duration::from_secs(1)).contains(after), "number {number} comes after {after:?}");
        }
        let expect =
            format!("id: 0:17\nevent: end\ndata: {{\"reason\":\"{}\",\"retry\":true}}\n\n", Reject::ControlTimeout);
        assert_eq!(end.1, expect);
        assert!(end.0 >= TAIL_TROUBLE_MAX && end.0 < TAIL_TROUBLE_MAX + 3 * TAIL_QUIET, "{:?}", end.0);
        assert!(quiet.len() >= 19, "{} comments", quiet.len());
    }
}
