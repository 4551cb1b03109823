//! Entry points for fuzzing: whatever the bytes are, every engine says what the scalar one says, and that is what
//! `serde_json` says.
//!
//! They stand beside the code so that a fuzz target is one line; the property tests use them too.

use super::{Engine, Span, SplitLimits, scalar::TOO_DEEP};
use crate::{limits::JSON_DEPTH_MAX, reject::Reject};
use serde_json::value::RawValue;

/// Splits `data` and panics unless `serde_json` accepts and rejects the same, with the same element texts.
/// Nesting beyond the limit is the one permitted difference, and then it must be beyond the limit.
#[doc(hidden)]
pub fn fuzz_split(data: &[u8]) {
    let (ours, spans) = agreed(|engine, spans| engine.split(data, &UNBOUNDED, spans));
    let theirs = serde_json::from_slice::<Vec<&RawValue>>(data);
    match (ours, theirs) {
        (Ok(()), Ok(values)) => {
            assert_eq!(spans.len(), values.len(), "as many elements as serde_json finds");
            at_once(|engine, spans| engine.split_at_once(data, &UNBOUNDED, spans));
            for (span, value) in spans.iter().zip(values) {
                assert_eq!(span.of(data), value.get().as_bytes(), "the same text of an element");
                assert_eq!(data.as_ptr_range().start.wrapping_add(span.start as usize), value.get().as_ptr());
            }
        }
        (Err(Reject::Json { offset, reason }), theirs) => {
            assert!(spans.is_empty(), "no spans after an error");
            assert!(offset <= data.len() as u64, "the offset lies in the text");
            if reason == TOO_DEEP {
                let upto = usize::try_from(offset).unwrap_or(data.len());
                assert!(depth_at(data, upto) > JSON_DEPTH_MAX, "what is called too deep is");
            } else {
                assert!(theirs.is_err(), "serde_json rejects too: {reason} at {offset}");
            }
        }
        (Err(Reject::Body(_)), Err(_)) => {
            assert!(serde_json::from_slice::<&RawValue>(data).is_ok(), "no array, and JSON nevertheless");
        }
        (ours, theirs) => panic!("{ours:?} against {theirs:?}"),
    }
}

/// As [`fuzz_split`], line by line.
#[doc(hidden)]
pub fn fuzz_lines(data: &[u8]) {
    let (ours, spans) = agreed(|engine, spans| engine.split_lines(data, &UNBOUNDED, spans));
    let blank = |line: &&[u8]| !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    let theirs: Result<Vec<&RawValue>, _> =
        data.split(|byte| *byte == b'\n').filter(blank).map(serde_json::from_slice::<&RawValue>).collect();
    match (ours, theirs) {
        (Ok(()), Ok(values)) => {
            let texts: Vec<&[u8]> = spans.iter().map(|span| span.of(data)).collect();
            let expect: Vec<&[u8]> = values.iter().map(|value| value.get().as_bytes()).collect();
            assert_eq!(texts, expect, "the same text of each line");
            at_once(|engine, spans| engine.split_lines_at_once(data, &UNBOUNDED, spans));
        }
        (Err(Reject::Json { reason, .. }), theirs) => {
            assert!(reason == TOO_DEEP || theirs.is_err(), "serde_json rejects too: {reason}");
        }
        (ours, theirs) => panic!("{ours:?} against {theirs:?}"),
    }
}

const UNBOUNDED: SplitLimits = SplitLimits { records_max: usize::MAX, depth_max: JSON_DEPTH_MAX };

/// What all engines say; panics unless they agree to the last word.
pub(super) fn agreed(run: impl Fn(Engine, &mut Vec<Span>) -> Result<(), Reject>) -> (Result<(), Reject>, Vec<Span>) {
    let verdicts = Engine::all().into_iter().map(|engine| {
        // What was in the vector must not matter.
        let mut spans = vec![Span { start: 7, end: 9 }];
        (run(engine, &mut spans), spans, engine)
    });
    let first = verdicts.reduce(|one, other| {
        assert_eq!((&one.0, &one.1), (&other.0, &other.1), "{:?} and {:?} agree", one.2, other.2);
        one
    });
    let (verdict, spans, _) = first.expect("the scalar engine is always there");
    (verdict, spans)
}

/// Panics unless every blockwise engine takes what is right without the scalar one, which would only cost time.
fn at_once(run: impl Fn(Engine, &mut Vec<Span>) -> Option<()>) {
    for engine in Engine::all().into_iter().skip(1) {
        assert!(run(engine, &mut Vec::new()).is_some(), "{engine:?} takes what is right");
    }
}

/// How many containers are open in one element of a batch, with the one that begins at `upto`.
fn depth_at(data: &[u8], upto: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in data.iter().take(upto + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // The batch's own bracket does not count; a body that is no array has none.
    let is_array = data.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    depth - usize::from(is_array && depth > 0)
}
