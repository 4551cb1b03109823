//! The tokens and API keys that a shard has verified, so that verifying is done once a token and not once a request.
//!
//! A closed hash table of indices over a slab of entries. The hash has a random seed and covers the end of the token,
//! which is its signature (of a key: its secret): only what was verified gets in, so nobody who lacks the signing key
//! can choose what is hashed here. That is why a quick hash will do (docs/adr/0006). A hit needs the whole token to be
//! equal. Bounded in entries and in bytes; when full, the clock hand evicts an entry that was not used since it last
//! came by.
//!
//! Invariants: an entry is never returned at or after its expiry; the table is at most half full, so a probe ends.

use super::Principal;
use crate::limits::TOKEN_CACHE_SWEEP_MAX;
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    rc::Rc,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Verified tokens, and the principals that they belong to.
pub struct TokenCache {
    seed: u64,
    /// Index into `entries` or [`EMPTY`]; a power of two long.
    table: Vec<u32>,
    entries: Vec<Entry>,
    /// Where the clock hand stands in `entries`.
    hand: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

struct Entry {
    hash: u64,
    token: Box<[u8]>,
    principal: Rc<Principal>,
    /// Not valid from here on, seconds since 1970.
    expires_unix_s: u64,
    used: bool,
}

const EMPTY: u32 = u32::MAX;
/// Bytes at the end of a token that are hashed: 24 of the signature's 32 bytes.
const HASHED_BYTES: usize = 32;
const TABLE_MIN: usize = 64;

impl fmt::Debug for TokenCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenCache")
            .field("entries", &self.entries.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl TokenCache {
    /// An empty cache for at most `entries_max` tokens that take at most `bytes_max` bytes with their bookkeeping.
    /// It grows as it fills.
    #[must_use]
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            seed: RandomState::new().hash_one(()),
            table: vec![EMPTY; TABLE_MIN],
            entries: Vec::new(),
            hand: 0,
            bytes: 0,
            // Indices are 32 bits wide and one of them means empty.
            entries_max: entries_max.min(EMPTY as usize / 2),
            bytes_max,
        }
    }

    /// Returns whose token this is, if it was verified and has not expired by `now_unix_s`.
    #[must_use]
    pub fn get(&mut self, token: &[u8], now_unix_s: u64) -> Option<Rc<Principal>> {
        let slot = self.slot_of(self.hash(token), token)?;
        let index = self.table[slot] as usize;
        let entry = &mut self.entries[index];
        if now_unix_s >= entry.expires_unix_s {
            self.remove(slot);
            return None;
        }
        entry.used = true;
        Some(Rc::clone(&entry.principal))
    }

    /// Caches a token that was verified. Replaces what was cached for the same token.
    pub fn insert(&mut self, token: &[u8], principal: Rc<Principal>, expires_unix_s: u64) {
        let hash = self.hash(token);
        if let Some(slot) = self.slot_of(hash, token) {
            self.remove(slot);
        }
        let cost = cost(token);
        if cost > self.bytes_max || self.entries_max == 0 {
            return;
        }
        while self.entries.len() >= self.entries_max || self.bytes + cost > self.bytes_max {
            self.evict();
        }
        if (self.entries.len() + 1) * 2 > self.table.len() {
            self.grow();
        }
        let index = self.entries.len();
        self.entries.push(Entry { hash, token: token.into(), principal, expires_unix_s, used: false });
        self.bytes += cost;
        self.link(hash, index);
    }

    /// Evicts everything: users or keys have changed.
    pub fn clear(&mut self) {
        self.table.fill(EMPTY);
        self.entries.clear();
        self.hand = 0;
        self.bytes = 0;
    }

