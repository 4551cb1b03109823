//! NATS JetStream: one connection a shard, on the shard's own runtime.
//!
//! Everything goes through one output buffer that is written once per turn of the loop, and one
//! reader that hands out all acknowledgements of a read in one pass. Publishes are bounded by the
//! window (`wire::jetstream`), in messages and in bytes.
//!
//! When the connection is lost, every publish in flight is *lost*: neither stored nor not stored.
//! Records that carry a message id are published again on the next connection (the broker drops what
//! it has); for others the outcome is unknown, and said to be.

mod connect;
mod fetch;
mod link;
mod publish;

pub use connect::{Credential, LinkSettings};
pub use link::Link;
