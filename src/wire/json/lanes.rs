//! What the blockwise scanner asks of an instruction set: 64 bytes in, one bit a byte out.
//!
//! A [`Lanes`] value is a witness: it can be made only where the processor has the instructions, so
//! that its methods are safe to call. Bit `n` of a mask always stands for byte `n` of the block.

/// One instruction set.
pub(super) trait Lanes: Copy {
    /// 64 bytes in registers.
    type Block: Copy;

    /// Takes a block out of the body.
    fn load(self, bytes: &[u8; 64]) -> Self::Block;

    /// The bytes that are `byte`.
    fn eq(self, block: Self::Block, byte: u8) -> u64;

    /// What the scanner wants to know of every block.
    fn classes(self, block: Self::Block) -> Classes;

    /// The decimal digits.
    fn digits(self, block: Self::Block) -> u64;

    /// The hexadecimal digits of either case.
    fn hex_digits(self, block: Self::Block) -> u64;

    /// The bytes that may follow a backslash.
    fn escape_letters(self, block: Self::Block) -> u64;

    /// Bit `n` is the parity of the bits `0..=n`.
    fn prefix_xor(self, bits: u64) -> u64;

    /// Whether `block` is no UTF-8 where it follows `before`. A sequence that is cut off by the end of `block`
    /// is found with the next one.
    fn utf8_is_broken(self, before: Self::Block, block: Self::Block) -> bool;
}

/// Bytes by kind, whether in a string or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Classes {
    /// `"`
    pub(super) quote: u64,
    /// `\`
    pub(super) backslash: u64,
    /// `{` and `[`
    pub(super) open: u64,
    /// `}` and `]`
    pub(super) close: u64,
    /// Of brackets, the curly ones; of other bytes, anything.
    pub(super) curly: u64,
    /// `,`
    pub(super) comma: u64,
    /// `:`
    pub(super) colon: u64,
    /// The four that JSON calls white space.
    pub(super) space: u64,
    /// Below 0x20.
    pub(super) control: u64,
    /// Above 0x7F.
    pub(super) high: u64,
}

/// The tables of the UTF-8 check by Keiser and Lemire ("Validating UTF-8 in less than one instruction per byte"):
/// each pair of neighbouring bytes is looked up by three half bytes, and what all three agree on is wrong with it.
pub(super) mod utf8 {
    /// A lead is not followed by a continuation.
    const TOO_SHORT: u8 = 1 << 0;
    /// ASCII is followed by a continuation.
    const TOO_LONG: u8 = 1 << 1;
    const OVERLONG_3: u8 = 1 << 2;
    const TOO_LARGE: u8 = 1 << 3;
    const SURROGATE: u8 = 1 << 4;
    const OVERLONG_2: u8 = 1 << 5;
    /// Both are told apart by the other half bytes.
    const TOO_LARGE_1000_OR_OVERLONG_4: u8 = 1 << 6;
    /// Right only as the third or fourth byte of a sequence, which is looked at apart.
    const TWO_CONTINUATIONS: u8 = 1 << 7;
    /// What the low half of the first byte does not bear on.
    const ANY_LOW: u8 = TOO_SHORT | TOO_LONG | TWO_CONTINUATIONS;
    const LARGE: u8 = ANY_LOW | TOO_LARGE | TOO_LARGE_1000_OR_OVERLONG_4;
    const CONTINUATION: u8 = TOO_LONG | OVERLONG_2 | TWO_CONTINUATIONS;

    /// By the high half of the first byte.
    #[rustfmt::skip]
    pub(in super::super) static FIRST_HIGH: [u8; 16] = [
        TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
        TWO_CONTINUATIONS, TWO_CONTINUATIONS, TWO_CONTINUATIONS, TWO_CONTINUATIONS,
        TOO_SHORT | OVERLONG_2,
        TOO_SHORT,
        TOO_SHORT | OVERLONG_3 | SURROGATE,
        TOO_SHORT | TOO_LARGE | TOO_LARGE_1000_OR_OVERLONG_4,
    ];

    /// By the low half of the first byte.
    #[rustfmt::skip]
    pub(in super::super) static FIRST_LOW: [u8; 16] = [
        ANY_LOW | OVERLONG_2 | OVERLONG_3 | TOO_LARGE_1000_OR_OVERLONG_4,
        ANY_LOW | OVERLONG_2,
        ANY_LOW, ANY_LOW,
        ANY_LOW | TOO_LARGE,
        LARGE, LARGE, LARGE, LARGE, LARGE, LARGE, LARGE, LARGE,
        LARGE | SURROGATE,
        LARGE, LARGE,
    ];

    /// By the high half of the second byte.
    #[rustfmt::skip]
    pub(in super::super) static SECOND_HIGH: [u8; 16] = [
        TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
        CONTINUATION | OVERLONG_3 | TOO_LARGE_1000_OR_OVERLONG_4,
        CONTINUATION | OVERLONG_3 | TOO_LARGE,
        CONTINUATION | SURROGATE | TOO_LARGE,
        CONTINUATION | SURROGATE | TOO_LARGE,
        TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
    ];

    /// Subtracted with saturation from the byte two before: leaves the high bit for leads of three bytes and more.
    pub(in super::super) const THIRD: u8 = 0xe0 - 0x80;
    /// Likewise from the byte three before, for leads of four.
    pub(in super::super) const FOURTH: u8 = 0xf0 - 0x80;
}
