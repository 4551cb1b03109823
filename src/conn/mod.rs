//! Connections of one shard: accept, serve, drain.
//!
//! A connection is one task. While it waits for a request it holds no buffer and little else. A [`session`] is made
//! when there is something to read, and ends when everything that came was answered.

mod deadlines;
mod deliveries;
mod peers;
mod session;
#[cfg(test)]
mod tests;

use crate::{
    budget::Budget,
    dialect::{Now, Service},
    limits::{
        IDLE_READ_BYTES, Limits, POOLED_BUFFERS_MAX, READ_BUFFER_BYTES, REFUSED_AT_ONCE_MAX, SPARE_ANSWER_BYTES_MAX,
    },
    metrics::{Route, ShardMetrics},
    reject::Reject,
    rt::{self, BufferPool, Listener, SocketDiag, Waiters, clock},
    transport::{Guard, Tcp, Transport},
    wire::http1::{DATE_BYTES, Head, Response, date},
};
use deadlines::{DeadlineGuard, Deadlines, Phase, SWEEP};
use peers::{Peer, Peers};
use session::{Next, Session};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Pause after an accept that failed for lack of something (files, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections accepted, and sessions of one connection, before other tasks get their turn.
const ACCEPTS_IN_A_ROW: u64 = 32;
const SESSIONS_IN_A_ROW: u64 = 64;

/// What a session uses besides its read buffer, kept for the next one.
#[derive(Debug, Default)]
struct Buffers {
    head: Head,
    out: Vec<u8>,
}

/// What the connections of a shard share.
#[derive(Debug)]
pub struct Connections<S, T: Transport = Tcp> {
    service: S,
    limits: Limits,
    budget: Rc<Budget>,
    metrics: Arc<ShardMetrics>,
    pool: BufferPool,
    unused: RefCell<Vec<Buffers>>,
    deadlines: Rc<Deadlines<T>>,
    open: Cell<usize>,
    peers: Rc<Peers>,
    /// Connections beyond the limit that are being refused.
    refused: Cell<usize>,
    closed: Waiters,
    draining: Cell<bool>,
    unix_s: Cell<u64>,
    date: Cell<[u8; DATE_BYTES]>,
}

/// Waits until something has come; `None` at the end of the connection. A buffer is filled at once, which saves the
/// kernel a second call; without one nothing is read yet, and what is returned is empty.
async fn wait_for_more<T: Transport>(stream: &mut T, buffer: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let Some(mut buffer) = buffer else {
        return stream.readable().await.ok().map(|()| Vec::new());
    };
    buffer.clear();
    buffer.reserve_exact(IDLE_READ_BYTES);
    let (result, buffer) = stream.read(buffer).await;
    matches!(result, Ok(1..)).then_some(buffer)
}

/// How to ask the kernel what clients have received. Without it an answer counts as received once it is written, as far
/// as is known by then.
fn diag() -> Option<SocketDiag> {
    SocketDiag::open()
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "the kernel does not say what clients have received (sock_diag over netlink): what a consume call takes is \
                 acknowledged once its answer is written, and a client that has closed its sending side gets none"
            );
        })
        .ok()
}

impl<S: Service> Connections<S> {
    /// The connections of a shard, which `service` serves.
    #[must_use]
    pub fn new(service: S, limits: Limits, budget: Rc<Budget>, metrics: Arc<ShardMetrics>) -> Rc<Self> {
        Self::over(diag(), service, limits, budget, metrics)
    }

    /// Accepts until the listener is shut down.
    pub async fn accept(self: Rc<Self>, listener: Listener) {
        let mut failing = false;
        for count in 1_u64.. {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    self.metrics.connections_accepted.increment();
                    self.clone().start(Tcp::new(stream, peer));
                    failing = false;
                }
                Err(_) if self.draining.get() => return,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "accepting a connection failed; trying again until it works");
                    }
                    failing = true;
                    rt::sleep(ACCEPT_PAUSE).await;
                }
            }
            if count.is_multiple_of(ACCEPTS_IN_A_ROW) {
                rt::yield_now().await;
            }
        }
    }
}

impl<S: Service, T: Transport> Connections<S, T> {
    /// The same over any transport. `probe` knows what clients have received.
    fn over(
        probe: Option<T::Probe>,
        service: S,
        limits: Limits,
        budget: Rc<Budget>,
        metrics: Arc<ShardMetrics>,
    ) -> Rc<Self> {
        let connections = Self {
            service,
            peers: Peers::new(limits.connections_per_network_max),
            limits,
            budget,
            metrics,
            pool: BufferPool::new(READ_BUFFER_BYTES, POOLED_BUFFERS_MAX),
            unused: RefCell::default(),
            deadlines: Rc::new(Deadlines::new(probe)),
            open: Cell::new(0),
            refused: Cell::new(0),
            closed: Waiters::default(),
            draining: Cell::new(false),
            unix_s: Cell::new(0),
            date: Cell::new([b' '; DATE_BYTES]),
        };
        connections.read_wall_clock();
        Rc::new(connections)
    }

