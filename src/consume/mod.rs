//! Consuming, in any dialect: a consumer group takes messages that are settled when the client has the answer.

mod acknowledged;
mod group;
mod max_deliveries;
mod open;
#[cfg(test)]
mod tests;

pub use group::{AnswerRoom, Consume, Delivery, Fetcher, Handout};
pub use open::{OpenDeliveries, Opening};
