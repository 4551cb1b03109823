//! What the window promises, one property a test. Any order of everything at once is in [`super::model`].

use super::{super::atomic::BatchIds, *};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

/// A waker that counts.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicUsize);

impl Bell {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (Arc::clone(&bell), Waker::from(bell))
    }

    pub(super) fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const LIMITS: WindowLimits = WindowLimits { messages: 4, bytes: 100, grant_messages: 3, waiters: 2 };
const STORED: AckOutcome = AckOutcome::Stored { sequence: 1, duplicate: false };

fn ask(sizes: &[usize]) -> WindowRequest<impl Iterator<Item = usize> + Clone> {
    WindowRequest {
        ack_mode: AckMode::PerRecord,
        once: false,
        sizes: sizes.iter().copied(),
        all: false,
        tag: 0,
        deadline_ms: 10,
    }
}

fn open(window: &mut Window, sizes: &[usize]) -> Option<(BatchKey, Vec<Token>)> {
    let mut tokens = Vec::new();
    let opened = window.open(ask(sizes), &mut tokens)?;
    assert_eq!(opened.records, tokens.len());
    Some((opened.key, tokens))
}

fn take(window: &mut Window, key: BatchKey) -> Option<Vec<AckOutcome>> {
    let mut outcomes = Vec::new();
    window.take(key, &mut outcomes).then_some(outcomes)
}

#[test]
fn a_batch_takes_what_fits_by_messages_bytes_and_grant() {
    for (sizes, expect) in [
        (&[10, 10][..], 2),
        (&[10; 9], 3),         // the grant
        (&[40, 40, 40], 2),    // the bytes
        (&[101, 1], 1),        // larger than the window: alone
        (&[usize::MAX, 1], 1), // however large
        (&[], 0),
    ] {
        let mut window = Window::new(LIMITS);
        assert_eq!(open(&mut window, sizes).map(|(_, tokens)| tokens.len()), Some(expect), "{sizes:?}");
    }
    let mut window = Window::new(LIMITS);
    open(&mut window, &[10, 10, 10]).unwrap();
    assert_eq!(window.room(), (1, 70));
    assert!(open(&mut window, &[71]).is_none(), "by bytes");
    assert_eq!(open(&mut window, &[70, 1]).unwrap().1.len(), 1);
    assert_eq!(window.room(), (0, 0));
    assert!(open(&mut window, &[0]).is_none(), "by messages");
}

#[test]
fn a_record_larger_than_the_window_goes_when_nothing_else_is_in_flight() {
    let mut window = Window::new(LIMITS);
    let (_, tokens) = open(&mut window, &[1]).unwrap();
    assert!(open(&mut window, &[101]).is_none());
    window.complete(tokens[0], STORED, &mut DueWakers::default());
    let (_, tokens) = open(&mut window, &[101]).unwrap();
    assert_eq!(window.room(), (3, 0));
    assert!(open(&mut window, &[1]).is_none());
    window.complete(tokens[0], STORED, &mut DueWakers::default());
    assert_eq!(window.in_flight(), (0, 0));
}

#[test]
fn outcomes_come_in_the_order_of_the_records_whatever_the_order_of_the_answers() {
    let mut window = Window::new(LIMITS);
    let (key, tokens) = open(&mut window, &[1, 2, 3]).unwrap();
    let outcome = |sequence| AckOutcome::Stored { sequence, duplicate: sequence == 2 };
    let mut wakes = DueWakers::default();
    for index in [2, 0] {
        assert!(window.complete(tokens[index], outcome(index as u64), &mut wakes));
        assert_eq!(take(&mut window, key), None, "not whole");
    }
    assert_eq!(window.in_flight(), (1, 2));
    window.complete(tokens[1], AckOutcome::NoResponders, &mut wakes);
    assert_eq!(take(&mut window, key), Some(vec![outcome(0), AckOutcome::NoResponders, outcome(2)]));
    assert_eq!(take(&mut window, key), None, "taken");
}

