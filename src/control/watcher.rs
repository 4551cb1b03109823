//! Follows the registry: keeps the snapshot as the registry has it, and sends the shards every change.
//!
//! It reads everything, then follows. Whatever may have lost a change (a new connection, an error of the watch, a
//! minute gone by, a revision that does not come) leads to reading everything again; the working snapshot stays active
//! until that has succeeded. The embedded store has no other writer than this process, so its changes end, and it is
//! read again, with each write; and after a minute all the same.
//!
//! Between changes it asks a shared registry how far it is. If the registry is no further than the snapshot, it
//! confirms to the shards that what they know was true when it asked: they validate no record by older knowledge.
//! Nothing that takes long comes between, least of all the compiling of a schema: its stations wait for it, and no
//! others.

use super::{
    fanout::ShardFanout,
    key_usage::KeyUsage,
    knowledge::Knowledge,
    registry::{
        Followed, RegistryError, RegistryStore,
        snapshot::{Root, Snapshot},
    },
    schema_compiler::SchemaCompiler,
};
use crate::{
    auth::Users,
    config::Unconfirmed,
    directory::messages::ShardUpdate,
    limits::{
        CONFIRM_INTERVAL, CONFIRM_TIMEOUT, REGISTRY_REASONS_LOGGED_MAX, REGISTRY_RETRY_PAUSE_MAX,
        REGISTRY_RETRY_PAUSE_MIN, REGISTRY_WATCH_LAG_MAX,
    },
    metrics::ControlMetrics,
    reject::Reject,
    rt::clock,
};
use futures_util::{FutureExt, StreamExt};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// How long after the last time everything is read again, whatever was seen of changes.
const REREAD_INTERVAL: Duration = Duration::from_secs(60);

/// The task that owns the snapshot.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) registry: Arc<dyn RegistryStore>,
    /// The root user, whose name no document may take.
    pub(super) root: Root,
    knowledge: Knowledge,
    pub(super) fanout: ShardFanout,
    pub(super) metrics: Arc<ControlMetrics>,
    /// Where others read the snapshot.
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) usage: KeyUsage,
    pub(super) schema_compiler: SchemaCompiler,
    reread_interval: Duration,
}

/// The answer of a shared registry when it was asked how far it is.
struct RevisionProbe {
    sent: Instant,
    /// The revision of the snapshot at that time.
    known: u64,
    /// When it was made, and its last revision; none if no answer came in time.
    answer: Option<Result<Option<(i128, u64)>, RegistryError>>,
}

impl Watcher {
    /// A watcher that has read nothing.
    pub(super) fn new(
        registry: Arc<dyn RegistryStore>,
        root: Root,
        knowledge: Knowledge,
        fanout: ShardFanout,
        metrics: Arc<ControlMetrics>,
    ) -> Self {
        let (snapshot, _) = watch::channel(Arc::new(Snapshot::default()));
        let shared = registry.is_shared();
        let shards = fanout.shards();
        Self {
            registry,
            root,
            knowledge,
            fanout,
            metrics,
            snapshot,
            usage: KeyUsage::new(shards),
            schema_compiler: SchemaCompiler::new(shards, shared),
            reread_interval: REREAD_INTERVAL,
        }
    }

    /// Runs for ever.
    pub(super) async fn run(mut self) {
        let mut retry = REGISTRY_RETRY_PAUSE_MIN;
        if self.registry.is_shared() {
            // Root can log in before the broker has been reached.
            let snapshot = Arc::clone(&self.snapshot.borrow());
            self.tell_users(&snapshot).await;
        }
        let knowledge = self.knowledge.clone();
        let mut failure = Failure::default();
        loop {
            let before = Arc::clone(&self.snapshot.borrow());
            let result = tokio::select! {
                result = self.follow(&mut failure) => result,
                () = knowledge.expired(), if !before.unconfirmed => {
                    self.grow_too_old().await;
                    continue;
                }
            };
            let Err(error) = result else {
                retry = REGISTRY_RETRY_PAUSE_MIN;
                continue;
            };
            failure.again(&error);
            if let RegistryError::Failed(
                reject @ (Reject::BrokerForbidden(_) | Reject::BrokerRefused(..) | Reject::BrokerFailed(_)),
            ) = error
            {
                self.snapshot.send_modify(|snapshot| Arc::make_mut(snapshot).refused = Some(reject));
            }
            sleep(retry).await;
            let progressed = self.snapshot.borrow().loaded != before.loaded;
            retry = if progressed { REGISTRY_RETRY_PAUSE_MIN } else { (retry * 2).min(REGISTRY_RETRY_PAUSE_MAX) };
        }
    }

    /// Confirms that the registry said at that time what is known here.
    async fn confirm(&mut self, at: Instant) {
        self.knowledge.confirm(at);
        self.metrics.registry_confirmed.set(now_unix_s());
        self.fanout.offer(&ShardUpdate::Confirmed(at));
        if self.snapshot.borrow().unconfirmed {
            self.snapshot.send_modify(|snapshot| Arc::make_mut(snapshot).unconfirmed = false);
            tracing::info!("registry: it confirms again what is known of users and API keys");
            if self.knowledge.when_too_old == Unconfirmed::Refuse {
                let snapshot = Arc::clone(&self.snapshot.borrow());
                self.tell_users(&snapshot).await;
            }
        }
    }

