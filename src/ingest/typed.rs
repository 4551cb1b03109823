//! One media type for each record: that of what is stored of it (RFC 9110, section 8.3).
//!
//! The type that a request names for all its records is a header field of all; a record can name its own, and one that
//! the schema transcodes becomes another. Fields are stored as they come wherever that is right, and written anew only
//! where a record would have two types, or the wrong one.

use crate::{
    budget::Held, dead_letters::fields, record::RecordHeaders, reject::Reject, schema::PROTOBUF_MEDIA_TYPE, wire::Span,
};
use std::borrow::Cow;

/// The header fields of records, where those that came cannot be stored as they are.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// Replaces the fields that came.
    common: Option<Vec<u8>>,
    /// The fields of single records, by their index in the request, where they differ.
    own: Option<(Vec<u8>, Vec<Span>)>,
}

impl Typed {
    /// The fields of so many records, where some name a media type of their own and the request names one for all:
    /// their own wins. `None`: they can be stored as they came. `held` counts what is written anew, before it is.
    pub(super) fn one_each(
        headers: &[u8],
        own: RecordHeaders<'_>,
        records: usize,
        held: &mut Held,
    ) -> Result<Option<Box<Self>>, Reject> {
        let Some(kind) = media_type(headers) else { return Ok(None) };
        let of_each = || (0..records).map(|at| own.of(at));
        if !of_each().any(|own| media_type(own).is_some()) {
            return Ok(None);
        }
        let line = fields::with_media_type(b"", Some(&kind)).len();
        let block: usize = of_each().map(|own| line + own.len() + size_of::<Span>()).sum();
        // Twice: a vector may have as much room again as it needs.
        held.grow_to(held.bytes() + headers.len() + 2 * block)?;
        // Boxed: records seldom have fields of their own.
        Ok(Some(Box::new(Self::split(headers, Some(own), &vec![false; records], None))))
    }

    /// The fields of records of which some were transcoded: these are Protobuf, the others have the type that they came
    /// with. `own`: what single records came with. `transcoded`: which records became others, if any did; `places`: the
    /// indexes of these records in the request, if they are not all of it.
    pub(super) fn of(
        headers: &[u8],
        own: Option<RecordHeaders<'_>>,
        transcoded: &[bool],
        places: Option<&[u32]>,
    ) -> Self {
        if !transcoded.contains(&true) {
            return Self::default();
        }
        if own.is_none() && transcoded.iter().all(|became| *became) {
            return Self { common: Some(fields::with_media_type(headers, Some(PROTOBUF_MEDIA_TYPE))), own: None };
        }
        // Records have fields of their own, or the schema was replaced by one of another language, or detached, while
        // they were validated.
        Self::split(headers, own, transcoded, places)
    }

    /// Moves the media type from the fields of all records to those of each.
    fn split(headers: &[u8], own: Option<RecordHeaders<'_>>, transcoded: &[bool], places: Option<&[u32]>) -> Self {
        let came = media_type(headers).map(|kind| fields::with_media_type(b"", Some(&kind))).unwrap_or_default();
        let became = fields::with_media_type(b"", Some(PROTOBUF_MEDIA_TYPE));
        let (mut block, mut spans) = (Vec::new(), Vec::new());
        let mut append = |kind: &[u8], fields: &[u8]| {
            let start = block.len();
            block.extend_from_slice(kind);
            block.extend_from_slice(fields);
            Span::between(start, block.len())
        };
        let of_most = [append(&came, b""), append(&became, b"")];
        for (at, is_other) in transcoded.iter().enumerate() {
            let index = places.and_then(|places| places.get(at)).map_or(at, |index| *index as usize);
            let own = own.map_or(&[][..], |own| own.of(index));
            spans.resize(index, Span::default());
            spans.push(match is_other {
                _ if own.is_empty() => of_most[usize::from(*is_other)],
                true => append(&became, &fields::with_media_type(own, None)),
                false if media_type(own).is_some() => append(b"", own),
                false => append(&came, own),
            });
        }
        Self { common: Some(fields::with_media_type(headers, None)), own: Some((block, spans)) }
    }

    pub(super) fn common<'a>(&'a self, headers: &'a [u8]) -> &'a [u8] {
        self.common.as_deref().unwrap_or(headers)
    }

    pub(super) fn own<'a>(&'a self, own: Option<RecordHeaders<'a>>) -> Option<RecordHeaders<'a>> {
        self.own.as_ref().map(|(block, spans)| RecordHeaders { block, spans }).or(own)
    }

    pub(super) fn bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |(block, spans)| block.capacity() + spans.capacity() * size_of::<Span>())
    }
}

