//! Producers: each one connection at a time, one request after the other, every record with a name of its own.

use crate::{
    support::http::{Http, Response, request},
    verdict::{Fate, Key, Request},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Records of a batch.
const BATCH: u32 = 20;
/// Between two requests of a producer: the faults are to be measured, not the machine.
const PAUSE: Duration = Duration::from_millis(20);
/// What is added to each record, so that slow lines are felt.
const PADDING: &str = "................................................................";

/// How a producer sends.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Where to.
    pub station: &'static str,
    /// Several records in a request.
    pub batch: bool,
    /// With message ids: what is not known to be stored is sent again until it is.
    pub named: bool,
    /// All or nothing.
    pub strict: bool,
}

/// Everything that is produced: single records, batches and strict batches, each with and without ids.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for station in ["plain", "wide", "checked"] {
        for (batch, strict) in [(false, false), (true, false), (true, true)] {
            // Several partitions keep no batch whole.
            if strict && station == "wide" {
                continue;
            }
            kinds.extend([false, true].map(|named| Kind { station, batch, named, strict }));
        }
    }
    kinds
}

/// Where producers find the gateways, and when they stop.
#[derive(Debug)]
pub struct Load {
    /// The gateways' data ports.
    pub gateways: Vec<SocketAddr>,
    /// Root's token, which all gateways take.
    pub token: String,
    /// When everything began.
    pub start: Instant,
    /// Nothing new is sent.
    pub stop: AtomicBool,
}

/// One attempt, as its client felt it.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Since the start.
    pub sent: Duration,
    /// Since the start.
    pub answered: Duration,
    /// The status; 0 if there was no answer.
    pub status: u16,
}

/// What a producer did.
#[derive(Debug)]
pub struct Report {
    /// How it sent.
    pub kind: Kind,
    /// What came of its requests.
    pub requests: Vec<Request>,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
}

/// The record's text.
fn record(key: Key) -> String {
    format!("{{\"p\":{},\"r\":{},\"i\":{},\"x\":\"{PADDING}\"}}", key.producer, key.request, key.index)
}

/// The name in a record's text.
pub fn key(text: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix("{\"p\":")?;
    let (producer, text) = text.split_once(",\"r\":")?;
    let (request, text) = text.split_once(",\"i\":")?;
    let (index, _) = text.split_once(',')?;
    Some(Key { producer: producer.parse().ok()?, request: request.parse().ok()?, index: index.parse().ok()? })
}

/// One connection's worth of load.
#[derive(Debug)]
pub struct Producer<'a> {
    /// Its number.
    pub number: u32,
    /// How it sends.
    pub kind: Kind,
    /// Where.
    pub load: &'a Load,
    http: Option<Http>,
    gateway: usize,
    attempts: Vec<Attempt>,
}

impl<'a> Producer<'a> {
    /// One that has not sent anything.
    pub fn new(number: u32, kind: Kind, load: &'a Load) -> Self {
        let gateway = number as usize % load.gateways.len();
        Self { number, kind, load, http: None, gateway, attempts: Vec::new() }
    }

    /// Produces until told to stop.
    pub fn run(mut self) -> Report {
        let mut requests = Vec::new();
        let mut number = 0;
        while !self.stopped() {
            let records = if self.kind.batch { BATCH } else { 1 };
            // Now and then a strict batch with ids grows. That is refused, and must not harm anything.
            let grows = self.kind.strict && self.kind.named && number % 10 == 0;
            let keys = |number, records| {
                let producer = self.number;
                (0..records).map(move |index| Key { producer, request: number, index })
            };
            if grows {
                let id = format!("{}-{number}", self.number);
                let first: Vec<Key> = keys(number, records / 2).collect();
                let whole: Vec<Key> = first.iter().copied().chain(keys(number + 1, records / 2)).collect();
                let begun = self.until_settled(number, &id, &first, 0);
                let known = begun.fate == Fate::Acknowledged;
                requests.push(begun);
                if known {
                    requests.push(self.until_settled(number + 1, &id, &whole, first.len()));
                }
                number += 2;
            } else {
                let all: Vec<Key> = keys(number, records).collect();
                let id = format!("{}-{number}", self.number);
                requests.push(self.until_settled(number, &id, &all, 0));
                number += 1;
            }
            thread::sleep(PAUSE);
        }
        Report { kind: self.kind, requests, attempts: self.attempts }
    }

