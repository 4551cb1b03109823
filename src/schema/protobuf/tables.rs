//! What the walk needs to know of the message types: flat, and reachable from one of them.

use prost_reflect::{Cardinality, Kind, MessageDescriptor, Syntax};
use std::collections::HashMap;

/// Message types; the first is the record's.
#[derive(Debug)]
pub(super) struct Tables {
    messages: Vec<Message>,
    dynamic: bool,
}

/// One message type.
#[derive(Debug)]
pub(super) struct Message {
    /// By number.
    pub(super) fields: Vec<Field>,
    /// Places in `fields`, by their [`Field::required`].
    pub(super) required: Vec<usize>,
}

/// One field or extension.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) full_name: String,
    pub(super) repeated: bool,
    pub(super) shape: Shape,
    /// Which of the message's required fields it is.
    pub(super) required: Option<usize>,
}

/// What stands behind a field's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Integers, booleans, enumerations.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// Bytes, or text that nobody promised to be UTF-8.
    Bytes,
    /// UTF-8.
    Text,
    /// A message, by its place in the tables.
    Message(usize),
    /// A message between two tags.
    Group(usize),
}

impl Tables {
    /// The tables of what `root` can hold. Types may name each other in circles: each has one table.
    pub(super) fn of(root: &MessageDescriptor) -> Self {
        let mut known = Known { places: HashMap::new(), found: Vec::new() };
        known.place(root);
        let mut messages = Vec::new();
        while let Some(next) = known.found.get(messages.len()).cloned() {
            messages.push(table(&next, &mut known));
        }
        let dynamic =
            ["google.protobuf.Value", "google.protobuf.Any"].iter().any(|name| known.places.contains_key(*name));
        Self { messages, dynamic }
    }

    /// Can a record hold messages that stand for any value?
    pub(super) fn dynamic(&self) -> bool {
        self.dynamic
    }

    /// A message type. [`Shape`] names only what is there.
    pub(super) fn message(&self, place: usize) -> &Message {
        &self.messages[place]
    }
}

impl Message {
    /// The field of a number.
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        // Most messages number their fields from one, without a gap.
        let guess = (number as usize).checked_sub(1).and_then(|place| self.fields.get(place));
        guess.filter(|field| field.number == number).or_else(|| {
            let place = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
            self.fields.get(place)
        })
    }
}

/// Message types by name, in the order in which they were met.
struct Known {
    places: HashMap<String, usize>,
    found: Vec<MessageDescriptor>,
}

impl Known {
    fn place(&mut self, message: &MessageDescriptor) -> usize {
        let next = self.places.len();
        let place = *self.places.entry(message.full_name().to_owned()).or_insert(next);
        if place == next {
            self.found.push(message.clone());
        }
        place
    }

    fn shape(&mut self, kind: &Kind, group: bool, utf8: bool) -> Shape {
        match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Shape::Fixed64,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Shape::Fixed32,
            Kind::String if utf8 => Shape::Text,
            Kind::String | Kind::Bytes => Shape::Bytes,
            Kind::Message(message) if group => Shape::Group(self.place(message)),
            Kind::Message(message) => Shape::Message(self.place(message)),
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Bool
            | Kind::Enum(_) => Shape::Varint,
        }
    }
}

fn table(message: &MessageDescriptor, known: &mut Known) -> Message {
    let mut fields = Vec::new();
    let utf8 = message.parent_file().syntax() != Syntax::Proto2;
    for field in message.fields() {
        fields.push(Field {
            number: field.number(),
            name: field.name().to_owned(),
            full_name: field.full_name().to_owned(),
            repeated: field.cardinality() == Cardinality::Repeated,
            shape: known.shape(&field.kind(), field.is_group(), utf8),
            required: (field.cardinality() == Cardinality::Required).then_some(0),
        });
    }
    for field in message.extensions() {
        fields.push(Field {
            number: field.number(),
            name: format!("[{}]", field.full_name()),
            full_name: field.full_name().to_owned(),
            repeated: field.cardinality() == Cardinality::Repeated,
            shape: known.shape(&field.kind(), field.is_group(), utf8),
            required: None,
        });
    }
    fields.sort_by_key(|field| field.number);
    let mut required = Vec::new();
    for (place, field) in fields.iter_mut().enumerate() {
        if let Some(nth) = &mut field.required {
            *nth = required.len();
            required.push(place);
        }
    }
    Message { fields, required }
}
