//! A nats-server for one test.

use crate::{control::tests::support::PATIENCE, rt::clock};
use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A server with its own port and directory; killed when dropped.
pub(super) struct Server {
    child: Option<Child>,
    pub(super) port: u16,
    /// Where its monitoring listens.
    pub(super) http: u16,
    directory: tempfile::TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    /// Starts a server with JetStream; `extra` goes to its configuration.
    pub(super) fn start(extra: &str) -> Self {
        let (port, http) = (free_port(), free_port());
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self { child: None, port, http, directory };
        server.configure("", extra);
        server.run();
        server
    }

    /// Starts a server that is no JetStream.
    pub(super) fn start_without_jetstream() -> Self {
        let mut server =
            Self { child: None, port: free_port(), http: 0, directory: tempfile::tempdir().expect("a directory") };
        let config = format!("listen: \"127.0.0.1:{}\"\n", server.port);
        std::fs::write(server.directory.path().join("server.conf"), config).expect("a configuration");
        server.run();
        server
    }

    /// Starts a server that syncs so (`always`, `"30s"`), with its monitoring on `http`.
    pub(super) fn start_monitored(sync_interval: &str) -> Self {
        let mut server = Self::start("");
        server.kill();
        server.sync(sync_interval);
        server.run();
        server
    }

    /// From the next run on it syncs so.
    pub(super) fn sync(&self, sync_interval: &str) {
        let monitoring = format!("http: \"127.0.0.1:{}\"", self.http);
        self.configure(&format!("sync_interval: {sync_interval}"), &monitoring);
    }

    fn configure(&self, jetstream: &str, extra: &str) {
        let (port, store) = (self.port, self.directory.path().join("store"));
        let config =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{\nstore_dir: {store:?}\n{jetstream}\n}}\n{extra}\n");
        std::fs::write(self.directory.path().join("server.conf"), config).expect("a configuration");
    }

    /// Starts the server (again) and waits until it answers.
    pub(super) fn run(&mut self) {
        let path = std::env::var_os("SLUICEGATE_NATS_SERVER").map(PathBuf::from);
        let path = path.expect("SLUICEGATE_NATS_SERVER is not set: run `make test`, which brings a nats-server");
        let child = Command::new(path)
            .arg("-c")
            .arg(self.directory.path().join("server.conf"))
            .arg("-l")
            .arg(self.directory.path().join("server.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let began = clock::now();
        while clock::since(began) < PATIENCE {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let mut info = [0; 4];
                if stream.read_exact(&mut info).is_ok() && &info == b"INFO" {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.directory.path().join("server.log"));
        panic!("nats-server does not answer: {}", log.unwrap_or_default());
    }

    /// Ends the server as a power cut would.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours");
            child.wait().expect("the server ends");
        }
    }

    /// Stops the server where it is: what is sent to it from now on is not read.
    pub(super) fn freeze(&self) {
        let child = self.child.as_ref().expect("the server runs");
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("the server is ours");
        // On a busy machine it goes on for a moment, and takes what is sent to it meanwhile.
        let began = clock::now();
        while !self.is_stopped() {
            assert!(clock::since(began) < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether each of its threads stands still.
    fn is_stopped(&self) -> bool {
        let child = self.child.as_ref().expect("the server runs");
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("the server's threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in brackets.
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
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
