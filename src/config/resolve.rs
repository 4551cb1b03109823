//! From the draft to what runs: what depends on something else, what contradicts something else.

use super::{
    credentials::{Credentials, credentials_path, new_key, new_password},
    draft::{AuthDraft, Draft, NatsDraft},
    error::{Notice, Origin, Problem},
    layers::Layers,
    nats_url::UserInfo,
    settings::{AuthSettings, BackendSettings, NatsCredential, NatsSettings, Secret, Settings, StationSettings},
    value::show_time,
};
use crate::{byte_order_mark, limits::SIGNING_KEY_BYTES_MIN};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

/// What the settings are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run: missing secrets are made and kept.
    Serve,
    /// To look at: nothing is written; missing secrets are empty.
    Inspect,
}

/// What was found out on the way: notes and faults.
struct Findings<'a> {
    origins: &'a mut BTreeMap<&'static str, Origin>,
    paths: &'a mut BTreeMap<&'static str, String>,
    problems: &'a mut Vec<Problem>,
    notices: &'a mut Vec<Notice>,
}

impl Findings<'_> {
    fn problem(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let origin = self.origins.get(key).cloned();
        self.problems.push(Problem { what: what.into(), origin, remedy: remedy.into() });
    }

    /// What `keys` hold was taken from where `source` was written.
    fn taken_from(&mut self, source: &str, keys: &[&'static str]) {
        if let Some(origin) = self.origins.get(source).cloned() {
            for key in keys {
                self.origins.insert(key, origin.clone());
            }
        }
    }
}

/// Finishes the draft. With a problem, the settings are not fit to run; the caller looks at `problems`.
pub(super) fn resolve(layers: &mut Layers, purpose: Purpose) -> Settings {
    let draft = std::mem::take(&mut layers.draft);
    let Layers { origins, paths, problems, notices, .. } = layers;
    let mut findings = Findings { origins, paths, problems, notices };
    let missing = missing_secrets(&draft.auth);
    let (listen, admin_listen) = addresses(&draft, &missing, &mut findings);
    let backend = backend(&draft, &mut findings);
    if let Err(broken) = draft.limits.check() {
        let key = broken.split_whitespace().next().unwrap_or_default().to_owned();
        findings.problem(&key, broken, "change one of the values that it names");
    }
    if 2 * draft.limits.hold + draft.limits.ack_timeout >= RESPONSE_TIME_COMMON {
        findings.notices.push(Notice::warning(
            "twice limits.hold and limits.ack_timeout together reach 60s: common clients (Debezium) give up before the answer comes",
        ));
    }
    let stations = stations(draft.stations, &mut findings);
    check_secrets(&draft.auth, listen, &mut findings);
    // Secrets are made only for a configuration that is otherwise right: a failed start leaves nothing behind.
    let purpose = if findings.problems.is_empty() { purpose } else { Purpose::Inspect };
    let auth = auth(draft.auth, &draft.data_dir, &missing, purpose, &mut findings);
    Settings {
        listen,
        admin_listen,
        shards: draft.shards.unwrap_or_else(available_shards),
        driver: draft.driver,
        backend,
        auth,
        stations,
        stored_headers: draft.stored_headers,
        limits: draft.limits,
        log: draft.log,
        data_dir: draft.data_dir,
    }
}

/// The cores that the process may use. The standard library looks at the affinity mask and at the
/// quota of cgroup v1 and v2 (of every group up to the root), rounded down, at least one.
fn available_shards() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(crate::limits::SHARDS_MAX).min(crate::limits::SHARDS_MAX)
}

/// Keys of the secrets that are not configured, with the original's names.
fn missing_secrets(auth: &AuthDraft) -> Vec<&'static str> {
    let all = [
        (auth.root_password.is_none(), "auth.root_password (ROOT_PASSWORD)"),
        (auth.access_key.is_none(), "auth.access_key (JWT_SECRET)"),
        (auth.refresh_key.is_none(), "auth.refresh_key (REFRESH_JWT_SECRET)"),
    ];
    all.iter().filter(|(missing, _)| *missing).map(|(_, name)| *name).collect()
}

