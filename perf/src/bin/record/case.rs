//! Cases as their files say them, and the contenders that follow.

use serde::Deserialize;
use sluicegate_perf::outcome::Measure;
use std::{fmt, fs, io, path::PathBuf};

/// What is compared under which load, and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What it shows, in one sentence.
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) broker: BrokerKind,
    /// Name of the contender that the ratios of a record refer to.
    pub(crate) reference: String,
    pub(crate) load: Load,
    #[serde(rename = "contender")]
    pub(crate) entries: Vec<Entry>,
    #[serde(rename = "target", default)]
    pub(crate) targets: Vec<Target>,
}

/// What is behind the gateways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BrokerKind {
    /// A broker that syncs by and by, as it does unless told otherwise.
    #[default]
    Nats,
    /// A broker with `sync_interval: always`.
    NatsSyncAlways,
    /// None: the gateway keeps records in its embedded store.
    None,
}

/// What the generator does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    /// Further connections that only stay.
    #[serde(default)]
    pub(crate) idle: u32,
    /// More than one: the requests go round, and one stream holds them all.
    #[serde(default = "one")]
    pub(crate) stations: u32,
    /// Records in a request; 1 posts singly.
    pub(crate) batch: u32,
    pub(crate) size: u32,
    #[serde(default)]
    pub(crate) gzip: bool,
    /// Events of seven properties, as a schema describes them, in place of the generator's own.
    #[serde(default)]
    pub(crate) described: bool,
    /// Open loop, at this part of what the fastest gateway of the case reaches in a closed one.
    pub(crate) rate_of_max: Option<f64>,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
}

fn one() -> u32 {
    1
}

/// A program, perhaps in a variant that differs in its arguments or its load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) program: Program,
    pub(crate) variant: Option<String>,
    /// Further arguments of the gateway.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    pub(crate) idle: Option<u32>,
    pub(crate) stations: Option<u32>,
    /// Schemas, each attached to one of the stations.
    #[serde(default)]
    pub(crate) schemas: u32,
    pub(crate) warmup_s: Option<f64>,
}

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// One thread that appends to a file.
    AppendFile,
    /// The upper bound of what goes to a broker.
    NativePublisher,
    /// The gateway's HTTP with nothing behind it.
    NullServer,
    /// The gateway.
    Sluicegate,
    /// What a user would otherwise have.
    StraightforwardGateway,
}

impl Program {
    /// Its own, of the binary too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AppendFile => "append-file",
            Self::NativePublisher => "native-publisher",
            Self::NullServer => "null-server",
            Self::Sluicegate => "sluicegate",
            Self::StraightforwardGateway => "straightforward-gateway",
        }
    }

    /// Whether it runs once with each I/O driver.
    fn has_drivers(self) -> bool {
        matches!(self, Self::NullServer | Self::Sluicegate)
    }
}

/// A ratio that is to be reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// As the list of targets counts them.
    pub(crate) number: u32,
    pub(crate) measure: Measure,
    /// Names of the contenders.
    pub(crate) of: String,
    pub(crate) against: String,
    pub(crate) at_least: Option<f64>,
    pub(crate) at_most: Option<f64>,
}

/// One that runs: a program in one of its variants, with one driver.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) program: Program,
    pub(crate) variant: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) args: Vec<String>,
    pub(crate) load: Load,
    pub(crate) schemas: u32,
}

impl Contender {
    /// What a case calls it: its variant, or else its program.
    pub(crate) fn name(&self) -> &str {
        self.variant.as_deref().unwrap_or_else(|| self.program.name())
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.program.name())?;
        let parts = [&self.variant, &self.driver];
        parts.into_iter().flatten().try_for_each(|part| write!(formatter, ", {part}"))
    }
}

impl Case {
    /// Everyone who runs, in the order of the file.
    pub(crate) fn contenders(&self, drivers: &[String]) -> Vec<Contender> {
        let of_entry = |entry: &Entry| {
            let load = Load {
                idle: entry.idle.unwrap_or(self.load.idle),
                stations: entry.stations.unwrap_or(self.load.stations),
                warmup_s: entry.warmup_s.unwrap_or(self.load.warmup_s),
                ..self.load.clone()
            };
            let with = |driver: Option<String>| Contender {
                program: entry.program,
                variant: entry.variant.clone(),
                driver,
                args: entry.args.clone(),
                load: load.clone(),
                schemas: entry.schemas,
            };
            if entry.program.has_drivers() {
                drivers.iter().map(|driver| with(Some(driver.clone()))).collect()
            } else {
                vec![with(None)]
            }
        };
        self.entries.iter().flat_map(of_entry).collect()
    }

