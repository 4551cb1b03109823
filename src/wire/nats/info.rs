//! What the broker says of itself in `INFO`: at the start, and again whenever it changes.
//!
//! Read leniently: unknown fields are passed over, missing ones and `null` have their defaults. Not on the
//! path of a record.

use serde::{Deserialize, Deserializer};

/// The parts of `INFO` that matter to us.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Identity of this server process.
    #[serde(deserialize_with = "or_default")]
    pub server_id: String,
    /// Name of the server.
    #[serde(deserialize_with = "or_default")]
    pub server_name: String,
    /// `2.15.1`.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// Level of the client protocol; 1 and above send `INFO` again when something changes.
    #[serde(deserialize_with = "or_default")]
    pub proto: i64,
    /// Number of this connection on the server.
    #[serde(deserialize_with = "or_default")]
    pub client_id: u64,
    /// Bytes of headers and payload that one message may have. A larger one costs the connection.
    #[serde(deserialize_with = "or_default")]
    pub max_payload: i64,
    /// Whether `HPUB` is understood.
    #[serde(deserialize_with = "or_default")]
    pub headers: bool,
    /// Whether the server has JetStream.
    #[serde(deserialize_with = "or_default")]
    pub jetstream: bool,
    /// Level of the JetStream API (2.11 and above; 0 before).
    #[serde(deserialize_with = "or_default")]
    pub api_lvl: u32,
    /// Whether `CONNECT` must carry credentials.
    #[serde(deserialize_with = "or_default")]
    pub auth_required: bool,
    /// Whether the connection must be upgraded to TLS before `CONNECT`.
    #[serde(deserialize_with = "or_default")]
    pub tls_required: bool,
    /// What an nkey has to sign.
    #[serde(deserialize_with = "or_default")]
    pub nonce: String,
    /// Other servers of the cluster, `host:port` each.
    #[serde(deserialize_with = "or_default")]
    pub connect_urls: Vec<String>,
    /// Lame duck mode: the server is about to stop, go elsewhere.
    #[serde(deserialize_with = "or_default")]
    pub ldm: bool,
    /// Name of the cluster.
    #[serde(deserialize_with = "or_default")]
    pub cluster: Option<String>,
    /// JetStream domain.
    #[serde(deserialize_with = "or_default")]
    pub domain: Option<String>,
}

impl ServerInfo {
    /// Reads the JSON text of an `INFO` line.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// Bytes of headers and payload that one message may have; `None` if the server does not say.
    #[must_use]
    pub fn record_bytes_max(&self) -> Option<usize> {
        usize::try_from(self.max_payload).ok().filter(|bytes| *bytes > 0)
    }
}

/// Go writes `null` for an empty list.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_sends_is_read_and_what_is_unknown_is_passed_over() {
        let json = br#"{"server_id":"NB","server_name":"n1","version":"2.15.1","proto":1,"git_commit":"b2fd3ef","go":"go1.27.2",
            "host":"127.0.0.1","port":4222,"headers":true,"auth_required":true,"max_payload":1048576,"jetstream":true,"client_id":7,
            "client_ip":"127.0.0.1","nonce":"abc","api_lvl":5,"xkey":"XC","connect_urls":["a:1","b:2"],"ldm":true,"cluster":"c","domain":"hub","new":{"x":[1]}}"#;
        let info = ServerInfo::parse(json).unwrap();
        assert_eq!(
            (info.version.as_str(), info.max_payload, info.api_lvl, info.client_id),
            ("2.15.1", 1_048_576, 5, 7)
        );
        assert_eq!(info.connect_urls, ["a:1", "b:2"]);
        assert_eq!((info.cluster.as_deref(), info.domain.as_deref()), (Some("c"), Some("hub")));
        assert!(info.headers && info.jetstream && info.auth_required && info.ldm && !info.tls_required);
        assert_eq!(info.record_bytes_max(), Some(1_048_576));
    }

    #[test]
    fn missing_and_null_fields_have_defaults_and_other_shapes_are_errors() {
        for json in ["{}", r#"{"connect_urls":null,"nonce":null,"max_payload":null,"ldm":null}"#] {
            assert_eq!(ServerInfo::parse(json.as_bytes()).unwrap(), ServerInfo::default(), "{json}");
        }
        for json in ["", "[1]", "null", r#"{"max_payload":"big"}"#, r#"{"connect_urls":[1]}"#] {
            assert!(ServerInfo::parse(json.as_bytes()).is_err(), "{json}");
        }
        for max_payload in [-1, 0] {
            assert_eq!(ServerInfo { max_payload, ..ServerInfo::default() }.record_bytes_max(), None);
        }
    }
}
