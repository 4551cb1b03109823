//! Keys and values as they lie on disk. Pure.
//!
//! All numbers are big-endian, so that keys sort as their numbers do. What is here is the format
//! whose version [`FORMAT`] names: a change of any layout is a new version.
//!
//! | keyspace   | key                             | value                                                  |
//! |------------|---------------------------------|--------------------------------------------------------|
//! | `records`  | partition id u32, sequence u64  | a chunk of records that ends there: [`super::chunk`]   |
//! | `catalog`  | `s` station                     | JSON [`super::catalog::StationDoc`]                    |
//! | `catalog`  | `g` station 0 durable           | JSON [`super::groups::GroupDoc`], or nothing           |
//! | `catalog`  | `p` partition id u32            | first u64, last u64, bytes u64                         |
//! | `catalog`  | `d` partition id u32, sequence u64 | bytes u64 of a record that was removed by itself    |
//! | `catalog`  | `n`                             | next partition id u32                                  |
//! | `catalog`  | `r`                             | last registry revision u64                             |
//! | `catalog`  | `c`                             | number of the commit that wrote it u64                 |
//! | `cursors`  | partition id u32, durable       | next u64, (from u64, to u64) for each run not yet done |
//! | `registry` | document key                    | revision u64, document                                 |

/// Version of the layout above, as the file `FORMAT` names it.
pub(super) const FORMAT: &str = "sluicegate store 2\n";

/// Key of the next partition id.
pub(super) const NEXT_PARTITION: &[u8] = b"n";
/// Key of the number of the last commit: every commit writes its own.
pub(super) const COMMIT: &[u8] = b"c";
/// Key of the last registry revision.
pub(super) const REVISION: &[u8] = b"r";

/// Key of a chunk of records that ends with this one.
pub(super) fn record_key(partition: u32, sequence: u64) -> [u8; 12] {
    let mut key = [0; 12];
    let (head, tail) = key.split_at_mut(4);
    head.copy_from_slice(&partition.to_be_bytes());
    tail.copy_from_slice(&sequence.to_be_bytes());
    key
}

/// Partition and sequence of a chunk's key.
pub(super) fn parse_record_key(key: &[u8]) -> Option<(u32, u64)> {
    let (partition, sequence) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*partition), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// The message id as JetStream stores it. It is the last field of a record's header block.
pub(super) const ID_FIELD: &[u8] = b"Nats-Msg-Id: ";

/// A record's body, taken apart: header bytes u32, headers, payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Header fields, `Name: value\r\n` each.
    pub(super) headers: &'a [u8],
    /// What was posted.
    pub(super) payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes a body apart; `None` if it is not one.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (header_len, rest) = body.split_first_chunk::<4>()?;
        let (headers, payload) = rest.split_at_checked(u32::from_be_bytes(*header_len) as usize)?;
        Some(Self { headers, payload })
    }

    /// The message id, if it was stored with one.
    pub(super) fn id(&self) -> Option<&'a [u8]> {
        let lines = self.headers.strip_suffix(b"\r\n")?;
        let start = memchr::memrchr(b'\n', lines).map_or(0, |at| at + 1);
        lines.get(start..)?.strip_prefix(ID_FIELD)
    }
}

/// Key of a station's document.
pub(super) fn station_key(name: &str) -> Vec<u8> {
    [b"s", name.as_bytes()].concat()
}

/// Key of a consumer group's entry. Names hold no NUL.
pub(super) fn group_key(station: &str, durable: &str) -> Vec<u8> {
    [b"g", station.as_bytes(), b"\0", durable.as_bytes()].concat()
}

/// Station and durable name of a consumer group's key.
pub(super) fn parse_group_key(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key.strip_prefix(b"g")?).ok()?.split_once('\0')
}

/// Prefix of the keys of all consumer groups of a station.
pub(super) fn groups_prefix(station: &str) -> Vec<u8> {
    group_key(station, "")
}

/// Key of a partition's mark.
pub(super) fn mark_key(partition: u32) -> [u8; 5] {
    let mut key = [b'p'; 5];
    let (_, tail) = key.split_at_mut(1);
    tail.copy_from_slice(&partition.to_be_bytes());
    key
}

/// Key of a record that was removed by itself.
pub(super) fn removed_key(partition: u32, sequence: u64) -> [u8; 13] {
    let mut key = [REMOVED; 13];
    let (_, tail) = key.split_at_mut(1);
    tail.copy_from_slice(&record_key(partition, sequence));
    key
}

/// What the keys of removed records begin with.
pub(super) const REMOVED: u8 = b'd';

/// Partition and sequence of a removed record's key.
pub(super) fn parse_removed_key(key: &[u8]) -> Option<(u32, u64)> {
    parse_record_key(key.strip_prefix(&[REMOVED])?)
}

/// Where a partition's records begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Sequence of the oldest record that is kept; `last + 1` if there is none.
    pub(super) first: u64,
    /// Sequence of the newest record; 0 before the first.
    pub(super) last: u64,
    /// Bytes of the records kept.
    pub(super) bytes: u64,
}

