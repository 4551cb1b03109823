//! What the admin listener may ask the control plane: readiness, numbers, and users.
//!
//! A change of a user is acknowledged after the registry has it *and* the shards of this gateway
//! have been told, so that the next request sees it. Other gateways learn of it by their watch.

mod dead_letters;
mod error;
mod keys;
mod rights;
mod schemas;
mod stations;
pub mod views;

pub use error::{DeskError, What};

use super::{
    keeper::Keeper,
    passwords::{self, Overloaded, Passwords},
    registry::{Registry, RegistryError},
    users::{self, Book, UserDocument},
};
use crate::{
    auth::password,
    backend::local::{Health, Store},
    config::{BackendSettings, Settings},
    metrics::{self, ControlMetrics, ProcessMetrics, ShardMetrics, StoreMetrics},
    reject::Reject,
    station::{Name, Pattern},
};
use serde::Serialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// How long a change that the registry has taken may need to come back through the watch.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a change is tried again because somebody else changed the same document.
const ATTEMPTS_MAX: usize = 4;

/// A hold on the control plane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Arc<Settings>,
    registry: Registry,
    passwords: Passwords,
    book: watch::Receiver<Arc<Book>>,
    changed: Arc<Notify>,
    draining: Arc<AtomicBool>,
    control: Arc<ControlMetrics>,
    shards: Vec<Arc<ShardMetrics>>,
    store: Option<Arc<Store>>,
    store_metrics: Option<Arc<StoreMetrics>>,
}

/// A user, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UserView {
    /// Lower-cased name.
    pub name: String,
    /// Tenant.
    pub account: u32,
    /// Stations that the user may produce to.
    pub produce: Vec<String>,
    /// Stations that the user may consume from.
    pub consume: Vec<String>,
    /// Whether this is the root user of the configuration.
    pub root: bool,
}

/// A user to be added.
#[derive(Debug)]
pub struct NewUser {
    /// The name as given.
    pub name: String,
    /// The password in clear.
    pub password: Box<str>,
    /// Patterns as given; `None`: everything.
    pub produce: Option<Vec<String>>,
    /// Patterns as given; `None`: everything.
    pub consume: Option<Vec<String>>,
}

/// What a desk is made of.
#[derive(Debug)]
pub(super) struct DeskParts {
    pub(super) settings: Arc<Settings>,
    pub(super) passwords: Passwords,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) shards: Vec<Arc<ShardMetrics>>,
    pub(super) store: Option<Arc<Store>>,
    pub(super) store_metrics: Option<Arc<StoreMetrics>>,
}

impl Desk {
    /// The desk in front of a keeper.
    pub(super) fn new(keeper: &Keeper, parts: DeskParts) -> Self {
        Self(Arc::new(Inner {
            settings: parts.settings,
            registry: keeper.registry.clone(),
            passwords: parts.passwords,
            book: keeper.book.subscribe(),
            changed: Arc::clone(&keeper.changed),
            draining: parts.draining,
            control: Arc::clone(&keeper.metrics),
            shards: parts.shards,
            store: parts.store,
            store_metrics: parts.store_metrics,
        }))
    }

    /// What keeps the gateway from being ready: nothing, if it is.
    #[must_use]
    pub fn reasons_not_ready(&self) -> Vec<&'static str> {
        let inner = &self.0;
        let on_broker = matches!(inner.settings.backend, BackendSettings::Nats(_));
        let broker_away =
            inner.control.broker_up.get() == 0 || inner.shards.iter().any(|shard| shard.link_up.get() == 0);
        let read_only = self.store_metrics().is_some_and(|store| store.read_only.get() != 0);
        [
            (inner.draining.load(Ordering::Relaxed), "draining"),
            (on_broker && broker_away, "broker away"),
            (read_only, "store read-only"),
            (!inner.book.borrow().loaded, "users not loaded"),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
        .collect()
    }

    /// All metrics as Prometheus text.
    #[must_use]
    pub fn metrics_text(&self, process: Option<ProcessMetrics>) -> String {
        let inner = &self.0;
        metrics::render(metrics::Sources {
            shards: &inner.shards,
            control: &inner.control,
            store: self.store_metrics(),
            process,
        })
    }

