//! HTTP APIs over one core. A dialect is a folder with its routes, its request types and its replies.
//!
//! Dialects differ in bytes, never in semantics: what storing and delivering mean is decided in `ingest` and `consume`.
//! A dialect touches neither a backend nor the runtime nor another dialect. All dialects of a shard share its
//! [`Services`]; [`Dialects`] chooses the one that a request is for (ADR 35).

pub mod memphis;
mod reply;
mod service;
mod services;
mod stream;

pub use crate::consume::Handout;
pub use reply::{Body, Reply};
pub use service::{Admission, Admitted, BodyMode, Now, Payload, Request, Service};
pub use services::Services;
pub use stream::{BodyStream, Broken, Sink, Source, pipe};

use crate::{metrics::Route, reject::Reject};
use memphis::Memphis;
use std::{rc::Rc, time::Instant};
use utoipa::openapi::OpenApi;

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
            Call::Memphis(call) => match body.whole() {
                Ok(body) => self.memphis.handle(call, request, body).await,
                Err(reject) => memphis::reject(&reject, Route::Other, Some(request)),
            },
        }
    }

    fn reject(&self, reject: &Reject, route: Route, request: Option<&Request<'_>>) -> Reply {
        memphis::reject(reject, route, request)
    }

    fn sweep(&self, now: Instant) {
        self.services.sweep(now);
    }
}
