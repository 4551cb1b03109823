//! A station's attributes as fields of a stream's configuration: written when it is made or changed, and read back.

use crate::station::{Attributes, AttributesChange, Storage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// The fields of a stream's configuration that say a station's attributes. Another's stream may leave out any of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AttributeFields {
    /// `limits` if absent.
    #[serde(default)]
    retention: Option<Box<str>>,
    /// Nanoseconds; 0: for ever.
    #[serde(default)]
    max_age: u64,
    #[serde(default)]
    max_msgs: i64,
    #[serde(default)]
    max_msgs_per_subject: i64,
    #[serde(default)]
    max_bytes: i64,
    /// `file` if absent.
    #[serde(default)]
    storage: Option<Box<str>>,
    #[serde(default)]
    num_replicas: u8,
    /// Nanoseconds.
    #[serde(default)]
    duplicate_window: u64,
}

impl From<&Attributes> for AttributeFields {
    fn from(attributes: &Attributes) -> Self {
        let possible = attributes.clone().with_possible_window();
        Self {
            retention: Some(if possible.retention_acknowledged { "interest" } else { "limits" }.into()),
            max_age: possible.retention_age.map_or(0, nanos),
            max_msgs: limit(possible.retention_records),
            max_msgs_per_subject: -1,
            max_bytes: limit(possible.retention_bytes),
            storage: Some(
                match possible.storage {
                    Storage::Memory => "memory",
                    Storage::File => "file",
                }
                .into(),
            ),
            num_replicas: possible.replicas.max(1),
            duplicate_window: nanos(possible.duplicate_window),
        }
    }
}

impl AttributeFields {
    /// Returns the attributes of a station of so many streams like this one.
    pub(super) fn attributes(&self, partitions: u16) -> Attributes {
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        // A station is one subject of its stream.
        let records = [limit(self.max_msgs), limit(self.max_msgs_per_subject)].into_iter().flatten().min();
        Attributes {
            partitions,
            retention_age: (self.max_age > 0).then(|| Duration::from_nanos(self.max_age)),
            retention_records: records,
            retention_bytes: limit(self.max_bytes),
            // A work queue removes acknowledged records too, and has one group.
            retention_acknowledged: self.retention.as_deref().is_some_and(|retention| retention != "limits"),
            storage: match self.storage.as_deref() {
                Some("memory") => Storage::Memory,
                _ => Storage::File,
            },
            replicas: self.replicas(),
            duplicate_window: self.duplicate_window(),
        }
    }

    /// Returns whether records are removed that no consumer is interested in: also before there is any.
    pub(super) fn is_of_interest(&self) -> bool {
        self.retention.as_deref() == Some("interest")
    }

    /// Returns whether records are kept in files.
    pub(super) fn is_in_files(&self) -> bool {
        self.storage.as_deref().is_none_or(|storage| storage == "file")
    }

    /// Returns the number of copies.
    pub(super) fn replicas(&self) -> u8 {
        self.num_replicas.max(1)
    }

    /// Returns how long a message id is known; zero: not at all.
    pub(super) fn duplicate_window(&self) -> Duration {
        Duration::from_nanos(self.duplicate_window)
    }
}

/// Changes the configuration of a stream: it keeps everything, except for the fields of what is to change.
pub(in super::super) fn apply(change: &AttributesChange, config: &mut Map<String, Value>) -> serde_json::Result<()> {
    let known: AttributeFields = serde_json::from_value(Value::Object(config.clone()))?;
    // The number of partitions is no field of a stream.
    let known = known.attributes(1);
    let before = serde_json::to_value(AttributeFields::from(&known))?;
    let after = serde_json::to_value(AttributeFields::from(&known.changed(change)))?;
    for (field, value) in after.as_object().into_iter().flatten() {
        if before.get(field) != Some(value) {
            config.insert(field.clone(), value.clone());
        }
    }
    Ok(())
}

