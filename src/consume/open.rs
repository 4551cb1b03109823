//! Open deliveries: the client says itself when it is done, and with how many of the messages.
//!
//! An open delivery is found by an id that cannot be guessed, on the shard that delivered it. It is given back when its
//! answer does not reach the client, when its time is over, and when the shard ends. The connection that brought the
//! answer does not matter after that: any client that has the id may acknowledge.

use super::{
    Consume, Delivery,
    acknowledged::{Acknowledged, Done},
};
use crate::{
    budget::Held,
    limits::{
        DELIVERY_OPEN_MAX, OPEN_DELIVERIES_OF_GROUP_MAX, OPEN_DELIVERIES_OF_PRINCIPAL_MAX,
        OPEN_DELIVERIES_PER_SHARD_MAX,
    },
    reject::Reject,
    rt::clock,
    station::Name,
};
use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
    time::{Duration, Instant},
};

/// No delivery has this id.
const UNKNOWN: Reject = Reject::Field(
    "no such delivery waits for its acknowledgement here: its time is over, or another shard or process has it; what was not \
    acknowledged comes again",
);
/// The delivery was acknowledged before with another number of messages.
const SETTLED: Reject = Reject::Field(
    "this delivery was acknowledged before, with another number of its records; those that were not acknowledged come again",
);
/// Digits of an id.
const ID_DIGITS: usize = 16;

/// The open deliveries of one shard.
#[derive(Debug, Default)]
pub struct OpenDeliveries {
    by_id: RefCell<HashMap<u64, Open>>,
    acknowledged: RefCell<Acknowledged>,
}

#[derive(Debug)]
struct Open {
    delivery: Delivery,
    group: Option<Name>,
    principal: Box<str>,
    /// When the delivery is given back.
    until: Instant,
}

/// An open delivery whose answer is under way. Dropped before the answer has arrived, it gives the delivery back.
#[derive(Debug)]
pub struct Opening {
    deliveries: Rc<OpenDeliveries>,
    id: u64,
    has_arrived: bool,
}

impl OpenDeliveries {
    /// Checks that this call may open one more delivery. A full table is reported before messages are taken and so
    /// counted as delivered.
    pub(super) fn room(&self, call: &Consume<'_>) -> Result<(), Reject> {
        let open = self.by_id.borrow();
        if open.len() >= OPEN_DELIVERIES_PER_SHARD_MAX {
            return Err(Reject::Overloaded("the number of deliveries that wait for their acknowledgement"));
        }
        let is_of_group =
            |open: &&Open| open.delivery.station.name == *call.station && open.group.as_ref() == call.group;
        if open.values().filter(is_of_group).count() >= OPEN_DELIVERIES_OF_GROUP_MAX {
            return Err(Reject::TooManyOpen("consumer group", OPEN_DELIVERIES_OF_GROUP_MAX));
        }
        if open.values().filter(|open| *open.principal == *call.principal).count() >= OPEN_DELIVERIES_OF_PRINCIPAL_MAX {
            return Err(Reject::TooManyOpen("user or API key", OPEN_DELIVERIES_OF_PRINCIPAL_MAX));
        }
        Ok(())
    }

    /// Keeps a delivery until it is acknowledged, without its messages: they are encoded in an answer of
    /// `answer_bytes`, which is counted apart from now on. Without room the delivery is given back.
    pub fn keep(
        self: &Rc<Self>,
        mut delivery: Delivery,
        call: &Consume<'_>,
        answer_bytes: usize,
    ) -> Result<(Opening, Held), Reject> {
        // Other deliveries may have been opened while this call waited for messages.
        self.room(call)?;
        let id = getrandom::u64().map_err(|_| Reject::Internal("the system gives no random numbers"))?;
        let held = delivery.part_from_answer(answer_bytes);
        // What happened since they came, such as storing dead letters, the backend's clock has not waited for.
        let until = delivery.fetched + time_of(delivery.consumer.ack_wait);
        let open = Open { delivery, group: call.group.cloned(), principal: call.principal.into(), until };
        self.by_id.borrow_mut().insert(id, open);
        Ok((Opening { deliveries: Rc::clone(self), id, has_arrived: false }, held))
    }

