//! Metrics of this process, read from `/proc` at each scrape.

use crate::metrics::ProcessMetrics;
use std::fs;

/// The unit of time in `/proc`: 1/100 s, whatever the frequency of the kernel's own ticks is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the numbers. Returns `None` where there is no `/proc`, or where it has another form.
pub(super) fn read() -> Option<ProcessMetrics> {
    let (ticks, started) = cpu(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let booted = number_after(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    let resident = number_after(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    // One of them is the directory itself, open while it is read.
    let open_fds = (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1);
    Some(ProcessMetrics {
        resident_bytes: resident.saturating_mul(1_024),
        cpu_seconds: seconds(ticks),
        start_seconds: seconds(booted.saturating_mul(100).saturating_add(started)),
        open_fds,
    })
}

#[expect(clippy::cast_precision_loss, reason = "2^53 hundredths of a second are three million years")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// Returns the CPU ticks used, and the tick after boot at which the process started.
fn cpu(stat: &str) -> Option<(u64, u64)> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered from 1 in proc(5); `rest` begins with field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)?.saturating_add(field(15)?), field(22)?))
}

/// Returns the first number of the line that begins with `key`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::clock;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 12345 99 88";
        for name in ["sluicegate", "a) R 1 (b", ""] {
            assert_eq!(cpu(&format!("77 ({name}) {tail}")), Some((300, 12_345)), "{name}");
        }
        for broken in ["", "77 (x", "77 (x) S 1 2"] {
            assert_eq!(cpu(broken), None, "{broken}");
        }
    }

    #[test]
    fn keys_are_found_at_the_beginning_of_a_line() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t  1234 kB\nxVmRSS: 5\n";
        assert_eq!(number_after(text, "VmRSS:"), Some(1_234));
        assert_eq!(number_after(text, "VmSwap:"), None);
    }

    #[test]
    fn this_process_is_alive() {
        let process = read().expect("Linux");
        assert!(process.resident_bytes > 1 << 20 && process.open_fds >= 3, "{process:?}");
        let now = clock::unix_time().as_secs_f64();
        assert!((now - 3_600.0..=now + 1.0).contains(&process.start_seconds), "{process:?} {now}");
    }
}
