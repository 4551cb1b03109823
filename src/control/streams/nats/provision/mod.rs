//! Finds and makes the streams of a station.
//!
//! A stream is looked for before one is made (ADR 5). A stream that captures the station's subject is used as it is.
//! Else the partitioned form is looked for, by its first partition. Else the station is created, where that is allowed.
//! Two gateways may do this at once: creation is idempotent, and one that finds the name or the subject taken looks
//! again. A station that was adopted is that stream and subject, and is never made.
//!
//! Partitions are created from the last to the first: the first one is what others look for, so a set that can be seen
//! is complete. A creation that was cut off is completed by the next request, as is a set that has lost one of its
//! streams: the missing one is made like the others.
//!
//! Nothing is cached here, and no stream that exists is ever changed or removed; but for one trait of the gateway's own
//! streams ([`allow_direct_get`]).

mod attributes;
mod direct_get;
mod edit;
mod find;
mod info;
mod make;
mod names;

pub(super) use attributes::apply;
pub(in crate::control) use direct_get::allow_direct_get;
pub(in crate::control) use edit::edit;
pub(in crate::control) use info::{METADATA_STATION, StreamConfig, StreamInfo, covers, stream_info};
pub(in crate::control) use names::{StreamName, partition_of};

use crate::control::{
    nats::{
        client::{CallError, NatsClient, codes},
        publish_mode::{StreamTraits, Version},
    },
    streams::Adopted,
};
use crate::{
    config::{Layout, StationSettings},
    limits::{ATOMIC_RECORDS_MAX, CREATION_LOOKS_MAX},
    reject::Reject,
    station::{Attributes, DirectGet, Name, Partition, PublishMode, STREAM_NOT_ATOMIC, Station},
};

/// A stream of a station, and the subject that records are published on.
#[derive(Debug, Clone)]
pub(in crate::control) struct PartitionStream {
    pub(in crate::control) subject: String,
    pub(in crate::control) info: StreamInfo,
}

impl PartitionStream {
    pub(in crate::control) fn partition(&self) -> Partition {
        Partition { stream: self.info.config.name.clone(), subject: self.subject.as_str().into() }
    }
}

/// A station, and what its streams can do: how records are published is decided when the answer is sent.
#[derive(Debug)]
pub(in crate::control) struct Found {
    pub(in crate::control) station: Station,
    pub(in crate::control) streams: Box<[StreamTraits]>,
    /// Whether its streams drop records that no consumer is interested in.
    pub(in crate::control) is_of_interest: bool,
}

/// Finds the station, or makes it with the attributes of `create`.
pub(in crate::control) async fn resolve(
    broker: &NatsClient,
    settings: &StationSettings,
    name: &Name,
    adopted: Option<&Adopted>,
    create: Option<&Attributes>,
) -> Result<Found, Reject> {
    let parts = locate(broker, settings.layout, name, adopted, create).await?;
    station(name, parts, broker.version())
}

