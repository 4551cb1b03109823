//! The registry: small documents by key, with revisions, in the broker's key-value bucket or in the
//! embedded store.
//!
//! Writing is conditional on a revision, so that two who change the same document cannot both win, and nobody removes
//! what he has not seen. Everything is read at once ([`Registry::list`]), or at once and then change by change
//! ([`NatsRegistry::follow`]). The meaning of the documents is not known here.

pub(super) mod documents;
pub(super) mod snapshot;

use super::{
    nats::client::{CallError, NatsClient, codes},
    streams::nats::provision::stream_info,
};
use crate::{
    backend::local,
    limits::{CONFIRM_TIMEOUT, REGISTRY_BYTES_MAX, REGISTRY_DOCUMENTS_MAX, REGISTRY_PEER_SILENT_MAX},
    reject::Reject,
};
use async_nats::jetstream::{kv, stream::Info};
use futures_util::{StreamExt, stream::BoxStream};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Between two attempts to reach the bucket's leader.
const KNOCK_INTERVAL: Duration = Duration::from_millis(100);
/// The time to read the whole bucket.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the documents are.
#[derive(Debug, Clone)]
pub(super) enum Registry {
    /// In the broker.
    Nats(NatsRegistry),
    /// In the embedded store.
    Local(Arc<local::Store>),
    /// In a map, for tests.
    #[cfg(test)]
    Memory(memory::Documents),
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

impl Listing {
    /// The listing of a registry that is never made anew under a running process and loses nothing.
    fn of_one_life(documents: Vec<Change>) -> Self {
        Self { made: 0, last: u64::MAX, seen: 0, documents }
    }
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
            Self::Failed(reject) => reject.fmt(formatter),
        }
    }
}

impl Registry {
    /// Returns all documents.
    pub(super) async fn list(&self) -> Result<Listing, RegistryError> {
        match self {
            Self::Nats(nats) => Ok(nats.follow().await?.listing),
            Self::Local(store) => {
                let store = Arc::clone(store);
                // Listing reads the disk.
                let listed = tokio::task::spawn_blocking(move || store.registry_list("")).await;
                let listed = listed.unwrap_or(Err(Reject::Internal("a call of the store did not return")));
                let change = |document: local::Document| Change {
                    key: document.key,
                    bytes: Some(document.value),
                    revision: document.revision,
                };
                let listed = listed.map_err(RegistryError::Failed)?;
                Ok(Listing::of_one_life(listed.into_iter().map(change).collect()))
            }
            #[cfg(test)]
            Self::Memory(documents) => Ok(Listing::of_one_life(documents.list().await)),
        }
    }

    /// Returns when the registry was made, and its last revision; nothing, if nobody else writes to it.
    pub(super) async fn last(&self) -> Result<Option<(i128, u64)>, RegistryError> {
        match self {
            Self::Nats(nats) if *nats.broker.up().borrow() => nats.last().await.map(Some),
            Self::Nats(_) => Err(RegistryError::Failed(Reject::BrokerAway)),
            Self::Local(_) => Ok(None),
            #[cfg(test)]
            Self::Memory(_) => Ok(None),
        }
    }

    /// Writes a document if it has the expected revision now, 0 for "is not there". Returns its new revision.
    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>, expected: u64) -> Result<u64, RegistryError> {
        match self {
            Self::Nats(nats) => nats.put(key, bytes, expected).await,
            Self::Local(store) => Ok(store.registry_put(key, &bytes, Some(expected)).await?),
            #[cfg(test)]
            Self::Memory(documents) => documents.put(key, bytes, expected).await,
        }
    }

    /// Removes a document if it has the expected revision now.
    pub(super) async fn delete(&self, key: &str, expected: u64) -> Result<(), RegistryError> {
        match self {
            Self::Nats(nats) => nats.delete(key, expected).await,
            Self::Local(store) => {
                store.registry_delete(key, Some(expected)).await?;
                Ok(())
            }
            #[cfg(test)]
            Self::Memory(documents) => documents.delete(key, expected).await,
        }
    }
}

impl From<local::PutError> for RegistryError {
    fn from(error: local::PutError) -> Self {
        match error {
            local::PutError::Conflict { .. } => Self::Conflict,
            local::PutError::Rejected(reject) => Self::Failed(reject),
        }
    }
}

