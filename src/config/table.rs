//! The table of all settings: key in the file, flag, default, meaning, how it is read and shown.
//!
//! It is the only list of settings. The environment name follows from the key; the reading of the
//! file, the environment and the flags, `config print` and the table in `docs/configuration.md` all
//! go through it. A setting that is not here does not exist.

use super::{
    draft::Draft,
    error::Bad,
    nats_url,
    settings::{
        BackendSettings, Layout, NatsCredential, NatsSettings, PublishModeChoice, Secret, Settings, Unconfirmed,
    },
    value::{Raw, show_size, show_time},
};
use crate::{
    limits::{CONFIG_LIFETIME_MAX, SHARDS_MAX},
    record::headers::HeaderRule,
    rt::DriverChoice,
    station::{Name, Storage},
};
use std::{path::PathBuf, time::Duration};
use toml::Value;

/// One setting.
pub(super) struct Setting {
    /// Dotted key of the file: `limits.hold`.
    pub(super) key: &'static str,
    /// Its flag of `serve`, if it has one.
    pub(super) flag: Option<&'static str>,
    /// Whether its value must never be shown.
    pub(super) secret: bool,
    /// The default, as TOML, or in brackets how it comes about.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares docs/configuration.md with it"))]
    pub(super) default: &'static str,
    /// What it means, in a sentence.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares docs/configuration.md with it"))]
    pub(super) help: &'static str,
    /// Writes a value over what the layers below had.
    pub(super) put: fn(&mut Draft, &Raw) -> Result<(), Bad>,
    /// What runs; `None` if it is not set. A file that was read is shown by its path, which is kept beside.
    pub(super) show: fn(&Settings) -> Option<Value>,
}

