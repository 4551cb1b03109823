//! Whether the server at the other end serves: judged once a tick, by what it says and by what it does not say.
//!
//! - It is **silent**: not a byte comes. While publishes or requests wait for their answers it is asked (`PING`) after a
//!   second and given up two seconds later; an idle one after ten seconds, and ten more.
//! - It **does not serve**: it answers, and its answers to publishes say that it cannot take them (no leader, nobody
//!   takes them), or it answers none of them. After two seconds of that the connection moves to another server, if one
//!   accepts it. Records that another server was sent speak neither for nor against this one.
//! - **Slow** is neither: how long an answer may take is reckoned from how many came.
//!
//! Time is counted in ticks: a shard that was kept from running has not listened, and must not blame the server. Pure.

use crate::limits::REPUBLISH_AFTER;
use std::time::Duration;

/// How often everything here is judged.
pub(super) const TICK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: u32 = 10;
/// Silence after which the server is asked whether it lives, while nothing is waited for, and as much again after which
/// it is given up.
const IDLE_TICKS: u32 = 10 * TICKS_A_SECOND;
/// The same while publishes or requests are in flight.
const PING_TICKS: u32 = TICKS_A_SECOND;
/// How long the answer may take then.
const PONG_TICKS: u32 = 2 * TICKS_A_SECOND;
/// The pace at which the output before the answer is sent, in bytes a tick: 10 kB a second.
const SLOWEST_BYTES_A_TICK: u32 = 1_000;
/// How long a server may serve nothing before the connection moves to another one.
const BARREN_TICKS: u32 = 2 * TICKS_A_SECOND;
/// So many moves follow each other as quickly: while a leader is elected no server serves, and any may be the one that
/// is cut off.
const QUICK_MOVES: u32 = 5;
/// How long the connection stays after the next move; it doubles where that did not help.
const STAY_TICKS: u32 = 4 * TICKS_A_SECOND;
/// See [`STAY_TICKS`]: at most.
const STAY_TICKS_LONGEST: u32 = 60 * TICKS_A_SECOND;
/// How long nothing may have failed before it is logged that publishes work again.
const CALM_TICKS: u32 = 2 * TICKS_A_SECOND;
/// How long an answer is waited for, as a multiple of the time that the broker would need for all that is in flight.
const PATIENCE_FACTOR: u64 = 4;

/// What was counted up to a tick, over all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::backend::nats) struct Seen {
    /// Answers to publishes in flight.
    pub(in crate::backend::nats) answered: u64,
    /// Those of them that said "not now".
    pub(in crate::backend::nats) refused: u64,
    /// Those that say that the record is under way, or not known: a leader that has lost the others answers so too.
    pub(in crate::backend::nats) undecided: u64,
    /// Publishes that were given up unanswered.
    pub(in crate::backend::nats) unanswered: u64,
    /// Those of them that were sent before the connection stood.
    pub(in crate::backend::nats) unanswered_before: u64,
    /// Publishes in flight, and their bytes.
    pub(in crate::backend::nats) in_flight: (usize, usize),
    /// Those of them that were sent before the connection stood.
    pub(in crate::backend::nats) in_flight_before: usize,
    /// Whether anything was received since the tick before.
    pub(in crate::backend::nats) heard: bool,
    /// Whether requests other than publishes wait for their answers.
    pub(in crate::backend::nats) requests: bool,
}

/// What the connection is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Advice {
    /// Ask whether the server lives.
    pub(super) ping: bool,
    /// Give the server up: it does not live.
    pub(super) give_up: bool,
    /// Try another server, if there is one.
    pub(super) go_elsewhere: bool,
    /// The server has taken something since the tick before.
    pub(super) served: bool,
    /// Something to log for the operator.
    pub(super) news: Option<News>,
}

/// What the operator should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Publishes have begun to fail.
    Failing,
    /// They work again: how many were refused and how many not answered, and how long it took.
    Working { refused: u64, unanswered: u64, lasted: Duration },
}