/// Data port and admin listener. Without configured secrets they are for this host alone.
fn addresses(draft: &Draft, missing: &[&str], findings: &mut Findings<'_>) -> (SocketAddr, SocketAddr) {
    let ip = if missing.is_empty() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let mut listen = draft.listen.unwrap_or(SocketAddr::new(IpAddr::V4(ip), 4444));
    if let Some(port) = draft.listen_port {
        listen.set_port(port);
    }
    for (key, address) in [("listen", listen), ("admin_listen", draft.admin_listen)] {
        if !address.ip().to_canonical().is_loopback() && !missing.is_empty() {
            findings.problem(
                key,
                format!("{key} is {address}, which others can reach, and not all secrets are set"),
                format!("set {}; or use a loopback address such as 127.0.0.1", missing.join(", ")),
            );
        }
    }
    if draft.listen.is_none() && !missing.is_empty() {
        findings.notices.push(Notice::info(format!(
            "listening on {listen} only, because these are not configured: {}",
            missing.join(", ")
        )));
    }
    let same_ip = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    if listen.port() == draft.admin_listen.port() && listen.port() != 0 && same_ip(listen.ip(), draft.admin_listen.ip())
    {
        findings.problem(
            "admin_listen",
            format!("listen ({listen}) and admin_listen ({}) are the same place", draft.admin_listen),
            "give each a port of its own",
        );
    }
    (listen, draft.admin_listen)
}

fn stations(mut stations: StationSettings, findings: &mut Findings<'_>) -> StationSettings {
    let attributes = &mut stations.attributes;
    if let Some(age) = attributes.retention_age.filter(|age| *age < attributes.duplicate_window) {
        if findings.origins.contains_key("stations.duplicate_window") {
            findings.notices.push(Notice::warning(format!(
                "stations.duplicate_window is shortened to stations.retention_age, {}: a message id cannot outlive its record",
                show_time(age)
            )));
        }
        attributes.duplicate_window = age;
    }
    stations
}

fn backend(draft: &Draft, findings: &mut Findings<'_>) -> BackendSettings {
    let Some(urls) = &draft.nats.urls else {
        for key in
            ["nats.user", "nats.password", "nats.token", "nats.nkey_seed_file", "nats.creds_file", "nats.monitor_url"]
        {
            if findings.origins.contains_key(key) {
                findings.problem(
                    key,
                    format!("{key} is set, but nats.url is not"),
                    "set nats.url (or --nats), or remove it",
                );
            }
        }
        return BackendSettings::Local;
    };
    if draft.nats.from_memphis_host {
        let servers: Vec<String> = urls.servers.iter().map(super::nats_url::show).collect();
        findings.notices.push(Notice::info(format!("MEMPHIS_HOST: the broker is {}", servers.join(", "))));
    }
    let credential = credential(draft, urls.userinfo.as_ref(), findings);
    BackendSettings::Nats(NatsSettings {
        servers: urls.servers.clone(),
        credential,
        registry_bucket: draft.nats.registry_bucket.clone(),
        publish_mode: draft.nats.publish_mode,
        monitor_url: draft.nats.monitor_url.clone(),
    })
}

