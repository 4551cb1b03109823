//! What a dead letter says of itself: header fields beside those of the record. Pure.
//!
//! The names of these fields stand here alone. No client can send them ([`is_never_stored`]), so that what they say
//! is the gateway's word. A value is one line, at most [`DEAD_LETTER_VALUE_BYTES_MAX`] bytes, and is readable as it is: only
//! what a line cannot hold is percent-encoded.

use crate::{
    limits::DEAD_LETTER_VALUE_BYTES_MAX,
    record::MessageId,
    record::headers::is_never_stored,
    wire::nats::{encode::ID_SEPARATOR, headers},
};
use std::borrow::Cow;

const KIND: &str = "Sluicegate-Dead-Letter";
const ERROR: &str = "Sluicegate-Error";
const SCHEMA: &str = "Sluicegate-Schema";
const SCHEMA_VERSION: &str = "Sluicegate-Schema-Version";
const TIME: &str = "Sluicegate-Time";
const PRINCIPAL: &str = "Sluicegate-Principal";
const GROUP: &str = "Sluicegate-Group";

/// Why a record is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It failed validation.
    Schema,
    /// It was delivered too often without an acknowledgement.
    Deliveries,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Deliveries => "deliveries",
        }
    }
}

/// What a dead letter says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetterFields<'a> {
    /// Why the record is a dead letter.
    pub(crate) kind: Kind,
    /// What was wrong with the record.
    pub(crate) error: Cow<'a, str>,
    /// The schema that it failed, and its version.
    pub(crate) schema: Option<(Cow<'a, str>, u32)>,
    /// When it became a dead letter, ms since 1970.
    pub(crate) time_ms: u64,
    /// Who sent it.
    pub(crate) principal: Option<Cow<'a, str>>,
    /// The consumer group that did not acknowledge it.
    pub(crate) group: Option<Cow<'a, str>>,
}

impl DeadLetterFields<'_> {
    /// Appends the fields of this dead letter, `Name: value\r\n` each.
    pub(crate) fn append_to(&self, block: &mut Vec<u8>) {
        append(block, KIND, self.kind.word());
        append(block, ERROR, &self.error);
        if let Some((name, version)) = &self.schema {
            append(block, SCHEMA, name);
            append(block, SCHEMA_VERSION, &version.to_string());
        }
        append(block, TIME, &self.time_ms.to_string());
        if let Some(principal) = &self.principal {
            append(block, PRINCIPAL, principal);
        }
        if let Some(group) = &self.group {
            append(block, GROUP, group);
        }
    }
}

impl DeadLetterFields<'static> {
    /// Reads the fields of a stored record. Returns `None` if it is no dead letter.
    #[must_use]
    pub(crate) fn read(block: &[u8]) -> Option<Self> {
        let find = |name: &str| {
            let (_, value) = fields(block).find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))?;
            Some(unescaped(value))
        };
        let kind = match find(KIND)?.as_str() {
            "schema" => Kind::Schema,
            "deliveries" => Kind::Deliveries,
            _ => return None,
        };
        let version = find(SCHEMA_VERSION).and_then(|version| version.parse().ok());
        Some(Self {
            kind,
            error: find(ERROR).unwrap_or_default().into(),
            schema: find(SCHEMA).map(Cow::Owned).zip(version),
            time_ms: find(TIME).and_then(|time| time.parse().ok()).unwrap_or_default(),
            principal: find(PRINCIPAL).map(Cow::Owned),
            group: find(GROUP).map(Cow::Owned),
        })
    }
}

/// Returns name and value of each field of a block.
pub(crate) fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, value.get(1..)?.trim_ascii()))
    })
}

