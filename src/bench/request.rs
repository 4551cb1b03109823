//! Requests, put together from parts that are encoded once.
//!
//! A request is head (one a station) + `Authorization` (one a token) + perhaps `Idempotency-Key` + `Content-Length` and
//! body (one a variant). Each part goes round by itself. Small bodies are copied behind their head, so that a request
//! is one write; large ones stay where they are and are written vectored.

use super::{args::Work, payload::Body, target::Url};
use crate::{config::Secret, station::Name};

/// The parts of all requests of a run. Shared by the threads; never changes.
pub(super) struct Parts {
    heads: Vec<Box<[u8]>>,
    authorizations: Vec<Box<[u8]>>,
    bodies: Vec<(Box<[u8]>, Body)>,
    /// Beginning of every message id of this run; none without `--message-id`.
    id_prefix: Option<u64>,
}

/// One thread's way through the parts.
pub(super) struct Encoder<'a> {
    parts: &'a Parts,
    /// Requests encoded so far, from a beginning that differs between threads.
    turn: usize,
    /// Above the turn in a message id.
    thread: u16,
}

/// What was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoded<'a> {
    /// A body too large to copy, to be written behind what was encoded so far.
    pub(super) body: Option<&'a [u8]>,
    /// Records in the request.
    pub(super) records: u32,
    /// Bytes of their payloads.
    pub(super) payload_bytes: u64,
}

impl Parts {
    /// Encodes the parts. `run` distinguishes the message ids of this run from those of any other.
    pub(super) fn new(
        url: &Url,
        stations: &[Name],
        tokens: &[Secret],
        work: &Work,
        bodies: Vec<Body>,
        run: u64,
    ) -> Self {
        let (verb, gzip, message_id) = match work {
            Work::Produce(produce) if produce.batch.is_some() => ("produce/batch", produce.gzip, produce.message_id),
            Work::Produce(produce) => ("produce/single", produce.gzip, produce.message_id),
            Work::Consume(_) => ("consume/batch", false, false),
        };
        let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let head = |station: &Name| {
            format!(
                "POST /stations/{station}/{verb} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{encoding}",
                url.authority
            )
        };
        let length = |body: &Body| format!("Content-Length: {}\r\n\r\n", body.wire.len());
        Self {
            heads: stations.iter().map(|station| head(station).into_bytes().into()).collect(),
            authorizations: tokens
                .iter()
                .map(|token| format!("Authorization: Bearer {}\r\n", token.expose()).into_bytes().into())
                .collect(),
            bodies: bodies.into_iter().map(|body| (length(&body).into_bytes().into(), body)).collect(),
            id_prefix: message_id.then_some(run),
        }
    }
}

impl<'a> Encoder<'a> {
    /// A way through `parts` for thread number `thread`.
    pub(super) fn new(parts: &'a Parts, thread: u16) -> Self {
        // Threads begin at different places, so that they do not all meet at one station.
        Self { parts, turn: usize::from(thread) * 7919, thread }
    }

    /// Appends the next request to `out`, but for a body that is too large to copy.
    pub(super) fn next_into(&mut self, out: &mut Vec<u8>) -> Encoded<'a> {
        let parts = self.parts;
        out.extend_from_slice(in_turn(&parts.heads, self.turn).map_or(&[], |head| head));
        out.extend_from_slice(in_turn(&parts.authorizations, self.turn).map_or(&[], |token| token));
        if let Some(prefix) = parts.id_prefix {
            out.extend_from_slice(b"Idempotency-Key: ");
            hex(out, prefix, 16);
            hex(out, u64::from(self.thread), 4);
            hex(out, self.turn as u64, 12);
            out.extend_from_slice(b"\r\n");
        }
        let chosen = in_turn(&parts.bodies, self.turn);
        self.turn = self.turn.wrapping_add(1);
        let Some((length, body)) = chosen else {
            return Encoded { body: None, records: 0, payload_bytes: 0 };
        };
        out.extend_from_slice(length);
        let large = body.wire.len() > COPIED_BYTES_MAX;
        if !large {
            out.extend_from_slice(&body.wire);
        }
        Encoded {
            body: large.then_some(body.wire.as_slice()),
            records: body.records,
            payload_bytes: body.payload_bytes,
        }
    }
}