/// The bucket in the broker. Opened anew for each use: uses are rare, and nothing can go stale.
#[derive(Debug, Clone)]
pub(super) struct NatsRegistry {
    broker: NatsClient,
    bucket: String,
    replicas: u8,
}

impl NatsRegistry {
    pub(super) fn new(broker: NatsClient, bucket: String, replicas: u8) -> Self {
        Self { broker, bucket, replicas }
    }

    pub(super) fn broker(&self) -> &NatsClient {
        &self.broker
    }

    /// Reads everything, and then follows the changes. One consumer does both, in the order of revisions, so that
    /// nothing lies between.
    pub(super) async fn follow(&self) -> Result<Followed, RegistryError> {
        let timed_out = |_| RegistryError::Failed(Reject::ControlTimeout);
        let (asked, made, last) = timeout(LIST_TIMEOUT, self.reached()).await.map_err(timed_out)??;
        timeout(LIST_TIMEOUT, self.read(Reached { asked, made, last }))
            .await
            .unwrap_or(Err(RegistryError::Failed(Reject::ControlTimeout)))
    }

    /// Asks the bucket's leader how far it is, until it answers. A request that is sent while there is no leader is
    /// lost, and its sender would wait long for nothing. A bucket that is not there, or that may not be read, counts as
    /// one with nothing in it.
    async fn reached(&self) -> Result<(Instant, i128, u64), RegistryError> {
        loop {
            let asked = Instant::now();
            match timeout(CONFIRM_TIMEOUT, self.last()).await {
                Ok(Err(RegistryError::Failed(Reject::BrokerAway | Reject::ControlTimeout))) | Err(_) => {}
                Ok(Ok((made, last))) => return Ok((asked, made, last)),
                // The caller reads the bucket next, and makes it or is refused then.
                Ok(Err(_)) => return Ok((asked, 0, u64::MAX)),
            }
            sleep(KNOCK_INTERVAL).await;
        }
    }

    async fn read(&self, reached: Reached) -> Result<Followed, RegistryError> {
        let store = self.open().await?;
        // The information was just read, and from the leader.
        let info = store.stream.cached_info();
        let (made, last) = (info.created.unix_timestamp_nanos(), info.state.last_sequence);
        let mut watch = store.watch_with_history(">").await.map_err(failed)?;
        let mut documents: Vec<Change> = Vec::new();
        let mut bytes = 0;
        let mut pending = info.state.messages;
        while pending > 0 {
            let Some(entry) = watch.next().await else { return Err(failed("the watch ended")) };
            let entry = entry.map_err(failed)?;
            pending = entry.delta;
            bytes += entry.value.len();
            if documents.len() >= REGISTRY_DOCUMENTS_MAX || bytes > REGISTRY_BYTES_MAX {
                let text = format!(
                    "the bucket {:?} holds more than {REGISTRY_DOCUMENTS_MAX} documents or {REGISTRY_BYTES_MAX} bytes",
                    self.bucket
                );
                return Err(RegistryError::Failed(Reject::BrokerFailed(text.into())));
            }
            documents.push(change(entry));
        }
        let newest = documents.iter().map(|change| change.revision).max().unwrap_or(0);
        let seen = if newest < last && self.nothing_after(newest).await? { last } else { newest };
        let changes = watch.map(|entry| entry.map(change).map_err(failed)).boxed();
        Ok(Followed { reached, listing: Listing { made, last, seen, documents }, changes })
    }

    /// Returns whether the bucket's leader has nothing newer: what was newest may have been removed without a trace.
    async fn nothing_after(&self, revision: u64) -> Result<bool, RegistryError> {
        let verb = format!("STREAM.MSG.GET.{}", self.stream());
        let body = serde_json::json!({ "seq": revision + 1, "next_by_subj": format!("$KV.{}.>", self.bucket) });
        match self.broker.call::<serde_json::Value>(&verb, &body).await {
            Ok(_) => Ok(false),
            Err(CallError::Refused(codes::MESSAGE_NOT_FOUND, _)) => Ok(true),
            Err(error) => Err(RegistryError::Failed(error.into())),
        }
    }

