//! The splitter in scalar code, one value after the other: what the others are tested against, what says where and
//! why a body is wrong, and what runs where there are no vector instructions.

use super::{
    Span, SplitLimits,
    scalar::{self, Fault, Nesting, skip_space},
};
use crate::reject::{Reject, SizeLimit};

/// See [`super::split`].
pub(super) fn split(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    out.clear();
    let verdict = span_of(0, body.len()).and_then(|_| array(body, limits, out));
    if verdict.is_err() {
        out.clear();
    }
    verdict
}

/// See [`super::Engine::split_lines`].
pub(super) fn split_lines(body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
    out.clear();
    let verdict = span_of(0, body.len()).and_then(|_| lines(body, limits, out));
    if verdict.is_err() {
        out.clear();
    }
    verdict
}

/// Validates one JSON value with nothing but white space around it, and says where it stands.
pub(super) fn check_value(bytes: &[u8], depth_max: usize) -> Result<Span, Reject> {
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
