//! Limits of the registry, and of how old the knowledge of it may be (docs/adr/0014).

use super::{ADMIN_REQUEST_TIMEOUT, BROKER_PROBE_INTERVAL, PRODUCE_TIMEOUT};
use std::time::Duration;

/// How old the knowledge of what the registry says may be when a record is validated by a schema.
pub const CONTRACTS_AGE_MAX: Duration = Duration::from_millis(900);
/// Documents of the registry: more are not read.
pub const REGISTRY_DOCUMENTS_MAX: usize = 100_000;
/// Bytes of all documents of the registry: every gateway holds them in memory.
pub const REGISTRY_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bytes of one document of the registry: a schema with all its versions. The broker's usual `max_payload`, with room
/// for header fields.
pub const REGISTRY_DOCUMENT_BYTES_MAX: usize = 960 * 1024;
/// Patterns in one allow-list.
pub const PATTERNS_MAX: usize = 256;
/// Bytes of what somebody says about an API key.
pub const KEY_DESCRIPTION_BYTES_MAX: usize = 1_024;
/// How often the registry is asked whether there is news. Three requests fit into [`CONTRACTS_AGE_MAX`], so that one
/// lost answer is no outage.
pub const CONFIRM_INTERVAL: Duration = Duration::from_millis(250);
/// How long an answer to that may take.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the leader of the registry may not have heard of those whom it leads before what it says is not believed:
/// they send each other a sign of life each second.
pub const REGISTRY_PEER_SILENT_MAX: Duration = Duration::from_millis(2_500);
/// How long users and API keys are taken for true though the registry has not confirmed them. Past it the gateway is
/// not ready.
pub const REGISTRY_AGE_MAX: Duration = Duration::from_secs(30);
/// How long a record that is to be validated by a schema waits for the registry to confirm it: longer than an election
/// of the registry's leader takes.
pub const REGISTRY_HOLD: Duration = Duration::from_secs(10);

/// How long the watch may be behind the bucket before everything is read again.
pub const REGISTRY_WATCH_LAG_MAX: Duration = Duration::from_millis(500);
/// Between two attempts to read the registry, at first.
pub const REGISTRY_RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Between two attempts to read the registry, at most.
pub const REGISTRY_RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Reasons of one failure to read the registry that are logged.
pub const REGISTRY_REASONS_LOGGED_MAX: usize = 8;
/// The time to read the whole bucket of the registry.
pub const REGISTRY_LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a change that the registry has taken may need to come back through the watch.
pub const REGISTRY_ECHO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read of the registry may take where the call can do without it.
pub const REGISTRY_LOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a change is tried because somebody else changed the same document.
pub const CHANGE_ATTEMPTS_MAX: usize = 4;

const _: () = assert!(
    CONFIRM_INTERVAL.as_millis() <= BROKER_PROBE_INTERVAL.as_millis(),
    "in quiet times the registry's confirmations are evidence enough"
);
const _: () =
    assert!(REGISTRY_HOLD.as_secs() < PRODUCE_TIMEOUT.as_secs(), "there is time left to store what was checked");
const _: () = assert!(CONFIRM_INTERVAL.as_millis() + 2 * CONFIRM_TIMEOUT.as_millis() < CONTRACTS_AGE_MAX.as_millis());
const _: () = assert!(REGISTRY_RETRY_PAUSE_MIN.as_millis() <= REGISTRY_RETRY_PAUSE_MAX.as_millis());
const _: () =
    assert!(REGISTRY_ECHO_TIMEOUT.as_secs() < ADMIN_REQUEST_TIMEOUT.as_secs(), "who made a change hears of it");
