//! What the broker's errors mean to a client: one map from JetStream's codes to [`Reject`].
//!
//! JetStream sends a class as in HTTP (`code`) and a number of its own (`err_code`). The number decides
//! where it is known; the class decides otherwise, so that an error of a newer server still falls on the right
//! side of "the same request may be sent again". Every error here says that the record was *not* stored,
//! but for 10158 (the same id is being stored by someone else right now).

use super::{atomic, window::AckOutcome};
use crate::{
    reject::{Reject, SizeLimit},
    station::STREAM_NOT_ATOMIC,
    wire::nats::headers::NO_RESPONDERS,
};

/// "duplicate message id is in process": the fate of the other record with that id is open.
const DUPLICATE_IN_PROCESS: u32 = 10_158;
/// The message is larger than the stream's `max_msg_size`.
const MESSAGE_TOO_LARGE: u32 = 10_054;
/// "too many requests": the stream's ingest queue is full. Said at once, before what is in the queue is answered.
pub const TOO_MANY_REQUESTS: u32 = 10_167;
/// "wrong last sequence", to a record that is never stored and asks for an id: the id is not known, as far as this
/// request tells.
pub const WRONG_LAST_SEQUENCE: u32 = 10_071;
/// "wrong last msg ID", likewise.
pub const WRONG_LAST_ID: u32 = 10_070;
/// There is no such stream.
const STREAM_NOT_FOUND: u32 = 10_059;

/// "invalid operation on sealed stream": nothing goes in until an operator has done something.
const SEALED: u32 = 10_109;

/// Limits that are reached, of the stream (`discard: new`), its account or its server: room may come back.
const FULL: [u32; 6] = [
    10_077, // store failed: maximum messages, bytes or messages per subject exceeded
    10_002, // resource limits exceeded for account
    10_023, // insufficient resources
    10_028, // insufficient memory resources available
    10_047, // insufficient storage resources available
    10_053, // stream limits exceeded
];

/// What became of a record, as a request's failure; `None` if it was stored. `record_bytes_max` is the limit
/// to name if the broker finds the record too large.
#[must_use]
pub fn of_outcome(outcome: &AckOutcome, subject: &str, record_bytes_max: u64) -> Option<Reject> {
    Some(match outcome {
        AckOutcome::Stored { .. } => return None,
        AckOutcome::Error { code, err_code, description } => reject(*code, *err_code, description, record_bytes_max),
        AckOutcome::NoResponders => Reject::NoStream,
        AckOutcome::TimedOut | AckOutcome::Lost => Reject::OutcomeUnknown,
        AckOutcome::Refused => Reject::BrokerForbidden(subject.into()),
    })
}

/// What became of an atomic batch that is not to be published in another way. Nothing of it is stored, unless it says
/// that this is unknown.
#[must_use]
pub fn of_batch(outcome: &AckOutcome, subject: &str, record_bytes_max: u64) -> Reject {
    match outcome {
        AckOutcome::Error { err_code: atomic::DISABLED, .. } => Reject::NotAtomic(STREAM_NOT_ATOMIC),
        AckOutcome::Error { err_code: atomic::TOO_MANY_RECORDS, .. } => {
            Reject::NotAtomic("the broker takes fewer records at a time")
        }
        // It does not say what it was; that other batches were in the way is likely, and passes.
        AckOutcome::Error { err_code: atomic::INCOMPLETE | atomic::TOO_MANY_OPEN, .. } => Reject::BrokerBusy,
        other => of_outcome(other, subject, record_bytes_max)
            .unwrap_or(Reject::Internal("an acknowledgement as the answer to a batch")),
    }
}

/// Whether an error says "not now": the record is not stored, and may be a moment later.
#[must_use]
pub fn is_for_the_moment(code: u16, err_code: u32) -> bool {
    matches!(reject(code, err_code, "", 0), Reject::BrokerAway | Reject::BrokerBusy | Reject::NoStream)
}

/// Whether an error is one that a leader also gives who has lost the others and does not know it yet: it holds a record
/// of this id, or a batch, which it cannot store, or it looks for an id. It shows no service.
#[must_use]
pub fn is_said_without_a_cluster(code: u16, err_code: u32) -> bool {
    let about_ids =
        [WRONG_LAST_SEQUENCE, WRONG_LAST_ID, atomic::DUPLICATE_ID, atomic::INCOMPLETE, atomic::TOO_MANY_OPEN];
    about_ids.contains(&err_code) || reject(code, err_code, "", 0) == Reject::OutcomeUnknown
}

