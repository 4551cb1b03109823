//! Bytes to values and back, without a socket, a runtime or a clock.
//!
//! Everything below is a function over slices or a state machine that is fed bytes. What comes from
//! the network cannot make it panic, and where it keeps a place in a buffer it keeps a [`Span`].

#![deny(clippy::indexing_slicing)]

pub mod content_encoding;
pub mod http;
pub mod http1;
pub mod jetstream;
pub mod json;
pub mod json_lines;
pub mod nats;
pub mod sse;
pub mod time;

/// A place in a buffer: offsets instead of a borrow, so that it can be kept across an await.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Returns the span between two places. One that `u32` cannot hold lies in no buffer, and reads as nothing.
    #[must_use]
    pub fn between(start: usize, end: usize) -> Self {
        let narrow = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    /// Appends bytes to a buffer. Returns where they lie.
    pub fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(bytes);
        Self::between(start, buffer.len())
    }

    /// Bytes of the span.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end.saturating_sub(self.start)) as usize
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The bytes it stands for. A span that does not lie in `buffer` (a bug of ours) yields nothing
    /// rather than a panic.
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}
