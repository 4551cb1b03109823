//! The engine as a connection drives it, and the entry points of the fuzz targets in `fuzz/`.
//!
//! The entry points panic where a promise of the engine is broken; the tests use the same ones. Not part of the API.

use super::{Body, Framing, Head, HeadLimits, Method, Progress};
use crate::{limits::HEAD_FIELDS_MAX, reject::Reject};

/// One request, copied out of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Request method.
    pub method: Method,
    /// Request target as sent.
    pub target: Vec<u8>,
    /// Names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

/// How a stream of requests ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All input is read, and what is left is no whole request.
    Waiting,
    /// A request asked for the connection to close.
    Closed,
    /// A request was refused.
    Rejected(Reject),
}

/// Reads requests out of `input` as a connection does: one buffer, appended to in pieces as large as `piece` says (it
/// is asked each time; at least one byte is taken). Requests that are there already are read where they lie.
pub fn read_stream(
    input: &[u8],
    limits: &HeadLimits,
    body_bytes_max: u64,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Request>, End) {
    let (mut connection, mut requests, mut unread) = (Connection::default(), Vec::new(), input);
    loop {
        match connection.next_request(limits, body_bytes_max) {
            Err(reject) => return (requests, End::Rejected(reject)),
            Ok(Some(request)) => {
                requests.push(request);
                if !connection.head.keep_alive {
                    return (requests, End::Closed);
                }
            }
            Ok(None) if unread.is_empty() => return (requests, End::Waiting),
            Ok(None) => {
                connection.buf.drain(..std::mem::take(&mut connection.at));
                let (now, later) = unread.split_at(piece().clamp(1, unread.len()));
                connection.buf.extend_from_slice(now);
                unread = later;
            }
        }
    }
}

/// What a connection keeps.
#[derive(Default)]
struct Connection {
    buf: Vec<u8>,
    /// Where the next request begins, or the one whose body is not complete.
    at: usize,
    head: Head,
    body: Option<Body>,
}

impl Connection {
    /// The next request, if all of it is there.
    fn next_request(&mut self, limits: &HeadLimits, body_bytes_max: u64) -> Result<Option<Request>, Reject> {
        let Self { buf, at, head, body } = self;
        let unread = buf.get(*at..).unwrap_or_default();
        let reader = match body {
            Some(reader) => reader,
            None if head.parse(unread, limits)? => body.insert(Body::new(head.framing, body_bytes_max)?),
            None => return Ok(None),
        };
        let Progress::Done { body: place, consumed_to } = reader.feed(buf, *at + head.len)? else { return Ok(None) };
        let request = buf.get(*at..).unwrap_or_default();
        let request = Request {
            method: head.http.method,
            target: head.http.target.of(request).to_vec(),
            fields: head.http.fields(request).map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            body: place.of(buf).to_vec(),
        };
        *body = None;
        *at = consumed_to;
        Ok(Some(request))
    }
}

/// Reads the input whole, and in pieces that its own bytes choose: the requests are the same, and so is the verdict
/// (of two broken rules either may be named, as either may come first).
pub fn fuzz_stream(input: &[u8]) {
    let limits = HeadLimits { bytes_max: 1_024, fields_max: 20 };
    let (whole, whole_end) = read_stream(input, &limits, 4_096, || usize::MAX);
    let mut sizes = input.iter().copied().cycle();
    let (cut, cut_end) = read_stream(input, &limits, 4_096, || usize::from(sizes.next().unwrap_or(1) % 32));
    assert_eq!(whole, cut, "the same requests");
    assert_eq!(std::mem::discriminant(&whole_end), std::mem::discriminant(&cut_end), "{whole_end:?}, {cut_end:?}");
}

/// Parses the input as a head. What is accepted, httparse reads in the same way, and every span lies in the head.
pub fn fuzz_head(input: &[u8]) {
    fuzz_stream(input);
    let mut head = Head::default();
    if head.parse(input, &HeadLimits::default()) != Ok(true) {
        return;
    }
    let mut slots = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut other = httparse::Request::new(&mut slots);
    match other.parse(input) {
        Ok(status) => assert_eq!(status, httparse::Status::Complete(head.len)),
        // It knows no minor version above 1, which are served as 1.1.
        Err(error) => return assert_eq!(error, httparse::Error::Version),
    }
    assert_eq!(other.path.map(str::as_bytes), Some(head.http.target.of(input)));
    assert!(head.http.fields(input).eq(other.headers.iter().map(|field| (field.name.as_bytes(), field.value))));
    let optional =
        [head.http.query, head.http.authority, head.http.authorization, head.http.content_type, head.http.origin];
    for place in optional.into_iter().flatten().chain([head.http.method_text, head.http.path, head.http.target]) {
        assert!(place.start <= place.end && place.end as usize <= head.len, "{place:?} in {}", head.len);
    }
}

/// Undoes the input as a chunked body, whole, in pieces, and handed on in pieces: the same bytes, and the same end.
pub fn fuzz_body(input: &[u8]) {
    const BYTES_KEPT: u64 = 4_096;
    let run = |piece: usize| -> Result<Option<(Vec<u8>, usize)>, Reject> {
        let mut body = Body::new(Framing::Chunked, BYTES_KEPT)?;
        // Bytes in front of the body stand for the head.
        let (mut buf, mut taken) = (b"head".to_vec(), 0);
        loop {
            match body.feed(&mut buf, 4)? {
                Progress::Done { body, consumed_to } => {
                    assert!(body.len() as u64 <= BYTES_KEPT && body.end as usize <= consumed_to);
                    return Ok(Some((body.of(&buf).to_vec(), taken - (buf.len() - consumed_to))));
                }
                Progress::More { .. } if taken == input.len() => return Ok(None),
                Progress::More { .. } => {
                    assert!(buf.len() as u64 <= 4 + BYTES_KEPT, "framing is cut out");
                    let next = input.iter().skip(taken).take(piece);
                    taken += next.len();
                    buf.extend(next);
                }
            }
        }
    };
    let whole = run(usize::from(u16::MAX));
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(run(piece), whole, "in pieces of {piece}");
        assert_eq!(hand_on(input, piece, BYTES_KEPT), whole, "handed on in pieces of {piece}");
    }
}

/// Takes the pieces of a chunked body out of the buffer as they come.
fn hand_on(input: &[u8], piece: usize, bytes_max: u64) -> Result<Option<(Vec<u8>, usize)>, Reject> {
    let mut body = Body::new(Framing::Chunked, bytes_max)?;
    let (mut buf, mut out, mut read) = (Vec::new(), Vec::new(), 0);
    loop {
        if body.take(&mut buf, &mut out)? {
            return Ok(Some((out, read - buf.len())));
        }
        assert!(buf.is_empty(), "nothing is kept but what belongs to the next request");
        if read == input.len() {
            return Ok(None);
        }
        let next = input.len().min(read + piece);
        buf.extend_from_slice(input.get(read..next).unwrap_or_default());
        read = next;
    }
}