    /// Acknowledges the first `records` messages of a delivery, by default all, and gives the others back. The same
    /// call again has the same answer. If the backend cannot be reached, the delivery stays open.
    pub fn acknowledge(&self, id: &str, station: &Name, records: Option<usize>) -> Result<(), Reject> {
        let id = Some(id).filter(|id| id.len() == ID_DIGITS).and_then(|id| u64::from_str_radix(id, 16).ok());
        let id = id.ok_or(UNKNOWN)?;
        let asked = |messages: usize| records.unwrap_or(messages).min(messages);
        let mut acknowledged = self.acknowledged.borrow_mut();
        match self.by_id.borrow_mut().entry(id) {
            Entry::Occupied(mut entry) if entry.get().delivery.station.name == *station => {
                let messages = entry.get().delivery.messages().len();
                let records = asked(messages);
                entry.get_mut().delivery.acknowledge_through(records)?;
                let done = Done { id, station: station.clone(), messages, records };
                acknowledged.remember(entry.remove().principal, done, clock::now());
                Ok(())
            }
            _ => match acknowledged.find(id).filter(|done| done.station == *station) {
                Some(done) if done.records == asked(done.messages) => Ok(()),
                Some(_) => Err(SETTLED),
                None => Err(UNKNOWN),
            },
        }
    }

    /// Returns how many deliveries are open.
    #[must_use]
    pub(super) fn count(&self) -> usize {
        self.by_id.borrow().len()
    }

    /// Gives back the deliveries whose time is over.
    pub(super) fn sweep(&self, now: Instant) {
        // A delivery gives its messages back when it is dropped.
        self.by_id.borrow_mut().retain(|_, open| now < open.until);
        self.acknowledged.borrow_mut().sweep(now);
    }

    /// Gives all deliveries back: nobody can acknowledge them any more.
    pub fn give_back(&self) {
        self.by_id.borrow_mut().clear();
    }
}

/// Returns how long a delivery stays open where messages are delivered again after `ack_wait`: a shorter time, so that
/// a message that is acknowledged in time was not delivered again.
fn time_of(ack_wait: Duration) -> Duration {
    DELIVERY_OPEN_MAX.min(ack_wait / 6 * 5)
}

