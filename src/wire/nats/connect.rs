//! What we say of ourselves in `CONNECT`. Holds secrets: its `Debug` shows none.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use std::fmt;

/// The argument of `CONNECT`. What is `None` is not sent.
#[derive(Clone, Serialize)]
pub struct Connect<'a> {
    /// `+OK` after every operation: never wanted.
    pub verbose: bool,
    /// Stricter checks of subjects by the server.
    pub pedantic: bool,
    /// Whether this side insists on TLS.
    pub tls_required: bool,
    /// What an operator sees beside the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// Language of the client.
    pub lang: &'a str,
    /// Version of the client.
    pub version: &'a str,
    /// 1: `INFO` may come again at any time.
    pub protocol: u8,
    /// Whether our own publishes come back on our own subscriptions.
    pub echo: bool,
    /// `HPUB` and `HMSG`.
    pub headers: bool,
    /// Answer 503 at once when no one listens. Needs `headers`.
    pub no_responders: bool,
    /// User and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// Password of `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<&'a str>,
    /// Token, instead of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<&'a str>,
    /// Public nkey, with `sig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<&'a str>,
    /// User JWT (of a `.creds` file), with `sig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<&'a str>,
    /// The signed nonce, as [`signature_text`] writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<&'a str>,
}

impl Default for Connect<'_> {
    fn default() -> Self {
        Self {
            verbose: false,
            pedantic: false,
            tls_required: false,
            name: None,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            echo: true,
            headers: true,
            no_responders: true,
            user: None,
            pass: None,
            auth_token: None,
            nkey: None,
            jwt: None,
            sig: None,
        }
    }
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = [
            ("password", self.pass.is_some()),
            ("token", self.auth_token.is_some()),
            ("nkey", self.nkey.is_some()),
            ("jwt", self.jwt.is_some()),
        ];
        let by = by.into_iter().find(|(_, set)| *set).map_or("nothing", |(kind, _)| kind);
        formatter
            .debug_struct("Connect")
            .field("name", &self.name)
            .field("authenticates_by", &by)
            .finish_non_exhaustive()
    }
}

/// A signature as `sig` carries it: base64url without padding.
#[must_use]
pub fn signature_text(signature: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let connect = Connect {
            user: Some("u-secret"),
            pass: Some("p-secret"),
            auth_token: Some("t-secret"),
            jwt: Some("j-secret"),
            sig: Some("s-secret"),
            name: Some("gateway"),
            ..Connect::default()
        };
        let shown = format!("{connect:?} {connect:#?}");
        assert!(shown.contains("gateway") && shown.contains("password"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_signature_is_base64url_without_padding() {
        assert_eq!(signature_text(&[0xfb, 0xff, 0xfe, 0x01]), "-__-AQ");
    }
}
