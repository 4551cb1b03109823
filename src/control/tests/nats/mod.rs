//! The control plane against a real nats-server, whose path is in `SLUICEGATE_NATS_SERVER`.
//!
//! Each test starts its own server on a free port and asks through the same channels as a shard.
//! Without the variable these tests fail: they must not pass by not running.

mod bus;
mod credentials;
mod publishing;
mod reads;
mod registry;
mod stations;
mod streams;
mod support;
mod users;
mod whole;

use support::Server;