impl Setting {
    /// Its name in the environment: `SLUICEGATE_LIMITS_HOLD`.
    pub(super) fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.to_ascii_uppercase().replace('.', "_"))
    }

    const fn new(
        key: &'static str,
        default: &'static str,
        help: &'static str,
        put: fn(&mut Draft, &Raw) -> Result<(), Bad>,
        show: fn(&Settings) -> Option<Value>,
    ) -> Self {
        Self { key, flag: None, secret: false, default, help, put, show }
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// The setting of this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The nearest of `names`, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let score =
        |name: &str| strsim::normalized_damerau_levenshtein(&written.to_ascii_lowercase(), &name.to_ascii_lowercase());
    names
        .map(|name| (score(name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|best| best.0 >= 0.5)
        .map(|best| best.1)
}

/// What the names of all variables begin with.
pub(super) const ENV_PREFIX: &str = "SLUICEGATE_";
/// What is shown of a secret.
pub(super) const MASK: &str = "********";

const DRIVERS: [(&str, DriverChoice); 3] =
    [("auto", DriverChoice::Auto), ("io_uring", DriverChoice::IoUring), ("epoll", DriverChoice::Epoll)];
const PUBLISH_MODES: [(&str, PublishModeChoice); 3] =
    [("auto", PublishModeChoice::Auto), ("single", PublishModeChoice::Single), ("atomic", PublishModeChoice::Atomic)];
const UNCONFIRMED: [(&str, Unconfirmed); 2] = [("serve", Unconfirmed::Serve), ("refuse", Unconfirmed::Refuse)];
const LAYOUTS: [(&str, Layout); 2] = [("plain", Layout::Plain), ("memphis", Layout::Memphis)];
const STORAGES: [(&str, Storage); 2] = [("file", Storage::File), ("memory", Storage::Memory)];
const FORMATS: [(&str, Option<bool>); 3] = [("auto", None), ("json", Some(true)), ("pretty", Some(false))];
const UNLIMITED: &str = "unlimited";

macro_rules! limit {
    (size $field:ident, $default:literal, $help:literal) => {
        Setting::new(
            concat!("limits.", stringify!($field)),
            $default,
            $help,
            |draft, raw| set(&mut draft.limits.$field, some_bytes(raw)),
            |settings| text(show_size(settings.limits.$field as u64)),
        )
    };
    (count $field:ident, $default:literal, $help:literal) => {
        Setting::new(
            concat!("limits.", stringify!($field)),
            $default,
            $help,
            |draft, raw| set(&mut draft.limits.$field, raw.count(1, 1 << 32).map(narrow)),
            |settings| number(settings.limits.$field as u64),
        )
    };
    (time $field:ident, $min:literal, $default:literal, $help:literal) => {
        Setting::new(
            concat!("limits.", stringify!($field)),
            $default,
            $help,
            |draft, raw| set(&mut draft.limits.$field, raw.time(Duration::from_millis($min))),
            |settings| text(show_time(settings.limits.$field)),
        )
    };
}

/// All settings, in the order of the file.
pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "listen",
        "(0.0.0.0:4444; 127.0.0.1:4444 while secrets are generated)",
        "Address of the data port. Another address than loopback needs all three secrets of `[auth]`.",
        |draft, raw| {
            set(&mut draft.listen, raw.address().map(Some))?;
            draft.listen_port = None;
            Ok(())
        },
        |settings| text(settings.listen.to_string()),
    )
    .flag("--listen"),
    Setting::new(
        "admin_listen",
        "\"127.0.0.1:4445\"",
        "Address of health, metrics and the admin API. Another address than loopback needs all three secrets of `[auth]`.",
        |draft, raw| set(&mut draft.admin_listen, raw.address()),
        |settings| text(settings.admin_listen.to_string()),
    )
    .flag("--admin-listen"),
    Setting::new(
        "data_dir",
        "\"./sluicegate-data\"",
        "Directory of the embedded store and of generated secrets.",
        |draft, raw| set(&mut draft.data_dir, raw.text().map(PathBuf::from)),
        |settings| text(settings.data_dir.display().to_string()),
    )
    .flag("--data-dir"),
    Setting::new(
        "shards",
        "(the cores that the process may use: CPU affinity and cgroup quota are respected)",
        "Number of shards: threads of the data path, one core each.",
        |draft, raw| set(&mut draft.shards, raw.count(1, u64::from(SHARDS_MAX)).map(|count| u16::try_from(count).ok())),
        |settings| number(settings.shards.into()),
    )
    .flag("--shards"),
    Setting::new(
        "driver",
        "\"auto\"",
        "I/O driver: `auto`, `io_uring` or `epoll`.",
        |draft, raw| set(&mut draft.driver, raw.choice(&DRIVERS)),
        |settings| word(&DRIVERS, settings.driver),
    )
    .flag("--driver"),
    Setting::new(
        "nats.url",
        "(not set: the embedded store is used)",
        "NATS servers, a list or separated by commas: `nats://user:password@host:4222,host2`.",
        |draft, raw| {
            let urls = raw.list().and_then(|list| nats_url::parse(&list))?;
            draft.nats.urls = Some(urls);
            draft.nats.from_memphis_host = false;
            Ok(())
        },
        |settings| nats(settings).map(|nats| nats.servers.iter().map(|server| nats_url::show(server).into()).collect::<Vec<Value>>().into()),
    )
    .flag("--nats"),
    Setting::new(
        "nats.user",
        "(not set)",
        "User with which the gateway logs in to the broker.",
        |draft, raw| set(&mut draft.nats.user, raw.text().map(Some)),
        |settings| match &nats(settings)?.credential {
            NatsCredential::UserPassword(user, _) => text(user.clone()),
            _ => None,
        },
    ),
    Setting::new(
        "nats.password",
        "(not set)",
        "Its password.",
        |draft, raw| set(&mut draft.nats.password, secret(raw)),
        |settings| masked(matches!(nats(settings)?.credential, NatsCredential::UserPassword(..))),
    )
    .secret(),
    Setting::new(
        "nats.token",
        "(not set)",
        "Token with which the gateway logs in to the broker.",
        |draft, raw| set(&mut draft.nats.token, secret(raw)),
        |settings| masked(matches!(nats(settings)?.credential, NatsCredential::Token(_))),
    )
    .secret(),
    Setting::new(
        "nats.nkey_seed_file",
        "(not set)",
        "File with the nkey seed (`SU…`) with which the gateway logs in to the broker.",
        |draft, raw| set(&mut draft.nats.nkey_seed_file, raw.text().map(|path| Some(path.into()))),
        |_| None,
    ),
    Setting::new(
        "nats.creds_file",
        "(not set)",
        "A `.creds` file (user JWT and seed) with which the gateway logs in to the broker.",
        |draft, raw| set(&mut draft.nats.creds_file, raw.text().map(|path| Some(path.into()))),
        |_| None,
    ),
    Setting::new(
        "nats.registry_bucket",
        "\"sluicegate\"",
        "JetStream key-value bucket of users and stations; all gateways of one installation share it.",
        |draft, raw| set(&mut draft.nats.registry_bucket, bucket(raw)),
        |settings| text(nats(settings)?.registry_bucket.clone()),
    ),
    Setting::new(
        "nats.publish_mode",
        "\"auto\"",
        "How records are published: `auto`, `single`, or `atomic` (batches, wherever a stream has `allow_atomic`).",
        |draft, raw| set(&mut draft.nats.publish_mode, raw.choice(&PUBLISH_MODES)),
        |settings| word(&PUBLISH_MODES, nats(settings)?.publish_mode),
    )
    .flag("--publish-mode"),
    Setting::new(
        "nats.monitor_url",
        "(not set)",
        "Monitoring address of the broker, such as `http://127.0.0.1:8222`: tells whether it syncs every write (`sync_interval: always`).",
        |draft, raw| set(&mut draft.nats.monitor_url, raw.text().and_then(|url| nats_url::monitor(&url)).map(Some)),
        |settings| nats(settings)?.monitor_url.clone().and_then(text),
    ),
    Setting::new(
        "auth.root_user",
        "\"root\"",
        "Name of the user who may do everything.",
        |draft, raw| set(&mut draft.auth.root_user, user_name(raw)),
        |settings| text(settings.auth.root_user.clone()),
    ),
    Setting::new(
        "auth.root_password",
        "(generated)",
        "Password of the root user.",
        |draft, raw| set(&mut draft.auth.root_password, secret(raw)),
        |_| masked(true),
    )
    .secret(),
    Setting::new(
        "auth.access_key",
        "(generated)",
        "Key that signs access tokens (HS256): at least 32 bytes, unless `listen` is a loopback address.",
        |draft, raw| set(&mut draft.auth.access_key, secret(raw)),
        |_| masked(true),
    )
    .secret(),
    Setting::new(
        "auth.refresh_key",
        "(generated)",
        "Key that signs refresh tokens (HS256): as long, and another one than `auth.access_key`.",
        |draft, raw| set(&mut draft.auth.refresh_key, secret(raw)),
        |_| masked(true),
    )
    .secret(),
    Setting::new(
        "auth.access_lifetime",
        "\"15m\"",
        "How long an access token lives unless the request says otherwise.",
        |draft, raw| set(&mut draft.auth.access_lifetime, lifetime(raw)),
        |settings| text(show_time(settings.auth.access_lifetime)),
    ),
    Setting::new(
        "auth.refresh_lifetime",
        "\"5h\"",
        "How long a refresh token lives unless the request says otherwise.",
        |draft, raw| set(&mut draft.auth.refresh_lifetime, lifetime(raw)),
        |settings| text(show_time(settings.auth.refresh_lifetime)),
    ),
    Setting::new(
        "auth.unconfirmed",
        "\"serve\"",
        "Users and API keys that the registry has not confirmed for `limits.registry_age`: `serve` them as last known, or `refuse` them (503) until it does.",
        |draft, raw| set(&mut draft.auth.unconfirmed, raw.choice(&UNCONFIRMED)),
        |settings| word(&UNCONFIRMED, settings.auth.unconfirmed),
    ),
    Setting::new(
        "stations.auto_create",
        "true",
        "Whether a station is made when it is first produced to or consumed from.",
        |draft, raw| set(&mut draft.stations.auto_create, raw.flag()),
        |settings| Some(settings.stations.auto_create.into()),
    ),
    Setting::new(
        "stations.layout",
        "\"plain\"",
        "Names of streams and subjects: `plain`, or `memphis` for a broker that Memphis SDKs also use.",
        |draft, raw| set(&mut draft.stations.layout, raw.choice(&LAYOUTS)),
        |settings| word(&LAYOUTS, settings.stations.layout),
    ),
    Setting::new(
        "stations.partitions",
        "1",
        "Partitions of a new station, 1 to 10000.",
        |draft, raw| set(&mut draft.stations.attributes.partitions, raw.count(1, 10_000).map(|count| u16::try_from(count).unwrap_or(1))),
        |settings| number(settings.stations.attributes.partitions.into()),
    ),
    Setting::new(
        "stations.retention_age",
        "\"1h\"",
        "Records older than this go; `unlimited` keeps them.",
        |draft, raw| set(&mut draft.stations.attributes.retention_age, limited(raw, |raw| raw.time(Duration::from_millis(100)))),
        |settings| text(settings.stations.attributes.retention_age.map_or_else(|| UNLIMITED.to_owned(), show_time)),
    ),
    Setting::new(
        "stations.retention_records",
        "\"unlimited\"",
        "With more records than this in a partition, the oldest go.",
        |draft, raw| set(&mut draft.stations.attributes.retention_records, limited(raw, |raw| raw.count(1, i64::MAX as u64))),
        |settings| settings.stations.attributes.retention_records.map_or_else(|| text(UNLIMITED.to_owned()), number),
    ),
    Setting::new(
        "stations.retention_bytes",
        "\"unlimited\"",
        "With more bytes than this in a partition, the oldest records go.",
        |draft, raw| set(&mut draft.stations.attributes.retention_bytes, limited(raw, Raw::size)),
        |settings| text(settings.stations.attributes.retention_bytes.map_or_else(|| UNLIMITED.to_owned(), show_size)),
    ),
    Setting::new(
        "stations.storage",
        "\"file\"",
        "Where JetStream keeps a new station: `file` or `memory`.",
        |draft, raw| set(&mut draft.stations.attributes.storage, raw.choice(&STORAGES)),
        |settings| word(&STORAGES, settings.stations.attributes.storage),
    ),
    Setting::new(
        "stations.replicas",
        "1",
        "Copies that JetStream keeps: 1, 3 or 5 (2 and 4 become 3, more than 5 becomes 5).",
        |draft, raw| set(&mut draft.stations.attributes.replicas, raw.count(0, 255).map(replicas)),
        |settings| number(settings.stations.attributes.replicas.into()),
    ),
    Setting::new(
        "stations.duplicate_window",
        "\"2m\"",
        "How long a message id is remembered; at least 100ms, at most 24h and `stations.retention_age`. With less than twice `limits.ack_timeout`, records that were not acknowledged are published again for a shorter time, or not at all.",
        |draft, raw| set(&mut draft.stations.attributes.duplicate_window, duplicate_window(raw)),
        |settings| text(show_time(settings.stations.attributes.duplicate_window)),
    ),
    Setting::new(
        "stations.group_expiry",
        "\"35d\"",
        "A consumer group that nobody uses for this long is removed; at least 1h; `unlimited` keeps it.",
        |draft, raw| set(&mut draft.stations.group_expiry, limited(raw, |raw| raw.time(Duration::from_secs(3_600)))),
        |settings| text(settings.stations.group_expiry.map_or_else(|| UNLIMITED.to_owned(), show_time)),
    ),
    Setting::new(
        "stored_headers.allow",
        "[\"content-type\", \"ce-*\", \"traceparent\", \"tracestate\", \"x-*\", \"webhook-*\", \"svix-*\", \"*-signature\", \"signature\", \"signature-input\", \"content-digest\", \"digest\", \"box-*\", \"github-public-key-*\", \"heroku-webhook-*\", \"klaviyo-*\", \"linear-*\", \"lob-signature-*\", \"messagebird-*\", \"paypal-transmission-*\", \"paypal-cert-url\", \"paypal-auth-algo\", \"plaid-verification\", \"sentry-hook-*\", \"smartsheet-hmac-*\", \"telnyx-*\", \"twitch-eventsub-*\"]",
        "Request headers stored with each record: names, or with `*` how they begin or end. A rule with `*` takes no credentials, and client addresses only if it says so (`x-forwarded-*`): name such headers in full. `Authorization`, cookies, hop-by-hop headers and `Nats-*` are never stored.",
        |draft, raw| set(&mut draft.stored_headers, raw.list().and_then(|list| Ok(HeaderRule::parse_list(&list)?))),
        |settings| Some(settings.stored_headers.iter().map(|rule| rule.to_string().into()).collect::<Vec<Value>>().into()),
    ),
    limit!(size head_bytes_max, "\"16KiB\"", "Bytes of request line and header fields together."),
    limit!(count head_fields_max, "100", "Header fields of one request."),
    limit!(size body_bytes_max, "\"16MiB\"", "Bytes of a request body as it comes over the wire."),
    limit!(size inflated_bytes_max, "\"64MiB\"", "Bytes of a request body after its `Content-Encoding` is undone."),
    limit!(count batch_records_max, "100000", "Records in one batch."),
    limit!(count connections_per_shard_max, "16384", "Connections of one shard."),
    Setting::new(
        "limits.connections_per_network_max",
        "8192",
        "Connections of one shard that one client network (an IPv4 address, an IPv6 /64) may have; 0: no bound, for a gateway behind a proxy.",
        |draft, raw| set(&mut draft.limits.connections_per_network_max, raw.count(0, 1 << 32).map(narrow)),
        |settings| number(settings.limits.connections_per_network_max as u64),
    ),
    limit!(size shard_body_bytes_max, "\"256MiB\"", "Bytes of bodies and of consume answers that one shard holds at a time."),
    limit!(count window_messages_max, "8192", "Publishes in flight; the shards divide them among themselves."),
    limit!(size window_bytes_max, "\"32MiB\"", "Bytes in flight; the shards divide them among themselves."),
    limit!(time head_timeout, 10, "\"10s\"", "From the first byte of a request to the end of its head."),
    limit!(time body_grace, 0, "\"10s\"", "The longest silence within a body, and what its sender may be behind the minimum rate."),
    Setting::new(
        "limits.body_rate_min",
        "\"1KiB\"",
        "Bytes a second below which a sender of a body is cut off; 0: only for a silence.",
        |draft, raw| set(&mut draft.limits.body_rate_min, raw.size()),
        |settings| text(show_size(settings.limits.body_rate_min)),
    ),
    limit!(time idle_timeout, 10, "\"75s\"", "How long a keep-alive connection may go without a request."),
    limit!(time stream_idle, 10, "\"75s\"", "How long the client of a stream may send nothing."),
    limit!(count streams_per_principal_max, "2048", "Streams of one user or API key that may be open on one shard."),
    limit!(time write_timeout, 10, "\"30s\"", "How long a response may wait for a client that does not read."),
    limit!(time ack_timeout, 10, "\"10s\"", "From publish to acknowledgement; past it the outcome is unknown (503). At least twice `limits.hold`, and more than 6s."),
    limit!(time hold, 0, "\"5s\"", "How long a request waits for room, or for a broker that is away, before it is refused; twice as long for a stream whose cluster elects a leader."),
    limit!(time registry_hold, 0, "\"10s\"", "How long a record for a station with a schema waits for the registry to confirm that schema, before it is refused."),
    limit!(time registry_age, 1000, "\"30s\"", "How old what is known of users and API keys may be, unconfirmed by the registry, before the gateway is not ready."),
    Setting::new(
        "log.filter",
        "\"info\"",
        "What is logged: a level, or a filter such as `info,sluicegate::control=debug`.",
        |draft, raw| set(&mut draft.log.filter, filter(raw)),
        |settings| text(settings.log.filter.clone()),
    ),
    Setting::new(
        "log.format",
        "\"auto\"",
        "`json`, `pretty`, or `auto`: pretty if standard error is a terminal.",
        |draft, raw| set(&mut draft.log.json, raw.choice(&FORMATS)),
        |settings| word(&FORMATS, settings.log.json),
    ),
];

