//! Decides how records are best published to a station, from what is known of the broker. Pure (ADR 11).
//!
//! An atomic batch costs the broker some three milliseconds, whatever is in it, and has one acknowledgement. Where
//! every write waits for the disk (`sync_interval: always`), servers from 2.15 sync a batch once, and it beats singles
//! from fifteen to twenty records on. Everywhere else singles are faster: they are pipelined, and do not wait for the
//! disk.

use crate::{config::PublishModeChoice, station::PublishMode};
use serde::Deserialize;
use std::time::Duration;

/// The fewest records that `auto` publishes as a batch: at least 2.4 times the rate of singles in every run, and
/// still ahead where the disk is slow or another request waits.
const AUTO_RECORDS_MIN: u16 = 50;
/// The fewest records that are worth the name of a batch.
const FORCED_RECORDS_MIN: u16 = 2;

/// The first servers that know atomic batches (and `allow_atomic` of a stream).
const ATOMIC_SINCE: Version = Version { major: 2, minor: 12 };
/// The first servers that sync an atomic batch once, and not once for each record.
const GROUP_SYNC_SINCE: Version = Version { major: 2, minor: 15 };

/// The part of a server's version that features go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Reads `2.15.1`, `2.12.0-RC.1`, `v2.10`.
    pub(in crate::control) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?;
        let digits = minor.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(minor.len());
        Some(Self { major, minor: minor.get(..digits)?.parse().ok()? })
    }

    /// Returns whether the server knows `allow_atomic`. Others refuse to make a stream with it, if they are strict.
    pub(in crate::control) fn knows_atomic(self) -> bool {
        self >= ATOMIC_SINCE
    }
}

/// When JetStream syncs what it has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum SyncMode {
    /// It is not known.
    Unknown,
    /// Before each acknowledgement: an acknowledged record survives power loss.
    Always,
    /// Every so often, after the acknowledgement.
    Interval(Duration),
}

impl SyncMode {
    /// Reads what a server's monitoring says of itself (`/varz`).
    pub(in crate::control) fn of_varz(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Varz {
            jetstream: Option<JetStream>,
        }
        #[derive(Deserialize)]
        struct JetStream {
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            sync_always: bool,
            #[serde(default)]
            sync_interval: u64,
        }
        let varz: Varz =
            serde_json::from_slice(body).map_err(|error| format!("no answer of a NATS server: {error}"))?;
        let config = varz.jetstream.and_then(|jetstream| jetstream.config);
        let config = config.ok_or("a NATS server without JetStream")?;
        Ok(match config {
            Config { sync_always: true, .. } => Self::Always,
            // Servers that are too old do not say it.
            Config { sync_interval: 0, .. } => Self::Unknown,
            Config { sync_interval, .. } => Self::Interval(Duration::from_nanos(sync_interval)),
        })
    }
}

/// The traits of a stream that matter to publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) struct StreamTraits {
    /// `allow_atomic`.
    pub(in crate::control) atomic: bool,
    /// File storage: only files are synced.
    pub(in crate::control) file: bool,
    /// `persist_mode: async`: acknowledged before it is even written.
    pub(in crate::control) persist_async: bool,
    /// Copies, at least 1.
    pub(in crate::control) replicas: u8,
}

impl StreamTraits {
    /// A stream that takes everything.
    pub(in crate::control) const BEST: Self = Self { atomic: true, file: true, persist_async: false, replicas: 1 };
}