#[test]
fn a_requester_is_woken_once_when_its_batch_is_whole() {
    let mut window = Window::new(LIMITS);
    let (key, tokens) = open(&mut window, &[1, 1, 1]).unwrap();
    let (bell, waker) = Bell::new();
    let mut wakes = DueWakers::default();
    for token in tokens {
        assert!(window.poll_batch(key, &mut Context::from_waker(&waker)).is_pending());
        wakes.wake();
        assert_eq!(bell.rung(), 0);
        window.complete(token, STORED, &mut wakes);
    }
    assert_eq!(wakes.len(), 1);
    drop(wakes);
    assert_eq!(bell.rung(), 1, "what was not woken by hand is woken on drop");
    assert!(window.poll_batch(key, &mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn an_answer_that_is_late_doubled_or_not_ours_changes_nothing() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (first, tokens) = open(&mut window, &[1]).unwrap();
    assert!(!window.complete(Token::of_slot(77, 0), STORED, &mut wakes), "no such slot");
    assert!(!window.complete(Token::of_slot(0, 1), STORED, &mut wakes), "not yet");
    assert!(window.complete(tokens[0], STORED, &mut wakes));
    assert!(!window.complete(tokens[0], AckOutcome::NoResponders, &mut wakes), "twice");
    assert_eq!(take(&mut window, first), Some(vec![STORED]));
    assert!(!window.complete(tokens[0], STORED, &mut wakes), "taken");
    let (second, again) = open(&mut window, &[1]).unwrap();
    assert_eq!(again, tokens, "whatever was answered leaves its token to the next");
    assert_eq!(take(&mut window, first), None, "an old key names no new batch");
    assert_eq!(window.expire(10, &mut wakes), 1);
    assert_eq!(take(&mut window, second), Some(vec![AckOutcome::TimedOut]));
    let (third, other) = open(&mut window, &[1]).unwrap();
    assert_eq!(other[0].index(), tokens[0].index(), "the slot is used again");
    assert!(!window.complete(again[0], STORED, &mut wakes), "of one that was given up");
    assert_eq!((window.in_flight(), window.stale()), ((1, 1), 5));
    window.complete(other[0], STORED, &mut wakes);
    assert_eq!(take(&mut window, third), Some(vec![STORED]));
}

#[test]
fn what_is_asked_for_as_a_whole_is_never_cut() {
    let all = |sizes| WindowRequest { all: true, ..ask(sizes) };
    let (mut window, mut wakes, mut tokens) = (Window::new(LIMITS), DueWakers::default(), Vec::new());
    for (messages, bytes, expect) in [(3, 100, true), (4, 1, false), (1, 101, false)] {
        assert_eq!(window.can_take(messages, bytes), expect, "{messages} {bytes}");
    }
    let (other, first) = open(&mut window, &[10, 10]).unwrap();
    assert_eq!(window.open(all(&[1, 1, 1]), &mut tokens), None, "two messages fit");
    assert_eq!(window.open(all(&[40, 41]), &mut tokens), None, "80 bytes fit");
    assert_eq!(window.open(all(&[40, 40]), &mut tokens).map(|opened| opened.records), Some(2));
    // In line it is woken when there is room, and a later request stands behind it.
    let (bell, waker) = Bell::new();
    let (mut turn, mut cx) = (Ticket::default(), Context::from_waker(&waker));
    assert!(window.poll_open(&mut turn, all(&[1, 1]), &mut tokens, &mut wakes, &mut cx).is_pending());
    window.complete(first[0], STORED, &mut wakes);
    assert_eq!((wakes.len(), window.open(ask(&[1]), &mut tokens)), (0, None), "one message fits: not enough");
    window.complete(first[1], STORED, &mut wakes);
    wakes.wake();
    assert_eq!(bell.rung(), 1);
    let opened = window.poll_open(&mut turn, all(&[1, 1]), &mut tokens, &mut wakes, &mut cx);
    assert!(matches!(opened, Poll::Ready(Ok(Grant { records: 2, .. }))), "{opened:?}");
    assert_eq!(take(&mut window, other).map(|outcomes| outcomes.len()), Some(2));
}

#[test]
fn answers_to_a_batchs_own_token_go_to_its_records_in_order() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let outcome = |sequence| AckOutcome::Stored { sequence, duplicate: false };
    let open = |window: &mut Window| {
        let mut tokens = Vec::new();
        let opened = window.open(WindowRequest { ack_mode: AckMode::InOrder, ..ask(&[5, 6, 7]) }, &mut tokens).unwrap();
        assert_eq!((opened.records, tokens.len()), (3, 1), "one token for all");
        (opened.key, tokens[0])
    };
    let (first, token) = open(&mut window);
    for (sequence, left) in [(1, (2, 13)), (2, (1, 7)), (3, (0, 0))] {
        assert!(window.complete(token, outcome(sequence), &mut wakes));
        assert_eq!(window.in_flight(), left);
    }
    assert!(!window.complete(token, STORED, &mut wakes), "a fourth answer to three records");
    assert_eq!(take(&mut window, first), Some(vec![outcome(1), outcome(2), outcome(3)]));
    assert!(!window.complete(token, STORED, &mut wakes), "taken");

    let (second, same) = open(&mut window);
    assert_eq!(same, token, "whatever was answered leaves its token to the next");
    assert!(window.complete(same, outcome(4), &mut wakes));
    assert_eq!(window.expire(10, &mut wakes), 2);
    assert!(!window.complete(same, outcome(5), &mut wakes), "given up");
    assert_eq!(take(&mut window, second), Some(vec![outcome(4), AckOutcome::TimedOut, AckOutcome::TimedOut]));

    let (third, other) = open(&mut window);
    assert_ne!(other, token);
    assert!(!window.complete(same, outcome(6), &mut wakes), "an answer that is late for one that was given up");
    window.revoke(third, &mut wakes);
    assert_eq!(window.in_flight(), (0, 0));
    assert_eq!((window.slots.audit(), window.batches.audit()), ((3, 3), (1, 1, 0)));
}

/// The id of the first batch of a connection.
const NAME: &[u8] = b"x-0";

#[test]
fn c1_a_second_answer_settles_nothing_but_its_own_record() {
    for ack_mode in [AckMode::PerRecord, AckMode::InOrder] {
        let (mut window, mut wakes) = (Window::new(LIMITS), DueWakers::default());
        let open = |window: &mut Window| {
            let mut tokens = Vec::new();
            let opened = window.open(WindowRequest { ack_mode, once: true, ..ask(&[1]) }, &mut tokens).unwrap();
            (opened.key, tokens[0])
        };
        let (first, token) = open(&mut window);
        assert!(window.complete(token, STORED, &mut wakes));
        assert_eq!(take(&mut window, first), Some(vec![STORED]));
        // The old leader answers too, when the slot is in use again.
        let (second, own) = open(&mut window);
        assert_eq!(own.index(), token.index(), "the slot is used again");
        assert!(!window.complete(token, STORED, &mut wakes), "{ack_mode:?}: the answer of another record");
        assert_eq!((window.in_flight(), window.stale()), ((1, 1), 1));
        let own_outcome = AckOutcome::Stored { sequence: 2, duplicate: false };
        assert!(window.complete(own, own_outcome.clone(), &mut wakes));
        assert_eq!(take(&mut window, second), Some(vec![own_outcome]));
    }
}

#[test]
fn c1_a_second_answer_to_a_commit_settles_no_other_batch() {
    let (mut window, mut wakes, mut ids) = (Window::new(LIMITS), DueWakers::default(), BatchIds::new("x"));
    let mut open = |window: &mut Window, once| {
        let mut tokens = Vec::new();
        let opened =
            window.open(WindowRequest { ack_mode: AckMode::PerBatch, once, ..ask(&[1, 1]) }, &mut tokens).unwrap();
        window.call(opened.key, ids.next_id());
        (opened.key, tokens[0])
    };
    let stored = |first| AckOutcome::Stored { sequence: first, duplicate: false };
    let (first, token) = open(&mut window, true);
    assert!(window.committed(token, NAME, (2, 2), &mut wakes));
    assert_eq!(take(&mut window, first), Some(vec![stored(1), stored(2)]));
    let (second, own) = open(&mut window, false);
    assert!(!window.committed(token, NAME, (2, 2), &mut wakes), "its token is not in use any more");
    assert!(!window.committed(own, NAME, (2, 2), &mut wakes), "it names another batch");
    assert!(!window.committed(own, b"", (2, 2), &mut wakes), "it names no batch");
    assert_eq!((window.in_flight(), window.stale()), ((2, 2), 3));
    assert!(window.committed(own, b"x-1", (4, 2), &mut wakes));
    assert_eq!(take(&mut window, second), Some(vec![stored(3), stored(4)]));
}

/// An answer to all records of a batch.
type Answer = fn(&mut Window, Token, &mut DueWakers) -> bool;

#[test]
fn one_answer_settles_an_atomic_batch() {
    let stored = |sequence| AckOutcome::Stored { sequence, duplicate: false };
    let error = AckOutcome::Error { code: 400, err_code: 10_201, description: "twice".into() };
    let rows: [(Answer, AckOutcome); 5] = [
        (|window, token, wakes| window.committed(token, NAME, (8, 3), wakes), stored(6)),
        (|window, token, wakes| window.committed(token, NAME, (8, 2), wakes), AckOutcome::TimedOut),
        (|window, token, wakes| window.committed(token, NAME, (2, 3), wakes), AckOutcome::TimedOut),
        (|window, token, wakes| window.complete(token, STORED, wakes), AckOutcome::TimedOut),
        (
            |window, token, wakes| {
                let error = AckOutcome::Error { code: 400, err_code: 10_201, description: "twice".into() };
                window.complete(token, error, wakes)
            },
            error.clone(),
        ),
    ];
    for (answer, first) in rows {
        let (mut window, mut wakes, mut tokens) = (Window::new(LIMITS), DueWakers::default(), Vec::new());
        let opened =
            window.open(WindowRequest { ack_mode: AckMode::PerBatch, ..ask(&[5, 6, 7]) }, &mut tokens).unwrap();
        assert_eq!((opened.records, tokens.len()), (3, 1), "one token for all");
        window.call(opened.key, BatchIds::new("x").next_id());
        assert!(answer(&mut window, tokens[0], &mut wakes));
        assert_eq!(window.in_flight(), (0, 0));
        assert!(!answer(&mut window, tokens[0], &mut wakes), "twice");
        let expect = match first {
            AckOutcome::Stored { sequence, .. } => (sequence..sequence + 3).map(stored).collect(),
            other => vec![other; 3],
        };
        assert_eq!(take(&mut window, opened.key), Some(expect));
    }
    let (mut window, mut tokens) = (Window::new(LIMITS), Vec::new());
    window.open(WindowRequest { ack_mode: AckMode::InOrder, ..ask(&[5]) }, &mut tokens).unwrap();
    assert!(!window.committed(tokens[0], NAME, (1, 1), &mut DueWakers::default()), "no atomic batch");
}

#[test]
fn each_batch_has_a_deadline_of_its_own() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let mut keys = Vec::new();
    for deadline_ms in [10, 20, 5, 30] {
        keys.push(window.open(WindowRequest { deadline_ms, ..ask(&[1]) }, &mut Vec::new()).unwrap().key);
    }
    for (now_ms, expect, over) in [(4, 0, 0), (9, 1, 1), (10, 1, 2), (25, 1, 3), (25, 0, 3), (99, 1, 4)] {
        assert_eq!(window.expire(now_ms, &mut wakes), expect, "{now_ms}");
        let whole = |key: &&BatchKey| window.batches.find(**key).is_some_and(|(_, state)| state == State::Whole);
        assert_eq!(keys.iter().filter(whole).count(), over, "{now_ms}");
    }
    for key in keys {
        assert_eq!(take(&mut window, key), Some(vec![AckOutcome::TimedOut]));
    }
}