fn in_turn<T>(list: &[T], turn: usize) -> Option<&T> {
    list.get(turn.checked_rem(list.len())?)
}

/// Appends the last `digits` hexadecimal digits of `number`.
fn hex(out: &mut Vec<u8>, number: u64, digits: u32) {
    let nibbles = (0..digits).rev().map(|place| ((number >> (4 * place)) & 0xF) as usize);
    out.extend(nibbles.filter_map(|nibble| HEX_DIGITS.get(nibble)));
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Up to here a copy is cheaper than a second part of a vectored write.
const COPIED_BYTES_MAX: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use super::{super::args::*, *};
    use std::collections::HashSet;

    fn parts(produce: Produce, bodies: Vec<Body>, tokens: &[&str], stations: &[&str]) -> Parts {
        let url = "http://127.0.0.1:4444".parse().unwrap();
        let stations: Vec<Name> = stations.iter().map(|name| Name::parse(name).unwrap()).collect();
        let tokens: Vec<Secret> = tokens.iter().map(|token| Secret::new(*token)).collect();
        Parts::new(&url, &stations, &tokens, &Work::Produce(produce), bodies, 0xABCD)
    }

    fn produce(batch: Option<usize>) -> Produce {
        Produce { batch, source: PayloadSource::Size(2), gzip: false, message_id: false }
    }

    fn body(text: &str) -> Body {
        Body { wire: text.into(), records: 1, payload_bytes: text.len() as u64 }
    }

    fn text(encoder: &mut Encoder<'_>) -> String {
        let mut out = Vec::new();
        let encoded = encoder.next_into(&mut out);
        out.extend_from_slice(encoded.body.unwrap_or_default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_whole_and_nothing_more() {
        let parts = parts(produce(None), vec![body("{}")], &["T"], &["s"]);
        assert_eq!(
            text(&mut Encoder::new(&parts, 0)),
            "POST /stations/s/produce/single HTTP/1.1\r\nHost: 127.0.0.1:4444\r\nContent-Type: application/json\r\n\
             Authorization: Bearer T\r\nContent-Length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn stations_tokens_and_bodies_go_round() {
        let parts = parts(produce(Some(2)), vec![body("[1]"), body("[2]"), body("[3]")], &["T", "U"], &["s-0", "s-1"]);
        let mut encoder = Encoder::new(&parts, 0);
        let list: Vec<String> = (0..6).map(|_| text(&mut encoder)).collect();
        for (turn, request) in list.iter().enumerate() {
            assert!(request.starts_with(&format!("POST /stations/s-{}/produce/batch ", turn % 2)), "{request}");
            assert!(request.contains(["Bearer T\r", "Bearer U\r"][turn % 2]), "{request}");
            assert!(request.ends_with(["[1]", "[2]", "[3]"][turn % 3]), "{request}");
        }
    }

    #[test]
    fn a_large_body_is_not_copied_and_its_length_is_said() {
        let large = "9".repeat(COPIED_BYTES_MAX + 1);
        let parts = parts(produce(None), vec![body(&large)], &["T"], &["s"]);
        let mut out = Vec::new();
        let encoded = Encoder::new(&parts, 0).next_into(&mut out);
        assert_eq!(encoded.body, Some(large.as_bytes()));
        assert!(out.ends_with(format!("Content-Length: {}\r\n\r\n", large.len()).as_bytes()));
    }

    #[test]
    fn message_ids_are_unique_over_threads() {
        let parts = parts(Produce { message_id: true, ..produce(None) }, vec![body("1")], &["T"], &["s"]);
        let mut seen = HashSet::new();
        for thread in 0..4 {
            let mut encoder = Encoder::new(&parts, thread);
            for _ in 0..10_000 {
                let request = text(&mut encoder);
                let id = request.split("Idempotency-Key: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                assert!(seen.insert(id.unwrap().to_owned()), "{request}");
            }
        }
        assert!(seen.iter().all(|id| id.len() == 32 && id.starts_with("000000000000abcd")));
    }
}
