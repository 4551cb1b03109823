//! The writer thread: the only one that writes. Group commit, sequences, the duplicate window.
//!
//! It takes whatever jobs are waiting, stages their records into one batch, as few [`chunk`](super::chunk)s for each
//! partition as hold them, commits it with one `fdatasync`, and then answers. So an answer always comes after the sync of everything it speaks of, also of
//! a record that another job of the same group stored under the same message id.
//!
//! If a commit or its sync fails, no job of the group is answered with success, nothing is tried again (after
//! a failed fsync the kernel may have dropped the pages and a second one would succeed for nothing), and the
//! store takes no more writes until it was opened anew ([`super::heal`]). What it holds can still be read.
//!
//! Before each commit the writer waits, for a while and no longer, until the database has written out enough of what
//! it holds in memory. Nothing in the database may make it wait: there, no wait has an end if the disk is full.

use super::{
    catalog::{PartitionState, StationState},
    chunk::{ChunkBuilder, NewRecord},
    disk::Disk,
    duplicate_window::Ids,
    format::{self, Mark},
    groups::Groups,
    heal::{End, Kept, LOOK},
    messages::{Job, PlannedRecord, PublishJob, Request},
    space::Room,
    synced::Synced,
};
use crate::{
    limits::{
        LOCAL_CHUNK_BUFFERS_MAX, LOCAL_CHUNK_BYTES_MAX, LOCAL_COMMIT_BYTES_MAX, LOCAL_COMMIT_RECORDS_MAX,
        LOCAL_RECORD_BYTES_MAX,
    },
    record::{Outcome, Receipt},
    reject::{Reject, SizeLimit},
    rt::clock,
    station::Name,
    wire::nats::encode::ID_SEPARATOR,
};
use fjall::{OwnedWriteBatch, PersistMode};
use std::{
    collections::{HashMap, VecDeque},
    io::Write,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

/// How often a writer that waits for the database looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The thread's world.
#[derive(Debug)]
pub(super) struct Writer {
    /// What it keeps while its store is opened anew.
    pub(super) kept: Kept,
    pub(super) disk: Disk,
    pub(super) stations: HashMap<Name, Entry>,
    pub(super) ids: Ids,
    pub(super) groups: Groups,
    /// Partitions of all stations.
    pub(super) partitions: usize,
    pub(super) next_partition: u32,
    /// Of the last registry change.
    pub(super) revision: u64,
    /// Number of the last commit, and where it is noted.
    pub(super) commit: u64,
    pub(super) synced: Synced,
    /// Nothing more will be sent.
    pub(super) closing: bool,
    pub(super) queue: VecDeque<Queued>,
    /// Buffers of chunks, to be used again.
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) id: Vec<u8>,
}

/// A station, as the writer sees it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: Arc<StationState>,
    /// What the next commit makes of each partition.
    pub(super) staged: Vec<Staged>,
}

/// What is ahead of what is committed of a partition.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) mark: Mark,
    /// How many of its records were removed one by one.
    pub(super) removed: u64,
    /// Its newest records, which are not in the batch yet.
    chunk: ChunkBuilder,
    touched: bool,
}

impl Entry {
    pub(super) fn new(state: Arc<StationState>) -> Self {
        let staged = |one: &PartitionState| Staged {
            mark: one.mark(),
            removed: one.removed(),
            chunk: ChunkBuilder::default(),
            touched: false,
        };
        Self { staged: state.partitions.iter().map(staged).collect(), state }
    }
}

/// When a commit is made, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Now {
    wall_ms: u64,
    monotonic_ms: u64,
}

/// A job that is waiting for its commit.
#[derive(Debug)]
pub(super) enum Queued {
    Publish(Work),
    Other(Job),
}

/// A publish job, as far as it has come.
#[derive(Debug)]
pub(super) struct Work {
    job: PublishJob,
    outcomes: Vec<Outcome>,
    /// Outcomes that commits stand behind.
    settled: usize,
}

impl Work {
    fn is_done(&self) -> bool {
        self.outcomes.len() == self.job.records.len()
    }

    /// Whatever no commit stands behind has failed.
    fn fail(&mut self, why: &Reject) {
        self.outcomes.truncate(self.settled);
        self.outcomes.resize_with(self.job.records.len(), || Outcome::Failed(why.clone()));
    }

