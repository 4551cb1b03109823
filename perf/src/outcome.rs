//! What a run came to, and what several of them do: medians, and ratios within a round.

use serde::Deserialize;
use serde_json::Value;
use std::{fmt, io};

/// Numbers of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Acknowledged.
    pub records_per_s: f64,
    /// Of a request; of the native publisher, from write (open loop: from when it was due) to acknowledgement of a message.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// See `p50_us`.
    pub p99_9_us: f64,
    /// CPU of the program that is measured, a record.
    pub program_us: f64,
    /// Of which in the kernel, from 0 to 1.
    pub program_kernel_share: f64,
    /// CPU of the broker, a record; 0 without a broker.
    pub nats_us: f64,
    /// CPU of the load generator, a record.
    pub generator_us: f64,
    /// Resident memory of the gateway at the end of the load, in MiB.
    pub rss_mib: f64,
    /// The same at its highest.
    pub peak_mib: f64,
}

impl Outcome {
    /// From the summary of `bench --account GATEWAY[,BROKER] --json`.
    pub fn of_gateway(summary: &Value) -> io::Result<Self> {
        let kernel = number(summary, "/cpu/processes/0/system_s")?;
        let user = number(summary, "/cpu/processes/0/user_s")?;
        Ok(Self {
            program_us: number(summary, "/cpu/processes/0/us_per_record")?,
            program_kernel_share: kernel / (kernel + user).max(1e-9),
            nats_us: number(summary, "/cpu/processes/1/us_per_record").unwrap_or(0.0),
            generator_us: number(summary, "/cpu/generator_us_per_record")?,
            ..Self::common(summary)?
        })
    }

    /// From what `native-publisher --account BROKER` or `append-file` prints: a program that is its own generator.
    pub fn of_own_generator(summary: &Value) -> io::Result<Self> {
        Ok(Self {
            program_us: number(summary, "/cpu/generator_us_per_record")?,
            nats_us: number(summary, "/cpu/processes/0/us_per_record").unwrap_or(0.0),
            ..Self::common(summary)?
        })
    }

    fn common(summary: &Value) -> io::Result<Self> {
        Ok(Self {
            records_per_s: number(summary, "/records_per_s")?,
            p50_us: number(summary, "/latency_us/p50")?,
            p99_us: number(summary, "/latency_us/p99")?,
            p99_9_us: number(summary, "/latency_us/p99.9")?,
            ..Self::default()
        })
    }

    /// Field by field the median of several.
    #[must_use]
    pub fn median(list: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(list.iter().map(field).collect());
        Self {
            records_per_s: of(|outcome| outcome.records_per_s),
            p50_us: of(|outcome| outcome.p50_us),
            p99_us: of(|outcome| outcome.p99_us),
            p99_9_us: of(|outcome| outcome.p99_9_us),
            program_us: of(|outcome| outcome.program_us),
            program_kernel_share: of(|outcome| outcome.program_kernel_share),
            nats_us: of(|outcome| outcome.nats_us),
            generator_us: of(|outcome| outcome.generator_us),
            rss_mib: of(|outcome| outcome.rss_mib),
            peak_mib: of(|outcome| outcome.peak_mib),
        }
    }
}

/// What ratios are taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Records a second.
    Rate,
    /// CPU of the program a record.
    Cpu,
    /// Records a second of the program's CPU.
    RecordsPerCpu,
    /// The latency that one in a hundred exceeds.
    P99,
}

impl Measure {
    fn of(self, outcome: &Outcome) -> f64 {
        match self {
            Self::Rate => outcome.records_per_s,
            Self::Cpu => outcome.program_us,
            Self::RecordsPerCpu => 1.0 / outcome.program_us.max(1e-9),
            Self::P99 => outcome.p99_us,
        }
    }

    /// Median of the ratios of rounds in which both have an outcome; none without such a round.
    #[must_use]
    pub fn ratio(self, own: &[Option<Outcome>], against: &[Option<Outcome>]) -> Option<f64> {
        let pairs = own.iter().zip(against).filter_map(|(own, against)| Some((own.as_ref()?, against.as_ref()?)));
        let ratios: Vec<f64> = pairs.map(|(own, against)| self.of(own) / self.of(against).max(1e-9)).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rate => "records/s",
            Self::Cpu => "CPU a record",
            Self::RecordsPerCpu => "records a CPU second",
            Self::P99 => "p99",
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rate: f64, cpu: f64) -> Option<Outcome> {
        Some(Outcome { records_per_s: rate, program_us: cpu, p99_us: 10.0 * cpu, ..Outcome::default() })
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_that_both_have() {
        let against = [outcome(100.0, 1.0), outcome(200.0, 1.0), outcome(400.0, 2.0), outcome(1.0, 1.0)];
        let own = [outcome(90.0, 3.0), outcome(100.0, 2.0), outcome(380.0, 2.0), None];
        let ratio = |measure: Measure| measure.ratio(&own, &against);
        assert_eq!((ratio(Measure::Rate), ratio(Measure::Cpu), ratio(Measure::P99)), (Some(0.9), Some(2.0), Some(2.0)));
        assert_eq!(ratio(Measure::RecordsPerCpu), Some(0.5));
        assert_eq!(Measure::Rate.ratio(&[None], &against), None);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        for (values, expect) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![4.0, 2.0], 3.0), (vec![9.0, 1.0, 5.0], 5.0)] {
            assert_eq!(median(values.clone()), expect, "{values:?}");
        }
        let list: Vec<Outcome> =
            [outcome(3.0, 1.0), outcome(1.0, 5.0), outcome(2.0, 3.0)].into_iter().flatten().collect();
        let median = Outcome::median(&list);
        assert_eq!((median.records_per_s, median.program_us), (2.0, 3.0));
    }
}
