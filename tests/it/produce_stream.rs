//! `POST /stations/<name>/produce/stream`: lines in, receipts out while lines still come.

use crate::support::{
    PATIENCE,
    admin::basic,
    eventually,
    gateway::{Gateway, Plan, ROOT_PASSWORD, ROOT_USER},
    http::{self, Response},
    setup::Setup,
    unique,
};
use libdeflater::{CompressionLvl, Compressor};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

/// A stream that is open: the request's head is sent.
struct Stream {
    to: TcpStream,
    from: BufReader<TcpStream>,
    /// What was read of the answer's body and is no whole line yet.
    rest: Vec<u8>,
    head: String,
}

impl Stream {
    /// Begins a request in chunks with root's token.
    fn begin(gateway: &Gateway, target: &str, fields: &[(&str, &str)]) -> Self {
        let bearer = format!("Bearer {}", gateway.token());
        Self::begin_with(gateway, target, &[&[("Authorization", bearer.as_str()), NDJSON], fields].concat())
    }

    fn begin_with(gateway: &Gateway, target: &str, fields: &[(&str, &str)]) -> Self {
        let mut head = format!("POST {target} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n");
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        let mut to = TcpStream::connect(gateway.address()).unwrap();
        to.set_nodelay(true).unwrap();
        to.set_read_timeout(Some(PATIENCE)).unwrap();
        to.set_write_timeout(Some(PATIENCE)).unwrap();
        to.write_all(head.as_bytes()).unwrap();
        let from = BufReader::new(to.try_clone().unwrap());
        Self { to, from, rest: Vec::new(), head: String::new() }
    }

    /// Sends one chunk.
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        send_chunk(&mut self.to, bytes.as_ref()).unwrap();
    }

    /// Sends the last chunk.
    fn end(&mut self) {
        self.to.write_all(b"0\r\n\r\n").unwrap();
    }

    /// Reads the answer's head.
    fn head(&mut self) -> &str {
        while self.head.is_empty() || !self.head.ends_with("\r\n\r\n") {
            assert!(self.from.read_line(&mut self.head).unwrap() > 0, "no head: {:?}", self.head);
        }
        &self.head
    }

    /// The next line of the answer; `None` at its end.
    fn line(&mut self) -> Option<Value> {
        self.head();
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let mut size = String::new();
            assert!(self.from.read_line(&mut size).unwrap() > 0, "the answer was cut off behind {:?}", self.rest);
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.from.read_exact(&mut chunk).unwrap();
            if size == 0 {
                assert!(self.rest.is_empty(), "a line without its end: {:?}", self.rest);
                return None;
            }
            self.rest.extend_from_slice(&chunk[..size]);
        }
    }

    /// All lines that are left. The last one is what it came to.
    fn lines(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.line()).collect()
    }
}

fn send_chunk(to: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    to.write_all(bytes)?;
    to.write_all(b"\r\n")
}

fn target(station: &str) -> String {
    format!("/stations/{station}/produce/stream")
}

/// A whole body at once: the answer's lines.
fn whole(gateway: &Gateway, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<Value> {
    let mut stream = Stream::begin(gateway, target, fields);
    if !body.is_empty() {
        stream.send(body);
    }
    stream.end();
    let lines = stream.lines();
    assert!(stream.head.starts_with("HTTP/1.1 200 "), "{} {lines:?}", stream.head);
    lines
}

/// The numbers of the lines that were answered.
fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["line"].as_u64()).collect()
}

fn stored(lines: u64, stored: u64, duplicates: u64, failed: u64) -> Value {
    json!({"lines": lines, "stored": stored, "duplicates": duplicates, "failed": failed})
}

/// Everything that is stored, as it was sent.
fn messages(gateway: &Gateway, station: &str, at_least: usize) -> Vec<Value> {
    let mut found = Vec::new();
    let ask = json!({"consumer_name": "c", "batch_size": 5000, "batch_max_wait_time_ms": 500}).to_string();
    let begun = Instant::now();
    while found.len() < at_least && begun.elapsed() < 4 * PATIENCE {
        found.extend(gateway.consume(station, &ask).json().as_array().unwrap().clone());
    }
    found.extend(gateway.consume(station, &ask).json().as_array().unwrap().clone());
    found
}

fn payloads(gateway: &Gateway, station: &str, at_least: usize) -> Vec<String> {
    let text = |message: &Value| message["message"].as_str().unwrap().to_owned();
    messages(gateway, station, at_least).iter().map(text).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let written = compressor.gzip_compress(bytes, &mut out).unwrap();
    out.truncate(written);
    out
}

