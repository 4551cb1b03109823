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
//!   was begun): damage. The store does not open, because acknowledged records would be missing from it;
//! - a journal that ends too early but between two batches looks sound. So commits are numbered ([`super::synced`]): numbers that
//!   do not follow each other, or that end before the one that was noted as synced, are damage too.
//!
//! The format is fjall's, version 3: `1 count:u32 seqno:u64`, then for each item
//! `2 type:u8 compression:u8 keyspace:u64 key:u16 value:u32 stored:u32 <key> <stored value>` or
//! `4 keyspace:u64`, then `3 xxh3-of-the-items:u64 "FJL\x03"`; numbers are little-endian. Behind the last batch
//! there may be zeros, since a journal is allocated ahead. A database of another version is left to fjall.

use super::format::{self, COMMIT};
use crate::limits::{LOCAL_JOURNAL_SEARCH_AHEAD_MAX, LOCAL_JOURNAL_SEARCH_BYTES_MAX};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

/// What a database of the version that is understood here begins its `version` file with, and ends a batch with.
const MAGIC: [u8; 4] = *b"FJL\x03";

/// What helps a store that has lost something.
pub(super) const RESTORE: &str = "Put the whole directory back from a copy that was made while no process had it open";

/// Why the journals are not fit to be replayed.
#[derive(Debug)]
pub(super) enum JournalError {
    /// A file could not be read or cut.
    Io(PathBuf, io::Error),
    /// Something that was synced is not as it was written: what and where.
    Damaged(String),
}

/// Checks all journals of a database, before anything is changed. Returns how many bytes were cut off the newest. `synced`: the
/// number of a commit that was synced, where it is known.
pub(super) fn check(database: &Path, synced: Option<u64>) -> Result<u64, JournalError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| JournalError::Io(path, error)
    };
    let version = fs::read(database.join("version")).map_err(failed(database))?;
    if !version.starts_with(&MAGIC) {
        return Ok(0);
    }
    let mut journals = list(database).map_err(failed(database))?;
    let newest = journals.pop();
    let mut last = None;
    for path in &journals {
        let tail = Tail::read(path).map_err(failed(path))?;
        if tail.is_invalid {
            return Err(tail.damaged(path, "though it was complete"));
        }
        tail.follows(path, &mut last)?;
    }
    let Some(path) = newest else { return Ok(0) };
    let tail = Tail::read(&path).map_err(failed(&path))?;
    if tail.is_invalid && tail.has_batch_behind(&path).map_err(failed(&path))? {
        return Err(tail.damaged(&path, "with sound batches behind it"));
    }
    tail.follows(&path, &mut last)?;
    // Where no commit is left in the journals, the tables have to say which was the last: `Disk::open` asks them.
    if let (Some(last), Some(synced)) = (last, synced)
        && last < synced
    {
        return Err(
            tail.damaged(&path, &format!("and commit {synced} was synced; the last one that is there is {last}"))
        );
    }
    if !tail.is_invalid {
        return Ok(0);
    }
    let cut = tail.length - tail.valid;
    let journal = path.display();
    if synced.is_some() {
        tracing::warn!(bytes = cut, %journal, "the last commit was cut short and had not been acknowledged; it is dropped");
    } else {
        tracing::warn!(
            bytes = cut,
            %journal,
            "the end of the journal cannot be read and is dropped: a commit that was cut short and not acknowledged, \
             or, if somebody has shortened the file, acknowledged records"
        );
    }
    cut_at(&path, tail.valid).map_err(failed(&path))?;
    Ok(cut)
}

/// Cuts off what follows the last acknowledged commit of journals that this process has written itself: a commit that failed,
/// as far as it came. `end`: batches from this number on were not acknowledged.
pub(super) fn cut_failed(database: &Path, end: u64) -> io::Result<()> {
    for path in list(database)? {
        let mut tail = Tail::default();
        let mut input = BufReader::with_capacity(64 * 1024, File::open(&path)?);
        let length = input.get_ref().metadata()?.len();
        while let Some(batch) = Batch::read(&mut input, length - tail.valid)?.filter(|batch| batch.seqno < end) {
            tail.valid += batch.bytes;
        }
        input.seek(SeekFrom::Start(tail.valid))?;
        if !is_zeros(&mut input)? {
            cut_at(&path, tail.valid)?;
        }
    }
    Ok(())
}

