//! Every way in which a request can fail: whose fault it is, and whether sending it again is safe.
//!
//! One closed enum. Each dialect turns it into its own bytes with an exhaustive match, so a new
//! variant does not compile until every dialect has decided what it looks like on the wire.
//!
//! "Safe to retry" means: the same bytes sent again can succeed, and whatever the first attempt
//! stored is either nothing, or unknown (then only a message id makes the second attempt store
//! nothing twice, and the answer says so).

mod text;

use std::time::Duration;

/// Who has to change something for the request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong: 4xx, and again 4xx if it is repeated.
    Client,
    /// The request is right and not allowed.
    Policy,
    /// The gateway or the broker is full: later.
    Overload,
    /// The broker or the store is away, or its answer did not come.
    Upstream,
    /// The gateway is wrong.
    Bug,
}

/// What a principal wants to do with a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Put records in.
    Produce,
    /// Hand records out.
    Consume,
}

impl Action {
    /// The word used in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Produce => "produce to",
            Self::Consume => "consume from",
        }
    }
}

/// Which size limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimit {
    /// Body as sent.
    Body,
    /// Body after its `Content-Encoding` was undone.
    Inflated,
    /// One record, with its stored headers: the broker's `max_payload` or the stream's limit.
    Record,
    /// Records in one batch.
    BatchRecords,
    /// Headers to be stored with a record.
    RecordHeaders,
}

/// What is wrong with a name (station, consumer group, user), in the words of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// Nothing there.
    Empty,
    /// More than 128 characters.
    TooLong,
    /// Something other than letters, digits, `_`, `-`, `.`.
    Characters,
    /// Begins or ends with `_`, `-` or `.`.
    Ends,
}

