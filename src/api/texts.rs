//! Which texts the API takes, for its description. Each type stands for a kind of text and has no values.
//!
//! The rules themselves are where the texts are read ([`Name`], [`Pattern`], …). Tests compare the two.
//!
//! [`Name`]: crate::station::Name
//! [`Pattern`]: crate::station::Pattern

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

/// Declares types that stand for texts, with their pattern and length.
macro_rules! texts {
    ($($(#[$meta:meta])* $name:ident: $pattern:literal, $range:expr, $description:literal;)+) => {$(
        $(#[$meta])*
        #[derive(Debug)]
        pub enum $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some($description));
                let text = text.min_length(Some(*$range.start())).max_length(Some(*$range.end()));
                text.pattern(Some($pattern)).into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )+};
}

texts! {
    /// The name of a station, a schema, a user or a consumer group.
    NameText: r"^[A-Za-z0-9](\.?([_-]\.?)*[A-Za-z0-9])*$", 1..=128, "A name: letters, digits, `_`, `-` and `.`, beginning and ending with a letter or digit";
    /// The name of a consumer group. The empty one stands for the default group.
    GroupText: r"^([A-Za-z0-9](\.?([_-]\.?)*[A-Za-z0-9])*)?$", 0..=128, "A name, or empty";
    /// A pattern of station names.
    PatternText: r"^[A-Za-z0-9_.*-]+$", 1..=128, "A name in which each `*` stands for any number of characters";
    /// The id of an API key.
    KeyIdText: r"^[a-z0-9]{12}$", 12..=12, "The id of a key";
    /// A number, as text.
    NumberText: r"^[0-9]{1,19}$", 1..=19, "A number";
    /// The value of `If-Match`.
    TagText: r#"^(\*|(W/)?"[^"]*")$"#, 1..=1024, "The entity tag of an answer, in its quotes, or `*`";
    /// The name of a stream of the broker.
    StreamText: r"^[!-)+-\-0-=?-\[\]-~]+$", 1..=255, "A stream's name: visible characters without `.`, `*`, `>`, `/` and `\\`";
    /// A subject of the broker.
    SubjectText: r"^[!-#%-)+-\-/-=?-~][!-)+-\-/-=?-~]*(\.[!-)+-\-/-=?-~]+)*$", 1..=255, "A subject without wildcards";
    /// A message id.
    MessageIdText: r"^[ -~]+$", 1..=256, "A message id: visible ASCII characters";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::{Name, Pattern};
    use utoipa::PartialSchema;

    /// Returns whether the description takes a text.
    fn takes<T: PartialSchema>(text: &str) -> bool {
        let schema = serde_json::to_value(T::schema()).expect("JSON");
        jsonschema::validator_for(&schema).expect("a schema").is_valid(&text.into())
    }

    #[test]
    fn f15_the_description_takes_the_names_that_are_taken() {
        let (long, longer) = ("a".repeat(128), "a".repeat(129));
        for text in [
            "a", "A9", "a.b", "a..b", "a-b_c", ".a", "a.", "-a", "a-", "a_", "_a", "", "a b", "ä", "a/b", "a._b",
            "a_.b", "a*", "*", "a\n", "a--b", "a.-.b", &long, &longer,
        ] {
            assert_eq!(takes::<NameText>(text), Name::parse(text).is_ok(), "name {text:?}");
            assert_eq!(takes::<PatternText>(text), Pattern::parse(text).is_ok(), "pattern {text:?}");
        }
    }

    #[test]
    fn f15_the_description_takes_subjects_and_streams_that_can_be() {
        for (text, subject, stream) in [
            ("orders", true, true),
            ("orders.new", true, false),
            ("a.$b", true, false),
            ("$SYS.x", false, false),
            ("a..b", false, false),
            (".a", false, false),
            ("a.", false, false),
            ("a.*", false, false),
            ("a.>", false, false),
            ("a b", false, false),
            ("a/b", true, false),
            ("a\\b", true, false),
            ("", false, false),
        ] {
            assert_eq!((takes::<SubjectText>(text), takes::<StreamText>(text)), (subject, stream), "{text:?}");
        }
    }
}
