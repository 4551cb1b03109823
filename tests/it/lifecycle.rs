//! From the first minute to the last second: start, configuration, double start, drain, exit.

use crate::support::{
    PATIENCE, eventually,
    gateway::{ACCESS_SECRET, BINARY, Gateway, Plan, REFRESH_SECRET, ROOT_PASSWORD, bare_command, with_input},
    http::{self, Http, request},
    ports,
    process::Process,
    readback::texts,
    scratch,
    setup::{Setup, no_io_uring},
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Output,
    thread,
    time::Duration,
};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        sigterm_finishes_what_is_in_flight_and_exits_0,
        nothing_acknowledged_is_lost_by_a_drain_under_load,
        a_consume_call_that_waits_is_answered_when_the_gateway_drains,
    ]
);

mod signals {
    use super::*;
    on_setups!(local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [
        sigint_drains_as_well,
        a_second_signal_exits_at_once,
        the_driver_and_its_reason_are_logged_and_measured,
    ]);
}

mod secrets {
    use super::*;
    on_setups!(local_io_uring LOCAL_IO_URING, nats_epoll NATS_EPOLL => [no_secret_is_ever_logged]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const EXIT_CONFIG: Option<i32> = Some(64);

/// A produce request with its last byte still to come.
fn nearly_all(gateway: &Gateway, station: &str) -> Http {
    let path = format!("/stations/{station}/produce/single");
    let whole = gateway.authorized("POST", &path, &[("Content-Type", "text/plain")], b"in flight");
    let mut http = Http::connect(gateway.address());
    http.send(&whole[..whole.len() - 1]);
    thread::sleep(Duration::from_millis(200));
    http
}

fn sigterm_finishes_what_is_in_flight_and_exits_0(setup: Setup) {
    drains(setup, "TERM");
}

fn sigint_drains_as_well(setup: Setup) {
    drains(setup, "INT");
}

fn drains(setup: Setup, signal: &str) {
    let mut gateway = Gateway::start(setup);
    let mut flight = nearly_all(&gateway, "drained");
    let mut idle = Http::connect(gateway.address());
    idle.is_alive();
    gateway.process().signal(signal);
    eventually("readiness is false", PATIENCE, || (gateway.readiness() != Some(200)).then_some(()));
    eventually("the listeners are closed", PATIENCE, || TcpStream::connect(gateway.address()).is_err().then_some(()));
    flight.send(b"t");
    let response = flight.response();
    response.is_json(200, OK);
    assert_eq!(response.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    flight.closes();
    idle.closes();
    let status = gateway.process_mut().wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    gateway.restart();
    assert_eq!(texts(&gateway, "drained"), ["in flight"]);
}

fn nothing_acknowledged_is_lost_by_a_drain_under_load(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    let (address, token) = (gateway.address(), gateway.token().to_owned());
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let producers: Vec<_> = (0..16)
            .map(|connection| {
                let token = &token;
                scope.spawn(move || produce_until_closed(address, token, connection))
            })
            .collect();
        thread::sleep(Duration::from_millis(700));
        let (status, took) = gateway.terminate();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(took < PATIENCE, "{took:?}");
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    });
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    gateway.restart();
    let mut stored = texts(&gateway, "drained-load");
    stored.sort_unstable();
    let lost = acknowledged.iter().filter(|text| stored.binary_search(text).is_err()).count();
    let doubled = stored.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!((lost, doubled), (0, 0), "{} acknowledged, {} stored", acknowledged.len(), stored.len());
}

fn produce_until_closed(address: SocketAddr, token: &str, connection: usize) -> Vec<String> {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
    let mut http = Http::connect(address);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let body = format!("{connection} {number}");
        let bytes = request("POST", "/stations/drained-load/produce/single", &headers, body.as_bytes());
        let Ok(()) = http.try_send(&bytes) else { break };
        let Ok(response) = http.try_response(true) else { break };
        if response.status != 200 {
            assert_eq!(response.status, 503, "{}", response.text());
            break;
        }
        acknowledged.push(body);
    }
    acknowledged
}