/// Returns the media type that a block of header fields names.
fn media_type(block: &[u8]) -> Option<Cow<'_, str>> {
    let found = fields::fields(block).find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    found.map(|(_, value)| String::from_utf8_lossy(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn r14_each_record_has_the_type_of_what_is_stored_of_it() {
        let json = "X-A: 1\r\nContent-Type: application/json; v=1\r\n";
        let (as_json, as_protobuf) =
            ("Content-Type: application/json; v=1\r\n", "Content-Type: application/x-protobuf\r\n");
        let all = "Content-Type: application/x-protobuf\r\nX-A: 1\r\n";
        let (other, json_and) =
            (|own: &str| format!("{as_protobuf}{own}\r\n"), |own: &str| format!("{as_json}{own}\r\n"));
        let some = ["Content-Type: text/plain\r\nOwn: 1\r\n", "Own: 2\r\n", ""];
        for (headers, came, transcoded, places, common, own) in [
            (json, &[][..], &[][..], None, json, &[][..]),
            (json, &[], &[true, true], None, all, &[]),
            (json, &[], &[true, false, true], None, "X-A: 1\r\n", &[as_protobuf, as_json, as_protobuf]),
            (json, &[], &[true, false], Some(&[1, 3][..]), "X-A: 1\r\n", &["", as_protobuf, "", as_json]),
            ("X-A: 1\r\n", &[], &[false, true], None, "X-A: 1\r\n", &["", as_protobuf]),
            (json, &some, &[], None, json, &some),
            (json, &some, &[true; 3], None, "X-A: 1\r\n", &[&other("Own: 1"), &other("Own: 2"), as_protobuf]),
            (json, &some, &[false, true], Some(&[0, 2]), "X-A: 1\r\n", &[some[0], "", as_protobuf]),
            (json, &some, &[false, true], Some(&[1, 2]), "X-A: 1\r\n", &["", &json_and("Own: 2"), as_protobuf]),
        ] {
            let (block, spans) = spans(came);
            let came = (!came.is_empty()).then_some(RecordHeaders { block: &block, spans: &spans });
            let typed = Typed::of(headers.as_bytes(), came, transcoded, places);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let owns: Vec<String> = (0..own.len()).filter_map(|at| Some(text(typed.own(came)?.of(at)))).collect();
            assert_eq!(
                (text(typed.common(headers.as_bytes())), owns),
                (common.to_owned(), own.iter().map(|own| (*own).to_owned()).collect()),
                "{transcoded:?} {places:?}"
            );
            assert_eq!(typed.own(came).is_some(), !own.is_empty());
        }
    }

    #[test]
    fn a_records_own_type_wins_over_that_of_the_request() {
        let json = "X-A: 1\r\nContent-Type: application/json\r\n";
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let own = ["content-type: text/plain\r\nOwn: 1\r\n", "Own: 2\r\n", ""];
        let (block, own_spans) = spans(&own);
        let came = RecordHeaders { block: &block, spans: &own_spans };
        let budget = Budget::new(1_000);
        let mut held = budget.hold();
        let typed = Typed::one_each(json.as_bytes(), came, 4, &mut held).expect("there is room");
        let typed = typed.expect("one record would have two types");
        assert!(held.bytes() >= typed.bytes(), "{} {}", held.bytes(), typed.bytes());
        assert_eq!(text(typed.common(json.as_bytes())), "X-A: 1\r\n");
        let stored = typed.own(Some(came)).expect("fields of their own");
        let of_all = "Content-Type: application/json\r\n";
        let expect = [own[0].to_owned(), format!("{of_all}{}", own[1]), of_all.to_owned(), of_all.to_owned()];
        assert_eq!([0, 1, 2, 3].map(|at| text(stored.of(at))), expect);
        for (headers, own) in [("X-A: 1\r\n", own), (json, ["Own: 1\r\n", "Own: 2\r\n", ""]), ("", own)] {
            let (block, spans) = spans(&own);
            let own = RecordHeaders { block: &block, spans: &spans };
            let typed = Typed::one_each(headers.as_bytes(), own, 3, &mut budget.hold()).expect("nothing is needed");
            assert!(typed.is_none(), "{headers}: stored as they came");
        }
        let refused = Typed::one_each(json.as_bytes(), came, 100, &mut budget.hold()).err();
        assert_eq!(refused, Some(Reject::Overloaded("memory for request bodies")));
    }

    /// Texts one after the other, and where each is.
    fn spans(texts: &[&str]) -> (Vec<u8>, Vec<Span>) {
        let mut block = Vec::new();
        let mut append = |text: &&str| Span::append(&mut block, text.as_bytes());
        let spans = texts.iter().map(&mut append).collect();
        (block, spans)
    }
}