fn a_receipt_comes_while_the_request_is_still_open(gateway: &Gateway) {
    let station = unique("stream");
    let mut stream = Stream::begin(gateway, &target(&station), &[]);
    let mut last = 0;
    for number in 1..=20_u64 {
        stream.send(format!("{{\"n\": {number}}}\n"));
        let receipt = stream.line().unwrap();
        assert_eq!((&receipt["line"], &receipt["duplicate"]), (&json!(number), &json!(false)), "{receipt}");
        assert!(receipt["stream"].is_string() && receipt["sequence"].as_u64().unwrap() > last, "{receipt}");
        last = receipt["sequence"].as_u64().unwrap();
    }
    assert!(stream.head.contains("Content-Type: application/x-ndjson\r\n"), "{}", stream.head);
    assert!(stream.head.contains("Sluicegate-Idempotency-Window: 120\r\n"), "{}", stream.head);
    // Half a line waits for the rest of it.
    stream.send("{\"n\":");
    stream.send("21}\n{\"n\":22}");
    assert_eq!(stream.line().unwrap()["line"], 21);
    stream.end();
    assert_eq!(stream.lines().last().unwrap(), &stored(22, 22, 0, 0));
    let found = payloads(gateway, &station, 22);
    let expect: Vec<String> = (1..=20)
        .map(|number| format!("{{\"n\": {number}}}"))
        .chain([21, 22].map(|n| format!("{{\"n\":{n}}}")))
        .collect();
    assert_eq!(found, expect);
    // The connection serves on.
    stream.to.write_all(b"GET /monitoring/status HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.from.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 "), "{rest}");
}

fn lines_are_numbered_as_an_editor_numbers_them_and_a_wrong_one_does_not_end_the_stream(gateway: &Gateway) {
    let station = unique("stream");
    let large = format!("\"{}\"", "x".repeat(7 * 1024 * 1024));
    let body = format!("\u{feff}1\r\n\r\nno\n  {{\"a\" : 1}}\t\n{large}\n[1,\n2");
    let lines = whole(gateway, &target(&station), &[], body.as_bytes());
    assert_eq!(numbers(&lines), [1, 3, 4, 5, 6, 7]);
    let failed: Vec<u64> = numbers(&lines.iter().filter(|line| line["error"].is_string()).cloned().collect::<Vec<_>>());
    assert_eq!(failed, [3, 5, 6]);
    assert!(lines.iter().filter(|line| line["error"].is_string()).all(|line| line["retry"] == false), "{lines:?}");
    assert_eq!(lines.last().unwrap(), &stored(7, 3, 0, 3));
    let found = messages(gateway, &station, 3);
    let texts: Vec<&str> = found.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["1", "{\"a\" : 1}", "2"]);
    assert!(found.iter().all(|message| message["headers"]["Content-Type"] == "application/json"), "{found:?}");
    // What the answer says of single lines can be left out.
    let errors = whole(gateway, &format!("{}?receipts=errors&line=10", target(&station)), &[], b"1\nx\n3\n");
    assert_eq!((numbers(&errors), errors.len()), (vec![11], 2));
    assert_eq!(whole(gateway, &format!("{}?receipts=summary", target(&station)), &[], b"1\nx\n"), [stored(2, 1, 0, 1)]);
    assert_eq!(whole(gateway, &target(&station), &[], b""), [stored(0, 0, 0, 0)]);
}

fn a_sequence_is_a_stream_too(gateway: &Gateway) {
    let station = unique("stream");
    let bearer = format!("Bearer {}", gateway.token());
    let fields = [("Authorization", bearer.as_str()), ("Content-Type", "application/json-seq")];
    let mut stream = Stream::begin_with(gateway, &target(&station), &fields);
    stream.send("\u{1e}{\"a\":\n1}\n");
    assert_eq!(stream.line().unwrap()["line"], 1, "a text that its line end completes does not wait for the next");
    stream.send("\u{1e}{\u{1e}3\n");
    stream.end();
    let lines = stream.lines();
    assert_eq!(numbers(&lines), [2, 3]);
    assert_eq!(lines.last().unwrap(), &stored(3, 2, 0, 1));
    assert_eq!(payloads(gateway, &station, 2), ["{\"a\":\n1}", "3"]);
}

