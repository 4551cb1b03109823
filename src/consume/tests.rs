//! Consume on an embedded store: messages that were delivered too often.

use super::{Consume, Delivery, Fetcher, OpenDeliveries};
use crate::{
    dead_letters::fields::{DeadLetterFields, Kind},
    directory::contracts::{Contract, Contracts},
    ingest::{
        Form,
        testing::{World, name, run},
    },
    reject::Reject,
    rt::clock,
    station::Name,
};
use std::{rc::Rc, sync::Arc, time::Duration};

pub(super) const STATION: &str = "jobs";

pub(super) fn fetcher(world: &World, open: &Rc<OpenDeliveries>) -> Fetcher {
    Fetcher {
        directory: Rc::clone(&world.directory),
        backend: world.backend.clone(),
        budget: Rc::clone(&world.budget),
        metrics: Arc::clone(&world.metrics),
        draining: Rc::default(),
        open: Rc::clone(open),
    }
}

pub(super) async fn consume(world: &World, records_max: u32, wait_ms: u64) -> Result<Delivery, Reject> {
    let (station, group) = (name(STATION), name("g"));
    fetcher(world, &Rc::default()).consume(&call(&station, &group, records_max, wait_ms)).await
}

pub(super) fn call<'a>(station: &'a Name, group: &'a Name, records_max: u32, wait_ms: u64) -> Consume<'a> {
    Consume {
        station,
        create: true,
        group: Some(group),
        principal: "tests",
        records_max,
        wait: Duration::from_millis(wait_ms),
        manual_ack: false,
        now: clock::now(),
    }
}

/// Sets how often messages are delivered at most.
pub(super) fn at_most(world: &World, deliveries_max: Option<u32>) {
    world.contracts(&[(STATION, Contract { deliveries_max, ..Contract::default() })]);
}

pub(super) async fn post_three(world: &World) {
    let call = (false, "X-A: b\r\nMsg-Id: k\r\n", b"[1,2,3]".as_slice());
    world.post(&world.ingest(), STATION, Form::Batch, call).await.expect("stored");
}

pub(super) fn payloads(delivery: &Delivery) -> Vec<String> {
    let text = |span: crate::wire::Span| String::from_utf8(span.of(&delivery.delivered.arena).to_vec()).expect("text");
    delivery.messages().iter().map(|message| text(message.payload)).collect()
}

#[test]
fn what_was_handed_out_too_often_becomes_a_dead_letter_and_is_done() {
    run(async |world: &World| {
        post_three(world).await;
        at_most(world, Some(0));
        let delivery = consume(world, 2, 1_000).await.expect("an answer");
        assert_eq!(payloads(&delivery), [""; 0], "asked again until nothing is left");
        let letters = world.records(&name(STATION).dead_letters()).await;
        assert_eq!(letters.iter().map(|(_, payload)| payload.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        let letter = DeadLetterFields::read(letters[0].0.as_bytes()).expect("a letter");
        assert_eq!((letter.kind, letter.group.as_deref(), letter.principal), (Kind::Deliveries, Some("g"), None));
        assert!(letters[0].0.starts_with("X-A: b\r\nSluicegate-"), "{letters:?}");
        assert_eq!((world.metrics.dead_letters.get(), world.metrics.records_out.get()), (3, 0));
        at_most(world, None);
        assert_eq!(payloads(&consume(world, 10, 0).await.expect("an answer")), [""; 0], "they are acknowledged");
        drop(delivery);
        assert_eq!(world.budget.used(), 0);
    });
}

#[test]
fn what_cannot_be_kept_as_a_dead_letter_is_given_back_and_not_handed_out() {
    run(async |world: &World| {
        post_three(world).await;
        at_most(world, Some(0));
        world.refused.borrow_mut().insert(name(STATION).dead_letters(), Reject::BrokerAway);
        let refused = consume(world, 10, 0).await.err();
        assert_eq!(refused, Some(Reject::DeadLetters(Box::new(Reject::BrokerAway))));
        at_most(world, None);
        let delivery = consume(world, 10, 50).await.expect("messages");
        assert_eq!(payloads(&delivery), ["1", "2", "3"]);
    });
}

#[test]
fn each_message_is_handed_out_as_often_as_is_allowed() {
    run(async |world: &World| {
        post_three(world).await;
        at_most(world, Some(2));
        for _ in 0..2 {
            let delivery = consume(world, 2, 1_000).await.expect("messages");
            assert_eq!(payloads(&delivery), ["1", "2"]);
            // Dropped without an acknowledgement.
        }
        let delivery = consume(world, 10, 1_000).await.expect("messages");
        assert_eq!(payloads(&delivery), ["3"], "the others are handed out beside those that are not any more");
        let letters = world.records(&name(STATION).dead_letters()).await;
        let errors: Vec<_> = letters
            .iter()
            .map(|(block, _)| DeadLetterFields::read(block.as_bytes()).expect("a letter").error)
            .collect();
        assert_eq!(errors, ["delivered 2 times without an acknowledgement"; 2]);
    });
}

#[test]
fn what_is_within_the_bound_or_has_none_is_handed_out() {
    run(async |world: &World| {
        post_three(world).await;
        at_most(world, Some(1));
        let delivery = consume(world, 10, 0).await.expect("messages");
        assert_eq!(
            (delivery.messages().len(), delivery.exhausted(0), delivery.exhausted(1)),
            (3, vec![0, 1, 2], vec![])
        );
        drop(delivery);
        // Before the registry is read, the bound is not known.
        world.directory.set_contracts(Arc::new(Contracts::default()));
        assert_eq!(consume(world, 10, 50).await.expect("messages").messages().len(), 3);
        assert!(!world.asked.borrow().contains(&name(STATION).dead_letters()));
    });
}
