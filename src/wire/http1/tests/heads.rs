//! Request heads and their verdicts, as data.

use super::super::{Framing, Head, HeadLimits, Span};
use crate::reject::Reject;

/// What a head says, on one line: method, path, query, host, framing, and what is not the usual.
fn describe(head: &Head, buf: &[u8]) -> String {
    let text = |place: Span| String::from_utf8_lossy(place.of(buf)).into_owned();
    let framing = match head.framing {
        Framing::None => String::new(),
        Framing::Length(length) => format!(" length={length}"),
        Framing::Chunked => " chunked".to_owned(),
    };
    let words = [(head.http10, " 1.0"), (!head.keep_alive, " close"), (head.expect_continue, " continue")];
    let words: String = words.into_iter().filter_map(|(holds, word)| holds.then_some(word)).collect();
    let query = head.http.query.map_or(String::new(), |query| format!(" ?{}", text(query)));
    let host = head.http.authority.map_or("-".to_owned(), text);
    format!("{:?} {}{query} @{host}{framing}{words}", head.http.method, text(head.http.path))
}

/// What a reject says, without the section number of RFC texts being repeated in every row.
fn name(reject: &Reject) -> String {
    match reject {
        Reject::Malformed(rule) => (*rule).to_owned(),
        other => format!("{other:?}"),
    }
}

