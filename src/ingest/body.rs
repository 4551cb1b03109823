//! From a body to records, for dialects: undoes its `Content-Encoding`, and splits it.
//!
//! A small body is decoded at once, others in time slices, so that the shard looks at its sockets in between.

use super::{Ingest, next_tick};
use crate::{
    budget::Held,
    limits::{DECODED_AT_ONCE_BYTES_MAX, INFLATED_AT_ONCE_BYTES_MAX, JSON_DEPTH_MAX, PRODUCE_TIMEOUT, TIME_SLICE},
    reject::Reject,
    rt::clock,
    wire::{
        Span,
        content_encoding::Codings,
        json::{self, SplitLimits},
        json_lines::{self, Framing},
    },
};
use std::time::Instant;

/// How a body holds records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The whole body is one record, whatever it is.
    Single,
    /// A JSON array; each element is a record.
    Batch,
}

impl Ingest {
    /// Returns where in a decoded body its records are, in input order.
    pub fn split(&self, form: Form, body: &[u8]) -> Result<Vec<Span>, Reject> {
        let mut records = Vec::new();
        match form {
            Form::Single => {
                let end = u32::try_from(body.len()).map_err(|_| Reject::Internal("a body over the span limit"))?;
                records.push(Span { start: 0, end });
            }
            Form::Batch => {
                let limits = SplitLimits { records_max: self.limits.batch_records_max, depth_max: JSON_DEPTH_MAX };
                json::split(body, &limits, &mut records)?;
            }
        }
        Ok(records)
    }

    /// Returns where in a decoded body its lines are, or its texts if it is a sequence: each is a record.
    pub fn split_lines(&self, framing: Framing, body: &[u8]) -> Result<Vec<Span>, Reject> {
        let mut records = Vec::new();
        let limits = SplitLimits { records_max: self.limits.batch_records_max, depth_max: JSON_DEPTH_MAX };
        json_lines::split(framing, body, &limits, &mut records)?;
        Ok(records)
    }

    /// Returns the body of a request without its codings; it has one at least. `held` counts what the decoded body
    /// takes, and what it took on the way. `now` is when the request is handled.
    pub async fn decode(
        &self,
        codings: Codings,
        body: &[u8],
        held: &mut Held,
        now: Instant,
    ) -> Result<Vec<u8>, Reject> {
        let cap = self.limits.inflated_bytes_max;
        let mut place = self.time_slices.ticket();
        let begin = clock::now();
        // Without most of a turn left, others decode as well: then this one waits with them.
        let has_turn = place.begin(begin).is_some_and(|turn| turn > TIME_SLICE / 2);
        if has_turn && body.len() <= DECODED_AT_ONCE_BYTES_MAX {
            let mut decoded = Vec::new();
            let is_decoded = codings.decode_at_once(body, cap.min(INFLATED_AT_ONCE_BYTES_MAX), &mut decoded);
            let end = clock::now();
            place.end(end - begin, end);
            if is_decoded {
                held.grow_to(decoded.capacity())?;
                return Ok(decoded);
            }
        }
        let mut decoder = codings.decoder(body, cap);
        loop {
            let turn = |until| decoder.turn(|bytes| held.grow_to(bytes), || clock::now() >= until);
            if place.work(turn)? == Some(true) {
                break;
            }
            if clock::now() >= now + PRODUCE_TIMEOUT {
                return Err(Reject::Overloaded("the time for decoding bodies"));
            }
            next_tick().await;
        }
        let decoded = decoder.into_body();
        held.shrink_to(decoded.capacity());
        Ok(decoded)
    }
}
