//! What the tests of this module and of `admin` share: settings, a service without a backend, a
//! control plane without its shards, and a broker that says what it is told to.

pub(crate) use super::fakes::streams::Gate;
use super::fakes::{Health, registry::Documents, streams::Stations};
use crate::control::{
    AdminService, ControlHandle, ControlInputs, OpenBackend, fanout::ShardFanout, knowledge::Knowledge, logins::Logins,
    nats::client::NatsClient, passwords::Passwords, registry::snapshot::Root, service::AdminServiceParts, spawn,
    watcher::Watcher,
};
use crate::{
    backend::local,
    config::{
        AuthSettings, BackendSettings, LogSettings, NatsCredential, NatsServer, NatsSettings, PublishModeChoice,
        Secret, Settings, StationSettings, Unconfirmed,
    },
    directory::messages::{Envelope, Request, Response, ShardUpdate},
    limits::Limits,
    metrics::{ControlMetrics, ShardMetrics, StoreMetrics},
    reject::Reject,
    rt::clock,
    station::{Consumer, Name, Station},
};
use serde_json::Value;
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Longer than any request may take.
pub(in crate::control) const PATIENCE: Duration = Duration::from_secs(15);

/// A service over a registry in memory, where stations are made behind this gate, and what its readiness is made of.
/// Runs on the current runtime.
pub(crate) fn service_in_memory(gate: Gate) -> (AdminService, Arc<AtomicBool>, Arc<StoreMetrics>) {
    let (draining, store) = (Arc::new(AtomicBool::new(false)), Arc::new(StoreMetrics::default()));
    let mut memory = Memory::default();
    memory.stations.1 = gate;
    let replica = Replica::new(&memory, Arc::clone(&draining), Arc::clone(&store));
    (replica.service, draining, store)
}

/// Where logins come from.
pub(in crate::control) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// More than any test causes.
const PUSHES_MAX: usize = 10_000;

/// What replicas in memory share.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Memory {
    pub(in crate::control) documents: Documents,
    pub(in crate::control) stations: Stations,
}

/// A service with one shard, without the rest of a control plane. Runs on the current runtime.
pub(in crate::control) struct Replica {
    pub(in crate::control) service: AdminService,
    fanout: ShardFanout,
    pushes: flume::Receiver<ShardUpdate>,
    pub(in crate::control) metrics: Arc<ControlMetrics>,
}

impl Replica {
    pub(in crate::control) fn of(memory: &Memory) -> Self {
        Self::new(memory, Arc::default(), Arc::default())
    }

    fn new(memory: &Memory, draining: Arc<AtomicBool>, store_metrics: Arc<StoreMetrics>) -> Self {
        let mut settings = settings(0);
        settings.backend = BackendSettings::Local;
        let metrics = Arc::new(ControlMetrics::default());
        let (inbox, pushes) = inbox();
        let fanout = ShardFanout::new(vec![inbox], Arc::clone(&metrics));
        let registry = Arc::new(memory.documents.clone());
        let streams = Arc::new(memory.stations.clone());
        let knowledge = Knowledge::new(&settings.limits, settings.auth.unconfirmed);
        let root = Root::new(&settings.auth);
        let watcher = Watcher::new(registry, root, knowledge, fanout.clone(), Arc::clone(&metrics));
        let passwords = Passwords::new();
        let parts = AdminServiceParts {
            settings: Arc::new(settings),
            streams: Arc::clone(&streams) as _,
            records: Arc::clone(&streams) as _,
            groups: streams,
            health: Arc::new(Health(store_metrics)),
            logins: Logins::new(passwords.clone()),
            passwords,
            draining,
            shards: vec![Arc::new(ShardMetrics::default())],
        };
        let service = AdminService::new(&watcher, parts);
        tokio::spawn(watcher.run());
        Self { service, fanout, pushes, metrics }
    }

