//! Which partition of a station each record of a request goes to: chosen once, before a backend sees it, and the same on
//! every backend. Pure.
//!
//! A record goes to the partition that the request names for it. One for which none is named goes by its message id, so
//! that the duplicate window of that partition sees it again when it is sent again. Records with neither take turns.
//!
//! The hash is FNV-1a, 64 bits, over the bytes of the whole id (`<base>` or `<base> <i>`), modulo the
//! number of partitions. It must not change: a gateway that hashes differently after an
//! upgrade would store a record twice that was sent before it and again after it.

use super::MessageId;
use crate::wire::nats::encode::ID_SEPARATOR;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The partitions that a request names for its records. A record that is sent again is known by its message id in the same
/// partition only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement<'a> {
    /// None: records go by their message ids, or in turns.
    #[default]
    Auto,
    /// This one, for all records.
    All(u16),
    /// One for each record, in their order. A record without one goes as with [`Self::Auto`].
    Each(&'a [Option<u16>]),
}

/// The partition that was chosen for each record of a request. Records are counted from 0 in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions<'a> {
    /// All records go to this one.
    All(u16),
    /// Record `i` goes to number `turn + i`, modulo the number of partitions.
    InTurns {
        /// Where the request's first record stands in the round robin.
        turn: u64,
        /// The number of partitions.
        count: u16,
    },
    /// Each record goes to the one that stands at its place.
    Each(&'a [u16]),
}

impl Placement<'_> {
    /// Returns the partition that the request names for record `index`.
    #[must_use]
    pub fn named(self, index: usize) -> Option<u16> {
        match self {
            Self::Auto => None,
            Self::All(partition) => Some(partition),
            Self::Each(named) => named.get(index).copied().flatten(),
        }
    }

    /// Returns the first partition that the request names and that a station of `partitions` partitions does not have.
    #[must_use]
    pub fn missing(self, partitions: usize) -> Option<u16> {
        let is_missing = |partition: &u16| usize::from(*partition) >= partitions;
        match self {
            Self::Auto => None,
            Self::All(partition) => Some(partition).filter(is_missing),
            Self::Each(named) => named.iter().flatten().copied().find(is_missing),
        }
    }

    /// Chooses the partition of each of `records` records, for a station of `partitions` partitions. `turn` is where
    /// the request's first record stands in the round robin of records without an id; the caller adds the number of
    /// records to it for the next request. `list` is filled only where the partitions follow no simple rule.
    #[must_use]
    pub fn choose<'b>(
        self,
        id: Option<MessageId<'_>>,
        records: usize,
        turn: u64,
        partitions: usize,
        list: &'b mut Vec<u16>,
    ) -> Partitions<'b> {
        match (self, id) {
            (Self::All(partition), _) => Partitions::All(partition),
            (Self::Auto, None) => Partitions::in_turns(turn, partitions),
            _ if partitions <= 1 => Partitions::All(0),
            (Self::Auto, Some(id)) if id.numbered.is_none() || records == 1 => {
                Partitions::All(choose(Some(id), 0, turn, partitions))
            }
            _ => {
                let one = |index| self.named(index).unwrap_or_else(|| choose(id, index, turn, partitions));
                list.clear();
                list.extend((0..records).map(one));
                Partitions::Each(list)
            }
        }
    }
}

impl Partitions<'_> {
    /// Returns the partitions of records that take turns, beginning at this one.
    #[must_use]
    pub fn in_turns(turn: u64, partitions: usize) -> Self {
        match u16::try_from(partitions).unwrap_or(u16::MAX) {
            0 | 1 => Self::All(0),
            count => Self::InTurns { turn, count },
        }
    }

    /// Returns the partition of the request's record `index`, from 0.
    #[must_use]
    pub fn of(self, index: usize) -> u16 {
        match self {
            Self::All(partition) => partition,
            Self::InTurns { turn, count } => in_turns(turn, index, count.into()),
            Self::Each(chosen) => chosen.get(index).copied().unwrap_or_default(),
        }
    }
}

/// Returns the partition, from 0, of record `index` of a request that names none. `turn` is where the request's first
/// record stands in the round robin of records without an id. No partitions at all (a bug of the caller) yields 0.
#[must_use]
pub fn choose(id: Option<MessageId<'_>>, index: usize, turn: u64, partitions: usize) -> u16 {
    let place = match id {
        None => return in_turns(turn, index, partitions),
        Some(id) => match id.number(index) {
            Some(number) => hash_number(hash(hash(OFFSET, id.base.as_bytes()), &[ID_SEPARATOR]), number),
            None => hash(OFFSET, id.base.as_bytes()),
        },
    };
    modulo(place, partitions)
}

fn in_turns(turn: u64, index: usize, partitions: usize) -> u16 {
    modulo(turn.wrapping_add(index as u64), partitions)
}

fn modulo(place: u64, partitions: usize) -> u16 {
    let partitions = u64::try_from(partitions).unwrap_or(1).max(1);
    u16::try_from(place % partitions).unwrap_or(0)
}

/// Continues an FNV-1a hash.
fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Continues a hash with the decimal digits of `number`.
fn hash_number(state: u64, number: u64) -> u64 {
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
        for (base, first, index, written) in [
            ("order", 0, 0, "order 0"),
            ("order", 0, 17, "order 17"),
            ("x", 0, 99_999, "x 99999"),
            ("x line", 5_000_000_000, 3, "x line 5000000003"),
        ] {
            for partitions in [1, 2, 3, 7, 10_000] {
                let numbered = choose(Some(MessageId { base, numbered: Some(first) }), index, 5, partitions);
                let whole = choose(Some(MessageId { base: written, numbered: None }), 0, 9, partitions);
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

    #[test]
    fn what_is_chosen_for_a_request_is_what_is_chosen_for_each_of_its_records() {
        let id = |numbered| Some(MessageId { base: "order", numbered });
        for (id, records) in
            [(None, 5), (id(Some(0)), 1), (id(Some(0)), 5), (id(Some(7)), 5), (id(None), 1), (id(None), 5)]
        {
            for partitions in [0, 1, 2, 3, 7, 10_000] {
                let mut list = Vec::new();
                let chosen = Placement::Auto.choose(id, records, 7, partitions, &mut list);
                for index in 0..records {
                    assert_eq!(chosen.of(index), choose(id, index, 7, partitions), "{id:?} {index} of {partitions}");
                }
            }
        }
    }

    #[test]
    fn a_record_goes_to_the_partition_that_is_named_for_it() {
        let chosen = |placement: Placement<'_>, id| {
            let mut list = vec![9];
            let chosen = placement.choose(id, 4, 1, 3, &mut list);
            [0, 1, 2, 3].map(|index| chosen.of(index))
        };
        let id = Some(MessageId { base: "order", numbered: Some(0) });
        let by_id = [0, 1, 2, 3].map(|index| choose(id, index, 0, 3));
        assert_eq!(chosen(Placement::All(2), id), [2; 4]);
        let named = [Some(2), None, Some(0)];
        assert_eq!(chosen(Placement::Each(&named), None), [2, 2, 0, 1], "the others keep their turns");
        assert_eq!(chosen(Placement::Each(&named), id), [2, by_id[1], 0, by_id[3]], "and their ids");
        for (placement, missing) in [
            (Placement::Auto, None),
            (Placement::All(2), None),
            (Placement::All(3), Some(3)),
            (Placement::Each(&named), None),
            (Placement::Each(&[None, Some(7), Some(3)]), Some(7)),
        ] {
            assert_eq!(placement.missing(3), missing, "{placement:?}");
        }
    }
}