    fn answer(self) {
        let PublishJob { reply, share, .. } = self.job;
        // Nobody waits any more: then nobody is told.
        reply.try_send(self.outcomes).ok();
        drop(share);
    }
}

/// One commit in the making.
struct Commit {
    batch: OwnedWriteBatch,
    records: usize,
    bytes: usize,
    touched: Vec<(Arc<StationState>, usize)>,
    done: Vec<Work>,
    /// Positions of consumer groups, to be held if the commit fails.
    cursors: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Commit {
    /// Whether nothing is staged.
    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.touched.is_empty() && self.done.is_empty() && self.cursors.is_empty()
    }

    fn is_full(&self) -> bool {
        self.records >= LOCAL_COMMIT_RECORDS_MAX || self.bytes >= LOCAL_COMMIT_BYTES_MAX
    }

    /// Whether a job may begin in it. One that is whole has to go into it whole; an empty one takes any.
    fn takes(&self, job: &PublishJob) -> bool {
        job.whole.is_none_or(|bytes| {
            self.records == 0
                || (self.records + job.records.len() <= LOCAL_COMMIT_RECORDS_MAX
                    && self.bytes + bytes <= LOCAL_COMMIT_BYTES_MAX)
        })
    }

    /// Puts a partition's newest records into the batch, if there are any that are not in it.
    fn close_chunk(&mut self, disk: &Disk, partition: u32, staged: &mut Staged, buffers: &mut Vec<Vec<u8>>) {
        if staged.chunk.is_empty() {
            return;
        }
        let value = staged.chunk.finish();
        self.batch.insert(&disk.records, format::record_key(partition, staged.mark.last), value.as_slice());
        // One that a large record has made large is not kept.
        if buffers.len() < LOCAL_CHUNK_BUFFERS_MAX && value.capacity() <= 2 * LOCAL_CHUNK_BYTES_MAX {
            buffers.push(value);
        }
    }
}

impl Writer {
    /// Runs until the store closes or is to be opened anew. What was queued by then is committed, or refused.
    pub(super) fn run(&mut self) -> End {
        while !self.closing {
            // What is held while nothing can be written waits for no job.
            let job = if self.holds_something() {
                self.kept.inbox.recv_timeout(LOOK)
            } else {
                self.kept.inbox.recv().map_err(Into::into)
            };
            match job {
                Ok(job) => self.take(job),
                Err(flume::RecvTimeoutError::Timeout) => {}
                Err(flume::RecvTimeoutError::Disconnected) => break,
            }
            loop {
                while !self.closing && self.queue.len() < LOCAL_COMMIT_RECORDS_MAX {
                    let Ok(job) = self.kept.inbox.try_recv() else { break };
                    self.take(job);
                }
                self.turn();
                if self.queue.is_empty() || self.kept.shared.refusal().is_some() {
                    break;
                }
            }
            if self.is_to_reopen() {
                return End::Failed;
            }
        }
        self.closing = true;
        while let Ok(job) = self.kept.inbox.try_recv() {
            self.take(job);
        }
        while !self.queue.is_empty() {
            self.turn();
        }
        self.save_held();
        if !self.kept.shared.has_failed()
            && let Err(error) = self.disk.database.persist(PersistMode::SyncAll)
        {
            self.fail(&error);
        }
        End::Closed
    }

    /// Queues a job.
    fn take(&mut self, job: Job) {
        match job {
            Job::Close => self.closing = true,
            Job::Publish(job) => {
                let outcomes = Vec::with_capacity(job.records.len());
                self.queue.push_back(Queued::Publish(Work { job, outcomes, settled: 0 }));
            }
            other => self.queue.push_back(Queued::Other(other)),
        }
    }

    /// One commit: from the front of the queue, as much as fits.
    fn turn(&mut self) {
        if self.queue.is_empty() && !self.holds_something() {
            return;
        }
        if let Err(why) = self.wait_for_database() {
            self.refuse(&why, Room::None);
            return;
        }
        let room = self.look_at_room();
        if room < Room::Enough {
            let why = self.kept.shared.refusal().unwrap_or(Reject::Overloaded("the embedded store's queue"));
            self.refuse(&why, room);
            return;
        }
        if !self.save_held() {
            self.refuse(&self.kept.shared.gone(), Room::None);
            return;
        }
        self.commit_queued();
    }

