//! Reads by place, and waits for what comes: outside of any consumer group, with a position that the reader keeps.
//!
//! Whoever has read to the end waits for more. However many wait on a station, one task of the shard watches it, and
//! wakes those for whom something has come. They all read the same then: a read that says so shares the answer of one
//! that is under way. So a thousand readers of one station cost the store one watch and one read at a time.

use crate::{
    backend::{Backend, Bounds, Page, Read, Start, Watch},
    budget::{Budget, Held},
    directory::{Directory, Local},
    limits::{
        READ_BYTES_MAX, READ_RECORDS_MAX, READS_PER_SHARD_MAX, RECORD_WAITERS_PER_SHARD_MAX, RECORDS_WAIT_MAX,
        WATCH_LINGER, WATCHES_PER_SHARD_MAX,
    },
    metrics::ShardMetrics,
    reject::Reject,
    rt::{self, Notify, Once, Waiters},
    station::{Name, Station},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A read of one partition.
#[derive(Debug, Clone, Copy)]
pub struct ReadCall<'a> {
    /// The station to read. It is never made.
    pub station: &'a Name,
    /// Index of the partition.
    pub partition: u16,
    /// Where it begins.
    pub start: Start,
    /// Where it ends; no more than a read may have.
    pub bounds: Bounds,
    /// Whether the answer of the same read will do if one is under way: what was stored after that began may not be in it.
    pub may_share: bool,
    /// When the call is handled.
    pub now: Instant,
}

/// A page that was read, counted in the shard's memory until it is dropped.
#[derive(Debug)]
pub struct HeldPage {
    page: Page,
    _held: Held,
}

impl Deref for HeldPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

/// How a wait for records has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// These partitions have what was waited for.
    Records(Vec<u16>),
    /// The time is up.
    TimeUp,
    /// The shard drains.
    Draining,
}

/// Reads and waits of one shard.
#[derive(Debug)]
pub struct Reader {
    /// Stations.
    directory: Rc<Directory>,
    /// Where records are stored.
    backend: Backend,
    /// Bytes that the shard may hold.
    budget: Rc<Budget>,
    /// Where reads are counted.
    metrics: Arc<ShardMetrics>,
    /// Set when the shard drains.
    draining: Rc<Once>,
    /// Reads under way.
    open: Cell<usize>,
    /// Those among them whose answer may be shared.
    shared: RefCell<HashMap<Place, Rc<Shared>>>,
    watches: RefCell<HashMap<Name, Rc<Watched>>>,
    waiters: Cell<usize>,
}

/// What two reads have in common that may share an answer.
type Place = (Name, u16, Start, Bounds);
type Answer = Result<Rc<HeldPage>, Reject>;

/// A read that others wait for as well.
#[derive(Debug, Default)]
struct Shared {
    answer: RefCell<Option<Answer>>,
    answered: Waiters,
}

/// A place among the reads under way, left when it is dropped.
struct Open<'a>(&'a Cell<usize>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Reader {
    /// Returns the service of a shard.
    #[must_use]
    pub fn new(
        directory: Rc<Directory>,
        backend: Backend,
        budget: Rc<Budget>,
        metrics: Arc<ShardMetrics>,
        draining: Rc<Once>,
    ) -> Rc<Self> {
        Rc::new(Self {
            directory,
            backend,
            budget,
            metrics,
            draining,
            open: Cell::new(0),
            shared: RefCell::default(),
            watches: RefCell::default(),
            waiters: Cell::new(0),
        })
    }

    /// Returns how many partitions a station has. It is never made.
    pub async fn partitions(&self, station: &Name, now: Instant) -> Result<u16, Reject> {
        let found = self.directory.readable(station, now).await?;
        Ok(u16::try_from(found.partitions.len()).unwrap_or(u16::MAX))
    }

    /// Reads records by place.
    pub async fn read(self: &Rc<Self>, call: &ReadCall<'_>) -> Result<Rc<HeldPage>, Reject> {
        if !call.may_share {
            return self.read_alone(call).await;
        }
        let place = (call.station.clone(), call.partition, call.start, call.bounds);
        let known = self.shared.borrow().get(&place).map(Rc::clone);
        let shared = known.unwrap_or_else(|| self.begin_shared(place, call.now));
        loop {
            let answered = shared.answered.changed();
            if let Some(answer) = &*shared.answer.borrow() {
                return answer.clone();
            }
            answered.await;
        }
    }

