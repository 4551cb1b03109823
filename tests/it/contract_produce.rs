//! The contract of produce: media types, bytes as they came, content codings, stored headers,
//! message ids, batches (docs/contract.md).

use crate::support::{
    broker::Broker,
    gateway::Gateway,
    readback::{stored, texts},
    setup::Backend,
    unique,
};
use libdeflater::{CompressionLvl, Compressor};
use std::collections::BTreeMap;

on_every_setup_and_the_cluster!(
    a_single_record_of_every_media_type_is_stored_as_it_came,
    a_media_type_that_is_not_taken_is_415,
    a_batch_is_stored_byte_for_byte_in_its_order,
    a_batch_takes_any_json_type_with_any_parameter,
    an_empty_batch_stores_nothing,
    a_batch_that_is_no_array_is_400_and_stores_nothing,
    a_batch_that_is_no_json_is_400_and_says_where,
    nesting_has_a_limit_that_costs_an_answer_and_not_the_process,
    only_headers_of_the_allow_list_are_stored,
    every_name_of_the_message_id_makes_a_record_store_once,
    the_first_present_name_is_the_message_id,
    a_batch_with_a_message_id_sent_again_stores_nothing_twice,
    a_message_id_that_cannot_be_one_is_400,
    gzip_and_deflate_bodies_are_stored_plain,
    a_compressed_batch_is_split_after_it_is_decoded,
    a_corrupt_coding_is_400_and_stores_nothing,
    a_coding_that_is_not_known_is_415,
    a_bomb_is_413,
    a_chunked_body_is_a_body,
);

const OK: &str = "{\"error\":null,\"success\":true}";

fn a_single_record_of_every_media_type_is_stored_as_it_came(gateway: &Gateway) {
    let station = unique("types");
    let rows: [(&str, &[u8]); 14] = [
        ("text/plain", b"Hello World"),
        ("text/html; charset=utf-8", b"<p>hi</p>"),
        ("text/csv", b"a,b\r\n1,2\r\n"),
        ("application/json", b"{\"a\": 9007199254740993, \"b\":1.0 , \"a\":2}"),
        ("application/json", b"not json at all"),
        ("application/json; charset=utf-8", b" [1,\t2 ]\n"),
        ("Application/JSON", b"{}"),
        ("application/cloudevents+json", b"{\"specversion\":\"1.0\"}"),
        ("application/vnd.x+json; v=2", b"{\"x\":null}"),
        ("application/x-protobuf", b"\x08\x96\x01\x00\xff"),
        ("application/octet-stream", b"\x00\x01\r\n\r\n\xfe\xff"),
        ("avro/bytes", b"\x02\x06foo"),
        ("application/x-protobuf; proto=a.B", b"\x0a"),
        ("text/plain;charset=UTF-8", "żółw ✓".as_bytes()),
    ];
    for (content_type, body) in rows {
        gateway.single(&station, content_type, body).is_json(200, OK);
    }
    let path = format!("/stations/{station}/produce/single");
    gateway.post(&path, &[], b"no type").is_json(200, OK);
    let records = stored(gateway, &station);
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload.as_slice()).collect();
    let mut expect: Vec<&[u8]> = rows.iter().map(|row| row.1).collect();
    expect.push(b"no type");
    assert_eq!(payloads, expect);
    for (record, (content_type, _)) in records.iter().zip(rows) {
        assert_eq!(record.headers.get("Content-Type").map(String::as_str), Some(content_type));
    }
}

fn a_media_type_that_is_not_taken_is_415(gateway: &Gateway) {
    let station = unique("untaken");
    for content_type in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "image/png",
        "video/mp4",
        "context",
        "x",
    ] {
        gateway.single(&station, content_type, b"x").is_error(415);
    }
    for content_type in ["application/x-protobuf", "image/png", "application/x-www-form-urlencoded", "avro/bytes"] {
        let path = format!("/stations/{station}/produce/batch");
        gateway.post(&path, &[("Content-Type", content_type)], b"[1]").is_error(415);
    }
    gateway.single(&station, "text/plain", b"the only one").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["the only one"]);
}

