//! Produce to a station with a schema: every record is held against the version in force, what fails becomes a dead letter, and
//! only then what is valid is stored.
//!
//! No record is held against a schema that may have been replaced over a second ago: the registry must have been known shortly
//! before to say what is known here, and is looked at again at each turn of a long batch.
//!
//! Dead letters come first. If they cannot be kept, nothing of the request is stored and it is refused as a whole, so that what was
//! posted is stored, or a dead letter, or still the client's.

use super::{Ingest, Produce, Produced, Terms, sieve::Sieve};
use crate::{
    backend::{
        MessageId, Outcome,
        letter::{Kind, Letter},
    },
    budget::Held,
    directory::{Known, contracts::Contract},
    letters::Letters,
    reject::Reject,
    rt,
    station::{Name, Station},
    wire::Span,
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How often a request that waits for the registry looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Begins the message id of a dead letter. No stream's name has such a character, as the ids of letters that come from a stream do.
const ID_PREFIX: &str = "dls/";

impl Ingest {
    /// Whether records of this station are held against a schema, or it is not known yet.
    pub(super) fn is_checked(&self, station: &Name) -> bool {
        let contracts = self.directory.contracts();
        let contract = contracts.of(station);
        !contracts.complete || contract.schema.is_some() || contract.blocked.is_some() || contract.compiling
    }

    /// [`Ingest::produce`] from there on. `held` counts what lies in memory beside the request.
    pub(super) async fn produce_checked(
        &self,
        call: &Produce<'_>,
        mut station: Rc<Known<Station>>,
        body: &[u8],
        records: Vec<Span>,
        terms: Terms<'_>,
        mut held: Held,
    ) -> Result<Produced, Reject> {
        let count = records.len();
        let bytes = held.bytes();
        let mut sieve = Sieve::new(body, records, call.encoding);
        let contract = self.sift(call.station, &mut sieve, (&mut held, bytes), terms.until).await?;
        let invalid = sieve.refused().iter().filter(|refused| matches!(refused.reject, Reject::Schema(_))).count();
        self.metrics.records_invalid.add(invalid as u64);
        if call.strict && !sieve.refused().is_empty() {
            let passed = count - sieve.refused().len();
            let outcomes = sieve.merge(vec![Outcome::Failed(Reject::NothingStored); passed]);
            return Ok(Produced { outcomes, station, held });
        }
        if contract.invalid_to_dead_letters {
            self.keep_refused(call, &mut sieve, terms, &mut held, bytes).await?;
        }
        let (passed_body, passed) = sieve.passed();
        // A message id is numbered by the record's place in what was posted, whoever else of it passes this time.
        let places = sieve.places();
        let outcomes = if passed.is_empty() {
            Vec::new()
        } else {
            self.publish(call, &mut station, (passed_body, passed, places.as_deref()), terms).await?
        };
        Ok(Produced { outcomes: sieve.merge(outcomes), station, held })
    }

    /// Holds every record against the schema that is in force when its turn comes. Returns the contract that was last.
    async fn sift(
        &self,
        station: &Name,
        sieve: &mut Sieve<'_>,
        (held, bytes): (&mut Held, usize),
        until: Instant,
    ) -> Result<Contract, Reject> {
        let mut place = self.turns.place();
        loop {
            let contract = self.contract(station).await?;
            match &contract.schema {
                None => sieve.pass_the_rest()?,
                Some(schema) => {
                    let before = sieve.looked_at();
                    let begin = Instant::now();
                    if let Some(turn) = place.begin(begin) {
                        sieve.turn(schema, &mut self.scratch.borrow_mut(), begin + turn)?;
                        let end = Instant::now();
                        place.end(end - begin, end);
                    }
                    self.metrics.records_checked.add((sieve.looked_at() - before) as u64);
                }
            }
            held.grow_to(bytes + sieve.bytes())?;
            if sieve.is_done() {
                return Ok(contract);
            }
            if Instant::now() >= until {
                return Err(Reject::Overloaded("the time for checking records"));
            }
            // Until the next tick of the timer: the runtime looks at sockets, timers and other threads only when every task waits.
            rt::sleep(Duration::ZERO).await;
        }
    }

    /// The contract of a station, as the registry has it now; waits until that is known.
    async fn contract(&self, station: &Name) -> Result<Contract, Reject> {
        let until = Instant::now() + self.limits.hold;
        loop {
            let contracts = self.directory.contracts();
            let contract = contracts.of(station);
            let now = Instant::now();
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

    /// Stores what failed as dead letters. What is too large for one is only told, and says so.
    async fn keep_refused(
        &self,
        call: &Produce<'_>,
        sieve: &mut Sieve<'_>,
        terms: Terms<'_>,
        held: &mut Held,
        bytes: usize,
    ) -> Result<(), Reject> {
        let mut letters = Letters::new(sieve.body(), terms.until);
        let mut from = 0;
        let mut places = Vec::new();
        while let Some(refused) = sieve.refused().get(from) {
            if let Reject::Schema(text) = &refused.reject {
                let why = Letter {
                    kind: Kind::Schema,
                    error: (&**text).into(),
                    schema: Some((refused.schema.name.as_str().into(), refused.schema.version)),
                    time_ms: letters.time_ms(),
                    principal: Some(call.principal.into()),
                    group: None,
                };
                letters.add(refused.payload, terms.headers, &why, terms.id.map(|id| letter_id(id, refused.index)));
                places.push(from);
            }
            from += 1;
            if letters.is_full() || from == sieve.refused().len() {
                held.grow_to(bytes + sieve.bytes() + letters.bytes())?;
                let kept = letters.keep(call.station, &self.directory, &self.backend, &self.metrics).await?;
                for (place, _) in places.drain(..).zip(kept).filter(|(_, kept)| !kept) {
                    sieve.too_large_for_a_letter(place);
                }
            }
        }
        Ok(())
    }
}

/// The message id of the dead letter that record `index` becomes.
fn letter_id(id: MessageId<'_>, index: usize) -> String {
    let base = id.base;
    if id.numbered { format!("{ID_PREFIX}{base}-{index}") } else { format!("{ID_PREFIX}{base}") }
}
