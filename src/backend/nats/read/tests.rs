//! Reads and watches against a broker that follows a script; against real ones they are in `control::tests::nats::reads`.

use super::{
    super::testing::{Broker, Peer, with_broker},
    *,
};
use std::collections::BTreeMap;

/// The subscription that the handshake makes for replies.
const REPLIES_SID: u64 = 2;
const ALL: Bounds = Bounds { records: 100, bytes: 1 << 20 };
const INFO_OF_FIVE: &str = r#"{"state":{"messages":5,"first_seq":1,"last_seq":5}}"#;

fn station(partitions: usize) -> Station {
    let partition = |number| Partition { stream: format!("S{number}").into(), subject: format!("s.{number}").into() };
    let alone = Station::of_partitions("s", (0..partitions).map(partition));
    Station { replicas: 3, answers_in_order: false, ..alone }
}

/// Takes the next request, which goes to this subject. Returns where its answer goes.
fn asked(peer: &mut Peer, subject: &str, payload: &str) -> String {
    let request = peer.published();
    assert_eq!((request.subject.as_str(), request.payload.as_str()), (subject, payload));
    request.reply
}

fn answer(peer: &mut Peer, reply: &str, block: &str, payload: &str) {
    peer.message_with(reply, REPLIES_SID, &format!("NATS/1.0{block}\r\n\r\n"), payload);
}

fn record(peer: &mut Peer, reply: &str, sequence: u64, pending: u64) {
    let place = format!(
        "\r\nNats-Stream: S0\r\nNats-Subject: s.0\r\nNats-Sequence: {sequence}\r\nNats-Time-Stamp: 2026-12-01T00:00:00Z\
         \r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: 0"
    );
    answer(peer, reply, &place, "x");
}

/// A record as the leader sends it.
fn of_leader(peer: &mut Peer, reply: &str, sequence: u64, time: &str) {
    let json = format!(r#"{{"message":{{"subject":"s.0","seq":{sequence},"data":"eA==","time":"{time}"}}}}"#);
    peer.message(reply, REPLIES_SID, &json);
}

fn sequences(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.sequence).collect()
}

async fn read(connection: &Connection, start: Start) -> Page {
    let station = station(1);
    connection.read_page(&Read { station: &station, partition: 0, start, bounds: ALL }).await.expect("a page")
}

#[test]
fn a_server_that_lags_behind_makes_no_read_pass_over_a_record() {
    let script = |broker: Broker| {
        let mut peer = broker.accept();
        let ask = r#"{"seq":5,"next_by_subj":"s.0","batch":100,"max_bytes":524288}"#;
        let reply = asked(&mut peer, "$JS.API.DIRECT.GET.S0", ask);
        answer(&mut peer, &reply, " 404 Message Not Found", "");
        let reply = asked(&mut peer, "$JS.API.STREAM.INFO.S0", "");
        peer.message(&reply, REPLIES_SID, INFO_OF_FIVE);
        let reply = asked(&mut peer, "$JS.API.STREAM.MSG.GET.S0", r#"{"seq":5,"next_by_subj":"s.0"}"#);
        of_leader(&mut peer, &reply, 5, "2026-12-01T00:00:00Z");
        peer.ended();
    };
    with_broker(script, |connection| async move {
        let page = read(&connection, Start::Sequence(5)).await;
        assert_eq!((sequences(&page), page.next, page.kept), (vec![5], 6, None));
    });
}

#[test]
fn a_server_that_lags_behind_makes_no_read_by_time_pass_over_a_record() {
    let script = |broker: Broker| {
        let mut peer = broker.accept();
        let reply = peer.published().reply;
        answer(&mut peer, &reply, " 404 Message Not Found", "");
        // The leader knows better: three old records, and two that are new enough.
        let last = loop {
            let request = peer.published();
            match request.subject.as_str() {
                "$JS.API.STREAM.INFO.S0" => peer.message(&request.reply, REPLIES_SID, INFO_OF_FIVE),
                "$JS.API.STREAM.MSG.GET.S0" => {
                    let is_for = |number: &u64| request.payload.starts_with(&format!("{{\"seq\":{number},"));
                    let sequence = (1..=5).find(is_for).expect("a record that there is");
                    let time = if sequence < 4 { "2026-01-01T00:00:00Z" } else { "2026-12-01T00:00:00Z" };
                    of_leader(&mut peer, &request.reply, sequence, time);
                }
                _ => break request,
            }
        };
        assert!(last.payload.starts_with(r#"{"seq":4,"#), "{last:?}");
        record(&mut peer, &last.reply, 4, 1);
        record(&mut peer, &last.reply, 5, 0);
        answer(&mut peer, &last.reply, " 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 5", "");
        peer.ended();
    };
    with_broker(script, |connection| async move {
        // The first of July 2026.
        let page = read(&connection, Start::Since(1_782_864_000_000)).await;
        assert_eq!((sequences(&page), page.next), (vec![4, 5], 6));
    });
}

#[test]
fn what_has_come_of_a_batch_that_is_cut_off_is_kept_and_the_rest_is_asked_for_again() {
    let script = |broker: Broker| {
        let mut peer = broker.accept();
        let reply = peer.published().reply;
        record(&mut peer, &reply, 1, 2);
        record(&mut peer, &reply, 2, 1);
        drop(peer);
        let mut peer = broker.accept();
        let ask = r#"{"seq":3,"next_by_subj":"s.0","batch":98,"max_bytes":524288}"#;
        let reply = asked(&mut peer, "$JS.API.DIRECT.GET.S0", ask);
        record(&mut peer, &reply, 3, 0);
        answer(&mut peer, &reply, " 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 3", "");
        peer.ended();
    };
    with_broker(script, |connection| async move {
        let page = read(&connection, Start::First).await;
        assert_eq!((sequences(&page), page.next), (vec![1, 2, 3], 4));
    });
}

#[test]
fn partitions_of_a_watch_have_turns() {
    /// Four for each nine turns of 16.
    const COUNT: usize = 36;
    const TURNS: usize = 9;
    let script = |broker: Broker| {
        let mut peer = broker.accept();
        let mut seen = BTreeMap::new();
        let mut has_answered = false;
        for turn in 0.. {
            if turn == TURNS {
                assert_eq!(seen.values().copied().collect::<Vec<_>>(), [4; COUNT], "{seen:?}");
            }
            for _ in 0..WATCH_PARTITIONS_AT_ONCE {
                let request = peer.published();
                if turn >= TURNS && request.subject == "$JS.API.DIRECT.GET.S7" {
                    record(&mut peer, &request.reply, 9, 0);
                    has_answered = true;
                } else {
                    answer(&mut peer, &request.reply, " 404 Message Not Found", "");
                }
                *seen.entry(request.subject).or_insert(0) += 1;
            }
            if has_answered {
                break;
            }
        }
        peer.ended();
    };
    with_broker(script, |connection| async move {
        let mut watch = Watch::new(Rc::clone(&connection), Arc::new(station(COUNT)));
        let wanted: Vec<(u16, u64)> = (0..).take(COUNT).map(|partition| (partition, 5)).collect();
        assert_eq!(watch.reached(&wanted).await, Ok(vec![(7, 9)]));
    });
}
