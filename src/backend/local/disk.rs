//! The store's directory: who holds it, which format it has, and the database in it.
//!
//! ```text
//! <dir>/lock       held while a process has the store open
//! <dir>/store/     FORMAT, SYNCED (see [`super::synced`]), and db/ with what fjall keeps
//! ```
//!
//! A new store is built beside its place and renamed into it when it is complete, so that a crash
//! in the middle of the first start leaves nothing that a second start could trip over.

use super::{
    catalog::LowWatermarks,
    chunk::Chunk,
    format::{self, FORMAT},
    journal::{self, RESTORE},
    retention::DeadRecords,
    synced::{self, Synced},
    tables,
};
use crate::{
    limits::{
        LOCAL_CACHE_BYTES, LOCAL_CHUNK_RECORDS_MAX, LOCAL_COMMIT_BYTES_MAX, LOCAL_JOURNALS_BYTES,
        LOCAL_RECORDS_MEMTABLE_BYTES, LOCAL_RUNS_MAX, LOCAL_SEALED_MEMTABLES_MAX, LOCAL_SMALL_MEMTABLE_BYTES,
        LOCAL_UNFLUSHED_BYTES_MAX,
    },
    reject::Reject,
};
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Why a store does not open.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    InUse(PathBuf),
    /// A file operation failed: on what, and why.
    Io(PathBuf, io::Error),
    /// The format is one that this program does not know: what the file says.
    Format(PathBuf, String),
    /// What is on disk cannot be what this program wrote: what is wrong.
    Damaged(PathBuf, String),
    /// The database below could not be opened.
    Database(PathBuf, fjall::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse(path) => write!(
                formatter,
                "the store in {} is in use by another process; stop it, or choose another --data-dir",
                path.display()
            ),
            Self::Io(path, error) => write!(formatter, "{}: {error}", path.display()),
            Self::Format(path, found) => write!(
                formatter,
                "the store in {} has a format that this version does not know ({found:?}; it knows {:?}); \
                 use the version that wrote it",
                path.display(),
                FORMAT.trim_end()
            ),
            Self::Damaged(path, what) => write!(formatter, "the store in {} is damaged: {what}", path.display()),
            Self::Database(path, error) => {
                write!(formatter, "the store in {} does not open: {}", path.display(), words(error))
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    /// The database in a store's directory failed: names the damaged file if there is one.
    pub(super) fn of_database(dir: &Path, error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::InUse(dir.into()),
            error => match tables::find_damage(&dir.join("store").join("db")) {
                Some(what) => Self::Damaged(dir.into(), format!("{what}. {RESTORE}")),
                None => Self::Database(dir.into(), error),
            },
        }
    }
}

/// What went wrong in the database, in words: the operating system's where it has any.
pub(super) fn words(error: &fjall::Error) -> String {
    match os_error(error) {
        Some(error) => error.to_string(),
        None if matches!(error, fjall::Error::Poisoned) => "what is behind the journal could not be written".to_owned(),
        None => format!("{error:?}"),
    }
}

/// The operating system's error in a database's.
pub(super) fn os_error(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

/// An open database.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) database: Database,
    pub(super) records: Keyspace,
    pub(super) catalog: Keyspace,
    pub(super) cursors: Keyspace,
    pub(super) registry: Keyspace,
    damage: Arc<Damage>,
    /// Held for its drop, which comes last: the lock outlives the database.
    lock: Arc<File>,
}

/// What is known of damaged files of a store.
#[derive(Debug, Default)]
pub(super) struct Damage {
    database: PathBuf,
    /// Somebody looks, or has looked.
    asked: AtomicBool,
    found: OnceLock<Box<str>>,
}

/// Says whether anything still has a store's database open.
#[derive(Debug)]
pub(super) struct Use(Weak<File>);

