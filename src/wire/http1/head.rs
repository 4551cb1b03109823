//! A request's head in HTTP/1: parsed once, checked, and kept as places in the connection's buffer.
//!
//! [`Head`] is reused from request to request, so that a request allocates nothing here. Whatever is
//! ambiguous or forbidden in a head is an error, and the connection closes after it; so a [`Head`]
//! that parsed is one that every recipient reads in the same way.
//!
//! Fields that occur once by definition and that the product acts on (`Host`, `Content-Length`,
//! `Authorization`, `Content-Type`, `Origin`) are refused when they come twice (RFC 9110, section 5.3).

use super::{
    Span,
    fields::{Facts, Known, diagnose},
    request_line::{Port, RequestLine, is_authority},
    scan::Scan,
};
use crate::{
    limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, Limits},
    reject::Reject,
    wire::http,
};

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of request line, fields and empty lines together.
    pub bytes_max: usize,
    /// Field lines.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: HEAD_BYTES_MAX, fields_max: HEAD_FIELDS_MAX }
    }
}

impl From<&Limits> for HeadLimits {
    fn from(limits: &Limits) -> Self {
        Self { bytes_max: limits.head_bytes_max, fields_max: limits.head_fields_max }
    }
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// The bytes of the body.
    Length(u64),
    /// Chunks up to an empty one.
    Chunked,
}

/// A validated head: what it says means something once [`Self::parse`] said `Ok(true)`, until it is called again. Every
/// [`Span`] is a place in the slice that was parsed, and holds as long as these bytes stay where they are.
#[derive(Debug, Default)]
pub struct Head {
    /// What every version of HTTP says.
    pub http: http::Head,
    /// Whether the client speaks HTTP/1.0: no chunks, no `100 Continue`, closes unless it asked otherwise.
    pub http10: bool,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may serve another request after this one.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (never without a body).
    pub expect_continue: bool,
    /// Bytes of the head, from the beginning of the buffer to just past the empty line.
    pub len: usize,
    /// How far the parse of a head that is not complete has come; fresh between heads.
    scan: Scan,
    /// Whether the request line was read already.
    has_request_line: bool,
    tunnel: bool,
}

