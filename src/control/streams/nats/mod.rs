//! Stations as JetStream streams: made, described, changed, removed. Their records are in [`records`], their consumer
//! groups in [`groups`]; what shards ask for is found or made by [`provisioner`].

mod consumers;
mod groups;
mod interest;
pub(in crate::control) mod provision;
mod provisioner;
mod records;

pub(in crate::control) use provisioner::NatsProvisioner;

use super::{Adopted, Answer, Description, StreamAdmin, StreamsError};
use crate::{
    config::{Layout, StationSettings},
    control::nats::client::{CallError, NatsClient, codes},
    limits::STREAMS_LISTED_MAX,
    reject::Reject,
    station::{Attributes, AttributesChange, Name, Partition},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use provision::{PartitionStream, StreamInfo, partition_of, stream_info};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Calls in flight for one request.
const CALLS_AT_ONCE: usize = 16;

/// The streams of a broker, over the control plane's connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::control) struct NatsStreams {
    broker: NatsClient,
    settings: Arc<StationSettings>,
}

impl NatsStreams {
    pub(in crate::control) fn new(broker: NatsClient, settings: Arc<StationSettings>) -> Self {
        Self { broker, settings }
    }
}

impl StreamAdmin for NatsStreams {
    fn create<'a>(&'a self, name: &'a Name, attributes: &'a Attributes) -> Answer<'a, ()> {
        Box::pin(create(&self.broker, self.settings.layout, name, attributes))
    }

    fn describe<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>) -> Answer<'a, Description> {
        Box::pin(describe(&self.broker, self.settings.layout, name, adopted))
    }

    fn list(&self) -> Answer<'_, Vec<Description>> {
        Box::pin(list(&self.broker))
    }

    fn change<'a>(
        &'a self,
        name: &'a Name,
        adopted: Option<&'a Adopted>,
        change: &'a AttributesChange,
    ) -> Answer<'a, ()> {
        Box::pin(self::change(&self.broker, self.settings.layout, name, adopted, change))
    }

    fn remove<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(remove(&self.broker, self.settings.layout, name))
    }

    fn check_adoptable<'a>(&'a self, name: &'a Name, adopted: &'a Adopted) -> Answer<'a, ()> {
        Box::pin(check_adoptable(&self.broker, self.settings.layout, name, adopted))
    }

    fn can_be_lost(&self) -> bool {
        true
    }
}

async fn create(broker: &NatsClient, layout: Layout, name: &Name, attributes: &Attributes) -> Result<(), StreamsError> {
    // Found or made: then what is there is compared with what was wanted, so that two who make it at once agree.
    let parts = provision::locate(broker, layout, name, None, Some(attributes)).await.map_err(failed)?;
    if description(name, &parts).attributes != attributes.clone().with_possible_window() {
        return Err(StreamsError::Exists);
    }
    keep(broker, name, &parts).await
}

/// Makes sure that records that are stored from now on are there until a group has read them.
async fn keep(broker: &NatsClient, name: &Name, parts: &[PartitionStream]) -> Result<(), StreamsError> {
    let of_interest = parts.iter().filter(|part| part.info.config.is_of_interest());
    let partitions: Vec<Partition> = of_interest.map(PartitionStream::partition).collect();
    interest::keep(broker, name, &partitions).await.map_err(failed)
}

async fn check_adoptable(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    adopted: &Adopted,
) -> Result<(), StreamsError> {
    let parts = provision::locate(broker, layout, name, Some(adopted), None).await.map_err(failed)?;
    provision::adoptable(&parts).map_err(StreamsError::Invalid)
}

async fn describe(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    adopted: Option<&Adopted>,
) -> Result<Description, StreamsError> {
    let parts = provision::locate(broker, layout, name, adopted, None).await.map_err(failed)?;
    Ok(description(name, &parts))
}

/// Describes these streams together. The partitions of a station are alike: the first one speaks for all.
fn description(name: &Name, parts: &[PartitionStream]) -> Description {
    let partitions = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    let attributes = parts.first().map(|part| part.info.config.attributes(partitions));
    Description {
        name: name.clone(),
        attributes: attributes.unwrap_or_default(),
        records: parts.iter().map(|part| part.info.state.messages).sum(),
        bytes: parts.iter().map(|part| part.info.state.bytes).sum(),
    }
}

async fn list(broker: &NatsClient) -> Result<Vec<Description>, StreamsError> {
    let mut groups: BTreeMap<Name, Group> = BTreeMap::new();
    each_page::<StreamInfo>(broker, "STREAM.LIST", |info| {
        // The station of dead letters has a name that no other station can have.
        let Some(name) = info.config.station().and_then(|name| Name::parse(name).ok()) else { return };
        // A copy of a stream keeps its metadata, and has another name.
        let Some(partition) = partition_of(&info.config.name, &name) else { return };
        groups.entry(name).or_default().add(partition, &info);
    })
    .await?;
    Ok(groups.into_iter().filter_map(|(name, group)| group.description(name)).collect())
}

