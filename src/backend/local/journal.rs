//! Looks at the journals before the database replays them, and cuts what a power cut left torn.
//!
//! The database tolerates a journal that ends too early, and silently drops everything behind the first
//! byte that it cannot read; a whole last batch with a hole in it, which a power cut
//! can leave because pages reach the disk in any order, makes it refuse to open. Neither will do: the first could lose what
//! was acknowledged without a word, the second would keep a sound store shut.
//!
//! Every commit of this store is synced before the next one is written. So at most the last batch of the newest
//! journal can be torn, and nothing was ever acknowledged that it holds. That gives the rule:
//!
//! - invalid bytes at the end of the newest journal, with no valid batch behind them: cut off. If their own lengths
//!   still lead to where the batch ends, nothing but that place is looked at, so that no payload can pass for a
//!   batch. If not, a batch is looked for everywhere behind; one that a payload imitates then keeps the store
//!   shut, which is the safe side;
//! - invalid bytes with a valid batch behind them, or in an older journal (which was synced before the next one
//!   was begun): damage. The store does not open, because acknowledged records would be missing from it.
//!
//! The format is fjall's, version 3: `1 count:u32 seqno:u64`, then for each item
//! `2 type:u8 compression:u8 keyspace:u64 key:u16 value:u32 stored:u32 <key> <stored value>` or
//! `4 keyspace:u64`, then `3 xxh3-of-the-items:u64 "FJL\x03"`; numbers are little-endian. Behind the last batch
//! there may be zeros, since a journal is allocated ahead. A database of another version is left to fjall.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

/// What a database of the version that is understood here begins its `version` file with, and ends a batch with.
const MAGIC: [u8; 4] = *b"FJL\x03";
/// Bytes that are hashed at most while looking for a valid batch behind an invalid one. It bounds the time that
/// a payload made to look like journal can take.
const SEARCH_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How far the number of a batch behind an invalid one can be ahead.
const SEARCH_AHEAD_MAX: u64 = 1 << 32;

/// Why the journals are not fit to be replayed.
#[derive(Debug)]
pub(super) enum JournalError {
    /// A file could not be read or cut.
    Io(PathBuf, io::Error),
    /// Something that was synced is not as it was written: what and where.
    Damaged(String),
}

/// Checks all journals of a database. How many bytes were cut off the newest.
pub(super) fn check(database: &Path) -> Result<u64, JournalError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| JournalError::Io(path, error)
    };
    let version = fs::read(database.join("version")).map_err(failed(database))?;
    if !version.starts_with(&MAGIC) {
        return Ok(0);
    }
    let mut journals = Vec::new();
    for entry in fs::read_dir(database).map_err(failed(database))? {
        let path = entry.map_err(failed(database))?.path();
        let number = path.extension().filter(|end| *end == "jnl").and(path.file_stem()).and_then(|stem| stem.to_str());
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            journals.push((number, path));
        }
    }
    journals.sort();
    let newest = journals.pop();
    for (_, path) in &journals {
        let tail = Tail::read(path).map_err(failed(path))?;
        if tail.is_invalid {
            return Err(tail.damaged(path, "though it was complete"));
        }
    }
    let Some((_, path)) = newest else { return Ok(0) };
    let tail = Tail::read(&path).map_err(failed(&path))?;
    if !tail.is_invalid {
        return Ok(0);
    }
    if tail.has_batch_behind(&path).map_err(failed(&path))? {
        return Err(tail.damaged(&path, "with sound batches behind it"));
    }
    let cut = tail.length - tail.valid;
    tracing::info!(bytes = cut, "the last commit was cut short and had not been acknowledged; it is dropped");
    let file = OpenOptions::new().write(true).open(&path).map_err(failed(&path))?;
    file.set_len(tail.valid).and_then(|()| file.sync_all()).map_err(failed(&path))?;
    Ok(cut)
}

