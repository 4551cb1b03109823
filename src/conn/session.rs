//! A session: the part of a connection from the first byte that is there to the last answer owed.
//!
//! One buffer holds the head, then the body, then whatever was pipelined behind it; answers gather
//! in another and leave together when there is nothing more to read at once. Requests are served
//! one after the other, so records of a connection keep their order. Bodies that come in pieces are the matter of
//! [`streaming`].

mod streaming;
#[cfg(test)]
mod streaming_tests;

use super::{
    Buffers, Connections,
    deadlines::{DeadlineGuard, Pace, Phase},
    deliveries::Unconfirmed,
};
use crate::{
    budget::Held,
    dialect::{self, Admission, Admitted, BodyMode, Handout, Payload, Reply, Request, Service},
    limits::{DISCARD_BYTES_MAX, GATHER_BYTES, HEAD_EMPTY_LINES_MAX, READ_BUFFER_BYTES, WRITE_RATE_MIN},
    metrics::Route,
    reject::Reject,
    rt::{self, clock},
    transport::Transport,
    wire::{
        Span,
        http::Method,
        http1::{Body, CONTINUE, Framing, Head, HeadLimits, Progress, Response},
    },
};
use std::{net::IpAddr, time::Duration};

/// Requests and reads of one connection before other tasks get their turn.
const STEPS_IN_A_ROW: u32 = 32;
/// After an answer that closes, input is read and dropped for this long, so that the answer is not lost to a reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// The least room for a read.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Room for a body that is announced grows with what has come: this many times as much.
const ROOM_FACTOR: usize = 4;

/// What a connection does after a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The connection waits for more.
    Idle {
        /// Whether a request was served: stray line ends do not count.
        served: bool,
        /// Bytes that came in.
        received: usize,
    },
    /// The connection closes.
    Close,
}

/// Why a session cannot go on.
#[derive(Debug)]
enum Stop {
    /// The peer has closed, or the socket failed: there is nobody to answer.
    Gone,
    /// An answer is owed, and the connection closes after it.
    Rejected(Reject),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Rejected(reject)
    }
}

/// What to do after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterRequest {
    /// Look for the next one.
    Next,
    /// Nothing more is there.
    Quiet,
    /// Close, once the answer has left.
    Closing,
}

/// The state of a session.
pub(super) struct Session<'a, S, T: Transport> {
    connections: &'a Connections<S, T>,
    armed: &'a DeadlineGuard<T>,
    stream: &'a mut T,
    peer: IpAddr,
    /// Input; the current request begins at `at`.
    input: Vec<u8>,
    at: usize,
    /// Answers not written yet.
    out: Vec<u8>,
    head: Head,
    /// Whether `head` is the current request's.
    head_is_read: bool,
    /// The route that the current request is counted as.
    route: Route,
    held: Held,
    /// Bytes that came in.
    received: usize,
    /// Requests and reads so far: every so often other tasks get their turn.
    steps: u32,
    served: bool,
}

impl<'a, S: Service, T: Transport> Session<'a, S, T> {
    /// A session on a connection that has something to read. `begun` is read already.
    pub(super) fn new(
        connections: &'a Connections<S, T>,
        armed: &'a DeadlineGuard<T>,
        stream: &'a mut T,
        begun: &[u8],
    ) -> Self {
        let Buffers { head, out } = connections.lend();
        let mut input = connections.pool.lend();
        input.extend_from_slice(begun);
        Self {
            connections,
            armed,
            peer: stream.peer().ip(),
            stream,
            received: input.len(),
            input,
            at: 0,
            out,
            head,
            head_is_read: false,
            route: Route::OTHER,
            held: connections.budget.hold(),
            steps: 0,
            served: false,
        }
    }

    /// Serves the requests that are there.
    pub(super) async fn run(mut self) -> Next {
        let next = self.serve().await;
        self.connections.pool.give_back(self.input);
        self.connections.give_back(Buffers { head: self.head, out: self.out });
        next
    }

