//! CPU time of processes, from the kernel's accounting.
//!
//! `/proc/PID/task/*/schedstat` counts nanoseconds, but forgets a thread that has ended; `/proc/PID/stat` forgets
//! nothing, but counts ticks of 10 ms. The difference of two readings uses the fine one where it can be trusted.
//!
//! This file stands alone (std only), because the measuring programs under `perf/` read it as well.

use std::{collections::BTreeMap, fs, io, time::Duration};

/// CPU that a process has used up to one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CpuReading {
    /// Nanoseconds of each thread that lives.
    threads: BTreeMap<u32, u64>,
    user_ticks: u64,
    system_ticks: u64,
}

/// CPU that a process has used between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CpuUse {
    /// In all, in nanoseconds where the kernel counts them.
    pub(super) total: Duration,
    /// In user space, in ticks of 10 ms.
    pub(super) user: Duration,
    /// In the kernel, in ticks of 10 ms.
    pub(super) system: Duration,
}

impl CpuReading {
    /// Reads the accounts of process `pid`.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_ticks, system_ticks) =
            parse_stat(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat"))?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end while we look; a kernel may be built without this file.
            let text = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            if let (Some(id), Some(used)) = (id, parse_schedstat(&text)) {
                threads.insert(id, used);
            }
        }
        Ok(Self { threads, user_ticks, system_ticks })
    }

    /// Returns the CPU used between `earlier` and this reading.
    #[must_use]
    pub(super) fn since(&self, earlier: &Self) -> CpuUse {
        let ticks = |now: u64, then: u64| Duration::from_millis(now.saturating_sub(then) * TICK_MS);
        let user = ticks(self.user_ticks, earlier.user_ticks);
        let system = ticks(self.system_ticks, earlier.system_ticks);
        let all_live = !self.threads.is_empty() && earlier.threads.keys().all(|id| self.threads.contains_key(id));
        let used = |(id, now): (&u32, &u64)| now.saturating_sub(earlier.threads.get(id).copied().unwrap_or(0));
        let fine = Duration::from_nanos(self.threads.iter().map(used).sum());
        // Threads that came and went between the readings are in the ticks alone.
        let coarse = user + system;
        let total = if all_live && fine + Duration::from_millis(3 * TICK_MS) >= coarse { fine } else { coarse };
        CpuUse { total, user, system }
    }
}

/// User and system ticks: fields 14 and 15, counted behind the name, which may hold anything.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Nanoseconds on a CPU: the first field.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `USER_HZ` is 100 on every Linux that this runs on.
const TICK_MS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::clock;

    fn reading(threads: &[(u32, u64)], user_ticks: u64, system_ticks: u64) -> CpuReading {
        CpuReading { threads: threads.iter().copied().collect(), user_ticks, system_ticks }
    }

    #[test]
    fn the_ticks_are_found_behind_any_name() {
        let line = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 777 888 0 0 20";
        assert_eq!(parse_stat(line), Some((777, 888)));
        assert_eq!(parse_stat("42 (x) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_fine_count_is_used_unless_a_thread_has_gone() {
        let ms = Duration::from_millis;
        let before = reading(&[(1, 5_000_000), (2, 7_000_000)], 1, 0);
        let check = |after: CpuReading, expect: Duration| assert_eq!(after.since(&before).total, expect);
        check(reading(&[(1, 6_500_000), (2, 7_000_000)], 1, 0), Duration::from_micros(1_500));
        check(reading(&[(1, 6_000_000), (2, 7_000_000), (3, 4_000_000)], 1, 0), ms(5));
        check(reading(&[(1, 6_000_000)], 9, 2), ms(100));
        check(reading(&[], 9, 2), ms(100));
        // A thread that lived between the readings shows in the ticks only.
        check(reading(&[(1, 6_000_000), (2, 7_000_000)], 50, 2), ms(510));
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let before = CpuReading::of(std::process::id()).unwrap();
        let started = clock::now();
        let mut sum = 0u64;
        while clock::since(started) < Duration::from_millis(60) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let used = CpuReading::of(std::process::id()).unwrap().since(&before);
        assert!(used.total > Duration::from_millis(5), "{used:?} after {sum}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(CpuReading::of(u32::MAX).is_err());
    }
}
