//! What we say to the broker, appended to the buffer of one write. A record costs no allocation.
//!
//! The caller vouches for what it passes: subjects, replies and header blocks come from names and fields
//! that were checked when they came in ([`is_subject`] is that check), and a payload is never looked at.
//! `max_payload` is the caller's duty too, with [`record_bytes`]: the broker closes the connection
//! otherwise.

use super::Connect;

/// Where an acknowledgement goes: a prefix that the connection keeps, and what is the record's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The connection's inbox, with its last dot.
    pub prefix: &'a [u8],
    /// The last token.
    pub token: &'a [u8],
}

/// Stands between the parts of an id that was put together here. No client's id has one, so that none of these is a client's.
pub const ID_SEPARATOR: u8 = b' ';

/// The message id of one record, sent as `Nats-Msg-Id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId<'a> {
    /// What the client sent: visible ASCII, not empty, without [`ID_SEPARATOR`].
    pub base: &'a [u8],
    /// The record's number, where ids are numbered: the id is `<base> <index>`.
    pub index: Option<u64>,
}

impl RecordId<'_> {
    /// Bytes of the id.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an id is never empty")]
    pub fn len(&self) -> usize {
        self.base.len() + self.index.map_or(0, |index| 1 + digits(index))
    }
}

const VERSION_LINE: &[u8] = b"NATS/1.0\r\n";
const ID_FIELD: &[u8] = b"Nats-Msg-Id: ";
const CRLF: &[u8] = b"\r\n";

/// Bytes of a record as the broker counts them against `max_payload`: headers, if there are any, and
/// payload. `message_id_bytes` is 0 without a message id.
#[must_use]
pub const fn record_bytes(header_block_bytes: usize, message_id_bytes: usize, payload_bytes: usize) -> usize {
    header_bytes(header_block_bytes, message_id_bytes) + payload_bytes
}

const fn header_bytes(header_block_bytes: usize, message_id_bytes: usize) -> usize {
    let id = if message_id_bytes == 0 { 0 } else { ID_FIELD.len() + message_id_bytes + CRLF.len() };
    match header_block_bytes + id {
        0 => 0,
        fields => VERSION_LINE.len() + fields + CRLF.len(),
    }
}

/// Publishes a record with header fields (`Name: value\r\n` each, no version line, no blank line) and a
/// message id; without either, like [`pub_record`].
pub fn hpub_record(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Reply<'_>,
    header_block: &[u8],
    id: Option<RecordId<'_>>,
    payload: &[u8],
) {
    hpub_own(out, subject, reply, [header_block, b""], id, payload);
}

/// The same, of a record that has header fields of its own behind those that it shares with others.
pub fn hpub_own(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Reply<'_>,
    blocks: [&[u8]; 2],
    id: Option<RecordId<'_>>,
    payload: &[u8],
) {
    debug_assert!(
        blocks.iter().all(|block| block.is_empty() || block.ends_with(CRLF)),
        "a header block is whole lines"
    );
    debug_assert!(id.is_none_or(|id| !id.base.is_empty() && !id.base.contains(&b'\n')), "a message id is one line");
    if blocks.iter().all(|block| block.is_empty()) && id.is_none() {
        return pub_record(out, subject, reply, payload);
    }
    hpub_parts(out, subject, Some(reply), blocks, id, payload);
}

/// Records that differ in nothing but their payloads: what stands around these is put together once.
#[derive(Debug, Default)]
pub struct Template {
    /// `HPUB <subject> <reply> <header bytes> `.
    before: Vec<u8>,
    header_bytes: usize,
    /// From the end of the control line to the payload.
    between: Vec<u8>,
}

impl Template {
    /// For records as [`hpub_record`] writes them without a message id.
    pub fn set(&mut self, subject: &[u8], reply: Reply<'_>, header_block: &[u8]) {
        self.before.clear();
        self.between.clear();
        self.header_bytes = header_bytes(header_block.len(), 0);
        self.before.extend_from_slice(if self.header_bytes == 0 { b"PUB " } else { b"HPUB " });
        address(&mut self.before, subject, reply);
        self.between.extend_from_slice(CRLF);
        if self.header_bytes > 0 {
            number(&mut self.before, self.header_bytes);
            self.before.push(b' ');
            for part in [VERSION_LINE, header_block, CRLF] {
                self.between.extend_from_slice(part);
            }
        }
    }

