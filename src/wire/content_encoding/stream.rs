//! gzip, zlib and DEFLATE bodies of any size, a piece at a time, on `miniz_oxide`.
//!
//! A step takes at most [`STEP_INPUT_BYTES`] and makes at most [`STEP_OUTPUT_BYTES`], so that whoever decodes can look at the clock
//! between two. Two codings are undone together: what the outer one makes is fed to the inner one, and never lies
//! in memory whole. The output lies in pieces until its length is known, so that nothing is moved but once, in steps as well.

#![expect(clippy::disallowed_methods, reason = "this is the module that may decode: everything it does is capped")]

use super::{
    Coding,
    inflate::is_zlib,
    member::{Header, Seen, crc32},
};
use crate::reject::{Reject, SizeLimit};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags as flags},
};
use std::{collections::VecDeque, ops::Range};

const GZIP_CORRUPT: Reject = Reject::CorruptEncoding("the gzip data is corrupt or cut off");
const GZIP_FOLLOWED: Reject = Reject::CorruptEncoding("the gzip data is followed by something else");
const DEFLATE_CORRUPT: Reject = Reject::CorruptEncoding("the deflate data is corrupt or cut off");
const DEFLATE_FOLLOWED: Reject = Reject::CorruptEncoding("the deflate data is followed by something else");

/// Input of one step.
const STEP_INPUT_BYTES: usize = 16 * 1024;
/// Output of one step.
const STEP_OUTPUT_BYTES: usize = 64 * 1024;
/// How far back a DEFLATE stream refers.
const HISTORY_BYTES: usize = 32 * 1024;
/// What is made in one piece.
const PIECE_BYTES: usize = 256 * 1024;
/// CRC-32 and size, at the end of a gzip member.
const TRAILER_BYTES: usize = 8;

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder<'a> {
    body: &'a [u8],
    /// Bytes of it that were taken.
    taken: usize,
    /// `None` once all is made.
    codings: Option<PieceDecoder>,
    pieces: VecDeque<Vec<u8>>,
    /// Bytes in the pieces.
    made: usize,
    /// Once all is made.
    joined: Option<Vec<u8>>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(body: &'a [u8], applied: impl DoubleEndedIterator<Item = Coding>, cap: usize) -> Self {
        let codings = Some(PieceDecoder::new(applied, cap));
        Self { body, taken: 0, codings, pieces: VecDeque::new(), made: 0, joined: None }
    }

    /// Works until `is_over` or all is done, but one step at least; whether all is done. `hold` is told how many bytes the decoder is about
    /// to hold in all, and may refuse.
    ///
    /// Errors: as [`super::Codings::decode`]. The decoder is of no use after one.
    pub fn turn(
        &mut self,
        mut hold: impl FnMut(usize) -> Result<(), Reject>,
        is_over: impl Fn() -> bool,
    ) -> Result<bool, Reject> {
        loop {
            let is_done = match &self.joined {
                None => {
                    hold(self.bytes() + PIECE_BYTES)?;
                    self.step()?
                }
                Some(_) => self.join(),
            };
            if is_done || is_over() {
                return Ok(is_done);
            }
        }
    }

    /// The decoded body, once [`Decoder::turn`] says that all is done.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.joined.unwrap_or_default()
    }

    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        self.codings.as_ref().map_or(0, PieceDecoder::bytes) + self.pieces.len() * PIECE_BYTES
    }

    /// `true` never: what was made has still to be joined.
    fn step(&mut self) -> Result<bool, Reject> {
        let Some(codings) = &mut self.codings else { return Err(Reject::Internal("a body without coding")) };
        let (taken, output, is_complete) = codings.undo(self.body.get(self.taken..).unwrap_or_default(), true)?;
        self.taken += taken;
        keep(&mut self.pieces, output);
        self.made += output.len();
        if is_complete {
            self.joined = Some(Vec::with_capacity(self.made));
            self.codings = None;
        }
        Ok(false)
    }

    /// Moves one piece to where all of it will lie; whether it was the last.
    fn join(&mut self) -> bool {
        let Some(piece) = self.pieces.pop_front() else { return true };
        if let Some(joined) = &mut self.joined {
            if joined.is_empty() && self.pieces.is_empty() {
                *joined = piece;
            } else {
                joined.extend_from_slice(&piece);
            }
        }
        self.pieces.is_empty()
    }
}

/// Appends to the last piece, and to a new one when it is full.
fn keep(pieces: &mut VecDeque<Vec<u8>>, mut output: &[u8]) {
    while !output.is_empty() {
        if pieces.back().is_none_or(|last| last.len() == PIECE_BYTES) {
            pieces.push_back(Vec::with_capacity(PIECE_BYTES));
        }
        let Some(last) = pieces.back_mut() else { return };
        let (now, later) = output.split_at(output.len().min(PIECE_BYTES - last.len()));
        last.extend_from_slice(now);
        output = later;
    }
}

pub(super) fn too_large(cap: usize) -> Reject {
    Reject::TooLarge(SizeLimit::Inflated, cap as u64)
}

