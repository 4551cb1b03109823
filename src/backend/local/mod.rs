//! The embedded store: stations, records, consumer groups and registry documents in one directory.
//!
//! Semantics are JetStream's as the gateway uses it. A record is acknowledged after an fsync; sequences
//! are dense from 1 for each station and partition; message ids are remembered for the
//! station's window; consumer groups read from the first record, at least once.
//!
//! Three threads, each the single owner of what it changes, and no lock:
//! - the *writer* ([`writer`]) groups the jobs of all shards into commits,
//! - the *reader* ([`reader`]) owns the consumer groups and reads for them,
//! - the *retention* thread ([`retention`]) finds what is over a limit and gives its space back.
//!
//! Shards hold a [`Handle`], which only copies, sends and awaits: it works on any runtime. The control
//! plane asks the [`Store`]. Bounded everywhere: what is full answers [`Reject::Overloaded`].
//!
//! What of a station may be changed (limits, window) is shared by its threads as atomics: a change holds as soon as it is durable.
//!
//! Absent: replication, encryption at rest, stations in memory.

mod catalog;
mod chunk;
mod clock;
mod condition;
mod control;
mod disk;
mod duplicate_window;
mod format;
mod group;
mod groups;
mod handle;
mod heal;
mod info;
mod journal;
mod messages;
mod read;
mod reader;
mod records;
mod recovery;
mod retention;
mod space;
mod synced;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

pub use catalog::StationDefaults;
pub use clock::Clock;
pub use disk::OpenError;
pub use handle::Handle;
pub use info::{Document, GroupInfo, Health, PartitionInfo, PutError, StationError, StationInfo};
pub use read::Watch;
pub use records::{Found, Records, StoredRecord};

use crate::{
    backend::Repeats,
    limits::{LOCAL_DOCUMENT_BYTES_MAX, LOCAL_JOBS_MAX, LOCAL_REQUESTS_MAX, Limits},
    metrics::StoreMetrics,
    reject::Reject,
    rt,
    station::{Attributes, AttributesChange, Consumer, Name, Station},
};
use condition::State;
use disk::Disk;
use heal::{Fresh, Held, Kept, Opened};
use messages::{Control, Job, Request, RetentionCommand, Share, Shared};
use reader::Reader;
use retention::Retention;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};
use writer::Writer;

/// An open embedded store. Dropping it closes it without waiting; [`Store::close`] waits.
#[derive(Debug)]
pub struct Store {
    metrics: Arc<StoreMetrics>,
    shared: Arc<Shared>,
    writer: flume::Sender<Job>,
    reader: flume::Sender<Request>,
    keep: flume::Sender<RetentionCommand>,
    /// Each ends when its thread has, in the order of [`THREADS`].
    ends: [flume::Receiver<()>; 3],
    /// How long a handle waits for an answer, and publishes again.
    repeats: Repeats,
    handles: std::sync::atomic::AtomicU64,
}

/// The store's threads: the writer, the reader, the retention thread.
const THREADS: [&str; 3] = ["store-writer", "store-reader", "store-retention"];

impl Store {
    /// [`Self::open_within`] the limits that hold unless a user sets others.
    pub fn open(dir: &Path, defaults: StationDefaults, clock: Clock) -> Result<Self, OpenError> {
        Self::open_within(&Limits::default(), dir, defaults, clock)
    }

