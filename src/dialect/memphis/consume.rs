//! `POST /stations/<name>/consume/batch`.
//!
//! The answer is a bare JSON array of [`Element`]s.

use super::{
    Memphis, decoded,
    element::{self, Element},
    fields::Fields,
    reply, route,
};
use crate::{
    auth::Principal,
    consume::{Consume, Handout},
    dialect::{Reply, Request},
    limits::{FETCH_RECORDS_MAX, FETCH_WAIT_MAX},
    reject::Reject,
    station::Name,
    wire::content_encoding::Codings,
};
use std::{rc::Rc, time::Duration};

const BATCH_SIZE_DEFAULT: i64 = 10;
const WAIT_MS_DEFAULT: i64 = 5_000;
const WAIT_MS_MIN: i64 = 100;
/// The group of a caller that names none, and the suffix of every other, as in the original.
const GROUP_DEFAULT: &str = "rest-gateway";

/// An admitted consume call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) station: Name,
    /// Whether the principal may create the station (it may produce to it).
    pub(super) create: bool,
    /// How the body is compressed.
    pub(super) codings: Codings,
    pub(super) principal: Rc<Principal>,
}

/// What the body asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    group: Option<Name>,
    /// 0 of a call that acknowledges, and wants nothing more.
    records_max: u32,
    wait: Duration,
    /// A station that is not there may be made, where the principal may.
    create: bool,
    /// The client acknowledges by itself.
    manual_ack: bool,
    /// The delivery that is done, and how many of its messages are, if not all.
    ack: Option<(String, Option<usize>)>,
}

impl Memphis {
    /// Delivers messages; they are acknowledged when the reply has arrived, or by a later call.
    pub(super) async fn consume(&self, call: &Call, request: &Request<'_>, body: &[u8]) -> Reply {
        self.hand_out(call, request, body).await.unwrap_or_else(|reject| reply::reject(&reject, route::CONSUME))
    }

    async fn hand_out(&self, call: &Call, request: &Request<'_>, body: &[u8]) -> Result<Reply, Reject> {
        let wanted = wanted(&decoded(call.codings, body)?)?;
        if let Some((id, records)) = &wanted.ack {
            self.services.fetcher.open.acknowledge(id, &call.station, *records)?;
        }
        if wanted.records_max == 0 {
            return Ok(reply::json(200, b"[]".as_slice(), route::CONSUME));
        }
        let consume = Consume {
            station: &call.station,
            create: call.create && wanted.create,
            group: wanted.group.as_ref(),
            principal: call.principal.label(),
            records_max: wanted.records_max,
            wait: wanted.wait,
            manual_ack: wanted.manual_ack,
            now: request.now.instant,
        };
        let mut delivery = self.services.fetcher.consume(&consume).await?;
        let (messages, arena, room) = delivery.to_encode();
        let records = messages.iter().map(|message| Element {
            payload: message.payload.of(arena),
            headers: message.headers.of(arena),
            place: None,
        });
        let body = element::encode(&self.services.ingest, arena.len(), records, room).await?;
        let bytes = body.len();
        let mut reply = reply::json(200, body, route::CONSUME);
        if !wanted.manual_ack || delivery.messages().is_empty() {
            return Ok(Reply { settle: Some(Handout::Delivery(delivery)), ..reply });
        }
        let (opening, held) = self.services.fetcher.open.keep(delivery, &consume, bytes)?;
        reply.fields.extend(&reply::EXPOSED);
        reply.fields.push("Sluicegate-Delivery", opening.id().as_bytes());
        Ok(Reply { settle: Some(Handout::Open(opening)), held: Some(held), ..reply })
    }
}

