//! Cuts a batch into its records without touching a byte of them.
//!
//! A batch is one JSON array; a record is the exact source text of one element, as a [`Span`] of the
//! body. Every element is validated on the way (RFC 8259), so that what is stored is JSON; nothing is
//! decoded, copied or written anew: big integers, key order, duplicate keys and inner white space survive.
//!
//! What is accepted is what `serde_json` accepts as a raw value (docs/adr/0008), down to the corners:
//! `\u` escapes need four hexadecimal digits but may be lone surrogates, numbers may be of any size.
//! The one difference is depth: an element may nest at most [`SplitLimits::depth_max`] containers
//! (`1` is 0 deep, `[]` and `{}` are 1 deep; the batch's own brackets do not count).
//!
//! There is one implementation in scalar code, the reference, and one that works on blocks of 64 bytes, compiled for
//! AVX2 and for AVX-512 (docs/adr/0010); `engine` chooses. Whatever the blockwise one refuses goes through the scalar
//! one, so that they cannot differ in what they say of a fault.
//!
//! Invariants: no recursion, no allocation besides the spans, time linear in the body; after an error
//! there are no spans. Deliberately absent: values. Whoever needs a field parses the record.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod block_tests;
#[cfg(target_arch = "x86_64")]
mod blocks;
mod engine;
mod fuzz;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod numbers;
mod reference;
mod scalar;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use engine::Engine;
pub use fuzz::{fuzz_lines, fuzz_split};

use super::Span;
use crate::{
    limits::{BATCH_RECORDS_MAX, JSON_DEPTH_MAX},
    reject::Reject,
};

/// Bounds of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLimits {
    /// Records in one body.
    pub records_max: usize,
    /// Containers within one another in one record; what exceeds [`JSON_DEPTH_MAX`] counts as that.
    pub depth_max: usize,
}

impl Default for SplitLimits {
    fn default() -> Self {
        Self { records_max: BATCH_RECORDS_MAX, depth_max: JSON_DEPTH_MAX }
    }
}

/// Checks that a text is one JSON value, with nothing but white space around it. `scratch` is work space.
///
/// Errors: [`Reject::Json`] with the offset in `text`.
pub fn check(text: &[u8], depth_max: usize, scratch: &mut Vec<Span>) -> Result<(), Reject> {
    let limits = SplitLimits { records_max: 1, depth_max };
    let is_line = memchr::memchr(b'\n', text).is_none();
    if is_line && Engine::best().split_lines_at_once(text, &limits, scratch).is_some() && scratch.len() == 1 {
        return Ok(());
    }
    reference::check_value(text, depth_max).map(drop)
}

/// Cuts newline-delimited JSON into the values on its lines, as [`Engine::split_lines`] does.
pub fn split_lines(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    Engine::best().split_lines(body, limits, out)
}

/// Cuts a JSON array into its elements: `out` then holds one span an element, in order, without the white
/// space around it. What was in `out` is gone; its capacity is kept.
///
/// Errors: [`Reject::Json`] with the offset in `body` if it is not JSON, [`Reject::Body`] if it is JSON and
/// no array, [`Reject::TooLarge`] over `records_max`. After an error `out` is empty.
pub fn split(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    Engine::best().split(body, limits, out)
}