/// Parses `input` whole and byte by byte. Both say `expect`: a description, `more`, or (a part of) a reject.
#[track_caller]
pub(super) fn check(input: &[u8], expect: Result<&str, &str>) {
    let shown = input.escape_ascii().to_string();
    let mut head = Head::default();
    let whole = head
        .parse(input, &HeadLimits::default())
        .map(|complete| if complete { describe(&head, input) } else { "more".to_owned() });
    match (&whole, expect) {
        (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{shown}"),
        (Err(reject), Err(wanted)) => assert!(name(reject).contains(wanted), "{shown}: {reject:?}, not {wanted:?}"),
        _ => panic!("{shown}: {whole:?}, not {expect:?}"),
    }

    let mut dribbled = Head::default();
    let mut outcome = Ok(false);
    for end in 1..=input.len() {
        outcome = dribbled.parse(&input[..end], &HeadLimits::default());
        if outcome != Ok(false) {
            break;
        }
    }
    match (outcome, &whole) {
        (Ok(true), Ok(line)) => {
            assert_eq!(&describe(&dribbled, input), line, "byte by byte: {shown}");
            assert_eq!(dribbled.len, head.len, "byte by byte: {shown}");
        }
        (Ok(false), Ok(line)) => assert_eq!(line, "more", "byte by byte: {shown}"),
        (Err(_), Err(_)) => {}
        (outcome, _) => panic!("byte by byte: {shown}: {outcome:?}, not {whole:?}"),
    }
}

#[test]
fn request_lines_in_their_forms() {
    for (line, expect) in [
        ("GET / HTTP/1.1", Ok("Get / @h")),
        ("HEAD / HTTP/1.1", Ok("Head / @h")),
        ("POST / HTTP/1.1", Ok("Post / @h")),
        ("PUT / HTTP/1.1", Ok("Put / @h")),
        ("DELETE / HTTP/1.1", Ok("Delete / @h")),
        ("PATCH / HTTP/1.1", Ok("Patch / @h")),
        ("OPTIONS / HTTP/1.1", Ok("Options / @h")),
        ("TRACE / HTTP/1.1", Ok("Other / @h")),
        ("get / HTTP/1.1", Ok("Other / @h")),
        ("M-SEARCH / HTTP/1.1", Ok("Other / @h")),
        ("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", Ok("Other / @h")),
        // Origin-form.
        ("GET /a/b.c HTTP/1.1", Ok("Get /a/b.c @h")),
        ("GET /a?b=c HTTP/1.1", Ok("Get /a ?b=c @h")),
        ("GET /a? HTTP/1.1", Ok("Get /a ? @h")),
        ("GET /a?b?c HTTP/1.1", Ok("Get /a ?b?c @h")),
        ("GET /? HTTP/1.1", Ok("Get / ? @h")),
        ("GET //a HTTP/1.1", Ok("Get //a @h")),
        ("GET /stations/a%2Fb/produce/single HTTP/1.1", Ok("Get /stations/a%2Fb/produce/single @h")),
        ("GET /%zz%0 HTTP/1.1", Ok("Get /%zz%0 @h")),
        ("GET /%00 HTTP/1.1", Ok("Get /%00 @h")),
        ("GET /../../x HTTP/1.1", Ok("Get /../../x @h")),
        ("GET /a|b{c}[d]^`\\\"<> HTTP/1.1", Ok("Get /a|b{c}[d]^`\\\"<> @h")),
        ("GET /http://other/x HTTP/1.1", Ok("Get /http://other/x @h")),
        ("GET /a#b HTTP/1.1", Err("fragment")),
        ("GET /a?b#c HTTP/1.1", Err("fragment")),
        ("GET # HTTP/1.1", Err("fragment")),
        ("GET /\u{e9} HTTP/1.1", Err("no URI holds")),
        ("GET /a\tb HTTP/1.1", Err("no URI holds")),
        ("GET /a\x7fb HTTP/1.1", Err("no URI holds")),
        ("GET /a\0b HTTP/1.1", Err("no URI holds")),
        ("GET /a\x0bb HTTP/1.1", Err("no URI holds")),
        ("GET a HTTP/1.1", Err("neither a path nor")),
        ("GET ?a HTTP/1.1", Err("neither a path nor")),
        ("GET ../a HTTP/1.1", Err("neither a path nor")),
        ("GET \\a HTTP/1.1", Err("neither a path nor")),
        // Absolute-form: its authority counts, not Host's.
        ("GET http://e.org/x?y HTTP/1.1", Ok("Get /x ?y @e.org")),
        ("GET HTTPS://E.org:8443/x HTTP/1.1", Ok("Get /x @E.org:8443")),
        ("GET http://e.org HTTP/1.1", Ok("Get / @e.org")),
        ("GET http://e.org?q HTTP/1.1", Ok("Get / ?q @e.org")),
        ("GET http://e.org: HTTP/1.1", Ok("Get / @e.org:")),
        ("GET http://[::1]:80/x HTTP/1.1", Ok("Get /x @[::1]:80")),
        ("GET http://e.org/http://f.org/ HTTP/1.1", Ok("Get /http://f.org/ @e.org")),
        ("OPTIONS http://e.org HTTP/1.1", Ok("Options / @e.org")),
        ("GET http:// HTTP/1.1", Err("authority is not")),
        ("GET http:///x HTTP/1.1", Err("authority is not")),
        ("GET http://:80/x HTTP/1.1", Err("authority is not")),
        ("GET http://user@e.org/ HTTP/1.1", Err("authority is not")),
        ("GET http://user:pw@e.org/ HTTP/1.1", Err("authority is not")),
        ("GET http://e.org:x/ HTTP/1.1", Err("authority is not")),
        ("GET http://e.org:65536/ HTTP/1.1", Err("authority is not")),
        ("GET http://e org/ HTTP/1.1", Err("does not end in an HTTP version")),
        ("GET http:/x HTTP/1.1", Err("neither a path nor")),
        ("GET ftp://e.org/x HTTP/1.1", Err("neither a path nor")),
        ("GET file:///etc/passwd HTTP/1.1", Err("neither a path nor")),
        ("GET javascript:alert(1) HTTP/1.1", Err("neither a path nor")),
        // Asterisk-form.
        ("OPTIONS * HTTP/1.1", Ok("Options * @h")),
        ("GET * HTTP/1.1", Err("only OPTIONS")),
        ("TRACE * HTTP/1.1", Err("only OPTIONS")),
        ("OPTIONS ** HTTP/1.1", Err("neither a path nor")),
        ("OPTIONS *?a HTTP/1.1", Err("neither a path nor")),
        // Authority-form, with CONNECT only; what follows is not HTTP, so it closes.
        ("CONNECT e.org:443 HTTP/1.1", Ok("Other  @e.org:443 close")),
        ("CONNECT [::1]:443 HTTP/1.1", Ok("Other  @[::1]:443 close")),
        ("CONNECT e.org HTTP/1.1", Err("CONNECT")),
        ("CONNECT e.org: HTTP/1.1", Err("CONNECT")),
        ("CONNECT / HTTP/1.1", Err("CONNECT")),
        ("CONNECT http://e.org:443/ HTTP/1.1", Err("CONNECT")),
        ("GET e.org:443 HTTP/1.1", Err("neither a path nor")),
        // Versions.
        ("GET / HTTP/1.0", Ok("Get / @h 1.0 close")),
        ("GET / HTTP/1.2", Ok("Get / @h")),
        ("GET / HTTP/1.9", Ok("Get / @h")),
        ("GET / HTTP/2.0", Err("Version")),
        ("GET / HTTP/0.9", Err("Version")),
        ("GET / HTTP/3.1", Err("Version")),
        ("PRI * HTTP/2.0", Err("Version")),
        ("GET / HTTP/1.10", Err("HTTP version")),
        ("GET / HTTP/11.1", Err("HTTP version")),
        ("GET / HTTP/1", Err("HTTP version")),
        ("GET / HTTP/1.", Err("HTTP version")),
        ("GET / HTTP/1,1", Err("HTTP version")),
        ("GET / HTTP/+1.1", Err("HTTP version")),
        ("GET / HTTP/ 1.1", Err("HTTP version")),
        ("GET / http/1.1", Err("HTTP version")),
        ("GET / HTTP1.1", Err("HTTP version")),
        ("GET / ICY/1.1", Err("HTTP version")),
        ("GET / HTTP/x.1", Err("HTTP version")),
        ("GET / HTTP/1.x", Err("HTTP version")),
        ("GET / ", Err("HTTP version")),
        // The line's shape: exactly one space between the parts.
        ("GET /", Err("not method SP target")),
        ("GET", Err("not method SP target")),
        ("GET  / HTTP/1.1", Err("HTTP version")),
        ("GET /  HTTP/1.1", Err("HTTP version")),
        ("GET / HTTP/1.1 ", Err("HTTP version")),
        ("GET / x HTTP/1.1", Err("HTTP version")),
        ("GET\t/ HTTP/1.1", Err("not method SP target")),
        ("GET /\tHTTP/1.1", Err("not method SP target")),
        (" GET / HTTP/1.1", Err("HTTP version")),
        (" / HTTP/1.1", Err("not a token")),
        ("G\u{e9}T / HTTP/1.1", Err("not a token")),
        ("G(T / HTTP/1.1", Err("not a token")),
        ("G\0T / HTTP/1.1", Err("not a token")),
        ("GET: / HTTP/1.1", Err("not a token")),
        ("\"GET\" / HTTP/1.1", Err("not a token")),
    ] {
        check(format!("{line}\r\nHost: h\r\n\r\n").as_bytes(), expect);
    }
}

#[test]
fn line_ends_are_cr_lf_and_nothing_else() {
    for (input, expect) in [
        (&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], Ok("Get / @h")),
        (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok("Get / @h")),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok("Get / @h")),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\n\n", Ok("Get / @h")),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n\0\0\0", Ok("Get / @h")),
        (b"", Ok("more")),
        (b"\r", Ok("more")),
        (b"\r\n", Ok("more")),
        (b"\r\n\r\n", Ok("more")),
        (b"G", Ok("more")),
        (b"GET / HTTP/1.1", Ok("more")),
        (b"GET / HTTP/1.1\r", Ok("more")),
        (b"GET / HTTP/1.1\r\n", Ok("more")),
        (b"GET / HTTP/1.1\r\n\r", Ok("more")),
        (b"GET / HTTP/1.1\r\nHost: h", Ok("more")),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r", Ok("more")),
        (b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Err("empty lines")),
        (b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Err("LF without CR")),
        (b"\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\r\nHost: h\n\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\n\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n", Err("LF without CR")),
        (b"GET /\n HTTP/1.1\r\nHost: h\r\n\r\n", Err("LF without CR")),
        (b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", Err("HTTP version")),
        (b"GET / HTTP/1.1\rHost: h\r\n\r\n", Err("HTTP version")),
        (b"GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", Err("no URI holds")),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n", Err("CR without LF")),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\r\n\r\n", Err("CR without LF")),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA\r: b\r\n\r\n", Err("CR without LF")),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n", Err("CR without LF")),
        // Before the head is complete: who speaks something else is told at once.
        (b"GET / HTTP/1.1\rHost: h\r\r", Err("CR without LF")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Err("control character")),
        (b"GET / HTTP/1.1\r\nHost: \0", Err("control character")),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Err("not method SP target")),
        (b"GET /\r\n", Err("not method SP target")),
        (b"PRI * HTTP/2.0\r\n", Err("Version")),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err("Version")),
    ] {
        check(input, expect);
    }
}

