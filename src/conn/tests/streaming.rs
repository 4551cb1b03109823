//! Requests and replies that come in pieces, in both directions at once.

use super::{AT_ONCE, Answer, BUFFER, Echo, assert_about, get, leaving::How, reply, run};
use crate::{
    dialect::{Body, BodyStream, Broken, Payload, Reply, Sink, Source},
    limits::STREAM_BUFFER_BYTES,
    rt::{self, clock},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Bytes of a piece of `/flood`.
const PIECE: usize = 1_000;
const TICKS: u32 = 5;

fn stream<F: Future<Output = Result<(), Broken>> + 'static>(produce: impl FnOnce(Sink) -> F) -> Reply {
    Reply { body: Body::Stream(BodyStream::new(16, produce)), ..reply(200) }
}

async fn echo(mut source: Source, sink: Sink) -> Result<(), Broken> {
    let mut piece = Vec::new();
    while source.read(&mut piece).await.map_err(|_| Broken)? {
        sink.send(&piece).await?;
    }
    sink.send(b".").await
}

impl Echo {
    /// Returns the reply of a path that streams.
    pub(super) fn stream(&self, path: &str, body: Payload<'_>) -> Option<Reply> {
        let served = std::rc::Rc::clone(&self.served);
        match (path, body) {
            ("/chat", Payload::Streamed(source)) => Some(stream(|sink| echo(source, sink))),
            ("/ticks", _) => Some(stream(|sink| async move {
                for _ in 0..TICKS {
                    rt::sleep(SECOND).await;
                    sink.send(b"tick").await?;
                }
                Ok(())
            })),
            ("/endless", _) => Some(stream(|sink| async move {
                sink.send(b"begun").await?;
                sink.closed().await;
                served.borrow_mut().push("left".to_owned());
                Err(Broken)
            })),
            ("/flood", _) => Some(stream(|sink| async move {
                while sink.send(&[b'x'; PIECE]).await.is_ok() {
                    served.borrow_mut().push("piece".to_owned());
                }
                Err(Broken)
            })),
            _ => None,
        }
    }
}

/// Takes the body of a chunked reply apart.
fn body_of(reply: &str) -> (String, &str) {
    let (head, mut rest) = reply.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut body = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).expect("a size");
        body.push_str(&behind[..size]);
        rest = behind[size..].strip_prefix("\r\n").expect("the end of a chunk");
        if size == 0 {
            return (body, rest);
        }
    }
}

#[test]
fn a_reply_arrives_while_it_is_produced() {
    run(|world| async move {
        let (mut client, begun) = (world.connect(), clock::now());
        client.send(get("/ticks") + &get("/next")).await;
        client.until("\r\n\r\n").await;
        assert_eq!(clock::since(begun), Duration::ZERO, "the head does not wait for the body");
        for count in 1..=TICKS {
            assert_eq!(client.until("tick\r\n").await, "4\r\ntick\r\n");
            assert_eq!(clock::since(begun), count * SECOND);
        }
        assert_eq!(client.until("\r\n\r\n").await, "0\r\n\r\n");
        assert_eq!(client.answer().await, Answer::ok("/next "), "what was sent meanwhile is served behind it");
    });
}

#[test]
fn a_body_is_handed_on_while_it_comes_wherever_it_is_cut() {
    let head = "POST /chat HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let next = "GET /next HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    run(|world| async move {
        let mut client = world.connect();
        client.send(head).await;
        client.until("\r\n\r\n").await;
        for word in ["one", "two", "three"] {
            let chunk = format!("{:x}\r\n{word}\r\n", word.len());
            client.send(&chunk).await;
            assert_eq!(client.until(&chunk).await, chunk, "the request is open, and it is answered");
        }

        let whole = format!("{head}3\r\none\r\n0005;x=y\r\nthree\r\n0\r\nX: y\r\n\r\n{next}");
        for cut in 1..whole.len() {
            let mut client = world.connect();
            client.send(&whole[..cut]).await;
            rt::sleep(AT_ONCE).await;
            client.send(&whole[cut..]).await;
            let replies = String::from_utf8(client.rest().await).unwrap();
            let (body, behind) = body_of(&replies);
            assert_eq!(body, "onethree.", "cut at {cut}");
            assert!(behind.ends_with("\r\n\r\n/next "), "cut at {cut}: {behind}");
        }
    });
}

#[test]
fn a_client_that_leaves_a_reply_in_any_way_ends_its_producer() {
    run(|world| async move {
        for how in [How::Closes, How::Resets, How::OnlyFinishes] {
            for is_read in [false, true] {
                let mut client = world.connect();
                client.send(get("/endless")).await;
                rt::sleep(60 * SECOND).await;
                assert_eq!(world.served(), [""; 0], "it goes on while its client stays");
                if is_read {
                    client.until("begun\r\n").await;
                }
                super::leaving::leave(client, how).await;
                rt::sleep(AT_ONCE).await;
                assert_eq!(world.served(), ["left"], "{how:?}");
                world.assert_nobody_is_left(&format!("{how:?}"));
            }
        }
    });
}

#[test]
fn no_more_is_produced_than_the_client_takes_and_who_takes_nothing_is_cut_off() {
    run(|world| async move {
        let mut client = world.connect();
        client.send(get("/flood")).await;
        rt::sleep(SECOND).await;
        let produced = world.served().len() * PIECE;
        assert!(produced <= 2 * BUFFER + 3 * STREAM_BUFFER_BYTES, "{produced} bytes");
        for _ in 0..10 {
            let read = client.read().await.unwrap();
            client.input.clear();
            rt::sleep(SECOND).await;
            let more = world.served().len() * PIECE;
            assert!(more <= read + BUFFER, "{more} bytes for {read}");
        }
        rt::sleep(world.limits.write_timeout + SECOND).await;
        world.assert_nobody_is_left("cut off");
        assert_eq!(world.metrics.connections_timed_out.get(), 1);
    });
}

#[test]
fn the_sender_of_a_body_may_be_silent_for_the_time_of_a_stream() {
    run(|world| async move {
        let idle = world.limits.stream_idle;
        let mut client = world.connect();
        client.send("POST /chat HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        for _ in 0..3 {
            rt::sleep(idle * 9 / 10).await;
            client.send("1\r\nx\r\n").await;
            client.until("1\r\nx\r\n").await;
        }
        let begun = clock::now();
        assert_eq!(client.rest().await, b"", "without the last chunk: it is not complete");
        assert_about(clock::since(begun), idle);
        drop(client);
        rt::sleep(AT_ONCE).await;
        world.assert_nobody_is_left("cut off");
    });
}
