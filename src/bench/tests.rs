//! The generator against a small server: what it counts, what it calls an error, and that an open loop does not forget
//! the requests that a stall held up.

use super::{
    args::{BenchArgs, Plan},
    report::Summary,
    session,
};
use crate::rt::clock;
use clap::Parser;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    bench: BenchArgs,
}

fn plan(url: &str, words: &str) -> Result<Plan, String> {
    let mut line: Vec<&str> = vec!["bench"];
    line.extend(words.split_ascii_whitespace());
    line.extend(["--url", url]);
    let parsed = CommandLine::try_parse_from(line).map_err(|error| error.to_string())?;
    Plan::try_from(parsed.bench)
}

/// The summary of a run against `server`, as a program would read it.
fn bench(server: &Server, words: &str) -> (Summary, Value) {
    let plan = plan(&server.url(), &format!("{words} --password secret")).expect("a plan");
    let summary = session::run(&plan, &AtomicBool::new(false), &mut |_| {}).expect("a run");
    let json = serde_json::to_value(&summary).expect("a summary is JSON");
    (summary, json)
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    path: String,
    head: String,
    body: Vec<u8>,
}

/// An HTTP server on threads: logs in, and answers all else with what `answer` says.
struct Server {
    address: SocketAddr,
    seen: mpsc::Receiver<Seen>,
}

type Answer = dyn Fn(&Seen, u64) -> Vec<u8> + Send + Sync;