impl Head {
    /// Parses the head at the beginning of `buf`. `Ok(false)`: it is not complete; call again with the same bytes and
    /// more. What was searched is not searched again, so a head in dribbles costs no more than a whole one.
    ///
    /// At most [`HeadLimits::bytes_max`] bytes are looked at, and a complete head is found before
    /// anything behind it is. After an error the connection has to close; the value itself may be used again.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<bool, Reject> {
        if self.scan.is_ahead_of(buf.len()) {
            self.reset();
        }
        let outcome = self.advance(buf, limits);
        if outcome != Ok(false) {
            self.scan = Scan::default();
            self.has_request_line = false;
        }
        outcome
    }

    /// Forgets a head that is not complete: the next call of [`Self::parse`] begins a new one.
    pub fn reset(&mut self) {
        self.scan = Scan::default();
        self.has_request_line = false;
    }

    /// [`Self::parse`] without the care for what happens after a head or an error.
    fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<bool, Reject> {
        let window = buf.get(..limits.bytes_max).unwrap_or(buf);
        let end = self.scan.find_end(window, limits.fields_max)?;
        let Some((line_start, line_end)) = self.scan.request_line() else {
            return self.wait(buf, limits);
        };
        if !self.has_request_line {
            self.take_request_line(RequestLine::parse(window, line_start, line_end)?);
        }
        let Some(end) = end else {
            return self.wait(buf, limits);
        };
        self.take_fields(window, line_end + 2, end)?;
        self.len = end;
        Ok(true)
    }

    /// The head is not complete: whether it may still become one.
    fn wait(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<bool, Reject> {
        let window = buf.get(..limits.bytes_max).unwrap_or(buf);
        self.scan.check_partial(window)?;
        if buf.len() >= limits.bytes_max { Err(Reject::HeadTooLarge) } else { Ok(false) }
    }

    fn take_request_line(&mut self, line: RequestLine) {
        let RequestLine { method, method_text, target, path, query, authority, http10, tunnel } = line;
        let head = &mut self.http;
        (head.method, head.method_text) = (method, method_text);
        (head.target, head.path, head.query) = (target, path, query);
        head.authority = authority;
        self.http10 = http10;
        self.tunnel = tunnel;
        self.has_request_line = true;
    }

    /// Reads the field lines `buf[start..end]`, the empty line included.
    fn take_fields(&mut self, buf: &[u8], start: usize, end: usize) -> Result<(), Reject> {
        let lines = buf.get(start..end).unwrap_or_default();
        let (mut few, mut many, mut most);
        // Slots have to be filled before use: the size that does is the cheapest one.
        let slots: &mut [httparse::Header<'_>] = match self.scan.field_lines() {
            0..=16 => {
                few = [httparse::EMPTY_HEADER; 16];
                &mut few
            }
            17..=128 => {
                many = [httparse::EMPTY_HEADER; 128];
                &mut many
            }
            lines => {
                most = vec![httparse::EMPTY_HEADER; lines];
                &mut most
            }
        };
        let Ok(httparse::Status::Complete((_, headers))) = httparse::parse_headers(lines, slots) else {
            return Err(diagnose(lines));
        };
        let head = &mut self.http;
        head.fields.clear();
        (head.authorization, head.content_type, head.origin) = (None, None, None);
        let mut host = None;
        let mut facts = Facts::default();
        for header in headers {
            let value = place(buf, header.value);
            head.fields.push(http::Field { name: place(buf, header.name.as_bytes()), value });
            match Known::of(header.name.as_bytes()) {
                None => {}
                Some(Known::Host) => once(&mut host, value, "more than one Host (RFC 9112, section 3.2)")?,
                Some(Known::ContentLength) => facts.content_length(header.value)?,
                Some(Known::TransferEncoding) => facts.transfer_encoding(header.value)?,
                Some(Known::Connection) => facts.connection(header.value),
                Some(Known::Expect) => facts.expect(header.value),
                Some(Known::Authorization) => {
                    once(&mut head.authorization, value, "more than one Authorization (RFC 9110, section 5.3)")?;
                }
                Some(Known::ContentType) => {
                    once(&mut head.content_type, value, "more than one Content-Type (RFC 9110, section 5.3)")?;
                }
                Some(Known::Origin) => once(&mut head.origin, value, "more than one Origin (RFC 9110, section 5.3)")?,
            }
        }
        self.take_host(buf, host)?;
        self.framing = facts.framing(self.http10)?;
        self.keep_alive = facts.keeps_alive(self.http10) && !self.tunnel;
        self.expect_continue = facts.expects_continue(self.http10, self.framing)?;
        Ok(())
    }

    /// Checks `Host`, also where the target names the authority, which then counts (RFC 9112, section 3.2).
    fn take_host(&mut self, buf: &[u8], host: Option<Span>) -> Result<(), Reject> {
        match host {
            None if self.http10 => {}
            None => return Err(Reject::Malformed("no Host (RFC 9112, section 3.2)")),
            // Empty is what a client sends whose target has no authority.
            Some(value) if value.is_empty() || is_authority(value.of(buf), Port::Optional) => {}
            Some(_) => return Err(Reject::Malformed("Host is not host[:port] (RFC 9112, section 3.2)")),
        }
        self.http.authority = self.http.authority.or(host);
        Ok(())
    }
}

/// Keeps the value of a field that may come once only.
fn once(slot: &mut Option<Span>, value: Span, rule: &'static str) -> Result<(), Reject> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Reject::Malformed(rule)),
    }
}

/// Where `part`, a slice of `buf`, lies in it.
fn place(buf: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().wrapping_sub(buf.as_ptr().addr());
    Span::between(start, start.saturating_add(part.len()))
}
