//! Judges whether the server at the other end of the control plane's connection serves JetStream, by its answers. Pure.
//!
//! A server that is cut off from its cluster goes on answering its clients, and its connections stand: only its answers
//! tell. The gateway asks it twice a second, unless another answer has come meanwhile. Where it does not serve, another
//! one may: the connection leaves it. Where none does, the gateway is not ready, and says why.

use crate::limits::{BROKER_SILENT_MAX, BROKER_UNSERVED_MAX, REGISTRY_HOLD};
use std::time::{Duration, Instant};

/// Why JetStream cannot be used through this connection. The numbers are those of a metric, in which 0 means that it
/// can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Trouble {
    /// JetStream has no leader.
    Leaderless = 1,
    /// The account has no JetStream.
    Absent = 2,
    /// The server gives no answer.
    Silent = 3,
}

impl Trouble {
    /// Returns the trouble as a reason not to be ready.
    pub(in crate::control) fn reason(self) -> &'static str {
        match self {
            Self::Leaderless => "JetStream has no leader",
            Self::Absent => "no JetStream",
            Self::Silent => "JetStream does not answer",
        }
    }

    /// Returns the trouble of this number.
    pub(in crate::control) fn of(number: u64) -> Option<Self> {
        [Self::Leaderless, Self::Absent, Self::Silent].into_iter().find(|trouble| *trouble as u64 == number)
    }
}

/// What the connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Verdict {
    Stay,
    /// Connect to another server.
    Leave,
}

/// The trouble that was seen, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::control) struct ServerHealth {
    /// When the present trouble began, whichever servers it was seen at, and what was seen last.
    trouble: Option<(Instant, Trouble)>,
    /// Since when this server has not served.
    unserved: Option<Instant>,
    /// Since when the registry has no leader as far as this server knows, and when one was left for that.
    leaderless: Option<Instant>,
    left: Option<Instant>,
}

impl ServerHealth {
    /// Notes another connection: its server has all its time.
    pub(in crate::control) fn connected(&mut self) {
        (self.unserved, self.leaderless) = (None, None);
    }

    /// Takes in whether this server says that the registry has no leader whom the copies follow. Such a server may have
    /// lost the others, and goes on answering for JetStream all the same for as long as it takes itself for its leader.
    pub(in crate::control) fn registry_heard(&mut self, leaderless: bool, others: bool, now: Instant) -> Verdict {
        if !leaderless {
            self.leaderless = None;
            return Verdict::Stay;
        }
        let since = *self.leaderless.get_or_insert(now);
        // If another server does not know better, the registry has no leader: that passes by itself, or no server
        // helps.
        let lately = self.left.is_some_and(|left| now.saturating_duration_since(left) < REGISTRY_HOLD);
        if !others || lately || now.saturating_duration_since(since) < BROKER_SILENT_MAX {
            return Verdict::Stay;
        }
        (self.leaderless, self.left) = (None, Some(now));
        Verdict::Leave
    }

    /// Takes in an answer. `others`: there are servers to go to.
    pub(in crate::control) fn heard(&mut self, answer: Result<(), Trouble>, others: bool, now: Instant) -> Verdict {
        let Err(trouble) = answer else {
            (self.trouble, self.unserved) = (None, None);
            return Verdict::Stay;
        };
        let begun = self.trouble.map_or(now, |(begun, _)| begun);
        self.trouble = Some((begun, trouble));
        let unserved = *self.unserved.get_or_insert(now);
        if !others || now.saturating_duration_since(unserved) < BROKER_SILENT_MAX {
            return Verdict::Stay;
        }
        self.unserved = None;
        Verdict::Leave
    }

    /// Returns what keeps the gateway from being ready: trouble that lasts longer than requests should wait.
    pub(in crate::control) fn trouble(&self, now: Instant) -> Option<Trouble> {
        let lasting = self.trouble.filter(|(begun, _)| now.saturating_duration_since(*begun) >= BROKER_UNSERVED_MAX);
        lasting.map(|(_, trouble)| trouble)
    }

    /// Returns how long there has been trouble.
    pub(in crate::control) fn since(&self, now: Instant) -> Duration {
        self.trouble.map_or(Duration::ZERO, |(begun, _)| now.saturating_duration_since(begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::clock;

    type Answer = Result<(), Trouble>;
    const SERVED: Answer = Ok(());
    const LEADERLESS: Answer = Err(Trouble::Leaderless);
    const SILENT: Answer = Err(Trouble::Silent);

    /// Takes in one answer each half second. Returns when it would leave the server, and its trouble at the end.
    fn hears(all: &[Answer], others: bool) -> (Vec<usize>, Option<Trouble>) {
        let begun = clock::now();
        let mut health = ServerHealth::default();
        let mut left = Vec::new();
        let mut now = begun;
        for (index, answer) in all.iter().enumerate() {
            now = begun + Duration::from_millis(500) * u32::try_from(index).expect("a few");
            if health.heard(*answer, others, now) == Verdict::Leave {
                left.push(index);
                health.connected();
            }
        }
        (left, health.trouble(now))
    }

    #[test]
    fn c4_a_server_that_has_lost_its_cluster_is_left_and_said() {
        assert_eq!(hears(&[SERVED, LEADERLESS, LEADERLESS, SERVED, LEADERLESS, LEADERLESS], true), (vec![], None));
        assert_eq!(hears(&[SERVED, LEADERLESS, LEADERLESS, LEADERLESS, LEADERLESS], true).0, [4]);
        assert_eq!(hears(&[SILENT; 4], true).0, [3]);
        // The next server gets as long.
        assert_eq!(hears(&[SILENT; 9], true).0, [3, 7]);
        let (left, trouble) = hears(&[LEADERLESS; 9], false);
        assert_eq!((left, trouble), (vec![], Some(Trouble::Leaderless)), "there is nowhere else to go");
        // Trouble that lasts over several servers is one trouble.
        assert_eq!(hears(&[LEADERLESS; 9], true).1, Some(Trouble::Leaderless));
        let elsewhere = [&[LEADERLESS; 8][..], &[SERVED]].concat();
        assert_eq!(hears(&elsewhere, true), (vec![3, 7], None), "another one serves");
    }

    #[test]
    fn c4_a_server_without_the_registrys_leader_is_left_now_and_then_and_is_no_trouble_by_itself() {
        let begun = clock::now();
        let mut health = ServerHealth::default();
        let (mut left, mut now) = (Vec::new(), begun);
        for index in 0..60 {
            now = begun + Duration::from_millis(500) * index;
            assert_eq!(health.heard(SERVED, true, now), Verdict::Stay);
            if health.registry_heard(true, true, now) == Verdict::Leave {
                left.push(index);
                health.connected();
            }
        }
        assert_eq!((left, health.trouble(now)), (vec![3, 23, 43], None), "once in ten seconds");
        let mut health = ServerHealth::default();
        for (index, leaderless) in (0..).zip([true, true, false, true, true, true]) {
            let now = begun + Duration::from_millis(500) * index;
            assert_eq!(health.registry_heard(leaderless, true, now), Verdict::Stay, "it was not so all the time");
            assert_eq!(ServerHealth::default().registry_heard(true, false, now), Verdict::Stay);
        }
    }

    #[test]
    fn the_number_of_a_trouble_is_its_own() {
        for trouble in [Trouble::Leaderless, Trouble::Absent, Trouble::Silent] {
            assert_eq!(Trouble::of(trouble as u64), Some(trouble));
        }
        assert_eq!(Trouble::of(0), None);
    }
}
