//! What the tests of this module and of `admin` share: settings, and a desk without a backend.

use super::{
    Desk,
    couriers::Couriers,
    desk::DeskParts,
    keeper::Keeper,
    passwords::Passwords,
    registry::{Registry, memory::Documents},
    users::Book,
};
use crate::{
    config::{
        AuthSettings, BackendSettings, Layout, LogSettings, NatsCredential, NatsServer, NatsSettings, Secret, Settings,
        StationSettings,
    },
    limits::Limits,
    metrics::{ControlMetrics, ShardMetrics, StoreMetrics},
    rt::DriverChoice,
};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// A desk over a registry in memory, and what its readiness is made of. Runs on the current runtime.
pub(crate) fn desk_in_memory() -> (Desk, Arc<AtomicBool>, Arc<StoreMetrics>) {
    let mut settings = settings(0);
    settings.backend = BackendSettings::Local;
    let metrics = Arc::new(ControlMetrics::default());
    let (book, _) = watch::channel(Arc::new(Book::default()));
    let keeper = Keeper {
        registry: Registry::Memory(Documents::default()),
        root: settings.auth.root_user.clone(),
        couriers: Couriers::new(Vec::new(), Arc::clone(&metrics)),
        metrics,
        book,
        changed: Arc::new(Notify::new()),
    };
    let (draining, store) = (Arc::new(AtomicBool::new(false)), Arc::new(StoreMetrics::default()));
    let parts = DeskParts {
        settings: Arc::new(settings),
        passwords: Passwords::new(),
        draining: Arc::clone(&draining),
        shards: vec![Arc::new(ShardMetrics::default())],
        store: Some(Arc::clone(&store)),
    };
    let desk = Desk::new(&keeper, parts);
    tokio::spawn(keeper.run());
    (desk, draining, store)
}

/// Settings of the original's defaults for this broker.
pub(crate) fn settings(port: u16) -> Settings {
    let listen = "127.0.0.1:0".parse().expect("an address");
    Settings {
        listen,
        admin_listen: listen,
        data_dir: PathBuf::new(),
        shards: 1,
        driver: DriverChoice::Auto,
        backend: BackendSettings::Nats(NatsSettings {
            servers: vec![NatsServer { host: "127.0.0.1".to_owned(), port }],
            credential: NatsCredential::None,
            registry_bucket: "sluicegate".to_owned(),
        }),
        auth: AuthSettings {
            root_user: "root".to_owned(),
            root_password: Secret::new("memphis-root"),
            access_key: Secret::new("a"),
            refresh_key: Secret::new("b"),
            access_lifetime: Duration::from_secs(900),
            refresh_lifetime: Duration::from_secs(18_000),
            generated: false,
        },
        stations: StationSettings {
            auto_create: true,
            layout: Layout::Plain,
            partitions: 1,
            retention_age: Some(Duration::from_secs(3_600)),
            retention_records: None,
            retention_bytes: None,
            memory: false,
            replicas: 1,
            duplicate_window: Duration::from_secs(120),
        },
        stored_headers: Vec::new(),
        limits: Limits::default(),
        log: LogSettings { filter: String::new(), json: None },
    }
}