fn a_consume_call_that_waits_is_answered_when_the_gateway_drains(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    let body = b"{\"consumer_name\":\"c\",\"batch_max_wait_time_ms\":50000}";
    let headers = [("Content-Type", "application/json")];
    let mut waiting = Http::connect(gateway.address());
    waiting.send(&gateway.authorized("POST", "/stations/awaited/consume/batch", &headers, body));
    thread::sleep(Duration::from_secs(1));
    let (status, took) = gateway.terminate();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < Duration::from_secs(7), "the wait held the drain: {took:?}");
    waiting.response().is_json(200, "[]");
}

fn a_second_signal_exits_at_once(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    let _flight = nearly_all(&gateway, "impatient");
    gateway.process().signal("TERM");
    thread::sleep(Duration::from_millis(700));
    assert_eq!(gateway.process_mut().ended(), None, "the first signal waits for what is in flight");
    gateway.process().signal("TERM");
    // Sooner than the first one by itself would end it.
    gateway.process_mut().wait(Duration::from_secs(6));
}

fn the_driver_and_its_reason_are_logged_and_measured(setup: Setup) {
    let gateway = Gateway::start(setup);
    let word = setup.driver.word();
    let log = gateway.process().stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("driver")).collect();
    assert_eq!(lines.len(), 1, "logged once:\n{log}");
    assert!(lines[0].contains(word), "{}", lines[0]);
    let metrics = gateway.metrics();
    let line = metrics.lines().find(|line| line.starts_with("sluicegate_driver_info{")).unwrap();
    assert!(line.contains(&format!("driver=\"{word}")) && line.contains("reason=\""), "{line}");
}

fn no_secret_is_ever_logged(setup: Setup) {
    let gateway = Plan::new(setup).config("[log]\nfilter = \"trace\"").start();
    let token = gateway.token().to_owned();
    gateway.authenticate("{\"username\":\"root\",\"password\":\"a-wrong-password\"}");
    gateway.single("quiet", "text/plain", b"a payload that is nobody's business").is_json(200, OK);
    let target = format!("/stations/quiet/produce/single?authorization={token}");
    http::once(gateway.address(), "POST", &target, &[("Content-Type", "text/plain")], b"x").is(200, OK);
    gateway.consume("quiet", "{\"consumer_name\":\"c\"}");
    let log = gateway.process().stderr() + &gateway.process().stdout();
    let shown = gateway.metrics();
    let secrets = [ROOT_PASSWORD, ACCESS_SECRET, REFRESH_SECRET, "a-wrong-password", "nobody's business", &token];
    for secret in secrets {
        assert!(!log.contains(secret), "logged: {secret}");
        assert!(!shown.contains(secret), "measured: {secret}");
    }
}

