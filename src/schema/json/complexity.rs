//! Looks at a schema before it is compiled: whether it refers to itself only, how far it unfolds, and what that makes
//! a value cost.
//!
//! `$ref`, `allOf`, `if` and the like apply more schemas to the value at hand without moving into it. What they come to
//! for one value is a tree that can double with each step, and a circle among them never ends. Both are refused here,
//! so that all that remains to be counted while a record is checked is what is asked of the record.

use crate::limits::{
    SCHEMA_JSON_DYNAMIC_CROSSINGS_MAX, SCHEMA_JSON_IN_PLACE_DEPTH_MAX, SCHEMA_JSON_IN_PLACE_MAX,
    SCHEMA_JSON_PATTERNS_MAX, SCHEMA_JSON_SUBSCHEMAS_MAX,
};
use jsonschema::{Draft, ReferencingError, Registry, Retrieve, Uri};
use serde_json::{Map, Value};
use std::{
    collections::{HashMap, HashSet},
    error::Error,
    ptr,
    sync::Arc,
};

/// Keywords whose value is a schema for a part of the record.
const PARTS: [&str; 9] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "items",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "prefixItems",
];
/// Keywords whose value has schemas for parts of the record, by name.
const NAMED_PARTS: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];
/// Keywords whose value is a schema, or several, for the value itself.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "else", "if", "not", "oneOf", "then"];
/// The same, by name.
const NAMED_IN_PLACE: [&str; 2] = ["dependencies", "dependentSchemas"];
/// Keywords that name a schema for the value itself.
const REFERENCES: [&str; 3] = ["$dynamicRef", "$recursiveRef", "$ref"];

/// What a schema is called that has no `$id`.
const NAMELESS: &str = "json-schema:///";

/// What was found out about a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Keywords that apply to one value at once, where they are most.
    pub(super) in_place: u64,
    /// Its patterns.
    pub(super) patterns: usize,
}

/// Refuses whatever is not in the schema itself.
#[derive(Debug)]
pub(super) struct NothingElse;

impl Retrieve for NothingElse {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        Err("it is not in the schema".into())
    }
}

/// Looks at a schema.
pub(super) fn examine(schema: &Value) -> Result<Facts, String> {
    let draft = Draft::default().detect(schema);
    let registry = Registry::new()
        .draft(draft)
        .retriever(NothingElse)
        .add(NAMELESS, schema)
        .and_then(jsonschema::RegistryBuilder::prepare)
        .map_err(|error| reason(&error))?;
    let base = jsonschema::uri::from_str(NAMELESS).map_err(|error| error.to_string())?;
    let mut own = HashSet::new();
    addresses(schema, &mut own);
    let mut walk = Walk {
        registry: &registry,
        own,
        costs: HashMap::new(),
        seen: HashSet::new(),
        to_see: Vec::new(),
        dynamic: false,
        crossings: 0,
        facts: Facts::default(),
    };
    walk.to_see.push(Place { schema, base: Arc::new(base), is_own_base: false, draft });
    while let Some(place) = walk.to_see.pop() {
        walk.see(&place)?;
    }
    if walk.dynamic && walk.crossings > SCHEMA_JSON_DYNAMIC_CROSSINGS_MAX {
        return Err(format!(
            "it has dynamic references and more than {SCHEMA_JSON_DYNAMIC_CROSSINGS_MAX} references from one `$id` to another"
        ));
    }
    Ok(walk.facts)
}

/// Where the objects of a schema are, so that they can be told from those of the metaschemas.
fn addresses(value: &Value, all: &mut HashSet<usize>) {
    match value {
        Value::Object(members) => {
            all.insert(ptr::from_ref(value).addr());
            members.values().for_each(|value| addresses(value, all));
        }
        Value::Array(elements) => elements.iter().for_each(|value| addresses(value, all)),
        _ => {}
    }
}

/// Why a reference leads nowhere.
pub(super) fn reason(error: &ReferencingError) -> String {
    match error {
        ReferencingError::Unretrievable { uri, .. } => {
            format!(
                "`{}` {ELSEWHERE}: a schema may refer to itself and to the metaschemas only",
                uri.trim_start_matches(NAMELESS)
            )
        }
        ReferencingError::UnknownSpecification { specification } => {
            format!("`{specification}` {ELSEWHERE}, and is none of the drafts 4, 6, 7, 2019-09 and 2020-12")
        }
        other => other.to_string(),
    }
}

/// What is said of a schema that is somewhere else.
pub(super) const ELSEWHERE: &str = "is not in the schema";

/// A subschema and what it is called from.
#[derive(Debug, Clone)]
struct Place<'r> {
    schema: &'r Value,
    base: Arc<Uri<String>>,
    /// Whether `base` is the subschema's own already, as it is behind a reference: then its `$id` is not resolved once
    /// more.
    is_own_base: bool,
    draft: Draft,
}

/// What a subschema unfolds to.
#[derive(Debug, Clone, Copy)]
enum Cost {
    /// Its end has not been reached: who comes here again goes in a circle.
    Open,
    Known {
        keywords: u64,
        depth: usize,
    },
}

struct Walk<'r> {
    registry: &'r Registry<'r>,
    /// The addresses of the schema's own subschemas.
    own: HashSet<usize>,
    /// By the address of the subschema, which stays where it is as long as the registry does.
    costs: HashMap<usize, Cost>,
    seen: HashSet<usize>,
    to_see: Vec<Place<'r>>,
    /// Whether the schema has dynamic references of its own.
    dynamic: bool,
    /// Its references from one `$id` to another.
    crossings: usize,
    facts: Facts,
}

