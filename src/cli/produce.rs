//! `sluicegate produce`: sends lines as records.
//!
//! A line is a JSON value and goes into a batch; with `--raw` it is text and goes alone. Each request has a message id,
//! so that it can be sent again when no answer came or the gateway was full: the broker drops what it has already. A
//! batch that the gateway refuses as a whole is halved until the refused line stands alone. Lines that were not stored
//! are reported by their numbers.

use super::{
    client::{JSON, LoginArgs, Reply, Session, persist},
    exit::{Exit, Failure},
    print::mutter,
};
use crate::{
    byte_order_mark,
    limits::{BATCH_RECORDS_MAX, BODY_BYTES_MAX},
    rt::clock,
    station::Name,
};
use clap::Args;
use serde::{Deserialize, de::IgnoredAny};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Send lines to a station.
#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    /// Name of the station
    station: String,
    /// File with one JSON value a line; by default standard input
    #[arg(short, long, value_name = "FILE.ndjson")]
    file: Option<PathBuf>,
    /// Records in one request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Send each line as it is, as text, one request a line
    #[arg(long, conflicts_with = "batch")]
    raw: bool,
    /// For how many seconds a request is sent again while the gateway is away or full
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
    /// Address of the gateway's data port
    #[arg(long, default_value = "http://127.0.0.1:4444")]
    url: String,
    #[command(flatten)]
    login: LoginArgs,
}

const _: () = assert!(BATCH_RECORDS_MAX == 100_000, "the range of --batch");
/// A request is sent when it has this many bytes, even if the batch is not full.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// A line that is longer than a request may be is not read as a whole.
const LINE_BYTES_MAX: usize = BODY_BYTES_MAX - 2;
/// Lines that were not stored and are reported; more are only counted.
const REPORTS_MAX: usize = 20;

/// Runs the command.
pub(super) fn run(args: &ProduceArgs) -> Result<(), Failure> {
    let station = Name::parse(&args.station).map_err(|fault| Failure::usage(fault.text("Station")))?;
    let input: Box<dyn Read> = match &args.file {
        Some(path) => {
            Box::new(File::open(path).map_err(|fault| Failure::usage(format!("{}: {fault}", path.display())))?)
        }
        None => Box::new(io::stdin()),
    };
    let mut session = Session::new(&args.url, args.login.find()?)?;
    let kind = if args.raw { "single" } else { "batch" };
    let path = format!("/stations/{}/produce/{kind}", station.as_str());
    let retry_for = Duration::from_secs(args.retry_for);
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        persist(retry_for, || session.post(&path, headers, body), thread::sleep)
    };
    let mut producer = Producer::new(run_id()?, args.raw, post, Progress::new());
    let batch_records = if args.raw { 1 } else { args.batch as usize };
    let ended = producer.consume(BufReader::with_capacity(256 * 1024, input), batch_records);
    let tally = producer.finish();
    mutter(&tally.text(station.as_str()));
    ended?;
    match tally.exit {
        Exit::Ok => Ok(()),
        exit => Err(Failure { exit, text: "not all lines were stored".to_owned() }),
    }
}

/// The outcome of the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tally {
    /// Number of records that are acknowledged.
    stored: u64,
    /// Number of lines that are not stored, or not known to be.
    failed: u64,
    /// The first of these, with the reason.
    reports: Vec<String>,
    /// The exit code of the worst outcome.
    exit: Exit,
}

impl Tally {
    fn text(&self, station: &str) -> String {
        let mut text = String::new();
        for report in &self.reports {
            let _ = writeln!(text, "  {report}");
        }
        if self.reports.len() >= REPORTS_MAX {
            text.push_str("  (more were left out)\n");
        }
        let failed = match self.failed {
            0 => String::new(),
            1 => "; 1 line was not".to_owned(),
            failed => format!("; {failed} lines were not"),
        };
        let records = if self.stored == 1 { "record" } else { "records" };
        let _ = writeln!(text, "{} {records} stored in {station}{failed}", self.stored);
        text
    }

    fn fail(&mut self, lines: &[u64], count: u64, exit: Exit, reason: &str) {
        self.failed += count;
        if self.exit == Exit::Ok || exit != Exit::Failed {
            self.exit = exit;
        }
        if self.reports.len() < REPORTS_MAX {
            let place = match (lines.first(), lines.last()) {
                (Some(first), Some(last)) if first != last => format!("lines {first} to {last}"),
                (Some(line), _) => format!("line {line}"),
                _ => "the input".to_owned(),
            };
            let some = if count < lines.len() as u64 { format!(", {count} of them") } else { String::new() };
            self.reports.push(format!("{place}{some}: {reason}"));
        }
    }
}

