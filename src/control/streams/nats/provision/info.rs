//! What a stream says of itself, as far as it matters here.

use super::attributes::AttributeFields;
use crate::{
    control::nats::{
        client::{CallError, NatsClient},
        publish_mode::StreamTraits,
    },
    limits::PARTITIONS_MAX,
    station::{Attributes, DirectGet, Name},
};
use serde::{Deserialize, de::IgnoredAny};
use std::{collections::BTreeMap, time::Duration};

/// Key of the stream metadata that names the station.
pub(in crate::control) const METADATA_STATION: &str = "sluicegate.station";
/// Key of the stream metadata that holds the number of partitions.
pub(super) const METADATA_PARTITIONS: &str = "sluicegate.partitions";

/// What a stream says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::control) struct StreamInfo {
    pub(in crate::control) config: StreamConfig,
    #[serde(default)]
    pub(in crate::control) state: StreamState,
    #[serde(default)]
    cluster: Option<Cluster>,
}

/// The contents of a stream.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(in crate::control) struct StreamState {
    #[serde(default)]
    pub(in crate::control) messages: u64,
    #[serde(default)]
    pub(in crate::control) bytes: u64,
    #[serde(default)]
    pub(in crate::control) last_seq: u64,
    #[serde(default)]
    pub(in crate::control) consumer_count: u64,
}

/// The servers of a stream: a server that is alone gives its own name as the leader's, and no cluster's.
#[derive(Debug, Clone, Deserialize)]
struct Cluster {
    #[serde(default)]
    name: Option<Box<str>>,
}

impl StreamInfo {
    /// Returns whether one server stores and answers alone: then there is no other copy, now or later.
    pub(super) fn is_alone(&self) -> bool {
        self.config.replicas() <= 1 && !self.is_in_a_cluster()
    }

    /// Returns whether its server is a member of a cluster.
    pub(in crate::control) fn is_in_a_cluster(&self) -> bool {
        self.cluster.as_ref().and_then(|cluster| cluster.name.as_deref()).is_some_and(|name| !name.is_empty())
    }
}

/// The part of a stream's configuration that matters here.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::control) struct StreamConfig {
    pub(in crate::control) name: Box<str>,
    #[serde(default)]
    pub(in crate::control) subjects: Vec<Box<str>>,
    #[serde(flatten)]
    fields: AttributeFields,
    #[serde(default)]
    pub(super) max_msg_size: i64,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    sealed: bool,
    #[serde(default)]
    pub(super) mirror: Option<IgnoredAny>,
    #[serde(default)]
    subject_transform: Option<SubjectTransform>,
    /// Whether every record has to say what to add to a counter.
    #[serde(default)]
    allow_msg_counter: bool,
    #[serde(default)]
    consumer_limits: ConsumerLimits,
    #[serde(default)]
    allow_atomic: bool,
    /// Whether any server that has the stream answers reads.
    #[serde(default)]
    allow_direct: bool,
    /// `default` if absent.
    #[serde(default)]
    persist_mode: Option<Box<str>>,
    #[serde(default)]
    pub(in crate::control) metadata: Option<BTreeMap<String, String>>,
}

/// Under which subjects a stream stores what comes on others.
#[derive(Debug, Clone, Deserialize)]
struct SubjectTransform {
    /// Empty: all.
    #[serde(default)]
    src: Box<str>,
    #[serde(default)]
    dest: Box<str>,
}

/// What a stream allows each of its consumers.
#[derive(Debug, Clone, Default, Deserialize)]
struct ConsumerLimits {
    #[serde(default)]
    max_ack_pending: i64,
}

impl StreamConfig {
    /// Returns whether records are removed that no consumer is interested in: also before there is any.
    pub(in crate::control) fn is_of_interest(&self) -> bool {
        self.fields.is_of_interest()
    }

    /// Returns whether this is the only subject that it listens on.
    pub(in crate::control) fn is_only(&self, subject: &str) -> bool {
        matches!(&*self.subjects, [only] if **only == *subject)
    }

    /// Returns how many messages a consumer may deliver before they are acknowledged, of `wanted`.
    pub(in crate::control) fn ack_pending_max(&self, wanted: u32) -> u32 {
        match u32::try_from(self.consumer_limits.max_ack_pending) {
            Ok(limit) if limit > 0 => limit.min(wanted),
            _ => wanted,
        }
    }

