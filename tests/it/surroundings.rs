//! The process outlives its surroundings: readers of its output that close or do not read, terminals that go away, signals that
//! mean something else. None of it ends a request that is under way.

use crate::support::{
    PATIENCE, eventually,
    gateway::{BINARY, Gateway, Plan, ROOT_PASSWORD, ROOT_USER, bare_command},
    http::Http,
    reaper,
    setup::Setup,
};
use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

on_setups!(
    local_epoll LOCAL_EPOLL, broker_io_uring NATS_IO_URING => [
        item7_a_closed_standard_error_ends_no_gateway,
        item7_a_reader_of_the_log_that_does_not_read_holds_up_nothing,
        item7_signals_that_mean_something_else_end_no_request,
    ]
);
on_setups!(
    local_io_uring LOCAL_IO_URING => [
        item7_a_directory_that_is_gone_and_closed_standard_streams_are_no_reason_not_to_run,
        item7_a_reader_that_has_seen_enough_is_no_failure_of_a_command,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";

/// A gateway whose output the test holds in its hands.
#[derive(Debug)]
struct Held {
    gateway: Gateway,
    child: Child,
}

impl Held {
    fn start(plan: Plan, prepare: impl FnOnce(&mut Command)) -> Self {
        let gateway = plan.prepare();
        let mut command = gateway.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        prepare(&mut command);
        let child = command.spawn().unwrap();
        reaper::own_process(child.id());
        eventually("the gateway is ready", PATIENCE, || (gateway.readiness() == Some(200)).then_some(()));
        Self { gateway, child }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// SIGTERM while a request is under way, which is answered; and how the gateway ended.
    #[track_caller]
    fn drain(mut self) -> ExitStatus {
        let path = "/stations/drained/produce/single";
        let whole = self.gateway.authorized("POST", path, &[("Content-Type", "text/plain")], b"in flight");
        let mut http = Http::connect(self.gateway.address());
        http.send(&whole[..whole.len() - 1]);
        thread::sleep(Duration::from_millis(200));
        self.signal("TERM");
        thread::sleep(Duration::from_millis(400));
        http.send(b"t");
        http.response().is_json(200, OK);
        let status = eventually("the end of the gateway", PATIENCE, || self.child.try_wait().unwrap());
        reaper::disown_process(self.child.id());
        status
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        reaper::disown_process(self.child.id());
    }
}

/// The log is what says that a signal came.
fn item7_a_closed_standard_error_ends_no_gateway(setup: Setup) {
    let mut held = Held::start(Plan::new(setup), |command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    drop((held.child.stdout.take(), held.child.stderr.take()));
    for _ in 0..3 {
        held.signal("HUP");
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(held.child.try_wait().unwrap(), None, "a line of the log that nobody takes");
    held.gateway.single("closed", "text/plain", b"x").is_json(200, OK);
    let dropped = dropped_lines(&held.gateway);
    assert!(dropped > 0, "what was lost is counted");
    assert_eq!(held.drain().code(), Some(0), "it drains as ever");
}

fn dropped_lines(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix("sluicegate_log_lines_dropped_total "));
    line.expect("the metric").parse().expect("a number")
}

/// Nothing more goes in before the gateway writes its first line.
fn item7_a_reader_of_the_log_that_does_not_read_holds_up_nothing(setup: Setup) {
    let (mut reader, full) = UnixStream::pair().unwrap();
    fill(&full);
    let held = Held::start(Plan::new(setup), |command| {
        command.stderr(OwnedFd::from(full));
    });
    for _ in 0..3 {
        held.gateway.single("unread", "text/plain", b"x").is_json(200, OK);
        held.signal("HUP");
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(held.gateway.readiness(), Some(200), "the control plane logs too");
    assert_eq!(held.drain().code(), Some(0), "its end waits for no reader");
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(text.iter().all(|byte| *byte == b'x'), "it was full");
}

/// Writes until a writer would wait.
fn fill(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    for size in [65_536, 1] {
        while stream.write(&vec![b'x'; size]).is_ok() {}
    }
    stream.set_nonblocking(false).unwrap();
}

fn item7_signals_that_mean_something_else_end_no_request(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    let path = "/stations/hung-up/produce/single";
    let whole = gateway.authorized("POST", path, &[("Content-Type", "text/plain")], b"in flight");
    let mut http = Http::connect(gateway.address());
    http.send(&whole[..whole.len() - 1]);
    for name in ["HUP", "USR1", "USR2", "XFSZ", "PIPE"] {
        gateway.process().signal(name);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(gateway.process_mut().ended(), None, "SIG{name}");
    }
    http.send(b"t");
    http.response().is_json(200, OK);
    assert_eq!(gateway.readiness(), Some(200));
    let log = gateway.process().stderr();
    assert!(log.contains("SIGHUP") && log.contains("changes nothing"), "{log}");
    // Also while it drains.
    let path = "/stations/hung-up/produce/single";
    let whole = gateway.authorized("POST", path, &[("Content-Type", "text/plain")], b"in flight");
    let mut http = Http::connect(gateway.address());
    http.send(&whole[..whole.len() - 1]);
    thread::sleep(Duration::from_millis(200));
    gateway.process().signal("TERM");
    thread::sleep(Duration::from_millis(400));
    gateway.process().signal("HUP");
    thread::sleep(Duration::from_millis(100));
    http.send(b"t");
    http.response().is_json(200, OK);
    assert_eq!(gateway.process_mut().wait(PATIENCE).code(), Some(0));
}

fn item7_a_directory_that_is_gone_and_closed_standard_streams_are_no_reason_not_to_run(setup: Setup) {
    let gone = crate::support::scratch("gone");
    let held = Held::start(Plan::new(setup), |command| {
        // The shell leaves its directory without one, and its streams closed.
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let variables: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", "rmdir \"$PWD\"; exec \"$@\" <&- >&- 2>&-", "sh"]).arg(program).args(arguments);
        shell.env_clear().envs(variables).current_dir(gone.path());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *command = shell;
    });
    held.gateway.single("homeless", "text/plain", b"x").is_json(200, OK);
    held.signal("HUP");
    thread::sleep(Duration::from_millis(400));
    assert_eq!(held.drain().code(), Some(0));
}

/// How a command ends whose standard output and standard error nobody reads.
fn unread(gateway: &Gateway, arguments: &[&str], input: &str) -> Option<i32> {
    let mut command = bare_command(gateway.dir());
    command.args(arguments).env("ROOT_USER", ROOT_USER).env("ROOT_PASSWORD", ROOT_PASSWORD);
    assert_eq!(command.get_program(), BINARY);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait().unwrap().code()
}

fn item7_a_reader_that_has_seen_enough_is_no_failure_of_a_command(setup: Setup) {
    let gateway = Gateway::start(setup);
    let (admin, data) = (format!("http://{}", gateway.admin()), format!("http://{}", gateway.address()));
    for (arguments, input, expect) in [
        (&["station", "list", "--url", &admin][..], "", 0),
        (&["user", "list", "--json", "--url", &admin], "", 0),
        (&["config", "print"], "", 0),
        (&["--help"], "", 0),
        (&["produce", "quiet", "--url", &data], "1\n2\n", 0),
        (&["bench", "produce", "--url", &data, "--password", ROOT_PASSWORD, "-n", "3", "--warmup", "1ms"], "", 0),
        // What fails has its code, whoever reads the reason.
        (&["station", "create", "a b", "--url", &admin], "", 64),
        (&["serve", "--shards", "many"], "", 64),
        (&["--no-such-flag"], "", 64),
    ] {
        assert_eq!(unread(&gateway, arguments, input), Some(expect), "{arguments:?}");
    }
    let body = b"{\"consumer_name\":\"c\",\"batch_size\":10,\"batch_max_wait_time_ms\":2000}";
    let headers = [("Content-Type", "application/json")];
    let consumed = gateway.post("/stations/quiet/consume/batch", &headers, body);
    assert_eq!(consumed.json().as_array().map(Vec::len), Some(2), "stored, and said with exit code 0");
}
