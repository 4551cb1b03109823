//! What all runs came to: tables for people, rows of a record, targets met and missed.

use crate::{
    case::{Case, Contender, opponent},
    plot,
};
use sluicegate_perf::{
    machine::Machine,
    outcome::{Measure, Outcome},
};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Runs of a case: for each contender, the rounds; none where a run failed.
pub(crate) struct Results<'a> {
    pub(crate) case: &'a Case,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) outcomes: Vec<Vec<Option<Outcome>>>,
}

/// Medians of a contender in a case.
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) program: &'static str,
    pub(crate) variant: String,
    pub(crate) driver: String,
    /// The rate was given.
    pub(crate) is_open: bool,
    /// Rounds that did not fail.
    pub(crate) rounds: usize,
    pub(crate) median: Outcome,
    /// Least and greatest rate of the rounds.
    spread: (f64, f64),
    /// Who the ratios refer to.
    pub(crate) reference: String,
    pub(crate) rate_ratio: f64,
    cpu_ratio: f64,
    p99_ratio: f64,
}

/// A target and what was measured of it.
struct Verdict {
    number: u32,
    case: String,
    what: String,
    required: String,
    /// By driver, in the report's order: the ratio, and whether it is enough.
    measured: Vec<Option<(f64, bool)>>,
}

/// Everything that will be told.
pub(crate) struct Report {
    machine: Machine,
    nats: String,
    drivers: Vec<String>,
    /// How long it all took.
    pub(crate) seconds: u64,
    rows: Vec<Row>,
    verdicts: Vec<Verdict>,
    /// Name and purpose of the cases.
    abouts: Vec<(String, String)>,
}

impl Results<'_> {
    fn rows(&self) -> Vec<Row> {
        let row = |(contender, rounds): (&Contender, &Vec<Option<Outcome>>)| {
            let done: Vec<Outcome> = rounds.iter().flatten().copied().collect();
            let reference = opponent(&self.contenders, &self.case.reference, contender.driver.as_deref());
            let against = reference.and_then(|at| self.outcomes.get(at));
            let ratio = |measure: Measure| against.and_then(|against| measure.ratio(rounds, against)).unwrap_or(0.0);
            let rates = || done.iter().map(|outcome| outcome.records_per_s);
            (!done.is_empty()).then(|| Row {
                case: self.case.name.clone(),
                program: contender.program.name(),
                variant: contender.variant.clone().unwrap_or_default(),
                driver: contender.driver.clone().unwrap_or_default(),
                is_open: contender.load.rate_of_max.is_some(),
                rounds: done.len(),
                median: Outcome::median(&done),
                spread: (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)),
                reference: self.case.reference.clone(),
                rate_ratio: ratio(Measure::Rate),
                cpu_ratio: ratio(Measure::Cpu),
                p99_ratio: ratio(Measure::P99),
            })
        };
        self.contenders.iter().zip(&self.outcomes).filter_map(row).collect()
    }

    fn verdicts(&self, drivers: &[String]) -> Vec<Verdict> {
        let verdict = |target: &crate::case::Target| {
            let measured = |driver: &String| {
                let rounds = |name: &str| self.outcomes.get(opponent(&self.contenders, name, Some(driver))?);
                let ratio = target.measure.ratio(rounds(&target.of)?, rounds(&target.against)?)?;
                let enough = target.at_least.is_none_or(|least| ratio >= least)
                    && target.at_most.is_none_or(|most| ratio <= most);
                Some((ratio, enough))
            };
            let bound = |sign: &str, bound: Option<f64>| bound.map(|bound| format!("{sign} {bound}"));
            Verdict {
                number: target.number,
                case: self.case.name.clone(),
                what: format!("{}, {} to {}", target.measure, target.of, target.against),
                required: bound("≥", target.at_least).or(bound("≤", target.at_most)).unwrap_or_default(),
                measured: drivers.iter().map(measured).collect(),
            }
        };
        self.case.targets.iter().map(verdict).collect()
    }
}

impl Row {
    /// Program and variant.
    pub(crate) fn label(&self) -> String {
        match self.variant.as_str() {
            "" => self.program.to_owned(),
            variant => format!("{}, {variant}", self.program),
        }
    }

    /// Fields behind those of the machine, as [`HEADER`] names them.
    fn csv(&self) -> String {
        let median = &self.median;
        format!(
            "{},{},{},{},{},{},{:.0},{:.0},{:.0},{:.4},{:.4},{:.4},{:.1},{:.1},{:.1},{:.4},{:.3},{:.4},{:.4},{:.1},{:.1}",
            self.case,
            self.program,
            self.variant.replace(',', " "),
            self.driver,
            self.reference.replace(',', " "),
            self.rounds,
            median.records_per_s,
            self.spread.0,
            self.spread.1,
            self.rate_ratio,
            self.cpu_ratio,
            self.p99_ratio,
            median.p50_us,
            median.p99_us,
            median.p99_9_us,
            median.program_us,
            median.program_kernel_share,
            median.nats_us,
            median.generator_us,
            median.rss_mib,
            median.peak_mib,
        )
    }

