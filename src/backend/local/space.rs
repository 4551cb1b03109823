//! How much room the device of the store has.
//!
//! Looked at before each commit, so that a commit is refused before the disk refuses it: then nothing is unsure, and the next one
//! can be made as soon as there is room. What is kept back is for the tables that the database is still going to write.

use crate::limits::{LOCAL_COMMIT_BYTES_MAX, LOCAL_RESERVE_BYTES_MAX, LOCAL_RESERVE_BYTES_MIN, LOCAL_RESERVE_PART};
use std::{io, path::Path};

/// For what there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// For nothing.
    None,
    /// For what gives space back, or takes next to nothing.
    Little,
    /// For records.
    Enough,
}

/// Bytes of a device that are free for this process, and all that it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
}

impl Space {
    /// Of the device on which a directory is.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    /// For what there is room if the database still has to write out this much.
    pub(super) fn room(self, unflushed: u64) -> Room {
        let reserve = (self.total / LOCAL_RESERVE_PART).clamp(LOCAL_RESERVE_BYTES_MIN, LOCAL_RESERVE_BYTES_MAX);
        if self.free >= reserve.saturating_add(unflushed) {
            Room::Enough
        } else if self.free >= LOCAL_COMMIT_BYTES_MAX as u64 {
            Room::Little
        } else {
            Room::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn small_devices_keep_less_back_and_what_is_to_be_written_counts() {
        for (total, free, unflushed, expect) in [
            (64, 64, 0, Room::Enough),
            (64, 16, 0, Room::Enough),
            (64, 15, 0, Room::Little),
            (64, 40, 30, Room::Little),
            (64, 8, 0, Room::Little),
            (64, 7, 0, Room::None),
            (64, 0, 0, Room::None),
            (1_000_000, 512, 0, Room::Enough),
            (1_000_000, 511, 0, Room::Little),
            (1_600, 100, 0, Room::Enough),
            (1_600, 99, 0, Room::Little),
        ] {
            let space = Space { free: free * MIB, total: total * MIB };
            assert_eq!(space.room(unflushed * MIB), expect, "{free} of {total} MiB, {unflushed} to write");
        }
    }

    #[test]
    fn this_device_has_room() {
        let space = Space::of(&std::env::temp_dir()).expect("asked");
        assert!(space.total > 0 && space.free <= space.total, "{space:?}");
    }
}
