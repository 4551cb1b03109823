//! Deliveries that were acknowledged by hand, kept for a while: a client that got no answer sends the same call again
//! and gets the same answer. Pure.
//!
//! Bounded by time and by number. At the number, the oldest entry of the principal with the most entries is evicted, so
//! that a principal who is in haste does not evict the entries of others.

use crate::{
    limits::{ACKNOWLEDGED_PER_SHARD_MAX, ACKNOWLEDGED_REMEMBERED},
    station::Name,
};
use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

/// A delivery that was acknowledged.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) id: u64,
    pub(super) station: Name,
    /// How many messages it had.
    pub(super) messages: usize,
    /// How many of them, from the first, were acknowledged.
    pub(super) records: usize,
}

/// The acknowledged deliveries of one shard.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// Each with the time until which it is kept. The times grow from the first to the last.
    by_principal: HashMap<Box<str>, VecDeque<(Instant, Done)>>,
    count: usize,
}

impl Acknowledged {
    /// Keeps a delivery that was made to this principal.
    pub(super) fn remember(&mut self, principal: Box<str>, done: Done, now: Instant) {
        if self.count >= ACKNOWLEDGED_PER_SHARD_MAX {
            self.forget_one();
        }
        self.by_principal.entry(principal).or_default().push_back((now + ACKNOWLEDGED_REMEMBERED, done));
        self.count += 1;
    }

    /// Finds a delivery by its id. Calls are rare, so it looks through all.
    pub(super) fn find(&self, id: u64) -> Option<&Done> {
        self.by_principal.values().flatten().map(|(_, done)| done).find(|done| done.id == id)
    }

    /// Evicts the entries whose time is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.by_principal.retain(|_, dones| {
            while dones.front().is_some_and(|(until, _)| *until <= now) {
                dones.pop_front();
                self.count -= 1;
            }
            !dones.is_empty()
        });
    }

    fn forget_one(&mut self) {
        let most = self.by_principal.values_mut().max_by_key(|dones| dones.len());
        if most.and_then(VecDeque::pop_front).is_some() {
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ingest::testing::name, rt::clock};
    use std::time::Duration;

    fn remember(acknowledged: &mut Acknowledged, principal: &str, id: u64, now: Instant) {
        acknowledged.remember(principal.into(), Done { id, station: name("s"), messages: 2, records: 1 }, now);
    }

    #[test]
    fn what_was_acknowledged_is_remembered_for_a_while() {
        let (mut acknowledged, begun) = (Acknowledged::default(), clock::now());
        remember(&mut acknowledged, "ada", 1, begun);
        remember(&mut acknowledged, "ada", 2, begun + Duration::from_secs(1));
        assert_eq!(acknowledged.find(1).map(|done| (done.messages, done.records)), Some((2, 1)));
        acknowledged.sweep(begun + ACKNOWLEDGED_REMEMBERED);
        assert!(acknowledged.find(1).is_none() && acknowledged.find(2).is_some());
        acknowledged.sweep(begun + 2 * ACKNOWLEDGED_REMEMBERED);
        assert_eq!((acknowledged.count, acknowledged.by_principal.len()), (0, 0));
    }

    #[test]
    fn whoever_acknowledges_the_most_is_forgotten_first() {
        let (mut acknowledged, now) = (Acknowledged::default(), clock::now());
        remember(&mut acknowledged, "slow", 0, now);
        for id in 1..2 * ACKNOWLEDGED_PER_SHARD_MAX as u64 {
            remember(&mut acknowledged, "hasty", id, now);
        }
        assert_eq!(acknowledged.count, ACKNOWLEDGED_PER_SHARD_MAX);
        assert!(acknowledged.find(0).is_some(), "the slow one's");
        assert!(acknowledged.find(1).is_none(), "the hasty one's first");
        assert!(acknowledged.find(2 * ACKNOWLEDGED_PER_SHARD_MAX as u64 - 1).is_some(), "and its last");
    }
}
