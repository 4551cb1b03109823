//! Which request headers are stored with a record, and as what. Pure.
//!
//! A header is stored if a rule of the allow-list takes it. Prefixes and suffixes take no credential, and nothing
//! personal unless they say so themselves; what the never-list names is not stored whatever the rules say
//! ([`super::never_stored`]). Each name is looked at once: a shard remembers what it found.
//!
//! A stored value is text on one line ([`nats::headers::text`]), so that whoever consumes can read it (ADR 19).

use super::{
    never_stored::{is_credential, is_credential_value, is_never_stored, is_personal},
    rules::HeaderRule,
};
use crate::{
    limits::{HEADER_NAME_KNOWN_BYTES_MAX, HEADER_NAMES_KNOWN_MAX, RECORD_HEADER_BYTES_MAX},
    reject::{Reject, SizeLimit},
    wire::nats,
};
use std::{borrow::Cow, cell::RefCell};

/// Stored in lower case, as their own specifications spell them (the NATS binding of `CloudEvents`, W3C Trace Context).
const LOWER_CASE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Types of JSON arrays, and the type of an element: what is stored of a batch is its elements.
const TYPES_OF_ARRAYS: [(&str, &str); 7] = [
    ("application/cloudevents-batch+json", "application/cloudevents+json"),
    ("application/x-ndjson", "application/json"),
    ("application/jsonl", "application/json"),
    ("application/json-seq", "application/json"),
    ("application/json-patch+json", "application/json"),
    ("application/reports+json", "application/json"),
    ("application/senml+json", "application/json"),
];

/// The allow-list.
#[derive(Debug, Clone, Default)]
pub struct HeaderPolicy {
    exact: Vec<String>,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    known: RefCell<KnownNames>,
}

/// What was found of names that requests had.
#[derive(Debug, Clone, Default)]
struct KnownNames {
    /// As they were sent.
    names: Vec<(Box<[u8]>, Option<Kept>)>,
    /// The one that goes next, once there is no room.
    oldest: usize,
}

/// How a field is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    /// `Name: `.
    begin: Box<str>,
    /// Whether its values are one list (RFC 9110, section 5.3); else each has a line.
    is_list: bool,
    /// Whether a value that is a credential is left out. Who names a header in full wants its value.
    is_searched: bool,
}

impl HeaderPolicy {
    /// Returns the policy of an allow-list.
    #[must_use]
    pub fn new(rules: &[HeaderRule]) -> Self {
        let mut policy = Self::default();
        for rule in rules {
            match rule {
                HeaderRule::Exact(name) => policy.exact.push(name.clone()),
                HeaderRule::Prefix(prefix) => policy.prefixes.push(prefix.clone()),
                HeaderRule::Suffix(suffix) => policy.suffixes.push(suffix.clone()),
            }
        }
        policy
    }

    /// Whether a field of this lower-cased name is stored.
    #[must_use]
    pub fn stores(&self, name: &str) -> bool {
        self.look_at(name.as_bytes()).is_some()
    }

    /// Appends the fields to store, `Name: value\r\n` each, to `block`. `of_elements`: the records are elements of the
    /// body.
    pub fn select<'a>(
        &self,
        fields: &(impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone),
        of_elements: bool,
        block: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        let mut known = self.known.borrow_mut();
        for (at, (name, value)) in fields.clone().enumerate() {
            let Some(kept) = known.find(name, || self.look_at(name)) else { continue };
            let is_same = |(other, _): &(&[u8], &[u8])| other.eq_ignore_ascii_case(name);
            if kept.is_list && fields.clone().take(at).any(|field| is_same(&field)) {
                continue;
            }
            let more =
                fields.clone().skip(at + 1).filter(|field| kept.is_list && is_same(field)).map(|(_, value)| value);
            let mut wanted = std::iter::once(value)
                .chain(more)
                .filter(|value| !(kept.is_searched && is_credential_value(value)))
                .peekable();
            if wanted.peek().is_none() {
                continue;
            }
            block.extend_from_slice(kept.begin.as_bytes());
            for (number, value) in wanted.enumerate() {
                if number > 0 {
                    block.extend_from_slice(b", ");
                }
                let value = nats::headers::text(value);
                let is_type = of_elements && name.eq_ignore_ascii_case(b"content-type");
                let value = if is_type { type_of_an_element(&value) } else { value };
                block.extend_from_slice(value.as_bytes());
            }
            block.extend_from_slice(b"\r\n");
            if block.len() > RECORD_HEADER_BYTES_MAX {
                return Err(Reject::TooLarge(SizeLimit::RecordHeaders, RECORD_HEADER_BYTES_MAX as u64));
            }
        }
        Ok(())
    }

    /// Whether and how a field of this name, in any letter case, is stored.
    fn look_at(&self, name: &[u8]) -> Option<Kept> {
        let lower: String = name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
        let is_named = self.exact.contains(&lower);
        let is_taken = || {
            // Whoever writes `x-forwarded-*` means what proxies say of a client.
            let takes = |rule: &str| !is_personal(&lower) || is_personal(rule);
            !is_credential(&lower)
                && (self.prefixes.iter().any(|prefix| lower.starts_with(prefix.as_str()) && takes(prefix))
                    || self.suffixes.iter().any(|suffix| lower.ends_with(suffix.as_str()) && takes(suffix)))
        };
        if is_never_stored(&lower) || !(is_named || is_taken()) {
            return None;
        }
        let mut begin = shown(&lower);
        begin.push_str(": ");
        Some(Kept {
            begin: begin.into_boxed_str(),
            // An attribute of an event, and a place in a trace, is one value: a list of them would be none.
            is_list: !lower.starts_with("ce-") && lower != "traceparent",
            is_searched: !is_named && !lower.contains("signature"),
        })
    }
}