fn after_a_cut_the_rest_is_sent_and_nothing_is_lost_or_doubled(gateway: &Gateway) {
    const LINES: u64 = 3_000;
    let station = unique("stream");
    let key = unique("key");
    let fields = [("Idempotency-Key", key.as_str())];
    let text = |lines: std::ops::RangeInclusive<u64>| -> String {
        lines.map(|number| if number % 7 == 0 { "\n".to_owned() } else { number.to_string() + "\n" }).collect()
    };
    let mut first = Stream::begin(gateway, &target(&station), &fields);
    first.send(text(1..=LINES / 2) + "15");
    let mut last = 0;
    while last < LINES / 4 {
        last = first.line().unwrap()["line"].as_u64().unwrap();
    }
    first.to.shutdown(Shutdown::Both).unwrap();
    drop(first);
    // From the first line without a receipt on.
    let rest = format!("{}?line={}", target(&station), last + 1);
    let lines = whole(gateway, &rest, &fields, text(last + 1..=LINES).as_bytes());
    let summary = lines.last().unwrap();
    let (stored, duplicates) = (summary["stored"].as_u64().unwrap(), summary["duplicates"].as_u64().unwrap());
    let records = |lines: std::ops::RangeInclusive<u64>| lines.filter(|number| number % 7 != 0).count() as u64;
    assert_eq!(stored + duplicates, records(last + 1..=LINES), "{summary}");
    // All of it again.
    let again = whole(gateway, &target(&station), &fields, text(1..=LINES).as_bytes());
    assert_eq!(again.last().unwrap()["duplicates"], records(1..=LINES), "{:?}", again.last());
    let expect: Vec<String> = (1..=LINES).filter(|number| number % 7 != 0).map(|number| number.to_string()).collect();
    assert_eq!(payloads(gateway, &station, expect.len()), expect);
    // A batch with the same key is something else.
    let headers = [("Content-Type", "application/json"), fields[0], ("Prefer", "return=representation")];
    let batch = gateway.post(&format!("/stations/{station}/produce/batch"), &headers, b"[1,2]");
    assert!(batch.json()["receipts"].as_array().unwrap().iter().all(|receipt| receipt["duplicate"] == false));
}

fn what_is_compressed_is_decoded_as_it_comes(gateway: &Gateway) {
    let station = unique("stream");
    let mut stream = Stream::begin(gateway, &target(&station), &[("Content-Encoding", "gzip")]);
    // Members one behind the other, each flushed by its end.
    for number in 1..=3_u64 {
        stream.send(gzip(format!("{number}\n").as_bytes()));
        assert_eq!(stream.line().unwrap()["line"], number);
    }
    stream.end();
    assert_eq!(stream.lines(), [stored(3, 3, 0, 0)]);
    // 64 MiB of blank lines are nothing to hold.
    let body = [vec![b'\n'; 64 << 20], b"4\n".to_vec()].concat();
    let lines = whole(gateway, &target(&station), &[("Content-Encoding", "gzip")], &gzip(&body));
    assert_eq!(numbers(&lines), [(64 << 20) + 1]);
    // What does not decode ends the stream behind what did.
    let mut broken = gzip(b"5\n6\n7");
    broken.extend_from_slice(b"no gzip");
    let lines = whole(gateway, &target(&station), &[("Content-Encoding", "gzip")], &broken);
    let summary = lines.last().unwrap();
    assert_eq!((numbers(&lines), &summary["stored"], &summary["next_line"]), (vec![1, 2], &json!(2), &json!(3)));
    assert!(summary["error"].as_str().unwrap().contains("gzip"), "{summary}");
    assert_eq!(payloads(gateway, &station, 6), ["1", "2", "3", "4", "5", "6"]);
}

fn a_body_that_breaks_off_leaves_what_was_whole(gateway: &Gateway) {
    let station = unique("stream");
    let mut stream = Stream::begin(gateway, &target(&station), &[]);
    stream.send("1\n2\n3");
    stream.to.write_all(b"no chunk\r\n").unwrap();
    let lines = stream.lines();
    let summary = lines.last().unwrap();
    assert_eq!((numbers(&lines), &summary["lines"], &summary["next_line"]), (vec![1, 2], &json!(2), &json!(3)));
    assert!(summary["error"].as_str().unwrap().contains("malformed"), "{summary}");
    let mut leaves = Stream::begin(gateway, &target(&station), &[]);
    leaves.send("4\n5\n6");
    assert_eq!((leaves.line().unwrap()["line"].as_u64(), leaves.line().unwrap()["line"].as_u64()), (Some(1), Some(2)));
    drop(leaves);
    assert_eq!(payloads(gateway, &station, 4), ["1", "2", "4", "5"]);
}

