//! From the broker's bytes to operations: one [`next()`] a call, over a buffer that the caller grows.
//!
//! Nothing is copied: an [`Op`] holds spans relative to the buffer that was passed. When a message is not
//! there whole, [`Parsed::Incomplete`] says how many bytes are missing, and a caller that waits for them
//! parses each control line at most twice; an unfinished line is searched again, and a line has a limit.
//!
//! As lenient as the broker's own clients: verbs in any letter case, runs of spaces and tabs, a bare line
//! feed. As strict as a length-prefixed protocol must be: what does not add up is an error, and the
//! connection is of no further use.

use crate::{
    limits::{NATS_INFO_BYTES_MAX, NATS_LINE_BYTES_MAX, NATS_PAYLOAD_BYTES_MAX},
    wire::Span,
};
use memchr::memchr;
use std::fmt;

/// What may be read, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// A control line with its line end, `INFO` apart.
    pub line_bytes_max: usize,
    /// An `INFO` line with its line end.
    pub info_bytes_max: usize,
    /// Headers and payload of one message.
    pub payload_bytes_max: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self {
            line_bytes_max: NATS_LINE_BYTES_MAX,
            info_bytes_max: NATS_INFO_BYTES_MAX,
            payload_bytes_max: NATS_PAYLOAD_BYTES_MAX,
        }
    }
}

/// What stands at the front of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Not one whole operation: nothing can be said before `wanted` (at least 1) more bytes are there.
    Incomplete {
        /// Bytes missing, at least.
        wanted: usize,
    },
    /// One operation.
    Op {
        /// The operation, with spans into the buffer.
        op: Op,
        /// Bytes it takes up at the front of the buffer.
        consumed: usize,
    },
}

/// One operation of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A message without headers.
    Msg {
        /// Subject it was published on.
        subject: Span,
        /// Our subscription.
        sid: u64,
        /// Where an answer goes.
        reply: Option<Span>,
        /// The payload.
        payload: Span,
    },
    /// A message with headers.
    Hmsg {
        /// Subject it was published on.
        subject: Span,
        /// Our subscription.
        sid: u64,
        /// Where an answer goes.
        reply: Option<Span>,
        /// From `NATS/1.0` to the blank line: see [`super::headers`].
        headers: Span,
        /// The payload.
        payload: Span,
    },
    /// Answer with a `PONG`, soon.
    Ping,
    /// The answer to our `PING`.
    Pong,
    /// `+OK`: only a verbose connection gets it.
    Ok,
    /// `-ERR`: the text without its quotes, for [`super::ServerError::parse`].
    Err(Span),
    /// `INFO`: the JSON text, for [`super::ServerInfo::parse`].
    Info(Span),
}

