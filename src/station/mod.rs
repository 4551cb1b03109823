//! Stations as the data path knows them, and the rules for names. Pure.
//!
//! A [`Station`] is resolved once by the control plane and never changes afterwards: a change
//! arrives as a new value. Names follow the original's rules, so that every name it accepted is accepted.

mod attributes;

pub use attributes::{Attributes, AttributesChange, Storage};

use crate::{limits::NAME_BYTES_MAX, reject::NameFault};
use serde::{Deserialize, Serialize};

/// What the name of the station that keeps dead letters ends in, as in the original.
const DEAD_LETTERS: &str = "$dls";

/// A name that the rules accept, lower-cased: of a station, a consumer group or a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(Box<str>);

impl Name {
    /// Lower-cases and checks a name, in the order in which the original does.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameFault::TooLong);
        }
        let lower = text.to_ascii_lowercase();
        let allowed =
            |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
        if !lower.as_bytes().iter().all(allowed) {
            return Err(NameFault::Characters);
        }
        let ends = [lower.as_bytes().first(), lower.as_bytes().last()];
        if ends.into_iter().flatten().any(|byte| !byte.is_ascii_alphanumeric()) {
            return Err(NameFault::Ends);
        }
        // An empty token (`a..b`) is no NATS subject, and would collide as a stream name with nothing.
        if lower.contains("..") {
            return Err(NameFault::Characters);
        }
        Ok(Self(lower.into_boxed_str()))
    }

    /// The lower-cased text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The station that keeps the dead letters of this one. Its name is none that a client can say.
    #[must_use]
    pub fn dead_letters(&self) -> Self {
        Self(format!("{self}{DEAD_LETTERS}").into_boxed_str())
    }

    /// The station whose dead letters this one keeps, if it keeps any.
    #[must_use]
    pub fn dead_letters_of(&self) -> Option<Self> {
        self.0.strip_suffix(DEAD_LETTERS).map(|name| Self(name.into()))
    }

    /// The name as a JetStream stream or consumer name, which may hold no dot.
    #[must_use]
    pub fn internal(&self) -> String {
        self.0.replace('.', "#")
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|fault| serde::de::Error::custom(format!("name {text:?}: {}", fault.text("Name"))))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl NameFault {
    /// The original's sentence about a bad name; `what` is "Station", "Consumer", …
    #[must_use]
    pub fn text(self, what: &str) -> String {
        match self {
            Self::Empty => format!("{what} name can not be empty"),
            Self::TooLong => format!("{what} should be under 128 characters"),
            Self::Characters => format!("Only alphanumeric and the '_', '-', '.' characters are allowed in {what}"),
            Self::Ends => format!("{what} name can not start or end with non alphanumeric character"),
        }
    }
}

/// A station pattern of an allow-list: a name in which each `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Lower-cases and checks a pattern. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'*');
        if lower.is_empty() || lower.len() > NAME_BYTES_MAX || !lower.bytes().all(allowed) {
            return Err(format!(
                "station pattern {text:?}: letters, digits, '_', '-', '.' and '*' only, 1 to {NAME_BYTES_MAX} of them"
            ));
        }
        Ok(Self(lower.into_boxed_str()))
    }

    /// Whether `name` (lower-cased) matches. Linear: a `*` is re-tried only from its last match.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut from) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while from < text.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, from));
                at += 1;
            } else if pattern.get(at) == text.get(from) {
                at += 1;
                from += 1;
            } else if let Some((star_at, star_from)) = star {
                star = Some((star_at, star_from + 1));
                at = star_at + 1;
                from = star_from + 1;
            } else {
                return false;
            }
        }
        pattern.iter().skip(at).all(|byte| *byte == b'*')
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where the records of one partition go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// JetStream stream (or the embedded store's), as a receipt names it.
    pub stream: Box<str>,
    /// Subject that the stream captures.
    pub subject: Box<str>,
}