#[test]
fn auto_takes_a_driver_and_says_why() {
    let (listen, admin) = (ports::free(), ports::free());
    let dir = scratch("auto");
    let mut command = bare_command(dir.path());
    command.args(["serve", "--driver", "auto", "--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    let process = Process::start(command, dir.path(), "gateway");
    wait_for_port(admin);
    let metrics = http::get(admin, "/metrics");
    let line = metrics.text().lines().find(|line| line.starts_with("sluicegate_driver_info{")).unwrap().to_owned();
    let expect = if no_io_uring() { "driver=\"epoll" } else { "driver=\"io_uring" };
    assert!(line.contains(expect), "{line}\n{}", process.tail());
}

#[test]
fn a_second_instance_on_the_same_address_fails_clearly() {
    for setup in [Setup::LOCAL_IO_URING, Setup::LOCAL_EPOLL] {
        let first = Gateway::start(setup);
        for (listen, admin) in [(first.address(), ports::free()), (ports::free(), first.admin())] {
            let dir = scratch("second");
            let taken = if admin == first.admin() { admin } else { listen };
            let output = serve_and_wait(dir.path(), listen, admin, &[]);
            assert!(!output.status.success());
            let text = text_of(&output);
            assert!(text.contains(&taken.port().to_string()) && text.contains("in use"), "{text}");
            assert!(!text.contains("panicked"), "{text}");
        }
        first.single("unharmed", "text/plain", b"x").is_json(200, OK);
    }
}

#[test]
fn a_second_instance_on_the_same_data_fails_clearly() {
    let first = Gateway::start(Setup::LOCAL_EPOLL);
    let dir = scratch("second");
    let data = first.dir().join("data");
    let output = serve_and_wait(dir.path(), ports::free(), ports::free(), &["--data-dir", data.to_str().unwrap()]);
    assert!(!output.status.success());
    let text = text_of(&output);
    assert!(text.contains(data.to_str().unwrap()), "which directory: {text}");
    assert!(!text.contains("panicked"), "{text}");
    first.single("unharmed", "text/plain", b"x").is_json(200, OK);
}

/// Configuration files that are wrong, and what the message must name.
const WRONG: [(&str, &[&str]); 11] = [
    ("[limits]\nhaed_timeout = \"2s\"", &["haed_timeout", "head_timeout"]),
    ("lisen = \"127.0.0.1:1\"", &["lisen", "listen"]),
    ("[station]\npartitions = 1", &["station", "stations"]),
    ("[stations]\npartitions = 0", &["partitions"]),
    ("[stations]\npartitions = 10001", &["partitions"]),
    ("[limits]\nhead_bytes_max = 10", &["head_bytes_max"]),
    ("[limits]\nbody_bytes_max = \"1TiB\"", &["body_bytes_max"]),
    ("[limits]\nidle_timeout = \"soon\"", &["idle_timeout"]),
    ("driver = \"kqueue\"", &["driver", "epoll"]),
    ("shards = \"many\"", &["shards"]),
    ("this is not TOML", &["1"]),
];

#[test]
fn a_wrong_configuration_exits_64_before_any_port_is_bound() {
    let dir = scratch("wrong");
    // A program that binds first would find its port taken and fail with something else than 64.
    let taken = TcpListener::bind(ports::free()).unwrap();
    let address = taken.local_addr().unwrap();
    let path = dir.path().join("wrong.toml");
    for (toml, named) in WRONG {
        std::fs::write(&path, toml).unwrap();
        let output = serve_and_wait(dir.path(), address, address, &["--config", path.to_str().unwrap()]);
        let text = text_of(&output);
        assert_eq!(output.status.code(), EXIT_CONFIG, "{toml}: {text}");
        for word in named {
            assert!(text.contains(word), "{toml}: {word} in {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
    let missing = serve_and_wait(dir.path(), address, address, &["--config", "/nonexistent/x.toml"]);
    assert_eq!(missing.status.code(), EXIT_CONFIG, "{}", text_of(&missing));
}

#[test]
fn config_check_and_print_show_everything_but_secrets() {
    let dir = scratch("print");
    let path = dir.path().join("good.toml");
    let toml = "[auth]\nroot_password = \"hunter2hunter2\"\naccess_key = \"0123456789abcdef0123456789abcdeX\"\n\
                refresh_key = \"0123456789abcdef0123456789abcdeY\"\n[limits]\nhold = \"2s\"\n\
                [nats]\nurl = \"nats://someone:s3cr3t@127.0.0.1:4222\"\n";
    std::fs::write(&path, toml).unwrap();
    for action in ["check", "print"] {
        let mut command = bare_command(dir.path());
        command.args(["config", action, "--config", path.to_str().unwrap()]);
        let output = with_input(command, "");
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        for secret in ["hunter2hunter2", "abcdeX", "abcdeY", "s3cr3t"] {
            assert!(!text.contains(secret), "{action} shows {secret}: {text}");
        }
        assert_eq!(action == "print", text.contains("hold"), "{text}");
    }
    std::fs::write(&path, "lisen = 1").unwrap();
    let mut command = bare_command(dir.path());
    command.args(["config", "check", "--config", path.to_str().unwrap()]);
    assert_eq!(with_input(command, "").status.code(), EXIT_CONFIG);
}

#[test]
fn another_address_than_loopback_needs_secrets() {
    let dir = scratch("open");
    let port = ports::free().port();
    let listen: SocketAddr = format!("0.0.0.0:{port}").parse().unwrap();
    let output = serve_and_wait(dir.path(), listen, ports::free(), &[]);
    let text = text_of(&output);
    assert_eq!(output.status.code(), EXIT_CONFIG, "{text}");
    assert!(text.to_lowercase().contains("secret") || text.contains("JWT_SECRET"), "what to do: {text}");
}

#[test]
fn the_first_minute_works_as_printed() {
    assert!(
        std::process::Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()),
        "this test pastes the printed curl commands, and there is no curl on this machine"
    );
    let dir = scratch("first");
    let (listen, admin) = (ports::free(), ports::free());
    let mut command = bare_command(dir.path());
    command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
    let mut process = Process::start(command, dir.path(), "gateway");
    wait_for_port(listen);
    let printed = eventually("four curls are printed", PATIENCE, || {
        let text = process.stdout();
        (text.matches("curl ").count() >= 4).then_some(text)
    });
    assert!(printed.contains(&listen.to_string()), "the address: {printed}");
    let script = commands_of(&printed);
    assert_eq!(script.matches("curl ").count(), 4, "{script}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(dir.path());
    let output = with_input(shell, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{}", text_of(&output));
    assert_eq!(text.matches(OK).count(), 2, "{script}\n{text}");
    assert!(text.contains("[{\"") && text.contains("\"message\""), "what was produced comes out: {script}\n{text}");
    let (status, _) = process.terminate(PATIENCE);
    assert_eq!(status.code(), Some(0));
    generated_secrets_are_for_their_owner_alone(dir.path());
}

/// The part of the print-out that is for the shell.
fn commands_of(printed: &str) -> &str {
    let at = printed.find("# Paste").unwrap_or_else(|| panic!("what is to be pasted: {printed}"));
    &printed[at..]
}

fn generated_secrets_are_for_their_owner_alone(dir: &Path) {
    let mut directories = vec![dir.to_owned()];
    let mut found = 0;
    while let Some(path) = directories.pop() {
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            let (kind, path) = (entry.file_type().unwrap(), entry.path());
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if kind.is_dir() {
                directories.push(path);
            } else if ["secret", "credential", "key"].iter().any(|word| name.contains(word)) {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 0, "the generated secrets are kept in the data directory");
}

#[test]
fn the_program_says_what_it_is() {
    for (arguments, expect) in
        [(&["--version"][..], env!("CARGO_PKG_VERSION")), (&["--help"], "serve"), (&["serve", "--help"], "--listen")]
    {
        let output = std::process::Command::new(BINARY).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text_of(&output).contains(expect), "{arguments:?}: {}", text_of(&output));
    }
}

/// Runs `serve` where it is expected to end by itself, and kills it if it does not.
fn serve_and_wait(dir: &Path, listen: SocketAddr, admin: SocketAddr, more: &[&str]) -> Output {
    let mut command = bare_command(dir);
    command.args(["serve", "--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
    if !more.contains(&"--data-dir") {
        command.arg("--data-dir").arg(dir.join("data"));
    }
    command.args(more);
    for name in ["serve.out", "serve.err"] {
        drop(std::fs::remove_file(dir.join(name)));
    }
    let mut process = Process::start(command, dir, "serve");
    let status = process.wait(PATIENCE);
    Output { status, stdout: process.stdout().into_bytes(), stderr: process.stderr().into_bytes() }
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn wait_for_port(address: SocketAddr) {
    eventually("the port answers", PATIENCE, || TcpStream::connect(address).ok().map(drop));
}
