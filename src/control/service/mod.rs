//! The service behind the admin listener: readiness, metrics, and what the registry holds.
//!
//! A change is acknowledged after the registry has it *and* the shards of this gateway have been sent it, so that the
//! next request sees it. Other gateways learn of it by their watch.

mod dead_letters;
mod error;
mod groups;
mod keys;
mod schemas;
mod stations;
mod users;

pub use error::{AdminError, What};

use super::{
    fanout::ShardFanout,
    guesses::Network,
    health::BackendHealth,
    hex::hex,
    key_usage::KeyUsage,
    logins::Logins,
    passwords::{self, Expected, Passwords},
    registry::{
        RegistryError, RegistryStore,
        documents::{Document, check_patterns},
        snapshot::{Collection, Entry, Snapshot},
    },
    streams::{GroupAdmin, RecordStore, StreamAdmin},
    watcher::Watcher,
};
use crate::{
    api::pages::{Page, PageRequest},
    config::Settings,
    limits::{PAGE_MAX, REGISTRY_ECHO_TIMEOUT, REGISTRY_LOOK_TIMEOUT},
    metrics::{self, ControlMetrics, ProcessMetrics, ShardMetrics},
    reject::Reject,
    station::{Name, Pattern},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::watch, time::timeout};

/// What the admin API may ask of the control plane and change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AdminService(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Arc<Settings>,
    registry: Arc<dyn RegistryStore>,
    streams: Arc<dyn StreamAdmin>,
    records: Arc<dyn RecordStore>,
    groups: Arc<dyn GroupAdmin>,
    health: Arc<dyn BackendHealth>,
    fanout: ShardFanout,
    usage: KeyUsage,
    passwords: Passwords,
    logins: Logins,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    draining: Arc<AtomicBool>,
    control: Arc<ControlMetrics>,
    shards: Vec<Arc<ShardMetrics>>,
}

/// What an [`AdminService`] is made of.
#[derive(Debug)]
pub(super) struct AdminServiceParts {
    pub(super) settings: Arc<Settings>,
    pub(super) streams: Arc<dyn StreamAdmin>,
    pub(super) records: Arc<dyn RecordStore>,
    pub(super) groups: Arc<dyn GroupAdmin>,
    pub(super) health: Arc<dyn BackendHealth>,
    pub(super) passwords: Passwords,
    pub(super) logins: Logins,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) shards: Vec<Arc<ShardMetrics>>,
}

/// What a change makes of a document.
enum Amend<D> {
    Put(D),
    Delete,
    /// The document is as it should be.
    Keep,
}

/// What a change is decided from: the document as it works now, and everything else.
struct Now<'a, D> {
    /// The revision that is stored, 0 for none, also where that does not load.
    stored: u64,
    entry: Option<&'a Entry<D>>,
    snapshot: &'a Snapshot,
}

impl<'a, D> Now<'a, D> {
    fn document(&self) -> Option<&'a D> {
        self.entry.map(|entry| &*entry.document)
    }

    /// Returns whether the document that works is the one that is stored.
    fn is_whole(&self) -> bool {
        self.entry.is_some_and(|entry| entry.revision == self.stored)
    }
}

impl AdminService {
    /// The service in front of a watcher.
    pub(super) fn new(watcher: &Watcher, parts: AdminServiceParts) -> Self {
        Self(Arc::new(Inner {
            settings: parts.settings,
            registry: Arc::clone(&watcher.registry),
            streams: parts.streams,
            records: parts.records,
            groups: parts.groups,
            health: parts.health,
            fanout: watcher.fanout.clone(),
            usage: watcher.usage.clone(),
            passwords: parts.passwords,
            logins: parts.logins,
            snapshot: watcher.snapshot.subscribe(),
            draining: parts.draining,
            control: Arc::clone(&watcher.metrics),
            shards: parts.shards,
        }))
    }

