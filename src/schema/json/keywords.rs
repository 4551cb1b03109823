//! The keywords that compare numbers, by their digits: `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`,
//! `multipleOf` and `const`. The crate's own compare as doubles what 64 bits do not hold.

use super::{
    decimal::{DIVISOR_DIGITS, Decimal, Divisor},
    equality,
    exact::Exact,
    instance::{TapeJson, TapeNode},
    number::Number,
    preview::{cut_str, preview},
};
use jsonschema::{
    Keyword, Retrieve, ValidationError, ValidationOptions,
    json::{JsonNumber, Node},
};
use serde_json::{Map, Value};
use std::{cmp::Ordering, sync::Arc};

/// The options that a schema is compiled with.
pub(super) type Options<'a> = ValidationOptions<'a, Arc<dyn Retrieve>, TapeJson>;
/// A keyword, or what is wrong with its value.
type Compiled<'a> = Result<Box<dyn for<'i> Keyword<'i, TapeJson>>, ValidationError<'a>>;

/// Puts the keywords of this module in place of the crate's.
pub(super) fn install<'a>(options: Options<'a>, exact: &Arc<Exact>) -> Options<'a> {
    let (for_const, for_divisors) = (Arc::clone(exact), Arc::clone(exact));
    let options = options
        .with_keyword("const", move |_, value, _| {
            Ok(Box::new(Constant { value: value.clone(), shown: for_const.show(value) }))
        })
        .with_keyword("multipleOf", move |_, value, _| multiple_of(value, &for_divisors));
    BOUNDS.iter().fold(options, |options, bound| {
        let exact = Arc::clone(exact);
        options.with_keyword(bound.keyword, move |parent, value, _| Ok(compile_bound(*bound, parent, value, &exact)))
    })
}

/// A keyword that bounds numbers.
#[derive(Debug, Clone, Copy)]
struct Bound {
    keyword: &'static str,
    /// The keyword that makes the bound itself invalid where it is `true`, in draft 4.
    exclusive: Option<(&'static str, &'static Bound)>,
    /// How a number may compare with the bound.
    accepts: fn(Ordering) -> bool,
    /// What is said of one that may not.
    words: &'static str,
}

const ABOVE: Bound = Bound {
    keyword: "exclusiveMinimum",
    exclusive: None,
    accepts: Ordering::is_gt,
    words: "less than or equal to the minimum of",
};
const BELOW: Bound = Bound {
    keyword: "exclusiveMaximum",
    exclusive: None,
    accepts: Ordering::is_lt,
    words: "greater than or equal to the maximum of",
};
const BOUNDS: [Bound; 4] = [
    Bound {
        keyword: "minimum",
        exclusive: Some(("exclusiveMinimum", &ABOVE)),
        accepts: Ordering::is_ge,
        words: "less than the minimum of",
    },
    Bound {
        keyword: "maximum",
        exclusive: Some(("exclusiveMaximum", &BELOW)),
        accepts: Ordering::is_le,
        words: "greater than the maximum of",
    },
    ABOVE,
    BELOW,
];

fn compile_bound(
    bound: Bound,
    parent: &Map<String, Value>,
    value: &Value,
    exact: &Exact,
) -> Box<dyn for<'i> Keyword<'i, TapeJson>> {
    // A boolean is draft 4's: it says how the other keyword is meant.
    let Value::Number(limit) = value else { return Box::new(Nothing) };
    let strict = bound.exclusive.filter(|(keyword, _)| parent.get(*keyword) == Some(&Value::Bool(true)));
    let bound = strict.map_or(bound, |(_, strict)| *strict);
    Box::new(Limit { bound, text: exact.text(limit).into(), whole: limit.as_i64() })
}

fn multiple_of<'a>(value: &Value, exact: &Exact) -> Compiled<'a> {
    let Value::Number(divisor) = value else { return Ok(Box::new(Nothing)) };
    let text = exact.text(divisor);
    let divisor = Divisor::new(Decimal::parse(&text)).ok_or_else(|| {
        ValidationError::custom(format!("{} has more than {DIVISOR_DIGITS} digits to divide by", cut_str(&text)))
    })?;
    Ok(Box::new(MultipleOf { divisor, shown: text.into() }))
}

/// What is said of a number that a keyword refuses. The value is asked for first, which costs fuel.
fn refused(instance: TapeNode<'_>, words: &str, of: &str) -> ValidationError<'static> {
    let shown = match instance.number() {
        Some(number) => cut_str(number.text),
        None => preview(instance).to_string(),
    };
    ValidationError::custom(format!("{shown} is {words} {}", cut_str(of)))
}

/// A keyword that says nothing.
struct Nothing;

impl<'i> Keyword<'i, TapeJson> for Nothing {
    fn validate(&self, _: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        Ok(())
    }

    fn is_valid(&self, _: TapeNode<'i>) -> bool {
        true
    }
}

/// A bound with its number.
struct Limit {
    bound: Bound,
    text: Box<str>,
    /// The same, if 64 bits hold it.
    whole: Option<i64>,
}

impl Limit {
    #[inline]
    fn accepts(&self, number: &Number<'_>) -> bool {
        let order = match (number.as_i64(), self.whole) {
            (Some(number), Some(limit)) => number.cmp(&limit),
            _ => number.decimal().cmp(&Decimal::parse(&self.text)),
        };
        (self.bound.accepts)(order)
    }
}

impl<'i> Keyword<'i, TapeJson> for Limit {
    fn validate(&self, instance: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(refused(instance, self.bound.words, &self.text)) }
    }

    #[inline]
    fn is_valid(&self, instance: TapeNode<'i>) -> bool {
        instance.as_number().is_none_or(|number| self.accepts(&number))
    }
}

/// `multipleOf`.
struct MultipleOf {
    divisor: Divisor,
    shown: Box<str>,
}

impl<'i> Keyword<'i, TapeJson> for MultipleOf {
    fn validate(&self, instance: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(refused(instance, "not a multiple of", &self.shown)) }
    }

    fn is_valid(&self, instance: TapeNode<'i>) -> bool {
        instance.as_number().is_none_or(|number| number.decimal().is_multiple_of(self.divisor))
    }
}

/// `const`.
struct Constant {
    value: Value,
    shown: String,
}

impl<'i> Keyword<'i, TapeJson> for Constant {
    fn validate(&self, instance: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            return Ok(());
        }
        Err(ValidationError::custom(format!("{} was expected", self.shown)))
    }

    fn is_valid(&self, instance: TapeNode<'i>) -> bool {
        equality::as_value(instance, &self.value)
    }
}
