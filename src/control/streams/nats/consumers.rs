//! Finds and makes the durable consumers of a group: one pull consumer on each partition.
//!
//! A durable that exists is used as it is, with its own `ack_wait` and delivery limit, unless it cannot do what a
//! consume call promises: a push consumer, or one whose acknowledgements are not explicit. Nothing that exists is
//! changed.
//!
//! A durable's name is unique in its stream, and a stream may serve several stations. So the name that the original
//! gave (`<group>-rest-gateway`) belongs to the first station that uses the group; for the others the station's name
//! follows. Which station a durable belongs to is told by its filter, and among stations of one subject by its
//! metadata.
//!
//! What is made differs from the original's consumer in two ways, both on purpose (docs/contract.md): messages are
//! delivered again until they are acknowledged (`max_deliver` -1 instead of 1), and the number of messages delivered
//! and not acknowledged is bounded by [`CONSUMER_ACK_PENDING_MAX`] instead of unlimited, so that clients that vanish
//! cannot make the broker remember more than that. It also says who made it, since the number that one principal may
//! make is bounded ([`groups::check`]), and is removed when nobody has used it for as long as the settings say.

use super::{
    groups,
    provision::{METADATA_STATION, stream_info},
};
use crate::{
    control::{
        hex::hex,
        nats::client::{CallError, NatsClient, codes},
    },
    limits::{ACK_WAIT, CONSUMER_ACK_PENDING_MAX, CONSUMERS_LISTED_MAX, CREATION_LOOKS_MAX, NATS_NAME_BYTES_MAX},
    reject::Reject,
    station::{Consumer, Name, Partition, Station},
};
use async_nats::datetime::parse_rfc3339;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The key of a consumer's metadata that says who made it.
pub(super) const PRINCIPAL: &str = "sluicegate-principal";
/// Calls in flight for one request.
const CALLS_AT_ONCE: usize = 16;

/// What a new consumer has besides what all of them have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making<'a> {
    /// Who makes it.
    pub(super) principal: &'a str,
    /// How long it may be unused before it is removed; `None`: it stays.
    pub(super) expiry: Option<Duration>,
}

/// Finds the group's consumers, or creates them.
pub(super) async fn resolve(
    broker: &NatsClient,
    station: &Station,
    group: Option<&Name>,
    making: Making<'_>,
) -> Result<Arc<Consumer>, Reject> {
    let plain = Consumer::durable_name(group);
    let (durable, ack_wait) = match &*station.partitions {
        [only] => on_the_only_partition(broker, station, only, &plain, making).await?,
        // The streams of a set serve no other station.
        partitions => {
            let on_one = |partition: Partition| {
                let plain = &plain;
                async move { find_or_create(broker, station, &partition, plain, making).await }
            };
            let waits: Vec<Duration> =
                stream::iter(partitions.to_vec()).map(on_one).buffered(CALLS_AT_ONCE).try_collect().await?;
            (plain.clone(), waits.into_iter().min().unwrap_or(ACK_WAIT))
        }
    };
    Ok(Arc::new(Consumer { durable: durable.into(), station: station.name.clone(), ack_wait }))
}

/// Finds or creates the consumer of a station of one stream, which may have other stations. Returns its name and its
/// `ack_wait`.
async fn on_the_only_partition(
    broker: &NatsClient,
    station: &Station,
    partition: &Partition,
    plain: &str,
    making: Making<'_>,
) -> Result<(String, Duration), Reject> {
    let own = with_station(plain, &station.name);
    if let Some(known) = find(broker, partition, &own).await? {
        let ack_wait = usable(&known, partition)?;
        return Ok((own, ack_wait));
    }
    for _ in 0..CREATION_LOOKS_MAX {
        let name = match find(broker, partition, plain).await? {
            Some(known) if reads(broker, &known, partition).await? && known.config.may_be_of(&station.name) => {
                return Ok((plain.to_owned(), usable(&known, partition)?));
            }
            // It is another station's.
            Some(_) => &own,
            None => plain,
        };
        match create(broker, station, partition, name, making).await {
            Ok(made) => return Ok((name.to_owned(), usable(&made, partition)?)),
            // Somebody else was quicker, maybe for another station.
            Err(Taken) => {}
            Err(Refused(why)) => return Err(why),
        }
    }
    find_or_create(broker, station, partition, &own, making).await.map(|ack_wait| (own, ack_wait))
}

