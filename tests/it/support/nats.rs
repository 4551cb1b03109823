//! A real nats-server with JetStream, one per test, on its own port and directory.
//!
//! Which one: `SLUICEGATE_NATS_SERVER` (a path), else the newest that `make nats-server` installed.
//! None is a failure, not a skipped test. Three of them together are `cluster`.

use super::{PATIENCE, cluster::SERVERS, eventually, ports, process::Process, scratch};
use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// The version that the suite is about when nothing else is said; the Makefile installs it.
pub const VERSION: &str = "2.15.1";

/// A running server, or one that is stopped and can be started again, or an account at servers that others run.
#[derive(Debug)]
pub struct NatsServer {
    address: SocketAddr,
    url: String,
    account: Option<String>,
    /// Of a server of one's own.
    dir: Option<tempfile::TempDir>,
    process: Option<Process>,
}

impl NatsServer {
    /// Starts one with JetStream.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// Starts one with JetStream and further lines of configuration.
    pub fn with_config(lines: &str) -> Self {
        Self::with_raw_config(&format!("jetstream {{ store_dir: \"@DIR@/js\" }}\n{lines}"))
    }

    /// Starts one with these lines alone; `@DIR@` stands for its directory.
    pub fn with_raw_config(lines: &str) -> Self {
        let mut server = Self::stopped(lines);
        server.restart();
        server
    }

    /// One with JetStream that is not started yet: `restart` starts it.
    pub fn not_yet_started() -> Self {
        Self::stopped("jetstream { store_dir: \"@DIR@/js\" }")
    }

    /// One with these lines alone that is not started yet: `restart` starts it.
    pub fn stopped(lines: &str) -> Self {
        let (address, dir) = (ports::free(), scratch("nats"));
        let mut text = String::new();
        writeln!(text, "host: \"127.0.0.1\"\nport: {}\nserver_name: \"{}\"", address.port(), name(address)).unwrap();
        text.push_str(&lines.replace("@DIR@", dir.path().to_str().unwrap()));
        std::fs::write(dir.path().join("nats.conf"), text).unwrap();
        Self { address, url: format!("nats://{address}"), account: None, dir: Some(dir), process: None }
    }

    /// An account of its own (the name is its user's and its password, too) at a cluster that others start and stop.
    pub fn account(name: &str, addresses: &[SocketAddr]) -> Self {
        let url =
            addresses.iter().map(|address| format!("nats://{name}:{name}@{address}")).collect::<Vec<_>>().join(",");
        Self { address: addresses[0], url, account: Some(name.to_owned()), dir: None, process: None }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://…` for the gateway.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What others call it.
    pub fn name(&self) -> String {
        name(self.address)
    }

    /// Copies that everything of it is to have.
    pub fn copies(&self) -> usize {
        if self.account.is_some() { SERVERS } else { 1 }
    }

    /// The fields of CONNECT by which one gets to its account.
    pub fn login(&self) -> String {
        self.account.as_ref().map_or_else(String::new, |name| format!("\"user\":\"{name}\",\"pass\":\"{name}\","))
    }

    /// Starts it (again) on the same port and directory, and waits until it speaks.
    pub fn restart(&mut self) {
        self.stop();
        let dir = self.dir.as_ref().unwrap().path();
        let mut command = Command::new(binary());
        command.arg("-c").arg(dir.join("nats.conf"));
        let mut process = Process::start(command, dir, "nats-server");
        eventually("nats-server is ready", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("nats-server ended: {status}\n{}", process.tail());
            }
            let ready = process.stderr().matches("Server is ready").count() > process_starts(&process);
            (ready && TcpStream::connect(self.address).is_ok()).then_some(())
        });
        self.process = Some(process);
    }

    /// Whether it has been started and not stopped since.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Sends a signal by name, and does not wait.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// An orderly stop.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(PATIENCE);
        }
    }

    /// Waits until it has ended by itself, as it does some time after it was told to (`USR2`: lame duck mode).
    pub fn wait_for_its_end(&mut self, limit: Duration) {
        if let Some(mut process) = self.process.take() {
            process.wait(limit);
        }
    }
}

/// A server's name by its port.
fn name(address: SocketAddr) -> String {
    format!("t{}", address.port())
}

/// `nats-server --version` as it prints it.
pub fn version_line() -> String {
    let output = Command::new(binary()).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// How often "Server is ready" was already in the log when this start began: the log is appended to.
fn process_starts(process: &Process) -> usize {
    process.stderr().matches("Starting nats-server").count().saturating_sub(1)
}

fn binary() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = match std::env::var_os("SLUICEGATE_NATS_SERVER") {
        Some(path) => root.join(path),
        None => root.join("target/nats-server").join(VERSION).join("bin/nats-server"),
    };
    assert!(path.is_file(), "no nats-server at {}: run `make test`, which installs it", path.display());
    path
}
