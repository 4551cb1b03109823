//! The summary of a run, as JSON for programs and as text for people.

use super::{
    account::CpuUse,
    args::{PayloadSource, Plan, Work},
    tally::Tally,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Numbers of the measured part. Its JSON form is an interface: fields are added, never renamed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// `produce` or `consume`.
    command: &'static str,
    url: String,
    stations: usize,
    connections: usize,
    idle_connections: usize,
    /// Idle connections that the server still held at the end.
    idle_alive: usize,
    pipeline: usize,
    threads: usize,
    tokens: usize,
    /// Records in a request; 0 for single records.
    batch: usize,
    /// Payload bytes of a made-up record; 0 where payloads come from a file.
    size: usize,
    gzip: bool,
    message_id: bool,
    /// Requests a second that were due; null in the closed loop.
    rate: Option<f64>,
    /// From the end of the warm-up to the last outcome.
    elapsed_s: f64,
    /// Measured requests, whatever came of them.
    requests: u64,
    /// Records of those answered 2xx.
    records: u64,
    /// Payload bytes of these records (consume: bytes of answers).
    payload_bytes: u64,
    requests_per_s: f64,
    records_per_s: f64,
    /// Millions of payload bytes a second.
    mb_per_s: f64,
    latency_us: Latency,
    /// Answers by status.
    statuses: BTreeMap<u16, u64>,
    /// What was not answered 2xx: by status, or by why there was no answer.
    errors: BTreeMap<String, u64>,
    /// Failures during the warm-up, of any kind.
    warmup_failures: u64,
    cpu: Cpu,
}

/// Microseconds from a request's beginning (open loop: when it was due) to its outcome.
#[derive(Debug, Clone, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p99_9: f64,
    max: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Cpu {
    /// The generator's own.
    generator_s: f64,
    generator_us_per_request: Option<f64>,
    /// Null where no record was acknowledged.
    generator_us_per_record: Option<f64>,
    processes: Vec<ProcessEntry>,
}

#[derive(Debug, Clone, Serialize)]
struct ProcessEntry {
    pid: u32,
    total_s: f64,
    user_s: f64,
    system_s: f64,
    us_per_request: Option<f64>,
    us_per_record: Option<f64>,
}

/// CPU of a process that was named with `--account`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessCpu {
    /// Which.
    pub(super) pid: u32,
    /// Over the measured part.
    pub(super) cpu: CpuUse,
}

impl Summary {
    /// Puts the numbers together.
    #[expect(clippy::cast_precision_loss, reason = "rates and times for people")]
    pub(super) fn new(
        plan: &Plan,
        tally: &Tally,
        elapsed: Duration,
        own: Duration,
        processes: Vec<ProcessCpu>,
        idle_alive: usize,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let per = |time: Duration, count: u64| (count > 0).then(|| time.as_secs_f64() * 1e6 / count as f64);
        let per_request = |time: Duration| per(time, tally.requests());
        let per_record = |time: Duration| per(time, tally.records);
        let (command, batch, size, gzip, message_id) = match &plan.work {
            Work::Produce(produce) => {
                let size = if let PayloadSource::Size(size) = produce.source { size } else { 0 };
                ("produce", produce.batch.unwrap_or(0), size, produce.gzip, produce.message_id)
            }
            Work::Consume(consume) => ("consume", consume.batch, 0, false, false),
        };
        Self {
            command,
            url: plan.url.to_string(),
            stations: plan.stations.len(),
            connections: plan.connections,
            idle_connections: plan.idle,
            idle_alive,
            pipeline: plan.pipeline,
            threads: plan.threads,
            tokens: plan.tokens,
            batch,
            size,
            gzip,
            message_id,
            rate: plan.rate,
            elapsed_s: elapsed.as_secs_f64(),
            requests: tally.requests(),
            records: tally.records,
            payload_bytes: tally.payload_bytes,
            requests_per_s: tally.requests() as f64 / seconds,
            records_per_s: tally.records as f64 / seconds,
            mb_per_s: tally.payload_bytes as f64 / seconds / 1e6,
            latency_us: Latency::of(tally),
            statuses: tally.statuses.clone(),
            errors: errors(tally),
            warmup_failures: tally.warmup_failures,
            cpu: Cpu {
                generator_s: own.as_secs_f64(),
                generator_us_per_request: per_request(own),
                generator_us_per_record: per_record(own),
                processes: processes
                    .into_iter()
                    .map(|process| ProcessEntry {
                        pid: process.pid,
                        total_s: process.cpu.total.as_secs_f64(),
                        user_s: process.cpu.user.as_secs_f64(),
                        system_s: process.cpu.system.as_secs_f64(),
                        us_per_request: per_request(process.cpu.total),
                        us_per_record: per_record(process.cpu.total),
                    })
                    .collect(),
            },
        }
    }

