//! What is said about a configuration: where a value was written, what is wrong with it, what to do.
//!
//! All problems are collected before any is reported, so that one attempt shows them all. Nothing
//! here ever holds the value of a secret: whoever makes a [`Problem`] has masked it.

use crate::record::headers::InvalidRule;
use std::fmt;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In the configuration file.
    File {
        /// The file as it was named.
        path: String,
        /// Line, from 1; 0 where it is not known.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// As this flag.
    Flag(String),
    /// Made by the gateway itself and kept in this file.
    Generated(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line: 0 } => write!(formatter, "{path}"),
            Self::File { path, line } => write!(formatter, "{path}, line {line}"),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(flag) => write!(formatter, "flag {flag}"),
            Self::Generated(path) => write!(formatter, "generated, kept in {path}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, naming the setting.
    pub what: String,
    /// Where it was written; `None` where the fault is that it was not.
    pub origin: Option<Origin>,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong with a configuration: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.problems.len() == 1 { "problem" } else { "problems" };
        write!(formatter, "{} {plural} in the configuration; nothing was started.", self.problems.len())?;
        for (index, problem) in self.problems.iter().enumerate() {
            write!(formatter, "\n\n{:>3}. {}", index + 1, problem.what)?;
            if let Some(origin) = &problem.origin {
                write!(formatter, "\n     written:  {origin}")?;
            }
            write!(formatter, "\n     to do:    {}", problem.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Something worth saying about a configuration that works. Logged once logging runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub level: NoticeLevel,
    /// One sentence.
    pub text: String,
}

/// How much a [`Notice`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// Probably not what was meant, or not safe enough for production.
    Warning,
}

impl Notice {
    /// Good to know.
    pub(super) fn info(text: impl Into<String>) -> Self {
        Self { level: NoticeLevel::Info, text: text.into() }
    }

    /// Probably not what was meant.
    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { level: NoticeLevel::Warning, text: text.into() }
    }
}

/// Why a written value is none: what it is ("\"abc\" is no time") and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// Follows the setting's name in the message.
    pub(super) wrong: String,
    /// What to do.
    pub(super) remedy: String,
}

impl Bad {
    pub(super) fn new(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), remedy: remedy.into() }
    }
}

impl From<InvalidRule> for Bad {
    fn from(InvalidRule { wrong, remedy }: InvalidRule) -> Self {
        Self { wrong, remedy }
    }
}
