//! Leaving a server: it is about to stop (lame duck), or it does not serve and another one may.
//!
//! A connection to the next server is made while the present one serves. Only then is the present one left: what is
//! under way is finished first, as far as it can be.

use super::{super::fetch::Pull, Connection, Up, connect::Established, servers::Address};
use crate::rt::{self, clock};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How long publishes in flight have when the server says that it is about to stop, and there is no other one.
const LAME_DUCK_GRACE: Duration = Duration::from_secs(2);
/// How long what is to be written has when the connection moves to another server.
const MOVE_GRACE: Duration = Duration::from_millis(500);

/// How a connection ends before it is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// It ends at this time at the latest.
    until: Instant,
    /// The next connection stands by. (Else the server is about to stop.)
    moves: bool,
}

impl Connection {
    /// Looks for another server where this one is about to stop, or does not serve.
    pub(super) fn leave(self: &Rc<Self>, barren: bool, in_flight: bool) {
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
        up.leaving = Some(Leaving { until: clock::now() + MOVE_GRACE, moves: true });
        if up.stops {
            // Messages for them would not come over the next connection.
            self.subscriptions.borrow().pulls().for_each(Pull::end_wait);
        }
    }

    /// Returns whether the server is being left, and may be lost now.
    pub(super) fn is_left(&self, up: &Up, now: Instant) -> bool {
        let Some(leaving) = up.leaving else { return false };
        let written = self.out.is_empty() && up.writing_since.is_none();
        // A server that does not serve answers consume calls no more than publishes.
        let unasked = !up.stops || (self.subscriptions.borrow().pulls().next().is_none() && !self.bus.is_waiting());
        now >= leaving.until || leaving.is_over(written, !self.jetstream.is_waiting(), unasked)
    }
}

impl Up {
    /// Returns whether the connection goes from one server of a cluster to another: what was sent here may be answered
    /// there.
    pub(super) fn moves_within_a_cluster(&self) -> bool {
        self.server.clustered && self.leaving.is_some_and(|leaving| leaving.moves)
    }
}

impl Leaving {
    /// How to leave a server that is about to stop where no other one accepts a connection.
    fn at_its_end() -> Self {
        Self { until: clock::now() + LAME_DUCK_GRACE, moves: false }
    }

    /// Returns whether nothing would be lost any more. `written`: everything was sent; `idle`: no publish waits for its
    /// answer; `unasked`: no consume call waits for messages, and no request for its answer.
    fn is_over(self, written: bool, idle: bool, unasked: bool) -> bool {
        unasked && if self.moves { written } else { idle }
    }
}
