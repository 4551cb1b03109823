//! `sluicegate station create|list|show|change|remove|attach|detach|adopt|groups|dead-letters`.

use super::{
    dead_letters,
    exit::Failure,
    groups,
    print::{Common, encoded, json, table},
};
use crate::{
    api::stations::{AdoptStation, AttachSchema, ChangeStation, NewStation, StationView, StorageKind},
    config::{parse_size, parse_time},
    station::Name,
};
use clap::{Args, Subcommand};
use std::{fmt::Write as _, time::Duration};

const STATIONS: &str = "/api/v1/stations";

/// Create, change and remove stations, and see their consumer groups and dead letters.
#[derive(Debug, Args)]
pub(super) struct StationArgs {
    #[command(subcommand)]
    command: StationCommand,
}

#[derive(Debug, Subcommand)]
enum StationCommand {
    /// Create a station; the gateway's configuration has the value of each option that is absent
    Create {
        /// Name of the station
        name: String,
        /// Number of partitions; it cannot be changed later
        #[arg(long, value_name = "N")]
        partitions: Option<u16>,
        /// Where records are kept: file or memory; it cannot be changed later
        #[arg(long, value_name = "WHERE", value_parser = storage)]
        storage: Option<StorageKind>,
        /// Schema to attach
        #[arg(long, value_name = "SCHEMA")]
        schema: Option<String>,
        #[command(flatten)]
        kept: KeptArgs,
        #[command(flatten)]
        common: Common,
    },
    /// List the stations
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show a station
    Show {
        /// Name of the station
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change a station; each option that is absent stays as it is
    Change {
        /// Name of the station
        name: String,
        #[command(flatten)]
        kept: KeptArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a station with its records; the stream of an adopted station stays
    Remove {
        /// Name of the station
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Validate the records of a station by a schema from now on
    Attach {
        /// Name of the station
        name: String,
        /// Schema; its active version is used
        #[arg(long, value_name = "SCHEMA")]
        schema: String,
        #[command(flatten)]
        common: Common,
    },
    /// Validate the records of a station no longer
    Detach {
        /// Name of the station
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Make a station of an existing stream
    Adopt {
        /// Name of the new station
        name: String,
        /// Name of the stream
        #[arg(long, value_name = "STREAM")]
        stream: String,
        /// Subject without wildcards that the stream listens on
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the consumer groups of a station, or remove some
    Groups {
        /// Name of the station
        name: String,
        #[command(flatten)]
        work: groups::Work,
        #[command(flatten)]
        common: Common,
    },
    /// List the dead letters of a station, or replay or remove some
    DeadLetters {
        /// Name of the station
        name: String,
        #[command(flatten)]
        work: dead_letters::Work,
        #[command(flatten)]
        common: Common,
    },
}

/// How records are kept: the attributes that can be changed later.
#[derive(Debug, Default, Args)]
struct KeptArgs {
    /// How long records are kept, such as 7d; 0 for ever
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    retention_age: Option<Duration>,
    /// How many records a partition keeps; 0 for no limit
    #[arg(long, value_name = "N")]
    retention_records: Option<u64>,
    /// How many bytes a partition keeps, such as 10GiB; 0 for no limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    retention_bytes: Option<u64>,
    /// Number of replicas, 1 to 5
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// How long a message id is remembered, such as 2m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    idempotency_window: Option<Duration>,
}

/// Runs the command.
pub(super) fn run(args: &StationArgs) -> Result<(), Failure> {
    match &args.command {
        StationCommand::Create { common, .. } => {
            let body = json(&new_station(&args.command)?)?;
            common.ask("POST", STATIONS, Some(&body), |station| format!("created {}", shown(&station)))
        }
        StationCommand::List { common } => common.list(STATIONS, "items", |stations| listing(&stations)),
        StationCommand::Show { name, common } => common.ask("GET", &path(name)?, None, |station| shown(&station)),
        StationCommand::Change { name, kept, common } => {
            let body = json(&change(kept)?)?;
            common.ask("PATCH", &path(name)?, Some(&body), |station| format!("changed {}", shown(&station)))
        }
        StationCommand::Remove { name, common } => {
            common.order("DELETE", &path(name)?, None, &format!("removed {name}\n"))
        }
        StationCommand::Attach { name, schema, common } => {
            let body = json(&AttachSchema { schema: schema.clone() })?;
            common.ask("PUT", &format!("{}/schema", path(name)?), Some(&body), |station: StationView| {
                format!("records of {} are validated by {schema}\n", station.name)
            })
        }
        StationCommand::Detach { name, common } => {
            common.ask("DELETE", &format!("{}/schema", path(name)?), None, |station: StationView| {
                format!("records of {} are not validated\n", station.name)
            })
        }
        StationCommand::Adopt { name, stream, subject, common } => {
            let body = json(&AdoptStation { stream: stream.clone(), subject: subject.clone() })?;
            common.ask("POST", &format!("{}/adopt", path(name)?), Some(&body), |station| {
                format!("adopted {}", shown(&station))
            })
        }
        StationCommand::Groups { name, work, common } => groups::run(&format!("{}/groups", path(name)?), work, common),
        StationCommand::DeadLetters { name, work, common } => {
            dead_letters::run(&format!("{}/dead-letters", path(name)?), work, common)
        }
    }
}

fn path(name: &str) -> Result<String, Failure> {
    let name = Name::parse(name).map_err(|fault| Failure::usage(fault.text("Station")))?;
    Ok(format!("{STATIONS}/{}", encoded(name.as_str())))
}

fn storage(text: &str) -> Result<StorageKind, String> {
    match text.to_ascii_lowercase().as_str() {
        "file" => Ok(StorageKind::File),
        "memory" => Ok(StorageKind::Memory),
        _ => Err("write one of: file, memory".to_owned()),
    }
}

fn new_station(command: &StationCommand) -> Result<NewStation, Failure> {
    let StationCommand::Create { name, partitions, storage, schema, kept, .. } = command else {
        return Ok(NewStation::default());
    };
    let name = Name::parse(name).map_err(|fault| Failure::usage(fault.text("Station")))?;
    Ok(NewStation {
        name: name.as_str().to_owned(),
        partitions: *partitions,
        storage: *storage,
        schema: schema.clone(),
        retention_age_s: seconds(kept.retention_age)?,
        retention_records: kept.retention_records,
        retention_bytes: kept.retention_bytes,
        replicas: kept.replicas,
        idempotency_window_ms: milliseconds(kept.idempotency_window),
        ..NewStation::default()
    })
}

fn change(kept: &KeptArgs) -> Result<ChangeStation, Failure> {
    let change = ChangeStation {
        retention_age_s: seconds(kept.retention_age)?,
        retention_records: kept.retention_records,
        retention_bytes: kept.retention_bytes,
        replicas: kept.replicas,
        idempotency_window_ms: milliseconds(kept.idempotency_window),
        ..ChangeStation::default()
    };
    if change == ChangeStation::default() {
        return Err(Failure::usage("nothing to change: `sluicegate station change --help` lists what can be"));
    }
    Ok(change)
}

/// Returns whole seconds, as the API takes ages. Half a second would become 0, which is for ever.
fn seconds(time: Option<Duration>) -> Result<Option<u64>, Failure> {
    match time {
        Some(time) if time.subsec_nanos() != 0 => Err(Failure::usage("--retention-age: write whole seconds")),
        time => Ok(time.map(|time| time.as_secs())),
    }
}

fn milliseconds(time: Option<Duration>) -> Option<u64> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn listing(stations: &[StationView]) -> String {
    let row = |station: &StationView| {
        [
            station.name.clone(),
            station.records.to_string(),
            station.bytes.to_string(),
            station.partitions.to_string(),
            age(station.retention_age_s),
            station.storage.word().to_owned(),
            station.schema.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = stations.iter().map(row).collect();
    table(["NAME", "RECORDS", "BYTES", "PARTITIONS", "KEPT", "IN", "SCHEMA"], &rows)
}

fn shown(station: &StationView) -> String {
    let letters = &station.dead_letters;
    let limit = |shown: String| if shown == "0" { "no limit".to_owned() } else { format!("{shown} in a partition") };
    let mut text = format!("{}\n", station.name);
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(text, "  {what:<20} {value}");
    };
    line("records", &format!("{} ({} bytes)", station.records, station.bytes));
    line("partitions", &station.partitions.to_string());
    line("kept for", &age(station.retention_age_s));
    line("records kept", &limit(station.retention_records.to_string()));
    line("bytes kept", &limit(size(station.retention_bytes)));
    if station.retention_acknowledged {
        line("", "until every group has acknowledged them");
    }
    line("storage", &format!("{}, {} replica(s)", station.storage.word(), station.replicas));
    line("idempotency window", &window(station.idempotency_window_ms));
    line("schema", station.schema.as_deref().unwrap_or("none"));
    line("invalid records", if letters.invalid { "become dead letters" } else { "are refused, and not kept" });
    match letters.deliveries_max {
        0 => line("deliveries", "no limit"),
        most => line("deliveries", &format!("at most {most}, then a dead letter")),
    }
    line("dead letters kept", &age(letters.retention_age_s));
    if let Some(AdoptStation { stream, subject }) = &station.adopted {
        line("adopted", &format!("stream {stream}, subject {subject}"));
    }
    text
}

/// Returns an age in the largest unit that divides it.
fn age(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    match units.into_iter().find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit)) {
        _ if seconds == 0 => "for ever".to_owned(),
        Some((unit, each)) => format!("{}{unit}", seconds / each),
        None => format!("{seconds}s"),
    }
}

/// Returns a duplicate window as it is written on the command line.
fn window(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { age(ms / 1_000) } else { format!("{ms}ms") }
}

/// Returns a number of bytes in the largest unit that divides it.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, each)) => format!("{}{unit}", bytes / each),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::dead_letters::DeadLetterSettings, station::Attributes};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        station: StationArgs,
    }

    fn line(words: &[&str]) -> Result<StationCommand, clap::Error> {
        Line::try_parse_from([&["station"], words].concat()).map(|line| line.station.command)
    }

    #[test]
    fn a_station_is_what_the_command_line_says() {
        let words = [
            "create",
            "Orders",
            "--partitions",
            "4",
            "--retention-age",
            "7d",
            "--retention-records",
            "0",
            "--retention-bytes",
            "1GiB",
            "--storage",
            "memory",
            "--replicas",
            "3",
            "--idempotency-window",
            "2m",
            "--schema",
            "s",
        ];
        let expect = NewStation {
            name: "orders".to_owned(),
            partitions: Some(4),
            retention_age_s: Some(604_800),
            retention_records: Some(0),
            retention_bytes: Some(1 << 30),
            storage: Some(StorageKind::Memory),
            replicas: Some(3),
            idempotency_window_ms: Some(120_000),
            schema: Some("s".to_owned()),
            ..NewStation::default()
        };
        assert_eq!(new_station(&line(&words).unwrap()), Ok(expect));
        let plain = new_station(&line(&["create", "o"]).unwrap()).unwrap();
        assert_eq!(json(&plain), Ok("{\"name\":\"o\"}".to_owned()));
        assert!(new_station(&line(&["create", "a b"]).unwrap()).is_err());
        assert!(new_station(&line(&["create", "o", "--retention-age", "500ms"]).unwrap()).is_err());
    }

    #[test]
    fn a_change_is_what_is_said_and_nothing_else() {
        let Ok(StationCommand::Change { kept, .. }) = line(&["change", "o", "--retention-age", "0"]) else {
            panic!("change")
        };
        assert_eq!(change(&kept).map(|change| json(&change)), Ok(Ok("{\"retention_age_s\":0}".to_owned())));
        assert!(change(&KeptArgs::default()).is_err());
    }

    #[test]
    fn the_forms_of_the_command_line() {
        for words in [
            &["list", "--json"][..],
            &["show", "o", "--url", "http://h:1"],
            &["remove", "o"],
            &["attach", "o", "--schema", "s"],
            &["detach", "o", "--json"],
            &["adopt", "o", "--stream", "S", "--subject", "x.y"],
            &["dead-letters", "o"],
            &["dead-letters", "o", "--json"],
            &["dead-letters", "o", "--replay"],
            &["dead-letters", "o", "--replay", "all"],
            &["dead-letters", "o", "--replay", "1", "2", "--json"],
            &["dead-letters", "o", "--purge"],
            &["dead-letters", "o", "--purge", "7"],
        ] {
            assert!(line(words).is_ok(), "{words:?}: {:?}", line(words).err());
        }
        for words in [
            &["create"][..],
            &["create", "o", "--storage", "tape"],
            &["create", "o", "--retention-age", "7"],
            &["create", "o", "--partitions", "many"],
            &["change", "o", "--storage", "file"],
            &["attach", "o"],
            &["adopt", "o", "--stream", "S"],
            &["dead-letters", "o", "--replay", "x"],
            &["dead-letters", "o", "--replay", "--purge"],
        ] {
            assert!(line(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_station_is_shown_in_words() {
        let attributes = Attributes {
            retention_age: Some(Duration::from_secs(604_800)),
            retention_bytes: Some(1_000),
            ..Attributes::default()
        };
        let letters = DeadLetterSettings { invalid: true, deliveries_max: 10, retention_age_s: 3_601 };
        let name = Name::parse("orders").expect("a name");
        let station = StationView {
            adopted: Some(AdoptStation { stream: "S".to_owned(), subject: "x".to_owned() }),
            records: 3,
            bytes: 99,
            ..StationView::of(&name, &attributes, letters)
        };
        let text = shown(&station);
        for part in [
            "orders\n",
            "kept for             7d\n",
            "no limit\n",
            "1000 in a partition\n",
            "idempotency window   2m\n",
            "become dead letters\n",
            "at most 10, then a dead letter\n",
            "3601s\n",
            "stream S, subject x\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert_eq!(
            listing(&[station]),
            "NAME    RECORDS  BYTES  PARTITIONS  KEPT  IN    SCHEMA\norders  3        99     1           7d    file\n"
        );
        assert_eq!(age(0), "for ever");
        assert_eq!((window(600_000), window(90_000), window(250)), ("10m".into(), "90s".into(), "250ms".into()));
        assert_eq!((size(10 << 30), size(1_536 << 20), size(0)), ("10GiB".into(), "1536MiB".into(), "0".into()));
    }
}
