//! The configuration as a whole: sources in, settings or problems out.

use super::{
    alias::ALIASES,
    draft::Draft,
    table::{SETTINGS, find},
    *,
};
use crate::{limits::Limits, rt::DriverChoice};
use proptest::prelude::*;
use std::{ffi::OsString, fmt::Write as _, fs, path::Path, time::Duration};

const SECRETS: [(&str, &str); 3] = [
    ("ROOT_PASSWORD", "a root password"),
    ("JWT_SECRET", "an access key of at least 32 bytes"),
    ("REFRESH_JWT_SECRET", "a refresh key of at least 32 bytes"),
];

fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Secrets are configured, so that nothing is written and any address is allowed.
fn with_secrets(pairs: &[(&str, &str)]) -> Sources {
    Sources { environment: env(&[&SECRETS[..], pairs].concat()), ..Sources::default() }
}

fn inspect(sources: &Sources) -> Result<Loaded, ConfigError> {
    load(sources, Purpose::Inspect)
}

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sluicegate.toml");
    fs::write(&path, text).unwrap();
    (dir, Sources { config: Some(path), ..with_secrets(&[]) })
}

fn shown(loaded: &Loaded, key: &str) -> String {
    (find(key).unwrap().show)(&loaded.settings).map_or_else(|| "not set".to_owned(), |value| value.to_string())
}

/// A value of each setting that is not its default, as the file has it.
const OTHER_VALUES: [(&str, &str); 54] = [
    ("listen", "\"10.1.2.3:5000\""),
    ("admin_listen", "\"[::1]:5001\""),
    ("data_dir", "\"/var/lib/x\""),
    ("shards", "7"),
    ("driver", "\"epoll\""),
    ("nats.url", "[\"nats://a:4222\", \"nats://b:5222\"]"),
    ("nats.user", "\"gateway\""),
    ("nats.registry_bucket", "\"other-bucket\""),
    ("nats.publish_mode", "\"atomic\""),
    ("nats.monitor_url", "\"http://nats.local:8222\""),
    ("auth.root_user", "\"admin\""),
    ("auth.access_lifetime", "\"1h\""),
    ("auth.refresh_lifetime", "\"7d\""),
    ("auth.unconfirmed", "\"refuse\""),
    ("stations.auto_create", "false"),
    ("stations.layout", "\"memphis\""),
    ("stations.partitions", "12"),
    ("stations.retention_age", "\"unlimited\""),
    ("stations.retention_records", "1000"),
    ("stations.retention_bytes", "\"5GiB\""),
    ("stations.storage", "\"memory\""),
    ("stations.replicas", "3"),
    ("stations.duplicate_window", "\"30s\""),
    ("stations.group_expiry", "\"unlimited\""),
    ("stored_headers.allow", "[\"content-type\", \"x-my-*\"]"),
    ("limits.head_bytes_max", "\"8KiB\""),
    ("limits.head_fields_max", "50"),
    ("limits.body_bytes_max", "\"1MiB\""),
    ("limits.inflated_bytes_max", "\"2MiB\""),
    ("limits.batch_records_max", "10"),
    ("limits.connections_per_shard_max", "100"),
    ("limits.connections_per_network_max", "50"),
    ("limits.shard_body_bytes_max", "\"99MiB\""),
    ("limits.window_messages_max", "17"),
    ("limits.window_bytes_max", "\"3MiB\""),
    ("limits.head_timeout", "\"1s\""),
    ("limits.body_grace", "\"2s\""),
    ("limits.body_rate_min", "\"7KiB\""),
    ("limits.idle_timeout", "\"3s\""),
    ("limits.stream_idle", "\"5s\""),
    ("limits.streams_per_principal_max", "7"),
    ("limits.write_timeout", "\"4s\""),
    ("limits.ack_timeout", "\"7s\""),
    ("limits.hold", "\"500ms\""),
    ("limits.registry_hold", "\"7s\""),
    ("limits.registry_age", "\"1m\""),
    ("log.filter", "\"warn,sluicegate=debug\""),
    ("log.format", "\"json\""),
    // These show as a mask, or not at all: their tests stand below.
    ("nats.password", "\"********\""),
    ("nats.token", ""),
    ("nats.nkey_seed_file", ""),
    ("nats.creds_file", ""),
    ("auth.root_password", "\"********\""),
    ("auth.access_key", "\"********\""),
];

