//! Who is cut off, when, and who is not.

use super::{AT_ONCE, Answer, Client, LARGE, SLOW, World, assert_about, get, post, run};
use crate::{
    conn::session::LINGER,
    limits::WRITE_RATE_MIN,
    rt::{self, clock},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_idle_connection_ends_after_its_time_which_begins_anew_with_each_request() {
    run(|world| async move {
        let idle = world.limits.idle_timeout;
        let nearly = idle * 9 / 10;
        let mut client = world.connect();
        assert_about(client.ends_after().await, idle);

        let mut client = world.connect();
        for _ in 0..3 {
            rt::sleep(nearly).await;
            client.send(get("/a")).await;
            assert_eq!(client.answer().await, Answer::ok("/a "));
        }
        assert_about(client.ends_after().await, 3 * nearly + idle);

        // A line end is no request.
        let mut client = world.connect();
        rt::sleep(idle / 2).await;
        client.send("\r\n").await;
        assert_about(client.ends_after().await, idle);
        assert_eq!(world.metrics.connections_timed_out.get(), 0, "that is no incident");
        rt::sleep(AT_ONCE).await;
        world.assert_nobody_is_left("all have ended");
    });
}

/// Sends a byte every so often until the connection ends; returns what it was answered.
async fn drip(client: &mut Client, bytes: &str, every: Duration) -> Option<Answer> {
    for byte in bytes.as_bytes().chunks(1) {
        client.send(byte).await;
        rt::sleep(every).await;
        if client.end_has_input() {
            return Some(client.answer().await);
        }
    }
    None
}

#[test]
fn a_head_has_its_time_from_its_first_byte_however_it_drips() {
    run(|world| async move {
        let limit = world.limits.head_timeout;
        for (name, every) in [("drips", SECOND), ("stops", 1_000 * SECOND)] {
            let mut client = world.connect();
            rt::sleep(30 * SECOND).await;
            let begun = clock::now();
            if every < limit {
                let answer = drip(&mut client, &get("/a"), every).await.expect(name);
                assert_eq!((answer.status, answer.closes), (408, true), "{name}");
            } else {
                client.send("GET /").await;
                assert_eq!(client.answer().await.status, 408, "{name}");
            }
            let time = clock::since(begun);
            assert!((limit..limit + 2 * SECOND).contains(&time), "{name}: {time:?}");
        }
        // The same behind a request that was served.
        let (mut client, begun) = (world.connect(), clock::now());
        client.send(get("/slow") + "GET /").await;
        assert_eq!(client.answer().await, Answer::ok("/slow "));
        assert_eq!(client.answer().await.status, 408);
        assert_about(clock::since(begun), SLOW + limit);
        assert_eq!(world.served(), ["/slow "]);
        rt::sleep(SECOND).await;
        assert_eq!(world.metrics.connections_timed_out.get(), 3);
    });
}

/// Sends a body of `length` bytes, `bytes` of it every second; returns when it was answered, and how.
async fn body(world: &World, length: usize, at_once: usize, bytes: usize) -> (Duration, u16) {
    let (mut client, begun) = (world.connect(), clock::now());
    let request = post("/a", &"x".repeat(length));
    let (head, mut rest) = request.split_at(request.len() - length + at_once);
    client.send(head).await;
    while !rest.is_empty() {
        rt::sleep(SECOND).await;
        if client.end_has_input() {
            break;
        }
        let (piece, behind) = rest.split_at(bytes.min(rest.len()));
        client.send(piece).await;
        rest = behind;
    }
    let status = client.answer().await.status;
    (clock::since(begun), status)
}

#[test]
fn a_body_may_be_slow_and_not_silent() {
    run(|world| async move {
        let (grace, rate) = (world.limits.body_grace, usize::try_from(world.limits.body_rate_min).unwrap());
        let (time, status) = body(&world, 60 * rate, 0, rate).await;
        assert_eq!((time, status), (60 * SECOND, 200), "at the least rate, six times as long as anybody may be silent");
        let (time, status) = body(&world, 60 * rate, 0, rate / 2).await;
        assert_eq!(status, 408, "at half of it");
        assert!((2 * grace..2 * grace + 2 * SECOND).contains(&time), "when the grace is used up: {time:?}");
        for (then, bytes) in [("silent", 0), ("a byte now and then", 1)] {
            let (time, status) = body(&world, 60 * rate, 50 * rate, bytes).await;
            assert_eq!(status, 408, "quick, then {then}");
            assert!((grace..grace + 2 * SECOND).contains(&time), "quick, then {then}: {time:?}");
        }
        assert_eq!(world.served().len(), 1);
        rt::sleep(10 * SECOND).await;
        world.assert_nobody_is_left("all are served or cut off");
    });
}

#[test]
fn serving_a_request_has_no_deadline_of_the_connection() {
    let limits = crate::limits::Limits {
        head_timeout: SLOW / 10,
        idle_timeout: SLOW / 10,
        body_grace: SLOW / 10,
        ..Default::default()
    };
    super::run_with(limits, |world| async move {
        let mut client = world.connect();
        client.send(get("/slow")).await;
        assert_eq!(client.answer().await, Answer::ok("/slow "));
    });
}

/// Reads so many bytes of a large answer a second; returns after how long the connection is cut off. `None`: never.
async fn reads(world: &World, bytes: usize) -> Option<Duration> {
    let mut client = world.connect_from("192.0.2.1:1", bytes.clamp(1, super::BUFFER));
    client.send(get("/large")).await;
    let (begun, mut received) = (clock::now(), 0);
    while received < LARGE {
        rt::sleep(SECOND).await;
        if world.connections.open.get() == 0 {
            return Some(clock::since(begun));
        }
        let wanted = received + bytes;
        while bytes > 0 && received < wanted.min(LARGE) {
            received += client.read().await.expect("no reset");
            client.input.clear();
        }
    }
    None
}

#[test]
fn a_reader_may_be_slow_and_not_silent() {
    run(|world| async move {
        let (limit, rate) = (world.limits.write_timeout, usize::try_from(WRITE_RATE_MIN).unwrap());
        let silent = reads(&world, 0).await.expect("cut off");
        assert!((limit..limit + 2 * SECOND).contains(&silent), "{silent:?}");
        let slow = reads(&world, rate / 4).await.expect("cut off");
        assert!(slow > limit && slow < 2 * limit, "{slow:?}");
        assert_eq!(world.metrics.connections_timed_out.get(), 2);
        assert_eq!(reads(&world, rate).await, None, "at the least rate it gets all of it");
    });
}

#[test]
fn an_answer_that_closes_arrives_although_its_client_goes_on_sending() {
    run(|world| async move {
        // Much more than is ever read: a close at once would reset the connection, and the answer with it.
        let (mut client, begun) = (world.connect(), clock::now());
        client.send("nonsense\r\n\r\n".to_owned() + &"x".repeat(10_000)).await;
        assert_eq!(client.answer().await.status, 400);
        while client.end_takes(b"more of it").await {
            rt::sleep(SECOND / 10).await;
        }
        let time = clock::since(begun);
        assert!((LINGER..2 * LINGER).contains(&time), "{time:?}");

        // One that closes is not waited for.
        let mut client = world.connect();
        client.send("nonsense\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 400);
        assert_eq!(client.rest().await, b"");
        drop(client);
        rt::sleep(AT_ONCE).await;
        world.assert_nobody_is_left("it has closed");
    });
}
