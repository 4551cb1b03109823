//! A request: published with a reply subject, and what comes there is gathered until it is enough.

use super::{Bus, Failure, fits_a_line, is_subject};
use crate::{
    backend::nats::connection::{Connection, Incoming, REPLIES},
    limits::BUS_REQUESTS_MAX,
    rt::{self, Notify, clock},
    wire::{
        Span,
        nats::{encode, headers},
    },
};
use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

/// A request, and how much it takes for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where it goes.
    pub subject: &'a str,
    /// Header fields, `Name: value\r\n` each.
    pub headers: &'a [u8],
    /// What it says.
    pub payload: &'a [u8],
    /// How long it may take, the wait for a connection included.
    pub timeout: Duration,
    /// Replies that are kept; one more is [`Failure::Overrun`].
    pub replies_max: usize,
    /// Bytes of their headers and payloads together.
    pub bytes_max: usize,
}

/// What a reply means for the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the last one, or enough.
    Last,
    /// Others follow.
    More,
    /// Others follow, and the time begins anew: so much from now on.
    MoreWithin(Duration),
}

/// A reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The header block with its version line, which may carry a status; empty if there is none.
    pub headers: &'a [u8],
    /// What it says.
    pub payload: &'a [u8],
}

/// Where a reply lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplySpans {
    /// See [`Reply::headers`].
    pub headers: Span,
    /// See [`Reply::payload`].
    pub payload: Span,
}

/// The replies to one request: one arena, and spans into it.
#[derive(Debug, Default)]
pub struct Replies {
    /// Headers and payloads.
    pub arena: Vec<u8>,
    /// The replies, as they came.
    pub replies: Vec<ReplySpans>,
}

impl Replies {
    /// Returns a reply by its place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Reply<'_>> {
        let ReplySpans { headers, payload } = self.replies.get(index)?;
        Some(Reply { headers: headers.of(&self.arena), payload: payload.of(&self.arena) })
    }

    /// Returns the replies in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Reply<'_>> {
        (0..self.replies.len()).map_while(|index| self.get(index))
    }
}

/// What came for a request, and how it ended.
#[derive(Debug)]
pub struct Gathered {
    /// The replies, the last one included; those that came before a failure too.
    pub replies: Replies,
    /// `Ok`: one of them was the last.
    pub end: Result<(), Failure>,
}

/// A request whose replies are waited for.
#[derive(Debug)]
pub(super) struct Pending {
    subject: Box<str>,
    gathered: RefCell<Replies>,
    replies_max: usize,
    bytes_max: usize,
    failure: RefCell<Option<Failure>>,
    changed: Notify,
}

impl Pending {
    /// Takes a reply, or the broker's word that nobody listens.
    pub(super) fn replied(&self, message: &Incoming<'_>) {
        let status = headers::status(message.headers).map(|status| status.code);
        if status == Some(headers::NO_RESPONDERS) && message.payload.is_empty() {
            return self.fail(Failure::NoResponders);
        }
        let mut gathered = self.gathered.borrow_mut();
        let bytes = gathered.arena.len() + message.headers.len() + message.payload.len();
        if gathered.replies.len() >= self.replies_max || bytes > self.bytes_max {
            return self.fail(Failure::Overrun);
        }
        let arena = &mut gathered.arena;
        let (headers, payload) = (Span::append(arena, message.headers), Span::append(arena, message.payload));
        gathered.replies.push(ReplySpans { headers, payload });
        self.changed.notify();
    }

    /// Ends it. The first failure counts.
    pub(super) fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.changed.notify();
    }

    /// Returns whether it was published on this subject.
    pub(super) fn is_on(&self, subject: &str) -> bool {
        *self.subject == *subject
    }
}

/// A place among the requests in flight, left when it is dropped.
struct Place<'a> {
    bus: &'a Bus,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bus.requests.borrow_mut().remove(self.number);
    }
}

impl Connection {
    /// Sends a request and returns the first reply.
    ///
    /// It may be dropped at any point; what comes for it then is passed over.
    pub async fn request(&self, request: &Request<'_>) -> Result<Replies, Failure> {
        let gathered = self.request_many(request, |_| Verdict::Last).await;
        gathered.end.map(|()| gathered.replies)
    }

    /// Sends a request and gathers replies, until `judge` says of one that it is the last, something fails, or the time
    /// is up. Each reply is judged once, in the order of coming; what comes behind the last one is passed over.
    ///
    /// It may be dropped at any point; what comes for it then is passed over.
    pub async fn request_many(&self, request: &Request<'_>, judge: impl FnMut(Reply<'_>) -> Verdict) -> Gathered {
        let deadline = clock::now() + request.timeout;
        match self.send_request(request).await {
            Ok((pending, place)) => {
                let end = gather(&pending, deadline, judge).await;
                drop(place);
                Gathered { replies: pending.gathered.take(), end }
            }
            Err(failure) => Gathered { replies: Replies::default(), end: Err(failure) },
        }
    }

    /// Sends a request, once there is a connection.
    async fn send_request(&self, request: &Request<'_>) -> Result<(Rc<Pending>, Place<'_>), Failure> {
        let Request { subject, headers, payload, timeout, replies_max, bytes_max } = *request;
        if !is_subject(subject) {
            return Err(Failure::Subject);
        }
        let server = self.connected_within(timeout.min(self.limits.hold)).await.ok_or(Failure::Away)?;
        if encode::record_bytes(headers.len(), 0, payload.len()) > server.record_bytes_max {
            return Err(Failure::TooLarge(server.record_bytes_max));
        }
        // No await from here on: what is written while the connection stands is written to it.
        let mut requests = self.bus.requests.borrow_mut();
        if requests.len() >= BUS_REQUESTS_MAX || self.out.len() > self.limits.window_bytes_max {
            return Err(Failure::Full);
        }
        let pending = Rc::new(Pending {
            subject: subject.into(),
            gathered: RefCell::default(),
            replies_max,
            bytes_max,
            failure: RefCell::default(),
            changed: Notify::default(),
        });
        let number = requests.insert(Rc::clone(&pending)).ok_or(Failure::Full)?;
        drop(requests);
        let place = Place { bus: &self.bus, number };
        let reply = format!("{}{REPLIES}{number}", self.inbox);
        if !fits_a_line(&[subject, &reply]) {
            return Err(Failure::Subject);
        }
        let mut out = self.out.append();
        if headers.is_empty() {
            encode::pub_(&mut out, subject.as_bytes(), Some(reply.as_bytes()), payload);
        } else {
            encode::hpub(&mut out, subject.as_bytes(), Some(reply.as_bytes()), headers, payload);
        }
        Ok((pending, place))
    }
}

/// Waits for the last reply, and drops what came behind it.
async fn gather(
    pending: &Pending,
    mut deadline: Instant,
    mut judge: impl FnMut(Reply<'_>) -> Verdict,
) -> Result<(), Failure> {
    let mut judged = 0;
    loop {
        loop {
            let verdict = pending.gathered.borrow().get(judged).map(&mut judge);
            judged += usize::from(verdict.is_some());
            match verdict {
                None => break,
                Some(Verdict::Last) => {
                    pending.gathered.borrow_mut().replies.truncate(judged);
                    return Ok(());
                }
                Some(Verdict::More) => {}
                Some(Verdict::MoreWithin(time)) => deadline = clock::now() + time,
            }
        }
        if let Some(failure) = pending.failure.borrow_mut().take() {
            return Err(failure);
        }
        let left = deadline.saturating_duration_since(clock::now());
        if rt::deadline(left, pending.changed.wait()).await.is_err() {
            return Err(Failure::TimedOut);
        }
    }
}