#[test]
fn every_setting_is_read_from_the_file_and_from_the_environment_and_shown_as_written() {
    let mut text = String::new();
    let mut pairs = Vec::new();
    for (key, value) in OTHER_VALUES {
        if !value.is_empty() {
            // It is shown masked, and is long enough for an address that others reach.
            let value = if key == "auth.access_key" { "\"another access key of 32 bytes...\"" } else { value };
            let _ = writeln!(text, "{key} = {value}");
            let plain = value.trim_matches(['[', ']']).replace('"', "").replace(", ", ",");
            pairs.push((find(key).unwrap().env(), plain));
        }
    }
    let known: Vec<&str> = OTHER_VALUES.iter().map(|(key, _)| *key).chain(["auth.refresh_key"]).collect();
    assert!(SETTINGS.iter().all(|setting| known.contains(&setting.key)), "a setting without a row here");
    let (_dir, from_file) = file(&text);
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for sources in [from_file, with_secrets(&pairs)] {
        let loaded = inspect(&sources).unwrap();
        for (key, value) in OTHER_VALUES.into_iter().filter(|(_, value)| !value.is_empty()) {
            assert_eq!(shown(&loaded, key), value, "{key}");
            assert_ne!(*loaded.origin(key), Origin::Default, "{key}");
        }
    }
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let loaded = inspect(&with_secrets(&[])).unwrap();
    for setting in SETTINGS.iter().filter(|setting| !setting.default.starts_with('(')) {
        if !setting.key.starts_with("nats.") {
            assert_eq!(shown(&loaded, setting.key), setting.default, "{}", setting.key);
        }
    }
    assert_eq!(Draft::default().nats.registry_bucket, "sluicegate");
    assert_eq!(loaded.settings.limits, Limits::default());
    assert_eq!(loaded.settings.listen.to_string(), "0.0.0.0:4444");
    assert!(loaded.settings.shards >= 1);
    assert!(matches!(loaded.settings.backend, BackendSettings::Local));
    assert_eq!(loaded.notices, []);
}

#[test]
fn flags_win_over_the_environment_over_aliases_over_the_file() {
    let (_dir, mut sources) = file("listen = \"10.0.0.1:1\"\ndriver = \"epoll\"\n[auth]\naccess_lifetime = \"1m\"");
    let listen = |sources: &Sources| inspect(sources).unwrap().settings.listen.to_string();
    assert_eq!(listen(&sources), "10.0.0.1:1");
    sources.environment.extend(env(&[("HTTP_PORT", "2"), ("JWT_EXPIRES_IN_MINUTES", "2")]));
    assert_eq!(listen(&sources), "10.0.0.1:2", "HTTP_PORT keeps the address");
    assert_eq!(inspect(&sources).unwrap().settings.auth.access_lifetime, Duration::from_secs(120));
    sources.environment.extend(env(&[("SLUICEGATE_LISTEN", "10.0.0.3:3")]));
    assert_eq!(listen(&sources), "10.0.0.3:3");
    sources.flags.push(("listen", "10.0.0.4:4".to_owned()));
    let loaded = inspect(&sources).unwrap();
    assert_eq!(loaded.settings.listen.to_string(), "10.0.0.4:4");
    assert_eq!(loaded.settings.driver, DriverChoice::Epoll);
    assert_eq!(loaded.origin("listen"), &Origin::Flag("--listen".to_owned()));
    assert!(loaded.origin("driver").to_string().ends_with("sluicegate.toml, line 2"));
}

