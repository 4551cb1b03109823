//! The data port's routes, as they are described. They are served by the shards (`dialect/memphis`), which know
//! no description: a test of the integration suite holds their answers against this one.
#![expect(dead_code, reason = "what is here is read by the description alone: nothing calls it, nothing is made of it")]

use super::refusals::refusals;
use crate::api::texts::{GroupText, MessageIdText, NameText};
use serde::Serialize;
use utoipa::ToSchema;

/// A user's name and password. A form with the same fields is taken as well.
#[derive(Serialize, ToSchema)]
pub(super) struct Login {
    #[schema(min_length = 1)]
    username: String,
    #[schema(format = Password)]
    password: Option<String>,
    /// Tenant: 1 is the only one.
    #[schema(minimum = 0, maximum = 4_294_967_295_u64)]
    account_id: Option<i64>,
    /// Lifetime of the token.
    token_expiry_in_minutes: Option<i64>,
    /// Lifetime of the refresh token.
    refresh_token_expiry_in_minutes: Option<i64>,
}

/// A refresh token. A form with the same fields is taken as well.
#[derive(Serialize, ToSchema)]
pub(super) struct Renewal {
    jwt_refresh_token: String,
    /// Lifetime of the new token.
    token_expiry_in_minutes: Option<i64>,
    /// Lifetime of the new refresh token.
    refresh_token_expiry_in_minutes: Option<i64>,
}

/// A pair of tokens. Lifetimes are in milliseconds.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    expires_in: u64,
    jwt: String,
    jwt_refresh_token: String,
    refresh_token_expires_in: u64,
}

/// Everything is stored.
#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
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
pub(super) struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// Its number in the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// Whether a record with its message id was stored before, and this one therefore not.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Some records are stored, others are not.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchFailed {
    /// One for each record that is not stored, in their order: the first thousand.
    errors: Vec<String>,
    /// Records that are not stored.
    fail: u64,
    /// Records that are stored.
    sent: u64,
    success: bool,
    /// With `Prefer: return=representation`: one for each record, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// The request as a whole is wrong, or its records are.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum BatchRefused {
    Whole(Refused),
    Records(BatchFailed),
}

/// Nothing is stored, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Refused {
    error: String,
    success: bool,
    /// With `Prefer: return=representation`, if there were records: one for each, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// Records are not stored through no fault of their own, and why. Of a batch of which others are stored, it says which.
#[derive(Serialize, ToSchema)]
pub(super) struct Unfinished {
    error: String,
    /// One for each record that is not stored, in their order: the first thousand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    errors: Option<Vec<String>>,
    /// Records that are not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    fail: Option<u64>,
    /// Records that are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sent: Option<u64>,
    success: bool,
    /// With `Prefer: return=representation`, if some are stored: one for each record, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipts: Option<Vec<Receipt>>,
}

/// What was wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    error: String,
    success: bool,
}

/// No credential, a wrong one, or one that is no longer good.
#[derive(Serialize, ToSchema)]
pub(super) struct Unauthorized {
    message: String,
}

/// A login with fields of the wrong type, or without a user name.
#[derive(Serialize, ToSchema)]
pub(super) struct LoginRefused {
    /// A text, or a list of fields and what is wrong with them.
    message: serde_json::Value,
}