    /// Returns how many tokens are cached.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no token is cached.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn hash(&self, token: &[u8]) -> u64 {
        let tail = token.last_chunk::<HASHED_BYTES>().map_or(token, |tail| tail.as_slice());
        xxh3_64_with_seed(tail, self.seed)
    }

    /// Returns where the table's probe sequence for a hash begins.
    #[expect(clippy::cast_possible_truncation, reason = "the mask keeps only low bits anyway")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask()
    }

    fn mask(&self) -> usize {
        self.table.len() - 1
    }

    /// Returns the slot of the table that holds this token.
    fn slot_of(&self, hash: u64, token: &[u8]) -> Option<usize> {
        let mut slot = self.home(hash);
        loop {
            let index = self.table[slot];
            if index == EMPTY {
                return None;
            }
            let entry = &self.entries[index as usize];
            if entry.hash == hash && *entry.token == *token {
                return Some(slot);
            }
            slot = (slot + 1) & self.mask();
        }
    }

    /// Returns the slot of the table that points to this entry, which is in it.
    fn slot_of_index(&self, index: usize) -> usize {
        let mut slot = self.home(self.entries[index].hash);
        while self.table[slot] as usize != index {
            slot = (slot + 1) & self.mask();
        }
        slot
    }

    fn link(&mut self, hash: u64, index: usize) {
        let mut slot = self.home(hash);
        while self.table[slot] != EMPTY {
            slot = (slot + 1) & self.mask();
        }
        self.table[slot] = to_slot(index);
    }

    /// Empties a slot and closes the gap, so that no probe sequence is cut.
    fn unlink(&mut self, slot: usize) {
        let mask = self.mask();
        let mut hole = slot;
        let mut next = (slot + 1) & mask;
        while self.table[next] != EMPTY {
            let home = self.home(self.entries[self.table[next] as usize].hash);
            let reaches_hole = (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask);
            if reaches_hole {
                self.table[hole] = self.table[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.table[hole] = EMPTY;
    }

    fn remove(&mut self, slot: usize) {
        let index = self.table[slot] as usize;
        self.unlink(slot);
        let last = self.entries.len() - 1;
        if index != last {
            let last_slot = self.slot_of_index(last);
            self.table[last_slot] = to_slot(index);
        }
        let gone = self.entries.swap_remove(index);
        self.bytes -= cost(&gone.token);
    }

    /// Evicts an entry. Second chance: an entry that was used since the hand came by stays, within [`TOKEN_CACHE_SWEEP_MAX`] steps.
    fn evict(&mut self) {
        for _ in 0..TOKEN_CACHE_SWEEP_MAX {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            match self.entries.get_mut(self.hand) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.hand += 1;
                }
                _ => break,
            }
        }
        if self.hand >= self.entries.len() {
            self.hand = 0;
        }
        let slot = self.slot_of_index(self.hand);
        self.remove(slot);
    }

    fn grow(&mut self) {
        self.table = vec![EMPTY; self.table.len() * 2];
        for index in 0..self.entries.len() {
            self.link(self.entries[index].hash, index);
        }
    }
}

/// Returns what one token costs: its bytes, its entry and, as the table is at least a quarter full after growing, its
/// slots.
fn cost(token: &[u8]) -> usize {
    token.len() + size_of::<Entry>() + 4 * size_of::<u32>()
}

