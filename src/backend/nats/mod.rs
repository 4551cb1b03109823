//! NATS JetStream: one connection for each shard, on the shard's own runtime; and what else of NATS the data path uses
//! (`bus`), over the same connection.
//!
//! Everything goes through one output buffer that is written once per turn of the loop. One reader handles all
//! acknowledgements of a read in one pass. Publishes are bounded by the window (`wire::jetstream`), in messages and in
//! bytes.
//!
//! When the connection is lost, every publish in flight is *lost*: it may be stored or not. The requester decides what
//! may be published again (`retry.rs`).

pub mod bus;
mod connection;
mod fetch;
mod jetstream;
mod publish;
mod read;
mod slab;
#[cfg(test)]
mod testing;

pub use connection::{Connection, ConnectionSettings, Credential};
pub use read::Watch;
