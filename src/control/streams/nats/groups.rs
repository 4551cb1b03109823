//! The consumer groups of a station on JetStream: listed, counted, removed.
//!
//! A group is a durable consumer of each of the station's streams, whose metadata say who made it. Consumers that are
//! named otherwise than the gateway names them belong to others: they are neither shown nor counted nor removed.

use super::{
    NatsStreams,
    consumers::{self, ConsumerInfo, PRINCIPAL},
    interest, provision,
};
use crate::{
    control::{
        nats::client::{CallError, NatsClient},
        streams::{Adopted, Answer, Group, GroupAdmin, StreamsError},
    },
    limits::{GROUPS_PER_PRINCIPAL_MAX, GROUPS_PER_STATION_MAX},
    reject::Reject,
    station::{Consumer, Name, Partition, Station},
};

impl GroupAdmin for NatsStreams {
    fn groups<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>) -> Answer<'a, Vec<Group>> {
        Box::pin(async move {
            let mut groups = of_stream(&self.broker, &self.station(name, adopted).await?).await?;
            groups.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(groups)
        })
    }

    fn remove_group<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>, group: &'a Name) -> Answer<'a, bool> {
        Box::pin(async move {
            let station = self.station(name, adopted).await?;
            remove(&self.broker, &station, &Consumer::durable_name(Some(group))).await
        })
    }
}

impl NatsStreams {
    async fn station(&self, name: &Name, adopted: Option<&Adopted>) -> Result<Station, StreamsError> {
        let found = provision::resolve(&self.broker, &self.settings, name, adopted, None).await;
        found.map(|found| found.station).map_err(unknown)
    }
}

async fn remove(broker: &NatsClient, station: &Station, durable: &str) -> Result<bool, StreamsError> {
    let Some(durable) = consumers::durable_of(broker, station, durable).await.map_err(unknown)? else {
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
        name: Consumer::group_name(plain)?,
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
    use crate::control::tests::support::{block_on, scripted_broker};
    use serde_json::{Value, json};

    fn orders() -> Station {
        Station::of_partitions("orders", [Partition { stream: "orders".into(), subject: "orders".into() }])
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
