//! What a `-ERR` means: which of our subjects, and whether the server closes the connection after it.

use crate::limits::NATS_ERROR_BYTES_MAX;

/// A `-ERR`, by its text (without quotes). The server's words differ in letter case between versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerError {
    /// The credentials are wrong, or were not sent in time.
    AuthorizationViolation,
    /// The user's credentials have expired.
    UserAuthenticationExpired,
    /// The user's credentials were revoked.
    UserAuthenticationRevoked,
    /// The account's credentials have expired.
    AccountAuthenticationExpired,
    /// The user may not publish on, or subscribe to, this subject. The message was dropped.
    PermissionsViolation {
        /// What was denied.
        action: PermissionAction,
        /// The subject, as the server writes it.
        subject: Box<str>,
    },
    /// A message was larger than `max_payload`.
    MaximumPayload,
    /// The server, or the account, takes no more connections.
    MaximumConnections,
    /// We did not answer a `PING`.
    StaleConnection,
    /// We did not read fast enough.
    SlowConsumer,
    /// Something else: the text, at most [`NATS_ERROR_BYTES_MAX`] bytes of it.
    Other(Box<str>),
}

/// What a permissions violation denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionAction {
    /// Publishing on the subject.
    Publish,
    /// Publishing with this reply subject.
    Reply,
    /// Subscribing to the subject.
    Subscribe,
}

/// Texts that do not end the connection; whatever is not listed here or known above does.
const HARMLESS: [&str; 4] = [
    "invalid subject",
    "invalid publish subject",
    "maximum subscriptions exceeded",
    "subject has exceeded number of tokens limit",
];

impl ServerError {
    /// Classifies the text of a `-ERR`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let lower = text.to_ascii_lowercase();
        let is = |words: &str| lower.starts_with(words);
        if is("permissions violation") {
            return permissions(&text, &lower);
        }
        if is("authorization violation") || is("authentication timeout") {
            Self::AuthorizationViolation
        } else if is("user authentication expired") {
            Self::UserAuthenticationExpired
        } else if is("user authentication revoked") {
            Self::UserAuthenticationRevoked
        } else if is("account authentication expired") {
            Self::AccountAuthenticationExpired
        } else if is("maximum payload") {
            Self::MaximumPayload
        } else if is("maximum connections") || is("maximum account active connections") {
            Self::MaximumConnections
        } else if is("stale connection") {
            Self::StaleConnection
        } else if is("slow consumer") {
            Self::SlowConsumer
        } else {
            Self::Other(kept(&text))
        }
    }

    /// Whether the server closes the connection after this error.
    #[must_use]
    pub fn closes(&self) -> bool {
        match self {
            Self::PermissionsViolation { .. } => false,
            Self::Other(text) => {
                let lower = text.to_ascii_lowercase();
                !HARMLESS.iter().any(|known| lower.starts_with(known))
            }
            Self::AuthorizationViolation
            | Self::UserAuthenticationExpired
            | Self::UserAuthenticationRevoked
            | Self::AccountAuthenticationExpired
            | Self::MaximumPayload
            | Self::MaximumConnections
            | Self::StaleConnection
            | Self::SlowConsumer => true,
        }
    }
}

/// `Permissions Violation for Publish to "subject"`, and its sisters.
fn permissions(text: &str, lower: &str) -> ServerError {
    let action = if lower.contains("for publish with reply of") {
        PermissionAction::Reply
    } else if lower.contains("for subscription to") {
        PermissionAction::Subscribe
    } else {
        PermissionAction::Publish
    };
    // The subject stands in double quotes; a queue name in quotes may follow it.
    let subject = text.split('"').nth(1).unwrap_or_default();
    ServerError::PermissionsViolation { action, subject: subject.into() }
}

/// The beginning of a text, cut where a character ends.
fn kept(text: &str) -> Box<str> {
    let end =
        text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= NATS_ERROR_BYTES_MAX).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_by_their_text_and_say_whether_the_connection_ends() {
        use PermissionAction::{Publish, Reply, Subscribe};
        use ServerError as E;
        let denied = |action, subject: &str| E::PermissionsViolation { action, subject: subject.into() };
        for (text, expect, closes) in [
            ("Authorization Violation", E::AuthorizationViolation, true),
            ("Authentication Timeout", E::AuthorizationViolation, true),
            ("User Authentication Expired", E::UserAuthenticationExpired, true),
            ("User Authentication Revoked", E::UserAuthenticationRevoked, true),
            ("Account Authentication Expired", E::AccountAuthenticationExpired, true),
            (r#"Permissions Violation for Publish to "a.b""#, denied(Publish, "a.b"), false),
            (r#"permissions violation for publish to "A.b""#, denied(Publish, "A.b"), false),
            (r#"Permissions Violation for Publish with Reply of "r""#, denied(Reply, "r"), false),
            (r#"Permissions Violation for Subscription to "in.>""#, denied(Subscribe, "in.>"), false),
            (r#"Permissions Violation for Subscription to "in.>" using queue "q""#, denied(Subscribe, "in.>"), false),
            ("Permissions Violation", denied(Publish, ""), false),
            ("Maximum Payload Violation", E::MaximumPayload, true),
            ("maximum connections exceeded", E::MaximumConnections, true),
            ("maximum account active connections exceeded", E::MaximumConnections, true),
            ("Stale Connection", E::StaleConnection, true),
            ("Slow Consumer", E::SlowConsumer, true),
            ("Invalid Subject", E::Other("Invalid Subject".into()), false),
            ("Invalid Publish Subject", E::Other("Invalid Publish Subject".into()), false),
            ("maximum subscriptions exceeded", E::Other("maximum subscriptions exceeded".into()), false),
            ("Unknown Protocol Operation", E::Other("Unknown Protocol Operation".into()), true),
            ("Secure Connection - TLS Required", E::Other("Secure Connection - TLS Required".into()), true),
            ("", E::Other("".into()), true),
        ] {
            let parsed = E::parse(text.as_bytes());
            assert_eq!(parsed.closes(), closes, "{text}");
            assert_eq!(parsed, expect, "{text}");
        }
    }

    #[test]
    fn an_unknown_text_is_kept_in_part_and_never_cut_inside_a_character() {
        let long = "é".repeat(NATS_ERROR_BYTES_MAX);
        let ServerError::Other(text) = ServerError::parse(format!("x{long}").as_bytes()) else { unreachable!() };
        assert_eq!(text.len(), NATS_ERROR_BYTES_MAX - 1);
        assert!(matches!(ServerError::parse(&[0xff, 0xfe]), ServerError::Other(_)));
    }
}
