//! Answers the requests of the shards: takes them in order, and answers each exactly once, when its answer is there.
//!
//! Requests for the same station or consumer group that come while one is being answered wait for that answer: a
//! thousand first requests for a new station make one stream, in one attempt. Answers are not cached: a shard asks
//! again when its answer proves false, and keeps refusals by itself.

use super::{
    fanout::ShardFanout,
    guesses::Network,
    logins::Logins,
    passwords::Expected,
    registry::{
        documents::ACCOUNT,
        snapshot::{Root, Snapshot},
    },
    streams::{Found, Provisioner, Registered, StreamAdmin, StreamsError},
};
use crate::{
    config::{Settings, Unconfirmed},
    directory::messages::{Envelope, Request, Response, ShardUpdate},
    limits::{REQUESTS_PER_SHARD_MAX, RESOLVE_TIMEOUT, RESOLVED_AT_ONCE_MAX},
    metrics::{ControlMetrics, LoginResult, RequestKind},
    reject::Reject,
    station::{DirectGet, Name, Station},
};
use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    task::{Id, JoinSet},
    time::timeout,
};

/// The result of a task.
#[derive(Debug)]
enum Resolved {
    /// The publish mode of a station is decided when the answer is sent. Whoever makes another mode right has the
    /// shards invalidate their stations *then*: an answer that was decided before comes to them before that.
    Station(Found),
    Response(Response),
}

/// What is needed to answer a request. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    pub(super) settings: Arc<Settings>,
    pub(super) provisioner: Arc<dyn Provisioner>,
    pub(super) streams: Arc<dyn StreamAdmin>,
    pub(super) logins: Logins,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) metrics: Arc<ControlMetrics>,
    root: Root,
    resolving: Arc<Semaphore>,
}

impl Resolver {
    pub(super) fn new(
        settings: Arc<Settings>,
        provisioner: Arc<dyn Provisioner>,
        streams: Arc<dyn StreamAdmin>,
        logins: Logins,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        metrics: Arc<ControlMetrics>,
    ) -> Self {
        let root = Root::new(&settings.auth);
        let resolving = Arc::new(Semaphore::new(RESOLVED_AT_ONCE_MAX));
        Self { settings, provisioner, streams, logins, snapshot, metrics, root, resolving }
    }

    /// Finds or makes a station. One that keeps dead letters is made as the station whose they are says, also where
    /// stations are not made by themselves.
    async fn station(&self, name: &Name, create: bool) -> Result<Found, Reject> {
        let snapshot = self.known_snapshot().await?;
        let Some(of) = name.dead_letters_of() else { return self.find(&snapshot, name, create).await };
        match self.find(&snapshot, name, false).await {
            Err(Reject::StationUnknown(_)) if create => {}
            found => return found,
        }
        let known = snapshot.stations.get(&of).map(|entry| entry.document.dead_letters.clone()).unwrap_or_default();
        let age = (known.retention_age_s > 0).then(|| Duration::from_secs(known.retention_age_s));
        match self.streams.create(name, &self.settings.stations.attributes.of_dead_letters(age)).await {
            // Another gateway was quicker, and may know of another retention by now.
            Ok(()) | Err(StreamsError::Exists) => self.find(&snapshot, name, false).await,
            Err(StreamsError::Failed(reject)) => Err(reject),
            Err(StreamsError::Invalid(text) | StreamsError::Missing(text)) => Err(Reject::StationBlocked(text.into())),
            Err(StreamsError::Unknown) => Err(Reject::StationUnknown(name.as_str().into())),
        }
    }

    async fn find(&self, snapshot: &Snapshot, name: &Name, create: bool) -> Result<Found, Reject> {
        let create = create && self.settings.stations.auto_create;
        self.provisioner.station(name, registered(snapshot, name), create).await
    }

    /// Finds a station, and has its streams allow reads by place where they do not yet and may. If that fails, they are
    /// read as they are.
    async fn allow_direct_get(&self, name: &Name) -> Result<Found, Reject> {
        let snapshot = self.known_snapshot().await?;
        let Found { mut station, streams } = self.find(&snapshot, name, false).await?;
        if station.direct_get == DirectGet::Possible {
            let direct_get = self.provisioner.allow_direct_get(&station).await;
            station = Arc::new(Station { direct_get, ..Arc::unwrap_or_clone(station) });
        }
        Ok(Found { station, streams })
    }

