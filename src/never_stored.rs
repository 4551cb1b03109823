//! Which request headers are never stored with a record, whatever the configuration says. Pure.
//!
//! Credentials, hop-by-hop fields, what frames or describes the request itself, everything that the broker
//! would obey, and what dead letters say of themselves. The configuration refuses rules that name them, and the data path holds to it.

/// Never stored by their whole name, lower-cased.
const NEVER: [&str; 22] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "msg-id",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
    "x-access-key",
    "x-api-key",
];

/// Whether a lower-cased name is on the never-list.
#[must_use]
pub fn is_never_stored(name: &str) -> bool {
    let credential = name.strip_prefix("x-").is_some_and(|rest| {
        rest.starts_with("auth") || rest.ends_with("token") || rest.ends_with("secret") || rest.ends_with("api-key")
    });
    let reserved = ["proxy-", "nats-", "sluicegate-"].iter().any(|prefix| name.starts_with(prefix));
    credential || reserved || NEVER.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_what_the_broker_obeys_are_never_stored() {
        for (name, never) in [
            ("authorization", true),
            ("x-auth-user", true),
            ("x-gitlab-token", true),
            ("x-client-secret", true),
            ("x-my-api-key", true),
            ("proxy-authorization", true),
            ("nats-rollup", true),
            ("sluicegate-dead-letter", true),
            ("x-token-count", false),
            ("x-github-event", false),
            ("content-type", false),
            ("naturally", false),
        ] {
            assert_eq!(is_never_stored(name), never, "{name}");
        }
    }
}
