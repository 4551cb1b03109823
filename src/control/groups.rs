//! The consumer groups of a station, on either backend: listed, counted, removed.
//!
//! On JetStream a group is a durable consumer of each of the station's streams, whose metadata say who made it.
//! Consumers that are named otherwise than the gateway names them belong to others: they are neither shown nor counted
//! nor removed.

use super::{
    nats::{
        client::{CallError, NatsClient},
        consumers::{self, ConsumerInfo},
        interest,
    },
    streams::{Adopted, Streams, StreamsError, nats::provision},
};
use crate::{
    limits::{GROUPS_PER_PRINCIPAL_MAX, GROUPS_PER_STATION_MAX},
    reject::Reject,
    station::{Consumer, Name, Partition, Station},
};

/// The key of a consumer's metadata that says who made it.
pub(super) const PRINCIPAL: &str = "sluicegate-principal";
/// The end of the names of all consumers of the gateway, and the whole name of the default group's.
const SUFFIX: &str = "rest-gateway";

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The name that clients use.
    pub(super) name: String,
    /// When it was made, ms since 1970.
    pub(super) created_ms: Option<u64>,
    /// When it was last used, as far as that is known.
    pub(super) used_ms: Option<u64>,
    /// Who made it, if that is known.
    pub(super) principal: Option<String>,
}

/// Returns the groups of a station, by name.
pub(super) async fn list(
    streams: &Streams,
    name: &Name,
    adopted: Option<&Adopted>,
) -> Result<Vec<Group>, StreamsError> {
    let mut groups: Vec<Group> = match streams {
        Streams::Nats(broker, settings) => {
            let station = provision::resolve(broker, settings, name, adopted, None).await.map_err(unknown)?.station;
            of_stream(broker, &station).await?
        }
        Streams::Local(store) => {
            let info =
                store.describe_station(name).await.map_err(StreamsError::Failed)?.ok_or(StreamsError::Unknown)?;
            let known = |ms: u64| Some(ms).filter(|ms| *ms > 0);
            let groups = info.groups.into_iter().filter_map(|group| {
                Some(Group {
                    name: group_name(&group.durable)?,
                    created_ms: known(group.created_ms),
                    used_ms: known(group.used_ms),
                    principal: Some(group.principal.into_string()).filter(|principal| !principal.is_empty()),
                })
            });
            groups.collect()
        }
        #[cfg(test)]
        Streams::Memory(_) => Vec::new(),
    };
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(groups)
}

/// Removes a group. Returns whether there was one.
pub(super) async fn remove(
    streams: &Streams,
    name: &Name,
    adopted: Option<&Adopted>,
    group: &Name,
) -> Result<bool, StreamsError> {
    let durable = Consumer::durable_name(Some(group));
    match streams {
        Streams::Nats(broker, settings) => {
            let station = provision::resolve(broker, settings, name, adopted, None).await.map_err(unknown)?.station;
            let Some(durable) = consumers::durable_of(broker, &station, &durable).await.map_err(unknown)? else {
                return Ok(false);
            };
            // It may be the last group for which the stream keeps what is produced.
            let (name, partitions) = (&station.name, &station.partitions);
            interest::keep_without(broker, name, partitions, Some(&durable)).await.map_err(unknown)?;
            let mut found = false;
            for partition in partitions {
                found |= delete(broker, &partition.stream, &durable).await?;
            }
            // Another gateway may have removed the keeper that was made beside the group.
            interest::keep(broker, name, partitions).await.map_err(unknown)?;
            Ok(found)
        }
        Streams::Local(store) => Ok(store.delete_group(name, &durable).await?),
        #[cfg(test)]
        Streams::Memory(_) => Ok(false),
    }
}

/// Checks whether this principal may make another group of a station on JetStream.
pub(super) async fn check(broker: &NatsClient, station: &Station, principal: &str) -> Result<(), Reject> {
    let groups = match of_stream(broker, station).await {
        Ok(groups) => groups,
        Err(StreamsError::Failed(Reject::BrokerForbidden(subject))) => {
            tracing::warn!(subject = &*subject, "consumer groups cannot be counted, so only the broker bounds them");
            return Ok(());
        }
        Err(StreamsError::Failed(reject)) => return Err(reject),
        Err(_) => return Err(Reject::NoStream),
    };
    let own = groups.iter().filter(|group| group.principal.as_deref() == Some(principal)).count();
    let reached = |who: &str, max: usize| {
        let text = format!(
            "{who}station {} has {max} consumer groups, as many as it may: remove some that are not used",
            station.name
        );
        Err(Reject::Conflict(text.into()))
    };
    if groups.len() >= GROUPS_PER_STATION_MAX {
        return reached("", GROUPS_PER_STATION_MAX);
    }
    if own >= GROUPS_PER_PRINCIPAL_MAX {
        return reached(&format!("{principal} on "), GROUPS_PER_PRINCIPAL_MAX);
    }
    Ok(())
}

/// Returns the name of a group as clients know it, from a consumer that is named as the gateway names them.
fn group_name(durable: &str) -> Option<String> {
    if durable == SUFFIX {
        return Some(SUFFIX.to_owned());
    }
    let internal = durable.strip_suffix(SUFFIX)?.strip_suffix('-')?;
    let name = Name::parse(&internal.replace('#', ".")).ok()?;
    (Consumer::durable_name(Some(&name)) == durable).then(|| name.to_string())
}

