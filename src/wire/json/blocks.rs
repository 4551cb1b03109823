//! The blockwise scanner: 64 bytes at a time, the whole grammar as operations on masks of 64 bits.
//!
//! Bit `n` of every mask stands for byte `n` of the block. Quotes that are not escaped are turned, by a running
//! parity, into the bytes inside strings; what is left outside is structure, white space and primitives (numbers
//! and literals, see `numbers`). JSON's grammar is then a matter of neighbours: which token may follow which
//! depends, besides the two tokens, only on whether a comma or a string stands directly in an object, so
//! "the token behind" ([`behind`]) and "the bytes in objects" are all it takes. Brackets alone are looked at
//! one by one, on a stack of one bit each.
//!
//! Invariants: one pass, no recursion, no allocation besides the spans; whatever the bytes are, nothing here
//! panics. The verdict is yes or no: a text that is refused goes through the scalar validator, which says where
//! and why. So what is refused here and is JSON would cost time and nothing else; what is accepted here must be JSON.

#![allow(clippy::inline_always, reason = "must be compiled into the entry that has the target features")]

use super::{
    lanes::{Classes, Lanes},
    numbers::{Numbers, behind},
    scalar::{Nesting, is_space_from},
};
use crate::wire::Span;

/// What there is to do.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The body; its offsets fit 32 bits.
    pub(super) body: &'a [u8],
    /// Where to begin: behind the bracket that opens the batch, or at the first line.
    pub(super) from: usize,
    /// Elements at most.
    pub(super) records_max: usize,
    /// The stack; its bound is the elements'.
    pub(super) nesting: Nesting,
    /// Where the spans go.
    pub(super) out: &'a mut Vec<Span>,
}

/// Cuts the rest of a batch, or lines, into elements; `None` if anything at all is wrong with them.
#[inline(always)]
pub(super) fn scan<L: Lanes, const LINES: bool>(lanes: L, job: &mut Job<'_>) -> Option<()> {
    let mut scanner = Scanner::new(lanes, LINES);
    let mut base = job.from;
    while let Some(bytes) = job.body.get(base..).and_then(<[u8]>::first_chunk::<64>) {
        if let Some(end) = scanner.block::<LINES>(bytes, base, job).ok()? {
            return is_space_from(job.body, base + end as usize + 1).then_some(());
        }
        base += 64;
    }
    // White space behind the end changes nothing and lets the last tokens end.
    let rest = job.body.get(base..).unwrap_or_default();
    let mut bytes = [b' '; 64];
    bytes.get_mut(..rest.len())?.copy_from_slice(rest);
    let end = scanner.block::<LINES>(&bytes, base, job).ok()?;
    let is_whole = match end {
        Some(end) => is_space_from(job.body, base + end as usize + 1),
        None => LINES && job.nesting.depth() == 0 && scanner.inside == 0,
    };
    is_whole.then_some(())
}

/// Something is wrong; what it is, is the scalar validator's to say.
struct Refused;

const ODD_PLACES: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// What one block must know of the ones before; single bits are in bit 0.
struct Scanner<L: Lanes> {
    lanes: L,
    /// The block before, for UTF-8 that straddles.
    before: L::Block,
    /// Where the bytes above 0x7F are in it.
    high: u64,
    /// The first byte is escaped.
    escaped: u64,
    /// The first bytes that must be hexadecimal digits.
    hex: u64,
    /// All ones within a string.
    inside: u64,
    /// The string is a key.
    key: u64,
    /// The last byte was of a primitive.
    primitive: u64,
    /// An element's last byte was the last byte.
    element_end: u64,
    /// Elements whose end is known.
    ended: usize,
    pending: Pending,
    numbers: Numbers,
}

/// The next token stands behind …
#[derive(Default)]
struct Pending {
    /// … a colon, a `[`, or a comma in an array: a value must follow (or, behind the `[`, its end).
    value: u64,
    /// … a `{`, or a comma in an object: a key must follow (or, behind the `{`, its end).
    member: u64,
    /// … a bracket that opens: it may be closed.
    open: u64,
    /// … a key: a colon must follow.
    key: u64,
}

/// What the brackets say of a block.
struct Containers {
    /// The bytes that stand directly in an object.
    object: u64,
    /// The bytes that stand directly in the batch; a bracket stands where it was found.
    top: u64,
    /// The brackets that end elements.
    ends: u64,
    /// Where the batch ends.
    end: Option<u32>,
}

