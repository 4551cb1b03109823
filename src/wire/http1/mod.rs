//! HTTP/1.1, the server's side: request heads and bodies in, responses out. No socket, no clock.
//!
//! A connection keeps one growable buffer. [`Head::parse`] reads a head from its beginning,
//! [`Body::feed`] then takes the body apart in the same buffer, and says where the next request
//! begins; [`Response::write`] appends an answer to a buffer of its own. The spans of a head count from the beginning of
//! the slice that was parsed, those of a body from the beginning of the whole buffer: a caller that parses
//! pipelined heads at `buf[at..]` reads their fields from that slice, and feeds bodies with `at + head.len`.
//!
//! Invariants:
//! - *Two requests are never read out of one.* What RFC 9112 calls ambiguous, and what a sender must
//!   not send in framing, is refused; httparse accepts more than that (bare LF among it), so it only
//!   reads field lines, between checks of ours.
//! - How the bytes were cut into reads changes nothing: a stream yields the same requests whole and
//!   byte by byte, and the work is linear in its bytes either way.
//! - After an `Err` from a head or a body the place of the next request is unknown: whatever the
//!   reject, the connection answers and closes.
//!
//! Deliberately absent: the client's side, trailers as values, transfer codings other than
//! `chunked`, `Upgrade: h2c` (it is ignored), and tunnels (`CONNECT` is read and never kept alive).

mod body;
mod chunked;
mod date;
mod fields;
#[doc(hidden)]
pub mod fuzz;
mod head;
mod request_line;
mod response;
mod scan;

#[cfg(test)]
mod tests;

pub use body::{Body, Progress};
pub use date::{DATE_BYTES, date};
pub use head::{Framing, Head, HeadLimits};
pub use response::{BodyEnd, CONTINUE, LAST_CHUNK, Response, is_bodiless, write_chunk};

use super::{
    Span,
    http::{ByteSet, Method, is_token_byte, is_value_byte, letters_digits_and, trimmed},
};
