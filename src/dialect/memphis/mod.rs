//! The Memphis REST gateway's API: `/auth/*`, `/stations/*`, `/monitoring/status`.
//!
//! What a client of the original can see stays as it was, except where the original was wrong;
//! docs/migrating-from-memphis.md lists every difference.

mod answer;
mod auth;
mod consume;
mod fields;
mod prefer;
mod produce;
pub(super) mod reply;
mod route;

use super::{Reply, Request};
use crate::{
    auth::{Authenticator, Principal, credential, is_credential_in},
    consume::Fetcher,
    directory::Directory,
    ingest::{Form, Ingest},
    limits::CONTROL_BODY_BYTES_MAX,
    metrics::Route,
    reject::{Action, Reject},
    station::Name,
    wire::{content_encoding::Codings, http1::Method},
};
use route::Target;
use std::{borrow::Cow, cell::RefCell, rc::Rc, time::Duration};

/// The API on one shard.
#[derive(Debug)]
pub struct Memphis {
    /// Tokens, API keys and users.
    pub authenticator: Rc<RefCell<Authenticator>>,
    /// Logins.
    pub directory: Rc<Directory>,
    /// Produce.
    pub ingest: Ingest,
    /// Consume.
    pub fetcher: Fetcher,
    /// Default lifetime of an access token.
    pub access_lifetime: Duration,
    /// Default lifetime of a refresh token.
    pub refresh_lifetime: Duration,
    /// The most that a produce call's body may be.
    pub body_bytes_max: usize,
}

/// A request that may send its body.
#[derive(Debug)]
pub struct Admitted {
    call: Call,
    route: Route,
    body_bytes_max: u64,
}

#[derive(Debug)]
enum Call {
    Authenticate(Codings),
    Refresh(Codings),
    Status,
    Produce(produce::Call),
    Consume(consume::Call),
}

impl Admitted {
    /// The most that its body may be, in bytes as sent.
    #[must_use]
    pub fn body_bytes_max(&self) -> u64 {
        self.body_bytes_max
    }

    /// What it is counted as.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }

    /// Whether who asks has shown a valid credential.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        match self.call {
            Call::Produce(_) | Call::Consume(_) => true,
            Call::Authenticate(_) | Call::Refresh(_) | Call::Status => false,
        }
    }

    /// Whether serving it may take long by intention.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.call, Call::Consume(_) | Call::Authenticate(_))
    }
}

impl Memphis {
    /// Decides on the head alone whether a request may send its body.
    pub fn admit(&self, request: &Request<'_>) -> Result<Admitted, Box<Reply>> {
        self.decide(request).map_err(|reply| Box::new(shared(request, *reply)))
    }

