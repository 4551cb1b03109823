//! What JetStream adds to NATS, sans-I/O: acknowledgements of publishes, the publish window, pull requests.
//!
//! [`Window`] knows what is in flight and what became of it; [`puback`] reads one acknowledgement and [`acks`] the run
//! of them that a read brings; [`atomic`] makes
//! batches of records that are acknowledged as one;
//! [`pull`] asks for messages and reads what comes back; [`get`] does so by place, without a consumer; [`errors`] says what the broker's error codes mean
//! to a client. Nobody here knows a socket, a runtime or a clock: the caller brings bytes and the time.

pub mod acks;
pub mod atomic;
pub mod errors;
pub mod get;
pub mod puback;
pub mod pull;
pub mod token;
pub mod window;

pub use atomic::{BatchId, BatchIds, BatchPlace};
pub use puback::PubAck;
pub use token::Token;
pub use window::{AckOutcome, BatchKey, Window};
