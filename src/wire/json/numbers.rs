//! Numbers and literals, 64 bytes at a time: what lies outside strings and is neither structure nor white space.
//!
//! The grammar of numbers says only which byte may follow which, that a leading zero stands alone, and that there
//! is at most one fraction and one exponent, in this order. The first two are shifts of masks; the third is an
//! addition, whose carry runs through the digits to the byte behind them. Literals are rare enough to be
//! compared one by one.
//!
//! The verdict is a mask of bytes that are wrong. Where exactly a text is wrong is the scalar validator's to say.

#![allow(clippy::inline_always, reason = "must be compiled into the entry that has the target features")]

use super::lanes::Lanes;

/// What one block must know of the one before.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// In bit 0: the last byte was a digit.
    digit: u64,
    /// In bit 0: the last byte was a leading zero.
    lone_zero: u64,
    /// What only texts with more than plain integers have.
    rest: Rest,
    /// Whether `rest` is all zero.
    plain: bool,
}

/// In bit 0 each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rest {
    /// The last byte was of a literal.
    literal: u64,
    /// The last byte was a minus that begins a number.
    minus: u64,
    /// The last byte wants a digit: a sign or a decimal point.
    wants_digit: u64,
    /// Digits behind a decimal point reach the block's end, or the point itself does.
    fraction_run: u64,
    /// The last byte was an `e`.
    exponent: u64,
    /// As `fraction_run`, of an exponent.
    exponent_run: u64,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self { plain: true, ..Self::default() }
    }

    /// The bytes that are wrong among `primitive`, whose first ones are `starts`; the block stands at `base`.
    #[inline(always)]
    pub(super) fn faults<L: Lanes>(
        &mut self,
        lanes: L,
        block: L::Block,
        (primitive, starts): (u64, u64),
        (body, base): (&[u8], usize),
    ) -> u64 {
        let digit = lanes.digits(block) & primitive;
        let zero = lanes.eq(block, b'0');
        if primitive == digit && self.plain {
            // Nothing but integers without a sign.
            let lone_zero = zero & starts;
            let faults = (lone_zero << 1 | self.lone_zero) & digit;
            self.lone_zero = lone_zero >> 63;
            self.digit = digit >> 63;
            return faults;
        }
        let (minus, point) = (lanes.eq(block, b'-') & primitive, lanes.eq(block, b'.') & primitive);
        let literal_starts = starts & !(digit | minus);
        let mut faults = wrong_literals(literal_starts, body, base);
        // Adding a bit at its start clears a literal's run of ones.
        let (sum, overflows) = primitive.overflowing_add(literal_starts | self.rest.literal);
        self.rest.literal = u64::from(overflows);
        let number = primitive & sum;
        let (minus, point) = (minus & number, point & number);
        let mut exponent = Exponent::default();
        let others = number & !(digit | minus | point);
        if others | self.rest.exponent | self.rest.exponent_run != 0 {
            exponent.exponent = (lanes.eq(block, b'e') | lanes.eq(block, b'E')) & others;
            exponent.plus = lanes.eq(block, b'+') & others;
            faults |= others & !(exponent.exponent | exponent.plus);
        }
        faults |= self.number_faults(starts, zero, [digit, minus, point], exponent);
        self.plain = self.rest == Rest::default();
        faults
    }

    /// The bytes that are wrong among those of numbers.
    #[inline(always)]
    fn number_faults(
        &mut self,
        starts: u64,
        zero: u64,
        [digit, minus, point]: [u64; 3],
        Exponent { exponent, plus }: Exponent,
    ) -> u64 {
        let rest = &mut self.rest;
        let first_minus = minus & starts;
        let lone_zero = zero & (starts | first_minus << 1 | rest.minus);
        let wants_digit = plus | minus | point;
        let behind_digit = digit << 1 | self.digit;
        let mut faults = (point | exponent) & !behind_digit;
        faults |= (wants_digit << 1 | rest.wants_digit) & !digit;
        faults |= (lone_zero << 1 | self.lone_zero) & digit;
        faults |= point & behind(point, digit, &mut rest.fraction_run);
        let behind_exponent = exponent << 1 | rest.exponent;
        faults |= minus & !(starts | behind_exponent);
        if exponent | plus | behind_exponent | rest.exponent_run != 0 {
            let tail = digit | plus | minus;
            faults |= plus & !behind_exponent;
            faults |= behind_exponent & !tail;
            faults |= (point | exponent) & behind(exponent, tail, &mut rest.exponent_run);
        }
        self.digit = digit >> 63;
        self.lone_zero = lone_zero >> 63;
        rest.minus = first_minus >> 63;
        rest.wants_digit = wants_digit >> 63;
        rest.exponent = exponent >> 63;
        faults
    }
}

/// The bytes that only numbers with an exponent have.
#[derive(Default)]
struct Exponent {
    exponent: u64,
    plus: u64,
}

/// Those of `starts` at which no literal stands.
#[inline(always)]
fn wrong_literals(mut starts: u64, body: &[u8], base: usize) -> u64 {
    let mut wrong = 0;
    while starts != 0 {
        if !is_literal(body, base + starts.trailing_zeros() as usize) {
            wrong = starts;
            break;
        }
        starts &= starts - 1;
    }
    wrong
}

/// Whether a literal stands at `at`, with nothing behind it that would belong to it.
#[inline(always)]
fn is_literal(body: &[u8], at: usize) -> bool {
    let rest = body.get(at..).unwrap_or_default();
    let (Some(word), last) = (rest.first_chunk::<4>(), rest.get(4)) else { return false };
    let behind = match word {
        b"true" | b"null" => last,
        b"fals" if last == Some(&b'e') => rest.get(5),
        _ => return false,
    };
    // Nothing else may stand behind a value.
    behind.is_none_or(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
}

/// The first byte behind each of `marks` that is not of `skipped`. `carry` hands on, in bit 0, what looks beyond the block.
///
/// Adding a bit to a run of ones carries it to the first zero above; runs that get no bit stay as they are.
#[inline(always)]
pub(super) fn behind(marks: u64, skipped: u64, carry: &mut u64) -> u64 {
    let (sum, overflows) = (marks << 1 | *carry).overflowing_add(skipped);
    *carry = marks >> 63 | u64::from(overflows);
    sum & !skipped
}
