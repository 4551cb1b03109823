//! The control plane: one thread that does what is rare, so that shards need not.
//!
//! It finds and makes streams and consumers, decides how records are published to them, checks passwords, keeps what
//! the registry has (users, keys, schemas, stations), compiles it, and sends it to the shards as finished values.
//! Shards send requests through a bounded channel and get one response to each; they never wait for anything else here.
//!
//! This module and `admin` are the only ones that name tokio, and this one the only one that names
//! async-nats. The thread starts without a broker and connects for ever; [`AdminService::reasons_not_ready`]
//! says what is missing.
//!
//! Deliberately absent: a cache of stations (each shard has its own), and watching streams for changes (a shard that
//! finds a stream gone asks again).

mod fanout;
mod guesses;
mod health;
mod hex;
mod key_usage;
mod knowledge;
mod logins;
mod nats;
mod passwords;
mod registry;
mod resolver;
mod schema_compiler;
mod service;
mod streams;
#[cfg(test)]
pub(crate) mod tests;
mod watcher;

pub use service::{AdminError, AdminService, What};

use crate::{
    backend::local,
    config::{NatsSettings, Settings},
    directory::messages::{Envelope, ShardUpdate},
    limits::{BLOCKING_THREADS_MAX, CONTROL_STOP_TIMEOUT},
    metrics::{ControlMetrics, ShardMetrics},
};
use fanout::ShardFanout;
use health::{BackendHealth, LocalHealth, NatsHealth};
use knowledge::Knowledge;
use logins::Logins;
use nats::{client::NatsClient, monitor::Monitor, publish_mode::SyncMode};
use passwords::Passwords;
use registry::{RegistryStore, local::LocalRegistry, nats::NatsRegistry, snapshot::Root};
use resolver::Resolver;
use service::AdminServiceParts;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use streams::{
    GroupAdmin, Provisioner, RecordStore, StreamAdmin,
    local::LocalStreams,
    nats::{NatsProvisioner, NatsStreams},
};
use tokio::sync::watch;
use watcher::Watcher;

/// What the control plane works with.
#[derive(Debug)]
pub struct ControlInputs {
    /// The settings of the gateway.
    pub settings: Arc<Settings>,
    /// Where records are kept.
    pub backend: OpenBackend,
    /// The requests of all shards. Its capacity should be
    /// [`REQUESTS_PER_SHARD_MAX`](crate::limits::REQUESTS_PER_SHARD_MAX) for each shard.
    pub asks: flume::Receiver<Envelope>,
    /// The inbox of each shard, by its number. Any capacity will do.
    pub shards: Vec<flume::Sender<ShardUpdate>>,
    /// The block of metrics of each shard, by its number.
    pub metrics: Vec<Arc<ShardMetrics>>,
}

/// The open backend of a gateway: one of two, decided once, when the gateway starts.
#[derive(Debug, Clone)]
pub enum OpenBackend {
    /// NATS JetStream: the control plane and each shard have connections of their own.
    Nats(NatsSettings),
    /// The embedded store.
    Local(Arc<local::Store>),
}

/// What the control plane asks of its backend, by capability.
struct Capabilities {
    streams: Arc<dyn StreamAdmin>,
    records: Arc<dyn RecordStore>,
    groups: Arc<dyn GroupAdmin>,
    provisioner: Arc<dyn Provisioner>,
    registry: Arc<dyn RegistryStore>,
    health: Arc<dyn BackendHealth>,
}

/// The running control plane. Dropping it stops the thread without waiting for it.
#[derive(Debug)]
pub struct ControlHandle {
    thread: Option<thread::JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    draining: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Stopped,
}

impl ControlHandle {
    /// Makes readiness false and sends every shard the update to drain. The control plane itself goes on: requests in
    /// flight may still need it.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.phase.send_replace(Phase::Draining);
    }

    /// Ends the thread and waits for it.
    pub fn stop(mut self) {
        self.phase.send_replace(Phase::Stopped);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread had ended with a panic");
        }
    }

    /// Returns whether the thread has ended by itself: always a bug, and a reason to end the process.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }
}

/// Starts the thread and returns once it works. `services` is what else runs on it: the admin
/// listener gets its [`AdminService`] here. An error is one of the settings or the system, never of the network.
pub fn spawn<S, F>(inputs: ControlInputs, services: S) -> io::Result<ControlHandle>
where
    S: FnOnce(AdminService) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (phase, phases) = watch::channel(Phase::Running);
    let draining = Arc::new(AtomicBool::new(false));
    let (ready, started) = flume::bounded(1);
    let thread_draining = Arc::clone(&draining);
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("control-blocking")
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _starter_gone = ready.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            match begin(inputs, thread_draining, services).await {
                Ok(fanout) => {
                    let _starter_gone = ready.send(Ok(()));
                    until_stopped(phases, fanout).await;
                }
                Err(error) => {
                    let _starter_gone = ready.send(Err(error));
                }
            }
        });
        runtime.shutdown_timeout(CONTROL_STOP_TIMEOUT);
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok(ControlHandle { thread: Some(thread), phase, draining }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the control thread ended while it started")),
    }
}

