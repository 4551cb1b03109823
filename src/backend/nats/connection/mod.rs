//! The connection of one shard to the broker: kept up for ever, written once a turn, read in one pass.
//!
//! It drives two *duties*, which know nothing of sockets: [`jetstream`](super::jetstream) (publishes, acknowledgements,
//! pulls) and the [`bus`](super::bus) (requests, subscriptions). A duty appends to the output ([`out`]), is handed what
//! comes for it ([`reader`]; [`subscriptions`] says what that is), and is told when the connection is lost (ADR 38).
//!
//! A connection is made ([`connect`], to one of the [`servers`], after a pause ([`backoff`])), judged once a tick
//! ([`watch`], [`health`]), and left for a better one ([`leave`]).

mod backoff;
mod connect;
mod health;
mod leave;
mod out;
mod reader;
mod servers;
mod subscriptions;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

pub use connect::{ConnectionSettings, Credential};
pub(super) use health::Seen;
pub(super) use reader::Incoming;
pub(super) use subscriptions::{REPLIES, Subscriber, Subscriptions};

use self::{
    backoff::Backoff,
    connect::{Established, establish},
    health::Health,
    leave::Leaving,
    out::Out,
    servers::{Address, Servers},
    subscriptions::ACKNOWLEDGEMENTS_SID,
};
use super::{bus::Bus, jetstream::JetStream, read::Gets};
use crate::{
    limits::{Limits, NATS_STOP_WRITE_TIMEOUT},
    metrics::ShardMetrics,
    reject::Reject,
    rt::{self, Guard, Notify, Waiters, clock},
    wire::{jetstream::window::DueWakers, nats::ServerInfo},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often the end of a connection looks whether everything is written.
const STOP_WRITE_PAUSE: Duration = Duration::from_millis(1);

/// One shard's connection to the broker.
#[derive(Debug)]
pub struct Connection {
    settings: ConnectionSettings,
    pub(in crate::backend) limits: Limits,
    pub(super) metrics: Arc<ShardMetrics>,
    /// `_INBOX.<id>.`: acknowledgements come to `<inbox><token>`, pulled messages to `<inbox>f.<sid>.<round>`, replies to
    /// requests to `<inbox>r.<number>`.
    pub(super) inbox: Rc<str>,
    pub(super) out: Out,
    pub(super) subscriptions: RefCell<Subscriptions>,
    pub(super) jetstream: JetStream,
    pub(super) bus: Bus,
    pub(super) gets: Gets,
    /// The connection that stands.
    up: RefCell<Option<Up>>,
    /// Woken when there is one, and when it is lost.
    changed: Waiters,
    servers: RefCell<Servers>,
    /// A connection that stands already, to the server that publishes go to next.
    standby: RefCell<Option<(Address, Established)>>,
    /// Whether such a connection is being made.
    moving: Cell<bool>,
    health: RefCell<Health>,
    /// Whether anything was received since the last tick.
    heard: Cell<bool>,
    /// Subjects whose refusal was logged lately.
    said: RefCell<HashMap<Box<str>, Instant>>,
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
        let inbox: Rc<str> = format!("_INBOX.{identity}.").into();
        let acknowledgements = (Rc::clone(&inbox), ACKNOWLEDGEMENTS_SID);
        Rc::new(Self {
            jetstream: JetStream::new(&limits, Arc::clone(&metrics), acknowledgements, identity),
            servers: RefCell::new(Servers::new(settings.servers.clone(), 0)),
            settings,
            limits,
            metrics,
            inbox,
            out: Out::default(),
            subscriptions: RefCell::new(Subscriptions::new()),
            bus: Bus::default(),
            gets: Gets::default(),
            up: RefCell::default(),
            changed: Waiters::default(),
            standby: RefCell::default(),
            moving: Cell::new(false),
            health: RefCell::default(),
            heard: Cell::new(false),
            said: RefCell::default(),
            stopping: Cell::new(false),
        })
    }

    /// Keeps the connection up until [`Connection::stop`].
    pub async fn run(self: Rc<Self>, first_server: usize) {
        *self.servers.borrow_mut() = Servers::new(self.settings.servers.clone(), first_server);
        rt::spawn(Rc::clone(&self).tick());
        let mut backoff = Backoff::default();
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
                    let since = clock::now();
                    self.serve(established).await;
                    backoff.stood(clock::since(since));
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
            backoff.wait().await;
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
        match establish(&self.settings, &server, &self.inbox).await {
            Ok(established) => {
                self.servers.borrow_mut().connected(&established.info);
                Ok((server, established))
            }
            Err(reason) => Err((server, reason)),
        }
    }

    /// Ends the consume calls that wait, with what they have.
    pub fn end_waits(&self) {
        for pull in self.subscriptions.borrow().pulls() {
            pull.end();
        }
    }

    /// Ends the connection, once what has gathered is written, for good.
    pub async fn stop(&self) {
        self.stopping.set(true);
        let until = clock::now() + NATS_STOP_WRITE_TIMEOUT;
        while self.is_writing() && clock::now() < until {
            rt::sleep(STOP_WRITE_PAUSE).await;
        }
        self.shut_down();
    }

    /// Returns whether something is still to be written to a connection that stands.
    fn is_writing(&self) -> bool {
        self.up.borrow().as_ref().is_some_and(|up| up.writing_since.is_some() || !self.out.is_empty())
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
            None => self.connected_within(self.limits.hold).await.ok_or(Reject::BrokerAway),
        }
    }

    /// Waits for a connection. Returns the server at its other end; `None`: there is none within this time.
    pub(super) async fn connected_within(&self, limit: Duration) -> Option<Server> {
        match self.server() {
            Some(server) => Some(server),
            None => Box::pin(self.changed.wait_for(limit, || self.server())).await.ok(),
        }
    }

    /// Returns the server that publishes go to; `None` if nothing can be sent.
    fn server(&self) -> Option<Server> {
        self.up.borrow().as_ref().filter(|up| up.leaving.is_none()).map(|up| up.server)
    }

    async fn serve(self: &Rc<Self>, established: Established) {
        let Established { stream, info, rest } = established;
        let guard = stream.guard();
        self.out.clear();
        let server = Server::of(&info);
        *self.up.borrow_mut() = Some(Up { guard, server, stops: false, leaving: None, writing_since: None });
        self.health.borrow_mut().connected(self.jetstream.connected());
        self.metrics.link_up.set(1);
        self.changed.wake_all();

        let (mut read, write) = stream.split();
        let written = Rc::new(Notify::default());
        rt::spawn(Rc::clone(self).write(write, Rc::clone(&written)));
        let reason = self.read(&mut read, rest).await;
        tracing::debug!(reason, "the broker connection ended");
        guard.shut_down();
        self.lost();
        self.out.wake();
        written.wait().await;
        // Only now may the socket close: nobody holds a guard of it any more.
        drop(read);
    }

    /// Tells the duties that everything in flight is lost; unless the connection moves from one server of a cluster to
    /// another: then answers to publishes come there as well.
    fn lost(&self) {
        let ended = self.up.borrow_mut().take();
        self.metrics.link_up.set(0);
        let mut wakes = DueWakers::default();
        match ended.filter(Up::moves_within_a_cluster) {
            Some(Up { stops: true, .. }) => {}
            Some(_) => self.jetstream.give_up_what_goes_again(&mut wakes),
            None => self.jetstream.lost(&mut wakes),
        }
        self.subscriptions.borrow_mut().lost();
        self.bus.lost();
        drop(wakes);
        self.changed.wake_all();
    }

    /// Ends the connection that stands; the next one follows.
    fn shut_down(&self) {
        if let Some(up) = &*self.up.borrow() {
            up.guard.shut_down();
        }
    }
}
