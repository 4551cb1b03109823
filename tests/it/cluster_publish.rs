//! Publishing to a cluster: what several servers do to one record, and what becomes of it at its client.

use crate::support::{
    PATIENCE,
    cluster::Cluster,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    readback::stream_of,
    setup::Setup,
    unique,
};
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