#[test]
fn the_originals_names_work_also_in_quotes() {
    for (name, value, key, expect) in [
        ("HTTP_PORT", "\"5555\"", "listen", "\"0.0.0.0:5555\""),
        ("HTTP_PORT", "5555", "listen", "\"0.0.0.0:5555\""),
        ("JWT_EXPIRES_IN_MINUTES", "'15'", "auth.access_lifetime", "\"15m\""),
        ("REFRESH_JWT_EXPIRES_IN_MINUTES", "300", "auth.refresh_lifetime", "\"5h\""),
        ("ROOT_USER", "Admin", "auth.root_user", "\"admin\""),
        ("MEMPHIS_HOST", "memphis", "nats.url", "[\"nats://memphis:6666\"]"),
        ("MEMPHIS_HOST", "memphis:4222", "nats.url", "[\"nats://memphis:4222\"]"),
        ("MEMPHIS_HOST", "nats://m", "nats.url", "[\"nats://m:6666\"]"),
        ("USER_PASS_BASED_AUTH", "\"true\"", "driver", "\"auto\""),
        ("USER_PASS_BASED_AUTH", "true", "driver", "\"auto\""),
        ("SLUICEGATE_STATIONS_AUTO_CREATE", "\"false\"", "stations.auto_create", "false"),
        ("SLUICEGATE_SHARDS", "'3'", "shards", "3"),
        ("CLIENT_CERT_PATH", "", "driver", "\"auto\""),
        ("SLUICEGATE_DRIVER", "", "driver", "\"auto\""),
    ] {
        let loaded = inspect(&with_secrets(&[(name, value)])).map_err(|fault| fault.to_string());
        assert_eq!(loaded.map(|loaded| shown(&loaded, key)), Ok(expect.to_owned()), "{name}={value}");
    }
}

#[test]
fn what_the_original_ignored_or_did_wrongly_is_said() {
    for (name, value, word) in [
        ("HTTP_PORT", "0", "HTTP_PORT is"),
        ("HTTP_PORT", "70000", "from 1 to 65535"),
        ("JWT_SECRET", "", "JWT_SECRET is empty"),
        ("JWT_SECRET", "\"\"", "JWT_SECRET is empty"),
        ("REFRESH_JWT_SECRET", "", "REFRESH_JWT_SECRET is empty"),
        ("ROOT_PASSWORD", "", "ROOT_PASSWORD is empty"),
        ("SLUICEGATE_AUTH_ACCESS_KEY", "", "auth.access_key is empty"),
        ("JWT_EXPIRES_IN_MINUTES", "0", "whole number"),
        ("JWT_EXPIRES_IN_MINUTES", "153722868", "at most"),
        ("JWT_EXPIRES_IN_MINUTES", "soon", "whole number"),
        ("ROOT_USER", "a b", "User name"),
        ("USER_PASS_BASED_AUTH", "\"false\"", "connection-token mode"),
        ("USER_PASS_BASED_AUTH", "ja", "neither true nor false"),
        ("CLIENT_CERT_PATH", "/x", "CLIENT_CERT_PATH asks for TLS"),
        ("CLIENT_KEY_PATH", "/x", "CLIENT_KEY_PATH asks for TLS"),
        ("ROOT_CA_PATH", "/x", "ROOT_CA_PATH asks for TLS"),
        ("SLUICEGATE_NATS_URL", "tls://h", "TLS"),
        ("SLUICEGATE_LISTEM", "x", "did you mean SLUICEGATE_LISTEN?"),
        ("SLUICEGATE_LIMIT_HOLD", "1s", "did you mean SLUICEGATE_LIMITS_HOLD?"),
        ("SLUICEGATE_CONFIG", "/does/not/exist", "cannot be read"),
    ] {
        let mut sources = with_secrets(&[]);
        sources.environment.retain(|(known, _)| known != name);
        sources.environment.extend(env(&[(name, value)]));
        let text = inspect(&sources).map(|_| "no error").map_err(|fault| fault.to_string());
        assert!(text.as_ref().is_err_and(|text| text.contains(word)), "{name}={value}: {text:?}");
        assert!(text.is_err_and(|text| text.contains(name)), "{name}: the place is named");
    }
    for (name, word) in
        [("CONNECTION_TOKEN", "nats.token"), ("DEBUG", "log.filter"), ("SLUICEGATE_FROBNICATE", "no effect")]
    {
        let loaded = inspect(&with_secrets(&[(name, "x")])).unwrap();
        assert!(loaded.notices.iter().any(|notice| notice.text.contains(name) && notice.text.contains(word)), "{name}");
    }
}

