//! The streams that are open on a shard: requests that go on for as long as their client wants, after they were admitted.
//!
//! An ordinary request is judged by its head, and is over before anything can change. A stream goes on: so whoever serves
//! it takes a place here, and learns by [`OpenStream::ended`] that it must stop, because its principal has lost the right,
//! or because the gateway drains. Places are bounded, for a principal and in all.
//!
//! Every credential is looked at again twice a second, by the shard's sweep, in turns: a token or key that has expired, a
//! key that was revoked, a user that was removed or has a new password, a right that was taken away. What the registry
//! says reaches the shard by itself; an expiry does not.

use crate::{
    auth::{Authenticator, Principal},
    limits::OPEN_STREAMS_PER_SHARD_MAX,
    metrics::{Route, ShardMetrics},
    reject::{Action, Fault, Reject},
    station::Name,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Sweeps in which every credential is looked at once: a sweep comes every 100 ms.
const TURNS: u64 = 5;

/// Why a stream must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its principal has lost the right, for this reason.
    Revoked(Reject),
    /// The gateway stops.
    Draining,
}

/// What a stream is opened with: for whom, and what it does.
#[derive(Clone, Copy)]
pub struct NewStream<'a> {
    /// The credential that its request came with, which was verified.
    pub credential: &'a [u8],
    /// Whose credential that is.
    pub principal: &'a Rc<Principal>,
    /// The right that it needs for as long as it is open.
    pub action: Action,
    /// The station for which it needs that.
    pub station: &'a Name,
    /// The route that it is counted as; one of [`Route::of_streams`].
    pub route: Route,
}

impl fmt::Debug for NewStream<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NewStream")
            .field("principal", &self.principal.label())
            .field("action", &self.action)
            .field("station", &self.station)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

/// An account, and the label of a principal in it.
type PrincipalKey = (u32, Box<str>);

/// The open streams of one shard.
#[derive(Debug)]
pub struct OpenStreams {
    streams: RefCell<HashMap<u64, Rc<Stream>>>,
    of_principals: RefCell<HashMap<PrincipalKey, usize>>,
    /// The number of the stream that was opened last.
    last: Cell<u64>,
    sweeps: Cell<u64>,
    is_draining: Cell<bool>,
    /// How many one principal may have.
    of_principal_max: usize,
    metrics: Arc<ShardMetrics>,
}

struct Stream {
    number: u64,
    credential: Box<[u8]>,
    principal: PrincipalKey,
    action: Action,
    station: Name,
    route: Route,
    ended: RefCell<Option<Ended>>,
    waker: RefCell<Option<Waker>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("number", &self.number)
            .field("principal", &self.principal)
            .field("station", &self.station)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The place of one stream, which it leaves when this is dropped. One task waits for its end.
#[derive(Debug)]
pub struct OpenStream {
    streams: Rc<OpenStreams>,
    stream: Rc<Stream>,
}

impl OpenStreams {
    /// Returns a table without streams, in which a principal may have so many.
    #[must_use]
    pub fn new(of_principal_max: usize, metrics: Arc<ShardMetrics>) -> Rc<Self> {
        Rc::new(Self {
            streams: RefCell::default(),
            of_principals: RefCell::default(),
            last: Cell::new(0),
            sweeps: Cell::new(0),
            is_draining: Cell::new(false),
            of_principal_max,
            metrics,
        })
    }

    /// Takes a place for a stream.
    ///
    /// Errors: [`Reject::TooManyStreams`] if its principal has as many as it may, [`Reject::Overloaded`] if the shard has,
    /// [`Reject::Draining`].
    pub fn open(self: &Rc<Self>, new: NewStream<'_>) -> Result<OpenStream, Reject> {
        if self.is_draining.get() {
            return Err(Reject::Draining);
        }
        let principal: PrincipalKey = (new.principal.account, new.principal.label().into());
        let of_principal = self.of_principals.borrow().get(&principal).copied().unwrap_or_default();
        if of_principal >= self.of_principal_max {
            return Err(Reject::TooManyStreams(self.of_principal_max));
        }
        if self.streams.borrow().len() >= OPEN_STREAMS_PER_SHARD_MAX {
            return Err(Reject::Overloaded("the number of open streams"));
        }
        let number = self.last.get().wrapping_add(1);
        self.last.set(number);
        self.of_principals.borrow_mut().insert(principal.clone(), of_principal + 1);
        let stream = Rc::new(Stream {
            number,
            credential: new.credential.into(),
            principal,
            action: new.action,
            station: new.station.clone(),
            route: new.route,
            ended: RefCell::default(),
            waker: RefCell::default(),
        });
        self.streams.borrow_mut().insert(number, Rc::clone(&stream));
        self.metrics.stream_opened(new.route);
        Ok(OpenStream { streams: Rc::clone(self), stream })
    }