#[test]
fn what_was_in_flight_when_it_was_marked_is_told_from_what_came_later() {
    let limits = WindowLimits { messages: 20, bytes: 1_000, grant_messages: 10, waiters: 2 };
    let (mut window, mut wakes) = (Window::new(limits), DueWakers::default());
    assert_eq!(window.marked_in_flight(), 0);
    let (first, first_tokens) = open(&mut window, &[1, 1]).unwrap();
    let (_, second_tokens) = open(&mut window, &[1, 1, 1]).unwrap();
    assert_eq!(window.marked_in_flight(), 0);
    window.mark_in_flight();
    let (_, later_tokens) = open(&mut window, &[1, 1]).unwrap();
    assert_eq!((window.marked_in_flight(), window.in_flight().0), (5, 7));
    window.complete(later_tokens[0], STORED, &mut wakes);
    window.complete(second_tokens[1], STORED, &mut wakes);
    assert_eq!((window.marked_in_flight(), window.in_flight().0), (4, 5));
    for token in first_tokens {
        window.complete(token, STORED, &mut wakes);
    }
    take(&mut window, first).unwrap();
    // The place of the one that is gone is used again, by one that came later.
    open(&mut window, &[1]).unwrap();
    assert_eq!((window.marked_in_flight(), window.in_flight().0), (2, 4));
    window.mark_in_flight();
    assert_eq!(window.marked_in_flight(), 4);
    window.lose_all(&mut wakes);
    assert_eq!(window.marked_in_flight(), 0);
}