/// The journals of a database, oldest first.
fn list(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path.extension().filter(|end| *end == "jnl").and(path.file_stem()).and_then(|stem| stem.to_str());
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn cut_at(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

/// Where a journal's valid batches end, and what is behind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Bytes of valid batches from the beginning.
    pub(super) valid: u64,
    /// Bytes of the file.
    length: u64,
    /// Number of the last valid batch.
    seqno: u64,
    /// What follows is neither nothing nor zeros.
    is_invalid: bool,
    /// The first commit's number and the last one's.
    pub(super) commits: Option<(u64, u64)>,
    /// Two commits that follow each other and should not.
    gap: Option<(u64, u64)>,
}

impl Tail {
    /// Reads a journal through.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut tail = Self { length, ..Self::default() };
        let mut input = BufReader::with_capacity(64 * 1024, file);
        while let Some(batch) = Batch::read(&mut input, length - tail.valid)? {
            tail.valid += batch.bytes;
            tail.seqno = batch.seqno;
            if let Some(commit) = batch.commit {
                let (first, last) = tail.commits.unwrap_or((commit, commit.wrapping_sub(1)));
                if last.wrapping_add(1) != commit {
                    tail.gap.get_or_insert((last, commit));
                }
                tail.commits = Some((first, commit));
            }
        }
        input.seek(SeekFrom::Start(tail.valid))?;
        tail.is_invalid = !is_zeros(&mut input)?;
        Ok(tail)
    }

    fn damaged(&self, path: &Path, how: &str) -> JournalError {
        JournalError::Damaged(format!(
            "journal {} cannot be read from byte {} on, {how}; opening it would lose acknowledged records. {RESTORE}",
            path.display(),
            self.valid
        ))
    }

    /// Whether its commits follow those of older journals, of which `last` was the last; it becomes the last one here.
    fn follows(&self, path: &Path, last: &mut Option<u64>) -> Result<(), JournalError> {
        let before = last.zip(self.commits).map(|(last, (first, _))| (last, first));
        let gap = before.filter(|(last, first)| last.wrapping_add(1) != *first).or(self.gap);
        *last = self.commits.map(|(_, last)| last).or(*last);
        let Some((from, to)) = gap else { return Ok(()) };
        Err(JournalError::Damaged(format!(
            "in or before journal {} commit {to} follows commit {from}; opening it would lose acknowledged records. {RESTORE}",
            path.display()
        )))
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
            if seqno <= self.seqno || seqno - self.seqno > LOCAL_JOURNAL_SEARCH_AHEAD_MAX {
                continue;
            }
            let mut input = candidate;
            let found = Batch::read(&mut input, candidate.len() as u64)?.is_some();
            hashed += (candidate.len() - input.len()) as u64;
            if found || hashed > LOCAL_JOURNAL_SEARCH_BYTES_MAX {
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
    /// The commit's own number; batches of older versions have none.
    commit: Option<u64>,
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
            Ok(parsed) => {
                let bytes = input.bytes;
                Ok(parsed.map(|(seqno, commit, is_sound)| (Self { bytes, seqno, commit }, is_sound)))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The batch's number, the commit's number, and whether the checksum is right.
    fn parse(input: &mut impl Read) -> io::Result<Option<(u64, Option<u64>, bool)>> {
        let [tag, rest @ ..] = array::<13>(input)?;
        let (count, seqno) = rest.split_at(4);
        let count = count.try_into().map_or(0, u32::from_le_bytes);
        let seqno = seqno.try_into().map_or(0, u64::from_le_bytes);
        if tag != START {
            return Ok(None);
        }
        let mut hash = Xxh3::new();
        let mut commit = None;
        for _ in 0..count {
            if !Self::parse_item(input, &mut hash, &mut commit)? {
                return Ok(None);
            }
        }
        let [tag] = array::<1>(input)?;
        let checksum = u64::from_le_bytes(array::<8>(input)?);
        let magic = array::<4>(input)?;
        Ok((tag == END && magic == MAGIC).then(|| (seqno, commit, checksum == hash.digest())))
    }

    /// Reads an item, and the commit's number where it is that; whether it can be an item.
    fn parse_item(input: &mut impl Read, hash: &mut Xxh3, commit: &mut Option<u64>) -> io::Result<bool> {
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
        // No other key of any keyspace is this single byte.
        if usize::from(key) == COMMIT.len() && stored == 8 {
            let item = array::<9>(input)?;
            hash.update(&item);
            *commit = item.strip_prefix(COMMIT).and_then(format::parse_u64).or(*commit);
            return Ok(true);
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

    /// A batch that carries a commit's number.
    fn numbered(seqno: u64, commit: u64) -> Vec<u8> {
        let mut item = vec![ITEM, 0, 0];
        item.extend_from_slice(&2_u64.to_le_bytes());
        item.extend_from_slice(&1_u16.to_le_bytes());
        item.extend_from_slice(&8_u32.to_le_bytes());
        item.extend_from_slice(&8_u32.to_le_bytes());
        item.extend_from_slice(COMMIT);
        item.extend_from_slice(&commit.to_be_bytes());
        let mut hash = Xxh3::new();
        hash.update(&item);
        let checksum = hash.digest().to_le_bytes();
        let head = [&[START][..], &1_u32.to_le_bytes(), &seqno.to_le_bytes()].concat();
        [&head[..], &item, &[END], &checksum, &MAGIC].concat()
    }

    #[test]
    fn c11_commits_that_are_missing_between_others_or_at_the_end_are_damage() {
        let (old, plain) = (batch(1, b"of an older version"), batch(9, b"without a number"));
        let numbers = |commits: std::ops::RangeInclusive<u64>| {
            commits.flat_map(|one| numbered(10 + one, one)).collect::<Vec<u8>>()
        };
        for (case, journals, synced, is_sound) in [
            ("all there", vec![numbers(1..=3), numbers(4..=6)], Some(6), true),
            ("the note is older", vec![numbers(1..=3), numbers(4..=6)], Some(4), true),
            ("there is no note", vec![numbers(1..=3), numbers(4..=6)], None, true),
            ("the first journals are gone, as they should be", vec![numbers(40..=43)], Some(43), true),
            ("the newest was just begun", vec![numbers(1..=3), vec![]], Some(3), true),
            ("all is in the tables", vec![vec![]], Some(3), true),
            ("batches without a number", vec![old, numbers(1..=2), [plain, numbers(3..=3)].concat()], Some(3), true),
            ("an older journal is too short", vec![numbers(1..=2), numbers(4..=6)], Some(6), false),
            ("the same without a note", vec![numbers(1..=2), numbers(4..=6)], None, false),
            ("a journal between is empty", vec![numbers(1..=3), vec![], numbers(6..=7)], Some(7), false),
            ("something between is missing", vec![[numbers(1..=2), numbers(4..=5)].concat()], Some(5), false),
            ("the newest is too short", vec![numbers(1..=3), numbers(4..=5)], Some(6), false),
            ("the newest is empty", vec![numbers(1..=3), vec![]], Some(6), false),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join("version"), MAGIC).expect("written");
            for (number, bytes) in journals.iter().enumerate() {
                fs::write(dir.path().join(format!("{number}.jnl")), bytes).expect("written");
            }
            let outcome = check(dir.path(), synced);
            assert_eq!(outcome.is_ok(), is_sound, "{case}: {outcome:?}");
            let wrong = outcome.err().map(|error| format!("{error:?}"));
            assert!(wrong.is_none_or(|text| text.contains(".jnl") && text.contains("Put the whole")), "{case}");
        }
    }

    #[test]
    fn what_a_failed_commit_left_is_cut_off_also_where_the_journal_was_changed_behind_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let sound = [numbered(10, 1), numbered(12, 2)].concat();
        let torn = numbered(13, 3).split_off(4);
        for (case, rest, end) in [
            ("nothing", vec![], 13),
            ("zeros, as allocated", vec![0; 100], 13),
            ("a part of it", torn, 13),
            ("all of it", numbered(13, 3), 13),
            ("all of it, and more", [numbered(14, 3), numbered(15, 4)].concat(), 13),
        ] {
            fs::write(dir.path().join("0.jnl"), [sound.as_slice(), &rest].concat()).expect("written");
            fs::write(dir.path().join("1.jnl"), [0; 50]).expect("written");
            cut_failed(dir.path(), end).expect("cut");
            let left = fs::read(dir.path().join("0.jnl")).expect("read");
            assert_eq!(left.get(..sound.len()), Some(sound.as_slice()), "{case}");
            assert!(left.iter().skip(sound.len()).all(|byte| *byte == 0), "{case}");
            assert_eq!(fs::read(dir.path().join("1.jnl")).expect("read"), [0; 50], "{case}");
        }
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
