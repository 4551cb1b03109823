//! What requests and replies are made of in every version of HTTP (RFC 9110). How they are framed on a connection is
//! the matter of [`super::http1`].

mod fields;
mod head;
mod media;

pub use fields::Fields;
pub use head::{Field, Head, Method};
pub use media::media_type;

/// Bytes of a set, by value.
pub(super) type ByteSet = [bool; 256];

/// Bytes of a token: a method, a field name (RFC 9110, section 5.6.2).
static TOKEN_BYTES: ByteSet = letters_digits_and(b"!#$%&'*+-.^_`|~");

/// Returns the set of ASCII letters, digits and what is listed.
#[expect(clippy::indexing_slicing, reason = "every index is a byte, or under the length of what it indexes")]
pub(super) const fn letters_digits_and(listed: &[u8]) -> ByteSet {
    const LETTERS_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut set = [false; 256];
    let mut at = 0;
    while at < LETTERS_DIGITS.len() {
        set[LETTERS_DIGITS[at] as usize] = true;
        at += 1;
    }
    at = 0;
    while at < listed.len() {
        set[listed[at] as usize] = true;
        at += 1;
    }
    set
}

/// Returns whether a byte may stand in a token.
#[expect(clippy::indexing_slicing, reason = "every byte has an entry")]
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// Returns whether a byte may stand in a field value: visible, space, tab, or beyond ASCII (RFC 9110, section 5.5).
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Returns the bytes without spaces and tabs at either end (RFC 9110, section 5.6.3).
pub(super) fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
