//! The limits on connections and requests of the admin port, and which connection is closed for a new one.
//!
//! Health must be answered whatever others do. So the API serves fewer requests at a time than there may be
//! connections. If all places are taken, a new connection takes the place of an idle one: first of those that have
//! never shown a valid credential, and of these the one that has waited longest. So a head that does not come holds a
//! place only while nobody else needs it.

use super::{API, problem::Problem};
use crate::{
    limits::{ADMIN_CONNECTIONS_MAX, ADMIN_SWEEP_TIMEOUT},
    rt::clock,
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, service::Service};
use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Places {
    taken: Vec<Weak<Place>>,
    begun: Instant,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    is_busy: AtomicBool,
    is_trusted: AtomicBool,
    /// When the listener started.
    begun: Instant,
    /// Since when the connection has been idle, in ms since `begun`.
    waits_since: AtomicU64,
    give_way: Notify,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { taken: Vec::new(), begun: clock::now() }
    }

    /// Returns a place for a connection; if all are taken, an idle connection is asked to give way. Returns `None` if
    /// all connections are being served.
    pub(super) fn take(&mut self) -> Option<Arc<Place>> {
        self.taken.retain(|place| place.strong_count() > 0);
        if self.taken.len() >= ADMIN_CONNECTIONS_MAX {
            let waiting = self.taken.iter().filter_map(Weak::upgrade).filter(|place| !place.is_busy.load(Relaxed));
            let first =
                waiting.min_by_key(|place| (place.is_trusted.load(Relaxed), place.waits_since.load(Relaxed)))?;
            self.taken.retain(|place| !std::ptr::eq(place.as_ptr(), Arc::as_ptr(&first)));
            first.give_way.notify_one();
        }
        let place = Arc::new(Place {
            is_busy: AtomicBool::new(false),
            is_trusted: AtomicBool::new(false),
            begun: self.begun,
            waits_since: AtomicU64::new(0),
            give_way: Notify::new(),
        });
        place.waits();
        self.taken.push(Arc::downgrade(&place));
        Some(place)
    }
}

impl Place {
    /// Marks the connection as idle: it waits for a request.
    fn waits(&self) {
        let since = u64::try_from(clock::since(self.begun).as_millis()).unwrap_or(u64::MAX);
        self.waits_since.store(since, Relaxed);
        self.is_busy.store(false, Relaxed);
    }

    /// Waits until another connection needs the place while this one is idle.
    pub(super) async fn must_go(&self) {
        loop {
            self.give_way.notified().await;
            if !self.is_busy.load(Relaxed) {
                return;
            }
        }
    }

    /// Marks the connection as trusted: its peer has shown a valid credential.
    pub(super) fn trust(&self) {
        self.is_trusted.store(true, Relaxed);
    }
}

/// A service that marks its connection as busy while it serves a request.
#[derive(Debug)]
pub(super) struct Placed<S> {
    pub(super) inner: S,
    pub(super) place: Arc<Place>,
}

/// Marks the connection as idle again when it is dropped, however the request ends.
struct Use(Arc<Place>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.waits();
    }
}

impl<S> Service<hyper::Request<Incoming>> for Placed<S>
where
    S: Service<hyper::Request<Incoming>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(Arc::clone(&self.place));
        self.place.is_busy.store(true, Relaxed);
        let used = Use(Arc::clone(&self.place));
        let served = self.inner.call(request);
        Box::pin(async move {
            let _used = used;
            served.await
        })
    }
}

/// Serves at most [`ADMIN_API_REQUESTS_MAX`](crate::limits::ADMIN_API_REQUESTS_MAX) requests of the API at a time. What
/// comes beyond is refused before its credential is checked.
pub(super) async fn one_of_the_api(State(room): State<Arc<Semaphore>>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = room.try_acquire_owned() else { return Problem::crowded().into_response() };
    let permit = Arc::new(permit);
    request.extensions_mut().insert(Arc::clone(&permit));
    let response = next.run(request).await;
    drop(permit);
    response
}

/// Serves a request to its end, also when its client has gone or waits no longer. It keeps its room until then.
///
/// Many changes have a second part (the registry after the streams, the shards after both), without which the first is
/// half a change. A sweep over dead letters ends between two of them instead ([`AdminService::replay_dead_letters`]).
///
/// [`AdminService::replay_dead_letters`]: crate::control::AdminService::replay_dead_letters
pub(super) async fn to_its_end(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_sweep(&request) {
        return next.run(request).await;
    }
    let permit = request.extensions().get::<Arc<OwnedSemaphorePermit>>().cloned();
    let changing = tokio::spawn(async move {
        // Everything that a change waits for has a shorter time of its own. What lasts this long would last for ever.
        let response = timeout(ADMIN_SWEEP_TIMEOUT, next.run(request)).await;
        drop(permit);
        response.unwrap_or_else(|_| Problem::too_long().into_response())
    });
    changing.await.unwrap_or_else(|_| Problem::broken().into_response())
}

/// Returns whether a request goes through all dead letters of a station.
pub(super) fn is_sweep(request: &Request) -> bool {
    let path = request.uri().path();
    // The routes of the API see their paths without its prefix.
    let mut segments = path.strip_prefix(API).unwrap_or(path).split('/').skip(1);
    !request.method().is_safe() && segments.next() == Some("stations") && segments.nth(1) == Some("dead-letters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn taken(places: &mut Places) -> Arc<Place> {
        places.take().expect("a place")
    }

    /// Returns whether a place was asked to give way.
    async fn must_go(place: &Place) -> bool {
        timeout(std::time::Duration::from_millis(10), place.must_go()).await.is_ok()
    }

    #[tokio::test]
    async fn f9_who_waits_longest_without_a_credential_gives_way_and_nobody_else() {
        let mut places = Places::new();
        let all: Vec<_> = (0..ADMIN_CONNECTIONS_MAX).map(|_| taken(&mut places)).collect();
        for (index, place) in all.iter().enumerate() {
            place.waits_since.store(index as u64, Relaxed);
        }
        all[0].trust();
        all[1].is_busy.store(true, Relaxed);
        let _one_more = taken(&mut places);
        for (index, place) in all.iter().enumerate() {
            assert_eq!(must_go(place).await, index == 2, "{index}");
        }
    }

    #[test]
    fn a_sweep_is_known_by_its_path_with_and_without_the_prefix() {
        for (method, path, expect) in [
            ("POST", "/api/v1/stations/orders/dead-letters/replay", true),
            ("POST", "/stations/orders/dead-letters/purge", true),
            ("DELETE", "/api/v1/stations/orders/dead-letters", true),
            ("GET", "/api/v1/stations/orders/dead-letters", false),
            ("PATCH", "/api/v1/stations/dead-letters", false),
            ("PUT", "/stations/dead-letters/schema", false),
            ("DELETE", "/api/v1/schemas/dead-letters", false),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            assert_eq!(is_sweep(&request), expect, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn nobody_who_is_being_served_gives_way() {
        let mut places = Places::new();
        let all: Vec<_> = (0..ADMIN_CONNECTIONS_MAX).map(|_| taken(&mut places)).collect();
        for place in &all {
            place.is_busy.store(true, Relaxed);
        }
        assert!(places.take().is_none());
        drop(all);
        assert!(places.take().is_some());
    }
}
