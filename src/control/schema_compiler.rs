//! Compiles the contracts of all stations from the registry's snapshot, into one [`Contracts`] for each shard.
//!
//! Only schemas that are attached are compiled, once for each shard, on the blocking threads. What has not changed is
//! used again: a change of one schema costs the same among a thousand. A version that does not compile here never
//! replaces the one that does; where there is none, the station takes no record at all.
//!
//! Only its own stations wait for a schema that takes long: the contracts of the others, and their confirmation, go on
//! to the shards meanwhile.

use super::registry::{
    documents::{SchemaDocument, StationDocument},
    snapshot::Snapshot,
};
use crate::{
    directory::contracts::{ActiveSchema, Contract, Contracts},
    limits::{SCHEMA_COMPILE_TIMEOUT, SCHEMAS_COMPILED_AT_ONCE_MAX},
    schema::{Schema, SchemaSource},
    station::Name,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// How long a snapshot waits for schemas that are being compiled: most are done by then, and many that are done one
/// after the other make one snapshot. Short of what a confirmation may be late
/// ([`CONTRACTS_AGE_MAX`](crate::limits::CONTRACTS_AGE_MAX)).
const GRACE: Duration = Duration::from_millis(100);

/// The schemas that were compiled, and for how many shards.
#[derive(Debug)]
pub(super) struct SchemaCompiler {
    shards: usize,
    /// Whether others write to the registry as well.
    shared: bool,
    cache: BTreeMap<Name, Compiled>,
    /// The schemas that are being compiled.
    works: JoinSet<Work>,
    /// The number of the newest of them.
    works_begun: u64,
    places: Arc<Semaphore>,
    /// Whether a schema was compiled that no snapshot has yet.
    untold: bool,
}

/// A schema that was compiled for all shards.
struct Work {
    name: Name,
    number: u64,
    version: u32,
    result: Result<Vec<Schema>, String>,
}

/// The result of compiling a schema.
#[derive(Debug)]
struct Compiled {
    /// The document that was looked at last.
    document: Arc<SchemaDocument>,
    /// The active version, for each shard its own; none if nothing has ever compiled.
    schemas: Vec<Arc<ActiveSchema>>,
    /// Why the document's active version does not compile.
    fault: Option<Box<str>>,
    /// The compilation whose result becomes active.
    work: Option<u64>,
}

impl Compiled {
    /// Returns whether what was made already is what this document needs.
    fn serves(&self, document: &Arc<SchemaDocument>) -> bool {
        if Arc::ptr_eq(&self.document, document) {
            return true;
        }
        let (known, wanted) = (self.document.version(self.document.active), document.version(document.active));
        let same = known.zip(wanted).is_some_and(|(known, wanted)| known.says_the_same(wanted));
        same && (self.document.kind, self.document.active) == (document.kind, document.active)
    }
}

impl SchemaCompiler {
    pub(super) fn new(shards: usize, shared: bool) -> Self {
        Self {
            shards,
            shared,
            cache: BTreeMap::new(),
            works: JoinSet::new(),
            works_begun: 0,
            places: Arc::new(Semaphore::new(SCHEMAS_COMPILED_AT_ONCE_MAX)),
            untold: false,
        }
    }

    /// Returns the schemas that are attached and do not compile.
    pub(super) fn faults(&self) -> usize {
        self.cache.values().filter(|made| made.fault.is_some()).count()
    }

    /// Returns the schemas that are attached and being compiled.
    pub(super) fn compiling(&self) -> BTreeSet<Name> {
        self.cache.iter().filter(|(_, made)| made.work.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// Returns whether a schema was compiled that no snapshot has yet.
    pub(super) fn has_news(&self) -> bool {
        self.untold
    }

    /// Returns the contracts of the snapshot, by shard, with what is compiled by now.
    pub(super) fn contracts(&mut self, snapshot: &Snapshot) -> Vec<Arc<Contracts>> {
        self.untold = false;
        let of_shard = |shard| {
            let told =
                snapshot.stations.iter().map(|(name, entry)| (name.clone(), self.contract(&entry.document, shard)));
            let unknown = snapshot.stations.unknown().map(|name| (name, unknown_station()));
            let contracts = Contracts::new(told.chain(unknown).collect::<HashMap<_, _>>());
            Arc::new(if self.shared { contracts.of_shared_registry() } else { contracts })
        };
        (0..self.shards).map(of_shard).collect()
    }

    fn contract(&self, document: &StationDocument, shard: usize) -> Contract {
        let dead_letters = &document.dead_letters;
        let mut contract = Contract {
            schema: None,
            blocked: None,
            compiling: false,
            invalid_to_dead_letters: dead_letters.invalid,
            deliveries_max: Some(dead_letters.deliveries_max).filter(|max| *max > 0),
        };
        if let Some(name) = &document.schema {
            let made = self.cache.get(name);
            contract.schema = made.and_then(|made| made.schemas.get(shard)).cloned();
            contract.compiling = made.is_some_and(|made| made.work.is_some());
            if contract.schema.is_none() && !contract.compiling {
                let fault = made.and_then(|made| made.fault.as_deref()).unwrap_or("it is not in the registry");
                contract.blocked = Some(format!("the station's schema {name} cannot be used: {fault}").into());
            }
        }
        contract
    }

    /// Begins to compile what is attached and has changed, and drops what is no longer attached.
    pub(super) fn order(&mut self, snapshot: &Snapshot) {
        let attached: BTreeSet<Name> =
            snapshot.stations.iter().filter_map(|(_, entry)| entry.document.schema.clone()).collect();
        self.cache.retain(|name, _| attached.contains(name) && snapshot.schemas.get(name).is_some());
        for name in attached {
            let Some(entry) = snapshot.schemas.get(&name) else { continue };
            match self.cache.get_mut(&name) {
                Some(made) if made.serves(&entry.document) => made.document = Arc::clone(&entry.document),
                _ => self.begin(name, Arc::clone(&entry.document)),
            }
        }
    }

    fn begin(&mut self, name: Name, document: Arc<SchemaDocument>) {
        self.works_begun += 1;
        let (number, version, copies) = (self.works_begun, document.active, self.shards);
        let (source, places, of) = (document.source(version), Arc::clone(&self.places), name.clone());
        self.works.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            let result = match source {
                Some(source) => compile(source, copies).await,
                None => Err("the active version is not there".to_owned()),
            };
            Work { name: of, number, version, result }
        });
        let schemas = self.cache.remove(&name).map(|made| made.schemas).unwrap_or_default();
        self.cache.insert(name, Compiled { document, schemas, fault: None, work: Some(number) });
    }

    /// Returns when a schema was compiled that no snapshot has yet; never, if none is being compiled.
    pub(super) async fn finished(&mut self) {
        while !self.untold {
            match self.works.join_next().await {
                Some(Ok(work)) => self.take(work),
                // Nothing in it can panic.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
        self.settle().await;
    }

    /// Waits a little for what is being compiled.
    pub(super) async fn settle(&mut self) {
        let all = async {
            while self.cache.values().any(|made| made.work.is_some()) {
                let Some(work) = self.works.join_next().await else { break };
                if let Ok(work) = work {
                    self.take(work);
                }
            }
        };
        // What is not done by then goes on.
        let _not_all = timeout(GRACE, all).await;
    }

    fn take(&mut self, work: Work) {
        let Work { name, number, version, result } = work;
        // The schema was detached, or changed again meanwhile.
        let Some(made) = self.cache.get_mut(&name).filter(|made| made.work == Some(number)) else { return };
        made.work = None;
        match result {
            Ok(schemas) => {
                let active = |schema| Arc::new(ActiveSchema { name: name.clone(), version, schema });
                made.schemas = schemas.into_iter().map(active).collect();
            }
            Err(reason) => {
                tracing::error!(schema = %name, version, %reason, "registry: a schema does not compile and is not used");
                made.fault = Some(reason.into());
            }
        }
        self.untold = true;
    }
}

/// Returns the contract of a station whose document does not load: it may have a schema.
fn unknown_station() -> Contract {
    let blocked = "what the registry says of this station cannot be read here";
    Contract { blocked: Some(blocked.into()), ..Contract::default() }
}

/// Compiles a schema so many times, away from the control thread and for a bounded time. The error is its compiler's
/// text. (The time is for each: what one gateway took in does not fail on another that has more shards.)
pub(super) async fn compile(source: SchemaSource, copies: usize) -> Result<Vec<Schema>, String> {
    let work = tokio::task::spawn_blocking(move || {
        let compiled: Result<Vec<Schema>, _> = (0..copies).map(|_| Schema::compile(&source)).collect();
        compiled.map_err(|error| error.0)
    });
    let limit = SCHEMA_COMPILE_TIMEOUT.saturating_mul(u32::try_from(copies).unwrap_or(u32::MAX));
    match timeout(limit, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the compiler broke down".to_owned()),
        Err(_) => Err(format!("it did not compile within {} s", limit.as_secs())),
    }
}