    /// Returns the snapshot, once it was read: a station may be another stream than its name says.
    async fn known_snapshot(&self) -> Result<Arc<Snapshot>, Reject> {
        let mut snapshot = self.snapshot.clone();
        let known = snapshot.wait_for(|snapshot| snapshot.loaded || snapshot.refused.is_some());
        match timeout(self.settings.limits.hold, known).await {
            Ok(Ok(snapshot)) if snapshot.loaded => Ok(Arc::clone(&snapshot)),
            Ok(Ok(snapshot)) => Err(snapshot.refused.clone().unwrap_or(Reject::ControlTimeout)),
            Ok(Err(_)) | Err(_) => Err(Reject::ControlTimeout),
        }
    }

    /// Returns the station as the shards get it.
    fn finish(&self, found: Found) -> Arc<Station> {
        let publish_mode = self.provisioner.publish_mode(&found.streams);
        if publish_mode == found.station.publish_mode {
            return found.station;
        }
        Arc::new(Station { publish_mode, ..Arc::unwrap_or_clone(found.station) })
    }

    /// Checks a password, and returns which version of it is right.
    async fn login(&self, account: u32, username: &str, password: Box<str>, peer: IpAddr) -> Result<u32, Reject> {
        let result = self.check(account, username, password, Network::of(peer)).await;
        match result {
            Ok(_) => self.metrics.login(LoginResult::Accepted),
            Err(Reject::Unauthorized) => self.metrics.login(LoginResult::Refused),
            Err(Reject::TooManyLogins(_)) => self.metrics.login(LoginResult::Throttled),
            Err(_) => self.metrics.login(LoginResult::Overloaded),
        }
        result
    }

    async fn check(&self, account: u32, username: &str, password: Box<str>, from: Network) -> Result<u32, Reject> {
        if account != ACCOUNT {
            return Err(Reject::Unauthorized);
        }
        // The version belongs to what the password is compared with: both are read at the same time.
        let (expected, version) = self.expected(username)?;
        self.logins.check(username, from, password, expected).await.map(|()| version)
    }

    /// Returns what a user's password is compared with, and its version.
    fn expected(&self, username: &str) -> Result<(Expected, u32), Reject> {
        if username == self.root.name {
            return Ok((Expected::Text(self.settings.auth.root_password.clone()), self.root.version));
        }
        let snapshot = self.snapshot.borrow();
        if !snapshot.loaded {
            return Err(Reject::BrokerAway);
        }
        if snapshot.unconfirmed && self.settings.auth.unconfirmed == Unconfirmed::Refuse {
            return Err(Reject::UsersUnknown);
        }
        let entry = Name::parse(username).ok().and_then(|name| snapshot.users.get(&name));
        Ok(match entry {
            Some(entry) => (Expected::Hash(entry.document.password.clone()), entry.document.version),
            None => (Expected::Nothing, 0),
        })
    }

    /// Runs a lookup with the bounds that hold for all of them.
    async fn bounded<T>(&self, lookup: impl Future<Output = Result<T, Reject>>) -> Result<T, Reject> {
        let lookup = async {
            // A lookup that waits for the broker waits before it takes a permit: the answer is then that the broker is
            // away, not that the control plane is full.
            self.provisioner.ready().await?;
            let _permit = self.resolving.acquire().await.map_err(|_| Reject::Draining)?;
            lookup.await
        };
        timeout(RESOLVE_TIMEOUT, lookup).await.unwrap_or(Err(Reject::ControlTimeout))
    }
}

/// Returns what the registry says of a station's streams.
fn registered(snapshot: &Snapshot, name: &Name) -> Registered {
    let Some(document) = snapshot.stations.get(name).map(|entry| &entry.document) else {
        let is_stored = snapshot.stations.stored_revision(name).is_some();
        return if is_stored { Registered::Unreadable } else { Registered::Nothing };
    };
    let given = || document.given.clone().map_or(Registered::Nothing, Registered::With);
    document.adopted.clone().map_or_else(given, Registered::Adopted)
}

/// Identifies requests that have the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Station(Name, bool),
    DirectGet(Name),
    Consumer(Name, Option<Name>),
    /// Shard and ticket: a login shares its answer with no other request.
    Login(u16, u64),
}

impl Key {
    fn kind(&self) -> RequestKind {
        match self {
            Self::Station(..) | Self::DirectGet(_) => RequestKind::Station,
            Self::Consumer(..) => RequestKind::Consumer,
            Self::Login(..) => RequestKind::Login,
        }
    }

