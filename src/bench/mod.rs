//! `sluicegate bench produce|consume`: how much a gateway takes, and how long it makes a client wait.
//!
//! A load generator in the spirit of `nats bench` and `redis-benchmark`, built so that it is not itself the limit: one
//! thread by default, readiness from epoll, requests put together from parts that were encoded beforehand,
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
//! It is a program of its own behind the subcommand `bench`: it takes a [`Plan`] and returns a [`Summary`]. It prints
//! nothing and knows no exit code; `cli/bench.rs` does both.
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

pub(crate) use args::{BenchArgs, Plan};
pub(crate) use report::Summary;

use std::sync::{Arc, atomic::AtomicBool};

/// Runs the load that `plan` describes. `show` gets a line about its progress, twice a second. The first interrupt ends
/// the run early, with a summary; a second one ends the process. An error says why the run could not be made: requests
/// that failed are in the summary.
pub(crate) fn run(plan: &Plan, show: &mut dyn FnMut(&str)) -> Result<Summary, String> {
    session::run(plan, &*stop_on_interrupt()?, show)
}

/// Returns what the first interrupt sets.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| error.to_string())?;
    }
    Ok(stop)
}