/// How the records of one request are published to one partition of a station. The control plane decides it;
/// the data path compares a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PublishMode {
    /// Each record by itself, pipelined, each with an acknowledgement of its own.
    #[default]
    Single,
    /// As atomic batches with one acknowledgement each, if they are at least `records_min`; fewer go singly.
    Atomic {
        /// Below this, singles are as fast or faster. Never 0.
        records_min: u16,
    },
}

impl PublishMode {
    /// Whether so many records of one partition go as atomic batches.
    #[must_use]
    pub fn is_atomic(self, records: usize) -> bool {
        match self {
            Self::Single => false,
            Self::Atomic { records_min } => records >= usize::from(records_min),
        }
    }
}

/// How records of a station are read by place, outside of any consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectGet {
    /// Any server that has the streams answers (`allow_direct`); so does the embedded store.
    Allowed,
    /// The streams were made without it, for this station: the control plane can allow it.
    Possible,
    /// A stream of somebody else does not allow it: its leader is asked.
    Denied,
}

/// Why a station of a stream that was made without batches, or before there were any, is not atomic.
pub const STREAM_NOT_ATOMIC: &str = "the stream does not allow atomic batches (allow_atomic)";

/// A station, resolved: what the data path needs to publish and fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Its name.
    pub name: Name,
    /// At least one.
    pub partitions: Box<[Partition]>,
    /// The stream's own limit on one message (headers and payload), where it sets one.
    pub record_bytes_max: Option<u32>,
    /// Copies that the broker keeps.
    pub replicas: u8,
    /// How records are published; of all partitions, as the least of them allows.
    pub publish_mode: PublishMode,
    /// Whether one server stores and answers what is published, so that answers come in the order of the records.
    /// Servers of a cluster answer an error past what they have still to agree on.
    pub answers_in_order: bool,
    /// Why a request cannot be stored all or nothing here; `None`: it can, up to [`Self::atomic_records_max`].
    pub not_atomic: Option<&'static str>,
    /// Records that can be stored all or nothing at a time.
    pub atomic_records_max: u32,
    /// How long a message id is known, at least: of all partitions the shortest time. Zero: not at all.
    pub duplicate_window: std::time::Duration,
    /// How it is read by place; of all partitions, as the least of them allows.
    pub direct_get: DirectGet,
}

#[cfg(test)]
impl Station {
    /// Returns a station for tests, on a server that stands alone: nothing of it is stored.
    pub(crate) fn of_partitions(name: &str, partitions: impl IntoIterator<Item = Partition>) -> Self {
        Self {
            name: Name::parse(name).expect("a name"),
            partitions: partitions.into_iter().collect(),
            record_bytes_max: None,
            replicas: 1,
            publish_mode: PublishMode::Single,
            answers_in_order: true,
            not_atomic: None,
            atomic_records_max: 0,
            duplicate_window: std::time::Duration::ZERO,
            direct_get: DirectGet::Allowed,
        }
    }
}

/// A consumer group of a station, resolved: it exists on every partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Durable name: `<group>-rest-gateway` as in the original, or `rest-gateway`.
    pub durable: Box<str>,
    /// Station it reads.
    pub station: Name,
    /// How long a message that was delivered is held back for its acknowledgement.
    pub ack_wait: std::time::Duration,
}

/// The group that a client gets who names none, and the end of every durable name, as in the original.
const DEFAULT_GROUP: &str = "rest-gateway";

impl Consumer {
    /// The durable name of a group: `<group, . as #>-rest-gateway`; without a group that word alone.
    #[must_use]
    pub fn durable_name(group: Option<&Name>) -> String {
        match group {
            None => DEFAULT_GROUP.to_owned(),
            Some(name) if name.as_str() == DEFAULT_GROUP => DEFAULT_GROUP.to_owned(),
            Some(name) => format!("{}-{DEFAULT_GROUP}", name.internal()),
        }
    }

