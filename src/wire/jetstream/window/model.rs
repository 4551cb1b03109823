//! The publish window against a model: any order of acknowledgements, time-outs, reconnects, refusals and
//! requesters that come, wait, leave and go away.
//!
//! The model is what the window would be without slabs and lists: a vector of batches. After every step both agree on
//! what is in flight. At the end nothing is, every slot and batch is free, each record had exactly one outcome (the one
//! that came first), and each waiting requester was woken exactly once.

use super::{tests::Bell, *};
use proptest::{prelude::*, sample::Index};
use std::{collections::VecDeque, sync::Arc};

const LIMITS: WindowLimits = WindowLimits { messages: 12, bytes: 100, grant_messages: 5, waiters: 3 };
const TAGS: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Opens without waiting, or gets in line.
    Open {
        sizes: Vec<usize>,
        tag: u32,
        lives_ms: u64,
        waits: bool,
        ack_mode: AckMode,
        once: bool,
        all: bool,
    },
    /// Polls a requester in line.
    PollTurn(Index),
    /// A requester in line goes away.
    Leave(Index),
    /// Any token that was ever given gets an answer: in flight, answered, or of a batch long gone.
    Answer(Index, u64),
    /// Something that looks like a token, or not.
    Garbage(Vec<u8>),
    Expire {
        after_ms: u64,
    },
    LoseAll,
    FailSubject(u32),
    PollBatch(Index),
    Take(Index),
    Abandon(Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    let sizes = || prop::collection::vec(prop_oneof![9 => 0usize..30, 1 => 90usize..130], 0..8);
    prop_oneof![
        6 => (sizes(), 0..TAGS, 0u64..50, any::<[bool; 4]>()).prop_map(|(sizes, tag, lives_ms, [waits, each, all, once])| {
            let ack_mode = if each { AckMode::PerRecord } else { AckMode::InOrder };
            // No request asks for more than a grant at once.
            let all = all && sizes.len() <= LIMITS.grant_messages;
            Step::Open { sizes, tag, lives_ms, waits, ack_mode, once, all }
        }),
        3 => any::<Index>().prop_map(Step::PollTurn),
        1 => any::<Index>().prop_map(Step::Leave),
        12 => (any::<Index>(), 1u64..1_000).prop_map(|(which, sequence)| Step::Answer(which, sequence)),
        1 => prop_oneof![
            "[A-D]{1,3}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..12),
        ].prop_map(Step::Garbage),
        1 => (0u64..30).prop_map(|after_ms| Step::Expire { after_ms }),
        1 => Just(Step::LoseAll),
        1 => (0..TAGS).prop_map(Step::FailSubject),
        4 => any::<Index>().prop_map(Step::PollBatch),
        4 => any::<Index>().prop_map(Step::Take),
        1 => any::<Index>().prop_map(Step::Abandon),
    ]
}

/// A batch that was opened, until the end of the test.
struct Batch {
    key: BatchKey,
    tag: u32,
    deadline_ms: u64,
    sizes: Vec<usize>,
    tokens: Vec<Token>,
    /// Nobody may have these tokens after it.
    once: bool,
    outcomes: Vec<Option<AckOutcome>>,
    /// Taken or abandoned: its requester asks no more.
    gone: bool,
    bell: Arc<Bell>,
    waker: Waker,
    /// Polled before it was complete: its requester has one wake-up to come.
    polled: bool,
}

impl Batch {
    fn in_flight(&self) -> (usize, usize) {
        let open = self.sizes.iter().zip(&self.outcomes).filter(|(_, outcome)| outcome.is_none());
        open.fold((0, 0), |(count, bytes), (size, _)| (count + 1, bytes + size))
    }

    fn is_whole(&self) -> bool {
        self.in_flight().0 == 0
    }

    fn fail(&mut self, outcome: &AckOutcome) -> usize {
        let open = self.outcomes.iter_mut().filter(|known| known.is_none());
        open.map(|known| *known = Some(outcome.clone())).count()
    }
}

