//! The registry: small documents by key, with revisions, in the broker's key-value bucket ([`nats`]) or in the
//! embedded store ([`local`]). Which of the two is decided once, when the control plane starts (docs/adr/0040).
//!
//! Writing is conditional on a revision, so that two who change the same document cannot both win, and nobody removes
//! what he has not seen. Everything is read at once and then change by change ([`RegistryStore::follow`]). The meaning
//! of the documents is not known here.

pub(super) mod documents;
pub(super) mod local;
pub(super) mod nats;
pub(super) mod snapshot;

use crate::reject::Reject;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use std::{
    fmt::{self, Debug},
    future::ready,
    time::Instant,
};
use tokio::sync::watch;

/// The answer of a registry.
pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, RegistryError>>;

/// Where the documents are.
pub(super) trait RegistryStore: Debug + Send + Sync {
    /// Returns whether other gateways write to it as well: what is known of it has an age then, and is confirmed.
    fn is_shared(&self) -> bool;

    /// Reads everything, and then follows the changes: nothing lies between. It waits until the registry can be
    /// reached.
    fn follow(&self) -> Answer<'_, Followed>;

    /// Returns when the registry was made, and its last revision; nothing, if nobody else writes to it.
    fn last(&self) -> Answer<'_, Option<(i128, u64)>>;

    /// Writes a document if it has the expected revision now, 0 for "is not there". Returns its new revision.
    fn put<'a>(&'a self, key: &'a str, bytes: Vec<u8>, expected: u64) -> Answer<'a, u64>;

    /// Removes a document if it has the expected revision now.
    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> Answer<'a, ()>;
}

/// A change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    /// `None`: removed.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) revision: u64,
}

/// Everything that a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// When the registry was made. If this differs, revisions have begun again; if it is the same, a lower revision is
    /// old news.
    pub(super) made: i128,
    /// The highest revision that the registry has given. If a higher one was seen, the registry has lost some, and
    /// gives them once more.
    pub(super) last: u64,
    /// The listing leaves nothing out up to this revision, whatever the revisions of its documents.
    pub(super) seen: u64,
    /// All documents, and removals.
    pub(super) documents: Vec<Change>,
}

/// Why a document was not written or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RegistryError {
    /// It has another revision than expected.
    Conflict,
    /// The backend failed.
    Failed(Reject),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => formatter.write_str("a document was changed by others at the same time"),
            Self::Failed(Reject::BrokerAway) => formatter.write_str("the broker is away, or has no leader"),
            Self::Failed(Reject::ControlTimeout) => formatter.write_str("no answer came in time"),
            Self::Failed(Reject::BrokerForbidden(subject)) => {
                write!(formatter, "the broker's permissions forbid the gateway {subject}")
            }
            Self::Failed(Reject::BrokerFailed(text) | Reject::BrokerRefused(_, text) | Reject::StoreFailed(text)) => {
                formatter.write_str(text)
            }
            Self::Failed(reject) => write!(formatter, "{reject}"),
        }
    }
}

/// How far a shared registry was, as its leader said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// When the leader was asked: it was this far then, or further.
    pub(super) asked: Instant,
    /// When it was made.
    pub(super) made: i128,
    /// Its last revision.
    pub(super) last: u64,
}

/// A registry that was read, and the changes that follow.
pub(super) struct Followed {
    /// How far it was before that, if others write to it as well.
    pub(super) reached: Option<Reached>,
    pub(super) listing: Listing,
    /// The changes after it. The stream ends, or yields an error, when some may have been missed.
    pub(super) changes: BoxStream<'static, Result<Change, RegistryError>>,
}

impl Followed {
    /// A registry that is never made anew under a running process, loses nothing, and has no other writers: it is read
    /// again after the next write.
    pub(super) fn until_written(documents: Vec<Change>, mut written: watch::Receiver<u64>) -> Self {
        let listing = Listing { made: 0, last: u64::MAX, seen: 0, documents };
        let write = stream::once(async move { drop(written.changed().await) });
        Self { reached: None, listing, changes: write.filter_map(|()| ready(None)).boxed() }
    }
}
