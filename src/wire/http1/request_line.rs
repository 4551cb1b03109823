//! The request line: method, target in one of its four forms, version (RFC 9112, section 3).
//!
//! Exactly one space between the parts. A target holds visible ASCII only and no `#`; percent-escapes
//! are not looked at (whoever decodes them judges them). Minor versions above 1.1 are served as
//! 1.1 (RFC 9110, section 2.5); another major version is [`Reject::Version`], found before anything else in the line
//! so that HTTP/2's preface gets that answer.

use super::{ByteSet, Method, Span, is_token_byte, letters_digits_and};
use crate::reject::Reject;
use memchr::memchr;
use std::net::Ipv6Addr;

/// What the request line says. Spans are into the buffer that holds the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RequestLine {
    pub(super) method: Method,
    /// The method as sent.
    pub(super) method_text: Span,
    /// The whole target as sent.
    pub(super) target: Span,
    /// Path of origin-form and absolute-form, `*` of asterisk-form, nothing of authority-form.
    pub(super) path: Span,
    /// What follows the first `?`.
    pub(super) query: Option<Span>,
    /// The authority of absolute-form and authority-form.
    pub(super) authority: Option<Span>,
    pub(super) http10: bool,
    /// `CONNECT`: what follows the head is not HTTP.
    pub(super) tunnel: bool,
}

const SHAPE: Reject = Reject::Malformed("the request line is not method SP target SP version (RFC 9112, section 3)");

impl RequestLine {
    /// Reads `buf[start..end]`, a line without its CRLF.
    pub(super) fn parse(buf: &[u8], start: usize, end: usize) -> Result<Self, Reject> {
        let line = buf.get(start..end).unwrap_or_default();
        let method_end = memchr(b' ', line).ok_or(SHAPE)?;
        let (method, rest) = line.split_at(method_end);
        let rest = rest.get(1..).unwrap_or_default();
        let target_len = memchr(b' ', rest).ok_or(SHAPE)?;
        let (target, version) = rest.split_at(target_len);
        let http10 = http10(version.get(1..).unwrap_or_default())?;
        if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Reject::Malformed("the method is not a token (RFC 9112, section 3.1)"));
        }
        // Without an early exit, which costs more than it saves on targets that are nearly all good.
        if target.iter().filter(|byte| !matches!(**byte, b'!'..=b'"' | b'$'..=b'~')).count() > 0 {
            return Err(Reject::Malformed(
                "the request target holds a fragment or a byte that no URI holds (RFC 9112, section 3.2)",
            ));
        }
        let at = start + method_end + 1;
        let mut parsed = Self {
            method: Method::of(method),
            method_text: Span::between(start, start + method_end),
            target: Span::between(at, at + target_len),
            http10,
            tunnel: method == b"CONNECT",
            ..Self::default()
        };
        parsed.read_target(target, at)?;
        Ok(parsed)
    }

    /// Finds path, query and authority in `target`, which begins at `at` of the buffer.
    fn read_target(&mut self, target: &[u8], at: usize) -> Result<(), Reject> {
        if self.tunnel {
            if !is_authority(target, Port::Required) {
                return Err(Reject::Malformed("the target of CONNECT is not host:port (RFC 9112, section 3.2.3)"));
            }
            self.authority = Some(Span::between(at, at + target.len()));
            return Ok(());
        }
        if target.first() == Some(&b'/') {
            self.read_path(target, at);
            return Ok(());
        }
        if target == b"*" {
            if self.method != Method::Options {
                return Err(Reject::Malformed("only OPTIONS may ask for '*' (RFC 9112, section 3.2.4)"));
            }
            self.path = Span::between(at, at + 1);
            return Ok(());
        }
        let begins_with = |scheme: &&str| {
            target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme.as_bytes()))
        };
        let scheme_len = ["http://", "https://"].into_iter().find(begins_with).map(str::len);
        let Some(scheme_len) = scheme_len else {
            return Err(Reject::Malformed(
                "the request target is neither a path nor an http or https URI (RFC 9112, section 3.2)",
            ));
        };
        let rest = target.get(scheme_len..).unwrap_or_default();
        let authority_len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_len);
        if !is_authority(authority, Port::Optional) {
            return Err(Reject::Malformed("the target's authority is not host[:port] (RFC 9110, section 4.2)"));
        }
        let path_at = at + scheme_len + authority_len;
        self.authority = Some(Span::between(at + scheme_len, path_at));
        self.read_path(path, path_at);
        if self.path.is_empty() {
            // An empty path is "/" (RFC 9110, section 4.2.3), and the scheme ends in one to point at.
            self.path = Span::between(at + scheme_len - 1, at + scheme_len);
        }
        Ok(())
    }

    /// Splits `target`, which begins at `at` of the buffer, at its first `?`.
    fn read_path(&mut self, target: &[u8], at: usize) {
        let end = at + target.len();
        let path_len = memchr(b'?', target);
        self.path = Span::between(at, at + path_len.unwrap_or(target.len()));
        self.query = path_len.map(|len| Span::between(at + len + 1, end));
    }
}

