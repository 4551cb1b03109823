//! One consumer group of a station: what it has been given, what is done, what comes again. Pure.
//!
//! Invariant, for each partition: every sequence below `next` is in exactly one of three places: in flight (delivered,
//! or reserved for a consume call that still waits), to be delivered again, or done. Done is what is in neither of the
//! two sets, so it costs no memory. `next` and the two sets are what is saved; after a restart, what was in flight is
//! delivered again.
//!
//! A *delivery* is one consume call's share and has a number. An acknowledgement counts whoever sends
//! it, as on JetStream; "again, at once" and the end of the acknowledgement wait apply only to messages
//! that are still in flight under the delivery's own number, so that a late word
//! about a message cannot take it from the one who has it now.
//!
//! How often a message was delivered is counted while it is open and the process lives. A restart begins anew: the
//! saved cursors do not say whether an open message ever left, and one that did not must not pass for one that failed.
//!
//! Absent: reading records ([`Source`] does), time, threads, the saving itself.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Where records come from.
pub(super) trait Source {
    /// Why reading failed.
    type Error;

    /// First and last sequence that a partition holds; `last + 1` and `last` if none.
    fn bounds(&self, partition: usize) -> (u64, u64);

    /// Shows the records of `from..=to` in order to `take` until it wants no more. Records that are not
    /// there any more are passed over.
    fn scan(
        &mut self,
        partition: usize,
        from: u64,
        to: u64,
        take: &mut dyn FnMut(u64, &[u8]) -> Take,
    ) -> Result<(), Self::Error>;
}

/// What became of a record that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// Taken; show the next.
    More,
    /// Not taken, and no more wanted.
    Full,
}

/// Runs of sequences, both ends in them.
pub(super) type Runs = Vec<(u64, u64)>;

/// How much a consume call still takes.
pub(super) trait Basket {
    /// Whether it wants nothing more.
    fn is_full(&self) -> bool;
    /// Puts a record in, unless it does not fit. `deliveries`: how often it is delivered, this time included.
    fn put(&mut self, partition: usize, sequence: u64, deliveries: u32, body: &[u8]) -> Take;
}

/// A consumer group.
#[derive(Debug, Default)]
pub(super) struct Group {
    cursors: Vec<Cursor>,
    deliveries: HashMap<u64, Delivery>,
    /// Ends of acknowledgement waits: (deadline, delivery).
    deadlines: BTreeSet<(u64, u64)>,
    in_flight: usize,
    in_flight_max: usize,
    /// What is in flight or to come again.
    open: Tally,
    /// Partition that is asked first next time, so that each has its turn.
    turn: usize,
}

/// This group's part of a number that all groups share. Given back when it is dropped.
#[derive(Debug, Default)]
struct Tally {
    own: usize,
    total: Arc<AtomicUsize>,
    total_max: usize,
}

impl Tally {
    fn add(&mut self, count: usize) {
        self.own += count;
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    fn subtract(&mut self, count: usize) {
        let count = count.min(self.own);
        self.own -= count;
        self.total.fetch_sub(count, Ordering::Relaxed);
    }

    fn room(&self) -> usize {
        self.total_max.saturating_sub(self.total.load(Ordering::Relaxed))
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.subtract(self.own);
    }
}

/// A group's place in one partition.
#[derive(Debug)]
struct Cursor {
    /// First sequence that was never delivered.
    next: u64,
    /// By sequence.
    in_flight: BTreeMap<u64, Flight>,
    /// How often it was delivered, by sequence.
    again: BTreeMap<u64, u32>,
    /// Changed since it was saved.
    dirty: bool,
}

/// A message in flight.
#[derive(Debug, Clone, Copy)]
struct Flight {
    delivery: u64,
    /// How often it was delivered before.
    before: u32,
}

#[derive(Debug, Default)]
struct Delivery {
    /// Until it is delivered there is no deadline.
    deadline_ms: Option<u64>,
    messages: Vec<(usize, u64)>,
    /// How many of them are still in flight under this number.
    open: usize,
}

impl Group {
    /// A group, from what was saved for each partition: `next`, and the runs below it that are not done. What is in
    /// flight or to be delivered again is counted in `total`; once that is `total_max`, nothing new is delivered.
    pub(super) fn new(
        saved: impl IntoIterator<Item = (u64, Runs)>,
        in_flight_max: usize,
        total: &Arc<AtomicUsize>,
        total_max: usize,
    ) -> Self {
        let cursors: Vec<Cursor> = saved
            .into_iter()
            .map(|(next, open)| Cursor {
                next,
                in_flight: BTreeMap::new(),
                again: open.into_iter().flat_map(|(from, to)| from..=to).map(|sequence| (sequence, 0)).collect(),
                dirty: false,
            })
            .collect();
        let mut open = Tally { own: 0, total: Arc::clone(total), total_max };
        open.add(cursors.iter().map(|cursor| cursor.again.len()).sum());
        Self { cursors, in_flight_max, open, ..Self::default() }
    }

