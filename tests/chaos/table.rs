//! What clients felt of each fault, beside a publisher without a gateway.

use crate::{
    faults::Window,
    load::{Attempt, Report},
};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// What was felt of one kind of fault, in all its windows.
#[derive(Debug, Default)]
struct Row {
    windows: usize,
    served: usize,
    failed: BTreeMap<u16, usize>,
    stall: Duration,
    longest: Duration,
    native: Duration,
}

/// The table, as text. `station` is the one to whose stream the native publisher publishes.
pub fn table(windows: &[Window], reports: &[Report], native: &[Duration], station: &str) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let attempts = || reports.iter().flat_map(|report| report.attempts.iter().map(move |attempt| (report, attempt)));
    let mut served: Vec<Duration> = attempts()
        .filter(|(report, attempt)| report.kind.station == station && attempt.status == 200)
        .map(|(_, attempt)| attempt.answered)
        .collect();
    served.sort_unstable();
    for window in windows {
        let row = rows.entry(window.name).or_default();
        row.windows += 1;
        let within = |attempt: &Attempt| attempt.answered >= window.from && attempt.answered < window.until;
        for (_, attempt) in attempts().filter(|(_, attempt)| within(attempt)) {
            if attempt.status == 200 {
                row.served += 1;
            } else {
                *row.failed.entry(attempt.status).or_default() += 1;
            }
            row.longest = row.longest.max(attempt.answered.saturating_sub(attempt.sent));
        }
        row.stall = row.stall.max(longest_gap(&served, window));
        row.native = row.native.max(longest_gap(native, window));
    }
    text(&rows)
}

fn text(rows: &BTreeMap<&str, Row>) -> String {
    let mut text = String::from(
        "| fault | times | served | failed | not one served for | native publisher | longest answer | which failures |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for (name, row) in rows {
        let failures: Vec<String> =
            row.failed.iter().map(|(status, count)| format!("{count} × {}", word(*status))).collect();
        writeln!(
            text,
            "| {name} | {} | {} | {} | {:.1} s | {:.1} s | {:.1} s | {} |",
            row.windows,
            row.served,
            row.failed.values().sum::<usize>(),
            row.stall.as_secs_f64(),
            row.native.as_secs_f64(),
            row.longest.as_secs_f64(),
            failures.join(", ")
        )
        .unwrap();
    }
    text
}

fn word(status: u16) -> String {
    if status == 0 { "no answer".to_owned() } else { status.to_string() }
}

/// The longest time within the window, or into it, in which nothing happened.
fn longest_gap(moments: &[Duration], window: &Window) -> Duration {
    let first = moments.partition_point(|moment| *moment < window.from);
    let last = moments.partition_point(|moment| *moment < window.until);
    let mut longest = Duration::ZERO;
    let mut before = window.from;
    for moment in moments[first..last].iter().copied().chain([window.until]) {
        longest = longest.max(moment.saturating_sub(before));
        before = moment;
    }
    longest
}
