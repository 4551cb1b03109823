//! Streams of stations, on either backend: made, described, changed, removed; dead letters read, removed, stored again.
//!
//! The stream is the truth of what a stream does (partitions, retention, storage, copies, duplicate window) as long as
//! it is there. The registry holds what only the gateway does, and the attributes that a lost stream is made of again
//! (docs/adr/0014). Nothing is cached here.

mod local;
#[cfg(test)]
pub(super) mod memory;
pub(super) mod nats;

use super::nats::client::NatsClient;
use crate::{
    backend::local::Store,
    config::StationSettings,
    reject::Reject,
    station::{Attributes, AttributesChange, Name},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The streams of a gateway's backend. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Streams {
    Nats(NatsClient, Arc<StationSettings>),
    Local(Arc<Store>),
    /// In a map, for tests.
    #[cfg(test)]
    Memory(memory::Stations),
}

/// An existing stream that serves as a station, as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adopted {
    pub(super) stream: String,
    pub(super) subject: String,
}

/// A station's streams, as they describe themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: Name,
    pub(super) attributes: Attributes,
    /// Records in all partitions.
    pub(super) records: u64,
    /// Bytes in all partitions.
    pub(super) bytes: u64,
}

/// Why streams were not made, changed or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamsError {
    /// There is such a station, with other attributes.
    Exists,
    /// There is no such station.
    Unknown,
    /// A stream of the station is not there; the text says which.
    Missing(String),
    /// The request is wrong or cannot be done to this stream; the text says what and why.
    Invalid(String),
    /// The backend failed; the change may have been made.
    Failed(Reject),
}

/// A dead letter, or another record that is read by itself and outside of any consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredDeadLetter {
    pub(super) sequence: u64,
    /// When it was stored, ms since 1970.
    pub(super) time_ms: u64,
    /// `Name: value\r\n` each.
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Streams {
    /// Makes a station. Making it again with the same attributes is no error.
    pub(super) async fn create(&self, name: &Name, attributes: &Attributes) -> Result<(), StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::create(broker, settings, name, attributes).await,
            Self::Local(store) => local::create(store, name, attributes).await,
            #[cfg(test)]
            Self::Memory(stations) => stations.create(name, attributes),
        }
    }

    /// Describes a station; [`StreamsError::Unknown`] if it does not exist.
    pub(super) async fn describe(&self, name: &Name, adopted: Option<&Adopted>) -> Result<Description, StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::describe(broker, settings, name, adopted).await,
            Self::Local(store) => local::describe(store, name).await,
            #[cfg(test)]
            Self::Memory(stations) => stations.describe(name, adopted),
        }
    }

    /// Returns whether a station's streams can be lost while the registry stays: they are kept apart from each other.
    pub(super) fn can_be_lost(&self) -> bool {
        !matches!(self, Self::Local(_))
    }

    /// Checks whether this stream can serve as a station: [`StreamsError::Invalid`] says why not.
    pub(super) async fn check_adoptable(&self, name: &Name, adopted: &Adopted) -> Result<(), StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::check_adoptable(broker, settings, name, adopted).await,
            Self::Local(_) => {
                let text = "the embedded store has no streams to adopt: a station of it is made by `station create`";
                Err(StreamsError::Invalid(text.to_owned()))
            }
            #[cfg(test)]
            Self::Memory(stations) => stations.describe(name, Some(adopted)).map(drop),
        }
    }

    /// Returns all stations that the backend knows as such, by name; without those of dead letters.
    pub(super) async fn list(&self) -> Result<Vec<Description>, StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::list(broker, settings).await,
            Self::Local(store) => local::list(store).await,
            #[cfg(test)]
            Self::Memory(stations) => stations.list(),
        }
    }

    /// Changes a station.
    pub(super) async fn change(
        &self,
        name: &Name,
        adopted: Option<&Adopted>,
        change: &AttributesChange,
    ) -> Result<(), StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::change(broker, settings, name, adopted, change).await,
            Self::Local(store) => local::change(store, name, change).await,
            #[cfg(test)]
            Self::Memory(stations) => stations.change(name, adopted, change),
        }
    }

    /// Removes a station with its records. That there is none is no error.
    pub(super) async fn remove(&self, name: &Name) -> Result<(), StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::remove(broker, settings, name).await,
            Self::Local(store) => local::remove(store, name).await,
            #[cfg(test)]
            Self::Memory(stations) => {
                stations.remove(name);
                Ok(())
            }
        }
    }

    /// Reads records of a station of one partition with sequences after this one, oldest first. It returns at most so
    /// many, and fewer if they are large ([`DEAD_LETTERS_BYTES_MAX`](crate::limits::DEAD_LETTERS_BYTES_MAX)): the end is reached
    /// only if none come. A station that does not exist has none.
    pub(super) async fn read(
        &self,
        name: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::read(broker, settings, name, after, limit).await,
            Self::Local(store) => local::read(store, name, after, limit).await,
            #[cfg(test)]
            Self::Memory(stations) => Ok(stations.read(name, after, limit)),
        }
    }

    /// Removes these records of a station of one partition, or all. Returns how many there were.
    pub(super) async fn discard(&self, name: &Name, sequences: Option<&[u64]>) -> Result<u64, StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::discard(broker, settings, name, sequences).await,
            Self::Local(store) => local::discard(store, name, sequences).await,
            #[cfg(test)]
            Self::Memory(stations) => stations.discard(name, sequences),
        }
    }

    /// Stores one record in a station, under a message id; returns when it is acknowledged.
    pub(super) async fn store(
        &self,
        name: &Name,
        adopted: Option<&Adopted>,
        headers: &[u8],
        payload: &[u8],
        id: &str,
    ) -> Result<(), StreamsError> {
        match self {
            Self::Nats(broker, settings) => nats::store(broker, settings, name, adopted, (headers, payload), id).await,
            Self::Local(store) => local::store(store, name, headers, payload, id).await,
            #[cfg(test)]
            Self::Memory(stations) => stations.store(name, adopted, headers, payload, id),
        }
    }
}