/// A requester in line.
struct Asker {
    turn: Ticket,
    sizes: Vec<usize>,
    tag: u32,
    lives_ms: u64,
    ack_mode: AckMode,
    once: bool,
    all: bool,
    bell: Arc<Bell>,
    waker: Waker,
    /// Wake-ups since it last polled.
    heard: usize,
}

struct World {
    window: Window,
    batches: Vec<Batch>,
    queue: VecDeque<Asker>,
    now_ms: u64,
    stale: u64,
    wakes: DueWakers,
}

impl World {
    fn new() -> Self {
        Self {
            window: Window::new(LIMITS),
            batches: Vec::new(),
            queue: VecDeque::new(),
            now_ms: 0,
            stale: 0,
            wakes: DueWakers::default(),
        }
    }

    fn in_flight(&self) -> (usize, usize) {
        self.batches.iter().map(Batch::in_flight).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Returns how many records of these sizes the window should take now.
    fn expected(&self, sizes: &[usize], all: bool) -> usize {
        let (mut messages, mut bytes) = self.in_flight();
        if all {
            let fit = messages + sizes.len() <= LIMITS.messages && bytes + sizes.iter().sum::<usize>() <= LIMITS.bytes;
            return if fit || messages == 0 { sizes.len() } else { 0 };
        }
        let fitting = sizes.iter().take(LIMITS.grant_messages).take_while(|size| {
            let fits = messages == 0 || (messages < LIMITS.messages && bytes + **size <= LIMITS.bytes);
            messages += 1;
            bytes += **size;
            fits
        });
        fitting.count()
    }

    fn opened(
        &mut self,
        opened: Grant,
        sizes: &[usize],
        tag: u32,
        deadline_ms: u64,
        (tokens, once): (Vec<Token>, bool),
        expect: usize,
    ) {
        assert_eq!(opened.records, expect);
        let taken = self.batches.iter().filter(|batch| batch.once).flat_map(|batch| &batch.tokens);
        assert!(taken.into_iter().all(|token| !tokens.contains(token)), "a token that was to be used once");
        let (bell, waker) = Bell::new();
        self.batches.push(Batch {
            key: opened.key,
            tag,
            deadline_ms,
            sizes: sizes[..expect].to_vec(),
            tokens,
            once,
            outcomes: vec![None; expect],
            gone: false,
            bell,
            waker,
            polled: false,
        });
    }

    fn open(&mut self, (sizes, tag, lives_ms): (Vec<usize>, u32, u64), waits: bool, manner: (AckMode, bool, bool)) {
        let (ack_mode, once, all) = manner;
        let expect = self.expected(&sizes, all);
        if waits {
            let (bell, waker) = Bell::new();
            let turn = Ticket::default();
            let asker = Asker { turn, sizes, tag, lives_ms, ack_mode, once, all, bell, waker, heard: 0 };
            return self.poll_asker(asker, self.queue.len());
        }
        let deadline_ms = self.now_ms + lives_ms;
        let mut tokens = Vec::new();
        let ask = WindowRequest { ack_mode, once, sizes: sizes.iter().copied(), all, tag, deadline_ms };
        let opened = self.window.open(ask, &mut tokens);
        let admitted = sizes.is_empty() || (self.queue.is_empty() && expect > 0);
        assert_eq!(opened.is_some(), admitted);
        if let Some(opened) = opened {
            self.opened(opened, &sizes, tag, deadline_ms, (tokens, once), expect);
        }
    }

    /// Polls a requester that stands (or wants to stand) at this place of the queue.
    fn poll_asker(&mut self, mut asker: Asker, place: usize) {
        let expect = self.expected(&asker.sizes, asker.all);
        let (mut tokens, deadline_ms) = (Vec::new(), self.now_ms + asker.lives_ms);
        let Asker { ack_mode, once, all, tag, .. } = asker;
        let ask = WindowRequest { ack_mode, once, sizes: asker.sizes.iter().copied(), all, tag, deadline_ms };
        let mut cx = Context::from_waker(&asker.waker);
        let polled = self.window.poll_open(&mut asker.turn, ask, &mut tokens, &mut self.wakes, &mut cx);
        asker.heard = asker.bell.rung();
        match polled {
            Poll::Ready(Ok(opened)) => {
                assert!(asker.sizes.is_empty() || (place == 0 && expect > 0), "only the first, and only into room");
                assert!(!asker.turn.is_waiting());
                self.opened(opened, &asker.sizes, asker.tag, deadline_ms, (tokens, once), expect);
            }
            Poll::Ready(Err(QueueFull)) => {
                assert_eq!((place, self.queue.len()), (LIMITS.waiters, LIMITS.waiters));
                assert!(!asker.turn.is_waiting());
            }
            Poll::Pending => {
                assert!(place > 0 || expect == 0, "the first one waits only for room");
                assert!(asker.turn.is_waiting());
                self.queue.insert(place, asker);
            }
        }
    }

    fn answer(&mut self, token: Token, sequence: u64) {
        let outcome = AckOutcome::Stored { sequence, duplicate: false };
        let accepted = self.window.complete(token, outcome.clone(), &mut self.wakes);
        // Tokens are used again: it is the youngest one's.
        let named = self.batches.iter_mut().rev().find_map(|batch| {
            let place = batch.tokens.iter().position(|known| *known == token)?;
            Some((batch, place))
        });
        let record = named.and_then(|(batch, place)| {
            // The token of a whole batch is answered in the order of the records.
            let place = if token.is_shared() { batch.outcomes.iter().position(Option::is_none)? } else { place };
            batch.outcomes[place].is_none().then_some((batch, place))
        });
        assert_eq!(accepted, record.is_some());
        match record {
            Some((batch, place)) => batch.outcomes[place] = Some(outcome),
            None => self.stale += 1,
        }
    }

    fn fail(&mut self, which: impl Fn(&Batch) -> bool, outcome: &AckOutcome) -> usize {
        self.batches.iter_mut().filter(|batch| which(batch)).map(|batch| batch.fail(outcome)).sum()
    }

    fn take(&mut self, which: usize) {
        let batch = &mut self.batches[which];
        let mut outcomes = Vec::new();
        let taken = self.window.take(batch.key, &mut outcomes);
        assert_eq!(taken, batch.is_whole() && !batch.gone);
        if taken {
            batch.gone = true;
            assert_eq!(outcomes.into_iter().map(Some).collect::<Vec<_>>(), batch.outcomes);
        }
    }

    fn step(&mut self, step: Step) {
        let batch_at =
            |world: &Self, which: Index| (!world.batches.is_empty()).then(|| which.index(world.batches.len()));
        match step {
            Step::Open { sizes, tag, lives_ms, waits, ack_mode, once, all } => {
                self.open((sizes, tag, lives_ms), waits, (ack_mode, once, all));
            }
            Step::PollTurn(which) if !self.queue.is_empty() => {
                let place = which.index(self.queue.len());
                if let Some(asker) = self.queue.remove(place) {
                    self.poll_asker(asker, place);
                }
            }
            Step::Leave(which) if !self.queue.is_empty() => {
                let place = which.index(self.queue.len());
                if let Some(mut asker) = self.queue.remove(place) {
                    self.window.leave(&mut asker.turn, &mut self.wakes);
                }
            }
            Step::Answer(which, sequence) => {
                let tokens: Vec<Token> = self.batches.iter().flat_map(|batch| batch.tokens.iter().copied()).collect();
                if !tokens.is_empty() {
                    self.answer(tokens[which.index(tokens.len())], sequence);
                }
            }
            Step::Garbage(bytes) => {
                if let Some(token) = Token::parse(&bytes) {
                    self.answer(token, 1);
                }
            }
            Step::Expire { after_ms } => {
                self.now_ms += after_ms;
                let now_ms = self.now_ms;
                let expired = self.window.expire(now_ms, &mut self.wakes);
                assert_eq!(expired, self.fail(|batch| batch.deadline_ms <= now_ms, &AckOutcome::TimedOut));
            }
            Step::LoseAll => {
                let lost = self.window.lose_all(&mut self.wakes);
                assert_eq!(lost, self.fail(|_| true, &AckOutcome::Lost));
            }
            Step::FailSubject(tag) => {
                let refused = self.window.fail_subject(tag, &mut self.wakes);
                assert_eq!(refused, self.fail(|batch| batch.tag == tag, &AckOutcome::Refused));
            }
            Step::PollBatch(which) => {
                if let Some(at) = batch_at(self, which) {
                    let batch = &mut self.batches[at];
                    let ready = self.window.poll_batch(batch.key, &mut Context::from_waker(&batch.waker)).is_ready();
                    assert_eq!(ready, batch.is_whole() || batch.gone);
                    batch.polled |= !ready;
                }
            }
            Step::Take(which) => {
                if let Some(at) = batch_at(self, which) {
                    self.take(at);
                }
            }
            Step::Abandon(which) => {
                if let Some(at) = batch_at(self, which) {
                    let batch = &mut self.batches[at];
                    // A waker that waits for a batch that is abandoned is dropped with it.
                    batch.polled &= batch.is_whole() || batch.gone;
                    batch.gone = true;
                    self.window.abandon(batch.key);
                }
            }
            Step::PollTurn(_) | Step::Leave(_) => {}
        }
    }

    fn check(&mut self) {
        self.wakes.wake();
        assert_eq!(self.window.in_flight(), self.in_flight());
        assert_eq!(self.window.stale(), self.stale);
        assert_eq!(self.window.waiting(), self.queue.len());
        for batch in &self.batches {
            assert_eq!(batch.bell.rung(), usize::from(batch.polled && batch.is_whole()), "woken once, when whole");
        }
        if let Some(first) = self.queue.front()
            && self.expected(&first.sizes, first.all) > 0
        {
            assert!(first.bell.rung() > first.heard, "there is room for the first in line, and it was told");
        }
        // A slot is held by a record in flight or by an outcome that no one has taken.
        let (slots, free_cells) = self.window.slots.audit();
        let held = self.batches.iter().filter(|batch| !(batch.gone && batch.is_whole()));
        assert_eq!(slots - free_cells, held.clone().map(|batch| batch.sizes.len()).sum::<usize>());
        let (batches, free_batches, open) = self.window.batches.audit();
        assert_eq!(batches - free_batches, held.count());
        assert_eq!(open, self.batches.iter().filter(|batch| !batch.is_whole()).count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn the_publish_window_never_leaks_a_slot_under_any_order_of_acknowledgements_timeouts_and_reconnects(
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
        // The end: those in line leave, the connection is lost, and every outcome is taken.
        while let Some(mut asker) = world.queue.pop_front() {
            world.window.leave(&mut asker.turn, &mut world.wakes);
        }
        world.step(Step::LoseAll);
        world.check();
        for which in 0..world.batches.len() {
            world.take(which);
            prop_assert!(world.batches[which].outcomes.iter().all(Option::is_some), "one outcome for each record");
        }
        prop_assert_eq!(world.window.in_flight(), (0, 0));
        prop_assert_eq!(world.window.room(), (LIMITS.messages, LIMITS.bytes));
        let (slots, free_cells) = world.window.slots.audit();
        let (batches, free_batches, open) = world.window.batches.audit();
        prop_assert_eq!((slots, batches, open, world.window.waiting()), (free_cells, free_batches, 0, 0));
    }
}
