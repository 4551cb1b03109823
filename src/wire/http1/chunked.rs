//! The chunked transfer coding, undone in place (RFC 9112, section 7.1).
//!
//! A state machine over the bytes of the framing, with the data moved in blocks: every byte is looked at
//! once and moved at most once, however the input is cut. The grammar is held to the letter,
//! because every leniency here is some smuggler's tool: CRLF only, 1 to 16 hexadecimal digits with
//! nothing around them, extensions and trailers well-formed. These are read, bounded and dropped.

use super::{Progress, Span, body::too_large, is_token_byte, is_value_byte};
use crate::{limits::CHUNK_EXTRA_BYTES_MAX, reject::Reject};

/// Digits of a chunk's size: what 64 bits need.
const SIZE_DIGITS: u32 = 16;
/// What follows the data of any chunk at least: its CRLF, and the last chunk.
const AFTER_DATA_BYTES: usize = b"\r\n0\r\n\r\n".len();

/// Undoes the chunked coding of one body.
#[derive(Debug)]
pub(super) struct Chunked {
    bytes_max: u64,
    state: State,
    /// Decoded bytes: they lie at the body's start, one after another.
    decoded: usize,
    /// Decoded bytes that lay there and were taken away.
    taken: u64,
    /// Size of the chunk whose size line is being read, then what is missing of its data.
    chunk: u64,
    /// Digits of the size read so far.
    digits: u32,
    /// Bytes of extensions and trailers so far.
    extra: usize,
    /// Once done: the distance from the body's start to the first byte behind the body.
    consumed: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// After the size and white space: only an extension may follow.
    SizeSpace,
    /// After `;`.
    ExtensionStart,
    ExtensionName,
    /// After an extension's name and white space: `=`, or another extension.
    ExtensionNameSpace,
    /// After `=`.
    ValueStart,
    Value,
    Quoted,
    /// After `\` in a quoted value.
    QuotedEscape,
    /// After a quoted value.
    QuotedEnd,
    /// After an extension's value and white space: only another extension may follow.
    ValueSpace,
    /// After the CR of a size line.
    SizeNewline,
    Data,
    DataReturn,
    DataNewline,
    /// At the beginning of a line behind the last chunk.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerNewline,
    /// After the CR of the empty line.
    EndNewline,
    Done,
}

const BAD_SIZE: Reject = Reject::Malformed("a chunk's size is not 1 to 16 hexadecimal digits (RFC 9112, section 7.1)");
const BAD_EXTENSION: Reject = Reject::Malformed("a chunk extension is not ;name=value (RFC 9112, section 7.1.1)");
const TOO_MANY_EXTENSIONS: Reject = Reject::Malformed("too many bytes of chunk extensions (RFC 9112, section 7.1.1)");
const MISSING_DATA_END: Reject = Reject::Malformed("no CRLF behind a chunk's data (RFC 9112, section 7.1)");
const BAD_NEWLINE: Reject = Reject::Malformed("a CR without LF in chunked framing (RFC 9112, section 7.1)");
const BAD_TRAILER: Reject = Reject::Malformed("a trailer is not a field line (RFC 9112, section 7.1.2)");