#[test]
fn what_kubernetes_makes_for_a_service_of_our_name_is_passed_over() {
    let names = [
        "SLUICEGATE_SERVICE_HOST",
        "SLUICEGATE_SERVICE_PORT",
        "SLUICEGATE_SERVICE_PORT_HTTP",
        "SLUICEGATE_PORT",
        "SLUICEGATE_PORT_4444_TCP",
        "SLUICEGATE_PORT_4444_TCP_ADDR",
        "SLUICEGATE_NATS_PORT",
        "SLUICEGATE_NATS_SERVICE_HOST",
    ];
    let loaded = inspect(&with_secrets(&names.map(|name| (name, "tcp://10.0.0.1:4444")))).unwrap();
    assert_eq!(loaded.notices, []);
}

#[test]
fn an_unknown_key_is_an_error_that_names_its_line_and_the_nearest_known_one() {
    for (text, line, near) in [
        ("listne = \"x\"", 1, "did you mean listen?"),
        ("\n[limits]\nhodl = \"1s\"", 3, "did you mean limits.hold?"),
        ("[limit]\nhold = \"1s\"", 2, "did you mean limits.hold?"),
        ("[nats]\nurls = [\"a\"]", 2, "did you mean nats.url?"),
        ("hold = \"1s\"", 1, "did you mean limits.hold?"),
        ("[auth]\njwt_secret_of_mine_for_all = \"1s\"", 2, "docs/configuration.md"),
        ("zzzzzzzzzzzzzzzzzzzzzzzzzzz = 1", 1, "remove it"),
    ] {
        let (_dir, sources) = file(text);
        let fault = inspect(&sources).unwrap_err().to_string();
        assert!(fault.contains(&format!("line {line}\n")) && fault.contains(near), "{text}: {fault}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let (_dir, mut sources) = file("a = 1\nshards = 0\n[limits]\nhold = 5\nbody_bytes_max = \"1GiB\"");
    sources.environment.extend(env(&[("SLUICEGATE_DRIVER", "kqueue"), ("USER_PASS_BASED_AUTH", "false")]));
    sources.flags.push(("listen", "nowhere".to_owned()));
    let fault = inspect(&sources).unwrap_err();
    let text = fault.to_string();
    for word in [
        "there is no setting a",
        "shards is 0",
        "limits.hold is 5",
        "inflated_bytes_max",
        "kqueue",
        "token mode",
        "--listen",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(fault.problems.len(), 7, "{text}");
    assert!(fault.problems.iter().all(|problem| problem.origin.is_some() && !problem.remedy.is_empty()), "{text}");
}

#[test]
fn without_configured_secrets_only_loopback_is_served() {
    let check = |pairs: &[(&str, &str)]| inspect(&Sources { environment: env(pairs), ..Sources::default() });
    let listen = |pairs: &[(&str, &str)]| check(pairs).map(|loaded| loaded.settings.listen.to_string()).ok();
    let all = |more: (&'static str, &'static str)| [&SECRETS[..], &[more]].concat();
    assert_eq!(listen(&[]).as_deref(), Some("127.0.0.1:4444"));
    assert_eq!(listen(&SECRETS).as_deref(), Some("0.0.0.0:4444"));
    assert_eq!(listen(&SECRETS[..2]).as_deref(), Some("127.0.0.1:4444"));
    assert_eq!(listen(&[("HTTP_PORT", "5000")]).as_deref(), Some("127.0.0.1:5000"));
    assert_eq!(listen(&all(("HTTP_PORT", "5000"))).as_deref(), Some("0.0.0.0:5000"));
    for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
        for name in ["SLUICEGATE_LISTEN", "SLUICEGATE_ADMIN_LISTEN"] {
            assert!(check(&all((name, address))).is_ok(), "{name} {address}");
            for lacking in 0..3 {
                let mut pairs = all((name, address));
                let (secret, _) = pairs.remove(lacking);
                let fault = check(&pairs).unwrap_err().to_string();
                assert!(fault.contains(secret) && fault.contains("127.0.0.1") && fault.contains(name), "{fault}");
            }
        }
    }
    for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
        assert!(
            check(&[("SLUICEGATE_LISTEN", address), ("SLUICEGATE_ADMIN_LISTEN", "127.0.0.1:2")]).is_ok(),
            "{address}"
        );
    }
    for (listen, admin) in [("127.0.0.1:9", "127.0.0.1:9"), ("0.0.0.0:9", "127.0.0.1:9"), ("127.0.0.1:9", "0.0.0.0:9")]
    {
        let pairs = [&SECRETS[..], &[("SLUICEGATE_LISTEN", listen), ("SLUICEGATE_ADMIN_LISTEN", admin)]].concat();
        assert!(check(&pairs).is_err_and(|fault| fault.to_string().contains("same place")), "{listen} {admin}");
    }
}