    /// Route, then who asks, then whether they may: in this order, so that a stranger learns nothing.
    fn decide(&self, request: &Request<'_>) -> Result<Admitted, Box<Reply>> {
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
            // A page's request that carries a credential in its URL is judged by that alone: the browser may add what it holds.
            let authorization = head.authorization.filter(|_| page(request).is_none()).map(|span| span.of(bytes));
            let credential = credential(authorization, head.query.map(|span| span.of(bytes)));
            let credential = credential.ok_or(Reject::Unauthorized).map_err(|reject| refuse(&reject))?;
            Some(self.principal(&credential, request.now.unix_s).map_err(|reject| refuse(&reject))?)
        };
        // CONNECT names no path.
        if path.is_empty() {
            return Err(refuse(&Reject::MethodNotAllowed("GET, HEAD, POST, OPTIONS")));
        }
        let Some(allows) = target.allows() else { return Err(Box::new(reply::not_found(method_text(request), path))) };
        if !target.takes(head.method) {
            return Err(refuse(&Reject::MethodNotAllowed(allows)));
        }
        let small = |call| Ok(Admitted { call, route, body_bytes_max: CONTROL_BODY_BYTES_MAX as u64 });
        let codings = || Codings::parse(head.values(bytes, "content-encoding")).map_err(|reject| refuse(&reject));
        match target {
            Target::Authenticate => small(Call::Authenticate(codings()?)),
            Target::Refresh => small(Call::Refresh(codings()?)),
            Target::Status => small(Call::Status),
            Target::ProduceSingle(station) => {
                self.admit_produce(request, station, Form::Single, principal).map_err(|reject| refuse(&reject))
            }
            Target::ProduceBatch(station) => {
                self.admit_produce(request, station, Form::Batch, principal).map_err(|reject| refuse(&reject))
            }
            Target::Consume(station) => {
                let station = station.map_err(|reject| refuse(&reject))?;
                let principal = principal.ok_or_else(|| refuse(&Reject::Unauthorized))?;
                principal.check(Action::Consume, &station).map_err(|reject| refuse(&reject))?;
                let create = principal.may(Action::Produce, station.as_str());
                small(Call::Consume(consume::Call { station, create, principal, codings: codings()? }))
            }
            Target::OpenNothing | Target::Nothing => Err(Box::new(reply::not_found(method_text(request), path))),
        }
    }

    /// Who a credential belongs to.
    fn principal(&self, credential: &[u8], unix_s: u64) -> Result<Rc<Principal>, Reject> {
        let mut authenticator = self.authenticator.borrow_mut();
        let principal = authenticator.principal(credential, unix_s);
        let metrics = &self.ingest.metrics;
        metrics.token_cache_hits.add(authenticator.hits() - metrics.token_cache_hits.get());
        metrics.token_cache_misses.add(authenticator.misses() - metrics.token_cache_misses.get());
        principal
    }

    fn admit_produce(
        &self,
        request: &Request<'_>,
        station: Result<Name, Reject>,
        form: Form,
        principal: Option<Rc<Principal>>,
    ) -> Result<Admitted, Reject> {
        let (station, principal) = (station?, principal.ok_or(Reject::Unauthorized)?);
        principal.check(Action::Produce, &station)?;
        let media_type = media_type(request);
        if !produce::takes_media_type(form, media_type.as_deref()) {
            return Err(Reject::MediaType);
        }
        let encoding = produce::encoding_of(form, media_type.as_deref());
        let codings = Codings::parse(request.head.values(request.bytes, "content-encoding"))?;
        let call = produce::Call { station, form, codings, encoding, create: true, principal };
        Ok(Admitted { route: call.route(), call: Call::Produce(call), body_bytes_max: self.body_bytes_max as u64 })
    }

    /// Serves an admitted request with its body.
    pub async fn handle(&self, admitted: Admitted, request: &Request<'_>, body: &[u8]) -> Reply {
        let reply = match admitted.call {
            // Boxed: what comes seldom takes no room in what comes often.
            Call::Authenticate(codings) => Box::pin(self.authenticate(codings, request, body)).await,
            Call::Refresh(codings) => self.refresh(codings, request, body),
            Call::Status => reply::status(),
            Call::Produce(call) => self.produce(&call, request, body).await,
            Call::Consume(call) => Box::pin(self.consume(&call, request, body)).await,
        };
        shared(request, reply)
    }
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
pub(super) fn shared(request: &Request<'_>, reply: Reply) -> Reply {
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

/// The method as sent.
fn method_text<'a>(request: &Request<'a>) -> &'a [u8] {
    request.bytes.trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// The request's media type: lower-cased, without parameters; `None` if it is absent or empty.
fn media_type<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    let value = request.head.content_type?.of(request.bytes);
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let mut kind = String::from_utf8_lossy(kind);
    // Nearly every client sends it in lower case.
    if kind.bytes().any(|byte| byte.is_ascii_uppercase()) {
        kind.to_mut().make_ascii_lowercase();
    }
    (!kind.is_empty()).then_some(kind)
}

/// `application/json`, everything that says `+json`, and what browsers report violations of a page's policy with (CSP 3, section 5).
fn is_json(media_type: &str) -> bool {
    media_type.ends_with("/json") || media_type.ends_with("+json") || media_type == "application/csp-report"
}