    /// Looks at a part of the credentials again, and ends the streams whose principal has lost the right. Called every
    /// 100 ms.
    pub(super) fn sweep(&self, authenticator: &mut Authenticator, unix_s: u64) {
        let turn = self.sweeps.get();
        self.sweeps.set(turn.wrapping_add(1));
        for stream in self.streams.borrow().values() {
            if stream.number % TURNS == turn % TURNS
                && let Err(reject) = stream.check(authenticator, unix_s)
            {
                stream.end(Ended::Revoked(reject));
            }
        }
    }

    /// Ends all streams: the gateway stops. From now on none is opened.
    pub fn drain(&self) {
        self.is_draining.set(true);
        self.streams.borrow().values().for_each(|stream| stream.end(Ended::Draining));
    }

    fn leave(&self, stream: &Stream) {
        self.streams.borrow_mut().remove(&stream.number);
        let mut of_principals = self.of_principals.borrow_mut();
        if let Some(count) = of_principals.get_mut(&stream.principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                of_principals.remove(&stream.principal);
            }
        }
        self.metrics.stream_closed(stream.route);
    }
}

impl Stream {
    /// Returns why the stream may not go on. While the users are not known, nothing says so.
    fn check(&self, authenticator: &mut Authenticator, unix_s: u64) -> Result<(), Reject> {
        match authenticator.check(&self.credential, unix_s) {
            Ok(principal) => principal.check(self.action, &self.station),
            Err(reject) if reject.fault() == Fault::Policy => Err(reject),
            Err(_) => Ok(()),
        }
    }

