//! The Memphis REST gateway's API: `/auth/*`, `/stations/*`, `/monitoring/status`; and what was added to it: streams.
//!
//! What a client of the original can see stays as it was, except where the original was wrong;
//! docs/migrating-from-memphis.md lists every difference.

mod answer;
mod auth;
mod consume;
mod cursor;
mod element;
mod fields;
mod openapi;
mod prefer;
mod produce;
mod produce_stream;
mod query;
mod records;
mod reply;
mod route;
mod tail;

pub(super) use openapi::description;
pub use reply::stored;
pub(super) use route::ROUTES;

use super::{Admission, Admitted, BodyMode, NewStream, Payload, Reply, Request, Services};
use crate::{
    auth::{Credential, Principal, credential, is_credential_in},
    ingest::Form,
    limits::CONTROL_BODY_BYTES_MAX,
    metrics::Route,
    reject::{Action, Reject},
    station::Name,
    wire::{
        content_encoding::Codings,
        http::{self, Method},
    },
};
use route::Target;
use std::{borrow::Cow, rc::Rc};

/// The API on one shard.
#[derive(Debug)]
pub struct Memphis {
    services: Rc<Services>,
}

/// A request that may send its body.
#[derive(Debug)]
pub struct Call(Kind);

#[derive(Debug)]
enum Kind {
    Authenticate(Codings),
    Refresh(Codings),
    Status,
    Produce(produce::Call),
    ProduceStream(produce_stream::Call),
    Consume(consume::Call),
    Tail(tail::Call),
    Records(tail::Call),
}

impl Kind {
    /// Returns whether the client has shown a valid credential.
    fn is_verified(&self) -> bool {
        match self {
            Self::Produce(_) | Self::ProduceStream(_) | Self::Consume(_) | Self::Tail(_) | Self::Records(_) => true,
            Self::Authenticate(_) | Self::Refresh(_) | Self::Status => false,
        }
    }

    /// Returns whether serving it may take long by intention.
    fn waits(&self) -> bool {
        matches!(self, Self::Consume(_) | Self::Authenticate(_) | Self::Tail(_) | Self::Records(_))
    }

    fn admitted(self, route: Route, body_bytes_max: usize) -> Admitted<Call> {
        let (is_verified, waits) = (self.is_verified(), self.waits());
        let body = BodyMode::Whole { bytes_max: body_bytes_max as u64 };
        Admitted { call: Call(self), route, body, is_verified, waits }
    }
}

impl Memphis {
    /// Returns the API over the services of a shard.
    pub(super) fn new(services: Rc<Services>) -> Self {
        Self { services }
    }

    /// Decides on the head alone whether a request may send its body.
    pub(super) fn admit(&self, request: &Request<'_>) -> Admission<Call> {
        match self.decide(request) {
            Ok(admitted) => Admission::Call(admitted),
            Err(reply) => Admission::Refuse(Box::new(shared(request, *reply))),
        }
    }

