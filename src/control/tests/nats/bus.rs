//! The bus of a shard's connection, against a real broker and services on it.

use super::{
    super::support::block_on,
    Server,
    publishing::{api, minor},
    whole::on_connection,
};
use crate::{
    backend::nats::bus::{Failure, Replies, Reply, Request, Verdict},
    limits::{BUS_QUEUE_MESSAGES_MAX, Limits},
    rt,
    wire::nats::headers,
};
use async_nats::{Client, HeaderMap, Message};
use futures_util::{StreamExt as _, future::join};
use serde_json::json;
use std::{cell::RefCell, num::NonZeroU64, thread, time::Duration};

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn request<'a>(subject: &'a str, payload: &'a str) -> Request<'a> {
    Request {
        subject,
        headers: b"",
        payload: payload.as_bytes(),
        timeout: PATIENCE,
        replies_max: 1_000,
        bytes_max: 1 << 20,
    }
}

/// Serves `requests` requests on `service`, from when this returns on.
fn serve<F: Future<Output = ()>>(
    server: &Server,
    requests: usize,
    answer: impl Fn(Client, Message) -> F + Send + 'static,
) -> thread::JoinHandle<()> {
    let (ready, is_ready) = flume::bounded(1);
    let url = format!("127.0.0.1:{}", server.port);
    let service = thread::spawn(move || {
        block_on(async {
            let client = async_nats::connect(url).await.expect("a connection");
            let mut subscription = client.subscribe("service").await.expect("a subscription");
            client.flush().await.expect("the server has it");
            ready.send(()).expect("the test waits");
            for _ in 0..requests {
                let message = subscription.next().await.expect("a request");
                answer(client.clone(), message).await;
            }
            client.flush().await.expect("the server has it");
        });
    });
    is_ready.recv_timeout(PATIENCE).expect("the service is there");
    service
}

fn payloads(replies: &Replies) -> Vec<String> {
    replies.iter().map(|reply| String::from_utf8_lossy(reply.payload).into_owned()).collect()
}

#[test]
fn a_service_answers_once_or_several_times_or_not_at_all() {
    let server = Server::start("");
    let service = serve(&server, 3, |client, message| async move {
        let reply = message.reply.expect("somewhere to answer to");
        let count = match &*message.payload {
            b"none" => return,
            b"one" => 1,
            _ => 300,
        };
        for number in 1..=count {
            let kind = message.headers.as_ref().and_then(|fields| fields.get("Kind")).map_or("", |kind| kind.as_str());
            let payload = format!("{number} {kind}");
            if number < count {
                client.publish(reply.clone(), payload.into()).await.expect("sent");
            } else {
                let mut last = HeaderMap::new();
                last.insert("Last", "yes");
                client.publish_with_headers(reply.clone(), last, payload.into()).await.expect("sent");
            }
        }
    });
    on_connection(server.port, &Limits::default(), |connection| async move {
        let one = Request { headers: b"Kind: k\r\n", ..request("service", "one") };
        assert_eq!(payloads(&connection.request(&one).await.expect("an answer")), ["1 k"]);
        let is_last = |reply: Reply<'_>| match headers::find(reply.headers, "Last") {
            Some(_) => Verdict::Last,
            None => Verdict::More,
        };
        let gathered = connection.request_many(&request("service", "many"), is_last).await;
        assert_eq!(gathered.end, Ok(()));
        let expect: Vec<String> = (1..=300).map(|number| format!("{number} ")).collect();
        assert_eq!(payloads(&gathered.replies), expect);
        let none = Request { timeout: Duration::from_millis(500), ..request("service", "none") };
        assert_eq!(connection.request(&none).await.err(), Some(Failure::TimedOut));
        assert_eq!(connection.request(&request("nobody", "")).await.err(), Some(Failure::NoResponders));
    });
    service.join().expect("the service served");
}

#[test]
fn what_the_permissions_forbid_fails_at_once() {
    let user = "{ user: u, password: p, permissions: { publish: { deny: \"secret\" } } }";
    let server = Server::start(&format!("authorization {{ users: [ {user} ] }}\nno_auth_user: u"));
    on_connection(server.port, &Limits::default(), |connection| async move {
        let forbidden = connection.request(&request("secret", "")).await.err();
        assert_eq!(forbidden, Some(Failure::Forbidden("secret".into())));
        assert_eq!(connection.request(&request("open", "")).await.err(), Some(Failure::NoResponders));
    });
}