/// Sets everything up and leaves it running in tasks.
async fn begin<S, F>(inputs: ControlInputs, draining: Arc<AtomicBool>, services: S) -> io::Result<ShardFanout>
where
    S: FnOnce(AdminService) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let ControlInputs { settings, backend, asks, shards, metrics } = inputs;
    let control_metrics = Arc::new(ControlMetrics::default());
    let shard_count = shards.len();
    let fanout = ShardFanout::new(shards, Arc::clone(&control_metrics));
    let Capabilities { streams, records, groups, provisioner, registry, health } = match backend {
        OpenBackend::Nats(nats) => on_broker(&settings, nats, &fanout, &control_metrics, metrics.clone()).await?,
        OpenBackend::Local(store) => on_store(store),
    };
    let passwords = Passwords::new();
    let logins = Logins::new(passwords.clone());
    let root = Root::new(&settings.auth);
    let knowledge = Knowledge::new(&settings.limits, settings.auth.unconfirmed);
    let watcher = Watcher::new(registry, root, knowledge, fanout.clone(), Arc::clone(&control_metrics));
    let parts = AdminServiceParts {
        settings: Arc::clone(&settings),
        streams: Arc::clone(&streams),
        records,
        groups,
        health,
        passwords,
        logins: logins.clone(),
        draining,
        shards: metrics,
    };
    let service = AdminService::new(&watcher, parts);
    let resolver = Resolver::new(settings, provisioner, streams, logins, watcher.snapshot.subscribe(), control_metrics);
    tokio::spawn(watcher.usage.clone().run());
    tokio::spawn(watcher.run());
    tokio::spawn(resolver::serve(resolver, asks, fanout.clone(), shard_count));
    tokio::spawn(services(service));
    Ok(fanout)
}

/// Begins to connect to the broker and to watch it. Returns its capabilities.
async fn on_broker(
    settings: &Settings,
    nats: NatsSettings,
    fanout: &ShardFanout,
    metrics: &Arc<ControlMetrics>,
    shards: Vec<Arc<ShardMetrics>>,
) -> io::Result<Capabilities> {
    let broker = NatsClient::connect(&nats, settings.limits.hold, Arc::clone(metrics)).await?;
    tokio::spawn(nats::probe::run(broker.clone(), Arc::clone(metrics)));
    let (learned, sync) = watch::channel(SyncMode::Unknown);
    let monitor = Monitor {
        broker: broker.clone(),
        choice: nats.publish_mode,
        url: nats.monitor_url,
        fanout: fanout.clone(),
        metrics: Arc::clone(metrics),
        sync: learned,
    };
    tokio::spawn(monitor.run());
    let stations = Arc::new(settings.stations.clone());
    let streams = Arc::new(NatsStreams::new(broker.clone(), Arc::clone(&stations)));
    Ok(Capabilities {
        streams: Arc::clone(&streams) as _,
        records: Arc::clone(&streams) as _,
        groups: streams,
        provisioner: Arc::new(NatsProvisioner::begin(broker.clone(), stations, nats.publish_mode, sync)),
        registry: Arc::new(NatsRegistry::new(broker, nats.registry_bucket, settings.stations.attributes.replicas)),
        health: Arc::new(NatsHealth { control: Arc::clone(metrics), shards }),
    })
}

/// Returns the capabilities of the embedded store.
fn on_store(store: Arc<local::Store>) -> Capabilities {
    let streams = Arc::new(LocalStreams(Arc::clone(&store)));
    Capabilities {
        streams: Arc::clone(&streams) as _,
        records: Arc::clone(&streams) as _,
        groups: Arc::clone(&streams) as _,
        provisioner: streams,
        registry: Arc::new(LocalRegistry::new(Arc::clone(&store))),
        health: Arc::new(LocalHealth::new(store)),
    }
}

async fn until_stopped(mut phases: watch::Receiver<Phase>, fanout: ShardFanout) {
    loop {
        match phases.changed().await.map(|()| *phases.borrow_and_update()) {
            Ok(Phase::Running) => {}
            // A shard that does not take it must not keep this thread from stopping.
            Ok(Phase::Draining) => {
                let fanout = fanout.clone();
                tokio::spawn(async move { fanout.broadcast(&ShardUpdate::Drain).await });
            }
            // The handle was dropped, or says so.
            Ok(Phase::Stopped) | Err(_) => return,
        }
    }
}