    /// Returns when the bucket was made, and its last revision, as its leader has it now.
    pub(super) async fn last(&self) -> Result<(i128, u64), RegistryError> {
        let info: Result<Info, CallError> =
            self.broker.call(&format!("STREAM.INFO.{}", self.stream()), &serde_json::json!({})).await;
        let info = info.map_err(|error| RegistryError::Failed(error.into()))?;
        if !is_led(&info) {
            self.broker.is_leaderless();
            return Err(RegistryError::Failed(Reject::BrokerAway));
        }
        self.broker.serves();
        Ok((info.created.unix_timestamp_nanos(), info.state.last_sequence))
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, expected: u64) -> Result<u64, RegistryError> {
        let store = self.open().await?;
        match expected {
            0 => store.create(key, bytes.into()).await.map_err(|error| match error.kind() {
                kv::CreateErrorKind::AlreadyExists => RegistryError::Conflict,
                _ => failed(error),
            }),
            revision => store.update(key, bytes.into(), revision).await.map_err(|error| match error.kind() {
                kv::UpdateErrorKind::WrongLastRevision => RegistryError::Conflict,
                _ => failed(error),
            }),
        }
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<(), RegistryError> {
        let deleted = self.open().await?.delete_expect_revision(key, Some(expected)).await;
        deleted.map_err(|error| match error.kind() {
            kv::DeleteErrorKind::WrongLastRevision => RegistryError::Conflict,
            _ => failed(error),
        })
    }

    async fn open(&self) -> Result<kv::Store, RegistryError> {
        let reject = |error| RegistryError::Failed(Reject::from(error));
        match stream_info(&self.broker, &self.stream()).await {
            Ok(_) => {}
            Err(error) if error.is_absent() => {
                let config = kv::Config {
                    bucket: self.bucket.clone(),
                    description: "Sluicegate: users, keys, schemas and stations that all gateways share".to_owned(),
                    history: 1,
                    num_replicas: usize::from(self.replicas.max(1)),
                    ..kv::Config::default()
                };
                match self.broker.jetstream().create_key_value(config).await {
                    Ok(store) => {
                        tracing::info!(bucket = %self.bucket, "created the registry");
                        return Ok(store);
                    }
                    // Another gateway may have been quicker; if not, opening it says what is wrong.
                    Err(error) => tracing::warn!(bucket = %self.bucket, %error, "could not create the registry"),
                }
            }
            Err(error) => return Err(reject(error)),
        }
        self.broker.jetstream().get_key_value(&self.bucket).await.map_err(failed)
    }
}

/// How far the bucket was, as its leader said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// When the leader was asked: the bucket was this far then, or further.
    pub(super) asked: Instant,
    /// When the bucket was made.
    pub(super) made: i128,
    /// Its last revision.
    pub(super) last: u64,
}

/// Returns whether the answer is from a leader whom the others follow. A member that has lost the others answers as
/// well, with what it last knew.
fn is_led(info: &Info) -> bool {
    let Some(cluster) =
        info.cluster.as_ref().filter(|cluster| cluster.name.as_ref().is_some_and(|name| !name.is_empty()))
    else {
        // A server that is alone.
        return true;
    };
    let heard = cluster.replicas.iter().filter(|peer| !peer.offline && peer.active <= REGISTRY_PEER_SILENT_MAX).count();
    cluster.leader.as_ref().is_some_and(|leader| !leader.is_empty()) && 2 * (heard + 1) > cluster.replicas.len() + 1
}

/// A registry that was read, and the changes that follow.
pub(super) struct Followed {
    /// How far the bucket was before that.
    pub(super) reached: Reached,
    pub(super) listing: Listing,
    /// The changes after it. The stream ends, or yields an error, when some may have been missed.
    pub(super) changes: BoxStream<'static, Result<Change, RegistryError>>,
}

fn change(entry: kv::Entry) -> Change {
    let put = entry.operation == kv::Operation::Put;
    Change { key: entry.key, bytes: put.then(|| entry.value.to_vec()), revision: entry.revision }
}