#[test]
fn missing_secrets_are_made_once_kept_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut sources = Sources { flags: vec![("data_dir", data.display().to_string())], ..Sources::default() };
    load(&sources, Purpose::Inspect).unwrap();
    assert!(!data.exists(), "looking at a configuration writes nothing");
    sources.flags.push(("shards", "0".to_owned()));
    load(&sources, Purpose::Serve).unwrap_err();
    assert!(!data.exists(), "a failed start leaves nothing behind");
    sources.flags.pop();

    let (first, _) = Settings::load(&sources).unwrap();
    assert!(first.auth.generated);
    assert_eq!(first.auth.root_password.expose().len(), 24);
    assert_eq!(first.auth.access_key.expose().len(), 43);
    assert_ne!(first.auth.access_key, first.auth.refresh_key);
    let (second, _) = Settings::load(&sources).unwrap();
    assert_eq!(
        (&first.auth.root_password, &first.auth.access_key, &first.auth.refresh_key),
        (&second.auth.root_password, &second.auth.access_key, &second.auth.refresh_key),
    );
    sources.environment = env(&[("ROOT_PASSWORD", "configured now")]);
    let (third, _) = Settings::load(&sources).unwrap();
    assert_eq!((third.auth.root_password.expose(), third.auth.generated), ("configured now", true));
    assert_eq!(third.auth.access_key, first.auth.access_key);
    assert!(!fs::read_to_string(credentials_path(&data)).unwrap().contains("configured now"));
    let loaded = load(&sources, Purpose::Inspect).unwrap();
    assert!(loaded.origin("auth.access_key").to_string().contains("generated"), "{}", loaded.origin("auth.access_key"));
}

#[test]
fn a_credentials_file_that_others_can_read_stops_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources { flags: vec![("data_dir", dir.path().display().to_string())], ..Sources::default() };
    Settings::load(&sources).unwrap();
    fs::set_permissions(credentials_path(dir.path()), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Settings::load(&sources).is_err_and(|fault| fault.to_string().contains("chmod 600")));
    assert!(Settings::load(&with_secrets(&[])).is_ok(), "configured secrets need no file");
}

#[test]
fn weak_secrets_are_warned_about() {
    let warned = |name: &str, value: &str, word: &str| {
        let mut sources = with_secrets(&[]);
        sources.environment.retain(|(known, _)| known != name);
        sources.environment.extend(env(&[(name, value), ("SLUICEGATE_LISTEN", "127.0.0.1:4444")]));
        let notices = inspect(&sources).unwrap().notices;
        assert!(notices.iter().all(|notice| !notice.text.contains(value)), "{notices:?}");
        notices.iter().any(|notice| notice.level == NoticeLevel::Warning && notice.text.contains(word))
    };
    assert!(warned("JWT_SECRET", "an access key that has 31 bytes", "shorter than 32"));
    assert!(!warned("JWT_SECRET", "an access key which has 32 bytes", "shorter than 32"));
    assert!(warned("ROOT_PASSWORD", "seven..", "shorter than 8"));
    assert!(warned("ROOT_PASSWORD", "memphis", "documentation publishes"));
    assert!(warned("JWT_SECRET", "JWT_TEST_PURPOSE", "documentation publishes"));
    assert!(warned("JWT_SECRET", "a refresh key of at least 32 bytes", "are the same"));
    assert!(warned("JWT_SECRET", "\"an access key in quotes\"", "in quotes"));
}

