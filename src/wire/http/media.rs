//! Media types (RFC 9110, section 8.3.1).

use std::borrow::Cow;

/// Returns the media type that a `Content-Type` names: in lower case, without parameters; `None` if it names none.
#[must_use]
pub fn media_type(content_type: &[u8]) -> Option<Cow<'_, str>> {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let mut kind = String::from_utf8_lossy(kind);
    // Nearly every client sends it in lower case.
    if kind.bytes().any(|byte| byte.is_ascii_uppercase()) {
        kind.to_mut().make_ascii_lowercase();
    }
    (!kind.is_empty()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_what_stands_before_the_parameters() {
        for (value, expect) in [
            ("application/json", Some("application/json")),
            ("Application/JSON; charset=utf-8", Some("application/json")),
            (" text/plain ;q=1", Some("text/plain")),
            ("", None),
            (";charset=utf-8", None),
        ] {
            assert_eq!(media_type(value.as_bytes()).as_deref(), expect, "{value:?}");
        }
        assert!(matches!(media_type(b"text/plain; x"), Some(Cow::Borrowed(_))), "nothing is copied");
    }
}