    /// What the file cannot mean.
    fn check(&self) -> Result<(), String> {
        let known = |name: &String| {
            self.entries.iter().any(|entry| entry.variant.as_deref().unwrap_or(entry.program.name()) == name)
        };
        let names = self.targets.iter().flat_map(|target| [&target.of, &target.against]).chain([&self.reference]);
        if let Some(unknown) = names.into_iter().find(|name| !known(name)) {
            return Err(format!("no contender is called {unknown:?}"));
        }
        if self.targets.iter().any(|target| target.at_least.is_some() == target.at_most.is_some()) {
            return Err("a target has either at_least or at_most".to_owned());
        }
        let stations_of = |entry: &Entry| entry.stations.unwrap_or(self.load.stations);
        if self.entries.iter().any(|entry| entry.schemas > 0 && entry.schemas != stations_of(entry)) {
            return Err("there is a schema for each station, or for none".to_owned());
        }
        if self.broker == BrokerKind::None
            && self
                .entries
                .iter()
                .any(|entry| matches!(entry.program, Program::NativePublisher | Program::StraightforwardGateway))
        {
            return Err("these programs need a broker".to_owned());
        }
        Ok(())
    }
}

/// Who `name` means to one with this driver: the one of that name with the same driver, or with none. To one without a
/// driver it means the first of that name.
pub(crate) fn opponent(contenders: &[Contender], name: &str, driver: Option<&str>) -> Option<usize> {
    let place = |fits: &dyn Fn(Option<&str>) -> bool| {
        contenders.iter().position(|other| other.name() == name && fits(other.driver.as_deref()))
    };
    match driver {
        Some(driver) => place(&|other| other == Some(driver)).or_else(|| place(&|other| other.is_none())),
        None => place(&|_| true),
    }
}

/// The cases in files, or in all files of directories, in the order of their names.
pub(crate) fn load_all(paths: &[PathBuf], seconds: Option<f64>) -> io::Result<Vec<Case>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = fs::read_dir(path)?.flatten().map(|entry| entry.path());
            files.extend(found.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    let load = |path: &PathBuf| {
        let wrong = |error: String| io::Error::other(format!("{}: {error}", path.display()));
        let mut case: Case = toml::from_str(&fs::read_to_string(path)?).map_err(|error| wrong(error.to_string()))?;
        case.check().map_err(wrong)?;
        case.load.duration_s = seconds.unwrap_or(case.load.duration_s);
        Ok(case)
    };
    files.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "c"
        about = "a"
        reference = "few"
        [load]
        connections = 2
        batch = 1
        size = 256
        warmup_s = 1
        duration_s = 2
        [[contender]]
        program = "sluicegate"
        variant = "few"
        [[contender]]
        program = "sluicegate"
        variant = "many"
        idle = 9
        [[contender]]
        program = "straightforward-gateway"
        [[target]]
        number = 8
        measure = "cpu"
        of = "many"
        against = "few"
        at_most = 1.15
    "#;

    #[test]
    fn contenders_run_with_each_driver_and_their_own_load() {
        let case: Case = toml::from_str(TEXT).unwrap();
        case.check().unwrap();
        let list = case.contenders(&["io_uring".to_owned(), "epoll".to_owned()]);
        let names: Vec<String> = list.iter().map(|contender| format!("{contender}: {}", contender.load.idle)).collect();
        assert_eq!(
            names,
            [
                "sluicegate, few, io_uring: 0",
                "sluicegate, few, epoll: 0",
                "sluicegate, many, io_uring: 9",
                "sluicegate, many, epoll: 9",
                "straightforward-gateway: 0"
            ]
        );
        assert_eq!(opponent(&list, "few", Some("epoll")), Some(1));
        assert_eq!(opponent(&list, "straightforward-gateway", Some("epoll")), Some(4));
        assert_eq!(opponent(&list, "few", None), Some(0));
        assert_eq!(opponent(&list, "few", Some("other")), None);
    }

    #[test]
    fn a_case_that_names_nobody_is_refused() {
        for (from, to) in [("reference = \"few\"", "reference = \"x\""), ("of = \"many\"", "of = \"x\"")] {
            let case: Case = toml::from_str(&TEXT.replace(from, to)).unwrap();
            assert!(case.check().is_err(), "{to}");
        }
        let both = TEXT.replace("at_most = 1.15", "at_most = 1.15\nat_least = 1.0");
        assert!(toml::from_str::<Case>(&both).unwrap().check().is_err());
    }

    #[test]
    fn the_cases_that_are_kept_can_be_read() {
        let cases = load_all(&[concat!(env!("CARGO_MANIFEST_DIR"), "/cases").into()], None).unwrap();
        assert!(cases.len() > 5);
    }
}