/// Finds or creates the consumer of this name on one partition. Returns its `ack_wait`.
async fn find_or_create(
    broker: &NatsClient,
    station: &Station,
    partition: &Partition,
    durable: &str,
    making: Making<'_>,
) -> Result<Duration, Reject> {
    let known = match find(broker, partition, durable).await? {
        Some(known) => known,
        None => match create(broker, station, partition, durable, making).await {
            Ok(made) => made,
            Err(Taken) => find(broker, partition, durable).await?.ok_or(Reject::NoStream)?,
            Err(Refused(why)) => return Err(why),
        },
    };
    if !reads(broker, &known, partition).await? {
        return Err(cannot_be_used(&known, partition, "it reads other subjects than the station's"));
    }
    usable(&known, partition)
}

/// Returns the consumer of this name, if there is one.
async fn find(broker: &NatsClient, partition: &Partition, durable: &str) -> Result<Option<ConsumerInfo>, Reject> {
    match broker.look(&format!("CONSUMER.INFO.{}.{durable}", partition.stream), &json!({})).await {
        Ok(info) => Ok(Some(info)),
        Err(CallError::Refused(codes::CONSUMER_NOT_FOUND, _)) => Ok(None),
        Err(error) => Err(refused(error, &partition.stream)),
    }
}

/// Returns whether a consumer delivers the records of this partition, and no others.
async fn reads(broker: &NatsClient, known: &ConsumerInfo, partition: &Partition) -> Result<bool, Reject> {
    let filters = known.config.filters();
    if !filters.is_empty() {
        return Ok(filters == [&*partition.subject]);
    }
    let stream = stream_info(broker, &partition.stream).await.map_err(absent)?;
    Ok(stream.config.is_only(&partition.subject))
}

/// Returns the `ack_wait` of a consumer that can do what a consume call promises.
fn usable(known: &ConsumerInfo, partition: &Partition) -> Result<Duration, Reject> {
    let config = &known.config;
    if config.deliver_subject.is_some() {
        return Err(cannot_be_used(known, partition, "it is a push consumer"));
    }
    if config.ack_policy != "explicit" {
        return Err(cannot_be_used(known, partition, "its acknowledgements are not explicit"));
    }
    // The original made its consumers with 1: a message that a client loses on the way is then lost.
    if config.max_deliver > 0 {
        tracing::warn!(
            durable = &*known.name,
            stream = &*partition.stream,
            max_deliver = config.max_deliver,
            "this consumer hands a message out only so often; set max_deliver to -1 for delivery at least once"
        );
    }
    Ok(Duration::from_nanos(config.ack_wait))
}

fn cannot_be_used(known: &ConsumerInfo, Partition { stream, .. }: &Partition, why: &str) -> Reject {
    let durable = &known.name;
    let text = format!(
        "the consumer {durable:?} of the stream {stream:?} cannot be used: {why}; remove it, or name another consumer group"
    );
    Reject::Conflict(text.into())
}

/// Returns the name of a group's durable where another station of the stream has the plain one. No group's name holds a
/// `$`.
pub(super) fn with_station(plain: &str, station: &Name) -> String {
    let name = format!("{plain}${}", station.internal());
    if name.len() <= NATS_NAME_BYTES_MAX {
        return name;
    }
    format!("{plain}${}", hex(Sha256::digest(station.as_str()).get(..16).unwrap_or_default()))
}

/// Returns the name of a group's consumers, if there are any.
pub(super) async fn durable_of(broker: &NatsClient, station: &Station, plain: &str) -> Result<Option<String>, Reject> {
    let Some(first) = station.partitions.first() else { return Ok(None) };
    let own = with_station(plain, &station.name);
    if station.partitions.len() == 1 && find(broker, first, &own).await?.is_some() {
        return Ok(Some(own));
    }
    let Some(known) = find(broker, first, plain).await? else { return Ok(None) };
    let is_of_station = reads(broker, &known, first).await? && known.config.may_be_of(&station.name);
    Ok(is_of_station.then(|| plain.to_owned()))
}

/// Why a consumer was not made.
enum NotMade {
    /// There is one of its name, with another configuration.
    Taken,
    Refused(Reject),
}
use NotMade::{Refused, Taken};

async fn create(
    broker: &NatsClient,
    station: &Station,
    partition: &Partition,
    durable: &str,
    making: Making<'_>,
) -> Result<ConsumerInfo, NotMade> {
    // Groups are counted once, before the first consumer of this one is made.
    if station.partitions.first() == Some(partition) {
        groups::check(broker, station, making.principal).await.map_err(Refused)?;
    }
    let stream = stream_info(broker, &partition.stream).await.map_err(|error| Refused(absent(error)))?;
    let ack_pending_max = stream.config.ack_pending_max(CONSUMER_ACK_PENDING_MAX);
    // Where nobody is interested in a record, it is dropped: a group that is removed by itself would leave a gap.
    let expiry = making.expiry.filter(|_| !stream.config.is_of_interest());
    let making = Some(Making { expiry, ..making });
    match create_consumer(broker, &NewConsumer { durable, station: &station.name, partition, ack_pending_max, making })
        .await
    {
        Ok(info) => Ok(info),
        Err(error) if error.is_taken() => Err(Taken),
        Err(error) => Err(Refused(refused(error, &partition.stream))),
    }
}

