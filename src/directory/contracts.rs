//! What each station asks of its records and does with those that fail: one immutable snapshot.
//!
//! Built by the control plane from the registry, one for each shard, replaced whole. A station without an entry has
//! the default contract.

use crate::{schema::Schema, station::Name};
use std::{collections::HashMap, sync::Arc};

/// A schema in force.
#[derive(Debug)]
pub struct ActiveSchema {
    /// Its name.
    pub name: Name,
    /// The active version.
    pub version: u32,
    /// It, compiled for this shard alone.
    pub schema: Schema,
}

/// What a station asks of its records, and does with those that fail.
#[derive(Debug, Clone)]
pub struct Contract {
    /// What records are held against.
    pub schema: Option<Arc<ActiveSchema>>,
    /// Why no record can be taken: there is a schema that records are to be held against, and it is not there or of no use here.
    pub blocked: Option<Box<str>>,
    /// What records are to be held against is being compiled: none is taken, nor held against what was before.
    pub compiling: bool,
    /// Records that fail validation are kept as dead letters.
    pub invalid_to_dead_letters: bool,
    /// A record that was handed out this often without being acknowledged becomes a dead letter; `None`: never.
    pub deliveries_max: Option<u32>,
}

/// How often a record is handed out at most, unless the station says otherwise (the original's bound).
pub const DELIVERIES_MAX_DEFAULT: u32 = 10;

impl Default for Contract {
    fn default() -> Self {
        Self {
            schema: None,
            blocked: None,
            compiling: false,
            invalid_to_dead_letters: true,
            deliveries_max: Some(DELIVERIES_MAX_DEFAULT),
        }
    }
}

/// The contracts of all stations that have one of their own.
#[derive(Debug, Default)]
pub struct Contracts {
    stations: HashMap<Name, Contract>,
    default: Contract,
    /// Of the registry, as of which this is true.
    pub revision: u64,
    /// Whether the registry was read at all: before that, nothing is known of any station.
    pub complete: bool,
    /// Whether others write to the registry too: then this is true only as long as that is confirmed.
    pub shared: bool,
}

impl Contracts {
    /// The snapshot of these.
    #[must_use]
    pub fn new(stations: HashMap<Name, Contract>, revision: u64) -> Self {
        Self { stations, default: Contract::default(), revision, complete: true, shared: false }
    }

    /// The same, of a registry that others write to as well.
    #[must_use]
    pub fn of_shared_registry(self) -> Self {
        Self { shared: true, ..self }
    }

    /// The contract of a station. Dead letters themselves have none: they are stored as they are.
    #[must_use]
    pub fn of(&self, station: &Name) -> &Contract {
        self.stations.get(station).unwrap_or(&self.default)
    }
}
