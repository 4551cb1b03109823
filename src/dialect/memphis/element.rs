//! A record as clients of this API get it: one JSON object, whichever way they read.
//!
//! A payload that is not UTF-8 comes as base64, marked, never mangled.

use crate::{
    consume::AnswerRoom,
    ingest::Ingest,
    limits::ENCODED_AT_ONCE_BYTES_MAX,
    reject::Reject,
    wire::{nats, time::rfc3339},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{collections::BTreeMap, io::Write as _};

/// Header fields that are not shown: an SDK's own bookkeeping, which the original hid too, and what the broker keeps
/// of the batch that a record was published in, which says nothing of the record.
const HIDDEN: [&[u8]; 2] = [b"$memphis", b"Nats-Batch-"];

/// A record to encode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) payload: &'a [u8],
    /// Stored header fields, `Name: value\r\n` each.
    pub(super) headers: &'a [u8],
    /// Where it stands, for who reads by place.
    pub(super) place: Option<Place>,
}

/// The place of a record in its station.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) partition: u16,
    pub(super) sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub(super) time_ms: u64,
}

/// Encodes records as a JSON array: payloads and headers, which have so many bytes together. What is large is encoded in turns, as a
/// large body is decoded.
pub(super) async fn encode<'a>(
    ingest: &Ingest,
    bytes: usize,
    elements: impl Iterator<Item = Element<'a>>,
    mut room: AnswerRoom<'_>,
) -> Result<Vec<u8>, Reject> {
    let mut out = Vec::with_capacity(bytes + bytes / 8 + 2);
    out.push(b'[');
    let mut elements = elements.fuse();
    let mut turn = |is_over: &dyn Fn() -> bool| {
        for element in elements.by_ref() {
            if out.len() > 1 {
                out.push(b',');
            }
            element.encode(&mut out);
            if is_over() {
                // Other answers grow meanwhile: each counts what it has.
                room.grow(out.capacity())?;
                return Ok(false);
            }
        }
        Ok(true)
    };
    if bytes <= ENCODED_AT_ONCE_BYTES_MAX {
        turn(&|| false)?;
    } else {
        // Boxed, as whatever takes its time.
        Box::pin(ingest.in_time_slices(turn)).await?;
    }
    out.push(b']');
    room.grow(out.len())?;
    Ok(out)
}

impl Element<'_> {
    /// Appends the record, as JSON without a line break.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"message":"#);
        // Writing to a Vec and encoding text cannot fail.
        match std::str::from_utf8(self.payload) {
            Ok(text) => {
                let _ = serde_json::to_writer(&mut *out, text);
            }
            Err(_) => {
                let _ = write!(out, r#""{}","encoding":"base64""#, STANDARD.encode(self.payload));
            }
        }
        out.extend_from_slice(br#","headers":"#);
        let _ = serde_json::to_writer(&mut *out, &header_map(self.headers));
        if let Some(Place { partition, sequence, time_ms }) = self.place {
            let time = rfc3339(time_ms);
            let _ = write!(out, r#","partition":{partition},"sequence":{sequence},"time":"{time}""#);
        }
        out.push(b'}');
    }
}

/// Stored header fields: names sorted, the first value of each, as in the original.
fn header_map(headers: &[u8]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for line in headers.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if HIDDEN.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        map.entry(name).or_insert_with(|| nats::headers::text(value).into_owned());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        ingest::testing::{World, count_other_work, run},
    };
    use std::rc::Rc;

    #[test]
    fn f8_while_a_large_answer_is_encoded_the_shard_does_other_things() {
        run(async |world: &World| {
            let ticks = count_other_work();
            let within = async |budget: &Rc<Budget>, count: usize| {
                let element = Element { payload: br#"{"kind":"click"}"#, headers: b"X-A: b\r\n", place: None };
                let mut held = budget.hold();
                held.set_verified(true);
                encode(&world.ingest(), count * 24, vec![element; count].into_iter(), AnswerRoom::new(0, &mut held))
                    .await
            };
            let encoded = async |count: usize| within(&world.budget, count).await.expect("room");
            let one = r#"{"message":"{\"kind\":\"click\"}","headers":{"X-A":"b"}}"#;
            for count in [0, 1, 2] {
                assert_eq!(encoded(count).await, format!("[{}]", vec![one; count].join(",")).as_bytes());
                assert_eq!(ticks.get(), 0, "at once");
            }
            let count = 4 * ENCODED_AT_ONCE_BYTES_MAX / 24;
            assert!(encoded(count).await == format!("[{}]", vec![one; count].join(",")).as_bytes());
            // How often depends on the machine; in one go it would be never.
            assert!(ticks.get() > 0, "nothing else was done");
            // What has grown beyond the room is not encoded to its end.
            let small = Budget::new(count);
            assert_eq!(within(&small, count).await, Err(Reject::Overloaded("memory for request bodies")));
            assert_eq!(small.used(), 0);
        });
    }

    #[test]
    fn a_payload_comes_back_as_it_was_or_marked_as_base64() {
        let encoded = |payload: &[u8], headers: &[u8]| {
            let mut out = Vec::new();
            Element { payload, headers, place: None }.encode(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            encoded(br#"{"a": 1}"#, b"X-B: 2\r\nContent-Type: application/json\r\nX-B: 3\r\n"),
            r#"{"message":"{\"a\": 1}","headers":{"Content-Type":"application/json","X-B":"2"}}"#
        );
        let batched = b"Nats-Batch-Id: b\r\nNats-Batch-Sequence: 2\r\nNats-Batch-Commit: 1\r\nNats-Msg-Id: k-1\r\n$memphis_x: y\r\n";
        assert_eq!(encoded(b"1", batched), r#"{"message":"1","headers":{"Nats-Msg-Id":"k-1"}}"#);
        let raw = b"X-Name: J\xfcrgen\r\nX-\xff: 1\r\nX-Quoted: \x93\r\n";
        assert_eq!(
            encoded(b"1", raw),
            r#"{"message":"1","headers":{"X-Name":"Jürgen","X-Quoted":"%93","X-\ufffd":"1"}}"#
                .replace("\\ufffd", "\u{fffd}"),
            "as others stored it, or an earlier version"
        );
        assert_eq!(encoded(&[0xff, 0x00], b""), r#"{"message":"/wA=","encoding":"base64","headers":{}}"#);
    }

    #[test]
    fn a_record_that_was_read_by_place_says_where_it_stands() {
        let place = Some(Place { partition: 3, sequence: 17, time_ms: 1_796_120_430_123 });
        let mut out = Vec::new();
        Element { payload: b"a\nb", headers: b"X-A: b\r\n", place }.encode(&mut out);
        let expect =
            r#"{"message":"a\nb","headers":{"X-A":"b"},"partition":3,"sequence":17,"time":"2026-12-01T10:20:30.123Z"}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}
