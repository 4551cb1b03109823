//! One thread of the generator: an event loop over its connections.

use super::{
    connection::{Connection, Phase, Received},
    request::Encoder,
    schedule::{Nanos, Schedule, nanos},
    tally::{Failure, Tally, is_success},
};
use crate::rt::clock;
use mio::{Events, Interest, Poll, Registry, Token, event::Event, net::TcpStream, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The parameters of a worker.
pub(super) struct Orders<'a> {
    /// The time from which nanoseconds count, the same for all workers.
    pub(super) epoch: Instant,
    /// The address, to connect again.
    pub(super) address: SocketAddr,
    /// Established connections, at least one.
    pub(super) streams: Vec<std::net::TcpStream>,
    /// Number of requests in flight on each.
    pub(super) pipeline: usize,
    /// The times at which requests begin.
    pub(super) schedule: Schedule,
    /// Encodes the requests.
    pub(super) encoder: Encoder<'a>,
    /// Time after which a request is given up.
    pub(super) timeout: Duration,
}

/// The counts of a worker that others see while it runs. Only the worker writes them, now and then.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Answers so far, with those of the warm-up.
    pub(super) answers: AtomicU64,
    /// Records so far.
    pub(super) records: AtomicU64,
    /// Failures so far.
    pub(super) failures: AtomicU64,
}

/// Makes the requests of `orders` until they are all made and answered, or until `stop` is set and they are answered.
pub(super) fn run(orders: Orders<'_>, sight: &Sight, stop: &AtomicBool) -> Result<Tally, String> {
    let mut worker = Worker::new(orders).map_err(|error| error.to_string())?;
    worker.run(sight, stop)?;
    Ok(worker.tally)
}

struct Worker<'a> {
    epoch: Instant,
    address: SocketAddr,
    pipeline: usize,
    timeout: Nanos,
    poll: Poll,
    timer: Timer,
    schedule: Schedule,
    encoder: Encoder<'a>,
    connections: Vec<Connection<'a>>,
    /// Connections that may have room, each at most once: `is_free` says which are in it.
    free: VecDeque<usize>,
    is_free: Vec<bool>,
    in_flight: usize,
    tally: Tally,
    seen: Seen,
    /// When there was a connection last.
    reached: Nanos,
    scratch: Vec<u8>,
}

/// Counts for the progress line, which includes the warm-up.
#[derive(Debug, Default)]
struct Seen {
    answers: u64,
    records: u64,
    failures: u64,
}

