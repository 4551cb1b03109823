//! Properties of streams of requests.

use super::super::{
    HeadLimits, Method,
    fuzz::{End, Request, fuzz_body, fuzz_head, fuzz_stream, read_stream},
};
use proptest::{collection::vec, prelude::*};

const BODY_BYTES_MAX: u64 = 1 << 20;

/// A request and its bytes on the wire.
#[derive(Debug, Clone)]
struct Sent {
    request: Request,
    wire: Vec<u8>,
}

/// How a body is sent: nothing, by length, or in chunks of these sizes with this extension and these trailers.
#[derive(Debug, Clone)]
enum How {
    Nothing,
    Length,
    Chunks { sizes: Vec<usize>, extension: &'static str, trailers: &'static str, width: usize },
}

fn how() -> impl Strategy<Value = How> {
    let extensions = prop::sample::select(vec!["", ";a", ";a=b", " ; a=\"\\\"x;\" ;c", ";q=\"\t\u{e9}\""]);
    let trailers = prop::sample::select(vec!["", "A: b\r\n", "X-Sum: 1\r\nEmpty:\r\n"]);
    prop_oneof![
        Just(How::Nothing),
        Just(How::Length),
        (vec(1..40_usize, 1..8), extensions, trailers, 1..=16_usize)
            .prop_map(|(sizes, extension, trailers, width)| How::Chunks { sizes, extension, trailers, width }),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = prop::sample::select(vec![("GET", Method::Get), ("POST", Method::Post), ("BREW", Method::Other)]);
    let fields = vec(("X-[A-Za-z0-9!_.-]{0,12}", "([!-~]([ -~\t\u{e9}]{0,30}[!-~])?)?"), 0..20);
    let body = prop_oneof![vec(any::<u8>(), 0..200), vec(prop::sample::select(b"\r\n0;: 5GET/".to_vec()), 0..200)];
    let empty_lines = 0..=2_usize;
    (method, "/[!-\"$->@-~]{0,30}", "(\\?[!-\"$-~]{0,30})?", fields, body, how(), empty_lines).prop_map(
        |(method, path, query, fields, body, how, empty_lines)| {
            encode(method, &[path, query].concat(), fields, body, &how, empty_lines)
        },
    )
}

fn encode(
    (name, method): (&str, Method),
    target: &str,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    how: &How,
    empty_lines: usize,
) -> Sent {
    let mut fields = [vec![("Host".to_owned(), "h".to_owned())], fields].concat();
    let (body, framed) = match how {
        How::Nothing => (Vec::new(), Vec::new()),
        How::Length => {
            fields.push(("content-length".to_owned(), body.len().to_string()));
            (body.clone(), body)
        }
        How::Chunks { sizes, extension, trailers, width } => {
            fields.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
            let (mut framed, mut rest) = (Vec::new(), &body[..]);
            for size in sizes.iter().cycle() {
                let (chunk, later) = rest.split_at(rest.len().min(*size));
                framed.extend_from_slice(format!("{:0width$x}{extension}\r\n", chunk.len()).as_bytes());
                if chunk.is_empty() {
                    break;
                }
                framed.extend_from_slice(&[chunk, b"\r\n"].concat());
                rest = later;
            }
            framed.extend_from_slice(format!("{trailers}\r\n").as_bytes());
            (body, framed)
        }
    };
    let lines = fields.iter().map(|(name, value)| format!("{name}:\t{value} \r\n")).collect::<Vec<_>>().concat();
    let head = format!("{}{name} {target} HTTP/1.1\r\n{lines}\r\n", "\r\n".repeat(empty_lines));
    let fields = fields.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
    let request = Request { method, target: target.as_bytes().to_vec(), fields, body };
    Sent { request, wire: [head.into_bytes(), framed].concat() }
}

/// Bytes that look like requests, more or less.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "GET",
        "POST",
        " ",
        "/",
        "*",
        "http://",
        "h",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        ":",
        ": ",
        "Host: h\r\n",
        "Content-Length: ",
        "Transfer-Encoding: ",
        "chunked",
        "gzip, ",
        "5",
        "0",
        "\0",
        "\t",
        ";",
        "=",
        "\"",
        "\\",
        "ffffffffffffffff",
        "\u{e9}",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "\r\n\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "#",
        "?",
        "[::1]",
        "@",
    ];
    vec(prop::sample::select(pieces.to_vec()), 0..40).prop_map(|chosen| chosen.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_of_any_valid_stream_parses_the_same(
        stream in vec(sent(), 1..=5),
        pieces in vec(1..200_usize, 1..20),
    ) {
        let wire: Vec<u8> = stream.iter().flat_map(|sent| sent.wire.clone()).collect();
        let expect: Vec<Request> = stream.into_iter().map(|sent| sent.request).collect();
        let mut sizes = pieces.iter().copied().cycle();
        for (requests, end) in [
            read_stream(&wire, &HeadLimits::default(), BODY_BYTES_MAX, || usize::MAX),
            read_stream(&wire, &HeadLimits::default(), BODY_BYTES_MAX, || 1),
            read_stream(&wire, &HeadLimits::default(), BODY_BYTES_MAX, || sizes.next().unwrap_or(1)),
        ] {
            prop_assert_eq!(&requests, &expect);
            prop_assert_eq!(end, End::Waiting);
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_yields_its_whole_requests_and_no_more(
        stream in vec(sent(), 1..=3),
        cut in any::<prop::sample::Index>(),
    ) {
        let wire: Vec<u8> = stream.iter().flat_map(|sent| sent.wire.clone()).collect();
        let cut = cut.index(wire.len());
        let mut left = cut;
        let whole = stream.iter().take_while(|sent| {
            let fits = sent.wire.len() <= left;
            left = left.saturating_sub(sent.wire.len());
            fits
        });
        let expect: Vec<Request> = whole.map(|sent| sent.request.clone()).collect();
        let (requests, end) = read_stream(&wire[..cut], &HeadLimits::default(), BODY_BYTES_MAX, || usize::MAX);
        prop_assert_eq!(requests, expect);
        prop_assert_eq!(end, End::Waiting);
    }

    #[test]
    fn a_mutated_stream_gets_one_verdict_however_it_is_cut(
        stream in vec(sent(), 1..=3),
        changes in vec((any::<prop::sample::Index>(), prop::sample::select(b"\r\n\0 \t:;,0159afGx\x7f\xe9\"".to_vec())), 1..4),
    ) {
        let mut wire: Vec<u8> = stream.into_iter().flat_map(|sent| sent.wire).collect();
        for (at, byte) in changes {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        fuzz_head(&wire);
    }

    #[test]
    fn no_input_panics(random in vec(any::<u8>(), 0..300), nearly in nearly_requests()) {
        for input in [&random, &nearly] {
            fuzz_head(input);
            fuzz_stream(input);
            fuzz_body(input);
        }
    }
}

#[test]
fn two_requests_are_never_read_out_of_one() {
    // Each is one request that another recipient may take for two, or whose body another may end elsewhere: it is
    // refused, and nothing behind it is read.
    const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = |fields: &str, body: &str| format!("POST /first HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    for first in [
        post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nX"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\nGET /x HTTP/1.1\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\nContent-Length: 4", "5c\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked", "0\r\n\r\n"),
        post("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding:\x0bchunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\x0b", "0\r\n\r\n"),
        post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
        post("Content-Length: 0\r\nContent-Length: 44", ""),
        post("Content-Length: 0, 44", ""),
        post("Content-Length: +0", ""),
        post("Content-Length: 0\0", ""),
        post("Content-Length : 44", ""),
        post("Content-Length: 0\n", ""),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("+5\r\nhello\r\n0\r\n\r\n"),
        chunked(" 5\r\nhello\r\n0\r\n\r\n"),
        chunked("5 \r\nhello\r\n0\r\n\r\n"),
        chunked("5;\nhello\r\n0\r\n\r\n"),
        chunked("5;a\nhello\r\n0\r\n\r\n"),
        chunked("5\nhello\n0\n\n"),
        chunked("5\rhello\r0\r\r"),
        chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"),
        chunked("10000000000000000\r\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello0\r\n\r\n"),
        chunked("5\r\nhelloXX0\r\n\r\n"),
        chunked("0\r\nA : b\r\n\r\n"),
        chunked("0\r\n\n"),
        chunked("0\n\r\n"),
        "GET /first HTTP/1.1\nHost: h\n\n".to_owned(),
        "GET /first HTTP/1.1\r\nHost: h\r\n\n".to_owned(),
        "GET /first HTTP/1.1\r\nHost: h\r\nHost: g\r\n\r\n".to_owned(),
        "GET /first\r\n".to_owned(),
        "GET /first HTTP/1.1\r\n Host: h\r\n\r\n".to_owned(),
        "POST /first HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        let input = [first.as_bytes(), SECOND].concat();
        for piece in [1, 7, usize::MAX] {
            let (requests, end) = read_stream(&input, &HeadLimits::default(), BODY_BYTES_MAX, || piece);
            assert!(requests.is_empty(), "{}: {requests:?}", input.escape_ascii());
            assert!(matches!(end, End::Rejected(_)), "{}: {end:?}", input.escape_ascii());
        }
    }
}

#[test]
fn nothing_is_read_behind_a_request_that_closes() {
    for first in [
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let input = format!("{first}GET /second HTTP/1.1\r\nHost: h\r\n\r\n");
        let (requests, end) = read_stream(input.as_bytes(), &HeadLimits::default(), BODY_BYTES_MAX, || usize::MAX);
        assert_eq!((requests.len(), end), (1, End::Closed), "{first}");
    }
}