    async fn serve(&mut self) -> Next {
        self.armed.arm(Phase::Reading, clock::now() + self.connections.limits.head_timeout);
        let mut first = if self.input.is_empty() { self.read_more(0).await.map(drop) } else { Ok(()) };
        loop {
            let step = match std::mem::replace(&mut first, Ok(())) {
                Ok(()) => self.request().await,
                Err(stop) => Err(stop),
            };
            let flow = match step {
                Ok(flow) => flow,
                Err(Stop::Gone) => return Next::Close,
                Err(Stop::Rejected(reject)) => {
                    let reply = self.reply_to(&reject);
                    self.append(&reply, true);
                    AfterRequest::Closing
                }
            };
            match flow {
                AfterRequest::Next => {
                    self.served = true;
                    self.take_turns().await;
                }
                AfterRequest::Quiet if self.flush().await.is_ok() => {
                    return Next::Idle { served: self.served, received: self.received };
                }
                AfterRequest::Quiet => return Next::Close,
                AfterRequest::Closing => {
                    if self.flush().await.is_ok() {
                        self.linger().await;
                    }
                    return Next::Close;
                }
            }
        }
    }

    /// Answers the current request, which has failed here.
    fn reply_to(&self, reject: &Reject) -> Reply {
        let request = self.head_is_read.then(|| self.current());
        self.connections.service.reject(reject, self.route, request.as_ref())
    }

