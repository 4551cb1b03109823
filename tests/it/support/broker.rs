//! A blocking NATS client of the tests' own, small and raw: what it reads back is what the server
//! holds, header bytes included, through no code of the product and no client library.

use super::{PATIENCE, nats::NatsServer};
use base64::Engine as _;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// A connection to a server.
#[derive(Debug)]
pub struct Broker {
    reader: BufReader<TcpStream>,
    next_inbox: u32,
    copies: usize,
}

/// A message of a stream, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Subject.
    pub subject: String,
    /// Sequence in the stream; 0 for messages that are not of a stream.
    pub sequence: u64,
    /// The header block with its `NATS/1.0` line and its empty line, or nothing.
    pub headers: String,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Broker {
    /// Connects to a server's own account, or as the server takes clients that have no credentials.
    pub fn connect(server: &NatsServer) -> Self {
        Self { copies: server.copies(), ..Self::connect_as(server, &server.login()) }
    }

    /// Connects with further fields of CONNECT, such as `"user":"a","pass":"b",`.
    pub fn connect_as(server: &NatsServer, fields: &str) -> Self {
        Self::try_connect(server.address(), fields, PATIENCE).unwrap()
    }

    /// Connects, or says why not. No answer on this connection is waited for longer than `limit`.
    pub fn try_connect(address: SocketAddr, fields: &str, limit: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        let mut broker = Self { reader: BufReader::new(stream), next_inbox: 0, copies: 1 };
        broker.greet(fields)?;
        Ok(broker)
    }

    fn greet(&mut self, fields: &str) -> std::io::Result<()> {
        let info = self.try_line()?;
        assert!(info.starts_with("INFO "), "{info}");
        let connect = format!(
            "CONNECT {{{fields}\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
             \"lang\":\"test\",\"version\":\"0\"}}\r\nPING\r\n"
        );
        self.reader.get_mut().write_all(connect.as_bytes())?;
        loop {
            match self.try_line()?.as_str() {
                "PONG" => return Ok(()),
                error if error.starts_with("-ERR") => return Err(std::io::Error::other(error.to_owned())),
                _ => {}
            }
        }
    }

    /// Sends a request and returns the answer's payload, or that there is none.
    pub fn try_request(&mut self, subject: &str, payload: &[u8]) -> std::io::Result<Vec<u8>> {
        let inbox = self.subscribe();
        let line = format!("PUB {subject} {inbox} {}\r\n", payload.len());
        self.reader.get_mut().write_all(&[line.as_bytes(), payload, b"\r\n"].concat())?;
        loop {
            let line = self.try_line()?;
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "MSG" | "HMSG" => {
                    let (to, _, message) = self.try_delivery(&words)?;
                    if message.headers.contains("503") {
                        return Err(std::io::Error::other(format!("nobody answers on {subject}")));
                    }
                    if to == inbox {
                        return Ok(message.payload);
                    }
                }
                "PING" => self.reader.get_mut().write_all(b"PONG\r\n")?,
                "-ERR" => return Err(std::io::Error::other(line)),
                _ => {}
            }
        }
    }

    /// Sends a request and returns the answer's payload.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Vec<u8> {
        let inbox = self.subscribe();
        self.write(&format!("PUB {subject} {inbox} {}\r\n", payload.len()));
        self.write_bytes(payload);
        self.write("\r\n");
        let message = self.next_message();
        assert!(!message.headers.contains("503"), "nobody answers on {subject}");
        message.payload
    }

    /// A JetStream API call; fails on an error.
    #[track_caller]
    pub fn api(&mut self, call: &str, body: &Value) -> Value {
        let answer = self.try_api(call, body);
        assert!(answer.get("error").is_none(), "{call}: {answer}");
        answer
    }

    /// A JetStream API call and its answer, error or not.
    pub fn try_api(&mut self, call: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.request(&format!("$JS.API.{call}"), body.as_bytes());
        serde_json::from_slice(&answer).unwrap()
    }

    /// Creates a stream; `config` is merged over a plain file stream of one subject, with as many copies as its servers
    /// have room for.
    pub fn create_stream(&mut self, name: &str, subject: &str, config: &Value) {
        let mut whole = json!({
            "name": name, "subjects": [subject], "retention": "limits", "storage": "file", "num_replicas": self.copies
        });
        for (key, value) in config.as_object().into_iter().flatten() {
            whole[key] = value.clone();
        }
        self.api(&format!("STREAM.CREATE.{name}"), &whole);
    }

    /// A stream's configuration and state.
    pub fn stream(&mut self, name: &str) -> Value {
        self.api(&format!("STREAM.INFO.{name}"), &Value::Null)
    }

    /// How many messages a stream holds; 0 if there is none.
    pub fn count(&mut self, name: &str) -> u64 {
        let answer = self.try_api(&format!("STREAM.INFO.{name}"), &Value::Null);
        answer["state"]["messages"].as_u64().unwrap_or(0)
    }

    /// One message as the server stores it.
    pub fn message(&mut self, stream: &str, sequence: u64) -> Raw {
        let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), &json!({"seq": sequence}));
        let decode = |field: &str| {
            let text = answer["message"][field].as_str().unwrap_or_default();
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        };
        Raw {
            subject: answer["message"]["subject"].as_str().unwrap().to_owned(),
            sequence,
            headers: String::from_utf8(decode("hdrs")).unwrap(),
            payload: decode("data"),
        }
    }

    /// Every message of a stream, in its order.
    pub fn messages(&mut self, stream: &str) -> Vec<Raw> {
        let mut stored = Vec::new();
        self.each_message(stream, |message| stored.push(message));
        stored
    }

    /// Tells every message of a stream that may be large, in its order: it is asked for piece by piece.
    pub fn each_message(&mut self, stream: &str, mut told: impl FnMut(Raw)) {
        const PIECE: usize = 1_000;
        let mut left = self.count(stream);
        let config = json!({"stream_name": stream, "config": {
            "deliver_policy": "all", "ack_policy": "none", "mem_storage": true, "num_replicas": 1,
            "inactive_threshold": 60_000_000_000_u64
        }});
        let made = self.ask_again(&format!("$JS.API.CONSUMER.CREATE.{stream}"), &config);
        let name = made["name"].as_str().unwrap_or_else(|| panic!("{stream}: {made}"));
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
        let ask = json!({"batch": PIECE, "no_wait": true}).to_string();
        let mut last = Instant::now();
        while left > 0 {
            let inbox = self.subscribe();
            self.write(&format!("PUB {next} {inbox} {}\r\n{ask}\r\n", ask.len()));
            let mut count = 0;
            while count < PIECE {
                let (_, reply, mut message) = self.next_delivery();
                if message.headers.starts_with("NATS/1.0 4") || message.headers.starts_with("NATS/1.0 503") {
                    break;
                }
                message.sequence = reply.split('.').nth(5).and_then(|part| part.parse().ok()).unwrap();
                told(message);
                count += 1;
            }
            self.write(&format!("UNSUB {}\r\n", self.next_inbox));
            left = left.saturating_sub(count as u64);
            if count > 0 {
                last = Instant::now();
            } else {
                // In a cluster this server may not know the consumer yet, and the consumer's may be behind the leader.
                assert!(last.elapsed() < PATIENCE, "{stream}: {left} messages do not come");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Asks what may be asked twice. In a cluster whose leaders have just changed a request can be lost, however long one waits.
    fn ask_again(&mut self, subject: &str, body: &Value) -> Value {
        let whole = self.reader.get_ref().read_timeout().unwrap();
        self.reader.get_ref().set_read_timeout(Some(PATIENCE / 6)).unwrap();
        let answer = (0..6).find_map(|_| match self.try_request(subject, body.to_string().as_bytes()) {
            Ok(answer) => Some(answer),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.write(&format!("UNSUB {}\r\n", self.next_inbox));
                None
            }
            Err(error) => panic!("{subject}: {error}"),
        });
        self.reader.get_ref().set_read_timeout(whole).unwrap();
        serde_json::from_slice(&answer.unwrap_or_else(|| panic!("no answer to {subject}"))).unwrap()
    }

    /// Publishes a message with a header block (may be empty), without waiting for anything.
    pub fn publish(&mut self, subject: &str, headers: &str, payload: &[u8]) {
        if headers.is_empty() {
            self.write(&format!("PUB {subject} {}\r\n", payload.len()));
        } else {
            let total = headers.len() + payload.len();
            self.write(&format!("HPUB {subject} {} {total}\r\n{headers}", headers.len()));
        }
        self.write_bytes(payload);
        self.write("\r\n");
    }

    fn subscribe(&mut self) -> String {
        self.next_inbox += 1;
        let port = self.reader.get_ref().local_addr().unwrap().port();
        let inbox = format!("_INBOX.t{port}.{}", self.next_inbox);
        self.write(&format!("SUB {inbox} {}\r\n", self.next_inbox));
        inbox
    }

    fn next_message(&mut self) -> Raw {
        let newest = format!(".{}", self.next_inbox);
        loop {
            let (to, _, message) = self.next_delivery();
            if to.ends_with(&newest) {
                return message;
            }
        }
    }

    /// The inbox it came to, its reply subject, and the message. A delivery of a stream comes with
    /// its own subject, so the inbox is told by the subscription's number.
    fn next_delivery(&mut self) -> (String, String, Raw) {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "MSG" | "HMSG" => return self.delivery(&words),
                "PING" => self.write("PONG\r\n"),
                "-ERR" => panic!("the server says {line}"),
                _ => {}
            }
        }
    }

    fn delivery(&mut self, words: &[&str]) -> (String, String, Raw) {
        self.try_delivery(words).unwrap()
    }

    fn try_delivery(&mut self, words: &[&str]) -> std::io::Result<(String, String, Raw)> {
        let with_headers = words[0] == "HMSG";
        let sizes = if with_headers { 2 } else { 1 };
        let size = |back: usize| words[words.len() - back].parse::<usize>().unwrap();
        let total = size(1);
        let head = if with_headers { size(2) } else { 0 };
        let reply = if words.len() == 4 + sizes { words[3] } else { "" };
        let mut bytes = vec![0; total + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(total);
        let payload = bytes.split_off(head);
        let port = self.reader.get_ref().local_addr().unwrap().port();
        let raw =
            Raw { subject: words[1].to_owned(), sequence: 0, headers: String::from_utf8(bytes).unwrap(), payload };
        Ok((format!("_INBOX.t{port}.{}", words[2]), reply.to_owned(), raw))
    }

    fn line(&mut self) -> String {
        self.try_line().unwrap()
    }

    fn try_line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("the server closed the connection"));
        }
        Ok(line.trim_end().to_owned())
    }

    fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }
}