    /// Returns what keeps the gateway from being ready: nothing, if it is.
    #[must_use]
    pub fn reasons_not_ready(&self) -> Vec<&'static str> {
        let snapshot = Arc::clone(&self.0.snapshot.borrow());
        let own = |holds: bool, reason: &'static str| holds.then_some(reason);
        let mut reasons: Vec<&'static str> = Vec::new();
        reasons.extend(own(self.0.draining.load(Ordering::Relaxed), "draining"));
        reasons.extend(self.0.health.reasons_not_ready());
        reasons.extend(own(!snapshot.loaded, "users not loaded"));
        reasons.extend(own(snapshot.unconfirmed, "registry not confirmed"));
        reasons.extend(own(snapshot.loaded && !snapshot.compiled, "schemas not compiled"));
        reasons
    }

    /// Returns why nothing but a new process helps, if that is so.
    #[must_use]
    pub fn reason_not_alive(&self) -> Option<String> {
        self.0.health.reason_not_alive()
    }

    /// Returns all metrics as Prometheus text.
    #[must_use]
    pub fn metrics_text(&self, process: Option<ProcessMetrics>) -> String {
        let inner = &self.0;
        let keys: Vec<(String, u64)> =
            inner.snapshot.borrow().keys.iter().map(|(id, _)| (id.to_string(), inner.usage.uses(id).0)).collect();
        metrics::render(metrics::Sources {
            shards: &inner.shards,
            control: &inner.control,
            store: inner.health.store_metrics(),
            process,
            keys: &keys,
        })
    }

    /// Checks whether this is the root user's name and password; the error is that of a login ([`Logins::check`]).
    pub async fn login_root(&self, username: &str, password: &str) -> Result<(), Reject> {
        let auth = &self.0.settings.auth;
        let username = username.to_ascii_lowercase();
        let is_root = passwords::same(&username, &auth.root_user);
        let expected = if is_root { Expected::Text(auth.root_password.clone()) } else { Expected::Nothing };
        self.0.logins.check(&username, Network::ADMIN, password.into(), expected).await
    }

    /// Returns the snapshot, with all that any gateway acknowledged before this call. While the registry cannot be
    /// asked, it is the snapshot that is active here, once there is one.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, AdminError> {
        match timeout(REGISTRY_LOOK_TIMEOUT, self.newest_snapshot()).await {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(_)) | Err(_) => self.known_snapshot().await,
        }
    }

    /// Returns the snapshot, with all that any gateway acknowledged before this call: nothing is refused because this
    /// gateway has not yet seen a change.
    async fn newest_snapshot(&self) -> Result<Arc<Snapshot>, AdminError> {
        let known = self.known_snapshot().await?;
        match self.0.registry.last().await {
            Ok(Some((made, last))) if !known.is_as_far(made, last) => {
                self.until(|snapshot| snapshot.is_as_far(made, last)).await
            }
            Ok(_) => Ok(known),
            Err(RegistryError::Failed(reject)) => Err(AdminError::Backend(reject)),
            Err(RegistryError::Conflict) => Err(AdminError::Contended),
        }
    }

    /// Returns the active snapshot, once there is one.
    async fn known_snapshot(&self) -> Result<Arc<Snapshot>, AdminError> {
        let mut snapshot = self.0.snapshot.clone();
        match timeout(self.0.settings.limits.hold, snapshot.wait_for(|snapshot| snapshot.loaded)).await {
            Ok(Ok(snapshot)) => Ok(Arc::clone(&snapshot)),
            _ => Err(AdminError::Backend(Reject::BrokerAway)),
        }
    }

    /// Changes a document by comparing and swapping: `change` decides again, at most so often, as long as somebody else
    /// is quicker. Returns when the snapshot shows the change.
    async fn amend<D: Document>(
        &self,
        collection: fn(&Snapshot) -> &Collection<D>,
        name: &Name,
        attempts: usize,
        change: impl Fn(Now<'_, D>) -> Result<Amend<D>, AdminError>,
    ) -> Result<Arc<Snapshot>, AdminError> {
        for _ in 0..attempts {
            let snapshot = self.newest_snapshot().await?;
            let of = collection(&snapshot);
            let stored = of.stored_revision(name).unwrap_or(0);
            let amend = change(Now { stored, entry: of.get(name), snapshot: &snapshot })?;
            let key = D::key(name);
            let result = match amend {
                Amend::Keep => return Ok(snapshot),
                Amend::Put(document) => {
                    let bytes = document.store().map_err(AdminError::Invalid)?;
                    self.0.registry.put(&key, bytes, stored).await.map(Some)
                }
                // There is nothing to delete.
                Amend::Delete if stored == 0 => return Ok(snapshot),
                Amend::Delete => self.0.registry.delete(&key, stored).await.map(|()| None),
            };
            let shown = |snapshot: &Snapshot| collection(snapshot).stored_revision(name);
            match result {
                // The document was there and is gone: somebody else removed it.
                Ok(Some(revision)) if stored > 0 => {
                    return self.until(|snapshot| shown(snapshot).is_none_or(|have| have >= revision)).await;
                }
                Ok(Some(revision)) => {
                    let known = |snapshot: &Snapshot| snapshot.revision >= revision;
                    return self
                        .until(|snapshot| known(snapshot) || shown(snapshot).is_some_and(|have| have >= revision))
                        .await;
                }
                // It is gone, or somebody else has made it again already.
                Ok(None) => return self.until(|snapshot| shown(snapshot).is_none_or(|have| have > stored)).await,
                // Somebody else was quicker: look at what has become of it.
                Err(RegistryError::Conflict) => {
                    self.until(|snapshot| shown(snapshot).unwrap_or(0) != stored).await?;
                }
                Err(RegistryError::Failed(reject)) => return Err(AdminError::Backend(reject)),
            }
        }
        Err(AdminError::Contended)
    }

    /// Waits until records are validated by the present version of this schema. Not for long: until then they are
    /// validated by nothing else, and are not taken.
    async fn compiled(&self, schema: &Name) {
        let mut snapshot = self.0.snapshot.clone();
        let compiled = snapshot.wait_for(|snapshot| !snapshot.compiling.contains(schema));
        let _not_yet = timeout(REGISTRY_ECHO_TIMEOUT, compiled).await;
    }

    /// Waits until the snapshot shows a change that the registry has taken.
    async fn until(&self, shows: impl Fn(&Snapshot) -> bool) -> Result<Arc<Snapshot>, AdminError> {
        let mut snapshot = self.0.snapshot.clone();
        match timeout(REGISTRY_ECHO_TIMEOUT, snapshot.wait_for(|snapshot| shows(snapshot))).await {
            Ok(Ok(snapshot)) => Ok(Arc::clone(&snapshot)),
            _ => Err(AdminError::Backend(Reject::ControlTimeout)),
        }
    }
}

