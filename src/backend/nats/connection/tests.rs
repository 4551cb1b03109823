//! What the connection does by itself, against a broker that follows a script.

use super::{
    super::{
        bus::{Request, Verdict},
        testing::{PATIENCE, with_broker},
    },
    *,
};
use futures_util::future::join;

/// The subscription that the handshake makes for replies.
const REPLIES_SID: u64 = 2;

fn request(subject: &str) -> Request<'_> {
    Request { subject, headers: b"", payload: b"", timeout: PATIENCE, replies_max: 1, bytes_max: 64 }
}

#[test]
fn a_pulled_message_that_nobody_waits_for_is_given_back_and_no_other_is_answered() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            for (sid, answer_to) in [(77, "elsewhere"), (77, "$JS.ACK.S.C.1.2.3.4.5"), (0, "x"), (u64::MAX, "x")] {
                peer.send(&format!("MSG a {sid} {answer_to} 2\r\nhi\r\n"));
            }
            peer.message("a", 77, "no reply at all");
            peer.message(&reply, REPLIES_SID, "");
            let given_back = peer.published();
            assert_eq!((given_back.subject.as_str(), given_back.payload.as_str()), ("$JS.ACK.S.C.1.2.3.4.5", "-NAK"));
            // What comes next is the next request.
            let next = peer.published();
            assert_eq!(next.subject, "next");
            peer.message(&next.reply, REPLIES_SID, "");
            peer.ended();
        },
        |connection| async move {
            for subject in ["first", "next"] {
                connection.request(&request(subject)).await.expect("a reply");
            }
        },
    );
}

#[test]
fn a_server_that_is_about_to_stop_is_not_left_while_it_owes_an_answer() {
    let (left, is_left) = flume::bounded(1);
    with_broker(
        move |broker| {
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            peer.message(&reply, REPLIES_SID, "");
            let reply = peer.published().reply;
            peer.send("INFO {\"server_id\":\"X\",\"version\":\"2.12.0\",\"headers\":true,\"ldm\":true}\r\n");
            is_left.recv_timeout(PATIENCE).expect("the gateway sends nothing more");
            peer.message(&reply, REPLIES_SID, "");
            // Then the gateway ends the connection.
            peer.ended();
            let mut peer = broker.accept();
            assert_eq!(peer.published().subject, "behind");
            peer.ended();
        },
        |connection| async move {
            connection.request(&request("before")).await.expect("a reply");
            let leaves = async {
                while connection.is_up() {
                    rt::sleep(Duration::from_millis(5)).await;
                }
                assert!(connection.is_connected());
                left.send(()).expect("the broker waits");
            };
            let (answered, ()) = join(connection.request(&request("owed")), leaves).await;
            assert!(answered.is_ok(), "{answered:?}");
            let brief = Request { timeout: Duration::from_secs(10), ..request("behind") };
            assert!(connection.request_many(&brief, |_| Verdict::Last).await.end.is_err(), "nobody answers");
        },
    );
}

#[test]
fn what_the_broker_refuses_in_passing_does_not_end_the_connection_and_other_errors_do() {
    with_broker(
        |broker| {
            let mut peer = broker.accept();
            peer.send("-ERR 'Maximum Subscriptions Exceeded'\r\n");
            let reply = peer.published().reply;
            peer.message(&reply, REPLIES_SID, "");
            peer.send("-ERR 'Slow Consumer'\r\n");
            peer.ended();
            let mut peer = broker.accept();
            let reply = peer.published().reply;
            peer.message(&reply, REPLIES_SID, "");
            peer.ended();
        },
        |connection| async move {
            connection.request(&request("a")).await.expect("a reply");
            while connection.is_connected() {
                rt::sleep(Duration::from_millis(5)).await;
            }
            connection.request(&request("b")).await.expect("a reply over the next connection");
        },
    );
}