/// Decodes a body that comes in pieces, of any length.
#[derive(Debug)]
pub struct PieceDecoder {
    /// From the coding that was applied last to the one that was applied first.
    stages: Vec<Stage>,
    /// Up to where the outer stage's output was used.
    used: usize,
    cap: usize,
}

/// What a step of a [`PieceDecoder`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that were taken.
    pub taken: usize,
    /// Whether it has taken or made anything, or has come further with what it had taken before.
    pub has_moved: bool,
    /// Whether the body is decoded to its end.
    pub is_complete: bool,
}

impl PieceDecoder {
    /// The most bytes that one step makes.
    pub const STEP_BYTES: usize = STEP_OUTPUT_BYTES;

    /// Returns a decoder that makes at most `cap` bytes.
    pub(super) fn new(applied: impl DoubleEndedIterator<Item = Coding>, cap: usize) -> Self {
        Self { stages: applied.rev().map(Stage::new).collect(), used: 0, cap }
    }

    /// Takes some of the input, and appends what it makes of it to `out`. A step that has not moved needs more input.
    /// `is_last`: the body ends with this input; then steps follow, without input at the end, until the body is complete.
    ///
    /// Errors: as of [`Decoder::turn`]. The decoder is of no use after one.
    pub fn step(&mut self, input: &[u8], is_last: bool, out: &mut Vec<u8>) -> Result<Step, Reject> {
        let used = self.used;
        let (taken, made, is_complete) = self.undo(input, is_last)?;
        out.extend_from_slice(made);
        let has_made = !made.is_empty();
        Ok(Step { taken, has_moved: taken > 0 || has_made || self.used != used, is_complete })
    }

    /// Returns the bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.stages.len() * STAGE_BYTES
    }

    /// Returns how much of the input was taken, what was made, and whether that is all.
    fn undo(&mut self, input: &[u8], is_last: bool) -> Result<(usize, &[u8], bool), Reject> {
        let [outer, inner @ ..] = self.stages.as_mut_slice() else {
            return Err(Reject::Internal("a body without coding"));
        };
        let mut taken = 0;
        if self.used == outer.fresh.end && !(outer.is_complete() && is_last && input.is_empty()) {
            let piece = input.get(..STEP_INPUT_BYTES).unwrap_or(input);
            taken = outer.step(piece, is_last && piece.len() == input.len(), self.cap)?;
            self.used = outer.fresh.start;
        }
        let all_taken = is_last && taken == input.len() && outer.is_complete();
        let made = outer.window.get(self.used..outer.fresh.end).unwrap_or_default();
        let Some(inner) = inner.first_mut() else {
            self.used = outer.fresh.end;
            return Ok((taken, made, all_taken));
        };
        let fed = inner.step(made, all_taken, self.cap)?;
        self.used += fed;
        Ok((taken, inner.fresh(), all_taken && fed == made.len() && inner.is_complete()))
    }
}

/// What [`Stage`] holds in memory.
const STAGE_BYTES: usize = size_of::<DecompressorOxide>() + HISTORY_BYTES + STEP_OUTPUT_BYTES;