fn failed(error: impl fmt::Display) -> RegistryError {
    let text = error.to_string();
    let timed_out = text.contains("timed out");
    RegistryError::Failed(if timed_out { Reject::ControlTimeout } else { Reject::BrokerFailed(text.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_only_a_leader_whom_the_others_follow_can_confirm() {
        let peer = |active_ms: u64, offline: bool| serde_json::json!({"name": "p", "current": true, "active": active_ms * 1_000_000, "offline": offline});
        let (here, gone, late) = (peer(200, false), peer(200, true), peer(60_000, false));
        for (cluster, expect) in [
            (serde_json::json!(null), true),
            (serde_json::json!({"leader": "NA4YDJ"}), true),
            (serde_json::json!({"name": "c", "leader": "a"}), true),
            (serde_json::json!({"name": "c", "leader": "a", "replicas": [here, here]}), true),
            (serde_json::json!({"name": "c", "leader": "a", "replicas": [late, here]}), true),
            (serde_json::json!({"name": "c", "leader": "a", "replicas": [late, late]}), false),
            (serde_json::json!({"name": "c", "leader": "a", "replicas": [gone, late]}), false),
            (serde_json::json!({"name": "c", "leader": "a", "replicas": [here, here, late, late]}), true),
            (serde_json::json!({"name": "c", "leader": "a", "replicas": [here, gone, late, late]}), false),
            (serde_json::json!({"name": "c", "replicas": [here, here]}), false),
            (serde_json::json!({"name": "c", "leader": "", "replicas": [here, here]}), false),
        ] {
            let info = serde_json::json!({
                "config": {"name": "KV_x", "retention": "limits", "storage": "file", "discard": "new", "num_replicas": 3,
                    "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "duplicate_window": 0},
                "created": "2026-11-30T12:00:00Z",
                "state": {"messages": 0, "bytes": 0, "first_seq": 0, "first_ts": "2026-11-30T12:00:00Z", "last_seq": 0,
                    "last_ts": "2026-11-30T12:00:00Z", "consumer_count": 0},
                "cluster": cluster,
            });
            let info: Info = serde_json::from_value(info).expect("an answer");
            assert_eq!(is_led(&info), expect, "{:?}", info.cluster);
        }
    }
}

#[cfg(test)]
pub(super) mod memory {
    //! A registry without a backend.

    use super::{Change, RegistryError};
    use std::{collections::BTreeMap, sync::Arc};
    use tokio::sync::{Mutex, watch};

    /// Documents in a map.
    #[derive(Debug, Clone, Default)]
    pub(in super::super) struct Documents {
        state: Arc<Mutex<State>>,
        /// Changes with each write.
        written: watch::Sender<u64>,
    }

    #[derive(Debug, Default)]
    struct State {
        documents: BTreeMap<String, (Vec<u8>, u64)>,
        revision: u64,
    }

    impl Documents {
        pub(in super::super) async fn list(&self) -> Vec<Change> {
            let state = self.state.lock().await;
            let change = |(key, (bytes, revision)): (&String, &(Vec<u8>, u64))| Change {
                key: key.clone(),
                bytes: Some(bytes.clone()),
                revision: *revision,
            };
            state.documents.iter().map(change).collect()
        }

        pub(in super::super) async fn put(
            &self,
            key: &str,
            bytes: Vec<u8>,
            expected: u64,
        ) -> Result<u64, RegistryError> {
            let mut state = self.state.lock().await;
            state.compare(key, expected)?;
            state.revision += 1;
            let revision = state.revision;
            state.documents.insert(key.to_owned(), (bytes, revision));
            self.written.send_modify(|count| *count += 1);
            Ok(revision)
        }

        pub(in super::super) async fn delete(&self, key: &str, expected: u64) -> Result<(), RegistryError> {
            let mut state = self.state.lock().await;
            state.compare(key, expected)?;
            state.documents.remove(key);
            self.written.send_modify(|count| *count += 1);
            Ok(())
        }

        /// Follows all writes, whoever made them.
        pub(in super::super) fn written(&self) -> watch::Receiver<u64> {
            self.written.subscribe()
        }
    }

    impl State {
        fn compare(&self, key: &str, expected: u64) -> Result<(), RegistryError> {
            let current = self.documents.get(key).map_or(0, |(_, revision)| *revision);
            if expected == current { Ok(()) } else { Err(RegistryError::Conflict) }
        }
    }
}