/// Who the gateway is to the broker. Two ways of saying so are a mistake.
fn credential(draft: &Draft, userinfo: Option<&UserInfo>, findings: &mut Findings<'_>) -> NatsCredential {
    let NatsDraft { user, password, token, nkey_seed_file, creds_file, .. } = &draft.nats;
    let mut ways: Vec<(&'static str, NatsCredential)> = Vec::new();
    match userinfo {
        Some(UserInfo::Token(token)) => {
            findings.taken_from("nats.url", &["nats.token"]);
            ways.push(("nats.url", NatsCredential::Token(token.clone())));
        }
        Some(UserInfo::UserPassword(user, password)) => {
            findings.taken_from("nats.url", &["nats.user", "nats.password"]);
            ways.push(("nats.url", NatsCredential::UserPassword(user.clone(), password.clone())));
        }
        None => {}
    }
    match (user, password) {
        (Some(user), Some(password)) => {
            ways.push(("nats.user", NatsCredential::UserPassword(user.clone(), password.clone())));
        }
        (Some(_), None) => findings.problem("nats.user", "nats.user is set, but nats.password is not", "set both"),
        (None, Some(_)) => findings.problem("nats.password", "nats.password is set, but nats.user is not", "set both"),
        (None, None) => {}
    }
    if let Some(token) = token {
        ways.push(("nats.token", NatsCredential::Token(token.clone())));
    }
    if let Some(path) = nkey_seed_file
        && let Some(seed) = read_seed(path, "nats.nkey_seed_file", findings)
    {
        ways.push(("nats.nkey_seed_file", NatsCredential::Nkey(seed)));
    }
    if let Some(path) = creds_file
        && let Some((jwt, seed)) = read_creds(path, findings)
    {
        ways.push(("nats.creds_file", NatsCredential::Creds { jwt, seed }));
    }
    if ways.len() > 1 {
        let names: Vec<&str> = ways.iter().map(|(name, _)| *name).collect();
        let last = names.last().copied().unwrap_or_default();
        findings.problem(
            last,
            format!("the gateway's identity at the broker is given {} times: {}", names.len(), names.join(", ")),
            "keep one of them (what stands before the @ of nats.url counts)",
        );
    }
    match (ways.into_iter().next(), &draft.auth.root_password) {
        (Some((_, credential)), _) => credential,
        (None, Some(password)) if draft.nats.from_memphis_host => {
            findings.taken_from("auth.root_user", &["nats.user"]);
            findings.taken_from("auth.root_password", &["nats.password"]);
            NatsCredential::UserPassword(draft.auth.root_user.clone(), password.clone())
        }
        (None, _) => NatsCredential::None,
    }
}

fn read_file(path: &Path, key: &'static str, findings: &mut Findings<'_>) -> Option<String> {
    findings.paths.insert(key, path.display().to_string());
    let text = std::fs::read_to_string(path);
    if let Err(fault) = &text {
        findings.problem(
            key,
            format!("{key}: {} cannot be read: {fault}", path.display()),
            "name a file that the gateway may read",
        );
    }
    text.ok().map(|text| byte_order_mark::strip(&text).to_owned())
}

fn read_seed(path: &Path, key: &'static str, findings: &mut Findings<'_>) -> Option<Secret> {
    let text = read_file(path, key, findings)?;
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    let valid = seed.filter(|seed| nkeys::KeyPair::from_seed(seed).is_ok());
    if valid.is_none() {
        findings.problem(
            key,
            format!("{key}: {} holds no user seed", path.display()),
            "name a file with a line that begins with SU, as `nk -gen user` writes it",
        );
    }
    valid.map(Secret::new)
}

/// The two blocks of a `.creds` file: the line after each `BEGIN` marker.
fn read_creds(path: &Path, findings: &mut Findings<'_>) -> Option<(Secret, Secret)> {
    let key = "nats.creds_file";
    let text = read_file(path, key, findings)?;
    let block = |name: &str| {
        let mut lines =
            text.lines().map(str::trim).skip_while(|line| !(line.starts_with("---") && line.contains(name)));
        lines.nth(1).filter(|line| !line.is_empty() && !line.starts_with('-'))
    };
    let jwt = block("BEGIN NATS USER JWT");
    let seed = block("BEGIN USER NKEY SEED").filter(|seed| nkeys::KeyPair::from_seed(seed).is_ok());
    let Some((jwt, seed)) = jwt.zip(seed) else {
        findings.problem(
            key,
            format!("{key}: {} is no .creds file: it lacks a user JWT or a valid seed", path.display()),
            "name a file as `nsc generate creds` writes it",
        );
        return None;
    };
    Some((Secret::new(jwt), Secret::new(seed)))
}

/// Completes the secrets from the data directory, making what is in neither place.
fn auth(
    draft: AuthDraft,
    data_dir: &Path,
    missing: &[&str],
    purpose: Purpose,
    findings: &mut Findings<'_>,
) -> AuthSettings {
    let generated = if missing.is_empty() {
        Credentials::default()
    } else {
        let shown = credentials_path(data_dir).display().to_string();
        match complete(&draft, data_dir, purpose) {
            Ok(credentials) => {
                for (key, configured) in [
                    ("auth.root_password", draft.root_password.is_some()),
                    ("auth.access_key", draft.access_key.is_some()),
                    ("auth.refresh_key", draft.refresh_key.is_some()),
                ] {
                    if !configured {
                        findings.origins.insert(key, Origin::Generated(shown.clone()));
                    }
                }
                credentials
            }
            Err(fault) => {
                findings.problems.push(Problem { what: fault.what, origin: None, remedy: fault.remedy });
                Credentials::default()
            }
        }
    };
    let or = |configured: Option<Secret>, made: Option<String>| {
        configured.unwrap_or_else(|| Secret::new(made.unwrap_or_default()))
    };
    AuthSettings {
        root_user: draft.root_user,
        root_password: or(draft.root_password, generated.root_password),
        access_key: or(draft.access_key, generated.access_key),
        refresh_key: or(draft.refresh_key, generated.refresh_key),
        access_lifetime: draft.access_lifetime,
        unconfirmed: draft.unconfirmed,
        refresh_lifetime: draft.refresh_lifetime,
        generated: !missing.is_empty(),
    }
}

/// What the data directory has, with what is missing made and kept.
fn complete(
    draft: &AuthDraft,
    data_dir: &Path,
    purpose: Purpose,
) -> Result<Credentials, super::credentials::CredentialsFault> {
    let fill = |slot: &mut Option<String>, configured: bool, make: fn() -> Result<Secret, _>| {
        if !configured && slot.as_deref().unwrap_or_default().is_empty() {
            *slot = Some(make()?.expose().to_owned());
        }
        Ok(())
    };
    let fill_all = |credentials: &mut Credentials| {
        draft.root_user.clone_into(&mut credentials.root_user);
        fill(&mut credentials.root_password, draft.root_password.is_some(), new_password)?;
        fill(&mut credentials.access_key, draft.access_key.is_some(), new_key)?;
        fill(&mut credentials.refresh_key, draft.refresh_key.is_some(), new_key)
    };
    let kept = Credentials::read(data_dir)?;
    if purpose == Purpose::Inspect {
        return Ok(kept.unwrap_or_default());
    }
    // What is complete is only read: the directory may be read-only.
    let mut credentials = kept.clone().unwrap_or_default();
    fill_all(&mut credentials)?;
    if kept.as_ref() == Some(&credentials) {
        return Ok(credentials);
    }
    Credentials::complete(data_dir, fill_all)
}

/// Whoever has one token can try keys at home, as many as his machine can: on an address that others reach, a signing key has
/// the bytes that HS256 wants (RFC 7518, section 3.2).
fn check_secrets(auth: &AuthDraft, listen: SocketAddr, findings: &mut Findings<'_>) {
    let reachable = !listen.ip().to_canonical().is_loopback();
    let secrets = [
        ("auth.root_password", &auth.root_password, PASSWORD_BYTES_GOOD, false),
        ("auth.access_key", &auth.access_key, SIGNING_KEY_BYTES_MIN, reachable),
        ("auth.refresh_key", &auth.refresh_key, SIGNING_KEY_BYTES_MIN, reachable),
    ];
    for (key, secret, good, required) in secrets {
        let Some(secret) = secret else { continue };
        if required && secret.expose().len() < good {
            findings.problem(
                key,
                format!("{key} has {} bytes, and others can reach {listen}: it can be guessed", secret.expose().len()),
                format!("set one of at least {good} bytes (openssl rand -base64 32), or use a loopback address"),
            );
        } else if PUBLISHED.contains(&secret.expose()) {
            findings.notices.push(Notice::warning(format!(
                "{key} is a value that the original's documentation publishes: good for a trial, not for more"
            )));
        } else if secret.expose().len() < good {
            findings.notices.push(Notice::warning(format!("{key} is shorter than {good} bytes: it can be guessed")));
        }
    }
    if auth.access_key.is_some() && auth.access_key == auth.refresh_key {
        findings.notices.push(Notice::warning(
            "auth.access_key and auth.refresh_key are the same: a claim still tells the tokens apart, but use two keys",
        ));
    }
}

/// Debezium's HTTP timeout, and that of many other clients.
const RESPONSE_TIME_COMMON: Duration = Duration::from_secs(60);
const PASSWORD_BYTES_GOOD: usize = 8;
/// The secrets of the original's compose file.
const PUBLISHED: [&str; 3] = ["JWT_TEST_PURPOSE", "REFRESH_JWT_TEST_PURPOSE", "memphis"];