    /// What the store counts, with its health as it is now.
    fn store_metrics(&self) -> Option<&StoreMetrics> {
        let metrics = self.0.store_metrics.as_deref()?;
        if let Some(store) = &self.0.store {
            // Whatever else it is, it takes nothing.
            metrics.read_only.set(u64::from(!matches!(store.health(), Health::Writable)));
        }
        Some(metrics)
    }

    /// Whether this is the root user's name and password.
    #[must_use]
    pub fn is_root(&self, username: &str, password: &str) -> bool {
        let auth = &self.0.settings.auth;
        // Both are compared, whatever the first says.
        let name = passwords::same(&username.to_ascii_lowercase(), &auth.root_user);
        let secret = passwords::same(password, auth.root_password.expose());
        name & secret
    }

    /// All users, root first.
    pub async fn users(&self) -> Result<Vec<UserView>, DeskError> {
        let everything = || vec!["*".to_owned()];
        let root_user = &self.0.settings.auth.root_user;
        let root = UserView {
            name: root_user.clone(),
            account: users::ACCOUNT,
            produce: everything(),
            consume: everything(),
            root: true,
        };
        let book = self.book().await?;
        let others = book.iter().filter(|(name, _)| name.as_str() != root_user);
        Ok(std::iter::once(root).chain(others.map(|(name, entry)| view(name, &entry.document))).collect())
    }

    /// Adds a user.
    pub async fn add_user(&self, new: NewUser) -> Result<UserView, DeskError> {
        let name = self.name_of_other(&new.name)?;
        check_rules(&name, &new.password)?;
        let produce = patterns("produce", new.produce)?;
        let consume = patterns("consume", new.consume)?;
        // Ask before the hash is made: it is the dear part.
        if self.book().await?.stored_revision(&name).is_some() {
            return Err(DeskError::Exists(What::User));
        }
        let hash = self.0.passwords.hash(new.password).await.map_err(|Overloaded| DeskError::Overloaded)?;
        let document = UserDocument::new(next_version(0)?, hash, produce, consume);
        let revision = match self.0.registry.put(&users::key(&name), document.store(), 0).await {
            Ok(revision) => revision,
            Err(RegistryError::Conflict) => return Err(DeskError::Exists(What::User)),
            Err(RegistryError::Failed(reject)) => return Err(DeskError::Backend(reject)),
        };
        self.until(|book| book.stored_revision(&name).is_some_and(|have| have >= revision)).await?;
        tracing::info!(user = %name, "added user");
        Ok(view(&name, &document))
    }

    /// Gives a user another password. Tokens that were issued before are no longer valid.
    pub async fn set_password(&self, name: &str, password: Box<str>) -> Result<(), DeskError> {
        let name = self.name_of_other(name)?;
        check_rules(&name, &password)?;
        self.book().await?.get(name.as_str()).ok_or(DeskError::Unknown(What::User))?;
        let hash = self.0.passwords.hash(password).await.map_err(|Overloaded| DeskError::Overloaded)?;
        for _ in 0..ATTEMPTS_MAX {
            let book = self.book().await?;
            let old = &book.get(name.as_str()).ok_or(DeskError::Unknown(What::User))?.document;
            // A document that does not load is written over with the one that works.
            let revision = book.stored_revision(&name).ok_or(DeskError::Unknown(What::User))?;
            let version = next_version(old.version)?;
            let document = UserDocument::new(version, hash.clone(), old.produce.clone(), old.consume.clone());
            match self.0.registry.put(&users::key(&name), document.store(), revision).await {
                Ok(revision) => {
                    self.until(|book| book.stored_revision(&name).is_none_or(|have| have >= revision)).await?;
                    tracing::info!(user = %name, "changed password");
                    return Ok(());
                }
                // Somebody else was quicker: look at what has become of the user.
                Err(RegistryError::Conflict) => {
                    self.until(|book| book.stored_revision(&name).is_none_or(|have| have != revision)).await?;
                }
                Err(RegistryError::Failed(reject)) => return Err(DeskError::Backend(reject)),
            }
        }
        Err(DeskError::Contended)
    }

