//! gzip and zlib bodies, whole, on libdeflate.
//!
//! Everything here says only whether it could: [`super::Decoder`] has the last word on what it could not, and names the
//! fault. Bare DEFLATE is not decoded here: libdeflate takes reserved symbols and incomplete codes (RFC 1951, sections
//! 3.2.6 and 3.2.7) for something, and without a checksum nothing would notice.
//!
//! The decoder decodes from the front of its input and does not tell where it stopped, so two questions remain open
//! after it succeeds: where the next gzip member begins, and whether something follows the end. Both are
//! answered by one property: decoding a shorter and shorter prefix succeeds until the prefix no longer holds the
//! whole stream. The checksum that ends a stream says where to look first, so that in practice one search is enough.

#![expect(clippy::disallowed_methods, reason = "this is the module that may decode: everything it does is capped")]

use super::member::MAGIC;
use crate::limits::{GZIP_ENDS_TRIED_MAX, INFLATED_CLAIM_FACTOR_MAX};
use libdeflater::{DecompressionError, Decompressor};
use memchr::memmem;

/// CRC-32 and size, little-endian, at the end of a gzip member.
const GZIP_TRAILER_BYTES: usize = 8;
/// Adler-32, big-endian, at the end of a zlib stream.
const ZLIB_TRAILER_BYTES: usize = 4;

/// Room made without a reason to make more.
const ROOM_MIN: usize = 1_024;
/// Room made at first, in multiples of the body: text shrinks four- to tenfold, logs sometimes thirtyfold.
const ROOM_FACTOR: usize = 4;

/// Copies a body without coding.
pub(super) fn identity(body: &[u8], cap: usize, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    (body.len() <= cap).then(|| out.extend_from_slice(body))
}

/// Decodes one gzip member or several, one after the other (RFC 1952).
pub(super) fn gzip(body: &[u8], cap: usize, out: &mut Vec<u8>) -> Option<()> {
    let claimed = body.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let mut sink = Sink::new(out, cap, claimed.min(body.len().saturating_mul(INFLATED_CLAIM_FACTOR_MAX)));
    let mut decoder = Decompressor::new();
    let mut rest = body;
    loop {
        let length = gzip_member(&mut decoder, rest, &mut sink)?;
        rest = rest.get(length..).unwrap_or_default();
        if rest.is_empty() {
            sink.finish();
            return Some(());
        }
    }
}

/// Decodes a zlib stream (RFC 1950). `None` for bare DEFLATE (RFC 1951), which comes under the same name.
pub(super) fn deflate(body: &[u8], cap: usize, out: &mut Vec<u8>) -> Option<()> {
    if !is_zlib(body) {
        return None;
    }
    let mut sink = Sink::new(out, cap, body.len().saturating_mul(ROOM_FACTOR));
    let mut decoder = Decompressor::new();
    let written = sink.decode(|room| decoder.zlib_decompress(body, room))?;
    let checksum = libdeflater::adler32(sink.fresh(written)).to_be_bytes();
    let end = body.len().saturating_sub(ZLIB_TRAILER_BYTES);
    if memmem::find(body, &checksum) != Some(end) {
        // The stream may end before the body does. It does not if the body without its last byte is no stream.
        let (shorter, room) = (body.split_last().map_or(body, |(_, shorter)| shorter), sink.fresh(written));
        if decoder.zlib_decompress(shorter, room).is_ok() {
            return None;
        }
        // The attempt has written over what was there.
        decoder.zlib_decompress(body, room).ok()?;
    }
    sink.keep(written);
    sink.finish();
    Some(())
}

/// Whether a deflate body is a zlib stream. A bare one that begins like this would be a stored block with garbage in its padding: no
/// encoder makes it.
pub(super) fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

