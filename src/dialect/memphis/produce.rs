//! `POST /stations/<name>/produce/single` and `/produce/batch`.

use super::{Memphis, reply};
use crate::{
    backend::Outcome,
    dialect::{Reply, Request},
    ingest::{Form, Produce},
    metrics::Route,
    reject::Reject,
    station::Name,
    wire::content::Codings,
};
use serde_json::json;
use std::fmt::Write as _;

/// Errors that a batch's answer lists in full; more are counted.
const ERRORS_LISTED_MAX: usize = 1_000;

/// An admitted produce call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) station: Name,
    pub(super) form: Form,
    /// How the body is compressed.
    pub(super) codings: Codings,
    /// The principal may produce here, so it may also create the station.
    pub(super) create: bool,
}

impl Call {
    /// What it is counted as.
    pub(super) fn route(&self) -> Route {
        match self.form {
            Form::Single => Route::ProduceSingle,
            Form::Batch => Route::ProduceBatch,
        }
    }
}

/// Whether a produce route takes this media type (lower-cased, without parameters).
pub(super) fn takes_media_type(form: Form, media_type: Option<&str>) -> bool {
    let Some(kind) = media_type else { return true };
    let text_or_json = kind.starts_with("text/") || super::is_json(kind);
    match form {
        Form::Batch => text_or_json,
        Form::Single => {
            text_or_json || matches!(kind, "application/x-protobuf" | "application/octet-stream" | "avro/bytes")
        }
    }
}

impl Memphis {
    /// Stores, and answers when every record is acknowledged.
    pub(super) async fn produce(&self, call: &Call, request: &Request<'_>, body: &[u8]) -> Reply {
        let produce = Produce {
            station: &call.station,
            create: call.create,
            form: call.form,
            codings: call.codings,
            head: request.head,
            head_bytes: request.bytes,
            body,
            now: request.now.instant,
        };
        match self.ingest.produce(&produce).await {
            Ok(outcomes) => outcomes_reply(&outcomes, call),
            Err(reject) => reply::reject(&reject, call.route()),
        }
    }
}

/// The answer to the outcomes of a request's records.
///
/// All stored is 200. An unknown outcome anywhere is 503 for the whole request, because only sending
/// it again can settle it. A request of which nothing is stored and that may be sent again says so
/// (429, 503). What remains is a mixture, or records that are themselves wrong: 400, and which.
fn outcomes_reply(outcomes: &[Outcome], call: &Call) -> Reply {
    let failures = || {
        outcomes.iter().enumerate().filter_map(|(index, outcome)| match outcome {
            Outcome::Stored { .. } => None,
            Outcome::Failed(reject) => Some((index, reject)),
        })
    };
    let Some((_, first)) = failures().next() else { return reply::stored(call.route()) };
    if let Some((_, unknown)) = failures().find(|(_, reject)| **reject == Reject::OutcomeUnknown) {
        return reply::reject(unknown, call.route());
    }
    let failed = failures().count();
    let sent = outcomes.len() - failed;
    let of_the_request = !matches!(first, Reject::TooLarge(..));
    let one_reason = of_the_request && failures().all(|(_, reject)| reject == first);
    let all_again = failures().all(|(_, reject)| reject.retry_after().is_some());
    if call.form == Form::Single || (sent == 0 && (one_reason || all_again)) {
        return reply::reject(first, call.route());
    }
    let mut errors: Vec<String> =
        failures().take(ERRORS_LISTED_MAX).map(|(index, reject)| describe(index, reject)).collect();
    if failed > ERRORS_LISTED_MAX {
        errors.push(format!("and {} more", failed - ERRORS_LISTED_MAX));
    }
    let body = json!({"errors": errors, "fail": failed, "sent": sent, "success": false});
    reply::json(400, body.to_string().into_bytes(), call.route())
}

/// One failed record of a batch: its place (from 0, as in message ids) and why.
fn describe(index: usize, reject: &Reject) -> String {
    let mut text = format!("record {index}: ");
    let _ = write!(text, "{}", reply::text_of(reject));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::SizeLimit;

    fn call(form: Form) -> Call {
        Call { station: Name::parse("s").unwrap(), form, codings: Codings::default(), create: true }
    }

    fn stored() -> Outcome {
        Outcome::Stored { partition: 0, sequence: 1, duplicate: false }
    }

    fn check(form: Form, outcomes: &[Outcome], status: u16, body: &str) {
        let reply = outcomes_reply(outcomes, &call(form));
        assert_eq!((reply.status, String::from_utf8_lossy(&reply.body).as_ref()), (status, body), "{outcomes:?}");
    }

    #[test]
    fn success_means_that_every_record_is_acknowledged() {
        check(Form::Batch, &[], 200, r#"{"error":null,"success":true}"#);
        check(Form::Batch, &[stored(), stored()], 200, r#"{"error":null,"success":true}"#);
        let large = Outcome::Failed(Reject::TooLarge(SizeLimit::Record, 9));
        check(
            Form::Batch,
            &[stored(), large.clone()],
            400,
            r#"{"errors":["record 1: the record with its headers is larger than 9 bytes"],"fail":1,"sent":1,"success":false}"#,
        );
        check(
            Form::Batch,
            std::slice::from_ref(&large),
            400,
            r#"{"errors":["record 0: the record with its headers is larger than 9 bytes"],"fail":1,"sent":0,"success":false}"#,
        );
        check(
            Form::Single,
            &[large],
            413,
            r#"{"error":"the record with its headers is larger than 9 bytes","success":false}"#,
        );
    }

    #[test]
    fn an_unknown_outcome_is_neither_success_nor_the_clients_fault() {
        for others in [stored(), Outcome::Failed(Reject::TooLarge(SizeLimit::Record, 9))] {
            let reply = outcomes_reply(&[others, Outcome::Failed(Reject::OutcomeUnknown)], &call(Form::Batch));
            assert_eq!((reply.status, reply.retry_after.is_some()), (503, true));
        }
    }

    #[test]
    fn a_batch_that_failed_whole_and_may_be_sent_again_says_so() {
        let full = Outcome::Failed(Reject::StreamFull("maximum messages exceeded".into()));
        let other = Outcome::Failed(Reject::BrokerAway);
        let reply = outcomes_reply(&[full.clone(), other], &call(Form::Batch));
        assert_eq!((reply.status, reply.retry_after.is_some()), (503, true));
        let reply = outcomes_reply(&[stored(), full], &call(Form::Batch));
        assert_eq!(reply.status, 400, "some are stored: sending all of it again would store them twice");
    }

    #[test]
    fn media_types_that_producers_send_are_taken() {
        for (media_type, single, batch) in [
            (None, true, true),
            (Some("application/json"), true, true),
            (Some("application/cloudevents+json"), true, true),
            (Some("text/plain"), true, true),
            (Some("application/x-protobuf"), true, false),
            (Some("application/octet-stream"), true, false),
            (Some("avro/bytes"), true, false),
            (Some("application/x-www-form-urlencoded"), false, false),
            (Some("image/png"), false, false),
        ] {
            assert_eq!(takes_media_type(Form::Single, media_type), single, "{media_type:?}");
            assert_eq!(takes_media_type(Form::Batch, media_type), batch, "{media_type:?}");
        }
    }
}