fn a_batch_is_stored_byte_for_byte_in_its_order(gateway: &Gateway) {
    let station = unique("bytes");
    let elements = [
        "9007199254740993",
        "1.0",
        "-0",
        "1e21",
        "1E+2",
        "123456789012345678901234567890.123456789012345678901234567890",
        "{\"lsn\":9007199254740993,\"x\":1.0}",
        "{\"b\":1,\"a\":2,\"b\":3}",
        "{ \"k\" :\t[ 1 ,2,\r\n [ [ ] ] , { } ] }",
        "\"<>&\\u00e9é\\/\\ud83d\\ude00\"",
        "\"[,]{:}\\\"\\\\\"",
        "[[1,[2,[3,[4]]]],[]]",
        "null",
        "true",
        "false",
        "\"\"",
        "{}",
        "[]",
    ];
    let body = format!(" \n[ {} ]\t\r\n", elements.join(" ,\n "));
    gateway.batch(&station, &body).is_json(200, OK);
    assert_eq!(texts(gateway, &station), elements);
}

fn a_batch_takes_any_json_type_with_any_parameter(gateway: &Gateway) {
    let station = unique("batch-types");
    let path = format!("/stations/{station}/produce/batch");
    let types = [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=\"utf-8\"",
        "APPLICATION/JSON",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    ];
    for (index, content_type) in types.iter().enumerate() {
        let body = format!("[{{\"n\":{index}}}]");
        gateway.post(&path, &[("Content-Type", content_type)], body.as_bytes()).is_json(200, OK);
    }
    let expect: Vec<String> = (0..types.len()).map(|index| format!("{{\"n\":{index}}}")).collect();
    assert_eq!(texts(gateway, &station), expect);
}

fn an_empty_batch_stores_nothing(gateway: &Gateway) {
    let station = unique("empty");
    for body in ["[]", " [ ] ", "[\n]\n"] {
        gateway.batch(&station, body).is_json(200, OK);
    }
    gateway.batch(&station, "[null]").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["null"]);
}

fn a_batch_that_is_no_array_is_400_and_stores_nothing(gateway: &Gateway) {
    let station = unique("no-array");
    for body in ["{}", "{\"a\":[1]}", "\"[1]\"", "1", "null", "true"] {
        gateway.batch(&station, body).is_error(400);
    }
    gateway.batch(&station, "[0]").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["0"]);
}

fn a_batch_that_is_no_json_is_400_and_says_where(gateway: &Gateway) {
    let station = unique("no-json");
    for (body, offset) in [
        ("", 0),
        ("[", 1),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("[1,,2]", 3),
        ("[,1]", 1),
        ("[1]x", 3),
        ("[1] [2]", 4),
        ("[{\"a\":1,}]", 8),
        ("[{\"a\" 1}]", 6),
        ("[01]", 2),
        ("[1.]", 3),
        ("[+1]", 1),
        ("[NaN]", 1),
        ("[nul]", 4),
        ("[\"a]", 4),
        ("[\"\\x\"]", 3),
        ("['a']", 1),
        ("[1]]", 3),
        ("[{]", 2),
        ("[{}", 3),
    ] {
        let text = gateway.batch(&station, body).is_error(400);
        let places = numbers(&text);
        // Where a fault stands is a matter of one byte: at the one that is wrong, or after the last good one.
        assert!(places.iter().any(|place| place.abs_diff(offset) <= 1), "{body:?}: {offset} in {text:?}");
    }
    for bytes in [&b"[\"\xff\"]"[..], b"[\"a\x01b\"]", b"[\"a\nb\"]", b"[\"\xed\xa0\x80\"]", b"[1\x00]"] {
        let path = format!("/stations/{station}/produce/batch");
        gateway.post(&path, &[("Content-Type", "application/json")], bytes).is_error(400);
    }
    gateway.batch(&station, "[0]").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["0"], "a batch that does not parse stores nothing of it");
}