/// The streams of a station, as the list brings them.
#[derive(Debug, Default)]
struct Group {
    streams: u16,
    records: u64,
    bytes: u64,
    /// Of the first partition: without it there is no station (yet).
    attributes: Option<Attributes>,
}

impl Group {
    fn add(&mut self, partition: u16, info: &StreamInfo) {
        self.streams = self.streams.saturating_add(1);
        self.records += info.state.messages;
        self.bytes += info.state.bytes;
        if partition <= 1 {
            self.attributes = Some(info.config.attributes(info.config.partitions().unwrap_or(0)));
        }
    }

    fn description(self, name: Name) -> Option<Description> {
        let mut attributes = self.attributes?;
        if attributes.partitions == 0 {
            attributes.partitions = self.streams;
        }
        Some(Description { name, attributes, records: self.records, bytes: self.bytes })
    }
}

/// Passes every item of a list of the broker to `each`, a page at a time.
async fn each_page<T: for<'de> Deserialize<'de>>(
    broker: &NatsClient,
    verb: &str,
    mut each: impl FnMut(T),
) -> Result<(), StreamsError> {
    #[derive(Deserialize)]
    #[serde(bound = "T: Deserialize<'de>")]
    struct Page<T> {
        #[serde(default)]
        total: usize,
        #[serde(default)]
        streams: Option<Vec<T>>,
    }
    let mut offset = 0;
    while offset < STREAMS_LISTED_MAX {
        let page: Page<T> = broker.call(verb, &json!({ "offset": offset })).await.map_err(refused)?;
        let streams = page.streams.unwrap_or_default();
        offset += streams.len();
        let last = streams.is_empty() || offset >= page.total;
        streams.into_iter().for_each(&mut each);
        if last {
            return Ok(());
        }
    }
    let text = format!("the broker has more than {STREAMS_LISTED_MAX} streams: they are not looked through");
    Err(StreamsError::Failed(Reject::BrokerFailed(text.into())))
}

async fn change(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    adopted: Option<&Adopted>,
    change: &AttributesChange,
) -> Result<(), StreamsError> {
    let parts = provision::locate(broker, layout, name, adopted, None).await.map_err(failed)?;
    // Servers before 2.14 take this and keep one copy.
    if change.replicas.is_some_and(|replicas| replicas > 1) && !parts.iter().all(|part| part.info.is_in_a_cluster()) {
        return Err(StreamsError::Invalid("replicas: the broker's server is alone, copies need a cluster".to_owned()));
    }
    let change_one = |stream: Box<str>| async move { change_stream(broker, &stream, change).await };
    let mut streams = parts.into_iter().map(|part| part.info.config.name);
    // What the broker refuses, it refuses for the first one: then nothing has changed.
    if let Some(first) = streams.next() {
        change_one(first).await?;
    }
    stream::iter(streams).map(change_one).buffered(CALLS_AT_ONCE).try_collect::<()>().await
}

/// Changes one stream: it keeps its configuration, whatever is in it, except for the values that are to change.
async fn change_stream(broker: &NatsClient, stream: &str, change: &AttributesChange) -> Result<(), StreamsError> {
    let unreadable =
        |error| failed(Reject::BrokerFailed(format!("the stream {stream:?} cannot be read: {error}").into()));
    let apply = |config: &mut Map<String, Value>| provision::apply(change, config).map_err(unreadable);
    if provision::edit(broker, stream, apply, refused).await? {
        tracing::info!(stream, ?change, "changed a stream");
    }
    Ok(())
}

/// Removes the streams of a station, the first one last: as long as one is left the station can be seen, and removed
/// again. (The other way round, what a removal that was cut off leaves behind would be found by nobody, until a new
/// station of the name is made and its partitions hold the old records.)
async fn remove(broker: &NatsClient, layout: Layout, name: &Name) -> Result<(), StreamsError> {
    match provision::locate(broker, layout, name, None, None).await {
        Ok(parts) => {
            if let Some(foreign) = parts.iter().find(|part| !is_own(layout, name, &part.info)) {
                return Err(StreamsError::Invalid(format!(
                    "the stream {:?} was not made for the station {:?}: it is removed with the broker's own tools",
                    foreign.info.config.name,
                    name.as_str(),
                )));
            }
        }
        // There is no such stream, or a set without some of its members.
        Err(Reject::StationUnknown(_) | Reject::BrokerRefused(codes::STREAM_NOT_FOUND, _)) => {}
        Err(reject) => return Err(failed(reject)),
    }
    remove_streams(broker, own_streams(broker, layout, name).await?).await?;
    // A producer has completed the set meanwhile, or made it anew: members without a first one belong to nobody.
    let left = own_streams(broker, layout, name).await?;
    if left.first().is_some_and(|(partition, _)| *partition > 1) {
        remove_streams(broker, left).await?;
    }
    tracing::info!(station = %name, "removed the streams of a station");
    Ok(())
}