    /// Looks at deadlines and the clock, for ever.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            rt::sleep(SWEEP).await;
            let now = clock::now();
            self.deadlines.sweep(now);
            self.service.sweep(self.now());
            self.read_wall_clock();
            self.metrics.connections_timed_out.add(self.deadlines.expired() - self.metrics.connections_timed_out.get());
            self.metrics.body_bytes_held.set(self.budget.used() as u64);
        }
    }

    /// Stops accepting: from now on a failed accept is the end, and every connection closes after its request.
    pub fn stop_accepting(&self) {
        self.draining.set(true);
    }

    /// Returns whether [`Connections::stop_accepting`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Closes idle connections and waits until the others have been served.
    pub async fn drain(&self) {
        self.deadlines.end_idle();
        while self.open.get() > 0 {
            self.closed.changed().await;
            self.deadlines.end_idle();
        }
    }

    fn start(self: Rc<Self>, stream: T) {
        let place = self.place(stream.peer());
        if place.is_err() {
            self.metrics.connections_refused.increment();
        }
        self.count(1);
        rt::spawn(async move {
            match place {
                Ok(_place) => self.serve(stream).await,
                Err(reject) => self.refuse(stream, &reject).await,
            }
            self.count(-1);
            self.closed.wake_all();
        });
    }

    /// Takes room for one more connection, of its network and in all.
    fn place(&self, peer: SocketAddr) -> Result<Peer, Reject> {
        if self.open.get() >= self.limits.connections_per_shard_max {
            return Err(Reject::Overloaded("the number of connections"));
        }
        self.peers.enter(peer).ok_or(Reject::Overloaded("the number of connections from one network"))
    }

    fn count(&self, change: isize) {
        self.open.set(self.open.get().saturating_add_signed(change));
        self.metrics.connections_open.set(self.open.get() as u64);
    }

    /// Serves one connection to its end, which is when its last answer has arrived.
    async fn serve(&self, mut stream: T) {
        let armed = self.deadlines.register(stream.guard());
        self.converse(&mut stream, &armed).await;
        armed.settled().await;
    }

    async fn converse(&self, stream: &mut T, armed: &DeadlineGuard<T>) {
        let mut idle_since = clock::now();
        // The buffer to wait with for the next request, if that is likely to fit.
        let mut small = None;
        for count in 1_u64.. {
            armed.arm(Phase::Idle, idle_since + self.limits.idle_timeout);
            if self.draining.get() {
                // A request that has come already is still served; then the read ends.
                stream.guard().shut_down_read();
            }
            let Some(begun) = wait_for_more(stream, small.take()).await else { return };
            if armed.expired() {
                return;
            }
            // Boxed, so that a connection which waits does not keep room for one that is served.
            match Box::pin(Session::new(self, armed, stream, &begun).run()).await {
                Next::Idle { served, received } => {
                    if served {
                        idle_since = clock::now();
                    }
                    small = (received <= IDLE_READ_BYTES).then_some(begun);
                }
                Next::Close => return,
            }
            if count.is_multiple_of(SESSIONS_IN_A_ROW) {
                rt::yield_now().await;
            }
        }
    }

    /// Answers a connection beyond the limit, and closes it.
    async fn refuse(&self, mut stream: T, reject: &Reject) {
        let armed = self.deadlines.register(stream.guard());
        armed.arm(Phase::Writing, clock::now() + Duration::from_secs(1));
        let reply = self.service.reject(reject, Route::OTHER, None);
        let mut out = Vec::new();
        Response { body: reply.body.bytes(), close: true, ..Response::new(reply.status, &reply.fields) }
            .write(&mut out, &self.date.get());
        if stream.write_all(out).await.is_err()
            || stream.finish_writing().await.is_err()
            || self.refused.get() > REFUSED_AT_ONCE_MAX
        {
            return;
        }
        // A close with the request unread would reset the connection, and the answer with it.
        self.refused.set(self.refused.get() + 1);
        let mut scratch = self.pool.lend();
        loop {
            let (result, buffer) = stream.read(scratch).await;
            scratch = buffer;
            scratch.clear();
            if !matches!(result, Ok(1..)) || armed.expired() {
                break;
            }
            rt::yield_now().await;
        }
        self.pool.give_back(scratch);
        self.refused.set(self.refused.get() - 1);
    }

    fn lend(&self) -> Buffers {
        self.unused.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back what a session used; a buffer that has grown is released.
    fn give_back(&self, mut buffers: Buffers) {
        let mut unused = self.unused.borrow_mut();
        if unused.len() < POOLED_BUFFERS_MAX && buffers.out.capacity() <= SPARE_ANSWER_BYTES_MAX {
            buffers.head.reset();
            buffers.out.clear();
            unused.push(buffers);
        }
    }

    fn now(&self) -> Now {
        Now { instant: clock::now(), unix_s: self.unix_s.get() }
    }

    fn read_wall_clock(&self) {
        let unix_s = clock::unix_time().as_secs();
        if unix_s != self.unix_s.get() {
            self.unix_s.set(unix_s);
            self.date.set(date(unix_s));
        }
    }
}
