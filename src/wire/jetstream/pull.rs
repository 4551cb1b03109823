//! Pull requests: asking a durable consumer for messages, telling them from the broker's own words, and
//! settling them.
//!
//! A request is answered by messages and at most one closing status; heartbeats may come in between. Which
//! statuses mean "nothing more for now", which "ask again", and which "somebody has to act" is decided here
//! ([`Status::of`], [`Closing`]).

use crate::wire::{Span, nats::headers};
use std::time::Duration;

/// What a pull request asks for. What is `None` or `false` is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// At most this many messages.
    pub batch: u32,
    /// The broker keeps the request so long. Without it and without `no_wait` it keeps it for ever.
    pub expires: Option<Duration>,
    /// Answer with what is there at once.
    pub no_wait: bool,
    /// At most so many bytes (2.8 and later). The broker counts subjects and headers too.
    pub max_bytes: Option<u64>,
    /// A sign of life at this interval, of at most half of `expires`.
    pub idle_heartbeat: Option<Duration>,
}

/// Where JetStream's API begins, without a domain.
pub const API_PREFIX: &str = "$JS.API";

/// Appends the subject of a pull request to a durable consumer.
pub fn request_subject(out: &mut Vec<u8>, api_prefix: &str, stream: &str, durable: &str) {
    for part in [api_prefix, ".CONSUMER.MSG.NEXT.", stream, ".", durable] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends the payload of a pull request.
pub fn request_payload(out: &mut Vec<u8>, request: &Request) {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
    };
    number("{\"batch\":", Some(u64::from(request.batch)));
    number(",\"expires\":", request.expires.map(nanoseconds));
    number(",\"max_bytes\":", request.max_bytes);
    number(",\"idle_heartbeat\":", request.idle_heartbeat.map(nanoseconds));
    out.extend_from_slice(if request.no_wait { b",\"no_wait\":true}" } else { b"}" });
}

/// What came on the reply subject of a pull request, if it is not a user's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 100: the broker lives, and has nothing at the moment. The request goes on.
    Heartbeat,
    /// The request is over; no more messages come for it.
    Closed(Closing),
}

/// Why a pull request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// There is nothing to deliver, or the time is up.
    Served,
    /// The next message does not fit into what is left of `max_bytes`. If none came before it, it is larger than
    /// `max_bytes` alone: ask without, or it never comes.
    BytesMax,
    /// The consumer moved or its server stops: ask again.
    Moved,
    /// The consumer has as many requests waiting, or messages unacknowledged, as it takes: later.
    Busy,
    /// There is no such consumer or stream any more.
    Gone,
    /// The consumer or its limits do not allow this request: it will not do better.
    Refused(u16),
}

impl Status {
    /// Reads the header block of a message. `None`: it is a user's message.
    ///
    /// A user's message has no status: JetStream stores the version line without one.
    #[must_use]
    pub fn of(block: &[u8]) -> Option<Self> {
        let status = headers::status(block)?;
        let text = status.description.of(block).to_ascii_lowercase();
        let says = |words: &str| text.starts_with(words.as_bytes());
        Some(Self::Closed(match status.code {
            100 => return Some(Self::Heartbeat),
            // No one listens: no such consumer, no such stream, or JetStream is away.
            headers::NO_RESPONDERS => Closing::Gone,
            408 if says("bad request") || says("empty request") || says("malformed request") => Closing::Refused(408),
            404 | 408 => Closing::Served,
            409 if says("batch completed") => Closing::Served,
            409 if says("message size exceeds maxbytes") => Closing::BytesMax,
            409 if says("consumer deleted") || says("stream deleted") => Closing::Gone,
            409 if says("leadership change") || says("server shutdown") => Closing::Moved,
            409 if says("exceeded maxwaiting") || says("exceeded maxackpending") => Closing::Busy,
            429 => Closing::Busy,
            code => Closing::Refused(code),
        }))
    }

    /// Messages that were asked for and will not come, as the status that ends a request says. Those that it does not
    /// count have come or are on their way: from a consumer of several copies they come behind the status.
    #[must_use]
    pub fn undelivered(block: &[u8]) -> Option<u32> {
        std::str::from_utf8(headers::find(block, "Nats-Pending-Messages")?).ok()?.parse().ok()
    }
}

