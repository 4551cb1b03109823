//! The counts of a run. Each thread has its own; they are added up at the end.

use super::schedule::Nanos;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// The connection ended before the answer.
    Closed,
    /// No connection could be made. Counted per attempt: there is no request yet.
    Connect,
    /// The answer could not be read.
    Protocol,
    /// No answer within `--timeout`.
    Timeout,
    /// Due, and still not sent when the run had to end (open loop only).
    Unsent,
}

impl Failure {
    /// Its name in the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Connect => "connect",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Unsent => "unsent",
        }
    }
}

/// Counts of the measured part.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Nanoseconds from a request's beginning to its outcome, whatever it was.
    pub(super) latency: Histogram<u64>,
    /// Answers by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, and attempts to connect that failed.
    pub(super) failures: BTreeMap<Failure, u64>,
    /// Number of failures during the warm-up, of either kind.
    pub(super) warmup_failures: u64,
    /// Records of requests that were answered 2xx.
    pub(super) records: u64,
    /// Payload bytes of these records; of a fetch, the bytes of its body.
    pub(super) payload_bytes: u64,
    /// When the last outcome was known.
    pub(super) last: Nanos,
}

impl Default for Tally {
    fn default() -> Self {
        let latency =
            Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("1 < LATENCY_MAX, three digits are in 0..=5");
        Self {
            latency,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            warmup_failures: 0,
            records: 0,
            payload_bytes: 0,
            last: 0,
        }
    }
}

impl Tally {
    /// An answer with `status` to a measured request that began at `start`.
    pub(super) fn answered(&mut self, status: u16, start: Nanos, now: Nanos, records: u64, payload_bytes: u64) {
        *self.statuses.entry(status).or_default() += 1;
        if is_success(status) {
            self.records += records;
            self.payload_bytes += payload_bytes;
        }
        self.outcome(start, now);
    }

    /// A measured request that began at `start` and will have no answer.
    pub(super) fn failed(&mut self, failure: Failure, start: Nanos, now: Nanos) {
        *self.failures.entry(failure).or_default() += 1;
        self.outcome(start, now);
    }

    /// A connection that could not be made.
    pub(super) fn unconnected(&mut self) {
        *self.failures.entry(Failure::Connect).or_default() += 1;
    }

    /// Measured requests with an outcome.
    pub(super) fn requests(&self) -> u64 {
        self.latency.len()
    }

    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("both have the same bounds");
        other.statuses.iter().for_each(|(status, count)| *self.statuses.entry(*status).or_default() += count);
        other.failures.iter().for_each(|(failure, count)| *self.failures.entry(*failure).or_default() += count);
        self.warmup_failures += other.warmup_failures;
        self.records += other.records;
        self.payload_bytes += other.payload_bytes;
        self.last = self.last.max(other.last);
    }

    fn outcome(&mut self, start: Nanos, now: Nanos) {
        self.latency.saturating_record(now.saturating_sub(start));
        self.last = self.last.max(now);
    }
}

/// Returns whether the status is 2xx.
pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// A longer latency counts as this one: an hour.
const LATENCY_MAX: Nanos = 3_600_000_000_000;