    /// Reports that the registry has not confirmed for too long what is known here.
    async fn grow_too_old(&mut self) {
        self.snapshot.send_modify(|snapshot| Arc::make_mut(snapshot).unconfirmed = true);
        let for_s = self.knowledge.age_max().as_secs();
        match self.knowledge.when_too_old {
            Unconfirmed::Serve => {
                tracing::warn!(
                    for_s,
                    "registry: it does not confirm users and API keys; they are served as they were last known"
                );
            }
            Unconfirmed::Refuse => {
                tracing::warn!(
                    for_s,
                    "registry: it does not confirm users and API keys; all but root are refused until it does"
                );
                let snapshot = Arc::clone(&self.snapshot.borrow());
                self.tell_users(&snapshot).await;
            }
        }
    }

    /// Reads everything, and follows the changes, until everything has to be read again.
    async fn follow(&mut self, failure: &mut Failure) -> Result<(), RegistryError> {
        let registry = Arc::clone(&self.registry);
        let Followed { reached, listing, mut changes } = registry.follow().await?;
        let mut snapshot = Snapshot::clone(&self.snapshot.borrow());
        snapshot.reconcile(&listing);
        let whole = reached.filter(|before| snapshot.is_as_far(before.made, before.last));
        self.publish(snapshot).await;
        failure.over();
        if let Some(before) = reached {
            self.knowledge.begin(before.asked);
        }
        if let Some(before) = whole {
            self.confirm(before.asked).await;
        }
        let shared = registry.is_shared();
        let reread = sleep(self.reread_interval);
        let probe = probe_revision(&*registry, self.snapshot.subscribe());
        tokio::pin!(reread, probe);
        let mut behind = None;
        loop {
            tokio::select! {
                change = changes.next() => {
                    let Some(change) = change else { return Ok(()) };
                    let mut snapshot = Snapshot::clone(&self.snapshot.borrow());
                    snapshot.apply(&change?);
                    // One snapshot for all changes that are here already.
                    while let Some(Some(change)) = changes.next().now_or_never() {
                        snapshot.apply(&change?);
                    }
                    self.publish(snapshot).await;
                }
                probed = &mut probe, if shared => {
                    if !self.holds(&probed, &mut behind).await? {
                        return Ok(());
                    }
                    probe.set(probe_revision(&*registry, self.snapshot.subscribe()));
                }
                () = self.schema_compiler.finished() => self.publish_compiled().await,
                () = &mut reread => return Ok(()),
            }
        }
    }

    /// Confirms the snapshot to the shards, if it is as far as the bucket. `false`: everything has to be read again.
    async fn holds(&mut self, probed: &RevisionProbe, behind: &mut Option<Instant>) -> Result<bool, RegistryError> {
        let (made, last) = match &probed.answer {
            Some(Ok(Some(answer))) => *answer,
            // The bucket is gone.
            Some(Err(error @ RegistryError::Failed(Reject::BrokerRefused(..) | Reject::BrokerFailed(_)))) => {
                return Err(error.clone());
            }
            Some(Ok(None) | Err(_)) | None => return Ok(true),
        };
        let snapshot = Arc::clone(&self.snapshot.borrow());
        if !snapshot.is_of(made) || last < probed.known {
            return Ok(false);
        }
        if snapshot.revision >= last {
            *behind = None;
            self.confirm(probed.sent).await;
            return Ok(true);
        }
        let since = *behind.get_or_insert(probed.sent);
        Ok(clock::since(since) < REGISTRY_WATCH_LAG_MAX)
    }

    /// Sends a snapshot first to the shards, then publishes it to everybody else: a reader who sees a document in the
    /// snapshot may rely on every shard knowing it by then.
    async fn publish(&mut self, snapshot: Snapshot) {
        let before = Arc::clone(&self.snapshot.borrow());
        if !before.loaded || !snapshot.users.same(&before.users) || !snapshot.keys.same(&before.keys) {
            self.usage.retain(&snapshot.keys);
            self.tell_users(&snapshot).await;
        }
        let changed =
            !before.loaded || !snapshot.stations.same(&before.stations) || !snapshot.schemas.same(&before.schemas);
        if changed {
            self.schema_compiler.order(&snapshot);
            self.schema_compiler.settle().await;
        }
        if changed || self.schema_compiler.has_news() {
            self.tell_contracts(&snapshot).await;
        }
        self.show(snapshot).await;
        self.forget_changed(&before).await;
    }

    /// Sends the shards what was compiled since; the snapshot itself is as it was.
    async fn publish_compiled(&mut self) {
        let snapshot = Snapshot::clone(&self.snapshot.borrow());
        self.tell_contracts(&snapshot).await;
        self.show(snapshot).await;
    }

    async fn tell_contracts(&mut self, snapshot: &Snapshot) {
        let contracts = self.schema_compiler.contracts(snapshot);
        self.fanout.send_each(|shard| contracts.get(shard).cloned().map(ShardUpdate::Contracts)).await;
    }

