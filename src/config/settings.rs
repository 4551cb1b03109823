//! What runs: complete, checked, in runtime types. Nothing past `main` sees anything else.

pub use crate::rt::DriverChoice;
use crate::{
    limits::{GROUP_EXPIRY, Limits},
    record::headers::HeaderRule,
    station::Attributes,
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A value that must not be shown: `Debug` and `Display` print a mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Each use is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("********")
    }
}

/// Everything that the process needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Data port.
    pub listen: SocketAddr,
    /// Health, metrics, admin API.
    pub admin_listen: SocketAddr,
    /// Embedded store, generated secrets.
    pub data_dir: PathBuf,
    /// Number of shards, at least one.
    pub shards: u16,
    /// Which I/O driver.
    pub driver: DriverChoice,
    /// Where records are kept.
    pub backend: BackendSettings,
    /// Who may come in.
    pub auth: AuthSettings,
    /// How stations are made on first use.
    pub stations: StationSettings,
    /// Which request headers are stored.
    pub stored_headers: Vec<HeaderRule>,
    /// Every limit.
    pub limits: Limits,
    /// Logs.
    pub log: LogSettings,
}

/// Where records are kept.
#[derive(Debug, Clone)]
pub enum BackendSettings {
    /// The embedded store in the data directory.
    Local,
    /// NATS JetStream.
    Nats(NatsSettings),
}

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// At least one server, in the order of preference; each shard begins at another.
    pub servers: Vec<NatsServer>,
    /// How the gateway identifies itself.
    pub credential: NatsCredential,
    /// Bucket of the registry.
    pub registry_bucket: String,
    /// How records are published.
    pub publish_mode: PublishModeChoice,
    /// `http://host:port` of the broker's monitoring, without a slash at its end.
    pub monitor_url: Option<String>,
}

/// How records are published to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishModeChoice {
    /// The fastest way that the broker is known to be good at.
    Auto,
    /// Each record by itself.
    Single,
    /// As atomic batches wherever a stream takes them.
    Atomic,
}

/// Host and port of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer {
    /// Name or address.
    pub host: String,
    /// Port, 4222 unless told.
    pub port: u16,
}

/// How the gateway identifies itself to the broker.
#[derive(Debug, Clone)]
pub enum NatsCredential {
    /// Not at all.
    None,
    /// `user:password@` in the URL, or the settings of that name.
    UserPassword(String, Secret),
    /// `token@` in the URL.
    Token(Secret),
    /// An nkey seed (`SU…`).
    Nkey(Secret),
    /// A `.creds` file's content: user JWT and seed.
    Creds {
        /// User JWT.
        jwt: Secret,
        /// Nkey seed that signs the nonce.
        seed: Secret,
    },
}

/// Who may come in.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Lower-cased name of the root user.
    pub root_user: String,
    /// Its password.
    pub root_password: Secret,
    /// Signs access tokens.
    pub access_key: Secret,
    /// Signs refresh tokens.
    pub refresh_key: Secret,
    /// Default lifetime of an access token.
    pub access_lifetime: Duration,
    /// Default lifetime of a refresh token.
    pub refresh_lifetime: Duration,
    /// What becomes of users and API keys that the registry has not confirmed for too long.
    pub unconfirmed: Unconfirmed,
    /// The secrets were made by the gateway itself and are kept in the data directory.
    pub generated: bool,
}

/// What becomes of users and API keys that the registry has not confirmed for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    /// They are served as they were last known.
    Serve,
    /// They are told to come later. Root, who comes from the configuration, is served.
    Refuse,
}

/// Names of streams and subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Stream `<station with . as #>`, subject `<station>`; with n > 1 partitions `<station>$<k>` and `<station>.$<k>`.
    Plain,
    /// The original's: streams `<station>$<k>`, subjects `<station>$<k>.final`.
    Memphis,
}

/// How stations are made on first use (defaults of the original).
#[derive(Debug, Clone)]
pub struct StationSettings {
    /// Whether they are made at all.
    pub auto_create: bool,
    /// Names of streams and subjects.
    pub layout: Layout,
    /// What they are made with.
    pub attributes: Attributes,
    /// Consumer groups that nobody uses for this long are removed; `None` keeps them.
    pub group_expiry: Option<Duration>,
}

impl Default for StationSettings {
    fn default() -> Self {
        Self {
            auto_create: true,
            layout: Layout::Plain,
            attributes: Attributes::default(),
            group_expiry: Some(GROUP_EXPIRY),
        }
    }
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A `tracing` filter: `info`, `sluicegate=debug`, ….
    pub filter: String,
    /// JSON lines; `None`: when standard error is no terminal.
    pub json: Option<bool>,
}