    /// Cells of a table for people.
    fn cells(&self) -> [String; 12] {
        let median = &self.median;
        let present = |value: f64, digits: usize| {
            if value > 0.0 { format!("{value:.digits$}") } else { String::new() }
        };
        [
            self.label(),
            self.driver.clone(),
            format!("{:.0}", median.records_per_s),
            format!("{:.3}", self.rate_ratio),
            format!("{:.3}", median.program_us),
            format!("{:.2}", self.cpu_ratio),
            format!("{:.0}", median.p50_us),
            format!("{:.0}", median.p99_us),
            format!("{:.0}", median.p99_9_us),
            present(median.nats_us, 2),
            present(median.generator_us, 2),
            present(median.peak_mib, 0),
        ]
    }
}

impl Report {
    pub(crate) fn new(machine: Machine, nats: String, drivers: Vec<String>) -> Self {
        Self { machine, nats, drivers, seconds: 0, rows: Vec::new(), verdicts: Vec::new(), abouts: Vec::new() }
    }

    pub(crate) fn add(&mut self, results: &Results<'_>) {
        self.rows.extend(results.rows());
        self.verdicts.extend(results.verdicts(&self.drivers));
        self.abouts.push((results.case.name.clone(), results.case.about.clone()));
    }

    /// For a terminal: the same tables as in Markdown, which reads well enough.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.case_tables(), self.target_table())
    }

    /// Writes the record, the plot and the tables, and shows the latter two in the README; answers what was written.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::create_dir_all(directory)?;
        let name = format!("{}-{}", self.machine.date, self.machine.name());
        let record = self.append_csv(directory, &name)?;
        let (svg, tables) = (record.with_extension("svg"), record.with_extension("md"));
        fs::write(&svg, plot::svg(&self.rows))?;
        let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let head = self.head(&file_name(&record));
        fs::write(&tables, format!("# {name}\n\n{head}\n{}\n{}", self.target_table(), self.case_tables()))?;
        let mut written = vec![record, svg.clone(), tables.clone()];
        let readme = directory.parent().unwrap_or(directory).join("README.md");
        if let Ok(text) = fs::read_to_string(&readme) {
            let shown = format!(
                "{head}\n{}\n![Rates and CPU of the programs in each case](record/{})\n\n\
                 All numbers: [record/{}](record/{}).\n",
                self.target_table(),
                file_name(&svg),
                file_name(&tables),
                file_name(&tables)
            );
            if let Some(text) = between_marks(&text, &shown) {
                fs::write(&readme, text)?;
                written.push(readme);
            }
        }
        Ok(written)
    }

    fn head(&self, record: &str) -> String {
        let Machine { commit, kernel, cpu, cores, date } = &self.machine;
        let rounds = self.rows.iter().map(|row| row.rounds).max().unwrap_or(0);
        format!(
            "{date}, commit {commit}, Linux {kernel}, {cpu}, {cores} cores, nats-server {}; medians of {rounds} rounds, \
             {} min in all; rows in `{record}`.\n",
            self.nats,
            self.seconds.div_ceil(60)
        )
    }

    fn target_table(&self) -> String {
        let mut header = vec!["target".to_owned(), "case".to_owned(), "ratio".to_owned(), "required".to_owned()];
        header.extend(self.drivers.iter().cloned());
        let cell = |measured: &Option<(f64, bool)>| match measured {
            Some((ratio, true)) => format!("{ratio:.2} met"),
            Some((ratio, false)) => format!("{ratio:.2} **missed**"),
            None => "not measured".to_owned(),
        };
        let mut verdicts: Vec<&Verdict> = self.verdicts.iter().collect();
        verdicts.sort_by_key(|verdict| verdict.number);
        let rows = verdicts.into_iter().map(|verdict| {
            let fixed =
                [verdict.number.to_string(), verdict.case.clone(), verdict.what.clone(), verdict.required.clone()];
            fixed.into_iter().chain(verdict.measured.iter().map(cell)).collect()
        });
        markdown(&header, rows)
    }

    fn case_tables(&self) -> String {
        let header = [
            "program",
            "driver",
            "records/s",
            "rate ratio",
            "CPU us",
            "CPU ratio",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "broker us",
            "generator us",
            "peak MiB",
        ];
        let header: Vec<String> = header.map(str::to_owned).into();
        let mut text = String::new();
        for (case, about) in &self.abouts {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.case == *case).collect();
            let reference = rows.first().map_or("", |row| row.reference.as_str());
            let _ = writeln!(text, "## {case}\n\n{about} Ratios to {reference}; CPU by the record.\n");
            text.push_str(&markdown(&header, rows.into_iter().map(|row| row.cells().into())));
            text.push('\n');
        }
        text
    }

    /// Appends to the day's record, or begins one if what is there has other columns.
    fn append_csv(&self, directory: &Path, name: &str) -> io::Result<PathBuf> {
        let mut path = directory.join(format!("{name}.csv"));
        let mut number = 1;
        while path.exists() && !fs::read_to_string(&path)?.starts_with(HEADER) {
            number += 1;
            path = directory.join(format!("{name}-{number}.csv"));
        }
        let is_new = !path.exists();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        if is_new {
            writeln!(file, "{HEADER}")?;
        }
        let Machine { commit, kernel, cpu, cores, .. } = &self.machine;
        for row in &self.rows {
            writeln!(file, "{commit},{kernel},{},{cores},{},{}", cpu.replace(',', " "), self.nats, row.csv())?;
        }
        Ok(path)
    }
}

