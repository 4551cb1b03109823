//! Reads by place: Direct Get, of any server that has the stream; where the stream does not allow that, its leader is
//! asked for one record at a time.
//!
//! A server that follows may lag behind: it says "no such record" of one that is acknowledged. So that word is believed
//! only if the leader says the same, and a page never skips what it has not seen.
//!
//! No consumer is made. What comes is found out by asking now and then, one watch for all of a shard who wait on a
//! station (ADR 37).

use super::{
    bus::{Failure, Gathered, Replies, Reply, Request, Verdict},
    connection::Connection,
};
use crate::{
    backend::{Bounds, Page, Read, Start},
    limits::{
        DIRECT_GET_BYTES_MAX, DIRECT_GET_PLACE_BYTES_MAX, DIRECT_GET_RECORDS_MAX, DIRECT_GET_TIMEOUT,
        DIRECT_GETS_PER_SHARD_MAX, SINGLE_GETS_PER_READ_MAX, STREAM_INFO_BYTES_MAX, WATCH_INTERVAL_MAX,
        WATCH_INTERVAL_MIN, WATCH_PARTITIONS_AT_ONCE,
    },
    reject::{Reject, SizeLimit},
    rt::{self, Waiters, clock},
    station::{DirectGet, Partition, Station},
    wire::{
        jetstream::get::{ApiError, DIRECT_GET, DirectReply, Get, MSG_GET, STREAM_INFO, StoredMessage, StreamState},
        time::rfc3339,
    },
};
use futures_util::future::join_all;
use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A record that was found.
struct Found {
    sequence: u64,
    time_ms: u64,
    fields: Vec<u8>,
    payload: Vec<u8>,
}

/// How a request for many records ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There is nothing behind what came.
    End,
    /// There may be more.
    More,
    /// The page is full.
    Full,
    /// The server knows no batches: it has sent one record, from the sequence that was asked for. Or nobody answers direct
    /// gets: records are to be asked for one by one.
    Single,
}

/// The requests of one connection that may each bring much at a time.
#[derive(Debug, Default)]
pub(super) struct Gets {
    open: Cell<usize>,
    left: Waiters,
}

/// A place among them.
struct Place<'a>(&'a Gets);

impl Gets {
    /// Waits for a place, for `hold` at most.
    async fn enter(&self, hold: Duration) -> Result<Place<'_>, Reject> {
        let has_room = || (self.open.get() < DIRECT_GETS_PER_SHARD_MAX).then_some(());
        self.left.wait_for(hold, has_room).await.map_err(|_| Reject::Overloaded("the number of reads at a time"))?;
        self.open.set(self.open.get() + 1);
        Ok(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.left.wake_all();
    }
}

impl Connection {
    /// Reads records by place. May be dropped at any point.
    pub async fn read_page(&self, read: &Read<'_>) -> Result<Page, Reject> {
        let source = Source::of(self, read.station, read.partition).ok_or(Reject::NoStream)?;
        source.page(read.start, &read.bounds).await
    }
}

/// The stream of one partition.
#[derive(Clone, Copy)]
struct Source<'a> {
    connection: &'a Connection,
    partition: &'a Partition,
    is_direct: bool,
}

impl<'a> Source<'a> {
    fn of(connection: &'a Connection, station: &'a Station, partition: u16) -> Option<Self> {
        let partition = station.partitions.get(usize::from(partition))?;
        Some(Self { connection, partition, is_direct: station.direct_get == DirectGet::Allowed })
    }

    async fn page(&self, start: Start, bounds: &Bounds) -> Result<Page, Reject> {
        let mut page = Page::default();
        let asked = match start {
            Start::First => 1,
            Start::Sequence(sequence) => sequence.max(1),
            Start::New => {
                let state = self.state().await?;
                return Ok(Page { next: state.last + 1, kept: Some(kept(state)), ..page });
            }
            Start::Since(time_ms) => match self.since(time_ms, bounds, &mut page).await? {
                Some(asked) => asked,
                None => return Ok(page),
            },
        };
        self.fill(asked, bounds, &mut page).await?;
        if page.records.is_empty() {
            self.look_behind(asked, bounds, &mut page).await?;
        }
        if page.kept.is_none() && page.misses(start) {
            page.kept = Some(kept(self.state().await?));
        }
        Ok(page)
    }

    /// Begins a page with the first record that was stored at that time or later. Returns where to go on; `None`: the page
    /// is complete.
    async fn since(&self, time_ms: u64, bounds: &Bounds, page: &mut Page) -> Result<Option<u64>, Reject> {
        let round = if self.is_direct { self.batch_since(time_ms, bounds, page).await? } else { Round::Single };
        match round {
            Round::Single => self.first_since(time_ms).await.map(Some),
            Round::More => Ok(Some(page.next)),
            Round::End if page.records.is_empty() => self.none_since(time_ms, page).await,
            Round::End | Round::Full => Ok(None),
        }
    }