/// What is known from the ticks before.
#[derive(Debug, Default)]
pub(super) struct Health {
    last: Seen,
    /// The approximate number of answers within the last second.
    recent: u64,
    /// Ticks since anything was received.
    quiet: u32,
    /// At how many of them the server was asked.
    pinged: Option<u32>,
    /// How many publishes were sent before this connection stood: their fate says nothing of its server.
    sent_before: u64,
    /// Ticks since anything was served, while something failed or waited.
    barren: u32,
    troubled: bool,
    /// Moves that did not help.
    moves: u32,
    /// Ticks that the connection stays where it is, and will the next time.
    stay: u32,
    stay_next: u32,
    outage: Option<Outage>,
}

#[derive(Debug, Default)]
struct Outage {
    ticks: u32,
    calm: u32,
    refused: u64,
    unanswered: u64,
}

impl Health {
    /// Notes that a new connection stands; so many publishes were sent until now.
    pub(super) fn connected(&mut self, sent: u64) {
        self.sent_before = sent;
        (self.quiet, self.pinged, self.barren, self.troubled) = (0, None, 0, false);
    }

    /// Returns whether publishes fail at the moment.
    pub(super) fn is_failing(&self) -> bool {
        self.outage.is_some()
    }

    /// Returns how long an answer is waited for at the most if the broker goes on as it did within the last second.
    pub(super) fn patience(&self) -> Duration {
        let drained_ms = (self.last.in_flight.0 as u64 * 1_000).checked_div(self.recent).unwrap_or(0);
        Duration::from_millis(PATIENCE_FACTOR * drained_ms).max(REPUBLISH_AFTER)
    }

    /// Takes in what was counted since the tick before. `up`: whether there is a connection.
    pub(super) fn tick(&mut self, seen: Seen, up: bool) -> Advice {
        let answered = seen.answered.saturating_sub(self.last.answered);
        let refused = seen.refused.saturating_sub(self.last.refused);
        let undecided = seen.undecided.saturating_sub(self.last.undecided);
        let unanswered = seen.unanswered.saturating_sub(self.last.unanswered);
        let unanswered_before = seen.unanswered_before.saturating_sub(self.last.unanswered_before);
        self.last = seen;
        self.recent = self.recent - self.recent.div_ceil(u64::from(TICKS_A_SECOND)) + answered;
        let served = answered > refused + undecided;
        let mut advice = Advice { news: self.outage(served, refused, unanswered), served, ..Advice::default() };
        if up {
            (advice.ping, advice.give_up) = self.silence(seen);
            let asked = seen.answered + seen.unanswered + seen.in_flight.0 as u64 > self.sent_before;
            let failed = refused + undecided + unanswered.saturating_sub(unanswered_before) > 0;
            advice.go_elsewhere = self.is_barren(served, asked && failed, seen.in_flight.0 > seen.in_flight_before);
        }
        advice
    }

    fn silence(&mut self, seen: Seen) -> (bool, bool) {
        if seen.heard {
            (self.quiet, self.pinged) = (0, None);
            return (false, false);
        }
        self.quiet = self.quiet.saturating_add(1);
        let (messages, bytes) = seen.in_flight;
        let (ask_at, answer_within) = if messages == 0 && !seen.requests {
            (IDLE_TICKS, IDLE_TICKS)
        } else {
            let behind = u32::try_from(bytes).unwrap_or(u32::MAX) / SLOWEST_BYTES_A_TICK;
            (PING_TICKS, (PONG_TICKS.saturating_add(behind)).min(IDLE_TICKS))
        };
        match self.pinged {
            Some(at) => (false, self.quiet - at >= answer_within),
            None if self.quiet >= ask_at => {
                self.pinged = Some(self.quiet);
                (true, false)
            }
            None => (false, false),
        }
    }

