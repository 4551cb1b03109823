//! Produce to a station with a schema: every record is validated by the active version, the invalid ones become dead
//! letters, and only then the valid ones are stored.
//!
//! No record is validated by a schema that may have been replaced over a second ago. The registry must have confirmed
//! shortly before what is known here, and this is checked again at each time slice of a long batch.
//!
//! Dead letters come first. If they cannot be kept, nothing of the request is stored and it is refused as a whole, so
//! that every record that was sent is stored, or a dead letter, or still the client's.

mod batch;
mod time_slice;

pub use time_slice::TimeSlices;

use super::{Ingest, Part, Produce, Produced, Terms, next_tick};
use crate::{
    budget::Held,
    dead_letters::{
        DeadLetterBatch,
        fields::{self, DeadLetterFields, Kind},
    },
    directory::{Local, contracts::Contract},
    record::{Outcome, RecordHeaders},
    reject::Reject,
    rt::{self, clock},
    schema::PROTOBUF_MEDIA_TYPE,
    station::{Name, Station},
    wire::Span,
};
use batch::BatchValidation;
use std::{
    borrow::Cow,
    rc::Rc,
    time::{Duration, Instant},
};

/// How often a request that waits for the registry looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Ingest {
    /// Returns whether records of this station are validated by a schema, or it is not known yet.
    pub(super) fn is_checked(&self, station: &Name) -> bool {
        let contracts = self.directory.contracts();
        let contract = contracts.of(station);
        !contracts.complete || contract.schema.is_some() || contract.blocked.is_some() || contract.compiling
    }

    /// Continues [`Ingest::produce`] for a station with a schema. `held` counts what lies in memory beside the request.
    pub(super) async fn produce_checked(
        &self,
        call: &Produce<'_>,
        mut station: Rc<Local<Station>>,
        (body, payloads): (&[u8], Vec<Span>),
        terms: Terms<'_>,
        mut held: Held,
    ) -> Result<Produced, Reject> {
        let count = payloads.len();
        let mut batch = BatchValidation::new(body, payloads, call.encoding);
        let bytes = held.bytes();
        let contract = self.validate(call.station, &mut batch, (&mut held, bytes), terms.deadline).await?;
        let invalid = batch.refused().iter().filter(|refused| matches!(refused.reject, Reject::Schema(_))).count();
        self.metrics.records_invalid.add(invalid as u64);
        if call.strict && !batch.refused().is_empty() {
            let passed = count - batch.refused().len();
            let outcomes = batch.merge(vec![Outcome::Failed(Reject::NothingStored); passed]);
            return Ok(Produced { outcomes, station, held });
        }
        // Message ids, fields and partitions go by the record's index in the request, whichever other records of it are
        // valid this time.
        let places = batch.places();
        let stores_types = self.policy.stores("content-type");
        let transcoded = if stores_types { batch.transcoded() } else { &[] };
        let typed = Typed::of(terms.headers, terms.record_headers, transcoded, places.as_deref());
        let bytes = bytes + typed.bytes();
        held.grow_to(bytes + batch.bytes())?;
        if contract.invalid_to_dead_letters {
            self.keep_refused(call, &mut batch, terms, &mut held, bytes).await?;
        }
        let (body, passed) = batch.passed();
        let terms =
            Terms { headers: typed.common(terms.headers), record_headers: typed.own(terms.record_headers), ..terms };
        let outcomes = if passed.is_empty() {
            Vec::new()
        } else {
            let passed = Part { bytes: body, payloads: passed, indexes: places.as_deref() };
            self.publish(call, &mut station, passed, terms).await?
        };
        Ok(Produced { outcomes: batch.merge(outcomes), station, held })
    }

    /// Validates every record by the schema that is active when its time slice comes. Returns the contract that was
    /// last.
    async fn validate(
        &self,
        station: &Name,
        batch: &mut BatchValidation<'_>,
        (held, bytes): (&mut Held, usize),
        until: Instant,
    ) -> Result<Contract, Reject> {
        let mut place = self.time_slices.ticket();
        loop {
            let contract = self.contract(station, until).await?;
            match &contract.schema {
                None => batch.pass_the_rest()?,
                Some(schema) => {
                    let before = batch.looked_at();
                    place.work(|until| batch.turn(schema, &mut self.scratch.borrow_mut(), until))?;
                    self.metrics.records_checked.add((batch.looked_at() - before) as u64);
                }
            }
            held.grow_to(bytes + batch.bytes())?;
            if batch.is_done() {
                return Ok(contract);
            }
            if clock::now() >= until {
                return Err(Reject::Overloaded("the time for checking records"));
            }
            next_tick().await;
        }
    }

    /// Returns the contract of a station, as the registry has it now; waits until that is known. It waits longer than
    /// other calls do: an election of the registry's leader is not the client's problem.
    async fn contract(&self, station: &Name, until: Instant) -> Result<Contract, Reject> {
        let until = until.min(clock::now() + self.limits.registry_hold);
        loop {
            let contracts = self.directory.contracts();
            let contract = contracts.of(station);
            let now = clock::now();
            let is_known = match contract.schema {
                _ if contract.compiling => false,
                None => contracts.complete,
                Some(_) => self.directory.contracts_are_fresh(now),
            };
            if let Some(why) = &contract.blocked {
                return Err(Reject::StationBlocked(why.clone()));
            }
            if is_known {
                return Ok(contract.clone());
            }
            if now >= until {
                return Err(Reject::ContractsUnknown);
            }
            rt::sleep(LOOK_EVERY).await;
        }
    }

    /// Stores the invalid records as dead letters. One that is too large for that is only reported, and its error says
    /// so.
    async fn keep_refused(
        &self,
        call: &Produce<'_>,
        batch: &mut BatchValidation<'_>,
        terms: Terms<'_>,
        held: &mut Held,
        bytes: usize,
    ) -> Result<(), Reject> {
        let mut letters = DeadLetterBatch::new(batch.body(), terms.deadline);
        let mut from = 0;
        let mut places = Vec::new();
        while let Some(refused) = batch.refused().get(from) {
            if let Reject::Schema(text) = &refused.reject {
                let why = DeadLetterFields {
                    kind: Kind::Schema,
                    error: (&**text).into(),
                    schema: Some((refused.schema.name.as_str().into(), refused.schema.version)),
                    time_ms: letters.time_ms(),
                    principal: Some(call.principal.into()),
                    group: None,
                };
                let own = terms.record_headers.map_or(&[][..], |own| own.of(refused.index));
                letters.add(
                    refused.payload,
                    &[terms.headers, own],
                    &why,
                    terms.id.map(|id| fields::id_of_invalid(id, refused.index)),
                );
                places.push(from);
            }
            from += 1;
            if letters.is_full() || from == batch.refused().len() {
                held.grow_to(bytes + batch.bytes() + letters.bytes())?;
                let kept = letters.keep(call.station, &self.directory, &self.backend, &self.metrics).await?;
                for (place, _) in places.drain(..).zip(kept).filter(|(_, kept)| !kept) {
                    batch.too_large_for_a_letter(place);
                }
            }
        }
        Ok(())
    }
}

