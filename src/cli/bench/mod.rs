//! `sluicegate bench produce|consume`: how much a gateway takes, and how long it makes a client wait.
//!
//! A load generator in the spirit of `nats bench` and `redis-benchmark`, made so that it is not itself the limit: one
//! thread unless told otherwise, readiness from epoll, requests put together from parts that were encoded beforehand,
//! responses read by a parser that knows no more than it needs, no allocation per request.
//!
//! - **Closed loop** (default): each connection sends the next request when an answer has come. It finds the greatest
//!   rate. Its latencies are those of a client that waits, and say nothing about a client that does not.
//! - **Open loop** (`--rate`): requests are due at fixed times, and a latency counts from the time at which the
//!   request was *due*. So a stall of the server shows in every request that it held up, sent or not.
//!
//! The measured part begins after `--warmup`, takes the requests that begin in it, and ends with their last answer.
//! CPU is read from the kernel's accounting at its two ends: of the generator, and of each process in `--account`.
//!
//! Deliberately absent: TLS, HTTP/2, redirects, cookies. What is measured is a gateway, on its plain port.

mod account;
mod args;
mod connection;
mod count;
mod payload;
mod progress;
mod report;
mod request;
mod response;
mod schedule;
mod session;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod worker;

pub use args::BenchArgs;

use args::Plan;
use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

/// Runs the load that `args` describe, prints the summary on standard output, and answers what the process should exit
/// with: 0 if every response was a success, 1 if one was not or the run could not be made, 64 for arguments that
/// contradict each other.
#[must_use]
pub fn run(args: BenchArgs) -> ExitCode {
    let plan = match Plan::try_from(args) {
        Ok(plan) => plan,
        Err(mistake) => {
            complain(&mistake);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let outcome = stop_on_interrupt().and_then(|stop| session::run(&plan, &stop));
    match outcome {
        Ok(summary) => {
            if let Err(unwritten) = report::print(&summary, plan.json) {
                complain(&unwritten.text);
                return ExitCode::FAILURE;
            }
            if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The first interrupt ends the run early, with a summary; a second one ends the process.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| error.to_string())?;
    }
    Ok(stop)
}

/// Exit code for arguments that cannot be meant, as everywhere in the program.
const EXIT_USAGE: u8 = 64;

fn complain(text: &str) {
    super::print::complain(&format!("sluicegate bench: {text}"));
}
