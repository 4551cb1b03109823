//! A message as wire format, the same bytes for the same value: fields by number, as prost-reflect writes them, but
//! the entries of maps, which it takes from a hash table, in the order of their bytes.
//!
//! What is inside a `google.protobuf.Any` is written by prost-reflect itself: a map in there has no order.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value, prost::Message};

const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;

/// Appends a message. What is within it is written first and then copied: prost would measure each message anew at each
/// level above it.
pub(super) fn message(mut message: DynamicMessage, out: &mut Vec<u8>) {
    let owner = message.descriptor();
    let fields: Vec<(FieldDescriptor, Value)> = message.take_fields().collect();
    for (field, value) in fields {
        match value {
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else { continue };
                let mut written: Vec<Vec<u8>> = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let mut pair = Vec::new();
                    one(&entry, &entry.map_entry_key_field(), key.into(), &mut pair);
                    one(&entry, &entry.map_entry_value_field(), value, &mut pair);
                    written.push(pair);
                }
                written.sort_unstable();
                for pair in written {
                    delimited(field.number(), &pair, out);
                }
            }
            Value::List(items) if matches!(field.kind(), Kind::Message(_)) => {
                for item in items {
                    one(&owner, &field, item, out);
                }
            }
            value => one(&owner, &field, value, out),
        }
    }
    // What is left: extensions.
    message.encode_raw(out);
}

/// Appends one field with its tag; of a repeated field of messages one item.
fn one(owner: &MessageDescriptor, field: &FieldDescriptor, value: Value, out: &mut Vec<u8>) {
    match value {
        Value::Message(inner) if field.is_group() => {
            tag(field.number(), GROUP_START, out);
            message(inner, out);
            tag(field.number(), GROUP_END, out);
        }
        Value::Message(inner) => {
            let mut bytes = Vec::new();
            message(inner, &mut bytes);
            delimited(field.number(), &bytes, out);
        }
        value => {
            let mut single = DynamicMessage::new(owner.clone());
            single.set_field(field, value);
            single.encode_raw(out);
        }
    }
}

fn delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    tag(number, LENGTH_DELIMITED, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn tag(number: u32, wire: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
