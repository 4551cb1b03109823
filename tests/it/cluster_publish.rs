//! Publishing to a cluster: what several servers do to one record, and what becomes of it at its client.

use crate::support::{
    PATIENCE,
    cluster::Cluster,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    nats::version_line,
    readback::stream_of,
    setup::Setup,
    unique,
};
use serde_json::json;
use std::{collections::HashMap, thread, time::Duration};

const OK: &str = "{\"error\":null,\"success\":true}";

/// A gateway of one shard, so that all requests share one window, on a cluster of the test's own.
fn gateway_of(cluster: &Cluster) -> Gateway {
    Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).shards(1).start()
}

fn post(gateway: &Gateway, station: &str, form: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    gateway.post(&format!("/stations/{station}/produce/{form}"), &all, body.as_bytes())
}

#[test]
fn c2_a_strict_batch_of_which_some_ids_are_known_is_refused_and_its_stream_lives() {
    if version_line().contains("v2.10.") {
        return; // It knows no atomic batches: there is no such request.
    }
    let gateway = Setup::CLUSTER.shared();
    let station = unique("known");
    let headers = [("Prefer", "handling=strict"), ("Idempotency-Key", "S")];
    post(gateway, &station, "batch", &headers, r#"["a","b"]"#).is(200, OK);
    // Sent again whole: it is stored already, and where is known.
    let receipts = [headers[0], headers[1], ("Prefer", "return=representation")];
    let again = post(gateway, &station, "batch", &receipts, r#"["a","b"]"#);
    let receipt = |sequence| json!({"stream": stream_of(&station), "sequence": sequence, "duplicate": true});
    assert_eq!(again.json()["receipts"], json!([receipt(1), receipt(2)]), "{}", again.text());
    let some = post(gateway, &station, "batch", &headers, r#"["a","b","c"]"#);
    assert_eq!(some.status, 400, "{}", some.text());
    assert!(some.text().contains("the message id is known already"), "{}", some.text());
    for number in 0..20 {
        post(gateway, &station, "single", &[], &number.to_string()).is(200, OK);
    }
}

/// What a client was told of a record, and what it was.
type Told = (u64, String);

/// Stores records one after the other, singly, in batches and all or nothing, and remembers what the receipts say.
fn store(gateway: &Gateway, station: &str, who: usize, rounds: usize) -> Vec<Told> {
    let mut http = Http::connect(gateway.address());
    let mut told = Vec::new();
    for round in 0..rounds {
        let records: Vec<String> = (0..=2 * (round % 3)).map(|index| format!("\"{who}-{round}-{index}\"")).collect();
        let (form, body) = match records.as_slice() {
            [only] => ("single", only.clone()),
            several => ("batch", format!("[{}]", several.join(","))),
        };
        let preferences =
            if round % 2 == 0 { "return=representation" } else { "return=representation, handling=strict" };
        let headers = [("Content-Type", "application/json"), ("Prefer", preferences)];
        let path = format!("/stations/{station}/produce/{form}");
        let response = http.exchange(&gateway.authorized("POST", &path, &headers, body.as_bytes()));
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        let places = answer["receipts"].as_array().unwrap().iter().map(|receipt| receipt["sequence"].as_u64().unwrap());
        told.extend(places.zip(records));
    }
    told
}

#[test]
fn c1_an_answer_that_comes_twice_acknowledges_nobody_elses_record() {
    let cluster = Cluster::start_behind_proxies();
    let gateway = gateway_of(&cluster);
    let station = unique("twice");
    post(&gateway, &station, "single", &[], "\"first\"").is(200, OK);
    for index in 0..3 {
        // As late as a few other records: their tokens would be the same ones.
        cluster.client_link(index).repeat_answers(Some(Duration::from_millis(40)));
    }
    let told: Vec<Told> = thread::scope(|scope| {
        let producers: Vec<_> = (0..6)
            .map(|who| {
                scope.spawn({
                    let (gateway, station) = (&gateway, &station);
                    move || store(gateway, station, who, 40)
                })
            })
            .collect();
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    });
    let repeated: usize = (0..3).map(|index| cluster.client_link(index).answers_repeated()).sum();
    assert!(repeated > 100, "{repeated}");
    let stored: HashMap<u64, String> = cluster
        .broker()
        .messages(&stream_of(&station))
        .into_iter()
        .map(|message| (message.sequence, String::from_utf8(message.payload).unwrap()))
        .collect();
    let wrong: Vec<_> = told.iter().filter(|(sequence, record)| stored.get(sequence) != Some(record)).collect();
    assert!(wrong.is_empty(), "{} of {} receipts name another record: {:?}", wrong.len(), told.len(), wrong.first());
    eventually("answers that came twice are counted", PATIENCE, || {
        let metrics = gateway.metrics();
        let line = metrics.lines().find(|line| line.starts_with("sluicegate_acknowledgements_unmatched_total "))?;
        let counted: f64 = line.split(' ').nth(1)?.parse().ok()?;
        (counted > 100.0).then_some(())
    });
}
