//! A raw HTTP/1.1 client: sends exactly the bytes it is given and reads exactly one response at a time.
//!
//! It is strict about what it reads: a response has a `Content-Length`, or a status that has no
//! body; nothing is skipped between two responses.

use super::PATIENCE;
use std::{
    fmt::Write as _,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// One connection.
#[derive(Debug)]
pub struct Http {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One response, taken apart.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Status line and fields, as they came.
    pub head: String,
    /// Its body, as it came.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a field; fails if it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers(name);
        assert!(values.len() <= 1, "two {name} fields in:\n{}", self.head);
        values.first().copied()
    }

    /// The values of all fields of this name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// Its body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(not UTF-8)")
    }

    /// Its body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Fails unless status and body are exactly these.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str) -> &Self {
        assert_eq!((self.status, self.text()), (status, body), "{}", self.head);
        self
    }

    /// As [`Response::is`], and the body is said to be JSON as the original says it.
    #[track_caller]
    pub fn is_json(&self, status: u16, body: &str) -> &Self {
        self.is(status, body);
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        self
    }

    /// Fails unless it is `{"error":"…","success":false}` with this status; the text is returned.
    #[track_caller]
    pub fn is_error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{} {}", self.head, self.text());
        let json = self.json();
        let text = json["error"].as_str().unwrap_or_else(|| panic!("no error text in {}", self.text())).to_owned();
        let expect = format!("{{\"error\":{},\"success\":false}}", serde_json::to_string(&text).unwrap());
        self.is_json(status, &expect);
        assert!(!text.is_empty());
        text
    }

    /// Fails unless it is an error with this status that says when to come again.
    #[track_caller]
    pub fn is_retryable(&self, status: u16) -> String {
        let text = self.is_error(status);
        let after = self.header("retry-after").unwrap_or_else(|| panic!("no Retry-After in {}", self.head));
        assert!(after.parse::<u32>().is_ok_and(|seconds| (1..=60).contains(&seconds)), "Retry-After: {after}");
        text
    }
}

impl Http {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects, or says why not.
    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes; a peer that has closed is an error, not a failure.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next response to a request that was neither HEAD nor still to come.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response(true).unwrap_or_else(|error| panic!("no response: {error}; unread: {:?}", self.unread_text()))
    }

    /// The response to a HEAD request: no body, whatever its `Content-Length` says.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        self.try_response(false).unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// The next response, or why there is none.
    pub fn try_response(&mut self, with_body: bool) -> std::io::Result<Response> {
        let end = self.read_until(|unread| memchr::memmem::find(unread, b"\r\n\r\n").map(|at| at + 4))?;
        let head = String::from_utf8(self.take(end)).map_err(std::io::Error::other)?;
        let mut response = Response { status: status_of(&head), head, body: Vec::new() };
        let bodiless = !with_body || matches!(response.status, 100..=199 | 204 | 304);
        assert_eq!(response.header("transfer-encoding"), None, "{}", response.head);
        if !bodiless {
            let length = response.header("content-length").unwrap_or_else(|| panic!("no length: {}", response.head));
            let length: usize = length.parse().unwrap();
            self.read_until(|unread| (unread.len() >= length).then_some(length))?;
            response.body = self.take(length);
        }
        Ok(response)
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub fn exchange(&mut self, request: &[u8]) -> Response {
        self.send(request);
        self.response()
    }

    /// Fails unless the peer has closed, or closes within `limit`, without sending anything more.
    #[track_caller]
    pub fn closes_within(&mut self, limit: Duration) {
        let start = Instant::now();
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let mut rest = self.unread_text();
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => rest.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("not closed after {:?}: {error}; it sent {rest:?}", start.elapsed()),
            }
        }
        assert_eq!(rest, "", "something came before the connection closed");
    }

    /// Fails unless the peer closes without sending anything more.
    #[track_caller]
    pub fn closes(&mut self) {
        self.closes_within(PATIENCE);
    }

    /// Fails unless the connection still serves requests.
    #[track_caller]
    pub fn is_alive(&mut self) {
        let response = self.exchange(b"GET /monitoring/status HTTP/1.1\r\nHost: t\r\n\r\n");
        response.is(200, "{\"status\":\"ok\"}");
    }

    fn read_until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> std::io::Result<usize> {
        let start = Instant::now();
        let mut buffer = vec![0; 64 * 1_024];
        loop {
            if let Some(end) = found(&self.unread) {
                return Ok(end);
            }
            if start.elapsed() > PATIENCE {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.unread.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.unread.split_off(count);
        std::mem::replace(&mut self.unread, rest)
    }

    fn unread_text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

/// A request with `Host` and, if it has a body, `Content-Length`; everything else is the caller's.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if method == "POST" || !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// One request on a connection of its own.
#[track_caller]
pub fn once(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    Http::connect(address).exchange(&request(method, target, headers, body))
}

/// GET on a connection of its own: status and body.
#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Response {
    once(address, "GET", target, &[("Connection", "close")], b"")
}

fn status_of(head: &str) -> u16 {
    let line = head.split("\r\n").next().unwrap_or_default();
    let rest = line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("status line {line:?}"));
    rest.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("status line {line:?}"))
}

#[test]
fn one_response_at_a_time_is_read_from_a_server_of_somebody_else() {
    let monitor = super::ports::free();
    let _server = super::nats::NatsServer::with_config(&format!("http: \"{monitor}\"\n"));
    let mut http = Http::connect(monitor);
    let pipelined = [request("GET", "/healthz", &[], b""), request("GET", "/healthz", &[], b"")].concat();
    http.send(&pipelined);
    for _ in 0..2 {
        http.response().is(200, "{\"status\":\"ok\"}");
    }
    http.send(&request("HEAD", "/healthz", &[], b""));
    assert_eq!(http.response_to_head().status, 200);
    http.exchange(&request("GET", "/nothing", &[("Connection", "close")], b""));
    http.closes();
}
