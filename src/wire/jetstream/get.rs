//! Reading records of a stream by place, without a consumer.
//!
//! *Direct Get* is answered by any server that has the stream, where the stream allows it (`allow_direct`): the record
//! itself comes back, with its place in header fields behind its own. From 2.11 on one request brings many, and begins
//! at a time. `STREAM.MSG.GET` is answered by the stream's leader, as JSON, of any stream, one record at a time.

use crate::wire::{nats::headers, time::unix_ms};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// Where Direct Get listens, without the stream.
pub const DIRECT_GET: &str = "$JS.API.DIRECT.GET.";
/// Where a stream's leader is asked for one record, without the stream.
pub const MSG_GET: &str = "$JS.API.STREAM.MSG.GET.";
/// Where a stream's leader is asked what it holds, without the stream.
pub const STREAM_INFO: &str = "$JS.API.STREAM.INFO.";

/// "stream not found".
const STREAM_NOT_FOUND: u32 = 10_059;
/// "no message found".
const NO_MESSAGE: u32 = 10_037;

/// What is asked for: the first records of a subject from a place on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Get<'a> {
    /// From this sequence on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// From this time on: see [`crate::wire::time::rfc3339`]. 2.11 and later, and Direct Get alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// Of this subject.
    pub next_by_subj: &'a str,
    /// So many: 2.11 and later, and Direct Get alone. An older server sends one record, without [`Record::pending`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// So many bytes; the record that crosses it is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

impl<'a> Get<'a> {
    /// Asks for one record.
    #[must_use]
    pub fn one(seq: u64, subject: &'a str) -> Self {
        Self { seq: Some(seq), start_time: None, next_by_subj: subject, batch: None, max_bytes: None }
    }

    /// Returns the payload of the request.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        // Numbers and strings cannot fail to become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A message that answers a Direct Get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectReply<'a> {
    /// A record; the message's payload is its own.
    Record(Record<'a>),
    /// All of the batch has come; so many records are left behind it.
    End(u64),
    /// There is no such record.
    Absent,
    /// The server does not take the request.
    Refused(u16),
}

/// What the header block of a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the stream.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its own header fields, `Name: value\r\n` each.
    pub fields: &'a [u8],
    /// How many records of the same request are left; only a server that knows batches says that.
    pub pending: Option<u64>,
}

impl<'a> DirectReply<'a> {
    /// Reads the header block of a message. `None`: it does not parse.
    #[must_use]
    pub fn of(block: &'a [u8]) -> Option<Self> {
        match headers::status(block).map(|status| status.code) {
            None => Record::of(block).map(Self::Record),
            Some(204) => number(headers::find(block, "Nats-Num-Pending")?).map(Self::End),
            Some(404) => Some(Self::Absent),
            Some(code) => Some(Self::Refused(code)),
        }
    }
}

impl<'a> Record<'a> {
    /// Reads the fields that the server has appended. They begin with the last `Nats-Stream`: a record may have been
    /// stored with fields of these names.
    fn of(block: &'a [u8]) -> Option<Self> {
        let mut end = None;
        let (mut sequence, mut time_ms, mut pending) = (None, None, None);
        for (name, value) in headers::fields(block) {
            let value = value.of(block);
            match name.of(block) {
                b"Nats-Stream" => {
                    end = Some(name.start as usize);
                    (sequence, time_ms, pending) = (None, None, None);
                }
                b"Nats-Sequence" => sequence = number(value),
                b"Nats-Time-Stamp" => time_ms = std::str::from_utf8(value).ok().and_then(unix_ms),
                b"Nats-Num-Pending" => pending = number(value),
                _ => {}
            }
        }
        let fields = block.get(headers::field_lines(block).start as usize..end?)?;
        Some(Self { sequence: sequence?, time_ms: time_ms?, fields, pending })
    }
}

/// An error of the JetStream API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// There is no such record.
    Absent,
    /// There is no such stream.
    NoStream,
    /// Nobody leads the stream at the moment, or the server is overloaded.
    Busy,
    /// Something else, in the broker's words.
    Other(String),
}

