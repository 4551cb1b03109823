//! The acknowledgements of a read, one after the other: nearly all that the broker sends to a publisher.
//!
//! ```text
//! MSG <inbox><token> 1 34\r\n{"stream":"orders","seq":1234567}\r\n
//! ```
//!
//! A line that is written exactly so and a payload that begins as the one before did are read in one pass over their
//! bytes. Everything else, other spellings of the same included, is left to [`crate::wire::nats::next`] and
//! [`super::puback::parse`], which know all of it; a property test holds the two ways to one answer.

use super::{Token, puback, token::TOKEN_TEXT_BYTES};

/// Reads runs of plain acknowledgements.
#[derive(Debug)]
pub struct Acks {
    /// `MSG <inbox>`.
    address: Box<[u8]>,
    /// ` <sid> `.
    sid: Box<[u8]>,
    /// `{"stream":"orders","seq":`, as the last one that was read in full began.
    opening: Vec<u8>,
}

/// One record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainAck {
    /// What it was sent with.
    pub token: Token,
    /// Its place.
    pub sequence: u64,
    /// Bytes of the operation.
    pub consumed: usize,
}

impl Acks {
    /// Acknowledgements that come to subscription `sid` of `inbox` (with its last dot).
    #[must_use]
    pub fn new(inbox: &str, sid: u64) -> Self {
        Self {
            address: format!("MSG {inbox}").into_bytes().into(),
            sid: format!(" {sid} ").into_bytes().into(),
            opening: Vec::new(),
        }
    }

    /// The acknowledgement at the front of the buffer, if it is there whole and a plain one.
    #[inline]
    #[must_use]
    pub fn next(&mut self, buffer: &[u8]) -> Option<PlainAck> {
        let rest = buffer.strip_prefix(&*self.address)?;
        let token_bytes = rest.iter().take(TOKEN_TEXT_BYTES + 1).position(|byte| *byte == b' ')?;
        let token = Token::parse(rest.get(..token_bytes)?)?;
        let rest = rest.get(token_bytes..)?.strip_prefix(&*self.sid)?;
        let (payload_bytes, digits) = number(rest)?;
        let rest = rest.get(digits..)?.strip_prefix(b"\r\n")?;
        let payload = rest.get(..usize::try_from(payload_bytes).ok()?)?;
        let rest = rest.get(payload.len()..)?.strip_prefix(b"\r\n")?;
        let sequence = self.sequence(payload)?;
        Some(PlainAck { token, sequence, consumed: buffer.len() - rest.len() })
    }

    #[inline]
    fn sequence(&mut self, payload: &[u8]) -> Option<u64> {
        let Some(rest) = payload.strip_prefix(&*self.opening).filter(|_| !self.opening.is_empty()) else {
            return self.other_stream(payload);
        };
        let (sequence, digits) = number(rest)?;
        (rest.get(digits..) == Some(b"}")).then_some(sequence)
    }

    /// An acknowledgement of another stream than the last one's, whose opening is remembered.
    #[cold]
    fn other_stream(&mut self, payload: &[u8]) -> Option<u64> {
        let Some(puback::PubAck::Stored { sequence, duplicate: false, count: None, .. }) = puback::parse(payload)
        else {
            return None;
        };
        let opening = payload.strip_suffix(b"}")?.trim_ascii_end();
        let digits = opening.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let opening = opening.get(..opening.len() - digits)?;
        if opening.ends_with(b"\"seq\":") && payload.len() == opening.len() + digits + 1 {
            self.opening.clear();
            self.opening.extend_from_slice(opening);
        }
        Some(sequence)
    }
}

