//! A JSON record against an Avro schema.
//!
//! Numbers are read as they are written: a long is never a float on the way, and `1.0` is no int. Bytes and fixed are
//! strings of the characters U+0000 to U+00FF, one for each byte. `"NaN"`, `"Infinity"` and `"-Infinity"` are numbers
//! of float and double. A field that is missing is valid if it has a default; a field that the schema does not know is
//! not.
//!
//! **Unions** are where plain JSON and Avro's JSON encoding differ:
//! - `null`, and anything else that is not an object, is valid if a branch of the union takes it;
//! - an object with one entry, named like a branch (`{"string": "a"}`, `{"com.acme.Order": {…}}`), is that branch's
//!   value, if it looks like one;
//! - any other object is the union's only record or map; of several, the one record that knows all its fields and
//!   misses none. If there is no such record, or two, the object has to name its branch.
//!
//! The choice is made by names alone, once, so that no nesting of unions makes a check long.

use super::{
    NOT_AVRO,
    types::{Enum, Record, Type, Types},
};
use crate::{
    limits::{AVRO_BRANCHES_NAMED_MAX, AVRO_JSON_VALUES_MAX, FORMAT_VALUES_MAX, VIOLATION_FAULTS_MAX},
    schema::{
        Violation,
        bounds::{json_record, path_end, quoted, too_many},
    },
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Holds a record against the schema.
pub(super) fn check(types: &Types, record: &[u8]) -> Result<(), Violation> {
    json_record(record, AVRO_JSON_VALUES_MAX)?;
    let value: Json<'_> =
        serde_json::from_slice(record).map_err(|error| Violation::one("", format!("{NOT_AVRO}{error}")))?;
    let mut check = Check { types, tried: 0, violation: Violation { faults: Vec::new(), more: 0 } };
    check.value(types.root(), &value, &Crumb::Root);
    if check.tried > FORMAT_VALUES_MAX {
        return Err(too_many(FORMAT_VALUES_MAX));
    }
    if check.violation.faults.is_empty() { Ok(()) } else { Err(check.violation) }
}

/// Where in a record: a field or an item, of what is above.
#[derive(Debug)]
pub(super) enum Crumb<'a> {
    Root,
    Field(&'a str, &'a Crumb<'a>),
    Item(usize, &'a Crumb<'a>),
}

impl Crumb<'_> {
    /// `orders[2].price`
    pub(super) fn path(&self) -> String {
        let mut parts = Vec::new();
        let mut next = self;
        loop {
            next = match next {
                Self::Root => break,
                Self::Field(name, up) => {
                    parts.push(if matches!(up, Self::Root) { (*name).to_owned() } else { format!(".{name}") });
                    up
                }
                Self::Item(nth, up) => {
                    parts.push(format!("[{nth}]"));
                    up
                }
            };
        }
        parts.reverse();
        path_end(parts.concat())
    }
}

struct Check<'a> {
    types: &'a Types,
    /// Branches of unions that were looked at: a record must not make that long.
    tried: usize,
    violation: Violation,
}

