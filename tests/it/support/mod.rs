//! What the tests stand on: processes, servers, clients, and patience.

#[macro_use]
pub mod setup;

pub mod admin;
pub mod broker;
pub mod cluster;
pub mod frames;
pub mod gateway;
pub mod http;
pub mod nats;
pub mod openapi;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod readback;
pub mod reaper;
pub mod sse;
pub mod token;

use std::{
    path::PathBuf,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// No single wait of the suite is longer: a test fails rather than hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `probe` says `Some`, and fails with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "did not happen within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A name that no other test of this process uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A fresh directory below `target/tmp`, on the disk that the build is on.
pub fn scratch(prefix: &str) -> tempfile::TempDir {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&root).unwrap();
    let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(root).unwrap();
    reaper::own_dir(dir.path());
    dir
}

static LOAD: RwLock<()> = RwLock::new(());

/// Tests that load the whole machine take turns: what they measure would otherwise be each other.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    LOAD.write().unwrap_or_else(PoisonError::into_inner)
}

/// Tests of what is promised within a second run beside each other, and beside none that loads the whole machine.
pub fn unloaded() -> RwLockReadGuard<'static, ()> {
    LOAD.read().unwrap_or_else(PoisonError::into_inner)
}

/// Sets a flag when it is dropped, also by a failure: whoever works until then does not keep the test from ending.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes a line that is seen even if the test passes: past the capture of the test harness.
pub fn report(line: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "{line}"));
}
