//! The retention thread: decides what is too old, too many or too much, and gives its space back.
//!
//! It reads the oldest records of each partition that has a limit and asks the writer to retire what is
//! over it; the writer moves the partition's `first` in its next commit. From then on nothing reads below
//! `first`, so nothing walks over what is dead, and no tombstone is written for it.
//!
//! Records that go when they are acknowledged are compared with the positions that are *saved* of the station's groups,
//! never with what the reader knows: what has gone was acknowledged durably, so that a group that begins at its saved
//! position finds everything from there on.
//!
//! Records that were removed one by one count for no limit; they go as soon as they are the oldest.
//!
//! Age is counted in wall time, the only one that outlives a process. A record that comes from the future, because the
//! clock was wrong when it was stored, would never grow old: its age is counted from when it was first seen here.
//!
//! The space comes back in two ways, neither of which costs a commit anything: a compaction
//! drops dead records on its way (a filter, [`DeadRecords`]), and tables that hold nothing but one partition's
//! dead records are dropped whole. `docs/adr/0009-embedded-store.md` has the reasons and the numbers.

use super::{
    catalog::{LowWatermarks, StationState},
    chunk::BODY_HEAD,
    clock::Clock,
    disk::Disk,
    format::{self, Mark},
    heal::{Fresh, Pause},
    messages::{Control, Job, RetentionCommand},
};
use crate::rt::clock;
use fjall::{
    AbstractTree,
    compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict},
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often the partitions are looked at.
const EVERY: Duration = Duration::from_millis(250);
/// How often the consumer groups are looked at.
const GROUPS_EVERY: Duration = Duration::from_secs(60);
/// How soon a partition is looked at again that has more to retire than one look takes.
const EVERY_IF_FULL: Duration = Duration::from_millis(5);
/// How far ahead of the clock a record may be before its own time is not believed.
const FUTURE_MS: u64 = 60 * 60 * 1_000;
/// Records of a partition that are looked at before the next one has its turn.
const SLICE_RECORDS: usize = 16_384;
/// Bytes retired since the last time that make it worth looking for whole tables.
const DROP_TABLES_BYTES: u64 = 32 * 1024 * 1024;

/// Drops records below their partition's low watermark when a compaction passes over them.
#[derive(Debug)]
pub(super) struct DeadRecords {
    floors: Arc<LowWatermarks>,
}

impl DeadRecords {
    pub(super) fn factory(floors: Arc<LowWatermarks>) -> Arc<dyn Factory> {
        Arc::new(Self { floors })
    }
}

impl Factory for DeadRecords {
    fn name(&self) -> &'static str {
        "dead-records"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Self { floors: Arc::clone(&self.floors) })
    }
}

impl CompactionFilter for DeadRecords {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        // A key is written once and never again, so nothing older can come to light. It names the chunk's last record:
        // if that is dead, all of it is.
        let dead = format::parse_record_key(item.key())
            .is_some_and(|(partition, sequence)| sequence < self.floors.get(partition));
        Ok(if dead { Verdict::Destroy } else { Verdict::Keep })
    }
}

/// The thread's world.
#[derive(Debug)]
pub(super) struct Retention {
    disk: Disk,
    floors: Arc<LowWatermarks>,
    clock: Clock,
    inbox: flume::Receiver<RetentionCommand>,
    writer: flume::Sender<Job>,
    stations: Vec<Arc<StationState>>,
    /// By partition id.
    progress: HashMap<u32, Progress>,
    /// Partitions whose last look ended because it had taken enough.
    full: Vec<(Arc<StationState>, usize)>,
    /// When the consumer groups are looked at next.
    groups_at: Option<Instant>,
}

/// How far the retention of a partition has come.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    /// What the writer was asked to make the first sequence, and what it was then.
    asked: u64,
    asked_from: u64,
    /// Bytes that were retired since tables were last dropped.
    retired_bytes: u64,
    /// What was asked for last was as much as one look takes.
    full: bool,
    /// Until then (wall time) nothing is too old, by this limit.
    not_before_ms: u64,
    age_ms: Option<u64>,
    /// When (monotonic time) the oldest record was first seen to come from the future.
    future_since_ms: Option<u64>,
}

impl Retention {
    /// The thread's world, of a store that was just opened.
    pub(super) fn new(
        fresh: Fresh,
        clock: Clock,
        inbox: flume::Receiver<RetentionCommand>,
        writer: flume::Sender<Job>,
    ) -> Self {
        let Fresh { disk, floors, stations } = fresh;
        Self {
            disk,
            floors,
            clock,
            inbox,
            writer,
            stations,
            progress: HashMap::new(),
            full: Vec::new(),
            groups_at: None,
        }
    }