    /// Commits from the front of the queue as much as fits.
    fn commit_queued(&mut self) {
        let now = Now { wall_ms: self.kept.clock.wall_ms(), monotonic_ms: self.kept.clock.monotonic_ms() };
        self.ids.expire(now.monotonic_ms);
        let mut commit = self.new_commit();
        while !commit.is_full()
            && let Some(queued) = self.queue.pop_front()
        {
            match queued {
                Queued::Publish(work) if !commit.takes(&work.job) => {
                    self.queue.push_front(Queued::Publish(work));
                    break;
                }
                Queued::Publish(mut work) => {
                    self.stage(&mut work, &mut commit, now);
                    if work.is_done() {
                        commit.done.push(work);
                    } else {
                        self.queue.push_front(Queued::Publish(work));
                    }
                }
                Queued::Other(Job::Cursors(cursors)) => {
                    commit.bytes += cursors.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
                    commit.cursors.extend(cursors);
                }
                Queued::Other(Job::Retire { station, partition, from, first, bytes }) => {
                    self.retire(&station, partition, (from, first, bytes), &mut commit);
                }
                Queued::Other(Job::Control(control)) => {
                    // Alone: what it changes must not meet a record that is staged and not committed.
                    if commit.is_empty() {
                        self.control(control);
                    } else {
                        self.queue.push_front(Queued::Other(Job::Control(control)));
                        break;
                    }
                }
                Queued::Other(Job::Used(group)) => self.group_used(&group),
                Queued::Other(Job::Publish(_) | Job::Close) => {}
            }
        }
        self.finish(commit);
        // Behind the answers, so that nobody waits for it who does not have to.
        if !self.kept.shared.has_failed()
            && let Err(error) = self.disk.rotate()
        {
            self.fail(&error);
        }
    }

    fn new_commit(&self) -> Commit {
        Commit {
            batch: self.disk.database.batch(),
            records: 0,
            bytes: 0,
            touched: Vec::new(),
            done: Vec::new(),
            cursors: Vec::new(),
        }
    }