#[test]
fn a_lost_connection_ends_every_batch_and_a_refused_subject_its_own() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let batch = |window: &mut Window, tag| {
        let mut tokens = Vec::new();
        let ask = WindowRequest { tag, ..ask(&[1, 1]) };
        (window.open(ask, &mut tokens).unwrap().key, tokens)
    };
    let (first, tokens) = batch(&mut window, 1);
    let (second, _) = batch(&mut window, 2);
    window.complete(tokens[0], STORED, &mut wakes);
    assert_eq!(window.fail_subject(3, &mut wakes), 0);
    assert_eq!(window.fail_subject(1, &mut wakes), 1);
    assert_eq!(take(&mut window, first), Some(vec![STORED, AckOutcome::Refused]));
    assert_eq!(window.lose_all(&mut wakes), 2);
    assert_eq!(take(&mut window, second), Some(vec![AckOutcome::Lost, AckOutcome::Lost]));
    assert_eq!(window.lose_all(&mut wakes), 0);
}

#[test]
fn an_abandoned_batch_keeps_its_room_until_it_is_answered() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (key, tokens) = open(&mut window, &[1, 1]).unwrap();
    let (bell, waker) = Bell::new();
    assert!(window.poll_batch(key, &mut Context::from_waker(&waker)).is_pending());
    window.abandon(key);
    assert_eq!(Arc::strong_count(&bell), 2, "the window lets go of the requester at once");
    assert_eq!(window.in_flight(), (2, 2));
    assert!(window.complete(tokens[0], STORED, &mut wakes));
    assert_eq!(window.expire(10, &mut wakes), 1);
    assert_eq!(window.in_flight(), (0, 0));
    wakes.wake();
    assert_eq!(bell.rung(), 0, "no one wants to know");
    let (slots, free) = window.slots.audit();
    assert_eq!(slots, free);
    window.abandon(key);
    assert_eq!(take(&mut window, key), None);
}

