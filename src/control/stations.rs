//! Finding and making the streams of a station.
//!
//! Found before made (decision 5): a stream that captures the station's subject is used as it is;
//! else the partitioned form, recognised by its first partition; else it is created, where that is
//! allowed. Two gateways may do this at once: creation is idempotent, and whoever finds the name or
//! the subject taken looks again.
//!
//! Partitions are created from the last to the first: the first one is what others look for, so a
//! set that can be seen is whole. A creation that was cut off is completed by the next question.
//!
//! Nothing is cached here, and no stream that exists is ever changed or removed.

use super::{
    broker::{Broker, CallError},
    publishing::{StreamTraits, Version},
    streams::Adopted,
};
use crate::{
    config::{Layout, StationSettings},
    reject::Reject,
    station::{Name, Partition, PublishMode, Station},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Key of the stream metadata that names the station.
const METADATA_STATION: &str = "sluicegate.station";
/// Key of the stream metadata that holds the number of partitions.
const METADATA_PARTITIONS: &str = "sluicegate.partitions";
/// Partitions that a station may have at most (the original's bound).
const PARTITIONS_MAX: u16 = 10_000;
/// Calls in flight for one question.
const CALLS_AT_ONCE: usize = 16;
/// How often a station is looked for again because somebody else made it meanwhile.
const LOOKS_MAX: usize = 3;

/// What a stream says of itself, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: StreamConfig,
    #[serde(default)]
    cluster: Option<Cluster>,
}

/// Where a stream is: a server that is alone says its own name as the leader's, and no cluster's.
#[derive(Debug, Clone, Deserialize)]
struct Cluster {
    #[serde(default)]
    name: Option<Box<str>>,
}

impl StreamInfo {
    /// Whether one server stores and answers alone: then there is no other copy, now or later.
    fn is_alone(&self) -> bool {
        let in_a_cluster = self.cluster.as_ref().and_then(|cluster| cluster.name.as_deref());
        self.config.num_replicas <= 1 && in_a_cluster.is_none_or(str::is_empty)
    }
}

/// The part of a stream's configuration that matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamConfig {
    name: Box<str>,
    #[serde(default)]
    pub(super) subjects: Vec<Box<str>>,
    #[serde(default)]
    max_msg_size: i64,
    #[serde(default)]
    num_replicas: u8,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    allow_atomic: bool,
    /// `file` unless said.
    #[serde(default)]
    storage: Option<Box<str>>,
    /// `default` unless said.
    #[serde(default)]
    persist_mode: Option<Box<str>>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

impl StreamConfig {
    fn captures(&self, subject: &str) -> bool {
        self.subjects.iter().any(|pattern| covers(pattern, subject))
    }

    fn traits(&self) -> StreamTraits {
        StreamTraits {
            atomic: self.allow_atomic,
            file: self.storage.as_deref().is_none_or(|storage| storage == "file"),
            persist_async: self.persist_mode.as_deref().is_some_and(|mode| mode == "async"),
            replicas: self.num_replicas.max(1),
        }
    }
}

/// A station, and what its streams can: how records are published is decided when the answer is given.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) station: Station,
    pub(super) streams: Box<[StreamTraits]>,
}

