//! Entry point for fuzzing: the fields of a request that are stored come back as they were, and break no protocol.
//!
//! It stands beside the code so that a fuzz target is one line; a property test uses it too.

use super::{HeaderPolicy, HeaderRule};
use crate::wire::{
    http1::{Head, HeadLimits},
    nats::{
        self, Op, ParseLimits, Parsed,
        encode::{RecordId, Reply, Template, hpub_record},
        headers,
    },
};

/// Reads the input as the header section of a request, writes what is stored of it with a record, and reads it as a
/// consumer does.
pub fn fuzz_headers(input: &[u8]) {
    let request = [b"GET / HTTP/1.1\r\nHost: h\r\n", input, b"\r\n\r\n"].concat();
    let mut head = Head::default();
    if head.parse(&request, &HeadLimits::default()) != Ok(true) {
        return;
    }
    let rules = ["x-*", "ce-*", "*-id", "content-type", "traceparent", "accept", "host", "a*", "b*", "n*"];
    let policy = HeaderPolicy::new(&rules.map(HeaderRule::of));
    for of_elements in [false, true] {
        let mut block = Vec::new();
        if policy.select(&head.http.fields(&request), of_elements, &mut block).is_err() {
            return;
        }
        read_back(&policy, &block, input);
    }
}

/// Publishes a record with these header fields, and reads it as the broker delivers it.
fn read_back(policy: &HeaderPolicy, block: &[u8], payload: &[u8]) {
    let reply = Reply { prefix: b"_INBOX.x.", token: b"B" };
    let id = RecordId { base: b"id", index: Some(7) };
    for id in [None, Some(id)] {
        let mut written = Vec::new();
        hpub_record(&mut written, b"a.subject", reply, block, id, payload);
        let message = delivered(&written);
        let limits = ParseLimits { payload_bytes_max: message.len(), ..ParseLimits::default() };
        let Ok(Parsed::Op { op, consumed }) = nats::next(&message, &limits) else {
            panic!("no message: {}", String::from_utf8_lossy(&message));
        };
        assert_eq!(consumed, message.len(), "one message, and nothing behind it");
        let read: &[u8] = match op {
            Op::Hmsg { headers, payload: read, .. } => {
                assert_fields(policy, headers.of(&message), block, id.is_some());
                read.of(&message)
            }
            Op::Msg { payload: read, .. } if block.is_empty() && id.is_none() => read.of(&message),
            other => panic!("{other:?}"),
        };
        assert!(read == payload, "the payload is what it was");
    }
    let mut template = Template::default();
    template.set(b"a.subject", reply, block);
    let (mut by_template, mut by_record) = (Vec::new(), Vec::new());
    template.write(&mut by_template, payload);
    hpub_record(&mut by_record, b"a.subject", reply, block, None, payload);
    assert!(by_template == by_record, "a template writes what is written without it");
}

/// The broker's message for what was published: another verb, and the number of the subscription.
fn delivered(published: &[u8]) -> Vec<u8> {
    let text = |bytes: &[u8]| [bytes, b" a.subject 1 "].concat();
    let strip = |verb: &[u8]| published.strip_prefix(verb)?.strip_prefix(b" a.subject ").map(<[u8]>::to_vec);
    match (strip(b"HPUB"), strip(b"PUB")) {
        (Some(rest), _) => [text(b"HMSG"), rest].concat(),
        (None, Some(rest)) => [text(b"MSG"), rest].concat(),
        (None, None) => panic!("no publish: {}", String::from_utf8_lossy(published)),
    }
}

/// The fields that are read are those of the block, which are stored by the policy and are text on one line each.
fn assert_fields(policy: &HeaderPolicy, read: &[u8], block: &[u8], has_id: bool) {
    assert_eq!(headers::status(read), None, "no field makes the message the broker's own");
    let text = std::str::from_utf8(read).expect("a header block is text");
    assert!(text.chars().all(|char| matches!(char, '\r' | '\n') || headers::is_on_a_line(char)), "{text:?}");
    let fields: Vec<_> = headers::fields(read).map(|(name, value)| (name.of(read), value.of(read))).collect();
    let count = fields.len() - usize::from(has_id);
    let stored = std::str::from_utf8(block).expect("text");
    assert_eq!(stored.split_terminator("\r\n").count(), count, "one field, one line: {text:?}");
    for ((name, value), line) in fields.iter().zip(stored.split_terminator("\r\n")) {
        let (stored_name, stored_value) = line.split_once(':').expect("a field");
        assert_eq!((*name, *value), (stored_name.as_bytes(), stored_value.as_bytes().trim_ascii()));
        assert!(headers::is_name(name) && policy.stores(&stored_name.to_ascii_lowercase()), "{stored_name}");
        assert!(!stored_name.eq_ignore_ascii_case("nats-msg-id"), "ids are the gateway's own");
    }
    if has_id {
        assert_eq!(fields.last(), Some(&(&b"Nats-Msg-Id"[..], &b"id 7"[..])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stored_fields_come_back_as_they_were(pieces in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(PIECES).prop_map(|piece: &[u8]| piece.to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ], 0..16)) {
            fuzz_headers(&pieces.concat());
        }
    }

    const PIECES: &[&[u8]] = &[
        b"X-A: b\r\n",
        b"x-a: c, d\r\n",
        b"ce-id: 1\r\n",
        b"Content-Type: application/cloudevents-batch+json; a=b\r\n",
        b"traceparent: 00-1-2-01\r\n",
        b"Nats-Msg-Id: x\r\n",
        b"Authorization: Bearer t\r\n",
        b"X-Id:\r\n",
        b"a:  \r\n",
        b"b: ",
        b"J\xfcrgen",
        b"\xe2\x80\xa8",
        b"\x7f",
        b"\r\n",
        b", ",
        b":",
        b"\t",
    ];
}
