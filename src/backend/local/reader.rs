//! The reader thread: owns every consumer group, and reads from disk so that no shard does.
//!
//! A consume call takes at once what is there. If nothing is, it waits in line: what is committed meanwhile
//! goes to the first in line until its batch is full or its time is up, then to the next. A
//! call whose requester has gone is cancelled by its handle, and what it held comes again at once.
//!
//! Cursors are saved behind the acknowledgements, a few times a second: what a crash takes back of them is
//! delivered again, never skipped. They are saved through the writer, so in the journal they
//! follow the records they speak of.
//!
//! Reads by place, and who waits for what comes, are in [`super::read`].

use super::{
    catalog::{StationState, millis},
    clock::Clock,
    disk::Disk,
    format::{self, Record},
    group::{Basket, Group, Source, Take},
    groups::USED_EVERY,
    heal::Pause,
    messages::{FetchRequest, GroupName, Job, Request, Shared},
    read::Watches,
};
use crate::{
    backend::{Delivered, Message, Settlement},
    limits::{LOCAL_CURSOR_RUNS_MAX, LOCAL_IN_FLIGHT_MAX, LOCAL_OPEN_MAX, LOCAL_WAITERS_BYTES_MAX, LOCAL_WAITERS_MAX},
    reject::Reject,
    station::Name,
    wire::Span,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long cursors may lie unsaved.
const SAVE_EVERY_MS: u64 = 100;
/// How long a thread sleeps that has nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);

/// The thread's world.
#[derive(Debug)]
pub(super) struct Reader {
    disk: Disk,
    clock: Clock,
    shared: Arc<Shared>,
    pub(super) inbox: flume::Receiver<Request>,
    writer: flume::Sender<Job>,
    stations: HashMap<Name, Arc<StationState>>,
    groups: HashMap<GroupName, GroupQueue>,
    /// Groups that are not on the disk yet.
    unsaved: BTreeSet<GroupName>,
    /// Groups in which a call waits.
    waiting: BTreeSet<GroupName>,
    watches: Watches,
    waiters: usize,
    waiters_bytes: usize,
    /// Messages of all groups that are in flight or to come again.
    open: Arc<AtomicUsize>,
    /// For each group that waits for something, when to look at it again: the same as its [`GroupQueue::timer_ms`].
    timers: BTreeSet<(u64, GroupName)>,
    /// Groups whose cursors have changed, and when they are to be saved.
    dirty: BTreeSet<GroupName>,
    save_at_ms: Option<u64>,
}

/// A consumer group and who waits in it.
#[derive(Debug)]
struct GroupQueue {
    station: Arc<StationState>,
    group: Group,
    waiters: VecDeque<Waiter>,
    /// When the writer was told that it is used.
    used_ms: Option<u64>,
    /// When a wait or an acknowledgement wait may end.
    timer_ms: Option<u64>,
}

/// A consume call and what it has gathered.
#[derive(Debug)]
struct Waiter {
    request: FetchRequest,
    until_ms: u64,
    gathered: Gathered,
}

/// Messages on their way into one answer.
#[derive(Debug)]
struct Gathered {
    delivered: Delivered,
    records_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// A message did not fit.
    full: bool,
}

impl Gathered {
    fn new(request: &FetchRequest) -> Self {
        Self {
            // The delivery's number stands first; every message's `reply` points at it.
            delivered: Delivered { arena: request.delivery.to_be_bytes().to_vec(), messages: Vec::new() },
            records_max: request.records_max as usize,
            bytes_max: request.bytes_max,
            bytes: 0,
            full: false,
        }
    }
}

impl Basket for Gathered {
    fn is_full(&self) -> bool {
        self.full || self.delivered.messages.len() >= self.records_max
    }

    fn put(&mut self, partition: usize, sequence: u64, deliveries: u32, body: &[u8]) -> Take {
        // A body that does not parse cannot come from the writer; its bytes are delivered rather than hidden.
        let record = Record::parse(body).unwrap_or(Record { headers: b"", payload: body });
        let bytes = record.headers.len() + record.payload.len();
        if !self.delivered.messages.is_empty() && self.bytes + bytes > self.bytes_max {
            self.full = true;
            return Take::Full;
        }
        self.bytes += bytes;
        let arena = &mut self.delivered.arena;
        let headers = Span::append(arena, record.headers);
        let payload = Span::append(arena, record.payload);
        self.delivered.messages.push(Message {
            headers,
            payload,
            reply: Span { start: 0, end: 8 },
            partition: u16::try_from(partition).unwrap_or(u16::MAX),
            sequence,
            deliveries,
        });
        Take::More
    }
}

/// Records of one station.
struct OnDisk<'a> {
    disk: &'a Disk,
    station: &'a StationState,
}

