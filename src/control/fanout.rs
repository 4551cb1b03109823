//! Sends updates to the shards: in order, and without waiting for a shard that is slow.
//!
//! Each shard has a task that empties a bounded queue into the shard's inbox. The queue has room for an answer to each
//! request that the shard may have open, so it is full only if the shard does not run; then answers are dropped and
//! counted (the shard gives up on them by itself). An update that every shard has to know is never dropped: the sender
//! waits until each shard that lives has it on its way.

use crate::{
    directory::messages::ShardUpdate,
    limits::{REQUESTS_PER_SHARD_MAX, UPDATE_TAKEN_TIMEOUT, UPDATES_PER_SHARD_MAX},
    metrics::ControlMetrics,
};
use futures_util::future::join_all;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

/// How often it is logged that an update for all shards still waits for one of them.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The queues of all shards. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ShardFanout {
    queues: Arc<[mpsc::Sender<ShardUpdate>]>,
    metrics: Arc<ControlMetrics>,
}

impl ShardFanout {
    pub(super) fn new(shards: Vec<flume::Sender<ShardUpdate>>, metrics: Arc<ControlMetrics>) -> Self {
        let queues = shards.into_iter().map(|inbox| {
            let (sender, mut queue) = mpsc::channel(REQUESTS_PER_SHARD_MAX + UPDATES_PER_SHARD_MAX);
            tokio::spawn(async move {
                while let Some(update) = queue.recv().await {
                    if inbox.send_async(update).await.is_err() {
                        break; // The shard has ended.
                    }
                }
            });
            sender
        });
        Self { queues: queues.collect(), metrics }
    }

    /// Sends an answer to one shard, now or not at all.
    pub(super) fn respond(&self, shard: u16, update: ShardUpdate) {
        match self.queues.get(usize::from(shard)).map(|queue| queue.try_send(update)) {
            Some(Ok(()) | Err(TrySendError::Closed(_))) => {}
            Some(Err(TrySendError::Full(_))) => {
                self.metrics.pushes_dropped.increment();
                tracing::error!(shard, "a shard does not take its answers");
            }
            None => tracing::error!(shard, "an answer for a shard that does not exist"),
        }
    }

    /// Sends the same update to all shards, behind everything that was sent before. Returns when every shard has it on
    /// its way, or has ended: until then, a shard without it would still let in a principal that the others turn away.
    pub(super) async fn broadcast(&self, update: &ShardUpdate) {
        self.send_each(|_| Some(update.clone())).await;
    }

    /// Sends each shard an update of its own, as [`Self::broadcast`] does.
    pub(super) async fn send_each(&self, update: impl Fn(usize) -> Option<ShardUpdate>) {
        let update = &update;
        let sends = self.queues.iter().enumerate().map(|(shard, queue)| async move {
            let Some(update) = update(shard) else { return };
            let mut send = pin!(queue.send(update));
            // An error is a shard that has ended.
            while timeout(REPEAT_INTERVAL, send.as_mut()).await.is_err() {
                tracing::error!(shard, "a shard does not take what it has to know; waiting for it");
            }
        });
        join_all(sends).await;
    }

    /// Waits until every shard has taken what it was sent before, or has ended. It waits no longer than
    /// [`UPDATE_TAKEN_TIMEOUT`] for a shard that does not run.
    pub(super) async fn barrier(&self) {
        let (heard, all_heard) = flume::bounded(1);
        self.broadcast(&ShardUpdate::Taken(heard)).await;
        if timeout(UPDATE_TAKEN_TIMEOUT, all_heard.recv_async()).await.is_err() {
            tracing::warn!("a shard has not yet taken what it was told");
        }
    }

    /// Sends the same update to all shards, except to those that have not taken what they were sent before: the update
    /// is soon repeated.
    pub(super) fn offer(&self, update: &ShardUpdate) {
        for queue in self.queues.iter().filter(|queue| queue.capacity() > REQUESTS_PER_SHARD_MAX) {
            // There is room for it, or the shard has ended.
            let _room_or_gone = queue.try_send(update.clone());
        }
    }

    /// Returns how many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.queues.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{directory::messages::Response, reject::Reject, rt::clock};

    fn respond(ticket: u64) -> ShardUpdate {
        ShardUpdate::Response { ticket, response: Response::Login(Err(Reject::Unauthorized)) }
    }

    #[tokio::test]
    async fn a_shard_that_does_not_run_delays_no_other_and_order_is_kept() {
        let (dead, dead_inbox) = flume::bounded(1);
        let (live, inbox) = flume::bounded(1);
        let metrics = Arc::new(ControlMetrics::default());
        let fanout = ShardFanout::new(vec![dead, live], Arc::clone(&metrics));
        let reader = tokio::spawn(async move {
            let mut tickets = Vec::new();
            while let Ok(update) = inbox.recv_async().await {
                match update {
                    ShardUpdate::Response { ticket, .. } => tickets.push(ticket),
                    _ => break,
                }
            }
            tickets
        });
        for ticket in 0..2_000 {
            fanout.respond(0, respond(ticket));
            fanout.respond(1, respond(ticket));
            tokio::task::yield_now().await;
        }
        fanout.respond(7, respond(0));
        assert!(metrics.pushes_dropped.get() > 800, "{}", metrics.pushes_dropped.get());
        drop(dead_inbox);
        fanout.broadcast(&ShardUpdate::Drain).await;
        assert_eq!(reader.await.expect("the reader"), (0..2_000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_a_shard_has_to_know_reaches_it_however_late() {
        let (shard, inbox) = flume::bounded(1);
        let fanout = ShardFanout::new(vec![shard], Arc::new(ControlMetrics::default()));
        for ticket in 0..2_000 {
            fanout.respond(0, respond(ticket));
            tokio::task::yield_now().await;
        }
        let teller = fanout.clone();
        let told = tokio::spawn(async move { teller.broadcast(&ShardUpdate::Drain).await });
        tokio::time::sleep(REPEAT_INTERVAL + Duration::from_millis(500)).await;
        assert!(!told.is_finished(), "it is not given up");
        while let ShardUpdate::Response { .. } = inbox.recv_async().await.expect("an update") {}
        told.await.expect("the teller");
    }

    #[tokio::test]
    async fn what_is_said_again_takes_no_room_from_answers() {
        let (shard, inbox) = flume::bounded(1);
        let metrics = Arc::new(ControlMetrics::default());
        let fanout = ShardFanout::new(vec![shard], Arc::clone(&metrics));
        for _ in 0..2_000 {
            fanout.offer(&ShardUpdate::Confirmed(clock::now()));
            tokio::task::yield_now().await;
        }
        for ticket in 0..REQUESTS_PER_SHARD_MAX as u64 {
            fanout.respond(0, respond(ticket));
        }
        assert_eq!(metrics.pushes_dropped.get(), 0);
        drop(inbox);
    }

    #[tokio::test]
    async fn a_shard_that_has_ended_holds_nobody_up() {
        let (shard, inbox) = flume::bounded(1);
        let fanout = ShardFanout::new(vec![shard], Arc::new(ControlMetrics::default()));
        drop(inbox);
        for _ in 0..3 {
            fanout.broadcast(&ShardUpdate::Drain).await;
        }
    }
}
