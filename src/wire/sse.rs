//! Server-sent events: the writing side of `text/event-stream` (HTML, section 9.2). Pure.
//!
//! An event is a few lines and a blank one. Its data may hold line breaks: each line has a `data:` of its own then, and the
//! reader puts them together again with LF, whatever they were.

/// Appends a comment. Readers drop it; it shows that the stream is alive.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    debug_assert!(is_one_line(text), "a comment is one line");
    append(out, &[b": ", text.as_bytes(), b"\n\n"]);
}

/// Appends how long a reader that has lost its connection waits before it connects again.
pub fn retry(out: &mut Vec<u8>, milliseconds: u32) {
    append(out, &[b"retry: ", itoa::Buffer::new().format(milliseconds).as_bytes(), b"\n\n"]);
}

/// Appends an event. A reader that connects again names the last `id` that it has seen. Without a `kind` the event is a
/// `message`. `data` appends the data.
pub fn event(out: &mut Vec<u8>, id: &str, kind: Option<&str>, data: impl FnOnce(&mut Vec<u8>)) {
    debug_assert!(is_one_line(id) && kind.is_none_or(is_one_line), "fields are one line");
    append(out, &[b"id: ", id.as_bytes(), b"\n"]);
    if let Some(kind) = kind {
        append(out, &[b"event: ", kind.as_bytes(), b"\n"]);
    }
    out.extend_from_slice(DATA);
    let start = out.len();
    data(out);
    if memchr::memchr2(b'\r', b'\n', out.get(start..).unwrap_or_default()).is_some() {
        let data = out.split_off(start);
        append_lines(out, &data);
    }
    out.extend_from_slice(b"\n\n");
}

const DATA: &[u8] = b"data: ";

/// Appends data behind a first `data:`, with another one behind each line break.
fn append_lines(out: &mut Vec<u8>, mut data: &[u8]) {
    while let Some(end) = memchr::memchr2(b'\r', b'\n', data) {
        let (line, rest) = data.split_at(end);
        append(out, &[line, b"\n", DATA]);
        let is_crlf = rest.starts_with(b"\r\n");
        data = rest.get(if is_crlf { 2 } else { 1 }..).unwrap_or_default();
    }
    out.extend_from_slice(data);
}

fn append(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// An id with a NUL in it would be ignored by the reader.
fn is_one_line(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader makes of a stream.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        /// Id, kind, data.
        events: Vec<(String, String, String)>,
        retry: Option<u32>,
    }

    /// Reads as the standard says (HTML, section 9.2.6).
    fn read(stream: &str) -> Seen {
        let mut seen = Seen::default();
        let (mut id, mut kind, mut data) = (String::new(), String::new(), String::new());
        let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
        for line in lines.split('\n') {
            if line.is_empty() {
                if let Some(data) = data.strip_suffix('\n') {
                    let kind = if kind.is_empty() { "message" } else { &kind };
                    seen.events.push((id.clone(), kind.to_owned(), data.to_owned()));
                }
                (kind, data) = (String::new(), String::new());
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut kind),
                "data" => data = format!("{data}{value}\n"),
                "id" if !value.contains('\0') => value.clone_into(&mut id),
                "retry" => seen.retry = value.parse().ok(),
                _ => {}
            }
        }
        seen
    }

    #[test]
    fn an_event_is_written_as_the_standard_says() {
        let mut out = Vec::new();
        retry(&mut out, 1_000);
        comment(&mut out, "tail");
        event(&mut out, "0:18", None, |out| out.extend_from_slice(br#"{"a":1}"#));
        event(&mut out, "0:18", Some("gap"), |out| out.extend_from_slice(b"x\r\ny\rz\n"));
        let expect = "retry: 1000\n\n: tail\n\nid: 0:18\ndata: {\"a\":1}\n\nid: 0:18\nevent: gap\ndata: x\ndata: y\ndata: z\ndata: \n\n";
        assert_eq!(std::str::from_utf8(&out), Ok(expect));
        let events = [("0:18", "message", r#"{"a":1}"#), ("0:18", "gap", "x\ny\nz\n")];
        let events = events.map(|(id, kind, data)| (id.to_owned(), kind.to_owned(), data.to_owned())).into();
        assert_eq!(read(expect), Seen { events, retry: Some(1_000) });
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            events in prop::collection::vec(
                ("[0-9:,]{1,12}", prop::option::of("[a-z]{1,8}"), "(?s)[ :a-z\r\n\u{fffd}]{0,24}", any::<bool>()),
                0..8,
            ),
        ) {
            let mut out = Vec::new();
            for (id, kind, data, with_comment) in &events {
                if *with_comment {
                    comment(&mut out, "data: no");
                }
                event(&mut out, id, kind.as_deref(), |out| out.extend_from_slice(data.as_bytes()));
            }
            let seen = read(std::str::from_utf8(&out).expect("text"));
            let one_break = |data: &str| data.replace("\r\n", "\n").replace('\r', "\n");
            let expect: Vec<_> = events
                .iter()
                .map(|(id, kind, data, _)| {
                    (id.clone(), kind.clone().unwrap_or_else(|| "message".into()), one_break(data))
                })
                .collect();
            prop_assert_eq!(seen.events, expect);
        }
    }
}