    /// Publishes a record.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, payload: &[u8]) {
        out.reserve(self.before.len() + self.between.len() + payload.len() + LINE_REST_BYTES);
        out.extend_from_slice(&self.before);
        number(out, self.header_bytes + payload.len());
        out.extend_from_slice(&self.between);
        out.extend_from_slice(payload);
        out.extend_from_slice(CRLF);
    }
}

/// Publishes a record of an atomic batch: of the blocks one is common to all, one its own and one the batch's, and
/// only the last record wants an answer.
pub fn hpub_batched(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<Reply<'_>>,
    blocks: [&[u8]; 3],
    id: Option<RecordId<'_>>,
    payload: &[u8],
) {
    hpub_parts(out, subject, reply, blocks, id, payload);
}

/// A record whose header fields are whole lines in a few blocks, with an answer or without.
#[inline]
fn hpub_parts<const BLOCKS: usize>(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<Reply<'_>>,
    blocks: [&[u8]; BLOCKS],
    id: Option<RecordId<'_>>,
    payload: &[u8],
) {
    let head = header_bytes(blocks.iter().map(|block| block.len()).sum(), id.map_or(0, |id| id.len()));
    let total = head + payload.len();
    let reply_bytes = reply.map_or(0, |reply| reply.prefix.len() + reply.token.len());
    out.reserve(LINE_REST_BYTES + subject.len() + reply_bytes + total);
    out.extend_from_slice(b"HPUB ");
    match reply {
        Some(reply) => address(out, subject, reply),
        None => words(out, &[Some(subject)]),
    }
    let mut rest = Scratch::new();
    rest.push_number(head);
    rest.push(b' ');
    rest.push_number(total);
    rest.push_all(b"\r\nNATS/1.0\r\n");
    out.extend_from_slice(rest.bytes());
    for block in blocks {
        out.extend_from_slice(block);
    }
    if let Some(id) = id {
        out.extend_from_slice(ID_FIELD);
        out.extend_from_slice(id.base);
        let mut rest = Scratch::new();
        if let Some(index) = id.index {
            rest.push(ID_SEPARATOR);
            rest.push_number(index);
        }
        rest.push_all(b"\r\n\r\n");
        out.extend_from_slice(rest.bytes());
    } else {
        out.extend_from_slice(CRLF);
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(CRLF);
}

/// Publishes a record without headers.
pub fn pub_record(out: &mut Vec<u8>, subject: &[u8], reply: Reply<'_>, payload: &[u8]) {
    out.reserve(LINE_REST_BYTES + subject.len() + reply.prefix.len() + reply.token.len() + payload.len());
    out.extend_from_slice(b"PUB ");
    address(out, subject, reply);
    let mut rest = Scratch::new();
    rest.push_number(payload.len());
    rest.push_all(CRLF);
    out.extend_from_slice(rest.bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(CRLF);
}

/// Publishes a payload on `subject`, with a reply subject or without.
pub fn pub_(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    debug_assert!(is_subject(subject) && reply.is_none_or(is_subject), "subjects were checked");
    out.extend_from_slice(b"PUB ");
    words(out, &[Some(subject), reply]);
    number(out, payload.len());
    out.extend_from_slice(CRLF);
    out.extend_from_slice(payload);
    out.extend_from_slice(CRLF);
}

/// Publishes a payload with header fields (`Name: value\r\n` each).
pub fn hpub(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, header_block: &[u8], payload: &[u8]) {
    debug_assert!(is_subject(subject) && reply.is_none_or(is_subject), "subjects were checked");
    let head = VERSION_LINE.len() + header_block.len() + CRLF.len();
    out.extend_from_slice(b"HPUB ");
    words(out, &[Some(subject), reply]);
    number(out, head);
    out.push(b' ');
    number(out, head + payload.len());
    for part in [CRLF, VERSION_LINE, header_block, CRLF, payload, CRLF] {
        out.extend_from_slice(part);
    }
}

/// `CONNECT`. Fails only if a value does not serialise, and text always does.
pub fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) -> serde_json::Result<()> {
    out.extend_from_slice(b"CONNECT ");
    serde_json::to_writer(&mut *out, connect)?;
    out.extend_from_slice(CRLF);
    Ok(())
}

/// Subscribes to `subject`; messages come back with `sid`.
pub fn sub(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>, sid: u64) {
    debug_assert!(is_subject(subject) && queue.is_none_or(is_subject), "subjects were checked");
    out.extend_from_slice(b"SUB ");
    words(out, &[Some(subject), queue]);
    out.extend_from_slice(itoa::Buffer::new().format(sid).as_bytes());
    out.extend_from_slice(CRLF);
}

/// Ends a subscription: at once, or once it has delivered `max` messages in all.
pub fn unsub(out: &mut Vec<u8>, sid: u64, max: Option<u64>) {
    out.extend_from_slice(b"UNSUB ");
    out.extend_from_slice(itoa::Buffer::new().format(sid).as_bytes());
    if let Some(max) = max {
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(max).as_bytes());
    }
    out.extend_from_slice(CRLF);
}