    /// Begins a read whose answer does not depend on who waits for it.
    fn begin_shared(self: &Rc<Self>, place: Place, now: Instant) -> Rc<Shared> {
        let shared = Rc::new(Shared::default());
        self.shared.borrow_mut().insert(place.clone(), Rc::clone(&shared));
        let (reader, own) = (Rc::clone(self), Rc::clone(&shared));
        rt::spawn(async move {
            let (station, partition, start, bounds) = &place;
            let (partition, start, bounds) = (*partition, *start, *bounds);
            let answer = reader.read_alone(&ReadCall { station, partition, start, bounds, may_share: true, now }).await;
            reader.shared.borrow_mut().remove(&place);
            *own.answer.borrow_mut() = Some(answer);
            own.answered.wake_all();
        });
        shared
    }

    async fn read_alone(&self, call: &ReadCall<'_>) -> Answer {
        if self.open.get() >= READS_PER_SHARD_MAX {
            return Err(Reject::Overloaded("the number of reads at a time"));
        }
        self.open.set(self.open.get() + 1);
        self.metrics.reads.increment();
        let _open = Open(&self.open);
        match self.attempt(call).await {
            // The stream was removed under us: look again, once.
            Err(Reject::NoStream) => {
                self.directory.forget(call.station);
                self.attempt(call).await
            }
            outcome => outcome,
        }
    }

    async fn attempt(&self, call: &ReadCall<'_>) -> Answer {
        let station = self.directory.readable(call.station, call.now).await?;
        let partition = call.partition;
        if usize::from(partition) >= station.partitions.len() {
            return Err(Reject::Field("the station has no such partition"));
        }
        // Others need room as well, and whoever encodes the page needs it again.
        let bytes = call.bounds.bytes.min(READ_BYTES_MAX).min(self.budget.left() / 4);
        let bounds = Bounds { records: call.bounds.records.min(READ_RECORDS_MAX), bytes };
        let mut held = self.budget.hold();
        held.grow_to(bytes)?;
        let page = self.backend.read(&Read { station: &station, partition, start: call.start, bounds }).await?;
        held.grow_to(page.bytes())?;
        held.shrink_to(page.bytes());
        Ok(Rc::new(HeldPage { page, _held: held }))
    }
}

/// A station on which somebody waits, or did a moment ago.
#[derive(Debug)]
struct Watched {
    /// As it was last found.
    station: RefCell<Arc<Station>>,
    waiting: RefCell<HashMap<u64, Rc<Waiting>>>,
    numbers: Cell<u64>,
    /// The lowest sequence that is watched for, of each partition.
    armed: RefCell<BTreeMap<u16, u64>>,
    /// The task has something to look at.
    changed: Notify,
}

/// Who waits.
#[derive(Debug)]
struct Waiting {
    /// Partitions, and the sequence that is wanted of each.
    places: Box<[(u16, u64)]>,
    ended: RefCell<Option<Result<Arrival, Reject>>>,
    notify: Notify,
}

impl Waiting {
    fn end(&self, how: Result<Arrival, Reject>) {
        *self.ended.borrow_mut() = Some(how);
        self.notify.notify();
    }
}

/// A wait that is counted. Dropped, it leaves nothing behind.
struct Registered {
    reader: Rc<Reader>,
    watched: Rc<Watched>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.reader.waiters.set(self.reader.waiters.get() - 1);
        let mut waiting = self.watched.waiting.borrow_mut();
        waiting.remove(&self.number);
        if waiting.is_empty() {
            self.watched.changed.notify();
        }
    }
}

impl Reader {
    /// Waits until one of the partitions has a record at or after the sequence that stands beside it. May be dropped at
    /// any point.
    pub async fn wait(
        self: &Rc<Self>,
        station: &Name,
        places: &[(u16, u64)],
        wait: Duration,
        now: Instant,
    ) -> Result<Arrival, Reject> {
        if self.draining.is_set() {
            return Ok(Arrival::Draining);
        }
        let found = self.directory.readable(station, now).await?;
        if places.iter().any(|(partition, _)| usize::from(*partition) >= found.partitions.len()) {
            return Err(Reject::Field("the station has no such partition"));
        }
        if self.waiters.get() >= RECORD_WAITERS_PER_SHARD_MAX {
            return Err(Reject::Overloaded("the number of reads that wait for records"));
        }
        let watched = self.watched(&found)?;
        let waiting = Rc::new(Waiting { places: places.into(), ended: RefCell::default(), notify: Notify::default() });
        let _registered = self.register(watched, &waiting);
        let ended = rt::deadline(wait.min(RECORDS_WAIT_MAX), waiting.notify.wait()).await;
        match waiting.ended.take() {
            Some(how) => how,
            None if ended.is_err() => Ok(Arrival::TimeUp),
            None => Err(Reject::Internal("woken without a reason")),
        }
    }