/// Finds the station, or creates it if `create` is set and the settings allow it.
pub(super) async fn resolve(
    broker: &Broker,
    settings: &StationSettings,
    name: &Name,
    create: bool,
    _adopted: Option<&Adopted>,
) -> Result<Found, Reject> {
    let mut taken = None;
    for _ in 0..LOOKS_MAX {
        if let Some(station) = find(broker, settings, name, create).await? {
            return Ok(station);
        }
        if !(create && settings.auto_create) {
            return Err(Reject::StationUnknown(name.as_str().into()));
        }
        match make(broker, settings, name).await {
            Ok(station) => return Ok(station),
            Err(error) if error.is_taken() => {
                tracing::debug!(station = %name, ?error, "somebody else made the station; looking again");
                taken = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(overlap @ CallError::Refused(super::broker::codes::SUBJECT_OVERLAP, _)) = taken {
        return Err(overlap.into());
    }
    let slot = Slot::of(settings.layout, name, 1, settings.partitions);
    Err(Reject::BrokerRefused(
        super::broker::codes::STREAM_NAME_IN_USE,
        format!("a stream named {:?} exists and does not capture {:?}", slot.stream, slot.captures).into(),
    ))
}

/// What a stream says of itself.
pub(super) async fn stream_info(broker: &Broker, stream: &str) -> Result<StreamInfo, CallError> {
    broker.call(&format!("STREAM.INFO.{stream}"), &serde_json::json!({})).await
}

/// One partition of a station, existing or not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    stream: String,
    /// What records are published on.
    publish: String,
    /// What the stream listens on.
    captures: String,
}

impl Slot {
    /// Partition `at` (from 1) of `count`.
    fn of(layout: Layout, name: &Name, at: u16, count: u16) -> Self {
        let internal = name.internal();
        match layout {
            Layout::Plain if count == 1 => {
                Self { stream: internal, publish: name.as_str().to_owned(), captures: name.as_str().to_owned() }
            }
            Layout::Plain => {
                let subject = format!("{name}.${at}");
                Self { stream: format!("{internal}${at}"), publish: subject.clone(), captures: subject }
            }
            Layout::Memphis => Self {
                stream: format!("{internal}${at}"),
                publish: format!("{internal}${at}.final"),
                captures: format!("{internal}${at}.>"),
            },
        }
    }
}

async fn find(broker: &Broker, settings: &StationSettings, name: &Name, create: bool) -> Result<Option<Found>, Reject> {
    let whole = match settings.layout {
        Layout::Plain => name.as_str().to_owned(),
        // The form of the original before it had partitions.
        Layout::Memphis => format!("{}.final", name.internal()),
    };
    if let Some(stream) = capturing(broker, &whole).await? {
        let info = stream_info(broker, &stream).await?;
        return station(name, vec![(whole, info)]).map(Some);
    }
    let first = Slot::of(settings.layout, name, 1, 2);
    let first_info = match stream_info(broker, &first.stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let count = match partitions_of(&first_info.config) {
        Some(count) => count,
        None => count_streams(broker, settings.layout, name).await?,
    };
    let create = create && settings.auto_create;
    let found: Vec<(String, StreamInfo)> = stream::iter(1..=count)
        .map(|at| {
            let first_info = (at == 1).then(|| first_info.clone());
            partition(broker, settings, name, (at, count), first_info, create)
        })
        .buffered(CALLS_AT_ONCE)
        .try_collect()
        .await?;
    station(name, found).map(Some)
}

/// One partition of a set: found, or made where the set was left incomplete.
async fn partition(
    broker: &Broker,
    settings: &StationSettings,
    name: &Name,
    (at, count): (u16, u16),
    known: Option<StreamInfo>,
    create: bool,
) -> Result<(String, StreamInfo), Reject> {
    // A set is of the partitioned form even if it has one member.
    let slot = Slot::of(settings.layout, name, at, count.max(2));
    let info = match known {
        Some(info) => info,
        None => match stream_info(broker, &slot.stream).await {
            Err(error) if error.is_absent() && create => ensure_stream(broker, settings, name, &slot, count).await?,
            other => other?,
        },
    };
    if !info.config.captures(&slot.publish) {
        let text = format!("the stream {:?} exists and does not capture {:?}", slot.stream, slot.publish);
        return Err(Reject::BrokerRefused(super::broker::codes::STREAM_NAME_IN_USE, text.into()));
    }
    Ok((slot.publish, info))
}

async fn make(broker: &Broker, settings: &StationSettings, name: &Name) -> Result<Found, CallError> {
    let count = settings.partitions.clamp(1, PARTITIONS_MAX);
    let make_one = |at| async move {
        let slot = Slot::of(settings.layout, name, at, count);
        let info = ensure_stream(broker, settings, name, &slot, count).await?;
        Ok::<_, CallError>((slot.publish, info))
    };
    let mut made: Vec<(String, StreamInfo)> =
        stream::iter((2..=count).rev()).map(make_one).buffered(CALLS_AT_ONCE).try_collect().await?;
    made.push(make_one(1).await?);
    made.reverse();
    tracing::info!(station = %name, partitions = count, "created station");
    station(name, made).map_err(|_| CallError::Unreadable("a stream that was just created is unusable".into()))
}

/// Creates a stream, or takes the one that has the name if it captures the subject all the same.
async fn ensure_stream(
    broker: &Broker,
    settings: &StationSettings,
    name: &Name,
    slot: &Slot,
    count: u16,
) -> Result<StreamInfo, CallError> {
    match create_stream(broker, settings, name, slot, count).await {
        Err(error) if error.is_taken() => match stream_info(broker, &slot.stream).await {
            Ok(info) if info.config.captures(&slot.publish) => Ok(info),
            _ => Err(error),
        },
        other => other,
    }
}

/// What is sent to create a stream: only fields that every supported server knows, or that this one does.
#[derive(Debug, Serialize)]
struct NewStream<'a> {
    name: &'a str,
    description: String,
    subjects: [&'a str; 1],
    retention: &'static str,
    discard: &'static str,
    max_consumers: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_age: u64,
    max_msgs_per_subject: i64,
    max_msg_size: i64,
    storage: &'static str,
    num_replicas: u8,
    duplicate_window: u64,
    /// Batches cost nothing where they are not used, and a stream that allows them can be published to in either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_atomic: Option<bool>,
    metadata: BTreeMap<&'static str, String>,
}

async fn create_stream(
    broker: &Broker,
    settings: &StationSettings,
    name: &Name,
    slot: &Slot,
    count: u16,
) -> Result<StreamInfo, CallError> {
    let unlimited = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    // The server refuses a window that is longer than the records live.
    let window = settings.retention_age.map_or(settings.duplicate_window, |age| age.min(settings.duplicate_window));
    let body = NewStream {
        name: &slot.stream,
        description: format!("Station {name}"),
        subjects: [&slot.captures],
        retention: "limits",
        discard: "old",
        max_consumers: -1,
        max_msgs: unlimited(settings.retention_records),
        max_bytes: unlimited(settings.retention_bytes),
        max_age: settings.retention_age.map_or(0, nanos),
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        storage: if settings.memory { "memory" } else { "file" },
        num_replicas: settings.replicas.max(1),
        duplicate_window: nanos(window),
        allow_atomic: broker.version().is_some_and(Version::knows_atomic).then_some(true),
        metadata: BTreeMap::from([
            (METADATA_STATION, name.as_str().to_owned()),
            (METADATA_PARTITIONS, count.to_string()),
        ]),
    };
    broker.call(&format!("STREAM.CREATE.{}", slot.stream), &body).await
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}

/// The stream that listens on this very subject, if there is one. (JetStream allows one at most.)
async fn capturing(broker: &Broker, subject: &str) -> Result<Option<String>, CallError> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        streams: Option<Vec<String>>,
    }
    let names: Names = broker.call("STREAM.NAMES", &serde_json::json!({ "subject": subject })).await?;
    Ok(names.streams.unwrap_or_default().into_iter().next())
}

fn partitions_of(config: &StreamConfig) -> Option<u16> {
    let count = config.metadata.as_ref()?.get(METADATA_PARTITIONS)?.parse().ok()?;
    (1..=PARTITIONS_MAX).contains(&count).then_some(count)
}

/// How many partitions there are of a set that somebody else made and left no number in.
async fn count_streams(broker: &Broker, layout: Layout, name: &Name) -> Result<u16, Reject> {
    let step = u16::try_from(CALLS_AT_ONCE).unwrap_or(1);
    let mut count = 1;
    while count < PARTITIONS_MAX {
        let exist: Vec<bool> = stream::iter(count + 1..=count.saturating_add(step).min(PARTITIONS_MAX))
            .map(|at| async move {
                match stream_info(broker, &Slot::of(layout, name, at, 2).stream).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_absent() => Ok(false),
                    Err(error) => Err(Reject::from(error)),
                }
            })
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        let run = exist.iter().take_while(|exists| **exists).count();
        count += u16::try_from(run).unwrap_or(0);
        if run < exist.len() {
            break;
        }
    }
    Ok(count)
}

