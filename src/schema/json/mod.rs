//! JSON Schema, drafts 4, 6, 7, 2019-09 and 2020-12 (which is meant where `$schema` is absent).
//!
//! A record is read into a tape (`read`, `tape`), over which the validator of the `jsonschema` crate walks
//! (`instance`). What a schema may do is looked at before it is compiled (`guard`); what a record makes it do is
//! counted while it is checked (`meter`).

mod complexity;
mod decimal;
mod equality;
mod exact;
mod fuel;
#[cfg(test)]
mod hostile_tests;
mod instance;
mod keywords;
mod number;
mod pattern;
mod preview;
mod read;
#[cfg(test)]
mod suite_tests;
mod tape;
#[cfg(test)]
mod tests;

pub(in crate::schema) use decimal::Decimal;
pub(in crate::schema) use read::{Scratch, read};
pub(in crate::schema) use tape::{Kind, Tape};

use super::{CompileError, Violation};
use crate::limits::{
    SCHEMA_JSON_BYTES_MAX, SCHEMA_JSON_PATTERN_BYTES_MAX, SCHEMA_JSON_PATTERN_CACHE_BYTES, SCHEMA_JSON_VALUES_MAX,
    VIOLATION_FAULT_BYTES_MAX, VIOLATION_FAULTS_MAX,
};
use exact::Exact;
use fuel::Prices;
use instance::{TapeJson, TapeNode};
use jsonschema::{PatternOptions, ValidationError, ValidationOptions, Validator, error::ValidationErrorKind};
use pattern::Rewritten;
use read::Unreadable;
use serde_json::Value;
use std::{
    fmt::{self, Write},
    sync::Arc,
};

/// The smallest bound that is tried for an automaton.
const PATTERN_BYTES_MIN: usize = 1024;
/// Bytes of automaton that make four bytes of text dearer by one unit. Measured: text without a pattern of its own
/// takes, for each of its bytes, 0.26 µs against 4 KiB of automaton, 3 µs against 64 KiB and 14 µs against 256 KiB.
const PATTERN_BYTES_PER_UNIT: usize = 12;
/// The same for automata of the smallest size, which never get out of step: 5 ns a byte.
const TEXT_UNITS_MIN: usize = 2;
/// Keywords that make a value dearer by one unit.
const KEYWORDS_PER_UNIT: u64 = 4;

/// A compiled schema.
#[derive(Debug)]
pub struct JsonSchema {
    validator: Validator<TapeJson>,
    prices: Prices,
    /// Numbers that are not in the tree that was compiled; `None`: it has all of them.
    exact: Option<Arc<Exact>>,
    /// What its patterns were before they were rewritten for the engine.
    rewritten: Rewritten,
}

impl JsonSchema {
    /// Compiles. The error says what is wrong with the schema, and where in it.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        if text.len() > SCHEMA_JSON_BYTES_MAX {
            return Err(CompileError(format!("the schema is longer than {SCHEMA_JSON_BYTES_MAX} bytes")));
        }
        // serde_json refuses what nests deeper than 128.
        let (mut schema, exact) = exact::parse(text)?;
        let exact = Arc::new(exact);
        let mut rewritten = Rewritten::new();
        pattern::rewrite(&mut schema, &mut rewritten)
            .map_err(|unusable| CompileError(Violation::one(&unusable.path, unusable.text).to_string()))?;
        let facts = complexity::examine(&schema).map_err(CompileError)?;
        let (validator, pattern_bytes) = build(&schema, &exact, &rewritten, facts.patterns > 0)?;
        let text = match pattern_bytes {
            0 => 1,
            1..=PATTERN_BYTES_MIN => TEXT_UNITS_MIN,
            more => more / PATTERN_BYTES_PER_UNIT,
        };
        let prices = Prices {
            value: u32::try_from(1 + facts.in_place / KEYWORDS_PER_UNIT).unwrap_or(u32::MAX),
            text: u32::try_from(text).unwrap_or(u32::MAX),
        };
        Ok(Self { validator, prices, exact: Some(exact).filter(|exact| !exact.is_empty()), rewritten })
    }

    /// Holds a record against it. A valid record costs no allocation, but for schemas that refer to themselves.
    pub fn check(&self, record: &[u8], scratch: &mut Scratch) -> Result<(), Violation> {
        let mut tape = read(record, scratch).map_err(|unreadable| told(&unreadable))?;
        tape.exact = self.exact.as_deref();
        fuel::begin(self.prices);
        let valid = self.validator.is_valid(TapeNode::root(&tape));
        if fuel::is_empty() {
            return Err(Violation::one("", TOO_MUCH));
        }
        if valid { Ok(()) } else { Err(self.faults(TapeNode::root(&tape))) }
    }

    /// All that is wrong with a record, as far as the fuel lasts.
    #[cold]
    fn faults(&self, record: TapeNode<'_>) -> Violation {
        fuel::begin(self.prices);
        let errors = self.validator.iter_errors(record);
        let mut violation = Violation { faults: Vec::new(), more: 0 };
        for error in errors.filter(|error| !preview::is_void(error.instance())) {
            if violation.faults.len() < VIOLATION_FAULTS_MAX {
                violation.add(cut(error.instance_path()), self.words(&error));
            } else {
                violation.more += 1;
            }
        }
        if violation.faults.is_empty() {
            violation
                .add(String::new(), "it does not match the schema, and it needs too much work to say where".to_owned());
        }
        violation
    }

    /// What is wrong, of a bounded length.
    fn words(&self, error: &ValidationError<'_>) -> String {
        match (error.kind(), &self.exact) {
            // The crate's own text counts the elements of what is shown, which may be cut.
            (ValidationErrorKind::AdditionalItems { limit }, _) => format!("more than {limit} items are not allowed"),
            // And shows the numbers of the tree.
            (ValidationErrorKind::Enum { options }, Some(exact)) => {
                cut(&format_args!("{} is none of {}", error.instance(), exact.show(options)))
            }
            (ValidationErrorKind::Pattern { pattern }, _) => match self.rewritten.get(pattern) {
                Some(written) => {
                    cut(&format_args!("{} does not match {}", error.instance(), Value::from(written.as_str())))
                }
                None => cut(error),
            },
            _ => cut(error),
        }
    }
}

