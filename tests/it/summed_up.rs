//! The last line of `make test`, which `.ci/sum-up` writes: it counts what passed, and whatever went wrong makes it fail.

use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/sum-up");

#[test]
fn what_passed_is_counted_and_nothing_wrong_passes() {
    let rows: [(&str, i32, &str); 9] = [
        ("a: 2 0 0\nb: 3 0 0", 0, " s; 5 tests: a 2, b 3"),
        // Unit tests are those of the library and of the program.
        ("a: 2 0 0\n+ 0 0 0\n+ 1 0 0", 0, "; 3 tests: a 3"),
        ("benches:\nSuccess\nSuccess", 0, "; 2 tests: benches 2"),
        ("not checked: lint\na: 2 0 1", 0, "; 2 tests: a 2; ignored 1; not checked: lint"),
        ("a: 2 0 0\nb: 3 1 0\nend 2", 2, " s; passed before that 5: a 2, b 3 and 1 FAILED"),
        ("end 101", 101, " s; passed before that 0:"),
        // Nothing that the command failed to fail for.
        ("a: 2 1 0", 1, "a 2 and 1 FAILED"),
        ("a: 2 0 0\nb: 0 0 0", 1, "b 0 RAN NOTHING"),
        ("", 1, "RAN NOTHING"),
    ];
    for (script, code, expect) in rows {
        let suite: String = script.lines().map(shell).collect();
        let output = Command::new(SCRIPT).args(["make test", "sh", "-c", &suite]).output().unwrap();
        let [said, complained] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let last = if code == 0 { &said } else { &complained }.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(code), "{script:?}: {said}{complained}");
        let verdict = if code == 0 { "make test: passed in " } else { "make test: FAILED after " };
        assert!(last.starts_with(verdict) && last.contains(expect), "{script:?}: {last}");
    }
}

/// What a shell does for a line of a suite: `PART: passed failed ignored`, `+` for more of that part, `end CODE`, or a line to say.
fn shell(line: &str) -> String {
    let result = |passed: &str, failed: &str, ignored: &str| {
        format!(
            "echo 'test result: ok. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 9 filtered out';"
        )
    };
    match line.split(' ').collect::<Vec<&str>>()[..] {
        ["end", code] => format!("exit {code};"),
        ["+", passed, failed, ignored] => result(passed, failed, ignored),
        [part, passed, failed, ignored] if part.ends_with(':') => shell(part) + &result(passed, failed, ignored),
        [part] if part.ends_with(':') => format!("echo '== {}';", part.trim_end_matches(':')),
        _ => format!("echo '{line}';"),
    }
}
