//! Tails on an embedded store: what they yield, and where they go on.

use super::*;
use crate::{
    backend::read_contract::store,
    ingest::testing::{World, name, run},
    limits::TAIL_READ_BYTES_MAX,
    record::Records,
    station::AttributesChange,
    wire::Span,
};
use std::collections::BTreeMap;

const STATION: &str = "orders";
const BOUNDS: Bounds = Bounds { records: 10, bytes: TAIL_READ_BYTES_MAX };
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const BRIEF: Duration = Duration::from_millis(50);

fn reader(world: &World) -> Rc<Reader> {
    let (directory, budget) = (Rc::clone(&world.directory), Rc::clone(&world.budget));
    Reader::new(directory, world.backend.clone(), budget, world.metrics.clone(), Rc::default())
}

async fn open(reader: &Rc<Reader>, begin: Begin) -> Tail {
    Tail::open(reader, &name(STATION), None, &begin, LONG).await.expect("a tail")
}

/// Stores records in turns, one in each partition after the other.
async fn produce(world: &World, count: usize) {
    let ingest = world.ingest();
    let payloads: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let bytes = payloads.concat();
    let mut end = 0;
    let spans = payloads.iter().map(|payload| {
        let start = end;
        end += payload.len();
        Span::between(start, end)
    });
    let records = Records::of(bytes.as_bytes(), spans.collect());
    world.produce(&ingest, STATION, false, records).await.expect("stored");
}

/// Takes a piece: its partition and the sequences of its records.
fn take(tail: &mut Tail, step: Result<Step, Reject>) -> (u16, Vec<u64>) {
    let Ok(Step::Piece(piece)) = step else { panic!("{step:?}") };
    let sequences = piece.page.records.iter().map(|record| record.sequence).collect();
    tail.pass(&piece, piece.page.next);
    (piece.partition, sequences)
}

fn is_quiet(step: &Result<Step, Reject>) -> bool {
    matches!(step, Ok(Step::Quiet))
}

#[test]
fn every_partition_has_its_turn_and_keeps_its_order() {
    run(async |world: &World| {
        world.create(STATION, 3).await;
        produce(world, 90).await;
        let mut tail = open(&reader(world), Begin::First).await;
        let mut turns = Vec::new();
        let mut seen: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for _ in 0..9 {
            let step = tail.next(BOUNDS, LONG).await;
            let (partition, sequences) = take(&mut tail, step);
            turns.push(partition);
            seen.entry(partition).or_default().extend(sequences);
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let expect: Vec<u64> = (1..=30).collect();
        assert!(seen.len() == 3 && seen.values().all(|sequences| *sequences == expect), "{seen:?}");
        assert!(is_quiet(&tail.next(BOUNDS, BRIEF).await));
        assert_eq!(tail.places().collect::<Vec<_>>(), [(0, 31), (1, 31), (2, 31)]);
    });
}

#[test]
fn a_tail_begins_where_it_is_asked_to() {
    run(async |world: &World| {
        world.create(STATION, 2).await;
        produce(world, 10).await;
        let reader = reader(world);
        let middle = Begin::At(vec![(0, 3), (1, 5)]);
        for (begin, expect) in [
            (Begin::First, [(0, 1), (1, 1)]),
            (Begin::New, [(0, 6), (1, 6)]),
            (Begin::Since(0), [(0, 1), (1, 1)]),
            (Begin::Ago(LONG), [(0, 1), (1, 1)]),
            (Begin::Since(clock::unix_ms() + 60_000), [(0, 6), (1, 6)]),
            (middle, [(0, 3), (1, 5)]),
            (Begin::At(vec![(1, 0)]), [(0, 6), (1, 1)]),
            (Begin::At(vec![(1, u64::MAX)]), [(0, 6), (1, u64::MAX)]),
        ] {
            assert_eq!(open(&reader, begin.clone()).await.places().collect::<Vec<_>>(), expect, "{begin:?}");
        }
        let one = Tail::open(&reader, &name(STATION), Some(1), &Begin::At(vec![(0, 2), (1, 4)]), LONG).await;
        assert_eq!(one.expect("a tail").places().collect::<Vec<_>>(), [(1, 4)]);
        for (partition, begin) in
            [(Some(2), Begin::New), (None, Begin::At(vec![(2, 1)])), (Some(0), Begin::At(vec![(9, 1)]))]
        {
            let refused = Tail::open(&reader, &name(STATION), partition, &begin, LONG).await.map(drop);
            assert!(matches!(refused, Err(Reject::Field(_))), "{partition:?} {begin:?}: {refused:?}");
        }
        let unknown = Tail::open(&reader, &name("nowhere"), None, &Begin::New, LONG).await.map(drop);
        assert!(matches!(unknown, Err(Reject::StationUnknown(_))), "{unknown:?}");
    });
}

#[test]
fn what_was_passed_is_where_the_next_reader_goes_on() {
    run(async |world: &World| {
        world.create(STATION, 2).await;
        produce(world, 40).await;
        let reader = reader(world);
        let mut seen: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        let mut begin = Begin::First;
        // Each reader leaves amid a page.
        for _ in 0..10 {
            let mut tail = open(&reader, begin).await;
            let Ok(Step::Piece(piece)) = tail.next(BOUNDS, LONG).await else { panic!("no piece") };
            for record in piece.page.records.iter().take(3) {
                seen.entry(piece.partition).or_default().push(record.sequence);
                tail.pass(&piece, record.sequence + 1);
            }
            begin = Begin::At(tail.places().collect());
        }
        let in_order = |sequences: &Vec<u64>| sequences.iter().copied().eq(1..=sequences.len() as u64);
        assert!(seen.len() == 2 && seen.values().all(in_order), "no gap, no double, no partition left out: {seen:?}");
        assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 30);
    });
}

