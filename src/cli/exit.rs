//! Exit codes, after `sysexits.h`, and the failure that carries one.

use std::{fmt, process::ExitCode};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Another failure than those below.
    Failed,
    /// The command line or the configuration is wrong (`EX_USAGE`).
    Usage,
    /// The gateway or the broker cannot be reached (`EX_UNAVAILABLE`).
    Unavailable,
    /// Wrong user, password or rights (`EX_NOPERM`).
    NoPermission,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::NoPermission => 77,
        })
    }
}

/// Why a command failed, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What happened, and what to do. Never holds a secret.
    pub text: String,
}

impl Failure {
    /// A failure because the command line, the input or the configuration is wrong.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// A failure because nothing answers.
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, text: text.into() }
    }

    /// Any other failure.
    pub(super) fn other(text: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, text: text.into() }
    }

    /// The failure that an HTTP status stands for.
    pub(super) fn status(status: u16, text: impl Into<String>) -> Self {
        let exit = match status {
            401 | 403 => Exit::NoPermission,
            429 | 502..=504 => Exit::Unavailable,
            _ => Exit::Failed,
        };
        Self { exit, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
