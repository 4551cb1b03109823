//! Per-shard answers from the control plane: stations, consumers, logins.

pub mod messages;