impl<'r> Walk<'r> {
    /// Sees to a subschema, and leaves those within it to be seen.
    fn see(&mut self, place: &Place<'r>) -> Result<(), String> {
        if !self.seen.insert(ptr::from_ref(place.schema).addr()) {
            return Ok(());
        }
        if self.seen.len() > SCHEMA_JSON_SUBSCHEMAS_MAX {
            return Err(format!("it has more than {SCHEMA_JSON_SUBSCHEMAS_MAX} subschemas"));
        }
        let Value::Object(keywords) = place.schema else { return Ok(()) };
        let (in_place, _) = self.cost(place, 0)?;
        self.facts.in_place = self.facts.in_place.max(in_place);
        self.facts.patterns += usize::from(keywords.contains_key("pattern"))
            + keywords.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        if self.facts.patterns > SCHEMA_JSON_PATTERNS_MAX {
            return Err(format!("it has more than {SCHEMA_JSON_PATTERNS_MAX} patterns"));
        }
        let inner = self.inner(place)?;
        let within = below(keywords, &PARTS, &NAMED_PARTS).chain(below(keywords, &IN_PLACE, &NAMED_IN_PLACE));
        self.to_see.extend(within.map(|schema| Place { schema, ..inner.clone() }));
        Ok(())
    }

    /// How many keywords apply to a value at once, and in how many steps.
    fn cost(&mut self, place: &Place<'r>, above: usize) -> Result<(u64, usize), String> {
        let Value::Object(keywords) = place.schema else { return Ok((1, 1)) };
        let address = ptr::from_ref(place.schema).addr();
        match self.costs.get(&address) {
            Some(Cost::Known { keywords, depth }) => return Ok((*keywords, *depth)),
            Some(Cost::Open) => {
                return Err("a reference comes back to where it began without moving into the record".to_owned());
            }
            None => {}
        }
        let too_deep = || {
            format!(
                "more than {SCHEMA_JSON_IN_PLACE_DEPTH_MAX} steps of `$ref`, `allOf` and the like apply to one value"
            )
        };
        if above > SCHEMA_JSON_IN_PLACE_DEPTH_MAX {
            return Err(too_deep());
        }
        self.costs.insert(address, Cost::Open);
        let inner = self.inner(place)?;
        let mut sum = 1 + keywords.len() as u64;
        let mut deepest = 0;
        let mut targets: Vec<Place<'r>> =
            below(keywords, &IN_PLACE, &NAMED_IN_PLACE).map(|schema| Place { schema, ..inner.clone() }).collect();
        for keyword in REFERENCES {
            if let Some(Value::String(reference)) = keywords.get(keyword) {
                let target = self.target(&inner, reference)?;
                if self.own.contains(&address) {
                    self.dynamic |= keyword != "$ref";
                    self.crossings += usize::from(target.base != inner.base);
                }
                self.to_see.push(target.clone());
                targets.push(target);
            }
        }
        for target in targets {
            let (more, depth) = self.cost(&target, above + 1)?;
            sum = sum.saturating_add(more);
            deepest = deepest.max(depth);
        }
        // What `unevaluated…` leaves over is found by going through all that applies once more.
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            sum = sum.saturating_mul(2);
        }
        if sum > SCHEMA_JSON_IN_PLACE_MAX {
            return Err(format!(
                "more than {SCHEMA_JSON_IN_PLACE_MAX} keywords apply to one value, `$ref`, `allOf` and the like followed"
            ));
        }
        if deepest >= SCHEMA_JSON_IN_PLACE_DEPTH_MAX {
            return Err(too_deep());
        }
        self.costs.insert(address, Cost::Known { keywords: sum, depth: deepest + 1 });
        Ok((sum, deepest + 1))
    }

    /// The place within a subschema: its own `$id` holds there.
    fn inner(&self, place: &Place<'r>) -> Result<Place<'r>, String> {
        let draft = place.draft.detect(place.schema);
        if place.is_own_base {
            return Ok(Place { draft, is_own_base: false, ..place.clone() });
        }
        let resolver = self
            .registry
            .resolver((*place.base).clone())
            .in_subresource(draft.create_resource_ref(place.schema))
            .map_err(|error| reason(&error))?;
        Ok(Place { schema: place.schema, base: resolver.base_uri(), is_own_base: false, draft })
    }

    fn target(&self, from: &Place<'r>, reference: &str) -> Result<Place<'r>, String> {
        let resolved =
            self.registry.resolver((*from.base).clone()).lookup(reference).map_err(|error| reason(&error))?;
        let (schema, resolver, draft) = resolved.into_inner();
        Ok(Place { schema, base: resolver.base_uri(), is_own_base: true, draft })
    }
}

/// The subschemas that stand at these keywords: alone, in an array, or by name.
fn below<'r>(
    keywords: &'r Map<String, Value>,
    plain: &'r [&str],
    named: &'r [&str],
) -> impl Iterator<Item = &'r Value> {
    let plain = plain.iter().filter_map(|keyword| keywords.get(*keyword)).flat_map(|value| match value {
        Value::Array(several) => several.as_slice(),
        one => std::slice::from_ref(one),
    });
    let named =
        named.iter().filter_map(|keyword| keywords.get(*keyword)).filter_map(Value::as_object).flat_map(Map::values);
    plain.chain(named).filter(|schema| schema.is_object() || schema.is_boolean())
}