    fn is_barren(&mut self, served: bool, failed: bool, waiting: bool) -> bool {
        self.stay = self.stay.saturating_sub(1);
        if served {
            (self.barren, self.troubled) = (0, false);
            if self.stay == 0 {
                (self.moves, self.stay_next) = (0, 0);
            }
            return false;
        }
        self.troubled |= failed;
        if !self.troubled && !waiting {
            self.barren = 0;
            return false;
        }
        self.barren = self.barren.saturating_add(1);
        if self.barren < BARREN_TICKS || self.stay > 0 {
            return false;
        }
        self.moves = self.moves.saturating_add(1);
        self.stay = BARREN_TICKS;
        if self.moves >= QUICK_MOVES {
            self.stay = self.stay_next.max(STAY_TICKS);
            self.stay_next = (2 * self.stay).min(STAY_TICKS_LONGEST);
        }
        // Earlier failures say nothing of the next server, and nothing new may come here.
        (self.barren, self.troubled) = (0, false);
        true
    }

    fn outage(&mut self, served: bool, refused: u64, unanswered: u64) -> Option<News> {
        let fails = refused + unanswered > 0;
        let Some(outage) = &mut self.outage else {
            self.outage = fails.then_some(Outage { ticks: 0, calm: 0, refused, unanswered });
            return fails.then_some(News::Failing);
        };
        outage.ticks = outage.ticks.saturating_add(1);
        outage.refused += refused;
        outage.unanswered += unanswered;
        // A tick in which nothing was published says nothing.
        outage.calm = if fails { 0 } else { outage.calm + u32::from(served) };
        if outage.calm < CALM_TICKS {
            return None;
        }
        let Outage { ticks, refused, unanswered, .. } = *outage;
        self.outage = None;
        Some(News::Working { refused, unanswered, lasted: TICK * ticks.saturating_sub(CALM_TICKS) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs ticks, each with so many answers, refusals and publishes given up, so many in flight, and bytes received or
    /// not. Returns the first tick (from 1) at which `wanted` holds.
    fn first(ticks: u32, each: (u64, u64, u64, (usize, usize), bool), wanted: fn(&Advice) -> bool) -> Option<u32> {
        let (mut health, mut seen) = (Health::default(), Seen::default());
        (1..=ticks).find(|_| {
            let (answered, refused, unanswered, in_flight, heard) = each;
            seen.answered += answered;
            seen.refused += refused;
            seen.unanswered += unanswered;
            (seen.in_flight, seen.heard) = (in_flight, heard);
            wanted(&health.tick(seen, true))
        })
    }

    #[test]
    fn c8_a_silent_server_is_asked_after_a_second_and_given_up_two_later_unless_it_is_slow() {
        for (in_flight, ping, give_up) in [
            ((0, 0), Some(100), Some(200)),
            ((1, 100), Some(10), Some(30)),
            ((1_000, 20_000), Some(10), Some(50)),
            // A line of 10 kB a second, with a megabyte before the `PING`.
            ((4, 1_000_000), Some(10), Some(110)),
        ] {
            let silent = (0, 0, 0, in_flight, false);
            assert_eq!(first(300, silent, |advice| advice.ping), ping, "{in_flight:?}");
            assert_eq!(first(300, silent, |advice| advice.give_up), give_up, "{in_flight:?}");
            assert_eq!(first(300, (0, 0, 0, in_flight, true), |advice| advice.ping || advice.give_up), None);
        }
    }

    #[test]
    fn c4_a_server_that_serves_nothing_is_left_after_two_seconds() {
        for (what, each, expect) in [
            ("refuses everything", (3, 3, 0, (0, 0), true), Some(20)),
            ("answers nothing", (0, 0, 0, (1, 10), true), Some(20)),
            ("answers nothing, and what waited is given up", (0, 0, 1, (0, 0), true), Some(20)),
            ("refuses some", (3, 2, 0, (1, 10), true), None),
            ("has nothing to do", (0, 0, 0, (0, 0), true), None),
        ] {
            assert_eq!(first(300, each, |advice| advice.go_elsewhere), expect, "{what}");
        }
    }

    #[test]
    fn c4_what_is_under_way_at_a_leader_who_has_lost_the_others_is_no_service() {
        let (mut health, mut seen) = (Health::default(), Seen::default());
        let left = (1..=100).find(|_| {
            seen.answered += 1;
            seen.undecided += 1;
            (seen.in_flight, seen.heard) = ((1, 10), true);
            health.tick(seen, true).go_elsewhere
        });
        assert_eq!(left, Some(20));
    }

    #[test]
    fn c4_a_server_is_not_judged_by_what_another_one_was_sent() {
        let (mut health, mut seen) = (Health::default(), Seen::default());
        let leaves = |health: &mut Health, seen| (1..300).find(|_| health.tick(seen, true).go_elsewhere);
        (seen.in_flight, seen.in_flight_before, seen.heard) = ((5, 50), 5, true);
        health.connected(5);
        assert_eq!(leaves(&mut health, seen), None, "nothing was sent here");
        // Of those that were sent before some are given up now: this says nothing either.
        (seen.unanswered, seen.unanswered_before, seen.in_flight, seen.in_flight_before) = (3, 3, (2, 20), 2);
        assert_eq!(leaves(&mut health, seen), None);
        // One is sent here and answered: those that another server has not answered do not count from then on either.
        seen.answered = 1;
        assert_eq!(leaves(&mut health, seen), None);
        (seen.unanswered, seen.unanswered_before, seen.in_flight, seen.in_flight_before) = (4, 4, (1, 10), 1);
        assert_eq!(leaves(&mut health, seen), None);
        seen.in_flight = (2, 20);
        assert_eq!(leaves(&mut health, seen), Some(20), "one is waited for that was sent here");
    }

    #[test]
    fn c8_a_silent_server_is_asked_as_soon_where_requests_wait_as_where_publishes_do() {
        for (requests, ping, give_up) in [(false, 100, 200), (true, 10, 30)] {
            let (mut health, seen) = (Health::default(), Seen { requests, ..Seen::default() });
            let advice: Vec<Advice> = (0..200).map(|_| health.tick(seen, true)).collect();
            assert_eq!(advice.iter().position(|advice| advice.ping), Some(ping - 1), "{requests}");
            assert_eq!(advice.iter().position(|advice| advice.give_up), Some(give_up - 1), "{requests}");
        }
    }

    #[test]
    fn c4_a_link_that_finds_no_better_server_moves_less_and_less_often() {
        let (mut health, mut seen, mut moves) = (Health::default(), Seen::default(), Vec::new());
        for tick in 1..=3_000_u32 {
            seen.answered += 1;
            seen.refused += 1;
            seen.heard = true;
            if health.tick(seen, true).go_elsewhere {
                moves.push(tick);
                health.connected(u64::from(tick));
            }
        }
        assert_eq!(moves, [20, 40, 60, 80, 100, 140, 220, 380, 700, 1_300, 1_900, 2_500]);
    }

    #[test]
    fn c10_the_beginning_and_the_end_of_an_outage_are_said_once_with_counts() {
        let (mut health, mut seen, mut said) = (Health::default(), Seen::default(), Vec::new());
        for (ticks, answered, refused, unanswered) in [(50, 5, 0, 0), (30, 2, 2, 1), (40, 0, 0, 0), (60, 5, 0, 0)] {
            for _ in 0..ticks {
                seen.answered += answered;
                seen.refused += refused;
                seen.unanswered += unanswered;
                seen.heard = true;
                said.extend(health.tick(seen, true).news);
            }
        }
        let lasted = Duration::from_millis(6_900);
        assert_eq!(said, [News::Failing, News::Working { refused: 60, unanswered: 30, lasted }]);
        assert!(!health.is_failing());
    }

    #[test]
    fn c7_an_answer_is_waited_for_as_long_as_the_brokers_pace_says() {
        let (mut health, mut seen) = (Health::default(), Seen::default());
        assert_eq!(health.patience(), REPUBLISH_AFTER);
        // 400 answers a tick, and 8,000 in flight: two seconds for an honest answer.
        for _ in 0..100 {
            seen.answered += 400;
            seen.in_flight = (8_000, 0);
            health.tick(seen, true);
        }
        assert!((7..10).contains(&health.patience().as_secs()), "{:?}", health.patience());
        // Others are answered as ever: these are not waiting for a slow broker.
        seen.in_flight = (12, 0);
        health.tick(seen, true);
        assert_eq!(health.patience(), REPUBLISH_AFTER);
    }
}
