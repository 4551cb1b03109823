//! [`Lanes`] in AVX2, two registers a block.
//!
//! Unsafe: the intrinsics are, because a processor may lack them. An [`Avx2`] exists only where it does not.

#![allow(unsafe_code, reason = "vector instructions; what they gain is in docs/adr/0010")]
#![allow(clippy::inline_always, reason = "must be compiled into `run`, which has the target features")]

use super::{
    blocks::{self, Job},
    lanes::{Classes, Lanes, utf8},
};
use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_set_epi64x, _mm_set1_epi8,
    _mm256_alignr_epi8, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi8,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_sub_epi8, _mm256_subs_epu8, _mm256_testz_si256,
    _mm256_xor_si256,
};

/// Witness that the processor has AVX2, PCLMULQDQ, BMI1, BMI2 and POPCNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The witness, if the processor gives it.
    pub(super) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }

    /// The scanner, compiled for these instructions.
    pub(super) fn scan<const LINES: bool>(self, job: &mut Job<'_>) -> Option<()> {
        // SAFETY: `self` exists, so the processor has the features.
        unsafe { run::<LINES>(self, job) }
    }
}

#[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt")]
fn run<const LINES: bool>(lanes: Avx2, job: &mut Job<'_>) -> Option<()> {
    blocks::scan::<Avx2, LINES>(lanes, job)
}

type Half = __m256i;

/// One bit a byte from the high bits of both halves.
#[inline(always)]
fn mask(_: Avx2, low: Half, high: Half) -> u64 {
    // SAFETY: the witness says that there is AVX2.
    let (low, high) = unsafe { (_mm256_movemask_epi8(low), _mm256_movemask_epi8(high)) };
    u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32
}

#[inline(always)]
fn splat(_: Avx2, byte: u8) -> Half {
    // SAFETY: the witness says that there is AVX2.
    unsafe { _mm256_set1_epi8(byte.cast_signed()) }
}

/// The bytes of `vector` that are at most `bound`, as whole bytes of ones.
#[inline(always)]
fn at_most(lanes: Avx2, vector: Half, bound: u8) -> Half {
    // SAFETY: the witness says that there is AVX2.
    unsafe { _mm256_cmpeq_epi8(_mm256_min_epu8(vector, splat(lanes, bound)), vector) }
}

/// The bytes of `vector` that lie within `from..=to`.
#[inline(always)]
fn within(lanes: Avx2, vector: Half, from: u8, to: u8) -> Half {
    // SAFETY: the witness says that there is AVX2.
    at_most(lanes, unsafe { _mm256_sub_epi8(vector, splat(lanes, from)) }, to - from)
}

