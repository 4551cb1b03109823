//! Runs the cases and keeps a record of them.
//!
//! Each round runs every contender of a case once, one after the other, so that whatever the machine does besides falls
//! on all of them; the record holds medians over the rounds, and ratios are taken within a round. Programs are started
//! anew for every run, on free ports of the loopback; each case has a broker of its own, on a real disk, whose stream is
//! deleted after every run. What a run acknowledged must be stored, or the run is an error. CPU is the kernel's account
//! of each process over the measured part, read by the load generator itself at its two ends.
//!
//! A run that fails is left out and said at the end; the others go on.

mod broker;
mod case;
mod lab;
mod plot;
mod process;
mod report;
mod schema;

use broker::Broker;
use case::{BrokerKind, Case};
use clap::Parser;
use lab::Lab;
use process::{TempDir, refuse_memory};
use report::{Report, Results};
use sluicegate_perf::machine::Machine;
use std::{fs, io, path::PathBuf, process::ExitCode, time::Instant};

#[derive(Debug, Parser)]
struct Args {
    /// The gateway that is measured, which is the load generator as well.
    #[arg(long, env = "SLUICEGATE_BIN", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/dist/sluicegate"))]
    sluicegate: PathBuf,
    /// The broker.
    #[arg(long, env = "NATS_SERVER_BIN", default_value = "nats-server")]
    nats_server: PathBuf,
    /// The comparison programs are beside this one, if nothing else is said.
    #[arg(long)]
    programs_dir: Option<PathBuf>,
    /// Cases to run: files, or directories of them.
    #[arg(long, value_delimiter = ',', default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))]
    cases: Vec<PathBuf>,
    /// Drivers of the gateway.
    #[arg(long, value_delimiter = ',', default_values_t = ["io_uring".to_owned(), "epoll".to_owned()])]
    driver: Vec<String>,
    /// Shards of the gateway; what it chooses, if nothing is said.
    #[arg(long)]
    shards: Option<u16>,
    /// How often each program runs each case.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds measured, instead of what the case says. For trying out.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the broker and the gateway keep their data: on a disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/perf-work"))]
    work_dir: PathBuf,
    /// Where the record goes. The README beside that directory shows the last one.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/record"))]
    record_dir: PathBuf,
    /// Print the tables and keep no record.
    #[arg(long)]
    dry: bool,
}

fn main() -> ExitCode {
    match record(&Args::parse()) {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("record: {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; answers what failed.
fn record(args: &Args) -> io::Result<Vec<String>> {
    let begin = Instant::now();
    let cases = case::load_all(&args.cases, args.seconds)?;
    fs::create_dir_all(&args.work_dir)?;
    refuse_memory(&args.work_dir)?;
    let work = TempDir::new(&args.work_dir)?;
    let mut report = Report::new(Machine::look(), broker::version(&args.nats_server)?, args.driver.clone());
    let mut failures = Vec::new();
    for case in &cases {
        let case_begin = Instant::now();
        match run_case(args, &work, case, &mut failures) {
            Ok(results) => report.add(&results),
            Err(error) => failures.push(format!("{}: {error}", case.name)),
        }
        eprintln!("\r\x1b[K{}: {:.0} s", case.name, case_begin.elapsed().as_secs_f64());
    }
    report.seconds = begin.elapsed().as_secs();
    print!("{}", report.text());
    if !args.dry {
        for path in report.write(&args.record_dir)? {
            println!("written: {}", path.display());
        }
    }
    Ok(failures)
}

fn run_case<'a>(args: &Args, work: &TempDir, case: &'a Case, failures: &mut Vec<String>) -> io::Result<Results<'a>> {
    let contenders = case.contenders(&args.driver);
    let broker = Broker::start(&args.nats_server, &work.0, case.broker)?;
    let settle = case.broker != BrokerKind::Nats;
    let lab = Lab { args, work: &work.0, broker: broker.as_ref(), settle };
    let rate = lab::open_rate(&lab, case, &contenders)?;
    let mut outcomes = vec![Vec::new(); contenders.len()];
    for round in 0..args.rounds {
        for (contender, list) in contenders.iter().zip(&mut outcomes) {
            eprint!("\r\x1b[K{} round {} of {}: {contender}", case.name, round + 1, args.rounds);
            let outcome = lab.run(contender, rate);
            let note =
                |error: io::Error| failures.push(format!("{}, {contender}, round {}: {error}", case.name, round + 1));
            list.push(outcome.map_err(note).ok());
        }
    }
    broker.map_or(Ok(()), Broker::stop)?;
    Ok(Results { case, contenders, outcomes })
}
