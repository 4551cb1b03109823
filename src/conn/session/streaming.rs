//! Exchanges whose request or reply comes in pieces, in both directions at once.
//!
//! One task does everything: it runs the call or the producer of the reply, writes what they yield, and reads what the
//! client sends while there is room for it. A write is awaited before anything else goes on, so a client that does not
//! read its reply is not read from either, and is cut off as in any other exchange. A read begins only once the socket
//! is readable: the wait for that may be dropped, the read may not (invariant 8).
//!
//! A client that ends its side while its reply streams has left. Then the producer is told, and the connection waits
//! until the producer has ended.

use super::{AfterRequest, Session, Stop};
use crate::{
    conn::deadlines::Phase,
    dialect::{Body, BodyStream, Broken, Payload, Reply, Request, Service, Sink, pipe},
    limits::{READ_BUFFER_BYTES, STREAM_BUFFER_BYTES},
    reject::Reject,
    rt::clock,
    transport::Transport,
    wire::{
        http::Method,
        http1::{self, BodyEnd, CONTINUE, LAST_CHUNK, Response, is_bodiless, write_chunk},
    },
};
use std::{
    cell::Cell,
    future::{pending, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Instant,
};

/// What a streamed exchange may hold: a buffer in each direction, and what was taken out of it to be written.
const HELD_BYTES: usize = 3 * STREAM_BUFFER_BYTES;

/// The side of an exchange that comes from the client.
#[derive(Debug)]
struct Incoming {
    state: State,
    /// When the client must have sent more, while it is waited for.
    until: Cell<Option<Instant>>,
    /// Whether the reply is being sent. Before that, a client that has sent its whole request may end its side.
    is_replying: bool,
}

/// What the bytes that come are.
#[derive(Debug)]
enum State {
    /// The request's body.
    Body(http1::Body, Sink),
    /// Another protocol, up to the end of the connection.
    Raw(Sink),
    /// Later requests: the body was read. They are kept until the reply is written.
    Later,
    /// Of no use: the body was cut off or is malformed, or another protocol has ended.
    Over,
    /// None: the client has left.
    Gone,
}

/// What a wait for two things has found.
enum Raced<R> {
    /// The work is ready.
    Done(R),
    /// The client has sent something, or has left.
    Input,
}

impl Incoming {
    fn new(state: State) -> Self {
        Self { state, until: Cell::new(None), is_replying: false }
    }

    fn has_left(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Takes what has come out of `input`.
    fn take(&mut self, input: &mut Vec<u8>) {
        let outcome = match &mut self.state {
            State::Body(body, sink) => sink.write(|buffer| body.take(input, buffer)),
            State::Raw(sink) => {
                sink.write(|buffer| buffer.append(input));
                Ok(false)
            }
            State::Later | State::Over | State::Gone => return,
        };
        match outcome {
            Ok(false) => {}
            Ok(true) => self.end(State::Later, Ok(())),
            Err(reject) => self.end(State::Over, Err(reject)),
        }
    }

    /// Ends what the call reads.
    fn end(&mut self, next: State, end: Result<(), Reject>) {
        if let State::Body(_, sink) | State::Raw(sink) = std::mem::replace(&mut self.state, next) {
            sink.end(end);
        }
    }

    /// Notes that the client sends nothing more. Of another protocol that may be an end in order.
    fn closed(&mut self) {
        match self.state {
            State::Raw(_) => self.end(State::Over, Ok(())),
            _ => self
                .end(State::Gone, Err(Reject::Malformed("the connection ended within the body (RFC 9112, section 8)"))),
        }
    }
}

impl<S: Service, T: Transport> Session<'_, S, T> {
    /// Serves a request whose body is handed on as it comes; or, with `is_upgrade`, another protocol.
    pub(super) async fn exchange(&mut self, call: S::Call, is_upgrade: bool) -> Result<AfterRequest, Stop> {
        let body = http1::Body::new(self.head.framing, u64::MAX)?;
        self.held.grow_to(HELD_BYTES)?;
        // What comes is taken out of the input, so the head moves out of its way.
        let (head, end) = (self.head.http.clone(), self.at + self.head.len);
        let bytes = self.input.get(self.at..end).unwrap_or_default().to_vec();
        self.input.drain(..end.min(self.input.len()));
        self.at = 0;
        if self.head.expect_continue && self.input.is_empty() {
            self.out.extend_from_slice(CONTINUE);
        }
        self.flush().await?;
        self.armed.disarm();
        // A client that sends more has received its delivery.
        self.armed.settled().await;
        let (sink, source) = pipe(STREAM_BUFFER_BYTES);
        let mut incoming = Incoming::new(if is_upgrade { State::Raw(sink) } else { State::Body(body, sink) });
        incoming.take(&mut self.input);
        let connections = self.connections;
        let mut reply = {
            let request = Request { head: &head, bytes: &bytes, now: connections.now(), peer: self.peer };
            let mut handle = pin!(connections.service.handle(call, &request, Payload::Streamed(source)));
            loop {
                match self.race(&incoming, |context| handle.as_mut().poll(context)).await {
                    Raced::Done(reply) => break reply,
                    Raced::Input => self.take_in(&mut incoming).await,
                }
            }
        };
        self.armed.disarm();
        let stream = match std::mem::take(&mut reply.body) {
            Body::Stream(stream) => stream,
            whole => {
                reply.body = whole;
                // Where the next request begins is known only if this one was read to its end.
                reply.close |= !matches!(incoming.state, State::Later);
                return if incoming.has_left() { Err(Stop::Gone) } else { self.answer(reply, 0).await };
            }
        };
        self.send(reply, stream, incoming).await
    }

    /// Answers a request that was read as a whole with a body that is produced while it is sent; the next request begins
    /// at `next`.
    pub(super) async fn answer_stream(
        &mut self,
        reply: Reply,
        stream: BodyStream,
        next: usize,
    ) -> Result<AfterRequest, Stop> {
        self.advance(next);
        // The call has begun nothing that needs this reply: its producer has not run.
        if self.held.grow_to(HELD_BYTES).is_err() {
            return Err(Stop::Gone);
        }
        self.send(reply, stream, Incoming::new(State::Later)).await
    }

    /// Writes a reply whose body is produced meanwhile.
    async fn send(
        &mut self,
        mut reply: Reply,
        mut stream: BodyStream,
        mut incoming: Incoming,
    ) -> Result<AfterRequest, Stop> {
        incoming.is_replying = true;
        let end = match () {
            () if reply.status == 101 => BodyEnd::Upgrade,
            () if self.head.http10 => BodyEnd::Close,
            () => BodyEnd::Chunked,
        };
        reply.close |= end != BodyEnd::Chunked;
        let close = self.closes_after(&reply);
        let head = Response { close, ..Response::new(reply.status, &reply.fields) };
        head.write_head(&mut self.out, &self.connections.date.get(), end);
        self.connections.metrics.request(reply.route, reply.status);
        let has_body = self.head.http.method != Method::Head && (end == BodyEnd::Upgrade || !is_bodiless(reply.status));
        if has_body {
            let sent = match self.flush().await {
                Ok(()) => self.send_body(&mut stream, &mut incoming, end == BodyEnd::Chunked).await,
                Err(stop) => Err(stop),
            };
            self.armed.disarm();
            if let Err(stop) = sent {
                stream.abandon().await;
                return Err(stop);
            }
        }
        if let Some(handout) = reply.settle {
            self.hand_over(handout).await?;
        } else {
            self.flush().await?;
        }
        self.held.shrink_to(self.input.capacity().saturating_sub(READ_BUFFER_BYTES));
        let is_read = matches!(incoming.state, State::Later);
        Ok(if close || !is_read { AfterRequest::Closing } else { AfterRequest::Next })
    }

    /// Writes the pieces of a body as they come, and the end of the body. An error means that the client has left, or
    /// that the body stays incomplete: then the connection is closed without its end, which is how the client knows.
    async fn send_body(
        &mut self,
        stream: &mut BodyStream,
        incoming: &mut Incoming,
        in_chunks: bool,
    ) -> Result<(), Stop> {
        let mut piece = Vec::new();
        loop {
            match self.race(incoming, |context| stream.poll_next(context, &mut piece)).await {
                Raced::Input => {
                    self.take_in(incoming).await;
                    if incoming.has_left() {
                        return Err(Stop::Gone);
                    }
                }
                Raced::Done(Ok(true)) => {
                    if in_chunks {
                        write_chunk(&mut self.out, &piece);
                    } else {
                        self.out.extend_from_slice(&piece);
                    }
                    self.flush().await?;
                    self.take_turns().await;
                }
                Raced::Done(Ok(false)) => {
                    if in_chunks {
                        self.out.extend_from_slice(LAST_CHUNK);
                    }
                    return Ok(());
                }
                Raced::Done(Err(Broken)) => return Err(Stop::Gone),
            }
        }
    }

    /// Waits until the work is ready or input has come that there is room for.
    async fn race<R>(&self, incoming: &Incoming, mut work: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Raced<R> {
        let mut input = pin!(self.input_comes(incoming));
        poll_fn(|context| match work(context) {
            Poll::Ready(done) => Poll::Ready(Raced::Done(done)),
            Poll::Pending => input.as_mut().poll(context).map(|()| Raced::Input),
        })
        .await
    }

    /// Waits until the client has sent something that there is room for, or has left.
    async fn input_comes(&self, incoming: &Incoming) {
        let sink = match &incoming.state {
            State::Body(_, sink) | State::Raw(sink) => Some(sink),
            // A client that sends on and on is not waited for; a write tells whether it is still there.
            State::Later if self.input.len() >= READ_BUFFER_BYTES / 2 || !incoming.is_replying => {
                return pending().await;
            }
            State::Later => None,
            State::Over | State::Gone => return pending().await,
        };
        self.armed.disarm();
        if let Some(sink) = sink {
            let mut room = pin!(sink.room());
            let at_once = poll_fn(|context| Poll::Ready(room.as_mut().poll(context))).await;
            let room = match at_once {
                Poll::Ready(room) => room,
                Poll::Pending => {
                    // The client waits for the call: its time does not run.
                    incoming.until.set(None);
                    room.await
                }
            };
            if room.is_err() {
                return pending().await;
            }
        }
        if let State::Body(..) = incoming.state {
            let until = incoming.until.get().unwrap_or_else(|| clock::now() + self.connections.limits.stream_idle);
            incoming.until.set(Some(until));
            self.armed.arm(Phase::Reading, until);
        }
        // An error shows in the read.
        let _ = self.stream.readable().await;
    }

    /// Reads once, and hands on what came.
    async fn take_in(&mut self, incoming: &mut Incoming) {
        let read = self.read_more(0).await;
        incoming.until.set(None);
        match read {
            Ok(_) => incoming.take(&mut self.input),
            Err(Stop::Rejected(reject)) => incoming.end(State::Over, Err(reject)),
            Err(Stop::Gone) if self.armed.expired() => incoming.end(State::Over, Err(Reject::RequestTimeout)),
            Err(Stop::Gone) => incoming.closed(),
        }
    }
}