/// Where a journal's valid batches end, and what is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Bytes of valid batches from the beginning.
    pub(super) valid: u64,
    /// Bytes of the file.
    length: u64,
    /// Number of the last valid batch.
    seqno: u64,
    /// What follows is neither nothing nor zeros.
    is_invalid: bool,
}

impl Tail {
    /// Reads a journal through.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut tail = Self { valid: 0, length, seqno: 0, is_invalid: false };
        let mut input = BufReader::with_capacity(64 * 1024, file);
        while let Some(batch) = Batch::read(&mut input, length - tail.valid)? {
            tail.valid += batch.bytes;
            tail.seqno = batch.seqno;
        }
        input.seek(SeekFrom::Start(tail.valid))?;
        tail.is_invalid = !is_zeros(&mut input)?;
        Ok(tail)
    }

    fn damaged(&self, path: &Path, how: &str) -> JournalError {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        JournalError::Damaged(format!(
            "journal {name} cannot be read from byte {} on, {how}; opening it would lose acknowledged records. \
             Restore it from a copy",
            self.valid
        ))
    }

    /// Whether there is something behind the invalid batch.
    fn has_batch_behind(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.valid))?;
        let mut input = BufReader::with_capacity(64 * 1024, file);
        if Batch::walk(&mut input, self.length - self.valid)?.is_some() {
            return Ok(!is_zeros(&mut input)?);
        }
        self.has_batch_anywhere_behind(input.into_inner())
    }

    /// Whether a valid, later batch begins anywhere behind the valid part.
    fn has_batch_anywhere_behind(&self, mut file: File) -> io::Result<bool> {
        file.seek(SeekFrom::Start(self.valid))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        let mut hashed = 0;
        for at in memchr::memchr_iter(START, &rest) {
            let candidate = rest.get(at..).unwrap_or_default();
            let seqno = candidate.get(5..13).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
            if seqno <= self.seqno || seqno - self.seqno > SEARCH_AHEAD_MAX {
                continue;
            }
            let mut input = candidate;
            let found = Batch::read(&mut input, candidate.len() as u64)?.is_some();
            hashed += (candidate.len() - input.len()) as u64;
            if found || hashed > SEARCH_BYTES_MAX {
                return Ok(found);
            }
        }
        Ok(false)
    }
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Bytes of an item's fixed part, with its tag.
const ITEM_HEAD: usize = 21;

/// A batch that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    bytes: u64,
    seqno: u64,
}

impl Batch {
    /// Reads a batch from the `left` bytes of the input; `None` if there is no valid one.
    fn read(input: &mut impl Read, left: u64) -> io::Result<Option<Self>> {
        Ok(Self::walk(input, left)?.filter(|(_, is_sound)| *is_sound).map(|(batch, _)| batch))
    }

