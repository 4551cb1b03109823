//! A broker that says what a test tells it to, and a connection to it.

use super::{Connection, ConnectionSettings, Credential};
use crate::{
    limits::Limits,
    metrics::ShardMetrics,
    rt::{self, Flavor},
};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const INFO: &str = r#"INFO {"server_id":"X","version":"2.12.0","headers":true,"max_payload":1024}"#;

/// The broker's side of one connection.
pub(super) struct Peer {
    read: BufReader<TcpStream>,
}

/// What the gateway published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) headers: String,
    pub(super) payload: String,
}

/// The broker: what a test scripts accepts one connection after the other.
pub(super) struct Broker {
    listener: TcpListener,
}

impl Broker {
    /// Accepts the next connection and its handshake.
    pub(super) fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut peer = Peer { read: BufReader::new(stream) };
        peer.send(&format!("{INFO}\r\n"));
        assert!(peer.line().starts_with("CONNECT "));
        // A connection subscribes to its inboxes first.
        assert_eq!([peer.line(), peer.line()], ["SUB _INBOX.id.* 1", "SUB _INBOX.id.r.* 2"]);
        assert_eq!(peer.raw_line().as_deref(), Some("PING"));
        peer.send("PONG\r\n");
        peer
    }
}

impl Peer {
    pub(super) fn send(&mut self, bytes: &str) {
        // A gateway that has closed the connection is met by the next read.
        let _ = self.read.get_mut().write_all(bytes.as_bytes());
    }

    /// Sends a message without headers.
    pub(super) fn message(&mut self, subject: &str, sid: u64, payload: &str) {
        self.send(&format!("MSG {subject} {sid} {}\r\n{payload}\r\n", payload.len()));
    }

    /// Sends a message with this header block, which ends in a blank line.
    pub(super) fn message_with(&mut self, subject: &str, sid: u64, headers: &str, payload: &str) {
        let (head, total) = (headers.len(), headers.len() + payload.len());
        self.send(&format!("HMSG {subject} {sid} {head} {total}\r\n{headers}{payload}\r\n"));
    }

    /// Returns the next line from the gateway.
    pub(super) fn line(&mut self) -> String {
        self.line_or_end().expect("the connection stands")
    }

    /// Returns the next line from the gateway, and answers where it asks whether the broker lives; `None` at the end of the
    /// connection.
    fn line_or_end(&mut self) -> Option<String> {
        loop {
            match self.raw_line()? {
                ping if ping == "PING" => self.send("PONG\r\n"),
                line => return Some(line),
            }
        }
    }

    fn raw_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.read.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing comes: {error}"),
        }
    }

    /// Says nothing for so long but that it lives.
    pub(super) fn idle(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(250);
        for _ in 0..time.as_millis() / STEP.as_millis() {
            thread::sleep(STEP);
            self.send("PONG\r\n");
        }
    }

    /// Waits for the next publish.
    pub(super) fn published(&mut self) -> Published {
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let (subject, reply, head, total) = match *words {
            ["PUB", subject, reply, total] => (subject, reply, 0, number(total)),
            ["PUB", subject, total] => (subject, "", 0, number(total)),
            ["HPUB", subject, reply, head, total] => (subject, reply, number(head), number(total)),
            _ => panic!("not a publish: {line:?}"),
        };
        let mut body = vec![0; total + 2];
        self.read.read_exact(&mut body).expect("the payload");
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).expect("text");
        Published {
            subject: subject.to_owned(),
            reply: reply.to_owned(),
            headers: text(&body[..head]),
            payload: text(&body[head..total]),
        }
    }

    /// Waits until the gateway has closed the connection.
    pub(super) fn ended(&mut self) {
        while self.line_or_end().is_some() {}
    }
}

/// Runs `work` on a connection to a broker that follows `script`.
pub(super) fn with_broker<T, F: Future<Output = T>>(
    script: impl FnOnce(Broker) + Send + 'static,
    work: impl FnOnce(Rc<Connection>) -> F,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let broker = thread::spawn(move || script(Broker { listener }));
    let settings = ConnectionSettings {
        servers: vec![("127.0.0.1".to_owned(), port)],
        credential: Credential::None,
        name: "test".to_owned(),
        flavor: Flavor::Epoll,
    };
    let ran = rt::run(Flavor::Epoll, || async move {
        let connection = Connection::new(settings, "id", Limits::default(), Arc::new(ShardMetrics::default()));
        rt::spawn(Rc::clone(&connection).run(0));
        let result = work(Rc::clone(&connection)).await;
        connection.stop().await;
        // What a shard does at its end is done by the process: here the tasks of the connection end first.
        while connection.is_connected() {
            rt::sleep(Duration::from_millis(1)).await;
        }
        result
    });
    broker.join().expect("the script came to its end");
    ran.expect("a runtime")
}