    /// Route, then who asks, then whether they may: in this order, so that a stranger learns nothing.
    fn decide(&self, request: &Request<'_>) -> Result<Admitted<Call>, Box<Reply>> {
        let (head, bytes) = (request.head, request.bytes);
        let path = head.path.of(bytes);
        let target = Target::of(path);
        if head.method == Method::Options {
            let allows = if path == b"*" { "GET, HEAD, POST, OPTIONS" } else { target.options() };
            return Err(Box::new(reply::preflight(allows, head.field(bytes, "access-control-request-headers"))));
        }
        let route = target.route();
        let refuse = |reject: &Reject| Box::new(reply::reject(reject, route));
        let principal = if target.is_open() {
            None
        } else {
            let credential = credential_of(request).ok_or(Reject::Unauthorized).map_err(|reject| refuse(&reject))?;
            Some(self.services.principal(&credential, request.now.unix_s).map_err(|reject| refuse(&reject))?)
        };
        // CONNECT names no path.
        if path.is_empty() {
            return Err(refuse(&Reject::MethodNotAllowed("GET, HEAD, POST, OPTIONS")));
        }
        let Some(allows) = target.allows() else {
            return Err(Box::new(reply::not_found(head.method_text.of(bytes), path)));
        };
        if !target.takes(head.method) {
            return Err(refuse(&Reject::MethodNotAllowed(allows)));
        }
        let small = |call: Kind| Ok(call.admitted(route, CONTROL_BODY_BYTES_MAX));
        let codings = || Codings::parse(head.values(bytes, "content-encoding")).map_err(|reject| refuse(&reject));
        match target {
            Target::Authenticate => small(Kind::Authenticate(codings()?)),
            Target::Refresh => small(Kind::Refresh(codings()?)),
            Target::Status => small(Kind::Status),
            Target::ProduceSingle(station) => {
                self.admit_produce(request, station, Form::Single, principal).map_err(|reject| refuse(&reject))
            }
            Target::ProduceBatch(station) => {
                self.admit_produce(request, station, Form::Batch, principal).map_err(|reject| refuse(&reject))
            }
            Target::ProduceStream(station) => {
                self.admit_stream(request, station, principal).map_err(|reject| refuse(&reject))
            }
            Target::Consume(station) => {
                let station = station.map_err(|reject| refuse(&reject))?;
                let principal = principal.ok_or_else(|| refuse(&Reject::Unauthorized))?;
                principal.check(Action::Consume, &station).map_err(|reject| refuse(&reject))?;
                let create = principal.may(Action::Produce, station.as_str());
                small(Kind::Consume(consume::Call { station, create, principal, codings: codings()? }))
            }
            Target::Tail(station) => {
                small(Kind::Tail(admit_reading(station, principal).map_err(|reject| refuse(&reject))?))
            }
            Target::Records(station) => {
                small(Kind::Records(admit_reading(station, principal).map_err(|reject| refuse(&reject))?))
            }
            Target::OpenNothing | Target::Nothing => Err(Box::new(reply::not_found(head.method_text.of(bytes), path))),
        }
    }

    fn admit_produce(
        &self,
        request: &Request<'_>,
        station: Result<Name, Reject>,
        form: Form,
        principal: Option<Rc<Principal>>,
    ) -> Result<Admitted<Call>, Reject> {
        let (station, principal) = (station?, principal.ok_or(Reject::Unauthorized)?);
        principal.check(Action::Produce, &station)?;
        let media_type = media_type(request);
        if !produce::takes_media_type(form, media_type.as_deref()) {
            return Err(Reject::MediaType);
        }
        let encoding = produce::encoding_of(form, media_type.as_deref());
        let codings = Codings::parse(request.head.values(request.bytes, "content-encoding"))?;
        let framing = media_type.as_deref().filter(|_| form == Form::Batch).and_then(produce::framing_of);
        let call = produce::Call { station, form, codings, framing, encoding, create: true, principal };
        let route = call.route();
        Ok(Kind::Produce(call).admitted(route, self.services.limits.body_bytes_max))
    }

    /// Takes a place among the streams, before a byte of the body is asked for.
    fn admit_stream(
        &self,
        request: &Request<'_>,
        station: Result<Name, Reject>,
        principal: Option<Rc<Principal>>,
    ) -> Result<Admitted<Call>, Reject> {
        let (station, principal) = (station?, principal.ok_or(Reject::Unauthorized)?);
        principal.check(Action::Produce, &station)?;
        let framing = produce_stream::framing_of(media_type(request).as_deref()).ok_or(Reject::MediaType)?;
        let codings = Codings::parse(request.head.values(request.bytes, "content-encoding"))?;
        let open = self.services.open_streams.open(NewStream {
            credential: &credential_of(request).ok_or(Reject::Unauthorized)?,
            principal: &principal,
            action: Action::Produce,
            station: &station,
            route: route::PRODUCE_STREAM,
        })?;
        let call = Kind::ProduceStream(produce_stream::Call { station, codings, framing, principal, open });
        Ok(Admitted { body: BodyMode::Streamed, ..call.admitted(route::PRODUCE_STREAM, 0) })
    }

