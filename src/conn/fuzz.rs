//! Entry point for fuzzing: bytes from a client to a whole connection, over a pipe and in virtual time.
//!
//! However the bytes are cut, the answers are the same: one for each complete request, and one that closes the connection
//! if something is malformed. Nothing panics, nothing hangs, nothing is left behind.

use super::Connections;
use crate::{
    budget::Budget,
    dialect::{Admission, Admitted, BodyMode, Payload, Reply, Request, Service, Source},
    limits::Limits,
    metrics::{Route, ShardMetrics},
    reject::Reject,
    rt::{self, virtual_time},
    transport::{
        Transport,
        pipe::{Pipe, PipeProbe, pipe},
    },
    wire::{
        http::{Fields, Method},
        http1::{
            DATE_BYTES, HeadLimits, Response,
            fuzz::{self, End},
        },
    },
};
use std::{rc::Rc, sync::Arc, time::Duration};

/// The most that the body of a request may be.
const BODY_BYTES_MAX: usize = 2 * 1024;
/// Longer inputs say nothing new. All answers to one fit into a pipe.
const INPUT_BYTES_MAX: usize = 8 * 1024;
const PIPE_BYTES: usize = 4 << 20;
/// Between two pieces: the gateway has done by then what it can do, and no deadline is near.
const PAUSE: Duration = Duration::from_micros(1);
/// Every deadline of a connection is long past by then.
const HANG: Duration = Duration::from_secs(3_600);

/// Sends the input at once, and in pieces that its own bytes choose.
pub fn fuzz_connection(input: &[u8]) {
    let input = input.get(..INPUT_BYTES_MAX).unwrap_or(input);
    let whole = answers(input, || usize::MAX);
    let mut sizes = input.iter().copied().cycle();
    let cut = answers(input, || usize::from(sizes.next().unwrap_or(1) % 64));
    assert!(whole == cut, "at once {}\nin pieces {}", String::from_utf8_lossy(&whole), String::from_utf8_lossy(&cut));
    if let Some(expected) = expected(input) {
        let (whole, expected) = (String::from_utf8_lossy(&whole), String::from_utf8_lossy(&expected));
        assert!(whole == expected, "answers {whole}\nexpected {expected}");
    }
}

/// Answers with the method, the target and the body of a request.
#[derive(Debug)]
struct Echo;

/// What a request line says, and a blank.
type Line = Vec<u8>;

fn line(method: Method, target: &[u8]) -> Line {
    [format!("{method:?} ").as_bytes(), target, b" "].concat()
}

impl Service for Echo {
    type Call = Line;

    fn admit(&self, request: &Request<'_>) -> Admission<Line> {
        let of = |span: crate::wire::Span| span.of(request.bytes);
        let line = line(request.head.method, of(request.head.target));
        let path = of(request.head.path);
        if path == b"/refused" {
            return Admission::Refuse(Box::new(Reply { body: b"no".as_slice().into(), ..reply(401) }));
        }
        let body = match path {
            b"/streamed" => BodyMode::Streamed,
            _ => BodyMode::Whole { bytes_max: BODY_BYTES_MAX as u64 },
        };
        let waits = path == b"/slow";
        Admission::Call(Admitted { call: line, route: Route::OTHER, body, is_verified: true, waits })
    }

    async fn handle(&self, mut line: Line, _: &Request<'_>, body: Payload<'_>) -> Reply {
        if line.windows(6).any(|part| part == b" /slow") {
            rt::sleep(Duration::from_secs(3)).await;
        }
        let read = match body {
            Payload::Whole(body) => {
                line.extend_from_slice(body);
                Ok(())
            }
            Payload::Streamed(source) => read_all(source, &mut line).await,
        };
        match read {
            Ok(()) => Reply { body: line.into(), ..reply(200) },
            Err(_) => Reply { close: true, ..reply(400) },
        }
    }

    fn reject(&self, _: &Reject, _: Route, _: Option<&Request<'_>>) -> Reply {
        // Of two broken rules either may come first.
        Reply { close: true, ..reply(400) }
    }
}

fn reply(status: u16) -> Reply {
    Reply::new(status, Fields::default(), Route::OTHER)
}