/// The header fields of records of which some were transcoded: they name the media type of what is stored, Protobuf for
/// records that were transcoded, for the others the type that they came with (RFC 9110, section 8.3).
#[derive(Debug, Default)]
struct Typed {
    /// Replaces the fields that came, once there is a record that was transcoded.
    common: Option<Vec<u8>>,
    /// The fields of single records, by their index in the request, where they differ.
    own: Option<(Vec<u8>, Vec<Span>)>,
}

impl Typed {
    /// `own`: what single records came with. `transcoded`: which records became others, if any did; `places`: the
    /// indexes of these records in the request, if they are not all of it.
    fn of(headers: &[u8], own: Option<RecordHeaders<'_>>, transcoded: &[bool], places: Option<&[u32]>) -> Self {
        if !transcoded.contains(&true) {
            return Self::default();
        }
        if own.is_none() && transcoded.iter().all(|became| *became) {
            return Self { common: Some(fields::with_media_type(headers, Some(PROTOBUF_MEDIA_TYPE))), own: None };
        }
        // Records have fields of their own, or the schema was replaced by one of another language, or detached, while
        // they were validated.
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

    fn common<'a>(&'a self, headers: &'a [u8]) -> &'a [u8] {
        self.common.as_deref().unwrap_or(headers)
    }

    fn own<'a>(&'a self, own: Option<RecordHeaders<'a>>) -> Option<RecordHeaders<'a>> {
        self.own.as_ref().map(|(block, spans)| RecordHeaders { block, spans }).or(own)
    }

    fn bytes(&self) -> usize {
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

    /// Texts one after the other, and where each is.
    fn spans(texts: &[&str]) -> (Vec<u8>, Vec<Span>) {
        let mut block = Vec::new();
        let mut append = |text: &&str| Span::append(&mut block, text.as_bytes());
        let spans = texts.iter().map(&mut append).collect();
        (block, spans)
    }
}