/// An error of the broker as a request's failure.
#[must_use]
pub fn reject(code: u16, err_code: u32, description: &str, record_bytes_max: u64) -> Reject {
    match err_code {
        DUPLICATE_IN_PROCESS => return Reject::OutcomeUnknown,
        MESSAGE_TOO_LARGE => return Reject::TooLarge(SizeLimit::Record, record_bytes_max),
        TOO_MANY_REQUESTS => return Reject::BrokerBusy,
        STREAM_NOT_FOUND => return Reject::NoStream,
        SEALED => return Reject::StationBlocked(format!("the station's stream is sealed: {description}").into()),
        full if FULL.contains(&full) => return Reject::StreamFull(description.into()),
        _ => {}
    }
    match code {
        429 => Reject::BrokerBusy,
        408 | 504 => Reject::OutcomeUnknown,
        // Not enabled, no leader, temporarily unavailable: JetStream is away, though its server answers.
        NO_RESPONDERS => Reject::BrokerAway,
        // 400, 404, 409, 412, 500 and whatever comes: the same record again will not fare better.
        _ => Reject::BrokerRefused(if err_code == 0 { u32::from(code) } else { err_code }, description.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Fault;

    #[test]
    fn each_error_falls_on_its_side_of_may_be_sent_again() {
        let full = || Reject::StreamFull("text".into());
        let refused = |number| Reject::BrokerRefused(number, "text".into());
        for (code, err_code, expect, again) in [
            (503, 10_077, full(), true),
            (400, 10_002, full(), true),
            (503, 10_023, full(), true),
            (500, 10_028, full(), true),
            (500, 10_047, full(), true),
            (500, 10_053, full(), true),
            (429, 10_167, Reject::BrokerBusy, true),
            (429, 0, Reject::BrokerBusy, true),
            (503, 10_008, Reject::BrokerAway, true),
            (503, 10_035, Reject::BrokerAway, true),
            (503, 10_039, Reject::BrokerAway, true),
            (503, 10_063, Reject::BrokerAway, true),
            (503, 10_076, Reject::BrokerAway, true),
            (503, 10_163, Reject::BrokerAway, true),
            (503, 0, Reject::BrokerAway, true),
            (503, 10_999, Reject::BrokerAway, true),
            (409, 10_158, Reject::OutcomeUnknown, true),
            (408, 0, Reject::OutcomeUnknown, true),
            (504, 0, Reject::OutcomeUnknown, true),
            (404, 10_059, Reject::NoStream, true),
            (400, 10_054, Reject::TooLarge(SizeLimit::Record, 7), false),
            (400, 10_025, refused(10_025), false),
            (400, 10_060, refused(10_060), false),
            (400, 10_070, refused(10_070), false),
            (400, 10_071, refused(10_071), false),
            (400, 10_074, refused(10_074), false),
            (400, 10_075, refused(10_075), false),
            (400, 10_109, Reject::StationBlocked("the station's stream is sealed: text".into()), true),
            (400, 10_165, refused(10_165), false),
            (400, 10_166, refused(10_166), false),
            (400, 10_168, refused(10_168), false),
            (400, 10_174, refused(10_174), false),
            (400, 10_176, refused(10_176), false),
            (400, 10_177, refused(10_177), false),
            (400, 10_188, refused(10_188), false),
            (400, 10_199, refused(10_199), false),
            (400, 10_201, refused(10_201), false),
            (400, 10_205, refused(10_205), false),
            (412, 10_185, refused(10_185), false),
            (500, 10_041, refused(10_041), false),
            (400, 0, refused(400), false),
            (0, 0, refused(0), false),
            (999, 0, refused(999), false),
        ] {
            let found = reject(code, err_code, "text", 7);
            assert_eq!(found, expect, "{code} {err_code}");
            assert_eq!(found.retry_after().is_some(), again, "{code} {err_code}");
        }
    }

    #[test]
    fn c4_what_a_leader_says_who_has_lost_the_others_shows_no_service() {
        for (code, err_code, refused, undecided) in [
            (409, 10_158, false, true),
            (400, 10_201, false, true),
            (400, 10_071, false, true),
            (400, 10_176, false, true),
            (503, 10_008, true, false),
            (429, 10_167, true, false),
            // The stream is full, or the record is wrong: whoever says so may serve others.
            (503, 10_077, false, false),
            (400, 10_054, false, false),
        ] {
            assert_eq!(is_for_the_moment(code, err_code), refused, "{err_code}");
            assert_eq!(is_said_without_a_cluster(code, err_code), undecided, "{err_code}");
        }
    }

    #[test]
    fn only_what_is_stored_is_no_failure_and_what_is_unknown_says_so() {
        let error = AckOutcome::Error { code: 503, err_code: 10_077, description: "maximum messages exceeded".into() };
        for (outcome, expect) in [
            (AckOutcome::Stored { sequence: 1, duplicate: false }, None),
            (AckOutcome::Stored { sequence: 1, duplicate: true }, None),
            (error, Some(Reject::StreamFull("maximum messages exceeded".into()))),
            (AckOutcome::NoResponders, Some(Reject::NoStream)),
            (AckOutcome::TimedOut, Some(Reject::OutcomeUnknown)),
            (AckOutcome::Lost, Some(Reject::OutcomeUnknown)),
            (AckOutcome::Refused, Some(Reject::BrokerForbidden("s.t".into()))),
        ] {
            assert_eq!(of_outcome(&outcome, "s.t", 0), expect, "{outcome:?}");
        }
    }

    #[test]
    fn a_batch_that_is_all_or_nothing_has_refusals_of_its_own() {
        let error = |err_code| AckOutcome::Error { code: 400, err_code, description: "text".into() };
        for (outcome, expect) in [
            (error(10_174), Reject::NotAtomic(STREAM_NOT_ATOMIC)),
            (error(10_199), Reject::NotAtomic("the broker takes fewer records at a time")),
            (error(10_176), Reject::BrokerBusy),
            (error(10_210), Reject::BrokerBusy),
            (error(10_077), Reject::StreamFull("text".into())),
            (error(10_200), Reject::BrokerRefused(10_200, "text".into())),
            (AckOutcome::TimedOut, Reject::OutcomeUnknown),
            (AckOutcome::NoResponders, Reject::NoStream),
        ] {
            assert_eq!(of_batch(&outcome, "s", 7), expect, "{outcome:?}");
        }
    }

    #[test]
    fn a_full_stream_is_overload_and_an_absent_broker_is_upstream() {
        assert_eq!(reject(503, 10_077, "", 0).fault(), Fault::Overload);
        assert_eq!(reject(503, 10_076, "", 0).fault(), Fault::Upstream);
        assert_eq!(reject(400, 10_054, "", 0).fault(), Fault::Client);
    }
}
