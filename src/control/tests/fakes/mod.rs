//! A backend in memory: what replicas of the admin service share in tests.

pub(in crate::control) mod registry;
pub(in crate::control) mod streams;

use crate::{control::health::BackendHealth, metrics::StoreMetrics};
use std::sync::Arc;

/// The health of a store that these metrics say.
#[derive(Debug)]
pub(in crate::control) struct Health(pub(in crate::control) Arc<StoreMetrics>);

impl BackendHealth for Health {
    fn reasons_not_ready(&self) -> Vec<&'static str> {
        (self.0.read_only.get() != 0).then_some("store read-only").into_iter().collect()
    }

    fn store_metrics(&self) -> Option<&StoreMetrics> {
        Some(&self.0)
    }
}
