//! What the fields say about the message: where it ends, whether the connection stays, what the client waits for.
//!
//! One [`Facts`] sees every field of a head once, and then decides (RFC 9112, sections 6 and 9;
//! RFC 9110, sections 8.6 and 10.1.1). Where a field stands in the buffer is none of its business.

use super::{Framing, is_token_byte, is_value_byte, trimmed};
use crate::reject::Reject;

/// The fields that the engine itself reads, or that nearly every request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Authorization,
    ContentType,
    Origin,
}

impl Known {
    /// Recognises a field name, which is a token, in any letter case.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        // The length tells most names apart before a byte is compared.
        match name.len() {
            4 if is(name, b"host") => Some(Self::Host),
            6 if is(name, b"origin") => Some(Self::Origin),
            6 if is(name, b"expect") => Some(Self::Expect),
            10 if is(name, b"connection") => Some(Self::Connection),
            12 if is(name, b"content-type") => Some(Self::ContentType),
            13 if is(name, b"authorization") => Some(Self::Authorization),
            14 if is(name, b"content-length") => Some(Self::ContentLength),
            17 if is(name, b"transfer-encoding") => Some(Self::TransferEncoding),
            _ => None,
        }
    }
}

/// Whether a token is this one in any letter case; `lower` holds lower-case letters and `-` only. Among the bytes of
/// tokens only a letter becomes a letter when bit 5 is set, and only `-` becomes `-`: no branch per byte is needed.
fn is<const LEN: usize>(token: &[u8], lower: &[u8; LEN]) -> bool {
    <&[u8; LEN]>::try_from(token)
        .is_ok_and(|token| token.iter().zip(lower).filter(|(byte, lower)| **byte | 0x20 != **lower).count() == 0)
}

/// What was learned from the fields so far.
#[derive(Debug, Default)]
pub(super) struct Facts {
    content_length: Option<u64>,
    codings: Option<Codings>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_other: bool,
}

/// The elements of all `Transfer-Encoding` fields.
#[derive(Debug, Default)]
struct Codings {
    chunked: usize,
    others: usize,
    chunked_is_last: bool,
}

impl Facts {
    /// `Content-Length`. Digits and nothing else; a second one is refused even if it agrees, as is a list.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Reject> {
        if self.content_length.is_some() {
            return Err(Reject::Malformed("more than one Content-Length (RFC 9112, section 6.3)"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Reject::Malformed("Content-Length is not a number (RFC 9110, section 8.6)"));
        }
        let number = value
            .iter()
            .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
            .ok_or(Reject::Malformed("Content-Length is too large for any message (RFC 9110, section 8.6)"))?;
        self.content_length = Some(number);
        Ok(())
    }

    /// `Transfer-Encoding`. Several fields are one list.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Reject> {
        let codings = self.codings.get_or_insert_default();
        for element in value.split(|byte| *byte == b',').map(trimmed) {
            let name_len = element.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t')).unwrap_or(element.len());
            let (name, parameters) = element.split_at(name_len);
            if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
                return Err(Reject::Malformed("Transfer-Encoding is not a list of codings (RFC 9112, section 7)"));
            }
            codings.chunked_is_last = name.eq_ignore_ascii_case(b"chunked");
            if !codings.chunked_is_last {
                codings.others += 1;
            } else if parameters.is_empty() {
                codings.chunked += 1;
            } else {
                return Err(Reject::Malformed("the chunked coding has no parameters (RFC 9112, section 7.1)"));
            }
        }
        Ok(())
    }

    /// `Connection`. Options other than `close` and `keep-alive` are for proxies, or for protocols not spoken here.
    pub(super) fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(trimmed) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// `Expect`.
    pub(super) fn expect(&mut self, value: &[u8]) {
        for expectation in value.split(|byte| *byte == b',').map(trimmed) {
            let is_continue = expectation.eq_ignore_ascii_case(b"100-continue");
            self.expects_continue |= is_continue;
            self.expects_other |= !is_continue && !expectation.is_empty();
        }
    }

    /// How the body is delimited (RFC 9112, section 6.3).
    pub(super) fn framing(&self, http10: bool) -> Result<Framing, Reject> {
        let Some(codings) = &self.codings else {
            return Ok(self.content_length.map_or(Framing::None, Framing::Length));
        };
        if http10 {
            return Err(Reject::Malformed("Transfer-Encoding in HTTP/1.0 (RFC 9112, section 6.1)"));
        }
        if self.content_length.is_some() {
            return Err(Reject::Malformed("both Content-Length and Transfer-Encoding (RFC 9112, section 6.3)"));
        }
        if !codings.chunked_is_last {
            return Err(Reject::Malformed("the last transfer coding is not chunked (RFC 9112, section 6.3)"));
        }
        if codings.chunked > 1 {
            return Err(Reject::Malformed("chunked is applied more than once (RFC 9112, section 6.1)"));
        }
        if codings.others > 0 {
            return Err(Reject::TransferCoding);
        }
        Ok(Framing::Chunked)
    }

    /// Whether another request may follow on the connection (RFC 9112, section 9.3).
    pub(super) fn keeps_alive(&self, http10: bool) -> bool {
        !self.close && (self.keep_alive || !http10)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section
    /// 10.1.1). HTTP/1.0 knows no expectations, and without a body there is nothing to wait for.
    pub(super) fn expects_continue(&self, http10: bool, framing: Framing) -> Result<bool, Reject> {
        if http10 {
            return Ok(false);
        }
        if self.expects_other {
            return Err(Reject::Expectation);
        }
        Ok(self.expects_continue && !matches!(framing, Framing::None | Framing::Length(0)))
    }
}

/// Says which rule field lines break. Called once httparse has refused them: what it says itself names no rule.
#[cold]
pub(super) fn diagnose(lines: &[u8]) -> Reject {
    let broken = lines.split_inclusive(|byte| *byte == b'\n').enumerate().find_map(|(index, line)| {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        diagnose_line(index, line)
    });
    Reject::Malformed(broken.unwrap_or("a field line is not name: value (RFC 9112, section 5)"))
}

/// Says which rule one field line breaks, if it breaks one.
fn diagnose_line(index: usize, line: &[u8]) -> Option<&'static str> {
    match (index, line.first()) {
        (_, None) => return None,
        (0, Some(b' ' | b'\t')) => {
            return Some("white space before the first field (RFC 9112, section 2.2)");
        }
        (_, Some(b' ' | b'\t')) => return Some("a field is folded over lines (RFC 9112, section 5.2)"),
        (..) => {}
    }
    if line.contains(&b'\r') {
        return Some("a CR without LF in the head (RFC 9112, section 2.2)");
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some("a field line without a colon (RFC 9112, section 5)");
    };
    let (name, value) = line.split_at(colon);
    match name {
        [] => Some("a field without a name (RFC 9110, section 5.1)"),
        [.., b' ' | b'\t'] => Some("white space between a field's name and its colon (RFC 9112, section 5.1)"),
        _ if !name.iter().all(|byte| is_token_byte(*byte)) => {
            Some("a field name is not a token (RFC 9110, section 5.1)")
        }
        _ if !value.iter().all(|byte| is_value_byte(*byte)) => {
            Some("a control character in a field's value (RFC 9110, section 5.5)")
        }
        _ => None,
    }
}