#[test]
fn field_lines_hold_to_the_grammar() {
    for (fields, expect) in [
        (&b"A: b"[..], Ok("Get / @h")),
        (b"A:b", Ok("Get / @h")),
        (b"A:", Ok("Get / @h")),
        (b"A: \t ", Ok("Get / @h")),
        (b"A: \t b \t", Ok("Get / @h")),
        (b"A: b\tc d", Ok("Get / @h")),
        (b"A: \xe9\xff\x80", Ok("Get / @h")),
        (b"A: b:c", Ok("Get / @h")),
        (b"!#$%&'*+-.^_`|~09azAZ: b", Ok("Get / @h")),
        (b" A: b", Err("folded")),
        (b"\tA: b", Err("folded")),
        (b" ", Err("folded")),
        (b"A: b\r\n c", Err("folded")),
        (b"A: b\r\n\tc", Err("folded")),
        (b"A: b\r\n \r\nC: d", Err("folded")),
        (b"A : b", Err("white space between")),
        (b"A\t: b", Err("white space between")),
        (b"A\x0b: b", Err("not a token")),
        (b"A\0: b", Err("not a token")),
        (b"A b: c", Err("not a token")),
        (b"A(b): c", Err("not a token")),
        (b"A\xe9: c", Err("not a token")),
        (b"\"A\": c", Err("not a token")),
        (b"A/b: c", Err("not a token")),
        (b": b", Err("without a name")),
        (b":", Err("without a name")),
        (b" : b", Err("folded")),
        (b"A", Err("without a colon")),
        (b"A b", Err("without a colon")),
        (b"A=b", Err("without a colon")),
        (b"GET /2 HTTP/1.1", Err("without a colon")),
        (b"A: b\0c", Err("control character")),
        (b"A: \0", Err("control character")),
        (b"A: b\x01", Err("control character")),
        (b"A: b\x0bc", Err("control character")),
        (b"A: b\x0cc", Err("control character")),
        (b"A: b\x1bc", Err("control character")),
        (b"A: b\x7fc", Err("control character")),
    ] {
        check(&[b"GET / HTTP/1.1\r\nHost: h\r\n", fields, b"\r\n\r\n"].concat(), expect);
        check(&[b"GET / HTTP/1.1\r\nHost: h\r\n", fields, b"\r\nZ: z\r\n\r\n"].concat(), expect);
    }
    for (fields, expect) in [
        (&b" Host: h"[..], "before the first field"),
        (b"\tHost: h", "before the first field"),
        (b" \r\nHost: h", "before the first field"),
        (b" x\r\nHost: h", "before the first field"),
    ] {
        check(&[b"GET / HTTP/1.1\r\n", fields, b"\r\n\r\n"].concat(), Err(expect));
    }
}

