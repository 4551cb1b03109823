//! The bus: requests and their replies over the broker, on the connection that publishes go over.
//!
//! Everything is bounded: requests in flight, their time, and what is kept of their replies. Whatever waits here when
//! the connection is lost ends at once, with [`Failure::Lost`]; nothing is sent again, since only the caller knows
//! whether it may be.
//!
//! Replies come to one inbox of the connection. The last token of their subject is the number of the request, which is
//! never used again: a reply that comes late, or a second time, finds nobody.

mod request;
#[cfg(test)]
mod tests;

use super::{connection::Incoming, slab::Slab};
use crate::{
    limits::NATS_CONTROL_LINE_BYTES_MAX,
    reject::{Reject, SizeLimit},
    wire::nats::{ServerError, encode, server_error::PermissionAction},
};
use request::Pending;
use std::{cell::RefCell, error, fmt, rc::Rc};

pub use request::{Gathered, Replies, Reply, ReplySpans, Request, Verdict};

/// Why a request got no answer, or not the whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection to the broker for the whole hold, or the whole of the request's time: nothing was sent.
    Away,
    /// As many requests are in flight as may be, or the broker does not read: nothing was sent.
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
    /// The connection was lost while the answer was waited for.
    Lost,
    /// More replies came than were asked for, or larger ones.
    Overrun,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Away => "the broker is away, nothing was sent: try again later",
            Self::Full => "too many requests to the broker are in flight, nothing was sent: try again later",
            Self::Subject => "the subject is empty, too long, or has an empty token, white space or a line end in it",
            Self::TooLarge(max) => {
                return write!(formatter, "the broker takes no message of more than {max} bytes (max_payload)");
            }
            Self::Forbidden(subject) => {
                return write!(formatter, "the broker's permissions forbid the gateway the subject {subject}");
            }
            Self::NoResponders => "nobody listens on the subject",
            Self::TimedOut => "no answer came in time",
            Self::Lost => "the connection to the broker was lost while the answer was waited for",
            Self::Overrun => "more was answered than there is room for",
        };
        formatter.write_str(text)
    }
}

impl error::Error for Failure {}

impl From<Failure> for Reject {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away | Failure::Lost => Self::BrokerAway,
            Failure::Full => Self::Overloaded("requests to the broker"),
            Failure::Subject => Self::Internal("a subject that cannot be sent"),
            Failure::TooLarge(max) => Self::TooLarge(SizeLimit::Record, max as u64),
            Failure::Forbidden(subject) => Self::BrokerForbidden(subject),
            Failure::NoResponders => Self::NoStream,
            Failure::TimedOut => Self::BrokerBusy,
            Failure::Overrun => Self::BrokerFailed("its answer is larger than was asked for".into()),
        }
    }
}

/// The bus of one connection.
#[derive(Debug, Default)]
pub(super) struct Bus {
    requests: RefCell<Slab<Rc<Pending>>>,
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

    /// Ends the requests that the broker refuses to carry.
    pub(super) fn forbidden(&self, error: &ServerError) {
        let ServerError::PermissionsViolation { action: PermissionAction::Publish, subject } = error else { return };
        for (_, request) in self.requests.borrow().iter().filter(|(_, request)| request.is_on(subject)) {
            request.fail(Failure::Forbidden(subject.clone()));
        }
    }

    /// Ends everything: the connection is lost.
    pub(super) fn lost(&self) {
        // They are not found any more, whatever comes over the next connection.
        for request in self.requests.borrow_mut().extract(|_| true) {
            request.fail(Failure::Lost);
        }
    }
}

/// Returns whether the broker takes the text as a subject: else it would close the connection, or pass it over in silence.
fn is_sound(subject: &str) -> bool {
    encode::is_subject(subject.as_bytes()) && subject.split('.').all(|token| !token.is_empty())
}

/// Returns whether a control line with these words is short enough for the broker, which else closes the connection.
fn fits_a_line(words: &[&str]) -> bool {
    /// A few numbers, and the blanks between all of them.
    const REST_BYTES: usize = 48;
    words.iter().map(|word| word.len()).sum::<usize>() + REST_BYTES <= NATS_CONTROL_LINE_BYTES_MAX
}