/// Reads and checks the body, in the original's order and with its words.
fn wanted(body: &[u8]) -> Result<Wanted, Reject> {
    let fields = Fields::from_json(body)?;
    let consumer_name = fields.text("consumer_name")?.unwrap_or_default();
    let group = fields.text("consumer_group")?.unwrap_or_default();
    let ack_records = match fields.integer("ack_records")?.map(usize::try_from) {
        Some(Err(_)) => return Err(Reject::Field("ack_records counts records: 0 or more")),
        Some(Ok(records)) => Some(records),
        None => None,
    };
    let ack = fields.text("ack")?.map(|id| (id.to_owned(), ack_records));
    let batch_size = fields.integer("batch_size")?;
    let wants_nothing = ack.is_some() && batch_size == Some(0);
    let batch_size = batch_size.filter(|size| *size != 0).unwrap_or(BATCH_SIZE_DEFAULT);
    let wait_ms = fields.integer("batch_max_wait_time_ms")?.filter(|wait| *wait != 0).unwrap_or(WAIT_MS_DEFAULT);
    if consumer_name.is_empty() {
        return Err(Reject::Field("Consumer name is required"));
    }
    let name = |text: &str| Name::parse(text).map_err(|fault| Reject::Name("Consumer", fault));
    name(consumer_name)?;
    let records_max = u32::try_from(batch_size)
        .ok()
        .filter(|size| (1..=FETCH_RECORDS_MAX).contains(size))
        .ok_or(Reject::Field("Batch size can not be greater than 5000 or less than 1"))?;
    let group = if group.is_empty() || group.eq_ignore_ascii_case(GROUP_DEFAULT) { None } else { Some(name(group)?) };
    let wait = Duration::from_millis(u64::try_from(wait_ms.max(WAIT_MS_MIN)).unwrap_or_default());
    Ok(Wanted {
        group,
        records_max: if wants_nothing { 0 } else { records_max },
        wait: wait.min(FETCH_WAIT_MAX),
        create: fields.flag("create_station")?.unwrap_or(true),
        manual_ack: fields.flag("manual_ack")?.unwrap_or(false),
        ack,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::NameFault;

    #[test]
    fn the_body_is_read_with_the_originals_defaults_and_words() {
        let group = |name: &str| Some(Name::parse(name).unwrap());
        let asks = |group, records_max, wait_ms| {
            Ok(Wanted {
                group,
                records_max,
                wait: Duration::from_millis(wait_ms),
                create: true,
                manual_ack: false,
                ack: None,
            })
        };
        let check = |body: &str, expect: Result<Wanted, Reject>| assert_eq!(wanted(body.as_bytes()), expect, "{body}");
        check(r#"{"consumer_name":"c"}"#, asks(None, 10, 5_000));
        check(r#"{"consumer_name":"c","consumer_group":"rest-gateway"}"#, asks(None, 10, 5_000));
        check(r#"{"consumer_name":"c","consumer_group":"G.1","batch_size":5000}"#, asks(group("g.1"), 5_000, 5_000));
        check(r#"{"consumer_name":"c","batch_size":0,"batch_max_wait_time_ms":1}"#, asks(None, 10, 100));
        check(r#"{"consumer_name":"c","batch_max_wait_time_ms":9999999}"#, asks(None, 10, 60_000));
        let size = || Err(Reject::Field("Batch size can not be greater than 5000 or less than 1"));
        check(r#"{"consumer_name":"c","batch_size":5001}"#, size());
        check(r#"{"consumer_name":"c","batch_size":-1}"#, size());
        check(r#"{"batch_size":-1}"#, Err(Reject::Field("Consumer name is required")));
        check("{}", Err(Reject::Field("Consumer name is required")));
        check(r#"{"consumer_name":"c","batch_size":"x"}"#, Err(Reject::Field("Invalid request body")));
        check("", Err(Reject::Field("Invalid request body")));
        let done = |records_max, ack: Option<(&str, Option<usize>)>| {
            let ack = ack.map(|(id, records)| (id.to_owned(), records));
            Ok(Wanted { group: None, records_max, wait: Duration::from_secs(5), create: false, manual_ack: true, ack })
        };
        let ours = r#""consumer_name":"c","create_station":false,"manual_ack":true"#;
        check(&format!("{{{ours}}}"), done(10, None));
        check(&format!(r#"{{{ours},"ack":"f0"}}"#), done(10, Some(("f0", None))));
        check(&format!(r#"{{{ours},"ack":"f0","ack_records":3,"batch_size":0}}"#), done(0, Some(("f0", Some(3)))));
        check(
            &format!(r#"{{{ours},"ack":"f0","ack_records":-1}}"#),
            Err(Reject::Field("ack_records counts records: 0 or more")),
        );
        check(r#"{"consumer_name":"c","manual_ack":"yes"}"#, Err(Reject::Field("Invalid request body")));
        check(r#"{"consumer_name":"a b"}"#, Err(Reject::Name("Consumer", NameFault::Characters)));
    }
}