impl Check<'_> {
    fn value(&mut self, place: usize, value: &Json<'_>, here: &Crumb<'_>) {
        match (self.types.at(place), value) {
            (Type::Union(branches), value) => self.union(branches, value, here),
            (Type::Record(record), Json::Object(entries)) => self.record(record, entries, here),
            (Type::Array(items), Json::List(values)) => {
                for (nth, value) in values.iter().enumerate() {
                    self.value(*items, value, &Crumb::Item(nth, here));
                }
            }
            (Type::Map(values), Json::Object(entries)) => {
                for (key, value) in entries {
                    self.value(*values, value, &Crumb::Field(key, here));
                }
            }
            (of, value) => {
                if let Err(text) = scalar(of, value) {
                    self.note(here, text);
                }
            }
        }
    }

    fn record(&mut self, record: &Record, entries: &[(Cow<'_, str>, Json<'_>)], here: &Crumb<'_>) {
        let mut met = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match record.places.get(key.as_ref()) {
                Some(place) => {
                    met.push(*place);
                    let field = &record.fields[*place];
                    self.value(field.of, value, &Crumb::Field(&field.name, here));
                }
                None => self.note(here, format!("avro: unknown field {}", quoted(key))),
            }
        }
        met.sort_unstable();
        for pair in met.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.note(here, format!("avro: field {} is there twice", record.fields[pair[0]].name));
        }
        met.dedup();
        let there = met.iter().filter(|place| !record.fields[**place].has_default).count();
        let mut missing = record.required.len() - there;
        for place in &record.required {
            if missing == 0 {
                return;
            }
            if self.violation.faults.len() >= VIOLATION_FAULTS_MAX {
                self.violation.more += missing;
                return;
            }
            if met.binary_search(place).is_err() {
                missing -= 1;
                self.note(here, format!("avro: missing required field {}", record.fields[*place].name));
            }
        }
    }

    fn union(&mut self, branches: &[usize], value: &Json<'_>, here: &Crumb<'_>) {
        self.tried = self.tried.saturating_add(branches.len());
        if self.tried > FORMAT_VALUES_MAX {
            return;
        }
        let types = self.types;
        match value {
            Json::Object(entries) => {
                let objects: Vec<usize> = branches.iter().copied().filter(|of| is_object(types.at(*of))).collect();
                if let [(name, inner)] = entries.as_slice()
                    && let Some(branch) = branches.iter().find(|of| types.at(**of).name() == name)
                    && (objects.is_empty() || fits(types.at(*branch), inner))
                {
                    return self.value(*branch, inner, &Crumb::Field(name, here));
                }
                match self.choose(&objects, entries) {
                    Some(branch) => self.value(branch, value, here),
                    None => self.no_branch(branches, value, here),
                }
            }
            Json::List(_) => match branches.iter().find(|of| matches!(types.at(**of), Type::Array(_))) {
                Some(branch) => self.value(*branch, value, here),
                None => self.no_branch(branches, value, here),
            },
            value => {
                let taken = branches.iter().any(|of| scalar(types.at(*of), value).is_ok());
                // If there is but one branch beside null, its own words say more.
                let mut others = branches.iter().filter(|of| !matches!(types.at(**of), Type::Null));
                match (taken, others.next(), others.next()) {
                    (true, ..) => {}
                    (false, Some(only), None) => self.value(*only, value, here),
                    _ => self.no_branch(branches, value, here),
                }
            }
        }
    }

    /// Which of a union's records and maps an object is.
    fn choose(&mut self, objects: &[usize], entries: &[(Cow<'_, str>, Json<'_>)]) -> Option<usize> {
        if let [only] = objects {
            return Some(*only);
        }
        let mut found = None;
        for branch in objects {
            let Type::Record(record) = self.types.at(*branch) else { continue };
            self.tried = self.tried.saturating_add(entries.len());
            if self.tried > FORMAT_VALUES_MAX {
                return None;
            }
            let places = entries.iter().map(|(key, _)| record.places.get(key.as_ref()));
            let known = places.clone().all(|place| place.is_some());
            let there = places.flatten().filter(|place| !record.fields[**place].has_default).count();
            if known && there == record.required.len() && found.replace(*branch).is_some() {
                return None;
            }
        }
        found.or_else(|| objects.iter().copied().find(|of| matches!(self.types.at(*of), Type::Map(_))))
    }

    fn no_branch(&mut self, branches: &[usize], value: &Json<'_>, here: &Crumb<'_>) {
        let mut names: Vec<&str> =
            branches.iter().take(AVRO_BRANCHES_NAMED_MAX).map(|of| self.types.at(*of).name()).collect();
        if branches.len() > AVRO_BRANCHES_NAMED_MAX {
            names.push("…");
        }
        let text = format!("avro: {value} is of no branch of the union [{}]", names.join(", "));
        self.note(here, text);
    }

    fn note(&mut self, here: &Crumb<'_>, text: String) {
        let path = if self.violation.faults.len() < VIOLATION_FAULTS_MAX { here.path() } else { String::new() };
        self.violation.add(path, text);
    }
}

