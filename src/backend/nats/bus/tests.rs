//! The bus against a broker that follows a script.

use super::{
    super::{
        connection::Connection,
        testing::{PATIENCE, with_broker},
    },
    *,
};
use crate::{
    limits::{BUS_QUEUE_BYTES_MAX, BUS_QUEUE_MESSAGES_MAX, BUS_QUEUED_BYTES_MAX, BUS_REQUESTS_MAX},
    rt,
};
use futures_util::future::{join, join_all};
use std::{cell::Cell, num::NonZeroU64, time::Duration};

/// The subscription that the handshake makes for replies.
const REPLIES_SID: u64 = 2;
/// The first one that is made afterwards.
const FIRST_SID: u64 = 3;

fn request<'a>(subject: &'a str, payload: &'a str) -> Request<'a> {
    Request { subject, headers: b"", payload: payload.as_bytes(), timeout: PATIENCE, replies_max: 8, bytes_max: 256 }
}

fn payloads(replies: &Replies) -> Vec<String> {
    replies.iter().map(|reply| String::from_utf8_lossy(reply.payload).into_owned()).collect()
}

#[test]
fn a_request_gets_its_own_reply_whatever_the_order() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let (first, second) = (peer.published(), peer.published());
            assert_eq!((first.subject.as_str(), first.headers.as_str(), first.payload.as_str()), ("a.b", "", "1"));
            assert_eq!(second.headers, "NATS/1.0\r\nK: v\r\n\r\n");
            assert_ne!(first.reply, second.reply);
            peer.message(&second.reply, REPLIES_SID, "to 2");
            peer.message_with(&first.reply, REPLIES_SID, "NATS/1.0\r\nA: 1\r\n\r\n", "to 1");
            // A second answer, and one to no request at all.
            peer.message(&second.reply, REPLIES_SID, "again");
            peer.message("_INBOX.id.r.x", REPLIES_SID, "");
            peer.message("_INBOX.other.r.1", REPLIES_SID, "");
            let third = peer.published();
            peer.message(&third.reply, REPLIES_SID, "to 3");
            peer.ended();
        },
        |connection| async move {
            let (one, two) = (request("a.b", "1"), Request { headers: b"K: v\r\n", ..request("c", "2") });
            let (one, two) = join(connection.request(&one), connection.request(&two)).await;
            let (one, two) = (one.expect("a reply"), two.expect("a reply"));
            assert_eq!((payloads(&one), payloads(&two)), (vec!["to 1".to_owned()], vec!["to 2".to_owned()]));
            assert_eq!(one.get(0).map(|reply| reply.headers), Some(b"NATS/1.0\r\nA: 1\r\n\r\n".as_slice()));
            let three = connection.request(&request("d", "3")).await.expect("a reply");
            assert_eq!(payloads(&three), ["to 3"]);
            assert!(!connection.bus.is_waiting());
        },
    );
}

#[test]
fn replies_are_gathered_until_one_is_the_last() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            for payload in ["1", "2"] {
                peer.message(&reply, REPLIES_SID, payload);
            }
            peer.message_with(&reply, REPLIES_SID, "NATS/1.0 204 EOB\r\n\r\n", "");
            // Of these the time is over before the last comes.
            let reply = peer.published().reply;
            peer.message(&reply, REPLIES_SID, "3");
            peer.ended();
        },
        |connection| async move {
            let judged = Cell::new(0);
            let is_end = |reply: Reply<'_>| {
                judged.set(judged.get() + 1);
                if reply.headers.starts_with(b"NATS/1.0 204") { Verdict::Last } else { Verdict::More }
            };
            let gathered = connection.request_many(&request("a", ""), is_end).await;
            assert_eq!((gathered.end, judged.get()), (Ok(()), 3));
            assert_eq!(payloads(&gathered.replies), ["1", "2", ""]);
            let brief = Request { timeout: Duration::from_secs(2), ..request("a", "") };
            let gathered = connection.request_many(&brief, |_| Verdict::More).await;
            assert_eq!((gathered.end, payloads(&gathered.replies)), (Err(Failure::TimedOut), vec!["3".to_owned()]));
            assert!(!connection.bus.is_waiting());
        },
    );
}