/// Returns why there is no such consumer: what somebody has to change, and whose limit it is.
fn refused(error: CallError, stream: &str) -> Reject {
    match error {
        CallError::Refused(codes::WORK_QUEUE_UNFILTERED | codes::WORK_QUEUE_NOT_UNIQUE, _) => Reject::Conflict(
            format!(
                "the stream {stream:?} is a work queue: one consumer group can read the station, and another one does; use that \
                group, or remove its consumer"
            )
            .into(),
        ),
        CallError::Refused(codes::TOO_MANY_CONSUMERS, _) => Reject::Conflict(
            format!(
                "the stream {stream:?} has as many consumers as it or its account may have (max_consumers): remove one, or raise \
                the limit"
            )
            .into(),
        ),
        other => absent(other),
    }
}

/// A stream that is gone since the station was resolved: the shard has to ask for the station again.
fn absent(error: CallError) -> Reject {
    if error.is_absent() { Reject::NoStream } else { error.into() }
}

/// What a consumer says of itself, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    #[serde(default)]
    pub(super) name: Box<str>,
    pub(super) config: ConsumerConfig,
    /// RFC 3339, as every time here.
    #[serde(default)]
    created: Option<Box<str>>,
    #[serde(default)]
    delivered: Activity,
    #[serde(default)]
    ack_floor: Activity,
}

/// When a consumer was last used in one of its ways.
#[derive(Debug, Default, Deserialize)]
struct Activity {
    #[serde(default)]
    last_active: Option<Box<str>>,
}

impl ConsumerInfo {
    /// Returns when it was created, in ms since 1970.
    pub(super) fn created_ms(&self) -> Option<u64> {
        unix_ms(self.created.as_deref()?)
    }

    /// Returns when it last delivered a message or had one acknowledged, in ms since 1970.
    pub(super) fn used_ms(&self) -> Option<u64> {
        let used = [&self.delivered, &self.ack_floor].into_iter().filter_map(|way| way.last_active.as_deref());
        used.filter_map(unix_ms).max()
    }
}

fn unix_ms(rfc3339: &str) -> Option<u64> {
    u64::try_from(parse_rfc3339(rfc3339).ok()?.unix_timestamp_nanos() / 1_000_000).ok()
}

#[derive(Debug, Deserialize)]
pub(super) struct ConsumerConfig {
    #[serde(default)]
    durable_name: Box<str>,
    #[serde(default)]
    deliver_policy: Box<str>,
    #[serde(default)]
    deliver_subject: Option<Box<str>>,
    #[serde(default)]
    ack_policy: String,
    #[serde(default)]
    ack_wait: u64,
    #[serde(default)]
    max_deliver: i64,
    /// Nanoseconds; 0 for ever.
    #[serde(default)]
    inactive_threshold: u64,
    #[serde(default)]
    filter_subject: Box<str>,
    #[serde(default)]
    filter_subjects: Vec<Box<str>>,
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

impl ConsumerConfig {
    pub(super) fn filters(&self) -> Vec<&str> {
        let single = (!self.filter_subject.is_empty()).then_some(&*self.filter_subject);
        single.into_iter().chain(self.filter_subjects.iter().map(|subject| &**subject)).collect()
    }

    /// Returns whether it stays when nobody pulls from it.
    pub(super) fn lasts(&self) -> bool {
        !self.durable_name.is_empty() && self.inactive_threshold == 0
    }

    pub(super) fn begins_with_the_oldest(&self) -> bool {
        matches!(&*self.deliver_policy, "" | "all")
    }

    /// Returns whether it was made for this station, or says nothing of that: then it is older, or somebody else's.
    pub(super) fn may_be_of(&self, station: &Name) -> bool {
        let stated = self.metadata.as_ref().and_then(|metadata| metadata.get(METADATA_STATION));
        stated.is_none_or(|stated| stated == station.as_str())
    }
}

/// Passes every consumer of a stream to `each`, until that has seen enough.
pub(super) async fn consumers_of(
    broker: &NatsClient,
    stream: &str,
    mut each: impl FnMut(&ConsumerInfo) -> bool,
) -> Result<(), CallError> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        total: usize,
        #[serde(default)]
        consumers: Option<Vec<ConsumerInfo>>,
    }
    let (verb, mut offset) = (format!("CONSUMER.LIST.{stream}"), 0);
    while offset < CONSUMERS_LISTED_MAX {
        let page: Page = broker.look(&verb, &json!({ "offset": offset })).await?;
        let consumers = page.consumers.unwrap_or_default();
        offset += consumers.len();
        if !consumers.iter().all(&mut each) || consumers.is_empty() || offset >= page.total {
            break;
        }
    }
    Ok(())
}