/// What to hand out.
#[derive(Serialize, ToSchema)]
pub(super) struct Consume {
    /// Says who asks; it changes nothing.
    #[schema(value_type = NameText)]
    consumer_name: String,
    /// Each group gets every record; members of a group share them. The group `rest-gateway` unless told, or if it is empty.
    #[schema(value_type = Option<GroupText>)]
    consumer_group: Option<String>,
    /// 10 unless told, or if it is 0. 0 with `ack`: only acknowledge.
    #[schema(minimum = 0, maximum = 5000)]
    batch_size: Option<u32>,
    /// 5,000 unless told, or if it is 0; 100 to 60,000, other values are moved to the nearest.
    batch_max_wait_time_ms: Option<i64>,
    /// `false`: a station that is not there is not made, whatever the rights. `true` unless told.
    create_station: Option<bool>,
    /// `true`: the records are acknowledged by `ack`, and come again if that does not come within 25 s. An answer that hands out any has the header field `Sluicegate-Delivery`.
    manual_ack: Option<bool>,
    /// The `Sluicegate-Delivery` of an earlier answer on this connection, which is acknowledged. Sent again, it is answered as before.
    ack: Option<String>,
    /// How many records of it, from the first; the others are handed out again at once. All unless told.
    #[schema(minimum = 0)]
    ack_records: Option<u32>,
}

/// A record, handed out.
#[derive(Serialize, ToSchema)]
pub(super) struct Record {
    /// Its bytes as text.
    message: String,
    /// `base64` if its bytes are not UTF-8: `message` is then base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    encoding: Option<String>,
    /// Header fields that are stored with it.
    headers: std::collections::BTreeMap<String, String>,
}

/// The gateway lives.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    status: String,
}

refusals! { pub(super), "application/json", "Unauthorized" =>
    /// Wants a token or a key.
    Anonymous: 401 "No credential, a wrong one, or one that is no longer good: `WWW-Authenticate` says what is taken";
}

refusals! { pub(super), "application/json", "Failure" =>
    /// Has a body that is bounded, and needs the control plane.
    LoggingIn: 413 "The body is too large", 415 "A Content-Encoding that is not taken",
        429 "Too many wrong passwords for this name, or from this network", 503 "The users are not known yet, or too many log in at once";
    /// Puts records in.
    Producing: 403 "Not allowed to produce to this station",
        404 "There is no such station, and it is not made on first use",
        409 "A limit of the broker is reached that does not free itself: the text names it",
        413 "The body, a record or the batch is too large: the text names the limit",
        415 "A Content-Type or Content-Encoding that is not taken: the text lists what is",
        429 "Too much is waiting for the broker",
        431 "The header fields to store are too large";
    /// May ask for all or nothing.
    Strict: 501 "All or nothing was asked for, and is not possible here: the text says why";
    /// Takes records out.
    Consuming: 400 "The body is wrong: the text says what",
        403 "Not allowed to consume from this station",
        404 "There is no such station, and it may not be made",
        409 "The station cannot have this consumer group: the text says what stands in the way",
        413 "The body is too large",
        415 "A Content-Encoding that is not taken",
        429 "As many deliveries of this group, or of this user or API key, wait for their acknowledgement as may: the text says which",
        503 "The broker is away, the station's stream is not there, the control plane did not answer, or too much is going on: send the same request again, also if it acknowledges";
}

refusals! { pub(super), "application/json", "Unfinished" =>
    /// Depends on the broker at the moment.
    Interrupted: 503 "The broker is away or does not let the gateway, the station is full, its schema cannot be confirmed, or no acknowledgement came: send the same request again, with an id nothing is stored twice";
}

/// Logs in: a name and a password for a pair of tokens.
#[utoipa::path(post, path = "/auth/authenticate", tag = "data", operation_id = "authenticate", security(()), request_body = Login,
    params(("accountId" = Option<i64>, Query, description = "Tenant, unless the body names one")),
    responses((status = 200, description = "Logged in", body = Tokens), (status = 400, description = "The body is wrong", body = LoginRefused),
        (status = 405, description = "Not by this method", body = String, content_type = "text/plain", headers(("Allow" = String, description = "By which"))),
        Anonymous, LoggingIn))]
pub(super) fn authenticate() {}

/// Gives a new pair of tokens for a refresh token.
#[utoipa::path(post, path = "/auth/refreshToken", tag = "data", operation_id = "refresh_token", security(()), request_body = Renewal,
    responses((status = 200, description = "A new pair", body = Tokens), (status = 400, description = "The body is wrong", body = Failure),
        (status = 413, description = "The body is too large", body = Failure),
        (status = 415, description = "A Content-Encoding that is not taken", body = Failure),
        (status = 405, description = "Not by this method", body = String, content_type = "text/plain", headers(("Allow" = String, description = "By which"))),
        Anonymous))]
