//! The process: starts every part in order, waits for a signal, drains, stops.
//!
//! Ports are reserved first and served last, so that a start that fails has served nobody. On SIGTERM or SIGINT
//! readiness turns false, listeners close, requests in flight are finished; a second signal ends the process at once.
//! No other signal that has another use (a terminal that is gone, logs that were rotated, a file that is too large)
//! ends it at all.

use crate::{
    admin,
    auth::{self, TokenKeys, Users},
    backend::{
        local::{Clock, StationDefaults, Store},
        nats::{ConnectionSettings, Credential},
    },
    config::{BackendSettings, NatsCredential, NatsSettings, Settings, StationSettings},
    control::{self, ControlHandle, ControlInputs, OpenBackend},
    dialect,
    directory::messages::{Envelope, ShardUpdate},
    limits::{REQUESTS_PER_SHARD_MAX, STORE_CLOSE_TIMEOUT, WATCH_INTERVAL},
    metrics::ShardMetrics,
    record::headers::HeaderPolicy,
    rt::{self, Driver, Reservation, clock},
    shard::{self, BackendParts, Parts, Running},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ},
    flag,
    iterator::Signals,
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Signals that ask for something which the gateway does not do. By default each would end the process in the midst of
/// requests.
const UNHEEDED: [i32; 4] = [SIGHUP, SIGUSR1, SIGUSR2, SIGXFSZ];
/// Exit status after a second signal.
const KILLED: i32 = 130;
/// How long an address may be in use by a process that was killed.
const ADDRESS_IN_USE_PATIENCE: Duration = Duration::from_secs(2);

/// Why the gateway did not start, or ended by itself.
#[derive(Debug)]
pub struct Failed {
    /// What did not work, and what to do.
    pub text: String,
}

impl Failed {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

/// Runs the gateway until it is told to stop. `announce` is called once, with the address of the data
/// port, when it serves.
pub fn run(settings: Settings, announce: impl FnOnce(SocketAddr)) -> Result<(), Failed> {
    let signals = Signals::new([SIGTERM, SIGINT].iter().chain(&UNHEEDED));
    let signals = signals.map_err(|error| Failed::new(format!("signals: {error}")))?;
    let settings = Arc::new(settings);
    let files = rt::raise_file_limit();
    let driver = Driver::choose(settings.driver).map_err(Failed::new)?;
    let shard_mib_max = settings.limits.of_shard(settings.shards).shard_bytes_max() >> 20;
    let (shards, reason) = (settings.shards, &driver.reason);
    tracing::info!(driver = driver.name(), reason, shards, shard_mib_max, files, "starting");

    let data_port = reserve("listen", settings.listen)?;
    let admin_listener = patiently(|| admin::bind(settings.admin_listen))
        .map_err(|error| unusable("admin_listen", settings.admin_listen, &error))?;
    let backend = open(&settings)?;
    let (asks, questions) = flume::bounded(REQUESTS_PER_SHARD_MAX * usize::from(settings.shards));
    let metrics: Vec<Arc<ShardMetrics>> = (0..settings.shards).map(|_| Arc::default()).collect();
    for block in &metrics {
        block.set_driver(driver.name(), &driver.reason);
        block.set_routes(&dialect::ROUTES);
    }
    let (inboxes, receivers): (Vec<_>, Vec<_>) = metrics.iter().map(|_| flume::bounded(REQUESTS_PER_SHARD_MAX)).unzip();
    let inputs = ControlInputs {
        settings: Arc::clone(&settings),
        backend: backend.clone(),
        asks: questions,
        shards: inboxes,
        metrics: metrics.clone(),
    };
    let (starting, started) = flume::bounded::<()>(1);
    let admin = move |service| async move {
        // Nobody is told that the gateway is ready before its data port is served.
        let _ = started.recv_async().await;
        admin::serve(admin_listener, service).await;
    };
    let control = control::spawn(inputs, admin)
        .map_err(|error| Failed::new(format!("the control plane did not start: {error}")))?;

    let start = Start { settings: &settings, driver: &driver, data_port: &data_port, backend: &backend, asks };
    let shards = metrics
        .into_iter()
        .zip(receivers)
        .enumerate()
        .map(|(index, (metrics, inbox))| start.shard(index, metrics, inbox));
    let shards: Vec<Running> = shards.collect::<Result<_, _>>()?;
    let address = data_port.address();
    drop((data_port, starting));
    tracing::info!(%address, admin = %settings.admin_listen, "serving");
    announce(address);

    let ended = wait(signals, &control, &shards);
    stop(control, shards, backend);
    ended
}

/// What every shard starts from.
struct Start<'a> {
    settings: &'a Settings,
    driver: &'a Driver,
    data_port: &'a Reservation,
    backend: &'a OpenBackend,
    asks: flume::Sender<Envelope>,
}

impl Start<'_> {
    fn shard(
        &self,
        index: usize,
        metrics: Arc<ShardMetrics>,
        inbox: flume::Receiver<ShardUpdate>,
    ) -> Result<Running, Failed> {
        let settings = self.settings;
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let (access_key, root_password) = (&settings.auth.access_key, &settings.auth.root_password);
        let root_version = auth::root_version(access_key.expose(), root_password.expose());
        let listener =
            self.data_port.listener().map_err(|error| unusable("listen", self.data_port.address(), &error))?;
        let backend = match self.backend {
            OpenBackend::Nats(nats) => BackendParts::Nats(link_settings(nats, index, self.driver), identity()?),
            OpenBackend::Local(store) => BackendParts::Local(store.handle()),
        };
        let parts = Parts {
            index,
            shards: settings.shards,
            driver: self.driver.clone(),
            listener,
            backend,
            keys: TokenKeys::new(settings.auth.access_key.expose(), settings.auth.refresh_key.expose()),
            // The root user can log in before the registry is read; the others come with it.
            users: Arc::new(Users::unread(&settings.auth.root_user, root_version)),
            lifetimes: (settings.auth.access_lifetime, settings.auth.refresh_lifetime),
            policy: HeaderPolicy::new(&settings.stored_headers),
            limits: settings.limits.of_shard(settings.shards),
            metrics,
            asks: self.asks.clone(),
            inbox,
        };
        shard::start(parts).map_err(|error| Failed::new(format!("shard {index} did not start: {error}")))
    }
}

