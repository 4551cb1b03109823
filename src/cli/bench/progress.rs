//! The line on standard error that shows a run to be alive.

use super::{
    args::{Extent, Plan},
    worker::Sight,
};
use std::{
    io::{IsTerminal, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Rates since the last look.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    on_terminal: bool,
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
    /// How often the line is renewed.
    pub(super) const EVERY: Duration = Duration::from_millis(500);

    /// Shown on a terminal, or where the plan asks for it.
    pub(super) fn new(plan: &Plan) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let end = match plan.extent {
            Extent::Time(time) => Some(plan.warmup + time),
            Extent::Requests(_) => None,
        };
        Self { shown: on_terminal || plan.progress, on_terminal, warmup: plan.warmup, end, last: Look::default() }
    }

    /// Renews the line.
    pub(super) fn show(&mut self, sights: &[Sight], at: Duration) {
        if !self.shown {
            return;
        }
        let sum = |field: fn(&Sight) -> &AtomicU64| sights.iter().map(|sight| field(sight).load(Relaxed)).sum::<u64>();
        let look = Look {
            at,
            answers: sum(|sight| &sight.answers),
            records: sum(|sight| &sight.records),
            failures: sum(|sight| &sight.failures),
        };
        let line = line(&self.last, &look, self.warmup, self.end);
        self.last = look;
        // A progress line that cannot be written is no reason to stop.
        let mut stderr = std::io::stderr().lock();
        let _ = if self.on_terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
    }

    /// Leaves a clean line behind.
    pub(super) fn clear(&mut self) {
        if self.shown && self.on_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
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