/// Decides how records are published to a station with these streams. Wrong knowledge costs speed, never a record.
pub(in crate::control) fn decide(
    choice: PublishModeChoice,
    version: Option<Version>,
    sync: SyncMode,
    streams: &[StreamTraits],
) -> PublishMode {
    let all = |holds: fn(&StreamTraits) -> bool| !streams.is_empty() && streams.iter().all(holds);
    let since = |first: Version| version.is_some_and(|version| version >= first);
    match choice {
        PublishModeChoice::Atomic if since(ATOMIC_SINCE) && all(|stream| stream.atomic && !stream.persist_async) => {
            PublishMode::Atomic { records_min: FORCED_RECORDS_MIN }
        }
        PublishModeChoice::Auto
            if since(GROUP_SYNC_SINCE) && sync == SyncMode::Always && all(|stream| *stream == StreamTraits::BEST) =>
        {
            PublishMode::Atomic { records_min: AUTO_RECORDS_MIN }
        }
        PublishModeChoice::Auto | PublishModeChoice::Single | PublishModeChoice::Atomic => PublishMode::Single,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_chosen_where_they_are_faster_or_asked_for() {
        use PublishModeChoice::{Atomic, Auto, Single};
        const ALWAYS: SyncMode = SyncMode::Always;
        const LAZY: SyncMode = SyncMode::Interval(Duration::from_secs(120));
        const BEST: StreamTraits = StreamTraits::BEST;
        const PLAIN: StreamTraits = StreamTraits { atomic: false, ..BEST };
        const R3: StreamTraits = StreamTraits { replicas: 3, ..BEST };
        const MEMORY: StreamTraits = StreamTraits { file: false, ..BEST };
        const ASYNC: StreamTraits = StreamTraits { persist_async: true, ..BEST };
        for (choice, version, sync, streams, expect) in [
            (Auto, "2.15.1", ALWAYS, &[BEST][..], Some(50)),
            (Auto, "2.16.0", ALWAYS, &[BEST, BEST], Some(50)),
            (Auto, "3.0.0", ALWAYS, &[BEST], Some(50)),
            (Auto, "2.14.6", ALWAYS, &[BEST], None),
            (Auto, "2.12.8", ALWAYS, &[BEST], None),
            (Auto, "2.10.26", ALWAYS, &[BEST], None),
            (Auto, "?", ALWAYS, &[BEST], None),
            (Auto, "2.15.1", LAZY, &[BEST], None),
            (Auto, "2.15.1", SyncMode::Unknown, &[BEST], None),
            (Auto, "2.15.1", ALWAYS, &[PLAIN], None),
            (Auto, "2.15.1", ALWAYS, &[BEST, PLAIN], None),
            (Auto, "2.15.1", ALWAYS, &[R3], None),
            (Auto, "2.15.1", ALWAYS, &[BEST, R3], None),
            (Auto, "2.15.1", ALWAYS, &[MEMORY], None),
            (Auto, "2.15.1", ALWAYS, &[ASYNC], None),
            (Auto, "2.15.1", ALWAYS, &[], None),
            (Atomic, "2.15.1", LAZY, &[BEST], Some(2)),
            (Atomic, "2.12.8", SyncMode::Unknown, &[BEST, R3, MEMORY], Some(2)),
            (Atomic, "2.15.1", ALWAYS, &[PLAIN], None),
            (Atomic, "2.15.1", ALWAYS, &[ASYNC], None),
            (Atomic, "2.11.11", ALWAYS, &[BEST], None),
            (Atomic, "", ALWAYS, &[BEST], None),
            (Atomic, "2.15.1", ALWAYS, &[], None),
            (Single, "2.15.1", ALWAYS, &[BEST], None),
        ] {
            let found = decide(choice, Version::parse(version), sync, streams);
            let expect = expect.map_or(PublishMode::Single, |records_min| PublishMode::Atomic { records_min });
            assert_eq!(found, expect, "{choice:?} {version} {sync:?} {streams:?}");
        }
    }

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for (text, expect) in [
            ("2.15.1", Some((2, 15))),
            ("2.12.0-RC.1", Some((2, 12))),
            ("2.16-dev", Some((2, 16))),
            ("v2.10", Some((2, 10))),
            ("2", None),
            ("", None),
            ("2.x", None),
            ("two.10", None),
        ] {
            assert_eq!(Version::parse(text).map(|version| (version.major, version.minor)), expect, "{text}");
        }
        for (text, expect) in [("2.10.26", false), ("2.11.11", false), ("2.12.0-beta.1", true), ("2.15.1", true)] {
            assert_eq!(Version::parse(text).is_some_and(Version::knows_atomic), expect, "{text}");
        }
    }

    #[test]
    fn the_sync_mode_is_read_as_servers_say_it() {
        // `sync_interval` stands beside `sync_always` and means nothing then.
        let always = r#"{"version":"2.15.1","jetstream":{"config":{"max_memory":1,"store_dir":"/d","sync_interval":120000000000,"sync_always":true,"strict":true},"stats":{}}}"#;
        let lazy = r#"{"jetstream":{"config":{"sync_interval":30000000000}}}"#;
        for (body, expect) in [
            (always, Ok(SyncMode::Always)),
            (lazy, Ok(SyncMode::Interval(Duration::from_secs(30)))),
            (r#"{"jetstream":{"config":{"max_memory":1}}}"#, Ok(SyncMode::Unknown)),
            (r#"{"jetstream":{"config":null}}"#, Err("without JetStream")),
            (r#"{"jetstream":{}}"#, Err("without JetStream")),
            (r#"{"server_id":"x"}"#, Err("without JetStream")),
            ("<html>", Err("no answer of a NATS server")),
            ("", Err("no answer of a NATS server")),
        ] {
            match (SyncMode::of_varz(body.as_bytes()), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{body}"),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{body}: {found}"),
                (found, expect) => panic!("{body}: {found:?}, not {expect:?}"),
            }
        }
    }
}