    /// Returns why a station of this subject could acknowledge nothing, or deliver nothing, here.
    pub(super) fn unusable(&self, subject: &str) -> Option<String> {
        let name = &self.name;
        if self.no_ack {
            return Some(format!("the stream {name:?} has no_ack set: records in it cannot be acknowledged"));
        }
        let moved = self.subject_transform.as_ref().filter(|transform| {
            transform.src != transform.dest && (transform.src.is_empty() || covers(&transform.src, subject))
        });
        moved.map(|SubjectTransform { dest, .. }| {
            format!(
                "the stream {name:?} has a subject_transform: what comes on {subject:?} is stored as {dest:?}, where no \
                consumer group of the station would find it"
            )
        })
    }

    /// Returns why this stream cannot become a station of this subject, for whatever reason.
    pub(super) fn not_adoptable(&self, subject: &str) -> Option<String> {
        let name = &self.name;
        let refused = |why: &str| Some(format!("the stream {name:?} {why}"));
        match self.unusable(subject) {
            None if self.sealed => refused("is sealed: it takes no records any more"),
            None if self.allow_msg_counter => refused("has allow_msg_counter set: it takes changes of counters only"),
            why => why,
        }
    }

    pub(super) fn captures(&self, subject: &str) -> bool {
        self.subjects.iter().any(|pattern| covers(pattern, subject))
    }

    pub(super) fn traits(&self) -> StreamTraits {
        StreamTraits {
            atomic: self.allow_atomic,
            file: self.fields.is_in_files(),
            persist_async: self.persist_mode.as_deref().is_some_and(|mode| mode == "async"),
            replicas: self.replicas(),
        }
    }

    /// Returns how the stream can be read by place. It is changed only where it says that it was made for this station.
    pub(super) fn direct_get(&self, station: &Name) -> DirectGet {
        match self.station() {
            _ if self.allow_direct => DirectGet::Allowed,
            Some(own) if own == station.as_str() => DirectGet::Possible,
            _ => DirectGet::Denied,
        }
    }

    /// Returns the number of copies.
    pub(super) fn replicas(&self) -> u8 {
        self.fields.replicas()
    }

    /// Returns how long a message id is known; zero: not at all.
    pub(super) fn duplicate_window(&self) -> Duration {
        self.fields.duplicate_window()
    }

    /// Returns the station that it says it was made for.
    pub(in crate::control) fn station(&self) -> Option<&str> {
        self.metadata.as_ref()?.get(METADATA_STATION).map(String::as_str)
    }

    /// Returns how many partitions the set has that this stream is of, if it says so.
    pub(in crate::control) fn partitions(&self) -> Option<u16> {
        let count = self.metadata.as_ref()?.get(METADATA_PARTITIONS)?.parse().ok()?;
        (1..=PARTITIONS_MAX).contains(&count).then_some(count)
    }

    /// Returns the attributes of a station of so many streams like this one.
    pub(in crate::control) fn attributes(&self, partitions: u16) -> Attributes {
        self.fields.attributes(partitions)
    }
}

/// Asks a stream for its information.
pub(in crate::control) async fn stream_info(broker: &NatsClient, stream: &str) -> Result<StreamInfo, CallError> {
    broker.look(&format!("STREAM.INFO.{stream}"), &serde_json::json!({})).await
}

