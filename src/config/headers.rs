//! Rules for stored headers, and the ones that are refused.
//!
//! The data path enforces the never-list whatever the rules say. A rule that names nothing but
//! forbidden headers would therefore do nothing: it is refused, so that nobody believes it works.

use super::{error::Bad, settings::HeaderRule};
use crate::never_stored::is_never_stored;

const RULES_MAX: usize = 256;

/// Parses the allow-list: names, or prefixes that end in `*`.
pub(super) fn parse(list: &[String]) -> Result<Vec<HeaderRule>, Bad> {
    if list.len() > RULES_MAX {
        return Err(Bad::new("has too many rules", format!("write at most {RULES_MAX}; a prefix ends in *")));
    }
    list.iter().map(|rule| parse_rule(rule)).collect()
}

/// A rule as it can be written again.
pub(super) fn show(rule: &HeaderRule) -> String {
    match rule {
        HeaderRule::Exact(name) => name.clone(),
        HeaderRule::Prefix(prefix) => format!("{prefix}*"),
    }
}

fn parse_rule(rule: &str) -> Result<HeaderRule, Bad> {
    let lower = rule.to_ascii_lowercase();
    let (name, prefix) = match lower.strip_suffix('*') {
        Some(name) => (name, true),
        None => (lower.as_str(), false),
    };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
    if !name.bytes().all(token) || (name.is_empty() && !prefix) {
        return Err(Bad::new(
            format!("has the rule {rule:?}, which is no header name"),
            "write names such as content-type, or prefixes such as ce-*",
        ));
    }
    if is_never_stored(name) {
        return Err(Bad::new(
            format!("has the rule {rule:?}, but such headers are never stored"),
            "remove the rule: credentials, hop-by-hop headers and Nats-* stay out of stored messages",
        ));
    }
    let name = name.to_owned();
    Ok(if prefix { HeaderRule::Prefix(name) } else { HeaderRule::Exact(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_are_lower_cased() {
        let list = ["Content-Type", "ce-*", "X-*", "*"].map(str::to_owned);
        let shown = parse(&list).map(|rules| rules.iter().map(show).collect::<Vec<_>>());
        assert_eq!(shown, Ok(["content-type", "ce-*", "x-*", "*"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_rule_that_names_what_is_never_stored_is_refused() {
        for rule in [
            "Authorization",
            "Cookie",
            "cookie*",
            "Proxy-Authorization",
            "proxy-*",
            "X-Api-Key",
            "x-auth-user",
            "X-Auth-*",
            "X-Csrf-Token",
            "x-hub-secret",
            "Connection",
            "TE",
            "Transfer-Encoding",
            "Nats-Msg-Id",
            "nats-*",
            "Nats-Expected-*",
        ] {
            assert!(parse(&[rule.to_owned()]).is_err_and(|bad| bad.wrong.contains("never stored")), "{rule}");
        }
        for rule in ["x-token-count", "x-tok*", "naturally", "ten", "x-*", "x-request-id"] {
            assert!(parse(&[rule.to_owned()]).is_ok(), "{rule}");
        }
        for rule in ["a b", "x-*-y", "ü", ":path", "a**"] {
            assert!(parse(&[rule.to_owned()]).is_err_and(|bad| bad.wrong.contains("no header name")), "{rule}");
        }
    }
}