/// `PING`: the broker answers everything before it first.
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\r\n");
}

/// `PONG`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PONG\r\n");
}

/// Whether the text can stand in a control line as a subject: something, and nothing that ends a word or a line.
/// Every subject that [`super::next()`] reads is one.
#[must_use]
pub fn is_subject(text: &[u8]) -> bool {
    !text.is_empty() && !text.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Bytes of a record's control line beside subject and reply: verb, blanks, two numbers, line ends, and
/// the message id's field with a number.
const LINE_REST_BYTES: usize = 96;

/// `<subject> <reply> `.
fn address(out: &mut Vec<u8>, subject: &[u8], reply: Reply<'_>) {
    debug_assert!(is_subject(subject) && is_subject(reply.prefix) && is_subject(reply.token), "subjects were checked");
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(reply.prefix);
    out.extend_from_slice(reply.token);
    out.push(b' ');
}

/// Each word that is there, with a blank after it.
fn words(out: &mut Vec<u8>, words: &[Option<&[u8]>]) {
    for word in words.iter().flatten() {
        out.extend_from_slice(word);
        out.push(b' ');
    }
}

fn number(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Decimal digits of a number.
const fn digits(value: u64) -> usize {
    match value.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// The short pieces of a line, put together on the stack and appended at once: one check of the buffer's
/// capacity instead of one for each piece.
struct Scratch {
    bytes: [u8; 64],
    len: usize,
}

impl Scratch {
    fn new() -> Self {
        Self { bytes: [0; 64], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        self.push_all(&[byte]);
    }

    fn push_number(&mut self, value: impl itoa::Integer) {
        self.push_all(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Two numbers and the constants of a line are at most 54 bytes, so everything fits.
    fn push_all(&mut self, text: &[u8]) {
        let end = self.len + text.len();
        debug_assert!(end <= self.bytes.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(text);
            self.len = end;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REPLY: Reply<'_> = Reply { prefix: b"_I.x.", token: b"AB" };

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"<".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn id(base: &str, index: Option<u64>) -> RecordId<'_> {
        RecordId { base: base.as_bytes(), index }
    }

    #[test]
    fn operations_have_the_protocols_bytes() {
        for (text, expect) in [
            (written(ping), "<PING\r\n"),
            (written(pong), "<PONG\r\n"),
            (written(|out| sub(out, b"_I.x.*", None, 1)), "<SUB _I.x.* 1\r\n"),
            (written(|out| sub(out, b"a.>", Some(b"q"), u64::MAX)), "<SUB a.> q 18446744073709551615\r\n"),
            (written(|out| unsub(out, 7, None)), "<UNSUB 7\r\n"),
            (written(|out| unsub(out, 7, Some(1))), "<UNSUB 7 1\r\n"),
            (written(|out| pub_(out, b"a", None, b"")), "<PUB a 0\r\n\r\n"),
            (written(|out| pub_(out, b"a", Some(b"r"), b"hi")), "<PUB a r 2\r\nhi\r\n"),
            (
                written(|out| hpub(out, b"a", None, b"A: b\r\n", b"hi")),
                "<HPUB a 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
            ),
            (written(|out| hpub(out, b"a", Some(b"r"), b"", b"")), "<HPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\n"),
            (written(|out| pub_record(out, b"a", REPLY, b"hi")), "<PUB a _I.x.AB 2\r\nhi\r\n"),
            (written(|out| hpub_record(out, b"a", REPLY, b"", None, b"hi")), "<PUB a _I.x.AB 2\r\nhi\r\n"),
            (
                written(|out| hpub_record(out, b"a", REPLY, b"A: b\r\n", None, b"hi")),
                "<HPUB a _I.x.AB 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
            ),
            (
                written(|out| hpub_record(out, b"a", REPLY, b"", Some(id("m", None)), b"")),
                "<HPUB a _I.x.AB 28 28\r\nNATS/1.0\r\nNats-Msg-Id: m\r\n\r\n\r\n",
            ),
            (
                written(|out| hpub_batched(out, b"a", None, [b"", b"", b"B: 1\r\n"], None, b"{}")),
                "<HPUB a 18 20\r\nNATS/1.0\r\nB: 1\r\n\r\n{}\r\n",
            ),
            (
                written(|out| hpub_record(out, b"a", REPLY, b"A: b\r\n", Some(id("m", Some(10))), b"{}")),
                "<HPUB a _I.x.AB 37 39\r\nNATS/1.0\r\nA: b\r\nNats-Msg-Id: m 10\r\n\r\n{}\r\n",
            ),
        ] {
            assert_eq!(text, expect);
        }
    }

    #[test]
    fn connect_sends_what_is_set_and_nothing_else() {
        let mut out = Vec::new();
        connect(&mut out, &Connect { version: "1", user: Some("u\""), pass: Some("p"), ..Connect::default() }).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"rust\",\"version\":\"1\",\
             \"protocol\":1,\"echo\":true,\"headers\":true,\"no_responders\":true,\"user\":\"u\\\"\",\"pass\":\"p\"}\r\n"
        );
    }

    #[test]
    fn a_subject_is_one_word() {
        for (text, expect) in [
            ("a.b", true),
            ("$JS.ACK", true),
            ("é", true),
            ("", false),
            ("a b", false),
            ("a\r\n", false),
            ("a\t", false),
            ("a\n", false),
        ] {
            assert_eq!(is_subject(text.as_bytes()), expect, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_size_of_a_record_is_what_its_line_announces_and_what_is_written(
            block in prop_oneof![Just(""), Just("A: b\r\n"), Just("Content-Type: application/json\r\nX-Y: z\r\n")],
            base in "[!-~]{0,40}", numbered in any::<Option<u64>>(), payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let id = (!base.is_empty()).then_some(RecordId { base: base.as_bytes(), index: numbered });
            let mut out = Vec::new();
            hpub_record(&mut out, b"s.t", REPLY, block.as_bytes(), id, &payload);
            let size = record_bytes(block.len(), id.map_or(0, |id| id.len()), payload.len());
            let line_end = out.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let line = std::str::from_utf8(&out[..line_end]).unwrap();
            prop_assert_eq!(line.rsplit(' ').next().unwrap(), size.to_string());
            prop_assert_eq!(out.len(), line_end + 2 + size + 2);
            prop_assert!(out[..out.len() - 2].ends_with(&payload));
            prop_assert!(LINE_REST_BYTES + 3 + 7 + size >= out.len(), "one reservation is enough");
            if id.is_none() {
                let (mut template, mut same) = (Template::default(), Vec::new());
                template.set(b"s.t", REPLY, block.as_bytes());
                template.write(&mut same, &payload);
                prop_assert_eq!(&same, &out, "a template writes what is written without");
            }
            let (own, fields) = ("Own: 1\r\n", "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\n");
            let (mut parts, mut plain) = (Vec::new(), Vec::new());
            let blocks = [block.as_bytes(), own.as_bytes(), fields.as_bytes()];
            hpub_batched(&mut parts, b"s.t", Some(REPLY), blocks, id, &payload);
            hpub_record(&mut plain, b"s.t", REPLY, format!("{block}{own}{fields}").as_bytes(), id, &payload);
            prop_assert_eq!(&parts, &plain, "a batched record is one with more fields");
            parts.clear();
            plain.clear();
            hpub_own(&mut parts, b"s.t", REPLY, [block.as_bytes(), own.as_bytes()], id, &payload);
            hpub_record(&mut plain, b"s.t", REPLY, format!("{block}{own}").as_bytes(), id, &payload);
            prop_assert_eq!(&parts, &plain, "fields of its own stand behind those that it shares");
            if id.is_some() || !block.is_empty() {
                let head: usize = line.rsplit(' ').nth(1).unwrap().parse().unwrap();
                prop_assert_eq!(head + payload.len(), size);
                prop_assert!(out[..line_end + 2 + head].ends_with(b"\r\n\r\n"));
            }
        }

        #[test]
        fn digits_are_counted_as_they_are_written(value in any::<u64>()) {
            prop_assert_eq!(digits(value), value.to_string().len());
        }
    }
}
