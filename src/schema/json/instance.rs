//! The tape as the validator sees it. Whatever it asks costs fuel.

use super::{
    equality, fuel,
    number::Number,
    preview::preview,
    tape::{self, Entry, Kind, Tape},
};
use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object},
};
use serde_json::Value;
use std::borrow::Cow;

/// The representation: tapes.
#[derive(Debug)]
pub(super) struct TapeJson;

impl Json for TapeJson {
    type Node<'a> = TapeNode<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();

    // A lookup looks at the names one after the other, so a pass over the members is what it costs anyway.
    const KEYS_PER_LOOKUP: usize = 4;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(TapeNode<'_>) -> T) -> T {
        let len = u32::try_from(string.len()).unwrap_or(u32::MAX);
        let entries = [Entry { kind: Kind::Text, at: 0, len, next: 1 }];
        fuel::spend_on_value();
        f(TapeNode::root(&Tape { record: string, unescaped: "", entries: &entries, exact: None }))
    }
}

/// A value of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct TapeNode<'a> {
    pub(super) tape: &'a Tape<'a>,
    pub(super) index: u32,
}

impl<'a> TapeNode<'a> {
    /// The record itself.
    pub(super) fn root(tape: &'a Tape<'a>) -> Self {
        Self { tape, index: 0 }
    }

    #[inline]
    pub(super) fn entry(self) -> Entry {
        self.tape.entry(self.index)
    }

    #[inline]
    fn at(self, index: u32) -> Self {
        Self { tape: self.tape, index }
    }

    /// The number that this is.
    #[inline]
    pub(super) fn number(self) -> Option<Number<'a>> {
        let entry = self.entry();
        let written_as_integer = match entry.kind {
            Kind::Integer => true,
            Kind::Float => false,
            _ => return None,
        };
        Some(Number { text: self.tape.text(entry), written_as_integer })
    }

    /// The string that this is.
    #[inline]
    pub(super) fn string(self) -> Option<&'a str> {
        let entry = self.entry();
        matches!(entry.kind, Kind::Text | Kind::Unescaped).then(|| self.tape.text(entry))
    }

    /// The members of the object that this is.
    pub(super) fn members(self) -> impl Iterator<Item = (&'a str, Self)> {
        self.tape.members(self.index).map(move |(name, value)| (self.tape.text(name), self.at(value)))
    }

    /// The elements of the array that this is.
    pub(super) fn elements(self) -> impl Iterator<Item = Self> {
        self.tape.elements(self.index).map(move |index| self.at(index))
    }

    /// The member of a name.
    #[inline]
    pub(super) fn member(self, wanted: &str) -> Option<Self> {
        let same = |name: Entry| name.len as usize == wanted.len() && self.tape.text(name) == wanted;
        self.tape.members(self.index).find(|(name, _)| same(*name)).map(|(_, value)| self.at(value))
    }
}