    /// Runs until the store closes.
    pub(super) fn run(mut self) {
        while let Some(pause) = self.keep_until_pause() {
            let (clock, inbox, writer) = self.let_go();
            let Some(fresh) = pause.wait(&inbox, |keep| matches!(keep, RetentionCommand::Close)) else { return };
            self = Self::new(fresh, clock, inbox, writer);
        }
    }

    /// Lets go of the database.
    fn let_go(self) -> (Clock, flume::Receiver<RetentionCommand>, flume::Sender<Job>) {
        let Self { clock, inbox, writer, .. } = self;
        (clock, inbox, writer)
    }

    /// Runs until the store closes (`None`) or is to be opened anew.
    fn keep_until_pause(&mut self) -> Option<Pause> {
        let mut next = clock::now() + EVERY;
        let mut next_of_all = next;
        loop {
            match self.inbox.recv_deadline(next) {
                Ok(RetentionCommand::StationCame(station)) => self.stations.push(station),
                Ok(RetentionCommand::StationWent(station)) => self.bury(&station),
                Ok(RetentionCommand::Discarded { partition, bytes }) => {
                    self.progress.entry(partition).or_default().retired_bytes += bytes;
                }
                #[cfg(test)]
                Ok(RetentionCommand::Look(done)) => {
                    self.groups_at = None;
                    self.look();
                    done.send(()).ok();
                }
                Ok(RetentionCommand::Pause(pause)) => return Some(pause),
                Ok(RetentionCommand::Close) | Err(flume::RecvTimeoutError::Disconnected) => return None,
                Err(flume::RecvTimeoutError::Timeout) => {
                    if clock::now() >= next_of_all {
                        self.look();
                        next_of_all = clock::now() + EVERY;
                    } else {
                        let full = std::mem::take(&mut self.full);
                        self.look_through(full);
                    }
                    next =
                        if self.full.is_empty() { next_of_all } else { next_of_all.min(clock::now() + EVERY_IF_FULL) };
                }
            }
        }
    }

    fn look(&mut self) {
        self.full.clear();
        if self.groups_at.is_none_or(|at| clock::now() >= at) {
            self.groups_at = Some(clock::now() + GROUPS_EVERY);
            self.writer.try_send(Job::Control(Control::ExpireGroups)).ok();
        }
        for station in self.stations.clone() {
            let count = station.partitions.len();
            self.look_through((0..count).map(|partition| (Arc::clone(&station), partition)));
        }
    }

    fn look_through(&mut self, partitions: impl IntoIterator<Item = (Arc<StationState>, usize)>) {
        for (station, partition) in partitions {
            match self.look_at(&station, partition) {
                Ok(false) => {}
                Ok(true) => self.full.push((station, partition)),
                Err(error) => {
                    tracing::warn!(station = %station.station.name, %error, "retention could not read the oldest records");
                }
            }
        }
    }

    /// Asks the writer to retire what is over the limits, and drops the tables of what it has retired before.
    /// Whether there may be more than that.
    fn look_at(&mut self, station: &Arc<StationState>, partition: usize) -> Result<bool, fjall::Error> {
        let Some(state) = station.partitions.get(partition).filter(|_| !station.is_deleted()) else { return Ok(false) };
        let mark = state.mark();
        self.drop_dead(state.id, mark.first);
        let rules = station.rules();
        let mut progress = self.progress.get(&state.id).copied().unwrap_or_default();
        if progress.is_waiting(mark.first, rules.age_ms) {
            return Ok(progress.full);
        }
        if mark.first > mark.last || !rules.retire_something() {
            return Ok(false);
        }
        let removed =
            if state.removed() == 0 { BTreeMap::new() } else { self.disk.removed(state.id, mark.first, mark.last)? };
        let acknowledged = if rules.acknowledged { self.acknowledged(station, state.id, mark)? } else { mark.first };
        let mut kept = (mark.last + 1 - mark.first).saturating_sub(removed.len() as u64);
        let (now_ms, monotonic_ms) = (self.clock.wall_ms(), self.clock.monotonic_ms());
        let too_much = |kept: u64, bytes: u64| {
            rules.records.is_some_and(|max| kept > max)
                || rules.bytes.is_some_and(|max| mark.bytes.saturating_sub(bytes) > max)
        };
        let too_old = rules.age_ms.is_some() && now_ms >= progress.not_before_ms;
        if !too_much(kept, 0) && !too_old && acknowledged == mark.first {
            return Ok(false);
        }
        let mut first = mark.first;
        let (mut bytes, mut removed_bytes) = (0_u64, 0_u64);
        let mut looked_at = 0;
        self.disk.scan(state.id, mark.first, mark.last, |time_ms, sequence, body| {
            if looked_at == SLICE_RECORDS {
                return ControlFlow::Break(());
            }
            looked_at += 1;
            let size = body.len().saturating_sub(BODY_HEAD) as u64;
            if removed.contains_key(&sequence) {
                removed_bytes += size;
            } else if sequence < acknowledged
                || too_much(kept, bytes)
                || rules.age_ms.is_some_and(|max| progress.is_old(time_ms, max, now_ms, monotonic_ms))
            {
                bytes += size;
                kept -= 1;
            } else {
                return ControlFlow::Break(());
            }
            first = sequence + 1;
            ControlFlow::Continue(())
        })?;
        if first == mark.first {
            self.progress.insert(state.id, progress);
            return Ok(false);
        }
        let bytes = bytes + removed_bytes;
        let job = Job::Retire { station: Arc::clone(station), partition, from: mark.first, first, bytes };
        // A full queue is no reason to wait: the next look finds the same.
        if self.writer.try_send(job).is_ok() {
            progress.asked = first;
            progress.asked_from = mark.first;
            progress.retired_bytes += bytes;
            progress.full = looked_at == SLICE_RECORDS;
            self.progress.insert(state.id, progress);
        }
        Ok(looked_at == SLICE_RECORDS)
    }