/// What the reply subject of a delivered message says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Stream it is in.
    pub stream: Span,
    /// Consumer that delivers it.
    pub consumer: Span,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// Its place in the stream.
    pub stream_sequence: u64,
    /// Its place among the consumer's deliveries.
    pub consumer_sequence: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// Messages that the consumer has yet to deliver.
    pub pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or the longer
    /// form with `<domain>.<account hash>` before the stream and possibly more at the end.
    #[must_use]
    pub fn parse(reply: &[u8]) -> Option<Self> {
        let mut spans = [Span::default(); 12];
        let mut count = 0;
        let mut start = 0;
        for part in reply.split(|byte| *byte == b'.') {
            let end = start + part.len();
            // What a later version appends does not matter.
            if let Some(place) = spans.get_mut(count) {
                *place = Span { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? };
            }
            count += 1;
            start = end + 1;
        }
        let fields = match count {
            9 => spans.get(2..9)?,
            11.. => spans.get(4..11)?,
            _ => return None,
        };
        if !reply.starts_with(b"$JS.ACK.") {
            return None;
        }
        let &[stream, consumer, delivered, stream_sequence, consumer_sequence, timestamp, pending] = fields else {
            return None;
        };
        let number = |span: Span| {
            let text = span.of(reply);
            let digits = text.iter().all(u8::is_ascii_digit);
            digits.then(|| std::str::from_utf8(text).ok()?.parse::<u64>().ok())?
        };
        Some(Self {
            stream,
            consumer,
            delivered: number(delivered)?,
            stream_sequence: number(stream_sequence)?,
            consumer_sequence: number(consumer_sequence)?,
            timestamp_ns: number(timestamp)?,
            pending: number(pending)?,
        })
    }
}