/// Decodes the member at the front of `rest`; returns how long the member is.
fn gzip_member(decoder: &mut Decompressor, rest: &[u8], sink: &mut Sink<'_>) -> Option<usize> {
    let data = gzip_header(rest)?;
    let written = sink.decode(|room| decoder.gzip_decompress(rest, room))?;
    let trailer = gzip_trailer(sink.fresh(written));
    // The decoder has found the trailer right behind the stream: one of the places where these bytes stand.
    let mut search_from = data;
    for tried in 0..GZIP_ENDS_TRIED_MAX {
        let found = rest.get(search_from..).and_then(|tail| memmem::find(tail, &trailer));
        let start = search_from + found?;
        let length = start + GZIP_TRAILER_BYTES;
        // If the first such place is the end of the body, there is no other.
        let is_only_place = tried == 0 && length == rest.len();
        let member = rest.get(..length).unwrap_or_default();
        if is_only_place || decoder.gzip_decompress(member, sink.fresh(written)) == Ok(written) {
            sink.keep(written);
            return Some(length);
        }
        search_from = start + 1;
    }
    None
}

/// The trailer of a member that holds `data`.
fn gzip_trailer(data: &[u8]) -> [u8; GZIP_TRAILER_BYTES] {
    let size = data.len() as u64 & u64::from(u32::MAX);
    (size << 32 | u64::from(libdeflater::crc32(data))).to_le_bytes()
}

/// Length of a member's header; `None` if it is none. The decoder reads it too, but does not say how long it is
/// and does not check its checksum.
fn gzip_header(member: &[u8]) -> Option<usize> {
    const HAS_CHECKSUM: u8 = 2;
    const HAS_EXTRA: u8 = 4;
    const HAS_NAME: u8 = 8;
    const HAS_COMMENT: u8 = 16;
    const RESERVED: u8 = 0xe0;
    let flags = *member.get(3)?;
    if !member.starts_with(&MAGIC) || flags & RESERVED != 0 {
        return None;
    }
    let mut at = 10;
    if flags & HAS_EXTRA != 0 {
        let length = member.get(at..)?.first_chunk::<2>()?;
        at += 2 + usize::from(u16::from_le_bytes(*length));
    }
    for text in [HAS_NAME, HAS_COMMENT] {
        if flags & text != 0 {
            at += memchr::memchr(0, member.get(at..)?)? + 1;
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        let expect = member.get(at..)?.first_chunk::<2>()?;
        let [low, high, ..] = libdeflater::crc32(member.get(..at)?).to_le_bytes();
        if *expect != [low, high] {
            return None;
        }
        at += 2;
    }
    (at < member.len()).then_some(at)
}

/// The output: room that is made by doubling, and made once for all members.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes that are kept; behind them is room.
    kept: usize,
    cap: usize,
}

impl<'a> Sink<'a> {
    fn new(out: &'a mut Vec<u8>, cap: usize, room: usize) -> Self {
        out.clear();
        let mut sink = Self { out, kept: 0, cap };
        sink.grow_to(room.max(ROOM_MIN));
        sink
    }

    /// Runs a decoder on the room there is, and again on twice as much for as long as that is not enough and the
    /// cap allows it. Returns how many bytes it wrote.
    fn decode(&mut self, mut decoder: impl FnMut(&mut [u8]) -> Result<usize, DecompressionError>) -> Option<usize> {
        loop {
            let room = self.out.get_mut(self.kept..).unwrap_or_default();
            match decoder(room) {
                Ok(written) => return Some(written),
                Err(DecompressionError::InsufficientSpace) if self.out.len() < self.cap => {
                    self.grow_to(self.out.len().saturating_mul(2));
                }
                Err(DecompressionError::BadData | DecompressionError::InsufficientSpace) => return None,
            }
        }
    }

    /// What a decoder has just written, not yet kept.
    fn fresh(&mut self, written: usize) -> &mut [u8] {
        self.out.get_mut(self.kept..self.kept.saturating_add(written)).unwrap_or_default()
    }

    fn keep(&mut self, written: usize) {
        self.kept += written;
    }

    /// Cuts off the room that was not used.
    fn finish(self) {
        self.out.truncate(self.kept);
    }

    fn grow_to(&mut self, bytes: usize) {
        let bytes = bytes.min(self.cap);
        // `resize` alone may reserve twice as much as it is asked for.
        self.out.reserve_exact(bytes.saturating_sub(self.out.len()));
        self.out.resize(bytes.max(self.out.len()), 0);
    }
}
