//! What a crowd and what slow senders cost: 10,000 idle connections under 100 MiB while others work, and 1,000 senders of one byte a
//! second who are cut off by their deadlines. Whom a deadline meets, and when, is for `conn::tests`; this is that it does so behind
//! sockets, and what it does to others.

use crate::support::{
    PATIENCE, alone, eventually,
    gateway::{Gateway, Plan},
    http::{Http, once, request},
    report,
    setup::Setup,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

on_setups!(local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [
    ten_thousand_idle_connections_are_cheap_and_harm_nobody,
    a_thousand_slow_senders_and_whoever_is_idle_are_cut_off,
    a_reader_that_does_not_read_is_cut_off,
    a_chunked_body_over_the_limit_is_413,
    a_client_that_never_pauses_does_not_stop_the_others,
]);

const OK: &str = "{\"error\":null,\"success\":true}";
const IDLE: usize = 10_000;
const IDLE_BYTES_MAX: u64 = 80 * 1_024 * 1_024;
const FILES_NEEDED: u64 = 12_000;
/// How often each of two gateways is loaded, and for how long.
const LOAD_TURNS: usize = 6;
const LOAD_TURN: Duration = Duration::from_millis(500);

fn ten_thousand_idle_connections_are_cheap_and_harm_nobody(setup: Setup) {
    let name = format!("{setup:?}");
    if files_allowed() < FILES_NEEDED {
        return again_with_more_files(&name);
    }
    let _turn = alone();
    let start = || Plan::new(setup).config("[limits]\nidle_timeout = \"10m\"").start();
    let (quiet, gateway) = (start(), start());
    let mut idle = open_idle(&gateway);
    let (without, beside) = load_by_turns(&quiet, &gateway);
    let allocated = gateway.process().allocated_bytes();
    report(&format!(
        "{name}: {IDLE} idle connections: {} KiB allocated; answers: {without} without them, {beside} beside them",
        allocated / 1_024
    ));
    assert!(allocated < IDLE_BYTES_MAX, "{} KiB allocated", allocated / 1_024);
    assert!(beside * 3 > without, "unharmed: {beside} answers beside the idle, {without} without them");
    // They are not merely accepted and forgotten: each tenth one is asked something.
    for stream in idle.iter_mut().step_by(10) {
        stream.write_all(b"GET /monitoring/status HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    for stream in idle.iter_mut().step_by(10) {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

/// The answers of two gateways under the same load in the same time. They take turns, and the one whose turn it is not is stopped,
/// so that whatever else the machine does, now more and now less, takes as much from both.
fn load_by_turns(one: &Gateway, other: &Gateway) -> (usize, usize) {
    let answers = |running: &Gateway, stopped: &Gateway| {
        stopped.process().signal("STOP");
        let answers = load(running, LOAD_TURN);
        stopped.process().signal("CONT");
        answers
    };
    one.token();
    other.token();
    let turns = (0..LOAD_TURNS).map(|_| (answers(one, other), answers(other, one)));
    turns.fold((0, 0), |(ones, others), (one, other)| (ones + one, others + other))
}

/// Keep-alive connections that have been served once and now say nothing. They come from several
/// loopback addresses, so that no address runs out of ports.
fn open_idle(gateway: &Gateway) -> Vec<TcpStream> {
    let status = request("GET", "/monitoring/status", &[], b"");
    let mut streams = Vec::with_capacity(IDLE);
    for index in 0..IDLE {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + index % 4).unwrap());
        let mut stream = connect_from(source, gateway.address());
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        if index % 5 == 0 {
            stream.write_all(&status).unwrap();
            let mut answer = [0; 4_096];
            let count = stream.read(&mut answer).unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
        }
        streams.push(stream);
    }
    streams
}

fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// 64 connections produce as fast as they are answered; the number of answers. All must be 200.
fn load(gateway: &Gateway, time: Duration) -> usize {
    let request =
        gateway.authorized("POST", "/stations/beside/produce/single", &[("Content-Type", "text/plain")], b"x");
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut http = Http::connect(gateway.address());
                while !stop.load(Ordering::Relaxed) {
                    http.exchange(&request).is_json(200, OK);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    answers.load(Ordering::Relaxed)
}

fn files_allowed() -> u64 {
    limit_of_files(3)
}

/// Soft (3) or hard (4) limit on open files.
fn limit_of_files(column: usize) -> u64 {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(column).and_then(|word| word.parse().ok()).unwrap_or(u64::MAX)
}

/// The limit of a process that runs cannot be raised from safe code, but that of a new one can.
fn again_with_more_files(name: &str) {
    let hard = limit_of_files(4);
    assert!(hard >= FILES_NEEDED, "{name} needs {FILES_NEEDED} open files, and `ulimit -Hn` says {hard}");
    assert!(std::env::var_os("SLUICEGATE_TEST_AGAIN").is_none(), "`ulimit -n` had no effect");
    let test = thread::current().name().unwrap().to_owned();
    let status = Command::new("sh")
        .args(["-c", &format!("ulimit -n {hard} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env("SLUICEGATE_TEST_AGAIN", "1")
        .process_group(0)
        .status()
        .unwrap();
    assert!(status.success(), "{test} with {hard} open files: {status}");
}

const SLOW: usize = 1_000;
const SHORT: &str =
    "[limits]\nhead_timeout = \"2s\"\nbody_grace = \"2s\"\nidle_timeout = \"4s\"\nwrite_timeout = \"2s\"";

/// Half of them are in the middle of a head and half in the middle of a body, and each sends a byte a second until it is cut off. Meanwhile
/// others are served, and two that say nothing are closed.
fn a_thousand_slow_senders_and_whoever_is_idle_are_cut_off(setup: Setup) {
    let gateway = Plan::new(setup).config(SHORT).start();
    let head = "POST /stations/slow/produce/single HTTP/1.1\r\nHost: t\r\n";
    let body = format!(
        "{head}Authorization: Bearer {}\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n",
        gateway.token()
    );
    let head = format!("{head}X-Slow: ");
    let start = Instant::now();
    let (mut fresh, mut served) = (Http::connect(gateway.address()), Http::connect(gateway.address()));
    served.is_alive();
    let mut slow: Vec<TcpStream> = (0..SLOW)
        .map(|index| {
            let mut stream = TcpStream::connect(gateway.address()).unwrap();
            stream.write_all(if index % 2 == 0 { &head } else { &body }.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    while !slow.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} of {SLOW} were not cut off", slow.len());
        thread::sleep(Duration::from_secs(1));
        slow.retain_mut(|stream| drips(stream, b'x'));
        let status = once(gateway.address(), "GET", "/monitoring/status", &[], b"");
        assert_eq!(status.status, 200, "the gateway serves others meanwhile");
        gateway.single("beside-slow", "text/plain", b"x").is_json(200, OK);
    }
    assert!(start.elapsed() > Duration::from_millis(1_900), "cut off before the deadline: {:?}", start.elapsed());
    fresh.closes_within(PATIENCE);
    served.closes_within(PATIENCE);
    assert!(start.elapsed() > Duration::from_millis(3_900), "closed before its time: {:?}", start.elapsed());
}

/// Sends one more byte; false once the other side has answered or closed.
fn drips(stream: &mut TcpStream, drip: u8) -> bool {
    let mut answer = [0; 1_024];
    match stream.read(&mut answer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => stream.write(&[drip]).is_ok(),
        Ok(count) if count > 0 => {
            assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer[..count]));
            false
        }
        Ok(_) | Err(_) => false,
    }
}

fn a_reader_that_does_not_read_is_cut_off(setup: Setup) {
    let gateway = Plan::new(setup).config(SHORT).start();
    let record = "x".repeat(500_000);
    for _ in 0..16 {
        gateway.single("unread", "text/plain", record.as_bytes()).is_json(200, OK);
    }
    let body = b"{\"consumer_name\":\"c\",\"consumer_group\":\"g\",\"batch_size\":16,\"batch_max_wait_time_ms\":1000}";
    let headers = [("Content-Type", "application/json")];
    let request = gateway.authorized("POST", "/stations/unread/consume/batch", &headers, body);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // A small window: the kernel must not take the answer in the client's stead.
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&gateway.address().into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.write_all(&request).unwrap();
    eventually("it is cut off", PATIENCE, || {
        gateway.metrics().contains("\nsluicegate_connections_timed_out_total 1\n").then_some(())
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(answer.len() < 8_000_000, "all of it came after all: {} bytes", answer.len());
    // Nothing of it was acknowledged: it comes again.
    let again = eventually("the messages come again", 2 * PATIENCE, || {
        let response = gateway.consume("unread", std::str::from_utf8(body).unwrap());
        let count = response.json().as_array().map_or(0, Vec::len);
        (count > 0).then_some(count)
    });
    assert!(again > 0);
}

fn a_client_that_never_pauses_does_not_stop_the_others(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).start();
    let address = gateway.address();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (flood, answered) in
            [("GET /monitoring/status HTTP/1.1\r\nHost: t\r\n\r\n", true), ("no HTTP at all\n", false)]
        {
            let done = &done;
            scope.spawn(move || pour(address, &flood.repeat(1_000), answered, done));
        }
        thread::sleep(Duration::from_millis(500));
        for _ in 0..20 {
            let start = Instant::now();
            Http::connect(address).is_alive();
            assert!(start.elapsed() < PATIENCE / 2, "kept waiting for {:?}", start.elapsed());
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Sends without a pause, on one connection after the other if they are closed, and reads what comes back.
fn pour(address: SocketAddr, flood: &str, answered: bool, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        drop(stream.set_write_timeout(Some(Duration::from_secs(5))));
        let mut reader = stream.try_clone().unwrap();
        drop(reader.set_read_timeout(Some(Duration::from_millis(200))));
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut scratch = vec![0; 256 * 1_024];
                while answered && !done.load(Ordering::Relaxed) {
                    match reader.read(&mut scratch) {
                        Ok(0) => break,
                        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                        _ => {}
                    }
                }
            });
            while !done.load(Ordering::Relaxed) && stream.write_all(flood.as_bytes()).is_ok() {}
        });
    }
}

fn a_chunked_body_over_the_limit_is_413(setup: Setup) {
    let gateway = Plan::new(setup).config("[limits]\nbody_bytes_max = \"64KiB\"").start();
    let mut http = Http::connect(gateway.address());
    let head = format!(
        "POST /stations/chunky/produce/single HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n\
         Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        gateway.token()
    );
    http.send(head.as_bytes());
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..5 {
        // The answer may come, and the connection close, before the last of it is sent.
        drop(http.try_send(chunk.as_bytes()));
    }
    let text = http.response().is_error(413);
    assert!(text.contains("65536"), "which limit: {text}");
}
