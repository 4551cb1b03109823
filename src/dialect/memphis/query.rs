//! Fields of a URL's query. Pure.

use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Returns the value of the first field of this name, percent-decoded. What is not UTF-8 is replaced.
pub(super) fn value<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let mut fields = query.split(|byte| *byte == b'&');
    let value = fields.find_map(|field| field.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(percent_decode(value).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_the_name_counts() {
        for (query, expect) in [
            ("", None),
            ("a=1", Some("1")),
            ("x=2&a=1&a=3", Some("1")),
            ("aa=2&a=%20b+c", Some(" b+c")),
            ("a", None),
            ("a=", Some("")),
            ("A=1", None),
        ] {
            assert_eq!(value(query.as_bytes(), "a").as_deref(), expect, "{query}");
        }
    }
}
