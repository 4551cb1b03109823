//! Cuts a batch into its records without touching a byte of them.
//!
//! A batch is one JSON array; a record is the exact source text of one element, as a [`Span`] of the
//! body. Every element is validated on the way (RFC 8259), so that what is stored is JSON; nothing is
//! decoded, copied or written anew: big integers, key order, duplicate keys and inner white space survive.
//!
//! What is accepted is what `serde_json` accepts as a raw value (decision 10), down to the corners:
//! `\u` escapes need four hexadecimal digits but may be lone surrogates, numbers may be of any size.
//! The one difference is depth: an element may nest at most [`SplitLimits::depth_max`] containers
//! (`1` is 0 deep, `[]` and `{}` are 1 deep; the batch's own brackets do not count).
//!
//! Invariants: no recursion, no allocation besides the spans, time linear in the body; after an error
//! there are no spans. Deliberately absent: values. Whoever needs a field parses the record.

mod fuzz;
mod scalar;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;

pub use fuzz::{fuzz_lines, fuzz_split};

use super::Span;
use crate::{
    limits::{BATCH_RECORDS_MAX, JSON_DEPTH_MAX},
    reject::{Reject, SizeLimit},
};
use scalar::{Fault, Nesting, skip_space};

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

/// Cuts a JSON array into its elements: `out` then holds one span an element, in order, without the white
/// space around it. What was in `out` is gone; its capacity is kept.
///
/// Errors: [`Reject::Json`] with the offset in `body` if it is not JSON, [`Reject::Body`] if it is JSON and
/// no array, [`Reject::TooLarge`] over `records_max`. After an error `out` is empty.
pub fn split(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    out.clear();
    let verdict = span_of(0, body.len()).and_then(|_| array(body, limits, out));
    if verdict.is_err() {
        out.clear();
    }
    verdict
}

/// Cuts newline-delimited JSON into its lines: one span a line, without the white space around its value.
/// Blank lines are skipped, `\r\n` ends a line as `\n` does, and the last line needs no end.
///
/// Errors as of [`split`], offsets in `body`. After an error `out` is empty.
pub fn split_lines(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    out.clear();
    let verdict = span_of(0, body.len()).and_then(|_| lines(body, limits, out));
    if verdict.is_err() {
        out.clear();
    }
    verdict
}

/// Validates one JSON value with nothing but white space around it, and says where it stands.
pub fn check_value(bytes: &[u8], depth_max: usize) -> Result<Span, Reject> {
    no_byte_order_mark(bytes)?;
    let (start, end) = whole_value(bytes, &mut Nesting::new(depth_max)).map_err(reject)?;
    span_of(start, end)
}

/// The body as one array.
fn array(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    no_byte_order_mark(body)?;
    let mut nesting = Nesting::new(limits.depth_max);
    let mut at = skip_space(body, 0);
    if body.get(at) != Some(&b'[') {
        // Say first what is wrong with the JSON, then that it is the wrong JSON.
        whole_value(body, &mut nesting).map_err(reject)?;
        return Err(Reject::Body("the body must be an array of JSON values"));
    }
    at = skip_space(body, at + 1);
    if body.get(at) == Some(&b']') {
        return nothing_after(body, at + 1).map_err(reject);
    }
    loop {
        let end = scalar::value(body, at, &mut nesting).map_err(reject)?;
        push(at, end, limits, out)?;
        at = skip_space(body, end);
        match body.get(at) {
            Some(b',') => at = skip_space(body, at + 1),
            Some(b']') => return nothing_after(body, at + 1).map_err(reject),
            found => return Err(reject(scalar::separator_fault(found.copied(), at, false))),
        }
    }
}

/// The body line by line.
fn lines(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    no_byte_order_mark(body)?;
    let mut nesting = Nesting::new(limits.depth_max);
    let mut line_start = 0;
    while let Some(rest) = body.get(line_start..).filter(|rest| !rest.is_empty()) {
        let line = memchr::memchr(b'\n', rest).and_then(|length| rest.get(..length)).unwrap_or(rest);
        if skip_space(line, 0) < line.len() {
            let (start, end) = whole_value(line, &mut nesting)
                .map_err(|fault| reject(Fault { offset: line_start + fault.offset, ..fault }))?;
            push(line_start + start, line_start + end, limits, out)?;
        }
        line_start += line.len() + 1;
    }
    Ok(())
}

/// One value and nothing but white space around it.
fn whole_value(bytes: &[u8], nesting: &mut Nesting) -> Result<(usize, usize), Fault> {
    let start = skip_space(bytes, 0);
    if start == bytes.len() {
        return Err(Fault { offset: start, reason: "there is nothing here, expected a JSON value" });
    }
    let end = scalar::value(bytes, start, nesting)?;
    nothing_after(bytes, end)?;
    Ok((start, end))
}

fn nothing_after(bytes: &[u8], at: usize) -> Result<(), Fault> {
    let offset = skip_space(bytes, at);
    if offset == bytes.len() {
        return Ok(());
    }
    Err(Fault { offset, reason: "expected nothing after the end of the JSON value" })
}

fn no_byte_order_mark(bytes: &[u8]) -> Result<(), Reject> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Reject::Json { offset: 0, reason: "a byte order mark, which JSON must not begin with" });
    }
    Ok(())
}

#[inline]
fn push(start: usize, end: usize, limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    if out.len() >= limits.records_max {
        return Err(Reject::TooLarge(SizeLimit::BatchRecords, limits.records_max as u64));
    }
    out.push(span_of(start, end)?);
    Ok(())
}

/// Offsets are 32 bits wide; `limits` keeps bodies far below, so this refuses only a caller's mistake.
#[inline]
fn span_of(start: usize, end: usize) -> Result<Span, Reject> {
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) => Ok(Span { start, end }),
        _ => Err(Reject::TooLarge(SizeLimit::Inflated, u64::from(u32::MAX))),
    }
}

fn reject(fault: Fault) -> Reject {
    Reject::Json { offset: fault.offset as u64, reason: fault.reason }
}