    /// Returns when another commit may be made: the database has written out what it held. `Err`: it takes too
    /// long, or the store has failed. Jobs that come meanwhile wait in the bounded channel, or are refused there.
    fn wait_for_database(&mut self) -> Result<(), Reject> {
        let deadline = clock::now() + self.kept.hold;
        loop {
            if self.kept.shared.has_failed() {
                return Err(self.kept.shared.gone());
            }
            if !self.is_behind() {
                return Ok(());
            }
            if let Err(error) = self.disk.rotate().and_then(|()| self.disk.check()) {
                self.fail(&error);
                return Err(self.kept.shared.gone());
            }
            if clock::now() >= deadline {
                tracing::warn!("the embedded store refuses records: its tables are not written as fast as they come");
                return Err(Reject::Overloaded("the embedded store's queue"));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn is_behind(&self) -> bool {
        #[cfg(test)]
        if self.kept.shared.is_behind.load(Ordering::SeqCst) {
            return true;
        }
        self.disk.is_behind()
    }

    /// Stages records of a job until the job or the commit is full.
    fn stage(&mut self, work: &mut Work, commit: &mut Commit, now: Now) {
        let Some(entry) = self.stations.get_mut(&work.job.station) else {
            work.fail(&Reject::NoStream);
            return;
        };
        let whole = work.job.whole.is_some();
        let exists = |planned: &PlannedRecord| usize::from(planned.partition) < entry.staged.len();
        if whole && !work.job.records.iter().all(exists) {
            work.fail(&Reject::NoStream);
            return;
        }
        let window_ms = entry.state.rules().window_ms;
        for planned in work.job.records.iter().skip(work.outcomes.len()) {
            if !whole && commit.is_full() {
                return;
            }
            if !planned.fits {
                let limit = LOCAL_RECORD_BYTES_MAX as u64;
                work.outcomes.push(Outcome::Failed(Reject::TooLarge(SizeLimit::Record, limit)));
                continue;
            }
            let at = usize::from(planned.partition);
            let (Some(state), Some(staged)) = (entry.state.partitions.get(at), entry.staged.get_mut(at)) else {
                work.outcomes.push(Outcome::Failed(Reject::NoStream));
                continue;
            };
            let id = work.job.id.as_ref().map(|id| {
                self.id.clear();
                self.id.extend_from_slice(id.base.as_bytes());
                if let Some(first) = id.numbered {
                    self.id.push(ID_SEPARATOR);
                    // Writing into a vector cannot fail.
                    write!(self.id, "{}", first.wrapping_add(planned.place as u64)).ok();
                }
                self.id.as_slice()
            });
            if let Some(sequence) = id.and_then(|id| self.ids.find(state.id, id, now.monotonic_ms, window_ms)) {
                work.outcomes.push(Outcome::Stored(Receipt {
                    partition: planned.partition,
                    sequence,
                    duplicate: true,
                }));
                continue;
            }
            let payload = planned.payload.of(&work.job.payloads);
            let own = work.job.own.as_ref().map_or(&[][..], |own| own.of(planned.place));
            let record = NewRecord { headers: &work.job.headers, own, id, payload };
            if !staged.chunk.has_room(&record) {
                commit.close_chunk(&self.disk, state.id, staged, &mut self.buffers);
            }
            if staged.chunk.is_empty() {
                staged.chunk.begin(self.buffers.pop().unwrap_or_default(), now.wall_ms);
            }
            let sequence = staged.mark.last + 1;
            commit.records += 1;
            commit.bytes += staged.chunk.push(&record);
            if let Some(id) = id {
                self.ids.insert(state.id, id, sequence, now.monotonic_ms, window_ms);
            }
            staged.mark.last = sequence;
            staged.mark.bytes += record.bytes() as u64;
            touch(staged, &entry.state, at, commit);
            work.outcomes.push(Outcome::Stored(Receipt { partition: planned.partition, sequence, duplicate: false }));
        }
    }

    /// Moves the beginning of a partition, `from` where it was, to `first`; what is between has so many bytes. Space is
    /// given back below it only once this is synced.
    fn retire(
        &mut self,
        station: &Arc<StationState>,
        at: usize,
        (from, first, mut bytes): (u64, u64, u64),
        commit: &mut Commit,
    ) {
        let Some(entry) = self.stations.get_mut(&station.station.name) else { return };
        let Some(staged) = entry.staged.get_mut(at).filter(|_| Arc::ptr_eq(&entry.state, station)) else { return };
        let Some(state) = entry.state.partitions.get(at) else { return };
        let first = first.min(staged.mark.last + 1);
        if staged.mark.first != from || first <= from {
            return;
        }
        if staged.removed > 0 {
            match self.disk.removed(state.id, from, first - 1) {
                Ok(removed) => {
                    for (sequence, gone) in removed {
                        commit.batch.remove(&self.disk.catalog, format::removed_key(state.id, sequence));
                        // These went when it did.
                        bytes = bytes.saturating_sub(gone);
                        staged.removed = staged.removed.saturating_sub(1);
                    }
                }
                Err(error) => {
                    tracing::error!(station = %station.station.name, %error, "removed records could not be read");
                    return;
                }
            }
        }
        staged.mark.first = first;
        staged.mark.bytes = staged.mark.bytes.saturating_sub(bytes);
        touch(staged, &entry.state, at, commit);
    }

    /// Commits, publishes what the commit stands behind, answers.
    fn finish(&mut self, mut commit: Commit) {
        let touched = std::mem::take(&mut commit.touched);
        for (station, at) in &touched {
            let entry = self.stations.get_mut(&station.station.name);
            if let Some(staged) = entry.and_then(|entry| entry.staged.get_mut(*at))
                && let Some(state) = station.partitions.get(*at)
            {
                commit.close_chunk(&self.disk, state.id, staged, &mut self.buffers);
                commit.batch.insert(&self.disk.catalog, format::mark_key(state.id), staged.mark.encode());
            }
        }
        for (key, value) in &commit.cursors {
            commit.batch.insert(&self.disk.cursors, key.as_slice(), value.as_slice());
        }
        // Always synced, whatever is in it: so only the last commit can be torn (see `journal`).
        if !commit.batch.is_empty()
            && let Err(error) = self.sync(commit.batch)
        {
            let why = self.fail(&error);
            self.kept.held.cursors.extend(commit.cursors);
            for mut work in commit.done {
                work.fail(&why);
                work.answer();
            }
            // A part of the next one may have been in this commit: nobody may say that nothing of it is stored.
            if let Some(Queued::Publish(work)) = self.queue.front_mut()
                && work.outcomes.len() > work.settled
                && let Some(Queued::Publish(mut work)) = self.queue.pop_front()
            {
                work.fail(&why);
                work.answer();
            }
            return;
        }
        for (station, at) in &touched {
            if let Some((state, staged)) = self.staged(station, *at) {
                state.publish(staged.mark);
                state.set_removed(staged.removed);
                staged.touched = false;
            }
        }
        let stored = commit.done.iter().map(|work| work.outcomes.len() as u64).sum();
        self.kept.metrics.commit_records.add(stored);
        if let Some(Queued::Publish(work)) = self.queue.front_mut() {
            work.settled = work.outcomes.len();
        }
        for work in commit.done {
            work.answer();
        }
        if !touched.is_empty() && !self.kept.shared.wake_sent.swap(true, Ordering::SeqCst) {
            // A full channel holds something that wakes the reader as well.
            self.kept.reader.try_send(Request::Wake).ok();
        }
    }

    /// Commits, syncs, and notes the number. After an error nothing is written any more.
    pub(super) fn sync(&mut self, mut batch: OwnedWriteBatch) -> fjall::Result<()> {
        if self.kept.shared.is_failing() {
            return Err(fjall::Error::Poisoned);
        }
        let number = self.commit + 1;
        batch.insert(&self.disk.catalog, format::COMMIT, number.to_be_bytes());
        let begun = clock::now();
        let outcome = batch.durability(Some(PersistMode::SyncData)).commit();
        self.kept.metrics.commits.increment();
        self.kept.metrics.fsync.observe(clock::since(begun));
        if outcome.is_ok() {
            self.commit = number;
            self.synced.note(number);
            self.kept.held.unacknowledged = self.disk.database.visible_seqno();
            self.kept.held.succeeded();
        }
        outcome
    }

    fn staged<'a>(&mut self, station: &'a Arc<StationState>, at: usize) -> Option<(&'a PartitionState, &mut Staged)> {
        let entry = self.stations.get_mut(&station.station.name)?;
        Some((station.partitions.get(at)?, entry.staged.get_mut(at)?))
    }

    /// Answers everything that is queued and waited for. The rest goes unless it may still be done later; what gives space
    /// back is done if there is room for that.
    fn refuse(&mut self, why: &Reject, room: Room) {
        let over = self.closing || self.kept.shared.has_failed();
        let mut freeing = self.new_commit();
        for queued in std::mem::take(&mut self.queue) {
            match queued {
                Queued::Publish(mut work) => {
                    work.fail(why);
                    work.answer();
                }
                Queued::Other(Job::Control(control)) => {
                    if room > Room::None && control.gives_space_back() {
                        // What it changes must not meet what is staged and not committed.
                        let before = std::mem::replace(&mut freeing, self.new_commit());
                        self.finish(before);
                        self.control(control);
                    } else {
                        self.refuse_control(control, why);
                    }
                }
                Queued::Other(Job::Cursors(cursors)) => self.kept.held.cursors.extend(cursors),
                Queued::Other(Job::Used(group)) => self.group_used(&group),
                Queued::Other(Job::Retire { station, partition, from, first, bytes }) if room > Room::None => {
                    self.retire(&station, partition, (from, first, bytes), &mut freeing);
                }
                Queued::Other(_) if over => {}
                other @ Queued::Other(_) => self.queue.push_back(other),
            }
        }
        self.finish(freeing);
    }
}

fn touch(staged: &mut Staged, station: &Arc<StationState>, at: usize, commit: &mut Commit) {
    if !std::mem::replace(&mut staged.touched, true) {
        commit.touched.push((Arc::clone(station), at));
    }
}