#[test]
fn a_reply_may_start_the_time_anew() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            peer.message(&reply, REPLIES_SID, "wait");
            // Longer than the request had by itself.
            peer.idle(Duration::from_secs(4));
            peer.message(&reply, REPLIES_SID, "done");
            let reply = peer.published().reply;
            peer.message(&reply, REPLIES_SID, "be quick");
            peer.ended();
        },
        |connection| async move {
            let brief = Request { timeout: Duration::from_secs(3), ..request("a", "") };
            let judge = |reply: Reply<'_>| match reply.payload {
                b"wait" => Verdict::MoreWithin(PATIENCE),
                b"be quick" => Verdict::MoreWithin(Duration::ZERO),
                _ => Verdict::Last,
            };
            assert_eq!(connection.request_many(&brief, judge).await.end, Ok(()));
            assert_eq!(connection.request_many(&request("a", ""), judge).await.end, Err(Failure::TimedOut));
        },
    );
}

#[test]
fn that_nobody_listens_is_not_that_nobody_answers() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            peer.message_with(&reply, REPLIES_SID, "NATS/1.0 503\r\n\r\n", "");
            // A service may say 503 itself, and why.
            let reply = peer.published().reply;
            peer.message_with(&reply, REPLIES_SID, "NATS/1.0 503 Busy\r\n\r\n", "later");
            assert_eq!(peer.published().payload, "3");
            peer.ended();
        },
        |connection| async move {
            assert_eq!(connection.request(&request("a", "1")).await.err(), Some(Failure::NoResponders));
            assert_eq!(payloads(&connection.request(&request("a", "2")).await.expect("a reply")), ["later"]);
            let brief = Request { timeout: Duration::from_millis(200), ..request("a", "3") };
            assert_eq!(connection.request(&brief).await.err(), Some(Failure::TimedOut));
        },
    );
}

#[test]
fn a_lost_connection_ends_every_request_and_its_replies_come_to_nobody_afterwards() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let replies = [peer.published().reply, peer.published().reply];
            peer.message(&replies[0], REPLIES_SID, "part");
            drop(peer);
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            assert!(!replies.contains(&reply), "{reply} is used again");
            for late in replies {
                peer.message(&late, REPLIES_SID, "late");
            }
            peer.message(&reply, REPLIES_SID, "new");
            peer.ended();
        },
        |connection| async move {
            let (one, two) = (request("a", "1"), request("a", "2"));
            let both = join(
                connection.request_many(&one, |_| Verdict::More),
                connection.request_many(&two, |_| Verdict::More),
            );
            let (one, two) = both.await;
            assert_eq!((one.end, two.end), (Err(Failure::Lost), Err(Failure::Lost)));
            assert_eq!((payloads(&one.replies), two.replies.replies.len()), (vec!["part".to_owned()], 0));
            // The next one waits for the next connection.
            assert_eq!(payloads(&connection.request(&request("b", "3")).await.expect("a reply")), ["new"]);
        },
    );
}

#[test]
fn replies_take_no_more_room_than_the_request_has() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            for payload in ["", "0123456789"] {
                let reply = peer.published().reply;
                for _ in 0..9 {
                    peer.message(&reply, REPLIES_SID, payload);
                }
            }
            peer.ended();
        },
        |connection| async move {
            for bytes_max in [256, 25] {
                let request = Request { bytes_max, ..request("a", "") };
                let gathered = connection.request_many(&request, |_| Verdict::More).await;
                assert_eq!(gathered.end, Err(Failure::Overrun));
                assert_eq!(gathered.replies.replies.len(), if bytes_max == 25 { 2 } else { 8 });
            }
        },
    );
}

#[test]
fn what_the_broker_would_not_take_is_not_sent_to_it() {
    let long = "s".repeat(NATS_CONTROL_LINE_BYTES_MAX - 40);
    let large = "x".repeat(1_025);
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let published = peer.published();
            assert_eq!((published.subject.as_str(), published.payload.len()), ("good", 1_024));
            peer.message(&published.reply, REPLIES_SID, "");
            // The next one is on a subject that the permissions forbid.
            peer.published();
            peer.send("-ERR 'Permissions Violation for Publish to \"secret\"'\r\n");
            peer.ended();
        },
        |connection| async move {
            for subject in ["", "a b", "a\r\nPING", "a..b", ".a", "a.", "a.*", ">", &long] {
                assert_eq!(
                    connection.request(&request(subject, "")).await.err(),
                    Some(Failure::Subject),
                    "{subject:?}"
                );
            }
            assert_eq!(connection.request(&request("a", &large)).await.err(), Some(Failure::TooLarge(1_024)));
            assert!(connection.request(&request("good", &large[1..])).await.is_ok());
            let forbidden = connection.request(&request("secret", "")).await.err();
            assert_eq!(forbidden, Some(Failure::Forbidden("secret".into())));
        },
    );
}

