//! Counts password guesses, and bounds how much of the checking of passwords a guesser may take.
//!
//! A login has a *place* while it is checked, and a wrong one keeps it for a while after it has failed often enough.
//! Places are bounded by name, by network and by both together, so that a guesser uses up his own places and nobody
//! else's. Only a wrong password slows down: a right one is answered at once, however many others have failed
//! (docs/adr/0023).
//!
//! Pure: time is an argument. The tables are bounded. Names are kept as their keyed hashes, so that a long name takes
//! no more room than a short one and nobody can choose two names that collide.

use crate::limits::{
    LOGIN_DELAY_MAX, LOGIN_DELAY_MIN, LOGIN_FAILURES_FREE, LOGIN_FAILURES_REMEMBERED, LOGIN_NAME_FAILURES_FREE,
    LOGIN_PLACES_MAX, LOGIN_PLACES_PER_NAME, LOGIN_PLACES_PER_NAME_AND_NETWORK, LOGIN_PLACES_PER_NETWORK,
    LOGIN_TRACKED_MAX, LOGINS_HASHED_PER_NAME_AND_NETWORK, LOGINS_HASHED_PER_NETWORK,
};
use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Where a login comes from: an IPv4 address, the first 64 bits of an IPv6 address (the network of one subscriber), or
/// the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(Option<IpAddr>);

impl Network {
    /// The admin listener, which is for few and by default for this host alone.
    pub(super) const ADMIN: Self = Self(None);

    /// Returns the network of a peer.
    pub(super) fn of(peer: IpAddr) -> Self {
        Self(Some(match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        }))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(IpAddr::V6(prefix)) => write!(formatter, "{prefix}/64"),
            Some(address) => write!(formatter, "{address}"),
            None => formatter.write_str("the admin listener"),
        }
    }
}

/// A name, a network, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Name(u64),
    Network(Network),
    Both(u64, Network),
}

/// What is kept for a [`Key`].
#[derive(Debug)]
struct Entry {
    /// Logins that have a place.
    places: usize,
    /// Those among them that wait for a hash, or are hashed.
    hashed: usize,
    /// Failures in a row. A success from the same network ends the row of a [`Key::Both`]; only time ends that of a
    /// [`Key::Name`].
    failures: u32,
    /// Whether the right password came from there.
    succeeded: bool,
    /// When it was last used.
    last: Instant,
}

/// The logins under way, and the recent failures.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    entries: HashMap<Key, Entry>,
    places: usize,
    hasher: RandomState,
}

/// A login that has a place, to be given back with [`Guesses::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    name: u64,
    network: Network,
    hashed: bool,
}

impl Place {
    /// Where the login comes from.
    pub(super) fn network(self) -> Network {
        self.network
    }

    fn both(self) -> Key {
        Key::Both(self.name, self.network)
    }

    fn keys(self) -> [Key; 3] {
        [self.both(), Key::Name(self.name), Key::Network(self.network)]
    }
}

impl Guesses {
    /// Gives a login its place; `None`: none is left for this name, for this network, or at all.
    pub(super) fn enter(&mut self, name: &str, network: Network, now: Instant) -> Option<Place> {
        let place = Place { name: self.hasher.hash_one(name), network, hashed: false };
        // From a network that has sent the right password, others cannot use up the places of its name.
        let known = self.entries.get(&place.both()).is_some_and(|entry| entry.succeeded && !entry.is_old(now));
        let per_name = if known { LOGIN_PLACES_MAX } else { LOGIN_PLACES_PER_NAME };
        let most = [LOGIN_PLACES_PER_NAME_AND_NETWORK, per_name, LOGIN_PLACES_PER_NETWORK];
        let taken = |key: &Key| self.entries.get(key).map_or(0, |entry| entry.places);
        let room = self.places < LOGIN_PLACES_MAX;
        if !room || place.keys().iter().zip(most).any(|(key, most)| taken(key) >= most) {
            return None;
        }
        self.places += 1;
        for key in place.keys() {
            self.entry(key, now).places += 1;
        }
        Some(place)
    }

