//! Which request headers are not stored with a record. Pure.
//!
//! Three kinds. What is *never* stored whatever the configuration says ([`is_never_stored`]): what the protocol itself uses, what
//! the broker would obey, and what dead letters say of themselves. *Credentials* ([`is_credential`]) and what tells where a person
//! is or who ([`is_personal`]) are stored only if the configuration names the header: `x-*` does not take them.
//!
//! Credentials are told by the words of a name, not by a list of names: whatever the next proxy calls its field has a word in it
//! that means one. Lists stand here only for what the words get wrong.

/// Never stored by their whole name, lower-cased.
const NEVER: [&str; 20] = [
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
];

/// Whether a lower-cased name is on the never-list.
#[must_use]
pub fn is_never_stored(name: &str) -> bool {
    ["proxy-", "nats-", "sluicegate-"].iter().any(|prefix| name.starts_with(prefix)) || NEVER.contains(&name)
}

/// Whether the words of a lower-cased name say that its value is a credential.
#[must_use]
pub(super) fn is_credential(name: &str) -> bool {
    if CREDENTIALS_BY_NAME.contains(&name) {
        return true;
    }
    if HARMLESS.contains(&name) || is_about_something_else(name) {
        return false;
    }
    let mut before = "";
    words(name).any(|word| {
        let means_one = means_a_credential(word) || is_secret_key(word, before);
        before = word;
        means_one
    })
}