impl Use {
    pub(super) fn has_ended(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the store in `dir`, making it first if there is none. Returns the number of its last commit and where the next ones
    /// are noted as well.
    pub(super) fn open(
        dir: &Path,
        floors: &Arc<LowWatermarks>,
        damage: &Arc<Damage>,
    ) -> Result<(Self, u64, Synced), OpenError> {
        make_dir(dir).map_err(|error| OpenError::Io(dir.into(), error))?;
        let lock = Arc::new(lock(dir)?);
        let place = dir.join("store");
        let building = dir.join("store.building");
        if building.exists() {
            fs::remove_dir_all(&building).map_err(|error| OpenError::Io(building.clone(), error))?;
        }
        if !place.exists() {
            build(&building, floors, damage, &lock)?;
            fs::rename(&building, &place)
                .and_then(|()| File::open(dir)?.sync_all())
                .map_err(|error| OpenError::Io(place.clone(), error))?;
        }
        check_format(&place.join("FORMAT"))?;
        let database = place.join("db");
        if !database.join("version").exists() {
            return Err(OpenError::Damaged(dir.into(), format!("{} is missing", database.join("version").display())));
        }
        let synced = synced::read(&place).map_err(|error| OpenError::Io(place.clone(), error))?;
        journal::check(&database, synced).map_err(|error| match error {
            journal::JournalError::Io(path, error) => OpenError::Io(path, error),
            journal::JournalError::Damaged(what) => OpenError::Damaged(dir.into(), what),
        })?;
        let disk = Self::open_database(dir, &database, floors, damage, lock)?;
        let number = disk.catalog.get(format::COMMIT).map_err(|error| OpenError::of_database(dir, error))?;
        let number = number.and_then(|value| format::parse_u64(&value)).unwrap_or(0);
        if let Some(synced) = synced.filter(|synced| number < *synced) {
            let text = format!(
                "commit {synced} was synced, and the last one that is there is {number}: acknowledged records are missing. \
                 {RESTORE}; or, to open it with what is left, remove {}",
                place.join(synced::SYNCED).display()
            );
            return Err(OpenError::Damaged(dir.into(), text));
        }
        if synced.is_none() && number > 0 {
            tracing::warn!(
                file = %place.join(synced::SYNCED).display(),
                "this file is missing: whether the end of the journal is missing as well is not known"
            );
        }
        Ok((disk, number, Synced::open(&place, number)))
    }

    fn open_database(
        dir: &Path,
        path: &Path,
        floors: &Arc<LowWatermarks>,
        damage: &Arc<Damage>,
        lock: Arc<File>,
    ) -> Result<Self, OpenError> {
        let failed = |error| OpenError::of_database(dir, error);
        let filters = Arc::clone(floors);
        let database = Database::builder(path)
            // One: with more, the first one spins on the queue for as long as another compacts.
            .worker_threads(1)
            .journal_compression(fjall::CompressionType::None)
            .manual_journal_persist(true)
            .max_journaling_size(LOCAL_JOURNALS_BYTES)
            .cache_size(LOCAL_CACHE_BYTES)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                (keyspace == "records").then(|| DeadRecords::factory(Arc::clone(&filters)))
            }))
            .open()
            .map_err(failed)?;
        let keyspace = |name: &str| {
            database
                .keyspace(name, || {
                    // Never by itself: see `rotate`.
                    KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(u64::MAX)
                })
                .map_err(failed)
        };
        Ok(Self {
            records: keyspace("records")?,
            catalog: keyspace("catalog")?,
            cursors: keyspace("cursors")?,
            registry: keyspace("registry")?,
            database,
            damage: Arc::clone(damage),
            lock,
        })
    }

    /// Says when nothing has the database open any more.
    pub(super) fn in_use(&self) -> Use {
        Use(Arc::downgrade(&self.lock))
    }

    /// What a caller gets when something could not be read; writing goes on. Has the files looked through, once, so that
    /// readiness and the next error name the damaged one.
    pub(super) fn unreadable(&self, error: &fjall::Error) -> Reject {
        if let Some(found) = self.damage.found() {
            return Reject::StoreFailed(format!("{found}. {RESTORE}").into());
        }
        tracing::error!(dir = %self.damage.database.display(), error = words(error), "the embedded store could not read");
        self.look_for_damage();
        Reject::StoreFailed(
            format!("the embedded store could not read below {} ({})", self.damage.database.display(), words(error))
                .into(),
        )
    }

    /// Seals the memtables that are large enough to be written out. Only the writer calls this.
    ///
    /// The database would do it by itself: after each commit over the limit it asks its worker to, by a message in
    /// the worker's bounded queue, and does not notice that it has asked already. While the worker compacts
    /// the queue fills with these; then the worker's own next message has to wait for room that only
    /// the worker could make.
    pub(super) fn rotate(&self) -> fjall::Result<()> {
        for (keyspace, bytes_max) in self.keyspaces() {
            if keyspace.tree.active_memtable().size() > bytes_max
                && keyspace.sealed_memtable_count() < LOCAL_SEALED_MEMTABLES_MAX
            {
                keyspace.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Whether so much waits to be written out or merged that another commit has to wait. The database has
    /// such bounds as well, and waits without an end where they are crossed, even if its worker is dead.
    pub(super) fn is_behind(&self) -> bool {
        let full = |(keyspace, _): (&Keyspace, u64)| {
            keyspace.sealed_memtable_count() >= LOCAL_SEALED_MEMTABLES_MAX
                || keyspace.tree.l0_run_count() >= LOCAL_RUNS_MAX
        };
        self.keyspaces().into_iter().any(full) || self.unflushed_bytes() > LOCAL_UNFLUSHED_BYTES_MAX
    }

    /// Bytes that wait to be written out, at most.
    pub(super) fn unflushed_bytes(&self) -> u64 {
        // Counted here: the database's own count of what is sealed drifts, and nothing ever corrects it.
        let bytes = |(keyspace, bytes_max): (&Keyspace, u64)| {
            let sealed = keyspace.sealed_memtable_count() as u64;
            keyspace.tree.active_memtable().size() + sealed * (bytes_max + LOCAL_COMMIT_BYTES_MAX as u64)
        };
        self.keyspaces().into_iter().map(bytes).sum()
    }

    /// An error if the database has failed behind the writer's back: its worker could not write.
    pub(super) fn check(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::Buffer)
    }

    /// Shows the records of a partition from sequence `from` to `to` in order (time, sequence, body) until `show` breaks.
    /// Records that are not there are passed over.
    pub(super) fn scan(
        &self,
        partition: u32,
        from: u64,
        to: u64,
        mut show: impl FnMut(u64, u64, &[u8]) -> ControlFlow<()>,
    ) -> fjall::Result<()> {
        // The chunk that holds `to` may end behind it.
        let end = to.saturating_add(LOCAL_CHUNK_RECORDS_MAX as u64 - 1);
        for item in self.records.range(format::record_key(partition, from)..=format::record_key(partition, end)) {
            let (key, value) = item.into_inner()?;
            let chunk = Self::chunk(&key, &value)?;
            for (sequence, body) in chunk.records().skip_while(|(sequence, _)| *sequence < from) {
                if sequence > to || show(chunk.time_ms, sequence, body).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the last sequence of the chunk that holds this record, or of the next chunk, and when that was stored.
    pub(super) fn stored(&self, partition: u32, sequence: u64) -> fjall::Result<Option<(u64, u64)>> {
        let keys = format::record_key(partition, sequence)..=format::record_key(partition, u64::MAX);
        let Some(item) = self.records.range(keys).next() else { return Ok(None) };
        let (key, value) = item.into_inner()?;
        let chunk = Self::chunk(&key, &value)?;
        Ok(format::parse_record_key(&key).map(|(_, last)| (last, chunk.time_ms)))
    }

    /// Records of a partition, of `from..=to`, that were removed one by one, and the bytes that each had.
    pub(super) fn removed(&self, partition: u32, from: u64, to: u64) -> fjall::Result<BTreeMap<u64, u64>> {
        let mut removed = BTreeMap::new();
        if from > to {
            return Ok(removed);
        }
        let keys = format::removed_key(partition, from)..=format::removed_key(partition, to);
        for item in self.catalog.range(keys) {
            let (key, value) = item.into_inner()?;
            if let Some((_, sequence)) = format::parse_removed_key(&key) {
                removed.insert(sequence, format::parse_u64(&value).unwrap_or(0));
            }
        }
        Ok(removed)
    }

    /// A chunk of records. One that cannot be read is an error, never nothing: what is passed over counts as done.
    pub(super) fn chunk<'a>(key: &[u8], value: &'a [u8]) -> fjall::Result<Chunk<'a>> {
        Chunk::parse(key, value).ok_or_else(|| {
            let place = format::parse_record_key(key);
            fjall::Error::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the records that end at (partition, sequence) {place:?} are damaged"),
            ))
        })
    }

    /// Has the files looked through, once.
    pub(super) fn look_for_damage(&self) {
        if self.damage.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let damage = Arc::clone(&self.damage);
        let looked = thread::Builder::new().name("store-damage".to_owned()).spawn(move || damage.look());
        if looked.is_err() {
            self.damage.asked.store(false, Ordering::Release);
        }
    }

    /// Each keyspace, and how large its memtable may become.
    fn keyspaces(&self) -> [(&Keyspace, u64); 4] {
        [
            (&self.records, LOCAL_RECORDS_MEMTABLE_BYTES),
            (&self.catalog, LOCAL_SMALL_MEMTABLE_BYTES),
            (&self.cursors, LOCAL_SMALL_MEMTABLE_BYTES),
            (&self.registry, LOCAL_SMALL_MEMTABLE_BYTES),
        ]
    }
}