impl Server {
    /// `answer` has the request and its number; an empty answer closes the connection.
    fn start(answer: impl Fn(&Seen, u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = mpsc::channel();
        let (answer, count): (Arc<Answer>, _) = (Arc::new(answer), Arc::new(AtomicU64::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tell, answer, count) = (tell.clone(), Arc::clone(&answer), Arc::clone(&count));
                thread::spawn(move || serve(stream, &tell, &*answer, &count));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far that were no login.
    fn requests(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

fn serve(mut stream: TcpStream, tell: &mpsc::Sender<Seen>, answer: &Answer, count: &AtomicU64) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer) {
        let reply = if request.path.starts_with("/auth/") || request.path.starts_with("/monitoring/") {
            ok(&login(&request))
        } else {
            let reply = answer(&request, count.fetch_add(1, Relaxed));
            let _ = tell.send(request);
            reply
        };
        if reply.is_empty() || stream.write_all(&reply).is_err() {
            return;
        }
    }
}

fn login(request: &Seen) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let minutes = body.get("token_expiry_in_minutes").and_then(Value::as_u64).unwrap_or(15);
    json!({
        "jwt": format!("T{minutes}"), "jwt_refresh_token": "R",
        "expires_in": minutes * 60_000, "refresh_token_expires_in": 1,
    })
    .to_string()
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let mut chunk = [0; 16 * 1024];
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut fields);
        if let Ok(httparse::Status::Complete(head_bytes)) = head.parse(buffer) {
            let length: usize = head
                .headers
                .iter()
                .find(|field| field.name == "Content-Length")
                .and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok())
                .unwrap_or(0);
            let path = head.path?.to_owned();
            if buffer.len() >= head_bytes + length {
                let head = String::from_utf8(buffer[..head_bytes].to_vec()).ok()?;
                let body = buffer[head_bytes..head_bytes + length].to_vec();
                buffer.drain(..head_bytes + length);
                return Some(Seen { path, head, body });
            }
        }
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => buffer.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

fn ok(body: &str) -> Vec<u8> {
    reply(200, "", body)
}

fn reply(status: u16, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {json}"))
}

/// A whole number of the summary.
fn count(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {json}"))
}

#[test]
fn every_measured_request_is_counted_and_was_sent() {
    let server = Server::start(|_, _| ok("{}"));
    let (summary, json) = bench(&server, "produce -n 500 --warmup 0s -c 7 --threads 2 --batch 10 --size 64");
    assert!(summary.is_clean());
    assert_eq!((count(&json, "/requests"), count(&json, "/records")), (500, 5_000));
    assert_eq!(count(&json, "/payload_bytes"), 5_000 * 64);
    let seen = server.requests();
    assert_eq!(seen.len(), 500);
    for request in &seen {
        assert_eq!(request.path, "/stations/bench/produce/batch");
        let list: Vec<Value> = serde_json::from_slice(&request.body).expect("a batch is a JSON array");
        assert_eq!(list.len(), 10);
    }
}

#[test]
fn pipelined_large_compressed_identified_requests_arrive_whole() {
    let server = Server::start(|_, _| ok("{}"));
    let words = "produce -n 300 --warmup 0s -c 3 --pipeline 4 --stations 2 --tokens 3 --message-id";
    for (size, extra) in [(64, ""), (20_000, ""), (20_000, "--gzip")] {
        let (summary, json) = bench(&server, &format!("{words} --size {size} {extra}"));
        assert!(summary.is_clean(), "{json}");
        let seen = server.requests();
        assert_eq!(seen.len(), 300);
        let distinct = |begin: &str| {
            let found = |request: &Seen| request.head.lines().find(|line| line.starts_with(begin)).map(str::to_owned);
            seen.iter().filter_map(found).collect::<HashSet<_>>().len()
        };
        assert_eq!(
            (distinct("POST "), distinct("Authorization: Bearer T"), distinct("Idempotency-Key: ")),
            (2, 3, 300)
        );
        if extra.is_empty() {
            assert!(seen.iter().all(|request| request.body.len() == size));
            assert!(seen.iter().all(|request| serde_json::from_slice::<Value>(&request.body).is_ok()));
        } else {
            assert!(seen.iter().all(|request| request.body.starts_with(&[0x1F, 0x8B])));
            assert_eq!(distinct("Content-Encoding: gzip"), 1);
        }
    }
}

#[test]
fn what_is_not_a_success_is_an_error_by_its_status() {
    let server = Server::start(|_, number| if number % 10 == 0 { reply(429, "", "full") } else { ok("{}") });
    let (summary, json) = bench(&server, "produce -n 100 --warmup 0s -c 4");
    assert!(!summary.is_clean());
    assert_eq!(json["errors"], json!({ "429": 10 }));
    assert_eq!(json["statuses"], json!({ "200": 90, "429": 10 }));
    assert_eq!((count(&json, "/requests"), count(&json, "/records")), (100, 90));
}

#[test]
fn a_failure_during_the_warm_up_is_not_forgotten() {
    let server = Server::start(|_, number| if number == 0 { reply(503, "", "") } else { ok("{}") });
    let (summary, json) = bench(&server, "produce -n 10 --warmup 50ms -c 1");
    assert!(!summary.is_clean());
    assert_eq!((json["errors"].clone(), json["warmup_failures"].clone()), (json!({}), json!(1)));
}

#[test]
fn a_connection_that_the_server_ends_is_made_again() {
    // It says so after an answer, which is no error; or it just closes, which loses one request.
    let polite =
        Server::start(|_, number| if number % 7 == 0 { reply(200, "Connection: close\r\n", "") } else { ok("") });
    let (summary, json) = bench(&polite, "produce -n 200 --warmup 0s -c 3");
    assert!(summary.is_clean(), "{json}");
    let rude = Server::start(|_, number| if number % 20 == 5 { Vec::new() } else { ok("") });
    let (_, json) = bench(&rude, "produce -n 200 --warmup 0s -c 3");
    assert_eq!((json["errors"].clone(), count(&json, "/requests")), (json!({ "closed": 10 }), 200));
}

#[test]
fn a_request_without_an_answer_is_given_up() {
    let server = Server::start(|_, number| {
        if number == 3 {
            thread::sleep(Duration::from_secs(5));
        }
        ok("")
    });
    let started = clock::now();
    let (_, json) = bench(&server, "produce -n 50 --warmup 0s -c 2 --timeout 300ms");
    assert_eq!((json["errors"].clone(), count(&json, "/requests")), (json!({ "timeout": 1 }), 50));
    assert!(clock::since(started) < Duration::from_secs(3));
}

#[test]
fn an_answer_that_cannot_be_framed_ends_its_connection() {
    let server = Server::start(|_, number| if number == 4 { b"HTTP/1.1 200 OK\r\n\r\n".to_vec() } else { ok("") });
    let (_, json) = bench(&server, "produce -n 20 --warmup 0s -c 1");
    assert_eq!((json["errors"].clone(), count(&json, "/requests")), (json!({ "protocol": 1 }), 20));
}

#[test]
fn a_consumer_counts_the_records_it_was_given() {
    let server = Server::start(|request, number| {
        let asked: Value = serde_json::from_slice(&request.body).expect("a consume request is JSON");
        assert_eq!(asked["consumer_group"], json!("g"));
        assert_eq!((asked["batch_size"].clone(), asked["batch_max_wait_time_ms"].clone()), (json!(3), json!(200)));
        let list: Vec<Value> = (0..number % 4).map(|n| json!({ "message": "a\",]", "headers": { "n": n } })).collect();
        ok(&json!(list).to_string())
    });
    let (summary, json) = bench(&server, "consume -n 40 --warmup 0s -c 1 --batch 3 --group g --wait 200ms");
    assert!(summary.is_clean(), "{json}");
    assert_eq!(count(&json, "/records"), 60);
    assert!(server.requests().iter().all(|request| request.path == "/stations/bench/consume/batch"));
}

#[test]
fn idle_connections_stay_until_the_end() {
    let server = Server::start(|_, _| ok(""));
    let (summary, json) = bench(&server, "produce -n 10 --warmup 0s -c 1 --idle 20");
    assert!(summary.is_clean(), "{json}");
    assert_eq!(count(&json, "/idle_alive"), 20);
}

/// A server that answers at once, but for one time in which it answers nobody.
fn stalling(from: Duration, until: Duration) -> Server {
    let begin = clock::now();
    Server::start(move |_, _| {
        if (from..until).contains(&clock::since(begin)) {
            thread::sleep(until.saturating_sub(clock::since(begin)));
        }
        ok("")
    })
}

#[test]
fn only_the_open_loop_shows_what_a_stall_does_to_those_who_do_not_wait() {
    let (from, until) = (Duration::from_millis(400), Duration::from_millis(800));
    // Closed: the stall holds up one request of each connection; of thousands, they are not the hundredth part.
    let (_, closed) = bench(&stalling(from, until), "produce --duration 1s --warmup 0s -c 2");
    // Open: all that was due in four tenths of the time waited, though two connections cannot have sent more.
    let (_, open) = bench(&stalling(from, until), "produce --duration 1s --warmup 0s -c 2 --rate 400");
    let (closed_p99, open_p99, open_p90) =
        (number(&closed, "/latency_us/p99"), number(&open, "/latency_us/p99"), number(&open, "/latency_us/p90"));
    assert!(closed_p99 * 3.0 < open_p99, "{closed} {open}");
    assert!(open_p99 > 300_000.0 && open_p90 > 150_000.0, "{open}");
    assert_eq!(count(&open, "/requests"), 400);
}

#[test]
fn an_open_loop_keeps_its_rate_and_counts_what_it_could_not_send() {
    let server = Server::start(|_, _| ok(""));
    let (_, json) = bench(&server, "produce --duration 500ms --warmup 100ms -c 8 --rate 1000");
    assert_eq!(count(&json, "/requests"), 500);
    let rate = number(&json, "/requests_per_s");
    assert!((300.0..1_010.0).contains(&rate), "a busy machine may be late, never early: {json}");
    let silent = Server::start(|_, _| {
        thread::sleep(Duration::from_secs(20));
        Vec::new()
    });
    let (_, json) = bench(&silent, "produce --duration 300ms --warmup 0s -c 1 --rate 100 --timeout 400ms");
    let failed: u64 = ["/errors/timeout", "/errors/unsent"].map(|path| count(&json, path)).iter().sum();
    assert_eq!((failed, count(&json, "/requests")), (30, 30));
}

#[test]
fn an_interrupt_ends_a_run_with_a_summary() {
    let server = Server::start(|_, _| ok(""));
    let plan = plan(&server.url(), "produce --duration 60s --warmup 0s --password x").expect("a plan");
    let stop = Arc::new(AtomicBool::new(false));
    let later = Arc::clone(&stop);
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        later.store(true, Relaxed);
    });
    let started = clock::now();
    let summary = session::run(&plan, &stop, &mut |_| {}).expect("a run");
    assert!(summary.is_clean());
    assert!(clock::since(started) < Duration::from_secs(5));
}