    /// The first reason counts.
    fn end(&self, why: Ended) {
        self.ended.borrow_mut().get_or_insert(why);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl OpenStream {
    /// Returns why the stream must stop, if it must.
    #[must_use]
    pub fn end(&self) -> Option<Ended> {
        self.stream.ended.borrow().clone()
    }

    /// Waits until the stream must stop, and returns why.
    pub async fn ended(&self) -> Ended {
        poll_fn(|context| self.poll_ended(context)).await
    }

    /// As [`Self::ended`], for a task that waits for several things.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<Ended> {
        if let Some(why) = &*self.stream.ended.borrow() {
            return Poll::Ready(why.clone());
        }
        *self.stream.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.leave(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{TokenKeys, UserRecord, Users},
        limits::OPEN_STREAMS_OF_PRINCIPAL_MAX,
        station::Pattern,
    };
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;
    static ROUTES: [Route; 1] = [Route::of_streams(1, "stream")];

    fn users(version: u32, produce: &str) -> Arc<Users> {
        let etl = UserRecord {
            name: Name::parse("etl").expect("a name"),
            account: 1,
            version,
            produce: vec![Pattern::parse(produce).expect("a pattern")],
            consume: vec![],
        };
        Arc::new(Users::new("root", 7, [etl]))
    }

    struct World {
        authenticator: Authenticator,
        streams: Rc<OpenStreams>,
        metrics: Arc<ShardMetrics>,
    }

    impl World {
        fn new() -> Self {
            let metrics: Arc<ShardMetrics> = Arc::default();
            metrics.set_routes(&ROUTES);
            let authenticator = Authenticator::new(0, TokenKeys::new("access key", "refresh key"), users(1, "a*"));
            Self {
                authenticator,
                streams: OpenStreams::new(OPEN_STREAMS_OF_PRINCIPAL_MAX, Arc::clone(&metrics)),
                metrics,
            }
        }

        fn open(&mut self, user: &str, lifetime: Duration) -> Result<OpenStream, Reject> {
            let version = if user == "root" { 7 } else { 1 };
            let principal = self.authenticator.user(1, user, version).expect("a user");
            let token = self.authenticator.issue(&principal, NOW, lifetime, lifetime).expect("issued").access;
            let station = Name::parse("abc").expect("a name");
            self.streams.open(NewStream {
                credential: token.as_bytes(),
                principal: &principal,
                action: Action::Produce,
                station: &station,
                route: ROUTES[0],
            })
        }

        fn open_now(&self) -> u64 {
            self.metrics.open_streams().map(|(_, count)| count).sum()
        }

        /// Looks at all credentials once.
        fn look(&mut self, unix_s: u64) {
            (0..TURNS).for_each(|_| self.streams.sweep(&mut self.authenticator, unix_s));
        }
    }

    fn ended(stream: &OpenStream) -> Option<Ended> {
        match stream.poll_ended(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(why) => Some(why),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_stream_ends_when_its_principal_loses_the_right() {
        type Case = (&'static str, Arc<Users>, u64, Option<fn(&Reject) -> bool>);
        let unauthorized = |why: &Reject| *why == Reject::Unauthorized;
        let forbidden = |why: &Reject| matches!(why, Reject::Forbidden(_));
        let cases: [Case; 6] = [
            ("nothing", users(1, "a*"), 59, None),
            ("another right", users(1, "*"), 59, None),
            ("the token expires", users(1, "a*"), 60, Some(unauthorized)),
            ("a new password", users(2, "a*"), 0, Some(unauthorized)),
            ("the user is removed", Arc::new(Users::new("root", 7, [])), 0, Some(unauthorized)),
            ("the right is taken away", users(1, "b"), 0, Some(forbidden)),
        ];
        for (what, after, second, expect) in cases {
            let mut world = World::new();
            let stream = world.open("etl", Duration::from_secs(60)).expect("room");
            world.look(NOW);
            assert_eq!(ended(&stream), None);
            world.authenticator.set_users(after);
            world.look(NOW + second);
            match (ended(&stream), expect) {
                (None, None) => {}
                (Some(Ended::Revoked(why)), Some(expect)) => assert!(expect(&why), "{what}: {why:?}"),
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
    }

    #[test]
    fn while_the_users_are_not_known_nothing_ends() {
        let mut world = World::new();
        let stream = world.open("etl", Duration::from_secs(60)).expect("room");
        world.authenticator.set_users(Arc::new(Users::unread("root", 7)));
        world.look(NOW);
        assert_eq!(ended(&stream), None);
    }

    #[test]
    fn a_principal_has_its_share_and_the_shard_has_an_end() {
        let mut world = World::new();
        let hour = Duration::from_secs(3_600);
        let mut open: Vec<_> =
            (0..OPEN_STREAMS_OF_PRINCIPAL_MAX).map(|_| world.open("etl", hour).expect("room")).collect();
        let refused = world.open("etl", hour).map(drop);
        assert_eq!(refused, Err(Reject::TooManyStreams(OPEN_STREAMS_OF_PRINCIPAL_MAX)));
        assert_eq!(world.open_now(), OPEN_STREAMS_OF_PRINCIPAL_MAX as u64);
        let other = world.open("root", hour).expect("another principal has room");
        open.pop();
        open.push(world.open("etl", hour).expect("who leaves makes room"));
        drop((open, other));
        assert_eq!(world.open_now(), 0);
        assert!(world.streams.streams.borrow().is_empty() && world.streams.of_principals.borrow().is_empty());
    }

    #[test]
    fn all_streams_end_when_the_gateway_stops_and_none_begins() {
        let mut world = World::new();
        let stream = world.open("etl", Duration::from_secs(60)).expect("room");
        world.streams.drain();
        assert_eq!(ended(&stream), Some(Ended::Draining));
        world.authenticator.set_users(users(2, "a*"));
        world.look(NOW);
        assert_eq!(ended(&stream), Some(Ended::Draining), "the first reason counts");
        assert_eq!(world.open("root", Duration::from_secs(60)).map(drop), Err(Reject::Draining));
    }
}
