//! A client that leaves, at every point and in every way: what is whole is served, nothing is guessed and nothing is left.

use super::{AT_ONCE, Answer, Client, LARGE, SLOW, World, get, post, run};
use crate::{
    rt,
    transport::{Guard, Transport},
};

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Closes,
    Resets,
    OnlyFinishes,
}

const WAYS: [How; 3] = [How::Closes, How::Resets, How::OnlyFinishes];

/// Leaves, and returns what still came.
pub(super) async fn leave(mut client: Client, how: How) -> Vec<u8> {
    match how {
        How::Closes => drop(client),
        How::Resets => client.end.reset(),
        How::OnlyFinishes => {
            client.end.finish_writing().await.expect("it is open");
            return client.rest().await;
        }
    }
    Vec::new()
}

async fn assert_all_is_released(world: &World, what: &str) {
    rt::sleep(AT_ONCE).await;
    world.assert_nobody_is_left(what);
}

#[test]
fn a_request_is_served_whole_or_not_at_all() {
    let chunked = "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n".to_owned();
    run(|world| async move {
        for request in [get("/a"), post("/a", "body"), chunked] {
            for how in WAYS {
                for cut in 0..=request.len() {
                    let what = format!("{how:?} after {cut} bytes of {request:?}");
                    let mut client = world.connect();
                    if cut > 0 {
                        client.send(&request[..cut]).await;
                    }
                    rt::sleep(AT_ONCE).await;
                    let answer = leave(client, how).await;
                    assert_all_is_released(&world, &what).await;
                    assert_eq!(world.served().len(), usize::from(cut == request.len()), "{what}");
                    let answered = how == How::OnlyFinishes && cut == request.len();
                    assert_eq!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), answered, "{what}");
                    assert!(answered || answer.is_empty(), "{what}: {:?}", String::from_utf8_lossy(&answer));
                }
            }
        }
    });
}

#[test]
fn a_request_that_has_begun_is_served_to_its_end() {
    run(|world| async move {
        for how in WAYS {
            let mut client = world.connect();
            client.send(get("/slow")).await;
            rt::sleep(SLOW / 2).await;
            let answer = leave(client, how).await;
            assert_eq!(answer.is_empty(), how != How::OnlyFinishes, "{how:?}");
            rt::sleep(SLOW).await;
            assert_eq!(world.served(), ["/slow "], "{how:?}");
            assert_all_is_released(&world, &format!("{how:?}")).await;
        }
    });
}

#[test]
fn a_large_answer_may_be_left_anywhere() {
    run(|world| async move {
        for how in WAYS {
            for received in [0, 1, 1_000, LARGE / 2, LARGE] {
                let mut client = world.connect();
                client.send(get("/large")).await;
                let mut count = 0;
                while count < received {
                    count += client.read().await.expect("it comes");
                    client.input.clear();
                }
                let rest = leave(client, how).await;
                if how == How::OnlyFinishes {
                    assert!(count + rest.len() > LARGE, "it gets all of it");
                }
                assert_all_is_released(&world, &format!("{how:?} after {received} bytes")).await;
            }
        }
    });
}

#[test]
fn what_follows_a_request_that_was_answered_ends_with_its_client() {
    run(|world| async move {
        let request = post("/b", "body");
        for cut in 0..request.len() {
            let mut client = world.connect();
            client.send(get("/a") + &request[..cut]).await;
            assert_eq!(client.answer().await, Answer::ok("/a "));
            leave(client, How::Closes).await;
            assert_all_is_released(&world, &format!("cut at {cut}")).await;
            assert_eq!(world.served(), ["/a "], "cut at {cut}");
        }
    });
}

#[test]
fn a_network_that_is_gone_costs_no_more_than_the_deadlines() {
    run(|world| async move {
        for request in ["", "GET /", &post("/a", "body")[..45], &get("/large")] {
            let mut client = world.connect();
            if !request.is_empty() {
                client.send(request).await;
            }
            rt::sleep(AT_ONCE).await;
            client.end.interrupt(true);
            rt::sleep(world.limits.idle_timeout + world.limits.write_timeout).await;
            assert_all_is_released(&world, request).await;
            // The guard of a connection that is gone does no harm.
            client.end.guard().shut_down();
        }
    });
}
