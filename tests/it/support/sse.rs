//! A client of server-sent events: reads them as a browser does, and the framing as strictly as HTTP/1.1 has it.

use super::{PATIENCE, gateway::Gateway};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// An open stream of events.
#[derive(Debug)]
pub struct Events {
    stream: TcpStream,
    /// Status line and fields.
    pub head: String,
    /// What of the chunked body was not read.
    raw: Vec<u8>,
    /// What of its lines was not read.
    text: Vec<u8>,
    read: VecDeque<Event>,
    begun: Event,
    /// Comments that came.
    pub comments: usize,
    /// How long the gateway asks a browser to wait before it connects again.
    pub retry: Option<u64>,
    /// Whether the body came to its end in order.
    pub is_complete: bool,
}

/// An event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The last id that was named.
    pub id: String,
    /// Its kind; empty of a message.
    pub kind: String,
    /// Its data.
    pub data: String,
}

impl Event {
    /// Its data as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The text of the record that it carries.
    #[track_caller]
    pub fn text(&self) -> String {
        assert_eq!(self.kind, "", "{self:?}");
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

impl Events {
    /// Follows a station as root. It must be served.
    #[track_caller]
    pub fn follow(gateway: &Gateway, station: &str, query: &str, headers: &[(&str, &str)]) -> Self {
        let target = format!("/stations/{station}/tail{query}");
        Self::open(gateway.address(), &gateway.authorized("GET", &target, headers, b""))
    }

    /// Sends this request, whose answer must be a stream of events, and reads its head.
    #[track_caller]
    pub fn open(address: SocketAddr, request: &[u8]) -> Self {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(request).unwrap();
        let mut events = Self {
            stream,
            head: String::new(),
            raw: Vec::new(),
            text: Vec::new(),
            read: VecDeque::new(),
            begun: Event::default(),
            comments: 0,
            retry: None,
            is_complete: false,
        };
        let begun = Instant::now();
        let end = loop {
            if let Some(at) = memchr::memmem::find(&events.raw, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(events.fill(PATIENCE.saturating_sub(begun.elapsed())), "no head: {:?}", events.raw);
        };
        let rest = events.raw.split_off(end);
        events.head = String::from_utf8(std::mem::replace(&mut events.raw, rest)).unwrap();
        assert!(events.head.starts_with("HTTP/1.1 200 "), "{}", events.head);
        assert!(events.head.contains("Content-Type: text/event-stream\r\n"), "{}", events.head);
        assert!(events.head.contains("Transfer-Encoding: chunked\r\n"), "{}", events.head);
        events
    }

    /// The next event. `None`: the stream has ended, or nothing has come for so long.
    pub fn next_within(&mut self, limit: Duration) -> Option<Event> {
        let begun = Instant::now();
        loop {
            self.read_chunks();
            self.read_lines();
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            if self.is_complete || !self.fill(limit.saturating_sub(begun.elapsed())) {
                return None;
            }
        }
    }

    /// The next event, which must come.
    #[track_caller]
    pub fn next(&mut self) -> Event {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("no event; complete: {}", self.is_complete))
    }

    /// The texts of the next records.
    #[track_caller]
    pub fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().text()).collect()
    }

    /// Fails unless the gateway ends the stream in order, and says why; returns the reason.
    #[track_caller]
    pub fn ends(&mut self, retry: bool) -> String {
        let end = self.next();
        assert_eq!((end.kind.as_str(), end.json()["retry"].as_bool()), ("end", Some(retry)), "{end:?}");
        assert_eq!(self.next_within(PATIENCE), None);
        assert!(self.is_complete, "the end of the chunks");
        end.json()["reason"].as_str().unwrap().to_owned()
    }

    /// Reads once. `false`: nothing came, or nothing comes any more.
    fn fill(&mut self, limit: Duration) -> bool {
        if limit.is_zero() {
            return false;
        }
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 16 * 1_024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.raw.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) => {
                let expected = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionReset];
                assert!(expected.contains(&error.kind()), "{error}");
                false
            }
        }
    }

    fn read_chunks(&mut self) {
        while let Some(line) = memchr::memmem::find(&self.raw, b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {size:?}"));
            let end = line + 2 + size;
            if self.raw.len() < end + 2 {
                return;
            }
            assert_eq!(&self.raw[end..end + 2], b"\r\n", "a chunk ends with a line end");
            self.text.extend_from_slice(&self.raw[line + 2..end]);
            self.is_complete = size == 0;
            self.raw.drain(..end + 2);
        }
    }

    fn read_lines(&mut self) {
        while let Some(end) = memchr::memchr(b'\n', &self.text) {
            let line = String::from_utf8(self.text.drain(..=end).collect()).unwrap();
            let line = line.trim_end_matches('\n');
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let event = self.begun.clone();
                    self.begun = Event { id: event.id.clone(), ..Event::default() };
                    if !event.data.is_empty() {
                        self.read.push_back(event);
                    }
                }
                "" => self.comments += 1,
                "id" => value.clone_into(&mut self.begun.id),
                "event" => value.clone_into(&mut self.begun.kind),
                "data" if self.begun.data.is_empty() => value.clone_into(&mut self.begun.data),
                "data" => self.begun.data = format!("{}\n{value}", self.begun.data),
                "retry" => self.retry = value.parse().ok(),
                other => panic!("a line of an event stream: {other:?}"),
            }
        }
    }
}
