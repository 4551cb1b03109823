//! Reads and waits of a shard, on an embedded store.

use super::*;
use crate::{
    backend::read_contract::{content, store},
    ingest::testing::{World, name, run},
    rt::clock,
};
use futures_util::future::{join, join_all};

const STATION: &str = "orders";
const ALL: Bounds = Bounds { records: 100, bytes: 1 << 20 };
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn reader(world: &World) -> Rc<Reader> {
    let (directory, budget) = (Rc::clone(&world.directory), Rc::clone(&world.budget));
    Reader::new(directory, world.backend.clone(), budget, Arc::clone(&world.metrics), Rc::default())
}

fn call(station: &Name, start: Start, may_share: bool) -> ReadCall<'_> {
    ReadCall { station, partition: 0, start, bounds: ALL, may_share, now: clock::now() }
}

async fn wait(reader: &Rc<Reader>, sequence: u64, wait: Duration) -> Result<Arrival, Reject> {
    reader.wait(&name(STATION), &[(0, sequence)], wait, clock::now()).await
}

/// A station with one record.
async fn station(world: &World) -> Arc<Station> {
    let station = world.store.station(&name(STATION), true).await.expect("a station");
    assert_eq!(store(&world.backend, &station, "one", None).await, 1);
    station
}

/// Waits until so many wait.
async fn until_waiting(reader: &Reader, count: usize) {
    while reader.waiters.get() != count {
        rt::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_read_never_makes_a_station_and_holds_what_it_has_read() {
    run(async |world: &World| {
        let reader = reader(world);
        let station_name = name(STATION);
        let missing = reader.read(&call(&station_name, Start::First, false)).await.map(drop);
        assert!(matches!(missing, Err(Reject::StationUnknown(_))), "{missing:?}");
        assert!(matches!(wait(&reader, 1, LONG).await, Err(Reject::StationUnknown(_))));
        world.directory.forget(&station_name);
        station(world).await;
        let page = reader.read(&call(&station_name, Start::First, false)).await.expect("a page");
        assert_eq!(content(&page), [(1, "one".to_owned())]);
        assert!(world.budget.used() >= page.bytes());
        drop(page);
        assert_eq!(world.budget.used(), 0);
        let other = ReadCall { partition: 1, ..call(&station_name, Start::First, false) };
        assert!(matches!(reader.read(&other).await.map(drop), Err(Reject::Field(_))));
        let other = reader.wait(&station_name, &[(0, 1), (1, 1)], LONG, clock::now()).await;
        assert!(matches!(other, Err(Reject::Field(_))));
    });
}

#[test]
fn who_waits_is_woken_by_what_comes_or_was_there_and_else_when_the_time_is_up() {
    run(async |world: &World| {
        let (reader, station) = (reader(world), station(world).await);
        assert_eq!(wait(&reader, 1, LONG).await, Ok(Arrival::Records(vec![0])), "it is there");
        assert_eq!(wait(&reader, 2, Duration::from_millis(50)).await, Ok(Arrival::TimeUp));
        let storing = async {
            until_waiting(&reader, 2).await;
            store(&world.backend, &station, "two", None).await
        };
        let waits = join(wait(&reader, 2, LONG), wait(&reader, 3, Duration::from_millis(500)));
        let ((reached, ahead), _) = join(waits, storing).await;
        assert_eq!((reached, ahead), (Ok(Arrival::Records(vec![0])), Ok(Arrival::TimeUp)), "only what was waited for");
        assert_eq!(reader.waiters.get(), 0);
    });
}

#[test]
fn a_thousand_who_wait_on_a_station_cost_one_watch_and_one_read() {
    const READERS: usize = 1_000;
    run(async |world: &World| {
        let (reader, station) = (reader(world), station(world).await);
        let station_name = name(STATION);
        let read = Cell::new(0);
        let follow = async || {
            let mut next = 2;
            let mut pages = Vec::new();
            while next < 5 {
                assert_eq!(wait(&reader, next, LONG).await, Ok(Arrival::Records(vec![0])));
                let call = call(&station_name, Start::Sequence(next), true);
                let page = reader.read(&call).await.expect("a page");
                next = page.next;
                pages.push(page);
                read.set(read.get() + 1);
            }
            pages
        };
        let storing = async {
            for (number, round) in (2..5).zip(0..) {
                while (read.get(), reader.waiters.get()) != (round * READERS, READERS) {
                    rt::sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(reader.watches.borrow().len(), 1);
                assert_eq!(store(&world.backend, &station, &format!("record {number}"), None).await, number);
            }
        };
        let followers: Vec<_> = (0..READERS).map(|_| follow()).collect();
        let (all, ()) = join(join_all(followers), storing).await;
        let first = all[0].clone();
        assert_eq!(first.iter().map(|page| content(page).len()).collect::<Vec<_>>(), [1, 1, 1]);
        for pages in &all {
            assert!(pages.iter().zip(&first).all(|(one, other)| Rc::ptr_eq(one, other)), "each was read once");
        }
        drop((all, first));
        assert_eq!((world.budget.used(), reader.open.get(), reader.waiters.get()), (0, 0, 0));
        assert!(reader.shared.borrow().is_empty());
    });
}

#[test]
fn a_read_that_may_not_share_sees_what_was_stored_before_it() {
    run(async |world: &World| {
        let (reader, station) = (reader(world), station(world).await);
        let station_name = name(STATION);
        for number in 2..20 {
            let early = call(&station_name, Start::Sequence(1), true);
            let early = reader.read(&early);
            let later = async {
                store(&world.backend, &station, "x", None).await;
                reader.read(&call(&station_name, Start::Sequence(1), false)).await.expect("a page").next
            };
            assert_eq!(join(early, later).await.1, number + 1);
        }
    });
}

#[test]
fn a_shard_that_drains_ends_every_wait() {
    run(async |world: &World| {
        let (reader, _) = (reader(world), station(world).await);
        let draining = async {
            until_waiting(&reader, 3).await;
            reader.draining.set();
        };
        let waits = join_all((2..5).map(|sequence| wait(&reader, sequence, LONG)));
        assert_eq!(join(waits, draining).await.0, [const { Ok(Arrival::Draining) }; 3]);
        assert_eq!(wait(&reader, 1, LONG).await, Ok(Arrival::Draining));
        while !reader.watches.borrow().is_empty() {
            rt::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_station_that_is_removed_ends_the_waits_on_it_and_one_that_is_made_anew_is_watched() {
    run(async |world: &World| {
        let (reader, _) = (reader(world), station(world).await);
        let removing = async {
            until_waiting(&reader, 1).await;
            // Only now does the watch stand.
            rt::sleep(Duration::from_millis(50)).await;
            world.store.delete_station(&name(STATION)).await
        };
        let (ended, removed) = join(wait(&reader, 2, LONG), removing).await;
        assert_eq!((ended, removed), (Err(Reject::NoStream), Ok(true)));
        let station = station(world).await;
        let storing = async {
            until_waiting(&reader, 1).await;
            store(&world.backend, &station, "two", None).await
        };
        assert_eq!(join(wait(&reader, 2, LONG), storing).await.0, Ok(Arrival::Records(vec![0])));
    });
}

#[test]
fn a_wait_that_is_given_up_leaves_nothing_behind() {
    run(async |world: &World| {
        let (reader, _) = (reader(world), station(world).await);
        for _ in 0..10 {
            assert!(rt::deadline(Duration::from_millis(5), wait(&reader, 9, LONG)).await.is_err());
        }
        assert_eq!((reader.waiters.get(), reader.watches.borrow().len()), (0, 1));
        let watched = Rc::clone(&reader.watches.borrow()[&name(STATION)]);
        assert!(watched.waiting.borrow().is_empty());
    });
}

#[test]
fn reads_watches_and_waits_have_bounds() {
    run(async |world: &World| {
        let (reader, _) = (reader(world), station(world).await);
        let station_name = name(STATION);
        reader.open.set(READS_PER_SHARD_MAX);
        let refused = reader.read(&call(&station_name, Start::First, false)).await.map(drop);
        assert!(matches!(refused, Err(Reject::Overloaded(_))), "{refused:?}");
        reader.waiters.set(RECORD_WAITERS_PER_SHARD_MAX);
        assert!(matches!(wait(&reader, 1, LONG).await, Err(Reject::Overloaded(_))));
    });
}
