//! The number of the last commit that was synced, in a small file beside the database: `store/SYNCED`.
//!
//! Every commit carries its number. After its sync, and before anybody is answered, the number is written here. This file is not
//! synced itself, which would double what a commit costs: a power cut can leave an older number in it, never a newer one than the
//! journal has; `kill -9` leaves the right one. So a store whose last commit has a lower number than this file says has
//! lost acknowledged records, whoever has shortened, replaced or removed what file, and does not open.
//!
//! A store that an older version wrote has no such file and no numbers; it gets them with its first commit.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The file's name, beside `FORMAT`.
pub(super) const SYNCED: &str = "SYNCED";
/// A number of 20 digits and a line's end: always as long, so that it is written over in place.
const BYTES: usize = 21;

/// Where the writer notes what was synced.
#[derive(Debug)]
pub(super) struct Synced {
    file: Option<File>,
    path: PathBuf,
}

/// The number that was noted in a store's directory; `None` if there is none, or none that can be read.
pub(super) fn read(place: &Path) -> io::Result<Option<u64>> {
    let path = place.join(SYNCED);
    let mut text = Vec::with_capacity(BYTES);
    match File::open(&path) {
        Ok(file) => file.take(BYTES as u64 + 1).read_to_end(&mut text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .filter(|text| text.len() == BYTES)
        .and_then(|text| text.trim_end().parse().ok());
    if number.is_none() {
        tracing::warn!(
            file = %path.display(),
            "this file does not hold the number of a commit: whether the end of the journal is missing is not known"
        );
    }
    Ok(number)
}

impl Synced {
    /// Opens the file, making it if need be, with this number. That it cannot be made keeps no store shut: a full disk can be read.
    pub(super) fn open(place: &Path, number: u64) -> Self {
        let path = place.join(SYNCED);
        let opened =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).and_then(|file| {
                file.write_all_at(line(number).as_bytes(), 0)?;
                file.set_len(BYTES as u64)?;
                file.sync_all()?;
                File::open(place)?.sync_all()?;
                Ok(file)
            });
        let mut synced = Self { file: None, path };
        match opened {
            Ok(file) => synced.file = Some(file),
            Err(error) => synced.give_up(&error),
        }
        synced
    }

    /// Notes that this commit was synced.
    pub(super) fn note(&mut self, number: u64) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all_at(line(number).as_bytes(), 0) {
            self.give_up(&error);
        }
    }

    /// An older number in it is right as well; it only protects less.
    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(file = %self.path.display(), %error, "which commit was the last cannot be noted");
        self.file = None;
    }
}

fn line(number: u64) -> String {
    format!("{number:020}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_comes_back_and_nonsense_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path()).expect("read"), None);
        let mut synced = Synced::open(dir.path(), 7);
        assert_eq!(read(dir.path()).expect("read"), Some(7));
        for number in [8, u64::MAX, 0] {
            synced.note(number);
            assert_eq!(read(dir.path()).expect("read"), Some(number));
        }
        for text in ["", "7", "0000000000000000000x\n", "000000000000000000007\n"] {
            std::fs::write(dir.path().join(SYNCED), text).expect("written");
            assert_eq!(read(dir.path()).expect("read"), None, "{text:?}");
        }
    }
}
