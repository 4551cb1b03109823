//! Settings in the making: every layer written over the one below, not yet checked against each other.
//!
//! What has a constant default holds it from the start; what depends on something else is an `Option`.

use super::{
    nats_url::Urls,
    settings::{LogSettings, PublishModeChoice, Secret, StationSettings, Unconfirmed},
};
use crate::{
    limits::Limits,
    record::headers::{DEFAULT_RULES, HeaderRule},
    rt::DriverChoice,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// All that can be written.
pub(super) struct Draft {
    pub(super) listen: Option<SocketAddr>,
    /// `HTTP_PORT`: replaces the port alone. Forgotten when a later layer writes the whole address.
    pub(super) listen_port: Option<u16>,
    pub(super) admin_listen: SocketAddr,
    pub(super) data_dir: PathBuf,
    pub(super) shards: Option<u16>,
    pub(super) driver: DriverChoice,
    pub(super) nats: NatsDraft,
    pub(super) auth: AuthDraft,
    pub(super) stations: StationSettings,
    pub(super) stored_headers: Vec<HeaderRule>,
    pub(super) limits: Limits,
    pub(super) log: LogSettings,
}

/// `[nats]`.
pub(super) struct NatsDraft {
    pub(super) urls: Option<Urls>,
    /// The server comes from `MEMPHIS_HOST`: the gateway logs in there as the original did.
    pub(super) from_memphis_host: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
    pub(super) nkey_seed_file: Option<PathBuf>,
    pub(super) creds_file: Option<PathBuf>,
    pub(super) registry_bucket: String,
    pub(super) publish_mode: PublishModeChoice,
    pub(super) monitor_url: Option<String>,
}

/// `[auth]`.
pub(super) struct AuthDraft {
    pub(super) root_user: String,
    pub(super) root_password: Option<Secret>,
    pub(super) access_key: Option<Secret>,
    pub(super) refresh_key: Option<Secret>,
    pub(super) access_lifetime: Duration,
    pub(super) refresh_lifetime: Duration,
    pub(super) unconfirmed: Unconfirmed,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            listen: None,
            listen_port: None,
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4445)),
            data_dir: PathBuf::from("./sluicegate-data"),
            shards: None,
            driver: DriverChoice::Auto,
            nats: NatsDraft {
                urls: None,
                from_memphis_host: false,
                user: None,
                password: None,
                token: None,
                nkey_seed_file: None,
                creds_file: None,
                registry_bucket: "sluicegate".to_owned(),
                publish_mode: PublishModeChoice::Auto,
                monitor_url: None,
            },
            auth: AuthDraft {
                root_user: "root".to_owned(),
                root_password: None,
                access_key: None,
                refresh_key: None,
                access_lifetime: Duration::from_secs(15 * 60),
                refresh_lifetime: Duration::from_secs(300 * 60),
                unconfirmed: Unconfirmed::Serve,
            },
            stations: StationSettings::default(),
            stored_headers: DEFAULT_RULES.map(HeaderRule::of).into(),
            limits: Limits::default(),
            log: LogSettings { filter: "info".to_owned(), json: None },
        }
    }
}
