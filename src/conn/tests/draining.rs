//! Too many connections, and the end of all of them.

use super::{AT_ONCE, Answer, SLOW, assert_about, get, post, run, run_with};
use crate::{
    conn::session::LINGER,
    limits::Limits,
    rt::{self, clock},
};
use std::time::Duration;

#[test]
fn draining_ends_who_waits_serves_who_has_sent_and_returns_when_all_have_their_answers() {
    run(|world| async move {
        let begun = clock::now();
        let (mut silent, mut idle, mut busy, mut late) =
            (world.connect(), world.connect(), world.connect(), world.connect());
        idle.send(get("/a")).await;
        assert_eq!(idle.answer().await, Answer::ok("/a "));
        busy.send(get("/slow") + &get("/behind")).await;
        rt::sleep(AT_ONCE).await;
        // It lies in the kernel's buffer when draining begins.
        late.send(post("/late", "body")).await;
        world.connections.stop_accepting();
        assert!(world.connections.is_draining());
        world.connections.drain().await;
        // Its clients do not close before they have read.
        assert_about(clock::since(begun), SLOW + LINGER);
        assert_eq!(silent.rest().await, b"");
        assert_eq!(idle.rest().await, b"");
        assert_eq!(late.answer().await, Answer { closes: true, ..Answer::ok("/late body") });
        assert_eq!(busy.answer().await, Answer { closes: true, ..Answer::ok("/slow ") });
        assert_eq!(busy.rest().await, b"", "what is behind it is not served, and its client can see that");
        world.assert_nobody_is_left("drained");
    });
}

#[test]
fn a_request_that_comes_in_pieces_while_the_gateway_drains_is_not_half_served() {
    run(|world| async move {
        let request = post("/a", "body");
        for cut in 1..request.len() {
            let mut client = world.connect();
            client.send(&request[..cut]).await;
            rt::sleep(AT_ONCE).await;
            world.connections.deadlines.end_idle();
            client.send(&request[cut..]).await;
            assert_eq!(client.answer().await, Answer::ok("/a body"), "begun before, cut at {cut}");
        }
    });
}

#[test]
fn who_comes_when_there_is_no_room_is_told_and_has_it_when_somebody_leaves() {
    let limits = Limits { connections_per_shard_max: 3, connections_per_network_max: 2, ..Limits::default() };
    run_with(limits, |world| async move {
        let mut open = vec![world.connect(), world.connect()];
        for (peer, is_full) in [("192.0.2.1:9", true), ("192.0.2.2:9", false), ("192.0.2.3:9", true)] {
            let mut client = world.connect_from(peer, 64);
            client.send(get("/a")).await;
            let answer = client.answer().await;
            if is_full {
                assert_eq!((answer.status, answer.closes), (503, true), "{peer}");
                assert_eq!(client.rest().await, b"", "{peer}: not reset");
                drop(client);
                rt::sleep(AT_ONCE).await;
            } else {
                assert_eq!(answer, Answer::ok("/a "), "{peer}");
                open.push(client);
            }
        }
        assert_eq!(world.metrics.connections_refused.get(), 2);
        open.remove(0);
        rt::sleep(AT_ONCE).await;
        let mut client = world.connect();
        client.send(get("/a")).await;
        assert_eq!(client.answer().await, Answer::ok("/a "));
    });
}

#[test]
fn who_is_refused_and_stays_is_cut_off() {
    let limits = Limits { connections_per_shard_max: 1, ..Limits::default() };
    run_with(limits, |world| async move {
        let _first = world.connect();
        let (mut refused, begun) = (world.connect(), clock::now());
        assert_eq!(refused.answer().await.status, 503);
        while refused.end_takes(b"x").await {
            rt::sleep(Duration::from_millis(100)).await;
        }
        assert!(clock::since(begun) < Duration::from_secs(2));
        assert_eq!(world.connections.open.get(), 1);
    });
}
