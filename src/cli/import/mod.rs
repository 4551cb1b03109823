//! `sluicegate import memphis FILE`: imports the schemas and stations of a Memphis broker into a running gateway.
//!
//! An import adds and never changes what is set in the gateway. What the gateway has with the same content is skipped;
//! what it has with other content is reported and left as it is. So an import can be repeated, also after it failed
//! halfway.

mod dump;
mod gateway;
#[cfg(test)]
mod tests;

use super::{admin::AdminArgs, exit::Failure};
use crate::{
    api::{
        dead_letters::DeadLetterSettings,
        schemas::{AddedSchema, NewSchema, SchemaVersionView, SchemaView},
        stations::{AttachSchema, ChangeStation, StationView},
    },
    limits::DEAD_LETTERS_AGE,
};
use clap::{Args, Subcommand};
use dump::{DELIVERIES_MAX, Dump, SchemaPlan, StationPlan, VersionPlan};
use gateway::{Gateway, Trouble};
use serde_json::json;
use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// Size of a dump. Its schemas and stations are text that people have written.
const DUMP_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Import the stations and schemas of another system.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Schemas, stations and which schema each station has, from a dump of a Memphis broker
    Memphis {
        /// The dump, a JSON file (docs/migrating-from-memphis.md says how to make it); `-` for standard input
        file: PathBuf,
        /// Print what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs the command.
pub(super) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let From::Memphis { file, dry_run, admin } = &args.from;
    let dump = Dump::read(&read(file)?).map_err(|fault| Failure::usage(format!("{}: {fault}", file.display())))?;
    let send = |method: &str, path: &str, body: Option<&str>| admin.send(method, path, body);
    Import { gateway: Gateway { send: &send, dry_run: *dry_run }, out: &mut std::io::stdout().lock() }.run(&dump)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |fault| Failure::usage(format!("{}: {fault}", file.display()));
    let mut text = Vec::new();
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file).map_err(unreadable)?)
    };
    source.take(DUMP_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > DUMP_BYTES_MAX {
        return Err(Failure::usage(format!("{}: more than {DUMP_BYTES_MAX} bytes", file.display())));
    }
    Ok(text)
}

/// An import that is under way.
struct Import<'a> {
    gateway: Gateway<'a>,
    out: &'a mut dyn Write,
}

/// The outcome of the import of a schema or a station.
#[derive(Debug, Default)]
struct Outcome {
    /// What was done; empty if the gateway had everything already.
    done: Vec<String>,
    /// What the gateway has with other values, which were left as they are.
    differs: Vec<String>,
    /// What differs from the dump because the gateway cannot have it as the dump says.
    notes: Vec<String>,
}

/// The number of entries by outcome.
#[derive(Debug, Default)]
struct Counts {
    done: usize,
    here: usize,
    failed: usize,
}

