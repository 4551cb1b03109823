//! Consuming, in any dialect, in two ways that share nothing but the store.
//!
//! [`group`]: a consumer group takes messages that are settled when the client has the answer; its position is the
//! backend's. [`read`]: records by place, with a position that the reader keeps; nothing is acknowledged, and nothing is
//! left behind. [`tail`] keeps such a position over all partitions of a station.

mod acknowledged;
mod group;
mod max_deliveries;
mod open;
mod read;
mod tail;
#[cfg(test)]
mod tests;

pub use crate::backend::Bounds;
pub use group::{AnswerRoom, Consume, Delivery, Fetcher, Handout};
pub use open::{OpenDeliveries, Opening};
pub use read::{Arrival, HeldPage, ReadCall, Reader};
pub use tail::{Begin, Piece, Step, Tail};