impl Raw {
    /// The header fields as pairs, in their order.
    pub fn fields(&self) -> Vec<(String, String)> {
        let lines = self.headers.split("\r\n").skip(1).filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_owned(), value.trim().to_owned())
            })
            .collect()
    }
}

#[test]
fn what_is_published_is_read_back_byte_for_byte_even_after_kill_9() {
    let mut server = NatsServer::start();
    let mut broker = Broker::connect(&server);
    broker.create_stream("S", "s.>", &json!({"max_msgs": 3}));
    let headers = "NATS/1.0\r\nb: 1\r\nA: two words \r\nb: 2\r\n\r\n";
    for number in 0..4_u8 {
        broker.publish(&format!("s.{number}"), if number == 2 { headers } else { "" }, &[b'\r', b'\n', number]);
    }
    super::eventually("all are stored", PATIENCE, || (broker.stream("S")["state"]["last_seq"] == 4).then_some(()));
    server.kill9();
    server.restart();
    let mut broker = Broker::connect(&server);
    let messages = broker.messages("S");
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1], broker.message("S", 3));
    let expect = Raw { subject: "s.2".into(), sequence: 3, headers: headers.into(), payload: b"\r\n\x02".to_vec() };
    assert_eq!(messages[1], expect);
    assert_eq!(broker.count("nowhere"), 0);
}