#[test]
fn f12_where_others_reach_it_a_signing_key_has_at_least_32_bytes() {
    let checked = |name: &str, value: &str, listen: &str| {
        let mut sources = with_secrets(&[("SLUICEGATE_LISTEN", listen)]);
        sources.environment.retain(|(known, _)| known != name);
        sources.environment.extend(env(&[(name, value)]));
        inspect(&sources).map(drop).map_err(|fault| fault.to_string())
    };
    let (short, good) = ("an access key that has 31 bytes", "an access key which has 32 bytes");
    for (name, key) in [("JWT_SECRET", "auth.access_key"), ("REFRESH_JWT_SECRET", "auth.refresh_key")] {
        for listen in ["0.0.0.0:4444", "[::]:4444", "192.0.2.1:4444"] {
            for value in [short, "short", "JWT_TEST_PURPOSE"] {
                let fault = checked(name, value, listen).unwrap_err();
                assert!(fault.contains(key) && fault.contains("at least 32 bytes"), "{fault}");
                assert!(!fault.contains(value), "{fault}");
            }
            assert_eq!(checked(name, good, listen), Ok(()), "{listen}");
        }
        for listen in ["127.0.0.1:4444", "[::1]:4444", "[::ffff:127.0.0.1]:4444"] {
            assert_eq!(checked(name, short, listen), Ok(()), "{listen}");
        }
    }
}

