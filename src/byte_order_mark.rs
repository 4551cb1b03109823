//! The byte order mark, U+FEFF, which editors and shells on Windows write before a text in UTF-8. At the beginning of a text it is
//! none of its characters (The Unicode Standard, section 23.8), and a reader of JSON may ignore it (RFC 8259, section 8.1).
//!
//! Files and standard input are read without it. It is no part of a record: a request's body that begins with one is no JSON.

const MARK: char = '\u{feff}';
const MARK_BYTES: &[u8] = "\u{feff}".as_bytes();

/// Returns the text without a mark at its beginning.
#[must_use]
pub fn strip(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Returns the text, in UTF-8, without a mark at its beginning.
#[must_use]
pub fn strip_bytes(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK_BYTES).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_at_the_beginning_is_stripped_and_nothing_else() {
        for (text, expect) in [
            ("", ""),
            ("a", "a"),
            ("\u{feff}", ""),
            ("\u{feff}a", "a"),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("a\u{feff}", "a\u{feff}"),
            ("\u{fffe}a", "\u{fffe}a"),
        ] {
            assert_eq!((strip(text), strip_bytes(text.as_bytes())), (expect, expect.as_bytes()), "{text:?}");
        }
        assert_eq!(strip_bytes(b"\xef\xbb"), b"\xef\xbb", "half a mark is none");
    }
}
