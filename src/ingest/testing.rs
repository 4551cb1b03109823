//! A shard's services on an embedded store, with a control plane that answers what they ask.

use super::{Encoding, Form, Ingest, Produce, Produced, TimeSlices};
use crate::{
    backend::{
        Backend, Fetch, Settlement,
        local::{Clock, StationDefaults, Store},
    },
    budget::Budget,
    directory::{
        Directory,
        contracts::{ActiveSchema, Contract, Contracts},
        messages::{Envelope, Request, Response},
    },
    limits::Limits,
    metrics::ShardMetrics,
    record::{
        MessageId, Records,
        headers::{HeaderPolicy, HeaderRule},
        message_id,
    },
    reject::Reject,
    rt::{self, clock},
    schema::{Schema, SchemaSource, SchemaType},
    station::{Attributes, Name},
    wire::content_encoding::Codings,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Records are objects with an integer `n`.
const NUMBER: &str = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#;

pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) directory: Rc<Directory>,
    pub(crate) backend: Backend,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) budget: Rc<Budget>,
    /// Stations that the control plane refuses, for this reason.
    pub(crate) refused: Rc<RefCell<HashMap<Name, Reject>>>,
    /// Stations that it was asked for.
    pub(crate) asked: Rc<RefCell<HashSet<Name>>>,
}

/// Runs a test in a world of its own.
pub(crate) fn run(test: impl AsyncFnOnce(&World)) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Store::open(&dir.path().join("data"), defaults(), Clock::system()).expect("the store opens"));
    let ended = rt::run(rt::Flavor::Epoll, || async {
        let (asks, questions) = flume::bounded(16);
        let world = World {
            backend: Backend::Local(Rc::new(store.handle())),
            store: Arc::clone(&store),
            directory: Rc::new(Directory::new(0, asks)),
            metrics: Arc::default(),
            budget: Budget::new(1 << 30),
            refused: Rc::default(),
            asked: Rc::default(),
        };
        let refused = Rc::clone(&world.refused);
        let asked = Rc::clone(&world.asked);
        rt::spawn(answer(Arc::clone(&store), Rc::clone(&world.directory), questions, refused, asked));
        world.contracts(&[]);
        test(&world).await;
    });
    ended.expect("a runtime");
}

fn defaults() -> StationDefaults {
    StationDefaults { attributes: Attributes { retention_age: None, ..Attributes::default() }, group_expiry: None }
}

