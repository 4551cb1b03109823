//! Names, kinds and help texts of all metrics: what is not here is not exported.

/// How a metric is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// What it means, in one line.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, help }
}

/// Always 1; the version is a label.
pub const BUILD_INFO: Metric = gauge("sluicegate_build_info", "Version of the running program.");
/// Number of shards.
pub const SHARDS: Metric = gauge("sluicegate_shards", "Shards: one core, one runtime, one listener each.");
/// Always 1 for each driver in use; driver and reason are labels.
pub const DRIVER_INFO: Metric = gauge("sluicegate_driver_info", "I/O driver that the shards run on, and why.");

/// By route and status.
pub const REQUESTS: Metric = counter("sluicegate_requests_total", "Requests answered, by route and status.");
/// Acknowledged records.
pub const RECORDS_IN: Metric = counter("sluicegate_records_in_total", "Records that the backend has acknowledged.");
/// Payload of acknowledged records.
pub const RECORD_BYTES_IN: Metric =
    counter("sluicegate_record_bytes_in_total", "Payload bytes of the records that the backend has acknowledged.");
/// Records delivered.
pub const RECORDS_OUT: Metric = counter("sluicegate_records_out_total", "Records delivered by consume calls.");
/// Reads by place.
pub const READS: Metric = counter(
    "sluicegate_reads_total",
    "Reads by place that the backend was asked for; tails of one station share them.",
);
/// Records read by place.
pub const RECORDS_READ: Metric =
    counter("sluicegate_records_read_total", "Records delivered by tails and pages of records.");
/// Bytes of records read by place.
pub const RECORD_BYTES_READ: Metric = counter(
    "sluicegate_record_bytes_read_total",
    "Bytes of headers and payloads of the records delivered by tails and pages of records.",
);
/// Gaps.
pub const READ_GAPS: Metric = counter(
    "sluicegate_read_gaps_total",
    "Gaps that the readers of tails and pages were told of: retention had removed records before they were read.",
);
/// Validated records.
pub const RECORDS_CHECKED: Metric = counter("sluicegate_records_checked_total", "Records validated against a schema.");
/// Invalid records.
pub const RECORDS_INVALID: Metric = counter("sluicegate_records_invalid_total", "Records that failed validation.");
/// Dead letters.
pub const DEAD_LETTERS: Metric = counter("sluicegate_dead_letters_total", "Records stored as dead letters.");
/// One observation a record.
pub const ACKNOWLEDGEMENT: Metric =
    histogram("sluicegate_acknowledgement_seconds", "Time from publish to acknowledgement, of each record.");

/// By reason.
pub const PUBLISH_FAILURES: Metric = counter(
    "sluicegate_publish_failures_total",
    "Records that in the end were not stored, or may not be, by reason; those that were published again and stored do not count.",
);
/// Answers for nothing in flight.
pub const ACKNOWLEDGEMENTS_UNMATCHED: Metric = counter(
    "sluicegate_acknowledgements_unmatched_total",
    "Answers of the broker to publishes that were no longer in flight: they came late, or twice.",
);

/// Publishes in flight.
pub const WINDOW_MESSAGES: Metric =
    gauge("sluicegate_window_messages", "Publishes in flight: sent and not acknowledged.");
/// Bytes in flight.
pub const WINDOW_BYTES: Metric = gauge("sluicegate_window_bytes", "Bytes in flight: sent and not acknowledged.");
/// Limit of publishes in flight.
pub const WINDOW_MESSAGES_LIMIT: Metric =
    gauge("sluicegate_window_messages_limit", "Limit of sluicegate_window_messages; 0 on the embedded store.");
/// Limit of bytes in flight.
pub const WINDOW_BYTES_LIMIT: Metric =
    gauge("sluicegate_window_bytes_limit", "Limit of sluicegate_window_bytes; 0 on the embedded store.");
/// Refusals.
pub const WINDOW_FULL: Metric =
    counter("sluicegate_window_full_total", "Requests refused because the window stayed full for the whole hold.");

/// Hits.
pub const TOKEN_CACHE_HITS: Metric =
    counter("sluicegate_token_cache_hits_total", "Tokens and API keys that had been verified before.");
/// Misses.
pub const TOKEN_CACHE_MISSES: Metric =
    counter("sluicegate_token_cache_misses_total", "Tokens and API keys that had to be verified.");
/// By key.
pub const KEY_REQUESTS: Metric =
    counter("sluicegate_key_requests_total", "Requests that came with an API key, by the key's id.");

/// Open connections.
pub const CONNECTIONS_OPEN: Metric = gauge("sluicegate_connections_open", "Client connections that are open.");
/// Accepted connections.
pub const CONNECTIONS_ACCEPTED: Metric =
    counter("sluicegate_connections_accepted_total", "Client connections accepted.");
/// Refused connections.
pub const CONNECTIONS_REFUSED: Metric =
    counter("sluicegate_connections_refused_total", "Client connections refused because there were too many.");
/// Connections past a deadline.
pub const CONNECTIONS_TIMED_OUT: Metric =
    counter("sluicegate_connections_timed_out_total", "Client connections cut off by a deadline.");
