//! A nats-server for one test, and a gateway's control plane without its shards.

use crate::{
    config::Settings,
    control::{ControlHandle, ControlInputs, Desk, spawn},
    directory::messages::{Answer, Ask, Push, Question},
    metrics::ShardMetrics,
    reject::Reject,
    station::{Consumer, Name, Station},
};
use std::{
    cell::Cell,
    io::Read,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// Longer than any question may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server with its own port and directory; killed when dropped.
pub(super) struct Server {
    child: Option<Child>,
    pub(super) port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts a server with JetStream; `extra` goes to its configuration.
    pub(super) fn start(extra: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("store");
        let config = format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{extra}\n");
        std::fs::write(directory.path().join("server.conf"), config).expect("a configuration");
        let mut server = Self { child: None, port, directory };
        server.run();
        server
    }

    /// Starts the server (again) and waits until it answers.
    pub(super) fn run(&mut self) {
        let path = std::env::var_os("SLUICEGATE_NATS_SERVER").map(PathBuf::from);
        let path = path.expect("SLUICEGATE_NATS_SERVER is not set: run `make test`, which brings a nats-server");
        let child = Command::new(path)
            .arg("-c")
            .arg(self.directory.path().join("server.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let mut info = [0; 4];
                if stream.read_exact(&mut info).is_ok() && &info == b"INFO" {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nats-server does not answer");
    }

    /// Ends the server as a power cut would.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours");
            child.wait().expect("the server ends");
        }
    }

    /// A client of our own, to look at what was made.
    pub(super) async fn client(&self) -> async_nats::Client {
        async_nats::connect(format!("127.0.0.1:{}", self.port)).await.expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A control plane and one shard's side of its channels.
pub(super) struct Gateway {
    control: Option<ControlHandle>,
    asks: flume::Sender<Ask>,
    pub(super) pushes: flume::Receiver<Push>,
    pub(super) desk: Desk,
    pub(super) metrics: Arc<ShardMetrics>,
    tickets: Cell<u64>,
}

impl Gateway {
    /// Starts a control plane with these settings.
    pub(super) fn start(settings: Settings) -> Self {
        let (asks, questions) = flume::bounded(1_024);
        let (inbox, pushes) = flume::bounded(4);
        let metrics = Arc::new(ShardMetrics::default());
        metrics.link_up.set(1);
        let (desk_out, desk_in) = flume::bounded(1);
        let inputs = ControlInputs {
            settings: Arc::new(settings),
            asks: questions,
            shards: vec![inbox],
            metrics: vec![Arc::clone(&metrics)],
            local: None,
        };
        let control = spawn(inputs, move |desk| {
            desk_out.send(desk).expect("the test waits");
            std::future::ready(())
        });
        let desk = desk_in.recv_timeout(PATIENCE).expect("a desk");
        Self {
            control: Some(control.expect("the control plane starts")),
            asks,
            pushes,
            desk,
            metrics,
            tickets: Cell::new(0),
        }
    }

    /// Puts a question and answers its ticket.
    pub(super) fn ask(&self, question: Question) -> u64 {
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        self.asks.send(Ask { shard: 0, ticket, question }).expect("the control plane listens");
        ticket
    }

    /// The next answer, whoever's it is.
    pub(super) fn next_answer(&self) -> (u64, Answer) {
        loop {
            match self.pushes.recv_timeout(PATIENCE).expect("an answer in time") {
                Push::Answer { ticket, answer } => return (ticket, answer),
                Push::Users(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn answer_to(&self, question: Question) -> Answer {
        let ticket = self.ask(question);
        let (answered, answer) = self.next_answer();
        assert_eq!(answered, ticket);
        answer
    }

    pub(super) fn station(&self, name: &str, create: bool) -> Result<Arc<Station>, Reject> {
        match self.answer_to(Question::Station { name: self::name(name), create }) {
            Answer::Station(result) => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(super) fn consumer(&self, station: &Arc<Station>, group: Option<&str>) -> Result<Arc<Consumer>, Reject> {
        let question = Question::Consumer { station: Arc::clone(station), group: group.map(name) };
        match self.answer_to(question) {
            Answer::Consumer(result) => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(super) fn login(&self, account: u32, username: &str, password: &str) -> Result<(), Reject> {
        let question = Question::Login { account, username: username.into(), password: password.into() };
        match self.answer_to(question) {
            Answer::Login(result) => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Waits until the gateway is ready.
    pub(super) fn ready(self) -> Self {
        self.until("ready", |gateway| gateway.desk.reasons_not_ready().is_empty());
        self
    }

    /// Waits until something holds.
    pub(super) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "not {what} in time: {:?}", self.desk.reasons_not_ready());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn handle(&self) -> &ControlHandle {
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

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// Runs the test's own calls to the broker.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
