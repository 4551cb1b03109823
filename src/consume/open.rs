//! Deliveries whose client says itself when it is done with them, and with how many of their messages.
//!
//! A delivery that is open is known by an id that cannot be guessed, on the shard that handed it out: that of the connection. One that is
//! not acknowledged in time is handed out again, as one whose client has gone.

use super::{Delivery, max_deliveries::take};
use crate::{
    backend::Settlement,
    limits::{DELIVERY_OPEN_MAX, OPEN_DELIVERIES_OF_GROUP_MAX, OPEN_DELIVERIES_PER_SHARD_MAX},
    reject::Reject,
    rt,
    station::Name,
};
use std::{
    cell::RefCell,
    collections::{HashMap, hash_map},
    rc::Rc,
    time::Duration,
};

/// The open deliveries of one shard.
#[derive(Debug)]
pub struct OpenDeliveries {
    by_id: RefCell<HashMap<u64, Delivery>>,
    /// How long one waits.
    time: Duration,
}

impl Default for OpenDeliveries {
    fn default() -> Self {
        Self::that_wait(DELIVERY_OPEN_MAX)
    }
}

impl OpenDeliveries {
    /// None yet; each is to wait so long.
    fn that_wait(time: Duration) -> Self {
        Self { by_id: RefCell::default(), time }
    }

    /// Keeps a delivery until it is acknowledged, and answers its id. Without room for it, it is given back.
    pub fn keep(self: &Rc<Self>, delivery: Delivery) -> Result<String, Reject> {
        let id = getrandom::u64().map_err(|_| Reject::Internal("the system gives no random numbers"))?;
        {
            let mut open = self.by_id.borrow_mut();
            let of_group = open.values().filter(|other| other.is_of_the_group_of(&delivery)).count();
            if open.len() >= OPEN_DELIVERIES_PER_SHARD_MAX || of_group >= OPEN_DELIVERIES_OF_GROUP_MAX {
                return Err(Reject::Overloaded("the deliveries that wait for their acknowledgement"));
            }
            open.insert(id, delivery);
        }
        let open = Rc::clone(self);
        rt::spawn(async move {
            rt::sleep(open.time).await;
            // Whoever drops it gives it back.
            let late = open.by_id.borrow_mut().remove(&id);
            drop(late);
        });
        Ok(format!("{id:016x}"))
    }

    /// Acknowledges the first `records` messages of a delivery, by default all, and gives the others back. `false`: there is no such
    /// delivery any more.
    pub fn acknowledge(&self, id: &str, station: &Name, records: Option<usize>) -> bool {
        let Ok(id) = u64::from_str_radix(id, 16) else { return false };
        let mut delivery = match self.by_id.borrow_mut().entry(id) {
            hash_map::Entry::Occupied(entry) if entry.get().station.name == *station => entry.remove(),
            _ => return false,
        };
        let count = delivery.messages().len();
        let others: Vec<usize> = (records.unwrap_or(count).min(count)..count).collect();
        let given_back = take(&mut delivery.delivered, &others);
        delivery.settle_taken(&given_back, Settlement::Redeliver);
        delivery.acknowledge();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::ingest::testing::{World, name, run};

    /// Three messages, handed out and kept.
    async fn kept(world: &World, open: &Rc<OpenDeliveries>) -> String {
        let delivery = consume(world, 10, 0).await.expect("a delivery");
        assert_eq!(payloads(&delivery), ["1", "2", "3"]);
        open.keep(delivery).expect("kept")
    }

    #[test]
    fn item8_what_a_client_acknowledges_is_done_and_the_rest_comes_again_at_once() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::default());
            let id = kept(world, &open).await;
            assert_eq!(payloads(&consume(world, 10, 0).await.expect("nothing")), [""; 0], "they are handed out");
            assert!(!open.acknowledge(&id, &name("another"), None), "of another station");
            assert!(!open.acknowledge("nothing", &name(STATION), None));
            assert!(open.acknowledge(&id, &name(STATION), Some(1)));
            assert!(!open.acknowledge(&id, &name(STATION), None), "once");
            let again = consume(world, 10, 1_000).await.expect("the rest");
            assert_eq!(payloads(&again), ["2", "3"]);
            let id = open.keep(again).expect("kept");
            assert!(open.acknowledge(&id, &name(STATION), None));
            assert_eq!(payloads(&consume(world, 10, 100).await.expect("nothing")), [""; 0]);
        });
    }

    #[test]
    fn item8_what_nobody_acknowledges_comes_again() {
        run(async |world: &World| {
            post_three(world).await;
            let open = Rc::new(OpenDeliveries::that_wait(Duration::from_millis(200)));
            let id = kept(world, &open).await;
            let again = consume(world, 10, 10_000).await.expect("all of them");
            assert_eq!(payloads(&again), ["1", "2", "3"]);
            assert!(!open.acknowledge(&id, &name(STATION), None), "too late");
        });
    }

    #[test]
    fn item8_a_group_keeps_a_bounded_number_of_deliveries_open() {
        run(async |world: &World| {
            let open = Rc::new(OpenDeliveries::default());
            for _ in 0..OPEN_DELIVERIES_OF_GROUP_MAX {
                open.keep(consume(world, 1, 0).await.expect("a delivery")).expect("room");
            }
            let refused = open.keep(consume(world, 1, 0).await.expect("a delivery"));
            assert!(matches!(refused, Err(Reject::Overloaded(_))));
        });
    }
}