#[test]
fn room_is_given_in_the_order_of_asking_and_no_one_passes_the_queue() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (_, tokens) = open(&mut window, &[25, 25, 25]).unwrap();
    let (bells, wakers): (Vec<_>, Vec<_>) = (0..3).map(|_| Bell::new()).unzip();
    let mut turns = [Ticket::default(), Ticket::default(), Ticket::default()];
    let poll = |window: &mut Window, turn: &mut Ticket, who: usize, sizes: &[usize], wakes: &mut DueWakers| {
        window.poll_open(turn, ask(sizes), &mut Vec::new(), wakes, &mut Context::from_waker(&wakers[who]))
    };
    assert!(poll(&mut window, &mut turns[0], 0, &[50, 50], &mut wakes).is_pending());
    assert!(open(&mut window, &[1]).is_none(), "there is room for it, and someone waits");
    assert!(poll(&mut window, &mut turns[1], 1, &[10], &mut wakes).is_pending());
    assert_eq!(poll(&mut window, &mut turns[2], 2, &[1], &mut wakes), Poll::Ready(Err(QueueFull)));
    assert!(!turns[2].is_waiting());

    window.complete(tokens[0], STORED, &mut wakes);
    wakes.wake();
    assert_eq!((bells[0].rung(), bells[1].rung()), (1, 0), "the first one's fifty bytes fit");
    assert!(poll(&mut window, &mut turns[1], 1, &[10], &mut wakes).is_pending(), "not its turn");
    let opened = poll(&mut window, &mut turns[0], 0, &[50, 50], &mut wakes);
    assert!(matches!(opened, Poll::Ready(Ok(Grant { records: 1, .. }))), "as much as fits");
    wakes.wake();
    assert_eq!(bells[1].rung(), 0, "no room for ten bytes");
    assert!(poll(&mut window, &mut turns[0], 0, &[50], &mut wakes).is_pending(), "again, at the end");
    window.complete(tokens[1], STORED, &mut wakes);
    wakes.wake();
    assert_eq!((bells[0].rung(), bells[1].rung()), (1, 1));
    assert!(poll(&mut window, &mut turns[1], 1, &[10], &mut wakes).is_ready());
    assert_eq!(window.waiting(), 1);
}

