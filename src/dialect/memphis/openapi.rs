//! The description of this API's routes, for `/openapi.json`. Nothing that serves a request uses it: a test of the
//! integration suite compares real answers with it.
#![expect(dead_code, reason = "only the description reads these types and functions")]

use crate::api::{
    refusals::refusals,
    texts::{GroupText, MessageIdText, NameText},
};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

#[derive(OpenApi)]
#[openapi(
    paths(authenticate, refresh_token, produce_single, produce_batch, produce_stream, consume_batch, tail, records, status),
    components(schemas(PlacedRecord, Failure, Unfinished, Unauthorized, NameText, GroupText, MessageIdText)),
    tags((name = "data", description = "The data port: records in and out"))
)]
struct Document;

/// Returns the description of the routes.
pub(in crate::dialect) fn description() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// A user's name and password. A form with the same fields is accepted as well.
#[derive(Serialize, ToSchema)]
struct Login {
    #[schema(min_length = 1)]
    username: String,
    #[schema(format = Password)]
    password: Option<String>,
    /// Tenant. The only one is 1.
    #[schema(minimum = 0, maximum = 4_294_967_295_u64)]
    account_id: Option<i64>,
    /// Lifetime of the token.
    token_expiry_in_minutes: Option<i64>,
    /// Lifetime of the refresh token.
    refresh_token_expiry_in_minutes: Option<i64>,
}

/// A refresh token. A form with the same fields is accepted as well.
#[derive(Serialize, ToSchema)]
struct Renewal {
    jwt_refresh_token: String,
    /// Lifetime of the new token.
    token_expiry_in_minutes: Option<i64>,
    /// Lifetime of the new refresh token.
    refresh_token_expiry_in_minutes: Option<i64>,
}

/// A pair of tokens. Lifetimes are in milliseconds.
#[derive(Serialize, ToSchema)]
struct Tokens {
    expires_in: u64,
    jwt: String,
    jwt_refresh_token: String,
    refresh_token_expires_in: u64,
}

/// The answer where everything is stored.
#[derive(Serialize, ToSchema)]
struct Stored {
    /// Always null.
    #[schema(value_type = Option<String>, required = true)]
    error: Option<String>,
    success: bool,
    /// With `Prefer: return=representation`: one for each record, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// What became of a record: where it is stored, or why it is not.
#[derive(Serialize, ToSchema)]
struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// Number of the record in the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// Whether this record was not stored because a record with its message id had been stored before.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A line of the answer to a stream: the receipt of a line, or why it is not stored; or, as the last one, what all came to.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum StreamLine {
    Stored(LineStored),
    Failed(LineFailed),
    Summary(StreamSummary),
}

/// Where the record of a line is stored.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"line": 1, "stream": "orders", "sequence": 17, "duplicate": false}))]
struct LineStored {
    /// Number of the line, from 1.
    line: u64,
    stream: String,
    /// Number of the record in the stream.
    sequence: u64,
    /// Whether this record was not stored because a record with its message id had been stored before.
    duplicate: bool,
}

/// Why a line is not stored, or may not be.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"line": 2, "error": "invalid JSON at byte 0: expected a JSON value", "retry": false}))]
struct LineFailed {
    /// Number of the line, from 1.
    line: u64,
    error: String,
    /// Whether sending it again may help.
    retry: bool,
}

/// What the lines came to.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"lines": 2, "stored": 1, "duplicates": 0, "failed": 1}))]
struct StreamSummary {
    /// Number of lines, blank ones included.
    lines: u64,
    /// Number of records that were stored.
    stored: u64,
    /// Number of records that had been stored before.
    duplicates: u64,
    /// Number of lines that are not stored, or may not be.
    failed: u64,
    /// If the stream ended before its body: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// With `error`: whether the same request may be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry: Option<bool>,
    /// With `error`: number of the first line to send again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_line: Option<u64>,
}

/// The answer where some records are stored and others are not.
#[derive(Serialize, ToSchema)]
struct BatchFailed {
    /// One for each record that is not stored, in their order, for the first thousand of them.
    errors: Vec<String>,
    /// Number of records that are not stored.
    fail: u64,
    /// Number of records that are stored.
    sent: u64,
    success: bool,
    /// With `Prefer: return=representation`: one for each record, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// The answer where the request as a whole is wrong, or some of its records are.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BatchRefused {
    Whole(Refused),
    Records(BatchFailed),
}

