//! A request's body, taken apart where it lies: in the connection's buffer, behind the head.
//!
//! A body of known length is left alone and only waited for. Chunks are joined in place: see
//! [`Chunked`]. Either way the body ends up as one span, and whatever follows it is the next request.

use super::{Framing, Span, chunked::Chunked};
use crate::reject::{Reject, SizeLimit};

/// What [`Body::feed`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The body is there.
    Done {
        /// Its bytes, decoded.
        body: Span,
        /// Offset in the buffer of the first byte behind the body: the next request, if there is one already.
        consumed_to: usize,
    },
    /// The body is not there yet.
    More {
        /// Bytes that the sender has announced and that are not there yet; 0 if that is not known. It is what the
        /// sender *says*: never more than the limit on a body (and a few bytes), and still to be reserved with care.
        wanted: usize,
    },
}

/// Reads one body. It holds no bytes, only how far it has come.
#[derive(Debug)]
pub struct Body {
    bytes_max: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Length(usize),
    Chunked(Chunked),
}

impl Body {
    /// A body that is delimited by `framing` and holds at most `bytes_max` bytes once decoded. One that announces more
    /// is [`Reject::TooLarge`] here, before a byte of it (or `100 Continue`) was exchanged.
    pub fn new(framing: Framing, bytes_max: u64) -> Result<Self, Reject> {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) if length > bytes_max => return Err(too_large(bytes_max)),
            Framing::Length(length) => State::Length(usize::try_from(length).map_err(|_| too_large(bytes_max))?),
            Framing::Chunked => State::Chunked(Chunked::new(bytes_max)),
        };
        Ok(Self { bytes_max, state })
    }

    /// Looks at what has come. `buf` is the connection's buffer and `start` the offset in it where the body begins: the
    /// same bytes as before, with new ones at the end.
    ///
    /// Chunks are decoded towards `start`, every byte once. As long as the body is not done, what was framing is
    /// cut out and *`buf` gets shorter*: it ends with the decoded bytes, and the next read appends
    /// to them. So the buffer never holds more than the decoded body and one read. Once it is done, bytes between the
    /// body's end and `consumed_to` mean nothing.
    ///
    /// After an error the place of the next request is not known, and the connection has to close: after
    /// [`Reject::TooLarge`] too.
    pub fn feed(&mut self, buf: &mut Vec<u8>, start: usize) -> Result<Progress, Reject> {
        match &mut self.state {
            State::Length(length) => {
                let end = start.checked_add(*length).filter(|end| u32::try_from(*end).is_ok());
                let end = end.ok_or_else(|| too_large(self.bytes_max))?;
                if buf.len() < end {
                    return Ok(Progress::More { wanted: end - buf.len().max(start) });
                }
                Ok(Progress::Done { body: Span::between(start, end), consumed_to: end })
            }
            State::Chunked(chunked) => chunked.feed(buf, start),
        }
    }
}

impl Body {
    /// Looks at what has come of a body that is handed on in pieces. `buf` begins with it. What is decoded is moved from
    /// there to the end of `out`, also what stands before a fault; what is left in `buf` when the body is done
    /// (`Ok(true)`) is the next request.
    ///
    /// Together with [`Self::feed`] it makes no sense: a body is read as a whole or in pieces.
    pub fn take(&mut self, buf: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool, Reject> {
        match &mut self.state {
            State::Length(length) => {
                let there = buf.len().min(*length);
                out.extend(buf.drain(..there));
                *length -= there;
                Ok(*length == 0)
            }
            State::Chunked(chunked) => match chunked.feed(buf, 0) {
                Err(reject) => {
                    // What stands before the fault has come in order.
                    out.extend_from_slice(buf.get(..chunked.decoded()).unwrap_or_default());
                    Err(reject)
                }
                Ok(Progress::Done { body, consumed_to }) => {
                    out.extend_from_slice(body.of(buf));
                    buf.drain(..consumed_to.min(buf.len()));
                    Ok(true)
                }
                Ok(Progress::More { .. }) => {
                    chunked.take();
                    out.append(buf);
                    Ok(false)
                }
            },
        }
    }
}

/// The reject of a body that is larger than `bytes_max`.
pub(super) fn too_large(bytes_max: u64) -> Reject {
    Reject::TooLarge(SizeLimit::Body, bytes_max)
}
