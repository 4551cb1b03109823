//! The answer to a produce call: what became of its records, in the original's words, with receipts for who asks. Pure.

use super::{prefer::Preferences, reply, route};
use crate::{
    dialect::Reply,
    ingest::Form,
    limits::{ERRORS_LISTED_BYTES_MAX, ERRORS_LISTED_MAX},
    record::{Outcome, Receipt},
    reject::{Fault, Reject},
    station::Partition,
};
use std::io::Write as _;

/// The answer to the outcomes of a request's records, which were for a station of these partitions.
///
/// All stored is 200. If a record failed through no fault of its own, sending the request again can settle it, and the whole
/// request says so (429, 503), whatever became of the others: whoever reads 4xx as "never again" would throw that record away.
/// If the broker refuses one for a reason that does not pass, it is 500, without a time to come again.
/// What remains are records that are themselves wrong: 400, and which.
pub(super) fn of(outcomes: &[Outcome], partitions: &[Partition], form: Form, preferences: Preferences) -> Reply {
    let route = match form {
        Form::Single => route::PRODUCE_SINGLE,
        Form::Batch => route::PRODUCE_BATCH,
    };
    let receipts = preferences.receipts.then_some(Receipts { outcomes, partitions });
    let verdict = verdict(outcomes, form);
    let mut reply = match (&verdict, receipts) {
        (Verdict::Stored, None) => reply::stored(route),
        (Verdict::Stored, Some(receipts)) => {
            let mut body = br#"{"error":null,"#.to_vec();
            receipts.append_to(&mut body);
            body.extend_from_slice(br#","success":true}"#);
            reply::json(200, body, route)
        }
        (Verdict::Mixed, receipts) => reply::json(400, mixed(outcomes, None, receipts), route),
        (Verdict::Partly(reject), receipts) => {
            let refused = reply::reject(reject, route);
            // 429 would be that of a request that did nothing; what would fail again, 500, stays what it is.
            let status = if reject.retry_after().is_some() { 503 } else { refused.status };
            Reply { status, body: mixed(outcomes, Some(reject), receipts).into(), ..refused }
        }
        (Verdict::Refused(reject), receipts) => {
            let mut refused = reply::reject(reject, route);
            if let Some(receipts) = receipts.filter(|_| refused.status == 400) {
                let mut body = br#"{"error":"#.to_vec();
                append_text(&mut body, &reject.to_string());
                body.push(b',');
                receipts.append_to(&mut body);
                body.extend_from_slice(br#","success":false}"#);
                refused.body = body.into();
            }
            refused
        }
    };
    let is_applied = matches!(reply.status, 200 | 400) || matches!(verdict, Verdict::Partly(_));
    if let Some(applied) = preferences.applied().filter(|_| is_applied) {
        // A refusal has them already.
        if reply.fields.get("Access-Control-Expose-Headers").is_none() {
            reply.fields.extend(&reply::EXPOSED);
        }
        reply.fields.push("Preference-Applied", applied.as_bytes());
    }
    reply
}

/// What the outcomes are as a whole.
enum Verdict<'a> {
    Stored,
    /// The request as a whole failed for this reason.
    Refused(&'a Reject),
    /// It differs from record to record, and those that failed would fail again.
    Mixed,
    /// Some are stored, and another failed for this reason, which is not its own fault.
    Partly(&'a Reject),
}

fn verdict(outcomes: &[Outcome], form: Form) -> Verdict<'_> {
    let Some((_, first)) = failures(outcomes).next() else { return Verdict::Stored };
    let first = culprits(outcomes).next().map_or(first, |(_, culprit)| culprit);
    if let Some((_, unknown)) = culprits(outcomes).find(|(_, reject)| **reject == Reject::OutcomeUnknown) {
        return Verdict::Refused(unknown);
    }
    let nothing_is_stored = failures(outcomes).count() == outcomes.len();
    let again = culprits(outcomes).find(|(_, reject)| reject.retry_after().is_some());
    let others = || culprits(outcomes).find(|(_, reject)| reject.fault() != Fault::Client);
    if let Some((_, other)) = again.or_else(others) {
        return if nothing_is_stored { Verdict::Refused(other) } else { Verdict::Partly(other) };
    }
    let of_the_request = !matches!(first, Reject::TooLarge(..) | Reject::Schema(_));
    let one_reason = of_the_request && culprits(outcomes).all(|(_, reject)| reject == first);
    if form == Form::Single || (nothing_is_stored && one_reason) {
        return Verdict::Refused(first);
    }
    Verdict::Mixed
}

/// Records that are not stored.
fn failures(outcomes: &[Outcome]) -> impl Iterator<Item = (usize, &Reject)> {
    outcomes.iter().enumerate().filter_map(|(index, outcome)| match outcome {
        Outcome::Stored(_) => None,
        Outcome::Failed(reject) => Some((index, reject)),
    })
}

/// Those that failed themselves, and not only with another record of the request.
fn culprits(outcomes: &[Outcome]) -> impl Iterator<Item = (usize, &Reject)> {
    failures(outcomes).filter(|(_, reject)| **reject != Reject::NothingStored)
}

/// The body of a batch of which some records failed: which and why, numbered from 0 as in message ids; and, if that is no fault of
/// theirs, the reason for the whole.
fn mixed(outcomes: &[Outcome], whole: Option<&Reject>, receipts: Option<Receipts<'_>>) -> Vec<u8> {
    let (failed, own) = (failures(outcomes).count(), culprits(outcomes).count());
    let mut body = b"{".to_vec();
    if let Some(reject) = whole {
        let text = format!("some records are stored and others are not: {reject}");
        body.extend_from_slice(br#""error":"#);
        append_text(&mut body, &text);
        body.push(b',');
    }
    body.extend_from_slice(br#""errors":["#);
    let begin = body.len();
    let separate = |body: &mut Vec<u8>| {
        if body.len() > begin {
            body.push(b',');
        }
    };
    let mut listed = 0;
    for (index, reject) in culprits(outcomes).take(ERRORS_LISTED_MAX) {
        if body.len() > ERRORS_LISTED_BYTES_MAX {
            break;
        }
        separate(&mut body);
        append_text(&mut body, &format!("record {index}: {reject}"));
        listed += 1;
    }
    if own > listed {
        separate(&mut body);
        append_text(&mut body, &format!("and {} more", own - listed));
    }
    if failed > own {
        separate(&mut body);
        append_text(&mut body, &Reject::NothingStored.to_string());
    }
    // Writing to a Vec cannot fail.
    let _ = write!(body, r#"],"fail":{failed},"#);
    if let Some(receipts) = receipts {
        receipts.append_to(&mut body);
        body.push(b',');
    }
    let _ = write!(body, r#""sent":{},"success":false}}"#, outcomes.len() - failed);
    body
}

/// Where each record is, or why it is nowhere.
#[derive(Clone, Copy)]
struct Receipts<'a> {
    outcomes: &'a [Outcome],
    partitions: &'a [Partition],
}

impl Receipts<'_> {
    /// Appends the field `receipts`, its name included.
    fn append_to(self, body: &mut Vec<u8>) {
        body.extend_from_slice(br#""receipts":["#);
        for (index, outcome) in self.outcomes.iter().enumerate() {
            body.extend_from_slice(if index == 0 { b"" } else { b"," });
            match outcome {
                Outcome::Stored(Receipt { partition, sequence, duplicate }) => {
                    let stream = self.partitions.get(usize::from(*partition)).map_or("", |partition| &partition.stream);
                    body.extend_from_slice(if *duplicate { br#"{"duplicate":true"# } else { br#"{"duplicate":false"# });
                    body.extend_from_slice(br#","sequence":"#);
                    body.extend_from_slice(itoa::Buffer::new().format(*sequence).as_bytes());
                    body.extend_from_slice(br#","stream":"#);
                    append_text(body, stream);
                }
                Outcome::Failed(reject) => {
                    body.extend_from_slice(br#"{"error":"#);
                    append_text(body, &reject.to_string());
                }
            }
            body.push(b'}');
        }
        body.push(b']');
    }
}

/// Appends a JSON text. Writing one to a Vec cannot fail.
fn append_text(body: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(body, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::SizeLimit;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const PLAIN: Preferences = Preferences { strict: false, receipts: false };
    const RECEIPTS: Preferences = Preferences { strict: false, receipts: true };

    fn partitions() -> [Partition; 2] {
        ["s$1", "s$2"].map(|stream| Partition { stream: stream.into(), subject: "".into() })
    }

    fn stored() -> Outcome {
        Outcome::Stored(Receipt { partition: 0, sequence: 1, duplicate: false })
    }

    fn large() -> Outcome {
        Outcome::Failed(Reject::TooLarge(SizeLimit::Record, 9))
    }

    fn invalid(text: &str) -> Outcome {
        Outcome::Failed(Reject::Schema(text.into()))
    }

    fn answer(form: Form, outcomes: &[Outcome], preferences: Preferences) -> (u16, String) {
        let reply = of(outcomes, &partitions(), form, preferences);
        (reply.status, String::from_utf8(reply.body.bytes().to_vec()).unwrap())
    }

    fn check(form: Form, outcomes: &[Outcome], status: u16, body: &str) {
        assert_eq!(answer(form, outcomes, PLAIN), (status, body.to_owned()), "{outcomes:?}");
    }

    #[test]
    fn success_means_that_every_record_is_acknowledged() {
        check(Form::Batch, &[], 200, r#"{"error":null,"success":true}"#);
        check(Form::Batch, &[stored(), stored()], 200, r#"{"error":null,"success":true}"#);
        check(
            Form::Batch,
            &[stored(), large()],
            400,
            r#"{"errors":["record 1: the record with its headers is larger than 9 bytes"],"fail":1,"sent":1,"success":false}"#,
        );
        check(
            Form::Batch,
            &[large()],
            400,
            r#"{"errors":["record 0: the record with its headers is larger than 9 bytes"],"fail":1,"sent":0,"success":false}"#,
        );
        check(
            Form::Single,
            &[large()],
            413,
            r#"{"error":"the record with its headers is larger than 9 bytes","success":false}"#,
        );
    }

    #[test]
    fn records_that_are_not_valid_are_named_with_what_is_wrong() {
        check(
            Form::Single,
            &[invalid("'/n': x")],
            400,
            r#"{"error":"Schema validation has failed: '/n': x","success":false}"#,
        );
        check(
            Form::Batch,
            &[stored(), invalid("a"), large(), invalid("b")],
            400,
            r#"{"errors":["record 1: Schema validation has failed: a","record 2: the record with its headers is larger than 9 bytes","record 3: Schema validation has failed: b"],"fail":3,"sent":1,"success":false}"#,
        );
        check(
            Form::Batch,
            &[invalid("a"), invalid("a")],
            400,
            r#"{"errors":["record 0: Schema validation has failed: a","record 1: Schema validation has failed: a"],"fail":2,"sent":0,"success":false}"#,
        );
    }

    #[test]
    fn all_or_nothing_names_who_was_wrong_and_says_once_that_nothing_is_stored() {
        let with = Outcome::Failed(Reject::NothingStored);
        check(
            Form::Batch,
            &[with.clone(), invalid("a"), with.clone()],
            400,
            r#"{"errors":["record 1: Schema validation has failed: a","nothing was stored: another record of the request failed, and all or nothing was asked for"],"fail":3,"sent":0,"success":false}"#,
        );
        // What the backend could not do at the moment is a matter of the request.
        let full = Outcome::Failed(Reject::StreamFull("maximum messages exceeded".into()));
        let reply = of(&[with.clone(), full], &partitions(), Form::Batch, PLAIN);
        assert_eq!((reply.status, reply.fields.get("Retry-After").is_some()), (503, true));
        let reply = of(&[with.clone(), with], &partitions(), Form::Batch, PLAIN);
        assert_eq!(reply.status, 400);
    }

    #[test]
    fn an_unknown_outcome_is_neither_success_nor_the_clients_fault() {
        for others in [stored(), large(), invalid("a")] {
            let reply = of(&[others, Outcome::Failed(Reject::OutcomeUnknown)], &[], Form::Batch, RECEIPTS);
            assert_eq!((reply.status, reply.fields.get("Retry-After").is_some()), (503, true));
        }
    }

    #[test]
    fn a_batch_that_failed_whole_and_may_be_sent_again_says_so() {
        let full = Outcome::Failed(Reject::StreamFull("maximum messages exceeded".into()));
        let other = Outcome::Failed(Reject::BrokerAway);
        let reply = of(&[full.clone(), other], &[], Form::Batch, PLAIN);
        assert_eq!((reply.status, reply.fields.get("Retry-After").is_some()), (503, true));
    }

    #[test]
    fn c3_what_failed_for_the_moment_makes_no_batch_a_final_failure() {
        for reject in [
            Reject::NoStream,
            Reject::BrokerAway,
            Reject::BrokerBusy,
            Reject::WindowFull,
            Reject::StreamFull("maximum messages exceeded".into()),
            Reject::BrokerForbidden("a.b".into()),
            Reject::OutcomeUnknown,
        ] {
            let failed = || Outcome::Failed(reject.clone());
            for outcomes in
                [vec![stored(), failed()], vec![failed(), large(), stored()], vec![invalid("a"), failed(), stored()]]
            {
                let reply = of(&outcomes, &partitions(), Form::Batch, RECEIPTS);
                assert_eq!((reply.status, reply.fields.get("Retry-After").is_some()), (503, true), "{outcomes:?}");
                let text = String::from_utf8(reply.body.bytes().to_vec()).unwrap();
                assert!(!text.contains("nothing was stored"), "{text}");
                assert!(reject == Reject::OutcomeUnknown || text.contains(r#""sent":1,"#), "{text}");
            }
            let reply = of(&[failed(), large()], &partitions(), Form::Batch, PLAIN);
            assert!(
                reply.fields.get("Retry-After").is_some() && matches!(reply.status, 429 | 503),
                "{reject:?} {}",
                reply.status
            );
        }
        // Sent again, these would fail again.
        assert_eq!(of(&[stored(), large(), invalid("a")], &[], Form::Batch, PLAIN).status, 400);
    }

    #[test]
    fn c3_a_refusal_that_does_not_pass_does_not_say_when_to_come_again() {
        let refused = || Outcome::Failed(Reject::BrokerRefused(10_075, "no".into()));
        let again = Outcome::Failed(Reject::NoStream);
        for (outcomes, status, retry_after) in [
            (vec![refused(), refused()], 500, None),
            (vec![stored(), refused()], 500, None),
            (vec![stored(), refused(), large()], 500, None),
            // Another record of the request may be stored if it is sent again.
            (vec![stored(), refused(), again.clone()], 503, Some(&b"2"[..])),
            (vec![refused(), again], 503, Some(&b"2"[..])),
        ] {
            let reply = of(&outcomes, &partitions(), Form::Batch, PLAIN);
            assert_eq!((reply.status, reply.fields.get("Retry-After")), (status, retry_after), "{outcomes:?}");
        }
        check(
            Form::Batch,
            &[stored(), refused()],
            500,
            r#"{"error":"some records are stored and others are not: the broker refused the record: no (code 10075)","errors":["record 1: the broker refused the record: no (code 10075)"],"fail":1,"sent":1,"success":false}"#,
        );
    }

    #[test]
    fn receipts_say_where_each_record_is() {
        let second = Outcome::Stored(Receipt { partition: 1, sequence: u64::MAX, duplicate: true });
        for (form, outcomes, status, body) in [
            (
                Form::Single,
                &[stored()][..],
                200,
                r#"{"error":null,"receipts":[{"duplicate":false,"sequence":1,"stream":"s$1"}],"success":true}"#,
            ),
            (Form::Batch, &[], 200, r#"{"error":null,"receipts":[],"success":true}"#),
            (
                Form::Batch,
                &[second, invalid("\"a\"")],
                400,
                r#"{"errors":["record 1: Schema validation has failed: \"a\""],"fail":1,"receipts":[{"duplicate":true,"sequence":18446744073709551615,"stream":"s$2"},{"error":"Schema validation has failed: \"a\""}],"sent":1,"success":false}"#,
            ),
            (
                Form::Single,
                &[invalid("a")],
                400,
                r#"{"error":"Schema validation has failed: a","receipts":[{"error":"Schema validation has failed: a"}],"success":false}"#,
            ),
        ] {
            assert_eq!(answer(form, outcomes, RECEIPTS), (status, body.to_owned()));
        }
    }

    #[test]
    fn preferences_that_were_honoured_are_said_to_be() {
        let extra = |outcomes: &[Outcome], preferences| {
            String::from_utf8(of(outcomes, &[], Form::Batch, preferences).fields.lines().to_vec()).unwrap()
        };
        assert!(extra(&[stored()], RECEIPTS).contains("Preference-Applied: return=representation\r\n"));
        assert!(extra(&[invalid("a")], RECEIPTS).contains("Preference-Applied: "));
        assert!(!extra(&[stored()], PLAIN).contains("Preference-Applied"));
        assert!(!extra(&[Outcome::Failed(Reject::OutcomeUnknown)], RECEIPTS).contains("Preference-Applied: "));
    }

    /// What a page is told to wait for, it must be able to read.
    #[test]
    fn pages_may_read_every_field_of_an_answer_to_which_they_are_told_to_pay_heed() {
        let (unknown, busy) = (Outcome::Failed(Reject::OutcomeUnknown), Outcome::Failed(Reject::BrokerBusy));
        for outcomes in
            [vec![stored(), busy.clone()], vec![busy], vec![unknown], vec![stored()], vec![invalid("a"), stored()]]
        {
            for preferences in [PLAIN, RECEIPTS] {
                let reply = of(&outcomes, &[], Form::Batch, preferences);
                let extra = String::from_utf8(reply.fields.lines().to_vec()).unwrap();
                let exposed = extra.lines().find_map(|line| line.strip_prefix("Access-Control-Expose-Headers: "));
                let may_read = |field| exposed.is_some_and(|exposed| exposed.split(", ").any(|name| name == field));
                assert!(reply.fields.get("Retry-After").is_none() || may_read("Retry-After"), "{outcomes:?} {extra}");
                assert!(
                    !extra.contains("Preference-Applied: ") || may_read("Preference-Applied"),
                    "{outcomes:?} {extra}"
                );
            }
        }
    }

    #[test]
    fn the_list_of_errors_is_bounded_and_the_rest_is_counted() {
        let errors = |outcomes: &[Outcome]| -> Vec<String> {
            let (status, body) = answer(Form::Batch, outcomes, PLAIN);
            assert!(status == 400 && body.len() < 2 * ERRORS_LISTED_BYTES_MAX);
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["fail"], json!(outcomes.len()));
            serde_json::from_value(body["errors"].clone()).unwrap()
        };
        let many = errors(&vec![invalid("a"); ERRORS_LISTED_MAX + 5]);
        assert_eq!((many.len(), many.last().map(String::as_str)), (ERRORS_LISTED_MAX + 1, Some("and 5 more")));
        let long = errors(&vec![invalid(&"x".repeat(2_000)); ERRORS_LISTED_MAX]);
        let told = long.len() - 1;
        assert!(told > 100 && told < 140, "{told}");
        assert_eq!(long.last(), Some(&format!("and {} more", ERRORS_LISTED_MAX - told)));
    }

    proptest! {
        #[test]
        fn counts_add_up_and_receipts_keep_the_order(kinds in prop::collection::vec(0..5_u8, 1..40)) {
            let outcome = |(index, kind): (usize, &u8)| match kind {
                0 => invalid(&format!("is {index}")),
                1 => large(),
                2 => Outcome::Failed(Reject::BrokerAway),
                _ => Outcome::Stored(Receipt { partition: 0, sequence: index as u64, duplicate: false }),
            };
            let outcomes: Vec<Outcome> = kinds.iter().enumerate().map(outcome).collect();
            let (status, body) = answer(Form::Batch, &outcomes, RECEIPTS);
            let body: Value = serde_json::from_str(&body).unwrap();
            if status == 400 {
                prop_assert_eq!(body["sent"].as_u64().unwrap() + body["fail"].as_u64().unwrap(), kinds.len() as u64);
            }
            if status != 503 {
                let receipts = body["receipts"].as_array().unwrap();
                prop_assert_eq!(receipts.len(), kinds.len());
                for (index, (receipt, kind)) in receipts.iter().zip(&kinds).enumerate() {
                    let expect = format!("is {index}");
                    match kind {
                        0 => prop_assert!(receipt["error"].as_str().unwrap().ends_with(&expect)),
                        1 | 2 => prop_assert!(receipt["error"].is_string()),
                        _ => prop_assert_eq!(&receipt["sequence"], &json!(index)),
                    }
                }
            }
        }
    }
}