    /// No record is as new as that, says a server that may lag behind: asks the leader. Returns where to go on; `None`: the page
    /// is complete.
    async fn none_since(&self, time_ms: u64, page: &mut Page) -> Result<Option<u64>, Reject> {
        let state = self.state().await?;
        let is_true = state.first > state.last
            || self.of_leader(state.last).await?.is_some_and(|newest| newest.time_ms < time_ms);
        if !is_true {
            return self.first_since(time_ms).await.map(Some);
        }
        *page = Page { next: state.last + 1, kept: Some(kept(state)), ..Page::default() };
        Ok(None)
    }

    /// Adds records until the page is full or there are no more.
    async fn fill(&self, asked: u64, bounds: &Bounds, page: &mut Page) -> Result<(), Reject> {
        let deadline = clock::now() + DIRECT_GET_TIMEOUT;
        let mut singles = 0;
        let mut is_single = !self.is_direct;
        page.next = page.next.max(asked);
        while !page.is_full(bounds) && clock::now() < deadline && singles < SINGLE_GETS_PER_READ_MAX {
            let before = page.records.len();
            let round = if is_single { self.single(bounds, page).await } else { self.batch(bounds, page).await };
            match round {
                Ok(Round::Single) => {
                    is_single = true;
                    singles += 1;
                }
                Ok(Round::More) if page.records.len() > before => {}
                Ok(Round::More | Round::End | Round::Full) => return Ok(()),
                // What has come is good; the next read says what is wrong.
                Err(_) if before > 0 => return Ok(()),
                Err(reject) => return Err(reject),
            }
        }
        Ok(())
    }

    /// Nothing was found from `asked` on: finds out whether nothing is there, and where to go on.
    async fn look_behind(&self, asked: u64, bounds: &Bounds, page: &mut Page) -> Result<(), Reject> {
        let state = self.state().await?;
        if asked <= state.last {
            match self.of_leader(asked).await? {
                Some(found) => {
                    found.push(bounds, page);
                    return Ok(());
                }
                // What is left up to there was removed, or is of other subjects.
                None => page.next = state.last + 1,
            }
        }
        page.kept = Some(kept(state));
        Ok(())
    }

