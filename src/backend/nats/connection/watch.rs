//! The timed work of a connection: it gives up publishes that are due, judges its server, and leaves it.

use super::{
    Connection, LAME_DUCK_GRACE, Leaving,
    connect::Established,
    health::{News, Seen, TICK},
    servers::Address,
};
use crate::{
    backend::nats::fetch::Pull,
    limits::REPUBLISH_AFTER,
    rt,
    wire::{jetstream::window::DueWakers, nats::encode},
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How long what is to be written has when the connection moves to another server.
const MOVE_GRACE: Duration = Duration::from_millis(500);

impl Connection {
    /// Watches deadlines and health, for as long as the connection lives.
    pub(super) async fn tick(self: Rc<Self>) {
        while !self.stopping.get() {
            rt::sleep(TICK).await;
            let mut wakes = DueWakers::default();
            let expired = self.window.borrow_mut().expire(self.now_ms(), &mut wakes);
            self.unanswered.set(self.unanswered.get() + expired as u64);
            drop(wakes);
            self.judge();
            self.end_what_is_over(Instant::now());
        }
    }

    /// Looks at what the server did since the last tick, and acts on it.
    fn judge(self: &Rc<Self>) {
        let window = self.window.borrow();
        let seen = Seen {
            answered: window.answered(),
            refused: self.refusals.get(),
            undecided: self.undecided.get(),
            unanswered: self.unanswered.get(),
            in_flight: window.in_flight(),
            heard: self.heard.replace(false),
        };
        drop(window);
        let mut health = self.health.borrow_mut();
        let advice = health.tick(seen, self.is_up());
        self.patience.set(health.patience().min(self.limits.ack_timeout));
        self.metrics.link_failing.set(u64::from(health.is_failing()));
        drop(health);
        match advice.news {
            Some(News::Failing) => tracing::warn!(
                "publishes fail for the moment: no stream or no leader takes them, or no answer comes; they are published again"
            ),
            Some(News::Working { refused, unanswered, lasted }) => {
                tracing::warn!(refused, unanswered, seconds = lasted.as_secs_f32(), "publishes work again");
            }
            None => {}
        }
        if advice.give_up {
            if let Some(up) = &*self.up.borrow() {
                tracing::warn!("the broker's server is silent; connecting to another one");
                up.guard.shut_down();
            }
        } else if advice.ping {
            encode::ping(&mut self.out.borrow_mut());
            self.flush();
        }
        if advice.served {
            self.servers.borrow_mut().served();
        }
        self.leave(advice.go_elsewhere, seen.in_flight.0 > 0);
    }

    /// Looks for another server where this one is about to stop, or does not serve.
    fn leave(self: &Rc<Self>, barren: bool, in_flight: bool) {
        let mut up = self.up.borrow_mut();
        let Some(up) = up.as_mut().filter(|up| up.leaving.is_none()) else { return };
        let others = self.servers.borrow().others() > 0;
        // The records in flight would be lost with a server that stands alone; within a cluster they are answered all
        // the same.
        let stays = !others || (in_flight && !up.server.clustered);
        if up.stops && (stays || !up.server.clustered) {
            up.leaving = Some(Leaving::at_its_end());
        } else if (barren || up.stops) && !stays && !self.moving.replace(true) {
            rt::spawn(Rc::clone(self).go_elsewhere());
        }
    }

    fn end_what_is_over(&self, now: Instant) {
        let Some(up) = &*self.up.borrow() else { return };
        let written = self.out.borrow().is_empty() && up.writing_since.is_none();
        // A server that does not serve answers consume calls no more than publishes.
        let unasked = !up.stops || self.pulls.borrow().is_empty();
        let idle = self.window.borrow().in_flight().0 == 0;
        let left = up.leaving.is_some_and(|leaving| now >= leaving.until || leaving.is_over(written, idle, unasked));
        // A broker that sends and does not read: the output would gather here.
        let stuck =
            up.writing_since.is_some_and(|since| now.saturating_duration_since(since) > self.limits.ack_timeout);
        if stuck || left {
            up.guard.shut_down();
        }
    }

    /// Moves to another server, if one accepts a connection. Until then publishes go to this one, whatever it does with
    /// them.
    async fn go_elsewhere(self: Rc<Self>) {
        let others = self.servers.borrow().others();
        for _ in 0..others {
            let Some(server) = self.servers.borrow_mut().next_elsewhere() else { break };
            let found = self.let_in(server).await;
            // A connection that is down meanwhile looks for a server itself.
            if !self.is_up() {
                break;
            }
            match found {
                Ok((server, established)) => {
                    self.move_to(server, established);
                    break;
                }
                Err((server, reason)) => {
                    tracing::debug!(host = server.0, port = server.1, reason, "no other server to go to");
                }
            }
        }
        if let Some(up) = self.up.borrow_mut().as_mut().filter(|up| up.stops && up.leaving.is_none()) {
            up.leaving = Some(Leaving::at_its_end());
        }
        self.moving.set(false);
    }

    /// Takes a new connection that stands by: the present one is ended, and the new one follows it.
    fn move_to(&self, server: Address, established: Established) {
        let mut up = self.up.borrow_mut();
        let Some(up) = up.as_mut() else { return };
        if !up.stops {
            tracing::warn!(
                host = server.0,
                port = server.1,
                "the broker's server does not serve publishes; going to another one"
            );
        }
        *self.standby.borrow_mut() = Some((server, established));
        up.leaving = Some(Leaving { until: Instant::now() + MOVE_GRACE, moves: true });
        if up.stops {
            // Messages for them would not come over the next connection.
            self.pulls.borrow().values().for_each(Pull::end_wait);
        }
    }

    /// Gives up the records with a message id that were sent to a server that does not serve: they are published again
    /// at once. (So is a record without one given up that has waited for nearly all of its time.)
    pub(super) fn give_up_what_goes_again(&self, wakes: &mut DueWakers) {
        let soon = u64::try_from(REPUBLISH_AFTER.as_millis()).unwrap_or(0);
        let expired = self.window.borrow_mut().expire(self.now_ms() + soon, wakes);
        self.unanswered.set(self.unanswered.get() + expired as u64);
    }

    /// Returns how many records were sent, but for those that were lost with a connection.
    pub(super) fn sent(&self) -> u64 {
        let window = self.window.borrow();
        window.answered() + self.unanswered.get() + window.in_flight().0 as u64
    }
}

impl Leaving {
    /// How to leave a server that is about to stop where no other one accepts a connection.
    fn at_its_end() -> Self {
        Self { until: Instant::now() + LAME_DUCK_GRACE, moves: false }
    }

    /// Returns whether nothing would be lost any more. `written`: everything was sent; `idle`: no publish waits for its
    /// answer; `unasked`: no consume call waits for messages.
    fn is_over(self, written: bool, idle: bool, unasked: bool) -> bool {
        unasked && if self.moves { written } else { idle }
    }
}
