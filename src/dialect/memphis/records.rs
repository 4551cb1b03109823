//! `GET /stations/<name>/records`: records by place, once, as a JSON array.
//!
//! The answer says where to go on, also when there is nothing more: whoever asks for that again and again misses nothing.

use super::{
    Memphis,
    cursor::{Wanted, write_cursor},
    element::{self, Element, Place},
    reply, route,
    tail::Call,
};
use crate::{
    consume::{AnswerRoom, Begin, Piece, Tail},
    dialect::{Reply, Request},
    limits::{PAGE_BYTES_MAX, PAGE_RECORDS_DEFAULT, PAGE_RECORDS_MAX},
    reject::Reject,
};
use std::{fmt::Write as _, ops::Range};

impl Memphis {
    /// Answers with a page of records.
    pub(super) async fn records(&self, call: &Call, request: &Request<'_>) -> Reply {
        self.page(call, request).await.unwrap_or_else(|reject| reply::reject(&reject, route::RECORDS))
    }

    async fn page(&self, call: &Call, request: &Request<'_>) -> Result<Reply, Reject> {
        let Wanted { begin, partition, limit } =
            Wanted::of(request.head.query.map(|query| query.of(request.bytes)), None, Begin::First)?;
        let limit = u32::try_from(limit.unwrap_or(u64::from(PAGE_RECORDS_DEFAULT)))
            .ok()
            .filter(|limit| *limit <= PAGE_RECORDS_MAX)
            .ok_or(Reject::Field("limit can not be greater than 5000"))?;
        let services = &self.services;
        let mut tail = Tail::open(&services.reader, &call.station, partition, &begin, services.limits.hold).await?;
        let pieces = tail.gather(limit, PAGE_BYTES_MAX).await?;
        let bytes = pieces.iter().map(|piece| piece.page.arena.len()).sum();
        let mut held = services.ingest.budget.hold();
        let elements = pieces.iter().flat_map(elements);
        let body = element::encode(&services.ingest, bytes, elements, AnswerRoom::new(0, &mut held)).await?;
        let gaps: Vec<_> = pieces.iter().filter_map(|piece| Some((piece.partition, piece.gap.clone()?))).collect();
        let metrics = &services.ingest.metrics;
        metrics.records_read.add(pieces.iter().map(|piece| piece.page.records.len() as u64).sum());
        metrics.record_bytes_read.add(bytes as u64);
        metrics.read_gaps.add(gaps.len() as u64);
        let mut reply = reply::no_store(reply::json(200, body, route::RECORDS));
        reply.fields.extend(&reply::EXPOSED);
        reply.fields.push("Link", next(call, &tail, limit, partition).as_bytes());
        if !gaps.is_empty() {
            reply.fields.push("Sluicegate-Gap", list(&gaps).as_bytes());
        }
        Ok(Reply { held: Some(held), ..reply })
    }
}

/// The records of a piece.
pub(super) fn elements(piece: &Piece) -> impl Iterator<Item = Element<'_>> {
    let (arena, partition) = (&piece.page.arena, piece.partition);
    piece.page.records.iter().map(move |record| Element {
        payload: record.payload.of(arena),
        headers: record.headers.of(arena),
        place: Some(Place { partition, sequence: record.sequence, time_ms: record.time_ms }),
    })
}

/// Where to go on (RFC 8288). The credential that a URL may have carried is left out.
fn next(call: &Call, tail: &Tail, limit: u32, partition: Option<u16>) -> String {
    let mut link = format!("</stations/{}/records?from=", call.station);
    write_cursor(tail.places(), &mut link);
    // Writing to a String cannot fail.
    let _ = write!(link, "&limit={limit}");
    if let Some(partition) = partition {
        let _ = write!(link, "&partition={partition}");
    }
    link.push_str(">; rel=\"next\"");
    link
}

/// What retention took, as `0:5-9, 1:3-3`: each partition with the first and the last sequence that is missing.
fn list(gaps: &[(u16, Range<u64>)]) -> String {
    let texts: Vec<_> = gaps
        .iter()
        .map(|(partition, gap)| format!("{partition}:{}-{}", gap.start, gap.end.saturating_sub(1)))
        .collect();
    texts.join(", ")
}