pub(super) fn refresh_token() {}

/// Stores one record: the body as it is. On a station with a schema, a record that fails is 400 and becomes a dead letter.
#[utoipa::path(post, path = "/stations/{name}/produce/single", tag = "data", operation_id = "produce_single",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("Idempotency-Key" = Option<MessageIdText>, Header, description = "The record's message id: sent twice, it is stored once"),
        ("Prefer" = Option<String>, Header, description = "`return=representation`: the answer has receipts")),
    request_body(description = "The record", content((String = "text/plain"), (serde_json::Value = "application/json"),
        (Vec<u8> = "application/octet-stream"), (Vec<u8> = "application/x-protobuf"), (Vec<u8> = "avro/bytes"))),
    responses((status = 200, description = "Stored, and acknowledged", body = Stored, headers(
        ("Preference-Applied" = String, description = "The preferences that were honoured"))),
        (status = 400, description = "The request is wrong, or the record is not what the station's schema says", body = Refused, headers(
        ("Preference-Applied" = String, description = "The preferences that were honoured"))),
        (status = 405, description = "Not by this method", body = String, content_type = "text/plain", headers(("Allow" = String, description = "By which"))),
        Anonymous, Producing, Interrupted))]
pub(super) fn produce_single() {}

/// Stores each element of an array as a record. On a station with a schema, records that fail become dead letters, the others are stored.
#[utoipa::path(post, path = "/stations/{name}/produce/batch", tag = "data", operation_id = "produce_batch",
    security(("token" = []), ("key" = []), ("query" = [])),
    params(("name" = NameText, Path, description = "The station"),
        ("Idempotency-Key" = Option<MessageIdText>, Header, description = "Record number i, from 0, has a message id of its own: `<key> <i>`"),
        ("Prefer" = Option<String>, Header, description = "`handling=strict`: all records are stored or none. `return=representation`: the answer has receipts")),
    request_body(description = "The records", content = Vec<serde_json::Value>, content_type = "application/json"),
    responses((status = 200, description = "All are stored, and acknowledged", body = Stored, headers(
        ("Preference-Applied" = String, description = "The preferences that were honoured"))),
        (status = 400, description = "The request is wrong, or some of its records are", body = BatchRefused, headers(
        ("Preference-Applied" = String, description = "The preferences that were honoured"))),
        (status = 405, description = "Not by this method", body = String, content_type = "text/plain", headers(("Allow" = String, description = "By which"))),
        Anonymous, Producing, Interrupted, Strict))]
pub(super) fn produce_batch() {}

/// Hands out records, oldest first. They are acknowledged once the client has the whole answer, or by a later call.
#[utoipa::path(post, path = "/stations/{name}/consume/batch", tag = "data", operation_id = "consume_batch",
    security(("token" = []), ("key" = []), ("query" = [])), request_body = Consume,
    params(("name" = NameText, Path, description = "The station")),
    responses((status = 200, description = "These are yours; none came in time if there are none", body = Vec<Record>,
        headers(("Sluicegate-Delivery" = String, description = "With `manual_ack`, where there are any: what `ack` names"))),
        (status = 405, description = "Not by this method", body = String, content_type = "text/plain", headers(("Allow" = String, description = "By which"))),
        Anonymous, Consuming))]
pub(super) fn consume_batch() {}

/// Says that the gateway lives.
#[utoipa::path(get, path = "/monitoring/status", tag = "data", operation_id = "status", security(()),
    responses((status = 200, description = "It does", body = Status),
        (status = 405, description = "Not by this method", body = String, content_type = "text/plain", headers(("Allow" = String, description = "By which")))))]
pub(super) fn status() {}
