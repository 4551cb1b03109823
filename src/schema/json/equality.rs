//! Whether values are equal: of a record and a schema (`const`, `enum`), and of a record among themselves
//! (`uniqueItems`). Members may come in any order, and `1.0` is `1`.

use super::{exact, fuel, instance::TapeNode, number::Number, tape::Kind};
use jsonschema::json::JsonNumber;
use serde_json::Value;
use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

/// As many elements are compared each with each; more are sorted by a hash first.
const FEW: usize = 8;

/// Whether a value of the record is the schema's.
pub(super) fn as_value(node: TapeNode<'_>, expected: &Value) -> bool {
    if !fuel::spend(1) {
        return false;
    }
    match expected {
        Value::Null => node.entry().kind == Kind::Null,
        Value::Bool(expected) => node.entry().kind == if *expected { Kind::True } else { Kind::False },
        Value::Number(expected) => node
            .number()
            .is_some_and(|number| fuel::spend(2 + number.text.len() / 8) && is_number(node, &number, expected)),
        Value::String(expected) => node.string().is_some_and(|string| {
            string.len() == expected.len() && fuel::spend(string.len() / 64) && string == expected
        }),
        Value::Array(expected) => {
            node.entry().kind == Kind::Array
                && node.entry().len as usize == expected.len()
                && fuel::descend()
                && node.elements().zip(expected).all(|(element, expected)| as_value(element, expected))
        }
        Value::Object(expected) => {
            node.entry().kind == Kind::Object
                && node.entry().len as usize == expected.len()
                && fuel::descend()
                && node.members().all(|(name, value)| {
                    fuel::spend(4 + name.len() / 16)
                        && expected.get(name).is_some_and(|expected| as_value(value, expected))
                })
        }
    }
}

/// Whether a number of the record is the schema's.
fn is_number(node: TapeNode<'_>, number: &Number<'_>, expected: &serde_json::Number) -> bool {
    match (number.as_i64(), expected.as_i64()) {
        (Some(number), Some(expected)) => number == expected,
        _ => exact::with_decimal(node.tape.exact, expected, |expected| number.decimal() == expected),
    }
}

/// Whether no two elements of an array are equal.
pub(super) fn all_different(array: TapeNode<'_>) -> bool {
    let len = array.entry().len as usize;
    if len <= FEW {
        return array
            .elements()
            .enumerate()
            .all(|(index, element)| array.elements().take(index).all(|earlier| differ(earlier, element)));
    }
    // Sorting is an element's logarithm; the fuel for it is paid at once.
    if !fuel::spend(len.saturating_mul(8)) {
        return true;
    }
    let mut hashed: Vec<(u64, u32)> = array
        .elements()
        .map_while(|element| {
            let hash = hash(element);
            (!fuel::is_empty()).then_some((hash, element.index))
        })
        .collect();
    hashed.sort_unstable();
    hashed.chunk_by(|left, right| left.0 == right.0).all(|run| {
        let node = |(_, index): &(u64, u32)| TapeNode { tape: array.tape, index: *index };
        run.iter().enumerate().all(|(at, right)| run.iter().take(at).all(|left| differ(node(left), node(right))))
    })
}

/// Whether two values are known not to be equal; without fuel nothing is, so that whoever asks about many stops.
fn differ(left: TapeNode<'_>, right: TapeNode<'_>) -> bool {
    !equal(left, right) && !fuel::is_empty()
}

/// Whether two values of a record are equal.
fn equal(left: TapeNode<'_>, right: TapeNode<'_>) -> bool {
    if !fuel::spend(1) {
        return false;
    }
    let (one, other) = (left.entry(), right.entry());
    match (one.kind, other.kind) {
        (Kind::Text | Kind::Unescaped, Kind::Text | Kind::Unescaped) => {
            one.len == other.len && fuel::spend(one.len as usize / 64) && left.string() == right.string()
        }
        (Kind::Integer | Kind::Float, Kind::Integer | Kind::Float) => match (left.number(), right.number()) {
            (Some(one), Some(other)) => {
                fuel::spend(4 + (one.text.len() + other.text.len()) / 16) && one.decimal() == other.decimal()
            }
            _ => false,
        },
        (Kind::Array, Kind::Array) => {
            one.len == other.len
                && fuel::descend()
                && left.elements().zip(right.elements()).all(|(one, other)| equal(one, other))
        }
        (Kind::Object, Kind::Object) => {
            one.len == other.len
                && fuel::descend()
                && left.members().all(|(name, one)| {
                    fuel::spend(1 + other.len as usize / 4) && right.member(name).is_some_and(|other| equal(one, other))
                })
        }
        (one, other) => one == other,
    }
}

/// Equal values have equal hashes.
fn hash(node: TapeNode<'_>) -> u64 {
    let mut state = DefaultHasher::new();
    hash_into(node, &mut state);
    state.finish()
}

fn hash_into(node: TapeNode<'_>, state: &mut DefaultHasher) {
    let entry = node.entry();
    if !fuel::spend(8) {
        return;
    }
    match entry.kind {
        Kind::Text | Kind::Unescaped | Kind::Replaced => {
            if fuel::spend(entry.len as usize / 8) {
                node.string().hash(state);
            }
        }
        Kind::Integer | Kind::Float => node.number().map(|number| number.decimal()).hash(state),
        Kind::Array => {
            if fuel::descend() {
                node.elements().for_each(|element| hash_into(element, state));
            }
            state.write_u8(b']');
        }
        Kind::Object => {
            // In any order: the sum of the members' hashes.
            let mut sum = 0_u64;
            if fuel::descend() {
                for (name, value) in node.members() {
                    let mut member = DefaultHasher::new();
                    fuel::spend(4 + name.len() / 8);
                    name.hash(&mut member);
                    hash_into(value, &mut member);
                    sum = sum.wrapping_add(member.finish());
                }
            }
            state.write_u64(sum);
        }
        kind @ (Kind::Null | Kind::False | Kind::True) => state.write_u8(kind as u8),
    }
}
