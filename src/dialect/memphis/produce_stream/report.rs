//! What the answer to a stream says: a receipt or an error for each line, and what it comes to, as the last line. Pure.

use super::params::Receipts;
use crate::{
    record::{Outcome, Receipt},
    reject::Reject,
    station::Partition,
};
use std::io::Write as _;

/// What became of the lines so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) stored: u64,
    pub(super) duplicates: u64,
    pub(super) failed: u64,
}

/// Writes the lines of the answer.
#[derive(Debug)]
pub(super) struct Report {
    receipts: Receipts,
    counts: Counts,
}

impl Report {
    pub(super) fn new(receipts: Receipts) -> Self {
        Self { receipts, counts: Counts::default() }
    }

    /// Counts the outcome of a line, and appends what the answer says of it.
    pub(super) fn outcome(&mut self, out: &mut Vec<u8>, line: u64, outcome: &Outcome, partitions: &[Partition]) {
        match outcome {
            Outcome::Stored(receipt) => self.stored(out, line, *receipt, partitions),
            Outcome::Failed(reject) => self.failed(out, line, reject),
        }
    }

    fn stored(&mut self, out: &mut Vec<u8>, line: u64, receipt: Receipt, partitions: &[Partition]) {
        let Receipt { partition, sequence, duplicate } = receipt;
        let count = if duplicate { &mut self.counts.duplicates } else { &mut self.counts.stored };
        *count += 1;
        if self.receipts != Receipts::All {
            return;
        }
        let stream = partitions.get(usize::from(partition)).map_or("", |partition| &partition.stream);
        append_number(out, br#"{"line":"#, line);
        out.extend_from_slice(br#","stream":"#);
        append_text(out, stream);
        append_number(out, br#","sequence":"#, sequence);
        out.extend_from_slice(if duplicate { b",\"duplicate\":true}\n" } else { b",\"duplicate\":false}\n" });
    }

    /// Counts a line that failed, and appends why.
    pub(super) fn failed(&mut self, out: &mut Vec<u8>, line: u64, reject: &Reject) {
        self.counts.failed += 1;
        if self.receipts == Receipts::Summary {
            return;
        }
        append_number(out, br#"{"line":"#, line);
        append_failure(out, reject);
        out.extend_from_slice(b"}\n");
    }

    /// Appends the last line: what the lines from `first` to before `next` came to. `broken` says why no more of them were
    /// taken, if the stream has not ended by itself; then the client sends the rest from line `next` on.
    pub(super) fn summary(&self, out: &mut Vec<u8>, first: u64, next: u64, broken: Option<&Reject>) {
        let Counts { stored, duplicates, failed } = self.counts;
        append_number(out, br#"{"lines":"#, next.saturating_sub(first));
        append_number(out, br#","stored":"#, stored);
        append_number(out, br#","duplicates":"#, duplicates);
        append_number(out, br#","failed":"#, failed);
        if let Some(reject) = broken {
            append_failure(out, reject);
            append_number(out, br#","next_line":"#, next);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Appends why something failed, and whether sending it again may help.
fn append_failure(out: &mut Vec<u8>, reject: &Reject) {
    out.extend_from_slice(br#","error":"#);
    append_text(out, &reject.to_string());
    // Writing to a Vec cannot fail.
    let _ = write!(out, r#","retry":{}"#, reject.retry_after().is_some());
}

fn append_number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a JSON text. Writing one to a Vec cannot fail.
fn append_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> [(u64, Outcome); 5] {
        let stored = |sequence, duplicate| Outcome::Stored(Receipt { partition: 1, sequence, duplicate });
        [
            (7, stored(40, false)),
            (8, stored(3, true)),
            (10, Outcome::Failed(Reject::Json { offset: 2, reason: "x \"y\"" })),
            (11, Outcome::Failed(Reject::OutcomeUnknown)),
            (12, stored(41, false)),
        ]
    }

    fn answer(receipts: Receipts, broken: Option<&Reject>) -> Vec<String> {
        let partitions = ["s$1", "s$2"].map(|stream| Partition { stream: stream.into(), subject: "".into() });
        let (mut report, mut out) = (Report::new(receipts), Vec::new());
        for (line, outcome) in outcomes() {
            report.outcome(&mut out, line, &outcome, &partitions);
        }
        report.summary(&mut out, 7, 13, broken);
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.ends_with('\n') && text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        );
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_line_is_answered_and_the_last_line_says_what_it_came_to() {
        let stored = [
            r#"{"line":7,"stream":"s$2","sequence":40,"duplicate":false}"#,
            r#"{"line":8,"stream":"s$2","sequence":3,"duplicate":true}"#,
        ];
        let failed = r#"{"line":10,"error":"invalid JSON at byte 2: x \"y\"","retry":false}"#;
        let unknown = format!(r#"{{"line":11,"error":"{}","retry":true}}"#, Reject::OutcomeUnknown);
        let last = r#"{"line":12,"stream":"s$2","sequence":41,"duplicate":false}"#;
        let summary = r#"{"lines":6,"stored":2,"duplicates":1,"failed":2}"#;
        assert_eq!(answer(Receipts::All, None), [stored[0], stored[1], failed, &unknown, last, summary]);
        assert_eq!(answer(Receipts::Errors, None), [failed, &unknown, summary]);
        assert_eq!(answer(Receipts::Summary, None), [summary]);
    }

    #[test]
    fn what_ends_before_its_time_says_why_and_from_which_line_to_go_on() {
        let expect = format!(
            r#"{{"lines":6,"stored":2,"duplicates":1,"failed":2,"error":"{}","retry":true,"next_line":13}}"#,
            Reject::Draining
        );
        assert_eq!(answer(Receipts::Summary, Some(&Reject::Draining)), [expect]);
    }
}
