//! How long a shard may check records before it has to look at its sockets again. Pure.
//!
//! Requests that check share one allowance: what one uses, the next to come does not have. It fills again while the shard does
//! anything else, four times as quickly as it is used, so that records which are checked quickly never wait for it. Whoever has
//! none left gets a little all the same, and then sleeps.

use crate::limits::{CHECK_TURN, CHECK_TURN_MIN};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How much faster the allowance fills than it is used.
const FILLS: u32 = 4;

/// The allowance of one shard.
#[derive(Debug, Default)]
pub struct Turns {
    used: Cell<Duration>,
    /// When it was used last.
    at: Cell<Option<Instant>>,
}

impl Turns {
    /// How long a turn that begins now may take.
    pub(super) fn begin(&self, now: Instant) -> Duration {
        let idle = self.at.get().map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        self.used.set(self.used.get().saturating_sub(idle.saturating_mul(FILLS)));
        CHECK_TURN.saturating_sub(self.used.get()).max(CHECK_TURN_MIN)
    }

    /// A turn that took so long has ended now.
    pub(super) fn end(&self, took: Duration, now: Instant) {
        self.used.set((self.used.get() + took).min(CHECK_TURN));
        self.at.set(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_they_share_an_allowance_that_fills_while_the_shard_does_something_else() {
        let turns = Turns::default();
        let mut now = Instant::now();
        let millis = Duration::from_millis;
        let micros = Duration::from_micros;
        let left = |used| CHECK_TURN.saturating_sub(millis(used));
        assert_eq!(turns.begin(now), CHECK_TURN);
        // Idle before, used, what the next one then has.
        for (idle, took, expect) in [
            (millis(0), millis(1), left(1)),
            (millis(0), millis(2), left(3)),
            (micros(500), millis(0), left(1)),
            (millis(1), millis(0), CHECK_TURN),
            (millis(9), CHECK_TURN + millis(7), CHECK_TURN_MIN),
            (millis(0), CHECK_TURN_MIN, CHECK_TURN_MIN),
            (millis(1), millis(0), CHECK_TURN),
        ] {
            now += idle;
            turns.begin(now);
            now += took;
            turns.end(took, now);
            assert_eq!(turns.begin(now), expect, "{idle:?} {took:?}");
        }
    }
}
