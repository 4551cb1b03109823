//! HTTP APIs over one core. A dialect is a folder with its routes, its request types and its replies.
//!
//! Dialects differ in bytes, never in semantics: what storing and delivering mean is decided in `ingest` and `consume`.
//! A dialect touches neither a backend nor the runtime nor another dialect. All dialects of a shard share its
//! [`Services`]; [`Dialects`] chooses the one that a request is for (ADR 35).

pub mod memphis;
mod open_streams;
mod reply;
mod service;
mod services;
mod stream;

pub use crate::consume::Handout;
pub use open_streams::{Ended, NewStream, OpenStream, OpenStreams};
pub use reply::{Body, Reply};
pub use service::{Admission, Admitted, BodyMode, Now, Payload, Request, Service};
pub use services::Services;
pub use stream::{BodyStream, Broken, Sink, Source, pipe};

use crate::{metrics::Route, reject::Reject};
use memphis::Memphis;
use std::rc::Rc;
use utoipa::openapi::OpenApi;

/// The routes of all dialects, as requests are counted by them.
pub static ROUTES: [Route; memphis::ROUTES.len()] = memphis::ROUTES;

/// The dialects of a shard, and the router between them.
#[derive(Debug)]
pub struct Dialects {
    services: Rc<Services>,
    memphis: Memphis,
}

/// Returns the description of each dialect's routes. The admin listener serves them in `/openapi.json`.
#[must_use]
pub fn descriptions() -> impl IntoIterator<Item = OpenApi> {
    [memphis::description()]
}

/// A request that a dialect admitted.
#[derive(Debug)]
pub enum Call {
    /// By the Memphis API.
    Memphis(memphis::Call),
}

impl Dialects {
    /// Returns all dialects over the services of a shard.
    #[must_use]
    pub fn new(services: Rc<Services>) -> Self {
        Self { memphis: Memphis::new(Rc::clone(&services)), services }
    }
}

impl Service for Dialects {
    type Call = Call;

    fn admit(&self, request: &Request<'_>) -> Admission<Call> {
        self.memphis.admit(request).map(Call::Memphis)
    }

    async fn handle(&self, call: Call, request: &Request<'_>, body: Payload<'_>) -> Reply {
        match call {
            Call::Memphis(call) => self.memphis.handle(call, request, body).await,
        }
    }

    fn reject(&self, reject: &Reject, route: Route, request: Option<&Request<'_>>) -> Reply {
        memphis::reject(reject, route, request)
    }

    fn sweep(&self, now: Now) {
        self.services.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_counted_apart() {
        let all = || ROUTES.into_iter().chain([Route::OTHER]);
        let labels: BTreeSet<_> = all().map(Route::label).collect();
        assert_eq!(labels.len(), all().count());
        let metrics = crate::metrics::ShardMetrics::default();
        metrics.set_routes(&ROUTES);
        all().for_each(|route| metrics.request(route, 200));
        assert!(metrics.requests().filter(|(_, status, _)| *status == 200).all(|(.., count)| count == 1));
    }
}