#[test]
fn whoever_leaves_the_queue_makes_room_for_the_next() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (_, tokens) = open(&mut window, &[90]).unwrap();
    let (bells, wakers): (Vec<_>, Vec<_>) = (0..2).map(|_| Bell::new()).unzip();
    let mut turns = [Ticket::default(), Ticket::default()];
    for (turn, (waker, bytes)) in turns.iter_mut().zip(wakers.iter().zip([20, 5])) {
        let mut cx = Context::from_waker(waker);
        assert!(window.poll_open(turn, ask(&[bytes]), &mut Vec::new(), &mut wakes, &mut cx).is_pending());
    }
    wakes.wake();
    assert_eq!((bells[0].rung(), bells[1].rung()), (0, 0));
    window.leave(&mut turns[0], &mut wakes);
    wakes.wake();
    assert_eq!((bells[0].rung(), bells[1].rung()), (0, 1), "five bytes fit");
    window.leave(&mut turns[0], &mut wakes);
    window.leave(&mut turns[1], &mut wakes);
    assert_eq!(window.waiting(), 0);
    window.complete(tokens[0], STORED, &mut wakes);
    assert!(wakes.is_empty());
}

#[test]
fn what_counts_of_someone_in_line_is_what_was_asked_last() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (_, tokens) = open(&mut window, &[50, 40]).unwrap();
    let ((first, old), (second, new)) = (Bell::new(), Bell::new());
    let mut turn = Ticket::default();
    for (bytes, waker) in [(20, &old), (60, &new)] {
        let mut cx = Context::from_waker(waker);
        assert!(window.poll_open(&mut turn, ask(&[bytes]), &mut Vec::new(), &mut wakes, &mut cx).is_pending());
    }
    window.complete(tokens[1], STORED, &mut wakes);
    wakes.wake();
    assert_eq!((first.rung(), second.rung()), (0, 0), "fifty bytes are free, sixty are wanted");
    window.complete(tokens[0], STORED, &mut wakes);
    wakes.wake();
    assert_eq!((first.rung(), second.rung()), (0, 1), "the waker of the last poll");
}

#[test]
fn a_window_in_steady_use_makes_no_new_cells() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (mut tokens, mut outcomes) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        tokens.clear();
        let key = window.open(ask(&[1, 1, 1]), &mut tokens).unwrap().key;
        for token in &tokens {
            window.complete(*token, STORED, &mut wakes);
        }
        assert!(window.take(key, &mut outcomes));
    }
    assert_eq!(outcomes.len(), 3_000);
    assert_eq!((window.slots.audit(), window.batches.audit()), ((3, 3), (1, 1, 0)));
}

#[test]
fn generations_may_wrap() {
    let mut window = Window::new(LIMITS);
    let mut wakes = DueWakers::default();
    let (key, old) = open(&mut window, &[1]).unwrap();
    window.lose_all(&mut wakes);
    take(&mut window, key).unwrap();
    window.slots.age(u32::MAX - 1);
    for _ in 0..3 {
        let (key, tokens) = open(&mut window, &[1]).unwrap();
        let text = tokens[0].text();
        assert!(window.complete(Token::parse(text.as_bytes()).unwrap(), STORED, &mut wakes));
        take(&mut window, key).unwrap();
    }
    assert!(!window.complete(old[0], STORED, &mut wakes));
}