#[test]
fn a_run_that_cannot_be_made_says_why_and_shows_no_secret() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = plan(&format!("http://{gone}"), "produce --password hunter2").expect("a plan");
    assert!(!format!("{made:?}").contains("hunter2"));
    let error = session::run(&made, &AtomicBool::new(false), &mut |_| {}).expect_err("nobody listens");
    assert!(error.contains(&gone.to_string()) && !error.contains("hunter2"), "{error}");
}

#[test]
fn the_summary_has_the_fields_that_programs_read() {
    let server = Server::start(|_, _| ok(""));
    let own = std::process::id();
    let (_, json) = bench(&server, &format!("produce -n 50 --warmup 10ms -c 2 --account {own}"));
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&json),
        "batch command connections cpu elapsed_s errors gzip idle_alive idle_connections latency_us mb_per_s message_id \
         payload_bytes pipeline rate records records_per_s requests requests_per_s size stations statuses threads tokens \
         url warmup_failures"
    );
    assert_eq!(keys(&json["latency_us"]), "max mean p50 p90 p99 p99.9");
    assert_eq!(keys(&json["cpu"]), "generator_s generator_us_per_record generator_us_per_request processes");
    assert_eq!(keys(&json["cpu"]["processes"][0]), "pid system_s total_s us_per_record us_per_request user_s");
    assert!(number(&json, "/cpu/generator_s") > 0.0);
    let latency = ["p50", "p90", "p99", "p99.9", "max"].map(|name| number(&json, &format!("/latency_us/{name}")));
    assert!(latency.is_sorted() && latency[0] > 0.0, "{latency:?}");
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let refused = |words: &str| plan("http://127.0.0.1:1", words).expect_err(words);
    for (words, part) in [
        ("produce", "--password"),
        ("produce --token t --tokens 2", "cannot be used with"),
        ("produce --password p --threads 9 -c 8", "connections"),
        ("produce --password p --size 3", "--size"),
        ("produce --password p --batch 1000000", "--batch"),
        ("produce --password p --rate 0", "positive"),
        ("produce --password p --rate nan", "positive"),
        ("produce --password p -n 0", "at least 1"),
        ("produce --password p -n 1 -d 1s", "cannot be used with"),
        ("produce --password p --duration 5x", "unit"),
        ("produce --password p --station a/b", "Station"),
        ("consume --password p --batch 5001", "5000"),
        ("consume --password p --wait 40s", "--timeout"),
        ("consume --password p --wait 2h", "--wait"),
    ] {
        let text = refused(words);
        assert!(text.contains(part), "{words}: {text}");
    }
}
