//! What a link does by the clock: gives up publishes that are due, judges its server, and leaves it.

use super::{
    super::health::{News, Seen, TICK},
    Connection, Leaving,
};
use crate::{
    rt,
    wire::{jetstream::window::DueWakers, nats::encode},
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How long what is to be written has when the link goes to another server.
const MOVE_GRACE: Duration = Duration::from_millis(500);

impl Connection {
    /// Deadlines and health, for as long as the link lives.
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

    /// Looks at what the server did since the last tick, and does what follows from it.
    fn judge(self: &Rc<Self>) {
        let window = self.window.borrow();
        let seen = Seen {
            answered: window.answered(),
            refused: self.refusals.get(),
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
        // What is in flight would be lost with a server that stands alone; within a cluster it is answered all the same.
        let loses = seen.in_flight.0 > 0 && !self.up.borrow().as_ref().is_some_and(|up| up.server.clustered);
        if advice.go_elsewhere && !loses && self.servers.borrow().has_others() && !self.moving.replace(true) {
            rt::spawn(Rc::clone(self).go_elsewhere());
        }
    }

    fn end_what_is_over(&self, now: Instant) {
        let Some(up) = &*self.up.borrow() else { return };
        let written = self.out.borrow().is_empty() && up.writing_since.is_none();
        let idle = self.window.borrow().in_flight().0 == 0 && self.pulls.borrow().is_empty();
        let left = up.leaving.is_some_and(|leaving| now >= leaving.until || if leaving.moves { written } else { idle });
        // A broker that talks and does not read: what it does not take would gather here.
        let stuck =
            up.writing_since.is_some_and(|since| now.saturating_duration_since(since) > self.limits.ack_timeout);
        if stuck || left {
            up.guard.shut_down();
        }
    }

    /// Goes to another server, if one lets the link in: this one does not serve.
    async fn go_elsewhere(self: Rc<Self>) {
        match self.connect().await {
            // A link that has lost its connection meanwhile looks for one itself.
            Ok((server, established)) if self.is_up() => {
                tracing::warn!(
                    host = server.0,
                    port = server.1,
                    "the broker's server does not serve publishes; going to another one"
                );
                *self.standby.borrow_mut() = Some((server, established));
                if let Some(up) = &mut *self.up.borrow_mut() {
                    up.leaving = Some(Leaving { until: Instant::now() + MOVE_GRACE, moves: true });
                }
            }
            Ok(_) => {}
            Err((server, reason)) => {
                tracing::debug!(host = server.0, port = server.1, reason, "no other server to go to");
            }
        }
        self.moving.set(false);
    }
}