impl Opening {
    /// Returns the id by which the client acknowledges the delivery.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:0ID_DIGITS$x}", self.id)
    }

    /// The client has the answer.
    pub fn arrived(mut self) {
        self.has_arrived = true;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.has_arrived {
            self.deliveries.by_id.borrow_mut().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::{
        ingest::testing::{World, name, run},
        limits::ACK_WAIT,
    };

    const ALL: u32 = 10;

    fn by<'a>(station: &'a Name, group: &'a Name, principal: &'a str) -> Consume<'a> {
        Consume { principal, manual_ack: true, ..call(station, group, ALL, 0) }
    }

    /// Fetches and keeps the messages that are there; their answer of so many bytes is under way.
    async fn kept(world: &World, open: &Rc<OpenDeliveries>, answer_bytes: usize) -> (Opening, Held) {
        let mut delivery = consume(world, ALL, 1_000).await.expect("a delivery");
        delivery.to_encode().2.grow(answer_bytes).expect("room");
        open.keep(delivery, &by(&name(STATION), &name("g"), "ada"), answer_bytes).expect("kept")
    }

    /// The same, after the answer has arrived.
    async fn opened(world: &World, open: &Rc<OpenDeliveries>) -> String {
        let (opening, _) = kept(world, open, 100).await;
        let id = opening.id();
        opening.arrived();
        id
    }

    async fn left(world: &World, wait_ms: u64) -> Vec<String> {
        payloads(&consume(world, ALL, wait_ms).await.expect("an answer"))
    }

    #[test]
    fn item8_what_a_client_acknowledges_is_done_and_the_rest_comes_again_at_once() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            let id = opened(world, &open).await;
            assert_eq!(left(world, 0).await, [""; 0], "they are handed out");
            let acknowledge = |id: &str, station: &str, records| open.acknowledge(id, &name(station), records);
            assert_eq!(acknowledge(&id, "another", None), Err(UNKNOWN));
            assert_eq!(acknowledge("nothing", STATION, None), Err(UNKNOWN));
            assert_eq!(acknowledge(&format!("0{id}"), STATION, None), Err(UNKNOWN));
            assert_eq!(acknowledge(&id, STATION, Some(1)), Ok(()));
            assert_eq!(acknowledge(&id, STATION, Some(1)), Ok(()), "said again");
            assert_eq!(acknowledge(&id, STATION, None), Err(SETTLED));
            assert_eq!(acknowledge(&id, "another", Some(1)), Err(UNKNOWN));
            let id = opened(world, &open).await;
            assert_eq!(acknowledge(&id, STATION, None), Ok(()));
            assert_eq!(acknowledge(&id, STATION, Some(7)), Ok(()), "all of them");
            assert_eq!(left(world, 100).await, [""; 0]);
        });
    }

    #[test]
    fn item8_what_nobody_acknowledges_comes_again() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            let id = opened(world, &open).await;
            open.sweep(clock::now() + DELIVERY_OPEN_MAX / 2);
            assert_eq!(left(world, 0).await, [""; 0], "not yet");
            open.sweep(clock::now() + DELIVERY_OPEN_MAX);
            assert_eq!(left(world, 1_000).await, ["1", "2", "3"]);
            assert_eq!(open.acknowledge(&id, &name(STATION), None), Err(UNKNOWN), "too late");
            assert_eq!(world.budget.used(), 0);
        });
    }

    #[test]
    fn a_delivery_is_open_from_when_it_was_fetched_and_not_from_when_it_is_answered() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            let mut delivery = consume(world, ALL, 1_000).await.expect("a delivery");
            delivery.fetched -= DELIVERY_OPEN_MAX / 2;
            let (opening, _) = open.keep(delivery, &by(&name(STATION), &name("g"), "ada"), 0).expect("kept");
            opening.arrived();
            open.sweep(clock::now() + DELIVERY_OPEN_MAX / 2);
            assert_eq!(left(world, 1_000).await, ["1", "2", "3"]);
        });
    }

    #[test]
    fn a_delivery_whose_answer_does_not_arrive_is_given_back_at_once() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            drop(kept(world, &open, 100).await);
            assert_eq!(left(world, 1_000).await, ["1", "2", "3"]);
            // What a client acknowledged meanwhile, having seen the head of the answer, stays acknowledged.
            let (opening, _) = kept(world, &open, 100).await;
            assert_eq!(open.acknowledge(&opening.id(), &name(STATION), None), Ok(()));
            drop(opening);
            assert_eq!(left(world, 100).await, [""; 0]);
        });
    }

    #[test]
    fn a_shard_that_ends_gives_open_deliveries_back() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            opened(world, &open).await;
            open.give_back();
            assert_eq!(left(world, 1_000).await, ["1", "2", "3"]);
        });
    }

    #[test]
    fn an_open_delivery_holds_the_bytes_of_its_answer_only_while_that_is_written() {
        const ANSWER: usize = 1_000_000;
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            let (opening, held) = kept(world, &open, ANSWER).await;
            assert!(world.budget.used() >= 2 * ANSWER, "as encoded and as it is written");
            // The time of a delivery may be over before its answer is written: the answer lies in memory all the same.
            open.sweep(clock::now() + DELIVERY_OPEN_MAX);
            assert!(world.budget.used() >= 2 * ANSWER);
            drop((opening, held));
            assert_eq!(world.budget.used(), 0);
            let (opening, held) = kept(world, &open, ANSWER).await;
            drop(held);
            let left = world.budget.used();
            assert!((1..10_000).contains(&left), "what settles three messages: {left}");
            assert_eq!(open.acknowledge(&opening.id(), &name(STATION), None), Ok(()));
            assert_eq!(world.budget.used(), 0);
        });
    }

    #[test]
    fn nobody_takes_all_open_deliveries() {
        run(async |world: &World| {
            let (station, open) = (name(STATION), Rc::new(OpenDeliveries::default()));
            let keep = async |group: usize, principal: &str| {
                let delivery = consume(world, 1, 0).await.expect("a delivery");
                let kept = open.keep(delivery, &by(&station, &name(&format!("g{group}")), principal), 2);
                kept.map(|(opening, _)| opening.arrived())
            };
            for number in 0..OPEN_DELIVERIES_OF_PRINCIPAL_MAX {
                assert_eq!(keep(number / OPEN_DELIVERIES_OF_GROUP_MAX, "ada").await, Ok(()), "{number}");
            }
            let group = Reject::TooManyOpen("consumer group", OPEN_DELIVERIES_OF_GROUP_MAX);
            let principal = Reject::TooManyOpen("user or API key", OPEN_DELIVERIES_OF_PRINCIPAL_MAX);
            assert_eq!(keep(0, "bob").await, Err(group));
            assert_eq!(keep(1_000, "ada").await, Err(principal));
            for number in OPEN_DELIVERIES_OF_PRINCIPAL_MAX..OPEN_DELIVERIES_PER_SHARD_MAX {
                let who = (number / OPEN_DELIVERIES_OF_PRINCIPAL_MAX).to_string();
                assert_eq!(keep(number / OPEN_DELIVERIES_OF_GROUP_MAX, &who).await, Ok(()), "{number}");
            }
            assert!(matches!(keep(2_000, "eve").await, Err(Reject::Overloaded(_))));
            open.sweep(clock::now() + DELIVERY_OPEN_MAX);
            assert_eq!(keep(2_000, "eve").await, Ok(()), "room again");
        });
    }

    #[test]
    fn a_call_that_finds_no_room_takes_no_messages() {
        run(async |world: &World| {
            let (station, open) = (name(STATION), Rc::new(OpenDeliveries::default()));
            for number in 0..OPEN_DELIVERIES_OF_PRINCIPAL_MAX {
                let group = name(&format!("g{}", number / OPEN_DELIVERIES_OF_GROUP_MAX));
                let delivery = consume(world, 1, 0).await.expect("a delivery");
                open.keep(delivery, &by(&station, &group, "ada"), 2).expect("kept").0.arrived();
            }
            post_three(world).await;
            // A message that was delivered twice becomes a dead letter.
            at_most(world, Some(1));
            let fetcher = fetcher(world, &open);
            for _ in 0..3 {
                let refused = fetcher.consume(&by(&station, &name("g"), "ada")).await.map(drop);
                assert!(matches!(refused, Err(Reject::TooManyOpen(..))), "{refused:?}");
            }
            let delivery = fetcher.consume(&by(&station, &name("g"), "bob")).await.expect("messages");
            assert_eq!(payloads(&delivery), ["1", "2", "3"]);
        });
    }

    #[test]
    fn a_delivery_is_not_open_for_longer_than_its_group_waits() {
        assert_eq!(time_of(ACK_WAIT), DELIVERY_OPEN_MAX);
        assert_eq!(time_of(10 * ACK_WAIT), DELIVERY_OPEN_MAX);
        let short = Duration::from_secs(6);
        assert_eq!(time_of(short), Duration::from_secs(5), "a durable of somebody else");
    }
}
