//! A consumer group against a model that keeps one word for each message: under any order of calls nothing is
//! lost, nothing is given to two at a time, what comes again comes first, and first deliveries are in order.

use crate::backend::local::group::{Basket, Group, Source, Take};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const PARTITIONS: usize = 3;
const ACK_WAIT_MS: u64 = 30;
const IN_FLIGHT_MAX: usize = 12;

/// Partitions that only count: record `n` is one byte per `n % 5`.
#[derive(Debug, Clone, Default)]
struct Counts {
    first: [u64; PARTITIONS],
    last: [u64; PARTITIONS],
}

impl Source for Counts {
    type Error = std::convert::Infallible;

    fn bounds(&self, partition: usize) -> (u64, u64) {
        (self.first[partition], self.last[partition])
    }

    fn scan(
        &mut self,
        partition: usize,
        from: u64,
        to: u64,
        take: &mut dyn FnMut(u64, &[u8]) -> Take,
    ) -> Result<(), Self::Error> {
        let present = from.max(self.first[partition])..=to.min(self.last[partition]);
        for sequence in present {
            if take(sequence, &[0; 5][..usize::try_from(sequence % 5).expect("small")]) == Take::Full {
                break;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Bag {
    messages: Vec<(usize, u64)>,
    /// How often each was delivered, as the group says.
    deliveries: Vec<u32>,
    max: usize,
}

impl Bag {
    fn new(max: usize) -> Self {
        Self { messages: Vec::new(), deliveries: Vec::new(), max }
    }
}

impl Basket for Bag {
    fn is_full(&self) -> bool {
        self.messages.len() >= self.max
    }

    fn put(&mut self, partition: usize, sequence: u64, deliveries: u32, _: &[u8]) -> Take {
        self.messages.push((partition, sequence));
        self.deliveries.push(deliveries);
        Take::More
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flying { delivery: u64, deadline_ms: u64 },
    Again,
    Done,
}

/// The state of a message; one that is not in the map was never delivered.
#[derive(Debug, Default)]
struct Model {
    states: BTreeMap<(usize, u64), State>,
    /// How often each was delivered since the start.
    handed: BTreeMap<(usize, u64), u32>,
    next: [u64; PARTITIONS],
}

#[derive(Debug, Clone)]
enum Call {
    Publish(usize, u64),
    Fetch(usize),
    /// A consume call that is given up before it is answered.
    GiveUp(usize),
    /// Of the delivery this many before the newest: the messages whose bit is set.
    Acknowledge(usize, u16),
    Redeliver(usize, u16),
    Release(usize),
    Advance(u64),
    Retire(usize, u64),
    Save(usize),
    Restart,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0..PARTITIONS, 1_u64..8).prop_map(|(partition, count)| Call::Publish(partition, count)),
        6 => (1_usize..10).prop_map(Call::Fetch),
        1 => (1_usize..10).prop_map(Call::GiveUp),
        4 => (0_usize..4, any::<u16>()).prop_map(|(back, bits)| Call::Acknowledge(back, bits)),
        2 => (0_usize..4, any::<u16>()).prop_map(|(back, bits)| Call::Redeliver(back, bits)),
        1 => (0_usize..4).prop_map(Call::Release),
        3 => (1_u64..40).prop_map(Call::Advance),
        1 => (0..PARTITIONS, 1_u64..6).prop_map(|(partition, count)| Call::Retire(partition, count)),
        2 => (1_usize..4).prop_map(Call::Save),
        1 => Just(Call::Restart),
    ]
}

type Saved = Vec<(u64, Vec<(u64, u64)>)>;

struct World {
    group: Group,
    total: Arc<AtomicUsize>,
    source: Counts,
    model: Model,
    now_ms: u64,
    deliveries: Vec<Vec<(usize, u64)>>,
    saved: Saved,
}

impl World {
    fn new() -> Self {
        let saved: Saved = vec![(1, Vec::new()); PARTITIONS];
        let total = Arc::default();
        Self {
            group: Group::new(saved.clone(), IN_FLIGHT_MAX, &total, usize::MAX),
            total,
            source: Counts { first: [1; PARTITIONS], last: [0; PARTITIONS] },
            model: Model { next: [1; PARTITIONS], ..Model::default() },
            now_ms: 0,
            deliveries: Vec::new(),
            saved,
        }
    }

    fn apply(&mut self, call: &Call) {
        match *call {
            Call::Publish(partition, count) => self.source.last[partition] += count,
            Call::Fetch(max) => self.fetch(max),
            Call::GiveUp(max) => self.give_up(max),
            Call::Acknowledge(back, bits) => {
                for (partition, sequence) in self.chosen(back, bits).1 {
                    self.group.acknowledge(partition, sequence);
                    // What a restart has lost was never delivered, and cannot be acknowledged.
                    self.model.states.entry((partition, sequence)).and_modify(|state| *state = State::Done);
                }
            }
            Call::Redeliver(back, bits) => {
                let (delivery, messages) = self.chosen(back, bits);
                for (partition, sequence) in messages {
                    self.group.redeliver(delivery, partition, sequence);
                    self.model.give_back(delivery, |place| place == (partition, sequence));
                }
            }
            Call::Release(back) => {
                let (delivery, _) = self.chosen(back, u16::MAX);
                self.group.release(delivery);
                self.model.give_back(delivery, |_| true);
            }
            Call::Advance(by_ms) => self.advance(by_ms),
            Call::Retire(partition, count) => {
                let first = &mut self.source.first[partition];
                *first = (*first + count).min(self.source.last[partition] + 1);
            }
            Call::Save(runs_max) => self.save(runs_max),
            Call::Restart => self.restart(),
        }
    }

    fn chosen(&self, back: usize, bits: u16) -> (u64, Vec<(usize, u64)>) {
        let Some(at) = self.deliveries.len().checked_sub(back + 1) else { return (u64::MAX, Vec::new()) };
        let messages = self.deliveries[at].iter().enumerate();
        (at as u64, messages.filter(|(bit, _)| bits >> (bit % 16) & 1 == 1).map(|(_, one)| *one).collect())
    }

    fn fetch(&mut self, max: usize) {
        let delivery = self.deliveries.len() as u64;
        let mut bag = Bag::new(max);
        let Ok(()) = self.group.fill(delivery, &mut bag, &mut self.source);
        let deadline_ms = self.now_ms + ACK_WAIT_MS;
        self.group.hand_out(delivery, deadline_ms);
        let source = &self.source;
        self.model.retire(source);
        let flying = self.model.states.values().filter(|state| matches!(state, State::Flying { .. })).count();
        let again = self.model.states.values().filter(|state| **state == State::Again).count();
        let fresh: u64 = (0..PARTITIONS).map(|at| source.last[at] + 1 - self.model.next[at]).sum();
        let room = IN_FLIGHT_MAX.saturating_sub(flying);
        let available = again + usize::try_from(fresh).expect("small");
        assert_eq!(bag.messages.len(), max.min(room).min(available), "everything there is, up to the limits");
        let mut came_again = 0;
        for (partition, sequence) in &bag.messages {
            match self.model.states.get(&(*partition, *sequence)) {
                Some(State::Again) => came_again += 1,
                None => {
                    assert_eq!(*sequence, self.model.next[*partition], "first deliveries are in order");
                    self.model.next[*partition] += 1;
                }
                other => panic!("{partition}/{sequence} was handed out while {other:?}"),
            }
            self.model.states.insert((*partition, *sequence), State::Flying { delivery, deadline_ms });
        }
        for (place, deliveries) in bag.messages.iter().zip(bag.deliveries) {
            let handed = self.model.handed.entry(*place).or_default();
            *handed += 1;
            assert_eq!(deliveries, *handed, "{place:?}");
        }
        // Not exact: what retention has removed counts until its partition is looked at.
        let open = self.model.states.values().filter(|state| **state != State::Done).count();
        assert!(self.total.load(Ordering::Relaxed) >= open, "{open} are open");
        assert!(came_again == again || came_again == bag.messages.len(), "what comes again comes first");
        self.deliveries.push(bag.messages);
    }

    /// What it had reserved is delivered again, and was not delivered.
    fn give_up(&mut self, max: usize) {
        let delivery = self.deliveries.len() as u64;
        let mut bag = Bag::new(max);
        let Ok(()) = self.group.fill(delivery, &mut bag, &mut self.source);
        self.group.release(delivery);
        self.model.retire(&self.source);
        for (partition, sequence) in bag.messages {
            self.model.next[partition] = self.model.next[partition].max(sequence + 1);
            self.model.states.insert((partition, sequence), State::Again);
        }
        self.deliveries.push(Vec::new());
    }

    fn advance(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        self.group.expire(self.now_ms);
        for state in self.model.states.values_mut() {
            if matches!(state, State::Flying { deadline_ms, .. } if *deadline_ms <= self.now_ms) {
                *state = State::Again;
            }
        }
        assert!(self.group.next_deadline_ms().is_none_or(|deadline_ms| deadline_ms > self.now_ms));
    }

    /// What is saved never calls done what is not.
    fn save(&mut self, runs_max: usize) {
        for (partition, next, open) in self.group.take_dirty(runs_max) {
            assert!(open.len() <= runs_max);
            for sequence in self.source.first[partition]..next {
                let is_open = open.iter().any(|(from, to)| (*from..=*to).contains(&sequence));
                let state = self.model.states.get(&(partition, sequence));
                assert!(
                    is_open || state == Some(&State::Done),
                    "{partition}/{sequence} is {state:?} and saved as done"
                );
            }
            self.saved[partition] = (next, open);
        }
    }

    fn restart(&mut self) {
        self.group = Group::new(self.saved.clone(), IN_FLIGHT_MAX, &self.total, usize::MAX);
        self.model.states.clear();
        self.model.handed.clear();
        for (partition, (next, open)) in self.saved.iter().enumerate() {
            self.model.next[partition] = *next;
            for sequence in 1..*next {
                let is_open = open.iter().any(|(from, to)| (*from..=*to).contains(&sequence));
                let state = if is_open { State::Again } else { State::Done };
                self.model.states.insert((partition, sequence), state);
            }
        }
    }

    /// In the end, whatever is not done comes.
    fn drain(&mut self) {
        let mut rounds = 0;
        loop {
            self.advance(ACK_WAIT_MS);
            self.fetch(usize::MAX);
            let last = self.deliveries.last().expect("just fetched").clone();
            if last.is_empty() {
                break;
            }
            for (partition, sequence) in last {
                self.group.acknowledge(partition, sequence);
                self.model.states.insert((partition, sequence), State::Done);
            }
            rounds += 1;
            assert!(rounds < 1_000, "it ends");
        }
        assert_eq!(self.total.load(Ordering::Relaxed), 0, "nothing is open");
        for partition in 0..PARTITIONS {
            for sequence in self.source.first[partition]..=self.source.last[partition] {
                assert_eq!(self.model.states.get(&(partition, sequence)), Some(&State::Done), "{partition}/{sequence}");
            }
        }
    }
}

impl Model {
    fn give_back(&mut self, delivery: u64, which: impl Fn((usize, u64)) -> bool) {
        for (place, state) in &mut self.states {
            if which(*place) && matches!(state, State::Flying { delivery: by, .. } if *by == delivery) {
                *state = State::Again;
            }
        }
    }

    /// Messages that retention has removed neither come again nor come first.
    fn retire(&mut self, source: &Counts) {
        for partition in 0..PARTITIONS {
            self.next[partition] = self.next[partition].max(source.first[partition]);
        }
        for ((partition, sequence), state) in &mut self.states {
            if *sequence < source.first[*partition] && *state == State::Again {
                *state = State::Done;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn under_any_order_of_calls_nothing_is_lost_or_handed_out_twice(calls in vec(call(), 1..80)) {
        let mut world = World::new();
        for call in &calls {
            world.apply(call);
        }
        world.drain();
    }
}

#[test]
fn what_all_groups_have_open_is_bounded_and_old_messages_still_come_again() {
    let total = Arc::new(AtomicUsize::new(0));
    let group = || Group::new(vec![(1, Vec::new()); PARTITIONS], IN_FLIGHT_MAX, &total, 6);
    let (mut one, mut other) = (group(), group());
    let mut source = Counts { first: [1; PARTITIONS], last: [4; PARTITIONS] };
    let mut fetch = |group: &mut Group, delivery: u64| {
        let mut bag = Bag::new(100);
        let Ok(()) = group.fill(delivery, &mut bag, &mut source);
        bag.messages.sort_unstable();
        bag.messages
    };
    let first = fetch(&mut one, 1);
    assert_eq!(first.len(), 6);
    assert!(one.is_refused() && other.is_refused());
    assert_eq!(fetch(&mut other, 2), []);
    one.release(1);
    assert!(!one.is_refused() && other.is_refused());
    assert_eq!(fetch(&mut one, 3), first, "these and no new ones");
    one.acknowledge(first[0].0, first[0].1);
    assert!(!other.is_refused());
    assert_eq!(fetch(&mut other, 4).len(), 1);
    drop(one);
    assert_eq!(total.load(Ordering::Relaxed), 1, "a group that is gone gives its part back");
}
