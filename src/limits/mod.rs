//! Every limit of the product, its default, and how the limits relate: a file for each subsystem, and no limit
//! anywhere else.
//!
//! [`Limits`] holds the values that run; its `Default` is built from the constants. What a user may change is a field;
//! what the program itself relies on is a constant only. Relations between constants are asserted at compile time, at
//! the end of the file of one of them; those between configured values by [`Limits::check`].
//!
//! The rest of the program names a limit without its file: `limits::BODY_BYTES_MAX`.
//!
//! Memory of one shard under full load is at most the sum that [`Limits::shard_bytes_max`] states.

mod admin;
mod auth;
mod config;
mod consume;
mod dead_letters;
mod http;
mod nats;
mod process;
mod publish;
mod read;
mod registry;
mod schema;
mod station;
mod store;
mod streams;
mod tail;
#[cfg(test)]
mod tests;

pub use self::{
    admin::*, auth::*, config::*, consume::*, dead_letters::*, http::*, nats::*, process::*, publish::*, read::*,
    registry::*, schema::*, station::*, store::*, streams::*, tail::*,
};

use std::time::Duration;

/// The limits that a user may set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// See [`HEAD_FIELDS_MAX`].
    pub head_fields_max: usize,
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// See [`INFLATED_BYTES_MAX`].
    pub inflated_bytes_max: usize,
    /// See [`BATCH_RECORDS_MAX`].
    pub batch_records_max: usize,
    /// See [`CONNECTIONS_PER_SHARD_MAX`].
    pub connections_per_shard_max: usize,
    /// See [`CONNECTIONS_PER_NETWORK_MAX`]; 0: no bound.
    pub connections_per_network_max: usize,
    /// See [`SHARD_BODY_BYTES_MAX`].
    pub shard_body_bytes_max: usize,
    /// See [`WINDOW_MESSAGES_MAX`].
    pub window_messages_max: usize,
    /// See [`WINDOW_BYTES_MAX`].
    pub window_bytes_max: usize,
    /// See [`HEAD_TIMEOUT`].
    pub head_timeout: Duration,
    /// See [`BODY_GRACE`].
    pub body_grace: Duration,
    /// See [`BODY_RATE_MIN`].
    pub body_rate_min: u64,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`STREAM_IDLE`].
    pub stream_idle: Duration,
    /// See [`OPEN_STREAMS_OF_PRINCIPAL_MAX`].
    pub streams_per_principal_max: usize,
    /// See [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// See [`ACK_TIMEOUT`].
    pub ack_timeout: Duration,
    /// See [`HOLD`].
    pub hold: Duration,
    /// See [`REGISTRY_HOLD`].
    pub registry_hold: Duration,
    /// See [`REGISTRY_AGE_MAX`].
    pub registry_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: HEAD_BYTES_MAX,
            head_fields_max: HEAD_FIELDS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            batch_records_max: BATCH_RECORDS_MAX,
            connections_per_shard_max: CONNECTIONS_PER_SHARD_MAX,
            connections_per_network_max: CONNECTIONS_PER_NETWORK_MAX,
            shard_body_bytes_max: SHARD_BODY_BYTES_MAX,
            window_messages_max: WINDOW_MESSAGES_MAX,
            window_bytes_max: WINDOW_BYTES_MAX,
            head_timeout: HEAD_TIMEOUT,
            body_grace: BODY_GRACE,
            body_rate_min: BODY_RATE_MIN,
            idle_timeout: IDLE_TIMEOUT,
            stream_idle: STREAM_IDLE,
            streams_per_principal_max: OPEN_STREAMS_OF_PRINCIPAL_MAX,
            write_timeout: WRITE_TIMEOUT,
            ack_timeout: ACK_TIMEOUT,
            hold: HOLD,
            registry_hold: REGISTRY_HOLD,
            registry_age: REGISTRY_AGE_MAX,
        }
    }
}

impl Limits {
    /// The relations between limits that hold for any configuration. The error says which one is broken.
    pub fn check(&self) -> Result<(), String> {
        let rules: [(bool, &str); 10] = [
            (self.head_bytes_max >= 1_024, "limits.head_bytes_max must be at least 1024"),
            (self.head_bytes_max <= 1024 * 1024, "limits.head_bytes_max must be at most 1 MiB"),
            ((1..=1_000).contains(&self.head_fields_max), "limits.head_fields_max must be from 1 to 1000"),
            (
                self.body_bytes_max <= self.inflated_bytes_max,
                "limits.body_bytes_max must not exceed limits.inflated_bytes_max",
            ),
            (
                self.body_bytes_max.saturating_add(self.inflated_bytes_max) <= self.shard_body_bytes_max,
                "limits.shard_body_bytes_max must hold one largest request: body_bytes_max + inflated_bytes_max",
            ),
            (self.shard_body_bytes_max < u32::MAX as usize, "limits.shard_body_bytes_max must be under 4 GiB"),
            ((1..=65_536).contains(&self.window_messages_max), "limits.window_messages_max must be from 1 to 65536"),
            (self.connections_per_shard_max >= 1, "limits.connections_per_shard_max must be at least 1"),
            (
                self.hold.saturating_mul(REPUBLISH_HOLDS) <= self.ack_timeout,
                "limits.ack_timeout must be at least twice limits.hold: records are published again for two holds, and none for longer \
                 than its answer is waited for",
            ),
            (
                REPUBLISH_AFTER.saturating_mul(4) < self.ack_timeout,
                "limits.ack_timeout must be more than 6s: a record that is not answered is published again every 1.5s, several times \
                 before its outcome is unknown",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, broken)) => Err((*broken).to_owned()),
        }
    }

    /// These limits for one of `shards` shards: what the whole process may have in flight is shared out.
    #[must_use]
    pub fn of_shard(&self, shards: u16) -> Self {
        let share = |whole: usize, least: usize| (whole / usize::from(shards.max(1))).max(least.min(whole));
        Self {
            window_messages_max: share(self.window_messages_max, WINDOW_GRANT_MESSAGES),
            window_bytes_max: share(self.window_bytes_max, 2 * 1024 * 1024),
            ..self.clone()
        }
    }

    /// Upper bound of what one shard holds in memory at a time.
    #[must_use]
    pub fn shard_bytes_max(&self) -> usize {
        self.connections_per_shard_max * (IDLE_CONNECTION_BYTES + 2 * READ_BUFFER_BYTES + GATHER_BYTES)
            + POOLED_BUFFERS_MAX * (READ_BUFFER_BYTES + SPARE_ANSWER_BYTES_MAX)
            + PUBLISH_SPARES_MAX * PUBLISH_SPARE_RECORDS_MAX * RECORD_OVERHEAD_BYTES
            + self.shard_body_bytes_max
            + 2 * self.window_bytes_max
            + BUS_QUEUED_BYTES_MAX
            + TOKEN_CACHE_BYTES_MAX
            + STATIONS_PER_SHARD_MAX * 512
            + (OPEN_DELIVERIES_PER_SHARD_MAX + ACKNOWLEDGED_PER_SHARD_MAX) * 512
            + OPEN_STREAMS_PER_SHARD_MAX * (512 + TOKEN_BYTES_MAX)
    }
}
