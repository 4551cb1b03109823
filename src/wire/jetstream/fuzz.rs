//! Entry points for fuzzing: what a broker answers to publishes and to reads.
//!
//! They stand beside the code so that a fuzz target is one line; the property tests use them too.

use super::{
    PubAck, Token,
    acks::{Acks, PlainAck},
    get::{DirectReply, Record, StoredMessage, StreamState},
    puback,
    pull::{Delivery, Status},
};
use crate::wire::nats::{self, Op, ParseLimits, Parsed, fuzz::read_block};
use serde::de::IgnoredAny;
use serde_json::Value;

const INBOX: &str = "_INBOX.x.";

/// Reads every line of the input as an acknowledgement, and all of them one after the other in the quick way: that says
/// what the careful way says, or nothing.
pub fn fuzz_puback(input: &[u8]) {
    let mut acks = Acks::new(INBOX, 1);
    for (index, payload) in input.split(|byte| *byte == b'\n').enumerate() {
        puback::fuzz_paths(payload);
        against_serde(payload);
        // Most have a token; whoever writes the input may put something else in front of the payload.
        let token = char::from(b"BCDEFGHI".get(index % 8).copied().unwrap_or(b'B'));
        let message =
            [format!("MSG {INBOX}{token} 1 {}\r\n", payload.len()).as_bytes(), payload, b"\r\nPING\r\n"].concat();
        for buffer in [message.as_slice(), payload] {
            if let Some(ack) = acks.next(buffer) {
                assert_eq!(Some(ack), careful(buffer), "{}", String::from_utf8_lossy(buffer));
            }
        }
    }
}

/// What the careful way makes of the message at the front of the buffer.
fn careful(buffer: &[u8]) -> Option<PlainAck> {
    let Ok(Parsed::Op { op: Op::Msg { subject, sid: 1, payload, .. }, consumed }) =
        nats::next(buffer, &ParseLimits::default())
    else {
        return None;
    };
    let token = Token::of_subject(subject.of(buffer), INBOX.as_bytes())?;
    match puback::parse(payload.of(buffer))? {
        PubAck::Stored { sequence, duplicate: false, count: None, .. } => Some(PlainAck { token, sequence, consumed }),
        _ => None,
    }
}

/// What is read as an acknowledgement is JSON, and `serde_json` finds the same place in it.
fn against_serde(payload: &[u8]) {
    let (Some(ack), Ok(text)) = (puback::parse(payload), std::str::from_utf8(payload)) else { return };
    if let PubAck::Error { description, .. } = ack {
        let _ = puback::description_text(payload, description);
    }
    if ack == PubAck::BatchStarted {
        return assert!(payload.is_empty(), "only nothing at all begins a batch");
    }
    assert!(serde_json::from_str::<IgnoredAny>(text).is_ok(), "{text}");
    // A number that fits no double makes no value, and is looked at by nobody.
    if let (PubAck::Stored { sequence, .. }, Ok(value)) = (ack, serde_json::from_str::<Value>(text)) {
        assert_eq!(value.get("seq").and_then(Value::as_u64), Some(sequence), "{text}");
        assert!(value.get("error").is_none_or(Value::is_null), "{text}");
    }
}

/// Reads the input as everything that answers a read: a header block, a reply subject, JSON of the API; and as the header
/// fields of a stored record, which cannot forge where the record stands.
pub fn fuzz_replies(input: &[u8]) {
    read_block(input);
    let _ = (DirectReply::of(input), Status::of(input), Status::undelivered(input));
    if let Some(delivery) = Delivery::parse(input) {
        assert!(delivery.stream.end < delivery.consumer.end && delivery.consumer.end as usize <= input.len());
    }
    if let Ok(message) = StoredMessage::parse(input) {
        assert!(message.fields().len() <= message.block.len());
    }
    if let Ok(StreamState { first, last }) = StreamState::parse(input) {
        assert!(first <= last.saturating_add(1), "{first} to {last}");
    }
    stored_fields(input);
}

/// A record that was stored with these fields comes back with them, and with the place that the server has appended.
fn stored_fields(input: &[u8]) {
    const APPENDED: &[u8] = b"Nats-Stream: S\r\nNats-Subject: s\r\nNats-Sequence: 7\r\n\
        Nats-Time-Stamp: 1970-01-01T00:00:01.5Z\r\nNats-Num-Pending: 3\r\n\r\n";
    // The fields end at a blank line.
    let mut lines = input.split(|byte| *byte == b'\n');
    if lines.any(|line| line.is_empty() || line == b"\r") {
        return;
    }
    let fields = [input, b"\r\n"].concat();
    let block = [b"NATS/1.0\r\n", fields.as_slice(), APPENDED].concat();
    let expect = Record { sequence: 7, time_ms: 1_500, fields: &fields, pending: Some(3) };
    assert_eq!(DirectReply::of(&block), Some(DirectReply::Record(expect)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answers_are_read_in_one_way_only(pieces in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(PIECES).prop_map(|piece: &[u8]| piece.to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ], 0..12)) {
            both(&pieces.concat());
        }
    }

    fn both(input: &[u8]) {
        fuzz_puback(input);
        fuzz_replies(input);
    }

    const PIECES: &[&[u8]] = &[
        b"{\"stream\":\"S\",\"seq\":",
        b"{\"stream\":\"T\", \"seq\":",
        b"1",
        b"20",
        b"0",
        b"}",
        b"\n",
        b",\"duplicate\": true",
        b",\"count\":1",
        b",\"seq\":3",
        b",\"x\\\"seq\":4",
        b"{\"error\":{\"code\":400,\"err_code\":10071,\"description\":\"d\"}",
        b"{\"message\":{\"seq\":1,\"data\":\"eA==\",\"time\":\"2026-12-01T10:20:30Z\"}}",
        b"{\"state\":{\"first_seq\":1,\"last_seq\":2}}",
        b"NATS/1.0",
        b" 204",
        b" 409 Batch Completed",
        b"\r\n",
        b"Nats-Sequence: 9\r\n",
        b"Nats-Stream: X\r\n",
        b"Nats-Num-Pending: 3",
        b"$JS.ACK.S.C.1.2.3.4.5",
        b".",
        b"null",
    ];
}