fn is_object(of: &Type) -> bool {
    matches!(of, Type::Record(_) | Type::Map(_))
}

/// Does a value look like one of this type? Only its kind is looked at.
fn fits(of: &Type, value: &Json<'_>) -> bool {
    match value {
        Json::Null => matches!(of, Type::Null),
        Json::Boolean(_) => matches!(of, Type::Boolean),
        Json::Integer(_) | Json::Float(_) => matches!(of, Type::Int | Type::Long | Type::Float | Type::Double),
        Json::Text(_) => {
            matches!(of, Type::String | Type::Bytes | Type::Fixed(..) | Type::Enum(_) | Type::Float | Type::Double)
        }
        Json::List(_) => matches!(of, Type::Array(_)),
        Json::Object(_) => is_object(of),
    }
}

/// Is a value one of a type that holds no others? If not, why not.
fn scalar(of: &Type, value: &Json<'_>) -> Result<(), String> {
    let range = |name: &str| Err(format!("avro: {value} is out of range for {name}"));
    match (of, value) {
        (Type::Int, Json::Integer(number)) if i32::try_from(*number).is_err() => range("int"),
        (Type::Long, Json::Integer(number)) if i64::try_from(*number).is_err() => range("long"),
        (Type::Float, Json::Float(number)) if number.abs() > f64::from(f32::MAX) => range("float"),
        (Type::Null, Json::Null)
        | (Type::Boolean, Json::Boolean(_))
        | (Type::String, Json::Text(_))
        | (Type::Int | Type::Long, Json::Integer(_))
        | (Type::Float | Type::Double, Json::Integer(_) | Json::Float(_)) => Ok(()),
        (Type::Float | Type::Double, Json::Text(text)) if ["NaN", "Infinity", "-Infinity"].contains(&text.as_ref()) => {
            Ok(())
        }
        (Type::Bytes, Json::Text(text)) => bytes(text).map(drop),
        (Type::Fixed(name, size), Json::Text(text)) => match bytes(text)? {
            length if length == *size => Ok(()),
            length => Err(format!("avro: {length} bytes, {name} has {size}")),
        },
        (Type::Enum(Enum { known, .. }), Json::Text(text)) if known.contains(text.as_ref()) => Ok(()),
        (Type::Enum(of), Json::Text(_)) => Err(format!("avro: {value} is not a symbol of {}", of.name)),
        (of, value) => {
            let article = if of.name().starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            let article = if matches!(of, Type::Null | Type::Bytes) { "" } else { article };
            let space = if article.is_empty() { "" } else { " " };
            Err(format!("avro: {value} is not {article}{space}{}", of.name()))
        }
    }
}

/// The bytes that a text stands for.
fn bytes(text: &str) -> Result<usize, String> {
    let mut length = 0;
    for letter in text.chars() {
        if letter > '\u{ff}' {
            return Err(format!(
                "avro: {} is not a byte: bytes are the characters U+0000 to U+00FF",
                quoted(&letter.to_string())
            ));
        }
        length += 1;
    }
    Ok(length)
}

/// A JSON value. Integers keep all their digits, objects the order and the repetition of their keys.
enum Json<'a> {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// As a message shows it: cut, and of lists and objects the kind alone.
impl fmt::Display for Json<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Boolean(value) => value.fmt(formatter),
            Self::Integer(value) => value.fmt(formatter),
            Self::Float(value) => write!(formatter, "{value:?}"),
            Self::Text(value) => formatter.write_str(&quoted(value)),
            Self::List(_) => formatter.write_str("an array"),
            Self::Object(_) => formatter.write_str("an object"),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// A key: not copied where the record holds it as it is.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Reader)? {
            Json::Text(text) => Ok(Self(text)),
            _ => Ok(Self(Cow::Borrowed(""))),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((Key(key), value)) = entries.next_entry()? {
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}