/// A durable pull consumer that is to be made: it begins with the oldest record of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewConsumer<'a> {
    pub(super) durable: &'a str,
    pub(super) station: &'a Name,
    pub(super) partition: &'a Partition,
    /// Messages that may be delivered and not acknowledged.
    pub(super) ack_pending_max: u32,
    /// `None`: the gateway makes it for itself.
    pub(super) making: Option<Making<'a>>,
}

/// Makes a consumer. It is no error if there is one like it.
pub(super) async fn create_consumer(broker: &NatsClient, new: &NewConsumer<'_>) -> Result<ConsumerInfo, CallError> {
    /// Only fields that every supported server knows.
    #[derive(Serialize)]
    struct Create<'a> {
        stream_name: &'a str,
        config: Config<'a>,
        action: &'static str,
    }
    #[derive(Serialize)]
    struct Config<'a> {
        durable_name: &'a str,
        name: &'a str,
        deliver_policy: &'static str,
        ack_policy: &'static str,
        ack_wait: u64,
        max_deliver: i64,
        max_ack_pending: u32,
        filter_subject: &'a str,
        replay_policy: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        inactive_threshold: Option<u64>,
        metadata: BTreeMap<&'static str, &'a str>,
    }
    let NewConsumer { durable, station, partition, ack_pending_max, making } = *new;
    let expiry = making.and_then(|making| making.expiry);
    let (stream, subject) = (&*partition.stream, &*partition.subject);
    let body = Create {
        stream_name: stream,
        config: Config {
            durable_name: durable,
            name: durable,
            deliver_policy: "all",
            ack_policy: "explicit",
            ack_wait: u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX),
            max_deliver: -1,
            max_ack_pending: ack_pending_max,
            filter_subject: subject,
            replay_policy: "instant",
            inactive_threshold: expiry.and_then(|expiry| u64::try_from(expiry.as_nanos()).ok()),
            metadata: [(METADATA_STATION, station.as_str())]
                .into_iter()
                .chain(making.map(|making| (PRINCIPAL, making.principal)))
                .collect(),
        },
        action: "create",
    };
    broker.look(&format!("CONSUMER.CREATE.{stream}.{durable}.{subject}"), &body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_filters_of_a_consumer_are_seen() {
        for (text, expect) in [
            (r"{}", vec![]),
            (r#"{"filter_subject":"a"}"#, vec!["a"]),
            (r#"{"filter_subjects":["a","b"]}"#, vec!["a", "b"]),
        ] {
            let config: ConsumerConfig = serde_json::from_str(text).expect("a configuration");
            assert_eq!(config.filters(), expect, "{text}");
        }
    }

    #[test]
    fn a_stream_that_is_gone_is_not_an_error_of_the_broker() {
        assert_eq!(absent(CallError::Refused(10_059, "stream not found".into())), Reject::NoStream);
        assert_eq!(absent(CallError::Away), Reject::BrokerAway);
    }

    #[test]
    fn r4_names_of_durables_differ_by_station_and_are_never_too_long() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let long = "l".repeat(128);
        let longest = Consumer::durable_name(Some(&name(&long)));
        assert_eq!(with_station("g-rest-gateway", &name("orders.eu")), "g-rest-gateway$orders#eu");
        let hashed = with_station(&longest, &name(&long));
        assert!(hashed.len() <= NATS_NAME_BYTES_MAX && hashed.starts_with(&longest), "{hashed}");
        assert_ne!(hashed, with_station(&longest, &name(&"m".repeat(128))));
    }

    #[test]
    fn r12_what_stands_in_the_way_of_a_group_is_said() {
        for (code, expect) in [(10_099, "work queue"), (10_100, "work queue"), (10_026, "max_consumers")] {
            let said = refused(CallError::Refused(code, "x".into()), "S");
            assert!(
                matches!(&said, Reject::Conflict(text) if text.contains(expect) && text.contains("\"S\"")),
                "{said:?}"
            );
        }
        assert_eq!(refused(CallError::Refused(10_059, "x".into()), "S"), Reject::NoStream);
        assert_eq!(refused(CallError::Refused(10_008, "x".into()), "S"), Reject::BrokerAway);
    }
}