/// Memory of bodies.
pub const BODY_BYTES_HELD: Metric =
    gauge("sluicegate_body_bytes_held", "Bytes of request bodies and consume answers held in memory.");
/// Open streams, by route.
pub const OPEN_STREAMS: Metric =
    gauge("sluicegate_open_streams", "Streams that are open, by the route that they were requested by.");
/// Open deliveries.
pub const OPEN_DELIVERIES: Metric =
    gauge("sluicegate_open_deliveries", "Deliveries that wait for their client's acknowledgement.");

/// Shards that have their broker connection.
pub const BROKER_LINKS_UP: Metric = gauge("sluicegate_broker_links_up", "Shards that are connected to the backend.");
/// Shards whose publishes fail.
pub const BROKER_LINKS_FAILING: Metric = gauge(
    "sluicegate_broker_links_failing",
    "Shards whose publishes fail at the moment: there is no leader, no stream takes them, or no answer comes.",
);
/// Reconnects of shards.
pub const BROKER_RECONNECTS: Metric =
    counter("sluicegate_broker_reconnects_total", "Times that a shard reconnected to the broker.");
/// The control plane's own connection.
pub const CONTROL_BROKER_UP: Metric = gauge(
    "sluicegate_control_broker_up",
    "1 while the control plane is connected to the broker; 0 on the embedded store.",
);

/// JetStream as the control plane sees it.
pub const CONTROL_JETSTREAM_UP: Metric =
    gauge("sluicegate_control_jetstream_up", "1 while JetStream answers the control plane; 0 on the embedded store.");

/// The broker's sync mode.
pub const BROKER_SYNC_ALWAYS: Metric = gauge(
    "sluicegate_broker_sync_always",
    "1 if the broker syncs to disk before it acknowledges, 0 if not; absent while that is not known.",
);

/// Stations.
pub const STATIONS_KNOWN: Metric =
    gauge("sluicegate_stations_known", "Stations in the caches of the shards, counted in each shard.");
/// Requests of the shards.
pub const QUESTIONS: Metric = counter(
    "sluicegate_questions_total",
    "Questions of the shards to the control plane: stations, consumer groups, logins.",
);
/// Answers, by kind and result.
pub const ANSWERS: Metric =
    counter("sluicegate_answers_total", "Answers of the control plane, by kind of question and result.");
/// Dropped pushes.
pub const PUSHES_DROPPED: Metric = counter(
    "sluicegate_pushes_dropped_total",
    "Messages to shards that were dropped because the shard's inbox was full.",
);
/// Logins, by result.
pub const LOGINS: Metric = counter("sluicegate_logins_total", "Password checks, by result.");
/// Users.
pub const USERS: Metric = gauge("sluicegate_users", "Users in the registry, without root.");
/// Schemas.
pub const SCHEMAS: Metric = gauge("sluicegate_schemas", "Schemas in the registry.");
/// Documents of stations.
pub const STATION_DOCUMENTS: Metric = gauge(
    "sluicegate_registry_stations",
    "Stations of which the registry keeps something: attributes, schema, dead-letter settings, adoption.",
);
/// API keys.
pub const KEYS: Metric = gauge("sluicegate_keys", "API keys in the registry.");
/// Registry revision.
pub const REGISTRY_REVISION: Metric =
    gauge("sluicegate_registry_revision", "Revision of the registry that the shards know.");
/// The age of what is known.
pub const REGISTRY_CONFIRMED: Metric = gauge(
    "sluicegate_registry_confirmed_timestamp_seconds",
    "When the registry last confirmed what the shards know, since unix epoch in seconds; 0 on the embedded store.",
);
/// Broken documents.
pub const DOCUMENTS_REFUSED: Metric = gauge(
    "sluicegate_registry_documents_refused",
    "Documents of the registry that do not load, or attached schemas that do not compile.",
);

/// Commits of the embedded store.
pub const STORE_COMMITS: Metric = counter("sluicegate_store_commits_total", "Group commits of the embedded store.");
/// Records in these.
pub const STORE_COMMIT_RECORDS: Metric =
    counter("sluicegate_store_commit_records_total", "Records in the group commits of the embedded store.");
/// Time of a commit.
pub const STORE_FSYNC: Metric =
    histogram("sluicegate_store_fsync_seconds", "Time of one group commit of the embedded store, fsync included.");
/// Whether it stopped writing.
pub const STORE_READ_ONLY: Metric = gauge(
    "sluicegate_store_read_only",
    "1 while the embedded store takes no records: its disk is full, or a write failed.",
);

/// Lines of the log.
pub const LOG_LINES_DROPPED: Metric = counter(
    "sluicegate_log_lines_dropped_total",
    "Lines of the log that were dropped because the reader of standard error is too slow or gone.",
);

/// Memory.
pub const PROCESS_RESIDENT: Metric = gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
/// CPU time.
pub const PROCESS_CPU: Metric =
    counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
/// Start.
pub const PROCESS_START: Metric =
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
/// File descriptors.
pub const PROCESS_FDS: Metric = gauge("process_open_fds", "Number of open file descriptors.");
