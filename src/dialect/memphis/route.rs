//! Paths and methods of the Memphis API. Pure.
//!
//! Letter case and a trailing slash never matter (the original's router was lenient, its
//! authentication was not, and both read the path: here there is one reading). The station name is
//! percent-decoded once, after the path was split, so `%2F` can never name another station.

use crate::{metrics::Route, reject::Reject, station::Name, wire::http::Method};
use percent_encoding::percent_decode;

/// `POST /auth/authenticate`
pub(super) const AUTHENTICATE: Route = Route::new(1, "authenticate");
/// `POST /auth/refreshToken`
pub(super) const REFRESH: Route = Route::new(2, "refresh");
/// `POST /stations/<name>/produce/single`
pub(super) const PRODUCE_SINGLE: Route = Route::new(3, "produce_single");
/// `POST /stations/<name>/produce/batch`
pub(super) const PRODUCE_BATCH: Route = Route::new(4, "produce_batch");
/// `POST /stations/<name>/consume/batch`
pub(super) const CONSUME: Route = Route::new(5, "consume");
/// `GET /monitoring/status`
pub(super) const STATUS: Route = Route::new(6, "status");
/// `GET /stations/<name>/tail`
pub(super) const TAIL: Route = Route::of_streams(8, "tail");
/// `GET /stations/<name>/records`
pub(super) const RECORDS: Route = Route::new(9, "records");

/// `POST /stations/<name>/produce/stream`
pub(super) const PRODUCE_STREAM: Route = Route::of_streams(7, "produce_stream");

/// Every route of the API.
pub(in crate::dialect) const ROUTES: [Route; 9] =
    [AUTHENTICATE, REFRESH, PRODUCE_SINGLE, PRODUCE_BATCH, CONSUME, STATUS, PRODUCE_STREAM, TAIL, RECORDS];

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `POST /auth/authenticate`
    Authenticate,
    /// `POST /auth/refreshToken`
    Refresh,
    /// `GET /monitoring/status`
    Status,
    /// `POST /stations/<name>/produce/single`
    ProduceSingle(Result<Name, Reject>),
    /// `POST /stations/<name>/produce/batch`
    ProduceBatch(Result<Name, Reject>),
    /// `POST /stations/<name>/produce/stream`
    ProduceStream(Result<Name, Reject>),
    /// `POST /stations/<name>/consume/batch`
    Consume(Result<Name, Reject>),
    /// `GET /stations/<name>/tail`
    Tail(Result<Name, Reject>),
    /// `GET /stations/<name>/records`
    Records(Result<Name, Reject>),
    /// Known to the original's list of open paths, and nothing there.
    OpenNothing,
    /// No such route.
    Nothing,
}

impl Target {
    /// Reads a path.
    pub(super) fn of(path: &[u8]) -> Self {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut segments = path.split(|byte| *byte == b'/');
        let mut next = || segments.next().unwrap_or_default();
        let (first, second, third, fourth) = (next(), next(), next(), next());
        if segments.next().is_some() {
            return Self::Nothing;
        }
        let is = |segment: &[u8], word: &str| segment.eq_ignore_ascii_case(word.as_bytes());
        if fourth.is_empty() && third.is_empty() {
            return match () {
                () if first.is_empty() && second.is_empty() => Self::OpenNothing,
                () if is(first, "auth") && is(second, "authenticate") => Self::Authenticate,
                () if is(first, "auth") && is(second, "refreshtoken") => Self::Refresh,
                () if is(first, "monitoring") && is(second, "status") => Self::Status,
                () if is(first, "monitoring") && is(second, "getresourcesutilization") => Self::OpenNothing,
                () => Self::Nothing,
            };
        }
        if !is(first, "stations") || second.is_empty() {
            return Self::Nothing;
        }
        match () {
            () if is(third, "produce") && is(fourth, "single") => Self::ProduceSingle(station(second)),
            () if is(third, "produce") && is(fourth, "batch") => Self::ProduceBatch(station(second)),
            () if is(third, "produce") && is(fourth, "stream") => Self::ProduceStream(station(second)),
            () if is(third, "consume") && is(fourth, "batch") => Self::Consume(station(second)),
            () if is(third, "tail") && fourth.is_empty() => Self::Tail(station(second)),
            () if is(third, "records") && fourth.is_empty() => Self::Records(station(second)),
            () => Self::Nothing,
        }
    }

