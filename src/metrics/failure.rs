//! Why records were not stored.

use crate::reject::{Fault, Reject};

/// Why a record was not stored, as far as metrics tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishFailure {
    /// No stream takes it: it has gone, or has no leader.
    NoStream,
    /// The broker, or its leader, is away.
    BrokerAway,
    /// The broker asks to slow down.
    BrokerBusy,
    /// Too much is in flight.
    WindowFull,
    /// The stream, or the store, takes no more.
    Full,
    /// It may be stored or not.
    Unknown,
    /// An operator has to do something: permissions, a sealed stream, a schema.
    Operator,
    /// The record or its request is wrong.
    Record,
    /// Anything else.
    Other,
}

impl PublishFailure {
    /// All reasons, in the order of the blocks and of the text.
    pub const ALL: [Self; 9] = [
        Self::NoStream,
        Self::BrokerAway,
        Self::BrokerBusy,
        Self::WindowFull,
        Self::Full,
        Self::Unknown,
        Self::Operator,
        Self::Record,
        Self::Other,
    ];

    /// Value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoStream => "no_stream",
            Self::BrokerAway => "broker_away",
            Self::BrokerBusy => "broker_busy",
            Self::WindowFull => "window_full",
            Self::Full => "full",
            Self::Unknown => "unknown",
            Self::Operator => "operator",
            Self::Record => "record",
            Self::Other => "other",
        }
    }

    /// The reason of a record that failed so.
    #[must_use]
    pub fn of(reject: &Reject) -> Self {
        match reject {
            Reject::NoStream => Self::NoStream,
            Reject::BrokerAway => Self::BrokerAway,
            Reject::BrokerBusy => Self::BrokerBusy,
            Reject::WindowFull => Self::WindowFull,
            Reject::StreamFull(_) | Reject::StoreFailed(_) => Self::Full,
            Reject::OutcomeUnknown => Self::Unknown,
            Reject::BrokerForbidden(_) | Reject::StationBlocked(_) => Self::Operator,
            other if other.fault() == Fault::Client => Self::Record,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::ShardMetrics, reject::SizeLimit};

    #[test]
    fn c10_each_failure_is_counted_by_its_reason() {
        let metrics = ShardMetrics::default();
        for (reject, expect) in [
            (Reject::NoStream, "no_stream"),
            (Reject::BrokerAway, "broker_away"),
            (Reject::BrokerBusy, "broker_busy"),
            (Reject::WindowFull, "window_full"),
            (Reject::StreamFull("x".into()), "full"),
            (Reject::OutcomeUnknown, "unknown"),
            (Reject::BrokerForbidden("x".into()), "operator"),
            (Reject::Schema("x".into()), "record"),
            (Reject::TooLarge(SizeLimit::Record, 1), "record"),
            (Reject::BrokerRefused(1, "x".into()), "other"),
        ] {
            let before: u64 = metrics.publish_failures().map(|(_, count)| count).sum();
            metrics.publish_failed(&reject, 2);
            let (reason, _) =
                metrics.publish_failures().find(|(reason, _)| reason.label() == expect).expect("a reason");
            assert_eq!(PublishFailure::of(&reject), reason, "{reject:?}");
            assert_eq!(metrics.publish_failures().map(|(_, count)| count).sum::<u64>(), before + 2);
        }
        for reason in PublishFailure::ALL {
            let found = PublishFailure::ALL.iter().filter(|other| other.label() == reason.label()).count();
            assert_eq!(found, 1, "{reason:?}");
        }
    }
}
