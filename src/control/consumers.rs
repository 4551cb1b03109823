//! Finding and making the durable consumers of a group: one pull consumer on each partition.
//!
//! A durable that exists is used as it is, with its own `ack_wait` and delivery limit, unless it
//! cannot do what a consume call promises: a push consumer, one that reads other subjects, or one
//! whose acknowledgements are not explicit. Nothing that exists is changed.
//!
//! What is made differs from the original's consumer in two ways, both on purpose (section 10 of the
//! contract): messages come again until they are acknowledged (`max_deliver` -1 instead of 1), and
//! the number of messages handed out and not acknowledged is bounded by [`ACK_PENDING_MAX`] instead of
//! unlimited, so that clients that vanish cannot make the broker remember more than that.

use super::{
    broker::{Broker, CallError},
    stations::stream_info,
};
use crate::{
    limits::{ACK_WAIT, FETCH_RECORDS_MAX},
    reject::Reject,
    station::{Consumer, Name, Partition, Station},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// Messages of one consumer that are handed out and not acknowledged: twenty of the largest consume calls.
const ACK_PENDING_MAX: u32 = 100_000;
const _: () = assert!(ACK_PENDING_MAX == 20 * FETCH_RECORDS_MAX);
/// Calls in flight for one question.
const CALLS_AT_ONCE: usize = 16;

/// Finds the group's consumers, or creates them.
pub(super) async fn resolve(broker: &Broker, station: &Station, group: Option<&Name>) -> Result<Arc<Consumer>, Reject> {
    let durable = Consumer::durable_name(group).into_boxed_str();
    let on_partition = |partition: Partition| {
        let durable = durable.clone();
        async move { on_partition(broker, &partition, &durable).await }
    };
    let waits: Vec<Duration> =
        stream::iter(station.partitions.to_vec()).map(on_partition).buffered(CALLS_AT_ONCE).try_collect().await?;
    let ack_wait = waits.into_iter().min().unwrap_or(ACK_WAIT);
    Ok(Arc::new(Consumer { durable, station: station.name.clone(), ack_wait }))
}

/// The consumer of one partition. Answers its `ack_wait`.
async fn on_partition(broker: &Broker, partition: &Partition, durable: &str) -> Result<Duration, Reject> {
    let info = match info(broker, &partition.stream, durable).await {
        Err(error) if error.is_absent() => match create(broker, partition, durable).await {
            Ok(info) => info,
            Err(error) if error.is_taken() => info(broker, &partition.stream, durable).await.map_err(absent)?,
            Err(error) => return Err(absent(error)),
        },
        other => other.map_err(absent)?,
    };
    let filters = info.config.filters();
    let whole_stream = filters.is_empty() && {
        let stream = stream_info(broker, &partition.stream).await.map_err(absent)?;
        matches!(&*stream.config.subjects, [only] if *only == partition.subject)
    };
    let fault = if info.config.deliver_subject.is_some() {
        Some("it is a push consumer")
    } else if !whole_stream && filters != [&*partition.subject] {
        Some("it reads other subjects than the station's")
    } else if info.config.ack_policy != "explicit" {
        Some("its acknowledgements are not explicit")
    } else {
        None
    };
    // The original made its consumers with 1: what a client loses on the way is then lost.
    if fault.is_none() && info.config.max_deliver > 0 {
        tracing::warn!(
            durable,
            stream = &*partition.stream,
            max_deliver = info.config.max_deliver,
            "this consumer hands a message out only so often; set max_deliver to -1 for delivery at least once"
        );
    }
    match fault {
        None => Ok(Duration::from_nanos(info.config.ack_wait)),
        Some(why) => {
            let text = format!("the consumer {durable:?} of the stream {:?} cannot be used: {why}", partition.stream);
            Err(Reject::BrokerRefused(0, text.into()))
        }
    }
}

/// A stream that is gone since the station was resolved: the shard has to ask for the station again.
fn absent(error: CallError) -> Reject {
    if error.is_absent() { Reject::NoStream } else { error.into() }
}

/// What a consumer says of itself, as far as it matters here.
#[derive(Debug, Deserialize)]
struct ConsumerInfo {
    config: ConsumerConfig,
}

#[derive(Debug, Deserialize)]
struct ConsumerConfig {
    #[serde(default)]
    deliver_subject: Option<Box<str>>,
    #[serde(default)]
    ack_policy: String,
    #[serde(default)]
    ack_wait: u64,
    #[serde(default)]
    max_deliver: i64,
    #[serde(default)]
    filter_subject: Box<str>,
    #[serde(default)]
    filter_subjects: Vec<Box<str>>,
}

impl ConsumerConfig {
    fn filters(&self) -> Vec<&str> {
        let single = (!self.filter_subject.is_empty()).then_some(&*self.filter_subject);
        single.into_iter().chain(self.filter_subjects.iter().map(|subject| &**subject)).collect()
    }
}

async fn info(broker: &Broker, stream: &str, durable: &str) -> Result<ConsumerInfo, CallError> {
    broker.call(&format!("CONSUMER.INFO.{stream}.{durable}"), &serde_json::json!({})).await
}

async fn create(broker: &Broker, partition: &Partition, durable: &str) -> Result<ConsumerInfo, CallError> {
    /// Only fields that every supported server knows.
    #[derive(Serialize)]
    struct NewConsumer<'a> {
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
    }
    let (stream, subject) = (&*partition.stream, &*partition.subject);
    let body = NewConsumer {
        stream_name: stream,
        config: Config {
            durable_name: durable,
            name: durable,
            deliver_policy: "all",
            ack_policy: "explicit",
            ack_wait: u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX),
            max_deliver: -1,
            max_ack_pending: ACK_PENDING_MAX,
            filter_subject: subject,
            replay_policy: "instant",
        },
        action: "create",
    };
    broker.call(&format!("CONSUMER.CREATE.{stream}.{durable}.{subject}"), &body).await
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
}
