//! Which request headers are stored with a record, and which header is its message id. Pure.
//!
//! A header is stored if a rule of the allow-list takes it and the never-list does not. The
//! never-list cannot be configured away: credentials, hop-by-hop fields, what frames the request,
//! and everything that the broker would obey.

use crate::{
    backend::MessageId,
    limits::{MESSAGE_ID_BYTES_MAX, RECORD_HEADER_BYTES_MAX},
    never_stored::is_never_stored,
    reject::{Reject, SizeLimit},
};

/// Fields that carry the message id, in the order in which they are looked for.
const MESSAGE_ID_FIELDS: [&str; 4] = ["idempotency-key", "msg-id", "webhook-id", "nats-msg-id"];

/// Stored in lower case, as their own specifications spell them (the NATS binding of `CloudEvents`, W3C Trace Context).
const LOWER_CASE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// The allow-list.
#[derive(Debug, Clone, Default)]
pub struct HeaderPolicy {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

impl HeaderPolicy {
    /// A policy of lower-cased exact names and prefixes.
    #[must_use]
    pub fn new(exact: Vec<String>, prefixes: Vec<String>) -> Self {
        Self { exact, prefixes }
    }

    /// Whether a field of this lower-cased name is stored.
    #[must_use]
    pub fn stores(&self, name: &str) -> bool {
        self.may_store(name.as_bytes()) && !is_never_stored(name)
    }

    /// Whether a rule of the allow-list takes a field of this name, in any letter case.
    fn may_store(&self, name: &[u8]) -> bool {
        let begins = |prefix: &String| {
            name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        self.exact.iter().any(|exact| name.eq_ignore_ascii_case(exact.as_bytes())) || self.prefixes.iter().any(begins)
    }

    /// Appends the fields to store, `Name: value\r\n` each, to `block`.
    pub fn select<'a>(
        &self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        block: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        for (name, value) in fields.filter(|(name, _)| self.may_store(name)) {
            let lower: String = name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
            if is_never_stored(&lower) {
                continue;
            }
            if block.len() + name.len() + value.len() + 4 > RECORD_HEADER_BYTES_MAX {
                return Err(Reject::TooLarge(SizeLimit::RecordHeaders, RECORD_HEADER_BYTES_MAX as u64));
            }
            push_name(&lower, block);
            block.extend_from_slice(b": ");
            block.extend_from_slice(value);
            block.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// The message id of a request: the first of the known fields that is present.
pub(super) fn message_id<'a>(
    field: impl Fn(&str) -> Option<&'a [u8]>,
    numbered: bool,
) -> Result<Option<MessageId<'a>>, Reject> {
    let Some(value) = MESSAGE_ID_FIELDS.iter().find_map(|name| field(name)) else { return Ok(None) };
    let base = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))
        .ok_or(Reject::MessageId("a message id is made of visible ASCII characters"))?;
    if base.is_empty() {
        return Err(Reject::MessageId("the message id is empty: leave the field out, or give each request its own"));
    }
    if base.len() > MESSAGE_ID_BYTES_MAX {
        return Err(Reject::MessageId("a message id has at most 256 bytes"));
    }
    Ok(Some(MessageId { base, numbered }))
}

/// Canonical case (`Content-Type`), as the original stored it; lower case where the field's own specification wants that.
fn push_name(lower: &str, block: &mut Vec<u8>) {
    if lower.starts_with("ce-") || LOWER_CASE.contains(&lower) {
        block.extend_from_slice(lower.as_bytes());
        return;
    }
    let mut upper = true;
    block.extend(lower.bytes().map(|byte| {
        let shown = if upper { byte.to_ascii_uppercase() } else { byte };
        upper = byte == b'-';
        shown
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> HeaderPolicy {
        HeaderPolicy::new(
            vec!["content-type".into(), "traceparent".into(), "tracestate".into()],
            vec!["ce-".into(), "x-".into()],
        )
    }

    #[test]
    fn credentials_and_what_the_broker_obeys_are_never_stored() {
        for (name, stored) in [
            ("content-type", true),
            ("ce-id", true),
            ("traceparent", true),
            ("x-github-event", true),
            ("x-debezium-key", true),
            ("accept", false),
            ("authorization", false),
            ("cookie", false),
            ("proxy-authorization", false),
            ("x-api-key", false),
            ("x-auth-user", false),
            ("x-auth", false),
            ("x-gitlab-token", false),
            ("x-amz-security-token", false),
            ("x-client-secret", false),
            ("x-my-api-key", false),
            ("nats-msg-id", false),
            ("nats-expected-last-sequence", false),
            ("nats-rollup", false),
        ] {
            assert_eq!(policy().stores(name), stored, "{name}");
        }
        let everything = HeaderPolicy::new(vec![], vec![String::new()]);
        for name in ["authorization", "nats-ttl", "content-length", "transfer-encoding", "host", "x-api-key"] {
            assert!(!everything.stores(name), "{name} cannot be configured in");
        }
    }

    #[test]
    fn stored_names_are_canonical() {
        let mut block = Vec::new();
        let fields: [(&[u8], &[u8]); 5] = [
            (b"content-TYPE", b"application/json"),
            (b"CE-Id", b"1"),
            (b"Traceparent", b"00-a"),
            (b"x-github-EVENT", b"push"),
            (b"Accept", b"*/*"),
        ];
        policy().select(fields.into_iter(), &mut block).unwrap();
        assert_eq!(
            String::from_utf8(block).unwrap(),
            "Content-Type: application/json\r\nce-id: 1\r\ntraceparent: 00-a\r\nX-Github-Event: push\r\n"
        );
    }

    #[test]
    fn headers_to_store_are_bounded() {
        let value = vec![b'a'; RECORD_HEADER_BYTES_MAX];
        let fields: [(&[u8], &[u8]); 1] = [(b"x-a", &value)];
        let refused = policy().select(fields.into_iter(), &mut Vec::new());
        assert_eq!(refused, Err(Reject::TooLarge(SizeLimit::RecordHeaders, RECORD_HEADER_BYTES_MAX as u64)));
    }

    #[test]
    fn the_first_known_field_is_the_message_id() {
        let check = |present: &[(&str, &'static str)], expect: Result<Option<&str>, ()>| {
            let found = message_id(
                |name| present.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_bytes()),
                false,
            );
            assert_eq!(found.map(|id| id.map(|id| id.base)).map_err(|_| ()), expect, "{present:?}");
        };
        check(&[], Ok(None));
        check(&[("nats-msg-id", "n")], Ok(Some("n")));
        check(&[("webhook-id", "w"), ("nats-msg-id", "n")], Ok(Some("w")));
        check(&[("msg-id", "m"), ("webhook-id", "w")], Ok(Some("m")));
        check(&[("idempotency-key", "\"k\""), ("msg-id", "m")], Ok(Some("\"k\"")));
        check(&[("msg-id", "")], Err(()));
        check(&[("msg-id", "é")], Err(()));
    }
}