#[test]
fn the_gateway_has_one_identity_at_the_broker() {
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let nkey = write("seed", &format!("# comment\n{seed}\n"));
    let creds = write(
        "creds",
        &format!(
            "-----BEGIN NATS USER JWT-----\neyJ.a.b\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ),
    );
    let broken = write("broken", "-----BEGIN NATS USER JWT-----\n------END NATS USER JWT------\nSUNOSEED\n");
    let check = |pairs: &[(&str, &str)]| -> Result<String, String> {
        let loaded = inspect(&with_secrets(pairs)).map_err(|fault| fault.to_string())?;
        let BackendSettings::Nats(nats) = loaded.settings.backend else { return Ok("local".to_owned()) };
        Ok(match nats.credential {
            NatsCredential::None => "none".to_owned(),
            NatsCredential::UserPassword(user, password) => format!("{user}:{}", password.expose()),
            NatsCredential::Token(token) => token.expose().to_owned(),
            NatsCredential::Nkey(secret) => (secret.expose() == seed).to_string(),
            NatsCredential::Creds { jwt, seed: secret } => format!("{} {}", jwt.expose(), secret.expose() == seed),
        })
    };
    let url = ("SLUICEGATE_NATS_URL", "nats://h");
    for (pairs, expect) in [
        (&[url][..], Ok("none")),
        (&[("SLUICEGATE_NATS_URL", "nats://u:p%40@h")], Ok("u:p@")),
        (&[url, ("SLUICEGATE_NATS_USER", "u"), ("SLUICEGATE_NATS_PASSWORD", "p")], Ok("u:p")),
        (&[url, ("SLUICEGATE_NATS_TOKEN", "t")], Ok("t")),
        (&[url, ("SLUICEGATE_NATS_NKEY_SEED_FILE", &nkey)], Ok("true")),
        (&[url, ("SLUICEGATE_NATS_CREDS_FILE", &creds)], Ok("eyJ.a.b true")),
        (&[("MEMPHIS_HOST", "m"), ("ROOT_USER", "boss")], Ok("boss:a root password")),
        (&[("MEMPHIS_HOST", "m"), ("SLUICEGATE_NATS_TOKEN", "t")], Ok("t")),
        (&[("MEMPHIS_HOST", "m"), url], Ok("none")),
        (&[url, ("SLUICEGATE_NATS_USER", "u")], Err("nats.password is not")),
        (&[url, ("SLUICEGATE_NATS_PASSWORD", "p")], Err("nats.user is not")),
        (&[("SLUICEGATE_NATS_TOKEN", "t")], Err("nats.url is not")),
        (&[("SLUICEGATE_NATS_MONITOR_URL", "http://h:8222")], Err("nats.url is not")),
        (&[url, ("SLUICEGATE_NATS_MONITOR_URL", "h:8222")], Err("no scheme")),
        (&[url, ("SLUICEGATE_NATS_PUBLISH_MODE", "fast")], Err("nats.publish_mode")),
        (
            &[("SLUICEGATE_NATS_URL", "nats://u:p@h"), ("SLUICEGATE_NATS_TOKEN", "t")],
            Err("2 times: nats.url, nats.token"),
        ),
        (&[url, ("SLUICEGATE_NATS_CREDS_FILE", "/does/not/exist")], Err("cannot be read")),
        (&[url, ("SLUICEGATE_NATS_CREDS_FILE", &broken)], Err("no .creds file")),
        (&[url, ("SLUICEGATE_NATS_NKEY_SEED_FILE", &broken)], Err("no user seed")),
    ] {
        match (check(pairs), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{pairs:?}"),
            (Err(fault), Err(word)) => assert!(fault.contains(word), "{pairs:?}: {fault}"),
            (found, _) => panic!("{pairs:?}: {found:?}"),
        }
    }
}

#[test]
fn the_printed_identity_says_where_it_comes_from() {
    let printed = |pairs: &[(&str, &str)]| inspect(&with_secrets(pairs)).unwrap().render();
    let text = printed(&[("SLUICEGATE_NATS_URL", "nats://u:p@h")]);
    for line in ["user = \"u\"", "password = \"********\"", "url = [\"nats://h:4222\"]"] {
        assert!(text.contains(&format!("\n{line}  # environment variable SLUICEGATE_NATS_URL\n")), "{text}");
    }
    let text = printed(&[("MEMPHIS_HOST", "h")]);
    assert!(text.contains("\npassword = \"********\"  # environment variable ROOT_PASSWORD\n"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed");
    fs::write(&path, nkeys::KeyPair::new_user().seed().unwrap()).unwrap();
    let path = path.display().to_string();
    let text = printed(&[("SLUICEGATE_NATS_URL", "h"), ("SLUICEGATE_NATS_NKEY_SEED_FILE", &path)]);
    assert!(
        text.contains(&format!("\nnkey_seed_file = \"{path}\"")) && text.contains("# creds_file is not set"),
        "{text}"
    );
}

#[test]
fn stations_follow_the_originals_rules() {
    for (key, value, expect) in [
        ("replicas", "0", "1"),
        ("replicas", "2", "3"),
        ("replicas", "4", "3"),
        ("replicas", "5", "5"),
        ("replicas", "6", "5"),
        ("duplicate_window", "\"0s\"", "\"2m\""),
        ("duplicate_window", "\"1ms\"", "\"100ms\""),
        ("duplicate_window", "\"1h\"", "\"1h\""),
        ("duplicate_window", "\"2h\"", "\"1h\""),
        ("partitions", "10000", "10000"),
    ] {
        let (_dir, sources) = file(&format!("[stations]\n{key} = {value}"));
        assert_eq!(shown(&inspect(&sources).unwrap(), &format!("stations.{key}")), expect, "{key} = {value}");
    }
    for text in
        ["partitions = 0", "partitions = 10001", "duplicate_window = \"25h\"", "storage = \"disk\"", "layout = \"x\""]
    {
        let (_dir, sources) = file(&format!("[stations]\n{text}"));
        assert!(inspect(&sources).is_err(), "{text}");
    }
}

#[test]
fn a_broken_relation_between_limits_is_an_error_at_its_place() {
    for (text, word) in [
        ("body_bytes_max = \"65MiB\"", "inflated_bytes_max"),
        ("head_bytes_max = 1", "at least 1024"),
        ("shard_body_bytes_max = \"5GiB\"", "under 4 GiB"),
        ("window_messages_max = 100000", "65536"),
        ("head_fields_max = 0", "whole number"),
        ("window_bytes_max = 0", "let nothing through"),
        ("body_bytes_max = 18446744073709551615", "neither text"),
        ("inflated_bytes_max = \"1024GiB\"", "shard_body_bytes_max"),
    ] {
        let (_dir, sources) = file(&format!("[limits]\n{text}"));
        let fault = inspect(&sources).unwrap_err().to_string();
        assert!(fault.contains(word), "{text}: {fault}");
    }
}

#[test]
fn what_is_printed_is_a_file_that_means_the_same() {
    let (_dir, sources) =
        file("[limits]\nhold = \"1s\"\n[nats]\nurl = \"nats://u:p@h:1\"\n[log]\nfilter = \"info,a=debug\"");
    let printed = inspect(&sources).unwrap().render();
    assert!(printed.contains("hold = \"1s\"  # ") && printed.contains("sluicegate.toml, line 2"), "{printed}");
    let (_dir, again) = file(&printed);
    let again = inspect(&again).map_err(|fault| fault.to_string()).unwrap().render();
    let values =
        |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&printed), values(&again));
}

#[test]
fn the_documentation_and_the_example_name_every_setting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let table = documentation();
    for line in table.lines() {
        assert!(docs.contains(line), "docs/configuration.md lacks this row:\n{line}\n\nthe whole table:\n{table}");
    }
    assert!(ALIASES.iter().all(|alias| docs.contains(alias.name)));

    // The example has every setting as a comment; without the comment signs it is a configuration.
    let example = fs::read_to_string(root.join("config.example.toml")).unwrap();
    let setting = |line: &'_ str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let bare = |line| if setting(line) { line.trim_start_matches('#') } else { line };
    let uncommented: Vec<&str> = example.lines().map(bare).collect();
    let mut problems = Vec::new();
    let written = file::File::parse(&uncommented.join("\n"), "config.example.toml", &mut problems);
    assert_eq!(problems, []);
    for entry in &written.entries {
        let setting = find(&entry.key).unwrap_or_else(|| panic!("{} is in the example and nowhere else", entry.key));
        assert!((setting.put)(&mut Draft::default(), &entry.value).is_ok(), "{}", entry.key);
        if !setting.default.starts_with('(') {
            assert_eq!(entry.value.shown(), setting.default, "{}: the example shows the default", entry.key);
        }
    }
    for setting in SETTINGS {
        assert!(written.entries.iter().any(|entry| entry.key == setting.key), "{} is not in the example", setting.key);
    }
    let (_dir, sources) = file(&example);
    assert!(inspect(&sources).is_ok(), "the example as it is works");
}