/// A table whose columns line up.
fn markdown(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let width = |column: usize| {
        let cells = rows.iter().map(Vec::as_slice).chain([header]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    rows.iter().fold(line(header) + &line(&rule), |text, row| text + &line(row))
}

/// `text` with `shown` between its marks; none if it has none.
fn between_marks(text: &str, shown: &str) -> Option<String> {
    let (before, rest) = text.split_once(MARK_BEGIN)?;
    let (_, after) = rest.split_once(MARK_END)?;
    Some(format!("{before}{MARK_BEGIN}\n{shown}{MARK_END}{after}"))
}

/// What the runner writes stands between these in the README.
const MARK_BEGIN: &str = "<!-- last record: written by the runner -->";
const MARK_END: &str = "<!-- end of the last record -->";

/// Columns of a record. New ones go to the end.
const HEADER: &str = "commit,kernel,cpu,cores,nats,case,program,variant,driver,reference,rounds,records_per_s,\
    records_per_s_min,records_per_s_max,rate_ratio,cpu_ratio,p99_ratio,p50_us,p99_us,p99.9_us,program_cpu_us_per_record,\
    program_kernel_share,nats_cpu_us_per_record,generator_cpu_us_per_record,program_rss_mib,program_peak_mib";

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = r#"
        name = "c"
        about = "What it shows."
        reference = "null-server"
        load = { connections = 1, batch = 1, size = 16, warmup_s = 1, duration_s = 1 }
        [[contender]]
        program = "null-server"
        [[contender]]
        program = "sluicegate"
        [[target]]
        number = 2
        measure = "cpu"
        of = "sluicegate"
        against = "null-server"
        at_most = 1.25
    "#;

    fn outcome(rate: f64, cpu: f64) -> Option<Outcome> {
        Some(Outcome { records_per_s: rate, program_us: cpu, p99_us: 5.0, ..Outcome::default() })
    }

    fn report() -> Report {
        let case: Case = toml::from_str(CASE).unwrap();
        let drivers = ["io_uring".to_owned(), "epoll".to_owned()];
        let contenders = case.contenders(&drivers);
        let outcomes = vec![
            vec![outcome(100.0, 1.0), outcome(100.0, 1.0)],
            vec![outcome(100.0, 1.0), None],
            vec![outcome(80.0, 1.2), outcome(90.0, 1.2)],
            vec![outcome(50.0, 2.0), outcome(50.0, 2.0)],
        ];
        let machine = Machine {
            date: "2026-01-31".to_owned(),
            commit: "abc".to_owned(),
            kernel: "6".to_owned(),
            cpu: "A, B".to_owned(),
            cores: 2,
        };
        let mut report = Report::new(machine, "2.15.1".to_owned(), drivers.to_vec());
        report.add(&Results { case: &case, contenders, outcomes });
        report
    }

    #[test]
    fn a_target_is_judged_by_driver() {
        let line =
            "| 2      | c    | CPU a record, sluicegate to null-server | ≤ 1.25   | 1.20 met | 2.00 **missed** |";
        let table = report().target_table();
        assert!(table.contains(line), "{table}");
    }

    #[test]
    fn a_record_has_as_many_fields_as_columns_and_a_changed_header_begins_another() {
        let directory = std::env::temp_dir().join(format!("sluicegate-perf-{}", std::process::id()));
        let report = report();
        for _ in 0..2 {
            report.write(&directory).unwrap();
        }
        let path = directory.join("2026-01-31-linux-6-a-b-2c.csv");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, "commit,old\n").unwrap();
        let written = report.write(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let counts: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(counts, [26; 9]);
        assert!(written.iter().all(|path| path.to_string_lossy().contains("-2.")), "{written:?}");
    }

    #[test]
    fn the_picture_has_every_contender() {
        let svg = plot::svg(&report().rows);
        for label in [">null-server, io_uring<", ">sluicegate, epoll<", ">0.85 (85/s)<", ">records/s, null-server = 1<"]
        {
            assert!(svg.contains(label), "{label} in {svg}");
        }
    }

    #[test]
    fn the_readme_keeps_what_is_outside_of_the_marks() {
        let text = format!("a\n{MARK_BEGIN}\nold\n{MARK_END}\nb\n");
        assert_eq!(between_marks(&text, "new\n").unwrap(), format!("a\n{MARK_BEGIN}\nnew\n{MARK_END}\nb\n"));
        assert_eq!(between_marks("no marks", "new"), None);
    }
}
