//! Bodies and their verdicts, as data.

use super::super::{Body, Framing, Progress, fuzz::fuzz_body};
use crate::{
    limits::CHUNK_EXTRA_BYTES_MAX,
    reject::{Reject, SizeLimit},
};

const BYTES_MAX: u64 = 1_000;

/// Feeds a chunked body whole: the decoded bytes and what follows them, `None` if it is not complete.
fn decode(input: &[u8]) -> Result<Option<(String, String)>, Reject> {
    let mut buf = [b"head", input].concat();
    let mut body = Body::new(Framing::Chunked, BYTES_MAX)?;
    Ok(match body.feed(&mut buf, 4)? {
        Progress::Done { body, consumed_to } => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((text(body.of(&buf)), text(&buf[consumed_to..])))
        }
        Progress::More { .. } => None,
    })
}

/// The body, and what follows it after `|`; `more`; or a part of the reject. In any pieces it is the same.
#[track_caller]
fn check(input: &[u8], expect: Result<&str, &str>) {
    let shown = input.get(..200).unwrap_or(input).escape_ascii().to_string();
    fuzz_body(input);
    match (decode(input), expect) {
        (Ok(None), Ok("more")) => {}
        (Ok(Some((body, rest))), Ok(wanted)) => assert_eq!(format!("{body}|{rest}"), wanted, "{shown}"),
        (Err(Reject::Malformed(rule)), Err(wanted)) if rule.contains(wanted) => {}
        (Err(other), Err(wanted)) if format!("{other:?}").contains(wanted) => {}
        (got, _) => panic!("{shown}: {got:?}, not {expect:?}"),
    }
}