    /// Opens the store in `dir` (made with mode 0700 if it is not there) and starts its threads.
    /// Blocks: it replays the journal and reads the newest records back. Of the limits, `ack_timeout` and `hold` count.
    pub fn open_within(
        limits: &Limits,
        dir: &Path,
        defaults: StationDefaults,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(dir));
        let opened = Opened::open(dir, &clock, &shared.damage)?;
        let metrics = Arc::new(StoreMetrics::default());
        let (writer, jobs) = flume::bounded(LOCAL_JOBS_MAX);
        let (reader, requests) = flume::bounded(LOCAL_REQUESTS_MAX);
        let (keep, keeps) = flume::bounded(LOCAL_JOBS_MAX);
        let fresh = Fresh {
            disk: opened.disk.clone(),
            floors: Arc::clone(&opened.floors),
            stations: opened.loaded.stations.clone(),
        };
        let (of_reader, stations) = (fresh.disk.clone(), fresh.stations.clone());
        let reading = Reader::new(of_reader, clock.clone(), Arc::clone(&shared), requests, writer.clone(), stations);
        let keeping = Retention::new(fresh, clock.clone(), keeps, writer.clone());
        let kept = Kept {
            dir: dir.to_owned(),
            clock,
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            defaults,
            // A refusal has to come while it is still waited for.
            hold: limits.hold.min(limits.ack_timeout / 2),
            inbox: jobs.clone(),
            reader: reader.clone(),
            keep: keep.clone(),
            held: Held::default(),
        };
        let inboxes = (jobs, reading.inbox.clone());
        let ends = start(dir, &shared, inboxes, Writer::new(kept, opened), reading, keeping)?;
        Ok(Self { metrics, shared, writer, reader, keep, ends, repeats: Repeats::of(limits), handles: 0.into() })
    }

    /// A handle for a shard. Each starts its round robin elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let number = self.handles.fetch_add(1, Ordering::Relaxed);
        Handle::new(self.writer.clone(), self.reader.clone(), Arc::clone(&self.shared), self.repeats, number)
    }

    /// What the writer thread counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<StoreMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Whether the store takes writes.
    #[must_use]
    pub fn health(&self) -> Health {
        let condition = &self.shared.condition;
        if let Some(found) = self.shared.damage.found() {
            return Health::Damaged(found.into());
        }
        match condition.state() {
            State::Failed => return Health::ReadOnly(condition.failed_text().into()),
            State::Lost => return Health::Lost(condition.failed_text().into()),
            State::Full | State::Writable => {}
        }
        if self.shared.closing.load(Ordering::Acquire) {
            return Health::Closed;
        }
        if let Some((_, name)) = self.ends.iter().zip(THREADS).find(|(end, _)| end.is_disconnected()) {
            return Health::Failed(name);
        }
        match condition.state() {
            State::Full => Health::Full(condition.full_text().into()),
            _ => Health::Writable,
        }
    }

    /// The station of this name; made from the defaults if it is not there and `create` is set.
    pub async fn station(&self, name: &Name, create: bool) -> Result<Arc<Station>, Reject> {
        self.ask(|reply| Control::Station { name: name.clone(), create, reply }).await?
    }

    /// Makes a station. That there is one with the same attributes is no error.
    pub async fn create_station(&self, name: &Name, attributes: &Attributes) -> Result<(), StationError> {
        let (name, attributes) = (name.clone(), attributes.clone());
        self.ask(|reply| Control::Create { name, attributes, reply }).await?
    }

    /// Changes a station. Holds for what is there as well, as soon as this is answered; only a longer duplicate window
    /// brings back nothing that was forgotten.
    pub async fn change_station(&self, name: &Name, change: &AttributesChange) -> Result<(), StationError> {
        let (name, change) = (name.clone(), change.clone());
        self.ask(|reply| Control::Change { name, change, reply }).await?
    }

    /// The station of this name, if it is there.
    pub async fn describe_station(&self, name: &Name) -> Result<Option<StationInfo>, Reject> {
        self.ask(|reply| Control::Describe { name: name.clone(), reply }).await
    }

    /// All stations, by name; those of dead letters as well.
    pub async fn stations(&self) -> Result<Vec<StationInfo>, Reject> {
        self.ask(|reply| Control::Stations { reply }).await
    }

    /// Deletes a station with its records and groups; whether there was one. Records published to it by
    /// then are answered [`Reject::NoStream`].
    pub async fn delete_station(&self, name: &Name) -> Result<bool, Reject> {
        self.ask(|reply| Control::DeleteStation { name: name.clone(), reply }).await?
    }

    /// The consumer group of this name (`None`: the default group), made if it is not there. A new group
    /// begins at the first record; it counts for the principal who made it.
    pub async fn consumer(
        &self,
        station: &Station,
        group: Option<&Name>,
        principal: &str,
    ) -> Result<Arc<Consumer>, Reject> {
        let (station, group, principal) = (station.name.clone(), group.cloned(), principal.into());
        self.ask(|reply| Control::Consumer { station, group, principal, reply }).await?
    }

    /// Deletes a consumer group, by its durable name; whether there was one.
    pub async fn delete_group(&self, station: &Name, durable: &str) -> Result<bool, StationError> {
        let (station, durable) = (station.clone(), durable.into());
        self.ask(|reply| Control::DeleteGroup { station, durable, reply }).await?
    }

    /// A registry document. Blocks: not for shards.
    pub fn registry_get(&self, key: &str) -> Result<Option<Document>, Reject> {
        let disk = self.disk()?;
        let value = disk.registry.get(key).map_err(|error| disk.unreadable(&error))?;
        value.map(|value| document(key.as_bytes(), &value)).transpose()
    }

    /// All registry documents whose key begins with `prefix`, by key. Blocks: not for shards.
    pub fn registry_list(&self, prefix: &str) -> Result<Vec<Document>, Reject> {
        let disk = self.disk()?;
        let items = disk.registry.prefix(prefix);
        items
            .map(|item| {
                let (key, value) = item.into_inner().map_err(|error| disk.unreadable(&error))?;
                document(&key, &value)
            })
            .collect()
    }

    /// Puts a registry document and syncs it; its new revision. With `expect`, only if it has that
    /// revision (0: if it does not exist).
    pub async fn registry_put(&self, key: &str, value: &[u8], expect: Option<u64>) -> Result<u64, PutError> {
        if key.len() > 1_024 || key.is_empty() || value.len() > LOCAL_DOCUMENT_BYTES_MAX {
            let limit = LOCAL_DOCUMENT_BYTES_MAX as u64;
            return Err(PutError::Rejected(Reject::TooLarge(crate::reject::SizeLimit::Record, limit)));
        }
        let (key, value) = (key.to_owned(), value.to_vec());
        self.ask(|reply| Control::Put { key, value, expect, reply }).await.map_err(PutError::Rejected)?
    }

    /// Deletes a registry document and syncs that; whether there was one. `expect` as for
    /// [`Self::registry_put`].
    pub async fn registry_delete(&self, key: &str, expect: Option<u64>) -> Result<bool, PutError> {
        let key = key.to_owned();
        self.ask(|reply| Control::Delete { key, expect, reply }).await.map_err(PutError::Rejected)?
    }

    /// Commits what was queued, saves the consumer positions, syncs, and ends the threads. Blocks at most
    /// `within`; `false` if that was not enough (then the threads go on, and what they
    /// have not answered is not acknowledged).
    #[must_use]
    pub fn close(self, within: Duration) -> bool {
        let deadline = rt::clock::now() + within;
        self.shared.closing.store(true, Ordering::Release);
        let [writer, reader, keep] = &self.ends;
        let ended = |end: &flume::Receiver<()>| {
            matches!(end.recv_deadline(deadline), Err(flume::RecvTimeoutError::Disconnected))
        };
        // The reader first: it still hands positions to the writer.
        let told = self.keep.send_deadline(RetentionCommand::Close, deadline).is_ok()
            && self.reader.send_deadline(Request::Close, deadline).is_ok();
        let (reader, keep) = (ended(reader), ended(keep));
        let told = self.writer.send_deadline(Job::Close, deadline).is_ok() && told;
        told && ended(writer) && reader && keep
    }

    /// Ends one of the store's threads, as a panic would.
    #[cfg(test)]
    pub(crate) fn lose_a_thread(&self) {
        self.keep.send(RetentionCommand::Close).ok();
    }

    /// Writes fail from now on, and with the next one the store.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self) {
        self.shared.fail_next_commit.store(true, Ordering::SeqCst);
    }

    /// The database, as the writer has it at the moment. Blocks until the writer answers.
    fn disk(&self) -> Result<Disk, Reject> {
        let (_share, answer) = self.send(|reply| Control::Disk { reply })?;
        answer.recv().map_err(|_| self.shared.gone())
    }

    async fn ask<T>(&self, control: impl FnOnce(flume::Sender<T>) -> Control) -> Result<T, Reject> {
        let (_share, answer) = self.send(control)?;
        answer.recv_async().await.map_err(|_| self.shared.gone())
    }

    /// Sends a request to the writer. It is counted in for as long as the share is held: an ending writer answers it.
    fn send<T>(
        &self,
        control: impl FnOnce(flume::Sender<T>) -> Control,
    ) -> Result<(Share, flume::Receiver<T>), Reject> {
        let (reply, answer) = flume::bounded(1);
        let share = self.shared.share(1, usize::MAX)?;
        self.writer.try_send(Job::Control(control(reply))).map_err(|error| match error {
            flume::TrySendError::Full(_) => Reject::Overloaded("the embedded store's queue"),
            flume::TrySendError::Disconnected(_) => self.shared.gone(),
        })?;
        Ok((share, answer))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // Threads that have ended, or are ending, take nothing.
        self.keep.try_send(RetentionCommand::Close).ok();
        self.reader.try_send(Request::Close).ok();
        self.writer.try_send(Job::Close).ok();
    }
}