impl<L: Lanes> Scanner<L> {
    fn new(lanes: L, lines: bool) -> Self {
        // A line begins as an element behind a comma does; in a batch the bracket has just been opened.
        let pending = Pending { value: 1, open: u64::from(!lines), ..Pending::default() };
        Self {
            lanes,
            before: lanes.load(&[b' '; 64]),
            high: 0,
            escaped: 0,
            hex: 0,
            inside: 0,
            key: 0,
            primitive: 0,
            element_end: 0,
            ended: 0,
            pending,
            numbers: Numbers::new(),
        }
    }

    /// Takes the block at `base`; says where in it the batch ends, if it does.
    #[inline(always)]
    fn block<const LINES: bool>(
        &mut self,
        bytes: &[u8; 64],
        base: usize,
        job: &mut Job<'_>,
    ) -> Result<Option<u32>, Refused> {
        let block = self.lanes.load(bytes);
        let classes = self.lanes.classes(block);
        if classes.high | self.high != 0 && self.lanes.utf8_is_broken(self.before, block) {
            return Err(Refused);
        }
        (self.before, self.high) = (block, classes.high >> 61);
        if self.inside != 0 && classes.quote | classes.backslash | classes.control | self.escaped | self.hex == 0 {
            // In the midst of a long string nothing else changes.
            return Ok(None);
        }

        let quote = classes.quote & !self.escapes(block, classes.backslash).ok_or(Refused)?;
        let inside = self.lanes.prefix_xor(quote) ^ self.inside;
        self.inside = 0_u64.wrapping_sub(inside >> 63);
        let mut tokens = Tokens::new(&classes, quote, inside);
        let newline = if LINES { self.lanes.eq(block, b'\n') & tokens.space } else { 0 };
        tokens.space &= !newline;

        let containers = containers::<LINES>(&tokens, classes.curly, &mut job.nesting).ok_or(Refused)?;
        let primitive_start = tokens.primitive & !(tokens.primitive << 1 | self.primitive);
        let primitive_end = (tokens.primitive << 1 | self.primitive) & !tokens.primitive;
        self.primitive = tokens.primitive >> 63;

        let mut faults = classes.control & inside;
        faults |= if tokens.space == 0 {
            self.order::<false>(&tokens, containers.object, primitive_start, newline)
        } else {
            self.order::<true>(&tokens, containers.object, primitive_start, newline)
        };
        if LINES {
            faults |= tokens.comma & containers.top | newline & !containers.top;
        }
        faults |= self.numbers.faults(self.lanes, block, (tokens.primitive, primitive_start), (job.body, base));
        if faults != 0 {
            return Err(Refused);
        }

        let starts = (tokens.string | primitive_start | tokens.open) & containers.top;
        let last = tokens.string_end & containers.top | containers.ends;
        let ends = last << 1 | self.element_end | primitive_end & containers.top;
        self.element_end = last >> 63;
        self.emit(starts, ends, base, job).ok_or(Refused)?;
        Ok(containers.end)
    }

    /// The bytes that are escaped.
    #[inline(always)]
    fn escapes(&mut self, block: L::Block, backslash: u64) -> Option<u64> {
        if backslash | self.escaped | self.hex == 0 {
            return Some(0);
        }
        // In a run of backslashes every other one escapes: subtracting each run's first from the odd places
        // leaves them at the places of the run's parity (Langdale, Lemire, Keiser).
        let free = backslash & !self.escaped;
        let alternating = ((free << 1 | ODD_PLACES).wrapping_sub(free)) ^ ODD_PLACES;
        let escaped = alternating ^ (backslash | self.escaped);
        self.escaped = (alternating & backslash) >> 63;
        if escaped & !self.lanes.escape_letters(block) != 0 {
            return None;
        }
        let unicode = escaped & self.lanes.eq(block, b'u');
        let hex = unicode << 1 | unicode << 2 | unicode << 3 | unicode << 4 | self.hex;
        self.hex = unicode >> 63 | unicode >> 62 | unicode >> 61 | unicode >> 60;
        if hex != 0 && hex & !self.lanes.hex_digits(block) != 0 {
            return None;
        }
        Some(escaped)
    }

