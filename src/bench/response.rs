//! Responses, as far as a load generator must understand them: status, length, and whether the connection stays.
//!
//! The parser is fed whatever a read brought and keeps only a head that did not come whole. It knows `Content-Length`,
//! chunked bodies, interim responses and responses without a body; anything else is an error, and ends the connection.

use memchr::{memchr, memmem};

/// Reads the responses of one connection. After an error it must not be fed again.
#[derive(Debug, Default)]
pub(super) struct ResponseParser {
    state: State,
    /// The beginning of a line or head whose end has not come.
    partial: Vec<u8>,
    status: u16,
    close: bool,
}

/// What the parser found, in the order of the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Bytes of a body.
    Body(&'a [u8]),
    /// A response is whole.
    End {
        /// Its status, 200 to 999.
        status: u16,
        /// The server will close the connection.
        close: bool,
    },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// This many bytes of a body are still to come.
    Body(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// This many bytes of a chunk are still to come.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailer fields, up to an empty line.
    Trailer,
}

impl ResponseParser {
    /// Reads `input` and gives `sink` what it holds.
    pub(super) fn feed(&mut self, mut input: &[u8], mut sink: impl FnMut(Event<'_>)) -> Result<(), &'static str> {
        while !input.is_empty() {
            input = match self.state {
                State::Head => self.head(input, &mut sink)?,
                State::Body(left) => {
                    let (rest, left) = body(input, left, &mut sink);
                    self.state = State::Body(left);
                    if left == 0 {
                        self.end(&mut sink);
                    }
                    rest
                }
                State::Chunk(left) => {
                    let (rest, left) = body(input, left, &mut sink);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    rest
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => self.line(input, &mut sink)?,
            };
        }
        Ok(())
    }

    fn head<'a>(&mut self, input: &'a [u8], sink: &mut impl FnMut(Event<'_>)) -> Result<&'a [u8], &'static str> {
        let framing = if self.partial.is_empty() {
            match memmem::find(input, HEAD_END) {
                Some(at) => (parse_head(input.get(..at + 2).unwrap_or_default())?, at + HEAD_END.len()),
                None => return self.keep(input),
            }
        } else {
            // The end may lie across the seam: look from three bytes before it.
            let seam = self.partial.len();
            self.partial.extend_from_slice(input.get(..HEAD_BYTES_MAX.min(input.len())).unwrap_or_default());
            let from = seam.saturating_sub(HEAD_END.len() - 1);
            let Some(at) = memmem::find(self.partial.get(from..).unwrap_or_default(), HEAD_END) else {
                return if self.partial.len() > HEAD_BYTES_MAX { Err("a response head too long") } else { Ok(&[]) };
            };
            let head = parse_head(self.partial.get(..from + at + 2).unwrap_or_default())?;
            self.partial.clear();
            (head, from + at + HEAD_END.len() - seam)
        };
        let (head, taken) = framing;
        self.begin(&head, sink);
        Ok(input.get(taken..).unwrap_or_default())
    }

    fn begin(&mut self, head: &Head, sink: &mut impl FnMut(Event<'_>)) {
        if head.status < 200 {
            return; // An interim response: the final one follows.
        }
        self.status = head.status;
        self.close = head.close;
        match head.body {
            BodyKind::Length(0) => self.end(sink),
            BodyKind::Length(length) => self.state = State::Body(length),
            BodyKind::Chunked => self.state = State::ChunkSize,
        }
    }

    /// The lines between chunks.
    fn line<'a>(&mut self, input: &'a [u8], sink: &mut impl FnMut(Event<'_>)) -> Result<&'a [u8], &'static str> {
        let Some(at) = memchr(b'\n', input) else { return self.keep(input) };
        self.keep(input.get(..at).unwrap_or_default())?;
        let line = std::mem::take(&mut self.partial);
        let text = line.strip_suffix(b"\r").ok_or("a line that ends without CR")?;
        match self.state {
            State::ChunkSize => {
                let size = chunk_size(text).ok_or("a chunk without a size")?;
                self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
            }
            State::ChunkEnd if text.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => return Err("a chunk longer than its size"),
            _ if text.is_empty() => self.end(sink),
            _ => {}
        }
        Ok(input.get(at + 1..).unwrap_or_default())
    }

    fn keep<'a>(&mut self, input: &[u8]) -> Result<&'a [u8], &'static str> {
        if self.partial.len() + input.len() > HEAD_BYTES_MAX {
            return Err("a response head too long");
        }
        self.partial.extend_from_slice(input);
        Ok(&[])
    }

    fn end(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        self.state = State::Head;
        sink(Event::End { status: self.status, close: self.close });
    }
}

/// Gives `sink` what `input` holds of a body of which `left` bytes are to come. Returns the rest of both.
fn body<'a>(input: &'a [u8], left: u64, sink: &mut impl FnMut(Event<'_>)) -> (&'a [u8], u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    let (bytes, rest) = input.split_at(taken);
    sink(Event::Body(bytes));
    (rest, left - taken as u64)
}

struct Head {
    status: u16,
    close: bool,
    body: BodyKind,
}

enum BodyKind {
    Length(u64),
    Chunked,
}

/// Reads a head; `text` ends with the line end of its last field.
fn parse_head(text: &[u8]) -> Result<Head, &'static str> {
    let line_end = memchr(b'\n', text).ok_or("a response without a status line")?;
    let (line, mut fields) = text.split_at(line_end + 1);
    let minor = match line.get(..9) {
        Some(b"HTTP/1.1 ") => 1,
        Some(b"HTTP/1.0 ") => 0,
        _ => return Err("not an HTTP/1 response"),
    };
    let status =
        line.get(9..12).and_then(decimal).filter(|status| *status >= 100).ok_or("a status that is no number")?;
    if !matches!(line.get(12), Some(b' ' | b'\r')) {
        return Err("a status that is no number");
    }
    let status = u16::try_from(status).map_err(|_| "a status that is no number")?;
    let (mut length, mut chunked, mut close) = (None, false, minor == 0);
    while let Some(at) = memchr(b'\n', fields) {
        let (field, rest) = fields.split_at(at + 1);
        fields = rest;
        let Some(colon) = memchr(b':', field) else { continue };
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(decimal(value).ok_or("a Content-Length that is no number")?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = true;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a Transfer-Encoding other than chunked");
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close") || (minor == 0 && !value.eq_ignore_ascii_case(b"keep-alive"));
        }
    }
    let body = match (status, chunked, length) {
        (100..=199 | 204 | 304, _, _) => BodyKind::Length(0),
        (_, true, _) => BodyKind::Chunked,
        (_, false, Some(length)) => BodyKind::Length(length),
        (_, false, None) => return Err("a response without a length"),
    };
    Ok(Head { status, close, body })
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

const HEAD_END: &[u8] = b"\r\n\r\n";
/// Bytes of a head, or of a line between chunks, that are kept while their end has not come.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Status, whether it closes, body.
    type Response = (u16, bool, Vec<u8>);

    /// The responses in `input`, fed in pieces that end at `cuts`.
    fn parse(input: &[u8], cuts: &[usize]) -> Result<Vec<Response>, &'static str> {
        let mut parser = ResponseParser::default();
        let (mut found, mut body) = (Vec::new(), Vec::new());
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        ends.push(input.len());
        ends.sort_unstable();
        let mut from = 0;
        for end in ends {
            parser.feed(&input[from..end], |event| match event {
                Event::Body(bytes) => body.extend_from_slice(bytes),
                Event::End { status, close } => found.push((status, close, std::mem::take(&mut body))),
            })?;
            from = end;
        }
        Ok(found)
    }

    #[test]
    fn a_response_is_its_status_its_body_and_whether_it_closes() {
        let check = |input: &str, expect: &[(u16, bool, &str)]| {
            let expect = expect.iter().map(|(status, close, body)| (*status, *close, body.as_bytes().to_vec()));
            assert_eq!(parse(input.as_bytes(), &[]), Ok(expect.collect()), "{input:?}");
        };
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", &[(200, false, "ok")]);
        check("HTTP/1.1 200\r\nContent-Length:0\r\n\r\n", &[(200, false, "")]);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", &[(200, true, "ok")]);
        check("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", &[(200, true, "ok")]);
        check("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", &[(200, false, "ok")]);
        check(
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n",
            &[(204, false, ""), (304, false, "")],
        );
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 x\r\nContent-Length: 1\r\n\r\n!", &[(503, false, "!")]);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
            &[(200, false, "abc0123456789")],
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", &[]);
    }

    #[test]
    fn what_cannot_be_framed_is_an_error() {
        for input in [
            "HTTP/2 200 OK\r\n\r\n",
            "200 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\n",
        ] {
            assert!(parse(input.as_bytes(), &[]).is_err(), "{input:?}");
        }
    }

    #[test]
    fn an_endless_head_is_given_up() {
        let mut parser = ResponseParser::default();
        let fed = (0..10_000).try_for_each(|_| parser.feed(b"X: yyyyyyyyyyyy", |_| {}));
        assert!(fed.is_err());
    }

    fn responses() -> impl Strategy<Value = Vec<(u16, bool, Vec<u8>, bool)>> {
        let body = prop::collection::vec(any::<u8>(), 0..200);
        prop::collection::vec((200u16..600, any::<bool>(), body, any::<bool>()), 0..6)
    }

    proptest! {
        #[test]
        fn any_chunking_reads_the_same(list in responses(), cuts in prop::collection::vec(any::<usize>(), 0..40)) {
            let (mut wire, mut expect) = (Vec::new(), Vec::new());
            for (status, close, body, chunked) in list {
                let connection = if close { "close" } else { "keep-alive" };
                wire.extend_from_slice(format!("HTTP/1.1 {status} Some Text\r\nConnection: {connection}\r\n").as_bytes());
                if matches!(status, 204 | 304) {
                    wire.extend_from_slice(b"\r\n");
                    expect.push((status, close, Vec::new()));
                    continue;
                }
                if chunked {
                    wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    for piece in body.chunks(7) {
                        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                        wire.extend_from_slice(piece);
                        wire.extend_from_slice(b"\r\n");
                    }
                    wire.extend_from_slice(b"0\r\n\r\n");
                } else {
                    wire.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                    wire.extend_from_slice(&body);
                }
                expect.push((status, close, body));
            }
            prop_assert_eq!(parse(&wire, &cuts), Ok(expect));
        }

        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(any::<usize>(), 0..9)) {
            let with_head = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(), &input].concat();
            let _ = parse(&input, &cuts);
            let _ = parse(&with_head, &cuts);
        }
    }
}