impl Damage {
    /// Of the store in this directory.
    pub(super) fn new(dir: &Path) -> Self {
        Self { database: dir.join("store").join("db"), ..Self::default() }
    }

    /// The damaged file, once one was found.
    pub(super) fn found(&self) -> Option<&str> {
        self.found.get().map(|found| &**found)
    }

    fn look(&self) {
        if let Some(found) = tables::find_damage(&self.database) {
            tracing::error!(%found, "a file of the embedded store is damaged; the gateway is not ready. {RESTORE}");
            self.found.set(found.into()).ok();
        } else {
            tracing::error!(dir = %self.database.display(), "all files of the embedded store are as they were written; its disk may have failed for a moment");
        }
    }
}

/// Makes the directory, and those that it is in, if they are not there; a power cut then does not lose them.
fn make_dir(dir: &Path) -> io::Result<()> {
    let new: Vec<&Path> = dir.ancestors().take_while(|one| !one.as_os_str().is_empty() && !one.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in new {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Makes an empty, complete store at `place`.
fn build(place: &Path, floors: &Arc<LowWatermarks>, damage: &Arc<Damage>, lock: &Arc<File>) -> Result<(), OpenError> {
    let io = |error| OpenError::Io(place.into(), error);
    DirBuilder::new().mode(0o700).create(place).map_err(io)?;
    let database = place.join("db");
    let disk = Disk::open_database(place, &database, floors, damage, Arc::clone(lock))?;
    disk.catalog
        .insert(format::NEXT_PARTITION, 1_u32.to_be_bytes())
        .and_then(|()| disk.database.persist(PersistMode::SyncAll))
        .map_err(|error| OpenError::Database(database, error))?;
    drop(disk);
    let mut file = File::create_new(place.join("FORMAT")).map_err(io)?;
    file.write_all(FORMAT.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    File::open(place).and_then(|place| place.sync_all()).map_err(io)
}

/// Takes the directory for this process. The kernel lets go of it when the process ends, however it ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| OpenError::Io(path.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(dir.into())),
        Err(fs::TryLockError::Error(error)) => Err(OpenError::Io(path, error)),
    }
}

fn check_format(path: &Path) -> Result<(), OpenError> {
    let mut found = Vec::new();
    File::open(path)
        .and_then(|file| file.take(128).read_to_end(&mut found))
        .map_err(|error| OpenError::Io(path.into(), error))?;
    if found == FORMAT.as_bytes() {
        Ok(())
    } else {
        Err(OpenError::Format(path.into(), String::from_utf8_lossy(&found).trim_end().to_owned()))
    }
}
