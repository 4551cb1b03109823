//! Checks twice a second whether JetStream answers on the control plane's connection, and leaves a server on which it
//! does not.
//!
//! In quiet times the registry's confirmations show it, and nothing more is asked. Other answers do not show it: a
//! member of a cluster that has lost the others goes on answering with what it last knew.

use crate::control::nats::{
    client::{CallError, NatsClient, codes},
    server_health::{ServerHealth, Trouble, Verdict},
};
use crate::{
    limits::{BROKER_PROBE_INTERVAL, BROKER_PROBE_TIMEOUT},
    metrics::ControlMetrics,
    rt::clock,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{sleep, timeout};

/// Runs for ever.
pub(in crate::control) async fn run(broker: NatsClient, metrics: Arc<ControlMetrics>) {
    let mut connections = broker.connections();
    let mut health = ServerHealth::default();
    let mut said = false;
    loop {
        sleep(BROKER_PROBE_INTERVAL).await;
        if connections.has_changed().unwrap_or(false) {
            connections.mark_unchanged();
            health.connected();
        }
        // Without a connection there is no server to judge: that is reported elsewhere.
        if *broker.up().borrow() {
            let answer = look(&broker).await;
            let lasted = health.since(clock::now());
            let others = broker.has_other_servers().await;
            let verdict = health.heard(answer, others, clock::now());
            let leaderless =
                broker.leaderless_within(BROKER_PROBE_INTERVAL) && !broker.served_within(BROKER_PROBE_INTERVAL);
            let of_registry = health.registry_heard(leaderless, others, clock::now());
            if answer.is_ok() && said {
                said = false;
                tracing::info!(after_s = lasted.as_secs(), "control plane: JetStream answers again");
            }
            if let (Verdict::Leave, Err(trouble)) = (verdict, answer) {
                tracing::warn!(because = trouble.reason(), "control plane: this server is left for the next");
                broker.leave_server().await;
            } else if of_registry == Verdict::Leave {
                tracing::warn!(
                    because = "the registry has no leader there",
                    "control plane: this server is left for the next"
                );
                broker.leave_server().await;
            }
        }
        let trouble = health.trouble(clock::now());
        metrics.set_jetstream_trouble(trouble.map_or(0, |trouble| trouble as u64));
        if let Some(trouble) = trouble.filter(|_| !said) {
            said = true;
            tracing::warn!("control plane: {}; the gateway is not ready until that is over", trouble.reason());
        }
    }
}

/// Returns whether JetStream answers now.
async fn look(broker: &NatsClient) -> Result<(), Trouble> {
    if broker.served_within(BROKER_PROBE_INTERVAL) {
        return Ok(());
    }
    match timeout(BROKER_PROBE_TIMEOUT, broker.call::<Value>("INFO", &json!({}))).await {
        Ok(Err(CallError::Refused(codes::TEMPORARILY_UNAVAILABLE, _))) => Err(Trouble::Leaderless),
        Ok(Err(CallError::NoJetStream)) => Err(Trouble::Absent),
        Ok(Err(CallError::TimedOut | CallError::Away)) | Err(_) => Err(Trouble::Silent),
        // An answer that refuses the call is no trouble of this kind.
        Ok(_) => Ok(()),
    }
}