impl Source for OnDisk<'_> {
    type Error = fjall::Error;

    fn bounds(&self, partition: usize) -> (u64, u64) {
        self.station.partitions.get(partition).map_or((1, 0), |state| {
            let mark = state.mark();
            (mark.first, mark.last)
        })
    }

    fn scan(
        &mut self,
        partition: usize,
        from: u64,
        to: u64,
        take: &mut dyn FnMut(u64, &[u8]) -> Take,
    ) -> Result<(), Self::Error> {
        let Some(state) = self.station.partitions.get(partition) else { return Ok(()) };
        self.disk.scan(state.id, from, to, |_, sequence, body| match take(sequence, body) {
            Take::More => ControlFlow::Continue(()),
            Take::Full => ControlFlow::Break(()),
        })
    }
}

impl Reader {
    pub(super) fn new(
        disk: Disk,
        clock: Clock,
        shared: Arc<Shared>,
        inbox: flume::Receiver<Request>,
        writer: flume::Sender<Job>,
        stations: impl IntoIterator<Item = Arc<StationState>>,
    ) -> Self {
        Self {
            disk,
            clock,
            shared,
            inbox,
            writer,
            stations: stations.into_iter().map(|state| (state.station.name.clone(), state)).collect(),
            groups: HashMap::new(),
            unsaved: BTreeSet::new(),
            waiting: BTreeSet::new(),
            watches: Watches::default(),
            waiters: 0,
            waiters_bytes: 0,
            open: Arc::default(),
            timers: BTreeSet::new(),
            dirty: BTreeSet::new(),
            save_at_ms: None,
        }
    }

    /// Runs until the store closes.
    pub(super) fn run(mut self) {
        while let Some(pause) = self.serve_until_pause() {
            let (clock, shared, inbox, writer) = self.let_go();
            let refused = || Reject::StoreFailed("the embedded store is being opened anew".into());
            let fresh = pause.wait(&inbox, |request| match request {
                Request::Fetch(request) => {
                    request.reply.try_send(Err(refused())).ok();
                    false
                }
                Request::Read(request) => {
                    request.refuse(refused());
                    false
                }
                Request::Watch(request) => {
                    request.refuse(refused());
                    false
                }
                // What was delivered before is delivered again.
                request => matches!(request, Request::Close),
            });
            let Some(fresh) = fresh else { return };
            self = Self::new(fresh.disk, clock, shared, inbox, writer, fresh.stations);
        }
    }

    /// Answers who waits, and lets go of the database.
    fn let_go(mut self) -> (Clock, Arc<Shared>, flume::Receiver<Request>, flume::Sender<Job>) {
        self.end(&Reject::StoreFailed("the embedded store is being opened anew".into()), Duration::from_secs(1));
        let Self { clock, shared, inbox, writer, .. } = self;
        (clock, shared, inbox, writer)
    }

    /// Runs until the store closes (`None`) or is to be opened anew.
    fn serve_until_pause(&mut self) -> Option<Pause> {
        loop {
            let first = match self.inbox.recv_timeout(self.sleep()) {
                Ok(request) => Some(request),
                Err(flume::RecvTimeoutError::Timeout) => None,
                Err(flume::RecvTimeoutError::Disconnected) => Some(Request::Close),
            };
            // Before the partitions are looked at: a commit after this sends its own wake.
            self.shared.wake_sent.swap(false, Ordering::SeqCst);
            let now_ms = self.clock.monotonic_ms();
            // Everything that was sent before this turn; what comes meanwhile has the next.
            let mut left = self.inbox.len();
            let mut next = first;
            while let Some(request) = next {
                match request {
                    Request::Close => {
                        self.end(&Reject::Draining, Duration::from_secs(1));
                        return None;
                    }
                    Request::Pause(pause) => return Some(pause),
                    request => self.handle(request, now_ms),
                }
                next = if left == 0 { None } else { self.inbox.try_recv().ok() };
                left = left.saturating_sub(1);
            }
            self.fire(now_ms);
            self.serve_all(now_ms);
            self.watches.serve();
            self.save_if_due(now_ms);
        }
    }

