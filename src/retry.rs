//! Publishing, and publishing again: a change of leader is not a client's problem (docs/adr/0018).
//!
//! What certainly was not stored and may be sent again (nobody takes it, no leader, a broker that asks to slow down) is published
//! again for two holds. What may be stored or not goes again until its answer is due, if it has a message id that the station still
//! knows when the copy is there ([`Repeats::unknown_until`]); else it might be stored twice, so the client decides. Beside it the
//! control plane is asked whether the station is still what it was.
//!
//! **Order.** Of each partition the first record that is to go again goes alone until it is stored; then the rest follows. So a leader
//! that is back takes them in their order, and one that is not is asked with one record. What was in flight together with a refused
//! record cannot be called back: it may stand before it.

use crate::{
    backend::{Backend, Publish, Repeats},
    directory::{Directory, Local, look::Look},
    limits::{REPUBLISH_PAUSE_MAX, REPUBLISH_PAUSE_MIN, STATION_LOOK_INTERVAL},
    record::{Outcome, Partitions, Placement},
    reject::Reject,
    rt::{self, clock},
    station::{Name, Station},
    wire::Span,
};
use std::{
    collections::HashSet,
    rc::Rc,
    time::{Duration, Instant},
};

/// Publishes to one station.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) directory: &'a Rc<Directory>,
    pub(crate) backend: &'a Backend,
    /// Where to.
    pub(crate) name: &'a Name,
    /// Whether the station may be created for it.
    pub(crate) create: bool,
    /// The partitions that the request names, from which they are chosen anew if the station gets another number of them.
    pub(crate) placement: Placement<'a>,
    /// Where the request stands in the round robin.
    pub(crate) turn: u64,
}