/// Reads a name that the API was given, of something of this kind.
fn name_of<D: Document>(text: &str) -> Result<Name, AdminError> {
    Name::parse(text).map_err(|fault| AdminError::Invalid(fault.text(D::WHAT)))
}

/// Reads the patterns of an allow-list.
fn patterns(what: &str, given: &[String]) -> Result<Vec<Pattern>, AdminError> {
    let parsed: Result<Vec<Pattern>, String> = given.iter().map(|text| Pattern::parse(text)).collect();
    let parsed = parsed.map_err(|error| AdminError::Invalid(format!("{what}: {error}")))?;
    check_patterns(what, &parsed).map_err(AdminError::Invalid)?;
    Ok(parsed)
}

fn texts(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
}

/// Returns the tag of something that is shown: another as soon as any of this is another.
fn tag_of(shown: &impl Serialize) -> String {
    // Whatever is shown can be written as JSON; if it could not, it would have no tag that anybody could expect.
    let text = serde_json::to_vec(shown).unwrap_or_default();
    hex(Sha256::digest(&text).get(..16).unwrap_or_default())
}

/// Refuses a change of something that is not as the caller saw it.
fn check_tag(expected: Option<&str>, shown: &impl Serialize) -> Result<(), AdminError> {
    match expected {
        Some(expected) if expected != tag_of(shown) => Err(AdminError::Changed),
        _ => Ok(()),
    }
}

/// Returns the requested part of a list, which is in the order of keys.
fn page<T>(all: impl IntoIterator<Item = (String, T)>, ask: &PageRequest) -> Page<T> {
    let limit = ask.limit.clamp(1, PAGE_MAX);
    let mut rest = all.into_iter().filter(|(key, _)| ask.after.as_ref().is_none_or(|after| key > after)).peekable();
    let (mut items, mut next) = (Vec::new(), None);
    while items.len() < limit {
        let Some((key, item)) = rest.next() else { break };
        items.push(item);
        next = rest.peek().is_some().then_some(key);
    }
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_patterns_is_taken_whole_or_not_at_all() {
        let given = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let parsed = |list: &[&str]| patterns("produce", &given(list)).map(|list| texts(&list));
        assert_eq!(parsed(&[]), Ok(vec![]));
        assert_eq!(parsed(&["Prod.*", "a"]), Ok(vec!["prod.*".to_owned(), "a".to_owned()]));
        assert!(matches!(parsed(&["a", "a b"]), Err(AdminError::Invalid(text)) if text.contains("produce")));
        assert!(parsed(&["a"; 257]).is_err());
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let all = || (0..10).map(|number| (format!("k{number}"), number));
        for limit in 1..12 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let part = page(all(), &PageRequest { after, limit });
                assert!(part.items.len() <= limit);
                seen.extend(part.items);
                after = part.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..10).collect::<Vec<_>>(), "{limit}");
        }
        assert_eq!(page(all(), &PageRequest { after: Some("k9".to_owned()), limit: 5 }).items, Vec::<i32>::new());
        assert_eq!(
            page(all(), &PageRequest { after: None, limit: 0 }).items,
            [0],
            "at least one, so that there is progress"
        );
    }

    #[test]
    fn tags_differ_with_what_is_shown() {
        assert_eq!(tag_of(&"a"), tag_of(&"a"));
        assert_ne!(tag_of(&"a"), tag_of(&"b"));
        assert_eq!(check_tag(None, &"a"), Ok(()));
        assert_eq!(check_tag(Some(&tag_of(&"a")), &"a"), Ok(()));
        assert_eq!(check_tag(Some(&tag_of(&"a")), &"b"), Err(AdminError::Changed));
    }
}
