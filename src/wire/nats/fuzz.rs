//! Entry point for fuzzing: what the broker sends is read the same however it is cut, and nothing in it panics.
//!
//! It stands beside the code so that a fuzz target is one line; a property test uses it too.

use super::{Op, ParseLimits, Parsed, ProtocolError, ServerError, ServerInfo, headers, next};
use crate::wire::Span;

/// Small ones, so that an input can exceed them.
const LIMITS: ParseLimits = ParseLimits { line_bytes_max: 128, info_bytes_max: 1_024, payload_bytes_max: 2_048 };

/// An operation, copied out of the buffer: its name and number, and its texts.
type Event = (&'static str, u64, Vec<Vec<u8>>);

/// Reads the input whole, and in pieces that its own bytes choose: the operations and the end are the same.
pub fn fuzz_parse(input: &[u8]) {
    let whole = read(input, || usize::MAX);
    let mut sizes = input.iter().copied().cycle();
    let cut = read(input, || usize::from(sizes.next().unwrap_or(1) % 32));
    assert_eq!(whole, cut, "the same operations");
    assert_eq!(whole, read(input, || 1), "the same in single bytes");
}

/// Reads operations as a connection does: from one buffer, to which `piece` bytes are appended at a time (at least one).
/// Returns them, and the error or the number of bytes that are left over.
fn read(input: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<Event>, Result<usize, ProtocolError>) {
    let (mut buffer, mut unread, mut events) = (Vec::new(), input, Vec::new());
    // So many bytes make a difference.
    let mut worth_a_look = 0;
    loop {
        match next(&buffer, &LIMITS) {
            Err(error) => {
                assert!(buffer.len() >= worth_a_look, "{error:?}, before the bytes that were wanted");
                return (events, Err(error));
            }
            Ok(Parsed::Op { op, consumed }) => {
                assert!(buffer.len() >= worth_a_look, "{op:?}, before the bytes that were wanted");
                assert!((1..=buffer.len()).contains(&consumed), "{consumed} of {}", buffer.len());
                events.push(event(&op, &buffer));
                buffer.drain(..consumed);
                worth_a_look = 0;
            }
            Ok(Parsed::Incomplete { wanted }) => {
                assert!(wanted > 0, "nothing is missing, and nothing is there");
                worth_a_look = buffer.len() + wanted;
                if unread.is_empty() {
                    return (events, Ok(buffer.len()));
                }
                let (now, later) = unread.split_at(piece().clamp(1, unread.len()));
                buffer.extend_from_slice(now);
                unread = later;
            }
        }
    }
}

/// Copies an operation, and has everybody read it who does.
fn event(op: &Op, buffer: &[u8]) -> Event {
    let text = |span: Span| span.of(buffer).to_vec();
    match *op {
        Op::Msg { subject, sid, reply, payload } => {
            assert!(super::encode::is_subject(subject.of(buffer)), "what is read as a subject can be one");
            ("MSG", sid, vec![text(subject), reply.map(text).unwrap_or_default(), text(payload)])
        }
        Op::Hmsg { subject, sid, reply, headers: block, payload } => {
            assert!(super::encode::is_subject(subject.of(buffer)), "what is read as a subject can be one");
            read_block(block.of(buffer));
            ("HMSG", sid, vec![text(subject), reply.map(text).unwrap_or_default(), text(block), text(payload)])
        }
        Op::Err(words) => {
            let _ = ServerError::parse(words.of(buffer)).closes();
            ("-ERR", 0, vec![text(words)])
        }
        Op::Info(json) => {
            let bytes_max = ServerInfo::parse(json.of(buffer)).ok().and_then(|info| info.record_bytes_max());
            assert_ne!(bytes_max, Some(0), "a limit that lets nothing through is none");
            ("INFO", 0, vec![text(json)])
        }
        Op::Ping => ("PING", 0, Vec::new()),
        Op::Pong => ("PONG", 0, Vec::new()),
        Op::Ok => ("+OK", 0, Vec::new()),
    }
}

/// Reads a header block in every way.
pub(in crate::wire) fn read_block(block: &[u8]) {
    let lines = headers::field_lines(block);
    assert!(lines.end as usize <= block.len(), "the lines lie in the block");
    let status = headers::status(block);
    assert!(status.is_none_or(|status| status.code <= 999), "three digits");
    for (name, value) in headers::fields(block) {
        assert!(!name.is_empty() && name.start >= lines.start && value.end <= lines.end, "a field is a line");
        assert!(!value.of(block).contains(&b'\n'), "a value is on one line");
        let name = std::str::from_utf8(name.of(block)).unwrap_or_default();
        assert!(name.is_empty() || headers::find(block, name).is_some(), "what is listed is found");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_broker_sends_is_read_the_same_however_it_is_cut(pieces in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(PIECES).prop_map(|piece: &[u8]| piece.to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ], 0..20)) {
            fuzz_parse(&pieces.concat());
        }
    }

    const PIECES: &[&[u8]] = &[
        b"MSG a 1 ",
        b"HMSG a 2 ",
        b"MSG a 1 r 2\r\nhi\r\n",
        b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"-ERR 'Stale Connection'\r\n",
        b"INFO {\"max_payload\":1}\r\n",
        b"1",
        b"0",
        b"12",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"NATS/1.0 503",
        b"A: b",
    ];
}