impl<'a> Node<'a, TapeJson> for TapeNode<'a> {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = Number<'a>;

    #[inline]
    fn as_object(&self) -> Option<Members<'a>> {
        (self.entry().kind == Kind::Object && fuel::descend()).then_some(Members(*self))
    }

    #[inline]
    fn as_array(&self) -> Option<Elements<'a>> {
        (self.entry().kind == Kind::Array && fuel::descend()).then_some(Elements(*self))
    }

    #[inline]
    fn as_string(&self) -> Option<Cow<'a, str>> {
        let string = self.string()?;
        // Without fuel a string is still a string, but there is nothing in it.
        Some(Cow::Borrowed(if fuel::spend_on_text(string.len()) { string } else { "" }))
    }

    #[inline]
    fn as_number(&self) -> Option<Number<'a>> {
        let number = self.number()?;
        // Without fuel a number is still a number, but a short one.
        let spent = fuel::spend(1 + number.text.len() / 4);
        Some(if spent { number } else { Number { text: "0", written_as_integer: true } })
    }

    #[inline]
    fn as_boolean(&self) -> Option<bool> {
        match self.entry().kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    #[inline]
    fn is_null(&self) -> bool {
        self.entry().kind == Kind::Null
    }

    #[inline]
    fn is_number(&self) -> bool {
        matches!(self.entry().kind, Kind::Integer | Kind::Float)
    }

    #[inline]
    fn is_string(&self) -> bool {
        matches!(self.entry().kind, Kind::Text | Kind::Unescaped)
    }

    #[inline]
    fn json_type(&self) -> JsonType {
        match self.entry().kind {
            Kind::Null => JsonType::Null,
            Kind::False | Kind::True => JsonType::Boolean,
            Kind::Integer | Kind::Float => JsonType::Number,
            Kind::Text | Kind::Unescaped | Kind::Replaced => JsonType::String,
            Kind::Array => JsonType::Array,
            Kind::Object => JsonType::Object,
        }
    }

    #[inline]
    fn string_length(&self) -> Option<u64> {
        let string = self.string()?;
        let string = if fuel::spend(1 + string.len() / 64) { string } else { "" };
        Some(string.chars().count() as u64)
    }

    fn equals_value(&self, expected: &Value) -> bool {
        equality::as_value(*self, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(preview(*self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::tagged(std::ptr::from_ref(self.tape).addr(), self.index))
    }
}

/// An object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Members<'a>(TapeNode<'a>);

impl<'a> Object<'a, TapeJson> for Members<'a> {
    type Node = TapeNode<'a>;
    type MemberName = Name<'a>;
    type MembersIter = MembersIter<'a>;

    #[inline]
    fn len(&self) -> usize {
        self.0.entry().len as usize
    }

    #[inline]
    fn get(&self, key: &Box<str>) -> Option<TapeNode<'a>> {
        // As if all had been looked at: an object that makes every lookup dear is the sender's choice.
        if !fuel::spend(1 + self.len() / 4) {
            return None;
        }
        let found = self.0.member(key)?;
        fuel::spend_on_value().then_some(found)
    }

    #[inline]
    fn members(&self) -> MembersIter<'a> {
        MembersIter { object: self.0, members: self.0.tape.members(self.0.index) }
    }
}

/// See [`Members`].
#[derive(Debug)]
pub(super) struct MembersIter<'a> {
    object: TapeNode<'a>,
    members: tape::Members<'a>,
}

impl<'a> Iterator for MembersIter<'a> {
    type Item = (Name<'a>, TapeNode<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.members.next()?;
        fuel::spend_on_value().then(|| (Name(self.object.tape.text(name)), self.object.at(value)))
    }
}

/// The name of a member. To look at it costs what text costs: it may be matched with patterns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a>(&'a str);

impl AsRef<str> for Name<'_> {
    #[inline]
    fn as_ref(&self) -> &str {
        if fuel::spend_on_text(self.0.len()) { self.0 } else { "" }
    }
}

impl<'a> From<Name<'a>> for Cow<'a, str> {
    fn from(name: Name<'a>) -> Self {
        Cow::Borrowed(name.0)
    }
}

/// An array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elements<'a>(TapeNode<'a>);

impl<'a> Array<'a, TapeJson> for Elements<'a> {
    type Node = TapeNode<'a>;
    type ElementsIter = ElementsIter<'a>;

    #[inline]
    fn len(&self) -> usize {
        self.0.entry().len as usize
    }

    #[inline]
    fn elements(&self) -> ElementsIter<'a> {
        ElementsIter { array: self.0, elements: self.0.tape.elements(self.0.index) }
    }

    fn is_unique(&self) -> bool {
        equality::all_different(self.0)
    }
}

/// See [`Elements`].
#[derive(Debug)]
pub(super) struct ElementsIter<'a> {
    array: TapeNode<'a>,
    elements: tape::Elements<'a>,
}

impl<'a> Iterator for ElementsIter<'a> {
    type Item = TapeNode<'a>;

    #[inline]
    fn next(&mut self) -> Option<TapeNode<'a>> {
        let index = self.elements.next()?;
        fuel::spend_on_value().then(|| self.array.at(index))
    }
}
