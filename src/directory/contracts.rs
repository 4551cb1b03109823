//! What each station requires of its records, and what becomes of those that fail: one immutable snapshot.
//!
//! The control plane builds it from the registry, one for each shard, and replaces it as a whole. A station without an
//! entry has the default contract.

use crate::{schema::Schema, station::Name};
use std::{collections::HashMap, sync::Arc};

/// An active schema.
#[derive(Debug)]
pub struct ActiveSchema {
    /// Its name.
    pub name: Name,
    /// The active version.
    pub version: u32,
    /// The schema, compiled for this shard alone.
    pub schema: Schema,
}

/// What a station requires of its records, and what becomes of those that fail.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The schema that records are validated by.
    pub schema: Option<Arc<ActiveSchema>>,
    /// Why no record can be taken: the station has a schema, and it is not there or cannot be used here.
    pub blocked: Option<Box<str>>,
    /// The station's schema is being compiled: no record is taken, nor validated by the schema before.
    pub compiling: bool,
    /// Records that fail validation are kept as dead letters.
    pub invalid_to_dead_letters: bool,
    /// A record that was delivered this often without being acknowledged becomes a dead letter; `None`: never.
    pub deliveries_max: Option<u32>,
}

/// How often a record is delivered at most, unless the station says otherwise (the original's bound).
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
    /// Whether the registry was read at all: before that, nothing is known of any station.
    pub complete: bool,
    /// Whether others write to the registry too: then this is true only as long as that is confirmed.
    pub shared: bool,
}

impl Contracts {
    /// The snapshot of these contracts.
    #[must_use]
    pub fn new(stations: HashMap<Name, Contract>) -> Self {
        Self { stations, default: Contract::default(), complete: true, shared: false }
    }

    /// The same, of a registry that others write to as well.
    #[must_use]
    pub fn of_shared_registry(self) -> Self {
        Self { shared: true, ..self }
    }

    /// Returns the contract of a station. Dead letters themselves have none: they are stored as they are.
    #[must_use]
    pub fn of(&self, station: &Name) -> &Contract {
        self.stations.get(station).unwrap_or(&self.default)
    }
}