impl KnownNames {
    /// What is known of a name, or is found of it now.
    fn find(&mut self, name: &[u8], look_at: impl FnOnce() -> Option<Kept>) -> Option<&Kept> {
        let at = match self.names.iter().position(|(known, _)| **known == *name) {
            Some(at) => at,
            None => self.insert(name, look_at()),
        };
        self.names.get(at).and_then(|(_, kept)| kept.as_ref())
    }

    fn insert(&mut self, name: &[u8], kept: Option<Kept>) -> usize {
        // A longer one takes the place of what was there, and is not found by itself.
        let name = if name.len() > HEADER_NAME_KNOWN_BYTES_MAX { &[][..] } else { name };
        if self.names.len() < HEADER_NAMES_KNOWN_MAX {
            self.names.push((name.into(), kept));
            return self.names.len() - 1;
        }
        let at = self.oldest;
        self.oldest = (at + 1) % HEADER_NAMES_KNOWN_MAX;
        if let Some(place) = self.names.get_mut(at) {
            *place = (name.into(), kept);
        }
        at
    }
}

/// The type of each record of a body that is of this type, with its parameters.
fn type_of_an_element(value: &str) -> Cow<'_, str> {
    let end = value.find(';').unwrap_or(value.len());
    let (kind, parameters) = value.split_at_checked(end).unwrap_or((value, ""));
    let of_array = |(array, _): &&(&str, &str)| array.eq_ignore_ascii_case(kind.trim_ascii_end());
    match TYPES_OF_ARRAYS.iter().find(of_array) {
        Some((_, element)) => Cow::Owned(format!("{element}{parameters}")),
        None => Cow::Borrowed(value),
    }
}

