//! The block of one shard.

use super::{
    cell::{Counter, Gauge, Histogram},
    failure::PublishFailure,
    route::Route,
};
use crate::{limits::METRIC_ROUTES_MAX, reject::Reject};
use std::sync::OnceLock;

/// Status codes that are counted by themselves; the slot after the last takes all others.
pub(super) const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 411, 413, 415, 417, 429, 431, 500, 501, 503, 505];

/// Which I/O driver a shard runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInfo {
    /// `io_uring` or `epoll`.
    pub driver: String,
    /// Why this one.
    pub reason: String,
}

/// What one shard counts. The shard is the only writer; see the module for why.
///
/// The alignment keeps two blocks out of each other's cache lines (and out of the pair that the
/// prefetcher fetches together).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    requests: [[Counter; STATUSES.len() + 1]; METRIC_ROUTES_MAX],
    /// Records that the backend acknowledged.
    pub records_in: Counter,
    /// Payload bytes of these.
    pub record_bytes_in: Counter,
    /// Records delivered by consume calls.
    pub records_out: Counter,
    /// Reads by place that the backend was asked for.
    pub reads: Counter,
    /// Records delivered by tails and pages of records.
    pub records_read: Counter,
    /// Bytes of headers and payloads of these.
    pub record_bytes_read: Counter,
    /// Gaps that their readers were told of.
    pub read_gaps: Counter,
    /// Validated records.
    pub records_checked: Counter,
    /// Of these, the ones that were not valid.
    pub records_invalid: Counter,
    /// Dead letters stored.
    pub dead_letters: Counter,
    /// From publish to acknowledgement, one observation a record.
    pub acknowledgement: Histogram,
    /// Records that were not stored, by [`PublishFailure`].
    publish_failures: [Counter; PublishFailure::ALL.len()],
    /// Answers of the broker to publishes that were not in flight any more: late, or given twice.
    pub acknowledgements_unmatched: Counter,
    /// Publishes in flight.
    pub window_messages: Gauge,
    /// Bytes in flight.
    pub window_bytes: Gauge,
    /// What [`Self::window_messages`] may reach.
    pub window_messages_limit: Gauge,
    /// What [`Self::window_bytes`] may reach.
    pub window_bytes_limit: Gauge,
    /// Requests refused because the window stayed full.
    pub window_full: Counter,
    /// Tokens found verified.
    pub token_cache_hits: Counter,
    /// Tokens that had to be verified.
    pub token_cache_misses: Counter,
    /// Streams open now, by the slot of their route.
    open_streams: [Gauge; METRIC_ROUTES_MAX],
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections closed at once because there were too many.
    pub connections_refused: Counter,
    /// Connections cut off by a deadline.
    pub connections_timed_out: Counter,
    /// Bytes of bodies and answers held now.
    pub body_bytes_held: Gauge,
    /// Deliveries that wait for their client's acknowledgement now.
    pub open_deliveries: Gauge,
    /// Times that the broker connection was made again.
    pub reconnects: Counter,
    /// 1 while the broker connection stands (always, with the embedded store), else 0.
    pub link_up: Gauge,
    /// 1 while publishes fail for the moment (no leader, nobody takes them, no answer), else 0.
    pub link_failing: Gauge,
    /// Stations remembered.
    pub stations_known: Gauge,
    /// Requests sent to the control plane.
    pub questions: Counter,
    driver: OnceLock<DriverInfo>,
    routes: OnceLock<&'static [Route]>,
}

impl ShardMetrics {
    /// Counts one answered request.
    pub fn request(&self, route: Route, status: u16) {
        let at = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        if let Some(counter) = self.requests.get(route.slot()).and_then(|row| row.get(at)) {
            counter.increment();
        }
    }

    /// Counts one more open stream of a route.
    pub fn stream_opened(&self, route: Route) {
        if let Some(gauge) = self.open_streams.get(route.slot()) {
            gauge.set(gauge.get() + 1);
        }
    }

    /// Counts one open stream of a route less.
    pub fn stream_closed(&self, route: Route) {
        if let Some(gauge) = self.open_streams.get(route.slot()) {
            gauge.set(gauge.get().saturating_sub(1));
        }
    }

    /// Returns how many streams are open, by the routes that have any.
    pub(crate) fn open_streams(&self) -> impl Iterator<Item = (Route, u64)> {
        let routes = self.routes.get().copied().unwrap_or_default().iter().filter(|route| route.is_of_streams());
        routes.map(|route| (*route, self.open_streams.get(route.slot()).map_or(0, Gauge::get)))
    }

    /// Counts records that were not stored for this reason.
    pub fn publish_failed(&self, reject: &Reject, count: u64) {
        if let Some(counter) = self.publish_failures.get(PublishFailure::of(reject) as usize) {
            counter.add(count);
        }
    }

    /// Records that were not stored, by reason.
    pub(super) fn publish_failures(&self) -> impl Iterator<Item = (PublishFailure, u64)> {
        PublishFailure::ALL.into_iter().zip(self.publish_failures.iter().map(Counter::get))
    }

    /// Says which routes there are besides [`Route::OTHER`]. The first call counts.
    pub fn set_routes(&self, routes: &'static [Route]) {
        let _already_set = self.routes.set(routes);
    }

    /// Says which driver this shard runs on. The first call counts.
    pub fn set_driver(&self, driver: impl Into<String>, reason: impl Into<String>) {
        let _already_set = self.driver.set(DriverInfo { driver: driver.into(), reason: reason.into() });
    }

    /// The driver, once it is known.
    #[must_use]
    pub fn driver(&self) -> Option<&DriverInfo> {
        self.driver.get()
    }

    /// Requests by route and status; status 0 stands for codes that have no slot of their own.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (Route, u16, u64)> {
        let routes = self.routes.get().copied().unwrap_or_default();
        routes.iter().chain([&Route::OTHER]).flat_map(|route| {
            let row = self.requests.get(route.slot()).into_iter().flatten();
            STATUSES.into_iter().chain([0]).zip(row).map(move |(status, counter)| (*route, status, counter.get()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_status_has_a_slot_of_its_own() {
        const ROUTES: &[Route] = &[Route::new(1, "first"), Route::new(31, "last")];
        let metrics = ShardMetrics::default();
        metrics.set_routes(ROUTES);
        let all = || ROUTES.iter().copied().chain([Route::OTHER]).enumerate();
        for (times, route) in all() {
            for _ in 0..=times {
                metrics.request(route, 503);
            }
            metrics.request(route, 299);
            metrics.request(route, 599);
        }
        let counted: Vec<_> = metrics.requests().filter(|(.., count)| *count > 0).collect();
        let expect: Vec<_> = all().flat_map(|(times, route)| [(route, 503, times as u64 + 1), (route, 0, 2)]).collect();
        assert_eq!(counted, expect);
    }

    #[test]
    fn blocks_of_two_shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardMetrics>(), 128);
        assert_eq!(size_of::<ShardMetrics>() % 128, 0);
    }

    #[test]
    fn the_first_word_about_the_driver_counts() {
        let metrics = ShardMetrics::default();
        assert_eq!(metrics.driver(), None);
        metrics.set_driver("epoll", "io_uring is not permitted");
        metrics.set_driver("io_uring", "");
        assert_eq!(metrics.driver().map(|info| info.driver.as_str()), Some("epoll"));
    }
}