/// Removes streams, in the order of partitions, from the last to the first.
async fn remove_streams(broker: &NatsClient, streams: Vec<(u16, String)>) -> Result<(), StreamsError> {
    let remove = |stream: String| async move {
        match broker.call::<IgnoredAny>(&format!("STREAM.DELETE.{stream}"), &json!({})).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(refused(error)),
        }
    };
    let (firsts, others): (Vec<_>, Vec<_>) = streams.into_iter().partition(|(partition, _)| *partition <= 1);
    for set in [others, firsts] {
        let set = set.into_iter().rev().map(|(_, stream)| stream);
        stream::iter(set).map(remove).buffered(CALLS_AT_ONCE).try_collect::<()>().await?;
    }
    Ok(())
}

/// Returns the streams that were made for this station, with their partitions, in order; also those of a set without a
/// first one.
async fn own_streams(broker: &NatsClient, layout: Layout, name: &Name) -> Result<Vec<(u16, String)>, StreamsError> {
    let mut named = Vec::new();
    each_page::<String>(broker, "STREAM.NAMES", |stream| {
        named.extend(partition_of(&stream, name).map(|partition| (partition, stream)));
    })
    .await?;
    named.sort_unstable();
    let look = |(partition, stream): (u16, String)| async move {
        match stream_info(broker, &stream).await {
            Ok(info) => Ok(is_own(layout, name, &info).then_some((partition, stream))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(refused(error)),
        }
    };
    let own: Vec<Option<(u16, String)>> = stream::iter(named).map(look).buffered(CALLS_AT_ONCE).try_collect().await?;
    Ok(own.into_iter().flatten().collect())
}

/// Returns whether a stream was made for this station: it says so, or has the name and no subject but the one that such
/// a stream has (the original's say nothing).
fn is_own(layout: Layout, name: &Name, info: &StreamInfo) -> bool {
    let Some(partition) = partition_of(&info.config.name, name) else { return false };
    if let Some(stated) = info.config.station() {
        return stated == name.as_str();
    }
    let [subject] = &*info.config.subjects else { return false };
    match partition {
        0 => **subject == *name.as_str() || **subject == *format!("{}.>", name.internal()),
        _ => **subject == *provision::StreamName::of(layout, name, partition, 2).captures,
    }
}

/// Maps why streams could not be found or made.
fn failed(reject: Reject) -> StreamsError {
    match reject {
        Reject::StationUnknown(_) => StreamsError::Unknown,
        Reject::BrokerRefused(codes::STREAM_NOT_FOUND, text) => StreamsError::Missing(text.into()),
        // The broker's own words about the request, or ours about what is there.
        Reject::BrokerRefused(_, text) | Reject::StationBlocked(text) | Reject::Conflict(text) => {
            StreamsError::Invalid(text.into())
        }
        other => StreamsError::Failed(other),
    }
}

fn refused(error: CallError) -> StreamsError {
    failed(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_stations_own_by_its_word_or_by_name_and_subject() {
        let name = Name::parse("a.b").expect("a name");
        for (text, expect) in [
            (r#"{"name":"a#b","subjects":["a.b"]}"#, true),
            (r#"{"name":"a#b$2","subjects":["a.b.$2"]}"#, true),
            (r#"{"name":"a#b","subjects":["a.b","more"]}"#, false),
            (r#"{"name":"a#b","subjects":["elsewhere"]}"#, false),
            (r#"{"name":"a#b$2","subjects":["a.b.$3"]}"#, false),
            (r#"{"name":"a#b","subjects":["x"],"metadata":{"sluicegate.station":"a.b"}}"#, true),
            (r#"{"name":"a#b","subjects":["a.b"],"metadata":{"sluicegate.station":"other"}}"#, false),
            (r#"{"name":"copy","subjects":["x"],"metadata":{"sluicegate.station":"a.b"}}"#, false),
            (r#"{"name":"ALL","subjects":["a.>"]}"#, false),
        ] {
            let info = serde_json::from_str(&format!(r#"{{"config":{text}}}"#)).expect("an answer");
            assert_eq!(is_own(Layout::Plain, &name, &info), expect, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_the_brokers_word_and_an_absence_is_not() {
        let refusal = |code| Reject::BrokerRefused(code, "text".into());
        for (reject, expect) in [
            (refusal(10_052), StreamsError::Invalid("text".to_owned())),
            (refusal(10_059), StreamsError::Missing("text".to_owned())),
            (Reject::StationBlocked("text".into()), StreamsError::Invalid("text".to_owned())),
            (Reject::Conflict("text".into()), StreamsError::Invalid("text".to_owned())),
            (Reject::BrokerFailed("text".into()), StreamsError::Failed(Reject::BrokerFailed("text".into()))),
            (Reject::StationUnknown("s".into()), StreamsError::Unknown),
            (Reject::BrokerAway, StreamsError::Failed(Reject::BrokerAway)),
        ] {
            assert_eq!(failed(reject.clone()), expect, "{reject:?}");
        }
    }
}
