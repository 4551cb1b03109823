//! Consume calls that wait: woken by commits, in line, and gone when their requester is.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, publish};
use crate::{
    backend::{Delivered, Fetch, local::Handle},
    reject::Reject,
    station::{Consumer, Station},
};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

type Call<'a> = Pin<Box<dyn Future<Output = Result<Delivered, Reject>> + 'a>>;

fn is_pending(call: &mut Call<'_>) -> bool {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

struct World {
    fixture: Fixture,
    handle: Handle,
    station: Arc<Station>,
    elsewhere: Arc<Station>,
    consumer: Arc<Consumer>,
}

fn world(partitions: u16) -> World {
    let fixture = Fixture::new(defaults(partitions));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    let elsewhere = fixture.station("elsewhere");
    World { fixture, handle, station, elsewhere, consumer }
}

impl World {
    /// A consume call that stands in line when this returns.
    fn wait_for(&self, records_max: u32) -> Call<'_> {
        let (station, consumer) = (&*self.station, &*self.consumer);
        let wait = Duration::from_secs(60);
        let mut call: Call<'_> = Box::pin(async move {
            self.handle.fetch(&Fetch { station, consumer, records_max, bytes_max: 1 << 20, wait }).await
        });
        assert!(is_pending(&mut call));
        // The reader answers in order: once it has answered this, it has seen that.
        let other = self.fixture.consumer(&self.elsewhere, "other");
        fetch(&self.handle, &self.elsewhere, &other, 1, 0).expect("fetched");
        call
    }

    fn publish(&self, payloads: &[&str]) {
        publish(&self.handle, &self.station, payloads, None).expect("published");
    }

    fn fetch_now(&self) -> Vec<u64> {
        let delivered = fetch(&self.handle, &self.station, &self.consumer, 100, 0).expect("fetched");
        sequences(&delivered)
    }

    /// Time passes, and the reader notices.
    fn advance(&self, by: Duration) {
        self.fixture.advance(by);
        publish(&self.handle, &self.elsewhere, &["tick"], None).expect("published");
    }
}

fn sequences(delivered: &Delivered) -> Vec<u64> {
    delivered.messages.iter().map(|one| one.sequence).collect()
}

#[test]
fn a_call_that_finds_something_does_not_wait_for_more() {
    let world = world(1);
    world.publish(&["a", "b"]);
    let delivered = fetch(&world.handle, &world.station, &world.consumer, 10, 60_000).expect("fetched");
    assert_eq!(sequences(&delivered), [1, 2]);
}

#[test]
fn a_call_that_finds_nothing_waits_until_its_batch_is_full() {
    let world = world(1);
    let mut call = world.wait_for(3);
    world.publish(&["a"]);
    world.publish(&["b"]);
    thread::sleep(Duration::from_millis(50));
    assert!(is_pending(&mut call), "two of three");
    world.publish(&["c", "d"]);
    let delivered = block_on(call).expect("fetched");
    let texts: Vec<String> = content(&delivered).into_iter().map(|one| one.2).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(world.fetch_now(), [4]);
}

#[test]
fn a_wait_that_ends_hands_out_what_has_come() {
    let world = world(1);
    let call = world.wait_for(3);
    world.publish(&["a"]);
    world.advance(Duration::from_secs(60));
    let delivered = block_on(call).expect("fetched");
    assert_eq!(sequences(&delivered), [1]);
    acknowledge(&world.handle, &world.consumer, &delivered);
    world.advance(world.consumer.ack_wait * 2);
    assert_eq!(world.fetch_now(), [] as [u64; 0], "acknowledged: the wait for that began when it was handed out");
}

#[test]
fn who_waits_longer_is_served_first_and_nobody_twice() {
    let world = world(1);
    let first = world.wait_for(2);
    let second = world.wait_for(2);
    world.publish(&["a", "b", "c"]);
    assert_eq!(sequences(&block_on(first).expect("fetched")), [1, 2]);
    assert_eq!(world.fetch_now(), [] as [u64; 0], "the third is kept for the second in line");
    world.publish(&["d"]);
    assert_eq!(sequences(&block_on(second).expect("fetched")), [3, 4]);
}

#[test]
fn what_comes_again_wakes_who_waits() {
    let world = world(1);
    world.publish(&["a"]);
    let lost = fetch(&world.handle, &world.station, &world.consumer, 1, 0).expect("fetched");
    let call = world.wait_for(1);
    world.advance(world.consumer.ack_wait);
    assert_eq!(sequences(&block_on(call).expect("fetched")), sequences(&lost));
}

#[test]
fn a_call_whose_requester_has_gone_swallows_nothing() {
    let world = world(1);
    let waker = Waker::noop();
    for published_before_it_goes in [false, true] {
        let fetch = Fetch {
            station: &world.station,
            consumer: &world.consumer,
            records_max: 2,
            bytes_max: 1 << 20,
            wait: Duration::from_secs(60),
        };
        {
            let mut gone = pin!(world.handle.fetch(&fetch));
            assert!(matches!(gone.as_mut().poll(&mut Context::from_waker(waker)), Poll::Pending));
            thread::sleep(Duration::from_millis(30));
            if published_before_it_goes {
                // One of two: gathered and not delivered. Or two of two: delivered to nobody.
                world.publish(&["one"]);
                thread::sleep(Duration::from_millis(30));
            }
        }
        world.publish(&["other"]);
        let delivered = block_on(world.handle.fetch(&fetch)).expect("fetched");
        assert!(!delivered.messages.is_empty());
        acknowledge(&world.handle, &world.consumer, &delivered);
    }
    let wait = Duration::from_secs(60);
    let one = Fetch { station: &world.station, consumer: &world.consumer, records_max: 1, bytes_max: 1 << 20, wait };
    let mut gone = Box::pin(world.handle.fetch(&one));
    assert!(matches!(gone.as_mut().poll(&mut Context::from_waker(waker)), Poll::Pending));
    thread::sleep(Duration::from_millis(30));
    world.publish(&["answered, and never read"]);
    thread::sleep(Duration::from_millis(30));
    drop(gone);
    assert_eq!(world.fetch_now(), [4], "no acknowledgement wait for a message that nobody got");
}

#[test]
fn bytes_bound_a_batch_and_one_large_message_passes_alone() {
    let world = world(1);
    let large = "x".repeat(3_000);
    world.publish(&["small", &large, "small", "small"]);
    let mut batches = Vec::new();
    for _ in 0..3 {
        let fetch = Fetch {
            station: &world.station,
            consumer: &world.consumer,
            records_max: 10,
            bytes_max: 1_000,
            wait: Duration::ZERO,
        };
        batches.push(sequences(&block_on(world.handle.fetch(&fetch)).expect("fetched")));
    }
    assert_eq!(batches, [vec![1], vec![2], vec![3, 4]]);
}
