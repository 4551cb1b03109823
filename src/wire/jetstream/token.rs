//! The name of a record or a batch in flight: the last token of a reply subject.
//!
//! It names a slot of the window, so one record, or a whole batch whose records are answered in order. It is written in
//! as few characters as it needs: most tokens are two or three bytes, and every byte travels twice for each record.
//!
//! **Tokens are used again.** The broker remembers how it routed the last few hundred subjects; an answer to a subject
//! that it has not seen lately costs it as much as a sixth of storing the record (docs/adr/0012). So a slot or a batch
//! keeps its token from use to use, as long as every record got its answer: a server that is alone answers a message
//! once. A record that was given up unanswered (deadline, lost connection) may be answered later: then the generation
//! changes, and the late answer is recognised.
//!
//! **But not where a stream has several servers.** When leadership changes while the old leader lives, both answer, up
//! to many seconds apart: there the generation changes with every use.

/// A record or a batch in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
    /// Whether it names a batch.
    shared: bool,
}

/// Bytes of the longest token.
pub const TOKEN_TEXT_BYTES: usize = 10;
/// Slots that a token can name.
pub(super) const SLOTS: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 24;
/// Characters that a subject's token may hold; six bits each.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The digit of value 0, which no text of several digits ends with.
const ZERO: u8 = b'A';
const NO_DIGIT: u8 = 0xff;
#[expect(clippy::indexing_slicing, reason = "every index is a byte, or under 64")]
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0u8;
    while value < 64 {
        digits[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

const _: () = assert!(TOKEN_TEXT_BYTES * 6 > 32 + INDEX_BITS as usize, "a digit holds six bits");

impl Token {
    /// The token of one record.
    pub(super) fn of_slot(index: u32, generation: u32) -> Self {
        debug_assert!((index as usize) < SLOTS);
        Self { index, generation, shared: false }
    }

    /// The token of all records of a batch.
    pub(super) fn of_batch(index: u32, generation: u32) -> Self {
        debug_assert!((index as usize) < SLOTS);
        Self { index, generation, shared: true }
    }

    /// Returns whether it names a batch.
    pub(super) fn is_shared(self) -> bool {
        self.shared
    }

    pub(super) fn index(self) -> usize {
        self.index as usize
    }

    pub(super) fn generation(self) -> u32 {
        self.generation
    }

    /// The token as text.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "six bits choose one of 64 characters")]
    pub fn text(self) -> TokenText {
        let mut value =
            u64::from(self.generation) << (INDEX_BITS + 1) | u64::from(self.index) << 1 | u64::from(self.shared);
        let mut text = TokenText { bytes: [0; TOKEN_TEXT_BYTES], len: 0 };
        // Lowest digit first. Ten digits hold every value, so nothing is left over.
        for byte in &mut text.bytes {
            *byte = ALPHABET[(value & 63) as usize];
            text.len += 1;
            value >>= 6;
            if value == 0 {
                break;
            }
        }
        text
    }

    /// Reads what [`Token::text`] wrote, and nothing else.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "every byte has an entry")]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let last = *text.last()?;
        if text.len() > TOKEN_TEXT_BYTES || (text.len() > 1 && last == ZERO) {
            return None;
        }
        let mut value = 0u64;
        for byte in text.iter().rev() {
            let digit = DIGITS[usize::from(*byte)];
            if digit == NO_DIGIT {
                return None;
            }
            value = value << 6 | u64::from(digit);
        }
        let generation = u32::try_from(value >> (INDEX_BITS + 1)).ok()?;
        let index = u32::try_from(value >> 1 & (SLOTS as u64 - 1)).ok()?;
        Some(Self { index, generation, shared: value & 1 == 1 })
    }

    /// The token of a message that came to the inbox of this prefix (with its last dot).
    #[must_use]
    pub fn of_subject(subject: &[u8], prefix: &[u8]) -> Option<Self> {
        Self::parse(subject.strip_prefix(prefix)?)
    }
}

/// The text of a token, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct TokenText {
    bytes: [u8; TOKEN_TEXT_BYTES],
    len: u8,
}

impl TokenText {
    /// The text's bytes: letters, digits, `-` and `_`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_not_written_here_is_no_token() {
        for text in ["", " ", "A.", "AA", "BA", "a b", "AAAAAAAAAAB", "__________", "é", "*", ">"] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Token::of_subject(b"_I.x.C", b"_I.x."), Some(Token::of_slot(1, 0)));
        assert_eq!(Token::of_subject(b"_I.x.D", b"_I.x."), Some(Token::of_batch(1, 0)));
        for subject in ["_I.x.", "_I.y.B", "_I.x.B.C", "_I.", ""] {
            assert_eq!(Token::of_subject(subject.as_bytes(), b"_I.x."), None, "{subject}");
        }
    }

    #[test]
    fn a_young_token_is_short() {
        assert_eq!(Token::of_slot(0, 0).text().as_bytes(), b"A");
        assert!(Token::of_batch(2_047, 0).text().as_bytes().len() <= 2);
        assert!(Token::of_slot(8_191, 0).text().as_bytes().len() <= 3);
        assert!(Token::of_slot(8_191, 4_000).text().as_bytes().len() <= 7);
        assert_eq!(Token::of_batch(u32::MAX >> 8, u32::MAX).text().as_bytes().len(), TOKEN_TEXT_BYTES);
    }

    proptest! {
        #[test]
        fn a_token_reads_back_and_is_one_subject_token(
            index in 0u32..1 << 24, generation in any::<u32>(), shared in any::<bool>(),
        ) {
            let token = Token { index, generation, shared };
            let text = token.text();
            prop_assert!(text.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
            prop_assert_eq!(Token::parse(text.as_bytes()), Some(token));
        }

        #[test]
        fn a_text_that_parses_is_the_text_that_is_written(text in "[A-Za-z0-9_-]{0,11}") {
            if let Some(token) = Token::parse(text.as_bytes()) {
                let written = token.text();
                prop_assert_eq!(written.as_bytes(), text.as_bytes());
            }
        }
    }
}
