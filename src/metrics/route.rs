//! What requests are counted as.

use crate::limits::METRIC_ROUTES_MAX;

/// A part of an HTTP API. Each dialect names its own; all of a gateway are told to its metrics when it starts
/// ([`super::ShardMetrics::set_routes`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    slot: u8,
    label: &'static str,
    is_of_streams: bool,
}

impl Route {
    /// Requests that are for no route, or that do not parse.
    pub const OTHER: Self = Self { slot: 0, label: "other", is_of_streams: false };

    /// Returns a route that is counted in a slot of its own: no other route of the gateway has it, and 0 is
    /// [`Self::OTHER`].
    #[must_use]
    pub const fn new(slot: u8, label: &'static str) -> Self {
        assert!(slot > 0 && (slot as usize) < METRIC_ROUTES_MAX, "a slot that no other route has");
        Self { slot, label, is_of_streams: false }
    }

    /// Returns a route whose requests go on for as long as their client wants: those that are open are counted too
    /// ([`super::names::OPEN_STREAMS`]).
    #[must_use]
    pub const fn of_streams(slot: u8, label: &'static str) -> Self {
        Self { is_of_streams: true, ..Self::new(slot, label) }
    }

    /// Returns whether it was made by [`Self::of_streams`].
    pub(super) const fn is_of_streams(self) -> bool {
        self.is_of_streams
    }

    /// Returns the value of the label `route`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.label
    }

    /// Returns the slot in which it is counted.
    pub(super) fn slot(self) -> usize {
        self.slot.into()
    }
}