    /// Whether a partition holds something that could be delivered. No disk is touched.
    pub(super) fn has_some(&self, source: &impl Source) -> bool {
        let takes_new = self.open.room() > 0;
        self.in_flight < self.in_flight_max
            && self
                .cursors
                .iter()
                .enumerate()
                .any(|(at, cursor)| !cursor.again.is_empty() || (takes_new && cursor.next <= source.bounds(at).1))
    }

    /// Whether all groups together have so much open that this one gets nothing, not even old messages.
    pub(super) fn is_refused(&self) -> bool {
        self.open.room() == 0 && self.cursors.iter().all(|cursor| cursor.again.is_empty())
    }

    /// Takes what is there into `basket`, in flight under `delivery`: first what is delivered again, then what is new,
    /// partition by partition in order. On an error everything of this delivery is put back.
    pub(super) fn fill<S: Source>(
        &mut self,
        delivery: u64,
        basket: &mut impl Basket,
        source: &mut S,
    ) -> Result<(), S::Error> {
        let count = self.cursors.len();
        let mut result = Ok(());
        for step in 0..2 * count {
            let partition = (self.turn + step) % count.max(1);
            let fresh = step >= count;
            if basket.is_full() || self.in_flight >= self.in_flight_max {
                break;
            }
            result = if fresh {
                self.take_new(delivery, partition, basket, source)
            } else {
                self.take_again(delivery, partition, basket, source)
            };
            if result.is_err() {
                self.release(delivery);
                break;
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        result
    }

    /// The delivery leaves now: what is not settled by then comes again.
    pub(super) fn hand_out(&mut self, delivery: u64, deadline_ms: u64) {
        if let Some(entry) = self.deliveries.get_mut(&delivery) {
            entry.deadline_ms = Some(deadline_ms);
            self.deadlines.insert((deadline_ms, delivery));
        }
    }

    /// The message is done, whoever says so.
    pub(super) fn acknowledge(&mut self, partition: usize, sequence: u64) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        if let Some(flight) = cursor.in_flight.remove(&sequence) {
            cursor.dirty = true;
            self.in_flight -= 1;
            self.open.subtract(1);
            self.close_one(flight.delivery);
        } else if cursor.again.remove(&sequence).is_some() {
            cursor.dirty = true;
            self.open.subtract(1);
        }
    }

    /// The message comes again at once, if it is still in flight under this delivery.
    pub(super) fn redeliver(&mut self, delivery: u64, partition: usize, sequence: u64) {
        if self.put_back(delivery, partition, sequence, 1) {
            self.close_one(delivery);
        }
    }

    /// Everything that is in flight under this delivery comes again at once.
    pub(super) fn release(&mut self, delivery: u64) {
        let Some(entry) = self.deliveries.remove(&delivery) else { return };
        // A message that never left was not delivered.
        let times = u32::from(entry.deadline_ms.is_some());
        if let Some(deadline_ms) = entry.deadline_ms {
            self.deadlines.remove(&(deadline_ms, delivery));
        }
        for (partition, sequence) in entry.messages {
            self.put_back(delivery, partition, sequence, times);
        }
    }

    /// Releases the deliveries whose acknowledgement wait has ended.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some((_, delivery)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now_ms) {
            self.release(delivery);
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// What has changed since it was last asked: partition, next, and the runs below it that are not done,
    /// at most `runs_max` of them. Beyond that the last run covers what is done between,
    /// which then comes again after a restart.
    pub(super) fn take_dirty(&mut self, runs_max: usize) -> Vec<(usize, u64, Runs)> {
        let mut changed = Vec::new();
        for (partition, cursor) in self.cursors.iter_mut().enumerate() {
            if std::mem::take(&mut cursor.dirty) {
                changed.push((partition, cursor.next, cursor.open_runs(runs_max)));
            }
        }
        changed
    }

    /// What was taken as changed could not be saved.
    pub(super) fn mark_dirty(&mut self, partition: usize) {
        if let Some(cursor) = self.cursors.get_mut(partition) {
            cursor.dirty = true;
        }
    }

    fn take_again<S: Source>(
        &mut self,
        delivery: u64,
        partition: usize,
        basket: &mut impl Basket,
        source: &mut S,
    ) -> Result<(), S::Error> {
        let first = source.bounds(partition).0;
        let room = self.in_flight_max.saturating_sub(self.in_flight);
        let Some(cursor) = self.cursors.get_mut(partition) else { return Ok(()) };
        // Retention has removed these.
        let kept = cursor.again.split_off(&first);
        if !cursor.again.is_empty() {
            cursor.dirty = true;
            self.open.subtract(cursor.again.len());
        }
        cursor.again = kept;
        let mut taken = 0;
        while let Some((from, to)) = first_run(&cursor.again, room.saturating_sub(taken)) {
            let before = |sequence| cursor.again.get(&sequence).copied().unwrap_or(0);
            let Scanned { records, end, full } = scan(source, basket, partition, (from, to), before)?;
            // What was passed over is not there any more: done.
            let removed = (from..end).filter(|sequence| cursor.again.remove(sequence).is_some()).count();
            self.open.subtract(removed.saturating_sub(records.len()));
            taken += records.len();
            cursor.dirty = true;
            Self::record(&mut self.deliveries, &mut self.in_flight, cursor, delivery, partition, &records);
            if full || basket.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn take_new<S: Source>(
        &mut self,
        delivery: u64,
        partition: usize,
        basket: &mut impl Basket,
        source: &mut S,
    ) -> Result<(), S::Error> {
        let (first, last) = source.bounds(partition);
        let room = self.in_flight_max.saturating_sub(self.in_flight).min(self.open.room()) as u64;
        let Some(cursor) = self.cursors.get_mut(partition) else { return Ok(()) };
        if cursor.next < first {
            cursor.next = first;
            cursor.dirty = true;
        }
        if cursor.next > last || room == 0 {
            return Ok(());
        }
        let to = last.min(cursor.next.saturating_add(room - 1));
        let Scanned { records, end, .. } = scan(source, basket, partition, (cursor.next, to), |_| 0)?;
        cursor.next = end;
        cursor.dirty = true;
        self.open.add(records.len());
        Self::record(&mut self.deliveries, &mut self.in_flight, cursor, delivery, partition, &records);
        Ok(())
    }

    fn record(
        deliveries: &mut HashMap<u64, Delivery>,
        in_flight: &mut usize,
        cursor: &mut Cursor,
        delivery: u64,
        partition: usize,
        records: &[(u64, u32)],
    ) {
        if records.is_empty() {
            return;
        }
        let entry = deliveries.entry(delivery).or_default();
        for (sequence, before) in records {
            cursor.in_flight.insert(*sequence, Flight { delivery, before: *before });
            entry.messages.push((partition, *sequence));
        }
        entry.open += records.len();
        *in_flight += records.len();
    }

    /// Notes that a message is to be delivered again, delivered `times` more often. Returns whether it was in flight
    /// under this delivery.
    fn put_back(&mut self, delivery: u64, partition: usize, sequence: u64, times: u32) -> bool {
        let Some(cursor) = self.cursors.get_mut(partition) else { return false };
        let Some(flight) = cursor.in_flight.get(&sequence).copied().filter(|flight| flight.delivery == delivery) else {
            return false;
        };
        cursor.in_flight.remove(&sequence);
        cursor.again.insert(sequence, flight.before.saturating_add(times));
        self.in_flight -= 1;
        true
    }

    /// One message of a delivery is settled; the last one ends the delivery.
    fn close_one(&mut self, delivery: u64) {
        let Some(entry) = self.deliveries.get_mut(&delivery) else { return };
        entry.open = entry.open.saturating_sub(1);
        if entry.open == 0
            && let Some(deadline_ms) = entry.deadline_ms
        {
            self.deadlines.remove(&(deadline_ms, delivery));
            self.deliveries.remove(&delivery);
        }
    }
}

impl Cursor {
    /// The runs below `next` that are in flight or come again.
    fn open_runs(&self, runs_max: usize) -> Runs {
        let mut runs = Runs::new();
        let mut flying = self.in_flight.keys().copied().peekable();
        let mut again = self.again.keys().copied().peekable();
        loop {
            let sequence = match (flying.peek(), again.peek()) {
                (Some(one), Some(other)) if one < other => flying.next(),
                (_, Some(_)) => again.next(),
                (Some(_), None) => flying.next(),
                (None, None) => return runs,
            };
            let Some(sequence) = sequence else { return runs };
            let full = runs.len() >= runs_max;
            match runs.last_mut() {
                Some((_, to)) if full || *to + 1 == sequence => *to = sequence,
                _ => runs.push((sequence, sequence)),
            }
        }
    }
}

/// What a scan has come to.
struct Scanned {
    /// What the basket took, and how often each was delivered before.
    records: Vec<(u64, u32)>,
    /// The first sequence that was not dealt with; what is below it and was not taken is not there any more.
    end: u64,
    /// The basket took no more.
    full: bool,
}

/// Shows the records of `from..=to` to a basket until it is full; each was delivered `before` times.
fn scan<S: Source>(
    source: &mut S,
    basket: &mut impl Basket,
    partition: usize,
    (from, to): (u64, u64),
    before: impl Fn(u64) -> u32,
) -> Result<Scanned, S::Error> {
    let mut scanned = Scanned { records: Vec::new(), end: from, full: false };
    source.scan(partition, from, to, &mut |sequence, body| {
        let before = before(sequence);
        if basket.is_full() || basket.put(partition, sequence, before.saturating_add(1), body) == Take::Full {
            scanned.full = true;
            return Take::Full;
        }
        scanned.records.push((sequence, before));
        scanned.end = sequence + 1;
        Take::More
    })?;
    if !scanned.full {
        scanned.end = to + 1;
    }
    Ok(scanned)
}

/// The first run of neighbours in a set, at most `len_max` long.
fn first_run(set: &BTreeMap<u64, u32>, len_max: usize) -> Option<(u64, u64)> {
    let (from, _) = set.first_key_value()?;
    let from = *from;
    let run = set.keys().take(len_max).zip(from..).take_while(|(have, want)| *have == want).count() as u64;
    (run > 0).then(|| (from, from + run - 1))
}
