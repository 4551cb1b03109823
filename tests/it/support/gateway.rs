//! The binary under test, started as a user would start it.

use super::{
    PATIENCE,
    cluster::Cluster,
    eventually,
    http::{self, Response},
    nats::NatsServer,
    ports,
    process::Process,
    scratch,
    setup::{Backend, Setup},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Name of the user that every gateway has.
pub const ROOT_USER: &str = "root";
/// Its password.
pub const ROOT_PASSWORD: &str = "Sluice-Root1!";
/// Signs access tokens.
pub const ACCESS_SECRET: &str = "access-secret-of-the-tests-0123456789abcdef0123456789";
/// Signs refresh tokens.
pub const REFRESH_SECRET: &str = "refresh-secret-of-the-tests-0123456789abcdef012345678";

/// The built binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_sluicegate");

/// How to start one.
#[derive(Debug, Clone)]
pub struct Plan {
    setup: Setup,
    config: String,
    nats_url: Option<String>,
    nats_config: String,
    shards: u16,
}

/// A running gateway, with a broker of its own where its setup has one.
#[derive(Debug)]
pub struct Gateway {
    plan: Plan,
    address: SocketAddr,
    admin: SocketAddr,
    dir: tempfile::TempDir,
    process: Option<Process>,
    nats: Option<NatsServer>,
    token: OnceLock<String>,
}

impl Plan {
    /// The defaults of a setup: two shards, a broker of its own, no configuration file.
    pub fn new(setup: Setup) -> Self {
        let (config, nats_config) = (String::new(), String::new());
        Self { setup, config, nats_url: None, nats_config, shards: 2 }
    }

    /// Lines of the configuration file.
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// A broker that the test runs itself.
    pub fn nats_url(mut self, url: &str) -> Self {
        self.nats_url = Some(url.to_owned());
        self
    }

    /// Further configuration of the broker.
    pub fn nats_config(mut self, lines: &str) -> Self {
        self.nats_config.push_str(lines);
        self
    }

    /// Number of shards.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Gateway {
        let mut gateway = self.prepare();
        gateway.restart();
        gateway
    }

    /// Everything but the process: for tests that do not wait for it to be ready.
    pub fn prepare(self) -> Gateway {
        let own_nats = self.setup.backend == Backend::Nats && self.nats_url.is_none();
        let nats = own_nats.then(|| {
            if self.setup.replicated {
                assert_eq!(self.nats_config, "", "the cluster is everybody's");
                Cluster::shared().account()
            } else {
                NatsServer::with_config(&self.nats_config)
            }
        });
        let (address, admin, dir) = (ports::free(), ports::free(), scratch("gateway"));
        if !self.config.is_empty() {
            std::fs::write(dir.path().join("sluicegate.toml"), &self.config).unwrap();
        }
        Gateway { plan: self, address, admin, dir, process: None, nats, token: OnceLock::new() }
    }
}

impl Gateway {
    /// Starts one with the defaults of a setup.
    pub fn start(setup: Setup) -> Self {
        Plan::new(setup).start()
    }

    /// The data port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The setup it runs on.
    pub fn setup(&self) -> Setup {
        self.plan.setup
    }

    /// Its directory: `data` below it is the data directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its own broker.
    pub fn nats(&self) -> &NatsServer {
        self.nats.as_ref().unwrap()
    }

    /// Its own broker, to stop and start it.
    pub fn nats_mut(&mut self) -> &mut NatsServer {
        self.nats.as_mut().unwrap()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// The process, to wait for it.
    pub fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// The command that `start` runs, for tests that want to see it end.
    pub fn command(&self) -> Command {
        let mut command = bare_command(self.dir());
        let data = self.dir().join("data");
        command.args(["serve", "--listen", &self.address.to_string(), "--admin-listen", &self.admin.to_string()]);
        command.arg("--data-dir").arg(data);
        command.args(["--driver", self.plan.setup.driver.word(), "--shards", &self.plan.shards.to_string()]);
        if let Some(url) = self.broker_url() {
            command.args(["--nats", &url]);
        }
        if let Some(path) = self.config_path() {
            command.arg("--config").arg(path);
        }
        if self.plan.setup.replicated {
            command.env("SLUICEGATE_STATIONS_REPLICAS", "3");
        }
        command.env("ROOT_USER", ROOT_USER).env("ROOT_PASSWORD", ROOT_PASSWORD);
        command.env("JWT_SECRET", ACCESS_SECRET).env("REFRESH_JWT_SECRET", REFRESH_SECRET);
        command
    }

    /// Runs one of the binary's client commands as root with this standard input.
    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = bare_command(self.dir());
        command.args(arguments).env("ROOT_USER", ROOT_USER).env("ROOT_PASSWORD", ROOT_PASSWORD);
        with_input(command, input)
    }