fn unknown(why: Reject) -> StreamsError {
    match why {
        Reject::StationUnknown(_) | Reject::NoStream => StreamsError::Unknown,
        why => StreamsError::Failed(why),
    }
}

/// Returns the groups of a station's first stream: every group has a consumer there.
async fn of_stream(broker: &NatsClient, station: &Station) -> Result<Vec<Group>, StreamsError> {
    let Some(partition) = station.partitions.first() else { return Ok(Vec::new()) };
    let mut groups = Vec::new();
    consumers::consumers_of(broker, &partition.stream, |consumer| {
        groups.extend(group_of(consumer, station, partition));
        true
    })
    .await
    .map_err(failed)?;
    Ok(groups)
}

/// Returns the group of a consumer, if it is one of this station: a stream may serve several.
fn group_of(consumer: &ConsumerInfo, station: &Station, partition: &Partition) -> Option<Group> {
    let config = &consumer.config;
    if config.filters().iter().any(|filter| **filter != *partition.subject) || !config.may_be_of(&station.name) {
        return None;
    }
    let plain = match consumer.name.split_once('$') {
        Some((plain, _)) if consumers::with_station(plain, &station.name) == *consumer.name => plain,
        Some(_) => return None,
        None => &consumer.name,
    };
    let created_ms = consumer.created_ms();
    Some(Group {
        name: group_name(plain)?,
        created_ms,
        used_ms: consumer.used_ms().or(created_ms),
        principal: config.metadata.as_ref().and_then(|metadata| metadata.get(PRINCIPAL)).cloned(),
    })
}

async fn delete(broker: &NatsClient, stream: &str, durable: &str) -> Result<bool, StreamsError> {
    let answer: Result<serde_json::Value, CallError> =
        broker.call(&format!("CONSUMER.DELETE.{stream}.{durable}"), &serde_json::json!({})).await;
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: CallError) -> StreamsError {
    if error.is_absent() { StreamsError::Unknown } else { StreamsError::Failed(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::tests::support::{block_on, scripted_broker},
        station::PublishMode,
    };
    use serde_json::{Value, json};
    use std::time::Duration;

    #[test]
    fn a_group_has_the_name_that_clients_gave_it_and_what_is_named_otherwise_is_none() {
        for (durable, expect) in [
            ("rest-gateway", Some("rest-gateway")),
            ("billing-rest-gateway", Some("billing")),
            ("my#group-rest-gateway", Some("my.group")),
            ("-rest-gateway", None),
            ("billing", None),
            ("Billing-rest-gateway", None),
            ("a b-rest-gateway", None),
        ] {
            assert_eq!(group_name(durable).as_deref(), expect, "{durable}");
        }
    }

    fn orders() -> Station {
        Station {
            name: Name::parse("orders").expect("a name"),
            partitions: [Partition { stream: "orders".into(), subject: "orders".into() }].into(),
            record_bytes_max: None,
            replicas: 1,
            duplicate_window: Duration::from_secs(120),
            publish_mode: PublishMode::Single,
            answers_in_order: true,
            not_atomic: None,
            atomic_records_max: 1,
        }
    }

    #[test]
    fn groups_are_listed_once_somebody_leads_whatever_else_a_server_says_of_them() {
        let consumer = |name: &str, config: Value| {
            json!({
                "name": name, "created": "2026-11-30T21:11:38.25+01:00", "config": config, "num_pending": "many",
                "delivered": {"consumer_seq": 1, "last_active": "2026-11-30T21:00:00Z"},
                "ack_floor": {"last_active": "2026-11-30T21:00:01.5Z"},
            })
        };
        let newer = json!({
            "durable_name": "g-rest-gateway", "deliver_policy": "by_a_policy_to_come", "filter_subject": "orders",
            "metadata": {"sluicegate.station": "orders", "sluicegate-principal": "ann"},
        });
        let older = json!({"deliver_policy": "all", "metadata": null});
        let others = json!({"filter_subjects": ["orders", "bills"]});
        let answers = vec![
            // An election: the call is lost, then answered by a server that does not lead.
            None,
            Some(json!({"error": {"code": 503, "err_code": 10_008, "description": "x"}})),
            Some(
                json!({"total": 3, "consumers": [consumer("g-rest-gateway", newer), consumer("h-rest-gateway", others)]}),
            ),
            Some(json!({"total": 3, "consumers": [{"name": "rest-gateway", "config": older}]})),
        ];
        let groups = block_on(async {
            let broker = scripted_broker(answers).await;
            of_stream(&broker, &orders()).await
        });
        let group = |name: &str, created_ms, used_ms, principal: Option<&str>| Group {
            name: name.to_owned(),
            created_ms,
            used_ms,
            principal: principal.map(str::to_owned),
        };
        assert_eq!(
            groups.map_err(|error| format!("{error:?}")),
            Ok(vec![
                group("g", Some(1_796_069_498_250), Some(1_796_072_401_500), Some("ann")),
                group("rest-gateway", None, None, None),
            ])
        );
    }
}