    /// Whether it is served without a token.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Authenticate | Self::Refresh | Self::Status | Self::OpenNothing)
    }

    /// The methods it takes, as `Allow` lists them; `None`: there is nothing there.
    pub(super) fn allows(&self) -> Option<&'static str> {
        match self {
            Self::Authenticate
            | Self::Refresh
            | Self::ProduceSingle(_)
            | Self::ProduceBatch(_)
            | Self::ProduceStream(_)
            | Self::Consume(_) => Some("POST"),
            Self::Status | Self::Tail(_) | Self::Records(_) => Some("GET, HEAD"),
            Self::OpenNothing | Self::Nothing => None,
        }
    }

    /// The same as the answer to `OPTIONS` lists them: with itself, and also where there is nothing.
    pub(super) fn options(&self) -> &'static str {
        match self.allows() {
            Some("POST") => "POST, OPTIONS",
            Some(_) => "GET, HEAD, OPTIONS",
            None => "OPTIONS",
        }
    }

    /// Whether `method` is one of them.
    pub(super) fn takes(&self, method: Method) -> bool {
        match self {
            Self::Status | Self::Tail(_) | Self::Records(_) => matches!(method, Method::Get | Method::Head),
            _ => method == Method::Post,
        }
    }

    /// What it is counted as.
    pub(super) fn route(&self) -> Route {
        match self {
            Self::Authenticate => AUTHENTICATE,
            Self::Refresh => REFRESH,
            Self::Status => STATUS,
            Self::ProduceSingle(_) => PRODUCE_SINGLE,
            Self::ProduceBatch(_) => PRODUCE_BATCH,
            Self::ProduceStream(_) => PRODUCE_STREAM,
            Self::Consume(_) => CONSUME,
            Self::Tail(_) => TAIL,
            Self::Records(_) => RECORDS,
            Self::OpenNothing | Self::Nothing => Route::OTHER,
        }
    }
}

/// The station that a path segment names.
fn station(segment: &[u8]) -> Result<Name, Reject> {
    let decoded = percent_decode(segment).decode_utf8().unwrap_or("\u{fffd}".into());
    Name::parse(&decoded).map_err(|fault| Reject::Name("Station", fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::NameFault;

    fn named(name: &str) -> Result<Name, Reject> {
        Name::parse(name).map_err(|fault| Reject::Name("Station", fault))
    }

    #[test]
    fn paths_are_read_once_whatever_their_case() {
        for (path, expect) in [
            ("/", Target::OpenNothing),
            ("", Target::OpenNothing),
            ("/auth/authenticate", Target::Authenticate),
            ("/AUTH/Authenticate/", Target::Authenticate),
            ("/auth/refreshToken", Target::Refresh),
            ("/auth/REFRESHTOKEN/", Target::Refresh),
            ("/monitoring/status", Target::Status),
            ("/monitoring/getResourcesUtilization", Target::OpenNothing),
            ("/stations/orders/produce/single", Target::ProduceSingle(named("orders"))),
            ("/Stations/Orders/Produce/Single/", Target::ProduceSingle(named("orders"))),
            ("/stations/a%2Eb/produce/batch", Target::ProduceBatch(named("a.b"))),
            ("/stations/orders/produce/stream/", Target::ProduceStream(named("orders"))),
            ("/stations/orders/consume/batch", Target::Consume(named("orders"))),
            ("/stations/orders/tail", Target::Tail(named("orders"))),
            ("/stations/Orders/Tail/", Target::Tail(named("orders"))),
            ("/stations/a%2Eb/records", Target::Records(named("a.b"))),
            ("/stations/orders/tail/x", Target::Nothing),
            ("/stations//tail", Target::Nothing),
            ("/stations//produce/single", Target::Nothing),
            (
                "/stations/a%2Fb/produce/single",
                Target::ProduceSingle(Err(Reject::Name("Station", NameFault::Characters))),
            ),
            (
                "/stations/a%252Fb/produce/single",
                Target::ProduceSingle(Err(Reject::Name("Station", NameFault::Characters))),
            ),
            (
                "/stations/%ff/produce/single",
                Target::ProduceSingle(Err(Reject::Name("Station", NameFault::Characters))),
            ),
            ("/stations/orders/produce", Target::Nothing),
            ("/stations/orders/produce/single/x", Target::Nothing),
            ("/stations/orders/consume/single", Target::Nothing),
            ("//auth/authenticate", Target::Nothing),
            ("/nothing", Target::Nothing),
        ] {
            assert_eq!(Target::of(path.as_bytes()), expect, "{path}");
        }
    }
}
