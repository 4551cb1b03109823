//! What is wrong with a record, in words that hold for all schema languages.
//!
//! The text never holds a path of this machine, and at most [`VIOLATION_FAULT_BYTES_MAX`] bytes: values are cut.

use crate::limits::{VIOLATION_FAULT_BYTES_MAX, VIOLATION_FAULTS_MAX};
use std::fmt;

/// Bytes of whole characters that a text begins with, at most so many.
pub(super) fn whole_chars(text: &str, bytes_max: usize) -> usize {
    (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Cuts a text that has more bytes than this, and marks that it was cut.
pub fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(whole_chars(text, bytes_max));
        text.push('…');
    }
}

/// One fault of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the record: a JSON Pointer, a field's path, a line and column; empty for the record as a whole.
    pub path: String,
    /// What is wrong there.
    pub text: String,
}

/// Why a record is not valid: at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// In the order in which they were found; at most [`VIOLATION_FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// Faults that were found beyond these.
    pub more: usize,
}

impl Violation {
    /// A violation of one fault.
    pub(super) fn one(path: impl Into<String>, text: impl Into<String>) -> Self {
        let mut violation = Self { faults: Vec::new(), more: 0 };
        violation.add(path.into(), text.into());
        violation
    }

    /// Adds a fault, its text cut to its limit.
    pub(super) fn add(&mut self, path: String, mut text: String) {
        if self.faults.len() >= VIOLATION_FAULTS_MAX {
            self.more += 1;
            return;
        }
        cut(&mut text, VIOLATION_FAULT_BYTES_MAX);
        self.faults.push(Fault { path, text });
    }
}

/// The faults one after the other: `'/n': 1.5 is not of type "integer"; 'x' is a required property; and 3 more`.
impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { path, text }) in self.faults.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            if path.is_empty() {
                write!(formatter, "{between}{text}")?;
            } else {
                write!(formatter, "{between}'{path}': {text}")?;
            }
        }
        if self.more > 0 {
            write!(formatter, "; and {} more", self.more)?;
        }
        Ok(())
    }
}
