//! Streamed bodies over real sockets of this host: what clients see, and what the service sees of them.

use crate::{
    budget::Budget,
    conn::Connections,
    dialect::{
        Admission, Admitted, Body, BodyMode, BodyStream, Broken, Payload, Reply, Request, Service, Sink, Source,
    },
    limits::{Limits, STREAM_BUFFER_BYTES},
    metrics::Route,
    reject::Reject,
    rt::{self, Driver, DriverChoice, Flavor, Listener, Reservation},
    wire::http::Fields,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What producers did, for the test's thread to see.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Bytes that a producer or a call has had.
    bytes: Arc<AtomicU64>,
    /// Producers that have ended because their client had left.
    left: Arc<AtomicU64>,
}

/// A service whose calls are named by the path.
struct Lab {
    seen: Seen,
}

fn stream<F: Future<Output = Result<(), Broken>> + 'static>(produce: impl FnOnce(Sink) -> F) -> Reply {
    Reply {
        body: Body::Stream(BodyStream::new(16, produce)),
        ..Reply::new(200, Fields::of("X-A: b\r\n"), Route::OTHER)
    }
}

fn text(text: &str) -> Reply {
    Reply { body: Body::from(text.as_bytes().to_vec()), ..Reply::new(200, Fields::default(), Route::OTHER) }
}

impl Service for Lab {
    type Call = String;

    fn admit(&self, request: &Request<'_>) -> Admission<String> {
        let call = String::from_utf8_lossy(request.head.path.of(request.bytes)).into_owned();
        let body = match call.as_str() {
            "/echo" | "/sum" | "/early" | "/slow" => BodyMode::Streamed,
            _ => BodyMode::Whole { bytes_max: 1_000 },
        };
        let is_upgrade = call == "/upgrade";
        let admitted = Admitted { call, route: Route::OTHER, body, is_verified: true, waits: false };
        if is_upgrade { Admission::Upgrade(admitted) } else { Admission::Call(admitted) }
    }

    async fn handle(&self, call: String, _: &Request<'_>, payload: Payload<'_>) -> Reply {
        let seen = self.seen.clone();
        match (call.as_str(), payload) {
            ("/three", _) => stream(|sink| async move {
                for piece in ["one", "", "two", "three"] {
                    rt::sleep(Duration::ZERO).await;
                    sink.send(piece.as_bytes()).await?;
                }
                Ok(())
            }),
            ("/broken", _) => stream(|sink| async move {
                sink.send(b"half").await?;
                rt::sleep(Duration::ZERO).await;
                Err(Broken)
            }),
            ("/until-left", _) => stream(|sink| async move {
                sink.send(b"hello").await?;
                sink.closed().await;
                seen.left.fetch_add(1, Ordering::SeqCst);
                Err(Broken)
            }),
            ("/flood", _) => stream(|sink| async move {
                let piece = vec![b'x'; 64 * 1024];
                loop {
                    if sink.send(&piece).await.is_err() {
                        seen.left.fetch_add(1, Ordering::SeqCst);
                        return Err(Broken);
                    }
                    seen.bytes.fetch_add(piece.len() as u64, Ordering::SeqCst);
                }
            }),
            ("/echo", Payload::Streamed(source)) => stream(|sink| echo(source, sink)),
            ("/upgrade", Payload::Streamed(source)) => {
                let fields = Fields::of("Upgrade: echo\r\n");
                Reply { status: 101, fields, ..stream(|sink| echo(source, sink)) }
            }
            ("/sum", Payload::Streamed(mut source)) => {
                let mut piece = Vec::new();
                loop {
                    match source.read(&mut piece).await {
                        Ok(true) => drop(seen.bytes.fetch_add(piece.len() as u64, Ordering::SeqCst)),
                        Ok(false) => return text(&seen.bytes.load(Ordering::SeqCst).to_string()),
                        Err(reject) => {
                            seen.left.fetch_add(1, Ordering::SeqCst);
                            return self.reject(&reject, Route::OTHER, None);
                        }
                    }
                }
            }
            // Holds the body and does not read it until the test ends. That the client has left lies behind the body.
            ("/slow", Payload::Streamed(source)) => stream(|sink| async move {
                while seen.left.load(Ordering::SeqCst) == 0 {
                    rt::sleep(Duration::from_millis(1)).await;
                }
                drop((source, sink));
                Err(Broken)
            }),
            _ => text("whole"),
        }
    }