/// Sends lines. `P` posts a request, given its headers and its body.
struct Producer<P> {
    post: P,
    run_id: String,
    raw: bool,
    batch_number: u64,
    progress: Progress,
    tally: Tally,
}

/// Records that go in one request: their bytes, one after the other, and the numbers of their lines.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    lines: Vec<u64>,
}

impl<P: FnMut(&[(&str, &str)], &[u8]) -> Result<Reply, Failure>> Producer<P> {
    fn new(run_id: String, raw: bool, post: P, progress: Progress) -> Self {
        let tally = Tally { stored: 0, failed: 0, reports: Vec::new(), exit: Exit::Ok };
        Self { post, run_id, raw, batch_number: 0, progress, tally }
    }

    /// Reads and sends all lines. An error ends the run: what follows would fail in the same way.
    fn consume(&mut self, mut input: impl BufRead, batch_records: usize) -> Result<(), Failure> {
        let mut batch = Batch::default();
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let length = read_line(&mut input, &mut line)
                .map_err(|fault| Failure::other(format!("the input cannot be read after line {number}: {fault}")))?;
            let Some(whole) = length else { break };
            number += 1;
            // A byte order mark belongs to the file and not to the record.
            if number == 1 {
                line.drain(..line.len() - byte_order_mark::strip_bytes(&line).len());
            }
            match self.refused(&line, whole) {
                Some(reason) => self.tally.fail(&[number], 1, Exit::Failed, reason),
                None if line.is_empty() && !self.raw => {}
                None => batch.push(&line, number),
            }
            if batch.lines.len() >= batch_records || batch.bytes.len() >= REQUEST_BYTES {
                self.send(&batch)?;
                batch.clear();
            }
        }
        if batch.lines.is_empty() { Ok(()) } else { self.send(&batch) }
    }

    /// Returns why this line is not sent, if it is not. `whole`: it is not longer than a request may be.
    fn refused(&self, line: &[u8], whole: bool) -> Option<&'static str> {
        if !whole {
            return Some("longer than a request may be; not sent");
        }
        let json = || serde_json::from_slice::<IgnoredAny>(line).is_ok();
        (!self.raw && !line.is_empty() && !json()).then_some("not a JSON value; not sent (--raw sends lines as text)")
    }

    fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        let id = format!("{}-{}", self.run_id, self.batch_number);
        self.batch_number += 1;
        let done = self.send_range(batch, 0..batch.lines.len(), &id);
        self.progress.show(&self.tally, batch.lines.last().copied().unwrap_or_default());
        done
    }

    fn send_range(&mut self, batch: &Batch, range: std::ops::Range<usize>, id: &str) -> Result<(), Failure> {
        let lines = batch.lines.get(range.clone()).unwrap_or_default();
        let count = lines.len() as u64;
        let (body, media_type) =
            if self.raw { (batch.text(), ("Content-Type", "text/plain")) } else { (batch.json(range.clone()), JSON) };
        let reply = match (self.post)(&[media_type, ("Idempotency-Key", id)], &body) {
            Ok(reply) => reply,
            Err(failure) => {
                let unknown = failure.exit == Exit::Unavailable;
                let reason = if unknown { "no answer came; they may be stored or not" } else { "not sent" };
                self.tally.fail(lines, count, failure.exit, reason);
                return Err(failure);
            }
        };
        match (reply.status, partial(&reply.body)) {
            (200..300, _) => self.tally.stored += count,
            // Some are stored, and the answer says how many.
            (400, Some(Partial { sent, fail, errors })) if sent + fail == count => {
                self.tally.stored += sent;
                self.tally.fail(lines, fail, Exit::Failed, &errors.join("; "));
            }
            // Refused as a whole: nothing is stored, and one line may be the cause.
            (400 | 413, _) if count > 1 => {
                let middle = range.start + range.len() / 2;
                self.send_range(batch, range.start..middle, &format!("{id}a"))?;
                self.send_range(batch, middle..range.end, &format!("{id}b"))?;
            }
            (400 | 413, _) => self.tally.fail(lines, count, Exit::Failed, &reply.complaint()),
            // All requests that follow would fail in the same way.
            _ => {
                let failure = reply.failure();
                self.tally.fail(lines, count, failure.exit, &reply.complaint());
                return Err(failure);
            }
        }
        Ok(())
    }

    fn finish(self) -> Tally {
        self.progress.clear();
        self.tally
    }
}