    /// Returns the sequence of the first record that was stored at that time or later, as the leader has it; behind the last one
    /// if there is none.
    async fn first_since(&self, time_ms: u64) -> Result<u64, Reject> {
        let state = self.state().await?;
        let (mut low, mut high) = (state.first, state.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.of_leader(middle).await? {
                Some(found) if found.time_ms < time_ms => low = found.sequence.max(middle) + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Asks for one record behind those of the page.
    async fn single(&self, bounds: &Bounds, page: &mut Page) -> Result<Round, Reject> {
        Ok(match self.one(page.next).await? {
            Some(found) if found.sequence < page.next => Round::End,
            Some(found) if found.push(bounds, page) => Round::Single,
            Some(_) => Round::Full,
            None => Round::End,
        })
    }

    /// Asks for records behind those of the page.
    async fn batch(&self, bounds: &Bounds, page: &mut Page) -> Result<Round, Reject> {
        self.many(Get::one(page.next, &self.partition.subject), bounds, page).await
    }

    /// Asks for records from a time on. One record that comes alone is no answer.
    async fn batch_since(&self, time_ms: u64, bounds: &Bounds, page: &mut Page) -> Result<Round, Reject> {
        let get = Get { seq: None, start_time: Some(rfc3339(time_ms)), ..Get::one(0, &self.partition.subject) };
        let round = self.many(get, bounds, page).await?;
        if round == Round::Single {
            *page = Page::default();
        }
        Ok(round)
    }

    async fn many(&self, get: Get<'_>, bounds: &Bounds, page: &mut Page) -> Result<Round, Reject> {
        let left = (bounds.records.max(1) as usize).saturating_sub(page.records.len());
        let records = u32::try_from(left).unwrap_or(u32::MAX).clamp(1, DIRECT_GET_RECORDS_MAX);
        let bytes = bounds.bytes.saturating_sub(page.arena.len()).clamp(1, DIRECT_GET_BYTES_MAX);
        let payload = Get { batch: Some(records), max_bytes: Some(bytes), ..get }.payload();
        let record_bytes_max = self.connection.connected().await?.record_bytes_max;
        let replies_max = records as usize + 1;
        let _place = self.connection.gets.enter(self.connection.limits.hold).await?;
        let request = Request {
            subject: &format!("{DIRECT_GET}{}", self.partition.stream),
            headers: b"",
            payload: &payload,
            timeout: DIRECT_GET_TIMEOUT,
            replies_max,
            bytes_max: bytes.saturating_add(record_bytes_max).saturating_add(replies_max * DIRECT_GET_PLACE_BYTES_MAX),
        };
        let Gathered { replies, end } = self.connection.request_many(&request, judge).await;
        let mut round = Round::More;
        for reply in replies.iter() {
            match DirectReply::of(reply.headers) {
                Some(DirectReply::Record(record)) => {
                    if record.pending.is_none() {
                        round = Round::Single;
                    }
                    let place = (record.sequence, record.time_ms);
                    if record.sequence < page.next {
                        return Ok(Round::More);
                    }
                    if !page.push(bounds, place, record.fields, reply.payload) {
                        return Ok(Round::Full);
                    }
                }
                Some(DirectReply::End(0) | DirectReply::Absent) => return Ok(Round::End),
                Some(DirectReply::End(_)) => return Ok(Round::More),
                Some(DirectReply::Refused(code)) => {
                    return Err(Reject::BrokerFailed(format!("it refuses a direct get ({code})").into()));
                }
                None => return Err(unreadable()),
            }
        }
        match end {
            Ok(()) => Ok(round),
            Err(Failure::NoResponders) => Ok(Round::Single),
            // What has come is good, and the rest is asked for again.
            Err(_) if !page.records.is_empty() => Ok(Round::More),
            Err(failure) => Err(of_request(failure)),
        }
    }

    /// Returns the first record from a sequence on, as any server has it.
    async fn one(&self, sequence: u64) -> Result<Option<Found>, Reject> {
        if !self.is_direct {
            return self.of_leader(sequence).await;
        }
        let place = self.connection.gets.enter(self.connection.limits.hold).await?;
        let payload = Get::one(sequence, &self.partition.subject).payload();
        let replies = match self.ask(DIRECT_GET, &payload, DIRECT_GET_PLACE_BYTES_MAX).await {
            Ok(replies) => replies,
            // Nobody listens while the stream has no leader, and where it allows no direct gets any more: its leader knows.
            Err(Failure::NoResponders) => {
                drop(place);
                return self.of_leader(sequence).await;
            }
            Err(failure) => return Err(of_request(failure)),
        };
        let Some(reply) = replies.get(0) else { return Err(unreadable()) };
        match DirectReply::of(reply.headers) {
            Some(DirectReply::Record(record)) => Ok(Some(Found {
                sequence: record.sequence,
                time_ms: record.time_ms,
                fields: record.fields.to_vec(),
                payload: reply.payload.to_vec(),
            })),
            Some(DirectReply::Absent) => Ok(None),
            _ => Err(unreadable()),
        }
    }

    /// Returns the first record from a sequence on, as the stream's leader has it.
    async fn of_leader(&self, sequence: u64) -> Result<Option<Found>, Reject> {
        let _place = self.connection.gets.enter(self.connection.limits.hold).await?;
        let payload = Get::one(sequence, &self.partition.subject).payload();
        let replies = self.ask(MSG_GET, &payload, DIRECT_GET_PLACE_BYTES_MAX).await.map_err(of_api)?;
        let Some(reply) = replies.get(0) else { return Err(unreadable()) };
        match StoredMessage::parse(reply.payload) {
            Ok(message) => {
                let (sequence, time_ms, fields) = (message.sequence, message.time_ms, message.fields().to_vec());
                Ok(Some(Found { sequence, time_ms, fields, payload: message.payload }))
            }
            Err(ApiError::Absent) => Ok(None),
            Err(error) => Err(reject(error)),
        }
    }

    /// Asks the stream's leader what it holds.
    async fn state(&self) -> Result<StreamState, Reject> {
        let replies = self.ask(STREAM_INFO, b"", STREAM_INFO_BYTES_MAX).await.map_err(of_api)?;
        let Some(reply) = replies.get(0) else { return Err(unreadable()) };
        StreamState::parse(reply.payload).map_err(reject)
    }

    /// Sends a request that has one answer: at most one record, as JSON, and so many bytes beside it.
    async fn ask(&self, api: &str, payload: &[u8], beside: usize) -> Result<Replies, Failure> {
        let record_bytes_max = self.connection.connected().await.map_err(|_| Failure::Away)?.record_bytes_max;
        let request = Request {
            subject: &format!("{api}{}", self.partition.stream),
            headers: b"",
            payload,
            timeout: DIRECT_GET_TIMEOUT,
            replies_max: 1,
            // Base64 makes four bytes of three.
            bytes_max: record_bytes_max.saturating_mul(2).saturating_add(beside),
        };
        self.connection.request(&request).await
    }
}

impl Found {
    fn push(&self, bounds: &Bounds, page: &mut Page) -> bool {
        page.push(bounds, (self.sequence, self.time_ms), &self.fields, &self.payload)
    }
}

fn kept(state: StreamState) -> std::ops::Range<u64> {
    state.first..state.last + 1
}

/// Says when a batch has come: its end is told, or the server does not know batches.
fn judge(reply: Reply<'_>) -> Verdict {
    match DirectReply::of(reply.headers) {
        Some(DirectReply::Record(record)) if record.pending.is_some() => Verdict::More,
        _ => Verdict::Last,
    }
}

/// Returns what a failed request means to a read, which can be repeated whatever became of it. (A request that changes
/// something may have done so although its answer was lost.)
fn of_request(failure: Failure) -> Reject {
    match failure {
        Failure::Away | Failure::Lost => Reject::BrokerAway,
        Failure::Full => Reject::Overloaded("the number of requests to the broker"),
        Failure::Subject => Reject::Internal("a subject that cannot be sent"),
        Failure::TooLarge(max) => Reject::TooLarge(SizeLimit::Record, max as u64),
        Failure::Forbidden(subject) => Reject::BrokerForbidden(subject),
        Failure::NoResponders => Reject::NoStream,
        Failure::TimedOut => Reject::BrokerBusy,
        Failure::Slow => Reject::Overloaded("the queue of messages from the broker"),
        Failure::Overrun => Reject::BrokerFailed("its answer is larger than was asked for".into()),
    }
}

/// Returns the same for JetStream's API: nobody listens while JetStream is away, whatever the stream.
fn of_api(failure: Failure) -> Reject {
    match failure {
        Failure::NoResponders => Reject::BrokerBusy,
        failure => of_request(failure),
    }
}

fn reject(error: ApiError) -> Reject {
    match error {
        ApiError::NoStream => Reject::NoStream,
        ApiError::Busy => Reject::BrokerBusy,
        ApiError::Absent => Reject::BrokerFailed("no such record".into()),
        ApiError::Other(text) => Reject::BrokerFailed(text.into()),
    }
}

fn unreadable() -> Reject {
    Reject::BrokerFailed("its answer to a read does not parse".into())
}

/// A shard's watch of one station: asks the broker now and then for the record behind the newest one, soon after there was
/// one and less often when it is quiet.
#[derive(Debug)]
pub struct Watch {
    connection: Rc<Connection>,
    station: Arc<Station>,
    interval: Duration,
    asked: Option<Instant>,
    /// Where the next turn begins, if not all partitions have one at a time.
    turn: usize,
}

impl Watch {
    pub(in crate::backend) fn new(connection: Rc<Connection>, station: Arc<Station>) -> Self {
        Self { connection, station, interval: WATCH_INTERVAL_MIN, asked: None, turn: 0 }
    }

    /// Waits until a partition has something at or after the sequence that is wanted of it. A broker that is away for a
    /// while has nothing new meanwhile. May be dropped at any point.
    pub async fn reached(&mut self, wanted: &[(u16, u64)]) -> Result<Vec<(u16, u64)>, Reject> {
        loop {
            if let Some(asked) = self.asked {
                rt::sleep((asked + self.interval).saturating_duration_since(clock::now())).await;
            }
            self.asked = Some(clock::now());
            let begin = self.turn.checked_rem(wanted.len()).unwrap_or(0);
            let now = wanted.iter().cycle().skip(begin).take(wanted.len().min(WATCH_PARTITIONS_AT_ONCE));
            let looks: Vec<_> = now.map(|(partition, sequence)| self.newest(*partition, *sequence)).collect();
            let found = join_all(looks).await;
            self.turn = begin + WATCH_PARTITIONS_AT_ONCE;
            let mut reached = Vec::new();
            for result in found {
                match result {
                    Ok(found) => reached.extend(found),
                    Err(Reject::NoStream) => return Err(Reject::NoStream),
                    Err(reject) => tracing::debug!(station = %self.station.name, %reject, "a watch got no answer"),
                }
            }
            if !reached.is_empty() {
                self.interval = WATCH_INTERVAL_MIN;
                return Ok(reached);
            }
            self.interval = (2 * self.interval).min(WATCH_INTERVAL_MAX);
        }
    }

    /// Returns a partition and the sequence of a record that it has at or after this one.
    async fn newest(&self, partition: u16, sequence: u64) -> Result<Option<(u16, u64)>, Reject> {
        let source = Source::of(&self.connection, &self.station, partition).ok_or(Reject::NoStream)?;
        Ok(source.one(sequence).await?.map(|found| (partition, found.sequence)))
    }
}

#[cfg(test)]
mod tests;
