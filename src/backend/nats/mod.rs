//! NATS JetStream: one connection a shard, on the shard's own runtime.
//!
//! Everything goes through one output buffer that is written once per turn of the loop, and one
//! reader that hands out all acknowledgements of a read in one pass. Publishes are bounded by the
//! window (`wire::jetstream`), in messages and in bytes.
//!
//! When the connection is lost, every publish in flight is *lost*: neither stored nor not stored. What may be published again is
//! the requester's to say (`retry.rs`).

mod connect;
mod connection;
mod fetch;
mod health;
mod publish;
mod servers;

pub use connect::{ConnectionSettings, Credential};
pub use connection::Connection;
