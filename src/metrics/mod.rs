//! What is counted, and how it is shown: names, single-writer blocks, Prometheus text.
//!
//! Each shard has one [`ShardMetrics`] and is its only writer: a counter is a relaxed load and a
//! relaxed store, never a read-modify-write, and no two shards share a cache line. A scrape reads
//! all blocks and adds them up; what it sees may be a few increments old, and that is all.
//! The control thread writes [`ControlMetrics`], the embedded store's writer [`StoreMetrics`].
//!
//! Pure: no clock (durations come in as arguments), no socket, no runtime, no `/proc`.
//! There is no registry of metrics and no label that a client can choose: the number of series is fixed, but for one for each
//! API key, which the administrator makes.

mod cell;
mod control;
mod failure;
pub mod names;
mod route;
mod shard;
mod text;

pub use cell::{BUCKETS, Counter, Gauge, Histogram, SharedCounter};
pub use control::{
    BrokerSync, ControlMetrics, LOG_LINES_DROPPED, LoginResult, ProcessMetrics, RequestKind, StoreMetrics,
};
pub use failure::PublishFailure;
pub use route::Route;
pub use shard::{DriverInfo, ShardMetrics};
pub use text::{CONTENT_TYPE, Sources, render};
