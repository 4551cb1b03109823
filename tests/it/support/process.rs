//! A child process whose output goes to a file and that never outlives its handle.

use super::{PATIENCE, eventually, reaper};
use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `<dir>/<name>.out` and `<dir>/<name>.err`.
    pub fn start(mut command: Command, dir: &Path, name: &str) -> Self {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        command.stdin(Stdio::null()).stdout(append(&stdout)).stderr(append(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        reaper::own_process(child.id());
        Self { child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// The end of both outputs, for a failure's text.
    pub fn tail(&self) -> String {
        let text = self.stdout() + &self.stderr();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap();
        if status.is_some() {
            reaper::disown_process(self.pid());
        }
        status
    }

    /// Sends a signal by name (`TERM`, `KILL`, `INT`, `STOP`, …).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.pid());
        if name == "STOP" {
            eventually("a process is stopped", PATIENCE, || self.is_stopped().then_some(()));
        }
    }

    /// Whether each of its threads has heard of SIGSTOP: on a busy machine they go on for a while.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let state = |path: PathBuf| std::fs::read_to_string(path.join("status")).unwrap_or_default();
        tasks.map(|task| state(task.unwrap().path())).all(|text| text.is_empty() || text.contains("\nState:\tT"))
    }

    /// `kill -9`, and waits for the end.
    pub fn kill9(&mut self) {
        if self.ended().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
            reaper::disown_process(self.pid());
        }
    }

    /// Waits for the end; fails if it does not come within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        eventually("the end of a process", limit, || self.ended())
    }

    /// SIGTERM, and how it ended and after how long.
    pub fn terminate(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal("TERM");
        let status = self.wait(limit);
        (status, start.elapsed())
    }

    /// Resident memory in bytes, without the pages of the program's own file: they tell how it was compiled.
    pub fn allocated_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1_024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the end of {} ---\n{}\n---", self.stderr.display(), self.tail());
        }
        self.kill9();
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}
