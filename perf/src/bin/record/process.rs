//! Children that do not outlive us, and what surrounds them: ports, directories, readiness, memory.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// A child that does not outlive us.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until `is_ready`; an error if the process ends before, or takes too long. `log` is where it says why.
    pub(crate) fn wait_until(&mut self, log: &Path, is_ready: impl Fn() -> bool) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_ready() {
            let ended = self.0.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let text = fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(5).collect();
                return Err(io::Error::other(format!("does not start; last lines first: {last:?}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Resident memory now and at its highest, in MiB.
    pub(crate) fn memory_mib(&self) -> (f64, f64) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        (memory_field(&text, "VmRSS:"), memory_field(&text, "VmHWM:"))
    }
}

/// A line of `/proc/PID/status`, which counts in KiB.
fn memory_field(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

impl Drop for Process {
    /// Asks, waits, and insists.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says which program it was that could not be run.
pub(crate) fn named(program: impl AsRef<Path>) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", program.as_ref().display()))
}

/// A directory that goes when we do.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    /// One of this process, below `parent`.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// File storage in memory would measure something else.
pub(crate) fn refuse_memory(path: &Path) -> io::Result<()> {
    if rustix::fs::statfs(path)?.f_type as u64 == TMPFS {
        return Err(io::Error::other(format!("{} is in memory: give a --work-dir on a disk", path.display())));
    }
    Ok(())
}

/// Whether `GET path` there is answered with 200.
pub(crate) fn answers_ok(address: &str, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<bool, io::Error>(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// Type of a memory file system.
const TMPFS: u64 = 0x0102_1994;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        let text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1536 kB\n";
        assert_eq!((memory_field(text, "VmRSS:"), memory_field(text, "VmHWM:")), (1.5, 2.0));
        assert_eq!(memory_field("", "VmRSS:"), 0.0);
    }
}
