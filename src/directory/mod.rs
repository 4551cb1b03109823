//! What a shard knows of stations and consumer groups, and how it asks for what it does not know.
//!
//! Answers come from the control plane through [`messages`]; this is the shard's side. A station
//! that is known costs one look-up and touches nothing that another core writes. A station that is
//! not known is asked for once, however many requests want it, and each of them waits with a
//! deadline. "There is none" is remembered briefly, so that a client which insists costs little.

pub mod contracts;
pub mod look;
pub mod messages;

use crate::{
    limits::{CONTRACTS_AGE_MAX, REQUEST_TIMEOUT, REQUESTS_PER_SHARD_MAX, STATION_ABSENT_TTL, STATIONS_PER_SHARD_MAX},
    reject::Reject,
    rt::{self, Waiters, clock},
    station::{Consumer, Name, Station},
};
use contracts::Contracts;
use look::{Look, Looking};
use messages::{Envelope, Request, Response};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an error that is nobody's lasting state (the broker is away) answers for a station.
const TRANSIENT_TTL: Duration = Duration::from_millis(200);

type Table<K, T> = HashMap<K, Entry<T>>;
/// A station, and a group of it; `None` is the default group.
type GroupKey = (Name, Option<Name>);

/// Stations and groups of one shard.
#[derive(Debug)]
pub struct Directory {
    shard: u16,
    asks: flume::Sender<Envelope>,
    tickets: Cell<u64>,
    open: RefCell<HashMap<u64, Rc<Pending>>>,
    stations: RefCell<Table<Name, Station>>,
    consumers: RefCell<Table<GroupKey, Consumer>>,
    /// Stations that are asked for although they are known, and why.
    looks: RefCell<HashMap<(Name, Looking), Rc<Look>>>,
    /// How often stations were invalidated.
    forgotten: Cell<u64>,
    contracts: RefCell<Rc<Local<Contracts>>>,
    /// When the registry was last known to be no newer than `contracts`; `None`: never yet.
    confirmed: Cell<Option<Instant>>,
}

/// What is known under a name.
#[derive(Debug)]
enum Entry<T> {
    Known(Rc<Local<T>>),
    /// Refused until then; and whether the request allowed creating it (a weaker request's refusal binds no stronger
    /// one).
    Refused(Reject, Instant, bool),
    Asked(Rc<Waiters>),
}

/// A resolved value, behind a pointer that only this shard counts.
#[derive(Debug)]
pub struct Local<T> {
    value: Arc<T>,
}

