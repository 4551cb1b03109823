//! What runs came to, and how a record is written: one row for a program in a case, medians over its rounds.

use crate::machine::Machine;
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Numbers of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Acknowledged.
    pub records_per_s: f64,
    /// Of a request; of the native publisher, from write to acknowledgement of a message.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// See `p50_us`.
    pub p99_9_us: f64,
    /// CPU of the program that is measured, a record.
    pub program_us: f64,
    /// Of which in the kernel, from 0 to 1.
    pub program_kernel_share: f64,
    /// CPU of the broker, a record.
    pub nats_us: f64,
    /// CPU of the load generator, a record.
    pub generator_us: f64,
}

impl Outcome {
    /// From the summary of `bench --account GATEWAY,BROKER --json`.
    pub fn of_gateway(summary: &Value) -> io::Result<Self> {
        let kernel = number(summary, "/cpu/processes/0/system_s")?;
        let user = number(summary, "/cpu/processes/0/user_s")?;
        Ok(Self {
            program_us: number(summary, "/cpu/processes/0/us_per_record")?,
            program_kernel_share: kernel / (kernel + user).max(1e-9),
            nats_us: number(summary, "/cpu/processes/1/us_per_record")?,
            generator_us: number(summary, "/cpu/generator_us_per_record")?,
            ..Self::common(summary)?
        })
    }

    /// From what `native-publisher --account BROKER` prints: it is its own generator.
    pub fn of_native(summary: &Value) -> io::Result<Self> {
        Ok(Self {
            program_us: number(summary, "/cpu/generator_us_per_record")?,
            nats_us: number(summary, "/cpu/processes/0/us_per_record")?,
            ..Self::common(summary)?
        })
    }

    fn common(summary: &Value) -> io::Result<Self> {
        Ok(Self {
            records_per_s: number(summary, "/records_per_s")?,
            p50_us: number(summary, "/latency_us/p50")?,
            p99_us: number(summary, "/latency_us/p99")?,
            p99_9_us: number(summary, "/latency_us/p99.9")?,
            program_us: 0.0,
            program_kernel_share: 0.0,
            nats_us: 0.0,
            generator_us: 0.0,
        })
    }
}

/// Medians of a program in a case.
#[derive(Debug, Clone)]
pub struct Row {
    case: String,
    program: String,
    driver: String,
    rounds: usize,
    median: Outcome,
    /// Least and greatest rate of the rounds.
    spread: (f64, f64),
    /// Median of the rate as a part of the native publisher's in the same round.
    ratio: f64,
    /// The same of the program's CPU a record.
    cpu_ratio: f64,
}

impl Row {
    /// From the rounds of a program and those of the native publisher.
    #[must_use]
    pub fn new(case: &str, program: &str, driver: String, rounds: &[Outcome], native: &[Outcome]) -> Self {
        let of = |field: fn(&Outcome) -> f64| median(rounds.iter().map(field).collect());
        let against = |field: fn(&Outcome) -> f64| {
            median(rounds.iter().zip(native).map(|(own, native)| field(own) / field(native).max(1e-9)).collect())
        };
        let rates = || rounds.iter().map(|outcome| outcome.records_per_s);
        Self {
            case: case.to_owned(),
            program: program.to_owned(),
            driver,
            rounds: rounds.len(),
            median: Outcome {
                records_per_s: of(|outcome| outcome.records_per_s),
                p50_us: of(|outcome| outcome.p50_us),
                p99_us: of(|outcome| outcome.p99_us),
                p99_9_us: of(|outcome| outcome.p99_9_us),
                program_us: of(|outcome| outcome.program_us),
                program_kernel_share: of(|outcome| outcome.program_kernel_share),
                nats_us: of(|outcome| outcome.nats_us),
                generator_us: of(|outcome| outcome.generator_us),
            },
            spread: (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)),
            ratio: against(|outcome| outcome.records_per_s),
            cpu_ratio: against(|outcome| outcome.program_us),
        }
    }
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), middle.checked_sub(1).and_then(|below| values.get(below))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => f64::midpoint(*upper, *lower),
        (Some(upper), _) => *upper,
        (None, _) => 0.0,
    }
}

fn number(summary: &Value, path: &str) -> io::Result<f64> {
    summary.pointer(path).and_then(Value::as_f64).ok_or_else(|| io::Error::other(format!("no {path} in a summary")))
}

