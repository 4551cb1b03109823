//! Sluicegate: records in over HTTP, acknowledged, into durable streams; and out again.
//!
//! The modules in reading order. `ARCHITECTURE.md` has the map and the rules between them;
//! `tests/it/layering.rs` holds the rules.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod budget;
pub mod byte_order_mark;
pub mod limits;
pub mod reject;
pub mod schema;
pub mod station;
pub mod wire;

pub mod auth;
pub mod metrics;
pub mod record;
pub mod rt;
pub mod transport;

pub mod backend;
pub mod consume;
mod dead_letters;
pub mod directory;
pub mod ingest;
mod retry;

pub mod conn;
pub mod dialect;
pub mod shard;

pub mod admin;
pub mod api;
mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod gateway;
mod logging;

pub use cli::main;

#[doc(hidden)]
pub mod internals;
