//! Which partition of a station a record goes to: the same choice on every backend. Pure.
//!
//! A record with a message id always goes to the same partition, so that the duplicate window of
//! that partition sees it again when it is sent again. Records without one take turns.
//!
//! The hash is FNV-1a, 64 bits, over the bytes of the whole id (`<base>` or `<base> <i>`), modulo the
//! number of partitions. It must not change: a gateway that hashes differently after an
//! upgrade would store a record twice that was sent before it and again after it.

use super::MessageId;
use crate::wire::nats::encode::ID_SEPARATOR;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The partition, from 0, of record `index` of a request. `turn` is where the request's first record
/// stands in the round robin of records without an id; the caller adds the number of records to it
/// for the next request. No partitions at all (a bug of the caller) yields 0.
#[must_use]
pub fn choose(id: Option<MessageId<'_>>, index: usize, turn: u64, partitions: usize) -> u16 {
    let partitions = u64::try_from(partitions).unwrap_or(1).max(1);
    let place = match id {
        None => turn.wrapping_add(index as u64),
        Some(id) if id.numbered => hash_number(hash(hash(OFFSET, id.base.as_bytes()), &[ID_SEPARATOR]), index),
        Some(id) => hash(OFFSET, id.base.as_bytes()),
    };
    u16::try_from(place % partitions).unwrap_or(0)
}

/// Continues an FNV-1a hash.
fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Continues a hash with the decimal digits of `number`.
fn hash_number(state: u64, number: usize) -> u64 {
    let mut digits = itoa::Buffer::new();
    hash(state, digits.format(number).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_and_stays_it() {
        for (text, expect) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(hash(OFFSET, text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn a_numbered_id_goes_where_its_written_form_goes() {
        for (base, index, written) in [("order", 0, "order 0"), ("order", 17, "order 17"), ("x", 99_999, "x 99999")] {
            for partitions in [1, 2, 3, 7, 10_000] {
                let numbered = choose(Some(MessageId { base, numbered: true }), index, 5, partitions);
                let whole = choose(Some(MessageId { base: written, numbered: false }), 0, 9, partitions);
                assert_eq!(numbered, whole, "{written} of {partitions}");
                assert!(usize::from(numbered) < partitions);
            }
        }
    }

    #[test]
    fn records_without_an_id_take_turns() {
        let chosen: Vec<u16> = (0..5).map(|index| choose(None, index, 7, 3)).collect();
        assert_eq!(chosen, [1, 2, 0, 1, 2]);
        assert_eq!(choose(None, 1, u64::MAX, 3), 0, "the turn wraps");
        assert_eq!(choose(None, 4, 4, 0), 0, "no partition is no panic");
    }
}
