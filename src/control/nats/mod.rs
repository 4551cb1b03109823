//! Calls to the broker over the control plane's own connection: JetStream's API, how records are best published to
//! the broker, and whether its server can serve at all.

pub(super) mod client;
pub(super) mod lookup;
pub(super) mod monitor;
pub(super) mod probe;
pub(super) mod publish_mode;
pub(super) mod server_health;
