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
//! Two ways: [`Codings::decode`] undoes a small body at once, on the quicker decoder; [`Decoder`] undoes one of any size in steps, so that
//! nobody has to wait for it. What comes out is the same. Either has its body whole before it begins.

mod inflate;
mod member;
mod stream;
#[cfg(test)]
mod tests;

use crate::{limits::CODINGS_MAX, reject::Reject};
pub use stream::Decoder;

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

    /// Undoes the codings at once: `out` then holds the decoded body, at most `cap` bytes. What was in `out` is gone; its
    /// capacity is kept. A body of two codings takes up to `cap` bytes more while it is decoded.
    ///
    /// Errors: [`Reject::CorruptEncoding`], or [`Reject::TooLarge`] over the cap. After an error `out` is empty.
    pub fn decode(self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), Reject> {
        let verdict = match self.applied {
            [None, _] => inflate::identity(body, cap, out),
            [Some(only), None] => only.undo(body, cap, out),
            [Some(first), Some(last)] => {
                let mut between = Vec::new();
                last.undo(body, cap, &mut between).and_then(|()| first.undo(&between, cap, out))
            }
        };
        if verdict.is_err() {
            out.clear();
        }
        verdict
    }
}

/// [`Codings::parse`] and [`Codings::decode`] in one step.
pub fn decode<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
    body: &[u8],
    cap: usize,
    out: &mut Vec<u8>,
) -> Result<(), Reject> {
    out.clear();
    Codings::parse(values)?.decode(body, cap, out)
}

/// Entry point for fuzzing: no body makes decoding panic or exceed its cap, in length or in memory, and what is decoded at once is what is
/// decoded in steps.
#[doc(hidden)]
pub fn fuzz_decode(data: &[u8]) {
    const CAP: usize = 1 << 20;
    for listed in [&b"gzip"[..], b"deflate", b"gzip, deflate", b"deflate, deflate"] {
        let mut out = Vec::new();
        let verdict = decode([listed], data, CAP, &mut out);
        assert!(out.capacity() <= CAP, "memory stays under the cap");
        assert!(verdict.is_ok() || out.is_empty(), "nothing is left after an error");
        let Ok(codings) = Codings::parse([listed]) else { continue };
        let mut decoder = codings.decoder(data, CAP);
        let in_steps = std::iter::repeat_with(|| decoder.turn(|_| Ok(()), || true)).find(|done| *done != Ok(false));
        if verdict.is_ok() {
            assert!(in_steps == Some(Ok(true)) && decoder.into_body() == out, "both ways give the same");
        }
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

    fn undo(self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), Reject> {
        match self {
            Self::Gzip => inflate::gzip(body, cap, out),
            Self::Deflate => inflate::deflate(body, cap, out),
        }
    }
}