/// Canonical case (`Content-Type`), as the original stored it; lower case where the field's own specification wants
/// that.
fn shown(lower: &str) -> String {
    if lower.starts_with("ce-") || LOWER_CASE.contains(&lower) {
        return lower.to_owned();
    }
    let mut upper = true;
    let show = |char: char| {
        let shown = if upper { char.to_ascii_uppercase() } else { char };
        upper = char == '-';
        shown
    };
    lower.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> HeaderPolicy {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        HeaderPolicy {
            exact: owned(&["content-type", "traceparent", "tracestate", "x-gitlab-token", "x-real-ip"]),
            prefixes: owned(&["ce-", "x-"]),
            suffixes: owned(&["-signature"]),
            ..HeaderPolicy::default()
        }
    }

    fn selected(policy: &HeaderPolicy, fields: &[(&str, &[u8])]) -> String {
        let mut block = Vec::new();
        policy.select(&fields.iter().map(|(name, value)| (name.as_bytes(), *value)), false, &mut block).unwrap();
        String::from_utf8(block).unwrap()
    }

    #[test]
    fn credentials_and_what_the_broker_obeys_are_never_stored() {
        for (name, stored) in [
            ("content-type", true),
            ("ce-id", true),
            ("traceparent", true),
            ("x-github-event", true),
            ("x-debezium-key", true),
            ("stripe-signature", true),
            ("accept", false),
            ("authorization", false),
            ("cookie", false),
            ("proxy-authorization", false),
            ("proxy-signature", false),
            ("x-api-key", false),
            ("x-auth-user", false),
            ("x-auth", false),
            ("x-amz-security-token", false),
            ("x-client-secret", false),
            ("x-my-api-key", false),
            ("x-forwarded-for", false),
            ("nats-msg-id", false),
            ("nats-expected-last-sequence", false),
            ("nats-rollup", false),
            ("x-gitlab-token", true),
            ("x-real-ip", true),
        ] {
            assert_eq!(policy().stores(name), stored, "{name}");
        }
        let everything = HeaderPolicy { prefixes: vec![String::new()], ..HeaderPolicy::default() };
        for name in
            ["authorization", "nats-ttl", "content-length", "transfer-encoding", "host", "x-api-key", "forwarded"]
        {
            assert!(!everything.stores(name), "{name} is not stored by a prefix");
        }
        let forwarded = HeaderPolicy { prefixes: vec!["x-forwarded-".into()], ..HeaderPolicy::default() };
        assert!(forwarded.stores("x-forwarded-for") && !forwarded.stores("x-forwarded-authorization"));
        let named = HeaderPolicy { exact: vec!["authorization".into(), "nats-ttl".into()], ..HeaderPolicy::default() };
        for name in ["authorization", "nats-ttl"] {
            assert!(!named.stores(name), "{name} cannot be configured in");
        }
    }

    #[test]
    fn stored_names_are_canonical_however_often_they_were_seen() {
        let policy = policy();
        let fields: [(&str, &[u8]); 5] = [
            ("content-TYPE", b"application/json"),
            ("CE-Id", b"1"),
            ("Traceparent", b"00-a"),
            ("x-github-EVENT", b"push"),
            ("Accept", b"*/*"),
        ];
        for _ in 0..3 {
            assert_eq!(
                selected(&policy, &fields),
                "Content-Type: application/json\r\nce-id: 1\r\ntraceparent: 00-a\r\nX-Github-Event: push\r\n"
            );
            for number in 0..2 * HEADER_NAMES_KNOWN_MAX {
                let (name, long) =
                    (format!("X-N-{number}"), format!("X-{number}-{}", "n".repeat(HEADER_NAME_KNOWN_BYTES_MAX)));
                assert!(selected(&policy, &[(&name, b"1")]).starts_with("X-N-"), "{name}");
                assert!(selected(&policy, &[(&long, b"1")]).starts_with("X-"), "{long}");
                assert_eq!(selected(&policy, &[(&format!("X-Token-{number}"), b"1")]), "");
            }
        }
        let known = policy.known.borrow();
        assert_eq!(known.names.len(), HEADER_NAMES_KNOWN_MAX);
        assert!(known.names.iter().all(|(name, _)| name.len() <= HEADER_NAME_KNOWN_BYTES_MAX));
    }

    #[test]
    fn headers_to_store_are_bounded_as_they_are_stored() {
        for value in [vec![b'a'; RECORD_HEADER_BYTES_MAX], vec![0xfc; RECORD_HEADER_BYTES_MAX / 2]] {
            let fields: [(&[u8], &[u8]); 1] = [(b"x-a", &value)];
            let refused = policy().select(&fields.into_iter(), false, &mut Vec::new());
            assert_eq!(refused, Err(Reject::TooLarge(SizeLimit::RecordHeaders, RECORD_HEADER_BYTES_MAX as u64)));
        }
    }

    #[test]
    fn f14_a_repeated_field_keeps_all_its_values() {
        let fields: [(&str, &[u8]); 8] = [
            ("X-Tag", b"1"),
            ("X-Other", b"o"),
            ("x-tag", b"2"),
            ("ce-id", b"1"),
            ("ce-id", b"2"),
            ("X-TAG", b"J\xfc"),
            ("tracestate", b"a=b"),
            ("tracestate", b"c=d"),
        ];
        assert_eq!(
            selected(&policy(), &fields),
            "X-Tag: 1, 2, Jü\r\nX-Other: o\r\nce-id: 1\r\nce-id: 2\r\ntracestate: a=b, c=d\r\n"
        );
    }

    #[test]
    fn r3_f5_a_token_is_not_stored_under_any_name_but_one_that_is_configured() {
        let token: &[u8] = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        let fields: [(&str, &[u8]); 6] = [
            ("X-Thing", token),
            ("X-Original-Url", b"/stations/s/produce/single?authorization=abc"),
            ("X-Many", b"1"),
            ("X-Many", b"Bearer abcdefghijklmnop"),
            ("X-Webhook-Signature", token),
            ("X-Gitlab-Token", token),
        ];
        let token = String::from_utf8_lossy(token);
        let expect = format!("X-Many: 1\r\nX-Webhook-Signature: {token}\r\nX-Gitlab-Token: {token}\r\n");
        assert_eq!(selected(&policy(), &fields), expect);
    }

    #[test]
    fn r19_the_type_of_a_batch_is_not_its_records_type() {
        for (sent, stored) in [
            ("application/cloudevents-batch+json", "application/cloudevents+json"),
            ("application/x-ndjson", "application/json"),
            ("application/jsonl; charset=utf-8", "application/json; charset=utf-8"),
            ("application/json-seq", "application/json"),
            ("Application/CloudEvents-Batch+JSON ; charset=UTF-8", "application/cloudevents+json; charset=UTF-8"),
            ("application/reports+json", "application/json"),
            ("application/json; charset=utf-8", "application/json; charset=utf-8"),
            ("application/cloudevents+json", "application/cloudevents+json"),
            ("text/plain", "text/plain"),
        ] {
            for (of_elements, expect) in [(true, stored), (false, sent)] {
                let mut block = Vec::new();
                let fields: [(&[u8], &[u8]); 1] = [(b"Content-type", sent.as_bytes())];
                policy().select(&fields.into_iter(), of_elements, &mut block).unwrap();
                assert_eq!(String::from_utf8(block).unwrap(), format!("Content-Type: {expect}\r\n"));
            }
        }
    }
}