#[test]
fn what_comes_while_a_tail_waits_is_read_once_for_all() {
    run(async |world: &World| {
        let station = world.store.station(&name(STATION), true).await.expect("a station");
        let reader = reader(world);
        let mut tails = Vec::new();
        for _ in 0..50 {
            tails.push(open(&reader, Begin::New).await.sharing());
        }
        let before = world.metrics.reads.get();
        let waits = tails.iter_mut().map(|tail| async {
            let step = tail.next(BOUNDS, LONG).await;
            let taken = take(tail, step);
            (taken, is_quiet(&tail.next(BOUNDS, BRIEF).await))
        });
        let storing = async {
            rt::sleep(BRIEF).await;
            store(&world.backend, &station, "one", None).await
        };
        let (all, _) = futures_util::future::join(futures_util::future::join_all(waits), storing).await;
        assert_eq!(all, vec![((0, vec![1]), true); 50]);
        assert_eq!(world.metrics.reads.get() - before, 1, "nobody read again what had been read");
    });
}

#[test]
fn only_the_partitions_in_which_something_has_come_are_read() {
    run(async |world: &World| {
        world.create(STATION, 8).await;
        produce(world, 8).await;
        let mut tail = open(&reader(world), Begin::New).await;
        let before = world.metrics.reads.get();
        let waiting = tail.next(BOUNDS, LONG);
        let storing = async {
            rt::sleep(BRIEF).await;
            produce(world, 1).await;
        };
        let (step, ()) = futures_util::future::join(waiting, storing).await;
        assert_eq!(take(&mut tail, step), (0, vec![2]));
        assert!(is_quiet(&tail.next(BOUNDS, BRIEF).await));
        assert_eq!(world.metrics.reads.get() - before, 1);
    });
}

#[test]
fn what_retention_took_is_a_gap_and_the_tail_goes_on_behind_it() {
    run(async |world: &World| {
        world.create(STATION, 1).await;
        produce(world, 10).await;
        let reader = reader(world);
        let mut tail = open(&reader, Begin::At(vec![(0, 3)])).await;
        let change = AttributesChange { retention_records: Some(Some(4)), ..AttributesChange::default() };
        world.store.change_station(&name(STATION), &change).await.expect("changed");
        let first = async || {
            world.store.describe_station(&name(STATION)).await.expect("answered").expect("there").partitions[0].first
        };
        while first().await != 7 {
            rt::sleep(BRIEF).await;
        }
        let Ok(Step::Piece(piece)) = tail.next(BOUNDS, LONG).await else { panic!("no piece") };
        assert_eq!(piece.gap, Some(3..7));
        assert_eq!(piece.page.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [7, 8, 9, 10]);
        tail.pass(&piece, 7);
        assert_eq!(tail.places().collect::<Vec<_>>(), [(0, 7)], "the gap is passed before the records are");
        tail.pass(&piece, 11);
        assert!(is_quiet(&tail.next(BOUNDS, BRIEF).await));
        let mut late = open(&reader, Begin::At(vec![(0, 7)])).await;
        let Ok(Step::Piece(piece)) = late.next(BOUNDS, LONG).await else { panic!("no piece") };
        assert_eq!(piece.gap, None);
    });
}

#[test]
fn a_page_is_gathered_fairly_and_within_its_bounds() {
    run(async |world: &World| {
        world.create(STATION, 4).await;
        produce(world, 100).await;
        let reader = reader(world);
        let gathered = async |begin: Begin, records: u32, bytes: usize| {
            let mut tail = open(&reader, begin).await;
            let pieces = tail.gather(records, bytes).await.expect("pieces");
            let counts = pieces.iter().fold([0; 4], |mut counts, piece| {
                counts[usize::from(piece.partition)] += piece.page.records.len();
                counts
            });
            (counts, tail.places().map(|(_, next)| next).collect::<Vec<_>>())
        };
        assert_eq!(gathered(Begin::First, 8, 1 << 20).await, ([2; 4], vec![3; 4]));
        assert_eq!(gathered(Begin::First, 1, 1 << 20).await.0, [1, 0, 0, 0]);
        assert_eq!(gathered(Begin::First, 5_000, 1 << 20).await, ([25; 4], vec![26; 4]));
        assert_eq!(gathered(Begin::New, 5_000, 1 << 20).await, ([0; 4], vec![26; 4]));
        let uneven = Begin::At(vec![(0, 26), (1, 26), (2, 24), (3, 1)]);
        assert_eq!(gathered(uneven, 12, 1 << 20).await.0, [0, 0, 2, 10], "the room of those that have nothing is used");
        let few = gathered(Begin::First, 5_000, 20).await.0;
        assert!((1..=40).contains(&few.iter().sum::<usize>()), "{few:?}");
    });
}

#[test]
fn a_tail_outlives_what_passes_and_ends_with_what_does_not() {
    for (reject, is_passing) in [
        (Reject::BrokerAway, true),
        (Reject::NoStream, true),
        (Reject::Overloaded("the number of reads at a time"), true),
        (Reject::ControlTimeout, true),
        (Reject::StationUnknown("x".into()), false),
        (Reject::Field("x"), false),
        (Reject::Internal("x"), false),
    ] {
        assert_eq!(passes(&reject), is_passing, "{reject:?}");
    }
    run(async |world: &World| {
        world.create(STATION, 1).await;
        let reader = reader(world);
        let mut tail = open(&reader, Begin::First).await;
        world.store.delete_station(&name(STATION)).await.expect("removed");
        world.directory.forget(&name(STATION));
        let ended = tail.next(BOUNDS, LONG).await;
        assert!(matches!(ended, Err(Reject::StationUnknown(_))), "{ended:?}");
    });
}