impl Batch {
    fn push(&mut self, line: &[u8], number: u64) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
        self.lines.push(number);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.lines.clear();
    }

    fn text(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    fn json(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let mut start = range.start.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let mut body = vec![b'['];
        for end in self.ends.get(range).unwrap_or_default() {
            if body.len() > 1 {
                body.push(b',');
            }
            body.extend_from_slice(self.bytes.get(start..*end).unwrap_or_default());
            start = *end;
        }
        body.push(b']');
        body
    }
}

/// An answer that says how many records were stored and how many failed.
#[derive(Deserialize)]
struct Partial {
    sent: u64,
    fail: u64,
    errors: Vec<String>,
}

fn partial(body: &[u8]) -> Option<Partial> {
    serde_json::from_slice(body).ok()
}

/// Reads one line without its end. Returns `None` at the end of the input, and `Some(false)` if the line was longer
/// than [`LINE_BYTES_MAX`] and was skipped.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let limit = LINE_BYTES_MAX as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    let ended = line.last() == Some(&b'\n');
    if ended {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() as u64 >= limit {
        line.clear();
        input.skip_until(b'\n')?;
        return Ok(Some(false));
    }
    Ok(Some(true))
}

/// Returns a random id for this run, in the form of a UUID.
fn run_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|fault| Failure::other(format!("no random bytes: {fault}")))?;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    Ok(parts.join("-"))
}

/// The progress line on the terminal, for input that takes longer than a second.
struct Progress {
    terminal: bool,
    begun: Instant,
    shown: Option<Instant>,
}