/// Whether a lower-cased name is of a field by which proxies say where a client is, or who it is. (None adds attributes of events.)
#[must_use]
pub(super) fn is_personal(name: &str) -> bool {
    if name.starts_with("ce-") {
        return false;
    }
    let last = words(name).last().unwrap_or_default();
    let mut before = "";
    let says_where_or_who = words(name).any(|word| {
        let it_does = PERSONAL.contains(&word)
            || is_address(word, before)
            // What comes after it is the client's, but for where the request was sent to.
            || (word.starts_with("forwarded") && !FORWARDED_OF_THE_SERVER.contains(&last));
        before = word;
        it_does
    });
    says_where_or_who || ["x-remote-", "x-consumer-username"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a value holds a credential, whatever its field is called: a token, or a request's target with one in it (proxies keep the
/// original URL in fields of their own, and a token may stand in our query).
#[must_use]
pub(super) fn is_credential_value(value: &[u8]) -> bool {
    const IN_QUERY: &[u8] = b"authorization";
    let begins = |prefix: &[u8]| value.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    let scheme = [&b"bearer "[..], b"basic "].into_iter().find(|scheme| begins(scheme));
    let sent = scheme.and_then(|scheme| value.get(scheme.len()..));
    // One word that is no word of a language.
    let is_token = |text: &[u8]| text.len() >= 16 && !text.contains(&b' ');
    sent.is_some_and(is_token)
        || holds_a_jwt(value)
        || memchr::memmem::find(value, b"sgk_").is_some()
        || memchr::memchr_iter(b'=', value).any(|at| {
            let name = at.checked_sub(IN_QUERY.len()).and_then(|start| value.get(start..at));
            name.is_some_and(|name| name.eq_ignore_ascii_case(IN_QUERY))
        })
}

/// Whether a signed token stands in a value: a JSON object in base64url, a body and a signature. (A signature without its body, as
/// webhooks have it, is no token.)
fn holds_a_jwt(value: &[u8]) -> bool {
    let is_of_a_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    value.split(|byte| !is_of_a_token(byte)).any(|text| {
        let token = memchr::memmem::find(text, b"eyJ").and_then(|start| text.get(start..)).unwrap_or_default();
        token.split(|byte| *byte == b'.').take(3).filter(|part| !part.is_empty()).count() == 3
    })
}

/// Credentials under names that do not say so.
const CREDENTIALS_BY_NAME: [&str; 4] = ["x-honeycomb-team", "x-ha-access", "x-wsse", "x-macaroons"];

/// What the words take for a credential and is none: `CloudEvents` says in these who caused an event, and that no credential may
/// stand there; a certificate's address and the name of an algorithm belong to a signature.
const HARMLESS: [&str; 5] = ["ce-authtype", "ce-authid", "ce-authclaims", "paypal-cert-url", "paypal-auth-algo"];

/// Last words of names that count something, or sign it: a signature is no secret.
const ABOUT: [&str; 10] =
    ["count", "limit", "remaining", "total", "usage", "used", "signature", "signatures", "hmac", "digest"];

/// Words that mean a credential.
const CREDENTIAL_WORDS: [&str; 31] = [
    "apikey",
    "assertion",
    "auth",
    "bearer",
    "cert",
    "certificate",
    "cookie",
    "cred",
    "credential",
    "csrf",
    "hotp",
    "jwt",
    "kerberos",
    "mfa",
    "ntlm",
    "oauth",
    "oidc",
    "otp",
    "passcode",
    "passwd",
    "password",
    "pin",
    "principal",
    "psk",
    "pwd",
    "saml",
    "secret",
    "session",
    "token",
    "totp",
    "xsrf",
];

/// Words that mean a credential also inside of a longer word.
const CREDENTIAL_PARTS: [&str; 16] = [
    "accesskey",
    "apikey",
    "assertion",
    "bearer",
    "cookie",
    "credential",
    "oauth",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "sessid",
    "session",
    "token",
];

/// Words that mean a credential at either end of a longer word.
const CREDENTIAL_ENDS: [&str; 8] = ["auth", "csrf", "jwt", "oidc", "otp", "principal", "pwd", "xsrf"];

/// Words that only look like one.
const OTHER_WORDS: [&str; 21] = [
    "author",
    "authored",
    "authoring",
    "authority",
    "authorities",
    "authors",
    "authorship",
    "concert",
    "donkey",
    "hockey",
    "hotkey",
    "jockey",
    "obsession",
    "possession",
    "secretariat",
    "secretary",
    "surveymonkey",
    "monkey",
    "turkey",
    "turnkey",
    "whiskey",
];

/// Keys of data: what stands before "key" in the name of a field that opens nothing.
const KEYS_OF_DATA: [&str; 25] = [
    "business",
    "cache",
    "correlation",
    "debezium",
    "dedup",
    "dedupe",
    "deduplication",
    "document",
    "event",
    "foreign",
    "idempotency",
    "kafka",
    "message",
    "msg",
    "object",
    "ordering",
    "partition",
    "primary",
    "public",
    "record",
    "routing",
    "row",
    "shard",
    "sort",
    "surrogate",
];

const PERSONAL: [&str; 13] = [
    "addr",
    "citylatlong",
    "dn",
    "geoip",
    "identity",
    "ip",
    "ipaddress",
    "ips",
    "ipv",
    "latlong",
    "proxied",
    "remoteaddr",
    "userinfo",
];

/// Before "ip" or "address".
const WHOSE_ADDRESS: [&str; 12] = [
    "client",
    "connecting",
    "external",
    "origin",
    "originating",
    "peer",
    "proxy",
    "real",
    "remote",
    "socket",
    "source",
    "user",
];

/// `X-Forwarded-…` that say where the request was sent to, and nothing of the client.
const FORWARDED_OF_THE_SERVER: [&str; 12] =
    ["authority", "host", "method", "path", "port", "prefix", "proto", "protocol", "scheme", "server", "ssl", "uri"];

/// The words of a name: what stands between hyphens, underscores and the like, without numbers behind it (`oauth2`, `token1`).
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|char: char| !char.is_ascii_alphanumeric())
        .map(|word| word.trim_end_matches(|char: char| char.is_ascii_digit()))
        .filter(|word| !word.is_empty())
}

/// Whether the last word of a name (behind which a version or an algorithm may stand) says that it is a number or a signature.
fn is_about_something_else(name: &str) -> bool {
    let is_version = |word: &str| matches!(word, "v" | "sha" | "ed" | "jwt" | "version" | "timestamp" | "nonce");
    words(name).filter(|word| !is_version(word)).last().is_some_and(|word| ABOUT.contains(&word))
}

fn means_a_credential(word: &str) -> bool {
    let one = word.strip_suffix('s').unwrap_or(word);
    if OTHER_WORDS.contains(&word) || ["tokeniz", "tokenis"].iter().any(|begin| word.starts_with(begin)) {
        return false;
    }
    CREDENTIAL_WORDS.contains(&word)
        || CREDENTIAL_WORDS.contains(&one)
        || matches!(word, "pass" | "pw")
        || CREDENTIAL_PARTS.iter().any(|part| word.contains(part))
        || CREDENTIAL_ENDS.iter().any(|end| word.starts_with(end) || one.ends_with(end))
        || ["cert", "creds", "certificate"].iter().any(|end| word.ends_with(end))
}