/// Starts the store's threads, in the order of [`THREADS`].
fn start(
    dir: &Path,
    shared: &Arc<Shared>,
    (jobs, requests): (flume::Receiver<Job>, flume::Receiver<Request>),
    writer: Writer,
    reader: Reader,
    retention: Retention,
) -> Result<[flume::Receiver<()>; 3], OpenError> {
    let (writer_gate, reader_gate) = (Arc::clone(shared), Arc::clone(shared));
    let [write, read, retain] = THREADS;
    Ok([
        spawn(dir, write, move || heal::run(writer), move || writer_gate.end_writer(&jobs))?,
        spawn(dir, read, move || reader.run(), move || reader_gate.end_reader(&requests))?,
        spawn(dir, retain, move || retention.run(), || {})?,
    ])
}

/// Starts a thread; what is returned disconnects when the thread has dropped all it had. `end` runs last, also
/// after a panic, so that nobody waits for a thread that is gone.
fn spawn(
    dir: &Path,
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) -> Result<flume::Receiver<()>, OpenError> {
    let (ending, ended) = flume::bounded(1);
    let body = move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!(thread = name, "a thread of the embedded store has panicked");
        }
        end();
        drop(ending);
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map(|_| ended).map_err(|error| OpenError::Io(dir.into(), error))
}

fn document(key: &[u8], value: &[u8]) -> Result<Document, Reject> {
    let damaged = || Reject::StoreFailed("a registry document is damaged".into());
    let (revision, value) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
    let key = String::from_utf8(key.to_vec()).map_err(|_| damaged())?;
    Ok(Document { key, revision: u64::from_be_bytes(*revision), value: value.to_vec() })
}
