//! The connection of one shard: kept up for ever, written once a turn, read in one pass.

mod connect;
mod health;
mod servers;
mod watch;

pub use connect::{ConnectionSettings, Credential};

use self::{
    connect::{Established, establish},
    health::Health,
    servers::{Address, Servers},
};
use super::{fetch::Pull, publish::Scratch};
use crate::{
    limits::{Limits, REPUBLISH_AFTER, WINDOW_GRANT_MESSAGES, WINDOW_WAITERS_MAX},
    metrics::ShardMetrics,
    reject::Reject,
    rt::{self, Guard, Notify, ReadHalf, Waiters, WriteHalf},
    wire::{
        Span,
        jetstream::{
            AckOutcome, BatchIds, PubAck, Token, Window,
            acks::{Acks, PlainAck},
            errors, puback,
            window::{DueWakers, WindowLimits},
        },
        nats::{Op, ParseLimits, Parsed, ServerError, ServerInfo, encode, headers, next},
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Where acknowledgements of delivered messages go. A message whose reply subject is elsewhere is not JetStream's.
const ACK_SUBJECTS: &[u8] = b"$JS.ACK.";
/// The subscription that all acknowledgements come to.
const ACK_SID: u64 = 1;
/// Room of the receive buffer; a buffer that grew for a large message goes back to it.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Reads before other tasks get their turn.
const READS_IN_A_ROW: u64 = 16;
/// How long publishes in flight have when the server says that it is about to stop, and there is no other one.
const LAME_DUCK_GRACE: Duration = Duration::from_secs(2);
/// How long the end of a connection waits for what is still to be written, and how often it looks.
const STOP_WRITE_MAX: Duration = Duration::from_millis(250);
const STOP_WRITE_PAUSE: Duration = Duration::from_millis(1);
/// How long a subject that the broker forbids is not logged again, and for how many subjects at most.
const SAID_AGAIN: Duration = Duration::from_secs(10);
const SAID_MAX: usize = 64;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// One shard's connection to the broker.
#[derive(Debug)]
pub struct Connection {
    settings: ConnectionSettings,
    pub(in crate::backend) limits: Limits,
    pub(super) metrics: Arc<ShardMetrics>,
    epoch: Instant,
    servers: RefCell<Servers>,
    /// A connection that stands already, to the server that publishes go to next.
    standby: RefCell<Option<(Address, Established)>>,
    /// Whether such a connection is being made.
    moving: Cell<bool>,
    health: RefCell<Health>,
    /// Whether anything was received since the last tick.
    heard: Cell<bool>,
    /// Publishes that were given up unanswered.
    pub(super) unanswered: Cell<u64>,
    /// Subjects whose refusal was logged lately.
    said: RefCell<HashMap<Box<str>, Instant>>,
    /// `_INBOX.<id>.`: acknowledgements come to `<prefix><token>`, pulled messages to `<prefix>f.<sid>.<round>`.
    pub(super) inbox: String,
    pub(super) window: RefCell<Window>,
    /// Buffers that publishes in flight do not need at the moment.
    pub(super) scratch: RefCell<Vec<Scratch>>,
    pub(super) batch_ids: RefCell<BatchIds>,
    acks: RefCell<Acks>,
    pub(super) out: RefCell<Vec<u8>>,
    writer: Notify,
    up: RefCell<Option<Up>>,
    changed: Waiters,
    pub(super) pulls: RefCell<HashMap<u64, Pull>>,
    sids: Cell<u64>,
    /// Answers that said "not now": a record that is sent behind them would be stored before the one that they were
    /// for.
    pub(super) refusals: Cell<u64>,
    /// Answers that say neither that the server serves nor that it does not.
    undecided: Cell<u64>,
    /// How long a record with a message id waits for its answer from a cluster before it may be published again.
    pub(super) patience: Cell<Duration>,
    stopping: Cell<bool>,
}

/// The state of a connection that stands.
#[derive(Debug)]
struct Up {
    guard: Guard,
    server: Server,
    /// The server has said that it is about to stop.
    stops: bool,
    /// Set when nothing new is sent, and the connection ends.
    leaving: Option<Leaving>,
    /// When the write that is under way began.
    writing_since: Option<Instant>,
}

/// How a connection ends before it is lost.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// It ends at this time at the latest.
    until: Instant,
    /// The next connection stands by. (Else the server is about to stop.)
    moves: bool,
}

/// The traits of a server that matter to a publish.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    /// The most bytes that one record may have.
    pub(super) record_bytes_max: usize,
    /// It is a member of a cluster: another server may answer in its place, or as well.
    pub(super) clustered: bool,
}

