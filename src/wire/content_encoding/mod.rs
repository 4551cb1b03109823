//! Undoes the `Content-Encoding` of a request body, under a cap.
//!
//! gzip (also `x-gzip`, any number of members) and deflate (zlib as RFC 9110 says, and the bare DEFLATE that some
//! clients send under that name). Several codings are undone from the last listed to the first, as RFC 9110 section
//! 8.4 has them; the original undid them in the listed order, which for two different codings never worked.
//!
//! Invariants: output never exceeds the cap, and memory grows with what was really decoded, never with what a
//! header claims; a body is taken only if it is complete and nothing follows it. This is the only module that
//! names a decoder (`clippy.toml` holds that).
//!
//! Three ways: [`Codings::decode_at_once`] undoes a small body on the quicker decoder, and [`Decoder`] undoes one of any size in
//! steps, so that nobody has to wait for it. Either has its body whole before it begins; [`PieceDecoder`] undoes
//! one that comes in pieces, as [`Decoder`] does. Only the second refuses: what the first
//! does not take goes to it. What both take is the same, and what the second takes is what RFC 1951 allows. The first takes more: a
//! stream with reserved symbols or incomplete codes, if the checksum of gzip or zlib is right for what it made of them. No encoder
//! writes that, and nothing depends on it being refused.

mod fuzz;
mod inflate;
mod member;
mod stream;
#[cfg(test)]
mod tests;

use crate::{limits::CODINGS_MAX, reject::Reject};
pub use fuzz::fuzz_decode;
pub use stream::{Decoder, PieceDecoder, Step};

/// A coding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

/// The codings of a body, checked before the body is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Codings {
    /// In the order in which they were applied.
    applied: [Option<Coding>; CODINGS_MAX],
}

impl Codings {
    /// Reads the values of all `Content-Encoding` fields in their order; each may list several codings, in any
    /// letter case. Empty elements and `identity` count for nothing.
    ///
    /// Errors: [`Reject::ContentEncoding`] for an unknown coding or more than [`CODINGS_MAX`].
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Reject> {
        let mut codings = Self::default();
        let mut free = codings.applied.iter_mut();
        for element in values.into_iter().flat_map(|value| value.split(|byte| *byte == b',')) {
            if let Some(coding) = Coding::parse(element.trim_ascii())? {
                *free.next().ok_or(Reject::ContentEncoding)? = Some(coding);
            }
        }
        Ok(codings)
    }

    /// Whether the body is already what it stands for.
    #[must_use]
    pub fn is_identity(self) -> bool {
        self.applied == [None; CODINGS_MAX]
    }

    /// Undoes the codings of `body` in steps; a body without any is not for it. At most `cap` bytes come out.
    #[must_use]
    pub fn decoder(self, body: &[u8], cap: usize) -> Decoder<'_> {
        Decoder::new(body, self.applied.into_iter().flatten(), cap)
    }

    /// Undoes the codings of a body that comes in pieces, of any length; `None` for a body without any.
    #[must_use]
    pub fn piece_decoder(self) -> Option<PieceDecoder> {
        (!self.is_identity()).then(|| PieceDecoder::new(self.applied.into_iter().flatten(), usize::MAX))
    }

    /// Undoes the codings at once, if the quick decoder can: `out` then holds the decoded body, at most `cap` bytes. What was
    /// in `out` is gone; its capacity is kept. A body of two codings takes up to `cap` bytes more while it is decoded.
    ///
    /// Returns whether it could. If not, `out` is empty, and the [`Decoder`] can, or says what is wrong.
    pub fn decode_at_once(self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> bool {
        let decoded = match self.applied {
            [None, _] => inflate::identity(body, cap, out),
            [Some(only), None] => only.undo(body, cap, out),
            [Some(first), Some(last)] => {
                let mut between = Vec::new();
                last.undo(body, cap, &mut between).and_then(|()| first.undo(&between, cap, out))
            }
        };
        if decoded.is_none() {
            out.clear();
        }
        decoded.is_some()
    }

    /// Undoes the codings of a body for which nobody has to wait: as [`Codings::decode_at_once`], and if that cannot, by all
    /// steps of the [`Decoder`].
    ///
    /// Errors: [`Reject::CorruptEncoding`], or [`Reject::TooLarge`] over the cap. After an error `out` is empty.
    pub fn decode(self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), Reject> {
        if self.decode_at_once(body, cap, out) {
            return Ok(());
        }
        if self.is_identity() {
            return Err(stream::too_large(cap));
        }
        let mut decoder = self.decoder(body, cap);
        while !decoder.turn(|_| Ok(()), || false)? {}
        out.extend_from_slice(&decoder.into_body());
        Ok(())
    }
}

impl Coding {
    /// `None` for what changes nothing.
    fn parse(name: &[u8]) -> Result<Option<Self>, Reject> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match () {
            () if name.is_empty() || is(b"identity") => Ok(None),
            () if is(b"gzip") || is(b"x-gzip") => Ok(Some(Self::Gzip)),
            () if is(b"deflate") => Ok(Some(Self::Deflate)),
            () => Err(Reject::ContentEncoding),
        }
    }

    fn undo(self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Gzip => inflate::gzip(body, cap, out),
            Self::Deflate => inflate::deflate(body, cap, out),
        }
    }
}
