//! The seam between connections and what serves their requests.
//!
//! A connection is generic over [`Service`]. It reads a head, asks [`Service::admit`] about it, reads the body only if
//! the request is admitted, and writes the reply of [`Service::handle`]. Which HTTP API that is, it does not know.

use super::{Reply, Source};
use crate::{metrics::Route, reject::Reject, wire::http::Head};
use std::{net::IpAddr, time::Instant};

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

/// What a service decides on a request's head.
#[derive(Debug)]
pub enum Admission<C> {
    /// The request may send its body.
    Call(Admitted<C>),
    /// The request asks for another protocol and gets it: [`Service::handle`] answers 101 with an [`super::Body::Stream`],
    /// the fields name the protocol in `Upgrade`, and from then on what the client sends is the [`Payload`] and what the
    /// stream yields is what the client gets, byte by byte. The connection closes behind it.
    Upgrade(Admitted<C>),
    /// The request is answered without its body.
    Refuse(Box<Reply>),
}

impl<C> Admission<C> {
    /// Returns the same decision about a call that is wrapped.
    #[must_use]
    pub fn map<D>(self, wrap: impl FnOnce(C) -> D) -> Admission<D> {
        let wrapped = |admitted: Admitted<C>| {
            let Admitted { call, route, body, is_verified, waits } = admitted;
            Admitted { call: wrap(call), route, body, is_verified, waits }
        };
        match self {
            Self::Call(admitted) => Admission::Call(wrapped(admitted)),
            Self::Upgrade(admitted) => Admission::Upgrade(wrapped(admitted)),
            Self::Refuse(reply) => Admission::Refuse(reply),
        }
    }
}

/// A request that may send its body.
#[derive(Debug)]
pub struct Admitted<C> {
    /// What [`Service::handle`] is given back.
    pub call: C,
    /// The route that the request is counted as.
    pub route: Route,
    /// How its body is read.
    pub body: BodyMode,
    /// Whether the client has shown a valid credential. Requests without one share a small part of the memory; so does
    /// a request whose credential is a signature over its body, which is verified only by [`Service::handle`].
    pub is_verified: bool,
    /// Whether serving it may take long by intention, so that earlier replies should be written first.
    pub waits: bool,
}

/// How the body of a request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyMode {
    /// As a whole, before the request is handled.
    Whole {
        /// The most bytes that it may have, as sent.
        bytes_max: u64,
    },
    /// In pieces, while the request is handled. The connection reads on only while the call takes them. Neither a limit
    /// on its bytes nor the minimum rate applies; the client may be silent for `limits.stream_idle`.
    Streamed,
}

/// The body of a request, as a call gets it.
#[derive(Debug)]
pub enum Payload<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// In pieces, as they come.
    Streamed(Source),
}

impl<'a> Payload<'a> {
    /// Returns a body that was read as a whole, as [`BodyMode::Whole`] asks for.
    pub fn whole(&self) -> Result<&'a [u8], Reject> {
        match self {
            Self::Whole(bytes) => Ok(bytes),
            Self::Streamed(_) => Err(Reject::Internal("a body came in pieces that was asked for as a whole")),
        }
    }
}

/// What serves the requests of a shard's connections. Calls are dispatched statically: a connection is compiled for
/// its service.
pub trait Service: 'static {
    /// A request that was admitted, until it is handled.
    type Call;

    /// Decides on the head alone: the route, who the client is, and whether it has the right. Only then is a body read.
    fn admit(&self, request: &Request<'_>) -> Admission<Self::Call>;

    /// Serves an admitted request with its body.
    fn handle(&self, call: Self::Call, request: &Request<'_>, body: Payload<'_>) -> impl Future<Output = Reply>;

    /// Returns the reply to a request that failed outside the service: in its framing, by a limit or by a deadline.
    /// There is no request if its head could not be read.
    fn reject(&self, reject: &Reject, route: Route, request: Option<&Request<'_>>) -> Reply;

    /// Ends what is overdue. Called every 100 ms.
    fn sweep(&self, _now: Now) {}
}