#[test]
fn chunks_are_joined_and_the_rest_is_the_next_request() {
    for (input, expect) in [
        (&b"0\r\n\r\n"[..], Ok("|")),
        (b"0\r\n\r\nGET", Ok("|GET")),
        (b"000\r\n\r\n", Ok("|")),
        (b"5\r\nhello\r\n0\r\n\r\n", Ok("hello|")),
        (b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1", Ok("hello|GET / HTTP/1.1")),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", Ok("hello world|")),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", Ok("01234567890123456789|")),
        (b"00000000000000aF\r\n", Ok("more")),
        (b"2\r\n\r\n\r\n0\r\n\r\n", Ok("\r\n|")),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", Ok("0\r\n\r\n|")),
        (b"3\r\n\0\r\n\r\n0\r\n\r\n", Ok("\0\r\n|")),
        (b"0\r\n\r\n\r\n", Ok("|\r\n")),
        // Not complete.
        (b"", Ok("more")),
        (b"5", Ok("more")),
        (b"5\r", Ok("more")),
        (b"5\r\n", Ok("more")),
        (b"5\r\nhell", Ok("more")),
        (b"5\r\nhello", Ok("more")),
        (b"5\r\nhello\r", Ok("more")),
        (b"5\r\nhello\r\n", Ok("more")),
        (b"5\r\nhello\r\n0\r\n", Ok("more")),
        (b"5\r\nhello\r\n0\r\n\r", Ok("more")),
        (b"5\r\nhello\r\n0\r\nA: b\r\n", Ok("more")),
    ] {
        check(input, expect);
    }
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_and_nothing_else() {
    for size in [
        &b""[..],
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"\r\n5",
        b"\x0b5",
        b"5\x0b",
        b"5\0",
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"0X5",
        b"x5",
        b"5h",
        b"5.0",
        b"5,",
        b"5_",
        b"\"5\"",
        b"5\xe9",
        b"\xd9\xa5",
        b"00000000000000005",
        b"10000000000000005",
        b"g",
        b"5 5",
    ] {
        let input = [size, b"\r\nhello\r\n0\r\n\r\n"].concat();
        assert!(matches!(decode(&input), Err(Reject::Malformed(_))), "{}: {:?}", input.escape_ascii(), decode(&input));
        fuzz_body(&input);
    }
    for size in ["3e9", "FFFFFFFFFFFFFFFF", "7fffffffffffffff", "8000000000000000", "100000000", "00000000000003e9"] {
        check(format!("{size}\r\n").as_bytes(), Err("TooLarge(Body, 1000)"));
    }
    check(b"3e8\r\n", Ok("more"));
    check(b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", Ok("hello|"));
}

#[test]
fn line_ends_of_chunked_framing_are_cr_lf() {
    for (input, expect) in [
        (&b"5\nhello\r\n0\r\n\r\n"[..], "chunk's size"),
        (b"5\n\nhello", "chunk's size"),
        (b"5\rhello\r\n0\r\n\r\n", "CR without LF"),
        (b"5\r\rhello", "CR without LF"),
        (b"5;a\nhello\r\n0\r\n\r\n", "extension"),
        (b"5;\nhello\r\n0\r\n\r\n", "extension"),
        (b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "extension"),
        (b"5;a\rhello\r\n0\r\n\r\n", "CR without LF"),
        (b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", "extension"),
        (b"5\r\nhello0\r\n\r\n", "no CRLF behind"),
        (b"5\r\nhello\n0\r\n\r\n", "no CRLF behind"),
        (b"5\r\nhello\r0\r\n\r\n", "no CRLF behind"),
        (b"5\r\nhellow\r\n0\r\n\r\n", "no CRLF behind"),
        (b"4\r\nhello\r\n0\r\n\r\n", "no CRLF behind"),
        (b"6\r\nhello\r\n0\r\n\r\n", "no CRLF behind"),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", "chunk's size"),
        (b"5\r\nhello  \r\n0\r\n\r\n", "no CRLF behind"),
        (b"0\n\n", "chunk's size"),
        (b"0\r\n\n", "trailer"),
        (b"0\r\n\rX", "CR without LF"),
        (b"0\r\nX", "more"),
        (b"0\r\nA: b\n\r\n", "trailer"),
        (b"0\r\nA: b\rC: d\r\n\r\n", "CR without LF"),
    ] {
        check(input, if expect == "more" { Ok("more") } else { Err(expect) });
    }
}

#[test]
fn extensions_are_read_checked_and_dropped() {
    for (extension, is_good) in [
        (&b";a"[..], true),
        (b";a=b", true),
        (b";a=\"b\"", true),
        (b";a=\"\"", true),
        (b";a=\"b;c=d\\\"\\\\ \t\xe9\"", true),
        (b";a;b=c;d=\"e\"", true),
        // White space that a sender must not send and a recipient must accept.
        (b" ;a", true),
        (b"\t; \ta \t= \tb \t;c", true),
        (b"; a=\"b\" ;c", true),
        (b";", false),
        (b";;", false),
        (b";;a", false),
        (b";a;", false),
        (b";a=", false),
        (b";=b", false),
        (b";a=b=c", false),
        (b";a b", false),
        (b";a=b c", false),
        (b";a=\"b\"c", false),
        (b";a=\"b", false),
        (b";a=\"b\\\"", false),
        (b";a ", false),
        (b";a=b ", false),
        (b" ;a=\"b\" ", false),
        (b";a\0", false),
        (b";\0", false),
        (b";a=\0", false),
        (b";a=\"\0\"", false),
        (b";a=\"\\\0\"", false),
        (b";a=\"\x7f\"", false),
        (b";\xe9", false),
        (b";a=/", false),
        (b",a", false),
        (b"=a", false),
    ] {
        let input = [b"5", extension, b"\r\nhello\r\n0", extension, b"\r\n\r\nrest"].concat();
        let rule =
            if extension.starts_with(b";") || extension.starts_with(b" ") { "extension" } else { "chunk's size" };
        check(&input, if is_good { Ok("hello|rest") } else { Err(rule) });
    }
}

#[test]
fn trailers_are_read_checked_and_dropped() {
    for (trailers, is_good) in [
        (&b"A: b\r\n"[..], true),
        (b"A:\r\n", true),
        (b"A: b\r\nC: \t\xe9 d\r\n", true),
        (b"Content-Length: 5\r\n", true),
        (b" A: b\r\n", false),
        (b"\tA: b\r\n", false),
        (b"A: b\r\n c\r\n", false),
        (b"A : b\r\n", false),
        (b"A\r\n", false),
        (b"A b: c\r\n", false),
        (b": b\r\n", false),
        (b"A: \0\r\n", false),
        (b"A: \x7f\r\n", false),
        (b"A\0: b\r\n", false),
        (b"GET / HTTP/1.1\r\n", false),
        (b"\x0bA: b\r\n", false),
    ] {
        let input = [b"5\r\nhello\r\n0\r\n", trailers, b"\r\nrest"].concat();
        check(&input, if is_good { Ok("hello|rest") } else { Err("trailer") });
    }
}

#[test]
fn extensions_and_trailers_of_one_request_share_a_bound() {
    let long = |bytes: usize| "x".repeat(bytes);
    check(format!("0;{}\r\n\r\n", long(CHUNK_EXTRA_BYTES_MAX - 2)).as_bytes(), Ok("|"));
    check(format!("0;{}\r\n\r\n", long(CHUNK_EXTRA_BYTES_MAX)).as_bytes(), Err("too many bytes of chunk ext"));
    check(format!("0\r\nA:{}\r\n\r\n", long(CHUNK_EXTRA_BYTES_MAX - 3)).as_bytes(), Ok("|"));
    check(format!("0\r\nA:{}\r\n\r\n", long(CHUNK_EXTRA_BYTES_MAX)).as_bytes(), Err("HeadTooLarge"));
    check(format!("0;{}\r\nA: {}\r\n\r\n", long(5_000), long(5_000)).as_bytes(), Err("HeadTooLarge"));
    check(
        "1;seventeen-bytes-x\r\nx\r\n".repeat(CHUNK_EXTRA_BYTES_MAX / 19 + 1).as_bytes(),
        Err("too many bytes of chunk ext"),
    );
}

#[test]
fn a_body_may_be_as_large_as_its_limit_and_no_larger() {
    let too_large = Err(Reject::TooLarge(SizeLimit::Body, BYTES_MAX));
    assert!(Body::new(Framing::Length(BYTES_MAX), BYTES_MAX).is_ok());
    assert_eq!(Body::new(Framing::Length(BYTES_MAX + 1), BYTES_MAX).map(drop), too_large);
    assert_eq!(Body::new(Framing::Length(u64::MAX), BYTES_MAX).map(drop), too_large);
    assert!(Body::new(Framing::None, 0).is_ok());

    let chunks = |count: usize| ["1\r\nx\r\n".repeat(count), "0\r\n\r\n".to_owned()].concat();
    assert_eq!(decode(chunks(1_000).as_bytes()).map(|done| done.map(|(body, _)| body.len())), Ok(Some(1_000)));
    assert_eq!(decode(chunks(1_001).as_bytes()).map(drop), too_large);
    // A size that would overflow the sum.
    assert_eq!(decode(b"1\r\nx\r\nFFFFFFFFFFFFFFFF\r\n").map(drop), too_large);
}

#[test]
fn a_body_of_known_length_is_waited_for_and_left_alone() -> Result<(), Reject> {
    let mut buf = b"head12".to_vec();
    let mut body = Body::new(Framing::Length(5), BYTES_MAX)?;
    assert_eq!(body.feed(&mut buf, 4)?, Progress::More { wanted: 3 });
    buf.extend_from_slice(b"345");
    let Progress::Done { body: place, consumed_to } = body.feed(&mut buf, 4)? else { panic!("all is there") };
    buf.extend_from_slice(b"GET");
    assert_eq!((place.of(&buf), &buf[consumed_to..]), (&b"12345"[..], &b"GET"[..]));
    assert_eq!(body.feed(&mut buf, 4)?, Progress::Done { body: place, consumed_to }, "asked again, it says the same");

    let mut none = Body::new(Framing::None, BYTES_MAX)?;
    let Progress::Done { body: place, consumed_to } = none.feed(&mut buf, 4)? else { panic!("nothing to wait for") };
    assert!(place.is_empty() && consumed_to == 4);
    // A buffer that ends before the body's place (a bug of the caller) is waited for, without a panic.
    assert_eq!(Body::new(Framing::Length(5), BYTES_MAX)?.feed(&mut Vec::new(), 4)?, Progress::More { wanted: 5 });
    let mut chunked = Body::new(Framing::Chunked, BYTES_MAX)?;
    assert_eq!(chunked.feed(&mut Vec::new(), 4)?, Progress::More { wanted: 0 });
    assert_eq!(chunked.feed(&mut b"head5\r\n".to_vec(), 4)?, Progress::More { wanted: 5 + 7 });
    assert_eq!(chunked.feed(&mut Vec::new(), 4)?, Progress::More { wanted: 5 + 7 });
    Ok(())
}

#[test]
fn an_unfinished_chunked_body_holds_its_decoded_bytes_and_no_framing() -> Result<(), Reject> {
    let mut buf = b"head5;a=b\r\nhello\r\n3e0\r\nwo".to_vec();
    let mut body = Body::new(Framing::Chunked, BYTES_MAX)?;
    assert_eq!(body.feed(&mut buf, 4)?, Progress::More { wanted: 0x3e0 - 2 + 7 });
    assert_eq!(buf, b"headhellowo");
    buf.extend_from_slice(&[b'x'; 0x3e0 - 2]);
    assert_eq!(body.feed(&mut buf, 4)?, Progress::More { wanted: 0 });
    buf.extend_from_slice(b"\r\n0\r\nA: b\r\n");
    assert_eq!(body.feed(&mut buf, 4)?, Progress::More { wanted: 0 });
    assert_eq!(buf.len(), 4 + 5 + 0x3e0);
    buf.extend_from_slice(b"\r\nGET");
    let Progress::Done { body: place, consumed_to } = body.feed(&mut buf, 4)? else { panic!("all is there") };
    assert_eq!((place.len(), &buf[consumed_to..]), (5 + 0x3e0, &b"GET"[..]));
    assert_eq!(body.feed(&mut buf, 4)?, Progress::Done { body: place, consumed_to }, "asked again, it says the same");
    Ok(())
}

#[test]
fn a_chunked_body_in_dribbles_is_decoded_once() -> Result<(), Reject> {
    // Half a million chunks of one byte, a byte at a time: quadratic work would take minutes.
    const CHUNKS: usize = 500_000;
    let mut body = Body::new(Framing::Chunked, CHUNKS as u64)?;
    let mut buf = Vec::new();
    for byte in b"1\r\nx\r\n".repeat(CHUNKS) {
        buf.push(byte);
        assert!(matches!(body.feed(&mut buf, 0)?, Progress::More { .. }));
    }
    buf.extend_from_slice(b"0\r\n\r\n");
    let Progress::Done { body: place, consumed_to } = body.feed(&mut buf, 0)? else { panic!("all is there") };
    assert_eq!((place.len(), consumed_to), (CHUNKS, CHUNKS + 5));
    Ok(())
}

#[test]
fn a_body_of_known_length_is_handed_on_as_it_comes() -> Result<(), Reject> {
    let mut body = Body::new(Framing::Length(5), u64::MAX)?;
    let (mut buf, mut out) = (b"ab".to_vec(), Vec::new());
    assert!(!body.take(&mut buf, &mut out)?);
    assert!(!body.take(&mut buf, &mut out)?);
    buf.extend_from_slice(b"cdeGET");
    assert!(body.take(&mut buf, &mut out)?);
    assert_eq!((&out[..], &buf[..]), (&b"abcde"[..], &b"GET"[..]));
    assert!(Body::new(Framing::None, 0)?.take(&mut buf, &mut out)?, "there is none");
    Ok(())
}

#[test]
fn the_limit_of_a_body_counts_what_was_taken() -> Result<(), Reject> {
    let mut body = Body::new(Framing::Chunked, 4)?;
    let (mut buf, mut out) = (b"3\r\nabc\r\n".to_vec(), Vec::new());
    assert!(!body.take(&mut buf, &mut out)?);
    buf.extend_from_slice(b"2\r\nde\r\n");
    assert_eq!(body.take(&mut buf, &mut out), Err(Reject::TooLarge(SizeLimit::Body, 4)));
    Ok(())
}