    /// Returns the watch of a station, which is begun if there is none.
    fn watched(self: &Rc<Self>, station: &Local<Station>) -> Result<Rc<Watched>, Reject> {
        let mut watches = self.watches.borrow_mut();
        if let Some(watched) = watches.get(&station.name) {
            // What is watched is the station as it is now.
            if !Arc::ptr_eq(&watched.station.borrow(), station.shared()) {
                *watched.station.borrow_mut() = Arc::clone(station.shared());
                watched.changed.notify();
            }
            return Ok(Rc::clone(watched));
        }
        if watches.len() >= WATCHES_PER_SHARD_MAX {
            return Err(Reject::Overloaded("the number of stations that reads wait for"));
        }
        let watched = Rc::new(Watched {
            station: RefCell::new(Arc::clone(station.shared())),
            waiting: RefCell::default(),
            numbers: Cell::new(0),
            armed: RefCell::default(),
            changed: Notify::default(),
        });
        watches.insert(station.name.clone(), Rc::clone(&watched));
        rt::spawn(Rc::clone(self).watch(Rc::clone(&watched)));
        Ok(watched)
    }

    fn register(self: &Rc<Self>, watched: Rc<Watched>, waiting: &Rc<Waiting>) -> Registered {
        let number = watched.numbers.get();
        watched.numbers.set(number + 1);
        watched.waiting.borrow_mut().insert(number, Rc::clone(waiting));
        self.waiters.set(self.waiters.get() + 1);
        let armed = watched.armed.borrow();
        if waiting.places.iter().any(|(partition, sequence)| armed.get(partition).is_none_or(|armed| sequence < armed))
        {
            watched.changed.notify();
        }
        drop(armed);
        Registered { reader: Rc::clone(self), watched, number }
    }

    /// Watches a station until nobody has waited on it for a while.
    async fn watch(self: Rc<Self>, watched: Rc<Watched>) {
        let mut watch: Option<(Arc<Station>, Watch)> = None;
        while let Some(wanted) = self.wanted(&watched).await {
            let station = Arc::clone(&watched.station.borrow());
            let is_same = watch.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &station));
            let mut current = match watch.take().filter(|_| is_same) {
                Some((_, current)) => current,
                None => self.backend.watch(Arc::clone(&station)),
            };
            let work = rt::unless(watched.changed.wait(), current.reached(&wanted));
            let reached = rt::unless(self.draining.wait(), work).await;
            watch = Some((station, current));
            match reached {
                None => break,
                Some(None) => {}
                Some(Some(Ok(reached))) => watched.wake(&reached),
                Some(Some(Err(reject))) => {
                    if reject == Reject::NoStream {
                        self.directory.forget(&watched.station.borrow().name);
                    }
                    watched.end(&Err(reject));
                }
            }
        }
        let name = watched.station.borrow().name.clone();
        self.watches.borrow_mut().remove(&name);
        watched.end(&Ok(Arrival::Draining));
    }

    /// Returns what is waited for; `None`: nobody has waited for a while, or the shard drains.
    async fn wanted(&self, watched: &Watched) -> Option<Vec<(u16, u64)>> {
        if self.draining.is_set() {
            return None;
        }
        let wanted = watched.arm();
        if !wanted.is_empty() {
            return Some(wanted);
        }
        // Those who were woken read, and come back.
        rt::deadline(WATCH_LINGER, watched.changed.wait()).await.ok();
        Some(watched.arm()).filter(|wanted| !wanted.is_empty())
    }
}

impl Watched {
    /// Takes in what everybody waits for now.
    fn arm(&self) -> Vec<(u16, u64)> {
        let mut armed = self.armed.borrow_mut();
        armed.clear();
        for (partition, sequence) in self.waiting.borrow().values().flat_map(|waiting| &waiting.places) {
            let lowest = armed.entry(*partition).or_insert(*sequence);
            *lowest = (*lowest).min(*sequence);
        }
        armed.iter().map(|(partition, sequence)| (*partition, *sequence)).collect()
    }

    /// Wakes those for whom something has come.
    fn wake(&self, reached: &[(u16, u64)]) {
        let newest: BTreeMap<u16, u64> = reached.iter().copied().collect();
        let is_reached =
            |(partition, sequence): &&(u16, u64)| newest.get(partition).is_some_and(|last| last >= sequence);
        self.waiting.borrow_mut().retain(|_, waiting| {
            let reached: Vec<u16> = waiting.places.iter().filter(is_reached).map(|(partition, _)| *partition).collect();
            let waits = reached.is_empty();
            if !waits {
                waiting.end(Ok(Arrival::Records(reached)));
            }
            waits
        });
    }

    /// Ends all waits.
    fn end(&self, how: &Result<Arrival, Reject>) {
        for (_, waiting) in self.waiting.borrow_mut().drain() {
            waiting.end(how.clone());
        }
    }
}

#[cfg(test)]
mod tests;
