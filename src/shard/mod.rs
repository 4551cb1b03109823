//! One core and everything that it owns: listener, connections, broker connection, caches, metrics.
//!
//! A shard is a thread. Nothing that it writes is read by another but its block of metrics; what it
//! learns comes through its inbox, as finished values.

use crate::{
    auth::{Authenticator, TokenKeys, Users},
    backend::{Backend, local, nats},
    budget::Budget,
    conn::Connections,
    consume::{Fetcher, OpenDeliveries, Reader},
    dialect::{Dialects, OpenStreams, Services},
    directory::{
        Directory,
        messages::{Envelope, ShardUpdate},
    },
    ingest::{Ingest, TimeSlices},
    limits::{DRAIN_TIMEOUT, Limits},
    metrics::ShardMetrics,
    record::headers::HeaderPolicy,
    rt::{self, Driver, Listener, Once},
};
use std::{
    cell::{Cell, RefCell},
    io,
    net::TcpListener,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

/// How often the shard's own state is copied into its metrics.
const GAUGES_EVERY: Duration = Duration::from_millis(500);

/// What a shard is made of; plain values, made before its thread starts.
#[derive(Debug)]
pub struct Parts {
    /// Number of this shard, from 0.
    pub index: u16,
    /// Number of shards.
    pub shards: u16,
    /// Driver of its runtime.
    pub driver: Driver,
    /// Its listener.
    pub listener: TcpListener,
    /// Where records go.
    pub backend: BackendParts,
    /// Signs and verifies tokens.
    pub keys: TokenKeys,
    /// Users as they are at the start.
    pub users: Arc<Users>,
    /// Default lifetimes of access and refresh tokens.
    pub lifetimes: (Duration, Duration),
    /// Which headers are stored.
    pub policy: HeaderPolicy,
    /// Every limit.
    pub limits: Limits,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// Where it asks.
    pub asks: flume::Sender<Envelope>,
    /// Where it is told.
    pub inbox: flume::Receiver<ShardUpdate>,
}

/// Where a shard's records go.
#[derive(Debug)]
pub enum BackendParts {
    /// NATS JetStream; the identity makes the inbox of the connection unique.
    Nats(nats::ConnectionSettings, String),
    /// The embedded store.
    Local(local::Handle),
}

/// A shard that runs.
#[derive(Debug)]
pub struct Running {
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Running {
    /// Whether the shard has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the shard has ended.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard panicked")))
    }
}

/// Starts a shard on a thread of its own.
pub fn start(parts: Parts) -> io::Result<Running> {
    let thread = thread::Builder::new().name(format!("shard-{}", parts.index)).spawn(move || {
        let pinned = rt::pin_to_core(parts.index.into(), parts.shards.into());
        tracing::debug!(shard = parts.index, pinned, "shard starts");
        rt::run(parts.driver.flavor, || run(parts))?
    })?;
    Ok(Running { thread })
}

async fn run(parts: Parts) -> io::Result<()> {
    let listener = Listener::new(parts.listener, parts.driver.flavor)?;
    let stop_listening = listener.guard();
    let directory = Rc::new(Directory::new(parts.index, parts.asks));
    let budget = Budget::new(parts.limits.shard_body_bytes_max);
    let (backend, connection) = open(parts.backend, parts.index, &parts.limits, &parts.metrics);
    let metrics = || Arc::clone(&parts.metrics);
    let draining = Rc::new(Once::default());
    let open_deliveries = Rc::new(OpenDeliveries::default());
    let services = Rc::new(Services {
        authenticator: RefCell::new(Authenticator::new(parts.index, parts.keys, parts.users)),
        directory: Rc::clone(&directory),
        ingest: Ingest {
            directory: Rc::clone(&directory),
            backend: backend.clone(),
            policy: parts.policy,
            limits: parts.limits.clone(),
            budget: Rc::clone(&budget),
            metrics: metrics(),
            scratch: RefCell::default(),
            time_slices: TimeSlices::default(),
            turn: Cell::new(parts.index.into()),
        },
        fetcher: Fetcher {
            directory: Rc::clone(&directory),
            backend: backend.clone(),
            budget: Rc::clone(&budget),
            metrics: metrics(),
            draining: Rc::clone(&draining),
            open: Rc::clone(&open_deliveries),
        },
        reader: Reader::new(Rc::clone(&directory), backend, Rc::clone(&budget), metrics(), Rc::clone(&draining)),
        open_streams: OpenStreams::new(parts.limits.streams_per_principal_max, metrics()),
        access_lifetime: parts.lifetimes.0,
        refresh_lifetime: parts.lifetimes.1,
        limits: parts.limits.clone(),
    });
    let connections = Connections::new(Dialects::new(Rc::clone(&services)), parts.limits, budget, metrics());
    rt::spawn(Rc::clone(&connections).sweep());
    rt::spawn(Rc::clone(&connections).accept(listener));
    rt::spawn(gauges(directory, metrics()));

    listen_to_control(&parts.inbox, &services, &connections).await;

    connections.stop_accepting();
    draining.set();
    services.open_streams.drain();
    if let Some(connection) = &connection {
        connection.end_waits();
    }
    stop_listening.shut_down();
    let drained = {
        // Answers of the control plane are still needed by requests in flight.
        let inbox = parts.inbox;
        let drained = Rc::clone(&connections);
        rt::spawn(async move { listen_to_control(&inbox, &services, &drained).await });
        rt::deadline(DRAIN_TIMEOUT, connections.drain()).await
    };
    if drained.is_err() {
        tracing::warn!(shard = parts.index, "requests were still in flight when the time to drain was over");
    }
    open_deliveries.give_back();
    if let Some(connection) = connection {
        connection.stop().await;
    }
    Ok(())
}

/// Where records go, and the connection to it that has to be ended, if it has one.
fn open(
    backend: BackendParts,
    index: u16,
    limits: &Limits,
    metrics: &Arc<ShardMetrics>,
) -> (Backend, Option<Rc<nats::Connection>>) {
    match backend {
        BackendParts::Nats(settings, identity) => {
            let connection = nats::Connection::new(settings, &identity, limits.clone(), Arc::clone(metrics));
            rt::spawn(Rc::clone(&connection).run(index.into()));
            (Backend::Nats(Rc::clone(&connection)), Some(connection))
        }
        BackendParts::Local(handle) => {
            metrics.link_up.set(1);
            (Backend::Local(Rc::new(handle)), None)
        }
    }
}

/// Takes what the control plane says, until it says to drain (or is gone).
async fn listen_to_control(
    inbox: &flume::Receiver<ShardUpdate>,
    services: &Services,
    connections: &Connections<Dialects>,
) {
    let Services { directory, authenticator, .. } = services;
    while let Ok(push) = inbox.recv_async().await {
        match push {
            ShardUpdate::Response { ticket, response: answer } => directory.answered(ticket, answer),
            ShardUpdate::Users(users) => authenticator.borrow_mut().set_users(users),
            ShardUpdate::Contracts(contracts) => directory.set_contracts(contracts),
            ShardUpdate::Confirmed(at) => directory.confirm(at),
            ShardUpdate::Taken(heard) => drop(heard),
            ShardUpdate::Forget(station) => directory.forget(&station),
            ShardUpdate::ForgetStations => directory.forget_stations(),
            ShardUpdate::Drain if connections.is_draining() => {}
            ShardUpdate::Drain => return,
        }
    }
}

/// Copies the state of the directory into the metrics, now and then.
async fn gauges(directory: Rc<Directory>, metrics: Arc<ShardMetrics>) {
    loop {
        rt::sleep(GAUGES_EVERY).await;
        metrics.stations_known.set(directory.stations_known() as u64);
        metrics.questions.add(directory.requests_sent() - metrics.questions.get());
    }
}
