//! Nothing outlives the suite: a shell that waits for this process to end, however it ends, then
//! kills what is still running and removes what is still lying about.
//!
//! Gateways that tests share live in statics, and statics are never dropped; a test process may also
//! be killed. The shell learns of both by the end of its standard input.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

/// This process id is to be killed at the end.
pub fn own_process(pid: u32) {
    tell(&format!("start {pid}"));
}

/// This process id is gone: it may be somebody else's soon.
pub fn disown_process(pid: u32) {
    tell(&format!("stop {pid}"));
}

/// This directory is to be removed at the end.
pub fn own_dir(path: &Path) {
    tell(&format!("dir {}", path.display()));
}

const SCRIPT: &str = r#"
pids=
while read -r word what; do
    case $word in
        start) pids="$pids $what" ;;
        stop) left=; for pid in $pids; do [ "$pid" = "$what" ] || left="$left $pid"; done; pids=$left ;;
        dir) set -- "$@" "$what" ;;
    esac
done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
# What is being killed may still be writing where it is about to be removed.
for turn in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$pids" ] && kill -0 $pids 2>/dev/null || break
    sleep 0.2
done
for dir; do rm -rf "$dir"; done
"#;

fn tell(line: &str) {
    static SHELL: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    #[expect(clippy::zombie_processes, reason = "it outlives this process: that is what it is for")]
    let shell = SHELL.get_or_init(|| {
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // an interrupt from the terminal is for the tests, not for the reaper
            .spawn()
            .unwrap();
        Mutex::new(child.stdin.unwrap())
    });
    let mut shell = shell.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(shell, "{line}").unwrap();
}