fn set<T>(slot: &mut T, value: Result<T, Bad>) -> Result<(), Bad> {
    *slot = value?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that `show` returns")]
fn text(text: String) -> Option<Value> {
    Some(Value::String(text))
}

fn number(number: u64) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Integer)
}

fn masked(present: bool) -> Option<Value> {
    present.then(|| Value::String(MASK.to_owned()))
}

fn word<T: PartialEq + Copy>(words: &[(&str, T)], value: T) -> Option<Value> {
    words.iter().find(|(_, known)| *known == value).map(|(word, _)| Value::String((*word).to_owned()))
}

fn nats(settings: &Settings) -> Option<&NatsSettings> {
    match &settings.backend {
        BackendSettings::Nats(nats) => Some(nats),
        BackendSettings::Local => None,
    }
}

fn secret(raw: &Raw) -> Result<Option<Secret>, Bad> {
    raw.text().map(|text| Some(Secret::new(text)))
}

/// Sizes are at most 1 TiB, counts at most 2^32; a narrower machine has its own maximum.
fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX / 4)
}

/// A size that lets something through.
fn some_bytes(raw: &Raw) -> Result<usize, Bad> {
    match raw.size()? {
        0 => Err(Bad::new(
            "is 0, which would let nothing through",
            "write at least one byte, or remove it to have the default",
        )),
        bytes => Ok(narrow(bytes)),
    }
}