/// The broker does not speak the protocol, or more of it than is allowed. The connection is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// No operation begins like this: another protocol, or lost framing.
    UnknownOperation,
    /// A control line longer than the limit, in bytes.
    LineTooLong(usize),
    /// `MSG` or `HMSG` with too few or too many arguments, or numbers that are none.
    Arguments,
    /// A message of more bytes than the limit: its size.
    PayloadTooLarge(u64),
    /// A payload that is not followed by a line end: its length was wrong.
    Unterminated,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOperation => formatter.write_str("the broker sent an operation that NATS does not have"),
            Self::LineTooLong(max) => write!(formatter, "the broker sent a control line of more than {max} bytes"),
            Self::Arguments => formatter.write_str("the broker sent a message line that does not add up"),
            Self::PayloadTooLarge(bytes) => write!(formatter, "the broker announced a message of {bytes} bytes"),
            Self::Unterminated => formatter.write_str("the broker sent a payload longer than it announced"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Reads the operation at the front of `buffer`.
pub fn next(buffer: &[u8], limits: &ParseLimits) -> Result<Parsed, ProtocolError> {
    let line_max = match buffer.first() {
        None => return Ok(Parsed::Incomplete { wanted: 1 }),
        Some(b'M' | b'm' | b'H' | b'h' | b'P' | b'p' | b'+' | b'-') => limits.line_bytes_max,
        Some(b'I' | b'i') => limits.info_bytes_max,
        Some(_) => return Err(ProtocolError::UnknownOperation),
    };
    let searched = buffer.get(..line_max).unwrap_or(buffer);
    let Some(line_feed) = memchr(b'\n', searched) else {
        let full = buffer.len() >= line_max;
        return if full { Err(ProtocolError::LineTooLong(line_max)) } else { Ok(Parsed::Incomplete { wanted: 1 }) };
    };
    let line = searched.get(..line_feed).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let body = line_feed + 1;

    // In the order of how often they come.
    let op = match line {
        [b'M' | b'm', b'S' | b's', b'G' | b'g', b' ' | b'\t', ..] => return message(buffer, line, body, limits),
        [b'H' | b'h', b'M' | b'm', b'S' | b's', b'G' | b'g', b' ' | b'\t', ..] => {
            return message_with_headers(buffer, line, body, limits);
        }
        _ if is_verb(line, b"PING") => Op::Ping,
        _ if is_verb(line, b"PONG") => Op::Pong,
        _ if is_verb(line, b"INFO") => Op::Info(rest(line, 4)),
        _ if is_verb(line, b"+OK") => Op::Ok,
        _ if is_verb(line, b"-ERR") => Op::Err(unquoted(line, rest(line, 4))),
        _ => return Err(ProtocolError::UnknownOperation),
    };
    Ok(Parsed::Op { op, consumed: body })
}

/// `MSG <subject> <sid> [reply] <bytes>`.
fn message(buffer: &[u8], line: &[u8], body: usize, limits: &ParseLimits) -> Result<Parsed, ProtocolError> {
    let fields = Fields::of(line, 3).ok_or(ProtocolError::Arguments)?;
    let (reply, bytes) = match fields.count {
        3 => (None, fields.at[2]),
        4 => (Some(fields.at[2]), fields.at[3]),
        _ => return Err(ProtocolError::Arguments),
    };
    let sid = number(fields.at[1].of(line)).ok_or(ProtocolError::Arguments)?;
    let bytes = size(bytes.of(line), limits)?;
    let end = body + bytes;
    if let Some(wanted) = missing(buffer, end)? {
        return Ok(Parsed::Incomplete { wanted });
    }
    let op = Op::Msg { subject: fields.at[0], sid, reply, payload: span(body, end) };
    Ok(Parsed::Op { op, consumed: end + 2 })
}

/// `HMSG <subject> <sid> [reply] <header bytes> <total bytes>`.
fn message_with_headers(
    buffer: &[u8],
    line: &[u8],
    body: usize,
    limits: &ParseLimits,
) -> Result<Parsed, ProtocolError> {
    let fields = Fields::of(line, 4).ok_or(ProtocolError::Arguments)?;
    let (reply, head, total) = match fields.count {
        4 => (None, fields.at[2], fields.at[3]),
        5 => (Some(fields.at[2]), fields.at[3], fields.at[4]),
        _ => return Err(ProtocolError::Arguments),
    };
    let sid = number(fields.at[1].of(line)).ok_or(ProtocolError::Arguments)?;
    let (head, total) = (size(head.of(line), limits)?, size(total.of(line), limits)?);
    if head > total {
        return Err(ProtocolError::Arguments);
    }
    let end = body + total;
    if let Some(wanted) = missing(buffer, end)? {
        return Ok(Parsed::Incomplete { wanted });
    }
    let (headers, payload) = (span(body, body + head), span(body + head, end));
    let op = Op::Hmsg { subject: fields.at[0], sid, reply, headers, payload };
    Ok(Parsed::Op { op, consumed: end + 2 })
}

/// How many bytes are missing of a message that ends at `end`, before its line end; an error if the line
/// end is not one.
fn missing(buffer: &[u8], end: usize) -> Result<Option<usize>, ProtocolError> {
    match buffer.get(end..end + 2) {
        Some(b"\r\n") => Ok(None),
        Some(_) => Err(ProtocolError::Unterminated),
        None => Ok(Some(end + 2 - buffer.len())),
    }
}

/// The arguments of a message line. Five are the most that a valid one has.
struct Fields {
    at: [Span; 5],
    count: usize,
}

impl Fields {
    /// Splits what follows the verb of `verb_bytes`; `None` if there are more than five.
    #[inline]
    fn of(line: &[u8], verb_bytes: usize) -> Option<Self> {
        let mut fields = Self { at: [Span::default(); 5], count: 0 };
        let mut start = None;
        for (at, byte) in line.iter().enumerate().skip(verb_bytes) {
            // A carriage return inside a line parts words too, as the broker has it.
            let blank = matches!(byte, b' ' | b'\t' | b'\r');
            match start {
                None if !blank => start = Some(at),
                Some(from) if blank => {
                    fields.push(span(from, at))?;
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(from) = start {
            fields.push(span(from, line.len()))?;
        }
        Some(fields)
    }

    fn push(&mut self, field: Span) -> Option<()> {
        *self.at.get_mut(self.count)? = field;
        self.count += 1;
        Some(())
    }
}

/// Decimal digits only, and no more than fit.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn size(text: &[u8], limits: &ParseLimits) -> Result<usize, ProtocolError> {
    let bytes = number(text).ok_or(ProtocolError::Arguments)?;
    match usize::try_from(bytes) {
        Ok(size) if size <= limits.payload_bytes_max => Ok(size),
        _ => Err(ProtocolError::PayloadTooLarge(bytes)),
    }
}

/// The limits keep every offset under 4 GiB; beyond it a span would be empty, not wrong.
fn span(start: usize, end: usize) -> Span {
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) => Span { start, end },
        _ => Span::default(),
    }
}

/// Whether the line is this verb, alone or followed by a blank.
fn is_verb(line: &[u8], verb: &[u8]) -> bool {
    line.get(..verb.len()).is_some_and(|text| text.eq_ignore_ascii_case(verb))
        && matches!(line.get(verb.len()), None | Some(b' ' | b'\t'))
}

/// What follows the verb, without the blanks around it.
fn rest(line: &[u8], verb_bytes: usize) -> Span {
    let text = line.get(verb_bytes..).unwrap_or_default();
    let trimmed = text.trim_ascii_start();
    let start = line.len() - trimmed.len();
    span(start, start + trimmed.trim_ascii_end().len())
}

/// The text inside single quotes, if it is quoted.
fn unquoted(line: &[u8], text: Span) -> Span {
    match text.of(line) {
        [b'\'', .., b'\''] => Span { start: text.start + 1, end: text.end - 1 },
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: ParseLimits = ParseLimits { line_bytes_max: 64, info_bytes_max: 128, payload_bytes_max: 1_000 };

    /// An operation with its spans resolved, as text.
    fn show(buffer: &[u8]) -> String {
        let text = |span: Span| String::from_utf8_lossy(span.of(buffer)).into_owned();
        match next(buffer, &LIMITS) {
            Err(error) => format!("{error:?}"),
            Ok(Parsed::Incomplete { wanted }) => format!("wanted {wanted}"),
            Ok(Parsed::Op { op, consumed }) => {
                let op = match op {
                    Op::Msg { subject, sid, reply, payload } => {
                        format!("MSG {} {sid} {:?} [{}]", text(subject), reply.map(text), text(payload))
                    }
                    Op::Hmsg { subject, sid, reply, headers, payload } => {
                        let (reply, headers) = (reply.map(text), text(headers));
                        format!("HMSG {} {sid} {reply:?} [{headers:?}] [{}]", text(subject), text(payload))
                    }
                    Op::Info(json) => format!("INFO [{}]", text(json)),
                    Op::Err(error) => format!("ERR [{}]", text(error)),
                    Op::Ping | Op::Pong | Op::Ok => format!("{op:?}"),
                };
                format!("{op} +{}", buffer.len() - consumed)
            }
        }
    }

    #[test]
    fn operations_are_read_as_the_broker_writes_them() {
        for (bytes, expect) in [
            ("MSG a.b 7 5\r\nhello\r\n", "MSG a.b 7 None [hello] +0"),
            ("MSG a.b 7 r.1 5\r\nhello\r\nMSG", "MSG a.b 7 Some(\"r.1\") [hello] +3"),
            ("MSG a 18446744073709551615 0\r\n\r\n", "MSG a 18446744073709551615 None [] +0"),
            ("msg\ta \t 1   2\r\n\r\n\r\n", "MSG a 1 None [\r\n] +0"),
            ("MSG a 1 2 \nhi\r\n", "MSG a 1 None [hi] +0"),
            ("MSG a\r1 2\r\r\nhi\r\n", "MSG a 1 None [hi] +0"),
            (
                "HMSG r 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n",
                "HMSG r 1 None [\"NATS/1.0 503\\r\\nNats-Subject: nobody\\r\\n\\r\\n\"] [] +0",
            ),
            (
                "HmSg s 1 re 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPING\r\n",
                "HMSG s 1 Some(\"re\") [\"NATS/1.0\\r\\n\\r\\n\"] [hi] +6",
            ),
            ("PING\r\n", "Ping +0"),
            ("ping\n", "Ping +0"),
            ("PONG \r\nx", "Pong +1"),
            ("+OK\r\n", "Ok +0"),
            ("+ok\r\n", "Ok +0"),
            ("INFO {\"a\":1} \r\n", "INFO [{\"a\":1}] +0"),
            ("info\t{}\r\n", "INFO [{}] +0"),
            ("INFO\r\n", "INFO [] +0"),
            ("-ERR 'Stale Connection'\r\n", "ERR [Stale Connection] +0"),
            ("-ERR Stale\r\n", "ERR [Stale] +0"),
            ("-ERR '\r\n", "ERR ['] +0"),
            ("-ERR\r\n", "ERR [] +0"),
        ] {
            assert_eq!(show(bytes.as_bytes()), expect, "{bytes:?}");
        }
    }

    #[test]
    fn what_does_not_add_up_is_an_error() {
        let long = "M".repeat(64);
        for (bytes, expect) in [
            ("HTTP/1.1 400 Bad Request\r\n", "UnknownOperation"),
            ("\r\n", "UnknownOperation"),
            ("\u{16}\u{3}\u{1}", "UnknownOperation"),
            ("PINGX\r\n", "UnknownOperation"),
            ("PIN\r\n", "UnknownOperation"),
            ("MSG\r\n", "UnknownOperation"),
            ("MSG a 1\r\n", "Arguments"),
            ("MSG a 1 b 3 4\r\n", "Arguments"),
            ("MSG a 1 b 3 4 5 6 7\r\n", "Arguments"),
            ("MSG a x 3\r\nabc\r\n", "Arguments"),
            ("MSG a 1 -3\r\nabc\r\n", "Arguments"),
            ("MSG a 1 +3\r\nabc\r\n", "Arguments"),
            ("MSG a 1 3.0\r\nabc\r\n", "Arguments"),
            ("MSG a 1 0x3\r\nabc\r\n", "Arguments"),
            ("MSG a 18446744073709551616 0\r\n\r\n", "Arguments"),
            ("MSG a 1 99999999999999999999999\r\n", "Arguments"),
            ("MSG a 1 1001\r\n", "PayloadTooLarge(1001)"),
            ("MSG a 1 18446744073709551615\r\n", "PayloadTooLarge(18446744073709551615)"),
            ("MSG a 1 3\r\nabcd\r\n", "Unterminated"),
            ("MSG a 1 3\r\nabc\n\n", "Unterminated"),
            ("HMSG a 1 5\r\n", "Arguments"),
            ("HMSG a 1 5 4\r\nabcd\r\n", "Arguments"),
            ("HMSG a 1 b c 5 4\r\nabcd\r\n", "Arguments"),
            ("HMSG a 1 5 1001\r\n", "PayloadTooLarge(1001)"),
            (long.as_str(), "LineTooLong(64)"),
        ] {
            assert_eq!(show(bytes.as_bytes()), expect, "{bytes:?}");
        }
        let info = format!("INFO {{{}", "x".repeat(128));
        assert_eq!(show(info.as_bytes()), "LineTooLong(128)");
    }

    #[test]
    fn an_unfinished_message_says_how_much_is_missing() {
        let whole = b"HMSG s 1 re 12 100\r\nNATS/1.0\r\n\r\n";
        let mut buffer = whole.to_vec();
        buffer.resize(20 + 100, b'x');
        buffer.extend_from_slice(b"\r\n");
        for cut in 0..buffer.len() {
            let expect = if cut < 20 { 1 } else { buffer.len() - cut };
            let part = buffer.get(..cut).unwrap();
            assert_eq!(next(part, &LIMITS), Ok(Parsed::Incomplete { wanted: expect }), "{cut}");
        }
        assert!(matches!(next(&buffer, &LIMITS), Ok(Parsed::Op { consumed: 122, .. })));
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics_and_no_progress_is_claimed_beyond_the_buffer(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'M'), Just(b'S'), Just(b'G'), Just(b'H'), Just(b' '), Just(b'1'), Just(b'0'), Just(b'\r'), Just(b'\n'), any::<u8>()
            ], 0..80),
            start in prop_oneof![Just(""), Just("MSG a 1 "), Just("HMSG a 1 "), Just("INFO "), Just("-ERR ")],
        ) {
            let mut buffer = start.as_bytes().to_vec();
            buffer.extend(bytes);
            match next(&buffer, &LIMITS) {
                Ok(Parsed::Op { consumed, .. }) => prop_assert!(consumed > 0 && consumed <= buffer.len()),
                Ok(Parsed::Incomplete { wanted }) => prop_assert!(wanted > 0),
                Err(_) => {}
            }
        }

        #[test]
        fn any_chunking_of_a_stream_reads_the_same(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>(), any::<bool>()), 1..12),
            cuts in prop::collection::vec(1usize..20, 1..200),
        ) {
            let mut stream = Vec::new();
            for (index, (payload, headers, reply)) in payloads.iter().enumerate() {
                let reply = if *reply { "r.x " } else { "" };
                let line = if *headers {
                    format!("HMSG s.{index} {index} {reply}12 {}\r\nNATS/1.0\r\n\r\n", 12 + payload.len())
                } else {
                    format!("MSG s.{index} {index} {reply}{}\r\n", payload.len())
                };
                stream.extend_from_slice(line.as_bytes());
                stream.extend_from_slice(payload);
                stream.extend_from_slice(b"\r\nPING\r\n");
            }
            let (mut buffer, mut fed, mut seen) = (Vec::new(), 0, Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            let mut wanted = 1;
            while fed < stream.len() || !buffer.is_empty() {
                if buffer.len() < wanted {
                    let end = (fed + cuts.next().unwrap()).min(stream.len());
                    buffer.extend_from_slice(&stream[fed..end]);
                    fed = end;
                    continue;
                }
                match next(&buffer, &LIMITS).unwrap() {
                    Parsed::Incomplete { wanted: more } => wanted = buffer.len() + more,
                    Parsed::Op { op, consumed } => {
                        if let Op::Msg { sid, payload, .. } | Op::Hmsg { sid, payload, .. } = op {
                            seen.push((sid, payload.of(&buffer).to_vec(), matches!(op, Op::Hmsg { .. })));
                        }
                        buffer.drain(..consumed);
                        wanted = 1;
                    }
                }
            }
            let expect: Vec<_> =
                payloads.into_iter().enumerate().map(|(index, (bytes, headers, _))| (index as u64, bytes, headers)).collect();
            prop_assert_eq!(seen, expect);
        }
    }
}
