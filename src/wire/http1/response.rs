//! Responses: one head and one body, appended to a buffer.
//!
//! The status line, `Date`, how long the body is and whether the connection stays; the other fields come as
//! [`Fields`], in which every line was checked.

use super::DATE_BYTES;
use crate::wire::http::Fields;
use std::io::Write as _;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The chunk that ends a body in chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A final response. [`Self::new`] gives one without body; set what is wanted by struct update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// Status code, 200 to 599; or 101.
    pub status: u16,
    /// The header fields, but for those that frame the message.
    pub fields: &'a Fields,
    /// The body. 204 and 304 have none, whatever stands here.
    pub body: &'a [u8],
    /// Whether the connection closes behind the response.
    pub close: bool,
    /// Whether an HTTP/1.0 connection stays open, which has to be said.
    pub keep_alive_10: bool,
    /// Whether the request was HEAD: `Content-Length` says what GET would send, and no body follows.
    pub head_only: bool,
}

/// How the recipient finds the end of a body (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// It has this many bytes.
    Length(usize),
    /// It comes in chunks up to an empty one.
    Chunked,
    /// It ends with the connection, which is all that HTTP/1.0 knows besides a length.
    Close,
    /// There is none: what follows a 101 is another protocol.
    Upgrade,
}

impl<'a> Response<'a> {
    /// Returns a response without body.
    #[must_use]
    pub const fn new(status: u16, fields: &'a Fields) -> Self {
        Self { status, fields, body: &[], close: false, keep_alive_10: false, head_only: false }
    }

    /// Appends the whole response to `out`. `date` is what [`super::date`] says.
    pub fn write(&self, out: &mut Vec<u8>, date: &[u8; DATE_BYTES]) {
        self.write_head(out, date, BodyEnd::Length(self.body.len()));
        if !self.head_only && !is_bodiless(self.status) {
            out.extend_from_slice(self.body);
        }
    }

    /// Appends the head only, for a body that the caller writes itself (unless the request was HEAD, or the status has
    /// no body).
    pub fn write_head(&self, out: &mut Vec<u8>, date: &[u8; DATE_BYTES], end: BodyEnd) {
        match status_line(self.status) {
            Some(line) => out.extend_from_slice(line),
            None => write_status_line(out, self.status),
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.fields.lines());
        match end {
            BodyEnd::Upgrade => {}
            _ if is_bodiless(self.status) => {}
            BodyEnd::Length(length) => {
                out.extend_from_slice(b"Content-Length: ");
                out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            BodyEnd::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            BodyEnd::Close => {}
        }
        if end == BodyEnd::Upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
        } else if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.keep_alive_10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one chunk. An empty one would be the last: nothing is appended then.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{:x}\r\n", data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Returns whether a status has neither body nor `Content-Length` (RFC 9110, section 8.6).
#[must_use]
pub fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
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
        101 "Switching Protocols",
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
