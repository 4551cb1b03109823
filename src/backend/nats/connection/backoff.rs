//! How long the connection waits before it is tried again.

use crate::{
    limits::{NATS_CONNECT_PAUSE_MAX, NATS_CONNECT_PAUSE_MIN},
    rt,
};
use std::time::Duration;

/// Pauses that double, up to a bound.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: NATS_CONNECT_PAUSE_MIN }
    }
}

impl Backoff {
    /// Notes that a connection stood so long: it is tried again at once; one that fails at once is not.
    pub(super) fn stood(&mut self, time: Duration) {
        if time > NATS_CONNECT_PAUSE_MAX {
            *self = Self::default();
        }
    }

    /// Waits, and makes the next pause longer. Shards and replicas do not come back all at once.
    pub(super) async fn wait(&mut self) {
        let pause = self.next();
        rt::sleep(rt::jittered(pause / 2, pause)).await;
    }

    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(NATS_CONNECT_PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_only_after_a_connection_that_stood() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        backoff.stood(NATS_CONNECT_PAUSE_MAX);
        assert_eq!(backoff.next(), NATS_CONNECT_PAUSE_MAX);
        backoff.stood(NATS_CONNECT_PAUSE_MAX + Duration::from_millis(1));
        assert_eq!(backoff.next(), NATS_CONNECT_PAUSE_MIN);
    }
}
