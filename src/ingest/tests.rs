//! Produce on an embedded store: what is stored, what becomes a dead letter, what is answered.

use super::{
    Form,
    testing::{World, count_other_work, name, number_schema, run},
};
use crate::{
    dead_letters::fields::{DeadLetterFields, Kind},
    directory::contracts::{Contract, Contracts},
    limits::{
        DEAD_LETTERS_AT_A_TIME, LOCAL_RECORD_BYTES_MAX, PRODUCE_TIMEOUT, RECEIPT_BYTES, RECORD_HEADER_BYTES_MAX,
        RECORD_OVERHEAD_BYTES,
    },
    record::{MessageId, Outcome, Placement, Receipt, RecordHeaders, Records, placement},
    reject::Reject,
    rt::{self, clock},
    wire::Span,
};
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

const MIXED: &[u8] = br#"[{"n":1}, {"n": "x"},{"n":3},7]"#;

fn sequences(outcomes: &[Outcome]) -> Vec<Option<u64>> {
    let sequence = |outcome: &Outcome| match outcome {
        Outcome::Stored(Receipt { sequence, .. }) => Some(*sequence),
        Outcome::Failed(_) => None,
    };
    outcomes.iter().map(sequence).collect()
}

#[test]
fn valid_records_are_stored_and_the_others_become_dead_letters() {
    run(async |world: &World| {
        world.attach("orders");
        let fields = "Content-Type: application/json\r\nX-Trace: t\r\nAuthorization: secret\r\n";
        let produced =
            world.post(&world.ingest(), "orders", Form::Batch, (false, fields, MIXED)).await.expect("outcomes");
        assert_eq!(sequences(&produced.outcomes), [Some(1), None, Some(2), None]);
        assert_eq!(produced.station.name, name("orders"));
        let Outcome::Failed(Reject::Schema(text)) = &produced.outcomes[1] else { panic!("{produced:?}") };
        assert_eq!(world.payloads(&name("orders")).await, [r#"{"n":1}"#, r#"{"n":3}"#]);
        let letters = world.records(&name("orders").dead_letters()).await;
        assert_eq!(letters.iter().map(|(_, payload)| payload.as_str()).collect::<Vec<_>>(), [r#"{"n": "x"}"#, "7"]);
        let letter = DeadLetterFields::read(letters[0].0.as_bytes()).expect("a letter");
        assert_eq!((letter.kind, &*letter.error), (Kind::Schema, &**text));
        assert_eq!(letter.schema, Some(("number".into(), 3)));
        assert_eq!(letter.principal.as_deref(), Some("ada"));
        assert!(letter.time_ms > 1_700_000_000_000 && letter.group.is_none());
        assert!(letters[0].0.starts_with("Content-Type: application/json\r\nX-Trace: t\r\nSluicegate-"), "{letters:?}");
        assert!(!letters[0].0.contains("secret"));
        let metrics = &world.metrics;
        assert_eq!((metrics.records_checked.get(), metrics.records_invalid.get()), (4, 2));
        assert_eq!((metrics.dead_letters.get(), metrics.records_in.get()), (2, 2));
        drop(produced);
        assert_eq!(world.budget.used(), 0);
    });
}

#[test]
fn a_single_record_that_is_not_valid_is_a_dead_letter_byte_for_byte() {
    run(async |world: &World| {
        world.attach("one");
        let body = b" {\"n\"\t: 1.5 }\xff";
        let produced = world.post(&world.ingest(), "one", Form::Single, (false, "", body)).await.expect("outcomes");
        assert!(matches!(&produced.outcomes[..], [Outcome::Failed(Reject::Schema(_))]), "{produced:?}");
        assert_eq!(world.payloads(&name("one")).await, [""; 0]);
        assert_eq!(world.payloads(&name("one").dead_letters()).await, [String::from_utf8_lossy(body)]);
    });
}

#[test]
fn strict_stores_nothing_and_keeps_nothing() {
    run(async |world: &World| {
        world.attach("strict");
        let produced = world.post(&world.ingest(), "strict", Form::Batch, (true, "", MIXED)).await.expect("outcomes");
        let kinds: Vec<bool> =
            produced.outcomes.iter().map(|outcome| *outcome == Outcome::Failed(Reject::NothingStored)).collect();
        assert_eq!(kinds, [true, false, true, false]);
        assert_eq!(sequences(&produced.outcomes), [None; 4]);
        assert_eq!(world.payloads(&name("strict")).await, [""; 0]);
        assert!(!world.asked.borrow().contains(&name("strict").dead_letters()));
    });
}

#[test]
fn what_cannot_be_a_dead_letter_is_not_refused_for_good_and_nothing_is_stored() {
    run(async |world: &World| {
        world.attach("orders");
        let letters = name("orders").dead_letters();
        world.refused.borrow_mut().insert(letters.clone(), Reject::BrokerAway);
        let refused = world.post(&world.ingest(), "orders", Form::Batch, (false, "", MIXED)).await;
        assert_eq!(refused.err(), Some(Reject::DeadLetters(Box::new(Reject::BrokerAway))));
        assert_eq!(world.payloads(&name("orders")).await, [""; 0]);
        // What is valid needs no dead letters.
        let produced = world.post(&world.ingest(), "orders", Form::Batch, (false, "", br#"[{"n":1}]"#)).await;
        assert_eq!(sequences(&produced.expect("outcomes").outcomes), [Some(1)]);
    });
}

#[test]
fn a_station_without_dead_letters_only_tells() {
    run(async |world: &World| {
        let contract =
            Contract { schema: Some(number_schema(1)), invalid_to_dead_letters: false, ..Contract::default() };
        world.contracts(&[("told", contract)]);
        let produced = world.post(&world.ingest(), "told", Form::Batch, (false, "", MIXED)).await.expect("outcomes");
        assert_eq!(sequences(&produced.outcomes), [Some(1), None, Some(2), None]);
        assert!(!world.asked.borrow().contains(&name("told").dead_letters()));
    });
}

#[test]
fn nothing_is_taken_while_the_schema_of_a_station_is_being_compiled() {
    run(async |world: &World| {
        for schema in [None, Some(number_schema(1))] {
            world.contracts(&[("orders", Contract { schema, compiling: true, ..Contract::default() })]);
            let refused = world.post(&world.ingest(), "orders", Form::Single, (false, "", br#"{"n":1}"#)).await;
            assert_eq!(refused.err(), Some(Reject::ContractsUnknown), "nor held against what was before");
            world.post(&world.ingest(), "other", Form::Single, (false, "", br#"{"n":1}"#)).await.expect("outcomes");
        }
        world.attach("orders");
        world.post(&world.ingest(), "orders", Form::Single, (false, "", br#"{"n":1}"#)).await.expect("outcomes");
        assert_eq!(world.payloads(&name("orders")).await.len(), 1);
    });
}

#[test]
fn a_request_that_is_sent_again_keeps_each_dead_letter_once() {
    run(async |world: &World| {
        world.attach("again");
        for (form, body, records) in [(Form::Batch, MIXED, 2), (Form::Single, b"0".as_slice(), 3)] {
            for _ in 0..2 {
                let call = (false, "Idempotency-Key: k\r\n", body);
                world.post(&world.ingest(), "again", form, call).await.expect("outcomes");
            }
            assert_eq!(world.payloads(&name("again").dead_letters()).await.len(), records);
        }
        let letters = world.payloads(&name("again").dead_letters()).await;
        assert_eq!(letters, [r#"{"n": "x"}"#, "7", "0"], "in the order of the records");
        assert_eq!(world.payloads(&name("again")).await.len(), 2);
    });
}

#[test]
fn a_message_id_is_numbered_by_the_place_in_what_was_posted() {
    run(async |world: &World| {
        let post = async || {
            let body = br#"[{"n":1},{"n":"b"},{"n":3}]"#;
            let call = (false, "Idempotency-Key: k\r\n", body.as_slice());
            world.post(&world.ingest(), "ids", Form::Batch, call).await.expect("outcomes").outcomes
        };
        world.attach("ids");
        assert_eq!(sequences(&post().await), [Some(1), None, Some(2)]);
        // Sent again when the schema has been taken off: the second record is not one that is known.
        world.contracts(&[]);
        let stored = |sequence, duplicate| Outcome::Stored(Receipt { partition: 0, sequence, duplicate });
        assert_eq!(post().await, [stored(1, true), stored(3, false), stored(2, true)]);
        assert_eq!(world.payloads(&name("ids")).await, [r#"{"n":1}"#, r#"{"n":3}"#, r#"{"n":"b"}"#]);
    });
}

#[test]
fn room_for_receipts_is_taken_before_anything_is_stored() {
    run(async |world: &World| {
        let ingest = world.ingest();
        let body = format!("[{}]", vec!["1"; 1_000].join(","));
        let call = (false, "Prefer: return=representation\r\n", body.as_bytes());
        let produced = world.post(&ingest, "told", Form::Batch, call).await.expect("outcomes");
        let needed = world.budget.used();
        assert!(
            needed >= 1_000 * (RECORD_OVERHEAD_BYTES + 2 * RECEIPT_BYTES),
            "held until the answer has left: {needed}"
        );
        drop(produced);
        let mut others = world.budget.hold();
        others.grow_to(world.budget.left() - needed + 1).expect("room");
        let refused = world.post(&ingest, "told", Form::Batch, call).await.err();
        assert_eq!(refused, Some(Reject::Overloaded("memory for request bodies")));
        assert_eq!(world.payloads(&name("told")).await.len(), 1_000);
        let without = world.post(&ingest, "told", Form::Batch, (false, "", body.as_bytes())).await;
        assert!(without.is_ok(), "{without:?}");
    });
}

#[test]
fn nothing_is_begun_when_the_time_of_a_call_is_over() {
    run(async |world: &World| {
        world.attach("late");
        world.post(&world.ingest(), "late", Form::Single, (false, "", br#"{"n":1}"#)).await.expect("known");
        let long_ago = clock::now().checked_sub(PRODUCE_TIMEOUT).expect("a time");
        let late = async |body: &[u8]| {
            world.post_at(&world.ingest(), "late", Form::Single, (false, "", body), long_ago).await.err()
        };
        assert_eq!(late(br#"{"n":2}"#).await, Some(Reject::WindowFull));
        assert_eq!(late(b"7").await, Some(Reject::DeadLetters(Box::new(Reject::WindowFull))));
        assert_eq!(world.payloads(&name("late")).await, [r#"{"n":1}"#]);
        assert!(!world.asked.borrow().contains(&name("late").dead_letters()));
        assert_eq!(world.budget.used(), 0);
    });
}

#[test]
fn more_dead_letters_than_go_at_a_time_keep_their_order() {
    run(async |world: &World| {
        world.attach("many");
        let texts: Vec<String> = (0..2_500).map(|number| format!("\"{number}\"")).collect();
        let body = format!("[{}]", texts.join(","));
        let call = (false, "", body.as_bytes());
        world.post(&world.ingest(), "many", Form::Batch, call).await.expect("outcomes");
        assert_eq!(world.payloads(&name("many").dead_letters()).await, texts);
    });
}

#[test]
fn many_dead_letters_with_ids_and_large_fields_are_kept() {
    run(async |world: &World| {
        world.attach("many");
        let body = format!("[{}]", vec!["7"; DEAD_LETTERS_AT_A_TIME].join(","));
        let fields = format!("Idempotency-Key: k\r\nX-Large: {}\r\n", "x".repeat(RECORD_HEADER_BYTES_MAX / 2));
        let call = (false, fields.as_str(), body.as_bytes());
        world.post(&world.ingest(), "many", Form::Batch, call).await.expect("outcomes");
        assert_eq!(world.payloads(&name("many").dead_letters()).await.len(), DEAD_LETTERS_AT_A_TIME);
    });
}

#[test]
fn a_record_too_large_for_a_dead_letter_is_told_so() {
    run(async |world: &World| {
        world.attach("large");
        let body = format!("\"{}\"", "x".repeat(LOCAL_RECORD_BYTES_MAX - 100));
        let call = (false, "", body.as_bytes());
        let produced = world.post(&world.ingest(), "large", Form::Single, call).await.expect("outcomes");
        let [Outcome::Failed(Reject::Schema(text))] = &produced.outcomes[..] else { panic!("{produced:?}") };
        assert!(text.ends_with(" (the record is too large to be kept as a dead letter)"), "{text}");
        assert_eq!(world.metrics.dead_letters.get(), 0);
    });
}

#[test]
fn no_record_is_held_against_a_schema_that_is_not_known_to_be_in_force() {
    run(async |world: &World| {
        world.attach_shared("orders");
        let body = br#"[{"n":1}]"#;
        let post = async |station| world.post(&world.ingest(), station, Form::Batch, (false, "", body)).await;
        let long_ago = clock::now().checked_sub(Duration::from_secs(2)).expect("a time");
        world.directory.confirm(long_ago);
        assert_eq!(post("orders").await.err(), Some(Reject::ContractsUnknown));
        assert_eq!(world.payloads(&name("orders")).await, [""; 0]);
        assert!(post("plain").await.is_ok(), "who has no schema goes on");
        let confirm = async {
            rt::sleep(Duration::from_millis(20)).await;
            world.directory.confirm(clock::now());
        };
        let (produced, ()) = futures_util::future::join(post("orders"), confirm).await;
        assert_eq!(sequences(&produced.expect("outcomes").outcomes), [Some(1)]);
        // Before the registry is read, any station may have one.
        world.directory.set_contracts(Arc::new(Contracts::default()));
        assert_eq!(post("plain").await.err(), Some(Reject::ContractsUnknown));
    });
}

#[test]
fn c13_a_record_with_a_schema_waits_for_the_registry_longer_than_for_anything_else() {
    run(async |world| {
        let mut ingest = world.ingest();
        ingest.limits.registry_hold = Duration::from_secs(20);
        world.attach_shared("orders");
        let confirm = async {
            rt::sleep(4 * ingest.limits.hold).await;
            world.directory.confirm(clock::now());
        };
        let post = world.post(&ingest, "orders", Form::Batch, (false, "", b"[{\"n\":1}]"));
        let (produced, ()) = futures_util::future::join(post, confirm).await;
        assert!(matches!(&produced.expect("taken").outcomes[..], [Outcome::Stored(_)]));
    });
}

#[test]
fn a_large_batch_does_not_keep_the_shard_from_everybody_else() {
    run(async |world: &World| {
        let contract =
            Contract { schema: Some(number_schema(1)), invalid_to_dead_letters: false, ..Contract::default() };
        world.contracts(&[("large", contract)]);
        let ingest = world.ingest();
        // Not one is stored: nothing but the turns is waited for.
        let body = format!("[{}]", vec![r#"{"n":"x"}"#; 60_000].join(","));
        let ticks = Rc::new(Cell::new(0));
        let counted = Rc::clone(&ticks);
        world.post(&ingest, "large", Form::Batch, (false, "", b"[]")).await.expect("the station is known");
        rt::spawn(async move {
            loop {
                rt::sleep(Duration::from_millis(1)).await;
                counted.set(counted.get() + 1);
            }
        });
        let call = (false, "", body.as_bytes());
        let produced = world.post(&ingest, "large", Form::Batch, call).await.expect("outcomes");
        assert_eq!(produced.outcomes.len(), 60_000);
        assert!(ticks.get() > 1, "timers go on: {}", ticks.get());
    });
}

#[test]
fn all_or_nothing_is_refused_where_it_cannot_be_kept() {
    run(async |world: &World| {
        let station = world.store.station(&name("s"), true).await.expect("a station");
        let most = station.atomic_records_max as usize;
        let body = |records: usize| format!("[{}]", vec!["1"; records].join(","));
        let post = async |strict, records| {
            world.post(&world.ingest(), "s", Form::Batch, (strict, "", body(records).as_bytes())).await.err()
        };
        assert_eq!(post(true, most + 1).await, Some(Reject::TooManyForWhole(station.atomic_records_max)));
        assert_eq!(post(true, 1).await, None, "one record is always all or nothing");
        assert_eq!(post(false, 2).await, None);
    });
}

/// So much plain text, whose checksum is wrong: nothing is done with it once it is decoded.
fn gzip_with_a_wrong_end(bytes: usize) -> Vec<u8> {
    let plain = br#"{"id":9007199254740993,"kind":"click","at":"2026-01-02T03:04:05Z"}"#.repeat(bytes / 66);
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut out = vec![0; compressor.gzip_compress_bound(plain.len())];
    let written = compressor.gzip_compress(&plain, &mut out).expect("room");
    out.truncate(written);
    let last = out.last_mut().expect("a trailer");
    *last = !*last;
    out
}

#[test]
fn f8_while_a_large_body_is_decoded_the_shard_does_other_things() {
    let body = gzip_with_a_wrong_end(60 << 20);
    run(async |world: &World| {
        let ticks = count_other_work();
        let call = (false, "Content-Encoding: gzip\r\n", body.as_slice());
        let verdict = world.post(&world.ingest(), "large", Form::Single, call).await.err();
        assert!(matches!(verdict, Some(Reject::CorruptEncoding(_))), "{verdict:?}");
        // How often depends on the machine; in one go it would be never.
        assert!(ticks.get() > 0, "nothing else was done");
        assert_eq!(world.budget.used(), 0);
    });
}

#[test]
fn f8_a_body_is_decoded_as_far_as_there_is_memory() {
    let body = gzip_with_a_wrong_end(60 << 20);
    run(async |world: &World| {
        let mut others = world.budget.hold();
        others.grow_to(world.budget.left() - (16 << 20)).expect("room");
        let call = (false, "Content-Encoding: gzip\r\n", body.as_slice());
        let refused = world.post(&world.ingest(), "large", Form::Single, call).await.err();
        assert_eq!(refused, Some(Reject::Overloaded("memory for request bodies")));
        assert_eq!(world.budget.used(), others.bytes());
    });
}

/// Texts one after the other, and where each is.
fn spans(texts: &[&str]) -> (Vec<u8>, Vec<Span>) {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for text in texts {
        let start = u32::try_from(bytes.len()).expect("short");
        bytes.extend_from_slice(text.as_bytes());
        spans.push(Span { start, end: u32::try_from(bytes.len()).expect("short") });
    }
    (bytes, spans)
}

/// Partition of each record; all are stored.
fn partitions(outcomes: &[Outcome]) -> Vec<u16> {
    let partition = |outcome: &Outcome| match outcome {
        Outcome::Stored(receipt) => receipt.partition,
        Outcome::Failed(why) => panic!("not stored: {why}"),
    };
    outcomes.iter().map(partition).collect()
}

#[test]
fn a_record_goes_to_the_partition_that_its_request_names() {
    run(async |world: &World| {
        world.create("three", 3).await;
        let ingest = world.ingest();
        let (bytes, payloads) = spans(&["a", "b", "c", "d"]);
        let produce = async |id, placement| {
            let records = Records { id, placement, ..Records::of(&bytes, payloads.clone()) };
            world.produce(&ingest, "three", false, records).await.expect("outcomes").outcomes
        };
        assert_eq!(partitions(&produce(None, Placement::All(2)).await), [2; 4]);
        assert_eq!(partitions(&produce(None, Placement::Auto).await), [1, 2, 0, 1], "behind the four before");
        let named = [Some(2), None, Some(0)];
        assert_eq!(partitions(&produce(None, Placement::Each(&named)).await), [2, 0, 0, 2]);
        // A record that names no partition and has a message id goes where it would go alone.
        let id = MessageId { base: "order", numbered: Some(0) };
        let by_id = |index| placement::choose(Some(id), index, 0, 3);
        let outcomes = produce(Some(id), Placement::Each(&named)).await;
        assert_eq!(partitions(&outcomes), [2, by_id(1), 0, by_id(3)]);
        let again = produce(Some(id), Placement::Each(&named)).await;
        assert_eq!(partitions(&again), partitions(&outcomes));
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Stored(Receipt { duplicate: true, .. }))));
    });
}

#[test]
fn records_of_single_requests_take_turns_over_the_partitions() {
    run(async |world: &World| {
        world.create("three", 3).await;
        let ingest = world.ingest();
        let mut found = Vec::new();
        for _ in 0..6 {
            let produced = world.post(&ingest, "three", Form::Single, (false, "", b"x")).await.expect("outcomes");
            found.extend(partitions(&produced.outcomes));
        }
        assert_eq!(found, [0, 1, 2, 0, 1, 2]);
    });
}

#[test]
fn a_record_for_a_partition_that_is_not_there_fails_alone() {
    run(async |world: &World| {
        world.create("two", 2).await;
        let ingest = world.ingest();
        let (bytes, payloads) = spans(&["a", "b", "c"]);
        let named = [Some(0), Some(9), Some(1)];
        let produce = async |strict, placement| {
            let records = Records { placement, ..Records::of(&bytes, payloads.clone()) };
            world.produce(&ingest, "two", strict, records).await.map(|produced| produced.outcomes)
        };
        let (missing, other) = (Outcome::Failed(Reject::PartitionUnknown(9)), Outcome::Failed(Reject::NothingStored));
        let all_or_nothing = produce(true, Placement::Each(&named)).await.expect("outcomes");
        assert_eq!(all_or_nothing, [other.clone(), missing.clone(), other]);
        assert_eq!(produce(false, Placement::All(2)).await, Err(Reject::PartitionUnknown(2)));
        assert_eq!(produce(false, Placement::Each(&[Some(9); 3])).await, Ok(vec![missing.clone(); 3]));
        assert_eq!(world.payloads(&name("two")).await, [""; 0]);
        let outcomes = produce(false, Placement::Each(&named)).await.expect("outcomes");
        assert_eq!((sequences(&outcomes), &outcomes[1]), (vec![Some(1), None, Some(1)], &missing));
        assert_eq!(world.payloads(&name("two")).await, ["a", "c"]);
        assert_eq!(world.metrics.records_in.get(), 2);
    });
}

#[test]
fn fields_of_a_single_record_are_stored_with_it_alone() {
    run(async |world: &World| {
        let ingest = world.ingest();
        let (bytes, payloads) = spans(&[r#"{"n":1}"#, "7", r#"{"n":2}"#, r#"{"n":3}"#]);
        let (block, own) = spans(&["Own: a\r\n", "Own: b\r\n", "", "Own: d\r\nMore: d\r\n"]);
        let produce = async |station| {
            let records = Records {
                headers: b"All: 1\r\n",
                record_headers: Some(RecordHeaders { block: &block, spans: &own }),
                id: Some(MessageId { base: "k", numbered: Some(0) }),
                ..Records::of(&bytes, payloads.clone())
            };
            world.produce(&ingest, station, false, records).await.expect("outcomes").outcomes
        };
        let stored = |own: &str, index: usize, payload: &str| {
            (format!("All: 1\r\n{own}Nats-Msg-Id: k {index}\r\n"), payload.to_owned())
        };
        let (first, second) = (stored("Own: a\r\n", 0, r#"{"n":1}"#), stored("Own: b\r\n", 1, "7"));
        let (third, last) = (stored("", 2, r#"{"n":2}"#), stored("Own: d\r\nMore: d\r\n", 3, r#"{"n":3}"#));
        produce("plain").await;
        assert_eq!(world.records(&name("plain")).await, [first.clone(), second, third.clone(), last.clone()]);
        world.attach("checked");
        assert_eq!(sequences(&produce("checked").await), [Some(1), None, Some(2), Some(3)]);
        assert_eq!(world.records(&name("checked")).await, [first, third, last], "also behind one that is not valid");
        let letters = world.records(&name("checked").dead_letters()).await;
        assert!(letters[0].0.starts_with("All: 1\r\nOwn: b\r\nSluicegate-"), "{letters:?}");
        assert_eq!((letters.len(), letters[0].1.as_str()), (1, "7"));
    });
}

#[test]
fn what_is_valid_keeps_its_partition_whichever_records_are_not() {
    run(async |world: &World| {
        world.create("checked", 3).await;
        world.attach("checked");
        let ingest = world.ingest();
        let (bytes, payloads) = spans(&["7", r#"{"n":1}"#, "8", r#"{"n":2}"#, r#"{"n":3}"#]);
        let named = [Some(0), Some(2), Some(7), Some(1), Some(8)];
        let records = Records { placement: Placement::Each(&named), ..Records::of(&bytes, payloads) };
        let outcomes = world.produce(&ingest, "checked", false, records).await.expect("outcomes").outcomes;
        assert!(matches!(outcomes[0], Outcome::Failed(Reject::Schema(_))), "{outcomes:?}");
        assert!(matches!(outcomes[2], Outcome::Failed(Reject::Schema(_))), "{outcomes:?}");
        assert_eq!(partitions(&[outcomes[1].clone(), outcomes[3].clone()]), [2, 1]);
        assert_eq!(outcomes[4], Outcome::Failed(Reject::PartitionUnknown(8)));
    });
}

#[test]
fn partitions_are_chosen_anew_where_a_station_has_become_smaller() {
    run(async |world: &World| {
        let ingest = world.ingest();
        let (bytes, payloads) = spans(&["a", "b", "c"]);
        let produce = async |station, placement| {
            let records = Records { placement, ..Records::of(&bytes, payloads.clone()) };
            world.produce(&ingest, station, false, records).await.expect("outcomes").outcomes
        };
        for station in ["auto", "named"] {
            world.create(station, 3).await;
            produce(station, Placement::Auto).await;
            assert_eq!(world.store.delete_station(&name(station)).await, Ok(true));
            world.create(station, 1).await;
        }
        // The shard knows three partitions until it is told that nobody takes its records.
        assert_eq!(partitions(&produce("auto", Placement::Auto).await), [0; 3]);
        assert_eq!(world.payloads(&name("auto")).await, ["a", "b", "c"]);
        // What is named stays named.
        assert_eq!(produce("named", Placement::All(2)).await, [const { Outcome::Failed(Reject::NoStream) }; 3]);
        assert_eq!(world.payloads(&name("named")).await, [""; 0]);
        assert_eq!(produce("named", Placement::All(0)).await.len(), 3);
    });
}

#[test]
fn a_record_with_a_media_type_of_its_own_is_stored_and_kept_with_that_one_alone() {
    run(async |world: &World| {
        world.attach("checked");
        let body = br#"{"n":1}0{"n":2}"#;
        let payloads = || vec![Span::between(0, 7), Span::between(7, 8), Span::between(8, 15)];
        let block = b"Content-Type: a/a\r\nContent-Type: b/b\r\n";
        let spans = [Span::between(0, 19), Span::between(19, 38)];
        let records = || Records {
            headers: b"Content-Type: c/c\r\n",
            record_headers: Some(RecordHeaders { block, spans: &spans }),
            ..Records::of(body, payloads())
        };
        for station in ["checked", "unchecked"] {
            world.produce(&world.ingest(), station, false, records()).await.expect("outcomes");
        }
        let types = async |station| {
            let records = world.records(&station).await.into_iter();
            records.map(|(fields, _)| fields.lines().next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let all = ["Content-Type: a/a", "Content-Type: b/b", "Content-Type: c/c"];
        assert_eq!(types(name("unchecked")).await, all);
        assert_eq!(types(name("checked")).await, [all[0], all[2]]);
        assert_eq!(types(name("checked").dead_letters()).await, [all[1]]);
        for station in [name("unchecked"), name("checked"), name("checked").dead_letters()] {
            let records = world.records(&station).await;
            assert!(records.iter().all(|(fields, _)| fields.matches("Content-Type").count() == 1), "{records:?}");
        }
    });
}
