//! [`Lanes`] in AVX-512, one register a block; comparisons yield the masks themselves.
//!
//! Unsafe: the intrinsics are, because a processor may lack them. An [`Avx512`] exists only where it does not.

#![allow(unsafe_code, reason = "vector instructions; what they gain is in docs/adr/0010")]
#![allow(clippy::inline_always, reason = "must be compiled into `run`, which has the target features")]

use super::{
    blocks::{self, Job},
    lanes::{Classes, Lanes, utf8},
};
use std::arch::x86_64::{
    __m512i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_set_epi64x, _mm_set1_epi8,
    _mm512_alignr_epi8, _mm512_alignr_epi64, _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_cmpeq_epi8_mask,
    _mm512_cmple_epu8_mask, _mm512_loadu_si512, _mm512_movepi8_mask, _mm512_or_si512, _mm512_set1_epi8,
    _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_sub_epi8, _mm512_subs_epu8, _mm512_test_epi8_mask, _mm512_xor_si512,
};

/// Witness that the processor has AVX-512 F and BW, PCLMULQDQ, BMI1, BMI2 and POPCNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The witness, if the processor gives it.
    pub(super) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
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

#[target_feature(enable = "avx512f,avx512bw,pclmulqdq,bmi1,bmi2,popcnt")]
fn run<const LINES: bool>(lanes: Avx512, job: &mut Job<'_>) -> Option<()> {
    blocks::scan::<Avx512, LINES>(lanes, job)
}

#[inline(always)]
fn splat(_: Avx512, byte: u8) -> __m512i {
    // SAFETY: the witness says that there is AVX-512.
    unsafe { _mm512_set1_epi8(byte.cast_signed()) }
}

/// The bytes of `vector` that lie within `from..=to`.
#[inline(always)]
fn within(lanes: Avx512, vector: __m512i, from: u8, to: u8) -> u64 {
    // SAFETY: the witness says that there is AVX-512.
    unsafe { _mm512_cmple_epu8_mask(_mm512_sub_epi8(vector, splat(lanes, from)), splat(lanes, to - from)) }
}

/// A table of 16 bytes in each of the register's lanes.
#[inline(always)]
fn table(_: Avx512, bytes: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are there to be read, at any alignment; the witness says that there is AVX-512.
    unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// The bytes for which `entries`, looked up by the low half byte, holds the byte itself (no byte above 0x7F).
#[inline(always)]
fn listed(_: Avx512, entries: __m512i, vector: __m512i) -> u64 {
    // SAFETY: the witness says that there is AVX-512.
    unsafe { _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(entries, vector), vector) }
}

impl Lanes for Avx512 {
    type Block = __m512i;

    #[inline(always)]
    fn load(self, bytes: &[u8; 64]) -> Self::Block {
        // SAFETY: 64 bytes are there to be read, at any alignment; the witness says that there is AVX-512.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn eq(self, block: Self::Block, byte: u8) -> u64 {
        // SAFETY: the witness says that there is AVX-512.
        unsafe { _mm512_cmpeq_epi8_mask(block, splat(self, byte)) }
    }

    #[inline(always)]
    fn classes(self, block: Self::Block) -> Classes {
        // `{` and `[`, as `}` and `]`, differ in this bit.
        let bit = splat(self, 0x20);
        // SAFETY: the witness says that there is AVX-512.
        let (folded, curly, control, high) = unsafe {
            (
                _mm512_or_si512(block, bit),
                _mm512_test_epi8_mask(block, bit),
                _mm512_cmple_epu8_mask(block, splat(self, 0x1f)),
                _mm512_movepi8_mask(block),
            )
        };
        Classes {
            quote: self.eq(block, b'"'),
            backslash: self.eq(block, b'\\'),
            open: self.eq(folded, b'{'),
            close: self.eq(folded, b'}'),
            curly,
            comma: self.eq(block, b','),
            colon: self.eq(block, b':'),
            space: listed(self, table(self, b"\x20\0\0\0\0\0\0\0\0\x09\x0a\0\0\x0d\0\0"), block),
            control,
            high,
        }
    }

    #[inline(always)]
    fn digits(self, block: Self::Block) -> u64 {
        within(self, block, b'0', b'9')
    }

    #[inline(always)]
    fn hex_digits(self, block: Self::Block) -> u64 {
        // SAFETY: the witness says that there is AVX-512.
        let folded = unsafe { _mm512_or_si512(block, splat(self, 0x20)) };
        within(self, folded, b'a', b'f') | self.digits(block)
    }

    #[inline(always)]
    fn escape_letters(self, block: Self::Block) -> u64 {
        // By their low half bytes, which `"` and `r` share.
        let entries = table(self, b"\x01\0r\0tuf\0\0\0\0\0\\\0n/");
        listed(self, entries, block) | self.eq(block, b'"') | self.eq(block, b'b')
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
        // SAFETY: the witness says that there is AVX-512.
        unsafe {
            // For each of the four lanes, the 16 bytes that stand before it.
            let straddling = _mm512_alignr_epi64::<6>(block, before);
            let first = _mm512_alignr_epi8::<15>(block, straddling);
            let second = _mm512_alignr_epi8::<14>(block, straddling);
            let third = _mm512_alignr_epi8::<13>(block, straddling);
            let half = splat(self, 0x0f);
            let first_high = _mm512_and_si512(_mm512_srli_epi16::<4>(first), half);
            let block_high = _mm512_and_si512(_mm512_srli_epi16::<4>(block), half);
            let pairs = _mm512_and_si512(
                _mm512_and_si512(
                    _mm512_shuffle_epi8(table(self, &utf8::FIRST_HIGH), first_high),
                    _mm512_shuffle_epi8(table(self, &utf8::FIRST_LOW), _mm512_and_si512(first, half)),
                ),
                _mm512_shuffle_epi8(table(self, &utf8::SECOND_HIGH), block_high),
            );
            let continues = _mm512_or_si512(
                _mm512_subs_epu8(second, splat(self, utf8::THIRD)),
                _mm512_subs_epu8(third, splat(self, utf8::FOURTH)),
            );
            let errors = _mm512_xor_si512(_mm512_and_si512(continues, splat(self, 0x80)), pairs);
            _mm512_test_epi8_mask(errors, errors) != 0
        }
    }
}
