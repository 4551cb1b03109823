//! JSON of a message, before prost-reflect reads it: its numbers as the fields want them, and no field twice.
//!
//! `ProtoJSON` takes integers with an exponent or a fraction of zeros, quoted or not; prost-reflect takes them unquoted
//! only, and through a double, which rounds beyond 53 bits. So a number of an integer field that is not written in
//! plain digits is written so here. A number that its field cannot hold, and a field that comes twice (by its JSON name
//! and its own, or by one of them), are refused. What is not of the message's shape is left for prost-reflect to say.

use super::super::{
    Violation, bounds,
    json::{Decimal, Kind as Token, Tape},
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::{borrow::Cow, collections::HashSet, ops::Range};

/// Wrappers of the well-known types, which are written as their value. The other well-known types have no integers of
/// their own.
const WRAPPERS: [&str; 9] = [
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "StringValue",
    "UInt32Value",
    "UInt64Value",
];
/// Well-known types whose JSON is not that of their fields.
const OPAQUE: [&str; 7] = ["Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"];

/// Returns the record as prost-reflect is to read it.
pub(super) fn prepared<'a>(
    message: &MessageDescriptor,
    tape: &Tape<'_>,
    record: &'a [u8],
) -> Result<Cow<'a, [u8]>, Violation> {
    let mut walk = Walk { tape, patches: Vec::new(), path: String::new() };
    walk.message(message, 0)?;
    if walk.patches.is_empty() {
        return Ok(Cow::Borrowed(record));
    }
    let (mut out, mut at) = (Vec::with_capacity(record.len() + 16), 0);
    for (place, digits) in walk.patches {
        out.extend_from_slice(record.get(at..place.start).unwrap_or_default());
        out.extend_from_slice(digits.as_bytes());
        at = place.end;
    }
    out.extend_from_slice(record.get(at..).unwrap_or_default());
    Ok(Cow::Owned(out))
}

struct Walk<'t> {
    tape: &'t Tape<'t>,
    /// What stands in place of parts of the record, in their order.
    patches: Vec<(Range<usize>, String)>,
    /// The field at hand, as a JSON pointer.
    path: String,
}

impl Walk<'_> {
    /// Looks at a message. The depth is bounded before.
    fn message(&mut self, message: &MessageDescriptor, index: u32) -> Result<(), Violation> {
        let known = message.full_name().strip_prefix("google.protobuf.");
        if known.is_some_and(|name| WRAPPERS.contains(&name)) {
            let value = message.get_field_by_name("value");
            return value.map_or(Ok(()), |value| self.value(&value.kind(), index));
        }
        if known.is_some_and(|name| OPAQUE.contains(&name)) || self.tape.entry(index).kind != Token::Object {
            return Ok(());
        }
        let mut seen = HashSet::new();
        for (name, value) in self.tape.every_member(index) {
            let name = self.tape.text(name);
            let named = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
            let Some(field) = named else { continue };
            let before = self.path.len();
            self.path.push('/');
            self.path.push_str(name);
            if !seen.insert(field.number()) {
                return Err(self.fault(&format!("field {:?} comes twice", field.json_name())));
            }
            self.field(&field, value)?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, index: u32) -> Result<(), Violation> {
        let tape = self.tape;
        match (field.kind(), tape.entry(index).kind) {
            (Kind::Message(entry), Token::Object) if field.is_map() => {
                let kind = entry.map_entry_value_field().kind();
                tape.every_member(index).try_for_each(|(_, value)| self.value(&kind, value))
            }
            (kind, Token::Array) if field.is_list() => {
                tape.elements(index).try_for_each(|element| self.value(&kind, element))
            }
            (kind, _) => self.value(&kind, index),
        }
    }

    fn value(&mut self, kind: &Kind, index: u32) -> Result<(), Violation> {
        let (least, most) = match kind {
            Kind::Message(message) => return self.message(message, index),
            Kind::Double => return self.float(index, f64::MAX, "double"),
            Kind::Float => return self.float(index, f64::from(f32::MAX), "float"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
            Kind::Uint32 | Kind::Fixed32 => (0, i128::from(u32::MAX)),
            Kind::Uint64 | Kind::Fixed64 => (0, i128::from(u64::MAX)),
            Kind::Bool | Kind::Bytes | Kind::String => return Ok(()),
        };
        let entry = self.tape.entry(index);
        let text = self.tape.text(entry);
        let is_number = match entry.kind {
            // Plain digits are read exactly.
            Token::Integer => return Ok(()),
            Token::Float => true,
            // The name of an enum's value is a string as well, and a number in quotes is none.
            Token::Text if matches!(kind, Kind::Enum(_)) => false,
            Token::Text => text.contains(['.', 'e', 'E']) && is_json_number(text),
            _ => false,
        };
        if !is_number {
            return Ok(());
        }
        // With what a double shows to be a fraction, prost-reflect says so itself.
        if entry.kind == Token::Float && text.parse().is_ok_and(|number: f64| number.fract() != 0.0) {
            return Ok(());
        }
        let Some(whole) = Decimal::parse(text).to_whole().filter(|whole| (least..=most).contains(whole)) else {
            return Err(self.fault(&format!("{} is not a value of {}", bounds::quoted(text), name_of(kind))));
        };
        let from = entry.at as usize;
        self.patches.push((from..from + entry.len as usize, whole.to_string()));
        Ok(())
    }

    /// A floating-point number: within the range of its type, and written as JSON has it or as one of three words.
    fn float(&mut self, index: u32, most: f64, name: &str) -> Result<(), Violation> {
        let entry = self.tape.entry(index);
        let text = self.tape.text(entry);
        let is_word = ["Infinity", "-Infinity", "NaN"].contains(&text);
        let fits = match entry.kind {
            Token::Text | Token::Unescaped if is_word => true,
            Token::Text | Token::Unescaped => {
                is_json_number(text) && text.parse().is_ok_and(|number: f64| number.abs() <= most)
            }
            Token::Integer | Token::Float => text.parse().is_ok_and(|number: f64| number.abs() <= most),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(self.fault(&format!("{} is not a value of {name}", bounds::quoted(text))))
    }

    fn fault(&self, text: &str) -> Violation {
        Violation::one(&self.path, format!("proto: {text}"))
    }
}

fn is_json_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
        && !text.ends_with(char::is_whitespace)
}

fn name_of(kind: &Kind) -> String {
    match kind {
        Kind::Enum(values) => values.full_name().to_owned(),
        other => format!("{other:?}").to_ascii_lowercase(),
    }
}