    /// Starts the process (again) on the same ports and directory, and waits until it is ready.
    pub fn restart(&mut self) {
        self.restart_without_waiting();
        self.wait_ready();
    }

    /// Starts the process (again).
    pub fn restart_without_waiting(&mut self) {
        drop(self.process.take());
        self.process = Some(Process::start(self.command(), self.dir(), "gateway"));
    }

    /// Waits for `/readyz` to say 200.
    pub fn wait_ready(&mut self) {
        let admin = self.admin;
        let process = self.process.as_mut().unwrap();
        eventually("the gateway is ready", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("the gateway ended: {status}\n{}", process.tail());
            }
            (readiness(admin) == Some(200)).then_some(())
        });
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        self.process_mut().kill9();
    }

    /// SIGTERM; how it ended, and after how long.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.process_mut().terminate(PATIENCE)
    }

    /// The status of `/readyz`, if it answers.
    pub fn readiness(&self) -> Option<u16> {
        readiness(self.admin)
    }

    /// An access token of root, made once.
    pub fn token(&self) -> &str {
        self.token.get_or_init(|| self.login(ROOT_USER, ROOT_PASSWORD))
    }

    /// An access token of a user.
    #[track_caller]
    pub fn login(&self, user: &str, password: &str) -> String {
        let body = serde_json::json!({"username": user, "password": password}).to_string();
        let response = self.authenticate(&body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["jwt"].as_str().unwrap().to_owned()
    }

    /// `POST /auth/authenticate` with a JSON body.
    #[track_caller]
    pub fn authenticate(&self, body: &str) -> Response {
        let headers = [("Content-Type", "application/json")];
        http::once(self.address, "POST", "/auth/authenticate", &headers, body.as_bytes())
    }

    /// POST with root's token. The servers of a cluster may hold elections whenever the machine is busy: what is said not to be stored
    /// for that is sent again.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let bearer = format!("Bearer {}", self.token());
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        let begun = Instant::now();
        loop {
            let response = http::once(self.address, "POST", path, &headers, body);
            let is_leaderless = self.plan.setup.replicated && response.text().contains("no stream answers");
            if response.status != 503 || !is_leaderless || begun.elapsed() > PATIENCE {
                return response;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Produces one record as root.
    #[track_caller]
    pub fn single(&self, station: &str, content_type: &str, body: &[u8]) -> Response {
        self.post(&format!("/stations/{station}/produce/single"), &[("Content-Type", content_type)], body)
    }

    /// Produces a JSON array as root.
    #[track_caller]
    pub fn batch(&self, station: &str, body: &str) -> Response {
        let headers = [("Content-Type", "application/json")];
        self.post(&format!("/stations/{station}/produce/batch"), &headers, body.as_bytes())
    }

    /// Consumes as root with this JSON body.
    #[track_caller]
    pub fn consume(&self, station: &str, body: &str) -> Response {
        let headers = [("Content-Type", "application/json")];
        self.post(&format!("/stations/{station}/consume/batch"), &headers, body.as_bytes())
    }

    /// `/metrics`, whole.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let response = http::get(self.admin, "/metrics");
        assert_eq!(response.status, 200);
        response.text().to_owned()
    }

    /// A request's bytes with root's bearer token.
    pub fn authorized(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let bearer = format!("Bearer {}", self.token());
        http::request(method, target, &[&[("Authorization", bearer.as_str())], headers].concat(), body)
    }

    fn broker_url(&self) -> Option<String> {
        self.plan.nats_url.clone().or_else(|| self.nats.as_ref().map(NatsServer::url))
    }

    fn config_path(&self) -> Option<PathBuf> {
        (!self.plan.config.is_empty()).then(|| self.dir().join("sluicegate.toml"))
    }
}

/// The binary with an empty environment, at home in `dir`.
pub fn bare_command(dir: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().env("HOME", dir).env("RUST_BACKTRACE", "1").current_dir(dir);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs a command to its end with something on standard input.
pub fn with_input(mut command: Command, input: &str) -> Output {
    use std::{io::Write as _, process::Stdio};
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may be gone already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn readiness(admin: SocketAddr) -> Option<u16> {
    let mut http = http::Http::try_connect(admin).ok()?;
    http.try_send(&http::request("GET", "/readyz", &[("Connection", "close")], b"")).ok()?;
    http.try_response(true).ok().map(|response| response.status)
}