fn what_cannot_be_a_stream_is_refused_before_it_begins(gateway: &Gateway) {
    let bearer = format!("Bearer {}", gateway.token());
    let station = unique("stream");
    let refused = |target: &str, fields: &[(&str, &str)], status| {
        let fields = [&[("Expect", "100-continue")], fields].concat();
        let response = http::once(gateway.address(), "POST", target, &fields, b"1\n");
        assert_eq!(response.status, status, "{target} {fields:?} {}", response.text());
    };
    let (path, token) = (target(&station), ("Authorization", bearer.as_str()));
    refused(&path, &[NDJSON], 401);
    refused(&path, &[token, ("Content-Type", "application/json")], 415);
    refused(&path, &[token, NDJSON, ("Content-Encoding", "br")], 415);
    refused(&target("-"), &[token, NDJSON], 400);
    let plain = |target: &str, fields: &[(&str, &str)]| -> Response {
        http::once(gateway.address(), "POST", target, &[&[token, NDJSON], fields].concat(), b"1\n")
    };
    for query in ["receipts=some", "line=0", "line=x"] {
        plain(&format!("{path}?{query}"), &[]).is_error(400);
    }
    plain(&path, &[("Idempotency-Key", "é")]).is_error(400);
}

fn other_clients_are_served_too(gateway: &Gateway) {
    let station = unique("stream");
    let bearer = format!("Bearer {}", gateway.token());
    // A body of known length, from a client of HTTP/1.0, without a media type.
    let mut old = TcpStream::connect(gateway.address()).unwrap();
    let request =
        format!("POST {} HTTP/1.0\r\nAuthorization: {bearer}\r\nContent-Length: 4\r\n\r\n1\n2\n", target(&station));
    old.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"lines\":2,\"stored\":2,\"duplicates\":0,\"failed\":0}\n"), "{answer}");
    // 100-continue, and the credential in the URL.
    let mut asks = Stream::begin_with(
        gateway,
        &format!("{}?authorization={}", target(&station), gateway.token()),
        &[("Expect", "100-continue"), ("Origin", "https://page.test")],
    );
    let mut interim = String::new();
    while !interim.ends_with("\r\n\r\n") {
        asks.from.read_line(&mut interim).unwrap();
    }
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    asks.send("3\n");
    assert_eq!(asks.line().unwrap()["line"], 1);
    assert!(asks.head.contains("Access-Control-Allow-Origin: https://page.test\r\n"), "{}", asks.head);
    asks.end();
    assert_eq!(asks.lines(), [stored(1, 1, 0, 0)]);
    let url = format!("http://{}{}", gateway.address(), target(&station));
    let mut curl = Command::new("curl")
        .args(["-sS", "-N", "-T", ".", "-X", "POST", &url, "-H", "Content-Type: application/x-ndjson", "-H"])
        .arg(format!("Authorization: {bearer}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (curl.stdin.take().unwrap(), BufReader::new(curl.stdout.take().unwrap()));
    for number in 1..=3 {
        writeln!(stdin, "{number}").unwrap();
        let mut receipt = String::new();
        stdout.read_line(&mut receipt).unwrap();
        assert!(receipt.starts_with(&format!("{{\"line\":{number},")), "{receipt}");
    }
    drop(stdin);
    let mut last = String::new();
    stdout.read_line(&mut last).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap(), stored(3, 3, 0, 0));
    assert!(curl.wait().unwrap().success());
}

fn a_batch_takes_lines_as_a_whole(gateway: &Gateway) {
    let station = unique("stream");
    let path = format!("/stations/{station}/produce/batch");
    for (kind, body, texts) in [
        ("application/x-ndjson", "\u{feff}{\"a\": 1}\r\n\n2\n3", &["{\"a\": 1}", "2", "3"][..]),
        ("application/jsonl", "4\n", &["4"]),
        ("application/json-seq", "\u{1e}[\n5]\n\u{1e}6\n", &["[\n5]", "6"]),
    ] {
        gateway
            .post(&path, &[("Content-Type", kind)], body.as_bytes())
            .is_json(200, "{\"error\":null,\"success\":true}");
        assert_eq!(payloads(gateway, &station, texts.len()), texts, "{kind}");
    }
    let refused = gateway.post(&path, &[NDJSON], b"1\n\n{\n4\n").is_error(400);
    assert!(refused.starts_with("line 3: invalid JSON"), "{refused}");
    assert!(payloads(gateway, &station, 0).is_empty(), "nothing of it is stored");
}