impl Server {
    fn of(info: &ServerInfo) -> Self {
        let clustered = info.cluster.as_deref().is_some_and(|name| !name.is_empty());
        Self { record_bytes_max: info.record_bytes_max().unwrap_or(usize::MAX), clustered }
    }
}

impl Connection {
    /// The connection of shard `index`; `identity` makes its inbox unique. It does nothing before [`Connection::run`].
    #[must_use]
    pub fn new(settings: ConnectionSettings, identity: &str, limits: Limits, metrics: Arc<ShardMetrics>) -> Rc<Self> {
        let servers = Servers::new(settings.servers.clone(), 0);
        let window = Window::new(WindowLimits {
            messages: limits.window_messages_max,
            bytes: limits.window_bytes_max,
            grant_messages: WINDOW_GRANT_MESSAGES,
            waiters: WINDOW_WAITERS_MAX,
        });
        metrics.window_messages_limit.set(limits.window_messages_max as u64);
        metrics.window_bytes_limit.set(limits.window_bytes_max as u64);
        let inbox = format!("_INBOX.{identity}.");
        Rc::new(Self {
            settings,
            limits,
            metrics,
            epoch: Instant::now(),
            servers: RefCell::new(servers),
            standby: RefCell::default(),
            moving: Cell::new(false),
            health: RefCell::default(),
            heard: Cell::new(false),
            unanswered: Cell::new(0),
            said: RefCell::default(),
            acks: RefCell::new(Acks::new(&inbox, ACK_SID)),
            batch_ids: RefCell::new(BatchIds::new(identity)),
            inbox,
            window: RefCell::new(window),
            scratch: RefCell::default(),
            out: RefCell::default(),
            writer: Notify::default(),
            up: RefCell::default(),
            changed: Waiters::default(),
            pulls: RefCell::default(),
            sids: Cell::new(ACK_SID),
            refusals: Cell::new(0),
            undecided: Cell::new(0),
            patience: Cell::new(REPUBLISH_AFTER),
            stopping: Cell::new(false),
        })
    }

