//! Reads JSON of the documented type and of no other.
//!
//! The code that serde derives for a struct also takes an array of its fields in their order, and the code for an enum
//! an object with one key. Neither is documented, and an array could do harm: an empty one would be a struct of
//! defaults, and a default selection of dead letters is "all of them".

use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

/// A `T` that must be written as an object.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// Reads an object, or null.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// Reads one of several words.
pub(super) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

/// Reads one of several words, or null.
pub(super) fn word_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    word.map(|word| T::deserialize(word.into_deserializer())).transpose()
}

/// Reads a value that may be absent but not null. Absent means "all"; a client that sends null may have meant "none".
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{dead_letters::DeadLetterSelection, keys::NewKey, schemas::NewSchema, stations::NewStation},
        *,
    };
    use serde::de::DeserializeOwned;

    fn takes<T: DeserializeOwned>(text: &str) -> bool {
        serde_json::from_str::<Object<T>>(text).is_ok()
    }

    #[test]
    fn f6_an_array_is_no_object_and_null_is_not_all() {
        let letters = r#""dead_letters":{"invalid":true,"deliveries_max":1,"retention_age_s":1}"#;
        for (taken, expect) in [
            (takes::<DeadLetterSelection>("{}"), true),
            (takes::<DeadLetterSelection>(r#"{"ids":[]}"#), true),
            (takes::<DeadLetterSelection>("[]"), false),
            (takes::<DeadLetterSelection>("[[1]]"), false),
            (takes::<DeadLetterSelection>("null"), false),
            (takes::<DeadLetterSelection>(r#"{"ids":null}"#), false),
            (takes::<DeadLetterSelection>(r#"{"ids":[1],"ids":[2]}"#), false),
            (takes::<NewKey>("[]"), false),
            (takes::<NewStation>(&format!(r#"{{"name":"a",{letters}}}"#)), true),
            (takes::<NewStation>(r#"{"name":"a","dead_letters":null}"#), true),
            (takes::<NewStation>(r#"{"name":"a","dead_letters":[true,1,1]}"#), false),
            (takes::<NewStation>(r#"{"name":"a","storage":"file"}"#), true),
            (takes::<NewStation>(r#"{"name":"a","storage":null}"#), true),
            (takes::<NewStation>(r#"{"name":"a","storage":{"file":null}}"#), false),
            (takes::<NewSchema>(r#"{"name":"a","type":"json","schema":"{}"}"#), true),
            (takes::<NewSchema>(r#"{"name":"a","type":{"json":null},"schema":"{}"}"#), false),
        ] {
            assert_eq!(taken, expect);
        }
    }
}
