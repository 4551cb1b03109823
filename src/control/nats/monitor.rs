//! Learns how the broker syncs, and has the shards ask for their stations again when that changes how records are
//! published.
//!
//! JetStream's API does not say it. The monitoring port does (`nats.monitor_url`); the system account would, but its
//! users have no JetStream. The monitor asks after every connection made and every half minute. What it learned counts
//! while nobody answers, unless the connection was lost meanwhile: another server may stand there now.

use crate::control::{
    fanout::ShardFanout,
    nats::{
        client::NatsClient,
        publish_mode::{StreamTraits, SyncMode, decide},
    },
};
use crate::{
    config::PublishModeChoice,
    directory::messages::ShardUpdate,
    limits::{MONITOR_ANSWER_BYTES_MAX, MONITOR_ANSWER_TIMEOUT},
    metrics::{BrokerSync, ControlMetrics},
    station::PublishMode,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

/// Between a request that was answered and the next one.
const INTERVAL: Duration = Duration::from_secs(30);
/// Between a request that was not answered and the next one.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// The task that asks the monitoring port.
#[derive(Debug)]
pub(in crate::control) struct Monitor {
    pub(in crate::control) broker: NatsClient,
    pub(in crate::control) choice: PublishModeChoice,
    pub(in crate::control) url: Option<String>,
    pub(in crate::control) fanout: ShardFanout,
    pub(in crate::control) metrics: Arc<ControlMetrics>,
    /// Where others read what is known.
    pub(in crate::control) sync: watch::Sender<SyncMode>,
}

impl Monitor {
    /// Runs for ever.
    pub(in crate::control) async fn run(self) {
        if self.url.is_none() {
            tracing::info!("durability: when the broker syncs is not known, as nats.monitor_url is not set");
        }
        let agent = agent();
        let mut connections = self.broker.connections();
        let mut told = PublishMode::Single;
        let mut answered = true;
        loop {
            let reconnected = connections.has_changed().unwrap_or(false);
            connections.mark_unchanged();
            if let Some(url) = &self.url {
                let answer = ask(&agent, url).await;
                if let Err(why) = &answer
                    && answered
                {
                    tracing::warn!(url, %why, "the broker's monitoring cannot be read; asking on");
                }
                answered = answer.is_ok();
                match answer {
                    Ok(sync) => self.learn(sync),
                    Err(_) if reconnected => self.learn(SyncMode::Unknown),
                    Err(_) => {}
                }
            }
            self.tell(&mut told).await;
            let wait = if answered { INTERVAL } else { RETRY_INTERVAL };
            tokio::select! {
                changed = connections.changed() => if changed.is_err() { sleep(wait).await },
                () = sleep(wait) => {}
            }
        }
    }

    /// Keeps what the broker does, and logs it if it is news: an acknowledgement promises as much.
    fn learn(&self, sync: SyncMode) {
        if self.sync.send_replace(sync) == sync {
            return;
        }
        match sync {
            SyncMode::Always => {
                tracing::info!(sync_interval = "always", "durability: the broker syncs before it acknowledges");
            }
            SyncMode::Interval(interval) => tracing::info!(
                sync_interval = ?interval,
                "durability: the broker acknowledges before it syncs; power loss can take what it acknowledged since"
            ),
            SyncMode::Unknown => tracing::warn!("durability: it is not known any more when the broker syncs"),
        }
        self.metrics.broker_sync(match sync {
            SyncMode::Unknown => BrokerSync::Unknown,
            SyncMode::Always => BrokerSync::Always,
            SyncMode::Interval(_) => BrokerSync::Interval,
        });
    }

    /// Has the shards ask for their stations again if another mode has become right for any of them.
    async fn tell(&self, told: &mut PublishMode) {
        let now = decide(self.choice, self.broker.version(), *self.sync.borrow(), &[StreamTraits::BEST]);
        if now != *told {
            *told = now;
            tracing::info!(mode = ?now, "how records are published to streams that allow it");
            self.fanout.broadcast(&ShardUpdate::ForgetStations).await;
        }
    }
}

fn agent() -> ureq::Agent {
    // The broker is near: no proxy, whatever the environment says.
    ureq::Agent::config_builder().proxy(None).timeout_global(Some(MONITOR_ANSWER_TIMEOUT)).build().new_agent()
}

async fn ask(agent: &ureq::Agent, url: &str) -> Result<SyncMode, String> {
    let (agent, url) = (agent.clone(), format!("{url}/varz"));
    let body = spawn_blocking(move || {
        let mut answer = agent.get(&url).call()?;
        answer.body_mut().with_config().limit(MONITOR_ANSWER_BYTES_MAX).read_to_vec()
    });
    let body = body.await.map_err(|error| error.to_string())?.map_err(|error: ureq::Error| error.to_string())?;
    SyncMode::of_varz(&body)
}