/// One request brings several messages, each with its headers, and a last one that says so.
#[test]
fn a_direct_get_of_several_messages_is_one_request() {
    let server = Server::start("");
    api(&server, "STREAM.CREATE.S", &json!({"name": "S", "subjects": ["s"], "allow_direct": true}));
    block_on(async {
        let jetstream = async_nats::jetstream::new(server.client().await);
        for number in 1..=20 {
            let mut own = HeaderMap::new();
            own.insert("Own", number.to_string());
            let stored = jetstream.publish_with_headers("s", own, format!("p{number}").into()).await.expect("sent");
            stored.await.expect("stored");
        }
    });
    let several = minor(&server) >= 11;
    on_connection(server.port, &Limits::default(), |connection| async move {
        let payload = if several { r#"{"seq":3,"batch":10}"# } else { r#"{"seq":3}"# };
        let is_end = |reply: Reply<'_>| match headers::status(reply.headers) {
            None if several => Verdict::More,
            Some(_) | None => Verdict::Last,
        };
        let gathered = connection.request_many(&request("$JS.API.DIRECT.GET.S", payload), is_end).await;
        assert_eq!(gathered.end, Ok(()));
        let found: Vec<(String, String)> = gathered
            .replies
            .iter()
            .filter_map(|reply| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let sequence = headers::find(reply.headers, "Nats-Sequence")?;
                Some((
                    format!("{} {}", text(sequence), text(headers::find(reply.headers, "Own")?)),
                    text(reply.payload),
                ))
            })
            .collect();
        let expect: Vec<(String, String)> = (3..if several { 13 } else { 4 })
            .map(|number| (format!("{number} {number}"), format!("p{number}")))
            .collect();
        assert_eq!(found, expect);
    });
}

#[test]
fn a_request_ends_when_the_broker_is_killed_and_the_next_one_finds_it_again() {
    let server = RefCell::new(Server::start(""));
    let service = serve(&server.borrow(), 1, |_, _| async {});
    let port = server.borrow().port;
    on_connection(port, &Limits::default(), |connection| {
        let server = &server;
        async move {
            let kill = async {
                // The service gets the request, and says nothing.
                while !service.is_finished() {
                    rt::sleep(Duration::from_millis(10)).await;
                }
                server.borrow_mut().kill();
            };
            let (failed, ()) = join(connection.request(&request("service", "")), kill).await;
            assert_eq!(failed.err(), Some(Failure::Lost));
            server.borrow_mut().run();
            assert_eq!(connection.request(&request("nobody", "")).await.err(), Some(Failure::NoResponders));
        }
    });
}

#[test]
fn a_subscriber_gets_what_is_published_and_one_that_is_too_slow_is_ended() {
    let server = Server::start("");
    let service = serve(&server, 2, |client, message| async move {
        let count: usize = String::from_utf8_lossy(&message.payload).parse().expect("a number");
        for number in 0..count {
            client.publish("news.one", number.to_string().into()).await.expect("sent");
        }
        client.publish(message.reply.expect("somewhere to answer to"), "done".into()).await.expect("sent");
    });
    on_connection(server.port, &Limits::default(), |connection| async move {
        let mut all = connection.subscribe("news.*", None).await.expect("subscribed");
        let mut two = connection.subscribe("news.one", NonZeroU64::new(2)).await.expect("subscribed");
        // The answer comes behind what was published before it.
        connection.request(&request("service", "5")).await.expect("an answer");
        for number in 0..5 {
            let received = all.next().await.expect("open").expect("a message");
            assert_eq!(
                (received.subject(), received.payload()),
                (b"news.one".as_slice(), number.to_string().as_bytes())
            );
        }
        for number in ["0", "1"] {
            assert_eq!(two.next().await.expect("open").expect("a message").payload(), number.as_bytes());
        }
        assert!(two.next().await.expect("ended in order").is_none());

        connection.request(&request("service", "5000")).await.expect("an answer");
        for number in 0..BUS_QUEUE_MESSAGES_MAX {
            let received = all.next().await.expect("open").expect("a message");
            assert_eq!(received.payload(), number.to_string().as_bytes());
        }
        assert_eq!(all.next().await.err(), Some(Failure::Slow));
        // The connection is none the worse for it.
        assert_eq!(connection.request(&request("nobody", "")).await.err(), Some(Failure::NoResponders));
    });
    service.join().expect("the service served");
}

#[test]
fn a_subscription_ends_when_the_broker_is_killed() {
    let server = RefCell::new(Server::start(""));
    let port = server.borrow().port;
    on_connection(port, &Limits::default(), |connection| {
        let server = &server;
        async move {
            let mut subscription = connection.subscribe("news.*", None).await.expect("subscribed");
            server.borrow_mut().kill();
            assert_eq!(subscription.next().await.err(), Some(Failure::Lost));
            server.borrow_mut().run();
            let mut again = connection.subscribe("news.*", None).await.expect("subscribed");
            let nobody = connection.request(&request("nobody", "")).await.err();
            assert_eq!(nobody, Some(Failure::NoResponders), "the broker has the subscription");
            let publisher = thread::spawn(move || {
                block_on(async {
                    let client = async_nats::connect(format!("127.0.0.1:{port}")).await.expect("a connection");
                    client.publish("news.one", "x".into()).await.expect("sent");
                    client.flush().await.expect("the server has it");
                });
            });
            assert_eq!(again.next().await.expect("open").expect("a message").payload(), b"x");
            publisher.join().expect("it was published");
        }
    });
}