/// The control plane.
async fn answer(
    store: Arc<Store>,
    directory: Rc<Directory>,
    questions: flume::Receiver<Envelope>,
    refused: Rc<RefCell<HashMap<Name, Reject>>>,
    asked: Rc<RefCell<HashSet<Name>>>,
) {
    while let Ok(Envelope { ticket, request, .. }) = questions.recv_async().await {
        let answer = match request {
            Request::Station { name, create } => {
                asked.borrow_mut().insert(name.clone());
                let reject = refused.borrow().get(&name).cloned();
                match reject {
                    Some(reject) => Response::Station(Err(reject)),
                    None => Response::Station(store.station(&name, create).await),
                }
            }
            Request::AllowDirectGet { name } => Response::Station(store.station(&name, false).await),
            Request::Consumer { station, group, principal } => {
                Response::Consumer(store.consumer(&station, group.as_ref(), &principal).await)
            }
            Request::Login { .. } => Response::Login(Err(Reject::Unauthorized)),
        };
        directory.answered(ticket, answer);
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A produce call that asks for nothing special.
pub(crate) fn call(station: &Name) -> Produce<'_> {
    Produce {
        station,
        create: true,
        encoding: Encoding::Json,
        strict: false,
        receipts: false,
        principal: "ada",
        now: clock::now(),
    }
}

/// An active schema: [`NUMBER`].
pub(crate) fn number_schema(version: u32) -> Arc<ActiveSchema> {
    let source = SchemaSource { kind: SchemaType::Json, text: NUMBER.into(), message: None, imports: BTreeMap::new() };
    let schema = Schema::compile(&source).expect("it compiles");
    Arc::new(ActiveSchema { name: name("number"), version, schema })
}

impl World {
    /// From now on the registry says this.
    pub(crate) fn contracts(&self, contracts: &[(&str, Contract)]) {
        let stations = contracts.iter().map(|(station, contract)| (name(station), contract.clone())).collect();
        self.directory.set_contracts(Arc::new(Contracts::new(stations)));
    }

    /// The station's records are objects with an integer `n`.
    pub(crate) fn attach(&self, station: &str) {
        self.contracts(&[(station, Contract { schema: Some(number_schema(3)), ..Contract::default() })]);
    }

    /// The same, as a registry says it that others write to as well.
    pub(crate) fn attach_shared(&self, station: &str) {
        let contract = Contract { schema: Some(number_schema(3)), ..Contract::default() };
        let contracts = Contracts::new([(name(station), contract)].into());
        self.directory.set_contracts(Arc::new(contracts.of_shared_registry()));
    }

    pub(crate) fn ingest(&self) -> Ingest {
        Ingest {
            directory: Rc::clone(&self.directory),
            backend: self.backend.clone(),
            policy: HeaderPolicy::new(&["content-type", "x-*"].map(HeaderRule::of)),
            limits: Limits {
                hold: Duration::from_millis(60),
                registry_hold: Duration::from_millis(60),
                ..Limits::default()
            },
            budget: Rc::clone(&self.budget),
            metrics: Arc::clone(&self.metrics),
            scratch: RefCell::default(),
            time_slices: TimeSlices::default(),
            turn: Cell::new(0),
        }
    }

    /// Posts a body with these header lines (`Name: value\r\n` each).
    pub(crate) async fn post(
        &self,
        ingest: &Ingest,
        station: &str,
        form: Form,
        call: (bool, &str, &[u8]),
    ) -> Result<Produced, Reject> {
        self.post_at(ingest, station, form, call, clock::now()).await
    }

    /// The same, as if it were then.
    pub(crate) async fn post_at(
        &self,
        ingest: &Ingest,
        station: &str,
        form: Form,
        (strict, fields, body): (bool, &str, &[u8]),
        now: Instant,
    ) -> Result<Produced, Reject> {
        let lines = || fields.lines().filter_map(|line| line.split_once(": "));
        let values = |name: &str| -> Vec<&[u8]> {
            let of_name = lines().filter(|(field, _)| field.eq_ignore_ascii_case(name));
            of_name.map(|(_, value)| value.as_bytes()).collect()
        };
        let base = message_id::of_fields(|name| values(name).first().copied())?;
        let mut headers = Vec::new();
        let all = lines().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        ingest.policy.select(&all, form == Form::Batch, &mut headers)?;
        let codings = Codings::parse(values("content-encoding")).expect("known codings");
        let mut held = ingest.budget.hold();
        let decoded =
            if codings.is_identity() { body.to_vec() } else { ingest.decode(codings, body, &mut held, now).await? };
        let id = base.as_deref().map(|base| MessageId { base, numbered: (form == Form::Batch).then_some(0) });
        let payloads = ingest.split(form, &decoded)?;
        let records = Records { headers: &headers, id, ..Records::of(&decoded, payloads) };
        let name = name(station);
        let receipts = fields.contains("return=representation");
        ingest.produce(&Produce { strict, receipts, now, ..call(&name) }, records, held).await
    }

    /// Makes a station of so many partitions.
    pub(crate) async fn create(&self, station: &str, partitions: u16) {
        let attributes = Attributes { partitions, ..defaults().attributes };
        self.store.create_station(&name(station), &attributes).await.expect("made");
    }

    /// Hands over records as a dialect does.
    pub(crate) async fn produce(
        &self,
        ingest: &Ingest,
        station: &str,
        strict: bool,
        records: Records<'_>,
    ) -> Result<Produced, Reject> {
        let name = name(station);
        ingest.produce(&Produce { strict, ..call(&name) }, records, ingest.budget.hold()).await
    }

    /// The records of a station, header block and payload each, or none if it does not exist.
    pub(crate) async fn records(&self, station: &Name) -> Vec<(String, String)> {
        let Ok(station) = self.store.station(station, false).await else { return Vec::new() };
        let consumer = self.store.consumer(&station, Some(&name("readback")), "tests").await.expect("a group");
        let fetch = Fetch {
            station: &station,
            consumer: &consumer,
            records_max: 5_000,
            bytes_max: 1 << 24,
            wait: Duration::ZERO,
        };
        let delivered = self.backend.fetch(&fetch).await.expect("messages");
        self.backend.settle(&station, &consumer, &delivered, Settlement::Redeliver);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let arena = &delivered.arena;
        delivered
            .messages
            .iter()
            .map(|message| (text(message.headers.of(arena)), text(message.payload.of(arena))))
            .collect()
    }

    /// Only the payloads of these.
    pub(crate) async fn payloads(&self, station: &Name) -> Vec<String> {
        self.records(station).await.into_iter().map(|(_, payload)| payload).collect()
    }
}

/// Counts from now on how often the shard gets to other work. Within [`run`] alone.
pub(crate) fn count_other_work() -> Rc<Cell<u32>> {
    let turns = Rc::new(Cell::new(0));
    let counted = Rc::clone(&turns);
    rt::spawn(async move {
        loop {
            rt::sleep(Duration::ZERO).await;
            counted.set(counted.get() + 1);
        }
    });
    turns
}
