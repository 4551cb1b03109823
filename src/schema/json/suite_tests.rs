//! Holds the schemas to files in the format of the official JSON-Schema-Test-Suite: the project's own sample, and
//! whatever `SLUICEGATE_JSON_SCHEMA_SUITE` names (its `tests` folder). `tests/data/json-schema/README.md` says how it
//! is laid out.

use super::{CompileError, JsonSchema, Scratch, complexity};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{env, fs, path::Path, path::PathBuf};

/// The folders, and what `$schema` says in them.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Where we differ from the official suite, on purpose: a schema that needs another document, or its own metaschema, is
/// refused as a whole (`$ref`s to elsewhere would make a gateway fetch what its tenants name). The groups are known by
/// this address, which the suite's runners are to serve; each must be refused for this reason.
const ELSEWHERE: &str = "http://localhost:1234/";

#[derive(Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    description: String,
    data: Box<RawValue>,
    valid: bool,
}

#[test]
fn the_suite_holds() {
    let folder = env::var_os("SLUICEGATE_JSON_SCHEMA_SUITE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-schema"), PathBuf::from);
    let (mut passed, mut refused, mut failed) = (0, 0, Vec::new());
    for (draft, meta) in DRAFTS {
        let before = passed;
        for file in files(&folder.join(draft)) {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
            let text = fs::read_to_string(&file).expect("the file can be read");
            let groups: Vec<Group> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            for group in groups {
                let compiled = compile(&group, meta);
                if group.schema.to_string().contains(ELSEWHERE)
                    && compiled.as_ref().is_err_and(|error| error.0.contains(complexity::ELSEWHERE))
                {
                    refused += group.tests.len();
                    continue;
                }
                for (case, outcome) in run(&group, &compiled) {
                    match outcome {
                        None => passed += 1,
                        Some(why) => {
                            failed.push(format!("{draft}/{name}: {}: {}: {why}", group.description, case.description));
                        }
                    }
                }
            }
        }
        assert!(passed > before, "{draft} has no tests in {}", folder.display());
    }
    println!("{passed} passed, {refused} refused as they must be, {} failed", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn compile(group: &Group, meta: &str) -> Result<JsonSchema, CompileError> {
    let mut schema = group.schema.clone();
    if let Value::Object(keywords) = &mut schema {
        keywords.entry("$schema").or_insert_with(|| meta.into());
    }
    JsonSchema::compile(&schema.to_string())
}

/// The cases of a group, each with what is wrong, if anything is.
fn run<'a>(group: &'a Group, compiled: &Result<JsonSchema, CompileError>) -> Vec<(&'a Case, Option<String>)> {
    let mut scratch = Scratch::default();
    let mut hold = |case: &Case| match compiled {
        Err(error) => Some(format!("does not compile: {error}")),
        Ok(schema) => match (schema.check(case.data.get().as_bytes(), &mut scratch), case.valid) {
            (Ok(()), true) | (Err(_), false) => None,
            (Ok(()), false) => Some("should not be valid".to_owned()),
            (Err(violation), true) => Some(format!("should be valid: {violation}")),
        },
    };
    group.tests.iter().map(|case| (case, hold(case))).collect()
}

/// The files of a folder, in order; what lies in folders within it is optional and left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}
