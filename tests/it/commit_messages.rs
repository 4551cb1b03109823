//! The rule for commit messages, which `.ci/run` has `.ci/commit-messages` check: what it refuses, which commits it looks at,
//! and that it fails nobody for lack of a git, a repository, a remote or a history.

use crate::support::{scratch, unique};
use std::{
    path::Path,
    process::{Command, Output},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/commit-messages");
const GOOD: &str = "auth: answer every 401\n\nIt names its challenge.\n";
const BAD: &str = "Answered every 401.\n\nIt names its challenge.\n";

#[test]
fn messages_say_where_what_and_why() {
    let long = |count: usize| format!("auth: {}\n\nWhy.\n", "ü".repeat(count - "auth: ".len()));
    let (longest, too_long) = (long(72), long(73));
    let rows: [(&str, &str); 20] = [
        (GOOD, ""),
        ("auth, http/1: answer\n\nWhy.", ""),
        ("wire/http1, docs: answer\n\nWhy.\n\nReviewed-by: Ann <ann@example.com>\n", ""),
        ("auth: answer\n\n# of the editor\nWhy.\n# ------------------------ >8 ------------------------\ndiff", ""),
        ("auth: use usernames: added ones as well\n\nWhy.\n", ""),
        (&longest, ""),
        (&too_long, "the subject has 73 characters"),
        ("", "the subject is not \"area: imperative\""),
        ("Answer every 401\n\nWhy.\n", "the subject is not \"area: imperative\""),
        ("Auth: answer\n\nWhy.\n", "the subject is not \"area: imperative\""),
        ("auth:answer\n\nWhy.\n", "the subject is not \"area: imperative\""),
        ("fixup! auth: answer\n\nWhy.\n", "the subject is not \"area: imperative\""),
        ("auth: adds a challenge\n\nWhy.\n", "not in the imperative"),
        ("auth: fixed the challenge\n\nWhy.\n", "not in the imperative"),
        ("auth: updating the challenge\n\nWhy.\n", "not in the imperative"),
        ("auth: answer.\n\nWhy.\n", "ends with a full stop"),
        ("auth: answer\nWhy.\n\nMore.\n", "the line after the subject is not blank"),
        ("auth: answer\n", "there is no body"),
        ("auth: answer\n\n \n# of the editor\n", "there is no body"),
        ("auth: answer\n\nReviewed-by: Ann <ann@example.com>\n", "there is no body"),
    ];
    let dir = scratch("messages");
    let file = dir.path().join("message");
    for (message, expect) in rows {
        std::fs::write(&file, message).unwrap();
        let (success, said) = outcome(Command::new(SCRIPT).arg(&file));
        assert_eq!(success, expect.is_empty(), "{message:?}: {said}");
        assert!(said.contains(expect), "{message:?}: {said}");
    }
}

#[test]
fn a_machine_without_git_or_repository_fails_nothing() {
    let dir = scratch("messages");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let bash = Command::new("sh").args(["-c", "command -v bash"]).output().unwrap();
    std::os::unix::fs::symlink(String::from_utf8(bash.stdout).unwrap().trim(), bin.join("bash")).unwrap();
    let (success, said) = outcome(Command::new(SCRIPT).current_dir(&dir).env("PATH", &bin));
    assert!(success && said.contains("not checked: commit messages: git is not installed"), "{said}");

    let Some(history) = History::new(dir.path()) else { return };
    history.expect(true, "not checked: commit messages: there is no commit yet");
    history.commit(BAD);
    // A tarball's files inside of somebody's repository.
    std::fs::create_dir(dir.path().join("below")).unwrap();
    History(&dir.path().join("below")).expect(true, "is not the root of its repository");
    std::fs::remove_dir_all(dir.path().join(".git")).unwrap();
    let (success, said) = outcome(script(dir.path()).env("GIT_CEILING_DIRECTORIES", dir.path().parent().unwrap()));
    assert!(success && said.contains("no repository that git can read"), "{said}");
}

#[test]
fn a_change_is_what_is_new_against_the_remotes_main_branch() {
    let dir = scratch("messages");
    let (upstream, clone) = (dir.path().join("upstream"), dir.path().join("clone"));
    std::fs::create_dir(&upstream).unwrap();
    let Some(history) = History::new(&upstream) else { return };
    history.commit(BAD);
    history
        .expect(true, "1 of 1 to be written anew (CONTRIBUTING.md; the last commit only, for there is no main branch");
    history.commit(GOOD);
    history.expect(true, "1 checked (the last commit only, for there is no main branch");
    history.git(&["clone", "--quiet", ".", clone.to_str().unwrap()]);

    let history = History(&clone);
    history.expect(true, "1 checked (the last commit only, for nothing is new against origin/HEAD)");
    history.git(&["checkout", "--quiet", "--detach"]);
    history.commit(GOOD);
    history.commit(GOOD);
    history.expect(true, "2 checked (new against origin/HEAD)");
    history.git(&["remote", "set-head", "origin", "--delete"]);
    history.expect(true, "2 checked (new against origin/main)");
    // A merge is exempt, whatever it says; what it brings is not.
    history.git(&["checkout", "--quiet", "-b", "side", "origin/main"]);
    history.commit(GOOD);
    history.git(&["merge", "--quiet", "--no-ff", "-m", "Merge", "HEAD@{1}", "@{-1}"]);
    history.expect(true, "3 checked (new against origin/main)");
    history.commit(BAD);
    history.commit(GOOD);
    history.expect(false, "1 of 5 to be written anew (CONTRIBUTING.md; new against origin/main)");
    // A history of its own.
    history.git(&["checkout", "--quiet", "--orphan", "other"]);
    history.commit(GOOD);
    history.expect(true, "1 checked (the last commit only, for it has no history in common with origin/main)");
}

#[test]
fn in_a_shallow_clone_the_last_commit_is_looked_at_unless_it_is_a_merge() {
    let dir = scratch("messages");
    let upstream = dir.path().join("upstream");
    std::fs::create_dir(&upstream).unwrap();
    let Some(history) = History::new(&upstream) else { return };
    let shallow = |name: &str, expect: &str| {
        let clone = dir.path().join(name);
        let from = format!("file://{}", upstream.display());
        history.git(&["clone", "--quiet", "--depth", "1", &from, clone.to_str().unwrap()]);
        History(&clone).expect(true, expect);
    };
    history.commit(BAD);
    history.commit(GOOD);
    shallow("good", "1 checked (the last commit only, for this clone is shallow)");
    history.commit(BAD);
    shallow("bad", "1 of 1 to be written anew (CONTRIBUTING.md; the last commit only, for this clone is shallow)");
    history.git(&["checkout", "--quiet", "-b", "side", "HEAD~1"]);
    history.commit(GOOD);
    history.git(&["merge", "--quiet", "--no-ff", "-m", "Merge", "main"]);
    shallow("merge", "0 checked (the last commit only, for this clone is shallow)");
}

/// A repository that is being written.
struct History<'a>(&'a Path);

