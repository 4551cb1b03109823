//! Keeps the book of users as the registry has it, and tells the shards of every change.
//!
//! On the broker: watch, then read everything, then follow. Whatever may have lost a change (a new
//! connection, an error of the watch, a minute gone by) leads to reading everything again; the
//! working book stays in force until that has succeeded. The embedded store has no other writer than
//! this process, so it is read at the start and after each change.

use super::{
    couriers::Couriers,
    registry::{NatsRegistry, Registry, RegistryError},
    users::{Book, Root},
};
use crate::{directory::messages::Push, metrics::ControlMetrics};
use futures_util::{FutureExt, StreamExt};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

/// Everything is read again after this time, whatever was seen of changes.
const REREAD_INTERVAL: Duration = Duration::from_secs(60);
/// Between two attempts to read the registry.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// Between two attempts to read the registry, at most.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// The task that owns the book.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) registry: Registry,
    /// Whose name no document may take.
    pub(super) root: Root,
    pub(super) couriers: Couriers,
    pub(super) metrics: Arc<ControlMetrics>,
    /// Where others read the book.
    pub(super) book: watch::Sender<Arc<Book>>,
    /// Wakes the keeper after a change made through this process.
    pub(super) changed: Arc<Notify>,
}

impl Keeper {
    /// Runs for ever.
    pub(super) async fn run(self) {
        let mut retry = RETRY_MIN;
        if let Registry::Nats(_) = &self.registry {
            // Root can come in before the broker has been reached.
            let book = Arc::clone(&self.book.borrow());
            self.tell(&book).await;
        }
        loop {
            let loaded_before = self.book.borrow().loaded;
            let result = match &self.registry {
                Registry::Nats(nats) => self.follow(nats).await,
                Registry::Local(_) => self.read().await,
                #[cfg(test)]
                Registry::Memory(_) => self.read().await,
            };
            let Err(error) = result else {
                retry = RETRY_MIN;
                continue;
            };
            tracing::warn!(?error, "registry: cannot be read; the users known so far stay in force");
            sleep(retry).await;
            let progressed = self.book.borrow().loaded != loaded_before;
            retry = if progressed { RETRY_MIN } else { (retry * 2).min(RETRY_MAX) };
        }
    }

    /// One life of a watch.
    async fn follow(&self, nats: &NatsRegistry) -> Result<(), RegistryError> {
        let mut connections = nats.broker().connections();
        let mut up = nats.broker().up();
        // The sender lives as long as the connection task, and that as long as the runtime.
        drop(up.wait_for(|up| *up).await);
        connections.mark_unchanged();
        let mut changes = nats.watch().await?;
        let mut book = Book::clone(&self.book.borrow());
        book.reconcile(&self.registry.list().await?);
        self.publish(book).await;
        let reread = sleep(REREAD_INTERVAL);
        tokio::pin!(reread);
        loop {
            tokio::select! {
                change = changes.next() => {
                    let Some(change) = change else { return Ok(()) };
                    let mut book = Book::clone(&self.book.borrow());
                    book.apply(&change?);
                    // One snapshot for all changes that are here already.
                    while let Some(Some(change)) = changes.next().now_or_never() {
                        book.apply(&change?);
                    }
                    self.publish(book).await;
                }
                _ = connections.changed() => return Ok(()),
                () = &mut reread => return Ok(()),
            }
        }
    }

    /// Reads everything, then waits for a change made through this process.
    async fn read(&self) -> Result<(), RegistryError> {
        let mut book = Book::clone(&self.book.borrow());
        book.reconcile(&self.registry.list().await?);
        self.publish(book).await;
        self.changed.notified().await;
        Ok(())
    }

    /// First the shards, then everybody else: who sees a user in the book may rely on the shards
    /// knowing it before they get any answer.
    async fn publish(&self, book: Book) {
        let book = Arc::new(book);
        let before = Arc::clone(&self.book.borrow());
        if !before.loaded || !book.same_users(&before) {
            self.tell(&book).await;
        }
        self.metrics.registry_revision.set(book.revision);
        self.metrics.users.set(book.len() as u64);
        self.metrics.documents_refused.set(book.faults() as u64);
        self.book.send_replace(book);
    }

    async fn tell(&self, book: &Book) {
        self.couriers.all(&Push::Users(book.snapshot(&self.root))).await;
    }
}
