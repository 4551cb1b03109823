//! Rules for stored headers, and the ones that are refused.
//!
//! The data path enforces the never-list whatever the rules say, and stores credentials only by rules that name them in full. A rule
//! that names nothing but forbidden headers would therefore do nothing: it is refused, so that nobody believes it works.

use super::never_stored::{is_credential, is_never_stored};
use crate::limits::HEADER_RULES_MAX;
use std::fmt;

/// A rule of the allow-list of stored headers, lower-cased: a name, or its beginning or end with `*` for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderRule {
    /// This field.
    Exact(String),
    /// Fields that begin so.
    Prefix(String),
    /// Fields that end so.
    Suffix(String),
}

/// Why a list of rules is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRule {
    /// What is wrong; it follows the name of the list.
    pub wrong: String,
    /// What to do.
    pub remedy: String,
}

impl InvalidRule {
    fn new(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), remedy: remedy.into() }
    }
}

/// What is stored unless the configuration says otherwise. Beside `x-*`: what webhooks are signed with, since a consumer can check a
/// signature only with the fields that it was made of.
pub const DEFAULT_RULES: [&str; 27] = [
    "content-type",
    "ce-*",
    "traceparent",
    "tracestate",
    "x-*",
    "webhook-*",
    "svix-*",
    "*-signature",
    "signature",
    "signature-input",
    "content-digest",
    "digest",
    "box-*",
    "github-public-key-*",
    "heroku-webhook-*",
    "klaviyo-*",
    "linear-*",
    "lob-signature-*",
    "messagebird-*",
    "paypal-transmission-*",
    "paypal-cert-url",
    "paypal-auth-algo",
    "plaid-verification",
    "sentry-hook-*",
    "smartsheet-hmac-*",
    "telnyx-*",
    "twitch-eventsub-*",
];

impl HeaderRule {
    /// Parses the allow-list: names, beginnings that end in `*`, ends that begin with it.
    pub fn parse_list(list: &[String]) -> Result<Vec<Self>, InvalidRule> {
        if list.len() > HEADER_RULES_MAX {
            let remedy = format!("write at most {HEADER_RULES_MAX}; a prefix ends in *");
            return Err(InvalidRule::new("has too many rules", remedy));
        }
        list.iter().map(|rule| parse_rule(rule)).collect()
    }

    /// Returns the rule that a text is: a name, lower-cased, or its beginning or end. Whether it makes sense is not
    /// looked at.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        match (lower.strip_suffix('*'), lower.strip_prefix('*')) {
            (Some(prefix), _) => Self::Prefix(prefix.to_owned()),
            (None, Some(suffix)) => Self::Suffix(suffix.to_owned()),
            (None, None) => Self::Exact(lower),
        }
    }
}

impl fmt::Display for HeaderRule {
    /// Writes the rule as it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

fn parse_rule(text: &str) -> Result<HeaderRule, InvalidRule> {
    let rule = HeaderRule::of(text);
    // A rule of which every name is a credential does nothing: what is cut off must not end or begin in the middle of a word.
    let (name, names_secrets) = match &rule {
        HeaderRule::Exact(name) => (name, false),
        HeaderRule::Prefix(name) => (name, name.ends_with(['-', '_']) && is_credential(name)),
        HeaderRule::Suffix(name) => (name, is_credential(name)),
    };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
    if !name.bytes().all(token) || (name.is_empty() && !matches!(rule, HeaderRule::Prefix(_))) {
        return Err(InvalidRule::new(
            format!("has the rule {text:?}, which is no header name"),
            "write names such as content-type, or ce-* or *-signature",
        ));
    }
    if is_never_stored(name) {
        return Err(InvalidRule::new(
            format!("has the rule {text:?}, but such headers are never stored"),
            "remove the rule: Authorization, cookies, hop-by-hop headers and Nats-* stay out of stored messages",
        ));
    }
    if names_secrets {
        return Err(InvalidRule::new(
            format!("has the rule {text:?}, but by such a rule credentials are never stored"),
            "remove the rule, or name each header in full",
        ));
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_are_lower_cased() {
        let list = ["Content-Type", "ce-*", "X-*", "*", "*-Signature"].map(str::to_owned);
        let shown = |list: &[String]| {
            HeaderRule::parse_list(list).map(|rules| rules.iter().map(HeaderRule::to_string).collect::<Vec<_>>())
        };
        assert_eq!(shown(&list), Ok(["content-type", "ce-*", "x-*", "*", "*-signature"].map(str::to_owned).to_vec()));
        let default = DEFAULT_RULES.map(str::to_owned);
        assert_eq!(shown(&default), Ok(default.to_vec()));
    }

    #[test]
    fn a_rule_that_names_what_is_never_stored_is_refused() {
        for rule in [
            "Authorization",
            "Cookie",
            "cookie*",
            "Proxy-Authorization",
            "proxy-*",
            "X-Auth-*",
            "x-session-*",
            "*-token",
            "*-Api-Key",
            "Connection",
            "TE",
            "Transfer-Encoding",
            "Nats-Msg-Id",
            "nats-*",
            "Nats-Expected-*",
        ] {
            assert!(
                HeaderRule::parse_list(&[rule.to_owned()]).is_err_and(|bad| bad.wrong.contains("never stored")),
                "{rule}"
            );
        }
        let in_full = ["X-Api-Key", "x-auth-user", "X-Csrf-Token", "x-hub-secret", "X-Forwarded-For", "Forwarded"];
        for rule in
            ["x-token-count", "x-tok*", "x-auth*", "naturally", "ten", "x-*", "x-request-id"].iter().chain(&in_full)
        {
            assert!(HeaderRule::parse_list(&[(*rule).to_owned()]).is_ok(), "{rule}");
        }
        for rule in ["a b", "x-*-y", "ü", ":path", "a**", "**", "*a*"] {
            assert!(
                HeaderRule::parse_list(&[rule.to_owned()]).is_err_and(|bad| bad.wrong.contains("no header name")),
                "{rule}"
            );
        }
    }
}