/// Waits for a signal, or for a part that ends by itself.
fn wait(mut signals: Signals, control: &ControlHandle, shards: &[Running]) -> Result<(), Failed> {
    // From the first signal on, the next one ends the process in its handler, whatever else is going on.
    let armed = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        let installed = flag::register_conditional_shutdown(signal, KILLED, Arc::clone(&armed))
            .and_then(|_| flag::register(signal, Arc::clone(&armed)));
        installed.map_err(|error| Failed::new(format!("signals: {error}")))?;
    }
    loop {
        for signal in signals.pending() {
            if UNHEEDED.contains(&signal) {
                let name = signal_hook::low_level::signal_name(signal);
                tracing::info!(
                    signal,
                    name,
                    "a signal that changes nothing: settings are read at the start, SIGTERM drains"
                );
                continue;
            }
            // Also where it came before the handlers were there.
            armed.store(true, Ordering::Relaxed);
            tracing::info!(signal, "told to stop: draining");
            return Ok(());
        }
        if control.is_finished() {
            return Err(Failed::new("the control plane ended by itself"));
        }
        if let Some(index) = shards.iter().position(Running::is_finished) {
            return Err(Failed::new(format!("shard {index} ended by itself")));
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// Finishes what is in flight and stops every part, in the order in which they need each other. All steps together take
/// less than [`STOP_TIMEOUT`](crate::limits::STOP_TIMEOUT).
fn stop(control: ControlHandle, shards: Vec<Running>, backend: OpenBackend) {
    control.drain();
    for (index, shard) in shards.into_iter().enumerate() {
        if let Err(error) = shard.join() {
            tracing::error!(shard = index, %error, "a shard ended with an error");
        }
    }
    control.stop();
    if let OpenBackend::Local(store) = backend
        && let Some(store) = Arc::into_inner(store)
        && !store.close(STORE_CLOSE_TIMEOUT)
    {
        tracing::warn!("the embedded store was still busy; nothing acknowledged is lost");
    }
    tracing::info!("stopped");
}

fn reserve(key: &str, address: SocketAddr) -> Result<Reservation, Failed> {
    patiently(|| Reservation::new(address)).map_err(|error| unusable(key, address, &error))
}

/// Binds, and tries again for a while if the address is in use: after a `kill -9`, the kernel closes the
/// listener that an `io_uring` of the old process accepts on only some time after the process is gone.
fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let start = clock::now();
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && clock::since(start) < ADDRESS_IN_USE_PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            outcome => return outcome,
        }
    }
}

fn unusable(key: &str, address: SocketAddr, error: &io::Error) -> Failed {
    if error.kind() == io::ErrorKind::AddrInUse {
        return Failed::new(format!(
            "{key}: {address} is in use already, perhaps by another sluicegate: choose another address"
        ));
    }
    Failed::new(format!("{key}: {address} cannot be served: {error}"))
}

/// Opens the backend: the one place that decides between the two for the control plane and the shards.
fn open(settings: &Settings) -> Result<OpenBackend, Failed> {
    if let BackendSettings::Nats(nats) = &settings.backend {
        return Ok(OpenBackend::Nats(nats.clone()));
    }
    // The directory in which the process was started may be gone. The store names its files from the root on, but its
    // library does not get that far without any directory.
    if std::env::current_dir().is_err() {
        std::env::set_current_dir("/").map_err(|error| Failed::new(format!("the current directory: {error}")))?;
    }
    let StationSettings { attributes, group_expiry, .. } = settings.stations.clone();
    let defaults = StationDefaults { attributes, group_expiry };
    let store = Store::open_within(&settings.limits, &settings.data_dir, defaults, Clock::system());
    store
        .map(|store| OpenBackend::Local(Arc::new(store)))
        .map_err(|error| Failed::new(format!("the embedded store: {error}")))
}

fn link_settings(nats: &NatsSettings, index: u16, driver: &Driver) -> ConnectionSettings {
    let credential = match &nats.credential {
        NatsCredential::None => Credential::None,
        NatsCredential::UserPassword(user, password) => {
            Credential::UserPassword(user.clone(), password.expose().to_owned())
        }
        NatsCredential::Token(token) => Credential::Token(token.expose().to_owned()),
        NatsCredential::Nkey(seed) => Credential::Seed { seed: seed.expose().to_owned(), jwt: None },
        NatsCredential::Creds { jwt, seed } => {
            Credential::Seed { seed: seed.expose().to_owned(), jwt: Some(jwt.expose().to_owned()) }
        }
    };
    ConnectionSettings {
        servers: nats.servers.iter().map(|server| (server.host.clone(), server.port)).collect(),
        credential,
        name: format!("sluicegate shard {index}"),
        flavor: driver.flavor,
    }
}

/// A name for a shard's inbox that no other connection to the broker has.
fn identity() -> Result<String, Failed> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0_u8; 12];
    getrandom::fill(&mut random).map_err(|error| Failed::new(format!("no randomness from the system: {error}")))?;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect())
}
