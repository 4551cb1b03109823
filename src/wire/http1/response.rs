//! Responses: one head and one body, appended to a buffer.
//!
//! The status line, `Date`, the length and the fields that the gateway itself has a use for; anything else comes as a
//! finished block ([`Response::extra`]). What a caller hands in cannot break out of its field: a value that
//! holds a control character is a bug of ours, stops a debug build, and is left out in a release.
//!
//! Deliberately absent: chunked responses (every length is known before the first byte is written).

use super::{DATE_BYTES, is_token_byte, is_value_byte};

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A final response. [`Self::new`] gives one without body or fields; set what is wanted by struct update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// Status code, 200 to 599.
    pub status: u16,
    /// `Content-Type` of the body.
    pub content_type: Option<&'a str>,
    /// The body. 204 and 304 have none, whatever stands here.
    pub body: &'a [u8],
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// `Allow`: methods, comma-separated.
    pub allow: Option<&'a str>,
    /// More field lines, each ended by CRLF.
    pub extra: &'a [u8],
    /// Whether the connection closes behind the response.
    pub close: bool,
    /// Whether an HTTP/1.0 connection stays open, which has to be said.
    pub keep_alive_10: bool,
    /// Whether the request was HEAD: `Content-Length` says what GET would send, and no body follows.
    pub head_only: bool,
}

impl Default for Response<'_> {
    fn default() -> Self {
        Self::new(200)
    }
}

impl Response<'_> {
    /// A response without body and fields.
    #[must_use]
    pub const fn new(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: &[],
            retry_after: None,
            allow: None,
            extra: &[],
            close: false,
            keep_alive_10: false,
            head_only: false,
        }
    }

    /// Appends the whole response to `out`. `date` is what [`super::date`] says.
    pub fn write(&self, out: &mut Vec<u8>, date: &[u8; DATE_BYTES]) {
        self.write_head(out, date, self.body.len());
        if !self.head_only && !self.is_bodiless() {
            out.extend_from_slice(self.body);
        }
    }

    /// Appends the head only, for a body of `body_len` bytes that the caller writes itself (unless the request was
    /// HEAD, or the status has no body).
    pub fn write_head(&self, out: &mut Vec<u8>, date: &[u8; DATE_BYTES], body_len: usize) {
        match status_line(self.status) {
            Some(line) => out.extend_from_slice(line),
            None => write_status_line(out, self.status),
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
        if let Some(content_type) = self.content_type {
            write_field(out, b"Content-Type: ", content_type.as_bytes());
        }
        if !self.is_bodiless() {
            write_field(out, b"Content-Length: ", itoa::Buffer::new().format(body_len).as_bytes());
        }
        if let Some(seconds) = self.retry_after {
            write_field(out, b"Retry-After: ", itoa::Buffer::new().format(seconds).as_bytes());
        }
        if let Some(allow) = self.allow {
            write_field(out, b"Allow: ", allow.as_bytes());
        }
        let extra_is_good = is_field_block(self.extra);
        debug_assert!(extra_is_good, "extra fields are whole lines");
        if extra_is_good {
            out.extend_from_slice(self.extra);
        }
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.keep_alive_10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the status has neither body nor `Content-Length` (RFC 9110, section 8.6).
    fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// Appends one field line, unless its value would not stay in it.
fn write_field(out: &mut Vec<u8>, name_colon: &[u8], value: &[u8]) {
    let is_good = value.iter().all(|byte| is_value_byte(*byte));
    debug_assert!(is_good, "a field value without control characters");
    if is_good {
        out.extend_from_slice(name_colon);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether the bytes are whole field lines and nothing else.
fn is_field_block(mut block: &[u8]) -> bool {
    while !block.is_empty() {
        let Some(newline) = memchr::memmem::find(block, b"\r\n") else { return false };
        let (line, rest) = block.split_at(newline);
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        let (name, value) = line.split_at(colon);
        let name_is_good = !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte));
        if !name_is_good || !value.iter().all(|byte| is_value_byte(*byte)) {
            return false;
        }
        block = rest.get(2..).unwrap_or_default();
    }
    true
}

/// The status line of a status that is in use here.
fn status_line(status: u16) -> Option<&'static [u8]> {
    macro_rules! lines {
        ($($code:literal $reason:literal),+ $(,)?) => {
            match status {
                $($code => Some(concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes()),)+
                _ => None,
            }
        };
    }
    lines!(
        200 "OK",
        201 "Created",
        202 "Accepted",
        204 "No Content",
        206 "Partial Content",
        301 "Moved Permanently",
        302 "Found",
        304 "Not Modified",
        307 "Temporary Redirect",
        308 "Permanent Redirect",
        400 "Bad Request",
        401 "Unauthorized",
        403 "Forbidden",
        404 "Not Found",
        405 "Method Not Allowed",
        406 "Not Acceptable",
        408 "Request Timeout",
        409 "Conflict",
        410 "Gone",
        411 "Length Required",
        412 "Precondition Failed",
        413 "Content Too Large",
        414 "URI Too Long",
        415 "Unsupported Media Type",
        417 "Expectation Failed",
        422 "Unprocessable Content",
        426 "Upgrade Required",
        429 "Too Many Requests",
        431 "Request Header Fields Too Large",
        500 "Internal Server Error",
        501 "Not Implemented",
        502 "Bad Gateway",
        503 "Service Unavailable",
        504 "Gateway Timeout",
        505 "HTTP Version Not Supported",
        507 "Insufficient Storage",
    )
}

/// The status line of any other status, without a reason, which means nothing anyway (RFC 9112, section 4).
#[cold]
fn write_status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((200..=599).contains(&status), "a final status");
    let status = if (200..=599).contains(&status) { status } else { 500 };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.extend_from_slice(b" \r\n");
}