/// Returns the streams of a station, found or made.
pub(in crate::control) async fn locate(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    adopted: Option<&Adopted>,
    create: Option<&Attributes>,
) -> Result<Vec<PartitionStream>, Reject> {
    if let Some(adopted) = adopted {
        return find::adopted(broker, name, adopted).await;
    }
    let mut taken = None;
    for _ in 0..CREATION_LOOKS_MAX {
        if let Some(parts) = find::find(broker, layout, name, create.is_some()).await? {
            return Ok(parts);
        }
        let Some(attributes) = create else { return Err(Reject::StationUnknown(name.as_str().into())) };
        let survivor = match name.dead_letters_of() {
            None => find::survivor(broker, layout, name).await?,
            Some(_) => None,
        };
        match make::make(broker, layout, name, survivor.as_ref().unwrap_or(attributes)).await {
            Ok(parts) => return Ok(parts),
            Err(error) if error.is_taken() => {
                tracing::debug!(station = %name, error = %Reject::from(error.clone()), "somebody else made the station; looking again");
                taken = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(overlap @ CallError::Refused(codes::SUBJECT_OVERLAP, _)) = taken {
        return Err(overlap.into());
    }
    let stream_name = StreamName::of(layout, name, 1, create.map_or(1, |attributes| attributes.partitions));
    let text =
        format!("a stream named {:?} exists and does not capture {:?}", stream_name.stream, stream_name.captures);
    Err(Reject::StationBlocked(text.into()))
}

/// Checks whether a stream can become a station of this subject; the text says why not.
pub(in crate::control) fn adoptable(parts: &[PartitionStream]) -> Result<(), String> {
    parts.iter().find_map(|part| part.info.config.not_adoptable(&part.subject)).map_or(Ok(()), Err)
}

/// Returns the station that these streams make up.
fn station(name: &Name, parts: Vec<PartitionStream>, version: Option<Version>) -> Result<Found, Reject> {
    let configs = || parts.iter().map(|part| &part.info.config);
    if let Some(why) = parts.iter().find_map(|part| part.info.config.unusable(&part.subject)) {
        return Err(Reject::StationBlocked(why.into()));
    }
    let sizes = configs().filter_map(|config| u32::try_from(config.max_msg_size).ok().filter(|size| *size > 0));
    let record_bytes_max = sizes.min();
    let replicas = configs().map(StreamConfig::replicas).min().unwrap_or(1);
    let duplicate_window = configs().map(StreamConfig::duplicate_window).min().unwrap_or_default();
    let streams: Box<[StreamTraits]> = configs().map(StreamConfig::traits).collect();
    let is_of_interest = configs().any(StreamConfig::is_of_interest);
    let direct_get = direct_get(configs().map(|config| config.direct_get(name)));
    let answers_in_order = parts.len() == 1 && parts.iter().all(|part| part.info.is_alone());
    let partition = |part: PartitionStream| Partition { stream: part.info.config.name, subject: part.subject.into() };
    let partitions = parts.into_iter().map(partition).collect();
    let publish_mode = PublishMode::Single;
    let not_atomic = not_atomic(&streams, version);
    let station = Station {
        name: name.clone(),
        partitions,
        record_bytes_max,
        replicas,
        publish_mode,
        answers_in_order,
        not_atomic,
        atomic_records_max: if not_atomic.is_none() { u32::from(ATOMIC_RECORDS_MAX) } else { 0 },
        duplicate_window,
        direct_get,
    };
    Ok(Found { station, streams, is_of_interest })
}

/// Returns how all of a station's streams can be read by place.
fn direct_get(streams: impl Iterator<Item = DirectGet>) -> DirectGet {
    streams.fold(DirectGet::Allowed, |all, one| match (all, one) {
        (DirectGet::Denied, _) | (_, DirectGet::Denied) => DirectGet::Denied,
        (DirectGet::Possible, _) | (_, DirectGet::Possible) => DirectGet::Possible,
        (DirectGet::Allowed, DirectGet::Allowed) => DirectGet::Allowed,
    })
}

/// Returns why a request cannot be stored all or nothing in these streams.
fn not_atomic(streams: &[StreamTraits], version: Option<Version>) -> Option<&'static str> {
    match streams {
        // An older broker would store each record of a batch by itself, whatever its stream's configuration says.
        _ if !version.is_some_and(Version::knows_atomic) => Some("the broker is older than 2.12"),
        [only] if !only.atomic => Some(STREAM_NOT_ATOMIC),
        [only] if only.persist_async => Some("the stream is acknowledged before it is written (persist_mode async)"),
        [_] => None,
        _ => Some("the station has several partitions"),
    }
}

#[cfg(test)]
mod tests {
    use super::{info::tests::info, *};
    use std::time::Duration;

    fn part(subject: &str, text: &str) -> PartitionStream {
        PartitionStream { subject: subject.to_owned(), info: info(text) }
    }

    fn version(text: &str) -> Option<Version> {
        Version::parse(text)
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
            let read = |text: &&str| serde_json::from_str(text).expect("an answer");
            let parts = texts.iter().map(|text| PartitionStream { subject: "s".to_owned(), info: read(text) });
            let found = station(&name, parts.collect(), None).expect("a station");
            assert_eq!(found.station.answers_in_order, expect, "{texts:?}");
        }
    }

    #[test]
    fn the_smallest_limits_of_the_partitions_are_the_stations() {
        let name = Name::parse("s").expect("a name");
        let parts = vec![
            part(
                "s.$1",
                r#"{"name":"s$1","max_msg_size":-1,"num_replicas":3,"duplicate_window":2000,"metadata":null}"#,
            ),
            part(
                "s.$2",
                r#"{"name":"s$2","max_msg_size":500,"num_replicas":1,"duplicate_window":3000,"subjects":["s.$2"]}"#,
            ),
            part("s.$3", r#"{"name":"s$3","max_msg_size":700,"num_replicas":3,"duplicate_window":1000,"other":1}"#),
        ];
        let Found { station, streams, .. } = station(&name, parts, None).expect("a station");
        assert_eq!((streams.len(), streams[0].replicas), (3, 3));
        assert_eq!((station.record_bytes_max, station.replicas, station.partitions.len()), (Some(500), 1, 3));
        assert_eq!(&*station.partitions[1].subject, "s.$2");
        assert_eq!(station.duplicate_window, Duration::from_micros(1));
        // A stream that gathers from others knows no ids, and then says nothing of a duplicate window.
        let forgets =
            vec![part("s.$1", r#"{"name":"s$1","duplicate_window":2000}"#), part("s.$2", r#"{"name":"s$2"}"#)];
        assert_eq!(self::station(&name, forgets, None).expect("a station").station.duplicate_window, Duration::ZERO);
    }

    #[test]
    fn all_or_nothing_is_possible_in_one_stream_that_allows_it_on_a_broker_that_knows_it() {
        let name = Name::parse("s").expect("a name");
        let (plain, atomic) = (r#"{"name":"s"}"#, r#"{"name":"s","allow_atomic":true}"#);
        let later = r#"{"name":"s","allow_atomic":true,"persist_mode":"async"}"#;
        for (texts, broker, expect) in [
            (vec![atomic], "2.12.0", None),
            (vec![atomic], "2.15.1", None),
            (vec![plain], "2.15.1", Some("allow_atomic")),
            (vec![later], "2.15.1", Some("persist_mode")),
            (vec![atomic, atomic], "2.15.1", Some("several partitions")),
            (vec![atomic], "2.11.9", Some("older than 2.12")),
            (vec![atomic], "?", Some("older than 2.12")),
        ] {
            let parts = texts.iter().map(|text| part("s", text)).collect();
            let found = station(&name, parts, version(broker)).expect("a station").station;
            let why = found.not_atomic;
            assert!(why.is_none() == expect.is_none() && why.unwrap_or("").contains(expect.unwrap_or("")), "{why:?}");
            assert_eq!(found.atomic_records_max, if expect.is_none() { 1_000 } else { 0 });
        }
    }

    #[test]
    fn a_stream_that_never_acknowledges_is_no_station() {
        let name = Name::parse("s").expect("a name");
        let refused = station(&name, vec![part("s", r#"{"name":"s","no_ack":true}"#)], None);
        assert!(matches!(refused, Err(Reject::StationBlocked(text)) if text.contains("no_ack")));
    }
}
