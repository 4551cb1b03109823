//! Whether the backend can serve, as readiness and liveness say it.

use super::nats::server_health::Trouble;
use crate::{
    backend::local::{Health, Store},
    metrics::{ControlMetrics, ShardMetrics, StoreMetrics},
};
use std::{fmt::Debug, sync::Arc};

/// What is known of a backend's health.
pub(super) trait BackendHealth: Debug + Send + Sync {
    /// Returns what of the backend keeps the gateway from being ready: nothing, if it serves.
    fn reasons_not_ready(&self) -> Vec<&'static str>;

    /// Returns why nothing but a new process helps, if that is so.
    fn reason_not_alive(&self) -> Option<String> {
        None
    }

    /// Returns the metrics of the embedded store, with its health as it is now.
    fn store_metrics(&self) -> Option<&StoreMetrics> {
        None
    }
}

/// The broker, as the control plane and the shards find it.
#[derive(Debug)]
pub(super) struct NatsHealth {
    pub(super) control: Arc<ControlMetrics>,
    pub(super) shards: Vec<Arc<ShardMetrics>>,
}

impl BackendHealth for NatsHealth {
    fn reasons_not_ready(&self) -> Vec<&'static str> {
        let away = self.control.broker_up.get() == 0 || self.shards.iter().any(|shard| shard.link_up.get() == 0);
        if away {
            return vec!["broker away"];
        }
        Trouble::of(self.control.jetstream_trouble()).map(Trouble::reason).into_iter().collect()
    }
}

/// The embedded store.
#[derive(Debug)]
pub(super) struct LocalHealth {
    store: Arc<Store>,
    metrics: Arc<StoreMetrics>,
}

impl LocalHealth {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { metrics: store.metrics(), store }
    }
}

impl BackendHealth for LocalHealth {
    fn reasons_not_ready(&self) -> Vec<&'static str> {
        match self.store.health() {
            Health::Writable => vec![],
            Health::Full(_) => vec!["disk full"],
            Health::Damaged(_) => vec!["store damaged"],
            Health::ReadOnly(_) | Health::Lost(_) | Health::Failed(_) | Health::Closed => vec!["store read-only"],
        }
    }

    fn reason_not_alive(&self) -> Option<String> {
        match self.store.health() {
            Health::Lost(why) => Some(format!("{why}, and opening the store again did not help")),
            Health::Failed(thread) => Some(format!("the thread {thread} of the embedded store has ended")),
            _ => None,
        }
    }

    fn store_metrics(&self) -> Option<&StoreMetrics> {
        let takes_writes = matches!(self.store.health(), Health::Writable | Health::Damaged(_));
        self.metrics.read_only.set(u64::from(!takes_writes));
        Some(&self.metrics)
    }
}