/// Whether the version is 1.0 (`true`) or 1.1 and up (`false`).
fn http10(version: &[u8]) -> Result<bool, Reject> {
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            if *major == b'1' {
                Ok(false)
            } else {
                Err(Reject::Version)
            }
        }
        _ => Err(Reject::Malformed("the request line does not end in an HTTP version (RFC 9112, section 2.3)")),
    }
}

/// Whether an authority has to name a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Required,
    Optional,
}

/// Whether the bytes are `uri-host [ ":" port ]` with a host that is not empty (RFC 9110, sections 4.2 and 7.2). User
/// information (`user@host`) is not part of that.
pub(super) fn is_authority(authority: &[u8], port: Port) -> bool {
    let (host, rest) = if authority.first() == Some(&b'[') {
        let end = memchr(b']', authority).map_or(0, |at| at + 1);
        authority.split_at(end)
    } else {
        authority.split_at(memchr(b':', authority).unwrap_or(authority.len()))
    };
    let port_is_good = match rest {
        [] => port == Port::Optional,
        [b':', digits @ ..] => is_port(digits) && !(digits.is_empty() && port == Port::Required),
        _ => false,
    };
    port_is_good && is_host(host)
}

/// Whether the bytes are a port: digits, none allowed, up to 65535.
fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0')) <= 65_535
}

/// Whether the bytes are a host: a registered name or an address (RFC 3986, section 3.2.2).
fn is_host(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', literal @ .., b']'] => match literal {
            [b'v' | b'V', future @ ..] => is_future_address(future),
            _ => std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
        },
        name => is_registered_name(name),
    }
}

/// Whether the bytes are what follows the `v` of an address of a future kind.
fn is_future_address(bytes: &[u8]) -> bool {
    let Some(dot) = memchr(b'.', bytes) else { return false };
    let (version, address) = bytes.split_at(dot);
    let address = address.get(1..).unwrap_or_default();
    let is_hex = !version.is_empty() && version.iter().all(u8::is_ascii_hexdigit);
    is_hex && !address.is_empty() && address.iter().all(|byte| *byte == b':' || is_name_byte(*byte))
}

/// Whether the bytes are unreserved characters, sub-delimiters and percent-escapes.
fn is_registered_name(name: &[u8]) -> bool {
    let mut parts = name.split(|byte| *byte == b'%');
    let plain = |bytes: &[u8]| bytes.iter().all(|byte| is_name_byte(*byte));
    parts.next().is_some_and(plain)
        && parts.all(|part| match part {
            [high, low, rest @ ..] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && plain(rest),
            _ => false,
        })
}

/// Unreserved characters and sub-delimiters (RFC 3986, section 2).
static NAME_BYTES: ByteSet = letters_digits_and(b"-._~!$&'()*+,;=");

/// Whether a byte may stand in a registered name as it is.
#[expect(clippy::indexing_slicing, reason = "every byte has an entry")]
fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}