impl<'a> History<'a> {
    /// Returns an empty one, or none where there is no git: the script then says so, whatever the directory holds.
    fn new(dir: &'a Path) -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            let (success, said) = outcome(&mut script(dir));
            assert!(success && said.contains("git is not installed"), "{said}");
            return None;
        }
        let history = Self(dir);
        history.git(&["init", "--quiet"]);
        history.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
        Some(history)
    }

    /// Two of one message and one second would be the same commit.
    fn commit(&self, message: &str) {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", &format!("{message}\n{}\n", unique("number"))]);
    }

    fn git(&self, arguments: &[&str]) {
        let (success, said) = outcome(alone(Command::new("git").current_dir(self.0).args(arguments)));
        assert!(success, "git {arguments:?}: {said}");
    }

    fn expect(&self, success: bool, expect: &str) {
        let (succeeded, said) = outcome(&mut script(self.0));
        assert_eq!(succeeded, success, "{said}");
        assert!(said.contains(expect), "{expect:?} is not in {said:?}");
    }
}

fn script(dir: &Path) -> Command {
    let mut command = Command::new(SCRIPT);
    alone(command.current_dir(dir));
    command
}

/// Without the settings of whoever runs the tests, nor of a hook that they run in.
fn alone(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Ann").env(format!("GIT_{role}_EMAIL"), "ann@example.com");
    }
    command
}

/// Whether it succeeded, and all that it said.
fn outcome(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), [stdout, stderr].iter().map(|bytes| String::from_utf8_lossy(bytes)).collect())
}
