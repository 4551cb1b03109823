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

use super::{Ingest, Produce, Produced, Terms, next_tick};
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
        body: &[u8],
        records: Vec<Span>,
        terms: Terms<'_>,
        mut held: Held,
    ) -> Result<Produced, Reject> {
        let count = records.len();
        let bytes = held.bytes();
        let mut batch = BatchValidation::new(body, records, call.encoding);
        let contract = self.validate(call.station, &mut batch, (&mut held, bytes), terms.until).await?;
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
        let typed = Typed::of(terms.headers, batch.transcoded(), places.as_deref(), stores_types);
        let bytes = bytes + typed.bytes();
        held.grow_to(bytes + batch.bytes())?;
        if contract.invalid_to_dead_letters {
            self.keep_refused(call, &mut batch, terms, &mut held, bytes).await?;
        }
        let (passed_body, passed) = batch.passed();
        let terms = Terms { headers: typed.common(terms.headers), own: typed.own(), ..terms };
        let outcomes = if passed.is_empty() {
            Vec::new()
        } else {
            self.publish(call, &mut station, (passed_body, passed, places.as_deref()), terms).await?
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
        let mut letters = DeadLetterBatch::new(batch.body(), terms.until);
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
                letters.add(
                    refused.payload,
                    &[terms.headers],
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

/// Header fields that name the media type of what is stored: Protobuf for records that were transcoded, for the others
/// the type that they came with (RFC 9110, section 8.3).
#[derive(Debug, Default)]
struct Typed {
    /// Replaces the fields that came, once there is a record that was transcoded.
    common: Option<Vec<u8>>,
    /// The media types of single records, by their index in the request, where they differ.
    own: Option<(Vec<u8>, Vec<Span>)>,
}

impl Typed {
    /// `transcoded`: which records became others, if any did; `places`: the indexes of these records in the request, if
    /// they are not all of it. `is_stored`: whether media types are stored.
    fn of(headers: &[u8], transcoded: &[bool], places: Option<&[u32]>, is_stored: bool) -> Self {
        if !is_stored || !transcoded.contains(&true) {
            return Self::default();
        }
        if transcoded.iter().all(|became| *became) {
            return Self { common: Some(fields::with_media_type(headers, Some(PROTOBUF_MEDIA_TYPE))), own: None };
        }
        // The schema was replaced by one of another language, or detached, while records were validated.
        let common = fields::with_media_type(headers, None);
        let mut block = fields::with_media_type(b"", Some(PROTOBUF_MEDIA_TYPE));
        let became = Span { start: 0, end: place(block.len()) };
        let came = fields::fields(headers).find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
        let came = came.map(|(_, value)| fields::with_media_type(b"", Some(&String::from_utf8_lossy(value))));
        block.extend_from_slice(&came.unwrap_or_default());
        let came = Span { start: became.end, end: place(block.len()) };
        let spans = transcoded.iter().map(|is| if *is { became } else { came });
        let spans = match places {
            None => spans.collect(),
            Some(places) => at_places(places, spans),
        };
        Self { common: Some(common), own: Some((block, spans)) }
    }

    fn common<'a>(&'a self, headers: &'a [u8]) -> &'a [u8] {
        self.common.as_deref().unwrap_or(headers)
    }

    fn own(&self) -> Option<RecordHeaders<'_>> {
        self.own.as_ref().map(|(block, spans)| RecordHeaders { block, spans })
    }

    fn bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |(_, spans)| spans.capacity() * size_of::<Span>())
    }
}

/// Returns a list that has the values at these places, which rise, and nothing between them.
fn at_places(places: &[u32], values: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut list = Vec::new();
    for (place, value) in places.iter().zip(values) {
        list.resize(*place as usize, Span::default());
        list.push(value);
    }
    list
}

/// A place in header fields, which have a limit far below what a span holds.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
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
        for (headers, transcoded, places, is_stored, common, own) in [
            (json, &[][..], None, true, json, &[][..]),
            (json, &[true, true], None, true, all, &[]),
            (json, &[true, true], None, false, json, &[]),
            (json, &[true, false, true], None, true, "X-A: 1\r\n", &[as_protobuf, as_json, as_protobuf]),
            (json, &[true, false], Some(&[1, 3][..]), true, "X-A: 1\r\n", &["", as_protobuf, "", as_json]),
            ("X-A: 1\r\n", &[false, true], None, true, "X-A: 1\r\n", &["", as_protobuf]),
        ] {
            let typed = Typed::of(headers.as_bytes(), transcoded, places, is_stored);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let owns: Vec<String> = (0..own.len()).filter_map(|at| Some(text(typed.own()?.of(at)))).collect();
            assert_eq!(
                (text(typed.common(headers.as_bytes())), owns),
                (common.to_owned(), own.iter().map(|own| (*own).to_owned()).collect())
            );
            assert_eq!(typed.own().is_some(), !own.is_empty());
        }
    }
}