#[test]
fn host_is_there_once_and_valid() {
    for (fields, expect) in [
        ("Host: h", Ok("Get / @h")),
        ("host: h", Ok("Get / @h")),
        ("HOST:h", Ok("Get / @h")),
        ("Host:", Ok("Get / @")),
        ("Host: localhost:4444", Ok("Get / @localhost:4444")),
        ("Host: h:", Ok("Get / @h:")),
        ("Host: 127.0.0.1:80", Ok("Get / @127.0.0.1:80")),
        ("Host: [::1]", Ok("Get / @[::1]")),
        ("Host: [2001:db8::1]:65535", Ok("Get / @[2001:db8::1]:65535")),
        ("Host: [v1.fe80::a+en1]", Ok("Get / @[v1.fe80::a+en1]")),
        ("Host: a_b-c.example~", Ok("Get / @a_b-c.example~")),
        ("Host: a%20b", Ok("Get / @a%20b")),
        ("Host: a,b;c=(d)!$&'*+", Ok("Get / @a,b;c=(d)!$&'*+")),
        ("X-Host: h", Err("no Host")),
        ("Host: h\r\nHost: h", Err("more than one Host")),
        ("Host: h\r\nhost: g", Err("more than one Host")),
        ("Host:\r\nHost: h", Err("more than one Host")),
        ("Host: h, g", Err("Host is not")),
        ("Host: h g", Err("Host is not")),
        ("Host: h/x", Err("Host is not")),
        ("Host: http://h", Err("Host is not")),
        ("Host: user@h", Err("Host is not")),
        ("Host: h?x", Err("Host is not")),
        ("Host: h#x", Err("Host is not")),
        ("Host: \u{e9}", Err("Host is not")),
        ("Host: a%2", Err("Host is not")),
        ("Host: a%zz", Err("Host is not")),
        ("Host: :80", Err("Host is not")),
        ("Host: h:80:80", Err("Host is not")),
        ("Host: h:-1", Err("Host is not")),
        ("Host: h:+1", Err("Host is not")),
        ("Host: h:8x", Err("Host is not")),
        ("Host: h:65536", Err("Host is not")),
        ("Host: h:99999999999999999999", Err("Host is not")),
        ("Host: ::1", Err("Host is not")),
        ("Host: [::1", Err("Host is not")),
        ("Host: [::1]x", Err("Host is not")),
        ("Host: []", Err("Host is not")),
        ("Host: [1.2.3.4]", Err("Host is not")),
        ("Host: [fe80::1%25eth0]", Err("Host is not")),
        ("Host: [v.x]", Err("Host is not")),
        ("Host: [v1.]", Err("Host is not")),
        ("Host: [vg.x]", Err("Host is not")),
        ("Host: a\\b", Err("Host is not")),
        ("Host: a\"b", Err("Host is not")),
        ("Host: <h>", Err("Host is not")),
    ] {
        check(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes(), expect);
    }
    for (input, expect) in [
        ("GET / HTTP/1.1\r\n\r\n", Err("no Host")),
        ("GET http://e.org/ HTTP/1.1\r\n\r\n", Err("no Host")),
        ("GET http://e.org/ HTTP/1.1\r\nHost: b a d\r\n\r\n", Err("Host is not")),
        ("GET http://e.org/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err("more than one Host")),
        ("GET http://e.org/ HTTP/1.1\r\nHost: other\r\n\r\n", Ok("Get / @e.org")),
        ("GET / HTTP/1.0\r\n\r\n", Ok("Get / @- 1.0 close")),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err("more than one Host")),
        ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", Err("Host is not")),
        ("GET / HTTP/1.2\r\n\r\n", Err("no Host")),
    ] {
        check(input.as_bytes(), expect);
    }
}

