//! The task that reads: every operation of a read in one pass, each handed to the duty that it is for.

use super::{Connection, REPLIES, Server, Subscriber};
use crate::{
    backend::nats::jetstream,
    limits::FORBIDDEN_SUBJECTS_MAX,
    rt::{self, ReadHalf, clock},
    wire::{
        Span,
        jetstream::{pull, window::DueWakers},
        nats::{Op, ParseLimits, Parsed, ServerError, ServerInfo, encode, next, server_error::PermissionAction},
    },
};
use std::time::Duration;

/// Room of the receive buffer; a buffer that grew for a large message goes back to it.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Reads before other tasks get their turn.
const READS_IN_A_ROW: u64 = 16;
/// How long a subject that the broker forbids is not logged again.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// A message from the broker, where it lies in the receive buffer. What it does not have is empty.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::nats) struct Incoming<'a> {
    pub(in crate::backend::nats) subject: &'a [u8],
    pub(in crate::backend::nats) reply: &'a [u8],
    /// The header block, with its version line.
    pub(in crate::backend::nats) headers: &'a [u8],
    pub(in crate::backend::nats) payload: &'a [u8],
}

impl Connection {
    /// Reads until the connection ends. Returns why it ended.
    pub(super) async fn read(&self, half: &mut ReadHalf, rest: Vec<u8>) -> String {
        let mut buffer = rest;
        for count in 1_u64.. {
            if count.is_multiple_of(READS_IN_A_ROW) {
                rt::yield_now().await;
            }
            let wanted = match self.receive(&mut buffer) {
                Ok(wanted) => wanted,
                Err(reason) => return reason,
            };
            if buffer.is_empty() && buffer.capacity() > 4 * RECEIVE_BYTES {
                buffer = Vec::new();
            }
            buffer.reserve(wanted.max(RECEIVE_BYTES));
            let (result, filled) = half.read(buffer).await;
            buffer = filled;
            match result {
                Ok(0) => return "closed by the broker".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
        "read for ever".to_owned()
    }

    /// Handles every complete operation of the buffer and leaves the rest. Returns how many bytes are missing.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<usize, String> {
        self.heard.set(true);
        let mut wakes = DueWakers::default();
        let mut at = 0;
        let limits = ParseLimits::default();
        let wanted = loop {
            let front = buffer.get(at..).unwrap_or_default();
            if let Some(consumed) = self.jetstream.plain_acknowledgement(front, &mut wakes) {
                at += consumed;
                continue;
            }
            match next(front, &limits).map_err(|error| error.to_string())? {
                Parsed::Incomplete { wanted } => break wanted,
                Parsed::Op { op, consumed } => {
                    self.operation(&op, front, &mut wakes)?;
                    at += consumed;
                }
            }
        };
        buffer.drain(..at);
        self.jetstream.report();
        Ok(wanted)
    }

    fn operation(&self, op: &Op, buffer: &[u8], wakes: &mut DueWakers) -> Result<(), String> {
        match *op {
            Op::Msg { subject, sid, reply, payload } => {
                self.message(
                    sid,
                    &Incoming::of(buffer, [subject, reply.unwrap_or_default(), Span::default(), payload]),
                    wakes,
                );
            }
            Op::Hmsg { subject, sid, reply, headers, payload } => {
                self.message(sid, &Incoming::of(buffer, [subject, reply.unwrap_or_default(), headers, payload]), wakes);
            }
            Op::Ping => encode::pong(&mut self.out.append()),
            Op::Pong | Op::Ok => {}
            Op::Info(json) => self.informed(json.of(buffer)),
            Op::Err(text) => return self.refused(&ServerError::parse(text.of(buffer)), wakes),
        }
        Ok(())
    }

    /// Hands a message to whom its subscription is for. One that no consume call waits for any more is given back.
    fn message(&self, sid: u64, message: &Incoming<'_>, wakes: &mut DueWakers) {
        let is_over = match self.subscriptions.borrow().get(sid) {
            Some(Subscriber::Acknowledgements) => return self.jetstream.answered(message, wakes),
            Some(Subscriber::Replies) => return self.replied(message),
            Some(Subscriber::Pull(pull)) if jetstream::is_pulled(message) && pull.receive(message) => return,
            Some(Subscriber::Queue(queue)) if queue.receive(message) => return,
            Some(Subscriber::Queue(_)) => true,
            Some(Subscriber::Pull(_)) | None => false,
        };
        if is_over {
            self.unsubscribe(sid);
        } else if !message.reply.is_empty() && jetstream::is_pulled(message) {
            encode::pub_(&mut self.out.append(), message.reply, None, pull::NAK);
        }
    }

    /// Takes a reply to a request.
    fn replied(&self, message: &Incoming<'_>) {
        let token = message.subject.strip_prefix(self.inbox.as_bytes());
        if let Some(token) = token.and_then(|token| token.strip_prefix(REPLIES.as_bytes())) {
            self.bus.replied(token, message);
        }
    }

    fn informed(&self, json: &[u8]) {
        let Ok(info) = ServerInfo::parse(json) else { return };
        if let Some(up) = &mut *self.up.borrow_mut() {
            // What the server does not repeat stays as it was.
            up.server.record_bytes_max = info.record_bytes_max().unwrap_or(up.server.record_bytes_max);
            up.server.clustered |= Server::of(&info).clustered;
            // The next tick does what follows from it.
            if info.ldm && !std::mem::replace(&mut up.stops, true) {
                tracing::info!("the broker is about to stop: going elsewhere");
            }
        }
    }

    fn refused(&self, error: &ServerError, wakes: &mut DueWakers) -> Result<(), String> {
        match error {
            ServerError::PermissionsViolation { action, subject } => {
                if self.is_news(subject) {
                    tracing::warn!(subject = &**subject, "the broker's permissions forbid the gateway this subject");
                }
                self.jetstream.forbidden(subject, wakes);
                match action {
                    PermissionAction::Publish => self.bus.forbidden(subject),
                    PermissionAction::Subscribe => self.subscriptions.borrow().forbidden(subject),
                    // Every reply subject is below the one inbox.
                    PermissionAction::Reply => {}
                }
            }
            ServerError::Other(text) if !error.closes() && self.is_news(text) => {
                tracing::warn!(text = &**text, "the broker refuses something");
            }
            _ => {}
        }
        if error.closes() { Err(format!("{error:?}")) } else { Ok(()) }
    }

    /// Returns whether this subject was not logged lately.
    fn is_news(&self, subject: &str) -> bool {
        let (mut said, now) = (self.said.borrow_mut(), clock::now());
        said.retain(|_, at| now.saturating_duration_since(*at) < SAID_AGAIN);
        let news = said.len() < FORBIDDEN_SUBJECTS_MAX && !said.contains_key(subject);
        if news {
            said.insert(subject.into(), now);
        }
        news
    }
}

impl<'a> Incoming<'a> {
    fn of(buffer: &'a [u8], spans: [Span; 4]) -> Self {
        let [subject, reply, headers, payload] = spans.map(|span| span.of(buffer));
        Self { subject, reply, headers, payload }
    }
}