    /// The tokens that stand where they must not. `SPACED` says whether there is white space between tokens;
    /// where there is none, and compact JSON has none anywhere, the next token is the next byte.
    #[inline(always)]
    fn order<const SPACED: bool>(&mut self, tokens: &Tokens, object: u64, primitive_start: u64, newline: u64) -> u64 {
        let pending = &mut self.pending;
        let space = if SPACED { tokens.space } else { 0 };
        let curly = tokens.open & tokens.curly;
        let before_value = tokens.colon | tokens.comma & !object | tokens.open & !curly | newline;
        let value = behind(before_value, space, &mut pending.value);
        let member = behind(tokens.comma & object | curly, space, &mut pending.member);
        let open = behind(tokens.open, space, &mut pending.open);
        // A string that begins as a key ends as one: the carry runs through it to its closing quote.
        let (sum, overflows) = tokens.inside.overflowing_add(tokens.string & member | self.key);
        self.key = u64::from(overflows);
        let key = behind(sum & tokens.string_end, space, &mut pending.key);

        tokens.string & !(value | member)
            | (tokens.open | primitive_start) & !value
            | tokens.comma & (value | member)
            // Whatever else stands behind a key is found here too.
            | tokens.colon ^ key
            | tokens.close & (value | member) & !open
    }

    /// Puts down where elements start and end.
    #[inline(always)]
    fn emit(&mut self, mut starts: u64, mut ends: u64, base: usize, job: &mut Job<'_>) -> Option<()> {
        // `Job::body` promises that offsets fit.
        #[expect(clippy::cast_possible_truncation, reason = "offsets fit 32 bits")]
        let base = base as u32;
        while starts != 0 {
            job.out.push(Span { start: base + starts.trailing_zeros(), end: 0 });
            starts &= starts - 1;
        }
        while ends != 0 {
            job.out.get_mut(self.ended)?.end = base + ends.trailing_zeros();
            self.ended += 1;
            ends &= ends - 1;
        }
        (job.out.len() <= job.records_max).then_some(())
    }
}

/// The tokens of a block.
struct Tokens {
    /// Strings with their opening quotes and without their closing ones.
    inside: u64,
    /// Opening quotes.
    string: u64,
    /// Closing quotes.
    string_end: u64,
    space: u64,
    open: u64,
    close: u64,
    curly: u64,
    comma: u64,
    colon: u64,
    /// Everything else.
    primitive: u64,
}

impl Tokens {
    #[inline(always)]
    fn new(classes: &Classes, quote: u64, inside: u64) -> Self {
        let outside = !(inside | quote);
        let space = classes.space & outside;
        let (open, close) = (classes.open & outside, classes.close & outside);
        let (comma, colon) = (classes.comma & outside, classes.colon & outside);
        let primitive = outside & !(space | open | close | comma | colon);
        let curly = classes.curly;
        let (string, string_end) = (quote & inside, quote & !inside);
        Self { inside, string, string_end, space, open, close, curly, comma, colon, primitive }
    }
}

/// Follows the brackets of a block.
#[inline(always)]
fn containers<const LINES: bool>(tokens: &Tokens, curly: u64, nesting: &mut Nesting) -> Option<Containers> {
    let mut found = Containers {
        object: 0_u64.wrapping_sub(u64::from(nesting.innermost_is_object())),
        top: 0_u64.wrapping_sub(u64::from(nesting.depth() == 0)),
        ends: 0,
        end: None,
    };
    let mut brackets = tokens.open | tokens.close;
    while brackets != 0 {
        let bracket = brackets & brackets.wrapping_neg();
        let above = (bracket << 1).wrapping_neg();
        let is_curly = curly & bracket != 0;
        if tokens.open & bracket != 0 {
            nesting.push(is_curly, 0).ok()?;
            found.top &= !above;
        } else {
            if nesting.depth() == 0 {
                found.end = Some(bracket.trailing_zeros());
                return (!LINES && !is_curly).then_some(found);
            }
            if nesting.innermost_is_object() != is_curly {
                return None;
            }
            nesting.pop();
            if nesting.depth() == 0 {
                found.top |= above;
                found.ends |= bracket;
            }
        }
        let object = 0_u64.wrapping_sub(u64::from(nesting.innermost_is_object()));
        found.object = found.object & !above | object & above;
        brackets &= brackets - 1;
    }
    Some(found)
}