/// It is done: never again.
pub const ACK: &[u8] = b"+ACK";
/// Deliver it again, at once.
pub const NAK: &[u8] = b"-NAK";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_says_what_is_set_and_nothing_else() {
        let least = Request { batch: 1, expires: None, no_wait: false, max_bytes: None, idle_heartbeat: None };
        let second = Some(Duration::from_secs(1));
        for (request, expect) in [
            (least, r#"{"batch":1}"#),
            (Request { no_wait: true, ..least }, r#"{"batch":1,"no_wait":true}"#),
            (Request { batch: 5_000, expires: second, ..least }, r#"{"batch":5000,"expires":1000000000}"#),
            (
                Request { expires: second, max_bytes: Some(9), idle_heartbeat: second, no_wait: true, ..least },
                r#"{"batch":1,"expires":1000000000,"max_bytes":9,"idle_heartbeat":1000000000,"no_wait":true}"#,
            ),
            (Request { expires: Some(Duration::MAX), ..least }, r#"{"batch":1,"expires":9223372036854775807}"#),
        ] {
            let mut out = Vec::new();
            request_payload(&mut out, &request);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
        let mut out = Vec::new();
        request_subject(&mut out, API_PREFIX, "a#b$1", "g-rest-gateway");
        assert_eq!(out, b"$JS.API.CONSUMER.MSG.NEXT.a#b$1.g-rest-gateway");
    }

    #[test]
    fn statuses_say_whether_and_why_the_request_is_over() {
        use Closing::{Busy, BytesMax, Gone, Moved, Refused, Served};
        let closed = |closing| Some(Status::Closed(closing));
        for (line, expect) in [
            ("NATS/1.0", None),
            ("NATS/1.0 100 Idle Heartbeat", Some(Status::Heartbeat)),
            ("NATS/1.0 404 No Messages", closed(Served)),
            ("NATS/1.0 408 Request Timeout", closed(Served)),
            ("NATS/1.0 408 Requests Pending", closed(Served)),
            ("NATS/1.0 408 Interest Expired", closed(Served)),
            ("NATS/1.0 408 Bad Request", closed(Refused(408))),
            ("NATS/1.0 409 Batch Completed", closed(Served)),
            ("NATS/1.0 409 Message Size Exceeds MaxBytes", closed(BytesMax)),
            ("NATS/1.0 409 Consumer Deleted", closed(Gone)),
            ("NATS/1.0 409 Consumer is push based", closed(Refused(409))),
            ("NATS/1.0 409 Leadership Change", closed(Moved)),
            ("NATS/1.0 409 Server Shutdown", closed(Moved)),
            ("NATS/1.0 409 Exceeded MaxWaiting", closed(Busy)),
            ("NATS/1.0 409 Exceeded MaxRequestBatch of 10", closed(Refused(409))),
            ("NATS/1.0 409 Exceeded MaxRequestExpires of 1s", closed(Refused(409))),
            ("NATS/1.0 409 Exceeded MaxRequestMaxBytes of 1", closed(Refused(409))),
            ("NATS/1.0 409 Something New", closed(Refused(409))),
            ("NATS/1.0 423 Nats-Wrong-Pin-Id", closed(Refused(423))),
            ("NATS/1.0 429 Too Many Requests", closed(Busy)),
            ("NATS/1.0 400 Bad Request - x", closed(Refused(400))),
            ("NATS/1.0 503", closed(Gone)),
            ("NATS/1.0 503 No Responders", closed(Gone)),
        ] {
            let block = format!("{line}\r\nNats-Pending-Messages: 3\r\n\r\n");
            assert_eq!(Status::of(block.as_bytes()), expect, "{line}");
            assert_eq!(Status::undelivered(block.as_bytes()), Some(3), "{line}");
        }
        for (line, expect) in
            [("nats-pending-messages: 0", Some(0)), ("Nats-Pending-Messages: x", None), ("X: 1", None)]
        {
            let block = format!("NATS/1.0 409 Batch Completed\r\n{line}\r\n\r\n");
            assert_eq!(Status::undelivered(block.as_bytes()), expect, "{line}");
        }
    }

    #[test]
    fn both_forms_of_an_acknowledgement_subject_are_read() {
        for (reply, expect) in [
            ("$JS.ACK.S.C.1.22.33.1700000000000000000.4", Some(("S", "C", [1, 22, 33, 1_700_000_000_000_000_000, 4]))),
            ("$JS.ACK._.ACCHASH.S.C.1.22.33.44.5.rnd", Some(("S", "C", [1, 22, 33, 44, 5]))),
            ("$JS.ACK.hub.ACCHASH.S.C.1.22.33.44.5", Some(("S", "C", [1, 22, 33, 44, 5]))),
            ("$JS.ACK.hub.ACCHASH.S.C.1.22.33.44.5.rnd.new.newer", Some(("S", "C", [1, 22, 33, 44, 5]))),
            ("$JS.ACK.S.C.1.22.33.44", None),
            ("$JS.ACK.S.C.1.22.33.44.5.6", None),
            ("$JS.ACK.S.C.1.22.33.44.x", None),
            ("$JS.ACK.S.C.1.+22.33.44.5", None),
            ("$JS.ACK.S.C.1..33.44.5", None),
            ("$JS.NAK.S.C.1.22.33.44.5", None),
            ("_INBOX.x", None),
            ("", None),
        ] {
            let text = |span: Span| std::str::from_utf8(span.of(reply.as_bytes())).unwrap();
            let found = Delivery::parse(reply.as_bytes()).map(|found| {
                let numbers = [
                    found.delivered,
                    found.stream_sequence,
                    found.consumer_sequence,
                    found.timestamp_ns,
                    found.pending,
                ];
                (text(found.stream), text(found.consumer), numbers)
            });
            assert_eq!(found, expect, "{reply}");
        }
    }

    proptest! {
        #[test]
        fn no_subject_and_no_block_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), tail in "[.0-9A-Z]{0,60}") {
            let _ = Delivery::parse(&bytes);
            let _ = Delivery::parse(format!("$JS.ACK.{tail}").as_bytes());
            let _ = Status::of(&[b"NATS/1.0 ".as_slice(), &bytes].concat());
            let _ = Status::undelivered(&[b"NATS/1.0 408\r\nNats-Pending-Messages:".as_slice(), &bytes].concat());
        }
    }
}
