//! Where a server's messages begin and end, so that a proxy can put one between two others.
//!
//! Both protocols of nats-server are read, its clients' and its routes': in each a line that announces a payload ends
//! with the payload's whole length.

use memchr::memchr;

/// What of a connection has not been passed on: the beginning of a message.
#[derive(Debug, Default)]
pub struct Frames {
    begun: Vec<u8>,
}

impl Frames {
    /// Takes what was read, tells `acknowledgement` each whole message that acknowledges a publish, and returns all
    /// whole messages.
    pub fn feed(&mut self, bytes: &[u8], mut acknowledgement: impl FnMut(&[u8])) -> Vec<u8> {
        self.begun.extend_from_slice(bytes);
        let mut end = 0;
        while let Some(length) = message(&self.begun[end..]) {
            let whole = &self.begun[end..end + length];
            if acknowledges(whole) {
                acknowledgement(whole);
            }
            end += length;
        }
        let rest = self.begun.split_off(end);
        std::mem::replace(&mut self.begun, rest)
    }
}

/// The length of the message at the beginning, if it is there whole.
fn message(bytes: &[u8]) -> Option<usize> {
    let line = memchr(b'\n', bytes)? + 1;
    let words: Vec<&[u8]> = bytes[..line].trim_ascii_end().split(|byte| *byte == b' ').collect();
    let with_payload = matches!(words[0], b"MSG" | b"HMSG" | b"RMSG" | b"LMSG");
    let payload = if with_payload { number(words[words.len() - 1])? + 2 } else { 0 };
    (bytes.len() >= line + payload).then_some(line + payload)
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether it is the answer to a publish: to nothing else do answers begin so.
fn acknowledges(message: &[u8]) -> bool {
    let payload = memchr(b'\n', message).map_or(&[][..], |line| &message[line + 1..]);
    message.starts_with(b"MSG ")
        && payload.starts_with(b"{\"stream\":")
        && memchr::memmem::find(payload, b"\"seq\":").is_some()
}

#[test]
fn messages_are_passed_on_whole_wherever_they_were_cut() {
    let wire = b"INFO {}\r\nMSG a 1 5\r\nhe\r\nl\r\nPONG\r\nHMSG a 1 r 2 6\r\nstatus\r\n\
                 MSG a 1 22\r\n{\"stream\":\"S\",\"seq\":1}\r\nRMSG $G a r 3\r\nabc\r\n+OK\r\n";
    for cut in 0..=wire.len() {
        let (mut frames, mut found) = (Frames::default(), 0);
        let first = frames.feed(&wire[..cut], |_| found += 1);
        assert!(first.is_empty() || first.ends_with(b"\r\n"), "{cut}");
        let second = frames.feed(&wire[cut..], |_| found += 1);
        assert_eq!([first, second].concat(), wire, "{cut}");
        assert_eq!(found, 1, "{cut}");
    }
}
