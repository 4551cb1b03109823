//! The bus: requests and subscriptions over the broker, on the connection that publishes go over.
//!
//! Everything is bounded: requests in flight, their time, what is kept of their replies; subscriptions, and what is
//! queued for each and for all of them. Whatever waits here when the connection is lost ends at once, with
//! [`Failure::Lost`]; nothing is sent again or subscribed to anew, since only the caller knows what it has missed.
//!
//! Replies come to one inbox of the connection. The last token of their subject is the number of the request, which is
//! never used again: a reply that comes late, or a second time, finds nobody.

mod request;
mod subscription;
#[cfg(test)]
mod tests;

use super::{connection::Incoming, slab::Slab};
use crate::{limits::NATS_CONTROL_LINE_BYTES_MAX, wire::nats::encode};
use request::Pending;
use std::{
    cell::{Cell, RefCell},
    error, fmt,
    rc::Rc,
};

pub(super) use subscription::Queue;
pub use {
    request::{Gathered, Replies, Reply, ReplySpans, Request, Verdict},
    subscription::{Received, Subscription},
};

/// Why a request got no answer, or not the whole of it; or why a subscription was not made, or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection to the broker for the whole hold, or the whole of the request's time: nothing was sent.
    Away,
    /// As many requests are in flight as may be, or as many subscriptions there; or the broker does not read. Nothing was
    /// sent.
    Full,
    /// What cannot be sent as a subject, or is too long for one.
    Subject,
    /// Larger than the broker takes, which is so many bytes.
    TooLarge(usize),
    /// The broker's permissions forbid the gateway this subject.
    Forbidden(Box<str>),
    /// Nobody listens on the subject.
    NoResponders,
    /// Someone may listen, and has not answered in time.
    TimedOut,
    /// The connection was lost while the answer was waited for, or with the subscription.
    Lost,
    /// Messages came faster than the subscriber took them, and one would have been lost.
    Slow,
    /// More replies came than were asked for, or larger ones.
    Overrun,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Away => "the broker is away, nothing was sent: try again later",
            Self::Full => "too many requests or subscriptions at the broker, nothing was sent: try again later",
            Self::Subject => "the subject is empty, too long, or has an empty token, white space or a line end in it",
            Self::TooLarge(max) => {
                return write!(formatter, "the broker takes no message of more than {max} bytes (max_payload)");
            }
            Self::Forbidden(subject) => {
                return write!(formatter, "the broker's permissions forbid the gateway the subject {subject}");
            }
            Self::NoResponders => "nobody listens on the subject",
            Self::TimedOut => "no answer came in time",
            Self::Lost => "the connection to the broker was lost",
            Self::Slow => "messages came faster than they were taken: subscribe anew",
            Self::Overrun => "more was answered than there is room for",
        };
        formatter.write_str(text)
    }
}

impl error::Error for Failure {}

/// The bus of one connection.
#[derive(Debug, Default)]
pub(super) struct Bus {
    requests: RefCell<Slab<Rc<Pending>>>,
    /// Subscribers, those included whose subscription has ended and who do not know it yet.
    subscriptions: Cell<usize>,
    /// Bytes that wait for all of them.
    queued: Rc<Cell<usize>>,
}

impl Bus {
    /// Takes a reply. `token`: the last one of its subject.
    pub(super) fn replied(&self, token: &[u8], message: &Incoming<'_>) {
        let number = std::str::from_utf8(token).ok().and_then(|digits| digits.parse().ok());
        if let Some(number) = number
            && let Some(request) = self.requests.borrow().get(number)
        {
            request.replied(message);
        }
    }

    /// Returns whether answers are waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.requests.borrow().len() > 0
    }

    /// Ends the requests on a subject that the broker forbids to publish on.
    pub(super) fn forbidden(&self, subject: &str) {
        for (_, request) in self.requests.borrow().iter().filter(|(_, request)| request.is_on(subject)) {
            request.fail(Failure::Forbidden(subject.into()));
        }
    }

    /// Ends every request: the connection is lost. (Subscriptions are ended by their table.)
    pub(super) fn lost(&self) {
        // They are not found any more, whatever comes over the next connection.
        for request in self.requests.borrow_mut().extract(|_| true) {
            request.fail(Failure::Lost);
        }
    }
}

/// Returns whether the text can be published on: the broker would close the connection over other texts, or pass them over
/// in silence.
fn is_subject(text: &str) -> bool {
    is_pattern(text) && !text.split('.').any(|token| matches!(token, "*" | ">"))
}

/// Returns whether the text can be subscribed to.
fn is_pattern(text: &str) -> bool {
    let mut tokens = text.rsplit('.');
    let last = tokens.next().unwrap_or_default();
    encode::is_subject(text.as_bytes()) && !last.is_empty() && tokens.all(|token| !matches!(token, "" | ">"))
}

/// Returns whether a control line with these words is short enough for the broker, which else closes the connection.
fn fits_a_line(words: &[&str]) -> bool {
    /// A few numbers, and the blanks between all of them.
    const REST_BYTES: usize = 48;
    words.iter().map(|word| word.len()).sum::<usize>() + REST_BYTES <= NATS_CONTROL_LINE_BYTES_MAX
}