/// A number without a leading zero, of at most eighteen digits so that it fits, and how many they are.
#[inline]
fn number(text: &[u8]) -> Option<(u64, usize)> {
    let (mut value, mut digits) = (0_u64, 0);
    while let Some(digit @ 0..=9) = text.get(digits).map(|byte| byte.wrapping_sub(b'0')) {
        value = value * 10 + u64::from(digit);
        digits += 1;
        if digits > 18 {
            return None;
        }
    }
    (digits > 0 && text.first() != Some(&b'0')).then_some((value, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::nats::{self, Op, ParseLimits, Parsed};
    use proptest::prelude::*;

    const INBOX: &str = "_INBOX.x.";

    /// What the careful way makes of it.
    fn careful(buffer: &[u8]) -> Option<PlainAck> {
        let Ok(Parsed::Op { op: Op::Msg { subject, sid: 1, payload, .. }, consumed }) =
            nats::next(buffer, &ParseLimits::default())
        else {
            return None;
        };
        let token = Token::of_subject(subject.of(buffer), INBOX.as_bytes())?;
        match puback::parse(payload.of(buffer))? {
            puback::PubAck::Stored { sequence, duplicate: false, count: None, .. } => {
                Some(PlainAck { token, sequence, consumed })
            }
            _ => None,
        }
    }

    fn message(token: &str, payload: &str) -> Vec<u8> {
        format!("MSG {INBOX}{token} 1 {}\r\n{payload}\r\n", payload.len()).into_bytes()
    }

    #[test]
    fn a_plain_acknowledgement_is_read_and_anything_else_is_left() {
        let mut acks = Acks::new(INBOX, 1);
        for (text, expect) in [
            ("MSG _INBOX.x.C 1 22\r\n{\"stream\":\"S\",\"seq\":7}\r\nMSG", Some(7)),
            ("MSG _INBOX.x.C 1 22\r\n{\"stream\":\"S\",\"seq\":8}\r\n", Some(8)),
            ("MSG _INBOX.x.C 1 23\r\n{\"stream\":\"ST\",\"seq\":9}\r\n", Some(9)),
            ("MSG _INBOX.x.C 1 23\r\n{\"stream\":\"S\", \"seq\":7}\r\n", Some(7)),
            ("MSG _INBOX.x.C 1 22\r\n{\"stream\":\"S\",\"seq\":7}\r", None),
            ("MSG _INBOX.x.C 1 22\r\n{\"stream\":\"S\",\"seq\":7]\r\n", None),
            ("MSG _INBOX.x.C 1 22\r\n{\"stream\":\"S\",\"seq\":0}\r\n", None),
            ("MSG _INBOX.x.C 2 22\r\n{\"stream\":\"S\",\"seq\":7}\r\n", None),
            ("MSG _INBOX.y.C 1 22\r\n{\"stream\":\"S\",\"seq\":7}\r\n", None),
            ("MSG _INBOX.x.C 1 40\r\n{\"stream\":\"S\",\"seq\":7,\"duplicate\": true}\r\n", None),
            ("MSG _INBOX.x.C 1 0\r\n\r\n", None),
            ("PING\r\n", None),
            ("", None),
        ] {
            assert_eq!(acks.next(text.as_bytes()).map(|ack| ack.sequence), expect, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_quick_way_says_what_the_careful_way_says_or_nothing(
            rows in prop::collection::vec((
                "[A-D]{1,3}",
                prop_oneof![
                    6 => (0_usize..3, 0_u64..2_000).prop_map(|(stream, seq)| format!("{{\"stream\":\"s{stream}\",\"seq\":{seq}}}")),
                    1 => any::<u64>().prop_map(|seq| format!("{{\"stream\":\"s1\", \"seq\":{seq}}}")),
                    1 => Just("{\"stream\":\"s1\",\"seq\":2,\"duplicate\": true}".to_owned()),
                    1 => Just("{\"stream\":\"s1\",\"seq\":8,\"batch\":\"b\",\"count\":3}".to_owned()),
                    1 => Just("{\"seq\":8,\"stream\":\"s1\"}".to_owned()),
                    1 => "[ -~]{0,30}",
                ],
            ), 1..12),
            broken in any::<prop::sample::Index>(), byte in any::<u8>(), breaks in any::<bool>(),
        ) {
            let mut acks = Acks::new(INBOX, 1);
            for (token, payload) in rows {
                let mut buffer = message(&token, &payload);
                if breaks {
                    let at = broken.index(buffer.len());
                    buffer[at] = byte;
                }
                if let Some(ack) = acks.next(&buffer) {
                    prop_assert_eq!(Some(ack), careful(&buffer));
                }
            }
        }
    }
}