/// A record as `STREAM.MSG.GET` brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the stream.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub time_ms: u64,
    /// The header block with its version line; empty if there is none.
    pub block: Vec<u8>,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl StoredMessage {
    /// Reads the answer to `STREAM.MSG.GET`.
    pub fn parse(json: &[u8]) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            message: Option<Message<'a>>,
        }
        #[derive(Deserialize)]
        struct Message<'a> {
            seq: u64,
            #[serde(default)]
            hdrs: Option<&'a str>,
            #[serde(default)]
            data: Option<&'a str>,
            time: &'a str,
        }
        let message = answer::<Answer<'_>>(json)?.message.ok_or_else(|| unreadable("no message"))?;
        let decode = |text: Option<&str>| {
            STANDARD.decode(text.unwrap_or_default()).map_err(|_| unreadable("a record that is no base64"))
        };
        Ok(Self {
            sequence: message.seq,
            time_ms: unix_ms(message.time).ok_or_else(|| unreadable("a record without a time"))?,
            block: decode(message.hdrs)?,
            payload: decode(message.data)?,
        })
    }

    /// Returns its header fields, `Name: value\r\n` each.
    #[must_use]
    pub fn fields(&self) -> &[u8] {
        headers::field_lines(&self.block).of(&self.block)
    }
}

/// The sequences that a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// The oldest sequence that is kept; `last + 1` if there is none.
    pub first: u64,
    /// The newest sequence; 0 before the first.
    pub last: u64,
}

impl StreamState {
    /// Reads the answer to `STREAM.INFO`.
    pub fn parse(json: &[u8]) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            state: Option<State>,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            first_seq: u64,
            #[serde(default)]
            last_seq: u64,
            #[serde(default)]
            messages: u64,
        }
        let State { first_seq, last_seq, messages } =
            answer::<Answer>(json)?.state.ok_or_else(|| unreadable("no state"))?;
        // A stream that never held anything says 0.
        let first = if messages == 0 { first_seq.max(last_seq.saturating_add(1)) } else { first_seq.max(1) };
        Ok(Self { first: first.min(last_seq.saturating_add(1)), last: last_seq })
    }
}

/// Reads an answer of the API, or its error.
fn answer<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ApiError> {
    #[derive(Deserialize)]
    struct Failed {
        error: Option<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: u16,
        #[serde(default)]
        err_code: u32,
        #[serde(default)]
        description: String,
    }
    match serde_json::from_slice::<Failed>(json).map_err(|_| unreadable("no JSON"))?.error {
        None => serde_json::from_slice(json).map_err(|_| unreadable("another form")),
        Some(Error { err_code: NO_MESSAGE, .. }) => Err(ApiError::Absent),
        Some(Error { err_code: STREAM_NOT_FOUND, .. }) => Err(ApiError::NoStream),
        Some(Error { code: 503 | 429, .. }) => Err(ApiError::Busy),
        Some(Error { description, .. }) => Err(ApiError::Other(description)),
    }
}