    /// The oldest record that a consumer group has still to acknowledge, by what is saved of the groups. Without a group it
    /// is the oldest there is.
    fn acknowledged(&self, station: &StationState, partition: u32, mark: Mark) -> Result<u64, fjall::Error> {
        let prefix = format::groups_prefix(station.station.name.as_str());
        let mut least: Option<u64> = None;
        for item in self.disk.catalog.prefix(&prefix) {
            let key = item.key()?;
            let durable = key.get(prefix.len()..).and_then(|durable| std::str::from_utf8(durable).ok()).unwrap_or("");
            let saved = self.disk.cursors.get(format::cursor_key(partition, durable))?;
            // A group of which nothing is saved has not begun.
            let (next, open) = saved.as_deref().and_then(format::parse_cursor).unwrap_or((mark.first, Vec::new()));
            // What has gone for another reason waits for nobody.
            let open = open.into_iter().filter(|(_, to)| *to >= mark.first).map(|(from, _)| from.max(mark.first)).min();
            let done = open.unwrap_or(next).clamp(mark.first, mark.last + 1);
            least = Some(least.map_or(done, |least| least.min(done)));
        }
        Ok(least.unwrap_or(mark.first))
    }

    /// Below `first` everything is dead: compactions may drop it, and whole tables go if there is much.
    fn drop_dead(&mut self, partition: u32, first: u64) {
        if first <= 1 {
            return;
        }
        self.floors.raise(partition, first);
        let Some(progress) = self.progress.get_mut(&partition) else { return };
        if progress.retired_bytes >= DROP_TABLES_BYTES && progress.asked <= first {
            progress.retired_bytes = 0;
            drop_tables(&self.disk, partition, first);
        }
    }

    /// A station is gone: all its records are dead.
    fn bury(&mut self, station: &Arc<StationState>) {
        self.stations.retain(|kept| !Arc::ptr_eq(kept, station));
        for partition in &station.partitions {
            self.progress.remove(&partition.id);
            self.floors.raise(partition.id, u64::MAX);
            drop_tables(&self.disk, partition.id, u64::MAX);
        }
    }
}

impl Progress {
    /// Whether the writer has not come yet to what it was asked; a byte count of now would be wrong then. If not, what is
    /// known of ages is dropped unless it still holds.
    fn is_waiting(&mut self, first: u64, age_ms: Option<u64>) -> bool {
        let asked_more = self.asked > first;
        if asked_more && self.asked_from == first {
            return true;
        }
        // More than is done, and not waiting: records were removed meanwhile, so that the writer did nothing.
        if asked_more || self.age_ms != age_ms {
            self.not_before_ms = 0;
        }
        self.age_ms = age_ms;
        false
    }

    /// Whether a record of this time is older than `max`; the oldest one is asked for first. Remembers when it will be.
    fn is_old(&mut self, time_ms: u64, max: u64, now_ms: u64, monotonic_ms: u64) -> bool {
        if time_ms > now_ms.saturating_add(FUTURE_MS) {
            self.not_before_ms = 0;
            let since_ms = *self.future_since_ms.get_or_insert(monotonic_ms);
            return monotonic_ms.saturating_sub(since_ms) >= max;
        }
        self.future_since_ms = None;
        self.not_before_ms = time_ms.saturating_add(max);
        self.not_before_ms <= now_ms
    }
}

/// Drops the tables that hold nothing but records of `partition` below `first`. Waits for running
/// compactions, which is why it is not the writer's work.
pub(super) fn drop_tables(disk: &Disk, partition: u32, first: u64) {
    let range = format::record_key(partition, 0)..format::record_key(partition, first);
    if let Err(error) = disk.records.tree.drop_range(range) {
        tracing::warn!(partition, %error, "dead tables could not be dropped; compactions will pass over them");
    }
}