/// The answer where nothing is stored, with the reason.
#[derive(Serialize, ToSchema)]
struct Refused {
    error: String,
    success: bool,
    /// With `Prefer: return=representation`, if there were records: one for each, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// The answer where records are not stored although nothing is wrong with them, with the reason. If other records of
/// the batch are stored, it says which.
#[derive(Serialize, ToSchema)]
struct Unfinished {
    error: String,
    /// One for each record that is not stored, in their order, for the first thousand of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    errors: Option<Vec<String>>,
    /// Number of records that are not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    fail: Option<u64>,
    /// Number of records that are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sent: Option<u64>,
    success: bool,
    /// With `Prefer: return=representation`, if some are stored: one for each record, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// The answer to a request that failed, with the reason.
#[derive(Serialize, ToSchema)]
struct Failure {
    error: String,
    success: bool,
}

/// The answer to a request without a credential, or with one that is wrong or no longer valid.
#[derive(Serialize, ToSchema)]
struct Unauthorized {
    message: String,
}

/// The answer to a login with fields of the wrong type, or without a user name.
#[derive(Serialize, ToSchema)]
struct LoginRefused {
    /// A text, or a list of fields with what is wrong with each.
    message: serde_json::Value,
}

/// Which records to deliver.
#[derive(Serialize, ToSchema)]
struct Consume {
    /// Name of the consumer. It has no effect.
    #[schema(value_type = NameText)]
    consumer_name: String,
    /// Consumer group. Each group gets every record; its members share them. If it is absent or empty, the group is
    /// `rest-gateway`.
    #[schema(value_type = Option<GroupText>)]
    consumer_group: Option<String>,
    /// Number of records to deliver at most. If it is absent or 0, it is 10; 0 with `ack` only acknowledges.
    #[schema(minimum = 0, maximum = 5000)]
    batch_size: Option<u32>,
    /// Milliseconds to wait for records, 100 to 60,000; other values are moved to the nearest of these. If it is absent
    /// or 0, it is 5,000.
    batch_max_wait_time_ms: Option<i64>,
    /// Whether a station that does not exist is created, where the rights allow it. It is `true` by default.
    create_station: Option<bool>,
    /// Whether the client acknowledges the records, by `ack` in a later request. Records that are not acknowledged
    /// within 25 s are delivered again. An answer with records has the header field `Sluicegate-Delivery`.
    manual_ack: Option<bool>,
    /// Acknowledges an earlier answer on this connection: the value of its `Sluicegate-Delivery`. Sent again, it is
    /// answered as before.
    ack: Option<String>,
    /// Number of records to acknowledge, from the first; the others are delivered again at once. It is all by default.
    #[schema(minimum = 0)]
    ack_records: Option<u32>,
}

/// A delivered record.
#[derive(Serialize, ToSchema)]
struct Record {
    /// Payload of the record, as text.
    message: String,
    /// `base64`, if the payload is not UTF-8: `message` is then base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    encoding: Option<String>,
    /// Header fields that are stored with the record.
    headers: std::collections::BTreeMap<String, String>,
}

/// A record with its place.
#[derive(Serialize, ToSchema)]
struct PlacedRecord {
    /// Payload of the record, as text.
    message: String,
    /// `base64`, if the payload is not UTF-8: `message` is then base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    encoding: Option<String>,
    /// Header fields that are stored with the record.
    headers: std::collections::BTreeMap<String, String>,
    /// Its partition.
    partition: u16,
    /// Its number in the partition.
    sequence: u64,
    /// When it was stored (RFC 3339).
    time: String,
}

/// The answer that the gateway is alive.
#[derive(Serialize, ToSchema)]
struct Status {
    status: String,
}

refusals! { pub(super), "application/json", "Unauthorized" =>
    /// Requires a token or an API key.
    Anonymous: 401 "No credential, a wrong one, or one that is no longer valid: `WWW-Authenticate` says which are accepted";
}

refusals! { pub(super), "application/json", "Failure" =>
    /// Has a body that is bounded, and needs the control plane.
    LoggingIn: 413 "The body is too large", 415 "The Content-Encoding is not supported",
        429 "Too many wrong passwords for this name, or from this network", 503 "The users are not known yet, or too many clients log in at once";
    /// Produces records.
    Producing: 403 "Not allowed to produce to this station",
        404 "There is no such station, and it is not created on first use",
        409 "A limit of the broker is reached that does not free itself: the text names it",
        413 "The body, a record or the batch is too large: the text names the limit",
        415 "The Content-Type or Content-Encoding is not supported: the text lists those that are",
        429 "Too much is waiting for the broker",
        431 "The header fields to store are too large";
    /// Produces records for as long as the client wants.
    Streaming: 400 "The request is wrong: the text says what",
        403 "Not allowed to produce to this station",
        404 "There is no such station, and it is not created on first use",
        409 "A limit of the broker is reached that does not free itself: the text names it",
        415 "The Content-Type or Content-Encoding is not supported: the text lists those that are",
        429 "Too many streams of this user or API key are open",
        431 "The header fields to store are too large",
        503 "The station cannot be looked up at the moment, the gateway stops, or too many streams are open: send the request again";
    /// May require that all records are stored or none.
    Strict: 501 "All or nothing was required and is not possible here: the text says why";
    /// Consumes records.
    Consuming: 400 "The body is wrong: the text says what",
        403 "Not allowed to consume from this station",
        404 "There is no such station, and it may not be created",
        409 "The station cannot have this consumer group: the text says why",
        413 "The body is too large",
        415 "The Content-Encoding is not supported",
        429 "Too many deliveries of this group, or of this user or API key, wait for their acknowledgement: the text says which",
        503 "The broker is away, the station's stream is missing, the control plane did not answer, or the gateway is overloaded: send the same request again, also if it acknowledges";
}

refusals! { pub(super), "application/json", "Failure" =>
    /// Reads by place.
    Reading: 400 "A parameter is wrong: the text says which and what it takes",
        403 "Not allowed to consume from this station",
        404 "There is no such station",
        503 "The broker is away, or the gateway is overloaded or shuts down: send the same request again";
}

refusals! { pub(super), "application/json", "Unfinished" =>
    /// Depends on the state of the broker.
    Interrupted: 503 "The broker is away or does not allow it, the station is full, its schema cannot be confirmed, or no acknowledgement came: send the same request again; with a message id nothing is stored twice";
}

/// Logs in with a name and a password, for a pair of tokens.
#[utoipa::path(post, path = "/auth/authenticate", tag = "data", operation_id = "authenticate", security(()), request_body = Login,
    params(("accountId" = Option<i64>, Query, description = "Tenant, unless the body names one")),
    responses((status = 200, description = "Logged in", body = Tokens), (status = 400, description = "The body is wrong", body = LoginRefused),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, LoggingIn))]