#[test]
fn fields_that_decide_who_asks_and_what_it_is_come_once() {
    for name in ["Authorization", "Content-Type", "Origin"] {
        let once = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: x\r\n\r\n");
        check(once.as_bytes(), Ok("Get / @h"));
        let twice = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: x\r\n{}: x\r\n\r\n", name.to_lowercase());
        check(twice.as_bytes(), Err(&format!("more than one {name}")));
    }
}

#[test]
fn fields_are_found_by_name() -> Result<(), Reject> {
    let buf = b"\r\nPOST /x HTTP/1.1\r\nHost: h\r\nAUTHORIZATION:  Bearer: abc \r\ncontent-type: application/json\r\n\
        Content-Encoding: gzip\r\nX-Many: 1\r\nOrigin: null\r\ncontent-encoding:deflate , br\r\nx-many:\r\n\r\nrest";
    let mut head = Head::default();
    assert!(head.parse(buf, &HeadLimits::default())?);
    assert_eq!(&buf[head.len..], b"rest");
    assert_eq!(head.http.fields.len(), 8);
    let of = |place: Option<Span>| place.map(|place| place.of(buf));
    assert_eq!(of(head.http.authorization), Some(&b"Bearer: abc"[..]));
    assert_eq!(of(head.http.content_type), Some(&b"application/json"[..]));
    assert_eq!(of(head.http.origin), Some(&b"null"[..]));
    assert_eq!(head.http.field(buf, "x-MANY"), Some(&b"1"[..]));
    assert_eq!(head.http.values(buf, "x-many").collect::<Vec<_>>(), [&b"1"[..], b""]);
    assert_eq!(head.http.field(buf, "x-man"), None);
    let codings: Vec<_> = head.http.values(buf, "Content-Encoding").collect();
    assert_eq!(codings, [&b"gzip"[..], b"deflate , br"]);
    assert_eq!(head.http.method_text.of(buf), b"POST");
    assert_eq!(head.http.fields(buf).next(), Some((&b"Host"[..], &b"h"[..])));

    // The next head has nothing of this one.
    let next = b"GET http://e HTTP/1.0\r\n\r\n";
    assert!(head.parse(next, &HeadLimits::default())?);
    assert_eq!(describe(&head, next), "Get / @e 1.0 close");
    assert!(head.http.fields.is_empty() && head.http.query.is_none());
    assert!(head.http.authorization.is_none() && head.http.content_type.is_none() && head.http.origin.is_none());
    Ok(())
}

