//! Limits of the NATS protocol, and of what the gateway asks of a broker.

use super::{CONTRACTS_AGE_MAX, HOLD, REGISTRY_AGE_MAX, REGISTRY_HOLD, RESOLVE_TIMEOUT};
use std::time::Duration;

/// Bytes of one control line from the broker, `INFO` apart. Twice what the broker takes from its own
/// clients: a delivered line carries a stored subject and the broker's own reply subject beside it.
pub const NATS_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an `INFO` line: it names every server of a cluster.
pub const NATS_INFO_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the name of a stream or consumer.
pub const NATS_NAME_BYTES_MAX: usize = 255;
/// Bytes of headers and payload of one message from the broker: the most that its `max_payload` can be set to.
pub const NATS_PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one control line to the broker; at a longer one it closes the connection (`max_control_line`).
pub const NATS_CONTROL_LINE_BYTES_MAX: usize = 4 * 1024;
/// Requests to the broker whose answers one shard waits for.
pub const BUS_REQUESTS_MAX: usize = 4_096;
/// Subscriptions of one shard, those of consume calls apart.
pub const BUS_SUBSCRIPTIONS_MAX: usize = 65_536;
/// Messages that wait for one subscriber. One more, and the subscription ends: it would have a gap.
pub const BUS_QUEUE_MESSAGES_MAX: usize = 1_024;
/// Their bytes; one message that is larger may wait alone.
pub const BUS_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that wait for all subscribers of a shard.
pub const BUS_QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often the broker is asked the same again while nobody answers: an election may be under way. The earlier
/// requests stay open, at most one for each of these in the hold.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(400);
/// Copies of a stream: what JetStream can have.
pub const REPLICAS_MAX: u8 = 5;
/// How often the control plane looks whether JetStream answers.
pub const BROKER_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the answer to that may take.
pub const BROKER_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long JetStream may give no good answer through a server that is left for another one then.
pub const BROKER_SILENT_MAX: Duration = Duration::from_millis(1_500);
/// How long JetStream may give no good answer before the gateway is not ready: longer than a planned change of leader
/// takes.
pub const BROKER_UNSERVED_MAX: Duration = Duration::from_secs(3);
/// Streams that are looked after because they drop what nobody is interested in: more are looked at once only, when
/// their station is found.
pub const INTEREST_STREAMS_MAX: usize = 65_536;
/// Consumers of one stream that are looked through.
pub const CONSUMERS_LISTED_MAX: usize = 25_600;
/// Streams of a broker that are looked through for stations.
pub const STREAMS_LISTED_MAX: usize = 100_000;

/// The time of a shard to resolve the name of a server and connect, and again for the server to accept the connection.
pub const NATS_CONNECT_STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Servers of a cluster that are kept.
pub const NATS_SERVERS_MAX: usize = 64;
/// How long the end of a connection waits for what is still to be written.
pub const NATS_STOP_WRITE_TIMEOUT: Duration = Duration::from_millis(250);
/// Subjects that the broker forbids of which a shard remembers that it has logged them.
pub const FORBIDDEN_SUBJECTS_MAX: usize = 64;
/// Between two attempts of a shard to connect, at first; it doubles with each.
pub const NATS_CONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Between two attempts of a shard to connect, at most.
pub const NATS_CONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a stream or consumer is looked for again because somebody else made one of its name meanwhile.
pub const CREATION_LOOKS_MAX: usize = 3;
/// One call of the JetStream API by the control plane.
pub const JETSTREAM_CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// One attempt of the control plane to connect.
pub const CONTROL_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts of the control plane to connect, at most.
pub const CONTROL_CONNECT_PAUSE_MAX: Duration = Duration::from_millis(250);
/// From a request to a server's HTTP monitoring to the end of the answer.
pub const MONITOR_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of such an answer; a server's is 3 KiB.
pub const MONITOR_ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Stations that wait for their streams to be looked after so.
pub const INTEREST_WAITING_MAX: usize = 1_024;
/// Records that the broker takes in one atomic batch (its default; more are error 10199).
pub const ATOMIC_RECORDS_MAX: u16 = 1_000;
/// Bytes of an unknown error text of the broker that are kept for the log.
pub const NATS_ERROR_BYTES_MAX: usize = 512;

const _: () = assert!(NATS_LINE_BYTES_MAX <= NATS_INFO_BYTES_MAX);
const _: () = assert!(NATS_CONTROL_LINE_BYTES_MAX <= NATS_LINE_BYTES_MAX, "what may be sent may come back");
const _: () = assert!(8 * BUS_QUEUE_BYTES_MAX <= BUS_QUEUED_BYTES_MAX, "no subscriber takes the room of all");
const _: () = assert!(NATS_INFO_BYTES_MAX + NATS_PAYLOAD_BYTES_MAX < u32::MAX as usize, "spans are u32");
const _: () = assert!(10 * LOOK_INTERVAL.as_millis() <= HOLD.as_millis(), "an election is met by several questions");
const _: () =
    assert!(BROKER_PROBE_INTERVAL.as_millis() + BROKER_PROBE_TIMEOUT.as_millis() < BROKER_SILENT_MAX.as_millis());
const _: () = assert!(
    BROKER_UNSERVED_MAX.as_secs() < REGISTRY_HOLD.as_secs() && CONTRACTS_AGE_MAX.as_secs() < REGISTRY_AGE_MAX.as_secs()
);
const _: () = assert!(NATS_CONNECT_PAUSE_MIN.as_millis() <= NATS_CONNECT_PAUSE_MAX.as_millis());
const _: () = assert!(JETSTREAM_CALL_TIMEOUT.as_secs() < RESOLVE_TIMEOUT.as_secs(), "a lookup is several calls");