/// Why a request, or one record of it, was not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    // The request is not HTTP as RFC 9112 wants it. The connection closes after the answer.
    /// Framing or syntax; the text says which rule.
    Malformed(&'static str),
    /// HTTP/2 or something else that is not 1.x.
    Version,
    /// Request line and fields exceed the limit.
    HeadTooLarge,
    /// `Expect` other than `100-continue`.
    Expectation,
    /// A `Transfer-Encoding` that ends in `chunked` and names another coding before it (501, RFC 9112, section 6.1).
    TransferCoding,
    /// The request did not arrive in time.
    RequestTimeout,

    // The request is HTTP, and wrong.
    /// The route exists, the method does not; the methods that do.
    MethodNotAllowed(&'static str),
    /// A size limit, its value in bytes (or records).
    TooLarge(SizeLimit, u64),
    /// `Content-Type` the route does not take.
    MediaType,
    /// `Content-Encoding` that is not supported.
    ContentEncoding,
    /// The body does not decode as its `Content-Encoding` says.
    CorruptEncoding(&'static str),
    /// The body is not JSON: byte offset and reason.
    Json {
        /// Offset in the decoded body.
        offset: u64,
        /// What was expected or found.
        reason: &'static str,
    },
    /// A line of the body, or a text of a sequence, is wrong: its number, counted from 1, and why.
    Line(u64, Box<Reject>),
    /// The body is JSON and not what the route takes; the text says what it takes.
    Body(&'static str),
    /// A required field is missing or a field has a wrong value or type; the dialect's own text.
    Field(&'static str),
    /// A name that the rules refuse: what it names ("Station", "Consumer") and why.
    Name(&'static str, NameFault),
    /// A message id that cannot be a header value, or stands in the way of all or nothing.
    MessageId(&'static str),
    /// The record is not what the station's schema says: what is wrong and where.
    Schema(Box<str>),
    /// All or nothing was asked for and is not possible here; the text says why.
    NotAtomic(&'static str),
    /// All or nothing was asked for more records than can be stored so at a time: this many.
    TooManyForWhole(u32),
    /// All or nothing was asked for, and another record of the request failed: nothing was stored.
    NothingStored,

    // Who asks.
    /// No credential, a wrong one, an expired one. Says no more than that.
    Unauthorized,
    /// The principal may not do this to this station; the text says who, what and which.
    Forbidden(Box<str>),
    /// There is no such station and it is not created by itself.
    StationUnknown(Box<str>),
    /// The station has no such partition.
    PartitionUnknown(u16),
    /// What is there stands in the way until somebody changes it (a work queue has its group, a limit of the broker is
    /// reached); the text says what, and what to do.
    Conflict(Box<str>),

    // Too much.
    /// The publish window stayed full for the whole hold.
    WindowFull,
    /// Too many wrong passwords for this name, or from this network: seconds after which a login is looked at again.
    TooManyLogins(u32),
    /// As many deliveries of this one (a consumer group, a user) wait for their acknowledgement as may.
    TooManyOpen(&'static str, usize),
    /// As many streams of one user or API key are open as may: this many.
    TooManyStreams(usize),
    /// The name of what is full, in words that a client knows: "too busy: … is full".
    Overloaded(&'static str),
    /// The stream refuses more (its own limits with `discard: new`), in the broker's words.
    StreamFull(Box<str>),
    /// The broker asks to slow down (10167).
    BrokerBusy,

    // The backend.
    /// No connection to the broker during the whole hold: nothing was sent.
    BrokerAway,
    /// Sent, and no answer came: it may be stored or not.
    OutcomeUnknown,
    /// No stream listens on the subject: it has gone, or has no leader at the moment. Not stored.
    NoStream,
    /// The broker's permissions forbid the gateway this subject.
    BrokerForbidden(Box<str>),
    /// The broker answered with an error: its code and text. Not stored.
    BrokerRefused(u32, Box<str>),
    /// The broker cannot be used as it is, or its answer cannot be read; the text says why.
    BrokerFailed(Box<str>),
    /// The embedded store could not write or read.
    StoreFailed(Box<str>),
    /// The embedded store takes no writes at the moment, its device is full or has failed: nothing was stored. The text says which.
    StoreReadOnly(Box<str>),
    /// The control plane did not answer in time.
    ControlTimeout,
    /// The users were not read yet: whether this one exists is not known.
    UsersUnknown,
    /// What the registry says now is not known: whether the station's schema is still the one that is known here.
    ContractsUnknown,
    /// The station cannot serve as long as its schema or its streams are what they are; the text says which and why.
    StationBlocked(Box<str>),
    /// Records failed and could not be kept as dead letters, for this reason.
    DeadLetters(Box<Reject>),
    /// The gateway is shutting down.
    Draining,
    /// A broken invariant of ours; logged with details where it was found.
    Internal(&'static str),
}

/// When to come again where an operator has to do something first.
const FOR_AN_OPERATOR: Duration = Duration::from_secs(10);

impl Reject {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Malformed(_)
            | Self::Version
            | Self::HeadTooLarge
            | Self::Expectation
            | Self::TransferCoding
            | Self::RequestTimeout
            | Self::MethodNotAllowed(_)
            | Self::TooLarge(..)
            | Self::MediaType
            | Self::ContentEncoding
            | Self::CorruptEncoding(_)
            | Self::Json { .. }
            | Self::Body(_)
            | Self::Field(_)
            | Self::Name(..)
            | Self::MessageId(_)
            | Self::Schema(_)
            | Self::NotAtomic(_)
            | Self::TooManyForWhole(_)
            | Self::NothingStored
            | Self::StationUnknown(_)
            | Self::PartitionUnknown(_)
            | Self::Conflict(_) => Fault::Client,
            Self::Line(_, why) => why.fault(),
            Self::Unauthorized | Self::Forbidden(_) => Fault::Policy,
            Self::WindowFull
            | Self::TooManyLogins(_)
            | Self::TooManyOpen(..)
            | Self::TooManyStreams(_)
            | Self::Overloaded(_)
            | Self::StreamFull(_)
            | Self::StoreReadOnly(_)
            | Self::BrokerBusy => Fault::Overload,
            Self::BrokerAway
            | Self::OutcomeUnknown
            | Self::NoStream
            | Self::BrokerForbidden(_)
            | Self::BrokerRefused(..)
            | Self::BrokerFailed(_)
            | Self::StoreFailed(_)
            | Self::ControlTimeout
            | Self::UsersUnknown
            | Self::ContractsUnknown
            | Self::StationBlocked(_)
            | Self::DeadLetters(_)
            | Self::Draining => Fault::Upstream,
            Self::Internal(_) => Fault::Bug,
        }
    }

    /// Whether the same request may be sent again, and after how long.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::WindowFull
            | Self::TooManyOpen(..)
            | Self::TooManyStreams(_)
            | Self::Overloaded(_)
            | Self::BrokerBusy
            | Self::OutcomeUnknown
            | Self::ControlTimeout
            | Self::UsersUnknown
            | Self::ContractsUnknown => Some(Duration::from_secs(1)),
            Self::BrokerAway
            | Self::BrokerFailed(_)
            | Self::NoStream
            | Self::StoreFailed(_)
            | Self::StationBlocked(_)
            | Self::Draining => Some(Duration::from_secs(2)),
            Self::TooManyLogins(seconds) => Some(Duration::from_secs(u64::from(*seconds))),
            // An operator has to do something, and the records are safest with their client until then.
            Self::StreamFull(_) | Self::StoreReadOnly(_) | Self::BrokerForbidden(_) => Some(FOR_AN_OPERATOR),
            Self::DeadLetters(why) => Some(why.retry_after().unwrap_or(FOR_AN_OPERATOR)),
            _ => None,
        }
    }

    /// Whether the connection must close after the answer: the place of the next request is not known.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::Version
                | Self::HeadTooLarge
                | Self::Expectation
                | Self::TransferCoding
                | Self::RequestTimeout
                | Self::Draining
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overload_or_unknown_may_be_sent_again_and_what_is_the_clients_fault_may_not() {
        for reject in [
            Reject::WindowFull,
            Reject::TooManyOpen("x", 1),
            Reject::TooManyStreams(1),
            Reject::Overloaded("x"),
            Reject::StreamFull("".into()),
            Reject::StoreReadOnly("".into()),
            Reject::BrokerBusy,
        ] {
            assert_eq!(reject.fault(), Fault::Overload);
            assert!(reject.retry_after().is_some(), "{reject:?}");
        }
        for reject in [
            Reject::BrokerAway,
            Reject::OutcomeUnknown,
            Reject::Draining,
            Reject::StoreFailed("".into()),
            Reject::BrokerFailed("".into()),
            Reject::ContractsUnknown,
            Reject::DeadLetters(Box::new(Reject::MediaType)),
        ] {
            assert_eq!(reject.fault(), Fault::Upstream);
            assert!(reject.retry_after().is_some(), "{reject:?}");
        }
        for reject in [
            Reject::Unauthorized,
            Reject::MediaType,
            Reject::Malformed("x"),
            Reject::Schema("x".into()),
            Reject::Conflict("x".into()),
            Reject::NotAtomic("x"),
            Reject::NothingStored,
        ] {
            assert_eq!(reject.retry_after(), None, "{reject:?}");
        }
    }

    /// The records are safest with their client until they can be kept, whatever stands in the way.
    #[test]
    fn what_could_not_be_dead_lettered_comes_again_when_what_stands_in_the_way_may_have_passed() {
        for (why, seconds) in [
            (Reject::WindowFull, 1),
            (Reject::NoStream, 2),
            (Reject::StreamFull("x".into()), 10),
            (Reject::BrokerRefused(10_077, "x".into()), 10),
            (Reject::Conflict("x".into()), 10),
        ] {
            let letters = Reject::DeadLetters(Box::new(why));
            assert_eq!(letters.retry_after(), Some(Duration::from_secs(seconds)), "{letters:?}");
        }
    }
}
