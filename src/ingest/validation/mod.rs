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

use super::{Ingest, Part, Produce, Produced, Terms, next_tick, typed::Typed};
use crate::{
    budget::Held,
    dead_letters::{
        DeadLetterBatch,
        fields::{self, DeadLetterFields, Kind},
    },
    directory::{Local, contracts::Contract},
    record::Outcome,
    reject::Reject,
    rt::{self, clock},
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
        let places = in_request(batch.places(), terms.indexes);
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
                let index = terms.index(refused.index);
                let own = terms.record_headers.map_or(&[][..], |own| own.of(index));
                letters.add(
                    refused.payload,
                    &[terms.headers, own],
                    &why,
                    terms.id.map(|id| fields::id_of_invalid(id, index)),
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

/// Returns the indexes in the request of the call's records that passed: `places` among those of the call, which have these
/// `indexes`.
fn in_request(places: Option<Vec<u32>>, indexes: Option<&[u32]>) -> Option<Cow<'_, [u32]>> {
    match (places, indexes) {
        (None, indexes) => indexes.map(Cow::Borrowed),
        (Some(places), None) => Some(Cow::Owned(places)),
        (Some(places), Some(indexes)) => {
            let index = |place: u32| indexes.get(place as usize).copied().unwrap_or(place);
            Some(places.into_iter().map(index).collect())
        }
    }
}