    /// Serves an admitted request with its body.
    pub(super) async fn handle(&self, call: Call, request: &Request<'_>, body: Payload<'_>) -> Reply {
        // Boxed are calls that are rare: a future that holds them inline would be larger for every call.
        let (call, body) = match (call.0, body) {
            (Kind::ProduceStream(call), Payload::Streamed(source)) => {
                return shared(request, Box::pin(self.produce_stream(call, request, source)).await);
            }
            (call, body) => match body.whole() {
                Ok(body) => (call, body),
                Err(reject) => return reply::reject(&reject, Route::OTHER),
            },
        };
        let reply = match call {
            Kind::Authenticate(codings) => Box::pin(self.authenticate(codings, request, body)).await,
            Kind::Refresh(codings) => self.refresh(codings, request, body),
            Kind::Status => reply::status(),
            Kind::Produce(call) => self.produce(&call, request, body).await,
            Kind::ProduceStream(_) => reply::reject(&Reject::Internal("a stream whose body came whole"), Route::OTHER),
            Kind::Consume(call) => Box::pin(self.consume(&call, request, body)).await,
            Kind::Tail(call) => Box::pin(self.tail(&call, request)).await,
            Kind::Records(call) => Box::pin(self.records(&call, request)).await,
        };
        shared(request, reply)
    }
}

/// Returns the reply to a request that failed outside the dialect. If its head was read, a page may have to be let in on
/// the reply.
pub(super) fn reject(reject: &Reject, route: Route, request: Option<&Request<'_>>) -> Reply {
    let reply = reply::reject(reject, route);
    match request {
        Some(request) => shared(request, reply),
        None => reply,
    }
}

/// Who may consume may read by place.
fn admit_reading(station: Result<Name, Reject>, principal: Option<Rc<Principal>>) -> Result<tail::Call, Reject> {
    let (station, principal) = (station?, principal.ok_or(Reject::Unauthorized)?);
    principal.check(Action::Consume, &station)?;
    Ok(tail::Call { station, principal })
}

/// Returns the credential of a request. A page's request that carries one in its URL is judged by that alone: the browser
/// may add what it holds.
fn credential_of<'a>(request: &Request<'a>) -> Option<Credential<'a>> {
    let (head, bytes) = (request.head, request.bytes);
    let authorization = head.authorization.filter(|_| page(request).is_none()).map(|span| span.of(bytes));
    credential(authorization, head.query.map(|span| span.of(bytes)))
}

/// The origin of the page that sent a request with its credential in the URL: all that a beacon can do, which a browser sends
/// with the credentials that it holds, and so with a look at whether the page may read the answer.
fn page<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let query = request.head.query?.of(request.bytes);
    let origin = request.head.origin?.of(request.bytes);
    is_credential_in(query).then_some(origin)
}

/// The reply, shared with the page that has asked, if it carried its credential in the URL, and else with every page but
/// without credentials.
fn shared(request: &Request<'_>, reply: Reply) -> Reply {
    match page(request) {
        Some(origin) => reply::shared_with(origin, reply),
        None => reply,
    }
}

/// The body of a call that is no record, without its coding.
fn decoded(codings: Codings, body: &[u8]) -> Result<Cow<'_, [u8]>, Reject> {
    if codings.is_identity() {
        return Ok(Cow::Borrowed(body));
    }
    let mut decoded = Vec::new();
    codings.decode(body, CONTROL_BODY_BYTES_MAX, &mut decoded)?;
    Ok(Cow::Owned(decoded))
}

/// Returns the request's media type, in lower case and without parameters.
fn media_type<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    http::media_type(request.head.content_type?.of(request.bytes))
}

/// `application/json`, everything that says `+json`, and what browsers report violations of a page's policy with (CSP 3, section 5).
fn is_json(media_type: &str) -> bool {
    media_type.ends_with("/json") || media_type.ends_with("+json") || media_type == "application/csp-report"
}