fn authenticate() {}

/// Returns a new pair of tokens for a refresh token.
#[utoipa::path(post, path = "/auth/refreshToken", tag = "data", operation_id = "refresh_token", security(()), request_body = Renewal,
    responses((status = 200, description = "A new pair", body = Tokens), (status = 400, description = "The body is wrong", body = Failure),
        (status = 413, description = "The body is too large", body = Failure),
        (status = 415, description = "The Content-Encoding is not supported", body = Failure),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous))]
fn refresh_token() {}

/// Stores the body as one record.
///
/// On a station with a schema, a record that fails validation is 400 and becomes a dead letter.
#[utoipa::path(post, path = "/stations/{name}/produce/single", tag = "data", operation_id = "produce_single",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("Idempotency-Key" = Option<MessageIdText>, Header, description = "The record's message id: a record that is sent twice with it is stored once"),
        ("Prefer" = Option<String>, Header, description = "`return=representation`: the answer has receipts")),
    request_body(description = "The record", content((String = "text/plain"), (serde_json::Value = "application/json"),
        (Vec<u8> = "application/octet-stream"), (Vec<u8> = "application/x-protobuf"), (Vec<u8> = "avro/bytes"))),
    responses((status = 200, description = "The record is stored and acknowledged", body = Stored, headers(
        ("Preference-Applied" = String, description = "The preferences that were applied"))),
        (status = 400, description = "The request is wrong, or the record is not valid by the station's schema", body = Refused, headers(
        ("Preference-Applied" = String, description = "The preferences that were applied"))),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, Producing, Interrupted))]
fn produce_single() {}

