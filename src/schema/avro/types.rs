//! The types of a schema, laid out flat: names resolved, logical types taken off, and what is needed to walk records
//! in bounded time worked out once.

use apache_avro::{
    Schema,
    schema::{EnumSchema, FixedSchema, InnerDecimalSchema, RecordSchema, UuidSchema},
};
use std::collections::{HashMap, HashSet};

/// The types of a schema.
#[derive(Debug)]
pub(super) struct Types {
    all: Vec<Type>,
    root: usize,
    /// Which types are written as no bytes at all: `null`, and what consists of it.
    empty: Vec<bool>,
}

/// One type. Others are named by their place among the types.
#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Fixed(String, usize),
    Enum(Enum),
    Record(Record),
}

/// An enumeration.
#[derive(Debug)]
pub(super) struct Enum {
    pub(super) name: String,
    pub(super) symbols: Vec<String>,
    pub(super) known: HashSet<String>,
}

/// A record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    /// Places of the fields, by name.
    pub(super) places: HashMap<String, usize>,
    /// Places of the fields without a default.
    pub(super) required: Vec<usize>,
    /// Places of the fields that are written as bytes.
    pub(super) written: Vec<usize>,
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) of: usize,
    pub(super) has_default: bool,
}

impl Types {
    /// Lays out a schema. The error names a record that can have no value.
    pub(super) fn of(schema: &Schema) -> Result<Self, String> {
        let mut layout = Layout { types: Vec::new(), names: HashMap::new() };
        let root = layout.place(schema)?;
        let mut types = layout.types;
        let finite = settle(&types, |of, known| match of {
            Type::Record(record) => record.fields.iter().all(|field| known[field.of]),
            Type::Union(branches) => branches.iter().any(|branch| known[*branch]),
            _ => true,
        });
        for (of, finite) in types.iter().zip(&finite) {
            if let (Type::Record(record), false) = (of, finite) {
                return Err(format!("record {} contains itself without end", record.name));
            }
        }
        let empty = settle(&types, |of, known| match of {
            Type::Record(record) => record.fields.iter().all(|field| known[field.of]),
            Type::Null | Type::Fixed(_, 0) => true,
            _ => false,
        });
        for of in &mut types {
            if let Type::Record(record) = of {
                record.written = (0..record.fields.len()).filter(|at| !empty[record.fields[*at].of]).collect();
            }
        }
        Ok(Self { all: types, root, empty })
    }

    /// The type of records.
    pub(super) fn root(&self) -> usize {
        self.root
    }

    /// A type by its place.
    pub(super) fn at(&self, place: usize) -> &Type {
        &self.all[place]
    }

    /// Is the type written as no bytes at all?
    pub(super) fn is_empty(&self, place: usize) -> bool {
        self.empty[place]
    }
}

impl Type {
    /// The name by which a union's value says which branch it is.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Fixed(name, _) => name,
            Self::Enum(of) => &of.name,
            Self::Record(of) => &of.name,
        }
    }
}

/// What is true of each type, if nothing is but by the rule: looked at until nothing changes, forth and back, because
/// types mostly name those that stand next to them.
fn settle(types: &[Type], rule: impl Fn(&Type, &[bool]) -> bool) -> Vec<bool> {
    let mut known = vec![false; types.len()];
    loop {
        let mut changed = false;
        for place in (0..types.len()).rev().chain(0..types.len()) {
            if !known[place] && rule(&types[place], &known) {
                known[place] = true;
                changed = true;
            }
        }
        if !changed {
            return known;
        }
    }
}

/// Types on the way from apache-avro's form. It calls itself as deep as the schema's text nests, which is bounded.
struct Layout {
    types: Vec<Type>,
    names: HashMap<String, usize>,
}

impl Layout {
    fn place(&mut self, schema: &Schema) -> Result<usize, String> {
        let of = match schema {
            Schema::Null => Type::Null,
            Schema::Boolean => Type::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Type::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Type::Long,
            Schema::Float => Type::Float,
            Schema::Double => Type::Double,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Type::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Type::String,
            Schema::Array(array) => Type::Array(self.place(&array.items)?),
            Schema::Map(map) => Type::Map(self.place(&map.types)?),
            Schema::Union(union) => {
                Type::Union(union.variants().iter().map(|branch| self.place(branch)).collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => return self.record(record),
            Schema::Enum(of) => return Ok(self.enumeration(of)),
            Schema::Fixed(of) | Schema::Duration(of) | Schema::Uuid(UuidSchema::Fixed(of)) => {
                return Ok(self.fixed(of));
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Type::Bytes,
                InnerDecimalSchema::Fixed(of) => return Ok(self.fixed(of)),
            },
            Schema::Ref { name } => {
                let name = name.fullname(None);
                return self.names.get(&name).copied().ok_or_else(|| format!("no type is named {name}"));
            }
        };
        Ok(self.add(of))
    }

    fn add(&mut self, of: Type) -> usize {
        self.types.push(of);
        self.types.len() - 1
    }

    fn named(&mut self, name: String, of: Type) -> usize {
        let place = self.add(of);
        self.names.insert(name, place);
        place
    }

    fn fixed(&mut self, of: &FixedSchema) -> usize {
        let name = of.name.fullname(None);
        self.named(name.clone(), Type::Fixed(name, of.size))
    }

    fn enumeration(&mut self, of: &EnumSchema) -> usize {
        let name = of.name.fullname(None);
        let known = of.symbols.iter().cloned().collect();
        self.named(name.clone(), Type::Enum(Enum { name, symbols: of.symbols.clone(), known }))
    }

    fn record(&mut self, of: &RecordSchema) -> Result<usize, String> {
        let name = of.name.fullname(None);
        // Its name is known before its fields: they may name it.
        let place = self.named(name.clone(), Type::Record(Record::default()));
        let mut record = Record { name, ..Record::default() };
        for (at, field) in of.fields.iter().enumerate() {
            let has_default = field.default.is_some();
            record.places.insert(field.name.clone(), at);
            if !has_default {
                record.required.push(at);
            }
            record.fields.push(Field { name: field.name.clone(), of: self.place(&field.schema)?, has_default });
        }
        self.types[place] = Type::Record(record);
        Ok(place)
    }
}