/// Appends the record's own fields, which may be stored with it again: none of the dead letter, of the broker, or of a
/// message id. Records that others published may have fields that no record of ours has: values become text, and a
/// field whose name is not valid is left out.
pub(crate) fn append_own_fields(block: &[u8], out: &mut Vec<u8>) {
    for (name, value) in fields(block) {
        if headers::is_name(name) && !is_never_stored(&String::from_utf8_lossy(name).to_ascii_lowercase()) {
            for part in [name, b": ", headers::text(value).as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// Returns the block with this media type in place of the one that it has, or with none.
#[must_use]
pub(crate) fn with_media_type(block: &[u8], media_type: Option<&str>) -> Vec<u8> {
    const NAME: &[u8] = b"Content-Type";
    let mut out = Vec::with_capacity(block.len() + NAME.len() + media_type.map_or(0, str::len) + 4);
    if let Some(media_type) = media_type {
        for part in [NAME, b": ", media_type.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(NAME) {
            out.extend_from_slice(line);
        }
    }
    out
}

/// Returns the message id of the dead letter that record `index` of a request becomes. No stream's name has a `/`, so
/// it never equals the id of a dead letter that comes from a stream.
#[must_use]
pub(crate) fn id_of_invalid(id: MessageId<'_>, index: usize) -> String {
    let (base, separator) = (id.base, char::from(ID_SEPARATOR));
    match id.number(index) {
        Some(number) => format!("dls/{base}{separator}{number}"),
        None => format!("dls/{base}"),
    }
}

/// Returns the message id of a dead letter that is stored in its station again. It has separators in it, so no client
/// can send it. Sequences begin again when the stream of dead letters is made anew; the time does not.
#[must_use]
pub(crate) fn id_of_replayed(station: &str, sequence: u64, time_ms: u64) -> String {
    let separator = char::from(ID_SEPARATOR);
    format!("dead-letter{separator}{station}{separator}{sequence}{separator}{time_ms}")
}

fn append(block: &mut Vec<u8>, name: &str, value: &str) {
    block.extend_from_slice(name.as_bytes());
    block.extend_from_slice(b": ");
    block.extend_from_slice(escaped(value).as_bytes());
    block.extend_from_slice(b"\r\n");
}

/// Returns a value as one line. A `%` is encoded only where it would be read as the beginning of an encoded byte.
fn escaped(value: &str) -> String {
    const CUT: char = '…';
    let mut out = String::with_capacity(value.len().min(DEAD_LETTER_VALUE_BYTES_MAX));
    let mut bytes = [0; 4];
    for (at, char) in value.char_indices() {
        let rest = value.get(at + char.len_utf8()..).unwrap_or_default();
        // Readers of the field would strip white space at the ends.
        let at_an_end = char == ' ' && (at == 0 || rest.is_empty());
        let is_written_so = char != '\t' && headers::is_on_a_line(char);
        let encode = !is_written_so || at_an_end || (char == '%' && hex_pair(rest.as_bytes()).is_some());
        let len = if encode { 3 * char.len_utf8() } else { char.len_utf8() };
        if out.len() + len + CUT.len_utf8() > DEAD_LETTER_VALUE_BYTES_MAX {
            out.push(CUT);
            break;
        }
        if encode {
            headers::push_encoded(char.encode_utf8(&mut bytes).as_bytes(), &mut out);
        } else {
            out.push(char);
        }
    }
    out
}

fn unescaped(value: &[u8]) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let encoded = if *first == b'%' { hex_pair(after) } else { None };
        if encoded.is_some() {
            rest = after.get(2..).unwrap_or_default();
        }
        out.push(encoded.unwrap_or(*first));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the byte that two hexadecimal digits at the beginning stand for.
fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letter(error: &str) -> DeadLetterFields<'_> {
        DeadLetterFields {
            kind: Kind::Schema,
            error: error.into(),
            schema: Some(("orders-v".into(), 7)),
            time_ms: 1_700_000_000_123,
            principal: Some("root".into()),
            group: None,
        }
    }

    fn block_of(letter: &DeadLetterFields<'_>) -> String {
        let mut block = b"Content-Type: application/json\r\n".to_vec();
        letter.append_to(&mut block);
        String::from_utf8(block).unwrap()
    }

    #[test]
    fn a_letter_says_why_beside_the_records_own_fields() {
        let block = block_of(&letter("'/n': \"x\" is not of type \"integer\""));
        assert_eq!(
            block,
            "Content-Type: application/json\r\nSluicegate-Dead-Letter: schema\r\n\
             Sluicegate-Error: '/n': \"x\" is not of type \"integer\"\r\nSluicegate-Schema: orders-v\r\n\
             Sluicegate-Schema-Version: 7\r\nSluicegate-Time: 1700000000123\r\nSluicegate-Principal: root\r\n"
        );
        let deliveries = DeadLetterFields {
            kind: Kind::Deliveries,
            schema: None,
            principal: None,
            group: Some("g".into()),
            ..letter("e")
        };
        assert!(
            block_of(&deliveries)
                .ends_with("Sluicegate-Error: e\r\nSluicegate-Time: 1700000000123\r\nSluicegate-Group: g\r\n")
        );
        assert_eq!(DeadLetterFields::read(block_of(&deliveries).as_bytes()), Some(deliveries));
    }

    #[test]
    fn what_a_line_cannot_hold_is_encoded_and_nothing_else() {
        for (value, expect) in [
            ("plain ü 100%", "plain ü 100%"),
            ("a\r\nSluicegate-Principal: root", "a%0D%0ASluicegate-Principal: root"),
            ("tab\there", "tab%09here"),
            (" edges ", "%20edges%20"),
            ("%41", "%2541"),
            ("%%41", "%%2541"),
            ("\u{85}", "%C2%85"),
            ("\u{2028}", "%E2%80%A8"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), expect, "{value:?}");
            assert_eq!(unescaped(expect.as_bytes()), value);
        }
        let long = "é".repeat(DEAD_LETTER_VALUE_BYTES_MAX);
        let cut = escaped(&long);
        assert!(
            cut.len() <= DEAD_LETTER_VALUE_BYTES_MAX
                && cut.len() > DEAD_LETTER_VALUE_BYTES_MAX - 8
                && cut.ends_with('…')
        );
        assert!(escaped(&"\n".repeat(DEAD_LETTER_VALUE_BYTES_MAX)).len() <= DEAD_LETTER_VALUE_BYTES_MAX);
    }

    #[test]
    fn only_a_letter_is_read_as_one() {
        for block in
            ["", "Content-Type: a\r\n", "Sluicegate-Error: x\r\n", "Sluicegate-Dead-Letter: other\r\n", "no colon"]
        {
            assert_eq!(DeadLetterFields::read(block.as_bytes()), None, "{block:?}");
        }
        let least = DeadLetterFields::read(b"sluicegate-dead-letter:deliveries").unwrap();
        assert_eq!((least.kind, least.time_ms, &*least.error, least.schema), (Kind::Deliveries, 0, "", None));
    }

    #[test]
    fn what_is_stored_anew_is_the_records_own() {
        let mut block = b"Nats-Msg-Id: k-1\r\nX-Trace: a:b\r\nNats-Batch-Id: b\r\n".to_vec();
        letter("e").append_to(&mut block);
        block.extend_from_slice(b"ce-id: 9\r\n");
        let mut own = b"A: b\r\n".to_vec();
        append_own_fields(&block, &mut own);
        assert_eq!(String::from_utf8(own).unwrap(), "A: b\r\nX-Trace: a:b\r\nce-id: 9\r\n");
        let mut own = Vec::new();
        append_own_fields(b"X-Name: J\xfcrgen\r\nX Y: 1\r\n folded: 2\r\n\xff: 3\r\n: 4\r\nX-Empty:\r\n", &mut own);
        assert_eq!(String::from_utf8(own).unwrap(), "X-Name: J\u{fc}rgen\r\nX-Empty: \r\n");
    }

    #[test]
    fn a_block_has_the_media_type_of_what_is_stored() {
        for (block, media_type, expect) in [
            ("", Some("a/b"), "Content-Type: a/b\r\n"),
            (
                "X: y\r\nContent-Type: old; q=1\r\nZ: content-type: z\r\n",
                Some("a/b"),
                "Content-Type: a/b\r\nX: y\r\nZ: content-type: z\r\n",
            ),
            ("content-type: old\r\nX: y\r\n", None, "X: y\r\n"),
        ] {
            assert_eq!(String::from_utf8(with_media_type(block.as_bytes(), media_type)).unwrap(), expect, "{block:?}");
        }
    }

    #[test]
    fn r2_ids_of_letters_are_none_that_a_client_can_send() {
        let id = |base, numbered, index| id_of_invalid(MessageId { base, numbered }, index);
        assert_eq!((id("k", None, 0), id("k", Some(0), 7)), ("dls/k".to_owned(), "dls/k 7".to_owned()));
        assert_ne!(id("k-7", None, 0), id("k", Some(0), 7));
        assert_eq!(id("k line", Some(40), 2), "dls/k line 42");
        assert_eq!(id_of_replayed("orders", 3, 99), "dead-letter orders 3 99");
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(error in "[\\x00-\\x7f%é…]{0,200}", who in "[ -~]{0,40}", version: u32, time_ms: u64) {
            let principal = Some(Cow::Borrowed(who.as_str()));
            let written = DeadLetterFields { schema: Some(("s".into(), version)), principal, time_ms, ..letter(&error) };
            let block = block_of(&written);
            prop_assert!(block.lines().count() == 7 && !block.chars().any(|char| char.is_control() && !"\r\n".contains(char)));
            prop_assert_eq!(DeadLetterFields::read(block.as_bytes()), Some(written));
        }

        #[test]
        fn no_block_panics(block in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b':'), Just(b'%'), any::<u8>()], 0..80)) {
            let _ = DeadLetterFields::read(&[b"Sluicegate-Dead-Letter: schema\r\nSluicegate-Error: ".as_slice(), &block].concat());
            append_own_fields(&block, &mut Vec::new());
        }
    }
}