/// The rows for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10} {:<24} {:<9} {:>12} {:>7} {:>10} {:>10} {:>10} {:>9} {:>7} {:>9} {:>9}\n",
        "case",
        "program",
        "driver",
        "records/s",
        "ratio",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "CPU us/r",
        "ratio",
        "nats us/r",
        "gen us/r"
    );
    for row in rows {
        let median = &row.median;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<10} {:<24} {:<9} {:>12.0} {:>7.3} {:>10.0} {:>10.0} {:>10.0} {:>9.3} {:>7.2} {:>9.3} {:>9.3}",
            row.case,
            row.program,
            row.driver,
            median.records_per_s,
            row.ratio,
            median.p50_us,
            median.p99_us,
            median.p99_9_us,
            median.program_us,
            row.cpu_ratio,
            median.nats_us,
            median.generator_us
        );
    }
    text
}

/// Appends the rows to the record of this day and machine; the path of the file.
pub fn write_csv(directory: &Path, machine: &Machine, nats: &str, rows: &[Row]) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{}-{}.csv", machine.date, machine.name()));
    let is_new = !path.exists();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
    if is_new {
        writeln!(file, "{HEADER}")?;
    }
    for row in rows {
        let median = &row.median;
        writeln!(
            file,
            "{},{},{},{},{nats},{},{},{},{},{:.0},{:.0},{:.0},{:.4},{:.1},{:.1},{:.1},{:.4},{:.3},{:.4},{:.4},{:.4}",
            machine.commit,
            machine.kernel,
            machine.cpu.replace(',', " "),
            machine.cores,
            row.driver,
            row.case,
            row.program,
            row.rounds,
            median.records_per_s,
            row.spread.0,
            row.spread.1,
            row.ratio,
            median.p50_us,
            median.p99_us,
            median.p99_9_us,
            median.program_us,
            median.program_kernel_share,
            row.cpu_ratio,
            median.nats_us,
            median.generator_us
        )?;
    }
    Ok(path)
}

/// Columns of a record. New ones go to the end.
const HEADER: &str = "commit,kernel,cpu,cores,nats,driver,case,program,rounds,records_per_s,records_per_s_min,\
    records_per_s_max,rate_ratio_to_native,p50_us,p99_us,p99.9_us,program_cpu_us_per_record,program_kernel_share,\
    cpu_ratio_to_native,nats_cpu_us_per_record,generator_cpu_us_per_record";

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rate: f64, cpu: f64) -> Outcome {
        Outcome {
            records_per_s: rate,
            p50_us: 1.0,
            p99_us: 2.0,
            p99_9_us: 3.0,
            program_us: cpu,
            program_kernel_share: 0.5,
            nats_us: 3.0,
            generator_us: 0.1,
        }
    }

    #[test]
    fn a_row_is_medians_and_its_ratio_is_of_rounds() {
        let native = [outcome(100.0, 1.0), outcome(200.0, 1.0), outcome(400.0, 2.0)];
        let own = [outcome(90.0, 3.0), outcome(100.0, 2.0), outcome(380.0, 2.0)];
        let row = Row::new("c", "p", String::new(), &own, &native);
        assert_eq!((row.median.records_per_s, row.median.program_us), (100.0, 2.0));
        assert_eq!((row.ratio, row.cpu_ratio, row.spread), (0.9, 2.0, (90.0, 380.0)));
    }

    #[test]
    fn a_median_is_in_the_middle() {
        for (values, expect) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![4.0, 2.0], 3.0), (vec![9.0, 1.0, 5.0], 5.0)] {
            assert_eq!(median(values.clone()), expect, "{values:?}");
        }
    }

    #[test]
    fn a_record_has_as_many_fields_as_columns() {
        let directory = std::env::temp_dir().join(format!("sluicegate-perf-{}", std::process::id()));
        let machine = Machine {
            date: "2026-01-31".to_owned(),
            commit: "abc".to_owned(),
            kernel: "6".to_owned(),
            cpu: "A, B".to_owned(),
            cores: 2,
        };
        let rows = [Row::new("c", "p", "epoll".to_owned(), &[outcome(1.0, 1.0)], &[outcome(1.0, 1.0)])];
        for _ in 0..2 {
            write_csv(&directory, &machine, "2.15.1", &rows).unwrap();
        }
        let path = directory.join("2026-01-31-linux-6-a-b-2c.csv");
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let counts: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(counts, [21, 21, 21]);
    }
}
