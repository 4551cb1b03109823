//! Limits of deliveries that their client acknowledges by itself (docs/adr/0024).

use super::{ACK_WAIT, FETCH_WAIT_MAX, PRODUCE_TIMEOUT};
use std::time::Duration;

/// How long a delivery waits for a client that acknowledges it by itself; then it is delivered again.
pub const DELIVERY_OPEN_MAX: Duration = Duration::from_secs(25);
/// Deliveries of one shard that wait for their client's acknowledgement.
pub const OPEN_DELIVERIES_PER_SHARD_MAX: usize = 1_024;
/// Of these, those of one user or API key.
pub const OPEN_DELIVERIES_OF_PRINCIPAL_MAX: usize = 256;
/// Of these, those of one consumer group: a client has one or two.
pub const OPEN_DELIVERIES_OF_GROUP_MAX: usize = 64;
/// How long it is remembered that a delivery was acknowledged, for whoever got no answer and says it again: longer than a client waits
/// for an answer.
pub const ACKNOWLEDGED_REMEMBERED: Duration = Duration::from_secs(2 * 60);
/// Deliveries of one shard that are remembered so.
pub const ACKNOWLEDGED_PER_SHARD_MAX: usize = 4_096;

const _: () =
    assert!(DELIVERY_OPEN_MAX.as_secs() < ACK_WAIT.as_secs(), "what is acknowledged in time was not delivered again");
const _: () = assert!(OPEN_DELIVERIES_OF_PRINCIPAL_MAX < OPEN_DELIVERIES_PER_SHARD_MAX, "no principal takes all");
const _: () =
    assert!(OPEN_DELIVERIES_OF_GROUP_MAX < OPEN_DELIVERIES_OF_PRINCIPAL_MAX, "no group takes all of a principal");
const _: () = assert!(
    ACKNOWLEDGED_REMEMBERED.as_secs() > FETCH_WAIT_MAX.as_secs() + PRODUCE_TIMEOUT.as_secs(),
    "the longest call"
);
