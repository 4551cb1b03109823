//! How a store that could not write comes back by itself.
//!
//! *Full* is seen before a commit is begun ([`super::space`]): nothing is unsure, records are refused, and taken again as soon as
//! there is room.
//!
//! *Failed* is a commit or a worker of the database that could not write. The database takes nothing more then, and a second
//! `fsync` would prove nothing: the kernel may have dropped the pages. So the store is opened anew within the process: its threads
//! let go of the database, what the failed commit has left of itself in the journal is cut off (nobody was told that it is
//! stored; synced again, the journal ends with what was acknowledged), and everything is read back as after a restart. If the
//! device is full, that waits until it is not. If it does not help, the store is *lost*: liveness fails, since only a new
//! process, or a new disk, can help. It is tried on nevertheless.
//!
//! Reading goes on all the time, but for the moments in which the store is opened. New consumer groups, and positions that cannot
//! be saved, are held in memory until they can.

use super::{
    StationDefaults,
    catalog::{LowWatermarks, StationState},
    clock::Clock,
    condition::State,
    disk::{Damage, Disk, OpenError, os_error, words},
    journal,
    messages::{Job, Request, RetentionCommand, Shared},
    recovery::Loaded,
    space::{Room, Space},
    synced::Synced,
    writer::{Entry, Writer},
};
use crate::{
    limits::{LOCAL_REOPEN_FAILURES_MAX, LOCAL_REOPEN_PAUSE_MAX, LOCAL_REOPEN_PAUSE_MIN},
    metrics::StoreMetrics,
    reject::Reject,
    rt::clock,
};
use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How often a writer that cannot write looks whether it can again.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How a writer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    /// The store is to be opened anew.
    Failed,
}

/// A store that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) floors: Arc<LowWatermarks>,
    /// Number of the last commit, and where the next are noted.
    pub(super) commit: u64,
    pub(super) synced: Synced,
    pub(super) loaded: Loaded,
}

impl Opened {
    /// Opens the store in a directory.
    pub(super) fn open(dir: &Path, clock: &Clock, damage: &Arc<Damage>) -> Result<Self, OpenError> {
        let floors = Arc::new(LowWatermarks::new());
        let (disk, commit, synced) = Disk::open(dir, &floors, damage)?;
        let loaded = Loaded::read(dir, &disk, clock, &floors)?;
        Ok(Self { disk, floors, commit, synced, loaded })
    }
}

/// What a writer keeps while its store is opened anew: everything but the database and what was read from it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) defaults: StationDefaults,
    /// How long a commit waits for the database before what is queued is refused.
    pub(super) hold: Duration,
    pub(super) inbox: flume::Receiver<Job>,
    pub(super) reader: flume::Sender<Request>,
    pub(super) keep: flume::Sender<RetentionCommand>,
    /// What cannot be written at the moment.
    pub(super) held: Held,
}

/// What could not be written yet and nobody waits for, and how the store fares.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Positions of consumer groups, by key: the last of each counts.
    pub(super) cursors: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Consumer groups, by key.
    pub(super) groups: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Failures since the last commit.
    failures: u32,
    /// When the store is to be opened anew.
    try_at: Option<Instant>,
    /// Batches of the journal from this number on were not acknowledged.
    pub(super) unacknowledged: u64,
}

impl Held {
    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let wait = LOCAL_REOPEN_PAUSE_MIN
            .saturating_mul(2_u32.saturating_pow(self.failures.saturating_sub(1)))
            .min(LOCAL_REOPEN_PAUSE_MAX);
        self.try_at = Some(clock::now() + wait);
    }

    /// A commit was synced.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Asks a thread to let go of the database, and gives it another one.
#[derive(Debug)]
pub(super) struct Pause {
    /// Dropped when the thread has let go.
    pub(super) holds: flume::Sender<()>,
    pub(super) fresh: flume::Receiver<Fresh>,
}

/// What a thread goes on with.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) disk: Disk,
    pub(super) floors: Arc<LowWatermarks>,
    pub(super) stations: Vec<Arc<StationState>>,
}

