//! As much of the NATS protocol as the measuring programs need: connect, ask the JetStream API, read acknowledgements.
//!
//! No TLS and no credentials: they measure a server that they started themselves.

use memchr::memchr;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// One message from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Payload of a `MSG`: an acknowledgement or an API answer.
    Payload(&'a [u8]),
    /// Headers of an `HMSG`: a status, such as that nobody takes the subject.
    Status(&'a [u8]),
    /// The server wants to know that we live.
    Ping,
    /// The server's complaint.
    Error(&'a [u8]),
    /// INFO, PONG, +OK.
    Other,
}

/// Connects and introduces itself, and subscribes to `inbox`.
pub fn connect(address: &str, inbox: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let options = json!({
        "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
        "lang": "rust", "version": "0", "name": "sluicegate-perf",
    });
    stream.write_all(format!("CONNECT {options}\r\nSUB {inbox} 1\r\nPING\r\n").as_bytes())?;
    let mut buffer = Vec::new();
    loop {
        let mut pong = false;
        let used = read_some(&mut stream, &mut buffer, |message, line| {
            pong |= message == Message::Other && line.starts_with(b"PONG");
        })?;
        buffer.drain(..used);
        if pong {
            return Ok(stream);
        }
    }
}

/// Asks the JetStream API; an answer that holds an error is one.
pub fn request(address: &str, subject: &str, body: &Value) -> io::Result<Value> {
    let inbox = "_INBOX.perf.api";
    let mut stream = connect(address, inbox)?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    stream.write_all(format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len()).as_bytes())?;
    let mut buffer = Vec::new();
    loop {
        let mut answer = None;
        let used = read_some(&mut stream, &mut buffer, |message, _| match message {
            Message::Payload(bytes) => answer = Some(serde_json::from_slice(bytes).map_err(io::Error::other)),
            Message::Status(_) | Message::Error(_) => answer = Some(Err(io::Error::other("nobody answers"))),
            Message::Ping | Message::Other => {}
        })?;
        buffer.drain(..used);
        if let Some(answer) = answer {
            let answer: Value = answer?;
            return match answer.get("error") {
                Some(error) => Err(io::Error::other(format!("{subject}: {error}"))),
                None => Ok(answer),
            };
        }
    }
}

/// Creates a stream as the gateway does for a new station: file storage, one replica, an hour's retention.
pub fn create_stream(address: &str, name: &str, subjects: &str) -> io::Result<()> {
    let second = 1_000_000_000u64;
    let config = json!({
        "name": name, "subjects": [subjects], "retention": "limits", "storage": "file", "num_replicas": 1,
        "discard": "old", "max_age": 3_600 * second, "duplicate_window": 120 * second,
    });
    request(address, &format!("$JS.API.STREAM.CREATE.{name}"), &config).map(drop)
}

/// Deletes a stream.
pub fn delete_stream(address: &str, name: &str) -> io::Result<()> {
    request(address, &format!("$JS.API.STREAM.DELETE.{name}"), &Value::Null).map(drop)
}

/// Messages in a stream.
pub fn stream_messages(address: &str, name: &str) -> io::Result<u64> {
    let info = request(address, &format!("$JS.API.STREAM.INFO.{name}"), &Value::Null)?;
    info.pointer("/state/messages").and_then(Value::as_u64).ok_or_else(|| io::Error::other("no count in the answer"))
}

fn read_some(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    mut sink: impl FnMut(Message<'_>, &[u8]),
) -> io::Result<usize> {
    let mut chunk = [0; 16 * 1024];
    let read = stream.read(&mut chunk)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
    each_message(buffer, &mut sink)
}

/// Tells `sink` the whole messages in `input`, each with its control line; answers how many bytes they took.
pub fn each_message(input: &[u8], mut sink: impl FnMut(Message<'_>, &[u8])) -> io::Result<usize> {
    let mut used = 0;
    while let Some(rest) = input.get(used..)
        && let Some(end) = memchr(b'\n', rest)
    {
        let line = &rest[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let behind = &rest[end + 1..];
        let message = match line.first() {
            Some(b'M') if line.starts_with(b"MSG ") => {
                let length = last_number(line)?;
                let Some(payload) = behind.get(..length + 2) else { break };
                used += length + 2;
                Message::Payload(&payload[..length])
            }
            Some(b'H') if line.starts_with(b"HMSG ") => {
                let length = last_number(line)?;
                let Some(payload) = behind.get(..length + 2) else { break };
                used += length + 2;
                Message::Status(&payload[..length])
            }
            Some(b'P') if line == b"PING" => Message::Ping,
            Some(b'-') => Message::Error(line),
            _ => Message::Other,
        };
        used += end + 1;
        sink(message, line);
    }
    Ok(used)
}

fn last_number(line: &[u8]) -> io::Result<usize> {
    let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).map_err(io::Error::other)?;
    text.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_whole_or_not_at_all() {
        let wire = b"INFO {}\r\nMSG _INBOX.x 1 5\r\nhello\r\nPING\r\nHMSG _INBOX.x 1 6 6\r\nstatus\r\n-ERR 'no'\r\n";
        for cut in 0..=wire.len() {
            let mut found = Vec::new();
            let used = each_message(&wire[..cut], |message, _| found.push(format!("{message:?}"))).unwrap();
            let mut rest = Vec::new();
            assert_eq!(
                each_message(&wire[used..], |message, _| rest.push(format!("{message:?}"))).unwrap(),
                wire.len() - used
            );
            found.extend(rest);
            assert_eq!(found.len(), 5, "cut at {cut}: {found:?}");
        }
    }
}