/// Whether a word is a key, or ends with one, and not with a key of data.
fn is_secret_key(word: &str, before: &str) -> bool {
    let stem = word.strip_suffix("id").unwrap_or(word);
    let stem = stem.strip_suffix('s').unwrap_or(stem);
    let Some(stem) = stem.strip_suffix("key") else { return false };
    let whose = if stem.is_empty() { before } else { stem };
    !OTHER_WORDS.contains(&word) && !KEYS_OF_DATA.iter().any(|data| whose.ends_with(data))
}

fn is_address(word: &str, before: &str) -> bool {
    let run_together = |end: &str| word.strip_suffix(end).is_some_and(|stem| WHOSE_ADDRESS.contains(&stem));
    run_together("ip") || run_together("address") || (word == "address" && WHOSE_ADDRESS.contains(&before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_obeys_is_never_stored() {
        for (name, never) in [
            ("authorization", true),
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

    /// What proxies, gateways, identity services and clients put a credential into.
    const CREDENTIALS: &str = "
        x-functions-key x-goog-iap-jwt-assertion x-apikey x-secret-key x-password x-forwarded-authorization
        x-original-authorization x-jwt x-jwt-assertion x-amzn-oidc-data x-amzn-oidc-accesstoken x-amzn-oidc-identity
        x-private-key x-session-id x-cookie x-bearer x-ms-client-principal x-ms-client-principal-id x-otp
        x-ms-token-aad-id-token x-ms-token-aad-access-token x-ms-token-google-refresh-token x-zumo-auth
        x-serverless-authorization x-goog-authenticated-user-email x-goog-iam-authorization-token x-goog-api-key
        x-goog-channel-token x-amz-security-token x-amz-credential x-amzn-mtls-clientcert
        x-forwarded-access-token x-auth-request-access-token x-auth-request-email x-auth-token x-auth-user x-auth
        x-webauth-user x-authentik-username x-authenticated-userid x-credential-identifier x-id-token x-access-token
        x-refresh-token x-userauth x-pomerium-jwt-assertion x-pomerium-authorization cf-access-jwt-assertion
        cf-access-client-secret cf-access-token cf-authorization ocp-apim-subscription-key x-vault-token x-consul-token
        x-nomad-token x-okta-session x-okta-xsrftoken x-api-key x-api-keys x_api_key xapikey api-key x-my-api-key
        x-rapidapi-key x-rapidapi-proxy-secret x-parse-rest-api-key x-parse-master-key x-algolia-api-key x-shopify-access-token
        x-gitlab-token x-github-otp x-gitea-otp x-hub-secret x-hook-secret x-client-secret x-csrf-token x-csrftoken
        x-xsrf-token x-csrf x-xsrf x-plex-token x-emby-authorization x-sentry-auth x-license-key x-insert-key
        x-telegram-bot-api-secret-token x-hasura-admin-secret x-forwarded-client-cert x-client-cert x-arr-clientcert
        x-ssl-client-cert x-wsse x-honeycomb-team x-user-token x-usertoken x-authtoken x-xauthtoken x-acmetoken
        x-tokenid x-passwd x-pwd x-userpwd x-passphrase x-db-password x-dbpassword x-proxy-pass x-credentials x-creds
        x-awscreds x-oauth2-token x-oauth2 x-oauth-scopes x-sessionid x-phpsessid x-saml-response x-saml-assertion x-totp
        x-mfa-code x-pin-code x-psk x-principal x-principal-name x-bearer-token x-token1 x-token-2 x-keys x-accesskey
        x-access-key-id x-hmac-key x-signing-key x-signature-key x-encryption-key x-appkey x-master-key x-cookies
        x-secret-partition-key x-datadog-api-key x-figma-token x-kong-admin-token ce-apikey ce-authtoken svix-secret
        sm-apikey x-azure-sas-token x-ms-authorization-auxiliary x-envoy-auth-partial-body x-tyk-authorization
        x-apigee-secret x-traefik-auth-user x-tailscale-token x-ntlm";

    /// What is stored with a record, because it is none.
    const OTHERS: &str = "
        content-type ce-id ce-type ce-partitionkey ce-authtype ce-authid ce-authclaims traceparent tracestate
        x-github-event x-github-delivery x-hub-signature x-hub-signature-256 x-request-id x-correlation-id x-trace
        x-debezium-key x-debeziumkey x-event-key x-idempotency-key x-partition-key x-routing-key x-kafka-message-key
        x-goog-pubsub-ordering-key x-surrogate-key x-message-key x-public-key x-token-count x-tokens-remaining
        x-ratelimit-limit x-ratelimit-tokens-remaining x-session-count x-author x-authors x-forwarded-authority
        x-keyboard x-keyword x-keycloak-realm x-monkey x-surveymonkey-event x-turkey-id x-tokenizer x-tokenized
        x-secretary x-possession x-concert-id x-compass-id x-passenger-id x-passthrough x-hotspot x-laptop-id
        x-shopify-hmac-sha256 x-shopify-topic x-slack-signature x-slack-request-timestamp x-twilio-signature
        x-twilio-email-event-webhook-signature x-twilio-email-event-webhook-timestamp x-square-hmacsha256-signature
        x-zm-signature x-zm-request-timestamp x-signature-ed25519 x-signature-timestamp x-auth-signature
        x-authy-signature x-authy-signature-nonce x-docusign-signature-1 x-hubspot-signature-v3 x-ld-signature
        x-b3-traceid x-b3-spanid x-b3-sampled x-cloud-trace-context x-amzn-trace-id x-datadog-trace-id x-ot-span-context
        x-envoy-expected-rq-timeout-ms x-envoy-attempt-count x-forwarded-proto x-amz-date x-amz-content-sha256
        x-amz-sns-message-id x-amz-sns-topic-arn x-goog-message-number x-goog-resource-state x-requested-with
        x-tenant-id x-account-id x-user-id x-kong-request-id x-vault-namespace x-content-type-options x-priority
        webhook-id webhook-timestamp webhook-signature svix-id svix-signature stripe-signature linear-signature
        paypal-transmission-sig paypal-cert-url paypal-auth-algo sentry-hook-signature messagebird-signature-jwt
        x-kind x-tag x-empty x-lower x-1 x-shipping-method x-principle x-pinned x-bypass-cache";

    #[test]
    fn r3_f5_a_name_with_a_word_that_means_a_credential_is_one() {
        for name in CREDENTIALS.split_whitespace() {
            assert!(is_credential(name), "{name} is a credential");
        }
    }

    #[test]
    fn r3_f5_fields_without_a_credential_stay() {
        for name in OTHERS.split_whitespace() {
            assert!(!is_credential(name), "{name} is no credential");
            assert!(!is_personal(name), "{name} says nothing of a person");
        }
    }

    #[test]
    fn r3_f5_where_a_client_is_and_who_is_personal() {
        for name in
            "forwarded x-forwarded-for x-forwarded x-real-ip x-realip true-client-ip cf-connecting-ip x-client-ip
            x-clientip x-cluster-client-ip x-original-forwarded-for x-envoy-external-address x-azure-clientip
            x-azure-socketip x-appengine-user-ip x-appengine-citylatlong fastly-client-ip x-proxyuser-ip x-remote-addr
            x-remote-ip x-vercel-forwarded-for x-vercel-proxied-for x-vercel-ip-city x-nf-client-connection-ip
            x-originating-ip x-forwarded-user x-forwarded-email x-forwarded-preferred-username x-forwarded-groups
            x-forwarded-by x-remote-user x-remote-group x-remote-extra-scopes x-endpoint-api-userinfo x-userinfo
            x-rh-identity x-ssl-client-s-dn x-consumer-username x-peer-address"
                .split_whitespace()
        {
            assert!(is_personal(name), "{name}");
        }
        for name in "x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-server
            x-forwarded-uri x-original-method ce-clientip x-email-address x-wallet-address x-chip-id x-shipment-id x-equip x-zip"
            .split_whitespace()
        {
            assert!(!is_personal(name), "{name}");
        }
    }

    #[test]
    fn r3_f5_a_token_is_one_under_any_name() {
        for value in [
            "Bearer eyJhbGciOiJIUzI1NiJ9",
            "basic dXNlcjpwYXNzd29yZA==",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "sgk_abcdefghijkl_secret",
            "/stations/s/produce/single?authorization=eyJhbGciOi",
            "https://gw/stations/s/produce/single?x=1&Authorization=none",
            "/in?next=%2Fstations%3Fauthorizatio%6E%3DeyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl%26",
            "/in?key=sgk_abcdefghijkl_secret",
        ] {
            assert!(is_credential_value(value.as_bytes()), "{value}");
        }
        for value in [
            "",
            "Basic plan of a customer",
            "basic",
            "Bearer of good news today",
            "eyJhbGciOiJFUzI1NiJ9..c2lnbmF0dXJl",
            "eyJub3QiOiJhIHRva2VuIn0=",
            "eyJ and. so. on",
            "eyJhbGciOiJFUzI1NiJ9.",
            "a.b.c eyJ",
            "/stations/s/produce/single?x=1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_credential_value(value.as_bytes()), "{value}");
        }
    }
}
