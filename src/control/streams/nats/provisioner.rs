//! Finds or makes the stations and groups that shards ask for, on JetStream.

use super::{
    consumers::{self, Making},
    interest::Interest,
    provision,
};
use crate::{
    config::{PublishModeChoice, StationSettings},
    control::{
        nats::{
            client::{NatsClient, codes},
            publish_mode::{StreamTraits, SyncMode, decide},
        },
        streams::{Answer, Found, Provisioner, Registered},
    },
    reject::Reject,
    station::{Consumer, DirectGet, Name, PublishMode, Station},
};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;

/// Answers shards over the control plane's connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::control) struct NatsProvisioner {
    broker: NatsClient,
    settings: Arc<StationSettings>,
    /// The configured publish mode.
    choice: PublishModeChoice,
    /// What is known of the broker's syncing.
    sync: watch::Receiver<SyncMode>,
    interest: Interest,
}

impl NatsProvisioner {
    /// Returns a provisioner, and begins to look after the streams that it will find.
    pub(in crate::control) fn begin(
        broker: NatsClient,
        settings: Arc<StationSettings>,
        choice: PublishModeChoice,
        sync: watch::Receiver<SyncMode>,
    ) -> Self {
        Self { interest: Interest::begin(broker.clone()), broker, settings, choice, sync }
    }

    /// Finds or makes a station. One that was given attributes is made with these, whoever asks, because its streams
    /// were lost. Others are made with those of the configuration, if they may be.
    async fn find(&self, name: &Name, registered: Registered, create: bool) -> Result<provision::Found, Reject> {
        let (broker, settings) = (&self.broker, &*self.settings);
        match registered {
            Registered::Nothing => {
                let attributes = create.then_some(&settings.attributes);
                provision::resolve(broker, settings, name, None, attributes).await
            }
            Registered::Adopted(adopted) => provision::resolve(broker, settings, name, Some(&adopted), None).await,
            // The station may have been given attributes: none are guessed.
            Registered::Unreadable => {
                provision::resolve(broker, settings, name, None, None).await.map_err(|why| match why {
                    Reject::StationUnknown(_) => Reject::StationBlocked(
                        format!(
                            "what the registry says of the station {:?} cannot be read here, and its streams are not there",
                            name.as_str()
                        )
                        .into(),
                    ),
                    other => other,
                })
            }
            Registered::With(given) => match provision::resolve(broker, settings, name, None, None).await {
                Err(Reject::StationUnknown(_) | Reject::BrokerRefused(codes::STREAM_NOT_FOUND, _)) => {
                    tracing::warn!(station = %name, "the station's streams are not there: they are made with the attributes that it was given");
                    provision::resolve(broker, settings, name, None, Some(&given)).await
                }
                found => found,
            },
        }
    }
}

impl Provisioner for NatsProvisioner {
    fn ready(&self) -> Answer<'_, (), Reject> {
        Box::pin(async move { Ok(self.broker.connected().await?) })
    }

    fn station<'a>(&'a self, name: &'a Name, registered: Registered, create: bool) -> Answer<'a, Found, Reject> {
        Box::pin(async move {
            let provision::Found { station, streams, is_of_interest } =
                self.find(name, registered, create).await.map_err(for_clients)?;
            if is_of_interest {
                // Before any shard can publish to it.
                self.interest.keep(&self.broker, name, &station.partitions).await.map_err(for_clients)?;
            }
            Ok(Found { station: Arc::new(station), streams })
        })
    }

    fn allow_direct_get<'a>(&'a self, station: &'a Station) -> BoxFuture<'a, DirectGet> {
        Box::pin(provision::allow_direct_get(&self.broker, &station.partitions))
    }

    fn publish_mode(&self, streams: &[StreamTraits]) -> PublishMode {
        decide(self.choice, self.broker.version(), *self.sync.borrow(), streams)
    }

    fn consumer<'a>(
        &'a self,
        station: &'a Station,
        group: Option<&'a Name>,
        principal: &'a str,
    ) -> Answer<'a, Arc<Consumer>, Reject> {
        let making = Making { principal, expiry: self.settings.group_expiry };
        Box::pin(async move { consumers::resolve(&self.broker, station, group, making).await.map_err(for_clients) })
    }
}

/// Returns the reject that a client gets when there is no such station or group: what the broker refuses here was never
/// about a record.
fn for_clients(reject: Reject) -> Reject {
    match reject {
        Reject::BrokerRefused(codes::STREAM_NOT_FOUND | codes::SUBJECT_OVERLAP | codes::STREAM_NAME_IN_USE, text) => {
            Reject::StationBlocked(text)
        }
        Reject::BrokerRefused(codes::TOO_MANY_STREAMS, _) => Reject::Conflict(
            "the broker's account has as many streams as it may have (max_streams), and the station needs one: remove one, or raise \
            the limit"
                .into(),
        ),
        Reject::BrokerRefused(code, text) => {
            Reject::StationBlocked(format!("the broker refuses what the station needs: {text} (code {code})").into())
        }
        other => other,
    }
}