    /// Returns whether there was a request, every one was answered 2xx, those of the warm-up too, and no idle
    /// connection was closed.
    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty()
            && self.warmup_failures == 0
            && self.requests > 0
            && self.idle_alive == self.idle_connections
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = self.setting();
        lines.extend(self.results());
        lines.extend(self.cpu_lines());
        let failed: Vec<String> = self.errors.iter().map(|(what, count)| format!("{what}: {count}")).collect();
        lines.push(("errors", if failed.is_empty() { "none".to_owned() } else { failed.join(", ") }));
        if self.warmup_failures > 0 {
            lines.push(("warm-up", format!("{} failed", self.warmup_failures)));
        }
        let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name:<9} {value}")).collect();
        lines.join("\n")
    }

    fn setting(&self) -> Vec<Line> {
        let what = match (self.command, self.batch, self.size) {
            ("consume", batch, _) => format!("up to {batch} records a request"),
            (_, 0, 0) => "single records".to_owned(),
            (_, 0, size) => format!("single records of {size} B"),
            (_, batch, 0) => format!("batches of {batch} records"),
            (_, batch, size) => format!("batches of {batch} x {size} B"),
        };
        let pace = self.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} requests/s due"));
        let Self { connections, pipeline, stations, tokens, threads, .. } = self;
        let idle = match self.idle_connections {
            0 => String::new(),
            count => format!("; of {count} idle connections {} live", self.idle_alive),
        };
        let over = format!(
            "{connections} connections x {pipeline}, {stations} station(s), {tokens} token(s), {threads} thread(s){idle}"
        );
        vec![(self.command, format!("{}, {what}, {pace}", self.url)), ("over", over)]
    }

    fn results(&self) -> Vec<Line> {
        let Latency { p50, p90, p99, p99_9, max, .. } = self.latency_us;
        let [p50, p90, p99, p99_9, max] = [p50, p90, p99, p99_9, max].map(time);
        let requests = format!("{:>12}  {:>12.1} /s  in {:.2} s", self.requests, self.requests_per_s, self.elapsed_s);
        let records = format!("{:>12}  {:>12.1} /s  {:.2} MB/s", self.records, self.records_per_s, self.mb_per_s);
        let latency = format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {max}");
        vec![("requests", requests), ("records", records), ("latency", latency)]
    }

    fn cpu_lines(&self) -> Vec<Line> {
        let each = |request: Option<f64>, record: Option<f64>| {
            let text = |cost: Option<f64>| cost.map_or("-".to_owned(), |cost| format!("{cost:.3}"));
            format!("{} us a request, {} us a record", text(request), text(record))
        };
        let own = format!(
            "{:.2} s CPU, {:.0} % of a core; {}",
            self.cpu.generator_s,
            100.0 * self.cpu.generator_s / self.elapsed_s.max(1e-9),
            each(self.cpu.generator_us_per_request, self.cpu.generator_us_per_record)
        );
        let process = |entry: &ProcessEntry| {
            let ProcessEntry { pid, total_s, user_s, system_s, .. } = entry;
            let each = each(entry.us_per_request, entry.us_per_record);
            ("process", format!("{pid}: {total_s:.2} s CPU ({user_s:.2} user, {system_s:.2} kernel); {each}"))
        };
        std::iter::once(("generator", own)).chain(self.cpu.processes.iter().map(process)).collect()
    }
}

/// Name and value.
type Line = (&'static str, String);

impl Latency {
    fn of(tally: &Tally) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
        let at = |quantile: f64| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
        #[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
        let max = tally.latency.max() as f64 / 1e3;
        Self { mean: tally.latency.mean() / 1e3, p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max }
    }
}

fn errors(tally: &Tally) -> BTreeMap<String, u64> {
    let refused = tally.statuses.iter().filter(|(status, _)| !super::tally::is_success(**status));
    let by_status = refused.map(|(status, count)| (status.to_string(), *count));
    let unanswered = tally.failures.iter().map(|(failure, count)| (failure.name().to_owned(), *count));
    by_status.chain(unanswered).collect()
}

/// Microseconds, in the unit that people would use.
fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}