    fn stopped(&self) -> bool {
        self.load.stop.load(Ordering::Relaxed)
    }

    /// Sends a request, with ids until it is known what became of it. `known` of its records are another request's.
    fn until_settled(&mut self, number: u32, id: &str, keys: &[Key], known: usize) -> Request {
        let start = Instant::now();
        let body = if self.kind.batch {
            format!("[{}]", keys.iter().map(|key| record(*key)).collect::<Vec<_>>().join(","))
        } else {
            record(keys[0])
        };
        let mut request = Request {
            producer: self.number,
            number,
            records: u32::try_from(keys.len() - known).unwrap(),
            named: self.kind.named,
            strict: self.kind.strict,
            refusable: known > 0,
            attempts: 0,
            took: Duration::ZERO,
            fate: Fate::Unknown,
        };
        loop {
            request.attempts += 1;
            let answer = self.attempt(id, &body, request.refusable);
            request.took = start.elapsed();
            let wait = match &answer {
                Some(answer) => {
                    request.fate = fate(answer, keys.len(), known);
                    seconds_to_wait(answer)
                }
                None => Duration::from_millis(100),
            };
            if request.fate != Fate::Unknown {
                return request;
            }
            thread::sleep(wait);
            if !self.kind.named || self.stopped() {
                return request;
            }
        }
    }

    /// One attempt; `None` if no answer came. A refusal that is right is no failure.
    fn attempt(&mut self, id: &str, body: &str, refusable: bool) -> Option<Response> {
        let sent = self.load.start.elapsed();
        let answer = self.exchange(id, body);
        if answer.is_none() {
            // As clients with several addresses do: the next one.
            self.http = None;
            self.gateway = (self.gateway + 1) % self.load.gateways.len();
        }
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        if !(refusable && status == 400) {
            self.attempts.push(Attempt { sent, answered: self.load.start.elapsed(), status });
        }
        answer
    }

    fn exchange(&mut self, id: &str, body: &str) -> Option<Response> {
        if self.http.is_none() {
            self.http = Http::try_connect(self.load.gateways[self.gateway]).ok();
        }
        let http = self.http.as_mut()?;
        let bearer = format!("Bearer {}", self.load.token);
        let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        if self.kind.named {
            headers.push(("Idempotency-Key", id));
        }
        if self.kind.strict {
            headers.push(("Prefer", "handling=strict"));
        }
        let what = if self.kind.batch { "batch" } else { "single" };
        let path = format!("/stations/{}/produce/{what}", self.kind.station);
        http.try_send(&request("POST", &path, &headers, body.as_bytes())).ok()?;
        http.try_response(true).ok()
    }
}

/// What the client is told of the records behind those that are `known`.
fn fate(answer: &Response, records: usize, known: usize) -> Fate {
    match answer.status {
        200 => Fate::Acknowledged,
        // The client is asked to come again.
        408 | 429 | 500.. => Fate::Unknown,
        _ => {
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let failed: Option<Vec<u32>> = json["errors"]
                .as_array()
                .map(|errors| errors.iter().filter_map(|error| error.as_str()).filter_map(number_of).collect());
            let all = || (0..u32::try_from(records).unwrap()).collect();
            let failed = match (json["sent"].as_u64(), failed) {
                (Some(sent), Some(failed)) if sent > 0 => failed,
                _ => all(),
            };
            let known = u32::try_from(known).unwrap();
            Fate::Refused(failed.into_iter().filter_map(|number| number.checked_sub(known)).collect())
        }
    }
}

/// `record N: …`.
fn number_of(error: &str) -> Option<u32> {
    error.strip_prefix("record ")?.split_once(':')?.0.parse().ok()
}

fn seconds_to_wait(answer: &Response) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds)
}