    /// Keeps the connection up until [`Connection::stop`].
    pub async fn run(self: Rc<Self>, first_server: usize) {
        *self.servers.borrow_mut() = Servers::new(self.settings.servers.clone(), first_server);
        rt::spawn(Rc::clone(&self).tick());
        let mut backoff = BACKOFF_MIN;
        let mut said = String::new();
        while !self.stopping.get() {
            match self.connect().await {
                Ok((server, established)) => {
                    tracing::info!(
                        host = server.0,
                        port = server.1,
                        version = established.info.version,
                        "connected to the broker"
                    );
                    said.clear();
                    let since = Instant::now();
                    self.serve(established).await;
                    // A connection that stood is tried again at once; one that fails at once is not.
                    backoff = if since.elapsed() > BACKOFF_MAX { BACKOFF_MIN } else { backoff };
                    self.metrics.reconnects.increment();
                    if self.standby.borrow().is_some() {
                        continue;
                    }
                    if !self.stopping.get() {
                        tracing::warn!(
                            host = server.0,
                            port = server.1,
                            "the connection to the broker is lost; connecting again"
                        );
                    }
                }
                Err((server, reason)) => {
                    if reason != said {
                        tracing::warn!(
                            host = server.0,
                            port = server.1,
                            reason,
                            "no connection to the broker; trying for ever"
                        );
                    }
                    said = reason;
                }
            }
            // Shards and replicas do not come back all at once.
            rt::sleep(rt::jittered(backoff / 2, backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Returns the connection that stands by, or one to the next server.
    async fn connect(&self) -> Result<(Address, Established), (Address, String)> {
        if let Some(ready) = self.standby.take() {
            return Ok(ready);
        }
        let server = self.servers.borrow_mut().next().unwrap_or_default();
        self.let_in(server).await
    }

    /// Connects to this server.
    async fn let_in(&self, server: Address) -> Result<(Address, Established), (Address, String)> {
        match establish(&self.settings, &server, &format!("{}*", self.inbox)).await {
            Ok(established) => {
                self.servers.borrow_mut().connected(&established.info);
                Ok((server, established))
            }
            Err(reason) => Err((server, reason)),
        }
    }

    /// Ends the consume calls that wait, with what they have.
    pub fn end_waits(&self) {
        for pull in self.pulls.borrow().values() {
            pull.end();
        }
    }

    /// Ends the connection, once what has gathered is written, for good.
    pub async fn stop(&self) {
        self.stopping.set(true);
        let until = Instant::now() + STOP_WRITE_MAX;
        while self.is_writing() && Instant::now() < until {
            rt::sleep(STOP_WRITE_PAUSE).await;
        }
        if let Some(up) = &*self.up.borrow() {
            up.guard.shut_down();
        }
    }

    /// Returns whether something is still to be written to a connection that stands.
    fn is_writing(&self) -> bool {
        self.up.borrow().as_ref().is_some_and(|up| up.writing_since.is_some() || !self.out.borrow().is_empty())
    }

    /// Returns whether a publish could be sent now.
    pub(super) fn is_up(&self) -> bool {
        self.server().is_some()
    }

    /// Returns whether there is a connection, also one that is being left.
    pub(super) fn is_connected(&self) -> bool {
        self.up.borrow().is_some()
    }

    /// Waits for a connection, for the hold at most. Returns the server at its other end.
    pub(super) async fn connected(&self) -> Result<Server, Reject> {
        match self.server() {
            Some(server) => Ok(server),
            None => Box::pin(self.come_up()).await,
        }
    }

    /// Returns the server that publishes go to; `None` if nothing can be sent.
    fn server(&self) -> Option<Server> {
        self.up.borrow().as_ref().filter(|up| up.leaving.is_none()).map(|up| up.server)
    }

    async fn come_up(&self) -> Result<Server, Reject> {
        let until = Instant::now() + self.limits.hold;
        loop {
            if let Some(server) = self.server() {
                return Ok(server);
            }
            let left = until.saturating_duration_since(Instant::now());
            let changed = self.changed.changed();
            rt::deadline(left, changed).await.map_err(|_| Reject::BrokerAway)?;
        }
    }

    /// Says that the output buffer has something in it.
    pub(super) fn flush(&self) {
        self.writer.notify();
    }

    /// Returns the milliseconds of the window's clock.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns a number that no other subscription of this connection has.
    pub(super) fn next_sid(&self) -> u64 {
        self.sids.set(self.sids.get() + 1);
        self.sids.get()
    }

    async fn serve(self: &Rc<Self>, established: Established) {
        let Established { stream, info, rest } = established;
        let guard = stream.guard();
        self.out.borrow_mut().clear();
        let server = Server::of(&info);
        *self.up.borrow_mut() = Some(Up { guard, server, stops: false, leaving: None, writing_since: None });
        self.health.borrow_mut().connected(self.sent());
        self.metrics.link_up.set(1);
        self.changed.wake_all();

        let (mut read, write) = stream.split();
        let written = Rc::new(Notify::default());
        rt::spawn(Rc::clone(self).write(write, Rc::clone(&written)));
        let reason = self.read(&mut read, rest).await;
        tracing::debug!(reason, "the broker connection ended");
        guard.shut_down();
        self.lost();
        self.writer.notify();
        written.wait().await;
        // Only now may the socket close: nobody holds a guard of it any more.
        drop(read);
    }

    /// Gives up everything in flight as lost; unless the connection moves from one server of a cluster to another: then
    /// answers come there as well.
    fn lost(&self) {
        let ended = self.up.borrow_mut().take();
        self.metrics.link_up.set(0);
        let mut wakes = DueWakers::default();
        let moves = |up: &Up| up.server.clustered && up.leaving.is_some_and(|leaving| leaving.moves);
        match ended.filter(moves) {
            Some(Up { stops: true, .. }) => {}
            Some(_) => self.give_up_what_goes_again(&mut wakes),
            None => {
                self.window.borrow_mut().lose_all(&mut wakes);
            }
        }
        for (_, pull) in self.pulls.borrow_mut().drain() {
            pull.lost();
        }
        drop(wakes);
        self.changed.wake_all();
    }

    /// Writes what has gathered, whole buffers at a time, until the connection ends.
    async fn write(self: Rc<Self>, mut half: WriteHalf, done: Rc<Notify>) {
        let mut spare = Vec::new();
        loop {
            self.writer.wait().await;
            if self.up.borrow().is_none() {
                break;
            }
            while !self.out.borrow().is_empty() {
                let full = std::mem::replace(&mut *self.out.borrow_mut(), std::mem::take(&mut spare));
                self.writing_since(Some(Instant::now()));
                let (result, mut written) = half.write_all(full).await;
                self.writing_since(None);
                if result.is_err() {
                    // The stream is cut somewhere within an operation: it is of no further use.
                    if let Some(up) = &*self.up.borrow() {
                        up.guard.shut_down();
                    }
                    done.notify();
                    return;
                }
                written.clear();
                if written.capacity() <= self.limits.window_bytes_max {
                    spare = written;
                }
            }
        }
        done.notify();
    }

    fn writing_since(&self, since: Option<Instant>) {
        if let Some(up) = &mut *self.up.borrow_mut() {
            up.writing_since = since;
        }
    }

    /// Reads until the connection ends. Returns why it ended.
    async fn read(&self, half: &mut ReadHalf, rest: Vec<u8>) -> String {
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
            if let Some(PlainAck { token, sequence, consumed }) = self.acks.borrow_mut().next(front) {
                let stored = AckOutcome::Stored { sequence, duplicate: false };
                self.window.borrow_mut().complete(token, stored, &mut wakes);
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
        let window = self.window.borrow();
        let (messages, bytes) = window.in_flight();
        let unmatched = &self.metrics.acknowledgements_unmatched;
        unmatched.add(window.stale() - unmatched.get());
        self.metrics.window_messages.set(messages as u64);
        self.metrics.window_bytes.set(bytes as u64);
        Ok(wanted)
    }

    fn operation(&self, op: &Op, buffer: &[u8], wakes: &mut DueWakers) -> Result<(), String> {
        match op {
            Op::Msg { subject, sid: ACK_SID, payload, .. } => {
                self.acknowledged(subject.of(buffer), payload.of(buffer), wakes);
            }
            Op::Hmsg { subject, sid: ACK_SID, headers, payload, .. } => {
                let no_responders =
                    headers::status(headers.of(buffer)).is_some_and(|status| status.code == headers::NO_RESPONDERS);
                if !no_responders {
                    self.acknowledged(subject.of(buffer), payload.of(buffer), wakes);
                } else if let Some(token) = Token::of_subject(subject.of(buffer), self.inbox.as_bytes()) {
                    let answered = self.complete(token, AckOutcome::NoResponders, wakes);
                    self.refusals.set(self.refusals.get() + answered);
                }
            }
            Op::Msg { subject, sid, reply, payload } => {
                self.pulled(*sid, subject.of(buffer), *reply, &[], payload.of(buffer), buffer);
            }
            Op::Hmsg { subject, sid, reply, headers, payload } => {
                self.pulled(*sid, subject.of(buffer), *reply, headers.of(buffer), payload.of(buffer), buffer);
            }
            Op::Ping => {
                encode::pong(&mut self.out.borrow_mut());
                self.flush();
            }
            Op::Pong | Op::Ok => {}
            Op::Info(json) => self.informed(json.of(buffer)),
            Op::Err(text) => return self.refused(&ServerError::parse(text.of(buffer)), wakes),
        }
        Ok(())
    }

    fn acknowledged(&self, subject: &[u8], payload: &[u8], wakes: &mut DueWakers) {
        let Some(token) = Token::of_subject(subject, self.inbox.as_bytes()) else { return };
        let outcome = match puback::parse(payload) {
            Some(PubAck::Stored { sequence, count: Some(count), batch, .. }) => {
                self.window.borrow_mut().committed(token, batch.of(payload), (sequence, count), wakes);
                return;
            }
            Some(PubAck::Stored { sequence, duplicate, count: None, .. }) => AckOutcome::Stored { sequence, duplicate },
            Some(PubAck::Error { code, err_code, description }) => {
                let description = puback::description_text(payload, description);
                let answered = self.complete(token, AckOutcome::Error { code, err_code, description }, wakes);
                if errors::is_for_the_moment(code, err_code) {
                    self.refusals.set(self.refusals.get() + answered);
                } else if errors::is_said_without_a_cluster(code, err_code) {
                    self.undecided.set(self.undecided.get() + answered);
                }
                return;
            }
            // This is no acknowledgement: nothing is known of the record until its deadline passes.
            Some(PubAck::BatchStarted) | None => return,
        };
        self.complete(token, outcome, wakes);
    }

    /// Handles an answer. Returns how many records in flight it was for: those of a batch have one.
    fn complete(&self, token: Token, outcome: AckOutcome, wakes: &mut DueWakers) -> u64 {
        let mut window = self.window.borrow_mut();
        let before = window.answered();
        window.complete(token, outcome, wakes);
        window.answered() - before
    }

    /// Handles a message for a pull; a message that no call waits for any more is given back at once.
    fn pulled(&self, sid: u64, subject: &[u8], reply: Option<Span>, headers: &[u8], payload: &[u8], buffer: &[u8]) {
        let reply = reply.map(|reply| reply.of(buffer)).unwrap_or_default();
        if !reply.is_empty() && !reply.starts_with(ACK_SUBJECTS) {
            return;
        }
        let taken = self.pulls.borrow().get(&sid).is_some_and(|pull| pull.receive(subject, reply, headers, payload));
        if !taken && !reply.is_empty() {
            encode::pub_(&mut self.out.borrow_mut(), reply, None, crate::wire::jetstream::pull::NAK);
            self.flush();
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
        if let ServerError::PermissionsViolation { subject, .. } = error {
            if self.is_news(subject) {
                tracing::warn!(subject = &**subject, "the broker's permissions forbid the gateway this subject");
            }
            self.window.borrow_mut().fail_subject(super::publish::tag_of(subject), wakes);
        }
        if error.closes() { Err(format!("{error:?}")) } else { Ok(()) }
    }

    /// Returns whether this subject was not logged lately.
    fn is_news(&self, subject: &str) -> bool {
        let (mut said, now) = (self.said.borrow_mut(), Instant::now());
        said.retain(|_, at| now.saturating_duration_since(*at) < SAID_AGAIN);
        let news = said.len() < SAID_MAX && !said.contains_key(subject);
        if news {
            said.insert(subject.into(), now);
        }
        news
    }
}