    /// Reads what has the structure of a batch from begin to end, and whether its checksum is right; `None` if
    /// there is no such thing.
    fn walk(input: &mut impl Read, left: u64) -> io::Result<Option<(Self, bool)>> {
        let mut input = Counted { input: input.take(left), bytes: 0 };
        match Self::parse(&mut input) {
            Ok(parsed) => Ok(parsed.map(|(seqno, is_sound)| (Self { bytes: input.bytes, seqno }, is_sound))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The batch's number, and whether its checksum is right.
    fn parse(input: &mut impl Read) -> io::Result<Option<(u64, bool)>> {
        let [tag, rest @ ..] = array::<13>(input)?;
        let (count, seqno) = rest.split_at(4);
        let count = count.try_into().map_or(0, u32::from_le_bytes);
        let seqno = seqno.try_into().map_or(0, u64::from_le_bytes);
        if tag != START {
            return Ok(None);
        }
        let mut hash = Xxh3::new();
        for _ in 0..count {
            if !Self::parse_item(input, &mut hash)? {
                return Ok(None);
            }
        }
        let [tag] = array::<1>(input)?;
        let checksum = u64::from_le_bytes(array::<8>(input)?);
        let magic = array::<4>(input)?;
        Ok((tag == END && magic == MAGIC).then(|| (seqno, checksum == hash.digest())))
    }

    /// Reads an item; whether it can be one.
    fn parse_item(input: &mut impl Read, hash: &mut Xxh3) -> io::Result<bool> {
        let [tag] = array::<1>(input)?;
        hash.update(&[tag]);
        if tag == CLEAR {
            hash.update(&array::<8>(input)?);
            return Ok(true);
        }
        if tag != ITEM {
            return Ok(false);
        }
        let head = array::<{ ITEM_HEAD - 1 }>(input)?;
        hash.update(&head);
        // type, compression, keyspace: 10 bytes; then the lengths of key, value and stored value.
        let [.., k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = head;
        let key = u16::from_le_bytes([k0, k1]);
        let value = u32::from_le_bytes([v0, v1, v2, v3]);
        let stored = u32::from_le_bytes([s0, s1, s2, s3]);
        let [value_type, compression, ..] = head;
        // fjall asserts the last of these where it is built with assertions.
        if value_type > 4 || compression > 1 || (compression == 0 && value != stored) {
            return Ok(false);
        }
        let mut left = u64::from(key) + u64::from(stored);
        let mut buffer = [0; 8 * 1024];
        while left > 0 {
            let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let part = buffer.get_mut(..want).unwrap_or_default();
            input.read_exact(part)?;
            hash.update(part);
            left -= want as u64;
        }
        Ok(true)
    }
}

/// Counts what was read.
struct Counted<R> {
    input: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Whether the rest of the input is nothing but zeros.
fn is_zeros(input: &mut impl BufRead) -> io::Result<bool> {
    const ZEROS: [u8; 4096] = [0; 4096];
    loop {
        let part = input.fill_buf()?;
        let part = part.get(..part.len().min(ZEROS.len())).unwrap_or_default();
        if part.is_empty() {
            return Ok(true);
        }
        if !ZEROS.starts_with(part) {
            return Ok(false);
        }
        let count = part.len();
        input.consume(count);
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A valid batch of one item.
    fn batch(seqno: u64, value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).expect("short").to_le_bytes();
        let mut item = vec![ITEM, 0, 0];
        item.extend_from_slice(&7_u64.to_le_bytes());
        item.extend_from_slice(&3_u16.to_le_bytes());
        item.extend_from_slice(&length);
        item.extend_from_slice(&length);
        item.extend_from_slice(b"key");
        item.extend_from_slice(value);
        let mut hash = Xxh3::new();
        hash.update(&item);
        let mut bytes = vec![START];
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&seqno.to_le_bytes());
        bytes.extend_from_slice(&item);
        bytes.push(END);
        bytes.extend_from_slice(&hash.digest().to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    #[test]
    fn a_payload_that_looks_like_a_batch_is_not_taken_for_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.jnl");
        let first = batch(1, b"acknowledged");
        let torn_at = |at: usize| {
            let mut torn = batch(2, &[&[b'x'; 64], &*batch(3, b"an imitation"), &[b'y'; 64]].concat());
            torn[at] ^= 0x10;
            torn
        };
        let (payload, tag, zeros) = (torn_at(50), torn_at(13), vec![0; 9_000]);
        for (case, rest, expect) in [
            ("its payload is torn", vec![&payload], false),
            ("and zeros are behind", vec![&payload, &zeros], false),
            ("and a real batch is behind", vec![&payload, &batch(3, b"synced"), &zeros], true),
            ("and a second torn one is behind", vec![&payload, &payload], true),
            ("its structure is torn, so it may be anything", vec![&tag], true),
        ] {
            let rest: Vec<u8> = rest.into_iter().flatten().copied().collect();
            fs::write(&path, [first.as_slice(), &rest].concat()).expect("written");
            let tail = Tail::read(&path).expect("read");
            assert_eq!((tail.valid, tail.is_invalid), (first.len() as u64, true), "{case}");
            assert_eq!(tail.has_batch_behind(&path).expect("read"), expect, "{case}");
        }
    }
}