#[test]
fn a_head_may_be_as_large_as_its_limits_and_no_larger() {
    let limits = HeadLimits { bytes_max: 100, fields_max: 3 };
    let parse = |input: &[u8]| Head::default().parse(input, &limits);
    let sized = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4)).into_bytes()
    };
    assert_eq!(parse(&sized(99)), Ok(true));
    assert_eq!(parse(&sized(100)), Ok(true));
    assert_eq!(parse(&sized(101)), Err(Reject::HeadTooLarge));
    assert_eq!(parse(&[sized(100), b"GET".to_vec()].concat()), Ok(true));
    assert_eq!(parse(&sized(101)[..99]), Ok(false));
    assert_eq!(parse(&sized(101)[..100]), Err(Reject::HeadTooLarge), "a hundred bytes and no end cannot become a head");
    // Empty lines before it count.
    assert_eq!(parse(&[b"\r\n".to_vec(), sized(98)].concat()), Ok(true));
    assert_eq!(parse(&[b"\r\n".to_vec(), sized(99)].concat()), Err(Reject::HeadTooLarge));

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    assert_eq!(parse(fields(3).as_bytes()), Ok(true));
    assert_eq!(parse(fields(4).as_bytes()), Err(Reject::HeadTooLarge));
    // Each size of the slots for fields, and its edge.
    let wide = HeadLimits { bytes_max: 1 << 20, fields_max: 1_000 };
    for count in [1, 15, 16, 17, 127, 128, 129, 1_000] {
        let mut head = Head::default();
        assert_eq!(head.parse(fields(count).as_bytes(), &wide), Ok(true));
        assert_eq!(head.http.fields.len(), count);
    }
    assert_eq!(Head::default().parse(fields(1_001).as_bytes(), &wide), Err(Reject::HeadTooLarge));
}

#[test]
fn a_head_is_usable_again_after_an_error_and_after_a_reset() {
    let mut head = Head::default();
    let good = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(head.parse(b"GET / HTTP/1.1\r\nHost: h\r\n x", &HeadLimits::default()).is_ok_and(|complete| !complete));
    head.reset();
    assert_eq!(head.parse(good, &HeadLimits::default()), Ok(true));
    assert!(head.parse(b"GET / HTTP/1.1\r\nHost: h\n", &HeadLimits::default()).is_err());
    assert_eq!(head.parse(good, &HeadLimits::default()), Ok(true));
    // A shorter buffer than last time is another buffer.
    assert_eq!(
        head.parse(b"POST /much-longer-than-the-next HTTP/1.1\r\nHost: h\r\nA: bcd", &HeadLimits::default()),
        Ok(false)
    );
    assert_eq!(head.parse(good, &HeadLimits::default()), Ok(true));
    assert_eq!(describe(&head, good), "Get / @h");
}

#[test]
fn a_head_in_dribbles_is_searched_once() -> Result<(), Reject> {
    // A million bytes, one at a time: if each call searched all of them, this would take minutes.
    let limits = HeadLimits { bytes_max: 1 << 20, fields_max: 1_000 };
    let mut input = b"GET / HTTP/1.1\r\nHost: h\r\nA: ".to_vec();
    input.resize(1_000_000, b'x');
    input.extend_from_slice(b"\r\n\r\n");
    let mut head = Head::default();
    for end in 0..input.len() {
        assert!(!head.parse(&input[..end], &limits)?);
    }
    assert!(head.parse(&input, &limits)?);
    Ok(())
}
