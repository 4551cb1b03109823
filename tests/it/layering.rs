//! Who may use whom: the table of ARCHITECTURE.md, compared with the paths that the sources name.
//!
//! What a module may use is listed; everything else is forbidden. Test code is looked at as well,
//! except for the blocks under `#[cfg(test)]`, which may prepare what they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A module, and the other modules of the crate that it may name.
type Rule = (&'static str, &'static [&'static str]);

/// Words that everybody speaks: limits, refusals, names of stations, places in buffers.
const COMMON: &[&str] = &["limits", "reject", "station", "byte_order_mark"];

/// The table of ARCHITECTURE.md. `x::y` allows that submodule, or that type, alone.
const RULES: &[Rule] = &[
    ("limits", &[]),
    ("reject", &[]),
    ("byte_order_mark", &[]),
    ("station", &[]),
    ("schema", &[]),
    ("budget", &[]),
    ("wire", &[]),
    ("auth", &["metrics::Counter"]),
    ("metrics", &[]),
    ("record", &["wire::Span", "wire::nats"]),
    ("rt", &[]),
    ("transport", &["rt"]),
    ("config", &["record::headers", "rt::DriverChoice", "wire::time"]),
    ("directory", &["rt", "auth", "schema"]),
    ("backend", &["record", "wire", "rt", "metrics"]),
    ("retry", &["record", "directory", "backend", "wire", "rt"]),
    ("dead_letters", &["record", "retry", "directory", "backend", "wire", "metrics", "rt::clock"]),
    (
        "ingest",
        &[
            "record",
            "retry",
            "dead_letters",
            "directory",
            "backend",
            "wire::Span",
            "wire::content_encoding",
            "wire::json",
            "wire::json_lines",
            "budget",
            "metrics",
            "schema",
            "rt",
        ],
    ),
    ("consume", &["dead_letters", "rt", "directory", "backend", "wire", "budget", "metrics"]),
    (
        "dialect",
        &[
            "api::refusals",
            "api::texts",
            "ingest",
            "consume",
            "directory",
            "auth",
            "record",
            "wire::content_encoding",
            "wire::http",
            "wire::json_lines",
            "wire::nats",
            "wire::sse",
            "wire::time",
            "wire::Span",
            "metrics",
            "budget",
        ],
    ),
    ("conn", &["dialect", "wire::http", "wire::http1", "wire::Span", "transport", "rt", "budget", "metrics"]),
    (
        "shard",
        &[
            "conn",
            "dialect",
            "directory",
            "ingest",
            "consume",
            "auth",
            "backend",
            "metrics",
            "record",
            "rt",
            "config",
            "budget",
        ],
    ),
    ("api", &["schema::SchemaType"]),
    (
        "control",
        &[
            "api",
            "config",
            "directory",
            "backend::local",
            "dead_letters::fields",
            "record",
            "auth",
            "metrics",
            "schema",
            "rt::clock",
        ],
    ),
    ("admin", &["api", "control", "dialect::descriptions", "metrics", "rt::clock"]),
    (
        "gateway",
        &[
            "admin",
            "auth",
            "backend",
            "config",
            "control",
            "dialect",
            "directory",
            "ingest",
            "metrics",
            "record",
            "rt",
            "shard",
            "wire",
        ],
    ),
    ("bench", &["config::Secret", "rt::clock"]),
    ("logging", &["config", "metrics::LOG_LINES_DROPPED", "rt::clock"]),
    ("cli", &["api", "bench", "config", "gateway", "logging", "rt::clock"]),
    // The door of the benches, the fuzz targets and perf/.
    ("internals", &["auth", "backend", "budget", "conn", "dialect", "metrics", "rt", "schema", "wire"]),
    ("main", &["cli", "gateway"]),
];

/// Crates that only these modules may name.
const CRATES: &[Rule] = &[
    ("monoio", &["rt"]),
    ("io_uring", &["rt"]),
    ("tokio", &["control", "admin"]),
    ("async_nats", &["control", "admin"]),
    ("axum", &["control", "admin"]),
    // The load generator compresses; only `wire::content_encoding` undoes it, and clippy.toml bans that everywhere else.
    ("libdeflater", &["wire::content_encoding", "bench"]),
    ("miniz_oxide", &["wire::content_encoding"]),
    ("fjall", &["backend::local"]),
    ("jsonwebtoken", &["auth"]),
    ("argon2", &["auth", "control", "cli"]),
    ("jsonschema", &["schema"]),
    ("prost_reflect", &["schema"]),
    ("protox", &["schema"]),
    ("apache_avro", &["schema"]),
    ("apollo_compiler", &["schema"]),
    ("utoipa", &["api", "admin", "dialect"]),
    ("httparse", &["wire::http1"]),
];

/// Exceptions to the tables: a file, what it names, and why that is right. This list may only shrink.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[test]
fn modules_use_only_what_they_may() {
    let mut broken = BTreeSet::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let top = module.split("::").next().unwrap();
        let Some((_, allowed)) = RULES.iter().find(|(name, _)| *name == top) else { continue };
        for used in crate_paths(&text) {
            let first = used.split("::").next().unwrap();
            let known = RULES.iter().any(|(name, _)| *name == first);
            let may = first == top || COMMON.contains(&first) || allowed.iter().any(|entry| covers(entry, &used));
            if known && !may && !excepted(&path, &used) {
                broken.insert(format!("{} uses {used}: {top} may use {allowed:?} and {COMMON:?}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_crate_is_named_where_it_belongs() {
    let mut broken = BTreeSet::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let names = idents(&text);
        for (name, owners) in CRATES {
            let owner = owners.iter().any(|owner| covers(owner, &module));
            if !owner && names.contains(*name) && !excepted(&path, name) {
                broken.insert(format!("{} names {name}, which belongs to {owners:?}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn nothing_uses_what_uses_it() {
    let table = RULES.iter().map(|(name, allowed)| {
        let used = allowed.iter().map(|entry| entry.split("::").next().unwrap().to_owned());
        ((*name).to_owned(), used.filter(|used| used != name).collect())
    });
    assert_eq!(circle(&table.collect()), None, "the table above");
    assert_eq!(circle(&submodules("control", &sources())), None, "the submodules of control");
}

#[test]
fn a_circle_is_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])), None);
    let found = circle(&graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]));
    assert_eq!(found, Some(["b", "c", "d", "b"].map(str::to_owned).to_vec()));
    let source = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
    let sources = [
        source("x/mod.rs", "mod a; mod b; use a::A; use b::B;"),
        source("x/a.rs", "use super::{b::B, c};\nuse crate::x::d::D;"),
        source("x/b/mod.rs", "use super::a; use inner::I;"),
        source("x/b/inner.rs", "pub(in super::super) use super::super::e::E; use super::f;"),
        source("y/a.rs", "use crate::x::a;"),
    ];
    let expect = [("x", "a"), ("x", "b"), ("a", "b"), ("a", "x"), ("b", "a"), ("b", "x")];
    assert_eq!(submodules("x", &sources), graph(&expect), "`c` to `f` are items of `x`");
}

#[test]
fn every_module_has_a_rule_and_every_rule_a_module() {
    let known: BTreeSet<&str> = RULES.iter().map(|(name, _)| *name).collect();
    let modules: BTreeSet<String> = sources()
        .iter()
        .map(|(path, _)| module_of(path).split("::").next().unwrap().to_owned())
        .filter(|name| *name != "lib")
        .collect();
    assert_eq!(modules.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

#[test]
fn dialects_do_not_know_each_other_and_pure_code_knows_no_clock() {
    for (path, text) in sources() {
        let module = module_of(&path);
        let parts: Vec<&str> = module.split("::").collect();
        if let ["dialect", own, ..] = parts.as_slice() {
            for used in crate_paths(&text).iter().filter_map(|used| used.strip_prefix("dialect::")) {
                let other = used.split("::").next().unwrap();
                let is_dialect = sources_below("dialect").contains(other);
                assert!(!is_dialect || other == *own, "{} uses dialect::{other}", path.display());
            }
        }
        if ["wire", "auth", "record", "reject", "limits", "station", "budget"].contains(&parts[0])
            && !excepted(&path, "clock")
        {
            for clock in ["Instant::now", "SystemTime::now", "clock::", "std::net::Tcp", "UdpSocket"] {
                assert!(
                    !text.contains(clock),
                    "{} names {clock}: time and sockets come in as arguments",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_reader_of_modules_finds_those_of_tests() {
    let text =
        "#[cfg(test)]\nmod tests;\nmod other;\n#[cfg(test)]\npub(crate) mod testing;\n#[cfg(test)]\nmod inline {\n}\n";
    assert_eq!(test_modules("a::b", text), ["a::b::tests", "a::b::testing"]);
    assert_eq!(test_modules("lib", text), ["tests", "testing"]);
}

#[test]
fn the_reader_of_paths_finds_them() {
    let text = strip(
        "use crate::{a, b::{c, d::e as f}, g::*};\n// use crate::no;\nlet x = crate::h::i(\"crate::no\");\n\
                      /* crate::no */ fn f() { super::x::y(); }\n#[cfg(test)]\nmod tests {\n use crate::no;\n}\n",
    );
    let expect = ["a", "b::c", "b::d::e", "g::*", "h::i"].map(str::to_owned);
    assert_eq!(crate_paths(&text), BTreeSet::from(expect));
}

/// Modules, and the modules that each of them uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns which submodules of a module use which others of them. The module itself uses them all: one that uses an item
/// of it closes a circle.
fn submodules(top: &str, sources: &[(PathBuf, String)]) -> Graph {
    let prefix = format!("{top}::");
    let child = |path: &str| path.strip_prefix(&prefix).map(|rest| rest.split("::").next().unwrap().to_owned());
    let children: BTreeSet<String> = sources.iter().filter_map(|(path, _)| child(&module_of(path))).collect();
    let mut graph = Graph::from([(top.to_owned(), children.clone())]);
    for (path, text) in sources {
        let module = module_of(path);
        let Some(user) = child(&module) else { continue };
        let paths = crate_paths(text).into_iter().chain(super_paths(&module, text));
        let used = paths.filter_map(|path| child(&path)).filter(|used| *used != user);
        let used = used.map(|used| if children.contains(&used) { used } else { top.to_owned() });
        graph.entry(user.clone()).or_default().extend(used);
    }
    graph
}

/// Returns the modules of a circle, the first of them again at the end, if there is one.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    /// Follows the last module of the way.
    fn walk<'a>(graph: &'a Graph, way: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>) -> Option<Vec<String>> {
        let last = *way.last()?;
        for next in graph.get(last).into_iter().flatten() {
            if let Some(at) = way.iter().position(|module| module == next) {
                return Some(way[at..].iter().copied().chain([next.as_str()]).map(str::to_owned).collect());
            }
            if !done.contains(next.as_str()) {
                way.push(next);
                if let Some(found) = walk(graph, way, done) {
                    return Some(found);
                }
                way.pop();
            }
        }
        done.insert(last);
        None
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| walk(graph, &mut vec![module.as_str()], &mut done))
}

fn covers(entry: &str, used: &str) -> bool {
    used == entry || used.strip_prefix(entry).is_some_and(|rest| rest.starts_with("::"))
}

fn excepted(path: &Path, what: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, named, _)| path.ends_with(file) && covers(named, what))
}

fn sources_below(folder: &str) -> BTreeSet<String> {
    let modules = sources().into_iter().map(|(path, _)| module_of(&path));
    modules
        .filter_map(|module| {
            module.strip_prefix(folder)?.strip_prefix("::").map(|rest| rest.split("::").next().unwrap().to_owned())
        })
        .collect()
}

/// Every file under `src` but those that are test code as a whole, with comments, texts and test
/// modules taken out.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).unwrap();
                found.insert(entry.strip_prefix(&root).unwrap().to_owned(), text);
            }
        }
    }
    assert!(found.len() > 10, "no sources below {}", root.display());
    let tests: BTreeSet<String> = found.iter().flat_map(|(path, text)| test_modules(&module_of(path), text)).collect();
    let is_test = |path: &Path| tests.iter().any(|module| covers(module, &module_of(path)));
    found.into_iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| (path, strip(&text))).collect()
}

/// Modules that `module` declares under `#[cfg(test)]` and that stand in files of their own.
fn test_modules(module: &str, text: &str) -> Vec<String> {
    let parent = if matches!(module, "lib" | "main") { String::new() } else { format!("{module}::") };
    let declared = text.match_indices("#[cfg(test)]").filter_map(|(at, marker)| {
        let line = text[at + marker.len()..].trim_start().lines().next()?;
        let name = line.rsplit_once("mod ")?.1.strip_suffix(';')?;
        Some(format!("{parent}{name}"))
    });
    declared.collect()
}

/// `a/b/mod.rs` and `a/b.rs` are `a::b`.
fn module_of(path: &Path) -> String {
    let text = path.with_extension("").to_string_lossy().replace('/', "::");
    text.strip_suffix("::mod").map_or_else(|| text.clone(), str::to_owned)
}

/// Blanks out comments, string literals and items under `#[cfg(test)]`.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |at| &rest[at + 2..]);
        } else if first == '"' {
            rest = &rest[string_len(rest)..];
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            rest = &rest[3..];
        } else if rest.starts_with("r#\"") {
            rest = rest[3..].find("\"#").map_or("", |at| &rest[at + 5..]);
        } else if let Some(item) = rest.strip_prefix("#[cfg(test)]") {
            rest = &item[item_len(item)..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn string_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Bytes up to the end of the item that follows: its closing brace in the first column, or its semicolon.
fn item_len(text: &str) -> usize {
    let semicolon = text.find(';').unwrap_or(text.len());
    let brace = text.find('{').unwrap_or(text.len());
    if semicolon < brace {
        return semicolon + 1;
    }
    let indent = text.trim_start_matches('\n').len() - text.trim_start_matches(['\n', ' ']).len();
    let end = format!("\n{}}}", " ".repeat(indent));
    text.find(&end).map_or(text.len(), |at| at + end.len())
}

/// Every path that begins with `crate::` (or, in the binary, `sluicegate::`), groups unfolded, types cut off.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for root in ["crate::", "sluicegate::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if !before.is_alphanumeric() && !matches!(before, '_' | ':' | '$') {
                unfold("", &text[at + root.len()..], &mut paths);
            }
        }
    }
    paths
}

