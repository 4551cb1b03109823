//! The names that the original read from the environment, and what becomes of them here.
//!
//! They stand below this product's own names: `SLUICEGATE_LISTEN` wins over `HTTP_PORT`. What has no
//! meaning here is taken note of; what would silently do something else than it says is refused.

use super::{
    draft::Draft,
    error::Bad,
    nats_url,
    table::{check_lifetime, find},
    value::Raw,
};
use std::time::Duration;

/// One of the original's variables.
pub(super) struct Alias {
    /// Its name.
    pub(super) name: &'static str,
    /// What becomes of it.
    pub(super) meaning: Meaning,
    /// The same for the documentation and the log.
    pub(super) help: &'static str,
}

/// What becomes of a variable of the original.
pub(super) enum Meaning {
    /// It is another name of this setting.
    Same(&'static str),
    /// It writes this setting, in another form.
    Converted(&'static str, fn(&mut Draft, &Raw) -> Result<(), Bad>),
    /// It writes nothing, but some of its values are refused.
    Checked(fn(&Raw) -> Result<(), Bad>),
    /// Nothing.
    Ignored,
}

impl Alias {
    /// The setting that it writes.
    pub(super) fn key(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Same(key) | Meaning::Converted(key, _) => Some(key),
            Meaning::Checked(_) | Meaning::Ignored => None,
        }
    }

    /// Whether its value must never be shown, and must not be empty.
    pub(super) fn secret(&self) -> bool {
        self.key().and_then(find).is_some_and(|setting| setting.secret)
    }

    /// Writes its value.
    pub(super) fn put(&self, draft: &mut Draft, raw: &Raw) -> Result<(), Bad> {
        match self.meaning {
            Meaning::Same(key) => find(key).map_or(Ok(()), |setting| (setting.put)(draft, raw)),
            Meaning::Converted(_, put) => put(draft, raw),
            Meaning::Checked(check) => check(raw),
            Meaning::Ignored => Ok(()),
        }
    }
}

/// All of them.
pub(super) static ALIASES: &[Alias] = &[
    Alias {
        name: "HTTP_PORT",
        meaning: Meaning::Converted("listen", http_port),
        help: "The port of `listen`; its IP address stays.",
    },
    same("JWT_SECRET", "auth.access_key"),
    same("REFRESH_JWT_SECRET", "auth.refresh_key"),
    Alias {
        name: "JWT_EXPIRES_IN_MINUTES",
        meaning: Meaning::Converted("auth.access_lifetime", |draft, raw| {
            draft.auth.access_lifetime = minutes(raw)?;
            Ok(())
        }),
        help: "The same in minutes.",
    },
    Alias {
        name: "REFRESH_JWT_EXPIRES_IN_MINUTES",
        meaning: Meaning::Converted("auth.refresh_lifetime", |draft, raw| {
            draft.auth.refresh_lifetime = minutes(raw)?;
            Ok(())
        }),
        help: "The same in minutes.",
    },
    same("ROOT_USER", "auth.root_user"),
    same("ROOT_PASSWORD", "auth.root_password"),
    Alias {
        name: "MEMPHIS_HOST",
        meaning: Meaning::Converted("nats.url", memphis_host),
        help: "The broker, at the original's port 6666 unless one is given. Unless `[nats]` says who the gateway is, it \
               logs in there with `auth.root_user` and `auth.root_password`, as the original did.",
    },
    Alias {
        name: "USER_PASS_BASED_AUTH",
        meaning: Meaning::Checked(user_pass_based_auth),
        help: "`true` is the only mode; `false`, the original's connection-token mode, is refused.",
    },
    Alias {
        name: "CONNECTION_TOKEN",
        meaning: Meaning::Ignored,
        help: "Ignored: clients log in with user and password; the broker's token is `nats.token`.",
    },
    tls("CLIENT_CERT_PATH"),
    tls("CLIENT_KEY_PATH"),
    tls("ROOT_CA_PATH"),
    Alias {
        name: "DEBUG",
        meaning: Meaning::Ignored,
        help: "Ignored: use `log.filter`. Bodies and passwords are never logged.",
    },
    Alias {
        name: "DEV_ENV",
        meaning: Meaning::Ignored,
        help: "Ignored: resource use is among the metrics of the admin listener.",
    },
    Alias { name: "CLOUD_ENV", meaning: Meaning::Ignored, help: "Ignored: there is no cloud mode." },
    Alias {
        name: "REST_GW_UPDATES_SUBJ",
        meaning: Meaning::Ignored,
        help: "Ignored: gateways send each other no credentials.",
    },
    Alias { name: "VERSION", meaning: Meaning::Ignored, help: "Ignored." },
];

const MEMPHIS_PORT: u16 = 6666;

const fn same(name: &'static str, key: &'static str) -> Alias {
    Alias { name, meaning: Meaning::Same(key), help: "The same setting." }
}

const fn tls(name: &'static str) -> Alias {
    let refuse: fn(&Raw) -> Result<(), Bad> = |_| {
        Err(Bad::new(
            "asks for TLS to the broker, which this version does not support",
            "remove it and reach the broker over a trusted network, or end TLS in a leaf node beside the gateway",
        ))
    };
    Alias { name, meaning: Meaning::Checked(refuse), help: "Refused: TLS to the broker is not supported yet." }
}

fn http_port(draft: &mut Draft, raw: &Raw) -> Result<(), Bad> {
    draft.listen_port = u16::try_from(raw.count(1, 65_535)?).ok();
    Ok(())
}

fn minutes(raw: &Raw) -> Result<Duration, Bad> {
    check_lifetime(Duration::from_secs(raw.count(1, u64::from(u32::MAX))? * 60), raw)
}

fn user_pass_based_auth(raw: &Raw) -> Result<(), Bad> {
    if raw.flag()? {
        return Ok(());
    }
    Err(Bad::new(
        "asks for connection-token mode, which is not supported (it stopped the original at the first request)",
        "remove it or set it to true, and let clients log in with a user name and a password",
    ))
}

fn memphis_host(draft: &mut Draft, raw: &Raw) -> Result<(), Bad> {
    let host = raw.text()?;
    let mut urls = nats_url::parse(std::slice::from_ref(&host))?;
    // The parser fills in 4222; whether a port was written, only the text says.
    let port_given = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    for server in &mut urls.servers {
        if !port_given {
            server.port = MEMPHIS_PORT;
        }
    }
    draft.nats.urls = Some(urls);
    draft.nats.from_memphis_host = true;
    Ok(())
}