#[test]
fn requests_in_flight_are_bounded_and_whoever_goes_leaves_room() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            peer.ended();
        },
        |connection| async move {
            let brief = Request { timeout: Duration::from_secs(5), ..request("a", "") };
            let all = join_all((0..=BUS_REQUESTS_MAX).map(|_| connection.request(&brief)));
            // They are given up in the midst of it.
            let refused = rt::deadline(Duration::from_secs(1), all).await;
            assert!(refused.is_err());
            assert!(!connection.bus.is_waiting());
            let all = join_all((0..=BUS_REQUESTS_MAX).map(|_| connection.request(&brief))).await;
            let failures: Vec<Failure> = all.into_iter().filter_map(Result::err).collect();
            assert_eq!(failures.iter().filter(|failure| **failure == Failure::Full).count(), 1);
            assert_eq!(failures.iter().filter(|failure| **failure == Failure::TimedOut).count(), BUS_REQUESTS_MAX);
        },
    );
}

#[test]
fn a_request_waits_for_a_connection_no_longer_than_it_has_time() {
    with_broker(drop, |connection| async move {
        let brief = Request { timeout: Duration::from_millis(100), ..request("a", "") };
        assert_eq!(connection.request(&brief).await.err(), Some(Failure::Away));
    });
}

/// Takes messages until the subscription ends. Returns their payloads, and how it ended.
async fn drain(subscription: &mut Subscription) -> (Vec<String>, Result<(), Failure>) {
    let mut payloads = Vec::new();
    loop {
        match subscription.next().await {
            Ok(Some(received)) => payloads.push(String::from_utf8_lossy(received.payload()).into_owned()),
            Ok(None) => return (payloads, Ok(())),
            Err(failure) => return (payloads, Err(failure)),
        }
    }
}

/// Waits until everything was received that the broker sends before it answers this.
async fn catch_up(connection: &Connection) {
    connection.request(&request("catch.up", "")).await.expect("a reply");
}

#[test]
fn a_subscription_brings_messages_in_order_until_it_is_dropped() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            assert_eq!(peer.line(), format!("SUB a.* {FIRST_SID}"));
            peer.send("HMSG a.b 3 _INBOX.x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
            peer.message("a.c", FIRST_SID, "there");
            assert_eq!(peer.line(), format!("UNSUB {FIRST_SID}"));
            // What was on its way then comes to nobody, and not to the next one either.
            peer.message("a.d", FIRST_SID, "late");
            let line = peer.line();
            let sid = line.strip_prefix("SUB > ").expect("a subscription").parse().expect("a number");
            assert_ne!(sid, FIRST_SID);
            peer.message("a.e", sid, "new");
            peer.ended();
        },
        |connection| async move {
            let mut subscription = connection.subscribe("a.*", None).await.expect("subscribed");
            let first = subscription.next().await.expect("open").expect("a message");
            assert_eq!((first.subject(), first.reply()), (b"a.b".as_slice(), b"_INBOX.x".as_slice()));
            assert_eq!((first.headers(), first.payload()), (b"NATS/1.0\r\n\r\n".as_slice(), b"hi".as_slice()));
            let second = subscription.next().await.expect("open").expect("a message");
            assert_eq!(
                (second.subject(), second.reply(), second.headers()),
                (b"a.c".as_slice(), b"".as_slice(), b"".as_slice())
            );
            drop(subscription);
            let mut subscription = connection.subscribe(">", None).await.expect("subscribed");
            assert_eq!(subscription.next().await.expect("open").expect("a message").payload(), b"new");
            assert_eq!((connection.bus.subscriptions.get(), connection.bus.queued.get()), (1, 0));
        },
    );
}

#[test]
fn a_subscription_ends_by_itself_after_as_many_messages_as_were_asked_for() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            assert_eq!(peer.line(), format!("SUB a {FIRST_SID}"));
            assert_eq!(peer.line(), format!("UNSUB {FIRST_SID} 2"));
            for payload in ["1", "2", "3"] {
                peer.message("a", FIRST_SID, payload);
            }
            peer.ended();
        },
        |connection| async move {
            let mut subscription = connection.subscribe("a", NonZeroU64::new(2)).await.expect("subscribed");
            assert_eq!(drain(&mut subscription).await, (vec!["1".to_owned(), "2".to_owned()], Ok(())));
        },
    );
}

