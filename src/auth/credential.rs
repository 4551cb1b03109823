//! Finds the credential of a request: in the `Authorization` field, or in `authorization=` of the query.

use super::keys::{KEY_BYTES, id_of};
use crate::limits::BASIC_BYTES_MAX;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use std::{borrow::Cow, fmt, ops::Deref};

/// A token or an API key as it was sent; nothing about it is verified.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    /// As it stands in the request.
    Sent(Cow<'a, [u8]>),
    /// The API key that a `Basic` password was. No allocation: the request is served with what is known of the key.
    Password([u8; KEY_BYTES]),
}

impl Deref for Credential<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Sent(text) => text,
            Self::Password(key) => key,
        }
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential(********)")
    }
}

/// Returns the credential of a request: from the `Authorization` field's value, or, if there is no such field, from
/// `authorization=` in the raw query (what follows `?`). The field wins even if nothing can be read from it.
///
/// The field is `Bearer TOKEN` or `Bearer: TOKEN` in any letter case, with one space or more between; or `Basic` with
/// an API key for the password and anything for the user. A user's own password is no credential here: it is checked by
/// a login, once, and not with every request. Any other scheme yields nothing. The query's value is the bare token or
/// key, percent-encoded or not.
#[must_use]
pub fn credential<'a>(authorization_header: Option<&'a [u8]>, query: Option<&'a [u8]>) -> Option<Credential<'a>> {
    let sent = match authorization_header {
        Some(value) => match of_scheme(value, b"Bearer") {
            Some(rest) => Cow::Borrowed(one_word(rest.strip_prefix(b":").unwrap_or(rest))?),
            None => return basic_key(one_word(of_scheme(value, b"Basic")?)?).map(Credential::Password),
        },
        None => percent_decode(query_value(query?, b"authorization")?).into(),
    };
    (!sent.is_empty()).then_some(Credential::Sent(sent))
}

/// Returns whether a raw query carries a credential, valid or not.
#[must_use]
pub fn is_credential_in(query: &[u8]) -> bool {
    query_value(query, b"authorization").is_some()
}

/// Returns what follows the scheme.
fn of_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = value.trim_ascii().split_at_checked(scheme.len())?;
    first.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Returns the one word behind at least one blank.
fn one_word(rest: &[u8]) -> Option<&[u8]> {
    let word = rest.trim_ascii_start();
    (word.len() < rest.len() && memchr::memchr2(b' ', b'\t', word).is_none()).then_some(word)
}

/// Decodes base64 with or without the padding (RFC 7617).
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the password of `user:password` in base64, if it has the form of an API key.
fn basic_key(encoded: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let mut buffer = [0; BASIC_BYTES_MAX];
    let length = BASIC.decode_slice(encoded, &mut buffer).ok()?;
    let decoded = buffer.get(..length)?;
    // A user name holds no colon, and a key neither.
    let colon = memchr::memchr(b':', decoded)?;
    let password = decoded.get(colon + 1..)?;
    id_of(std::str::from_utf8(password).ok()?)?;
    password.try_into().ok()
}

fn query_value<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut fields = query.split(|byte| *byte == b'&');
    fields.find_map(|field| field.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use proptest::prelude::*;

    const KEY: &str = "sgk_abcdefghij09_0123456789_BCDEFGHIJKLMNOPQRSTUVWXYZ-_0123-";

    fn check(header: Option<&str>, query: Option<&str>, expect: Option<&str>) {
        let found = credential(header.map(str::as_bytes), query.map(str::as_bytes));
        assert_eq!(found.as_deref(), expect.map(str::as_bytes), "{header:?} {query:?}");
    }

    #[test]
    fn the_credential_is_read_as_the_contract_says() {
        for (header, query, expect) in [
            (Some("Bearer t.o.k"), None, Some("t.o.k")),
            (Some("Bearer: t.o.k"), None, Some("t.o.k")),
            (Some("bearer t.o.k"), None, Some("t.o.k")),
            (Some("BEARER: t.o.k"), None, Some("t.o.k")),
            (Some("Bearer   t.o.k  "), None, Some("t.o.k")),
            (Some("Bearer:   t.o.k"), None, Some("t.o.k")),
            (Some("Bearer"), None, None),
            (Some("Bearer "), None, None),
            (Some("Bearer: "), None, None),
            (Some("Bearert.o.k"), None, None),
            (Some("Bearer:t.o.k"), None, None),
            (Some("Bearer :t.o.k"), None, Some(":t.o.k")),
            (Some("Bearer:: t.o.k"), None, None),
            (Some("Bearer t.o.k x"), None, None),
            (Some("Bearer t.o.k\tx"), None, None),
            (Some("Basic dTpw"), None, None),
            (Some("Zork t.o.k"), None, None),
            (Some("t.o.k"), None, None),
            (Some(""), None, None),
            (Some("é"), None, None),
            (None, None, None),
            (None, Some(""), None),
            (None, Some("authorization=t.o.k"), Some("t.o.k")),
            (None, Some("a=1&authorization=t.o.k&b=2"), Some("t.o.k")),
            (None, Some("authorization=t%2Eo%2ek"), Some("t.o.k")),
            (None, Some("authorization=first&authorization=second"), Some("first")),
            (None, Some("authorization="), None),
            (None, Some("authorization"), None),
            (None, Some("xauthorization=t"), None),
            (None, Some("authorizationx=t"), None),
            (None, Some("authorization=a%"), Some("a%")),
            (Some("Bearer h"), Some("authorization=q"), Some("h")),
            (Some("Basic h"), Some("authorization=q"), None),
            (Some(""), Some("authorization=q"), None),
        ] {
            check(header, query, expect);
        }
    }

    #[test]
    fn a_key_comes_in_each_of_the_three_ways() {
        check(Some(&format!("Bearer {KEY}")), None, Some(KEY));
        check(Some(&format!("Bearer: {KEY}")), None, Some(KEY));
        check(None, Some(&format!("authorization={KEY}")), Some(KEY));
        for user in ["", "u", "someone@example.org", &"u".repeat(BASIC_BYTES_MAX - KEY_BYTES - 1)] {
            for encoded in [STANDARD.encode(format!("{user}:{KEY}")), STANDARD_NO_PAD.encode(format!("{user}:{KEY}"))] {
                check(Some(&format!("Basic {encoded}")), None, Some(KEY));
                check(Some(&format!("bASIC   {encoded} ")), None, Some(KEY));
                for value in [
                    format!("Basic: {encoded}"),
                    format!("Basic{encoded}"),
                    format!("Basic {encoded} {encoded}"),
                    format!("Basic ={encoded}"),
                ] {
                    check(Some(&value), None, None);
                }
            }
        }
    }

    #[test]
    fn a_password_that_is_no_key_is_no_credential() {
        let too_long = format!("{}:{KEY}", "u".repeat(BASIC_BYTES_MAX - KEY_BYTES));
        for text in
            ["u:p", "u", "", ":", KEY, &format!("u:x:{KEY}"), &format!("u:{KEY}x"), &format!("u:{KEY} "), &too_long]
        {
            check(Some(&format!("Basic {}", STANDARD.encode(text))), None, None);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(header in prop::collection::vec(any::<u8>(), 0..80), text in any::<Vec<u8>>()) {
            let _ = credential(Some(&header), None);
            let _ = credential(None, Some(&header));
            let basic = format!("Basic {}", STANDARD.encode(&text));
            if let Some(found) = credential(Some(basic.as_bytes()), None) {
                prop_assert!(text.ends_with(&found));
            }
        }
    }
}
