//! The message ids of the duplicate window. Pure.
//!
//! An id belongs to a partition and is remembered for its station's window, counted in monotonic time from the
//! moment the record was stored, whether or not retention has removed the record since: a client that repeats a
//! request does not know about retention. Bounded by bytes; past the bound the oldest are forgotten
//! before their time. Nothing is written for it: a record carries its id, and what
//! the window still holds is read back from the newest records when the store opens.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// What an entry costs besides the id itself: two shared pointers, map and queue slots.
const ENTRY_BYTES: usize = 112;

/// The ids that are remembered.
#[derive(Debug)]
pub(super) struct Ids {
    known: HashMap<Arc<[u8]>, Known>,
    /// In order of time, one queue for each length of window.
    queues: Vec<Queue>,
    bytes: usize,
    bytes_max: usize,
    /// The key that is looked for, kept for its allocation.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Queue {
    window_ms: u64,
    entries: VecDeque<(u64, Arc<[u8]>)>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    sequence: u64,
    stored_ms: u64,
    window_ms: u64,
}

impl Ids {
    /// Remembers nothing yet, and at most `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { known: HashMap::new(), queues: Vec::new(), bytes: 0, bytes_max, scratch: Vec::new() }
    }

    /// Sequence of the record that was stored with this id in this partition, if the window still holds it: the one of
    /// then, or the one of now, `window_ms`, if that is shorter. So a window that becomes longer holds what is stored
    /// from then on.
    pub(super) fn find(&mut self, partition: u32, id: &[u8], now_ms: u64, window_ms: u64) -> Option<u64> {
        self.key(partition, id);
        let known = self.known.get(self.scratch.as_slice())?;
        (now_ms < known.stored_ms.saturating_add(known.window_ms.min(window_ms))).then_some(known.sequence)
    }

    /// Remembers an id, unless it is known of a later record. Calls come in order of time for each window, except
    /// while the store opens: see [`Self::sort`].
    pub(super) fn insert(&mut self, partition: u32, id: &[u8], sequence: u64, stored_ms: u64, window_ms: u64) {
        if window_ms == 0 {
            return;
        }
        self.key(partition, id);
        if self.known.get(self.scratch.as_slice()).is_some_and(|known| known.sequence > sequence) {
            return;
        }
        let key: Arc<[u8]> = self.scratch.as_slice().into();
        self.bytes += key.len() + ENTRY_BYTES;
        self.known.insert(Arc::clone(&key), Known { sequence, stored_ms, window_ms });
        self.queue(window_ms).push_back((stored_ms, key));
        while self.bytes > self.bytes_max
            && let Some(at) = self.oldest()
        {
            self.forget_first(at);
        }
    }

    /// Forgets what has left its window.
    pub(super) fn expire(&mut self, now_ms: u64) {
        for at in 0..self.queues.len() {
            let Some(window_ms) = self.queues.get(at).map(|queue| queue.window_ms) else { return };
            while self
                .queues
                .get(at)
                .and_then(|queue| queue.entries.front())
                .is_some_and(|(stored_ms, _)| now_ms >= stored_ms.saturating_add(window_ms))
            {
                self.forget_first(at);
            }
        }
    }

    /// Puts what was read back partition by partition in order of time.
    pub(super) fn sort(&mut self) {
        for queue in &mut self.queues {
            queue.entries.make_contiguous().sort_by_key(|(stored_ms, _)| *stored_ms);
        }
    }

    /// Whether there is no room for more without forgetting.
    pub(super) fn is_full(&self) -> bool {
        self.bytes + ENTRY_BYTES >= self.bytes_max
    }

    /// How many ids are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn key(&mut self, partition: u32, id: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&partition.to_be_bytes());
        self.scratch.extend_from_slice(id);
    }

    fn queue(&mut self, window_ms: u64) -> &mut VecDeque<(u64, Arc<[u8]>)> {
        let at = self.queues.iter().position(|queue| queue.window_ms == window_ms).unwrap_or_else(|| {
            self.queues.push(Queue { window_ms, entries: VecDeque::new() });
            self.queues.len() - 1
        });
        &mut self.queues[at].entries
    }

    /// The queue that holds the oldest entry.
    fn oldest(&self) -> Option<usize> {
        let firsts = self.queues.iter().map(|queue| queue.entries.front().map(|(stored_ms, _)| *stored_ms));
        let first = firsts.enumerate().filter_map(|(at, stored_ms)| Some((stored_ms?, at))).min();
        first.map(|(_, at)| at)
    }

    /// Forgets the first entry of a queue.
    fn forget_first(&mut self, at: usize) {
        let Some((stored_ms, key)) = self.queues.get_mut(at).and_then(|queue| queue.entries.pop_front()) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(key.len() + ENTRY_BYTES);
        // The id may have been stored again since, after its window: then the newer entry stays.
        if self.known.get(&key).is_some_and(|known| known.stored_ms == stored_ms) {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_in_its_partition_until_its_window_ends() {
        let mut ids = Ids::new(1 << 20);
        ids.insert(1, b"a", 10, 1_000, 120);
        for (partition, id, now, expect) in [
            (1, "a", 1_000, Some(10)),
            (1, "a", 1_119, Some(10)),
            (1, "a", 1_120, None),
            (2, "a", 1_000, None),
            (1, "b", 1_000, None),
            (1, "", 1_000, None),
        ] {
            assert_eq!(ids.find(partition, id.as_bytes(), now, u64::MAX), expect, "{partition} {id} {now}");
        }
        ids.expire(1_119);
        assert_eq!(ids.len(), 1);
        ids.expire(1_120);
        assert_eq!((ids.len(), ids.bytes), (0, 0));
    }

    #[test]
    fn each_window_has_its_own_length() {
        let mut ids = Ids::new(1 << 20);
        ids.insert(1, b"long", 1, 0, 1_000);
        ids.insert(2, b"short", 2, 0, 10);
        ids.expire(10);
        assert_eq!((ids.find(1, b"long", 10, u64::MAX), ids.find(2, b"short", 10, u64::MAX)), (Some(1), None));
    }

    #[test]
    fn an_id_stored_again_after_its_window_outlives_its_first_entry() {
        let mut ids = Ids::new(1 << 20);
        ids.insert(1, b"a", 1, 0, 100);
        ids.insert(1, b"a", 2, 100, 100);
        ids.expire(150);
        assert_eq!(ids.find(1, b"a", 150, u64::MAX), Some(2));
        ids.expire(200);
        assert_eq!((ids.len(), ids.bytes), (0, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut ids = Ids::new(10 * (ENTRY_BYTES + 5));
        for sequence in 0..100_u8 {
            ids.insert(1, &[sequence], u64::from(sequence), 0, 1_000);
        }
        assert_eq!(ids.len(), 10);
        assert_eq!((ids.find(1, &[89], 0, u64::MAX), ids.find(1, &[90], 0, u64::MAX)), (None, Some(90)));
        assert!(ids.is_full());
    }

    #[test]
    fn the_oldest_of_all_windows_goes_first() {
        let mut ids = Ids::new(2 * (ENTRY_BYTES + 5));
        ids.insert(1, b"a", 1, 10, 1_000);
        ids.insert(1, b"b", 2, 20, 500);
        ids.insert(1, b"c", 3, 30, 500);
        let found = [b"a", b"b", b"c"].map(|id| ids.find(1, id, 30, u64::MAX));
        assert_eq!(found, [None, Some(2), Some(3)]);
    }

    #[test]
    fn an_older_record_does_not_take_an_id_from_a_newer_one() {
        let mut ids = Ids::new(1 << 20);
        ids.insert(1, b"a", 9, 50, 100);
        ids.insert(1, b"a", 3, 10, 100);
        assert_eq!(ids.find(1, b"a", 60, u64::MAX), Some(9));
        ids.expire(150);
        assert_eq!((ids.len(), ids.bytes), (0, 0));
    }

    #[test]
    fn a_window_that_is_shorter_now_holds_less_and_a_longer_one_no_more() {
        let mut ids = Ids::new(1 << 20);
        ids.insert(1, b"a", 7, 1_000, 100);
        for (now_ms, window_ms, expect) in
            [(1_049, 50, Some(7)), (1_050, 50, None), (1_099, 500, Some(7)), (1_100, 500, None), (1_000, 0, None)]
        {
            assert_eq!(ids.find(1, b"a", now_ms, window_ms), expect, "{now_ms} {window_ms}");
        }
    }

    #[test]
    fn a_window_of_nothing_remembers_nothing() {
        let mut ids = Ids::new(1 << 20);
        ids.insert(1, b"a", 1, 0, 0);
        assert_eq!((ids.find(1, b"a", 0, u64::MAX), ids.len()), (None, 0));
    }
}
