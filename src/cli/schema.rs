//! `sluicegate schema add|activate|list|show|remove`: schemas and their versions.

use super::{
    exit::Failure,
    print::{Common, date, encoded, json, table},
};
use crate::{
    api::schemas::{AddedSchema, NewSchema, SchemaKind, SchemaVersionView, SchemaView},
    limits::SCHEMA_BODY_BYTES_MAX,
};
use clap::{Args, Subcommand};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

const SCHEMAS: &str = "/api/v1/schemas";

/// Add schemas and their versions, and activate one.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Add a schema, or the next version of one; the first version is active at once, others after `schema activate`
    Add {
        /// Name of the schema
        name: String,
        /// Language: json, protobuf, avro or graphql
        #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
        kind: SchemaKind,
        /// File with the text; `-` for standard input
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Protobuf: message type of the records; by default the first of the file
        #[arg(long, value_name = "MESSAGE")]
        message: Option<String>,
        /// Protobuf: an imported file, with its name in the import statement; can be given several times
        #[arg(long = "import", value_name = "NAME=FILE", value_parser = import)]
        imports: Vec<(String, PathBuf)>,
        #[command(flatten)]
        common: Common,
    },
    /// Activate a version, for all producers at once; it may be an older one
    Activate {
        /// Name of the schema
        name: String,
        /// Number of the version
        version: u32,
        #[command(flatten)]
        common: Common,
    },
    /// List the schemas
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show a schema with its versions and the text of the active one
    Show {
        /// Name of the schema
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a schema that is attached to no station
    Remove {
        /// Name of the schema
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs the command.
pub(super) fn run(args: &SchemaArgs) -> Result<(), Failure> {
    match &args.command {
        SchemaCommand::Add { name, common, .. } => {
            let body = new_schema(&args.command)?;
            common.ask("POST", SCHEMAS, Some(&body), |AddedSchema { version, schema }: AddedSchema| {
                added(name, version, schema.active_version)
            })
        }
        SchemaCommand::Activate { name, version, common } => {
            let body = serde_json::json!({ "version": version }).to_string();
            common.ask("PUT", &format!("{}/active", path(name)), Some(&body), |schema: SchemaView| {
                format!("{name}: version {} is active\n", schema.active_version)
            })
        }
        SchemaCommand::List { common } => common.list(SCHEMAS, "items", |schemas| listing(&schemas)),
        SchemaCommand::Show { name, common } => {
            common.ask("GET", &path(name), None, |schema: SchemaView| shown(&schema))
        }
        SchemaCommand::Remove { name, common } => {
            common.order("DELETE", &path(name), None, &format!("removed {name}\n"))
        }
    }
}

fn path(name: &str) -> String {
    format!("{SCHEMAS}/{}", encoded(name))
}

fn kind(text: &str) -> Result<SchemaKind, String> {
    let known = SchemaKind::ALL.into_iter().find(|kind| kind.word() == text.to_ascii_lowercase());
    known.ok_or_else(|| format!("write one of: {}", SchemaKind::ALL.map(SchemaKind::word).join(", ")))
}

fn import(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write NAME=FILE, with the name in the import statement".to_owned()),
    }
}

/// Returns the body of the request that adds the schema.
fn new_schema(command: &SchemaCommand) -> Result<String, Failure> {
    let SchemaCommand::Add { name, kind, file, message, imports, .. } = command else {
        return Err(Failure::usage("nothing to add"));
    };
    let imports: Result<BTreeMap<String, String>, Failure> =
        imports.iter().map(|(name, file)| Ok((name.clone(), text_of(file)?))).collect();
    let new = NewSchema {
        name: name.clone(),
        kind: *kind,
        schema: text_of(file)?,
        message: message.clone(),
        imports: imports?,
    };
    json(&new)
}

/// Returns the text of a file, up to what the gateway would take.
fn text_of(file: &Path) -> Result<String, Failure> {
    let wrong = |fault: &dyn std::fmt::Display| Failure::usage(format!("{}: {fault}", file.display()));
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file).map_err(|fault| wrong(&fault))?)
    };
    let mut text = String::new();
    source.take(SCHEMA_BODY_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|fault| wrong(&fault))?;
    if text.len() > SCHEMA_BODY_BYTES_MAX {
        return Err(wrong(&format!("more than {SCHEMA_BODY_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn added(name: &str, version: u32, active_version: u32) -> String {
    if version == active_version {
        format!("added {name}, version {version}, which is active\n")
    } else {
        format!(
            "added {name}, version {version}; version {active_version} is active until you say: \
             sluicegate schema activate {name} {version}\n"
        )
    }
}

fn listing(schemas: &[SchemaView]) -> String {
    let row = |schema: &SchemaView| {
        [
            schema.name.clone(),
            schema.kind.word().to_owned(),
            schema.active_version.to_string(),
            schema.versions.len().to_string(),
            schema.stations.join(", "),
        ]
    };
    table(["NAME", "TYPE", "ACTIVE", "VERSIONS", "STATIONS"], &schemas.iter().map(row).collect::<Vec<_>>())
}

fn shown(schema: &SchemaView) -> String {
    let row = |version: &SchemaVersionView| {
        [
            version.version.to_string(),
            if version.version == schema.active_version { "active" } else { "" }.to_owned(),
            date(version.created_ms),
            version.created_by.clone(),
            version.message.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = schema.versions.iter().map(row).collect();
    let mut text = format!("{} ({})\n", schema.name, schema.kind.word());
    if !schema.stations.is_empty() {
        let _ = writeln!(text, "stations: {}", schema.stations.join(", "));
    }
    let _ = write!(text, "\n{}", table(["VERSION", "", "ADDED", "BY", "MESSAGE"], &rows));
    if let Some(active) = schema.versions.iter().find(|version| version.version == schema.active_version) {
        let _ = write!(text, "\n{}\n", active.schema.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        schema: SchemaArgs,
    }

    #[test]
    fn a_schema_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).to_str().unwrap().to_owned()
        };
        let (main, other) = (file("a.proto", "message A {}"), file("b.proto", "message B {}"));
        let imported = format!("x/b.proto={other}");
        let line =
            ["schema", "add", "orders", "--type", "Protobuf", "--file", &main, "--message", "A", "--import", &imported];
        let line = Line::try_parse_from(line).unwrap();
        let body: Value = serde_json::from_str(&new_schema(&line.schema.command).unwrap()).unwrap();
        let expect = json!({"name": "orders", "type": "protobuf", "schema": "message A {}", "message": "A",
            "imports": {"x/b.proto": "message B {}"}});
        assert_eq!(body, expect);
        let missing =
            Line::try_parse_from(["schema", "add", "o", "--type", "json", "--file", "/nothing/here"]).unwrap();
        assert!(new_schema(&missing.schema.command).is_err_and(|failure| failure.exit == crate::cli::Exit::Usage));
    }

    #[test]
    fn the_forms_of_the_command_line() {
        for line in [
            &["add", "o", "--type", "json", "--file", "f"][..],
            &["add", "o", "--type", "graphql", "--file", "-", "--json", "--url", "http://h:1"],
            &["activate", "o", "3"],
            &["list", "--json"],
            &["show", "o"],
            &["remove", "o"],
        ] {
            let line = [&["schema"], line].concat();
            assert!(Line::try_parse_from(&line).is_ok(), "{line:?}");
        }
        for line in [
            &["add", "o", "--type", "xml", "--file", "f"][..],
            &["add", "o", "--type", "json"],
            &["add", "o", "--type", "json", "--file", "f", "--import", "x"],
            &["activate", "o"],
            &["activate", "o", "latest"],
        ] {
            let line = [&["schema"], line].concat();
            assert!(Line::try_parse_from(&line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_active_version_is_shown() {
        let version = |version, schema: &str| SchemaVersionView {
            version,
            schema: schema.to_owned(),
            message: None,
            imports: BTreeMap::new(),
            created_by: "root".to_owned(),
            created_ms: 1_700_000_000_000,
        };
        let schema = SchemaView {
            name: "o".to_owned(),
            kind: SchemaKind::Json,
            active_version: 1,
            versions: vec![version(1, "{}\n"), version(2, "true")],
            stations: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(
            listing(std::slice::from_ref(&schema)),
            "NAME  TYPE  ACTIVE  VERSIONS  STATIONS\no     json  1       2         a, b\n"
        );
        assert_eq!(
            shown(&schema),
            "o (json)\nstations: a, b\n\n\
             VERSION          ADDED                          BY    MESSAGE\n\
             1        active  Tue, 14 Nov 2023 22:13:20 GMT  root\n\
             2                Tue, 14 Nov 2023 22:13:20 GMT  root\n\n{}\n"
        );
        assert!(added("o", 1, 1).contains("which is active"));
        assert!(added("o", 2, 1).contains("schema activate o 2"));
    }
}