/// Stores each element of an array as a record.
///
/// On a station with a schema, records that fail validation become dead letters; the others are stored.
#[utoipa::path(post, path = "/stations/{name}/produce/batch", tag = "data", operation_id = "produce_batch",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("Idempotency-Key" = Option<MessageIdText>, Header, description = "Record number i, from 0, has the message id `<key> <i>`"),
        ("Prefer" = Option<String>, Header, description = "`handling=strict`: all records are stored or none. `return=representation`: the answer has receipts")),
    request_body(description = "The records: an array, one on each line, or a sequence (RFC 7464)", content((Vec<serde_json::Value> = "application/json"),
        (String = "application/x-ndjson"), (String = "application/jsonl"), (String = "application/json-seq"))),
    responses((status = 200, description = "All records are stored and acknowledged", body = Stored, headers(
        ("Preference-Applied" = String, description = "The preferences that were applied"))),
        (status = 400, description = "The request is wrong, or some of its records are", body = BatchRefused, headers(
        ("Preference-Applied" = String, description = "The preferences that were applied"))),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, Producing, Interrupted, Strict))]
fn produce_batch() {}

/// Stores each line as a record, and answers each as soon as it is stored, while lines still come.
///
/// The answer is 200 before the first line is stored. Its last line says what the lines came to, and why the stream ended
/// if it ended before its body.
#[utoipa::path(post, path = "/stations/{name}/produce/stream", tag = "data", operation_id = "produce_stream",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("receipts" = Option<String>, Query, description = "`all` (the default), `errors` or `summary`: of which lines the answer says what became of them. The last line always comes"),
        ("line" = Option<u64>, Query, minimum = 1, description = "Number of the first line that is sent. It is 1 by default"),
        ("Idempotency-Key" = Option<MessageIdText>, Header, description = "The record on line n has the message id `<key> line <n>`")),
    request_body(description = "The records: one on each line, or a sequence (RFC 7464)", content((String = "application/x-ndjson", example = "{\"id\":1}\n{\"id\":2}\n"),
        (String = "application/jsonl"), (String = "application/json-seq"))),
    responses((status = 200, description = "The stream has begun", body = StreamLine, content_type = "application/x-ndjson", headers(
        ("Sluicegate-Idempotency-Window" = String, description = "For how many seconds a line that is sent again is stored once"))),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, Streaming))]
fn produce_stream() {}

/// Delivers records, oldest first.
///
/// They are acknowledged once the client has the whole answer, or by a later call.
#[utoipa::path(post, path = "/stations/{name}/consume/batch", tag = "data", operation_id = "consume_batch",
    security(("token" = []), ("key" = []), ("query" = [])), request_body = Consume,
    params(("name" = NameText, Path, description = "The station")),
    responses((status = 200, description = "The records; an empty list if none came in time", body = Vec<Record>,
        headers(("Sluicegate-Delivery" = String, description = "With `manual_ack`, if there are records: the value for `ack`"))),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, Consuming))]
fn consume_batch() {}

/// Follows a station: records as server-sent events, as they are stored.
///
/// The data of an event is a record with its place; its id is a cursor that says where to go on. `event: gap` names
/// records that retention removed before they were read. `event: end` comes before the gateway ends the stream.
#[utoipa::path(get, path = "/stations/{name}/tail", tag = "data", operation_id = "tail",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("from" = Option<String>, Query, description = "Where to begin: `new` (the default), `first`, a time back such as `-15m`, an RFC 3339 time, or a cursor such as `0:17,1:5`"),
        ("partition" = Option<u16>, Query, description = "The only partition to follow"),
        ("limit" = Option<u64>, Query, description = "Number of records after which the stream ends"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen: a cursor, which wins over `from`")),
    responses((status = 200, description = "The events", body = String, content_type = "text/event-stream",
        headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, Reading))]
fn tail() {}

/// Returns a page of records by place.
#[utoipa::path(get, path = "/stations/{name}/records", tag = "data", operation_id = "records",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("from" = Option<String>, Query, description = "Where to begin: `first` (the default), `new`, a time back such as `-15m`, an RFC 3339 time, or a cursor such as `0:17,1:5`"),
        ("partition" = Option<u16>, Query, description = "The only partition to read"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 5000, description = "Number of records at most; 100 by default")),
    responses((status = 200, description = "The records; an empty list at the end", body = Vec<PlacedRecord>, headers(
        ("Link" = String, description = "Where to go on, also at the end"),
        ("Sluicegate-Gap" = String, description = "Records that retention removed before they were read: partition, first and last sequence"))),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are"))),
        Anonymous, Reading))]
fn records() {}

/// Says that the gateway is alive.
#[utoipa::path(get, path = "/monitoring/status", tag = "data", operation_id = "status", security(()),
    responses((status = 200, description = "It is alive", body = Status),
        (status = 405, description = "The method is not supported", body = String, content_type = "text/plain", headers(("Allow" = String, description = "The methods that are")))))]
fn status() {}