impl Progress {
    const PERIOD: Duration = Duration::from_millis(250);

    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), begun: clock::now(), shown: None }
    }

    fn show(&mut self, tally: &Tally, line: u64) {
        let now = clock::now();
        let due = self.shown.map_or(self.begun + Duration::from_secs(1), |shown| shown + Self::PERIOD);
        if !self.terminal || now < due {
            return;
        }
        self.shown = Some(now);
        let millis = u64::try_from(now.duration_since(self.begun).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = tally.stored.saturating_mul(1_000) / millis;
        let failed = if tally.failed > 0 { format!(", {} failed", tally.failed) } else { String::new() };
        mutter(&format!("\r\x1b[Kline {line}: {} records stored{failed}, {rate}/s", tally.stored));
    }

    fn clear(&self) {
        if self.shown.is_some() {
            mutter("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, delivery: None, body: body.as_bytes().to_vec() }
    }

    /// Runs the input through a gateway that answers as `answer` says; returns the requests, too.
    fn produce(
        input: &str,
        raw: bool,
        batch: usize,
        answer: impl Fn(&str) -> Result<Reply, Failure>,
    ) -> (Tally, Vec<(String, String)>, bool) {
        let requests = RefCell::new(Vec::new());
        let post = |headers: &[(&str, &str)], body: &[u8]| {
            let body = String::from_utf8(body.to_vec()).unwrap();
            requests.borrow_mut().push((headers[1].1.to_owned(), body.clone()));
            answer(&body)
        };
        let mut producer = Producer::new("id".to_owned(), raw, post, Progress::new());
        let ended = producer.consume(input.as_bytes(), batch).is_ok();
        let tally = producer.finish();
        (tally, requests.into_inner(), ended)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the shape of an answer")]
    fn good(_: &str) -> Result<Reply, Failure> {
        Ok(reply(200, "{\"error\":null,\"success\":true}"))
    }

    fn requests(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(id, body)| ((*id).to_owned(), (*body).to_owned())).collect()
    }

    #[test]
    fn lines_are_sent_as_they_are_in_numbered_batches() {
        let input = "{\"a\": 9007199254740993}\n\n1.0\r\n\"x\"\nnull";
        let (tally, sent, ended) = produce(input, false, 2, good);
        assert_eq!(sent, requests(&[("id-0", "[{\"a\": 9007199254740993},1.0]"), ("id-1", "[\"x\",null]")]));
        assert_eq!((tally.stored, tally.failed, tally.exit, ended), (4, 0, Exit::Ok, true));
        let (tally, sent, _) = produce("a b\n\n\"c", true, 1, good);
        assert_eq!(sent, requests(&[("id-0", "a b"), ("id-1", ""), ("id-2", "\"c")]));
        assert_eq!(tally.stored, 3);
        assert_eq!(produce("", false, 2, good).1, []);
    }

    #[test]
    fn r20_a_byte_order_mark_before_the_first_line_is_passed_over() {
        let (tally, sent, _) = produce("\u{feff}1\n\u{feff}2\n", false, 2, good);
        assert_eq!(sent, requests(&[("id-0", "[1]")]));
        assert_eq!((tally.stored, tally.failed), (1, 1));
        assert_eq!(produce("\u{feff}a\n", true, 1, good).1, requests(&[("id-0", "a")]));
    }

    #[test]
    fn a_line_that_is_no_json_is_reported_and_the_others_are_sent() {
        let (tally, sent, ended) = produce("1\nnope\n2\n{\"a\":\n", false, 10, good);
        assert_eq!(sent, requests(&[("id-0", "[1,2]")]));
        assert_eq!((tally.stored, tally.failed, tally.exit, ended), (2, 2, Exit::Failed, true));
        assert!(tally.reports[0].starts_with("line 2: ") && tally.reports[1].starts_with("line 4: "), "{tally:?}");
    }

    #[test]
    fn a_batch_that_is_refused_whole_is_halved_until_the_guilty_line_is_found() {
        let picky =
            |body: &str| if body.contains('3') { Ok(reply(413, "{\"error\":\"too large\"}")) } else { good(body) };
        let (tally, sent, ended) = produce("1\n2\n3\n4\n", false, 10, picky);
        let expect =
            [("id-0", "[1,2,3,4]"), ("id-0a", "[1,2]"), ("id-0b", "[3,4]"), ("id-0ba", "[3]"), ("id-0bb", "[4]")];
        assert_eq!(sent, requests(&expect));
        assert_eq!((tally.stored, tally.failed, tally.exit, ended), (3, 1, Exit::Failed, true));
        assert_eq!(tally.reports, ["line 3: too large (HTTP 413)"]);
    }

    #[test]
    fn a_batch_that_is_stored_in_part_is_not_sent_again() {
        let part = |_: &str| Ok(reply(400, "{\"errors\":[\"full\"],\"fail\":1,\"sent\":2,\"success\":false}"));
        let (tally, sent, ended) = produce("1\n2\n3\n", false, 10, part);
        assert_eq!((sent.len(), tally.stored, tally.failed, ended), (1, 2, 1, true));
        assert_eq!(tally.reports, ["lines 1 to 3, 1 of them: full"]);
    }

    #[test]
    fn what_holds_for_all_that_follows_ends_the_run() {
        for (status, exit) in
            [(401, Exit::NoPermission), (403, Exit::NoPermission), (404, Exit::Failed), (503, Exit::Unavailable)]
        {
            let (tally, sent, ended) = produce("1\n2\n", false, 1, |_| Ok(reply(status, "{}")));
            assert_eq!((sent.len(), tally.exit, tally.failed, ended), (1, exit, 1, false), "{status}");
        }
        let (tally, _, ended) = produce("1\n", false, 1, |_| Err(Failure::unavailable("gone")));
        assert!(!ended && tally.reports[0].contains("stored or not"), "{tally:?}");
        let (tally, _, ended) = produce("1\n", false, 1, |_| Err(Failure::status(401, "who?")));
        assert!(!ended && tally.reports == ["line 1: not sent"], "{tally:?}");
    }

    #[test]
    fn a_line_without_end_is_not_read_into_memory() {
        let long = vec![b'1'; LINE_BYTES_MAX + 1];
        let input = [&long[..], b"111\n2\n", &long[1..], b"\n"].concat();
        let mut rest = BufReader::new(&input[..]);
        let mut line = Vec::new();
        assert_eq!(read_line(&mut rest, &mut line).unwrap(), Some(false));
        line.clear();
        assert_eq!((read_line(&mut rest, &mut line).unwrap(), line.as_slice()), (Some(true), &b"2"[..]));
        line.clear();
        assert_eq!((read_line(&mut rest, &mut line).unwrap(), line.len()), (Some(true), LINE_BYTES_MAX));
        line.clear();
        assert_eq!(read_line(&mut rest, &mut line).unwrap(), None);
    }
}