    /// How long there is nothing to do unless something is sent.
    fn sleep(&self) -> Duration {
        let timer = self.timers.first().map(|(at_ms, _)| *at_ms);
        let due = timer.into_iter().chain(self.save_at_ms).min();
        due.map_or(IDLE, |at_ms| Duration::from_millis(at_ms.saturating_sub(self.clock.monotonic_ms())).min(IDLE))
    }

    fn handle(&mut self, request: Request, now_ms: u64) {
        match request {
            Request::Fetch(request) => self.fetch(request, now_ms),
            Request::Settle { group, delivery, settlement, messages } => {
                self.settle(&group, delivery, settlement, &messages, now_ms);
            }
            Request::Cancel { group, delivery } => self.cancel(&group, delivery, now_ms),
            Request::Read(request) => request.serve(&self.disk, &self.stations),
            Request::Watch(request) => self.watches.add(request, &self.stations),
            Request::StationCame(state) => drop(self.stations.insert(state.station.name.clone(), state)),
            Request::StationWent(name) => self.forget(&name),
            Request::GroupCame(name) => drop(self.unsaved.insert(name)),
            Request::GroupWent(name) => self.forget_group(name),
            Request::Wake | Request::Close | Request::Pause(_) => {}
        }
    }

    fn fetch(&mut self, request: FetchRequest, now_ms: u64) {
        let name = request.group.clone();
        if let Err(why) = self.load(&name) {
            request.reply.try_send(Err(why)).ok();
            return;
        }
        let delivery = request.delivery;
        let until_ms = now_ms.saturating_add(millis(request.wait));
        let gathered = Gathered::new(&request);
        let Some(line) = self.groups.get_mut(&name) else { return };
        // Lost if the queue is full: then it is said with the next call.
        if line.used_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= millis(USED_EVERY))
            && self.writer.try_send(Job::Used(name.clone())).is_ok()
        {
            line.used_ms = Some(now_ms);
        }
        if line.group.is_refused() {
            request.reply.try_send(Err(Reject::Overloaded("the number of unacknowledged messages"))).ok();
            return;
        }
        let at_once = line.waiters.is_empty();
        line.waiters.push_back(Waiter { request, until_ms, gathered });
        self.waiters += 1;
        self.waiting.insert(name.clone());
        if at_once {
            self.serve(&name, now_ms, true);
        }
        // Still there: it waits, if it may.
        if let Some(line) = self.groups.get_mut(&name)
            && line.waiters.back().is_some_and(|waiter| waiter.request.delivery == delivery)
        {
            if now_ms >= until_ms || self.waiters > LOCAL_WAITERS_MAX {
                let refused = (now_ms < until_ms).then_some(Reject::Overloaded("the number of waiting consume calls"));
                if let Some(waiter) = line.waiters.pop_back() {
                    self.answer(&name, waiter, refused, now_ms);
                }
            } else {
                self.arm(&name, until_ms);
            }
        }
    }

    /// Looks at a group at `at_ms` at the latest.
    fn arm(&mut self, name: &GroupName, at_ms: u64) {
        let Some(line) = self.groups.get_mut(name) else { return };
        if line.timer_ms.is_some_and(|armed| armed <= at_ms) {
            return;
        }
        if let Some(armed) = line.timer_ms.replace(at_ms) {
            self.timers.remove(&(armed, name.clone()));
        }
        self.timers.insert((at_ms, name.clone()));
    }

    /// Gives what is there to those who wait, in their order. `at_once`: the first one takes what there is.
    fn serve(&mut self, name: &GroupName, now_ms: u64, at_once: bool) {
        while let Some(line) = self.groups.get_mut(name)
            && let Some(waiter) = line.waiters.front_mut()
        {
            let mut source = OnDisk { disk: &self.disk, station: &line.station };
            if !line.group.has_some(&source) {
                return;
            }
            let before = waiter.gathered.bytes;
            let result = line.group.fill(waiter.request.delivery, &mut waiter.gathered, &mut source);
            self.waiters_bytes += waiter.gathered.bytes - before;
            mark_dirty(&mut self.dirty, &mut self.save_at_ms, name, now_ms);
            let some = !waiter.gathered.delivered.messages.is_empty();
            let ends = result.is_err()
                || waiter.gathered.is_full()
                || (at_once && some)
                || (some && self.waiters_bytes > LOCAL_WAITERS_BYTES_MAX);
            if !ends {
                return;
            }
            let refused = result.err().map(|error| self.disk.unreadable(&error));
            if let Some(waiter) = line.waiters.pop_front() {
                self.answer(name, waiter, refused, now_ms);
            }
        }
    }

    fn serve_all(&mut self, now_ms: u64) {
        let (groups, disk) = (&self.groups, &self.disk);
        self.waiting.retain(|name| groups.get(name).is_some_and(|line| !line.waiters.is_empty()));
        let is_ready = |name: &&GroupName| {
            groups.get(*name).is_some_and(|line| line.group.has_some(&OnDisk { disk, station: &line.station }))
        };
        let ready: Vec<GroupName> = self.waiting.iter().filter(is_ready).cloned().collect();
        for name in ready {
            self.serve(&name, now_ms, false);
        }
    }

    /// Answers a call that is no longer in line.
    fn answer(&mut self, name: &GroupName, waiter: Waiter, refused: Option<Reject>, now_ms: u64) {
        self.waiters -= 1;
        self.waiters_bytes -= waiter.gathered.bytes;
        let Waiter { request, gathered, .. } = waiter;
        let Some(line) = self.groups.get_mut(name) else { return };
        if let Some(why) = refused {
            line.group.release(request.delivery);
            request.reply.try_send(Err(why)).ok();
            return;
        }
        let mut delivered = gathered.delivered;
        delivered.messages.sort_by_key(|message| (message.partition, message.sequence));
        let some = !delivered.messages.is_empty();
        if request.reply.try_send(Ok(delivered)).is_err() {
            line.group.release(request.delivery);
        } else if some {
            let deadline_ms = now_ms.saturating_add(millis(request.ack_wait));
            line.group.hand_out(request.delivery, deadline_ms);
            self.arm(name, deadline_ms);
        }
    }

    fn settle(
        &mut self,
        name: &GroupName,
        delivery: u64,
        settlement: Settlement,
        messages: &[(u16, u64)],
        now_ms: u64,
    ) {
        // A group that is not loaded was not loaded since the start: what was delivered before counts still.
        if self.load(name).is_err() {
            return;
        }
        let Some(line) = self.groups.get_mut(name) else { return };
        for (partition, sequence) in messages {
            match settlement {
                Settlement::Acknowledge => line.group.acknowledge(usize::from(*partition), *sequence),
                Settlement::Redeliver => line.group.redeliver(delivery, usize::from(*partition), *sequence),
            }
        }
        mark_dirty(&mut self.dirty, &mut self.save_at_ms, name, now_ms);
    }

    fn cancel(&mut self, name: &GroupName, delivery: u64, now_ms: u64) {
        let Some(line) = self.groups.get_mut(name) else { return };
        line.group.release(delivery);
        let place = line.waiters.iter().position(|waiter| waiter.request.delivery == delivery);
        if let Some(waiter) = place.and_then(|at| line.waiters.remove(at)) {
            self.answer(name, waiter, Some(Reject::Draining), now_ms);
        }
    }

    /// Ends the waits and the acknowledgement waits whose time is up.
    fn fire(&mut self, now_ms: u64) {
        while self.timers.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms)
            && let Some((_, name)) = self.timers.pop_first()
        {
            let Some(line) = self.groups.get_mut(&name) else { continue };
            line.timer_ms = None;
            line.group.expire(now_ms);
            // What is there goes to who waits, also to one whose time is up.
            self.serve(&name, now_ms, false);
            while let Some(line) = self.groups.get_mut(&name)
                && let Some(at) = line.waiters.iter().position(|waiter| waiter.until_ms <= now_ms)
                && let Some(waiter) = line.waiters.remove(at)
            {
                self.answer(&name, waiter, None, now_ms);
            }
            let Some(line) = self.groups.get(&name) else { continue };
            let waits = line.waiters.iter().map(|waiter| waiter.until_ms);
            if let Some(at_ms) = waits.chain(line.group.next_deadline_ms()).min() {
                self.arm(&name, at_ms);
            }
        }
    }

    /// Brings a group into memory.
    fn load(&mut self, name: &GroupName) -> Result<(), Reject> {
        if self.groups.contains_key(name) {
            return Ok(());
        }
        let unreadable = |error: fjall::Error| self.disk.unreadable(&error);
        let Some(station) = self.stations.get(&name.station) else { return Err(Reject::NoStream) };
        let key = format::group_key(name.station.as_str(), &name.durable);
        if !self.unsaved.contains(name) && !self.disk.catalog.contains_key(key).map_err(unreadable)? {
            return Err(Reject::NoStream);
        }
        let mut saved = Vec::with_capacity(station.partitions.len());
        for partition in &station.partitions {
            let mark = partition.mark();
            let value = self.disk.cursors.get(format::cursor_key(partition.id, &name.durable)).map_err(unreadable)?;
            let (next, mut open) = value.as_deref().and_then(format::parse_cursor).unwrap_or((mark.first, Vec::new()));
            open.retain(|(_, to)| *to >= mark.first && *to <= mark.last);
            // Not past what is there: a sequence that is still to be given out was never delivered.
            saved.push((next.min(mark.last + 1), open));
        }
        let group = Group::new(saved, LOCAL_IN_FLIGHT_MAX, &self.open, LOCAL_OPEN_MAX);
        let line =
            GroupQueue { station: Arc::clone(station), group, waiters: VecDeque::new(), used_ms: None, timer_ms: None };
        self.groups.insert(name.clone(), line);
        Ok(())
    }

    /// A station was deleted: who waits for it learns that.
    fn forget(&mut self, station: &Name) {
        self.stations.remove(station);
        self.watches.forget(station);
        self.unsaved.retain(|name| name.station != *station);
        let gone: Vec<GroupName> = self.groups.keys().filter(|name| name.station == *station).cloned().collect();
        for name in gone {
            self.forget_group(name);
        }
    }

    /// A group was removed: who waits in it learns that.
    fn forget_group(&mut self, name: GroupName) {
        self.unsaved.remove(&name);
        self.waiting.remove(&name);
        self.dirty.remove(&name);
        let Some(line) = self.groups.remove(&name) else { return };
        if let Some(armed) = line.timer_ms {
            self.timers.remove(&(armed, name));
        }
        for waiter in line.waiters {
            self.waiters -= 1;
            self.waiters_bytes -= waiter.gathered.bytes;
            waiter.request.reply.try_send(Err(Reject::NoStream)).ok();
        }
    }

    fn save_if_due(&mut self, now_ms: u64) {
        if self.save_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.save_at_ms = None;
            if !self.save(Duration::ZERO) {
                self.save_at_ms = Some(now_ms + SAVE_EVERY_MS);
            }
        }
    }

    /// Hands what has changed to the writer, waiting at most `patience` for room in its queue.
    fn save(&mut self, patience: Duration) -> bool {
        let mut cursors = Vec::new();
        let mut places = Vec::new();
        for name in std::mem::take(&mut self.dirty) {
            let Some(line) = self.groups.get_mut(&name).filter(|line| !line.station.is_deleted()) else { continue };
            for (partition, next, open) in line.group.take_dirty(LOCAL_CURSOR_RUNS_MAX) {
                let Some(state) = line.station.partitions.get(partition) else { continue };
                cursors.push((format::cursor_key(state.id, &name.durable), format::cursor_value(next, &open)));
                places.push((name.clone(), partition));
            }
        }
        if cursors.is_empty() || self.writer.send_timeout(Job::Cursors(cursors), patience).is_ok() {
            return true;
        }
        for (name, partition) in places {
            if let Some(line) = self.groups.get_mut(&name) {
                line.group.mark_dirty(partition);
            }
            self.dirty.insert(name);
        }
        false
    }

    /// Answers everybody who waits and hands the positions to the writer.
    fn end(&mut self, why: &Reject, patience: Duration) {
        self.watches.end(why);
        let names: Vec<GroupName> = self.groups.keys().cloned().collect();
        let now_ms = self.clock.monotonic_ms();
        for name in names {
            while let Some(waiter) = self.groups.get_mut(&name).and_then(|line| line.waiters.pop_front()) {
                let refused = waiter.gathered.delivered.messages.is_empty().then(|| why.clone());
                self.answer(&name, waiter, refused, now_ms);
            }
        }
        if !self.save(patience) {
            tracing::warn!("consumer positions could not be saved; some messages come again after the next start");
        }
    }
}

fn mark_dirty(dirty: &mut BTreeSet<GroupName>, save_at_ms: &mut Option<u64>, name: &GroupName, now_ms: u64) {
    if !dirty.contains(name) {
        dirty.insert(name.clone());
    }
    save_at_ms.get_or_insert(now_ms + SAVE_EVERY_MS);
}
