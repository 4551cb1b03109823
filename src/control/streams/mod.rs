//! Streams of stations: made, described, changed, removed; their dead letters and consumer groups; and how a shard's
//! request for a station or a group is answered.
//!
//! Each capability is a trait ([`StreamAdmin`], [`RecordStore`], [`GroupAdmin`], [`Provisioner`]), which [`nats`] and
//! [`local`] implement. Which of the two runs is decided once, when the control plane starts (docs/adr/0040).
//!
//! The stream is the truth of what a stream does (partitions, retention, storage, copies, duplicate window) as long as
//! it is there. The registry holds what only the gateway does, and the attributes that a lost stream is made of again
//! (docs/adr/0014). Nothing is cached here.

pub(super) mod local;
pub(super) mod nats;

use super::nats::publish_mode::StreamTraits;
use crate::{
    reject::Reject,
    station::{Attributes, AttributesChange, Consumer, DirectGet, Name, PublishMode, Station},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, sync::Arc};

/// The answer of a capability.
pub(super) type Answer<'a, T, E = StreamsError> = BoxFuture<'a, Result<T, E>>;

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

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The name that clients use.
    pub(super) name: String,
    /// When it was made, ms since 1970.
    pub(super) created_ms: Option<u64>,
    /// When it was last used, as far as that is known.
    pub(super) used_ms: Option<u64>,
    /// Who made it, if that is known.
    pub(super) principal: Option<String>,
}

/// Makes, describes, changes and removes the streams of stations.
pub(super) trait StreamAdmin: Debug + Send + Sync {
    /// Makes a station. Making it again with the same attributes is no error.
    fn create<'a>(&'a self, name: &'a Name, attributes: &'a Attributes) -> Answer<'a, ()>;

    /// Describes a station; [`StreamsError::Unknown`] if it does not exist.
    fn describe<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>) -> Answer<'a, Description>;

    /// Returns all stations that the backend knows as such, by name; without those of dead letters.
    fn list(&self) -> Answer<'_, Vec<Description>>;

    /// Changes a station.
    fn change<'a>(
        &'a self,
        name: &'a Name,
        adopted: Option<&'a Adopted>,
        change: &'a AttributesChange,
    ) -> Answer<'a, ()>;

    /// Removes a station with its records. That there is none is no error.
    fn remove<'a>(&'a self, name: &'a Name) -> Answer<'a, ()>;

    /// Checks whether this stream can serve as a station: [`StreamsError::Invalid`] says why not.
    fn check_adoptable<'a>(&'a self, name: &'a Name, adopted: &'a Adopted) -> Answer<'a, ()>;

    /// Returns whether a station's streams can be lost while the registry stays: they are kept apart from each other.
    fn can_be_lost(&self) -> bool;
}

/// Reads, removes and stores single records, outside of any consumer group: those of dead letters, above all.
pub(super) trait RecordStore: Debug + Send + Sync {
    /// Reads records of a station of one partition with sequences after this one, oldest first. It returns at most
    /// `limit`, and fewer if they are large ([`DEAD_LETTERS_BYTES_MAX`](crate::limits::DEAD_LETTERS_BYTES_MAX)): the
    /// end is reached only if none come. A station that does not exist has none.
    fn read<'a>(&'a self, name: &'a Name, after: u64, limit: usize) -> Answer<'a, Vec<StoredDeadLetter>>;

    /// Removes these records of a station of one partition, or all. Returns how many there were.
    fn discard<'a>(&'a self, name: &'a Name, sequences: Option<&'a [u64]>) -> Answer<'a, u64>;

    /// Stores one record (header fields and payload) in a station, under a message id; returns when it is acknowledged.
    fn store<'a>(
        &'a self,
        name: &'a Name,
        adopted: Option<&'a Adopted>,
        record: (&'a [u8], &'a [u8]),
        id: &'a str,
    ) -> Answer<'a, ()>;
}

/// Lists and removes consumer groups.
pub(super) trait GroupAdmin: Debug + Send + Sync {
    /// Returns the groups of a station, by name.
    fn groups<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>) -> Answer<'a, Vec<Group>>;

    /// Removes a group. Returns whether there was one.
    fn remove_group<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>, group: &'a Name) -> Answer<'a, bool>;
}

/// Finds or makes what a shard asks for. Its errors are what a client gets.
pub(super) trait Provisioner: Debug + Send + Sync {
    /// Waits until the backend can be asked. It fails if that takes longer than the hold.
    fn ready(&self) -> Answer<'_, (), Reject>;

    /// Finds a station. Where it is not there it is made: if it was there before ([`Registered::With`]), or with the
    /// attributes of the configuration, if `create` is set.
    fn station<'a>(&'a self, name: &'a Name, registered: Registered, create: bool) -> Answer<'a, Found, Reject>;

    /// Has the streams of a station allow reads by place. Returns how they can be read then.
    fn allow_direct_get<'a>(&'a self, station: &'a Station) -> BoxFuture<'a, DirectGet>;

    /// Decides how records are published to a station with these streams, from what is known now.
    fn publish_mode(&self, streams: &[StreamTraits]) -> PublishMode;

    /// Finds a consumer group, or makes it for this principal. `None`: the default group.
    fn consumer<'a>(
        &'a self,
        station: &'a Station,
        group: Option<&'a Name>,
        principal: &'a str,
    ) -> Answer<'a, Arc<Consumer>, Reject>;
}

/// What the registry says of a station's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Registered {
    /// Nothing.
    Nothing,
    /// Something that cannot be read here.
    Unreadable,
    /// The station is this stream, and is never made.
    Adopted(Adopted),
    /// The station was given these attributes.
    With(Attributes),
}

/// A station that was found or made. How records are published to it is decided when the answer is sent
/// ([`Provisioner::publish_mode`]).
#[derive(Debug)]
pub(super) struct Found {
    pub(super) station: Arc<Station>,
    /// What its streams can do.
    pub(super) streams: Box<[StreamTraits]>,
}
