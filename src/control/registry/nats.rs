//! The registry in the broker's key-value bucket, which all gateways share.

use super::{Answer, Change, Followed, Listing, Reached, RegistryError, RegistryStore};
use crate::{
    control::nats::client::{CallError, NatsClient, codes},
    limits::{
        CONFIRM_TIMEOUT, REGISTRY_BYTES_MAX, REGISTRY_DOCUMENTS_MAX, REGISTRY_LIST_TIMEOUT, REGISTRY_PEER_SILENT_MAX,
    },
    reject::Reject,
    rt::clock,
};
use async_nats::jetstream::{kv, stream::Info};
use futures_util::StreamExt;
use serde::de::IgnoredAny;
use std::{fmt, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two attempts to reach the bucket's leader.
const KNOCK_INTERVAL: Duration = Duration::from_millis(100);

/// The bucket in the broker. Opened anew for each use: uses are rare, and nothing can go stale.
#[derive(Debug, Clone)]
pub(in crate::control) struct NatsRegistry {
    broker: NatsClient,
    bucket: String,
    replicas: u8,
}

impl NatsRegistry {
    pub(in crate::control) fn new(broker: NatsClient, bucket: String, replicas: u8) -> Self {
        Self { broker, bucket, replicas }
    }

    /// Reads everything, and then follows the changes. One consumer does both, in the order of revisions, so that
    /// nothing lies between.
    async fn read_and_follow(&self) -> Result<Followed, RegistryError> {
        let timed_out = |_| RegistryError::Failed(Reject::ControlTimeout);
        let reached = timeout(REGISTRY_LIST_TIMEOUT, self.reached()).await.map_err(timed_out)?;
        timeout(REGISTRY_LIST_TIMEOUT, self.read(reached)).await.map_err(timed_out)?
    }

    /// Asks the bucket's leader how far it is, until it answers. A request that is sent while there is no leader is
    /// lost, and its sender would wait long for nothing. A bucket that is not there, or that may not be read, counts as
    /// one with nothing in it.
    async fn reached(&self) -> Reached {
        loop {
            let asked = clock::now();
            match timeout(CONFIRM_TIMEOUT, self.last_revision()).await {
                Ok(Err(RegistryError::Failed(Reject::BrokerAway | Reject::ControlTimeout))) | Err(_) => {}
                Ok(Ok((made, last))) => return Reached { asked, made, last },
                // The caller reads the bucket next, and makes it or is refused then.
                Ok(Err(_)) => return Reached { asked, made: 0, last: u64::MAX },
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
        Ok(Followed { reached: Some(reached), listing: Listing { made, last, seen, documents }, changes })
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
    async fn last_revision(&self) -> Result<(i128, u64), RegistryError> {
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

    async fn write(&self, key: &str, bytes: Vec<u8>, expected: u64) -> Result<u64, RegistryError> {
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

    async fn remove(&self, key: &str, expected: u64) -> Result<(), RegistryError> {
        let deleted = self.open().await?.delete_expect_revision(key, Some(expected)).await;
        deleted.map_err(|error| match error.kind() {
            kv::DeleteErrorKind::WrongLastRevision => RegistryError::Conflict,
            _ => failed(error),
        })
    }

    async fn open(&self) -> Result<kv::Store, RegistryError> {
        let reject = |error| RegistryError::Failed(Reject::from(error));
        let verb = format!("STREAM.INFO.{}", self.stream());
        match self.broker.look::<IgnoredAny>(&verb, &serde_json::json!({})).await {
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

impl RegistryStore for NatsRegistry {
    fn is_shared(&self) -> bool {
        true
    }

    /// A new connection, at any time, may have lost a change: then the changes end, and reading begins again.
    fn follow(&self) -> Answer<'_, Followed> {
        Box::pin(async move {
            let (mut connections, mut up) = (self.broker.connections(), self.broker.up());
            loop {
                // The sender lives as long as the connection task, and that as long as the runtime.
                drop(up.wait_for(|up| *up).await);
                connections.mark_unchanged();
                tokio::select! {
                    followed = self.read_and_follow() => {
                        let Followed { reached, listing, changes } = followed?;
                        let changes = changes.take_until(async move { drop(connections.changed().await) }).boxed();
                        return Ok(Followed { reached, listing, changes });
                    }
                    _ = connections.changed() => {}
                }
            }
        })
    }

    fn last(&self) -> Answer<'_, Option<(i128, u64)>> {
        Box::pin(async move {
            if *self.broker.up().borrow() {
                return self.last_revision().await.map(Some);
            }
            Err(RegistryError::Failed(Reject::BrokerAway))
        })
    }

    fn put<'a>(&'a self, key: &'a str, bytes: Vec<u8>, expected: u64) -> Answer<'a, u64> {
        Box::pin(self.write(key, bytes, expected))
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> Answer<'a, ()> {
        Box::pin(self.remove(key, expected))
    }
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