fn nesting_has_a_limit_that_costs_an_answer_and_not_the_process(gateway: &Gateway) {
    let station = unique("nesting");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    gateway.batch(&station, &format!("[{}]", nested(1_000))).is_json(200, OK);
    gateway.batch(&station, &format!("[{}]", objects(1_000))).is_json(200, OK);
    gateway.batch(&station, &format!("[{}]", nested(2_000))).is_error(400);
    gateway.batch(&station, &format!("[{}]", objects(2_000))).is_error(400);
    gateway.batch(&station, &"[".repeat(100_000)).is_error(400);
    gateway.batch(&station, &nested(100_000)).is_error(400);
    gateway.batch(&station, &"{\"a\":".repeat(100_000)).is_error(400);
    gateway.single(&station, "application/json", nested(100_000).as_bytes()).is_json(200, OK);
    assert_eq!(texts(gateway, &station), [nested(1_000), objects(1_000), nested(100_000)]);
}

/// Headers of a request, and what of them is stored: everything else must not be there.
const OFFERED: [(&str, &str, bool); 38] = [
    ("Content-Type", "application/json", true),
    ("X-Request-Id", "abc-123", true),
    ("X-DEBEZIUM-KEY", "ZGJ6", true),
    ("x-lower", "kept", true),
    ("X-Empty", "", true),
    ("ce-id", "1", true),
    ("ce-specversion", "1.0", true),
    ("Ce-Type", "t", true),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
    ("tracestate", "a=b", true),
    ("Cookie", "session=secret", false),
    ("Proxy-Authorization", "Basic c2VjcmV0", false),
    ("Proxy-Connection", "keep-alive", false),
    ("X-Api-Key", "secret", false),
    ("X-Token-Count", "3", true),
    ("X-Auth-Token", "secret", false),
    ("X-Auth-User", "secret", false),
    ("X-Gitlab-Token", "secret", false),
    ("X-Hub-Secret", "secret", false),
    ("x-client-SECRET", "secret", false),
    ("Keep-Alive", "timeout=5", false),
    ("TE", "trailers", false),
    ("Accept", "*/*", false),
    ("Accept-Encoding", "gzip", false),
    ("User-Agent", "test", false),
    ("Referer", "http://x/", false),
    ("Origin", "http://x", false),
    ("Nats-Expected-Last-Sequence", "999999", false),
    ("Nats-Expected-Stream", "another", false),
    ("Nats-Expected-Last-Msg-Id", "another", false),
    ("Nats-Rollup", "all", false),
    ("Nats-TTL", "1", false),
    ("Nats-Schedule", "@every 1s", false),
    ("nats-expected-last-subject-sequence", "7", false),
    ("$memphis_producedBy", "me", false),
    ("Status", "503", false),
    ("Content-Language", "en", false),
    ("If-Match", "x", false),
];

fn only_headers_of_the_allow_list_are_stored(gateway: &Gateway) {
    let station = unique("hygiene");
    let offered: Vec<(&str, &str)> = OFFERED.iter().map(|row| (row.0, row.1)).collect();
    let expect: BTreeMap<String, String> =
        OFFERED.iter().filter(|row| row.2).map(|row| (row.0.to_ascii_lowercase(), row.1.to_owned())).collect();
    gateway.post(&format!("/stations/{station}/produce/single"), &offered, b"{}").is_json(200, OK);
    gateway.post(&format!("/stations/{station}/produce/batch"), &offered, b"[1,2]").is_json(200, OK);
    let records = stored(gateway, &station);
    assert_eq!(records.len(), 3);
    for record in &records {
        let names = record.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        assert_eq!(names.collect::<BTreeMap<_, _>>(), expect);
    }
    if gateway.setup().backend == Backend::Nats {
        let raw = Broker::connect(gateway.nats()).message(&station, 1);
        assert!(raw.headers.starts_with("NATS/1.0\r\n") && raw.headers.ends_with("\r\n\r\n"), "{:?}", raw.headers);
        assert!(!raw.headers.contains(gateway.token()), "the token is stored");
    }
}