    /// Removes a user, or a document in its place that does not load. Whoever was changed by others meanwhile
    /// is not removed.
    pub async fn remove_user(&self, name: &str) -> Result<(), DeskError> {
        let name = self.name_of_other(name)?;
        let revision = self.book().await?.stored_revision(&name).ok_or(DeskError::Unknown(What::User))?;
        match self.0.registry.delete(&users::key(&name), revision).await {
            Ok(()) => {}
            Err(RegistryError::Conflict) => {
                // Whoever asks again finds what has become of the user.
                self.until(|book| book.stored_revision(&name) != Some(revision)).await?;
                return Err(DeskError::Contended);
            }
            Err(RegistryError::Failed(reject)) => return Err(DeskError::Backend(reject)),
        }
        // Gone, or already added again by somebody else.
        self.until(|book| book.stored_revision(&name).is_none_or(|have| have > revision)).await?;
        tracing::info!(user = %name, "removed user");
        Ok(())
    }

    fn name_of_other(&self, text: &str) -> Result<Name, DeskError> {
        let name = Name::parse(text).map_err(|fault| DeskError::Invalid(fault.text("User")))?;
        if name.as_str() == self.0.settings.auth.root_user { Err(DeskError::Root) } else { Ok(name) }
    }

    /// The book in force, once there is one.
    async fn book(&self) -> Result<Arc<Book>, DeskError> {
        let mut book = self.0.book.clone();
        match timeout(self.0.settings.limits.hold, book.wait_for(|book| book.loaded)).await {
            Ok(Ok(book)) => Ok(Arc::clone(&book)),
            _ => Err(DeskError::Backend(Reject::BrokerAway)),
        }
    }

    /// Waits until the book shows a change that the registry has taken.
    async fn until(&self, shows: impl Fn(&Book) -> bool) -> Result<(), DeskError> {
        self.0.changed.notify_one();
        let mut book = self.0.book.clone();
        match timeout(ECHO_TIMEOUT, book.wait_for(|book| shows(book))).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(DeskError::Backend(Reject::ControlTimeout)),
        }
    }
}

fn check_rules(name: &Name, password: &str) -> Result<(), DeskError> {
    password::check_rules(name.as_str(), password).map_err(|fault| DeskError::Invalid(fault.to_string()))
}

fn view(name: &Name, document: &UserDocument) -> UserView {
    let texts = |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    UserView {
        name: name.as_str().to_owned(),
        account: document.account,
        produce: texts(&document.produce),
        consume: texts(&document.consume),
        root: false,
    }
}

fn patterns(what: &str, given: Option<Vec<String>>) -> Result<Vec<Pattern>, DeskError> {
    let given = given.unwrap_or_else(|| vec!["*".to_owned()]);
    let parsed: Result<Vec<Pattern>, String> = given.iter().map(|text| Pattern::parse(text)).collect();
    let parsed = parsed.map_err(|error| DeskError::Invalid(format!("{what}: {error}")))?;
    users::check_patterns(what, &parsed).map_err(DeskError::Invalid)?;
    Ok(parsed)
}

/// Another version than before, and never 0. It is drawn by lot and not counted, so that it does not come back
/// either when the user was removed meanwhile and nothing of it is left.
fn next_version(before: u32) -> Result<u32, DeskError> {
    loop {
        let version =
            getrandom::u32().map_err(|_| DeskError::Backend(Reject::Internal("the system gives no random numbers")))?;
        if version != 0 && version != before {
            return Ok(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn versions_do_not_come_back() {
        // Of 100 among 2^32, two are the same in one run of a million.
        let versions: HashSet<u32> = (0..100).map(|_| next_version(0).expect("randomness")).collect();
        assert_eq!(versions.len(), 100);
        assert!(!versions.contains(&0));
    }

    #[test]
    fn an_omitted_list_is_everything_and_an_empty_one_is_nothing() {
        let texts = |given: Option<Vec<&str>>| {
            let given = given.map(|list| list.into_iter().map(str::to_owned).collect());
            patterns("produce", given).map(|list| list.iter().map(|p| p.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(texts(None), Ok(vec!["*".to_owned()]));
        assert_eq!(texts(Some(vec![])), Ok(vec![]));
        assert_eq!(texts(Some(vec!["Prod.*"])), Ok(vec!["prod.*".to_owned()]));
        assert!(matches!(texts(Some(vec!["a b"])), Err(DeskError::Invalid(text)) if text.contains("produce")));
        assert!(texts(Some(vec!["a"; 257])).is_err());
    }
}
