//! Who gets a message: the subscriptions of a connection, by their ids.
//!
//! Two of them stand as long as the connection is wanted, and every handshake makes them anew: the acknowledgements'
//! inbox and that of replies. All others are a call's or a subscriber's, made on one connection and ended with it.

use super::super::{
    bus::{Failure, Queue},
    fetch::Pull,
    slab::Slab,
};
use crate::wire::nats::encode;
use std::rc::Rc;

/// The subscription that all acknowledgements come to: the first one.
pub(super) const ACKNOWLEDGEMENTS_SID: u64 = 1;
/// The subscription that the replies to all requests come to: the second one.
const REPLIES_SID: u64 = 2;

/// Whose messages a subscription brings.
#[derive(Debug)]
pub(in crate::backend::nats) enum Subscriber {
    /// The publish window's.
    Acknowledgements,
    /// Those of requests, told apart by the last token of their subject.
    Replies,
    /// A consume call's, from one partition.
    Pull(Pull),
    /// A subscriber's on the bus.
    Queue(Rc<Queue>),
}

/// The subscriptions of a connection.
#[derive(Debug)]
pub(in crate::backend::nats) struct Subscriptions {
    entries: Slab<Subscriber>,
}

impl Subscriptions {
    /// Returns the table with the subscriptions that always stand.
    pub(super) fn new() -> Self {
        let mut entries = Slab::default();
        let standing = [Subscriber::Acknowledgements, Subscriber::Replies].map(|standing| entries.insert(standing));
        debug_assert_eq!(standing, [Some(ACKNOWLEDGEMENTS_SID), Some(REPLIES_SID)]);
        Self { entries }
    }

    /// Appends what subscribes to the inboxes that always stand.
    pub(super) fn subscribe_standing(out: &mut Vec<u8>, inbox: &str) {
        encode::sub(out, format!("{inbox}*").as_bytes(), None, ACKNOWLEDGEMENTS_SID);
        encode::sub(out, format!("{inbox}{REPLIES}*").as_bytes(), None, REPLIES_SID);
    }

    /// Adds a subscriber. Returns the id to subscribe with, which was no other subscription's before; `None` if there
    /// are as many as there may be.
    pub(in crate::backend::nats) fn insert(&mut self, subscriber: Subscriber) -> Option<u64> {
        self.entries.insert(subscriber)
    }

    /// Returns whom the messages of this subscription are for; `None` if nobody waits for them any more.
    #[inline]
    pub(super) fn get(&self, sid: u64) -> Option<&Subscriber> {
        self.entries.get(sid)
    }

    /// Takes a subscriber out. `None`: it has ended before.
    pub(in crate::backend::nats) fn remove(&mut self, sid: u64) -> Option<Subscriber> {
        self.entries.remove(sid)
    }

    /// Returns the pulls of the consume calls that are under way.
    pub(super) fn pulls(&self) -> impl Iterator<Item = &Pull> {
        self.entries.iter().filter_map(|(_, subscriber)| match subscriber {
            Subscriber::Pull(pull) => Some(pull),
            Subscriber::Acknowledgements | Subscriber::Replies | Subscriber::Queue(_) => None,
        })
    }

    /// Ends the subscriptions to a subject that the broker forbids to subscribe to.
    pub(super) fn forbidden(&self, subject: &str) {
        for (_, subscriber) in self.entries.iter() {
            if let Subscriber::Queue(queue) = subscriber
                && queue.is_on(subject)
            {
                queue.fail(Failure::Forbidden(subject.into()));
            }
        }
    }

    /// Ends every subscription that was made on the connection: it is lost.
    pub(super) fn lost(&mut self) {
        for subscriber in self.entries.extract(|subscriber| !subscriber.stands()) {
            match subscriber {
                Subscriber::Pull(pull) => pull.lost(),
                Subscriber::Queue(queue) => queue.fail(Failure::Lost),
                Subscriber::Acknowledgements | Subscriber::Replies => {}
            }
        }
    }
}

impl Subscriber {
    /// Returns whether every handshake subscribes anew.
    fn stands(&self) -> bool {
        matches!(self, Self::Acknowledgements | Self::Replies)
    }
}

/// The token behind the connection's inbox, with its dot, that replies to requests come to.
pub(in crate::backend::nats) const REPLIES: &str = "r.";
