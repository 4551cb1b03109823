//! The JetStream duty of a connection: publishes in flight and their answers, and what consume calls pull.

use super::{
    connection::{Incoming, Seen},
    publish::{Scratch, tag_of},
};
use crate::{
    limits::{Limits, REPUBLISH_AFTER, WINDOW_GRANT_MESSAGES, WINDOW_WAITERS_MAX},
    metrics::ShardMetrics,
    rt::clock,
    wire::{
        jetstream::{
            AckOutcome, BatchIds, PubAck, Token, Window,
            acks::{Acks, PlainAck},
            errors, puback,
            window::{DueWakers, WindowLimits},
        },
        nats::headers,
    },
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Where acknowledgements of delivered messages go. A message whose reply subject is elsewhere is not JetStream's.
const ACK_SUBJECTS: &[u8] = b"$JS.ACK.";

/// The publishes and consume calls of one connection.
#[derive(Debug)]
pub(super) struct JetStream {
    metrics: Arc<ShardMetrics>,
    /// Where the window's clock began.
    epoch: Instant,
    /// Acknowledgements come to `<inbox><token>`.
    inbox: Rc<str>,
    pub(super) window: RefCell<Window>,
    /// Buffers that publishes in flight do not need at the moment.
    pub(super) scratch: RefCell<Vec<Scratch>>,
    pub(super) batch_ids: RefCell<BatchIds>,
    acks: RefCell<Acks>,
    /// Consume calls so far.
    calls: Cell<u64>,
    /// Answers that said "not now": a record that is sent behind them would be stored before the one that they were
    /// for.
    pub(super) refusals: Cell<u64>,
    /// Answers that say neither that the server serves nor that it does not.
    undecided: Cell<u64>,
    /// Publishes that were given up unanswered.
    pub(super) unanswered: Cell<u64>,
    /// Those of them that were sent before the connection stood.
    unanswered_before: Cell<u64>,
    /// How long a record with a message id waits for its answer from a cluster before it may be published again.
    pub(super) patience: Cell<Duration>,
}

impl JetStream {
    /// An empty window. Acknowledgements come below `inbox`, to subscription `sid`; `identity` makes batch ids unique.
    pub(super) fn new(
        limits: &Limits,
        metrics: Arc<ShardMetrics>,
        (inbox, sid): (Rc<str>, u64),
        identity: &str,
    ) -> Self {
        metrics.window_messages_limit.set(limits.window_messages_max as u64);
        metrics.window_bytes_limit.set(limits.window_bytes_max as u64);
        let window = Window::new(WindowLimits {
            messages: limits.window_messages_max,
            bytes: limits.window_bytes_max,
            grant_messages: WINDOW_GRANT_MESSAGES,
            waiters: WINDOW_WAITERS_MAX,
        });
        Self {
            metrics,
            epoch: clock::now(),
            acks: RefCell::new(Acks::new(&inbox, sid)),
            inbox,
            window: RefCell::new(window),
            scratch: RefCell::default(),
            batch_ids: RefCell::new(BatchIds::new(identity)),
            calls: Cell::new(0),
            refusals: Cell::new(0),
            undecided: Cell::new(0),
            unanswered: Cell::new(0),
            unanswered_before: Cell::new(0),
            patience: Cell::new(REPUBLISH_AFTER),
        }
    }

    /// Returns the milliseconds of the window's clock.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(clock::since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts a consume call. Returns how many there were before it.
    pub(super) fn count_call(&self) -> u64 {
        self.calls.replace(self.calls.get().wrapping_add(1))
    }

    /// Takes the acknowledgement at the front of the receive buffer, if it is there whole and a plain one. Returns its
    /// bytes.
    ///
    /// Nearly all that the broker sends to a publisher is taken here, before anything is parsed or looked up.
    #[inline]
    pub(super) fn plain_acknowledgement(&self, front: &[u8], wakes: &mut DueWakers) -> Option<usize> {
        let PlainAck { token, sequence, consumed } = self.acks.borrow_mut().next(front)?;
        self.window.borrow_mut().complete(token, AckOutcome::Stored { sequence, duplicate: false }, wakes);
        Some(consumed)
    }

    /// Takes any other answer to a publish.
    pub(super) fn answered(&self, message: &Incoming<'_>, wakes: &mut DueWakers) {
        let Some(token) = Token::of_subject(message.subject, self.inbox.as_bytes()) else { return };
        let status = headers::status(message.headers).map(|status| status.code);
        if status == Some(headers::NO_RESPONDERS) {
            let answered = self.complete(token, AckOutcome::NoResponders, wakes);
            self.refusals.set(self.refusals.get() + answered);
            return;
        }
        let payload = message.payload;
        let outcome = match puback::parse(payload) {
            Some(PubAck::Stored { sequence, count: Some(count), batch, .. }) => {
                self.window.borrow_mut().committed(token, batch.of(payload), (sequence, count), wakes);
                return;
            }
            Some(PubAck::Stored { sequence, duplicate, count: None, .. }) => AckOutcome::Stored { sequence, duplicate },
            Some(PubAck::Error { code, err_code, description }) => {
                let description = puback::description_text(payload, description);
                let answered = self.complete(token, AckOutcome::Error { code, err_code, description }, wakes);
                if errors::is_for_the_moment(code, err_code) {
                    self.refusals.set(self.refusals.get() + answered);
                } else if errors::is_said_without_a_cluster(code, err_code) {
                    self.undecided.set(self.undecided.get() + answered);
                }
                return;
            }
            // This is no acknowledgement: nothing is known of the record until its deadline passes.
            Some(PubAck::BatchStarted) | None => return,
        };
        self.complete(token, outcome, wakes);
    }

    /// Handles an answer. Returns how many records in flight it was for: those of a batch have one.
    fn complete(&self, token: Token, outcome: AckOutcome, wakes: &mut DueWakers) -> u64 {
        let mut window = self.window.borrow_mut();
        let before = window.answered();
        window.complete(token, outcome, wakes);
        window.answered() - before
    }

    /// Reports the window after a read.
    pub(super) fn report(&self) {
        let window = self.window.borrow();
        let (messages, bytes) = window.in_flight();
        let unmatched = &self.metrics.acknowledgements_unmatched;
        unmatched.add(window.stale() - unmatched.get());
        self.metrics.window_messages.set(messages as u64);
        self.metrics.window_bytes.set(bytes as u64);
    }

    /// Ends the publishes on a subject that the broker forbids.
    pub(super) fn forbidden(&self, subject: &str, wakes: &mut DueWakers) {
        self.window.borrow_mut().fail_subject(tag_of(subject), wakes);
    }

    /// Gives up the publishes whose time is over.
    pub(super) fn expire(&self) {
        self.give_up_due_within(Duration::ZERO, &mut DueWakers::default());
    }

    /// Gives up the records with a message id that were sent to a server that does not serve: they are published again
    /// at once. (So is a record without one given up that has waited for nearly all of its time.)
    pub(super) fn give_up_what_goes_again(&self, wakes: &mut DueWakers) {
        self.give_up_due_within(REPUBLISH_AFTER, wakes);
    }

    fn give_up_due_within(&self, time: Duration, wakes: &mut DueWakers) {
        let due_ms = self.now_ms() + u64::try_from(time.as_millis()).unwrap_or(0);
        let mut window = self.window.borrow_mut();
        let before = window.marked_in_flight();
        let expired = window.expire(due_ms, wakes);
        let expired_before = before.saturating_sub(window.marked_in_flight());
        self.unanswered.set(self.unanswered.get() + expired as u64);
        self.unanswered_before.set(self.unanswered_before.get() + expired_before as u64);
    }

    /// Notes that a new connection stands. Returns how many records were sent before it, but for those that were lost with
    /// a connection.
    pub(super) fn connected(&self) -> u64 {
        let mut window = self.window.borrow_mut();
        window.mark_in_flight();
        window.answered() + self.unanswered.get() + window.in_flight().0 as u64
    }

    /// Ends every publish in flight: the connection is lost, and whether they are stored is not known.
    pub(super) fn lost(&self, wakes: &mut DueWakers) {
        self.window.borrow_mut().lose_all(wakes);
    }

    /// Returns whether a publish waits for its answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.window.borrow().in_flight().0 > 0
    }

    /// Returns what was counted so far of publishes. `heard`: whether anything was received since this was asked before.
    pub(super) fn seen(&self, heard: bool) -> Seen {
        let window = self.window.borrow();
        Seen {
            answered: window.answered(),
            refused: self.refusals.get(),
            undecided: self.undecided.get(),
            unanswered: self.unanswered.get(),
            unanswered_before: self.unanswered_before.get(),
            in_flight: window.in_flight(),
            in_flight_before: window.marked_in_flight(),
            heard,
            requests: false,
        }
    }
}

/// Returns whether the message may be one for a pull, or the broker's own word on it.
pub(super) fn is_pulled(message: &Incoming<'_>) -> bool {
    message.reply.is_empty() || message.reply.starts_with(ACK_SUBJECTS)
}
