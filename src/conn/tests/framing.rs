//! Where a request begins and ends, however it arrives.

use super::{AT_ONCE, Answer, BODY_BYTES_MAX, SLOW, World, get, post, run};
use crate::{
    limits::IDLE_READ_BYTES,
    rt::{self, clock},
};

#[path = "../../../tests/it/framing_cases.rs"]
#[expect(unreachable_pub, reason = "the table of the suite, to whose modules it is public")]
mod framing_cases;

/// Requests, and what is served of them.
fn requests() -> Vec<(&'static str, Vec<u8>, Vec<String>)> {
    let long = "x".repeat(2 * IDLE_READ_BYTES);
    let row = |name, bytes: &str, served: &[&str]| {
        (name, bytes.as_bytes().to_vec(), served.iter().map(|text| (*text).to_owned()).collect())
    };
    vec![
        row("no body", &get("/a"), &["/a "]),
        row("an empty body", &post("/a", ""), &["/a "]),
        row("a body", &post("/a", "some text"), &["/a some text"]),
        row("a body where there is seldom one", &post("/a", "text").replace("POST", "GET"), &["/a text"]),
        row("a body that looks like a request", &post("/a", &get("/b")), &[&format!("/a {}", get("/b"))]),
        row("a body that no small buffer holds", &post("/a", &long), &[&format!("/a {long}")]),
        row(
            "chunks with extensions and trailers",
            "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
             4;a=b\r\nsome\r\n0005\r\n text\r\n0;last\r\nX: y\r\n\r\n",
            &["/a some text"],
        ),
        row("three at once", &(get("/a") + &post("/b", "two") + &get("/c")), &["/a ", "/b two", "/c "]),
        row("an empty line first", &("\r\n".to_owned() + &get("/a")), &["/a "]),
        row("a line end behind a body", &(post("/a", "b") + "\r\n" + &get("/c")), &["/a b", "/c "]),
        row("HTTP/1.0 that stays", "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &["/a "]),
    ]
}

/// Sends the pieces, each when everything before it was read, and returns the answers.
async fn answers(world: &World, pieces: &[&[u8]], count: usize) -> Vec<Answer> {
    let mut client = world.connect();
    for piece in pieces {
        client.send(piece).await;
        rt::sleep(AT_ONCE).await;
    }
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(client.answer().await);
    }
    // It stays open, and nothing that was sent is left over.
    client.send(get("/next")).await;
    assert_eq!(client.answer().await, Answer::ok("/next "));
    answers
}

