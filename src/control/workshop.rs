//! Makes the contracts of all stations out of the book, one snapshot for each shard.
//!
//! Only schemas that are attached are compiled, once for each shard, on the blocking threads. What has not changed is
//! used again: a change of one schema costs the same among a thousand. A version that does not compile here never
//! replaces the one that does; where there is none, the station takes no record at all.

use super::{
    book::Book,
    documents::{SchemaDocument, StationDocument},
};
use crate::{
    directory::contracts::{ActiveSchema, Contract, Contracts},
    limits::SCHEMA_COMPILE_TIMEOUT,
    schema::{Schema, SchemaSource},
    station::Name,
};
use futures_util::StreamExt;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use tokio::time::timeout;

/// Schemas that are compiled at a time: fewer than there are blocking threads, which passwords need too.
const COMPILING_MAX: usize = 3;

/// The schemas that were compiled, and for how many shards.
#[derive(Debug)]
pub(super) struct Workshop {
    shards: usize,
    /// Whether others write to the registry as well.
    shared: bool,
    shelf: BTreeMap<Name, Made>,
}

/// What was made of a schema.
#[derive(Debug)]
struct Made {
    /// The document that was looked at last.
    document: Arc<SchemaDocument>,
    /// What is in force, for each shard its own; none if nothing has ever compiled.
    compiled: Vec<Arc<ActiveSchema>>,
    /// Why the document's active version does not compile.
    fault: Option<Box<str>>,
}

impl Made {
    /// Whether this document asks for what was made already.
    fn serves(&self, document: &Arc<SchemaDocument>) -> bool {
        if Arc::ptr_eq(&self.document, document) {
            return true;
        }
        let (known, wanted) = (self.document.version(self.document.active), document.version(document.active));
        let same = known.zip(wanted).is_some_and(|(known, wanted)| known.says_the_same(wanted));
        same && (self.document.kind, self.document.active) == (document.kind, document.active)
    }
}

impl Workshop {
    pub(super) fn new(shards: usize, shared: bool) -> Self {
        Self { shards, shared, shelf: BTreeMap::new() }
    }

    /// Schemas that are attached and do not compile.
    pub(super) fn faults(&self) -> usize {
        self.shelf.values().filter(|made| made.fault.is_some()).count()
    }

    /// The contracts that the book says, by shard.
    pub(super) async fn contracts(&mut self, book: &Book) -> Vec<Arc<Contracts>> {
        self.compile(book).await;
        let of_shard = |shard| {
            let told = book.stations.iter().map(|(name, entry)| (name.clone(), self.contract(&entry.document, shard)));
            let unknown = book.stations.unknown().map(|name| (name, unknown_station()));
            let contracts = Contracts::new(told.chain(unknown).collect::<HashMap<_, _>>(), book.revision);
            Arc::new(if self.shared { contracts.of_shared_registry() } else { contracts })
        };
        (0..self.shards).map(of_shard).collect()
    }

    fn contract(&self, document: &StationDocument, shard: usize) -> Contract {
        let dead_letters = &document.dead_letters;
        let mut contract = Contract {
            schema: None,
            blocked: None,
            invalid_to_dead_letters: dead_letters.invalid,
            deliveries_max: Some(dead_letters.deliveries_max).filter(|max| *max > 0),
        };
        if let Some(name) = &document.schema {
            let made = self.shelf.get(name);
            contract.schema = made.and_then(|made| made.compiled.get(shard)).cloned();
            if contract.schema.is_none() {
                let fault = made.and_then(|made| made.fault.as_deref()).unwrap_or("it is not in the registry");
                contract.blocked = Some(format!("the station's schema {name} cannot be used: {fault}").into());
            }
        }
        contract
    }

    /// Compiles what is attached and has changed, and lets go of what is not attached any more.
    async fn compile(&mut self, book: &Book) {
        let attached: BTreeSet<Name> =
            book.stations.iter().filter_map(|(_, entry)| entry.document.schema.clone()).collect();
        self.shelf.retain(|name, _| attached.contains(name) && book.schemas.get(name).is_some());
        let mut changed = Vec::new();
        for name in attached {
            let Some(entry) = book.schemas.get(&name) else { continue };
            match self.shelf.get_mut(&name) {
                Some(made) if made.serves(&entry.document) => made.document = Arc::clone(&entry.document),
                _ => changed.push((name, Arc::clone(&entry.document))),
            }
        }
        let copies = self.shards;
        let results = futures_util::stream::iter(changed).map(|(name, document)| async move {
            let result = match document.source(document.active) {
                Some(source) => compile(source, copies).await,
                None => Err("the active version is not there".to_owned()),
            };
            (name, document, result)
        });
        let results: Vec<_> = results.buffer_unordered(COMPILING_MAX).collect().await;
        for (name, document, result) in results {
            self.take(name, document, result);
        }
    }

    fn take(&mut self, name: Name, document: Arc<SchemaDocument>, result: Result<Vec<Schema>, String>) {
        let version = document.active;
        let before = self.shelf.remove(&name).map(|made| made.compiled).unwrap_or_default();
        let (compiled, fault) = match result {
            Ok(schemas) => {
                let active = |schema| Arc::new(ActiveSchema { name: name.clone(), version, schema });
                (schemas.into_iter().map(active).collect(), None)
            }
            Err(reason) => {
                tracing::error!(schema = %name, version, %reason, "registry: a schema does not compile and is not used");
                (before, Some(reason.into()))
            }
        };
        self.shelf.insert(name, Made { document, compiled, fault });
    }
}

/// The contract of a station whose document does not load: it may have a schema.
fn unknown_station() -> Contract {
    let blocked = "what the registry says of this station cannot be read here";
    Contract { blocked: Some(blocked.into()), ..Contract::default() }
}

/// Compiles a schema so many times, away from the control thread and for a bounded time. The error is its compiler's text.
pub(super) async fn compile(source: SchemaSource, copies: usize) -> Result<Vec<Schema>, String> {
    let work = tokio::task::spawn_blocking(move || {
        let compiled: Result<Vec<Schema>, _> = (0..copies).map(|_| Schema::compile(&source)).collect();
        compiled.map_err(|error| error.0)
    });
    match timeout(SCHEMA_COMPILE_TIMEOUT, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the compiler broke down".to_owned()),
        Err(_) => Err(format!("it did not compile within {} s", SCHEMA_COMPILE_TIMEOUT.as_secs())),
    }
}
