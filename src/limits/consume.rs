//! Limits of consume calls, consumer groups, and deliveries that their client acknowledges by itself (docs/adr/0024).

use super::{IDLE_TIMEOUT, PRODUCE_TIMEOUT, SHARD_BODY_BYTES_MAX, WRITE_TIMEOUT};
use std::time::Duration;

/// Bytes of messages whose consume answer is encoded at once. A larger one is encoded in turns
/// ([`TIME_SLICE`](super::TIME_SLICE)).
pub const ENCODED_AT_ONCE_BYTES_MAX: usize = 512 * 1024;
/// Messages of one consume call (the original's bound).
pub const FETCH_RECORDS_MAX: u32 = 5_000;
/// Payload and header bytes of one consume call: more stays for the next call.
pub const FETCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A consume call waits at most this long, whatever it asks for.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a client whose kernel has the whole answer to a consume call may still hang up without having read it, and
/// is handed the messages again.
pub const DELIVERY_GRACE: Duration = Duration::from_millis(500);
/// Deliveries that one sweep asks the kernel about; each costs two calls of it.
pub const DELIVERIES_PER_SWEEP_MAX: usize = 512;
/// A message that was delivered and not acknowledged is delivered again after this time.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long a consumer group is kept that nobody uses, unless a user sets another time: what reads once a month keeps
/// its place.
pub const GROUP_EXPIRY: Duration = Duration::from_secs(35 * 86_400);
/// Consumer groups of one station, on either store.
pub const GROUPS_PER_STATION_MAX: usize = 1_000;
/// Consumer groups of one station that one principal has made, on either store.
pub const GROUPS_PER_PRINCIPAL_MAX: usize = 250;
/// How long a delivery waits for a client that acknowledges it by itself; then it is delivered again.
pub const DELIVERY_OPEN_MAX: Duration = Duration::from_secs(25);
/// Deliveries of one shard that wait for their client's acknowledgement.
pub const OPEN_DELIVERIES_PER_SHARD_MAX: usize = 1_024;
/// Of these, those of one user or API key.
pub const OPEN_DELIVERIES_OF_PRINCIPAL_MAX: usize = 256;
/// Of these, those of one consumer group: a client has one or two.
pub const OPEN_DELIVERIES_OF_GROUP_MAX: usize = 64;
/// How long it is remembered that a delivery was acknowledged, for whoever got no answer and says it again: longer than
/// a client waits for an answer.
pub const ACKNOWLEDGED_REMEMBERED: Duration = Duration::from_secs(2 * 60);
/// Deliveries of one shard that are remembered so.
pub const ACKNOWLEDGED_PER_SHARD_MAX: usize = 4_096;

/// How long the broker may take to answer a pull request that does not wait.
pub const FETCH_ROUND_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages of one consumer of a broker that are delivered and not acknowledged: twenty of the largest consume calls.
pub const CONSUMER_ACK_PENDING_MAX: u32 = 100_000;

const _: () = assert!(ENCODED_AT_ONCE_BYTES_MAX < FETCH_BYTES_MAX && FETCH_BYTES_MAX <= SHARD_BODY_BYTES_MAX);
const _: () =
    assert!(GROUPS_PER_PRINCIPAL_MAX < GROUPS_PER_STATION_MAX, "one principal does not take a station's groups");
const _: () = assert!(FETCH_WAIT_MAX.as_secs() < IDLE_TIMEOUT.as_secs());
const _: () = assert!(DELIVERY_GRACE.as_secs() < ACK_WAIT.as_secs() && WRITE_TIMEOUT.as_secs() <= ACK_WAIT.as_secs());
const _: () =
    assert!(DELIVERY_OPEN_MAX.as_secs() < ACK_WAIT.as_secs(), "what is acknowledged in time was not delivered again");
const _: () = assert!(OPEN_DELIVERIES_OF_PRINCIPAL_MAX < OPEN_DELIVERIES_PER_SHARD_MAX, "no principal takes all");
const _: () =
    assert!(OPEN_DELIVERIES_OF_GROUP_MAX < OPEN_DELIVERIES_OF_PRINCIPAL_MAX, "no group takes all of a principal");
const _: () = assert!(
    ACKNOWLEDGED_REMEMBERED.as_secs() > FETCH_WAIT_MAX.as_secs() + PRODUCE_TIMEOUT.as_secs(),
    "the longest call"
);
const _: () = assert!(CONSUMER_ACK_PENDING_MAX == 20 * FETCH_RECORDS_MAX);