    fn refusal(&self, reject: Reject) -> Response {
        match self {
            Self::Station(..) | Self::DirectGet(_) => Response::Station(Err(reject)),
            Self::Consumer(..) => Response::Consumer(Err(reject)),
            Self::Login(..) => Response::Login(Err(reject)),
        }
    }
}

/// Takes requests until all shards have gone.
pub(super) async fn serve(resolver: Resolver, asks: flume::Receiver<Envelope>, fanout: ShardFanout, shards: usize) {
    let mut service = RequestQueue {
        resolver,
        fanout,
        waiting: HashMap::new(),
        tasks: HashMap::new(),
        running: JoinSet::new(),
        requests_max: shards.max(1) * REQUESTS_PER_SHARD_MAX,
    };
    loop {
        tokio::select! {
            envelope = asks.recv_async() => match envelope {
                Ok(envelope) => service.take(envelope),
                Err(_) => break,
            },
            Some(done) = service.running.join_next_with_id() => service.done(done),
        }
    }
}

/// The requests that were taken and are not answered yet.
struct RequestQueue {
    resolver: Resolver,
    fanout: ShardFanout,
    /// Shard and ticket of every request that waits for the answer to a key.
    waiting: HashMap<Key, Vec<(u16, u64)>>,
    /// The key that a task works on, for the case that it panics.
    tasks: HashMap<Id, Key>,
    running: JoinSet<Resolved>,
    requests_max: usize,
}

impl RequestQueue {
    fn take(&mut self, envelope: Envelope) {
        let Envelope { shard, ticket, request } = envelope;
        let key = match &request {
            Request::Station { name, create } => Key::Station(name.clone(), *create),
            Request::AllowDirectGet { name } => Key::DirectGet(name.clone()),
            Request::Consumer { station, group, .. } => Key::Consumer(station.name.clone(), group.clone()),
            Request::Login { .. } => Key::Login(shard, ticket),
        };
        if let Some(others) = self.waiting.get_mut(&key) {
            others.push((shard, ticket));
            return;
        }
        if self.running.len() >= self.requests_max {
            self.answer(shard, ticket, &key, key.refusal(Reject::Overloaded("the control plane")));
            return;
        }
        let resolver = self.resolver.clone();
        let task = self.running.spawn(async move {
            match request {
                Request::Station { name, create } => match resolver.bounded(resolver.station(&name, create)).await {
                    Ok(found) => Resolved::Station(found),
                    Err(reject) => Resolved::Response(Response::Station(Err(reject))),
                },
                Request::AllowDirectGet { name } => match resolver.bounded(resolver.allow_direct_get(&name)).await {
                    Ok(found) => Resolved::Station(found),
                    Err(reject) => Resolved::Response(Response::Station(Err(reject))),
                },
                Request::Consumer { station, group, principal } => {
                    let consumer = resolver.provisioner.consumer(&station, group.as_ref(), &principal);
                    let consumer = resolver.bounded(consumer).await;
                    Resolved::Response(Response::Consumer(consumer))
                }
                Request::Login { account, username, password, peer } => {
                    Resolved::Response(Response::Login(resolver.login(account, &username, password, peer).await))
                }
            }
        });
        self.tasks.insert(task.id(), key.clone());
        self.waiting.insert(key, vec![(shard, ticket)]);
    }

    fn done(&mut self, done: Result<(Id, Resolved), tokio::task::JoinError>) {
        let (id, answer) = match done {
            Ok((id, Resolved::Response(answer))) => (id, Some(answer)),
            Ok((id, Resolved::Station(found))) => (id, Some(Response::Station(Ok(self.resolver.finish(found))))),
            Err(error) => {
                tracing::error!(%error, "a request was not answered");
                (error.id(), None)
            }
        };
        let Some(key) = self.tasks.remove(&id) else { return };
        let answer = answer.unwrap_or_else(|| key.refusal(Reject::Internal("the control plane lost a request")));
        for (shard, ticket) in self.waiting.remove(&key).unwrap_or_default() {
            self.answer(shard, ticket, &key, answer.clone());
        }
    }

    fn answer(&self, shard: u16, ticket: u64, key: &Key, answer: Response) {
        let succeeded = match &answer {
            Response::Station(result) => result.is_ok(),
            Response::Consumer(result) => result.is_ok(),
            Response::Login(result) => result.is_ok(),
        };
        self.resolver.metrics.answer(key.kind(), succeeded);
        self.fanout.respond(shard, ShardUpdate::Response { ticket, response: answer });
    }
}