impl Pause {
    /// Waits for what to go on with, and shows meanwhile what comes to the thread. `None`: the store ends, or `show` says so.
    pub(super) fn wait<T>(self, inbox: &flume::Receiver<T>, mut show: impl FnMut(T) -> bool) -> Option<Fresh> {
        let Self { holds, fresh } = self;
        drop(holds);
        loop {
            match fresh.recv_timeout(LOOK) {
                Ok(fresh) => return Some(fresh),
                Err(flume::RecvTimeoutError::Disconnected) => return None,
                Err(flume::RecvTimeoutError::Timeout) => {}
            }
            if inbox.drain().any(&mut show) {
                return None;
            }
        }
    }
}

/// The writer thread.
pub(super) fn run(mut writer: Writer) {
    while writer.run() == End::Failed {
        match reopen(writer) {
            Some(fresh) => writer = fresh,
            None => return,
        }
    }
}

/// Opens a store anew, trying until it works; `None` if it closes meanwhile.
fn reopen(writer: Writer) -> Option<Writer> {
    let in_use = writer.disk.in_use();
    let mut kept = writer.let_go();
    tracing::warn!(dir = %kept.dir.display(), "the embedded store could not write and is opened anew");
    let (holds, held) = flume::bounded(1);
    let (to_reader, for_reader) = flume::bounded(1);
    let (to_retention, for_retention) = flume::bounded(1);
    // These two never wait for the writer, so waiting for them ends.
    kept.reader.send(Request::Pause(Pause { holds: holds.clone(), fresh: for_reader })).ok()?;
    kept.keep.send(RetentionCommand::Pause(Pause { holds, fresh: for_retention })).ok()?;
    let has_let_go = || held.is_disconnected() && in_use.has_ended();
    loop {
        let opened = if has_let_go() { open(&mut kept) } else { None };
        if let Some(opened) = opened {
            let Opened { disk, floors, loaded, .. } = &opened;
            let fresh = Fresh { disk: disk.clone(), floors: Arc::clone(floors), stations: loaded.stations.clone() };
            kept.shared.condition.set(State::Writable);
            let mut writer = Writer::new(kept, opened);
            // Before the reader has it: the groups begin with what was held of them.
            if !writer.save_held() {
                drop(fresh);
                kept = writer.let_go();
                continue;
            }
            to_reader.send(fresh.clone()).ok()?;
            to_retention.send(fresh).ok()?;
            tracing::info!("the embedded store takes writes again");
            return Some(writer);
        }
        if kept.refuse_all() {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// Tries once, if it is time.
fn open(kept: &mut Kept) -> Option<Opened> {
    if kept.held.try_at.is_some_and(|at| clock::now() < at) {
        return None;
    }
    let database = kept.dir.join("store").join("db");
    let opened = journal::cut_failed(&database, kept.held.unacknowledged)
        .map_err(|error| OpenError::Io(database, error))
        .and_then(|()| Opened::open(&kept.dir, &kept.clock, &kept.shared.damage));
    match opened {
        Ok(opened) => Some(opened),
        Err(error) => {
            tracing::error!(%error, "the embedded store does not open again; trying on");
            kept.held.failed();
            kept.shared.condition.set(State::Lost);
            None
        }
    }
}

impl Kept {
    /// Refuses whatever has come; whether the store closes.
    fn refuse_all(&mut self) -> bool {
        let why = self.shared.gone();
        while let Ok(job) = self.inbox.try_recv() {
            match job {
                Job::Publish(job) => job.refuse(&why),
                Job::Cursors(cursors) => self.held.cursors.extend(cursors),
                Job::Close => return true,
                // Whoever asked learns it by the end of the channel; retention begins anew.
                Job::Control(_) | Job::Retire { .. } | Job::Used(_) => {}
            }
        }
        false
    }
}

impl Writer {
    /// A writer of a store that was just opened.
    pub(super) fn new(mut kept: Kept, opened: Opened) -> Self {
        let Opened { disk, commit, synced, loaded, floors: _ } = opened;
        let (stations, mut groups) = (loaded.stations, loaded.groups);
        for (key, value) in &kept.held.groups {
            groups.load(key, value, (kept.clock.wall_ms(), kept.clock.monotonic_ms()));
        }
        kept.held.unacknowledged = disk.database.visible_seqno();
        Self {
            kept,
            disk,
            partitions: stations.iter().map(|state| state.partitions.len()).sum(),
            stations: stations.into_iter().map(|state| (state.station.name.clone(), Entry::new(state))).collect(),
            ids: loaded.ids,
            groups,
            next_partition: loaded.next_partition,
            revision: loaded.revision,
            commit,
            synced,
            closing: false,
            queue: VecDeque::new(),
            buffers: Vec::new(),
            id: Vec::new(),
        }
    }

    /// Lets go of the database: whatever else the writer has ends here.
    pub(super) fn let_go(self) -> Kept {
        self.kept
    }

    pub(super) fn holds_something(&self) -> bool {
        self.kept.shared.refusal().is_some()
            || !(self.queue.is_empty() && self.kept.held.cursors.is_empty() && self.kept.held.groups.is_empty())
    }

    /// Writes what could not be written when it came; whether it is written now.
    pub(super) fn save_held(&mut self) -> bool {
        if self.kept.held.cursors.is_empty() && self.kept.held.groups.is_empty() {
            return true;
        }
        let mut batch = self.disk.database.batch();
        for (key, value) in &self.kept.held.cursors {
            batch.insert(&self.disk.cursors, key.as_slice(), value.as_slice());
        }
        for (key, value) in &self.kept.held.groups {
            batch.insert(&self.disk.catalog, key.as_slice(), value.as_slice());
        }
        match self.sync(batch) {
            Ok(()) => {
                self.kept.held.cursors.clear();
                self.kept.held.groups.clear();
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// For what the device has room.
    pub(super) fn room(&self) -> Room {
        #[cfg(test)]
        if let Some(free) = self.kept.shared.free_bytes.load(std::sync::atomic::Ordering::SeqCst).checked_sub(1) {
            return Space { free, total: u64::MAX }.room(self.disk.unflushed_bytes());
        }
        // A device that does not say it is one that a write will say it of.
        Space::of(&self.kept.dir).map_or(Room::Enough, |space| space.room(self.disk.unflushed_bytes()))
    }

    /// Looks at the device before a commit; says so when it has become full or has room again.
    pub(super) fn look_at_room(&mut self) -> Room {
        let room = self.room();
        let condition = &self.kept.shared.condition;
        let state = if room == Room::Enough { State::Writable } else { State::Full };
        if condition.set(state) != state {
            self.kept.metrics.read_only.set(u64::from(state == State::Full));
            if state == State::Full {
                tracing::error!("{}: the embedded store takes no records until there is room", condition.full_text());
            } else {
                tracing::info!("there is room again: the embedded store takes records");
            }
        }
        room
    }

    /// The store takes nothing more until it was opened anew.
    pub(super) fn fail(&mut self, error: &fjall::Error) -> Reject {
        let condition = &self.kept.shared.condition;
        if !self.kept.shared.has_failed() {
            condition.set_error(os_error(error));
            self.kept.held.failed();
            let lost = self.kept.held.failures >= LOCAL_REOPEN_FAILURES_MAX;
            condition.set(if lost { State::Lost } else { State::Failed });
            self.kept.metrics.read_only.set(1);
            tracing::error!(dir = %self.kept.dir.display(), error = words(error), "the embedded store could not write; it is going to be opened anew");
            if os_error(error).is_none() {
                // A worker of the database has ended: it may have come upon a damaged table.
                self.disk.look_for_damage();
            }
        }
        condition.failure()
    }

    /// Whether it is time to open a store anew that has failed.
    pub(super) fn is_to_reopen(&self) -> bool {
        #[cfg(test)]
        if self.kept.shared.fail_next_commit.load(std::sync::atomic::Ordering::SeqCst) {
            return false;
        }
        self.kept.shared.has_failed()
            && self.kept.held.try_at.is_none_or(|at| clock::now() >= at)
            && self.room() == Room::Enough
    }
}