impl Mark {
    /// A partition that never held anything.
    pub(super) const EMPTY: Self = Self { first: 1, last: 0, bytes: 0 };

    /// As it is stored.
    pub(super) fn encode(self) -> [u8; 24] {
        let mut value = [0; 24];
        for (slot, number) in value.chunks_exact_mut(8).zip([self.first, self.last, self.bytes]) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        value
    }

    /// From what was stored; `None` if that is not a mark.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        match numbers(value)?.as_slice() {
            [first, last, bytes] => Some(Self { first: *first, last: *last, bytes: *bytes }),
            _ => None,
        }
    }
}

/// Key of a consumer group's cursor in a partition.
pub(super) fn cursor_key(partition: u32, durable: &str) -> Vec<u8> {
    [&partition.to_be_bytes(), durable.as_bytes()].concat()
}

/// The value that [`parse_cursor`] reads: where new messages begin, and what before it is not done.
pub(super) fn cursor_value(next: u64, open: &[(u64, u64)]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + open.len() * 16);
    value.extend_from_slice(&next.to_be_bytes());
    for (from, to) in open {
        value.extend_from_slice(&from.to_be_bytes());
        value.extend_from_slice(&to.to_be_bytes());
    }
    value
}

/// A cursor: next, and the runs (both ends in them) that are not done. `None` if it is not one.
pub(super) fn parse_cursor(value: &[u8]) -> Option<(u64, Vec<(u64, u64)>)> {
    let numbers = numbers(value)?;
    let (next, runs) = numbers.split_first()?;
    let mut open = Vec::with_capacity(runs.len() / 2);
    for run in runs.chunks(2) {
        match run {
            [from, to] if from <= to && to < next => open.push((*from, *to)),
            _ => return None,
        }
    }
    Some((*next, open))
}

/// A big-endian u32 that fills the whole value.
pub(super) fn parse_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A big-endian u64 that fills the whole value.
pub(super) fn parse_u64(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// A value that is nothing but big-endian u64s.
fn numbers(value: &[u8]) -> Option<Vec<u64>> {
    let (chunks, rest) = value.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let order = [(0, 1), (0, 255), (0, 256), (1, 0), (255, u64::MAX), (256, 0), (u32::MAX, 1)];
        for pair in order.windows(2) {
            let [(low_id, low), (high_id, high)] = pair else { panic!("windows of two") };
            assert!(record_key(*low_id, *low) < record_key(*high_id, *high));
            assert_eq!(parse_record_key(&record_key(*low_id, *low)), Some((*low_id, *low)));
            assert!(removed_key(*low_id, *low) < removed_key(*high_id, *high));
            assert_eq!(parse_removed_key(&removed_key(*low_id, *low)), Some((*low_id, *low)));
        }
        assert_eq!(parse_record_key(&[0; 11]), None);
    }

    #[test]
    fn a_record_is_taken_apart_and_its_id_is_its_last_header_field() {
        type Row<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);
        let rows: [Row<'_>; 6] = [
            (b"", b"", None),
            (b"Nats-Msg-Id: id-1\r\n", b"payload", Some(b"id-1")),
            (b"Content-Type: text/plain\r\n", b"\r\n\r\n", None),
            (b"A: b\r\nC: d\r\nNats-Msg-Id: x\r\n", b"Nats-Msg-Id: no\r\n", Some(b"x")),
            (b"X: Nats-Msg-Id: no\r\n", b"", None),
            (b"Nats-Msg-Id: no\r\nA: b\r\n", b"", None),
        ];
        for (headers, payload, id) in rows {
            let length = u32::try_from(headers.len()).expect("short").to_be_bytes();
            let body = [&length, headers, payload].concat();
            let record = Record::parse(&body).expect("a record");
            assert_eq!((record, record.id()), (Record { headers, payload }, id));
            for len in 0..4 + headers.len() {
                assert_eq!(Record::parse(&body[..len]), None, "{len} bytes of {}", body.len());
            }
        }
    }

    #[test]
    fn a_cursor_comes_back_and_nonsense_does_not() {
        for (next, open) in [(1, vec![]), (10, vec![(3, 3), (5, 9)])] {
            assert_eq!(parse_cursor(&cursor_value(next, &open)), Some((next, open)));
        }
        for (next, open) in [(5, (4, 3)), (5, (4, 5))] {
            assert_eq!(parse_cursor(&cursor_value(next, &[open])), None);
        }
        assert_eq!(parse_cursor(b""), None);
        assert_eq!(parse_cursor(&[0; 16]), None);
    }

    #[test]
    fn a_mark_comes_back() {
        let mark = Mark { first: 3, last: 9, bytes: 1 << 40 };
        assert_eq!(Mark::parse(&mark.encode()), Some(mark));
        assert_eq!(Mark::parse(&mark.encode()[..23]), None);
        assert_eq!(Mark::parse(&[0; 32]), None);
    }
}