const ID_NAMES: [&str; 5] = ["Idempotency-Key", "msg-id", "webhook-id", "svix-id", "Nats-Msg-Id"];

fn every_name_of_the_message_id_makes_a_record_store_once(gateway: &Gateway) {
    let station = unique("ids");
    let path = format!("/stations/{station}/produce/single");
    for (index, name) in ID_NAMES.iter().enumerate() {
        for spelled in [(*name).to_owned(), name.to_uppercase(), name.to_lowercase()] {
            let id = format!("id-{index}");
            let headers = [("Content-Type", "text/plain"), (spelled.as_str(), id.as_str())];
            gateway.post(&path, &headers, id.as_bytes()).is_json(200, OK);
        }
    }
    gateway.single(&station, "text/plain", b"none").is_json(200, OK);
    gateway.single(&station, "text/plain", b"none").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["id-0", "id-1", "id-2", "id-3", "id-4", "none", "none"]);
    if gateway.setup().backend == Backend::Nats {
        let raw = Broker::connect(gateway.nats()).message(&station, 1);
        assert!(raw.headers.contains("\r\nNats-Msg-Id: id-0\r\n"), "{:?}", raw.headers);
    }
}

fn the_first_present_name_is_the_message_id(gateway: &Gateway) {
    let station = unique("precedence");
    let path = format!("/stations/{station}/produce/single");
    for first in 0..ID_NAMES.len() {
        // Backwards on the wire: it is the order of the names that counts.
        let ids: Vec<String> = (0..ID_NAMES.len()).map(|index| format!("{first}-{index}")).collect();
        let present: Vec<(&str, &str)> =
            (first..ID_NAMES.len()).map(|i| (ID_NAMES[i], ids[i].as_str())).rev().collect();
        let headers = [&[("Content-Type", "text/plain")], present.as_slice()].concat();
        gateway.post(&path, &headers, b"first").is_json(200, OK);
        let again = [("Content-Type", "text/plain"), (ID_NAMES[0], ids[first].as_str())];
        gateway.post(&path, &again, b"again").is_json(200, OK);
    }
    assert_eq!(texts(gateway, &station), ["first"; 5]);
}

fn a_batch_with_a_message_id_sent_again_stores_nothing_twice(gateway: &Gateway) {
    let station = unique("batch-ids");
    let path = format!("/stations/{station}/produce/batch");
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "load-7")];
    for _ in 0..3 {
        gateway.post(&path, &headers, b"[0,1,2]").is_json(200, OK);
    }
    // Each record has an id of its own: one more record under the same id is new, the others are not.
    gateway.post(&path, &headers, b"[0,1,2,3]").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["0", "1", "2", "3"]);
}

fn a_message_id_that_cannot_be_one_is_400(gateway: &Gateway) {
    let station = unique("bad-ids");
    let path = format!("/stations/{station}/produce/single");
    for id in ["x".repeat(257), "tab\tin it".to_owned(), "żółw".to_owned()] {
        let headers = [("Content-Type", "text/plain"), ("Idempotency-Key", id.as_str())];
        gateway.post(&path, &headers, b"x").is_error(400);
    }
    let longest = "x".repeat(256);
    let headers = [("Content-Type", "text/plain"), ("Idempotency-Key", longest.as_str())];
    gateway.post(&path, &headers, b"fits").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["fits"]);
}

/// A body under a content coding.
pub fn compressed(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut bytes = vec![0; compressor.gzip_compress_bound(body.len()) + 64];
    let count = match coding {
        "gzip" => compressor.gzip_compress(body, &mut bytes),
        _ => compressor.zlib_compress(body, &mut bytes),
    };
    bytes.truncate(count.unwrap());
    bytes
}