    /// Returns the name of a group as clients know it, from its durable name. A name that [`Self::durable_name`] does
    /// not give is no group's.
    #[must_use]
    pub fn group_name(durable: &str) -> Option<String> {
        if durable == DEFAULT_GROUP {
            return Some(DEFAULT_GROUP.to_owned());
        }
        let internal = durable.strip_suffix(DEFAULT_GROUP)?.strip_suffix('-')?;
        let name = Name::parse(&internal.replace('#', ".")).ok()?;
        (Self::durable_name(Some(&name)) == durable).then(|| name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_originals_rules() {
        let long = "a".repeat(129);
        for (text, expect) in [
            ("orders", Ok("orders")),
            ("My.Station", Ok("my.station")),
            ("a", Ok("a")),
            ("a-b_c.9", Ok("a-b_c.9")),
            ("", Err(NameFault::Empty)),
            (long.as_str(), Err(NameFault::TooLong)),
            ("a#b", Err(NameFault::Characters)),
            ("a b", Err(NameFault::Characters)),
            ("a/b", Err(NameFault::Characters)),
            ("a$b", Err(NameFault::Characters)),
            ("a..b", Err(NameFault::Characters)),
            ("é", Err(NameFault::Characters)),
            ("-a", Err(NameFault::Ends)),
            ("a.", Err(NameFault::Ends)),
        ] {
            assert_eq!(Name::parse(text).as_ref().map(Name::as_str).map_err(|fault| *fault), expect, "{text:?}");
        }
        assert_eq!(Name::parse(&"a".repeat(128)).map(|name| name.as_str().len()), Ok(128));
        assert_eq!(Name::parse("my.station").map(|name| name.internal()), Ok("my#station".to_owned()));
    }

    #[test]
    fn records_go_as_a_batch_from_the_least_number_on() {
        for (mode, records, expect) in [
            (PublishMode::Single, 0, false),
            (PublishMode::Single, 1_000_000, false),
            (PublishMode::Atomic { records_min: 2 }, 1, false),
            (PublishMode::Atomic { records_min: 2 }, 2, true),
            (PublishMode::Atomic { records_min: 50 }, 49, false),
            (PublishMode::Atomic { records_min: 50 }, 100_000, true),
        ] {
            assert_eq!(mode.is_atomic(records), expect, "{mode:?} {records}");
        }
    }

    #[test]
    fn durables_are_named_as_the_original_named_them() {
        for (group, expect) in [
            (None, "rest-gateway"),
            (Some("rest-gateway"), "rest-gateway"),
            (Some("G"), "g-rest-gateway"),
            (Some("my.Group"), "my#group-rest-gateway"),
        ] {
            let name = group.map(|group| Name::parse(group).expect("a name"));
            assert_eq!(Consumer::durable_name(name.as_ref()), expect);
        }
    }

    #[test]
    fn a_group_has_the_name_that_clients_gave_it_and_what_is_named_otherwise_is_none() {
        for (durable, expect) in [
            ("rest-gateway", Some("rest-gateway")),
            ("billing-rest-gateway", Some("billing")),
            ("my#group-rest-gateway", Some("my.group")),
            ("-rest-gateway", None),
            ("billing", None),
            ("Billing-rest-gateway", None),
            ("a b-rest-gateway", None),
        ] {
            assert_eq!(Consumer::group_name(durable).as_deref(), expect, "{durable}");
        }
    }

    #[test]
    fn patterns_match_as_globs() {
        for (pattern, name, expect) in [
            ("*", "anything", true),
            ("prod.*", "prod.orders", true),
            ("prod.*", "prod", false),
            ("PROD.*", "prod.x", true),
            ("*.cdc", "a.b.cdc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(Pattern::parse(pattern).map(|parsed| parsed.matches(name)), Ok(expect), "{pattern} {name}");
        }
        assert!(Pattern::parse("a b").is_err());
    }
}