    /// Everything that is on its way to the shard, up to now.
    pub(in crate::control) async fn told(&self) -> Vec<ShardUpdate> {
        // Behind it all; nobody else sends this here.
        self.fanout.broadcast(&ShardUpdate::ForgetStations).await;
        let mut told = Vec::new();
        loop {
            match self.pushes.recv_async().await.expect("a push") {
                ShardUpdate::ForgetStations => return told,
                push => told.push(push),
            }
        }
    }
}

/// Settings of the original's defaults for this broker.
pub(crate) fn settings(port: u16) -> Settings {
    let listen = "127.0.0.1:0".parse().expect("an address");
    Settings {
        listen,
        admin_listen: listen,
        data_dir: PathBuf::new(),
        shards: 1,
        driver: crate::config::DriverChoice::Auto,
        backend: BackendSettings::Nats(NatsSettings {
            servers: vec![NatsServer { host: "127.0.0.1".to_owned(), port }],
            credential: NatsCredential::None,
            registry_bucket: "sluicegate".to_owned(),
            publish_mode: PublishModeChoice::Auto,
            monitor_url: None,
        }),
        auth: AuthSettings {
            root_user: "root".to_owned(),
            root_password: Secret::new("memphis-root"),
            access_key: Secret::new("a"),
            refresh_key: Secret::new("b"),
            access_lifetime: Duration::from_secs(900),
            refresh_lifetime: Duration::from_secs(18_000),
            unconfirmed: Unconfirmed::Serve,
            generated: false,
        },
        stations: StationSettings::default(),
        stored_headers: Vec::new(),
        limits: Limits::default(),
        log: LogSettings { filter: String::new(), json: None },
    }
}

/// The inbox of a shard that says at once that it has taken what it was sent, and what it was sent.
fn inbox() -> (flume::Sender<ShardUpdate>, flume::Receiver<ShardUpdate>) {
    let (inbox, told) = flume::bounded(4);
    let (kept, pushes) = flume::bounded(PUSHES_MAX);
    std::thread::spawn(move || {
        for push in told {
            if !matches!(push, ShardUpdate::Taken(_)) && kept.send(push).is_err() {
                break;
            }
        }
    });
    (inbox, pushes)
}

/// A control plane and one shard's side of its channels.
pub(in crate::control) struct Gateway {
    control: Option<ControlHandle>,
    asks: flume::Sender<Envelope>,
    pub(in crate::control) pushes: flume::Receiver<ShardUpdate>,
    pub(in crate::control) service: AdminService,
    pub(in crate::control) metrics: Arc<ShardMetrics>,
    tickets: Cell<u64>,
}

impl Gateway {
    /// Starts a control plane on a broker.
    pub(in crate::control) fn start(settings: Settings) -> Self {
        let BackendSettings::Nats(nats) = settings.backend.clone() else { panic!("a broker") };
        Self::start_on(settings, OpenBackend::Nats(nats))
    }

    /// Starts a control plane on the embedded store.
    pub(in crate::control) fn start_local(mut settings: Settings, store: Arc<local::Store>) -> Self {
        settings.backend = BackendSettings::Local;
        Self::start_on(settings, OpenBackend::Local(store))
    }

    fn start_on(settings: Settings, backend: OpenBackend) -> Self {
        let (asks, questions) = flume::bounded(1_024);
        let (inbox, pushes) = inbox();
        let metrics = Arc::new(ShardMetrics::default());
        metrics.link_up.set(1);
        let (desk_out, desk_in) = flume::bounded(1);
        let inputs = ControlInputs {
            settings: Arc::new(settings),
            backend,
            asks: questions,
            shards: vec![inbox],
            metrics: vec![Arc::clone(&metrics)],
        };
        let control = spawn(inputs, move |service| {
            desk_out.send(service).expect("the test waits");
            std::future::ready(())
        });
        let service = desk_in.recv_timeout(PATIENCE).expect("a service");
        Self {
            control: Some(control.expect("the control plane starts")),
            asks,
            pushes,
            service,
            metrics,
            tickets: Cell::new(0),
        }
    }

    /// Sends a request and answers its ticket.
    pub(in crate::control) fn ask(&self, request: Request) -> u64 {
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        self.asks.send(Envelope { shard: 0, ticket, request }).expect("the control plane listens");
        ticket
    }