#[test]
fn a_subscriber_that_does_not_keep_up_is_ended_and_others_are_not() {
    let large = "x".repeat(BUS_QUEUE_BYTES_MAX / 2);
    with_broker(
        move |broker| {
            let mut peer = broker.accept();
            for (subject, sid) in [("many", 3), ("large", 4), ("other", 5)] {
                assert_eq!(peer.line(), format!("SUB {subject} {sid}"));
            }
            let reply = peer.published().reply;
            for number in 0..BUS_QUEUE_MESSAGES_MAX + 10 {
                peer.message("many", 3, &number.to_string());
            }
            for _ in 0..3 {
                peer.message("large", 4, &large);
            }
            peer.message("other", 5, "fine");
            peer.message(&reply, REPLIES_SID, "");
            assert_eq!([peer.line(), peer.line()], ["UNSUB 3", "UNSUB 4"]);
            peer.ended();
        },
        |connection| async move {
            let mut many = connection.subscribe("many", None).await.expect("subscribed");
            let mut large = connection.subscribe("large", None).await.expect("subscribed");
            let mut other = connection.subscribe("other", None).await.expect("subscribed");
            catch_up(&connection).await;
            let (payloads, end) = drain(&mut many).await;
            assert_eq!((payloads.len(), end), (BUS_QUEUE_MESSAGES_MAX, Err(Failure::Slow)));
            assert!(payloads.iter().enumerate().all(|(index, payload)| *payload == index.to_string()));
            let (payloads, end) = drain(&mut large).await;
            assert_eq!((payloads.len(), end), (1, Err(Failure::Slow)));
            assert_eq!(other.next().await.expect("open").expect("a message").payload(), b"fine");
            assert_eq!(connection.bus.queued.get(), 0);
        },
    );
}

#[test]
fn all_subscribers_together_have_a_bound_too() {
    let fitting = BUS_QUEUED_BYTES_MAX / BUS_QUEUE_BYTES_MAX;
    // Larger than a queue may be: it has one alone.
    let payload = "x".repeat(BUS_QUEUE_BYTES_MAX);
    with_broker(
        move |broker| {
            let mut peer = broker.accept();
            for _ in 0..fitting {
                assert!(peer.line().starts_with("SUB "));
            }
            let reply = peer.published().reply;
            for sid in (FIRST_SID..).take(fitting) {
                peer.message("a", sid, &payload);
            }
            peer.message(&reply, REPLIES_SID, "");
            peer.ended();
        },
        |connection| async move {
            let mut subscriptions = Vec::new();
            for _ in 0..fitting {
                subscriptions.push(connection.subscribe("a", None).await.expect("subscribed"));
            }
            catch_up(&connection).await;
            let mut last = subscriptions.pop().expect("some");
            assert_eq!(last.next().await.err(), Some(Failure::Slow));
            assert_eq!(connection.bus.queued.get(), (fitting - 1) * (BUS_QUEUE_BYTES_MAX + 1));
            for subscription in &mut subscriptions {
                assert!(subscription.next().await.is_ok_and(|received| received.is_some()));
            }
            // What nobody took is given back too.
            drop(subscriptions);
            assert_eq!((connection.bus.queued.get(), connection.bus.subscriptions.get()), (0, 1));
        },
    );
}

#[test]
fn a_lost_connection_ends_a_subscription_behind_what_came_before() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            assert_eq!(peer.line(), format!("SUB a {FIRST_SID}"));
            peer.message("a", FIRST_SID, "1");
            drop(peer);
            let mut peer = broker.accept();
            // It is not subscribed to again by itself, and not unsubscribed from either.
            assert_eq!(peer.published().subject, "next");
            peer.ended();
        },
        |connection| async move {
            let mut subscription = connection.subscribe("a", None).await.expect("subscribed");
            assert_eq!(drain(&mut subscription).await, (vec!["1".to_owned()], Err(Failure::Lost)));
            assert_eq!(subscription.next().await.err(), Some(Failure::Lost), "as often as it is asked");
            drop(subscription);
            let brief = Request { timeout: Duration::from_secs(5), ..request("next", "") };
            assert_eq!(connection.request(&brief).await.err(), Some(Failure::TimedOut));
        },
    );
}

#[test]
fn a_subscription_that_is_forbidden_or_cannot_be_is_an_error() {
    let long = "s".repeat(NATS_CONTROL_LINE_BYTES_MAX);
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            assert_eq!(peer.line(), format!("SUB secret.> {FIRST_SID}"));
            peer.send("-ERR 'Permissions Violation for Subscription to \"secret.>\"'\r\n");
            peer.ended();
        },
        |connection| async move {
            for subject in ["", "a b", "a..b", ">.a", "a.", "a\r\nPING", &long] {
                assert_eq!(connection.subscribe(subject, None).await.err(), Some(Failure::Subject), "{subject:?}");
            }
            let mut subscription = connection.subscribe("secret.>", None).await.expect("not refused yet");
            assert_eq!(subscription.next().await.err(), Some(Failure::Forbidden("secret.>".into())));
        },
    );
}