/// Returns whether a stream's subject, which may hold wildcards, covers `literal`.
pub(in crate::control) fn covers(pattern: &str, literal: &str) -> bool {
    let mut tokens = literal.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::control) fn config(text: &str) -> StreamConfig {
        serde_json::from_str(text).expect("a stream's configuration")
    }

    pub(in crate::control) fn info(text: &str) -> StreamInfo {
        StreamInfo { config: config(text), state: StreamState::default(), cluster: None }
    }

    #[test]
    fn a_streams_subject_covers_what_its_wildcards_say() {
        for (pattern, literal, expect) in [
            ("orders", "orders", true),
            ("orders", "orders.eu", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.eu.x", false),
            ("orders.>", "orders.eu.x", true),
            ("orders.>", "orders", false),
            (">", "orders", true),
            ("*", "orders", true),
            ("a#b$1.>", "a#b$1.final", true),
            ("a#b$1.>", "a#b$10.final", false),
        ] {
            assert_eq!(covers(pattern, literal), expect, "{pattern} {literal}");
        }
    }

    #[test]
    fn what_a_stream_can_is_read_from_its_configuration() {
        for (text, expect) in [
            (r#"{"name":"s"}"#, StreamTraits { atomic: false, ..StreamTraits::BEST }),
            (r#"{"name":"s","storage":"file","num_replicas":1,"allow_atomic":true}"#, StreamTraits::BEST),
            (
                r#"{"name":"s","storage":"memory","num_replicas":3,"allow_atomic":true}"#,
                StreamTraits { file: false, replicas: 3, ..StreamTraits::BEST },
            ),
            (
                r#"{"name":"s","storage":"file","persist_mode":"async","allow_atomic":false}"#,
                StreamTraits { atomic: false, persist_async: true, ..StreamTraits::BEST },
            ),
            (r#"{"name":"s","persist_mode":"default","allow_atomic":true}"#, StreamTraits::BEST),
        ] {
            assert_eq!(config(text).traits(), expect, "{text}");
        }
    }

    #[test]
    fn reads_are_allowed_only_in_streams_that_were_made_for_the_station() {
        let name = Name::parse("a").expect("a name");
        for (text, expect) in [
            (r#"{"name":"a","allow_direct":true}"#, DirectGet::Allowed),
            (r#"{"name":"a","metadata":{"sluicegate.station":"a"}}"#, DirectGet::Possible),
            (r#"{"name":"a","metadata":{"sluicegate.station":"b"}}"#, DirectGet::Denied),
            (r#"{"name":"a"}"#, DirectGet::Denied),
        ] {
            assert_eq!(config(text).direct_get(&name), expect, "{text}");
        }
    }

    #[test]
    fn r12_streams_that_cannot_serve_say_why() {
        for (text, used, adopted) in [
            (r#"{"name":"s"}"#, None, None),
            (r#"{"name":"s","no_ack":true}"#, Some("no_ack"), Some("no_ack")),
            // What is there can still be read.
            (r#"{"name":"s","sealed":true}"#, None, Some("sealed")),
            (r#"{"name":"s","allow_msg_counter":true}"#, None, Some("allow_msg_counter")),
            (r#"{"name":"s","subject_transform":{"src":"a.*","dest":"b.{{wildcard(1)}}"}}"#, Some("b."), Some("b.")),
            (r#"{"name":"s","subject_transform":{"src":"","dest":"b.>"}}"#, Some("b.>"), Some("b.>")),
            (r#"{"name":"s","subject_transform":{"src":"c.*","dest":"b.{{wildcard(1)}}"}}"#, None, None),
            (r#"{"name":"s","subject_transform":{"src":"a.>","dest":"a.>"}}"#, None, None),
        ] {
            let config = config(text);
            for (found, expect) in [(config.unusable("a.x"), used), (config.not_adoptable("a.x"), adopted)] {
                assert_eq!(found.is_some(), expect.is_some(), "{text}: {found:?}");
                assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()), "{text}");
            }
        }
    }

    #[test]
    fn r12_a_group_gets_what_the_stream_allows_a_consumer() {
        for (text, expect) in [
            (r#"{"name":"s"}"#, 100),
            (r#"{"name":"s","consumer_limits":{"max_ack_pending":50}}"#, 50),
            (r#"{"name":"s","consumer_limits":{"max_ack_pending":500,"inactive_threshold":1}}"#, 100),
            (r#"{"name":"s","consumer_limits":{}}"#, 100),
        ] {
            assert_eq!(config(text).ack_pending_max(100), expect, "{text}");
        }
    }

    #[test]
    fn a_number_of_partitions_that_cannot_be_is_not_believed() {
        for (text, expect) in [
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"3"}}"#, Some(3)),
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"0"}}"#, None),
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"10001"}}"#, None),
            (r#"{"name":"s","metadata":{"sluicegate.partitions":"x"}}"#, None),
            (r#"{"name":"s","metadata":{"_nats.ver":"2.15.1"}}"#, None),
            (r#"{"name":"s"}"#, None),
        ] {
            assert_eq!(config(text).partitions(), expect, "{text}");
        }
    }
}
