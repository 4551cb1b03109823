//! Connections over a pipe, in virtual time: whole requests and answers, without a socket and without waiting.
//!
//! A test of a deadline takes microseconds and takes the same course every time; so every cut and every point at which a
//! client can leave is tried, not a few of them. What only a kernel or a whole gateway can show is in `tests/it`.

mod deadlines;
mod draining;
mod framing;
mod leaving;
mod streaming;

use super::{Connections, deadlines::SWEEP};
use crate::{
    budget::Budget,
    dialect::{Admission, Admitted, BodyMode, Payload, Reply, Request, Service},
    limits::Limits,
    metrics::{Route, ShardMetrics},
    reject::Reject,
    rt::{self, clock, virtual_time},
    transport::{
        Transport,
        pipe::{Pipe, PipeProbe, pipe},
    },
    wire::http::Fields,
};
use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(3);
/// Bytes of the body of `/large`.
const LARGE: usize = 1 << 20;
/// The most that the body of a request may be.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Room in each of the two kernels' buffers.
const BUFFER: usize = 16 * 1024;
/// Everybody has done by then what can be done without waiting: nothing takes time here.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Answers with the path and the body of a request. `/refused` is refused on the head alone.
#[derive(Debug, Default)]
struct Echo {
    /// The requests that were served with their bodies.
    served: Rc<RefCell<Vec<String>>>,
}

impl Service for Echo {
    type Call = String;

    fn admit(&self, request: &Request<'_>) -> Admission<String> {
        let path = String::from_utf8_lossy(request.head.path.of(request.bytes)).into_owned();
        if path == "/refused" {
            return Admission::Refuse(Box::new(Reply { body: b"no".as_slice().into(), ..reply(401) }));
        }
        let waits = path == "/slow";
        let body = match path.as_str() {
            "/chat" => BodyMode::Streamed,
            _ => BodyMode::Whole { bytes_max: BODY_BYTES_MAX as u64 },
        };
        Admission::Call(Admitted { call: path, route: Route::OTHER, body, is_verified: true, waits })
    }

    async fn handle(&self, path: String, _: &Request<'_>, body: Payload<'_>) -> Reply {
        if matches!(body, Payload::Streamed(_)) || matches!(path.as_str(), "/ticks" | "/endless" | "/flood") {
            return self.stream(&path, body).expect("a path that streams");
        }
        let body = body.whole().expect("a whole body");
        let text = format!("{path} {}", String::from_utf8_lossy(body));
        self.served.borrow_mut().push(text.clone());
        let body = match path.as_str() {
            "/large" => vec![b'x'; LARGE],
            _ => text.into_bytes(),
        };
        if path == "/slow" {
            rt::sleep(SLOW).await;
        }
        Reply { body: body.into(), ..reply(200) }
    }

    fn reject(&self, reject: &Reject, _: Route, _: Option<&Request<'_>>) -> Reply {
        let status = match reject {
            Reject::RequestTimeout => 408,
            Reject::TooLarge(..) => 413,
            Reject::Expectation => 417,
            Reject::HeadTooLarge => 431,
            Reject::Overloaded(_) => 503,
            _ => 400,
        };
        Reply { close: reject.closes(), ..reply(status) }
    }
}

fn reply(status: u16) -> Reply {
    Reply::new(status, Fields::default(), Route::OTHER)
}

/// The connections of a shard.
struct World {
    connections: Rc<Connections<Echo, Pipe>>,
    served: Rc<RefCell<Vec<String>>>,
    budget: Rc<Budget>,
    metrics: Arc<ShardMetrics>,
    limits: Limits,
}

/// Runs a test in virtual time, with the limits that the gateway has unless it is told otherwise.
fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    run_with(Limits::default(), test);
}