    /// Lets the login's password be hashed; `false`: as many as may be are hashed already, for its network or for its
    /// name from there.
    pub(super) fn hash(&mut self, place: &mut Place) -> bool {
        let shares = [
            (place.both(), LOGINS_HASHED_PER_NAME_AND_NETWORK),
            (Key::Network(place.network), LOGINS_HASHED_PER_NETWORK),
        ];
        let hashed = |key: &Key| self.entries.get(key).map_or(0, |entry| entry.hashed);
        if shares.iter().any(|(key, most)| hashed(key) >= *most) {
            return false;
        }
        place.hashed = true;
        for (key, _) in shares {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.hashed += 1;
            }
        }
        true
    }

    /// Ends the hashing of the login's password: it was hashed, or will not be.
    pub(super) fn hashed(&mut self, place: &mut Place) {
        if std::mem::take(&mut place.hashed) {
            for key in [place.both(), Key::Network(place.network)] {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.hashed = entry.hashed.saturating_sub(1);
                }
            }
        }
    }

    /// Counts a right password: failures from the same network no longer count (NIST SP 800-63B, section 5.2.2).
    pub(super) fn succeeded(&mut self, place: Place, now: Instant) {
        let entry = self.entry(place.both(), now);
        entry.failures = 0;
        entry.succeeded = true;
    }

    /// Counts a wrong password. Returns the number of failures in a row from there.
    pub(super) fn failed(&mut self, place: Place, now: Instant) -> u32 {
        let name = self.entry(Key::Name(place.name), now);
        name.failures = name.failures.saturating_add(1);
        let both = self.entry(place.both(), now);
        both.failures = both.failures.saturating_add(1);
        both.failures
    }

    /// Returns how long a login that fails there now keeps its place and waits for the answer.
    pub(super) fn delay(&self, place: Place) -> Option<Duration> {
        let here = self.entries.get(&place.both())?;
        let everywhere = self.entries.get(&Key::Name(place.name)).map_or(0, |entry| entry.failures);
        if !here.succeeded && everywhere > LOGIN_NAME_FAILURES_FREE {
            return Some(LOGIN_DELAY_MAX);
        }
        let doublings = here.failures.checked_sub(LOGIN_FAILURES_FREE + 1)?;
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        Some(LOGIN_DELAY_MIN.saturating_mul(factor).min(LOGIN_DELAY_MAX))
    }

    /// Gives the place back.
    pub(super) fn leave(&mut self, mut place: Place) {
        self.hashed(&mut place);
        self.places = self.places.saturating_sub(1);
        for key in place.keys() {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.places = entry.places.saturating_sub(1);
                if entry.places == 0 && entry.failures == 0 && !entry.succeeded {
                    self.entries.remove(&key);
                }
            }
        }
    }

    /// Returns the entry as of now: failures of long ago no longer count.
    fn entry(&mut self, key: Key, now: Instant) -> &mut Entry {
        if self.entries.len() >= LOGIN_TRACKED_MAX && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry::new(now));
        if entry.is_old(now) {
            (entry.failures, entry.succeeded) = (0, false);
        }
        entry.last = now;
        entry
    }

    /// Evicts what is old, else a part of what was not used for longest: many entries at a time, since all are looked
    /// at. At most [`LOGIN_PLACES_MAX`] logins are under way, so there is always an entry to evict.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.places > 0 || !entry.is_old(now));
        if self.entries.len() < LOGIN_TRACKED_MAX {
            return;
        }
        let idle = self.entries.iter().filter(|(_, entry)| entry.places == 0);
        let mut idle: Vec<_> = idle.map(|(key, entry)| (entry.last, *key)).collect();
        idle.sort_unstable_by_key(|(last, _)| *last);
        for (_, key) in idle.into_iter().take(LOGIN_TRACKED_MAX / 16) {
            self.entries.remove(&key);
        }
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self { places: 0, hashed: 0, failures: 0, succeeded: false, last: now }
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > LOGIN_FAILURES_REMEMBERED
    }
}

#[cfg(test)]
mod tests;