    fn reject(&self, reject: &Reject, route: Route, _: Option<&Request<'_>>) -> Reply {
        let body = Body::from(reject.to_string().into_bytes());
        Reply { body, close: true, ..Reply::new(400, Fields::default(), route) }
    }
}

async fn echo(mut source: Source, sink: Sink) -> Result<(), Broken> {
    let mut piece = Vec::new();
    while source.read(&mut piece).await.map_err(|_| Broken)? {
        sink.send(&piece).await?;
    }
    sink.send(b".").await
}

/// Runs a client against the service, on a thread of its own, with each driver that the kernel permits.
fn serve(limits: &Limits, client: fn(SocketAddr, Seen)) {
    for driver in
        [DriverChoice::Epoll, DriverChoice::IoUring].into_iter().filter_map(|choice| Driver::choose(choice).ok())
    {
        serve_with(driver.flavor, limits.clone(), client);
    }
}

fn serve_with(flavor: Flavor, limits: Limits, client: fn(SocketAddr, Seen)) {
    let port = Reservation::new("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, listener) = (port.address(), port.listener().unwrap());
    let seen = Seen::default();
    let ended = rt::run(flavor, || async {
        let budget = Budget::new(1 << 24);
        let service = Lab { seen: seen.clone() };
        let connections = Connections::new(service, limits, Rc::clone(&budget), Arc::default());
        let listener = Listener::new(listener, flavor).unwrap();
        rt::spawn(Rc::clone(&connections).sweep());
        rt::spawn(Rc::clone(&connections).accept(listener));
        let (done, is_done) = flume::bounded::<()>(1);
        let client = thread::spawn(move || {
            let _done = done;
            client(address, seen);
        });
        // An error: the thread has dropped its end.
        let _ = is_done.recv_async().await;
        client.join().expect("the client's expectations");
        connections.stop_accepting();
        connections.drain().await;
        assert_eq!(budget.used(), 0, "what was held is given back");
    });
    ended.unwrap();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends, and returns all that comes until the connection ends.
fn whole(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Reads until the end of what has come is this.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&byte);
    }
    String::from_utf8(bytes).unwrap()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn a_stream_comes_in_chunks_and_the_connection_goes_on() {
    serve(&Limits::default(), |address, _| {
        let requests = "GET /three HTTP/1.1\r\nHost: h\r\n\r\nGET /whole HTTP/1.1\r\nHost: h\r\n\r\n\
             GET /three HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let replies = whole(address, requests);
        let chunks = "\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n";
        let [first, second, third] = replies.split("HTTP/1.1 200 OK\r\n").skip(1).collect::<Vec<_>>()[..] else {
            panic!("{replies}");
        };
        assert!(first.contains("X-A: b\r\nTransfer-Encoding: chunked\r\n") && first.ends_with(chunks), "{first}");
        assert!(second.contains("Content-Length: 5\r\n") && second.ends_with("\r\n\r\nwhole"), "{second}");
        assert!(third.contains("Connection: close\r\n") && third.ends_with(chunks), "{third}");
    });
}

#[test]
fn http_1_0_gets_a_stream_up_to_the_end_of_the_connection_and_head_gets_none() {
    serve(&Limits::default(), |address, _| {
        let reply = whole(address, "GET /three HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(reply.ends_with("Connection: close\r\n\r\nonetwothree"), "{reply}");
        assert!(!reply.contains("Transfer-Encoding"), "{reply}");
        let replies = whole(
            address,
            "HEAD /three HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        );
        assert!(replies.contains("Transfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\n"), "{replies}");
        assert!(replies.ends_with("\r\n\r\nwhole"), "{replies}");
    });
}

#[test]
fn a_stream_that_breaks_has_no_last_chunk() {
    serve(&Limits::default(), |address, _| {
        let reply = whole(address, "GET /broken HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(reply.ends_with("\r\n\r\n4\r\nhalf\r\n"), "{reply}");
    });
}

#[test]
fn a_client_that_leaves_ends_the_producer() {
    serve(&Limits::default(), |address, seen| {
        let mut waiting = connect(address);
        waiting.write_all(b"GET /until-left HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        read_to(&mut waiting, "hello\r\n");
        assert_eq!(seen.left.load(Ordering::SeqCst), 0);
        drop(waiting);
        eventually("the producer was not told", || seen.left.load(Ordering::SeqCst) == 1);
        // Also in the midst of bytes, and where it has sent another request meanwhile.
        let mut flooded = connect(address);
        flooded.write_all(b"GET /flood HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n").unwrap();
        read_to(&mut flooded, "xxxx");
        drop(flooded);
        eventually("the producer was not ended", || seen.left.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn nothing_is_produced_that_the_client_does_not_read_and_it_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_secs(3), ..Limits::default() };
    serve(&limits, |address, seen| {
        let mut idle = connect(address);
        idle.write_all(b"GET /flood HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        eventually("it was not cut off", || seen.left.load(Ordering::SeqCst) == 1);
        let produced = seen.bytes.load(Ordering::SeqCst);
        // What the kernel takes, and a piece.
        assert!(produced < 64 << 20, "{produced}");
    });
}

#[test]
fn a_body_is_handed_on_while_it_comes_and_the_reply_as_well() {
    serve(&Limits::default(), |address, _| {
        let mut stream = connect(address);
        stream.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert!(read_to(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
        for piece in ["a", "bc", "def"] {
            write!(stream, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
            read_to(&mut stream, &format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        read_to(&mut stream, "1\r\n.\r\n0\r\n\r\n");
        // The next request is read, also one whose body has a length.
        stream
            .write_all(
                b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
            )
            .unwrap();
        read_to(&mut stream, "4\r\nabc.\r\n0\r\n\r\n");
        read_to(&mut stream, "whole");
    });
}

#[test]
fn a_body_of_any_length_is_read_in_bounded_memory() {
    serve(&Limits::default(), |address, seen| {
        let mut stream = connect(address);
        let total = 64 << 20;
        write!(stream, "POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: {total}\r\nExpect: 100-continue\r\n\r\n")
            .unwrap();
        read_to(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..total >> 20 {
            stream.write_all(&piece).unwrap();
        }
        read_to(&mut stream, &format!("\r\n\r\n{total}"));
        assert_eq!(seen.bytes.load(Ordering::SeqCst), total);
    });
}

#[test]
fn a_call_that_does_not_read_stops_the_client() {
    serve(&Limits::default(), |address, seen| {
        let mut stream = connect(address);
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        write!(stream, "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40).unwrap();
        let (piece, mut written) = (vec![b'x'; STREAM_BUFFER_BYTES], 0);
        while let Ok(count) = stream.write(&piece) {
            written += count;
            assert!(written < 256 << 20, "more than any kernel keeps");
        }
        seen.left.store(1, Ordering::SeqCst);
    });
}

#[test]
fn a_body_that_is_not_used_closes_the_connection() {
    serve(&Limits::default(), |address, _| {
        let reply = whole(address, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
        assert!(reply.contains("Connection: close\r\n") && reply.ends_with("\r\n\r\nwhole"), "{reply}");
    });
}

#[test]
fn a_body_that_is_cut_off_or_malformed_or_too_slow_is_not_complete() {
    let limits = Limits { stream_idle: Duration::from_millis(400), ..Limits::default() };
    serve(&limits, |address, seen| {
        let head = "POST /sum HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        let malformed = whole(address, &format!("{head}zz\r\n"));
        assert!(malformed.contains("a chunk's size"), "{malformed}");
        let silent = whole(address, head);
        assert!(silent.ends_with(&Reject::RequestTimeout.to_string()), "{silent}");
        let mut gone = connect(address);
        gone.write_all(head.as_bytes()).unwrap();
        gone.shutdown(Shutdown::Write).unwrap();
        eventually("the call was not told", || seen.left.load(Ordering::SeqCst) == 3);
    });
}

#[test]
fn another_protocol_has_the_bytes_of_both_directions() {
    serve(&Limits::default(), |address, _| {
        let mut stream = connect(address);
        stream
            .write_all(b"GET /upgrade HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nabc")
            .unwrap();
        let head = read_to(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.ends_with("Upgrade: echo\r\nConnection: Upgrade\r\n\r\n"), "{head}");
        read_to(&mut stream, "abc");
        stream.write_all(b"d\r\n").unwrap();
        read_to(&mut stream, "d\r\n");
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, ".");
    });
}
