//! How old the gateway's knowledge of users and API keys is, and what follows from its age (docs/adr/0021).
//!
//! The registry confirms four times a second that nothing is newer. Where it does not, a user or a key may have been
//! removed without this gateway knowing.

use crate::{config::Unconfirmed, limits::Limits, rt::clock};
use std::time::{Duration, Instant};
use tokio::{sync::watch, time::sleep_until};

/// When the registry last confirmed what is known here. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Knowledge {
    /// The time of the newest confirmation; none before anything is known.
    confirmed: watch::Sender<Option<Instant>>,
    age_max: Duration,
    pub(super) when_too_old: Unconfirmed,
}

impl Knowledge {
    pub(super) fn new(limits: &Limits, when_too_old: Unconfirmed) -> Self {
        Self { confirmed: watch::Sender::new(None), age_max: limits.registry_age, when_too_old }
    }

    /// Sets since when something is known. Its age counts from there until it is confirmed.
    pub(super) fn begin(&self, at: Instant) {
        self.confirmed.send_if_modified(|confirmed| confirmed.is_none() && confirmed.replace(at).is_none());
    }

    /// Confirms that what was known at that time was true.
    pub(super) fn confirm(&self, at: Instant) {
        self.confirmed.send_replace(Some(at));
    }

    /// Returns how old the knowledge may become.
    pub(super) fn age_max(&self) -> Duration {
        self.age_max
    }

    /// Returns when it has become too old.
    pub(super) async fn expired(&self) {
        let mut news = self.confirmed.subscribe();
        loop {
            let until = news.borrow_and_update().map(|at| at + self.age_max);
            match until {
                // The sender lives as long as this does.
                None => drop(news.changed().await),
                Some(until) if clock::now() >= until => return,
                Some(until) => sleep_until(until.into()).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn c5_what_is_not_confirmed_becomes_too_old_once() {
        let limits = Limits { registry_age: Duration::from_millis(300), ..Limits::default() };
        let knowledge = Knowledge::new(&limits, Unconfirmed::Serve);
        let mut expired = std::pin::pin!(knowledge.expired());
        let soon = |time| Duration::from_millis(time);
        assert!(tokio::time::timeout(soon(400), expired.as_mut()).await.is_err(), "nothing is known yet");
        knowledge.confirm(clock::now());
        assert!(tokio::time::timeout(soon(100), expired.as_mut()).await.is_err(), "it is young");
        let again = clock::now();
        knowledge.confirm(again);
        knowledge.begin(clock::now());
        expired.await;
        assert!(clock::since(again) >= soon(300), "each confirmation counts from its own time");
        let never = Knowledge::new(&limits, Unconfirmed::Serve);
        never.begin(clock::now());
        never.expired().await;
    }
}
