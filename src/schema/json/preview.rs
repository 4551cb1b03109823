//! A value of a record as it is shown in an error: cut, so that an error costs the same whatever the record is.

use super::{super::violation::whole_chars, fuel, instance::TapeNode, tape::Kind};
use jsonschema::json::JsonNumber;
use serde_json::Value;

/// Bytes of a string, or of a number, that are shown.
const TEXT_BYTES: usize = 64;
/// Elements or members that are shown of a container.
const PARTS: usize = 8;
/// Containers within one another that are shown.
const DEPTH: usize = 3;

/// Says of an error that it was made after the fuel had been used up, so that it means nothing. No record can hold it:
/// a record's strings are shown up to [`TEXT_BYTES`].
pub(super) fn is_void(shown: &Value) -> bool {
    shown.as_str().is_some_and(|text| text.len() == VOID_BYTES)
}

const VOID_BYTES: usize = 4 * TEXT_BYTES;

/// The value, cut.
pub(super) fn preview(node: TapeNode<'_>) -> Value {
    if fuel::spend_on_fault() { cut(node, DEPTH) } else { Value::String(" ".repeat(VOID_BYTES)) }
}

fn cut(node: TapeNode<'_>, depth: usize) -> Value {
    let entry = node.entry();
    match entry.kind {
        Kind::Null => Value::Null,
        Kind::False => Value::Bool(false),
        Kind::True => Value::Bool(true),
        Kind::Integer | Kind::Float => match node.number() {
            // Out of the range of doubles: as it is written.
            Some(number) if number.as_f64().is_none_or(f64::is_infinite) => cut_text(number.text),
            number => number.map_or(Value::Null, |number| Value::Number(number.to_number().into_owned())),
        },
        Kind::Text | Kind::Unescaped | Kind::Replaced => cut_text(node.string().unwrap_or("")),
        Kind::Array | Kind::Object if depth == 0 => Value::String("…".to_owned()),
        Kind::Array => {
            let mut shown: Vec<_> = node.elements().take(PARTS).map(|element| cut(element, depth - 1)).collect();
            if entry.len as usize > PARTS {
                shown.push(Value::String("…".to_owned()));
            }
            Value::Array(shown)
        }
        Kind::Object => {
            let mut shown: serde_json::Map<_, _> =
                node.members().take(PARTS).map(|(name, value)| (cut_str(name), cut(value, depth - 1))).collect();
            if entry.len as usize > PARTS {
                shown.insert("…".to_owned(), Value::String("…".to_owned()));
            }
            Value::Object(shown)
        }
    }
}

fn cut_text(text: &str) -> Value {
    Value::String(cut_str(text))
}

/// The beginning of a text.
pub(super) fn cut_str(text: &str) -> String {
    if text.len() <= TEXT_BYTES {
        return text.to_owned();
    }
    format!("{}…", text.get(..whole_chars(text, TEXT_BYTES)).unwrap_or(""))
}