async fn read_all(mut source: Source, into: &mut Vec<u8>) -> Result<(), Reject> {
    let mut piece = Vec::new();
    while source.read(&mut piece).await? {
        into.extend_from_slice(&piece);
    }
    Ok(())
}

/// Sends the input in pieces of so many bytes, ends it, and returns everything that comes back until the connection ends.
fn answers(input: &[u8], piece: impl FnMut() -> usize) -> Vec<u8> {
    virtual_time::run(async move {
        let limits = Limits::default();
        let (budget, metrics) = (Budget::new(limits.shard_body_bytes_max), Arc::new(ShardMetrics::default()));
        let connections = Connections::over(Some(PipeProbe), Echo, limits, Rc::clone(&budget), metrics);
        rt::spawn(Rc::clone(&connections).sweep());
        let (server, client) = pipe(([192, 0, 2, 1], 1_234).into(), PIPE_BYTES);
        Rc::clone(&connections).start(server);
        let Ok(output) = rt::deadline(HANG, converse(client, input, piece)).await else {
            panic!("the connection hangs");
        };
        rt::sleep(PAUSE).await;
        assert_eq!((connections.open.get(), budget.used()), (0, 0), "nothing is left of the connection");
        assert!(connections.deadlines.is_empty(), "no deadline is left of it");
        without_chance(&output)
    })
}

async fn converse(mut client: Pipe, input: &[u8], mut piece: impl FnMut() -> usize) -> Vec<u8> {
    let (mut output, mut unsent) = (Vec::new(), input);
    while !unsent.is_empty() {
        let (now, later) = unsent.split_at(piece().clamp(1, unsent.len()));
        unsent = later;
        if client.write_all(now.to_vec()).await.is_err() {
            break;
        }
        rt::sleep(PAUSE).await;
    }
    // Whoever has been refused may be gone.
    let _ = client.finish_writing().await;
    loop {
        output.reserve(PIPE_BYTES);
        let (result, buffer) = client.read(output).await;
        output = buffer;
        if !matches!(result, Ok(1..)) {
            return output;
        }
    }
}

/// The output without what depends on the time, on when the input came, and on the version of the request.
fn without_chance(output: &[u8]) -> Vec<u8> {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let (mut kept, mut rest) = (Vec::new(), output);
    while let Some(at) = memchr::memmem::find(rest, CONTINUE) {
        kept.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + CONTINUE.len()..).unwrap_or_default();
    }
    kept.extend_from_slice(rest);
    let is_kept = |line: &&[u8]| !line.starts_with(b"Date: ") && !line.starts_with(b"Connection: ");
    kept.split_inclusive(|byte| *byte == b'\n').filter(is_kept).flatten().copied().collect()
}

/// What has to come back for the requests that the engine reads; `None` if that depends on more than the requests.
fn expected(input: &[u8]) -> Option<Vec<u8>> {
    if [&b"/streamed"[..], b"/refused"].iter().any(|path| memchr::memmem::find(input, path).is_some()) {
        return None;
    }
    let limits = HeadLimits::from(&Limits::default());
    let (requests, end) = fuzz::read_stream(input, &limits, BODY_BYTES_MAX as u64, || usize::MAX);
    let (mut output, fields) = (Vec::new(), Fields::default());
    let mut write = |status, body: &[u8], head_only| {
        let response = Response { body, head_only, ..Response::new(status, &fields) };
        response.write(&mut output, &[b' '; DATE_BYTES]);
    };
    for request in requests {
        let body = [line(request.method, &request.target), request.body].concat();
        write(200, &body, request.method == Method::Head);
    }
    if let End::Rejected(_) = end {
        write(400, b"", false);
    }
    Some(without_chance(&output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answers_do_not_depend_on_how_requests_come(pieces in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(PIECES).prop_map(|piece: &[u8]| piece.to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ], 0..12)) {
            fuzz_connection(&pieces.concat());
        }
    }

    const PIECES: &[&[u8]] = &[
        b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /streamed HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        b"POST /refused HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"3\r\nabc\r\n",
        b"5;x=y\r\nabcde\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"\r\n",
        b"abc",
        b"POST / HTTP/1.1\r\nHost: t\r\n",
        b"Content-Length: 4\r\n",
    ];
}
