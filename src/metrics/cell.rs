//! The cells: counter, gauge, histogram. One writer each, any number of readers; a [`SharedCounter`] has any number of both.
//!
//! A second writer would not corrupt anything, it would lose increments: that is why the blocks
//! that hold these cells belong to one thread each.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of a histogram's buckets, in microseconds, inclusive. One more bucket takes the rest.
pub const BUCKETS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Only grows, and anybody may add: for what is counted seldom, by any thread.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value that was set last; 0 before.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations, in fixed buckets from 100 µs to 10 s.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative: each observation is in one bucket, the last one has no upper bound.
    buckets: [Counter; BUCKETS.len() + 1],
    /// Sum of all observations, in microseconds.
    sum_micros: Counter,
}

impl Histogram {
    /// Takes one duration in.
    pub fn observe(&self, elapsed: Duration) {
        self.observe_many(elapsed, 1);
    }

    /// Takes `count` equal durations in: the records of one batch that were acknowledged together.
    pub fn observe_many(&self, elapsed: Duration, count: u64) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let at = BUCKETS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.add(count);
        }
        self.sum_micros.add(micros.saturating_mul(count));
    }

    /// Adds this histogram to `total`. The count is the sum of the buckets, so that the two always agree.
    pub(super) fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum = sum.wrapping_add(bucket.get());
        }
        total.sum_micros = total.sum_micros.wrapping_add(self.sum_micros.get());
    }
}

/// Histograms added up.
#[derive(Debug, Default)]
pub(super) struct HistogramTotal {
    pub(super) buckets: [u64; BUCKETS.len() + 1],
    pub(super) sum_micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        for (micros, bucket) in
            [(0, 0), (100, 0), (101, 1), (250, 1), (1_000, 3), (1_001, 4), (10_000_000, 15), (10_000_001, 16)]
        {
            let histogram = Histogram::default();
            histogram.observe_many(Duration::from_micros(micros), 3);
            let mut total = HistogramTotal::default();
            histogram.add_to(&mut total);
            let expect: Vec<u64> = (0..=BUCKETS.len()).map(|at| if at == bucket { 3 } else { 0 }).collect();
            assert_eq!(total.buckets.to_vec(), expect, "{micros} µs");
            assert_eq!(total.sum_micros, micros * 3);
        }
    }

    #[test]
    fn an_absurd_duration_is_counted_without_overflow() {
        let histogram = Histogram::default();
        histogram.observe_many(Duration::MAX, u64::MAX);
        let mut total = HistogramTotal::default();
        histogram.add_to(&mut total);
        assert_eq!(total.buckets[BUCKETS.len()], u64::MAX);
    }

    #[test]
    fn counters_add_and_gauges_replace() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        counter.add(2);
        counter.increment();
        gauge.set(7);
        gauge.set(5);
        assert_eq!((counter.get(), gauge.get()), (3, 5));
    }
}