impl<'a> Worker<'a> {
    fn new(orders: Orders<'a>) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let count = orders.streams.len();
        let mut connections = Vec::with_capacity(count);
        for (index, stream) in orders.streams.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            let mut connection = Connection::open(TcpStream::from_std(stream));
            register(poll.registry(), &mut connection, index)?;
            connections.push(connection);
        }
        Ok(Self {
            epoch: orders.epoch,
            address: orders.address,
            pipeline: orders.pipeline,
            timeout: nanos(orders.timeout),
            timer: Timer::new(poll.registry(), count)?,
            poll,
            schedule: orders.schedule,
            encoder: orders.encoder,
            connections,
            free: (0..count).collect(),
            is_free: vec![true; count],
            in_flight: 0,
            tally: Tally::default(),
            seen: Seen::default(),
            reached: 0,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn run(&mut self, sight: &Sight, stop: &AtomicBool) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut now = self.now();
        let mut swept = now;
        self.reached = now;
        self.issue(now);
        while self.in_flight > 0 || !self.schedule.is_finished(now) {
            self.wait(&mut events, now).map_err(|error| format!("poll: {error}"))?;
            for event in &events {
                self.handle(event);
            }
            now = self.now();
            self.issue(now);
            if now - swept >= nanos(TICK) {
                swept = now;
                self.show(sight);
                if stop.load(Relaxed) {
                    self.schedule.stop();
                }
                self.sweep(now)?;
            }
        }
        self.show(sight);
        Ok(())
    }

    fn now(&self) -> Nanos {
        nanos(clock::since(self.epoch))
    }

    /// Waits until a connection is ready, the next request is due, or the next tick.
    fn wait(&mut self, events: &mut Events, now: Nanos) -> std::io::Result<()> {
        let mut timeout = TICK;
        match self.schedule.wake_at() {
            // Without a free connection there is no use in waking: an answer will.
            Some(due) if !self.free.is_empty() && due <= now => timeout = Duration::ZERO,
            Some(due) if !self.free.is_empty() => self.timer.arm(due, now)?,
            _ => {}
        }
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn handle(&mut self, event: &Event) {
        let Token(index) = event.token();
        let Some(connection) = self.connections.get_mut(index) else {
            self.timer.fired();
            return;
        };
        if connection.phase() == Phase::Connecting {
            match connection.connected() {
                Ok(true) => self.offer(index),
                Ok(false) => {}
                Err(_) => self.lose(index, Failure::Connect),
            }
            return;
        }
        if event.is_writable()
            && let Err(failure) = connection.flush()
        {
            return self.lose(index, failure);
        }
        if event.is_readable() || event.is_read_closed() {
            self.receive(index, event.is_read_closed());
        } else {
            self.offer(index);
        }
        let now = self.now();
        self.issue(now);
    }

    fn receive(&mut self, index: usize, to_end: bool) {
        let now = nanos(clock::since(self.epoch));
        let (tally, seen, in_flight) = (&mut self.tally, &mut self.seen, &mut self.in_flight);
        let Some(connection) = self.connections.get_mut(index) else { return };
        let received = connection.receive(&mut self.scratch, to_end, |answer| {
            *in_flight -= 1;
            seen.answers += 1;
            if is_success(answer.status) {
                seen.records += answer.records;
            } else {
                seen.failures += 1;
            }
            if answer.start.measured {
                tally.answered(answer.status, answer.start.at, now, answer.records, answer.payload_bytes);
            } else if !is_success(answer.status) {
                tally.warmup_failures += 1;
            }
        });
        match received {
            Ok(Received::Drained) => self.offer(index),
            Ok(Received::Closing) => self.lose(index, Failure::Closed),
            Err(failure) => self.lose(index, failure),
        }
    }

    /// Puts a connection that has room among the free ones.
    fn offer(&mut self, index: usize) {
        let has_room = self.connections.get(index).is_some_and(|connection| connection.has_room(self.pipeline));
        if let Some(is_free) = self.is_free.get_mut(index)
            && has_room
            && !*is_free
        {
            *is_free = true;
            self.free.push_back(index);
        }
    }

    /// Gives the requests that are due to free connections.
    fn issue(&mut self, now: Nanos) {
        while let Some(index) = self.free.front().copied() {
            let Some(connection) = self.connections.get_mut(index) else { return };
            let mut taken = 0;
            while connection.has_room(self.pipeline) {
                let Some(start) = self.schedule.next(now) else { break };
                connection.take(start, now, &mut self.encoder);
                taken += 1;
            }
            self.in_flight += taken;
            let flushed = if taken > 0 { connection.flush() } else { Ok(()) };
            if connection.has_room(self.pipeline) && flushed.is_ok() {
                return; // Nothing more is due.
            }
            self.free.pop_front();
            if let Some(is_free) = self.is_free.get_mut(index) {
                *is_free = false;
            }
            match flushed {
                // A large body that went out at once leaves room again.
                Ok(()) => self.offer(index),
                Err(failure) => self.lose(index, failure),
            }
        }
    }

    /// Closes a connection, counts its requests as failed, and connects again: at once if it has served, else at the
    /// next tick.
    fn lose(&mut self, index: usize, failure: Failure) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(index) else { return };
        let has_served = connection.has_served;
        for request in connection.drop_stream() {
            self.in_flight -= 1;
            self.seen.failures += 1;
            if request.start.measured {
                self.tally.failed(failure, request.start.at, now);
            } else {
                self.tally.warmup_failures += 1;
            }
        }
        if failure == Failure::Connect {
            self.seen.failures += 1;
            self.tally.unconnected();
        }
        if has_served {
            self.connect(index);
        }
    }

    fn connect(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let made = TcpStream::connect(self.address).and_then(|stream| {
            connection.connecting(stream);
            register(self.poll.registry(), connection, index)
        });
        if made.is_err() {
            drop(connection.drop_stream());
            self.seen.failures += 1;
            self.tally.unconnected();
        }
    }

    /// Does what can wait for a tick: times requests out, connects again, and ends a run that reaches no server.
    fn sweep(&mut self, now: Nanos) -> Result<(), String> {
        let is_reached = self.connections.iter().any(|connection| connection.phase() == Phase::Open);
        if is_reached {
            self.reached = now;
        } else if now.saturating_sub(self.reached) > self.timeout {
            let patience = Duration::from_nanos(self.timeout);
            return Err(format!("{} could not be reached for {patience:?}", self.address));
        }
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get(index) else { break };
            if connection.oldest().is_some_and(|request| now.saturating_sub(request.sent) > self.timeout) {
                self.lose(index, Failure::Timeout);
            } else if connection.phase() == Phase::Down {
                self.connect(index);
            }
        }
        if self.schedule.horizon().is_some_and(|horizon| now > horizon.saturating_add(self.timeout)) {
            while let Some(start) = self.schedule.next(now) {
                if start.measured {
                    self.tally.failed(Failure::Unsent, start.at, now);
                }
            }
        }
        Ok(())
    }

    fn show(&self, sight: &Sight) {
        sight.answers.store(self.seen.answers, Relaxed);
        sight.records.store(self.seen.records, Relaxed);
        sight.failures.store(self.seen.failures, Relaxed);
    }
}

fn register(registry: &Registry, connection: &mut Connection<'_>, index: usize) -> std::io::Result<()> {
    match connection.stream() {
        Some(stream) => registry.register(stream, Token(index), Interest::READABLE | Interest::WRITABLE),
        None => Ok(()),
    }
}

/// Wakes the loop at a time finer than the milliseconds of `epoll_wait`, which an open loop would add to its latencies.
struct Timer {
    fd: OwnedFd,
    armed: Option<Nanos>,
}

impl Timer {
    fn new(registry: &Registry, token: usize) -> std::io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), Token(token), Interest::READABLE)?;
        Ok(Self { fd, armed: None })
    }

    /// Fires at `due`, which is after `now`.
    fn arm(&mut self, due: Nanos, now: Nanos) -> std::io::Result<()> {
        if self.armed == Some(due) {
            return Ok(());
        }
        let wait = Duration::from_nanos(due.saturating_sub(now).max(1));
        let value = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })?;
        self.armed = Some(due);
        Ok(())
    }

    /// Notes that it has fired. Its count need not be read: each firing is an edge of its own.
    fn fired(&mut self) {
        self.armed = None;
    }
}

/// Timeouts, reconnections and the progress counts are looked after this often.
const TICK: Duration = Duration::from_millis(100);
/// Events of one poll.
const EVENTS_MAX: usize = 256;
/// Bytes of one read.
const SCRATCH_BYTES: usize = 64 * 1024;