impl Import<'_> {
    /// Imports schemas first, because stations name them.
    fn run(&mut self, dump: &Dump) -> Result<(), Failure> {
        let mut counts = Counts::default();
        for schema in dump.schemas() {
            let outcome = schema.plan().map_err(Trouble::Entry).and_then(|plan| self.schema(&plan));
            self.tell(&format!("schema {}", schema.name), outcome, &mut counts)?;
        }
        for station in dump.stations() {
            let outcome = station.plan().map_err(Trouble::Entry).and_then(|plan| self.station(plan));
            self.tell(&format!("station {}", station.name), outcome, &mut counts)?;
        }
        let Counts { done, here, failed } = counts;
        let would = if self.gateway.dry_run { "would be " } else { "" };
        self.say(&format!("{done} {would}imported, {here} here already, {failed} not imported\n"))?;
        if failed > 0 {
            return Err(Failure::other(format!(
                "{failed} of {} could not be imported as they are",
                done + here + failed
            )));
        }
        Ok(())
    }

    /// Adds the missing versions in their order, and activates the active one if a version was added.
    fn schema(&mut self, plan: &SchemaPlan) -> Result<Outcome, Trouble> {
        let path = format!("/api/v1/schemas/{}", plan.name);
        let mut outcome = Outcome::default();
        let here: Option<SchemaView> = self.gateway.find(&path)?;
        if let Some(other) = here.as_ref().map(|here| here.kind).filter(|kind| *kind != plan.kind) {
            return Err(Trouble::Entry(format!(
                "is here as {}, and in the dump as {}",
                other.word(),
                plan.kind.word()
            )));
        }
        let (versions, mut active_here) =
            here.map_or((Vec::new(), None), |here| (here.versions, Some(here.active_version)));
        let mut last = versions.last().map_or(0, |version| version.version);
        let mut active = None;
        for version in &plan.versions {
            let known = versions.iter().find(|here| is_same(here, version)).map(|here| here.version);
            let number = if let Some(number) = known {
                number
            } else {
                let number = self.add_version(plan, version)?.unwrap_or(last + 1);
                last = number;
                // The first version of a schema is active at once.
                active_here = active_here.or(Some(number));
                outcome.done.push(format!("added version {number}"));
                number
            };
            if number != version.number {
                outcome.notes.push(format!("version {} of the dump is version {number} here", version.number));
            }
            active = if version.active { Some(number) } else { active };
        }
        match (active, active_here) {
            (Some(wanted), Some(here)) if wanted != here && outcome.done.is_empty() => {
                outcome.differs.push(format!("version {here} is active, and {wanted} would be"));
            }
            (Some(wanted), here) if here != Some(wanted) => {
                self.gateway.change("PUT", &format!("{path}/active"), &json!({ "version": wanted }))?;
                outcome.done.push(format!("activated version {wanted}"));
            }
            (Some(_), _) => {}
            (None, _) => outcome.notes.push("no version is active in the dump; here one always is".to_owned()),
        }
        Ok(outcome)
    }

    /// Adds a version. Returns its number in the gateway, or `None` in a dry run.
    fn add_version(&mut self, plan: &SchemaPlan, version: &VersionPlan) -> Result<Option<u32>, Trouble> {
        let new = NewSchema {
            name: plan.name.as_str().to_owned(),
            kind: plan.kind,
            schema: version.text.clone(),
            message: version.message.clone(),
            imports: std::collections::BTreeMap::new(),
        };
        let added = self.gateway.change("POST", "/api/v1/schemas", &new);
        let added = added.map_err(|trouble| trouble.about(&format!("version {}", version.number)))?;
        added.map(|body| gateway::parsed(&body).map(|added: AddedSchema| added.version)).transpose()
    }

    /// Creates a station that does not exist. An existing one keeps its attributes; it gets the dead-letter settings
    /// and the schema if it has none of its own, as a station has whose stream existed before.
    fn station(&mut self, plan: StationPlan) -> Result<Outcome, Trouble> {
        let StationPlan { name, new, notes } = plan;
        let path = format!("/api/v1/stations/{name}");
        let mut outcome = Outcome { notes, ..Outcome::default() };
        let Some(here) = self.gateway.find::<StationView>(&path)? else {
            self.gateway.change("POST", "/api/v1/stations", &new)?;
            outcome.done.push("made".to_owned());
            return Ok(outcome);
        };
        outcome.differs = gateway::differences(&here, &new);
        if let Some(wanted) = new.dead_letters.filter(|wanted| *wanted != here.dead_letters) {
            if here.dead_letters == default_letters() {
                let change = ChangeStation { dead_letters: Some(wanted), ..ChangeStation::default() };
                self.gateway.change("PATCH", &path, &change)?;
                outcome.done.push("set what becomes of its dead letters".to_owned());
            } else if here.dead_letters.invalid != wanted.invalid
                || (here.dead_letters.deliveries_max == 0) != (wanted.deliveries_max == 0)
            {
                outcome.differs.push("other records become dead letters".to_owned());
            }
        }
        match (new.schema, here.schema) {
            (Some(wanted), None) => {
                self.gateway.change("PUT", &format!("{path}/schema"), &AttachSchema { schema: wanted.clone() })?;
                outcome.done.push(format!("attached schema {wanted}"));
            }
            (wanted, here) if wanted != here => {
                let word = |schema: Option<String>| schema.unwrap_or_else(|| "none".to_owned());
                outcome.differs.push(format!("its schema is {} here, and {} in the dump", word(here), word(wanted)));
            }
            _ => {}
        }
        Ok(outcome)
    }

    /// Prints a line about an entry, and one for each thing that is not as the dump says.
    fn tell(&mut self, what: &str, outcome: Result<Outcome, Trouble>, counts: &mut Counts) -> Result<(), Failure> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Trouble::Entry(text)) => {
                counts.failed += 1;
                return self.say(&format!("{what}: NOT IMPORTED: {text}\n"));
            }
            Err(Trouble::Stop(failure)) => return Err(failure),
        };
        let Outcome { done, differs, notes } = outcome;
        let headline = match (done.is_empty(), differs.is_empty()) {
            (_, false) => "HERE WITH OTHER VALUES, which were left".to_owned(),
            (true, true) => "here already".to_owned(),
            (false, true) if self.gateway.dry_run => format!("would be: {}", done.join(", ")),
            (false, true) => done.join(", "),
        };
        let count = match (done.is_empty(), differs.is_empty()) {
            (_, false) => &mut counts.failed,
            (true, true) => &mut counts.here,
            (false, true) => &mut counts.done,
        };
        *count += 1;
        self.say(&format!("{what}: {headline}\n"))?;
        // With differences, what was done is listed too.
        let beside = if differs.is_empty() { Vec::new() } else { done };
        beside.iter().chain(&differs).chain(&notes).try_for_each(|line| self.say(&format!("  {line}\n")))
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|fault| Failure::other(format!("standard output: {fault}")))
    }
}

/// Returns whether the two versions are the same. A dump need not name the message type of a Protobuf schema; then it
/// is the first of the file, as in the gateway.
fn is_same(here: &SchemaVersionView, dumped: &VersionPlan) -> bool {
    here.schema == dumped.text && (dumped.message.is_none() || here.message == dumped.message)
}

/// Returns the dead-letter settings of a station that was created without any.
fn default_letters() -> DeadLetterSettings {
    DeadLetterSettings { invalid: true, deliveries_max: DELIVERIES_MAX, retention_age_s: DEAD_LETTERS_AGE.as_secs() }
}
