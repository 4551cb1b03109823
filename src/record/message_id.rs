//! Message ids: the names that clients choose for records, so that a record that is sent again is stored once. Pure.
//!
//! The ids of a batch are put together here, with a blank that no id of a client has (ADR 19).

use crate::{limits::MESSAGE_ID_BYTES_MAX, reject::Reject};
use std::borrow::Cow;

/// Fields that carry the message id, in the order in which they are looked for. `svix-id` is what `webhook-id` is
/// called by the first who had it.
const MESSAGE_ID_FIELDS: [&str; 5] = ["idempotency-key", "msg-id", "webhook-id", "svix-id", "nats-msg-id"];

/// The message id of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId<'a> {
    /// What the client sent: visible ASCII, and no [`crate::wire::nats::encode::ID_SEPARATOR`]. Of a stream,
    /// [`of_lines`] of that.
    pub base: &'a str,
    /// The number of the request's first record, where the ids of records are numbered: record `i` gets
    /// `<base> <first + i>`. `None`: the record (there is one) gets `base`.
    pub numbered: Option<u64>,
}

impl MessageId<'_> {
    /// Returns the number of the request's record `index`, where ids are numbered.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<u64> {
        self.numbered.map(|first| first.wrapping_add(index as u64))
    }
}

/// Returns the base of the ids of a stream's lines, `<id> line`, for the id that its client sent. With the number of a line
/// that has two blanks: so it is neither an id of a client, which has none, nor one of a batch, which has one.
#[must_use]
pub fn of_lines(id: &str) -> String {
    format!("{id} line")
}

/// Returns the message id of a request: the first of the known fields that is present. It is the base of a
/// [`MessageId`].
pub fn of_fields<'a>(field: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Option<Cow<'a, str>>, Reject> {
    let Some(value) = MESSAGE_ID_FIELDS.iter().find_map(|name| field(name)) else { return Ok(None) };
    let id = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))
        .ok_or(Reject::MessageId("a message id is made of visible ASCII characters"))?;
    if id.is_empty() {
        return Err(Reject::MessageId("the message id is empty: leave the field out, or give each request its own"));
    }
    if id.len() > MESSAGE_ID_BYTES_MAX {
        return Err(Reject::MessageId("a message id has at most 256 bytes"));
    }
    Ok(Some(without_blanks(id)))
}

/// Returns an id as it is stored: a blank in it is written `%20`, and a `%` that would look like the beginning of one,
/// or of itself, `%25`. So different ids stay different, and none has a blank: that stands only in ids that are put
/// together here.
fn without_blanks(id: &str) -> Cow<'_, str> {
    if !id.bytes().any(|byte| matches!(byte, b' ' | b'%')) {
        return Cow::Borrowed(id);
    }
    let mut out = String::with_capacity(id.len() + 8);
    for (at, char) in id.char_indices() {
        let rest = id.get(at + 1..).unwrap_or_default();
        match char {
            ' ' => out.push_str("%20"),
            '%' if rest.starts_with("20") || rest.starts_with("25") => out.push_str("%25"),
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_known_field_is_the_message_id() {
        let check = |present: &[(&str, &'static str)], expect: Result<Option<&str>, ()>| {
            let found =
                of_fields(|name| present.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_bytes()));
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(|_| ()), expect, "{present:?}");
        };
        check(&[], Ok(None));
        check(&[("nats-msg-id", "n")], Ok(Some("n")));
        check(&[("svix-id", "s"), ("nats-msg-id", "n")], Ok(Some("s")));
        check(&[("webhook-id", "w"), ("svix-id", "s")], Ok(Some("w")));
        check(&[("msg-id", "m"), ("webhook-id", "w")], Ok(Some("m")));
        check(&[("idempotency-key", "\"k\""), ("msg-id", "m")], Ok(Some("\"k\"")));
        check(&[("msg-id", "")], Err(()));
        check(&[("msg-id", "é")], Err(()));
        check(&[("msg-id", "a\tb")], Err(()));
    }

    #[test]
    fn r2_different_ids_stay_different_and_have_no_blanks() {
        let sent = [
            "a b",
            "a%20b",
            "a%2520b",
            "a%252520b",
            "a%2 0b",
            "a% 20b",
            "a%b",
            "a%25b",
            "a%2525b",
            "%",
            "% ",
            "100%",
            "a-7",
        ];
        let stored: HashSet<String> = sent.iter().map(|id| without_blanks(id).into_owned()).collect();
        assert_eq!(stored.len(), sent.len(), "{stored:?}");
        assert!(stored.iter().all(|id| !id.contains(' ')), "{stored:?}");
        for id in ["a%b", "%", "100%", "a-7"] {
            assert!(stored.contains(id), "{id} is stored as it was sent");
        }
    }
}