fn unreadable(what: &str) -> ApiError {
    ApiError::Other(format!("the broker's answer does not parse: {what}"))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::rfc3339;
    use proptest::prelude::*;

    const TIME: &str = "2026-12-01T10:20:30.123456789Z";
    const TIME_MS: u64 = 1_796_120_430_123;

    fn record(fields: &[u8], pending: Option<u64>) -> DirectReply<'_> {
        DirectReply::Record(Record { sequence: 7, time_ms: TIME_MS, fields, pending })
    }

    #[test]
    fn a_direct_reply_is_a_record_with_its_place_or_an_end() {
        let appended = format!("Nats-Stream: S\r\nNats-Subject: s\r\nNats-Sequence: 7\r\nNats-Time-Stamp: {TIME}\r\n");
        let batch = "Nats-Num-Pending: 3\r\nNats-Last-Sequence: 6\r\n";
        let forged = "Nats-Stream: X\r\nNats-Sequence: 9\r\nNats-Num-Pending: 8\r\nA: b\r\n";
        for (block, expect) in [
            (format!("NATS/1.0\r\n{appended}\r\n"), Some(record(b"", None))),
            (format!("NATS/1.0\r\n{appended}{batch}\r\n"), Some(record(b"", Some(3)))),
            (
                format!("NATS/1.0\r\nA: b\r\nNats-Msg-Id: x\r\n{appended}\r\n"),
                Some(record(b"A: b\r\nNats-Msg-Id: x\r\n", None)),
            ),
            (format!("NATS/1.0\r\n{forged}{appended}\r\n"), Some(record(forged.as_bytes(), None))),
            (
                "NATS/1.0 204 EOB\r\nNats-Num-Pending: 5\r\nNats-Last-Sequence: 7\r\n\r\n".into(),
                Some(DirectReply::End(5)),
            ),
            ("NATS/1.0 404 Message Not Found\r\n\r\n".into(), Some(DirectReply::Absent)),
            ("NATS/1.0 408 Empty Request\r\n\r\n".into(), Some(DirectReply::Refused(408))),
            ("NATS/1.0\r\nA: b\r\n\r\n".into(), None),
            ("NATS/1.0\r\nNats-Stream: S\r\nNats-Sequence: 7\r\n\r\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(DirectReply::of(block.as_bytes()), expect, "{block:?}");
        }
    }

    #[test]
    fn a_request_says_what_is_set_and_nothing_else() {
        let batch = Get {
            seq: None,
            start_time: Some(rfc3339(TIME_MS)),
            next_by_subj: "a\"b",
            batch: Some(10),
            max_bytes: Some(512),
        };
        for (get, expect) in [
            (Get::one(5, "orders"), r#"{"seq":5,"next_by_subj":"orders"}"#),
            (batch, r#"{"start_time":"2026-12-01T10:20:30.123Z","next_by_subj":"a\"b","batch":10,"max_bytes":512}"#),
        ] {
            assert_eq!(String::from_utf8(get.payload()).expect("text"), expect);
        }
    }

    #[test]
    fn a_leader_answers_in_json() {
        let found = format!(
            r#"{{"type":"x","message":{{"subject":"s","seq":7,"hdrs":"TkFUUy8xLjANCkE6IGINCg0K","data":"eA==","time":"{TIME}"}}}}"#
        );
        let message = StoredMessage::parse(found.as_bytes()).expect("a message");
        assert_eq!((message.sequence, message.time_ms, message.fields()), (7, TIME_MS, &b"A: b\r\n"[..]));
        assert_eq!(message.payload, b"x");
        let bare = format!(r#"{{"message":{{"subject":"s","seq":1,"time":"{TIME}"}}}}"#);
        let message = StoredMessage::parse(bare.as_bytes()).expect("a message");
        assert_eq!((message.fields(), message.payload.as_slice()), (&b""[..], &b""[..]));
        for (json, expect) in [
            (r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#, ApiError::Absent),
            (r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#, ApiError::NoStream),
            (r#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#, ApiError::Busy),
            (r#"{"error":{"code":400,"err_code":1,"description":"why"}}"#, ApiError::Other("why".into())),
        ] {
            assert_eq!(StoredMessage::parse(json.as_bytes()), Err(expect.clone()));
            assert_eq!(StreamState::parse(json.as_bytes()), Err(expect));
        }
        assert!(matches!(StoredMessage::parse(b"?"), Err(ApiError::Other(_))));
        assert!(matches!(StoredMessage::parse(b"{}"), Err(ApiError::Other(_))));
    }

    #[test]
    fn a_stream_without_records_begins_behind_its_last_one() {
        for (state, first, last) in [
            (r#"{"messages":0,"first_seq":0,"last_seq":0}"#, 1, 0),
            (r#"{"messages":0,"first_seq":1,"last_seq":9}"#, 10, 9),
            (r#"{"messages":0,"first_seq":10,"last_seq":9}"#, 10, 9),
            (r#"{"messages":3,"first_seq":5,"last_seq":9}"#, 5, 9),
            (r"{}", 1, 0),
        ] {
            let json = format!(r#"{{"config":{{}},"state":{state}}}"#);
            assert_eq!(StreamState::parse(json.as_bytes()), Ok(StreamState { first, last }), "{state}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(block in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (DirectReply::of(&block), StoredMessage::parse(&block), StreamState::parse(&block));
        }
    }
}