    /// Publishes a snapshot that the shards were sent.
    async fn show(&self, mut snapshot: Snapshot) {
        self.fanout.barrier().await;
        let gauges = [
            (&self.metrics.registry_revision, snapshot.revision),
            (&self.metrics.users, snapshot.users.len() as u64),
            (&self.metrics.schemas, snapshot.schemas.len() as u64),
            (&self.metrics.stations, snapshot.stations.len() as u64),
            (&self.metrics.keys, snapshot.keys.len() as u64),
            (&self.metrics.documents_refused, (snapshot.faults() + self.schema_compiler.faults()) as u64),
        ];
        for (gauge, value) in gauges {
            gauge.set(value);
        }
        snapshot.compiling = self.schema_compiler.compiling();
        snapshot.compiled |= snapshot.compiling.is_empty();
        self.snapshot.send_replace(Arc::new(snapshot));
    }

    /// Has the shards invalidate stations that are another stream now, or whose stream another gateway has changed (how
    /// long it knows message ids counts there). This comes after the snapshot is published: a shard that asks again is
    /// answered from it. A stream is changed before the registry says so.
    async fn forget_changed(&self, before: &Snapshot) {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        if snapshot.stations.same(&before.stations) {
            return;
        }
        let said = |snapshot: &Snapshot, name| {
            let document = snapshot.stations.get(name).map(|entry| &entry.document);
            let adopted = document.and_then(|document| document.adopted.clone());
            // No shard knew a station before there was a snapshot.
            (adopted, document.and_then(|document| document.given.clone()).filter(|_| before.loaded))
        };
        let names = before.stations.iter().chain(snapshot.stations.iter()).map(|(name, _)| name);
        for name in names.filter(|name| said(before, name) != said(&snapshot, name)) {
            self.fanout.broadcast(&ShardUpdate::Forget(name.clone())).await;
        }
    }

    async fn tell_users(&self, snapshot: &Snapshot) {
        let Root { name, version } = &self.root;
        let believed = !(snapshot.unconfirmed && self.knowledge.when_too_old == Unconfirmed::Refuse);
        let users = if snapshot.loaded && believed {
            let keys = snapshot.keys.iter().filter_map(|(id, entry)| entry.document.record(id, self.usage.of(id)));
            Users::new(name, *version, snapshot.user_records(&self.root)).with_keys(keys)
        } else {
            Users::unread(name, *version)
        };
        self.fanout.broadcast(&ShardUpdate::Users(Arc::new(users))).await;
    }
}

/// The registry cannot be read: logged when it begins, once for each reason, and when it is over.
#[derive(Debug, Default)]
struct Failure {
    attempts: u64,
    said: Vec<String>,
}

impl Failure {
    fn again(&mut self, error: &RegistryError) {
        self.attempts += 1;
        let why = error.to_string();
        if !self.said.contains(&why) && self.said.len() < REGISTRY_REASONS_LOGGED_MAX {
            tracing::warn!(%why, "registry: it cannot be read; what is known so far stays active, and it is tried again");
            self.said.push(why);
        }
    }

    fn over(&mut self) {
        if self.attempts > 0 {
            tracing::info!(failed_attempts = self.attempts, "registry: it is read again");
        }
        *self = Self::default();
    }
}

fn now_unix_s() -> u64 {
    clock::unix_time().as_secs()
}

/// Asks a shared registry how far it is, after a while.
async fn probe_revision(registry: &dyn RegistryStore, snapshot: watch::Receiver<Arc<Snapshot>>) -> RevisionProbe {
    sleep(CONFIRM_INTERVAL).await;
    let known = snapshot.borrow().revision;
    let sent = clock::now();
    let answer = timeout(CONFIRM_TIMEOUT, registry.last()).await.ok();
    RevisionProbe { sent, known, answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{
            registry::documents::{Document, StationDocument},
            tests::{
                fakes::registry::Documents,
                support::{PATIENCE, settings},
            },
        },
        limits::Limits,
    };

    #[tokio::test]
    async fn a_change_that_nobody_told_of_is_found_also_where_others_do_not_write() {
        let (metrics, documents) = (Arc::new(ControlMetrics::default()), Documents::default());
        let knowledge = Knowledge::new(&Limits::default(), Unconfirmed::Serve);
        let (registry, root) = (Arc::new(documents.clone()), Root::new(&settings(0).auth));
        let fanout = ShardFanout::new(Vec::new(), Arc::clone(&metrics));
        let mut watcher = Watcher::new(registry, root, knowledge, fanout, metrics);
        watcher.reread_interval = Duration::from_millis(10);
        let mut snapshot = watcher.snapshot.subscribe();
        tokio::spawn(watcher.run());
        snapshot.wait_for(|snapshot| snapshot.loaded).await.expect("the watcher runs");
        let document = StationDocument::default().store().expect("JSON");
        documents.put_untold("stations.orders", &document).await;
        let found = timeout(PATIENCE, snapshot.wait_for(|snapshot| snapshot.stations.len() == 1)).await;
        assert!(found.is_ok(), "it is read again after a while");
    }
}