on_every_setup!(
    a_receipt_comes_while_the_request_is_still_open,
    lines_are_numbered_as_an_editor_numbers_them_and_a_wrong_one_does_not_end_the_stream,
    a_sequence_is_a_stream_too,
    after_a_cut_the_rest_is_sent_and_nothing_is_lost_or_doubled,
    what_is_compressed_is_decoded_as_it_comes,
    a_body_that_breaks_off_leaves_what_was_whole,
    what_cannot_be_a_stream_is_refused_before_it_begins,
    other_clients_are_served_too,
    a_batch_takes_lines_as_a_whole,
);

/// Asks the admin listener as root.
fn administer(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Response {
    let root = basic(ROOT_USER, ROOT_PASSWORD);
    let fields = [("Authorization", root.as_str()), ("Content-Type", "application/json")];
    let text = if body.is_null() { String::new() } else { body.to_string() };
    http::once(gateway.admin(), method, path, &fields, text.as_bytes())
}

fn who_loses_the_right_is_cut_off_with_a_line_that_says_so(setup: Setup) {
    let gateway = Plan::new(setup).config("limits.streams_per_principal_max = 2").shards(1).start();
    let key = administer(&gateway, "POST", "/api/v1/keys", &json!({"produce": ["s"]})).json();
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    let fields = [("Authorization", bearer.as_str()), NDJSON];
    let open = || {
        let mut stream = Stream::begin_with(&gateway, &target("s"), &fields);
        stream.send("1\n");
        assert_eq!(stream.line().unwrap()["line"], 1);
        stream
    };
    let mut streams = [open(), open()];
    let gauge = || gateway.metrics().contains("sluicegate_open_streams{route=\"produce_stream\"} 2\n");
    eventually("both streams are counted", PATIENCE, || gauge().then_some(()));
    // One more of the same key is one too many; another principal has room.
    let refused = http::once(gateway.address(), "POST", &target("s"), &fields, b"1\n");
    refused.is_retryable(429);
    assert_eq!(whole(&gateway, &target("s"), &[], b"2\n").last().unwrap(), &stored(1, 1, 0, 0));
    let id = key["id"].as_str().unwrap();
    let revoked = Instant::now();
    assert_eq!(administer(&gateway, "DELETE", &format!("/api/v1/keys/{id}"), &Value::Null).status, 204);
    for stream in &mut streams {
        let lines = stream.lines();
        let last = lines.last().unwrap();
        assert_eq!((&last["error"], &last["next_line"]), (&json!("Unauthorized"), &json!(2)), "{last}");
    }
    assert!(revoked.elapsed() < PATIENCE / 2, "{:?}", revoked.elapsed());
    eventually("their places are free", PATIENCE, || {
        gateway.metrics().contains("sluicegate_open_streams{route=\"produce_stream\"} 0\n").then_some(())
    });
}

fn a_gateway_that_stops_says_from_which_line_to_go_on(setup: Setup) {
    let mut gateway = Plan::new(setup).start();
    let mut stream = Stream::begin(&gateway, &target("s"), &[]);
    stream.send("1\n2\n3");
    assert_eq!((stream.line().unwrap()["line"].as_u64(), stream.line().unwrap()["line"].as_u64()), (Some(1), Some(2)));
    let reader = thread::spawn(move || stream.lines());
    let (status, _) = gateway.terminate();
    assert!(status.success(), "{status}");
    let lines = reader.join().unwrap();
    let last = lines.last().unwrap();
    assert_eq!((&last["stored"], &last["retry"], &last["next_line"]), (&json!(2), &json!(true), &json!(3)), "{last}");
    gateway.restart();
    assert_eq!(payloads(&gateway, "s", 2), ["1", "2"]);
}

/// `SLUICEGATE_TEST_STREAM_LINES` asks for another number.
fn a_long_stream_is_stored_in_order_and_in_bounded_memory(setup: Setup) {
    let lines: u64 = std::env::var("SLUICEGATE_TEST_STREAM_LINES").map_or(100_000, |text| text.parse().unwrap());
    let gateway = Plan::new(setup).start();
    let mut stream = Stream::begin(&gateway, &target("s"), &[]);
    stream.send("0\n");
    assert_eq!(stream.line().unwrap()["line"], 1);
    let before = gateway.process().allocated_bytes();
    let mut to = stream.to.try_clone().unwrap();
    let begun = Instant::now();
    let sender = thread::spawn(move || {
        let padding = "x".repeat(200);
        let mut chunk = String::new();
        for number in 1..=lines {
            writeln!(chunk, "{{\"n\":{number},\"padding\":\"{padding}\"}}").unwrap();
            if chunk.len() > 60_000 || number == lines {
                send_chunk(&mut to, chunk.as_bytes()).unwrap();
                chunk.clear();
            }
        }
        to.write_all(b"0\r\n\r\n").unwrap();
    });
    let (mut next, mut most, mut sequence) = (2, before, 0);
    while let Some(line) = stream.line() {
        if line.get("lines").is_some() {
            assert_eq!(line, stored(lines + 1, lines + 1, 0, 0));
            break;
        }
        assert_eq!(line["line"], next, "{line}");
        assert!(line["sequence"].as_u64().unwrap() > sequence, "{line}");
        sequence = line["sequence"].as_u64().unwrap();
        next += 1;
        if next % 10_000 == 0 {
            most = most.max(gateway.process().allocated_bytes());
        }
    }
    sender.join().unwrap();
    let took = begun.elapsed();
    // All of it would be ten times as much, and more by the million.
    let grown = most.saturating_sub(before) >> 20;
    crate::support::report(&format!("{setup:?}: {lines} lines in {took:?}, {grown} MiB more"));
    // The store and the window hold what they hold for any producer.
    assert!(grown < 160, "{grown} MiB more for {lines} lines");
}

fn what_is_no_record_by_the_schema_is_answered_as_in_a_batch(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}).to_string();
    let added =
        administer(&gateway, "POST", "/api/v1/schemas", &json!({"name": "n", "type": "json", "schema": schema}));
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!(administer(&gateway, "POST", "/api/v1/stations", &json!({"name": "s"})).status, 201);
    let attached = administer(&gateway, "PUT", "/api/v1/stations/s/schema", &json!({"schema": "n"}));
    assert!(matches!(attached.status, 200 | 204), "{}", attached.text());
    let fields = [("Idempotency-Key", "k")];
    for duplicates in [0, 2] {
        let lines = whole(&gateway, &target("s"), &fields, b"{\"n\":1}\n\n{\"n\":\"x\"}\n{\"n\":3}\n");
        assert_eq!(numbers(&lines), [1, 3, 4]);
        assert!(lines[1]["error"].as_str().unwrap().starts_with("Schema validation has failed"), "{:?}", lines[1]);
        assert_eq!(lines.last().unwrap(), &stored(4, 2 - duplicates, duplicates, 1));
    }
    let letters = administer(&gateway, "GET", "/api/v1/stations/s/dead-letters", &Value::Null).json();
    assert!(letters.to_string().contains("Schema") || letters.to_string().contains("schema"), "{letters}");
    assert_eq!(payloads(&gateway, "s", 2), ["{\"n\":1}", "{\"n\":3}"]);
}