fn run_with<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(World) -> F) {
    virtual_time::run(async {
        let echo = Echo::default();
        let served = Rc::clone(&echo.served);
        let (budget, metrics) = (Budget::new(limits.shard_body_bytes_max), Arc::new(ShardMetrics::default()));
        let connections =
            Connections::over(Some(PipeProbe), echo, limits.clone(), Rc::clone(&budget), Arc::clone(&metrics));
        rt::spawn(Rc::clone(&connections).sweep());
        test(World { connections, served, budget, metrics, limits }).await;
    });
}

impl World {
    fn connect(&self) -> Client {
        self.connect_from("192.0.2.1:1234", BUFFER)
    }

    fn connect_from(&self, peer: &str, buffer: usize) -> Client {
        let (server, end) = pipe(peer.parse().expect("an address"), buffer);
        Rc::clone(&self.connections).start(server);
        Client { end, input: Vec::new(), connected: clock::now() }
    }

    /// Takes what was served so far.
    fn served(&self) -> Vec<String> {
        self.served.take()
    }

    /// Nothing is left of anybody who was connected.
    fn assert_nobody_is_left(&self, what: &str) {
        assert_eq!(self.connections.open.get(), 0, "{what}: a connection is left");
        assert_eq!(self.budget.used(), 0, "{what}: memory is held");
        assert!(self.connections.deadlines.is_empty(), "{what}: a deadline is left");
    }
}

/// A client, and what it has received and not looked at.
struct Client {
    end: Pipe,
    input: Vec<u8>,
    connected: std::time::Instant,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    closes: bool,
    body: String,
}

impl Answer {
    fn ok(body: &str) -> Self {
        Self { status: 200, closes: false, body: body.to_owned() }
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.end.write_all(bytes.as_ref().to_vec()).await.expect("the gateway takes it");
    }

    /// Reads once; 0: the gateway has closed.
    async fn read(&mut self) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.input);
        buffer.reserve(BUFFER);
        let (result, buffer) = self.end.read(buffer).await;
        self.input = buffer;
        result
    }

    /// Reads the next answer, an interim one included.
    async fn answer(&mut self) -> Answer {
        loop {
            if let Some(answer) = self.parse() {
                return answer;
            }
            let read = self.read().await.expect("no reset");
            assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&self.input));
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let end = memchr::memmem::find(&self.input, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = field("Content-Length:").map_or(0, |length| length.parse().expect("a length"));
        let body = String::from_utf8_lossy(self.input.get(end..end + length)?).into_owned();
        self.input.drain(..end + length);
        Some(Answer { status, closes: field("Connection:") == Some("close"), body })
    }

    /// Reads to the end of the connection, which must be in order, and returns what came.
    async fn rest(&mut self) -> Vec<u8> {
        while self.read().await.expect("no reset") > 0 {}
        std::mem::take(&mut self.input)
    }

    /// Reads up to the end of the first `end`, and returns that.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.input, end.as_bytes()) {
                return String::from_utf8(self.input.drain(..at + end.len()).collect()).expect("text");
            }
            assert_ne!(self.read().await.expect("no reset"), 0, "closed before {end:?}");
        }
    }

    /// Returns whether an answer, or its beginning, has come.
    fn end_has_input(&self) -> bool {
        !self.input.is_empty() || self.end.has_input()
    }

    /// Sends, unless the gateway has closed the connection.
    async fn end_takes(&mut self, bytes: &[u8]) -> bool {
        self.end.write_all(bytes.to_vec()).await.is_ok()
    }

    /// Waits for the end of the connection and returns how long after the beginning that was.
    async fn ends_after(&mut self) -> Duration {
        assert_eq!(String::from_utf8_lossy(&self.rest().await), "");
        clock::since(self.connected)
    }
}

/// A deadline is noticed by the sweep after it.
#[track_caller]
fn assert_about(time: Duration, expected: Duration) {
    assert!((expected..=expected + SWEEP + AT_ONCE).contains(&time), "{time:?}, not {expected:?}");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
