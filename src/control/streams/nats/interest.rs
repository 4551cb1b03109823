//! Streams that drop what no consumer is interested in keep their records until the first group has read them.
//!
//! JetStream's interest retention removes a record when every consumer that is interested in it has acknowledged it.
//! Without such a consumer that is at once, and the publisher hears that it is stored. So a station of such a stream
//! gets a *keeper*: a durable consumer that nobody ever pulls from. It is made before any shard that could publish
//! learns of the station, and removed once a group is there, whose interest begins with the oldest record.
//!
//! A group can go away again without a word to the gateway. So the streams of known stations are looked at in turn, one
//! after the other: the keeper comes back where the last group has gone.
//!
//! The keeper is removed only after it was seen beside a group twice, [`BESIDE_MIN`] apart. Whoever removes the last
//! group of a station makes the keeper first ([`keep_without`]), has that much time to remove the group, and looks once
//! more.

use super::{
    consumers::{NewConsumer, consumers_of, create_consumer},
    provision::{StreamInfo, covers, stream_info},
};
use crate::{
    control::nats::client::{CallError, NatsClient, codes},
    limits::{INTEREST_STREAMS_MAX, INTEREST_WAITING_MAX},
    reject::Reject,
    rt::clock,
    station::{Name, Partition},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::IgnoredAny;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

/// The prefix of a keeper's name, before the name of its station.
const KEEPER: &str = "sluicegate-keeper$";
/// Between two rounds through all streams.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// Between two streams of a round: many of them are no load.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a keeper has been beside a group when it is removed; more than a call to the broker takes.
const BESIDE_MIN: Duration = Duration::from_secs(5);
/// Calls in flight for one station.
const CALLS_AT_ONCE: usize = 16;

/// Makes sure that records of this station are kept although there may be no group: when this returns, each of these
/// partitions has a group or a keeper.
pub(in crate::control) async fn keep(
    broker: &NatsClient,
    station: &Name,
    partitions: &[Partition],
) -> Result<(), Reject> {
    keep_without(broker, station, partitions, None).await
}

/// Does the same, where the group of this durable name does not count: it is about to be removed.
pub(in crate::control) async fn keep_without(
    broker: &NatsClient,
    station: &Name,
    partitions: &[Partition],
    leaving: Option<&str>,
) -> Result<(), Reject> {
    let keep_one = |partition: Partition| async move {
        let info = stream_info(broker, &partition.stream).await.map_err(|error| refused(error, &partition))?;
        keep_in(broker, station, &partition, &info, leaving).await
    };
    stream::iter(partitions.to_vec()).map(keep_one).buffered(CALLS_AT_ONCE).try_collect::<()>().await
}

/// Makes sure of it in one stream, whose information is given.
async fn keep_in(
    broker: &NatsClient,
    station: &Name,
    partition: &Partition,
    info: &StreamInfo,
    leaving: Option<&str>,
) -> Result<(), Reject> {
    if !info.config.is_of_interest() {
        return Ok(());
    }
    let failed = |error| refused(error, partition);
    // A stream that was just made has no consumers: that needs no call.
    if info.state.consumer_count > 0 {
        match Here::of(broker, station, partition, leaving).await {
            Ok(here) if here.keeper || here.group => return Ok(()),
            Ok(_) => {}
            // The gateway may not list the consumers; where the stream has one subject, they read that.
            Err(CallError::Forbidden(_)) if info.config.is_only(&partition.subject) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
    let name = keeper_name(station);
    // It delivers nothing: the least that a consumer can have.
    let keeper = NewConsumer { durable: &name, station, partition, ack_pending_max: 1, making: None };
    match create_consumer(broker, &keeper).await {
        Ok(_) => {}
        Err(error) if error.is_taken() => {}
        Err(error) => return Err(failed(error)),
    }
    tracing::info!(%station, stream = &*partition.stream, "records are kept for the station's first group");
    Ok(())
}

fn keeper_name(station: &Name) -> String {
    format!("{KEEPER}{}", station.internal())
}

fn refused(error: CallError, partition: &Partition) -> Reject {
    let stream = &partition.stream;
    match error {
        CallError::Refused(codes::TOO_MANY_CONSUMERS, _) => Reject::Conflict(
            format!(
                "the stream {stream:?} drops records that no consumer is interested in, and has no room for a consumer that keeps \
                those of this station (max_consumers of the stream or its account): raise the limit, or consume first"
            )
            .into(),
        ),
        error if error.is_absent() => Reject::NoStream,
        other => other.into(),
    }
}

/// The consumers that are interested in the records of a station.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Here {
    keeper: bool,
    group: bool,
}

impl Here {
    /// Looks through the consumers of a stream. The one named `leaving` does not count.
    async fn of(
        broker: &NatsClient,
        station: &Name,
        partition: &Partition,
        leaving: Option<&str>,
    ) -> Result<Self, CallError> {
        let name = keeper_name(station);
        let mut here = Self::default();
        consumers_of(broker, &partition.stream, |consumer| {
            here.keeper |= *consumer.name == *name;
            // A consumer that is removed by itself, or begins later, would leave records to nobody.
            here.group |= *consumer.name != *name
                && leaving != Some(&*consumer.name)
                && !consumer.name.starts_with(KEEPER)
                && consumer.config.lasts()
                && consumer.config.begins_with_the_oldest()
                && (consumer.config.filters().is_empty()
                    || consumer.config.filters().iter().any(|filter| covers(filter, &partition.subject)));
            !(here.keeper && here.group)
        })
        .await?;
        Ok(here)
    }
}

/// The streams that are watched. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::control) struct Interest {
    found: mpsc::Sender<(Name, Partition)>,
}

impl Interest {
    /// Begins to watch the stations that will be found.
    pub(in crate::control) fn begin(broker: NatsClient) -> Self {
        let (found, waiting) = mpsc::channel(INTEREST_WAITING_MAX);
        tokio::spawn(look_after(broker, waiting));
        Self { found }
    }

    /// Makes sure that this station's records are kept, now and from now on.
    pub(in crate::control) async fn keep(
        &self,
        broker: &NatsClient,
        station: &Name,
        partitions: &[Partition],
    ) -> Result<(), Reject> {
        keep(broker, station, partitions).await?;
        for partition in partitions {
            // It fails only when everything ends.
            let _ended = self.found.send((station.clone(), partition.clone())).await;
        }
        Ok(())
    }
}

/// Streams that are watched, by name and station; since when a keeper was seen beside a group.
type Watched = BTreeMap<(Box<str>, Name), (Partition, Option<Instant>)>;

async fn look_after(broker: NatsClient, mut waiting: mpsc::Receiver<(Name, Partition)>) {
    let mut watched = Watched::new();
    // Not a pause after each of them: streams that are found again and again would put the rounds off for ever.
    let mut rounds = interval(ROUND_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            found = waiting.recv() => match found {
                Some(found) => add(&mut watched, found),
                None => return,
            },
            _ = rounds.tick() => {
                let keys: Vec<(Box<str>, Name)> = watched.keys().cloned().collect();
                for key in keys {
                    let Some((partition, since)) = watched.get_mut(&key) else { continue };
                    if !look(&broker, &key.1, partition, since).await {
                        watched.remove(&key);
                    }
                    while let Ok(found) = waiting.try_recv() {
                        add(&mut watched, found);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

fn add(watched: &mut Watched, (station, partition): (Name, Partition)) {
    let key = (partition.stream.clone(), station);
    if let Some((known, _)) = watched.get_mut(&key) {
        *known = partition;
    } else if watched.len() < INTEREST_STREAMS_MAX {
        watched.insert(key, (partition, None));
    } else {
        tracing::warn!(station = %key.1, "too many streams of interest retention: this one is not looked after");
    }
}

/// Looks at one stream, and makes or removes its keeper where needed. `false`: the stream is gone, or the gateway may
/// not look at it.
async fn look(broker: &NatsClient, station: &Name, partition: &Partition, beside: &mut Option<Instant>) -> bool {
    let here = match Here::of(broker, station, partition, None).await {
        Ok(here) => here,
        Err(CallError::Forbidden(_)) => {
            tracing::warn!(%station, "the gateway may not list the consumers of the station's stream: it is not looked after");
            return false;
        }
        Err(error) => return !error.is_absent(),
    };
    match here {
        Here { keeper: false, group: false } => {
            *beside = None;
            match keep(broker, station, std::slice::from_ref(partition)).await {
                Err(Reject::NoStream) => return false,
                Err(why) => tracing::warn!(%station, %why, "nobody keeps the station's records"),
                Ok(()) => {}
            }
        }
        Here { keeper: true, group: true } => {
            let since = *beside.get_or_insert_with(clock::now);
            if clock::since(since) >= BESIDE_MIN {
                *beside = None;
                // The group may have gone since it was looked for.
                if let Ok(Here { group: true, .. }) = Here::of(broker, station, partition, None).await {
                    remove_keeper(broker, station, partition).await;
                }
            }
        }
        _ => *beside = None,
    }
    true
}

async fn remove_keeper(broker: &NatsClient, station: &Name, partition: &Partition) {
    let verb = format!("CONSUMER.DELETE.{}.{}", partition.stream, keeper_name(station));
    match broker.call::<IgnoredAny>(&verb, &serde_json::json!({})).await {
        Ok(_) => tracing::info!(%station, stream = &*partition.stream, "the station's groups keep its records now"),
        Err(error) => tracing::debug!(%station, error = %Reject::from(error), "the keeper was not removed yet"),
    }
}