/// A table of 16 bytes in each of the register's lanes.
#[inline(always)]
fn table(_: Avx2, bytes: &[u8; 16]) -> Half {
    // SAFETY: 16 bytes are there to be read, at any alignment; the witness says that there is AVX2.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// The bytes for which `entries`, looked up by the low half byte, holds the byte itself (no byte above 0x7F).
#[inline(always)]
fn listed(_: Avx2, entries: Half, vector: Half) -> Half {
    // SAFETY: the witness says that there is AVX2.
    unsafe { _mm256_cmpeq_epi8(_mm256_shuffle_epi8(entries, vector), vector) }
}

/// Bits that are not zero where `vector` is no UTF-8, given the 32 bytes before it.
#[inline(always)]
fn utf8_errors(lanes: Avx2, before: Half, vector: Half) -> Half {
    // SAFETY: the witness says that there is AVX2.
    unsafe {
        let straddling = _mm256_permute2x128_si256::<0x21>(before, vector);
        let first = _mm256_alignr_epi8::<15>(vector, straddling);
        let second = _mm256_alignr_epi8::<14>(vector, straddling);
        let third = _mm256_alignr_epi8::<13>(vector, straddling);
        let half = splat(lanes, 0x0f);
        let first_high = _mm256_and_si256(_mm256_srli_epi16::<4>(first), half);
        let vector_high = _mm256_and_si256(_mm256_srli_epi16::<4>(vector), half);
        let pairs = _mm256_and_si256(
            _mm256_and_si256(
                _mm256_shuffle_epi8(table(lanes, &utf8::FIRST_HIGH), first_high),
                _mm256_shuffle_epi8(table(lanes, &utf8::FIRST_LOW), _mm256_and_si256(first, half)),
            ),
            _mm256_shuffle_epi8(table(lanes, &utf8::SECOND_HIGH), vector_high),
        );
        let continues = _mm256_or_si256(
            _mm256_subs_epu8(second, splat(lanes, utf8::THIRD)),
            _mm256_subs_epu8(third, splat(lanes, utf8::FOURTH)),
        );
        _mm256_xor_si256(_mm256_and_si256(continues, splat(lanes, 0x80)), pairs)
    }
}

impl Lanes for Avx2 {
    type Block = [Half; 2];

    #[inline(always)]
    fn load(self, bytes: &[u8; 64]) -> Self::Block {
        let from = bytes.as_ptr();
        // SAFETY: both reads lie within the 64 bytes, at any alignment; the witness says that there is AVX2.
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }

    #[inline(always)]
    fn eq(self, [low, high]: Self::Block, byte: u8) -> u64 {
        let byte = splat(self, byte);
        // SAFETY: the witness says that there is AVX2.
        unsafe { mask(self, _mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte)) }
    }

    #[inline(always)]
    fn classes(self, [low, high]: Self::Block) -> Classes {
        // `{` and `[`, as `}` and `]`, differ in this bit.
        let curly = splat(self, 0x20);
        let spaces = table(self, b"\x20\0\0\0\0\0\0\0\0\x09\x0a\0\0\x0d\0\0");
        // SAFETY: the witness says that there is AVX2.
        let (folded, shifted) = unsafe {
            (
                [_mm256_or_si256(low, curly), _mm256_or_si256(high, curly)],
                [_mm256_slli_epi16::<2>(low), _mm256_slli_epi16::<2>(high)],
            )
        };
        Classes {
            quote: self.eq([low, high], b'"'),
            backslash: self.eq([low, high], b'\\'),
            open: self.eq(folded, b'{'),
            close: self.eq(folded, b'}'),
            curly: mask(self, shifted[0], shifted[1]),
            comma: self.eq([low, high], b','),
            colon: self.eq([low, high], b':'),
            space: mask(self, listed(self, spaces, low), listed(self, spaces, high)),
            control: mask(self, at_most(self, low, 0x1f), at_most(self, high, 0x1f)),
            high: mask(self, low, high),
        }
    }

    #[inline(always)]
    fn digits(self, [low, high]: Self::Block) -> u64 {
        mask(self, within(self, low, b'0', b'9'), within(self, high, b'0', b'9'))
    }

    #[inline(always)]
    fn hex_digits(self, [low, high]: Self::Block) -> u64 {
        let case = splat(self, 0x20);
        // SAFETY: the witness says that there is AVX2.
        let (low_folded, high_folded) = unsafe { (_mm256_or_si256(low, case), _mm256_or_si256(high, case)) };
        mask(self, within(self, low_folded, b'a', b'f'), within(self, high_folded, b'a', b'f'))
            | self.digits([low, high])
    }

    #[inline(always)]
    fn escape_letters(self, [low, high]: Self::Block) -> u64 {
        // By their low half bytes, which `"` and `r` share.
        let entries = table(self, b"\x01\0r\0tuf\0\0\0\0\0\\\0n/");
        let letters = mask(self, listed(self, entries, low), listed(self, entries, high));
        letters | self.eq([low, high], b'"') | self.eq([low, high], b'b')
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        // SAFETY: the witness says that there is PCLMULQDQ.
        let product = unsafe {
            let bits = _mm_set_epi64x(0, bits.cast_signed());
            _mm_cvtsi128_si64(_mm_clmulepi64_si128::<0>(bits, _mm_set1_epi8(-1)))
        };
        product.cast_unsigned()
    }

    #[inline(always)]
    fn utf8_is_broken(self, before: Self::Block, block: Self::Block) -> bool {
        let (low, high) = (utf8_errors(self, before[1], block[0]), utf8_errors(self, block[0], block[1]));
        // SAFETY: the witness says that there is AVX2.
        unsafe {
            let any = _mm256_or_si256(low, high);
            _mm256_testz_si256(any, any) == 0
        }
    }
}