on_setups!(own_local_io_uring LOCAL_IO_URING, own_local_epoll LOCAL_EPOLL, own_nats_io_uring NATS_IO_URING, own_nats_epoll NATS_EPOLL => [
    who_loses_the_right_is_cut_off_with_a_line_that_says_so,
    a_gateway_that_stops_says_from_which_line_to_go_on,
    a_long_stream_is_stored_in_order_and_in_bounded_memory,
    what_is_no_record_by_the_schema_is_answered_as_in_a_batch,
]);

/// A broker that is away for longer than a hold: its lines say that they may be sent again, and the stream goes on.
#[test]
fn what_the_broker_was_not_there_for_may_be_sent_again() {
    let mut gateway = Plan::new(Setup::NATS_EPOLL).config("[limits]\nhold = \"300ms\"\nack_timeout = \"7s\"").start();
    let mut stream = Stream::begin(&gateway, &target("s"), &[("Idempotency-Key", "k")]);
    stream.send("1\n");
    assert_eq!(stream.line().unwrap()["line"], 1);
    gateway.nats_mut().stop();
    thread::sleep(Duration::from_millis(500));
    stream.send("2\n");
    let failed = stream.line().unwrap();
    assert_eq!((&failed["line"], &failed["retry"]), (&json!(2), &json!(true)), "{failed}");
    gateway.nats_mut().restart();
    let mut number = 2;
    eventually("the stream goes on", PATIENCE, || {
        number += 1;
        stream.send(format!("{number}\n"));
        stream.line().unwrap()["sequence"].is_u64().then_some(())
    });
    stream.end();
    let lines = stream.lines();
    assert!(lines.last().unwrap()["error"].is_null(), "{lines:?}");
}