/// `unlimited`, or what `parse` makes of it.
fn limited<T>(raw: &Raw, parse: impl Fn(&Raw) -> Result<T, Bad>) -> Result<Option<T>, Bad> {
    match raw {
        Raw::Text(text) if text.eq_ignore_ascii_case(UNLIMITED) => Ok(None),
        _ => parse(raw).map(Some).map_err(|bad| Bad::new(bad.wrong, format!("{}; or write unlimited", bad.remedy))),
    }
}

/// The original's rule: an odd number of copies, at most five.
fn replicas(written: u64) -> u8 {
    match written {
        0 | 1 => 1,
        2..=4 => 3,
        _ => 5,
    }
}

/// The original's rule: nothing is the default, less than 100 ms is 100 ms, more than a day is an error.
fn duplicate_window(raw: &Raw) -> Result<Duration, Bad> {
    let window = raw.time(Duration::ZERO)?;
    if window.is_zero() {
        return Ok(Draft::default().stations.attributes.duplicate_window);
    }
    if window > Duration::from_secs(86_400) {
        return Err(Bad::new(format!("is {}", raw.shown()), "write at most 24h"));
    }
    Ok(window.max(Duration::from_millis(100)))
}

fn lifetime(raw: &Raw) -> Result<Duration, Bad> {
    check_lifetime(raw.time(Duration::from_secs(1))?, raw)
}

