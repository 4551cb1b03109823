//! Finds the end of a head, however it arrives, looking at every byte once.
//!
//! Only line ends are looked at: a LF without its CR is refused here, because httparse takes it
//! for a line end (and RFC 9112, section 2.2, lets it; the next recipient may not, which is how
//! one request becomes two). What the lines say is for others.

use crate::{limits::HEAD_EMPTY_LINES_MAX, reject::Reject};
use memchr::memchr_iter;

/// How far the search has come. All offsets are into the buffer that was passed so far.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Everything before is searched.
    searched: usize,
    /// Where the line that is not complete yet begins.
    line_start: usize,
    /// Empty lines before the request line.
    empty_lines: u32,
    /// Complete lines that are not empty: the request line and the fields.
    lines: usize,
    /// Where the request line begins and ends (without CRLF), once it is complete.
    request_line: Option<(usize, usize)>,
    /// Everything before is known to hold no byte that no head may hold.
    checked: usize,
}

impl Scan {
    /// Searches on. `Some`: the offset just past the empty line that ends the head.
    pub(super) fn find_end(&mut self, window: &[u8], fields_max: usize) -> Result<Option<usize>, Reject> {
        let fresh = window.get(self.searched..).unwrap_or_default();
        for found in memchr_iter(b'\n', fresh) {
            let newline = self.searched + found;
            let Some(carriage_return) = newline.checked_sub(1).filter(|at| window.get(*at) == Some(&b'\r')) else {
                return Err(Reject::Malformed("a line of the head ends in LF without CR (RFC 9112, section 2.2)"));
            };
            let line_start = std::mem::replace(&mut self.line_start, newline + 1);
            if carriage_return > line_start {
                self.lines += 1;
                if self.lines == 1 {
                    self.request_line = Some((line_start, carriage_return));
                } else if self.lines - 1 > fields_max {
                    return Err(Reject::HeadTooLarge);
                }
            } else if self.lines > 0 {
                return Ok(Some(newline + 1));
            } else {
                self.empty_lines += 1;
                if self.empty_lines > HEAD_EMPTY_LINES_MAX {
                    return Err(Reject::Malformed("empty lines before the request line (RFC 9112, section 2.2)"));
                }
            }
        }
        self.searched = window.len();
        Ok(None)
    }

    /// Where the request line begins and ends (without CRLF), once it is complete.
    pub(super) fn request_line(&self) -> Option<(usize, usize)> {
        self.request_line
    }

    /// Complete field lines seen so far.
    pub(super) fn field_lines(&self) -> usize {
        self.lines.saturating_sub(1)
    }

    /// Whether `length` is less than what was searched already: not the buffer of the last call.
    pub(super) fn is_ahead_of(&self, length: usize) -> bool {
        self.searched > length
    }

    /// Refuses, in what came since the last call, bytes that no head holds: whoever speaks another protocol (TLS,
    /// say) to this port, or sends a CR alone, learns it at once and not when the head's time is up.
    pub(super) fn check_partial(&mut self, window: &[u8]) -> Result<(), Reject> {
        let fresh = window.get(self.checked..).unwrap_or_default();
        let mut bytes = fresh.iter().copied().peekable();
        let mut open = 0;
        while let Some(byte) = bytes.next() {
            match (byte, bytes.peek()) {
                (b'\r', None) => open = 1,
                (b'\r', Some(b'\n')) | (b'\n' | b'\t' | b' '..=b'~' | 0x80.., _) => {}
                (b'\r', Some(_)) => {
                    return Err(Reject::Malformed("a CR without LF in the head (RFC 9112, section 2.2)"));
                }
                (..) => return Err(Reject::Malformed("a control character in the head (RFC 9110, section 5.5)")),
            }
        }
        self.checked = window.len() - open;
        Ok(())
    }
}
