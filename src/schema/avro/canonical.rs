//! The Parsing Canonical Form of a schema and its fingerprint, which the single-object encoding carries.
//!
//! Written from the specification, and not apache-avro's: that one keeps precision and scale of decimals, and does
//! not bring annotated primitive types to their short form, so that its fingerprints are not those of other
//! implementations.

use super::types::{Type, Types};
use std::{collections::HashSet, fmt::Write as _};

/// The fingerprint of an empty text, and the polynomial.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

/// The Parsing Canonical Form.
pub(super) fn form(types: &Types) -> String {
    let mut out = String::new();
    append(types, types.root(), &mut HashSet::new(), &mut out);
    out
}

/// A type that has a name is written once, and named from then on. Names and symbols have no letter to escape. It
/// calls itself as deep as the schema nests.
fn append(types: &Types, place: usize, written: &mut HashSet<usize>, out: &mut String) {
    let of = types.at(place);
    if matches!(of, Type::Fixed(..) | Type::Enum(_) | Type::Record(_)) && !written.insert(place) {
        put(out, format_args!("\"{}\"", of.name()));
        return;
    }
    match of {
        Type::Array(items) => {
            out.push_str("{\"type\":\"array\",\"items\":");
            append(types, *items, written, out);
            out.push('}');
        }
        Type::Map(values) => {
            out.push_str("{\"type\":\"map\",\"values\":");
            append(types, *values, written, out);
            out.push('}');
        }
        Type::Union(branches) => {
            out.push('[');
            for (nth, branch) in branches.iter().enumerate() {
                out.push_str(if nth == 0 { "" } else { "," });
                append(types, *branch, written, out);
            }
            out.push(']');
        }
        Type::Fixed(name, size) => {
            put(out, format_args!("{{\"name\":\"{name}\",\"type\":\"fixed\",\"size\":{size}}}"));
        }
        Type::Enum(of) => {
            let symbols = of.symbols.join("\",\"");
            let symbols = if of.symbols.is_empty() { String::new() } else { format!("\"{symbols}\"") };
            put(out, format_args!("{{\"name\":\"{}\",\"type\":\"enum\",\"symbols\":[{symbols}]}}", of.name));
        }
        Type::Record(record) => {
            put(out, format_args!("{{\"name\":\"{}\",\"type\":\"record\",\"fields\":[", record.name));
            for (nth, field) in record.fields.iter().enumerate() {
                let comma = if nth == 0 { "" } else { "," };
                put(out, format_args!("{comma}{{\"name\":\"{}\",\"type\":", field.name));
                append(types, field.of, written, out);
                out.push('}');
            }
            out.push_str("]}");
        }
        primitive => put(out, format_args!("\"{}\"", primitive.name())),
    }
}

fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(what);
}

/// CRC-64-AVRO of a canonical form, as the encoding carries it: little-endian.
pub(super) fn fingerprint(form: &str) -> [u8; 8] {
    let step = |crc: u64| (crc >> 1) ^ (EMPTY & (crc & 1).wrapping_neg());
    let crc = form.bytes().fold(EMPTY, |crc, byte| {
        let mut low = (crc ^ u64::from(byte)) & 0xff;
        for _ in 0..8 {
            low = step(low);
        }
        (crc >> 8) ^ low
    });
    crc.to_le_bytes()
}