    /// The next answer, whoever's it is.
    pub(in crate::control) fn next_answer(&self) -> (u64, Response) {
        loop {
            match self.pushes.recv_timeout(PATIENCE).expect("an answer in time") {
                ShardUpdate::Response { ticket, response: answer } => return (ticket, answer),
                ShardUpdate::Drain => panic!("nobody drains it"),
                _ => {}
            }
        }
    }

    pub(in crate::control) fn answer_to(&self, request: Request) -> Response {
        let ticket = self.ask(request);
        let (answered, answer) = self.next_answer();
        assert_eq!(answered, ticket);
        answer
    }

    pub(in crate::control) fn station(&self, station: &str, create: bool) -> Result<Arc<Station>, Reject> {
        match self.answer_to(Request::Station { name: name(station), create }) {
            Response::Station(result) => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(in crate::control) fn consumer(
        &self,
        station: &Arc<Station>,
        group: Option<&str>,
    ) -> Result<Arc<Consumer>, Reject> {
        let request =
            Request::Consumer { station: Arc::clone(station), group: group.map(name), principal: "tests".into() };
        match self.answer_to(request) {
            Response::Consumer(result) => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(in crate::control) fn login(&self, account: u32, username: &str, password: &str) -> Result<(), Reject> {
        self.version_at_login(account, username, password).map(drop)
    }

    /// The version of the password that a login found right.
    pub(in crate::control) fn version_at_login(
        &self,
        account: u32,
        username: &str,
        password: &str,
    ) -> Result<u32, Reject> {
        let request = Request::Login { account, username: username.into(), password: password.into(), peer: PEER };
        match self.answer_to(request) {
            Response::Login(result) => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Waits until the gateway is ready.
    pub(in crate::control) fn ready(self) -> Self {
        self.until("ready", |gateway| gateway.service.reasons_not_ready().is_empty());
        self
    }

    /// Waits until something holds.
    pub(in crate::control) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = clock::now();
        while !holds(self) {
            assert!(clock::since(began) < PATIENCE, "not {what} in time: {:?}", self.service.reasons_not_ready());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(in crate::control) fn handle(&self) -> &ControlHandle {
        self.control.as_ref().expect("running")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.stop();
        }
    }
}

pub(in crate::control) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// Runs the test's own calls to the broker.
pub(in crate::control) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Connects to a broker of which nobody but the connection is awake: the n-th call gets the n-th answer, `None` is
/// silence.
pub(in crate::control) async fn scripted_broker(answers: Vec<Option<Value>>) -> NatsClient {
    const HOLD: Duration = Duration::from_secs(5);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let settings = settings(listener.local_addr().expect("an address").port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_in_turn(stream, answers.clone()));
        }
    });
    let BackendSettings::Nats(nats) = &settings.backend else { panic!("a broker") };
    NatsClient::connect(nats, HOLD, Arc::new(ControlMetrics::default())).await.expect("settings")
}

async fn answer_in_turn(stream: TcpStream, answers: Vec<Option<Value>>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    write
        .write_all(b"INFO {\"server_id\":\"a\",\"version\":\"2.15.1\",\"max_payload\":1048576,\"headers\":true}\r\n")
        .await
        .ok()?;
    let (mut answers, mut sid) = (answers.into_iter(), String::new());
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.first()? {
            "PING" => write.write_all(b"PONG\r\n").await.ok()?,
            "SUB" => sid = (*words.last()?).to_owned(),
            "PUB" => {
                let length: usize = words.last()?.parse().ok()?;
                lines.read_exact(&mut vec![0; length + 2]).await.ok()?;
                if let Some(answer) = answers.next().flatten() {
                    let (answer, reply) = (answer.to_string(), words.get(2)?);
                    let message = format!("MSG {reply} {sid} {}\r\n{answer}\r\n", answer.len());
                    write.write_all(message.as_bytes()).await.ok()?;
                }
            }
            _ => {}
        }
    }
}
