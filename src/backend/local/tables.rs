//! Finds the damaged file when the database says no more than that something is damaged.
//!
//! Each keyspace has a manifest, which names its tables with the checksum of each whole file. Reading them all takes as long as
//! reading the store, so it is done only after an error.

use crate::limits::LOCAL_MANIFEST_READS_MAX;
use std::{
    fs::{self, File},
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

/// The first damaged file of a database and what is wrong with it; `None` if every file is as it was written.
pub(super) fn find_damage(database: &Path) -> Option<String> {
    let mut keyspaces: Vec<PathBuf> =
        fs::read_dir(database.join("keyspaces")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    keyspaces.sort();
    keyspaces.iter().filter(|keyspace| keyspace.is_dir()).find_map(|keyspace| damage_of(keyspace))
}

fn damage_of(keyspace: &Path) -> Option<String> {
    for _ in 0..LOCAL_MANIFEST_READS_MAX {
        let (path, tables) = manifest(keyspace).unwrap_or_else(|error| (keyspace.join("current"), Err(error)));
        let found = match tables {
            Ok(tables) => tables.into_iter().find_map(|(id, checksum)| {
                let table = keyspace.join("tables").join(id.to_string());
                table_damage(&table, checksum)
            }),
            Err(error) => Some(format!("{} cannot be read ({error})", path.display())),
        };
        let found = found?;
        // A database that is open may have replaced the manifest, and removed what it named.
        if manifest(keyspace).map_or(true, |(now, _)| now == path) {
            return Some(found);
        }
    }
    None
}

fn table_damage(path: &Path, checksum: u128) -> Option<String> {
    match file_checksum(path) {
        Ok(found) if found == checksum => None,
        Ok(_) => Some(format!("{} does not hold what was written to it", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("{} is missing", path.display())),
        Err(error) => Some(format!("{} cannot be read ({error})", path.display())),
    }
}

fn file_checksum(path: &Path) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(hash.digest128()) };
        hash.update(part);
    }
}

/// A table that a manifest names: its number and checksum.
type Named = (u64, u128);

/// The active manifest of a keyspace, and the tables that it names.
fn manifest(keyspace: &Path) -> io::Result<(PathBuf, io::Result<Vec<Named>>)> {
    let mut version = [0; 8];
    File::open(keyspace.join("current"))?.read_exact(&mut version)?;
    let path = keyspace.join(format!("v{}", u64::from_le_bytes(version)));
    let tables = tables(&path);
    Ok((path, tables))
}

fn tables(manifest: &Path) -> io::Result<Vec<Named>> {
    let reader = sfa::Reader::new(manifest).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let section = reader.toc().section(b"tables").ok_or_else(|| io::Error::other("it has no list of tables"))?;
    let mut input = section.buf_reader(manifest)?;
    let mut found = Vec::new();
    for _ in 0..u8::from_le_bytes(array(&mut input)?) {
        for _ in 0..u8::from_le_bytes(array(&mut input)?) {
            for _ in 0..u32::from_le_bytes(array(&mut input)?) {
                let id = u64::from_le_bytes(array(&mut input)?);
                let [_checksum_type] = array(&mut input)?;
                let checksum = u128::from_le_bytes(array(&mut input)?);
                let _global_seqno: [u8; 8] = array(&mut input)?;
                found.push((id, checksum));
            }
        }
    }
    Ok(found)
}

fn array<const N: usize>(input: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}
