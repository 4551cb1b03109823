//! Where a record was made, said in general terms: kernel, processor and cores, the day, the commit. No host name.

use std::{fs, process::Command, thread};

/// Where a record was made.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `2026-01-31`, UTC.
    pub date: String,
    /// Short, with a `+` if the tree differs from it.
    pub commit: String,
    /// Version, without what a distribution appends.
    pub kernel: String,
    /// Model.
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn look() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu_info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let dirty = if output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { "+" };
        Self {
            date: output("date", &["-u", "+%F"]),
            commit: output("git", &["rev-parse", "--short", "HEAD"]) + dirty,
            kernel: release.trim().split('-').next().unwrap_or_default().to_owned(),
            cpu: model.unwrap_or("unknown").trim().to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// For a file name: `linux-6.18.1-amd-epyc-2c`.
    #[must_use]
    pub fn name(&self) -> String {
        let text = format!("linux-{}-{}-{}c", self.kernel, self.cpu, self.cores).to_lowercase();
        let kept =
            text.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' });
        let kept: String = kept.collect();
        kept.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_matters_and_fits_a_file() {
        let machine = Machine {
            date: String::new(),
            commit: String::new(),
            kernel: "6.18.1".to_owned(),
            cpu: "Some(R) CPU @ 2.50GHz".to_owned(),
            cores: 2,
        };
        assert_eq!(machine.name(), "linux-6.18.1-some-r-cpu-2.50ghz-2c");
    }
}