proptest! {
    #[test]
    fn no_secret_ever_shows(words in proptest::array::uniform5("[A-Za-z0-9]{12,40}"), broken in any::<bool>(), token in any::<bool>()) {
        let [password, access, refresh, broker, quoted] = &words;
        let text = format!(
            "listen = \"127.0.0.1:4444\"\n[auth]\nroot_password = \"{password}\"\naccess_key = \"{access}\"\n[nats]\n{}",
            if token { format!("token = \"{broker}\"\nurl = \"h\"") } else { format!("url = [\"nats://u:{broker}@h:1\", \"i\"]") },
        );
        let text = if broken { format!("{text}\n[limits]\nhold = \"soon\"\n[auth.x]\ny = {quoted}z") } else { text };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, text).unwrap();
        let sources = Sources { config: Some(path), environment: env(&[("REFRESH_JWT_SECRET", &format!("\"{refresh}\""))]), ..Sources::default() };
        let said = match load(&sources, Purpose::Serve) {
            Ok(loaded) => format!("{loaded:?}{}{:?}", loaded.render(), loaded.notices),
            Err(fault) => format!("{fault}{fault:?}"),
        };
        prop_assert_eq!(said.contains("problem"), broken);
        for word in &words {
            prop_assert!(!said.contains(word.as_str()), "{}", said);
        }
        let sources = format!("{sources:?}");
        prop_assert!(!sources.contains(refresh.as_str()));
    }
}

#[test]
fn r20_a_byte_order_mark_before_the_configuration_is_passed_over() {
    let (_dir, sources) = file("\u{feff}listen = \"127.0.0.1:4455\"\n");
    assert_eq!(shown(&inspect(&sources).unwrap(), "listen"), "\"127.0.0.1:4455\"");
}