/// Every path that begins with `super::`, once or more, in the text of a module; written from the crate's root.
fn super_paths(module: &str, text: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, step) in text.match_indices("super::") {
        // Further steps of a path are read with its first.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')) {
            continue;
        }
        let (mut parent, mut rest) = (module, &text[at..]);
        while let Some(further) = rest.strip_prefix(step) {
            parent = parent.rsplit_once("::").map_or("", |(parent, _)| parent);
            rest = further;
        }
        // `pub(in super::super)` names nothing.
        if !rest.starts_with("super") {
            unfold(parent, rest, &mut paths);
        }
    }
    paths
}

/// Reads one path or group; returns the bytes read.
fn unfold(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let name_len = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(text.len());
    let path = if prefix.is_empty() { text[..name_len].to_owned() } else { format!("{prefix}::{}", &text[..name_len]) };
    if name_len > 0 && text[name_len..].starts_with("::") {
        return name_len + 2 + unfold(&path, &text[name_len + 2..], paths);
    }
    if name_len > 0 {
        paths.insert(path);
        return name_len;
    }
    if !text.starts_with('{') {
        return 0;
    }
    let mut at = 1;
    while at < text.len() && !text[at..].starts_with('}') {
        let skip = text[at..].find(|c: char| !(c.is_whitespace() || c == ',')).unwrap_or(0);
        at += skip;
        if text[at..].starts_with('}') {
            break;
        }
        at += unfold(prefix, &text[at..], paths);
        // `as name`, and whatever else stands before the comma.
        at += text[at..].find([',', '}']).unwrap_or(text.len() - at);
    }
    at + 1
}

/// Identifiers that stand at the beginning of a path: `name::…` or `use name;`.
fn idents(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("::") {
        let before = &text[..at];
        let start = before.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |index| index + 1);
        if !before[..start].ends_with("::") {
            found.insert(before[start..].to_owned());
        }
    }
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("use ")) {
        found.insert(line.split([':', ';', ' ']).next().unwrap_or_default().to_owned());
    }
    found
}