impl<T> Local<T> {
    /// What the control plane would have answered.
    #[cfg(test)]
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { value }
    }

    /// The value as the control plane made it.
    #[must_use]
    pub fn shared(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> std::ops::Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A request on its way.
#[derive(Debug, Default)]
struct Pending {
    answer: RefCell<Option<Response>>,
    waiters: Waiters,
}

impl Directory {
    /// The directory of a shard that asks through `asks`.
    #[must_use]
    pub fn new(shard: u16, asks: flume::Sender<Envelope>) -> Self {
        Self {
            shard,
            asks,
            tickets: Cell::new(0),
            open: RefCell::default(),
            stations: RefCell::default(),
            consumers: RefCell::default(),
            looks: RefCell::default(),
            forgotten: Cell::new(0),
            contracts: RefCell::new(Rc::new(Local { value: Arc::default() })),
            confirmed: Cell::new(None),
        }
    }

    /// Returns the number of known stations.
    #[must_use]
    pub fn stations_known(&self) -> usize {
        self.stations.borrow().len()
    }

    /// Requests sent so far.
    #[must_use]
    pub fn requests_sent(&self) -> u64 {
        self.tickets.get()
    }

    /// The station of this name, asked for if need be.
    pub async fn station(&self, name: &Name, create: bool, now: Instant) -> Result<Rc<Local<Station>>, Reject> {
        if let Some(Entry::Known(known)) = self.stations.borrow().get(name) {
            return Ok(Rc::clone(known));
        }
        let request = || Request::Station { name: name.clone(), create };
        // Boxed: a request that knows its station keeps no room for asking.
        Box::pin(self.resolve(&self.stations, name, create, now, request, station_of)).await
    }

    /// The consumer group of a station, asked for if need be, in the name of a principal. `None` is the default group.
    pub async fn consumer(
        &self,
        station: &Local<Station>,
        group: Option<&Name>,
        principal: &str,
        now: Instant,
    ) -> Result<Rc<Local<Consumer>>, Reject> {
        let key = (station.name.clone(), group.cloned());
        if let Some(Entry::Known(known)) = self.consumers.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let request = || Request::Consumer {
            station: Arc::clone(&station.value),
            group: group.cloned(),
            principal: principal.into(),
        };
        let pick = |answer| match answer {
            Response::Consumer(result) => result,
            _ => Err(Reject::Internal("an answer of another kind")),
        };
        Box::pin(self.resolve(&self.consumers, &key, true, now, request, pick)).await
    }

    /// What stations ask of their records, as the registry has it.
    #[must_use]
    pub fn contracts(&self) -> Rc<Local<Contracts>> {
        Rc::clone(&self.contracts.borrow())
    }

    /// Returns whether the registry was known less than [`CONTRACTS_AGE_MAX`] ago to say what [`Self::contracts`] does.
    /// A record is not validated by a schema that may have been replaced longer ago than that.
    #[must_use]
    pub fn contracts_are_fresh(&self, now: Instant) -> bool {
        let contracts = self.contracts.borrow();
        let confirmed = || self.confirmed.get().is_some_and(|at| now.saturating_duration_since(at) < CONTRACTS_AGE_MAX);
        contracts.complete && (!contracts.shared || confirmed())
    }

    /// Takes in a new snapshot.
    pub fn set_contracts(&self, contracts: Arc<Contracts>) {
        *self.contracts.borrow_mut() = Rc::new(Local { value: contracts });
    }

    /// The registry was known then to say what the last snapshot does.
    pub fn confirm(&self, at: Instant) {
        self.confirmed.set(Some(at));
    }

    /// The version of this password, if it is that user's, for a client at this address.
    pub async fn login(&self, account: u32, username: &str, password: &str, peer: IpAddr) -> Result<u32, Reject> {
        match self.ask(Request::Login { account, username: username.into(), password: password.into(), peer }).await? {
            Response::Login(result) => result,
            _ => Err(Reject::Internal("an answer of another kind")),
        }
    }

    /// What is known of a station, and of its groups, is no longer true. What is asked for now serves whoever waits for
    /// it, and is not remembered: its answer may have been on its way before.
    pub fn forget(&self, name: &Name) {
        self.forgotten.set(self.forgotten.get() + 1);
        let mut stations = self.stations.borrow_mut();
        if !matches!(stations.get(name), Some(Entry::Asked(_))) {
            stations.remove(name);
        }
        self.consumers.borrow_mut().retain(|(station, _), entry| station != name || matches!(entry, Entry::Asked(_)));
    }

    /// What is known of any station is no longer true. An answer that is here already and not yet taken serves whoever
    /// waits for it, and is not remembered.
    pub fn forget_stations(&self) {
        self.forgotten.set(self.forgotten.get() + 1);
        self.stations.borrow_mut().retain(|_, entry| !matches!(entry, Entry::Known(_)));
    }

    /// Takes in a response of the control plane.
    pub fn answered(&self, ticket: u64, answer: Response) {
        // No one waits any more: the deadline has passed.
        let Some(pending) = self.open.borrow_mut().remove(&ticket) else { return };
        *pending.answer.borrow_mut() = Some(answer);
        pending.waiters.wake_all();
    }

    /// Sends one request for all callers that want the same thing at the same time. `strong`: it may be created.
    async fn resolve<K: Clone + Eq + std::hash::Hash, T>(
        &self,
        table: &RefCell<Table<K, T>>,
        key: &K,
        strong: bool,
        now: Instant,
        request: impl Fn() -> Request,
        pick: impl Fn(Response) -> Result<Arc<T>, Reject>,
    ) -> Result<Rc<Local<T>>, Reject> {
        loop {
            let waiters = match table.borrow().get(key) {
                Some(Entry::Known(known)) => return Ok(Rc::clone(known)),
                Some(Entry::Refused(reject, until, was_strong)) if now < *until && (*was_strong || !strong) => {
                    return Err(reject.clone());
                }
                Some(Entry::Asked(waiters)) => Rc::clone(waiters),
                Some(Entry::Refused(..)) | None => break,
            };
            rt::deadline(REQUEST_TIMEOUT, waiters.changed()).await.map_err(|_| Reject::ControlTimeout)?;
        }
        let waiters = Rc::new(Waiters::default());
        make_room(&mut table.borrow_mut());
        table.borrow_mut().insert(key.clone(), Entry::Asked(Rc::clone(&waiters)));
        let forgotten = self.forgotten.get();
        let result = self.ask(request()).await.and_then(pick).map(|value| Rc::new(Local { value }));
        let entry = match &result {
            Ok(_) if self.forgotten.get() != forgotten => None,
            Ok(known) => Some(Entry::Known(Rc::clone(known))),
            Err(reject) => Some(Entry::Refused(reject.clone(), clock::now() + remembered_for(reject), strong)),
        };
        match entry {
            Some(entry) => table.borrow_mut().insert(key.clone(), entry),
            None => table.borrow_mut().remove(key),
        };
        waiters.wake_all();
        result
    }

    /// Asks, and waits for the answer.
    async fn ask(&self, request: Request) -> Result<Response, Reject> {
        if self.open.borrow().len() >= REQUESTS_PER_SHARD_MAX {
            return Err(Reject::Overloaded("the control plane"));
        }
        let ticket = self.tickets.get() + 1;
        self.tickets.set(ticket);
        let pending = Rc::new(Pending::default());
        let answered = pending.waiters.changed();
        self.open.borrow_mut().insert(ticket, Rc::clone(&pending));
        if self.asks.try_send(Envelope { shard: self.shard, ticket, request }).is_err() {
            self.open.borrow_mut().remove(&ticket);
            return Err(Reject::Overloaded("the control plane"));
        }
        if rt::deadline(REQUEST_TIMEOUT, answered).await.is_err() {
            self.open.borrow_mut().remove(&ticket);
            return Err(Reject::ControlTimeout);
        }
        pending.answer.borrow_mut().take().ok_or(Reject::Internal("woken without an answer"))
    }
}

/// Returns the station of a response to the request for one.
fn station_of(answer: Response) -> Result<Arc<Station>, Reject> {
    match answer {
        Response::Station(result) => result,
        _ => Err(Reject::Internal("an answer of another kind")),
    }
}

/// How long a refusal answers without asking again.
fn remembered_for(reject: &Reject) -> Duration {
    if matches!(reject, Reject::StationUnknown(_)) { STATION_ABSENT_TTL } else { TRANSIENT_TTL }
}

/// Keeps a table within its limit: refusals are evicted first, then any known entry, which costs one request later.
fn make_room<K: Clone + Eq + std::hash::Hash, T>(table: &mut Table<K, T>) {
    if table.len() < STATIONS_PER_SHARD_MAX {
        return;
    }
    table.retain(|_, entry| !matches!(entry, Entry::Refused(..)));
    if table.len() < STATIONS_PER_SHARD_MAX {
        return;
    }
    let victim = table.iter().find(|(_, entry)| matches!(entry, Entry::Known(_))).map(|(key, _)| key.clone());
    if let Some(key) = victim {
        table.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::PublishMode;

    pub(super) fn station(name: &Name, records_min: u16) -> Response {
        let publish_mode = PublishMode::Atomic { records_min };
        let station = Station { publish_mode, ..Station::of_partitions(name.as_str(), []) };
        Response::Station(Ok(Arc::new(station)))
    }

    #[test]
    fn contracts_of_a_shared_registry_are_fresh_as_long_as_they_are_confirmed() {
        let (asks, _questions) = flume::bounded(1);
        let directory = Directory::new(0, asks);
        let now = clock::now();
        let contracts = || Contracts::new(HashMap::new());
        assert!(!directory.contracts_are_fresh(now), "nothing was read");
        directory.confirm(now);
        assert!(!directory.contracts_are_fresh(now), "nothing was read");
        directory.set_contracts(Arc::new(contracts().of_shared_registry()));
        assert!(directory.contracts_are_fresh(now));
        let directory = Directory::new(0, directory.asks.clone());
        directory.set_contracts(Arc::new(contracts().of_shared_registry()));
        assert!(!directory.contracts_are_fresh(now), "never confirmed");
        directory.confirm(now);
        for (age, expect) in [(0, true), (899, true), (900, false), (60_000, false)] {
            assert_eq!(directory.contracts_are_fresh(now + Duration::from_millis(age)), expect, "{age} ms");
        }
        directory.set_contracts(Arc::new(contracts()));
        assert!(directory.contracts_are_fresh(now + Duration::from_secs(60)), "nobody else writes");
    }

    #[test]
    fn an_answer_that_crosses_with_forgetting_is_taken_and_not_remembered() {
        let (asks, questions) = flume::bounded(1);
        let directory = Directory::new(0, asks);
        let name = Name::parse("s").expect("a name");
        let found = rt::run(rt::Flavor::Epoll, || async {
            let mut found = Vec::new();
            for (records_min, forgotten) in [(2, true), (3, false), (4, false)] {
                let answerer = async {
                    rt::yield_now().await;
                    if let Ok(ask) = questions.try_recv() {
                        directory.answered(ask.ticket, station(&name, records_min));
                    }
                    if forgotten {
                        directory.forget_stations();
                    }
                };
                let asker = directory.station(&name, true, clock::now());
                let (known, ()) = futures_util::future::join(asker, answerer).await;
                found.push(known.map(|known| known.publish_mode));
            }
            directory.forget_stations();
            assert_eq!(directory.stations_known(), 0);
            found
        });
        let expect = [2, 3, 3].map(|records_min| Ok(PublishMode::Atomic { records_min }));
        assert_eq!(found.expect("a runtime"), expect);
    }
}