impl Publisher<'_> {
    /// Publishes records until each has an outcome that stays. `Ok`: one outcome a record, in input order. `Err`: nothing
    /// is stored. Where the station has changed meanwhile, `station` is what it is now.
    pub(crate) async fn publish(
        &self,
        publish: &Publish<'_>,
        station: &mut Rc<Local<Station>>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Reject> {
        let begun = clock::now();
        self.backend.publish(publish, outcomes).await?;
        if outcomes.iter().all(Outcome::is_stored) {
            return Ok(());
        }
        // Boxed because it is rare: a request that is stored at the first attempt keeps no room for it.
        Box::pin(self.publish_again(publish, begun, station, outcomes)).await
    }

    async fn publish_again(
        &self,
        publish: &Publish<'_>,
        begun: Instant,
        station: &mut Rc<Local<Station>>,
        outcomes: &mut [Outcome],
    ) -> Result<(), Reject> {
        let repeats = self.backend.repeats();
        let (mut round, mut found, mut looks) = (Round::after(outcomes), Vec::new(), Looks::default());
        let mut list = Vec::new();
        let mut unknown = Unknown::new(publish.station);
        unknown.take(outcomes, begun);
        while let Some(until) = time_left(publish, outcomes, begun, repeats, unknown) {
            if round.open.is_empty() {
                let pause = round.pause();
                if clock::now() + pause >= until {
                    break;
                }
                match looks.wait(self, round.nobody, pause).await {
                    Some(Ok(now)) if !unknown.may_go_to(&now, station) => break,
                    Some(Ok(now)) => {
                        unknown.window = unknown.window.min(now.duplicate_window);
                        *station = now;
                    }
                    // Nothing of it is there to be lost, and the reason is no passing one.
                    Some(Err(why)) if !outcomes.iter().any(|outcome| outcome.is_stored() || outcome.is_unknown()) => {
                        return Err(why);
                    }
                    Some(Err(_)) => break,
                    None => {}
                }
            }
            let now = Rc::clone(station);
            let end = unknown.until(repeats).into_iter().chain(publish.deadline).min();
            let partitions = self.partitions(publish, &now, &mut list);
            let publish = Publish { station: &now, partitions, deadline: end, ..*publish };
            if !publish.is_possible() {
                break;
            }
            round.choose(&publish, outcomes);
            let again = round.publish(&publish);
            found.clear();
            let sent = clock::now();
            let published = self.backend.publish(&again, &mut found).await;
            round.took = clock::since(sent);
            match published {
                Ok(()) => {
                    round.settle(&publish, &found, outcomes);
                    unknown.take(outcomes, sent);
                }
                // Nothing of it was sent: as before.
                Err(why) if is_for_the_moment(&why) => round.open.clear(),
                Err(why)
                    if outcomes
                        .iter()
                        .all(|outcome| matches!(outcome, Outcome::Failed(why) if is_for_the_moment(why))) =>
                {
                    return Err(why);
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Returns the partitions of the records: those that were chosen, unless the station has another number of them `now`.
    fn partitions<'b>(&self, publish: &Publish<'b>, now: &Station, list: &'b mut Vec<u16>) -> Partitions<'b> {
        let partitions = now.partitions.len();
        if partitions == publish.station.partitions.len() {
            return publish.partitions;
        }
        self.placement.choose(publish.id, publish.index_end(), self.turn, partitions, list)
    }
}

/// Requests for the station, one at a time and not too often.
#[derive(Debug, Default)]
struct Looks {
    look: Option<Rc<Look>>,
    last: Option<Instant>,
}

impl Looks {
    /// Waits, and asks what has become of the station if nobody takes its records. Returns early with an answer that says
    /// something: the station as it is now, or why there is none.
    async fn wait(
        &mut self,
        publisher: &Publisher<'_>,
        nobody: bool,
        pause: Duration,
    ) -> Option<Result<Rc<Local<Station>>, Reject>> {
        let due = self.last.is_none_or(|last| clock::since(last) >= STATION_LOOK_INTERVAL);
        if self.look.is_none() && due && nobody {
            self.look = Some(publisher.directory.look_again(publisher.name, publisher.create));
            self.last = Some(clock::now());
        }
        let Some(look) = &self.look else {
            rt::sleep(pause).await;
            return None;
        };
        if look.found().is_none() {
            // Over in time or not: who asks looks at what there is.
            let _ = rt::deadline(pause, look.changed()).await;
        }
        let found = look.found()?;
        self.look = None;
        match found {
            Err(why) if why.retry_after().is_some() && !matches!(why, Reject::StationBlocked(_)) => {
                rt::sleep(REPUBLISH_PAUSE_MIN).await;
                None
            }
            // It was there: somebody has changed something, and can change it back.
            Err(Reject::BrokerRefused(_, text) | Reject::Conflict(text)) => Some(Err(Reject::StationBlocked(text))),
            other => Some(other),
        }
    }
}

/// The records that may be stored, as far as it says until when they may go again.
#[derive(Debug, Clone, Copy)]
struct Unknown {
    /// When the first of them was sent, or before; `None`: there are none.
    since: Option<Instant>,
    /// How long the station knows their ids: the shortest time that it has said since.
    window: Duration,
}

impl Unknown {
    fn new(station: &Station) -> Self {
        Self { since: None, window: station.duplicate_window }
    }

    /// Takes in what has become of all records, of which some were published, `sent` then or later.
    fn take(&mut self, outcomes: &[Outcome], sent: Instant) {
        let any = outcomes.iter().any(Outcome::is_unknown);
        self.since = any.then(|| self.since.unwrap_or(sent));
    }

    /// Until when they may go again. `None`: there are none, or they never may.
    fn until(self, repeats: Repeats) -> Option<Instant> {
        repeats.unknown_until(self.since?, self.window)
    }

    /// Whether they may go to the station as it is `now`: their ids are known in the streams that they were sent to, and in no
    /// others.
    fn may_go_to(self, now: &Station, then: &Station) -> bool {
        self.since.is_none() || now.partitions == then.partitions
    }
}

/// The records that are published together another time.
#[derive(Debug, Default)]
struct Round {
    /// Partitions that took their last record: what is left for them goes at once.
    open: HashSet<u16>,
    /// Whether the last time somebody was refused for the moment, so that the next moment may do,
    refused: bool,
    /// and whether that was because nobody takes the station's records.
    nobody: bool,
    /// How often they went again, and how long the last time took.
    count: u32,
    took: Duration,
    /// Which records.
    indexes: Vec<usize>,
    records: Vec<Span>,
    places: Vec<u32>,
}

impl Round {
    /// The first round, after the records went for the first time.
    fn after(outcomes: &[Outcome]) -> Self {
        let mut round = Self::default();
        round.take(outcomes);
        round
    }

    /// How long to wait before it. What is under way, or unclear however often one asks, is not asked for all the time.
    fn pause(&self) -> Duration {
        if self.refused || self.count < 2 {
            rt::jittered(REPUBLISH_PAUSE_MIN, REPUBLISH_PAUSE_MAX)
        } else {
            // What no answer came to has waited long enough.
            let pause = rt::jittered(STATION_LOOK_INTERVAL / 2, STATION_LOOK_INTERVAL);
            pause.saturating_sub(self.took).max(REPUBLISH_PAUSE_MIN)
        }
    }

    fn take(&mut self, news: &[Outcome]) {
        let any = |wanted: fn(&Reject) -> bool| {
            news.iter().any(|outcome| matches!(outcome, Outcome::Failed(why) if wanted(why)))
        };
        self.refused = any(is_for_the_moment);
        self.nobody = any(|why| *why == Reject::NoStream);
    }

    /// Chooses what goes now.
    fn choose(&mut self, publish: &Publish<'_>, outcomes: &[Outcome]) {
        let mut asked = HashSet::new();
        self.indexes.clear();
        for (index, outcome) in outcomes.iter().enumerate() {
            let partition = publish.partition(index);
            let goes = publish.atomic
                || (may_go_again(outcome) && (self.open.contains(&partition) || asked.insert(partition)));
            if goes {
                self.indexes.push(index);
            }
        }
        let span = |index: &usize| publish.records.get(*index).copied().unwrap_or_default();
        self.records = self.indexes.iter().map(span).collect();
        // Of at most `BATCH_RECORDS_MAX` records.
        let place = |index: &usize| u32::try_from(publish.place(*index)).unwrap_or(u32::MAX);
        self.places = self.indexes.iter().map(place).collect();
    }

    fn publish<'a>(&'a self, publish: &Publish<'a>) -> Publish<'a> {
        Publish { records: &self.records, indexes: Some(&self.places), again: true, ..*publish }
    }

    /// Takes in what became of them.
    fn settle(&mut self, publish: &Publish<'_>, found: &[Outcome], outcomes: &mut [Outcome]) {
        self.take(found);
        self.count = self.count.saturating_add(1);
        let mut open: HashSet<u16> = HashSet::new();
        let mut closed: HashSet<u16> = HashSet::new();
        for (index, news) in self.indexes.iter().zip(found) {
            let of = if may_go_again(news) { &mut closed } else { &mut open };
            of.insert(publish.partition(*index));
            if let Some(outcome) = outcomes.get_mut(*index) {
                outcome.take(news.clone());
            }
        }
        self.open = &open - &closed;
    }
}

/// Until when what is left may go again; `None` if nothing is left, or sending it again would settle nothing.
fn time_left(
    publish: &Publish<'_>,
    outcomes: &[Outcome],
    begun: Instant,
    repeats: Repeats,
    unknown: Unknown,
) -> Option<Instant> {
    let known_until = unknown.until(repeats);
    // The request is to be sent again as a whole, whatever becomes of the others.
    if unknown.since.is_some() && (publish.id.is_none() || known_until.is_none()) {
        return None;
    }
    if !outcomes.iter().any(may_go_again) {
        return None;
    }
    // Full is an answer, unless a part of the request is stored.
    let full = |outcome: &Outcome| *outcome == Outcome::Failed(Reject::WindowFull);
    if outcomes.iter().all(full) {
        return None;
    }
    let time = if unknown.since.is_some() { repeats.unknown.max(repeats.refused) } else { repeats.refused };
    [Some(begun + time), known_until, publish.deadline].into_iter().flatten().min()
}

/// Whether a record may go again, if it has a message id or is known not to be stored.
fn may_go_again(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Stored(_) => false,
        Outcome::Failed(why) => is_for_the_moment(why) || *why == Reject::OutcomeUnknown,
    }
}

/// Whether the record is certainly not stored, and the next moment may be another one.
fn is_for_the_moment(why: &Reject) -> bool {
    matches!(why, Reject::NoStream | Reject::BrokerAway | Reject::BrokerBusy | Reject::WindowFull)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{MessageId, Receipt},
        station::Partition,
    };

    const GONE: Outcome = Outcome::Failed(Reject::NoStream);
    const UNKNOWN: Outcome = Outcome::Failed(Reject::OutcomeUnknown);

    fn stored(sequence: u64) -> Outcome {
        Outcome::Stored(Receipt { partition: 0, sequence, duplicate: false })
    }

    fn station(partitions: u16) -> Station {
        let partition = |number: u16| Partition { stream: format!("s{number}").into(), subject: "s".into() };
        Station {
            replicas: 3,
            answers_in_order: false,
            atomic_records_max: 1_000,
            duplicate_window: Duration::from_secs(120),
            ..Station::of_partitions("s", (0..partitions).map(partition))
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// What is known of records that were sent `begun` then, and of which this became.
    fn unknown(station: &Station, outcomes: &[Outcome], begun: Instant) -> Unknown {
        let mut unknown = Unknown::new(station);
        unknown.take(outcomes, begun);
        unknown
    }

    #[test]
    fn c3_of_each_partition_the_first_goes_alone_and_the_rest_when_it_is_stored() {
        let station = station(2);
        let records = [Span::default(); 6];
        // Even records go to the first partition, odd ones to the second.
        let publish = Publish::of(&station, &[], &records);
        let mut outcomes = [GONE, GONE, stored(1), GONE, GONE, GONE];
        let mut round = Round::after(&outcomes);
        assert!(round.refused && round.nobody);
        round.choose(&publish, &outcomes);
        assert_eq!(round.indexes, [0, 1]);
        assert_eq!(round.publish(&publish).indexes, Some(&[0, 1][..]), "they stay in their partitions");
        round.settle(&publish, &[GONE, stored(5)], &mut outcomes);
        round.choose(&publish, &outcomes);
        assert_eq!(round.indexes, [0, 3, 5], "the first once more, of the second all");
        round.settle(&publish, &[stored(7), stored(8), Outcome::Failed(Reject::BrokerBusy)], &mut outcomes);
        round.choose(&publish, &outcomes);
        assert_eq!(round.indexes, [4, 5]);
        round.settle(&publish, &[stored(9), stored(10)], &mut outcomes);
        assert!(outcomes.iter().all(Outcome::is_stored), "{outcomes:?}");
        assert!(!round.refused && !round.nobody);
        // All or nothing goes as a whole.
        round.choose(&Publish { atomic: true, ..publish }, &[GONE; 6]);
        assert_eq!(round.indexes.len(), 6);
    }

    #[test]
    fn c7_what_has_waited_for_its_answer_does_not_wait_again() {
        let after = |took| Round { count: 2, took, ..Round::default() }.pause();
        assert_eq!(after(2 * STATION_LOOK_INTERVAL), REPUBLISH_PAUSE_MIN);
        assert!(
            after(Duration::ZERO) >= STATION_LOOK_INTERVAL / 2,
            "it is under way, or unclear however often one asks"
        );
    }

    #[test]
    fn c7_what_may_be_stored_goes_again_only_with_an_id_and_stays_unknown_until_it_is_acknowledged() {
        let station = station(1);
        let records = [Span::default(); 2];
        let nameless = Publish::of(&station, &[], &records);
        let named = Publish { id: Some(MessageId { base: "x", numbered: Some(0) }), ..nameless };
        let begun = clock::now();
        let repeats = Repeats { refused: seconds(2), unknown: seconds(9) };
        let full = Outcome::Failed(Reject::WindowFull);
        let wrong = Outcome::Failed(Reject::Schema("x".into()));
        for (outcomes, without_id, with_id) in [
            ([UNKNOWN, stored(1)], None, Some(9)),
            ([UNKNOWN, GONE], None, Some(9)),
            ([GONE, stored(1)], Some(2), Some(2)),
            ([full.clone(), stored(1)], Some(2), Some(2)),
            ([full.clone(), full], None, None),
            ([wrong.clone(), stored(1)], None, None),
            ([stored(1), stored(2)], None, None),
        ] {
            for (publish, expect) in [(&nameless, without_id), (&named, with_id)] {
                let found = time_left(publish, &outcomes, begun, repeats, unknown(&station, &outcomes, begun));
                assert_eq!(found, expect.map(|count| begun + seconds(count)), "{outcomes:?} {:?}", publish.id);
            }
        }
        let until = Some(begun + seconds(1));
        let none = Unknown::new(&station);
        assert_eq!(time_left(&Publish { deadline: until, ..nameless }, &[GONE, GONE], begun, repeats, none), until);
        let mut outcome = UNKNOWN;
        for news in [GONE, wrong] {
            outcome.take(news);
            assert_eq!(outcome, UNKNOWN, "it says nothing of the first attempt");
        }
        outcome.take(stored(3));
        assert_eq!(outcome, stored(3));
    }

    #[test]
    fn what_may_be_stored_goes_again_while_the_copy_is_there_before_its_id_is_forgotten() {
        let begun = clock::now();
        let repeats = Repeats { refused: seconds(10), unknown: seconds(10) };
        let records = [Span::default(); 2];
        for (window_ms, expect_ms) in [
            // Disabled, and shorter than a copy may take: never.
            (0, None),
            (100, None),
            (9_999, None),
            (10_000, Some(0)),
            (11_500, Some(1_500)),
            // From here on the answer is due before the id is forgotten.
            (20_000, Some(10_000)),
            (120_000, Some(10_000)),
            (u64::MAX, Some(10_000)),
        ] {
            let window = Duration::from_millis(window_ms);
            let station = Station { duplicate_window: window, ..station(1) };
            let nameless = Publish::of(&station, &[], &records);
            let named = Publish { id: Some(MessageId { base: "x", numbered: Some(0) }), ..nameless };
            let left = |outcomes: &[Outcome]| {
                [&named, &Publish { atomic: true, ..named }, &nameless].map(|publish| {
                    let until = time_left(publish, outcomes, begun, repeats, unknown(&station, outcomes, begun));
                    until.map(|until| u64::try_from((until - begun).as_millis()).expect("short"))
                })
            };
            assert_eq!(left(&[UNKNOWN, stored(1)]), [expect_ms, expect_ms, None], "{window_ms}");
            assert_eq!(
                left(&[UNKNOWN, GONE]),
                [expect_ms, expect_ms, None],
                "{window_ms}: the request goes as a whole"
            );
            assert_eq!(left(&[GONE, stored(1)]), [Some(10_000); 3], "{window_ms}: it is not stored");
            assert_eq!(repeats.all_fit(window), window_ms >= 20_000, "{window_ms}");
        }
    }

    #[test]
    fn the_time_in_which_an_id_is_known_counts_from_the_first_copy_that_may_be_stored() {
        let begun = clock::now();
        let repeats = Repeats { refused: seconds(10), unknown: seconds(10) };
        let station = Station { duplicate_window: seconds(12), ..station(1) };
        let mut unknown = unknown(&station, &[GONE, GONE], begun);
        assert_eq!(unknown.until(repeats), None);
        // Nobody took them for eight seconds, so nothing was stored then.
        unknown.take(&[UNKNOWN, GONE], begun + seconds(8));
        assert_eq!(unknown.until(repeats), Some(begun + seconds(10)));
        // Further copies do not make it later, also not those of other records.
        unknown.take(&[UNKNOWN, UNKNOWN], begun + seconds(9));
        unknown.take(&[stored(1), UNKNOWN], begun + seconds(9));
        assert_eq!(unknown.until(repeats), Some(begun + seconds(10)));
        unknown.take(&[stored(1), stored(2)], begun + seconds(9));
        assert_eq!(unknown.until(repeats), None, "there are none");
    }

    #[test]
    fn what_may_be_stored_in_one_stream_does_not_go_to_another_one() {
        let (then, now) = (station(2), Station { duplicate_window: seconds(1), ..station(2) });
        let mut adopted = station(2);
        adopted.partitions[1].stream = "other".into();
        let begun = clock::now();
        for outcomes in [[UNKNOWN, GONE], [stored(1), GONE]] {
            let unknown = unknown(&then, &outcomes, begun);
            assert!(unknown.may_go_to(&now, &then), "the same streams");
            for other in [&station(1), &station(3), &adopted] {
                assert_eq!(unknown.may_go_to(other, &then), outcomes[0] != UNKNOWN, "{:?}", other.partitions);
            }
        }
    }
}
