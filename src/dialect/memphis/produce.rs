//! `POST /stations/<name>/produce/single` and `/produce/batch`.

use super::{Memphis, answer, prefer::Preferences, reply, route};
use crate::{
    auth::Principal,
    dialect::{Reply, Request},
    ingest::{Encoding, Form, Produce, Produced},
    metrics::Route,
    record::{MessageId, Records, message_id},
    reject::Reject,
    station::Name,
    wire::{content_encoding::Codings, json_lines::Framing},
};
use std::rc::Rc;

/// An admitted produce call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) station: Name,
    pub(super) form: Form,
    /// How the body is compressed.
    pub(super) codings: Codings,
    /// How the records of a batch are kept apart, if it is no array.
    pub(super) framing: Option<Framing>,
    /// How the records are written.
    pub(super) encoding: Encoding,
    /// The principal may produce here, so it may also create the station.
    pub(super) create: bool,
    /// Who posts.
    pub(super) principal: Rc<Principal>,
}

impl Call {
    /// What it is counted as.
    pub(super) fn route(&self) -> Route {
        match self.form {
            Form::Single => route::PRODUCE_SINGLE,
            Form::Batch => route::PRODUCE_BATCH,
        }
    }
}

/// Whether a produce route takes this media type (lower-cased, without parameters).
pub(super) fn takes_media_type(form: Form, media_type: Option<&str>) -> bool {
    let Some(kind) = media_type else { return true };
    let text_or_json = kind.starts_with("text/") || super::is_json(kind);
    match form {
        Form::Batch => text_or_json || framing_of(kind).is_some(),
        Form::Single => text_or_json || Encoding::of_media_type(media_type) == Encoding::Binary,
    }
}

/// Returns how the records of a body of this media type are kept apart, if it is no array: lines, or a sequence (RFC 7464).
pub(super) fn framing_of(media_type: &str) -> Option<Framing> {
    match media_type {
        "application/x-ndjson" | "application/jsonl" => Some(Framing::Lines),
        "application/json-seq" => Some(Framing::Sequence),
        _ => None,
    }
}

/// How the records of a produce call are written, as its media type (which the route takes) says.
pub(super) fn encoding_of(form: Form, media_type: Option<&str>) -> Encoding {
    match form {
        Form::Single => Encoding::of_media_type(media_type),
        Form::Batch => Encoding::Json,
    }
}

impl Memphis {
    /// Stores, and answers when every record is acknowledged.
    pub(super) async fn produce(&self, call: &Call, request: &Request<'_>, body: &[u8]) -> Reply {
        let preferences = Preferences::of(request.head.values(request.bytes, "prefer"));
        match self.store(call, request, body, preferences).await {
            Ok(Produced { outcomes, station, mut held }) => {
                let reply = answer::of(&outcomes, &station.partitions, call.form, preferences);
                // What is stored has to be answered, whether there is room for a list of errors or not.
                let _ = held.grow_to(reply.body.bytes().len());
                Reply { held: Some(held), ..reply }
            }
            Err(reject) => reply::reject(&reject, call.route()),
        }
    }

    /// Makes records of the body, and stores them.
    async fn store(
        &self,
        call: &Call,
        request: &Request<'_>,
        body: &[u8],
        preferences: Preferences,
    ) -> Result<Produced, Reject> {
        let (ingest, now, is_batch) = (&self.services.ingest, request.now.instant, call.form == Form::Batch);
        let base = message_id::of_fields(|name| request.head.field(request.bytes, name))?;
        let mut headers = Vec::new();
        ingest.policy.select(&request.head.fields(request.bytes), is_batch, &mut headers)?;
        let mut held = ingest.budget.hold();
        let decoded = if call.codings.is_identity() {
            None
        } else {
            // Boxed: a body that is not compressed keeps no room for it.
            Some(Box::pin(ingest.decode(call.codings, body, &mut held, now)).await?)
        };
        let body = decoded.as_deref().unwrap_or(body);
        let id = base.as_deref().map(|base| MessageId { base, numbered: is_batch.then_some(0) });
        let payloads = match call.framing {
            Some(framing) => ingest.split_lines(framing, body)?,
            None => ingest.split(call.form, body)?,
        };
        let records = Records { headers: &headers, id, ..Records::of(body, payloads) };
        let produce = Produce {
            station: &call.station,
            create: call.create,
            encoding: call.encoding,
            strict: preferences.strict,
            receipts: preferences.receipts,
            principal: call.principal.label(),
            now,
        };
        ingest.produce(&produce, records, held).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (Some("application/protobuf"), true, false),
            (Some("application/vnd.google.protobuf"), true, false),
            (Some("application/avro"), true, false),
            (Some("avro/binary"), true, false),
            (Some("application/vnd.apache.avro+binary"), true, false),
            (Some("application/csp-report"), true, true),
            (Some("application/reports+json"), true, true),
            (Some("application/x-ndjson"), false, true),
            (Some("application/jsonl"), false, true),
            (Some("application/json-seq"), false, true),
            (Some("application/x-www-form-urlencoded"), false, false),
            (Some("image/png"), false, false),
        ] {
            assert_eq!(takes_media_type(Form::Single, media_type), single, "{media_type:?}");
            assert_eq!(takes_media_type(Form::Batch, media_type), batch, "{media_type:?}");
        }
    }

    #[test]
    fn the_media_type_says_how_a_record_is_written() {
        for (media_type, single) in [
            (None, Encoding::Unsaid),
            (Some("application/json"), Encoding::Json),
            (Some("application/cloudevents+json"), Encoding::Json),
            (Some("text/plain"), Encoding::Json),
            (Some("application/x-protobuf"), Encoding::Binary),
            (Some("application/octet-stream"), Encoding::Binary),
            (Some("avro/bytes"), Encoding::Binary),
            (Some("application/protobuf"), Encoding::Binary),
            (Some("application/vnd.google.protobuf"), Encoding::Binary),
            (Some("application/avro"), Encoding::Binary),
            (Some("avro/binary"), Encoding::Binary),
            (Some("application/vnd.apache.avro+binary"), Encoding::Binary),
            (Some("application/csp-report"), Encoding::Json),
        ] {
            assert_eq!(encoding_of(Form::Single, media_type), single, "{media_type:?}");
            assert_eq!(encoding_of(Form::Batch, media_type), Encoding::Json, "{media_type:?}");
        }
    }
}