#[test]
fn a_request_is_the_same_wherever_it_is_cut() {
    run(|world| async move {
        for (name, bytes, served) in requests() {
            let expected: Vec<Answer> = served.iter().map(|text| Answer::ok(text)).collect();
            for cut in 0..bytes.len() {
                let (first, second) = bytes.split_at(cut);
                let pieces: &[&[u8]] = if cut == 0 { &[second] } else { &[first, second] };
                assert_eq!(answers(&world, pieces, served.len()).await, expected, "{name}, cut at {cut}");
                assert_eq!(world.served()[..served.len()], served, "{name}, cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(answers(&world, &single, served.len()).await, expected, "{name}, in single bytes");
            world.served();
        }
        rt::sleep(AT_ONCE).await;
        world.assert_nobody_is_left("all have left");
    });
}

#[test]
fn a_malformed_request_is_refused_and_not_served_whether_it_comes_at_once_or_in_single_bytes() {
    run(|world| async move {
        for row in framing_cases::MALFORMED {
            if row.verdict.contains(&405) {
                continue; // Which methods there are is not for a connection to say.
            }
            let text = String::from_utf8_lossy(row.bytes);
            let mut bytes = if text.contains('{') {
                text.replace("{auth}", "Authorization: Bearer t").replace("{station}", "s").into_bytes()
            } else {
                row.bytes.to_vec()
            };
            bytes.extend_from_slice(get("/smuggled").as_bytes());
            for size in [bytes.len(), 1] {
                let mut client = world.connect();
                for piece in bytes.chunks(size) {
                    client.send(piece).await;
                    rt::sleep(AT_ONCE).await;
                }
                let answer = client.answer().await;
                assert!(row.verdict.contains(&answer.status) && answer.closes, "{}: {answer:?}", row.name);
                assert_eq!(client.rest().await, b"", "{}: nothing behind it is answered", row.name);
                assert_eq!(world.served(), [""; 0], "{}", row.name);
            }
        }
    });
}

#[test]
fn pipelined_requests_are_served_one_after_the_other_and_answered_in_order() {
    run(|world| async move {
        let (mut client, begun) = (world.connect(), clock::now());
        let paths: Vec<String> =
            (0..100).map(|number| if number % 50 == 20 { "/slow".to_owned() } else { format!("/{number}") }).collect();
        client.send(paths.iter().map(|path| get(path)).collect::<String>()).await;
        for (number, path) in paths.iter().enumerate() {
            assert_eq!(client.answer().await, Answer::ok(&format!("{path} ")));
            // What is answered before one that takes long does not wait for it.
            let slow = u32::try_from(paths[..=number].iter().filter(|path| *path == "/slow").count()).unwrap();
            assert_eq!(clock::since(begun), slow * SLOW, "{path}");
        }
    });
}

#[test]
fn a_connection_is_kept_or_closed_as_its_client_says() {
    let rows = [
        ("GET /a HTTP/1.1\r\nHost: t\r\n\r\n", false),
        ("GET /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", true),
        ("GET /a HTTP/1.1\r\nHost: t\r\nConnection: x, CLOSE\r\n\r\n", true),
        ("GET /a HTTP/1.0\r\n\r\n", true),
        ("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
    ];
    run(|world| async move {
        for (request, closes) in rows {
            let mut client = world.connect();
            client.send(request.to_owned() + &get("/behind")).await;
            assert_eq!(client.answer().await, Answer { closes, ..Answer::ok("/a ") }, "{request}");
            if closes {
                assert_eq!(client.rest().await, b"", "{request}");
            } else {
                assert_eq!(client.answer().await, Answer::ok("/behind "), "{request}");
            }
        }
    });
}

#[test]
fn a_body_is_asked_for_when_its_head_is_admitted_and_only_if_it_has_not_come() {
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
    };
    let interim = Answer { status: 100, ..Answer::ok("") };
    run(|world| async move {
        let whole = head("/a", 4);
        for cut in 1..=whole.len() {
            let mut client = world.connect();
            client.send(&whole[..cut]).await;
            rt::sleep(AT_ONCE).await;
            client.send(&whole[cut..]).await;
            assert_eq!(client.answer().await, interim, "cut at {cut}");
            client.send("body").await;
            assert_eq!(client.answer().await, Answer::ok("/a body"), "cut at {cut}");
        }

        let mut client = world.connect();
        client.send(head("/a", 4) + "body").await;
        assert_eq!(client.answer().await, Answer::ok("/a body"), "it has come: nobody asks");
        client.send(head("/refused", 4)).await;
        let refused = client.answer().await;
        assert_eq!((refused.status, refused.closes), (401, true), "nobody knows whether the body comes");
        assert_eq!(client.rest().await, b"");

        let mut client = world.connect();
        client.send(head("/a", BODY_BYTES_MAX + 1)).await;
        assert_eq!(client.answer().await.status, 413, "before it is sent");
    });
}

#[test]
fn a_refused_body_is_dropped_to_keep_the_connection_if_it_is_small() {
    run(|world| async move {
        let mut client = world.connect();
        for cut in [0, 1, 5_000, 9_999] {
            let request = post("/refused", &"x".repeat(10_000));
            let at = request.len() - cut;
            client.send(&request[..at]).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.closes), (401, false), "before all of the body has come");
            client.send(request[at..].to_owned() + &get("/next")).await;
            assert_eq!(client.answer().await, Answer::ok("/next "));
        }
        client.send(&post("/refused", &"x".repeat(100_000))[..1_000]).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.closes), (401, true), "too large to be read for nothing");
    });
}
