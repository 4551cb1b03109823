//! The timed work of a connection: it gives up publishes that are due, and judges its server.

use super::{
    Connection,
    health::{News, Seen, TICK},
};
use crate::{
    rt::{self, clock},
    wire::nats::encode,
};
use std::{rc::Rc, time::Instant};

impl Connection {
    /// Watches deadlines and health, for as long as the connection lives.
    pub(super) async fn tick(self: Rc<Self>) {
        while !self.stopping.get() {
            rt::sleep(TICK).await;
            self.jetstream.expire();
            self.judge();
            self.end_what_is_over(clock::now());
        }
    }

    /// Looks at what the server did since the last tick, and acts on it.
    fn judge(self: &Rc<Self>) {
        let seen = Seen { requests: self.bus.is_waiting(), ..self.jetstream.seen(self.heard.replace(false)) };
        let mut health = self.health.borrow_mut();
        let advice = health.tick(seen, self.is_up());
        self.jetstream.patience.set(health.patience().min(self.limits.ack_timeout));
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
            if self.is_connected() {
                tracing::warn!("the broker's server is silent; connecting to another one");
            }
            self.shut_down();
        } else if advice.ping {
            encode::ping(&mut self.out.append());
        }
        if advice.served {
            self.servers.borrow_mut().served();
        }
        self.leave(advice.go_elsewhere, seen.in_flight.0 > 0);
    }

    fn end_what_is_over(&self, now: Instant) {
        let Some(up) = &*self.up.borrow() else { return };
        // A broker that sends and does not read: the output would gather here.
        let stuck =
            up.writing_since.is_some_and(|since| now.saturating_duration_since(since) > self.limits.ack_timeout);
        if stuck || self.is_left(up, now) {
            up.guard.shut_down();
        }
    }
}
