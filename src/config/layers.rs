//! Layers: the file, the original's environment names, this product's, the flags; the later one wins.
//!
//! Every value of every layer is read, also one that a later layer replaces: a mistake that does no
//! harm today is found before it does. What is unknown is an error, with two exceptions among the
//! environment variables, where not everything is ours: what Kubernetes makes for a service of our
//! name is passed over, and what resembles no setting is only warned about.

use super::{
    alias::{ALIASES, Alias, Meaning},
    draft::Draft,
    error::{Notice, Origin, Problem},
    file::File,
    table::{ENV_PREFIX, SETTINGS, Setting, find, nearest},
    value::{Raw, unquote},
};
use crate::{byte_order_mark, limits::CONFIG_FILE_BYTES_MAX};
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

/// Where settings come from. Reading the process's own environment is the caller's business.
#[derive(Clone, Default)]
pub struct Sources {
    /// Key of the setting and the flag's value.
    pub flags: Vec<(&'static str, String)>,
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl std::fmt::Debug for Sources {
    /// Values may be secrets: none is shown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sources").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What the layers came to, and what was wrong on the way.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) draft: Draft,
    /// Where each setting that is not a default was written last.
    pub(super) origins: BTreeMap<&'static str, Origin>,
    /// Settings that are files, which what runs holds only the content of.
    pub(super) paths: BTreeMap<&'static str, String>,
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<Notice>,
}

/// Variables that other commands of this program read, or that name the file itself.
const OTHER_VARIABLES: [&str; 3] = ["SLUICEGATE_CONFIG", "SLUICEGATE_USER", "SLUICEGATE_PASSWORD"];

impl Layers {
    /// Reads all layers.
    pub(super) fn read(sources: &Sources) -> Self {
        let mut layers = Self::default();
        let environment = layers.environment(sources);
        layers.file(sources, &environment);
        for alias in ALIASES {
            if let Some(written) = environment.get(alias.name) {
                layers.alias(alias, written);
            }
        }
        for setting in SETTINGS {
            if let Some(written) = environment.get(&setting.env()) {
                layers.variable(setting, written);
            }
        }
        for (key, written) in &sources.flags {
            if let Some(setting) = find(key) {
                let origin = Origin::Flag(setting.flag.unwrap_or(setting.key).to_owned());
                layers.put(setting, &Raw::Text(written.clone()), origin);
            }
        }
        layers
    }

    /// Variables that concern us, as text; unknown ones are complained about.
    fn environment(&mut self, sources: &Sources) -> BTreeMap<String, String> {
        let mut ours = BTreeMap::new();
        let known: Vec<String> = SETTINGS.iter().map(Setting::env).collect();
        for (name, value) in &sources.environment {
            let Some(name) = name.to_str() else { continue };
            let is_known = known.iter().any(|known| known == name) || OTHER_VARIABLES.contains(&name);
            if !is_known && !ALIASES.iter().any(|alias| alias.name == name) {
                if name.starts_with(ENV_PREFIX) && !of_kubernetes(name) {
                    self.unknown_variable(name, &known);
                }
                continue;
            }
            match value.to_str() {
                Some(value) => {
                    ours.insert(name.to_owned(), value.to_owned());
                }
                None => self.problems.push(Problem {
                    what: format!("{name} is not UTF-8"),
                    origin: Some(Origin::Environment(name.to_owned())),
                    remedy: "write it in UTF-8, or in the configuration file".to_owned(),
                }),
            }
        }
        ours
    }

    fn unknown_variable(&mut self, name: &str, known: &[String]) {
        let names = known.iter().map(String::as_str).chain(OTHER_VARIABLES);
        let near = nearest(name, names).filter(|near| strsim::damerau_levenshtein(name, near) <= 3);
        match near {
            Some(near) => self.problems.push(Problem {
                what: format!("there is no setting {name}"),
                origin: Some(Origin::Environment(name.to_owned())),
                remedy: format!("did you mean {near}? docs/configuration.md lists all names"),
            }),
            None => self.notices.push(Notice::warning(format!(
                "the environment variable {name} is no setting of this program and has no effect"
            ))),
        }
    }

    fn file(&mut self, sources: &Sources, environment: &BTreeMap<String, String>) {
        let from_environment =
            || environment.get("SLUICEGATE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let (path, origin) = match (&sources.config, from_environment()) {
            (Some(path), _) => (path.clone(), Origin::Flag("--config".to_owned())),
            (None, Some(path)) => (path, Origin::Environment("SLUICEGATE_CONFIG".to_owned())),
            (None, None) => return,
        };
        let shown = path.display().to_string();
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(fault) => {
                self.problems.push(Problem {
                    what: format!("the configuration file {shown} cannot be read: {fault}"),
                    origin: Some(origin),
                    remedy: "name a readable file, or leave it out to run with defaults".to_owned(),
                });
                return;
            }
        };
        for entry in File::parse(&text, &shown, &mut self.problems).entries {
            match find(&entry.key) {
                Some(setting) => self.put(setting, &entry.value, entry.origin),
                None => self.unknown_key(&entry.key, entry.origin),
            }
        }
    }

    fn unknown_key(&mut self, key: &str, origin: Origin) {
        let keys = || SETTINGS.iter().map(|setting| setting.key);
        // A key under the wrong section is found by its last part alone.
        let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
        let moved = || keys().find(|known| last(known) == key.rsplit('.').next().unwrap_or(key));
        let remedy = match nearest(key, keys()).or_else(moved) {
            Some(near) => format!("did you mean {near}? docs/configuration.md lists all keys"),
            None => "remove it; docs/configuration.md lists all keys".to_owned(),
        };
        self.problems.push(Problem { what: format!("there is no setting {key}"), origin: Some(origin), remedy });
    }

    fn variable(&mut self, setting: &'static Setting, written: &str) {
        let name = setting.env();
        if let Some(raw) = self.unquoted(&name, written, setting.secret) {
            self.put(setting, &raw, Origin::Environment(name));
        }
    }

    fn alias(&mut self, alias: &Alias, written: &str) {
        let Some(raw) = self.unquoted(alias.name, written, alias.secret()) else { return };
        match alias.put(&mut self.draft, &raw) {
            Ok(()) => {
                if let Some(setting) = alias.key().and_then(find) {
                    self.origins.insert(setting.key, Origin::Environment(alias.name.to_owned()));
                } else if matches!(alias.meaning, Meaning::Ignored) {
                    self.notices.push(Notice::info(format!("{}: {}", alias.name, alias.help)));
                }
            }
            Err(bad) => self.problems.push(Problem {
                what: format!("{} {}", alias.name, bad.wrong),
                origin: Some(Origin::Environment(alias.name.to_owned())),
                remedy: bad.remedy,
            }),
        }
    }

    fn put(&mut self, setting: &'static Setting, raw: &Raw, origin: Origin) {
        match (setting.put)(&mut self.draft, raw) {
            Ok(()) => {
                self.origins.insert(setting.key, origin);
            }
            Err(bad) => self.problems.push(Problem {
                what: format!("{} {}", setting.key, bad.wrong),
                origin: Some(origin),
                remedy: bad.remedy,
            }),
        }
    }

    /// Takes quotes off a variable. One that is empty counts as not set, unless it is a secret:
    /// that is an error, for otherwise a failed substitution would quietly become a generated secret.
    fn unquoted(&mut self, name: &str, written: &str, secret: bool) -> Option<Raw> {
        let bare = unquote(written);
        if bare.is_some() && secret {
            self.notices
                .push(Notice::warning(format!("{name} was written in quotes; they are not part of the secret")));
        }
        let text = bare.unwrap_or(written);
        (secret || !text.is_empty()).then(|| Raw::Text(text.to_owned()))
    }
}

/// Whether Kubernetes made this variable for a service whose name begins with ours.
fn of_kubernetes(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_") && ["_TCP", "_UDP", "_SCTP"].iter().any(|word| name.contains(word))
}

fn read_bounded(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let mut text = String::new();
    std::fs::File::open(path)?.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is longer than 1 MiB"));
    }
    Ok(byte_order_mark::strip(&text).to_owned())
}