fn gzip_and_deflate_bodies_are_stored_plain(gateway: &Gateway) {
    let station = unique("coded");
    let path = format!("/stations/{station}/produce/single");
    let body = "plain text, many times over; ".repeat(1_000);
    for (coding, name) in [("gzip", "gzip"), ("gzip", "GZIP"), ("gzip", "x-gzip"), ("deflate", "deflate")] {
        let headers = [("Content-Type", "text/plain"), ("Content-Encoding", name)];
        gateway.post(&path, &headers, &compressed(coding, body.as_bytes())).is_json(200, OK);
    }
    let headers = [("Content-Type", "text/plain"), ("Content-Encoding", "identity")];
    gateway.post(&path, &headers, body.as_bytes()).is_json(200, OK);
    let records = stored(gateway, &station);
    assert_eq!(records.len(), 5);
    for record in records {
        assert_eq!(record.text(), body);
        assert_eq!(record.headers.get("Content-Encoding"), None);
        assert_eq!(record.headers.get("Content-Length"), None);
    }
}

fn a_compressed_batch_is_split_after_it_is_decoded(gateway: &Gateway) {
    let station = unique("coded-batch");
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let body = compressed("gzip", b"[1, {\"a\":9007199254740993}]");
    gateway.post(&format!("/stations/{station}/produce/batch"), &headers, &body).is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["1", "{\"a\":9007199254740993}"]);
}

fn a_corrupt_coding_is_400_and_stores_nothing(gateway: &Gateway) {
    let station = unique("corrupt");
    let path = format!("/stations/{station}/produce/single");
    for coding in ["gzip", "deflate"] {
        let good = compressed(coding, &b"text to be damaged ".repeat(100));
        let mut damaged = good.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        let mut checksum = good.clone();
        *checksum.last_mut().unwrap() ^= 1;
        let rows: [&[u8]; 6] =
            [&good[..good.len() - 1], &good[..12], &damaged, &checksum, b"not compressed at all", b""];
        for bytes in rows {
            let headers = [("Content-Type", "text/plain"), ("Content-Encoding", coding)];
            gateway.post(&path, &headers, bytes).is_error(400);
        }
    }
    gateway.single(&station, "text/plain", b"the only one").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["the only one"]);
}

fn a_coding_that_is_not_known_is_415(gateway: &Gateway) {
    for coding in ["br", "compress", "snappy", "aes128gcm", "gzip, rot13"] {
        let headers = [("Content-Type", "text/plain"), ("Content-Encoding", coding)];
        gateway.post("/stations/unknown-coding/produce/single", &headers, b"x").is_error(415);
    }
}

fn a_bomb_is_413(gateway: &Gateway) {
    let bomb = compressed("gzip", &vec![b' '; 80 * 1_024 * 1_024]);
    assert!(bomb.len() < 200_000, "a bomb: {}", bomb.len());
    for route in ["single", "batch"] {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
        let text = gateway.post(&format!("/stations/bomb/produce/{route}"), &headers, &bomb).is_error(413);
        assert!(text.contains("67108864"), "which limit: {text}");
    }
}

fn a_chunked_body_is_a_body(gateway: &Gateway) {
    let station = unique("chunked");
    let mut http = crate::support::http::Http::connect(gateway.address());
    let head = format!(
        "POST /stations/{station}/produce/single HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n\
         Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        gateway.token()
    );
    http.send(head.as_bytes());
    for chunk in ["5\r\nHello\r\n", "1;name=\"value\"\r\n \r\n", "5\r\nWorld\r\n", "0\r\nX-Trailer: x\r\n\r\n"] {
        http.send(chunk.as_bytes());
    }
    http.response().is_json(200, OK);
    http.is_alive();
    let records = stored(gateway, &station);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].text(), "Hello World");
    assert_eq!(records[0].headers.get("X-Trailer"), None, "a trailer is read and dropped");
    assert_eq!(records[0].headers.get("Transfer-Encoding"), None);
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