impl Chunked {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: State::Size, decoded: 0, taken: 0, chunk: 0, digits: 0, extra: 0, consumed: 0 }
    }

    /// See [`super::Body::feed`].
    pub(super) fn feed(&mut self, buf: &mut Vec<u8>, start: usize) -> Result<Progress, Reject> {
        let mut write = start.saturating_add(self.decoded);
        // Between calls nothing lies behind the decoded bytes, so what does is new.
        let mut read = write;
        while self.state != State::Done {
            if self.state == State::Data {
                let there = buf.len().saturating_sub(read);
                let take = usize::try_from(self.chunk).map_or(there, |missing| missing.min(there));
                if take > 0 {
                    buf.copy_within(read..read + take, write);
                }
                (read, write) = (read + take, write + take);
                self.decoded += take;
                self.chunk -= take as u64;
                if self.chunk > 0 {
                    break;
                }
                self.state = State::DataReturn;
            }
            let Some(byte) = buf.get(read) else { break };
            read += 1;
            self.state = self.step(*byte)?;
            if self.state == State::Done {
                self.consumed = read - start;
            }
        }
        if u32::try_from(write).is_err() {
            return Err(too_large(self.bytes_max));
        }
        if self.state == State::Done {
            return Ok(Progress::Done {
                body: Span::between(start, write),
                consumed_to: start.saturating_add(self.consumed),
            });
        }
        buf.truncate(write);
        let wanted = match self.state {
            State::Data => usize::try_from(self.chunk).unwrap_or(usize::MAX).saturating_add(AFTER_DATA_BYTES),
            _ => 0,
        };
        Ok(Progress::More { wanted })
    }

    /// Returns how many decoded bytes lie in the buffer.
    pub(super) fn decoded(&self) -> usize {
        self.decoded
    }

    /// Says that the decoded bytes were taken out of the buffer: the next ones lie at the body's start again.
    pub(super) fn take(&mut self) {
        self.taken = self.taken.saturating_add(self.decoded as u64);
        self.decoded = 0;
    }

    /// Takes one byte of framing; the state of the next one.
    fn step(&mut self, byte: u8) -> Result<State, Reject> {
        match self.state {
            State::Size => self.step_size(byte),
            State::SizeSpace
            | State::ExtensionStart
            | State::ExtensionName
            | State::ExtensionNameSpace
            | State::ValueStart
            | State::Value
            | State::Quoted
            | State::QuotedEscape
            | State::QuotedEnd
            | State::ValueSpace => self.step_extension(byte),
            State::SizeNewline => self.end_size_line(byte),
            State::DataReturn => expect(byte, b'\r', State::DataNewline, MISSING_DATA_END),
            State::DataNewline => expect(byte, b'\n', State::Size, MISSING_DATA_END),
            State::TrailerStart | State::TrailerName | State::TrailerValue => self.step_trailer(byte),
            State::TrailerNewline => expect(byte, b'\n', State::TrailerStart, BAD_NEWLINE),
            State::EndNewline => expect(byte, b'\n', State::Done, BAD_NEWLINE),
            // Data is moved in blocks, and nothing is read behind the end.
            State::Data | State::Done => Err(Reject::Internal("a chunk's data was read as framing")),
        }
    }

    fn step_size(&mut self, byte: u8) -> Result<State, Reject> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.digits == SIZE_DIGITS {
                return Err(BAD_SIZE);
            }
            self.digits += 1;
            self.chunk = self.chunk << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        if self.digits == 0 {
            return Err(BAD_SIZE);
        }
        match byte {
            b'\r' => Ok(State::SizeNewline),
            b';' | b' ' | b'\t' => {
                self.spend_extra(TOO_MANY_EXTENSIONS)?;
                Ok(if byte == b';' { State::ExtensionStart } else { State::SizeSpace })
            }
            _ => Err(BAD_SIZE),
        }
    }

    fn step_extension(&mut self, byte: u8) -> Result<State, Reject> {
        self.spend_extra(TOO_MANY_EXTENSIONS)?;
        Ok(match (self.state, byte) {
            // White space: a sender must not send it, a recipient must accept it, but not at the end of the line.
            (
                State::SizeSpace | State::ExtensionStart | State::ExtensionNameSpace | State::ValueStart,
                b' ' | b'\t',
            ) => self.state,
            (State::ExtensionName, b' ' | b'\t') => State::ExtensionNameSpace,
            (State::Value | State::QuotedEnd | State::ValueSpace, b' ' | b'\t') => State::ValueSpace,
            // Another extension, or the first one.
            (
                State::SizeSpace
                | State::ExtensionName
                | State::ExtensionNameSpace
                | State::Value
                | State::QuotedEnd
                | State::ValueSpace,
                b';',
            ) => State::ExtensionStart,
            (State::ExtensionName | State::ExtensionNameSpace, b'=') => State::ValueStart,
            (State::ValueStart, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::QuotedEnd,
            (State::Quoted, b'\\') => State::QuotedEscape,
            (State::ExtensionName | State::Value | State::QuotedEnd, b'\r') => State::SizeNewline,
            (State::ExtensionStart | State::ExtensionName, _) if is_token_byte(byte) => State::ExtensionName,
            (State::ValueStart | State::Value, _) if is_token_byte(byte) => State::Value,
            (State::Quoted | State::QuotedEscape, _) if is_value_byte(byte) => State::Quoted,
            _ => return Err(BAD_EXTENSION),
        })
    }

    /// The LF of a size line: the size is known now.
    fn end_size_line(&mut self, byte: u8) -> Result<State, Reject> {
        if byte != b'\n' {
            return Err(BAD_NEWLINE);
        }
        self.digits = 0;
        if self.chunk == 0 {
            return Ok(State::TrailerStart);
        }
        if self.chunk > self.bytes_max.saturating_sub(self.taken).saturating_sub(self.decoded as u64) {
            return Err(too_large(self.bytes_max));
        }
        Ok(State::Data)
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, Reject> {
        if self.state == State::TrailerStart && byte == b'\r' {
            return Ok(State::EndNewline);
        }
        self.spend_extra(Reject::HeadTooLarge)?;
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerNewline),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            _ => Err(BAD_TRAILER),
        }
    }

    /// Counts a byte that is read and dropped.
    fn spend_extra(&mut self, full: Reject) -> Result<(), Reject> {
        self.extra += 1;
        if self.extra > CHUNK_EXTRA_BYTES_MAX { Err(full) } else { Ok(()) }
    }
}

/// Takes a byte that can be one only.
fn expect(byte: u8, wanted: u8, next: State, otherwise: Reject) -> Result<State, Reject> {
    if byte == wanted { Ok(next) } else { Err(otherwise) }
}
