//! The header of a gzip member (RFC 1952, section 2.3), a byte at a time.

use libdeflater::Crc;

/// What a member begins with.
pub(super) const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes of the part that every header has.
const FIXED_BYTES: usize = 10;
const FLAGS_AT: usize = 3;

const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// A header that is being read.
#[derive(Debug)]
pub(super) struct Header {
    /// Bytes of the fixed part that were read.
    fixed: usize,
    flags: u8,
    part: Part,
    crc: u32,
}

/// The part that the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum Part {
    Fixed,
    ExtraLength(Option<u8>),
    Extra(u16),
    Name,
    Comment,
    Checksum(Option<u8>),
}

/// What a byte was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// A part of the header.
    Some,
    /// Its last byte.
    All,
    /// Something else than a member begins here.
    NoMember,
    /// A member, but not a good one.
    Corrupt,
}

impl Default for Header {
    fn default() -> Self {
        Self { fixed: 0, flags: 0, part: Part::Fixed, crc: 0 }
    }
}

impl Header {
    /// Whether nothing of it was read.
    pub(super) fn is_empty(&self) -> bool {
        self.fixed == 0
    }

    /// Whether what was read is enough to tell that it is a member.
    pub(super) fn is_member(&self) -> bool {
        self.fixed >= MAGIC.len()
    }

    /// Takes the next byte.
    pub(super) fn take(&mut self, byte: u8) -> Seen {
        if let Part::Checksum(low) = self.part {
            return self.checksum(low, byte);
        }
        if self.part_is_checked() {
            self.crc = crc32(self.crc, &[byte]);
        }
        match self.part {
            Part::Fixed => return self.fixed(byte),
            Part::ExtraLength(None) => self.part = Part::ExtraLength(Some(byte)),
            Part::ExtraLength(Some(low)) => match u16::from_le_bytes([low, byte]) {
                0 => return self.after(HAS_EXTRA),
                length => self.part = Part::Extra(length),
            },
            Part::Extra(1) => return self.after(HAS_EXTRA),
            Part::Extra(left) => self.part = Part::Extra(left - 1),
            Part::Name if byte == 0 => return self.after(HAS_NAME),
            Part::Comment if byte == 0 => return self.after(HAS_COMMENT),
            Part::Name | Part::Comment | Part::Checksum(_) => {}
        }
        Seen::Some
    }

    /// Until the flags are known, all is.
    fn part_is_checked(&self) -> bool {
        self.fixed <= FLAGS_AT || self.flags & HAS_CHECKSUM != 0
    }

    fn fixed(&mut self, byte: u8) -> Seen {
        let at = self.fixed;
        self.fixed += 1;
        match MAGIC.get(at) {
            Some(magic) if *magic != byte => return Seen::NoMember,
            _ if at == FLAGS_AT => self.flags = byte,
            _ => {}
        }
        match () {
            () if self.flags & RESERVED != 0 => Seen::Corrupt,
            () if self.fixed == FIXED_BYTES => self.after(0),
            () => Seen::Some,
        }
    }

    /// Goes on to the part behind the one of this flag.
    fn after(&mut self, flag: u8) -> Seen {
        // The order of the parts is that of their flags, but for the checksum.
        let next = [(HAS_EXTRA, Part::ExtraLength(None)), (HAS_NAME, Part::Name), (HAS_COMMENT, Part::Comment)];
        let next = next.into_iter().find(|(has, _)| *has > flag && self.flags & has != 0);
        match next {
            Some((_, part)) => self.part = part,
            None if self.flags & HAS_CHECKSUM != 0 => self.part = Part::Checksum(None),
            None => return Seen::All,
        }
        Seen::Some
    }

    fn checksum(&mut self, low: Option<u8>, byte: u8) -> Seen {
        let [expect_low, expect_high, ..] = self.crc.to_le_bytes();
        match low {
            None => {
                self.part = Part::Checksum(Some(byte));
                Seen::Some
            }
            Some(low) if [low, byte] == [expect_low, expect_high] => Seen::All,
            Some(_) => Seen::Corrupt,
        }
    }
}

/// The CRC-32 of what `before` is that of, and `more`.
pub(super) fn crc32(before: u32, more: &[u8]) -> u32 {
    let mut crc = Crc::with_initial(before);
    crc.update(more);
    crc.sum()
}