fn to_slot(index: usize) -> u32 {
    u32::try_from(index).expect("entries_max keeps indices below EMPTY")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Users;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const PLENTY: usize = 1 << 30;

    fn someone() -> Rc<Principal> {
        Rc::new(Users::new("root", 1, []).find(1, "root").expect("root").clone())
    }

    fn token(number: u32) -> Vec<u8> {
        format!("header.claims-{number}.signature-{number:032}").into_bytes()
    }

    /// The table and the slab point at each other, once.
    fn check_structure(cache: &TokenCache) {
        let mut seen: Vec<u32> = cache.table.iter().copied().filter(|index| *index != EMPTY).collect();
        seen.sort_unstable();
        let expect: Vec<u32> = (0..cache.entries.len()).map(to_slot).collect();
        assert_eq!(seen, expect);
        assert!(cache.entries.len() * 2 <= cache.table.len());
        assert_eq!(cache.bytes, cache.entries.iter().map(|entry| cost(&entry.token)).sum::<usize>());
        for entry in &cache.entries {
            assert!(cache.slot_of(entry.hash, &entry.token).is_some(), "every entry is found");
        }
    }

    #[test]
    fn a_token_is_found_whole_or_not_at_all() {
        let mut cache = TokenCache::new(10, PLENTY);
        let known = token(1);
        cache.insert(&known, someone(), 100);
        assert!(cache.get(&known, 0).is_some());
        // The same signature under other claims: the same hash, another token.
        let mut forged = known.clone();
        forged[3] ^= 1;
        assert_eq!(cache.hash(&forged), cache.hash(&known));
        assert!(cache.get(&forged, 0).is_none());
        assert!(cache.get(&known[1..], 0).is_none());
        assert!(cache.get(&known[..known.len() - 1], 0).is_none());
        assert!(cache.get(b"", 0).is_none());
        assert!(cache.get(&[known.clone(), known].concat(), 0).is_none());
    }

    #[test]
    fn an_expired_token_is_not_returned_and_leaves() {
        let mut cache = TokenCache::new(10, PLENTY);
        cache.insert(&token(1), someone(), 100);
        assert!(cache.get(&token(1), 99).is_some());
        assert!(cache.get(&token(1), 100).is_none());
        assert!(cache.is_empty());
        check_structure(&cache);
    }

    #[test]
    fn a_hundred_thousand_tokens_are_held_and_found() {
        let mut cache = TokenCache::new(131_072, PLENTY);
        let someone = someone();
        for number in 0..100_000 {
            cache.insert(&token(number), Rc::clone(&someone), 100);
        }
        assert_eq!(cache.len(), 100_000);
        assert!((0..100_000).all(|number| cache.get(&token(number), 0).is_some()));
        check_structure(&cache);
        cache.clear();
        assert!(cache.is_empty() && cache.get(&token(1), 0).is_none());
        check_structure(&cache);
    }

    #[test]
    fn a_full_cache_keeps_what_is_used() {
        let mut cache = TokenCache::new(32, PLENTY);
        let someone = someone();
        for number in 0..1_000 {
            cache.insert(&token(number), Rc::clone(&someone), 100);
            assert!(cache.len() <= 32);
            for favourite in 0..4 {
                let known = cache.get(&token(favourite), 0).is_some();
                assert!(known || favourite > number, "{favourite} is used all the time, at {number}");
            }
        }
        check_structure(&cache);
    }

    #[test]
    fn eviction_ends_even_if_everything_was_used() {
        let mut cache = TokenCache::new(1_000, PLENTY);
        let someone = someone();
        for number in 0..2_000 {
            cache.insert(&token(number), Rc::clone(&someone), 100);
            assert!(cache.get(&token(number), 0).is_some());
        }
        assert_eq!(cache.len(), 1_000);
        check_structure(&cache);
    }

    #[test]
    fn the_cache_is_bounded_in_bytes() {
        let mut cache = TokenCache::new(1_000, 10_000);
        let someone = someone();
        for number in 0..100 {
            cache.insert(&[token(number), vec![b'x'; 1_000]].concat(), Rc::clone(&someone), 100);
            assert!(cache.bytes <= 10_000);
        }
        assert!(cache.len() > 5);
        cache.insert(&[b'x'; 10_001], someone, 100);
        assert!(cache.get(&[b'x'; 10_001], 0).is_none(), "what alone exceeds the bound is not held");
        check_structure(&cache);
    }

    #[test]
    fn a_cache_of_nothing_holds_nothing() {
        let mut cache = TokenCache::new(0, PLENTY);
        cache.insert(&token(1), someone(), 100);
        assert!(cache.is_empty());
    }

    proptest! {
        #[test]
        fn the_cache_never_tells_what_was_not_put_in(
            steps in prop::collection::vec((0..4_u8, 0..24_u32, 0..50_u64), 0..200),
            entries_max in 1..20_usize,
        ) {
            let mut cache = TokenCache::new(entries_max, PLENTY);
            let mut expiry: HashMap<u32, u64> = HashMap::new();
            let someone = someone();
            for (step, number, time) in steps {
                match step {
                    0 | 1 => {
                        cache.insert(&token(number), Rc::clone(&someone), time);
                        expiry.insert(number, time);
                    }
                    2 => {
                        let known = cache.get(&token(number), time).is_some();
                        prop_assert!(!known || expiry.get(&number).is_some_and(|expires| time < *expires));
                    }
                    _ if time == 0 => { cache.clear(); expiry.clear(); }
                    _ => {}
                }
                prop_assert!(cache.len() <= entries_max);
                check_structure(&cache);
            }
        }
    }
}
