//! `Prefer` (RFC 7240): what a producer would like, which of it is done, and how the answer says so. Pure.
//!
//! Of a preference that comes twice the first counts; what is not known is passed over.

/// The preferences that are honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Preferences {
    /// `handling=strict`: all records are stored, or none.
    pub(super) strict: bool,
    /// `return=representation`: the answer has a receipt for each record.
    pub(super) receipts: bool,
}

impl Preferences {
    /// Reads all `Prefer` fields of a request.
    pub(super) fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut handling, mut returns) = (None, None);
        for preference in values.flat_map(|value| split(value, b',')) {
            // What stands behind a semicolon is a parameter of the preference.
            let preference = split(preference, b';').next().unwrap_or_default();
            let mut parts = preference.splitn(2, |byte| *byte == b'=');
            let mut part = || parts.next().unwrap_or_default().trim_ascii();
            let (name, value) = (part(), unquoted(part()));
            let slot = match () {
                () if name.eq_ignore_ascii_case(b"handling") => &mut handling,
                () if name.eq_ignore_ascii_case(b"return") => &mut returns,
                () => continue,
            };
            slot.get_or_insert(value);
        }
        let is =
            |value: Option<&[u8]>, word: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(word.as_bytes()));
        Self { strict: is(handling, "strict"), receipts: is(returns, "representation") }
    }

    /// Returns what `Preference-Applied` says in an answer that honours these.
    pub(super) fn applied(self) -> Option<&'static str> {
        match (self.strict, self.receipts) {
            (false, false) => None,
            (true, false) => Some("handling=strict"),
            (false, true) => Some("return=representation"),
            (true, true) => Some("handling=strict, return=representation"),
        }
    }
}

/// Splits at a separator that stands in no quoted text.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        let is_escaped = std::mem::take(&mut escaped);
        escaped = quoted && *byte == b'\\' && !is_escaped;
        quoted ^= *byte == b'"' && !is_escaped;
        !quoted && *byte == separator
    })
}

/// Known words hold nothing that would be escaped in quotes.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn preferences_are_read_as_their_rfc_says() {
        for (values, strict, receipts) in [
            (&[][..], false, false),
            (&["handling=strict"], true, false),
            (&["return=representation"], false, true),
            (&["handling=strict, return=representation"], true, true),
            (&["handling=strict", "respond-async, wait=10", "Return = \"Representation\""], true, true),
            (&["HANDLING=STRICT;foo=bar; x"], true, false),
            (&["handling=lenient, handling=strict"], false, false),
            (&["handling=strict", "handling=lenient"], true, false),
            (&["handling, handling=strict"], false, false),
            (&["return=minimal"], false, false),
            (&["return=representation; handling=strict"], false, true),
            (&["foo=\"a, handling=strict, b\""], false, false),
            (&["foo=\"a\\\", handling=strict\", return=representation"], false, true),
            (&["foo=\"open, handling=strict"], false, false),
            (&[",, ,", "", "=", "handling==strict", "strict"], false, false),
        ] {
            let found = Preferences::of(values.iter().map(|value| value.as_bytes()));
            assert_eq!(found, Preferences { strict, receipts }, "{values:?}");
        }
    }

    #[test]
    fn only_what_is_done_is_said_to_be() {
        let applied = |strict, receipts| Preferences { strict, receipts }.applied();
        assert_eq!(applied(false, false), None);
        assert_eq!(applied(true, false), Some("handling=strict"));
        assert_eq!(applied(false, true), Some("return=representation"));
        assert_eq!(applied(true, true), Some("handling=strict, return=representation"));
    }

    proptest! {
        #[test]
        fn no_field_panics(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3)) {
            let _ = Preferences::of(values.iter().map(Vec::as_slice));
        }
    }
}