    /// Lets other tasks run after so many steps in a row.
    async fn take_turns(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_IN_A_ROW) {
            rt::yield_now().await;
        }
    }

    /// Reads and serves one request.
    async fn request(&mut self) -> Result<AfterRequest, Stop> {
        self.head_is_read = false;
        self.held.set_verified(false);
        self.route = Route::OTHER;
        if !self.read_head().await? {
            return Ok(AfterRequest::Quiet);
        }
        self.head_is_read = true;
        let (admitted, is_upgrade) = match self.connections.service.admit(&self.current()) {
            Admission::Call(admitted) => (admitted, false),
            Admission::Upgrade(admitted) => (admitted, true),
            Admission::Refuse(reply) => return self.refuse(*reply).await,
        };
        let Admitted { call, route, body, is_verified, waits } = admitted;
        self.route = route;
        self.held.set_verified(is_verified);
        let bytes_max = match body {
            BodyMode::Whole { bytes_max } if !is_upgrade => bytes_max,
            // Boxed because it is rare, as what follows from it: the future of a session would be larger for all.
            _ => return Box::pin(self.exchange(call, is_upgrade)).await,
        };
        let body = Body::new(self.head.framing, bytes_max)?;
        let (body, next) = self.read_body(body).await?;
        if waits {
            self.flush().await?;
        }
        self.armed.disarm();
        if waits {
            // A client that sends more has received its delivery.
            self.armed.settled().await;
        }
        let reply = self.connections.service.handle(call, &self.current(), Payload::Whole(body.of(&self.input))).await;
        self.answer(reply, next).await
    }

    /// Returns the current request, whose head was read.
    fn current(&self) -> Request<'_> {
        let bytes = self.input.get(self.at..).unwrap_or_default();
        Request { head: &self.head.http, bytes, now: self.connections.now(), peer: self.peer }
    }

    /// Reads a head. `false`: there is not a byte of one.
    async fn read_head(&mut self) -> Result<bool, Stop> {
        let limits = HeadLimits::from(&self.connections.limits);
        let mut since = None;
        loop {
            if self.nothing_but_line_ends() {
                return Ok(false);
            }
            if self.head.parse(self.input.get(self.at..).unwrap_or_default(), &limits)? {
                return Ok(true);
            }
            if self.at > 0 {
                self.input.drain(..self.at);
                self.at = 0;
            }
            let begun = *since.get_or_insert_with(clock::now);
            self.flush().await?;
            self.armed.arm(Phase::Reading, begun + self.connections.limits.head_timeout);
            self.read_more(0).await?;
        }
    }

    /// Some clients send a line end behind a body (RFC 9112, section 2.2): it begins no request.
    fn nothing_but_line_ends(&self) -> bool {
        let rest = self.input.get(self.at..).unwrap_or_default();
        rest.len() <= 2 * HEAD_EMPTY_LINES_MAX as usize && rest.chunks(2).all(|pair| pair == b"\r\n")
    }

    /// Reads a body. Returns where it lies and where the next request begins.
    async fn read_body(&mut self, mut body: Body) -> Result<(Span, usize), Stop> {
        let (grace, rate) = (self.connections.limits.body_grace, self.connections.limits.body_rate_min);
        let start = self.at + self.head.len;
        let mut asked = !self.head.expect_continue;
        let mut pace: Option<Pace> = None;
        loop {
            let wanted = match body.feed(&mut self.input, start)? {
                Progress::Done { body, consumed_to } => return Ok((body, consumed_to)),
                Progress::More { wanted } => wanted,
            };
            if !asked && self.input.len() <= start {
                self.out.extend_from_slice(CONTINUE);
            }
            asked = true;
            self.flush().await?;
            let pace = pace.get_or_insert_with(|| Pace::new(clock::now(), grace, rate));
            self.armed.arm(Phase::Reading, pace.until());
            let read = self.read_more(wanted).await?;
            pace.moved(clock::now(), read);
        }
    }

    /// Reads once, with room for `wanted` bytes if that is known and reasonable.
    async fn read_more(&mut self, wanted: usize) -> Result<usize, Stop> {
        self.make_room(wanted)?;
        self.take_turns().await;
        let (result, input) = self.stream.read(std::mem::take(&mut self.input)).await;
        self.input = input;
        match result {
            Ok(0) if self.armed.expired() && self.input.len() > self.at => Err(Reject::RequestTimeout.into()),
            Ok(0) | Err(_) => Err(Stop::Gone),
            Ok(read) => {
                self.received = self.received.saturating_add(read);
                Ok(read)
            }
        }
    }

    /// Returns the room for the next read, within the shard's budget. An announced length is believed as far as bytes
    /// have come.
    fn make_room(&mut self, wanted: usize) -> Result<(), Reject> {
        let buffers = self.input.capacity() - self.input.len();
        let useful = if wanted == 0 { READ_BYTES_MIN } else { wanted.min(READ_BUFFER_BYTES) };
        if buffers >= useful {
            return Ok(());
        }
        let step = wanted.min((ROOM_FACTOR - 1) * self.input.len()).max(useful);
        let capacity = self.input.len() + step;
        self.held.grow_to(capacity.saturating_sub(READ_BUFFER_BYTES))?;
        self.input.reserve_exact(step);
        Ok(())
    }

    /// Answers a request whose body will not be used.
    async fn refuse(&mut self, mut reply: Reply) -> Result<AfterRequest, Stop> {
        let discard = match self.head.framing {
            Framing::None => true,
            Framing::Length(length) => length <= DISCARD_BYTES_MAX && !self.head.expect_continue,
            Framing::Chunked => false,
        };
        reply.close |= !discard;
        if reply.close || self.head.framing == Framing::None {
            return self.answer(reply, self.at + self.head.len).await;
        }
        let close = self.closes_after(&reply);
        self.append(&reply, close);
        // The answer is given: whatever goes wrong from here on ends the connection without another.
        let body = Body::new(self.head.framing, DISCARD_BYTES_MAX).map_err(|_| Stop::Gone)?;
        let (_, next) = self.read_body(body).await.map_err(|_| Stop::Gone)?;
        self.advance(next);
        Ok(if close { AfterRequest::Closing } else { AfterRequest::Next })
    }

    /// Answers a request that was read whole; the next one begins at `next`.
    async fn answer(&mut self, mut reply: Reply, next: usize) -> Result<AfterRequest, Stop> {
        if let dialect::Body::Stream(stream) = reply.body {
            reply.body = dialect::Body::Empty;
            return Box::pin(self.answer_stream(reply, stream, next)).await;
        }
        let close = self.closes_after(&reply);
        self.append(&reply, close);
        self.advance(next);
        // `held` lives until a large answer has left.
        let Reply { settle, body, held: _held, .. } = reply;
        drop(body);
        if let Some(handout) = settle {
            self.hand_over(handout).await?;
        } else if self.out.len() > GATHER_BYTES {
            self.flush().await?;
        }
        Ok(if close { AfterRequest::Closing } else { AfterRequest::Next })
    }

    /// Writes the answer of a delivery, and leaves the delivery to be settled when the answer has arrived.
    async fn hand_over(&mut self, mut handout: Handout) -> Result<(), Stop> {
        let Some(probe) = self.armed.probe() else {
            // What is written to a socket whose peer has gone is lost without an error.
            if self.stream.peer_has_closed() {
                return Err(Stop::Gone);
            }
            self.flush().await?;
            handout.arrived();
            return Ok(());
        };
        let patience = self.patience();
        self.flush().await?;
        if handout.is_empty() {
            return Ok(());
        }
        // A connection that is no longer known was reset.
        let id = self.stream.identify(probe).ok_or(Stop::Gone)?;
        handout.answered();
        let written = clock::now();
        self.armed.hand_over(Unconfirmed { handout, id, written, until: written + patience });
        Ok(())
    }

    /// Returns how long the client may take to read the answers that have gathered.
    fn patience(&self) -> Duration {
        self.connections.limits.write_timeout + Duration::from_secs(self.out.len() as u64 / WRITE_RATE_MIN)
    }

    fn closes_after(&self, reply: &Reply) -> bool {
        reply.close || !self.head.keep_alive || self.connections.draining.get()
    }

    /// Appends a reply to the output, and counts it.
    fn append(&mut self, reply: &Reply, close: bool) {
        let response = Response {
            status: reply.status,
            fields: &reply.fields,
            body: reply.body.bytes(),
            close,
            keep_alive_10: self.head_is_read && self.head.http10 && !close,
            head_only: self.head_is_read && self.head.http.method == Method::Head,
        };
        response.write(&mut self.out, &self.connections.date.get());
        self.connections.metrics.request(reply.route, reply.status);
    }

    /// Releases the request that ended at `next`.
    fn advance(&mut self, next: usize) {
        self.at = next;
        if self.at < self.input.len() && self.input.capacity() <= 2 * READ_BUFFER_BYTES {
            return;
        }
        let rest = self.input.get(self.at..).unwrap_or_default();
        if self.input.capacity() > 2 * READ_BUFFER_BYTES {
            let mut input = self.connections.pool.lend();
            input.extend_from_slice(rest);
            self.input = input;
        } else {
            self.input.clear();
        }
        self.at = 0;
        self.held.shrink_to(0);
    }

    /// Writes the answers that have gathered.
    async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut pace = Pace::new(clock::now(), self.connections.limits.write_timeout, WRITE_RATE_MIN);
        let mut out = std::mem::take(&mut self.out);
        let mut written = 0;
        while written < out.len() {
            self.armed.arm(Phase::Writing, pace.until());
            let (result, buffer) = self.stream.write(out, written).await;
            out = buffer;
            match result {
                Ok(0) | Err(_) => return Err(Stop::Gone),
                Ok(count) => {
                    self.armed.sent(self.stream.sent());
                    pace.moved(clock::now(), count);
                    written += count;
                }
            }
        }
        if out.capacity() <= GATHER_BYTES {
            out.clear();
            self.out = out;
        }
        Ok(())
    }

    /// Ends the connection so that the last answer arrives: a close with unread input would reset it.
    async fn linger(&mut self) {
        let until = clock::now() + LINGER;
        self.armed.arm(Phase::Writing, until);
        if self.stream.finish_writing().await.is_err() {
            return;
        }
        self.armed.finished(self.stream.sent());
        loop {
            let mut scratch = std::mem::take(&mut self.input);
            scratch.clear();
            let (result, scratch) = self.stream.read(scratch).await;
            self.input = scratch;
            if result.is_err() {
                self.armed.give_back();
            }
            if !matches!(result, Ok(1..)) || clock::now() >= until {
                return;
            }
            self.take_turns().await;
        }
    }
}