/// Token lifetimes are bounded, so that no expiry overflows.
pub(super) fn check_lifetime(time: Duration, raw: &Raw) -> Result<Duration, Bad> {
    if time > CONFIG_LIFETIME_MAX {
        return Err(Bad::new(
            format!("is {}", raw.shown()),
            format!("write at most {}", show_time(CONFIG_LIFETIME_MAX)),
        ));
    }
    Ok(time)
}

fn user_name(raw: &Raw) -> Result<String, Bad> {
    let name = raw.text()?;
    match Name::parse(&name) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(fault) => Err(Bad::new(format!("is {name:?}"), fault.text("User name"))),
    }
}

/// A key-value bucket becomes the stream `KV_<bucket>`.
fn bucket(raw: &Raw) -> Result<String, Bad> {
    let name = raw.text()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.len() > 128 || !name.bytes().all(allowed) {
        return Err(Bad::new(format!("is {name:?}"), "write letters, digits, '-' and '_', at most 128 of them"));
    }
    Ok(name)
}

fn filter(raw: &Raw) -> Result<String, Bad> {
    let filter = raw.text()?;
    match filter.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(filter),
        Err(_) => Err(Bad::new(
            format!("is {filter:?}"),
            "write error, warn, info, debug or trace, or module=level, separated by commas",
        )),
    }
}
