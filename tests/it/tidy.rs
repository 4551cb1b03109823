//! Rules of the house that no lint can state. A list of exceptions may only shrink: an entry that is
//! no longer needed fails the test as well.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Files over the limit, with the lines they have: this many and no more.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions over the limit, with the lines they have.
const LONG_FUNCTIONS: &[(&str, usize)] = &[
    // Tables of cases.
    ("src/wire/http1/tests/framing.rs::framing_that_can_be_read_in_two_ways_is_refused", 105),
    ("src/wire/http1/tests/heads.rs::request_lines_in_their_forms", 114),
];

#[test]
fn files_are_short_enough_to_be_read() {
    let long = files().into_iter().map(|(path, text)| (path, text.lines().count()));
    ratchet(&long.filter(|(_, lines)| *lines > FILE_LINES_MAX).collect(), LONG_FILES, FILE_LINES_MAX);
}

#[test]
fn functions_are_short_enough_to_be_seen() {
    let mut long = BTreeMap::new();
    for (path, text) in files() {
        for (name, lines) in functions(&text) {
            if lines > FUNCTION_LINES_MAX {
                long.insert(format!("{path}::{name}"), lines);
            }
        }
    }
    ratchet(&long, LONG_FUNCTIONS, FUNCTION_LINES_MAX);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> =
        files().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no `//!` in {silent:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled so that this file does not find itself.
    let words = ["FIX", "XX", "TO", "unimpl", "#[ign"].into_iter().zip(["ME", "X", "DO:", "emented!", "ore"]);
    let words: Vec<String> = words.map(|(first, second)| format!("{first}{second}")).collect();
    for (path, text) in files() {
        for (number, line) in text.lines().enumerate() {
            for word in &words {
                assert!(!line.contains(word.as_str()), "{path}:{}: {line}", number + 1);
            }
        }
    }
}

#[test]
fn unsafe_code_stands_only_where_the_splitter_speaks_to_the_processor() {
    let needle = ["allow(unsafe", "_code"].concat();
    let found: Vec<String> =
        files().into_iter().filter(|(_, text)| text.contains(&needle)).map(|(name, _)| name).collect();
    assert_eq!(found, ["src/wire/json/avx2.rs", "src/wire/json/avx512.rs"]);
}

/// What the size of a number makes the largest of its kind is no limit: it is named after what it is.
#[test]
fn limits_stand_in_their_folder() {
    let elsewhere = ["src/limits/", "src/cli/", "src/bench/"];
    let mut found = Vec::new();
    for (path, text) in files() {
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs") || path.contains("/testing");
        if !path.starts_with("src/") || is_test || elsewhere.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        found.extend(code.lines().filter_map(constant).map(|name| format!("{path}: {name}")));
    }
    found.retain(|name| name.ends_with("_MAX"));
    assert!(found.is_empty(), "in src/limits, beside their kin, should stand:\n{}", found.join("\n"));
}

/// A client reads "too busy: … is full" (`src/reject/text.rs`).
#[test]
fn what_is_full_is_named_so_that_a_client_understands_it() {
    let mut found = Vec::new();
    for (path, text) in files().into_iter().filter(|(path, _)| path.starts_with("src/")) {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        let words = code.split("Overloaded(\"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(words.filter(|word| word.len() > 1).map(|word| (path.clone(), word.to_owned())));
    }
    assert!(found.len() > 10, "the sources are written otherwise by now: {found:?}");
    let wrong: Vec<_> = found
        .into_iter()
        .filter(|(_, word)| !["the ", "memory "].iter().any(|first| word.starts_with(first)))
        .collect();
    assert!(wrong.is_empty(), "write \"the number of …\", \"the queue of …\" or \"memory for …\": {wrong:?}");
}

#[test]
fn main_is_a_table_of_contents() {
    let files = files();
    assert!(files["src/main.rs"].lines().count() <= 130, "{}", files["src/main.rs"].lines().count());
}

#[test]
fn the_counter_of_lines_counts_them() {
    let text = "fn one() {}\n\nimpl X {\n    pub const fn two(\n        a: u8,\n    ) {\n        a\n    }\n}\n\
                pub(crate) async fn three<T>()\nwhere\n    T: U,\n{\n    x\n}\ntrait T {\n    fn none();\n}\n";
    let found: Vec<(String, usize)> = functions(text);
    assert_eq!(found, [("one".to_owned(), 1), ("two".to_owned(), 5), ("three".to_owned(), 6)]);
}

/// Fails for what is long and not listed, has grown, has shrunk, or is listed and not long.
fn ratchet(found: &BTreeMap<String, usize>, listed: &[(&str, usize)], limit: usize) {
    let mut wrong = Vec::new();
    for (name, lines) in found {
        match listed.iter().find(|(known, _)| known == name) {
            None => wrong.push(format!("{name}: {lines} lines; {limit} are allowed")),
            Some((_, allowed)) if lines > allowed => wrong.push(format!("{name}: {lines} lines; it had {allowed}")),
            Some((_, allowed)) if lines < allowed => {
                wrong.push(format!("{name}: now {lines} lines: say so in the list"));
            }
            Some(_) => {}
        }
    }
    let gone = listed.iter().filter(|(known, _)| !found.contains_key(*known));
    wrong.extend(gone.map(|(known, _)| format!("{known}: no longer long: take it off the list")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// All Rust files of the package, by their path from its root.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let folders = ["src", "tests", "benches", "fuzz/fuzz_targets", "perf/src"];
    let mut directories: Vec<PathBuf> =
        folders.iter().map(|name| root.join(name)).filter(|path| path.is_dir()).collect();
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Functions with a body and their lines, signature included. The sources are formatted: a function
/// ends with a brace as far indented as it began.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", &line[..indent]);
        let body =
            lines[start..].iter().position(|line| line.ends_with('{') || line.ends_with('}') || line.ends_with(';'));
        let Some(body) = body.map(|offset| start + offset) else { continue };
        if lines[body].ends_with('{') {
            if let Some(length) = lines[body..].iter().position(|line| *line == end) {
                found.push((name.to_owned(), body + length - start + 1));
            }
        } else if lines[body].ends_with('}') {
            found.push((name.to_owned(), body - start + 1));
        }
    }
    found
}

/// The name, if this line begins a constant.
fn constant(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("const ")?;
    let before = before.trim();
    let visibility = before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')'));
    visibility.then(|| rest.split(':').next().unwrap_or(rest))
}

/// The name, if this line begins a function.
fn function_name(line: &str) -> Option<&str> {
    let at = line.find("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    let before = line[..at].split_whitespace().all(|word| words.contains(&word) || word.starts_with("pub(in"));
    let rest = &line[at + 3..];
    let name = rest.split(['(', '<']).next()?;
    (before && rest.len() > name.len()).then_some(name)
}
