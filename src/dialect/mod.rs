//! HTTP APIs over one core. A dialect is a folder with its routes, its request types and its replies.
//!
//! Dialects differ in bytes, never in semantics: what storing and delivering mean is decided in `ingest` and `consume`.
//! A dialect touches neither a backend nor the runtime nor another dialect.

mod fixed;
pub mod memphis;

pub use crate::consume::Handout;
use crate::{budget::Held, metrics::Route, reject::Reject, wire::http1::Head};
use std::{borrow::Cow, net::IpAddr, time::Instant};

/// One reading of the clocks, taken by the connection.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For durations.
    pub instant: Instant,
    /// For expiry: seconds since 1970.
    pub unix_s: u64,
}

/// A request, as far as it has been read.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its head.
    pub head: &'a Head,
    /// The bytes that the head points into.
    pub bytes: &'a [u8],
    /// When it is handled.
    pub now: Now,
    /// The client's address, as the connection has it.
    pub peer: IpAddr,
}

/// The APIs.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a shard has one, and it is the largest")]
pub enum Dialect {
    /// The Memphis REST gateway's.
    Memphis(memphis::Memphis),
    /// None: one answer to everything, for the laboratory.
    Fixed,
}

/// A request that may send its body.
#[derive(Debug)]
pub enum Admitted {
    /// To the Memphis API.
    Memphis(memphis::Admitted),
    /// To none.
    Fixed,
}

impl Dialect {
    /// Decides on the head alone: route, who asks, whether they may. Only then is a body read.
    pub fn admit(&self, request: &Request<'_>) -> Result<Admitted, Box<Reply>> {
        match self {
            Self::Memphis(memphis) => memphis.admit(request).map(Admitted::Memphis),
            Self::Fixed => Ok(Admitted::Fixed),
        }
    }

    /// Serves an admitted request with its body.
    pub async fn handle(&self, admitted: Admitted, request: &Request<'_>, body: &[u8]) -> Reply {
        match (self, admitted) {
            (Self::Memphis(memphis), Admitted::Memphis(admitted)) => memphis.handle(admitted, request, body).await,
            (Self::Fixed, _) => fixed::reply(),
            (Self::Memphis(_), Admitted::Fixed) => {
                self.reject(&Reject::Internal("a request was admitted by another dialect"), Route::Other)
            }
        }
    }

    /// Ends what is overdue.
    pub fn sweep(&self, now: Instant) {
        match self {
            Self::Memphis(memphis) => memphis.fetcher.sweep(now),
            Self::Fixed => {}
        }
    }

    /// The reply to a request that failed outside the dialect: framing, limits, deadlines.
    #[must_use]
    pub fn reject(&self, reject: &Reject, route: Route) -> Reply {
        match self {
            Self::Memphis(_) => memphis::reply::reject(reject, route),
            Self::Fixed => fixed::reject(reject),
        }
    }

    /// The same for a request whose head was read: a page may have to be let in on it.
    #[must_use]
    pub fn reject_request(&self, reject: &Reject, route: Route, request: &Request<'_>) -> Reply {
        let reply = self.reject(reject, route);
        match self {
            Self::Memphis(_) => memphis::shared(request, reply),
            Self::Fixed => reply,
        }
    }
}

impl Admitted {
    /// The most that its body may be, in bytes as sent.
    #[must_use]
    pub fn body_bytes_max(&self) -> u64 {
        match self {
            Self::Memphis(admitted) => admitted.body_bytes_max(),
            Self::Fixed => fixed::BODY_MAX,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub fn route(&self) -> Route {
        match self {
            Self::Memphis(admitted) => admitted.route(),
            Self::Fixed => Route::Other,
        }
    }

    /// Whether who asks has shown a valid credential.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        match self {
            Self::Memphis(admitted) => admitted.is_verified(),
            Self::Fixed => true,
        }
    }

    /// Whether serving it may take long by intention, so that earlier replies should leave first.
    #[must_use]
    pub fn waits(&self) -> bool {
        match self {
            Self::Memphis(admitted) => admitted.waits(),
            Self::Fixed => false,
        }
    }
}

/// A reply, ready to be written.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'static str>,
    /// Body; what `HEAD` leaves out is left out by the connection.
    pub body: Cow<'static, [u8]>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
    /// `Allow`.
    pub allow: Option<&'static str>,
    /// Further header fields, `Name: value\r\n` each.
    pub extra: Cow<'static, [u8]>,
    /// Whether the connection closes after it.
    pub close: bool,
    /// Messages that the client is handed by it.
    pub handout: Option<Handout>,
    /// What is held for it, until it has left.
    pub held: Option<Held>,
    /// What it is counted as.
    pub route: Route,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laboratory_is_answered_what_a_produce_call_is() {
        let (fixed, stored) = (fixed::reply(), memphis::reply::stored(Route::Other));
        let bytes = |reply: &Reply| (reply.status, reply.content_type, reply.body.clone(), reply.extra.clone());
        assert_eq!(bytes(&fixed), bytes(&stored));
        assert!(!fixed.close && !stored.close);
    }
}