/// Undoes one coding.
struct Stage {
    coding: Coding,
    phase: Phase,
    core: Box<DecompressorOxide>,
    /// What was made last, and before it as much as the stream may refer to.
    window: Vec<u8>,
    /// What the last step has made.
    fresh: Range<usize>,
    is_zlib: bool,
    made: usize,
    /// Of the member that is being decoded.
    crc: u32,
    member_bytes: u32,
    is_first_member: bool,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Phase {
    /// A gzip member's header; or none, if a member has ended.
    Header(Header),
    /// The first two bytes say what kind of deflate it is.
    Kind(Option<u8>),
    Data,
    Trailer(Vec<u8>),
    /// Behind the only stream.
    End,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stage")
            .field("coding", &self.coding)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Stage {
    fn new(coding: Coding) -> Self {
        let phase = match coding {
            Coding::Gzip => Phase::Header(Header::default()),
            Coding::Deflate => Phase::Kind(None),
        };
        Self {
            coding,
            phase,
            core: Box::default(),
            window: vec![0; HISTORY_BYTES + STEP_OUTPUT_BYTES],
            fresh: 0..0,
            is_zlib: false,
            made: 0,
            crc: 0,
            member_bytes: 0,
            is_first_member: true,
        }
    }

    fn fresh(&self) -> &[u8] {
        self.window.get(self.fresh.clone()).unwrap_or_default()
    }

    /// Whether the input may end here.
    fn is_complete(&self) -> bool {
        match &self.phase {
            Phase::Header(header) => !self.is_first_member && header.is_empty(),
            Phase::End => true,
            Phase::Kind(_) | Phase::Data | Phase::Trailer(_) => false,
        }
    }

    fn corrupt(&self) -> Reject {
        match self.coding {
            Coding::Gzip => GZIP_CORRUPT,
            Coding::Deflate => DEFLATE_CORRUPT,
        }
    }

    /// Takes some of the input; returns how much. What it has made is in `fresh` until the next step.
    fn step(&mut self, input: &[u8], is_last: bool, cap: usize) -> Result<usize, Reject> {
        self.fresh = self.fresh.end..self.fresh.end;
        let taken = match &mut self.phase {
            Phase::Header(_) => self.header(input)?,
            Phase::Kind(_) => self.kind(input, is_last)?,
            Phase::Data => self.inflate(input, is_last)?,
            Phase::Trailer(_) => self.trailer(input)?,
            Phase::End if input.is_empty() => 0,
            Phase::End => return Err(DEFLATE_FOLLOWED),
        };
        self.made += self.fresh.len();
        if self.made > cap {
            return Err(too_large(cap));
        }
        let stands_still = taken == 0 && self.fresh.is_empty() && input.is_empty();
        if is_last && stands_still && !self.is_complete() {
            return Err(match &self.phase {
                Phase::Header(header) if !self.is_first_member && !header.is_member() => GZIP_FOLLOWED,
                _ => self.corrupt(),
            });
        }
        Ok(taken)
    }

    fn header(&mut self, input: &[u8]) -> Result<usize, Reject> {
        let Phase::Header(header) = &mut self.phase else { return Ok(0) };
        for (index, byte) in input.iter().enumerate() {
            match header.take(*byte) {
                Seen::Some => {}
                Seen::All => {
                    self.begin_stream();
                    return Ok(index + 1);
                }
                Seen::NoMember if !self.is_first_member => return Err(GZIP_FOLLOWED),
                Seen::NoMember | Seen::Corrupt => return Err(GZIP_CORRUPT),
            }
        }
        Ok(input.len())
    }

    fn kind(&mut self, input: &[u8], is_last: bool) -> Result<usize, Reject> {
        let Phase::Kind(first) = self.phase else { return Ok(0) };
        let (first, second, taken) = match (first, input) {
            (None, [first, second, ..]) => (*first, *second, 2),
            (Some(first), [second, ..]) => (first, *second, 1),
            (None, [first]) => {
                self.phase = Phase::Kind(Some(*first));
                return Ok(1);
            }
            (_, []) => return Ok(0),
        };
        self.is_zlib = is_zlib(&[first, second]);
        self.begin_stream();
        let is_last = is_last && input.len() == taken;
        if self.inflate(&[first, second], is_last)? != 2 {
            return Err(DEFLATE_CORRUPT);
        }
        Ok(taken)
    }

    /// A stream begins, which refers to nothing before it.
    fn begin_stream(&mut self) {
        self.core.init();
        self.fresh = 0..0;
        (self.crc, self.member_bytes) = (0, 0);
        self.phase = Phase::Data;
    }

    fn inflate(&mut self, input: &[u8], is_last: bool) -> Result<usize, Reject> {
        let mut at = self.fresh.end;
        if self.window.len() - at < STEP_OUTPUT_BYTES {
            self.window.copy_within(at - HISTORY_BYTES..at, 0);
            at = HISTORY_BYTES;
        }
        let mut how = flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        if !is_last {
            how |= flags::TINFL_FLAG_HAS_MORE_INPUT;
        }
        how |= if self.is_zlib {
            flags::TINFL_FLAG_PARSE_ZLIB_HEADER | flags::TINFL_FLAG_COMPUTE_ADLER32
        } else {
            flags::TINFL_FLAG_IGNORE_ADLER32
        };
        let (status, taken, made) = decompress(&mut self.core, input, &mut self.window, at, how);
        self.fresh = at..at + made;
        self.count_member();
        match status {
            TINFLStatus::Done => {
                self.phase = match self.coding {
                    Coding::Gzip => Phase::Trailer(Vec::with_capacity(TRAILER_BYTES)),
                    Coding::Deflate => Phase::End,
                };
            }
            TINFLStatus::NeedsMoreInput if !is_last => {}
            TINFLStatus::HasMoreOutput => {}
            _ => return Err(self.corrupt()),
        }
        Ok(taken)
    }

    fn count_member(&mut self) {
        if self.coding == Coding::Gzip {
            let fresh = self.window.get(self.fresh.clone()).unwrap_or_default();
            self.crc = crc32(self.crc, fresh);
            // At most what a step makes; the sum is meant to wrap (RFC 1952, section 2.3.1).
            self.member_bytes = self.member_bytes.wrapping_add(u32::try_from(fresh.len()).unwrap_or_default());
        }
    }

    fn trailer(&mut self, input: &[u8]) -> Result<usize, Reject> {
        let Phase::Trailer(trailer) = &mut self.phase else { return Ok(0) };
        let taken = input.len().min(TRAILER_BYTES - trailer.len());
        trailer.extend_from_slice(input.get(..taken).unwrap_or_default());
        if trailer.len() == TRAILER_BYTES {
            let expect = [self.crc.to_le_bytes(), self.member_bytes.to_le_bytes()].concat();
            if *trailer != expect {
                return Err(GZIP_CORRUPT);
            }
            self.is_first_member = false;
            self.phase = Phase::Header(Header::default());
        }
        Ok(taken)
    }
}