const TOO_MUCH: &str = "it needs too much work to validate";

/// The validator, and the bytes of its largest pattern's automaton, to a power of two.
fn build(
    schema: &Value,
    exact: &Arc<Exact>,
    rewritten: &Rewritten,
    has_patterns: bool,
) -> Result<(Validator<TapeJson>, usize), CompileError> {
    let mut bytes = if has_patterns { PATTERN_BYTES_MIN } else { 0 };
    loop {
        let patterns = PatternOptions::regex()
            .size_limit(bytes.max(PATTERN_BYTES_MIN))
            .dfa_size_limit(SCHEMA_JSON_PATTERN_CACHE_BYTES);
        let built = keywords::install(ValidationOptions::default(), exact)
            .with_retriever(complexity::NothingElse)
            .with_pattern_options(patterns)
            .should_validate_formats(false)
            .without_content_media_type_support("application/json")
            .without_content_encoding_support("base64")
            .build(schema);
        match built {
            Ok(validator) => return Ok((validator, bytes)),
            // The error does not say that it is for the size, so larger ones are tried.
            Err(_) if has_patterns && bytes < SCHEMA_JSON_PATTERN_BYTES_MAX => bytes *= 2,
            Err(error) => return Err(CompileError(refusal(&error, rewritten))),
        }
    }
}

/// What the compiler says, and where in the schema.
fn refusal(error: &ValidationError<'_>, rewritten: &Rewritten) -> String {
    let text = match error.kind() {
        ValidationErrorKind::Referencing(error) => complexity::reason(error),
        ValidationErrorKind::Format { format } if format == "regex" => {
            error.instance().as_str().map_or_else(|| error.to_string(), |pattern| pattern::reason(pattern, rewritten))
        }
        _ => error.to_string(),
    };
    let path = error.instance_path().as_str();
    let cut = Violation::one(path, text);
    cut.to_string()
}

/// The beginning of a text, which is not written further than a fault may be long.
fn cut(text: &dyn fmt::Display) -> String {
    let mut bounded = Bounded(String::new());
    // An error only says that it is longer.
    let _ = write!(bounded, "{text}");
    bounded.0
}

/// Refuses to be written to when it is longer than a fault may be.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (VIOLATION_FAULT_BYTES_MAX + 1).saturating_sub(self.0.len());
        let end = super::violation::whole_chars(text, room);
        self.0.push_str(text.get(..end).unwrap_or(""));
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cold]
fn told(unreadable: &Unreadable) -> Violation {
    match unreadable {
        Unreadable::Malformed { at, reason } => Violation::one("", format!("Bad JSON format - {reason} at byte {at}")),
        Unreadable::TooMany => Violation::one(
            "",
            format!("it has more than {SCHEMA_JSON_VALUES_MAX} values, which is too much to validate"),
        ),
    }
}
