//! What a disk and one thread give: the bytes of records appended to a file, with one `fdatasync` per so many records.
//!
//! No framing, no index, no request: the upper bound of a store that syncs as often. Records of one sync are one write.

use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::json;
use sluicegate_perf::own_cpu;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// Appends to a file of its own, which is removed, and prints what it reached as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// Where the file is made.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Bytes of a record.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Records between two syncs.
    #[arg(long, default_value_t = 1_000)]
    records: usize,
    /// Seconds before the measured part.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let path = args.directory.join(format!("append-{}.dat", std::process::id()));
    let outcome = append(&args, &path);
    let _ = fs::remove_file(&path);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("append-file: {error}");
            ExitCode::FAILURE
        }
    }
}

fn append(args: &Args, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
    let block = vec![b'e'; args.size * args.records];
    let mut latency: Histogram<u64> =
        Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds in order, digits from 0 to 5");
    let warm = Instant::now() + Duration::from_secs_f64(args.warmup);
    while Instant::now() < warm {
        write_and_sync(&mut file, &block)?;
    }
    let (begin, before) = (Instant::now(), own_cpu());
    let end = begin + Duration::from_secs_f64(args.duration);
    let mut now = begin;
    while now < end {
        write_and_sync(&mut file, &block)?;
        let after = Instant::now();
        latency.saturating_record(u64::try_from((after - now).as_nanos()).unwrap_or(u64::MAX));
        now = after;
    }
    let (seconds, used) = ((now - begin).as_secs_f64(), own_cpu().saturating_sub(before).as_secs_f64());
    let records = (latency.len() * args.records as u64) as f64;
    let micros = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    let summary = json!({
        "command": "append-file", "size": args.size, "records_per_sync": args.records, "elapsed_s": seconds,
        "records": records, "records_per_s": records / seconds,
        "mb_per_s": records * args.size as f64 / seconds / 1e6,
        "latency_us": { "p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "p99.9": micros(0.999), "max": micros(1.0) },
        "cpu": { "generator_s": used, "generator_us_per_record": used * 1e6 / records.max(1.0) },
    });
    println!("{summary}");
    Ok(())
}

fn write_and_sync(file: &mut File, block: &[u8]) -> io::Result<()> {
    file.write_all(block)?;
    file.sync_data()
}
