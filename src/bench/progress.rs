//! The line that shows a run to be alive.

use super::{
    args::{Extent, Plan},
    worker::Sight,
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Rates since the last look.
#[derive(Debug)]
pub(super) struct Progress {
    warmup: Duration,
    end: Option<Duration>,
    last: Look,
}

#[derive(Debug, Default, Clone, Copy)]
struct Look {
    at: Duration,
    answers: u64,
    records: u64,
    failures: u64,
}

impl Progress {
    /// How often there is a line.
    pub(super) const EVERY: Duration = Duration::from_millis(500);

    /// The progress of a run that begins now.
    pub(super) fn new(plan: &Plan) -> Self {
        let end = match plan.extent {
            Extent::Time(time) => Some(plan.warmup + time),
            Extent::Requests(_) => None,
        };
        Self { warmup: plan.warmup, end, last: Look::default() }
    }

    /// Returns the line for the time since the last one.
    pub(super) fn line(&mut self, sights: &[Sight], at: Duration) -> String {
        let sum = |field: fn(&Sight) -> &AtomicU64| sights.iter().map(|sight| field(sight).load(Relaxed)).sum::<u64>();
        let look = Look {
            at,
            answers: sum(|sight| &sight.answers),
            records: sum(|sight| &sight.records),
            failures: sum(|sight| &sight.failures),
        };
        let line = line(&self.last, &look, self.warmup, self.end);
        self.last = look;
        line
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn line(before: &Look, now: &Look, warmup: Duration, end: Option<Duration>) -> String {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64().max(0.001);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let phase = if now.at < warmup { "warm-up " } else { "measured" };
    let whole = end.map(|end| format!(" of {:.0}", end.as_secs_f64())).unwrap_or_default();
    format!(
        "{phase} {:.1}{whole} s  {:.0} requests/s  {:.0} records/s  {} failed",
        now.at.as_secs_f64(),
        rate(now.answers, before.answers),
        rate(now.records, before.records),
        now.failures
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_rates_since_the_last_look() {
        let before = Look { at: Duration::from_secs(1), answers: 100, records: 1_000, failures: 0 };
        let now = Look { at: Duration::from_millis(1_500), answers: 200, records: 2_000, failures: 3 };
        let text = line(&before, &now, Duration::from_secs(2), Some(Duration::from_secs(12)));
        assert_eq!(text, "warm-up  1.5 of 12 s  200 requests/s  2000 records/s  3 failed");
        let text = line(&before, &now, Duration::ZERO, None);
        assert!(text.starts_with("measured 1.5 s "), "{text}");
    }
}