/// Returns a limit as JetStream writes it.
fn limit(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

/// Returns a duration as JetStream writes it.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let none = Attributes {
            partitions: 2,
            retention_age: None,
            duplicate_window: Duration::ZERO,
            ..Attributes::default()
        };
        let all = Attributes {
            retention_age: Some(Duration::from_secs(1)),
            retention_records: Some(5),
            retention_bytes: Some(6),
            retention_acknowledged: true,
            storage: Storage::Memory,
            replicas: 3,
            duplicate_window: Duration::from_millis(100),
            ..none.clone()
        };
        for (text, expect) in [
            (r#"{"name":"s","max_msgs":-1,"max_bytes":-1,"retention":"limits","storage":"file"}"#, &none),
            (r#"{"name":"s"}"#, &none),
            // What a subject may have at most is what the station may.
            (
                r#"{"name":"s","max_msgs":9,"max_msgs_per_subject":5,"max_bytes":6,"max_age":1000000000,"retention":"workqueue",
                    "storage":"memory","num_replicas":3,"duplicate_window":100000000}"#,
                &all,
            ),
            (
                r#"{"name":"s","max_msgs":5,"max_bytes":6,"max_age":1000000000,"retention":"interest",
                    "storage":"memory","num_replicas":3,"duplicate_window":100000000}"#,
                &all,
            ),
        ] {
            let fields: AttributeFields = serde_json::from_str(text).expect("a configuration");
            assert_eq!(fields.attributes(2), *expect, "{text}");
        }
    }

    fn config() -> Map<String, Value> {
        let text = r#"{"name":"S","subjects":["a","b.>"],"max_age":100,"max_msgs":-1,"max_bytes":-1,"num_replicas":1,
            "duplicate_window":50,"republish":{"src":">","dest":"x.>"},"of the future":{"deep":[1,2,{}]}}"#;
        serde_json::from_str(text).expect("a configuration")
    }

    #[test]
    fn a_change_changes_what_it_names_and_nothing_else() {
        let none = AttributesChange::default;
        let nanos = |nanos| Some(Duration::from_nanos(nanos));
        for (change, expect) in [
            (none(), json!({})),
            (AttributesChange { retention_age: Some(nanos(200)), ..none() }, json!({"max_age": 200})),
            (AttributesChange { retention_age: Some(None), ..none() }, json!({"max_age": 0})),
            // The duplicate window follows where the records live shorter.
            (
                AttributesChange { retention_age: Some(nanos(20)), ..none() },
                json!({"max_age": 20, "duplicate_window": 20}),
            ),
            (AttributesChange { duplicate_window: nanos(101), ..none() }, json!({"duplicate_window": 100})),
            (AttributesChange { duplicate_window: nanos(99), ..none() }, json!({"duplicate_window": 99})),
            (AttributesChange { retention_records: Some(Some(7)), ..none() }, json!({"max_msgs": 7})),
            (AttributesChange { retention_bytes: Some(Some(8)), ..none() }, json!({"max_bytes": 8})),
            (AttributesChange { retention_bytes: Some(None), ..none() }, json!({})),
            (AttributesChange { replicas: Some(3), ..none() }, json!({"num_replicas": 3})),
        ] {
            let mut changed = config();
            apply(&change, &mut changed).expect("readable");
            let mut expected = config();
            expected.extend(expect.as_object().cloned().unwrap_or_default());
            assert_eq!(changed, expected, "{change:?}");
        }
    }

    proptest! {
        #[test]
        fn no_change_makes_a_window_longer_than_the_records_live(
            age in prop::option::of(prop::option::of(1_u64..1_000)), window in prop::option::of(1_u64..1_000),
        ) {
            let change = AttributesChange {
                retention_age: age.map(|age| age.map(Duration::from_nanos)),
                duplicate_window: window.map(Duration::from_nanos),
                ..AttributesChange::default()
            };
            let mut changed = config();
            apply(&change, &mut changed).expect("readable");
            let value = |key: &str| changed[key].as_u64().expect("a number");
            prop_assert!(value("max_age") == 0 || value("duplicate_window") <= value("max_age"));
            let mut twice = changed.clone();
            apply(&change, &mut twice).expect("readable");
            prop_assert_eq!(twice, changed, "again changes nothing");
        }
    }
}