/// Whether a stream's subject, which may hold wildcards, takes in `literal`.
fn covers(pattern: &str, literal: &str) -> bool {
    let mut tokens = literal.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// The station that these streams make up.
fn station(name: &Name, parts: Vec<(String, StreamInfo)>) -> Result<Found, Reject> {
    let configs = || parts.iter().map(|(_, info)| &info.config);
    if let Some(mute) = configs().find(|config| config.no_ack) {
        let text = format!("the stream {:?} has no_ack set: records in it cannot be acknowledged", mute.name);
        return Err(Reject::BrokerRefused(0, text.into()));
    }
    let sizes = configs().filter_map(|config| u32::try_from(config.max_msg_size).ok().filter(|size| *size > 0));
    let record_bytes_max = sizes.min();
    let replicas = configs().map(|config| config.num_replicas.max(1)).min().unwrap_or(1);
    let streams = configs().map(StreamConfig::traits).collect();
    let answers_in_order = parts.len() == 1 && parts.iter().all(|(_, info)| info.is_alone());
    let partition =
        |(subject, info): (String, StreamInfo)| Partition { stream: info.config.name, subject: subject.into() };
    let partitions = parts.into_iter().map(partition).collect();
    let publish_mode = PublishMode::Single;
    let station = Station {
        name: name.clone(),
        partitions,
        record_bytes_max,
        replicas,
        publish_mode,
        answers_in_order,
        not_atomic: Some("not built"),
        atomic_records_max: 0,
    };
    Ok(Found { station, streams })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_and_subjects_follow_the_layout() {
        let name = Name::parse("My.Station").expect("a name");
        for (layout, at, count, expect) in [
            (Layout::Plain, 1, 1, ["my#station", "my.station", "my.station"]),
            (Layout::Plain, 2, 3, ["my#station$2", "my.station.$2", "my.station.$2"]),
            (Layout::Memphis, 1, 1, ["my#station$1", "my#station$1.final", "my#station$1.>"]),
            (Layout::Memphis, 12, 12, ["my#station$12", "my#station$12.final", "my#station$12.>"]),
        ] {
            let slot = Slot::of(layout, &name, at, count);
            assert_eq!([slot.stream, slot.publish, slot.captures], expect, "{layout:?} {at}/{count}");
        }
    }

    #[test]
    fn a_streams_subject_covers_what_its_wildcards_say() {
        for (pattern, literal, expect) in [
            ("orders", "orders", true),
            ("orders", "orders.eu", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.eu.x", false),
            ("orders.>", "orders.eu.x", true),
            ("orders.>", "orders", false),
            (">", "orders", true),
            ("*", "orders", true),
            ("a#b$1.>", "a#b$1.final", true),
            ("a#b$1.>", "a#b$10.final", false),
        ] {
            assert_eq!(covers(pattern, literal), expect, "{pattern} {literal}");
        }
    }

    fn config(text: &str) -> StreamConfig {
        serde_json::from_str(text).expect("a stream's configuration")
    }

    fn info(text: &str) -> StreamInfo {
        StreamInfo { config: config(text), cluster: None }
    }

    #[test]
    fn answers_come_in_order_from_one_stream_of_a_server_that_is_alone() {
        let name = Name::parse("s").expect("a name");
        let made = r#"{"config":{"name":"s"}}"#;
        let found = r#"{"config":{"name":"s","num_replicas":1},"cluster":{"leader":"NA4YDJ"}}"#;
        let of_a_cluster = r#"{"config":{"name":"s","num_replicas":1},"cluster":{"name":"c","leader":"a"}}"#;
        let copied = r#"{"config":{"name":"s","num_replicas":3}}"#;
        for (texts, expect) in [
            (vec![made], true),
            (vec![found], true),
            (vec![made, made], false),
            (vec![of_a_cluster], false),
            (vec![copied], false),
        ] {
            let parts = texts.iter().map(|text| ("s".to_owned(), serde_json::from_str(text).expect("an answer")));
            let found = station(&name, parts.collect()).expect("a station");
            assert_eq!(found.station.answers_in_order, expect, "{texts:?}");
        }
    }

    #[test]
    fn the_smallest_limits_of_the_partitions_are_the_stations() {
        let name = Name::parse("s").expect("a name");
        let parts = vec![
            ("s.$1".to_owned(), info(r#"{"name":"s$1","max_msg_size":-1,"num_replicas":3,"metadata":null}"#)),
            ("s.$2".to_owned(), info(r#"{"name":"s$2","max_msg_size":500,"num_replicas":1,"subjects":["s.$2"]}"#)),
            ("s.$3".to_owned(), info(r#"{"name":"s$3","max_msg_size":700,"num_replicas":3,"other":1}"#)),
        ];
        let Found { station, streams } = station(&name, parts).expect("a station");
        assert_eq!((streams.len(), streams[0].replicas), (3, 3));
        assert_eq!((station.record_bytes_max, station.replicas, station.partitions.len()), (Some(500), 1, 3));
        assert_eq!(&*station.partitions[1].subject, "s.$2");
    }

    #[test]
    fn what_a_stream_can_is_read_from_its_configuration() {
        for (text, expect) in [
            (r#"{"name":"s"}"#, StreamTraits { atomic: false, ..StreamTraits::BEST }),
            (r#"{"name":"s","storage":"file","num_replicas":1,"allow_atomic":true}"#, StreamTraits::BEST),
            (
                r#"{"name":"s","storage":"memory","num_replicas":3,"allow_atomic":true}"#,
                StreamTraits { file: false, replicas: 3, ..StreamTraits::BEST },
            ),
            (
                r#"{"name":"s","storage":"file","persist_mode":"async","allow_atomic":false}"#,
                StreamTraits { atomic: false, persist_async: true, ..StreamTraits::BEST },
            ),
            (r#"{"name":"s","persist_mode":"default","allow_atomic":true}"#, StreamTraits::BEST),
        ] {
            assert_eq!(config(text).traits(), expect, "{text}");
        }
    }

    #[test]
    fn a_stream_that_never_acknowledges_is_no_station() {
        let name = Name::parse("s").expect("a name");
        let refused = station(&name, vec![("s".to_owned(), info(r#"{"name":"s","no_ack":true}"#))]);
        assert!(matches!(refused, Err(Reject::BrokerRefused(_, text)) if text.contains("no_ack")));
    }

    #[test]
    fn a_number_of_partitions_that_cannot_be_is_not_believed() {
        for (text, expect) in [
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"3"}}"#, Some(3)),
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"0"}}"#, None),
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"10001"}}"#, None),
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"x"}}"#, None),
            (r#"{"name":"s","metadata":{"_nats.ver":"2.15.1"}}"#, None),
            (r#"{"name":"s"}"#, None),
        ] {
            assert_eq!(partitions_of(&config(text)), expect, "{text}");
        }
    }
}
