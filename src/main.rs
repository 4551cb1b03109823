//! Sluicegate: records in over HTTP, acknowledged, into durable streams; and out again.
//!
//! The command line is read in `cli`, the process is started and stopped in `gateway`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluicegate::cli::main()
}
