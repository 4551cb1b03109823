//! `sluicegate bench produce|consume`: runs the load generator, shows its progress and prints its summary.

use super::{
    exit::{Exit, Failure},
    print::{complain, json, mutter, say},
};
use crate::bench::{self, BenchArgs, Plan};
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

/// Does what was asked. The exit code is 1 if one answer was not a success.
pub(super) fn run(args: BenchArgs) -> ExitCode {
    match measure(args) {
        Ok(true) => Exit::Ok.into(),
        Ok(false) => Exit::Failed.into(),
        Err(failure) => {
            complain(&format!("sluicegate bench: {failure}"));
            failure.exit.into()
        }
    }
}

/// Makes the run and prints its summary. Returns whether every answer was a success.
fn measure(args: BenchArgs) -> Result<bool, Failure> {
    let plan = Plan::try_from(args).map_err(Failure::usage)?;
    let progress = Progress { on_terminal: io::stderr().is_terminal(), always: plan.progress };
    let summary = bench::run(&plan, &mut |line| progress.show(line));
    progress.clear();
    let summary = summary.map_err(Failure::other)?;
    let text = if plan.json { json(&summary)? } else { summary.text() };
    say(&format!("{text}\n"))?;
    Ok(summary.is_clean())
}

/// The progress on standard error: one line that is renewed on a terminal, a line each elsewhere.
struct Progress {
    on_terminal: bool,
    /// Shown although standard error is no terminal.
    always: bool,
}

impl Progress {
    fn show(&self, line: &str) {
        if self.on_terminal {
            mutter(&format!("\r\x1b[K{line}"));
        } else if self.always {
            complain(line);
        }
    }

    /// Leaves a clean line behind.
    fn clear(&self) {
        if self.on_terminal {
            mutter("\r\x1b[K");
        }
    }
}
