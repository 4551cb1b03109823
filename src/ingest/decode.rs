//! Undoes the `Content-Encoding` of a body: small ones at once, others in turns, so that the shard looks at its sockets
//! in between.

use super::{Ingest, Produce, next_tick};
use crate::{
    budget::Held,
    limits::{DECODED_AT_ONCE_BYTES_MAX, INFLATED_AT_ONCE_BYTES_MAX, PRODUCE_TIMEOUT, TIME_SLICE},
    reject::{Reject, SizeLimit},
    rt::clock,
};

impl Ingest {
    /// The body without its codings, of which it has some. `held` counts what it takes, and what it took on the way.
    pub(super) async fn decode(&self, call: &Produce<'_>, held: &mut Held) -> Result<Vec<u8>, Reject> {
        let cap = self.limits.inflated_bytes_max;
        let mut place = self.time_slices.ticket();
        let begin = clock::now();
        // Without most of a turn left, others decode as well: then this one waits with them.
        let has_turn = place.begin(begin).is_some_and(|turn| turn > TIME_SLICE / 2);
        if has_turn && call.body.len() <= DECODED_AT_ONCE_BYTES_MAX {
            let mut decoded = Vec::new();
            let verdict = call.codings.decode(call.body, cap.min(INFLATED_AT_ONCE_BYTES_MAX), &mut decoded);
            let end = clock::now();
            place.end(end - begin, end);
            match verdict {
                Err(Reject::TooLarge(SizeLimit::Inflated, _)) if cap > INFLATED_AT_ONCE_BYTES_MAX => {}
                Err(reject) => return Err(reject),
                Ok(()) => {
                    held.grow_to(decoded.capacity())?;
                    return Ok(decoded);
                }
            }
        }
        let mut decoder = call.codings.decoder(call.body, cap);
        loop {
            let turn = |until| decoder.turn(|bytes| held.grow_to(bytes), || clock::now() >= until);
            if place.work(turn)? == Some(true) {
                break;
            }
            if clock::now() >= call.now + PRODUCE_TIMEOUT {
                return Err(Reject::Overloaded("the time for decoding bodies"));
            }
            next_tick().await;
        }
        let decoded = decoder.into_body();
        held.shrink_to(decoded.capacity());
        Ok(decoded)
    }
}
