//! What of a request is stored beside its records: values that every consumer can read, no credential, what webhooks are signed with,
//! the media type of what is there, and ids that meet no other's (ADR 19).

use crate::support::{
    PATIENCE,
    admin::{add_schema, api, dead_letters, done, station_with_schema},
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    nats::NatsServer,
    readback::{Stored, drain, stored, stream_of},
    setup::Setup,
    unique,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

on_every_setup!(
    a_value_that_is_not_utf8_is_stored_as_text,
    r2_c15_ids_that_clients_chose_differently_never_meet,
    r2_dead_letters_of_a_batch_and_of_a_single_record_do_not_meet,
    r3_f5_credentials_that_proxies_add_are_not_stored,
    r15_what_a_webhook_is_signed_with_is_handed_out,
    r15_the_id_of_a_webhook_is_its_message_id_under_each_name,
    r19_records_of_a_cloudevents_batch_are_events,
    r14_what_became_protobuf_says_so,
    f14_a_repeated_field_is_a_list,
    media_types_that_senders_use_are_taken,
);

on_setups!(
    local_epoll_own LOCAL_EPOLL, nats_epoll_own NATS_EPOLL => [
        r3_f5_what_the_configuration_names_in_full_is_stored,
        r2_a_replayed_record_has_an_id_that_no_client_can_send,
        r14_a_replayed_record_that_became_protobuf_says_so,
    ]
);

on_setups!(
    nats_io_uring_own NATS_IO_URING, nats_epoll_broker NATS_EPOLL => [
        another_consumer_reads_every_header_that_a_client_can_send,
        raw_bytes_that_others_stored_do_not_break_a_consume_call,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Values as they are sent, and as they are stored.
const VALUES: [(&[u8], &str); 9] = [
    (b"plain", "plain"),
    (b"", ""),
    (b"J\xfcrgen", "Jürgen"),
    ("Jürgen ✓".as_bytes(), "Jürgen ✓"),
    (b"\xff\xfe\xa9", "ÿþ©"),
    (b"\x93quoted\x94", "%93quoted%94"),
    (b"cut \xe2\x9c", "cut â%9C"),
    (b"\xc2\x85next\xe2\x80\xa8line", "%C2%85next%E2%80%A8line"),
    (b"a\tb 100%41", "a\tb 100%41"),
];

/// Posts to a produce route with field lines of any bytes.
fn post_raw(gateway: &Gateway, path: &str, fields: &[(&str, &[u8])], body: &[u8]) -> Response {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n",
        gateway.token(),
        body.len()
    )
    .into_bytes();
    for (name, value) in fields {
        head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let mut http = Http::connect(gateway.address());
    http.send(&[&head, &b"\r\n"[..], body].concat());
    http.response()
}

/// Every value of [`VALUES`] in a field of its own.
fn fields_of_values() -> Vec<(String, &'static [u8])> {
    VALUES.iter().enumerate().map(|(number, (sent, _))| (format!("X-V-{number}"), *sent)).collect()
}

fn expected_values() -> BTreeMap<String, String> {
    VALUES.iter().enumerate().map(|(number, (_, stored))| (format!("X-V-{number}"), (*stored).to_owned())).collect()
}

/// The headers of the messages of a station, as consume shows them.
fn consumed(gateway: &Gateway, station: &str) -> Vec<BTreeMap<String, String>> {
    drain(gateway, station, &unique("g")).into_iter().map(|record| record.headers).collect()
}

fn a_value_that_is_not_utf8_is_stored_as_text(gateway: &Gateway) {
    let station = unique("values");
    let fields = fields_of_values();
    let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    post_raw(gateway, &format!("/stations/{station}/produce/single"), &fields, b"1").is_json(200, OK);
    post_raw(gateway, &format!("/stations/{station}/produce/batch"), &fields, b"[1]").is_json(200, OK);
    assert_eq!(consumed(gateway, &station), [expected_values(), expected_values()]);
    // What the protocol does not allow in a field never gets so far.
    for value in [&b"a\x00b"[..], b"a\rb", b"a\x7fb", b"a\x1bb"] {
        let response = post_raw(gateway, &format!("/stations/{station}/produce/single"), &[("X-A", value)], b"1");
        assert_eq!(response.status, 400, "{value:?}: {}", response.text());
    }
}

/// A client of the broker's own reads the stream: at a header block that is not UTF-8 it would give up its connection, for ever.
fn another_consumer_reads_every_header_that_a_client_can_send(setup: Setup) {
    let gateway = Gateway::start(setup);
    let fields = fields_of_values();
    let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let ids: [(&str, &[u8]); 1] = [("Idempotency-Key", b"an id % \"quoted\"")];
    let path = "/stations/read/produce/batch";
    post_raw(&gateway, path, &[&fields[..], &ids, &[("X-!#$%&'*+-.^_`|~", b"a token")]].concat(), b"[1,2]")
        .is_json(200, OK);
    post_raw(&gateway, path, &[], b"[\"the last\"]").is_json(200, OK);
    let read = read_by_async_nats(gateway.nats(), &stream_of("read"), 3);
    assert_eq!(read.iter().map(|(_, payload)| payload.as_str()).collect::<Vec<_>>(), ["1", "2", "\"the last\""]);
    for (number, (headers, _)) in read.iter().take(2).enumerate() {
        let values: BTreeMap<String, String> = headers
            .iter()
            .filter(|(name, _)| name.starts_with("X-V-"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        assert_eq!(values, expected_values());
        assert_eq!(headers.get("X-!#$%&'*+-.^_`|~").map(String::as_str), Some("a token"));
        assert_eq!(headers["Nats-Msg-Id"], format!("an%20id%20%%20\"quoted\" {number}"));
    }
    // And its dead letters, whose reason has the client's words in it.
    station_with_schema(&gateway, "letters", "json", r#"{"type":"object","required":["n"]}"#, &[]);
    let body = "{\"\u{85}\\r\\n\u{2028}é\":1}";
    post_raw(&gateway, "/stations/letters/produce/single", &fields, body.as_bytes()).is_error(400);
    let streams = {
        let mut broker = crate::support::broker::Broker::connect(gateway.nats());
        broker.try_api("STREAM.NAMES", &json!({}))["streams"].clone()
    };
    let letters: Vec<&str> = streams
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| name.contains("letters") && *name != "letters")
        .collect();
    let [letters] = letters[..] else { panic!("{streams}") };
    let read = read_by_async_nats(gateway.nats(), letters, 1);
    assert_eq!(read[0].1, body);
    assert!(read[0].0["Sluicegate-Error"].contains("required property"), "{:?}", read[0].0);
    assert_eq!(read[0].0["X-V-2"], "Jürgen");
}

/// Headers and payloads of the first messages of a stream.
fn read_by_async_nats(server: &NatsServer, stream: &str, count: usize) -> Vec<(BTreeMap<String, String>, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = server.url();
    let read = async {
        let client = async_nats::connect(&url).await.unwrap();
        let stream = async_nats::jetstream::new(client).get_stream(stream).await.unwrap();
        let config = async_nats::jetstream::consumer::pull::Config::default();
        let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        messages.take(count).map(Result::unwrap).collect::<Vec<_>>().await
    };
    let messages = runtime.block_on(async { tokio::time::timeout(PATIENCE.min(Duration::from_secs(20)), read).await });
    let messages = messages.expect("a consumer of the broker's own reads every message");
    let shown = |message: &async_nats::jetstream::Message| {
        let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
        let headers = headers.map(|(name, values)| (name.to_string(), values[0].to_string())).collect();
        (headers, String::from_utf8(message.payload.to_vec()).unwrap())
    };
    messages.iter().map(shown).collect()
}

/// As an earlier version stored them, or a publisher of the broker's own.
fn raw_bytes_that_others_stored_do_not_break_a_consume_call(setup: Setup) {
    let gateway = Gateway::start(setup);
    gateway.batch("earlier", "[0]").is_json(200, OK);
    let block = b"NATS/1.0\r\nX-Name: J\xfcrgen\r\nX-Quoted: \x93\r\nX-\xff: 1\r\nno colon\r\n\r\n";
    let mut socket = TcpStream::connect(gateway.nats().address()).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let hello = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
    let publish = format!("HPUB earlier {} {}\r\n", block.len(), block.len() + 1);
    socket.write_all(&[&hello[..], publish.as_bytes(), block, b"1\r\nPING\r\n"].concat()).unwrap();
    let mut line = String::new();
    while line.trim_end() != "PONG" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the broker hung up");
    }
    gateway.batch("earlier", "[2]").is_json(200, OK);
    let records = eventually("three are there", PATIENCE, || {
        let records = drain(&gateway, "earlier", &unique("g"));
        (records.len() == 3).then_some(records)
    });
    assert_eq!(records.iter().map(Stored::text).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(records[1].headers["X-Name"], "Jürgen");
    assert_eq!(records[1].headers["X-Quoted"], "%93");
}

/// Posts with an id, and says of each record whether it was known.
fn known(gateway: &Gateway, station: &str, route: &str, (name, id): (&str, &str), body: &str) -> Vec<bool> {
    let headers = [JSON, ("Prefer", "return=representation"), (name, id)];
    let response = gateway.post(&format!("/stations/{station}/produce/{route}"), &headers, body.as_bytes());
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    answer["receipts"].as_array().unwrap().iter().map(|receipt| receipt["duplicate"].as_bool().unwrap()).collect()
}

fn r2_c15_ids_that_clients_chose_differently_never_meet(gateway: &Gateway) {
    let station = unique("ids");
    let single = |id: &str| known(gateway, &station, "single", ("Idempotency-Key", id), "1");
    let batch = |id: &str, body: &str| known(gateway, &station, "batch", ("Idempotency-Key", id), body);
    assert_eq!(batch("order", "[0,1,2,3,4,5,6,7]"), [false; 8]);
    // As the broker and consumers show the ids of the batch, and in every form that was or might be one.
    let shown: Vec<String> =
        consumed(gateway, &station).iter().filter_map(|headers| headers.get("Nats-Msg-Id").cloned()).collect();
    let guesses = [
        "order",
        "order-7",
        "order 7",
        "order%207",
        "order%25207",
        "order/7",
        "order:7",
        "order.7",
        "order#7",
        "order_7",
        "order,7",
    ];
    for id in guesses.iter().copied().chain(shown.iter().map(String::as_str).filter(|id| *id != "order 7")) {
        assert_eq!(single(id), [false], "{id} is another id");
        assert_eq!(single(id), [true], "{id} is known when it is sent again");
    }
    assert_eq!(batch("order", "[0,1,2,3,4,5,6,7]"), [true; 8], "the same request is recognised");
    // The other way round.
    assert_eq!(single("X-0"), [false]);
    assert_eq!(single("X 0"), [false]);
    assert_eq!(batch("X", "[\"a\"]"), [false]);
    assert_eq!(batch("X-0", "[\"b\"]"), [false], "nor those of two batches");
    assert_eq!(batch("X 0", "[\"b\"]"), [false]);
    assert_eq!(single("X-0-0"), [false]);
    // All or nothing, where the store can.
    let headers = [JSON, ("Prefer", "handling=strict"), ("Idempotency-Key", "whole")];
    let path = format!("/stations/{station}/produce/batch");
    let whole = gateway.post(&path, &headers, b"[1,2]");
    if whole.status == 200 {
        assert_eq!(single("whole-1"), [false]);
        gateway.post(&path, &headers, b"[1,2]").is_json(200, OK);
        assert_eq!(batch("whole", "[1,2,3]"), [true, true, false]);
    }
}

fn r2_dead_letters_of_a_batch_and_of_a_single_record_do_not_meet(gateway: &Gateway) {
    let station = unique("ids-of-letters");
    station_with_schema(gateway, &station, "json", r#"{"type":"integer"}"#, &[]);
    let post = |route: &str, id: &str, body: &str| {
        let path = format!("/stations/{station}/produce/{route}");
        gateway.post(&path, &[JSON, ("Idempotency-Key", id)], body.as_bytes()).status
    };
    for _ in 0..2 {
        assert_eq!(post("batch", "k", r#"[0,"batch"]"#), 400);
        assert_eq!(post("single", "k-1", r#""single""#), 400);
        assert_eq!(post("single", "k 1", r#""blank""#), 400);
    }
    let letters = dead_letters(gateway, &station);
    let messages: Vec<&str> = letters.iter().map(|letter| letter["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["\"batch\"", "\"single\"", "\"blank\""]);
}

fn r2_a_replayed_record_has_an_id_that_no_client_can_send(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "again", "json", r#"{"type":"integer"}"#, &[]);
    gateway.single("again", "application/json", b"\"x\"").is_error(400);
    done(&gateway, &["station", "detach", "again"], "");
    let report = api(&gateway, "POST", "/stations/again/dead-letters/replay", Some(&json!({}))).json();
    assert_eq!(report["replayed"], 1, "{report}");
    let shown = consumed(&gateway, "again")[0].get("Nats-Msg-Id").cloned().expect("an id");
    for id in [shown.replace(' ', "-"), shown] {
        assert_eq!(known(&gateway, "again", "single", ("Idempotency-Key", &id), "1"), [false], "{id}");
    }
}

/// What proxies, gateways and agents add to a request: each value is a secret, or says where a client is.
const NOT_STORED: &str = "X-Functions-Key X-Goog-Iap-Jwt-Assertion X-Apikey X-Secret-Key X-Password X-Forwarded-Authorization
    X-Original-Authorization X-Jwt X-Jwt-Assertion X-Amzn-Oidc-Data X-Private-Key X-Session-Id X-Cookie X-Bearer X-Ms-Client-Principal
    X-Otp X-Ms-Token-Aad-Id-Token X-Serverless-Authorization X-Pomerium-Jwt-Assertion X-Auth-Request-Access-Token X-Forwarded-Access-Token
    X-Vault-Token X-Okta-Session X-CSRFToken X-XSRF-TOKEN X_API_KEY X-ApiKey X-AuthToken X-Rapidapi-Proxy-Secret X-Forwarded-Client-Cert
    X-Forwarded-For X-Real-IP Forwarded True-Client-IP CF-Connecting-IP X-Envoy-External-Address X-Forwarded-User X-Azure-ClientIP
    Cf-Access-Jwt-Assertion Ocp-Apim-Subscription-Key Sm-Apikey Webhook-Secret ce-apikey";

const STORED: &str =
    "X-Request-Id X-Github-Event X-Debezium-Key X-Token-Count X-Author X-Forwarded-Proto X-Idempotency-Key X-Event-Key
    X-Hub-Signature-256 X-Amzn-Trace-Id ce-partitionkey X-Keyboard";

fn r3_f5_credentials_that_proxies_add_are_not_stored(gateway: &Gateway) {
    let station = unique("secrets");
    let mut headers: Vec<(&str, &str)> =
        NOT_STORED.split_whitespace().map(|name| (name, "must-not-be-stored")).collect();
    headers.extend(STORED.split_whitespace().map(|name| (name, "kept")));
    // A proxy's note of the URL, with the token that the client put into its query.
    let url = format!("/stations/{station}/produce/single?authorization={}", gateway.token());
    let bearer = format!("Bearer {}", gateway.token());
    headers.extend([("X-Original-URL", url.as_str()), ("X-Anything", &bearer), ("X-Something", gateway.token())]);
    gateway.post(&format!("/stations/{station}/produce/single"), &headers, b"1").is_json(200, OK);
    let records = consumed(gateway, &station);
    let names: BTreeSet<String> = records[0].keys().map(|name| name.to_ascii_lowercase()).collect();
    let expect: BTreeSet<String> = STORED.split_whitespace().map(str::to_ascii_lowercase).collect();
    assert_eq!(names, expect);
    assert!(records[0].values().all(|value| value == "kept"), "{records:?}");
}

fn r3_f5_what_the_configuration_names_in_full_is_stored(setup: Setup) {
    let allow = "[stored_headers]\nallow = [\"x-*\", \"X-Gitlab-Token\", \"x-forwarded-for\", \"forwarded\"]";
    let gateway = Plan::new(setup).config(allow).start();
    let headers = [
        ("X-Gitlab-Token", "1"),
        ("X-Forwarded-For", "2"),
        ("Forwarded", "3"),
        ("X-Api-Key", "no"),
        ("X-Real-IP", "no"),
        ("Content-Type", "text/plain"),
    ];
    gateway.post("/stations/named/produce/single", &headers, b"1").is_json(200, OK);
    let stored = consumed(&gateway, "named").remove(0);
    let expect = [("Forwarded", "3"), ("X-Forwarded-For", "2"), ("X-Gitlab-Token", "1")];
    assert_eq!(stored, expect.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

fn r15_what_a_webhook_is_signed_with_is_handed_out(gateway: &Gateway) {
    let station = unique("webhooks");
    let signed = [
        ("webhook-id", "m1"),
        ("webhook-timestamp", "1674087231"),
        ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
        ("svix-id", "m1"),
        ("svix-timestamp", "1674087231"),
        ("svix-signature", "v1,abc v1a,def"),
        ("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
        ("Stripe-Signature", "t=1492774577,v1=5257a869,v0=6ffbb59b"),
        ("X-Shopify-Hmac-Sha256", "abc="),
        ("X-Slack-Signature", "v0=a2114d57"),
        ("X-Slack-Request-Timestamp", "1531420618"),
        ("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("X-Twilio-Email-Event-Webhook-Signature", "MFkw"),
        ("X-Square-HmacSha256-Signature", "abc="),
        ("X-Zm-Signature", "v0=a05d83"),
        ("X-Signature-Ed25519", "00ff"),
        ("Paypal-Transmission-Id", "69cd13f0"),
        ("Paypal-Transmission-Time", "2016-02-18T20:01:35Z"),
        ("Paypal-Transmission-Sig", "abc=="),
        ("Paypal-Cert-Url", "https://api.paypal.com/v1/notifications/certs/CERT-1"),
        ("Paypal-Auth-Algo", "SHA256withRSA"),
        ("Linear-Signature", "766e1d90"),
        ("Linear-Timestamp", "1"),
        ("Sentry-Hook-Signature", "abc"),
        ("Sentry-Hook-Timestamp", "1"),
        ("Twitch-Eventsub-Message-Id", "e76c6bd4"),
        ("Twitch-Eventsub-Message-Timestamp", "2019-11-16T10:11:12.634234626Z"),
        ("Twitch-Eventsub-Message-Signature", "sha256=abc"),
        ("Paddle-Signature", "ts=1671552777;h1=eb4d0dc8"),
        ("Typeform-Signature", "sha256=abc"),
        ("Calendly-Webhook-Signature", "t=1,v1=abc"),
        ("Box-Signature-Primary", "abc="),
        ("Box-Delivery-Timestamp", "2020-01-01T00:00:00-07:00"),
        ("Telnyx-Signature-Ed25519", "abc="),
        ("Telnyx-Timestamp", "1"),
        ("Messagebird-Signature-Jwt", "eyJhbGciOiJIUzI1NiJ9.eyJ1cmxfaGFzaCI6IjEifQ.c2lnbmF0dXJl"),
        ("Plaid-Verification", "eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOjF9.c2lnbmF0dXJl"),
        ("Signature-Input", "sig1=(\"@method\");created=1618884473"),
        ("Signature", "sig1=:abc=:"),
        ("Content-Digest", "sha-256=:abc=:"),
    ];
    gateway.post(&format!("/stations/{station}/produce/single"), &signed, b"1").is_json(200, OK);
    let mut stored = consumed(gateway, &station).remove(0);
    assert_eq!(stored.remove("Nats-Msg-Id").as_deref(), Some("m1"));
    let lower = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
    let stored: BTreeMap<_, _> = stored.iter().map(|(name, value)| lower((name, value))).collect();
    assert_eq!(stored, signed.iter().copied().map(lower).collect());
}

fn r15_the_id_of_a_webhook_is_its_message_id_under_each_name(gateway: &Gateway) {
    let station = unique("webhook-ids");
    for name in ["webhook-id", "Svix-Id"] {
        for expect in [false, true] {
            assert_eq!(known(gateway, &station, "single", (name, &format!("of-{name}")), "1"), [expect], "{name}");
        }
    }
}

fn r19_records_of_a_cloudevents_batch_are_events(gateway: &Gateway) {
    let station = unique("events");
    let event = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t"}"#;
    for (route, sent, stored) in [
        ("batch", "application/cloudevents-batch+json", "application/cloudevents+json"),
        ("batch", "application/cloudevents-batch+json; charset=UTF-8", "application/cloudevents+json; charset=UTF-8"),
        ("batch", "application/reports+json", "application/json"),
        ("batch", "application/json", "application/json"),
        ("single", "application/cloudevents-batch+json", "application/cloudevents-batch+json"),
    ] {
        let body = format!("[{event},{event}]");
        let path = format!("/stations/{station}/produce/{route}");
        gateway.post(&path, &[("Content-Type", sent)], body.as_bytes()).is_json(200, OK);
        let last = consumed(gateway, &station).pop().unwrap();
        assert_eq!(last.get("Content-Type").map(String::as_str), Some(stored), "{route} of {sent}");
    }
}

const PROTO: &str = "syntax = \"proto3\"; message M { string a = 1; }";

fn r14_what_became_protobuf_says_so(gateway: &Gateway) {
    let station = unique("typed");
    station_with_schema(gateway, &station, "protobuf", PROTO, &[]);
    let wire = b"\x0a\x01b";
    let single = format!("/stations/{station}/produce/single");
    for media_type in ["application/json", "application/vnd.x+json; v=1", "text/plain"] {
        gateway.post(&single, &[("X-A", "1"), ("Content-Type", media_type)], br#"{"a":"b"}"#).is_json(200, OK);
    }
    gateway.post(&single, &[("X-A", "1")], br#"{"a":"b"}"#).is_json(200, OK);
    let batch = [("X-A", "1"), ("Content-Type", "application/json")];
    gateway.post(&format!("/stations/{station}/produce/batch"), &batch, br#"[{"a":"b"},{"a":"b"}]"#).is_json(200, OK);
    for (number, record) in stored(gateway, &station).iter().enumerate() {
        assert_eq!(record.payload, wire, "{number}");
        let expect = [("Content-Type", "application/x-protobuf"), ("X-A", "1")];
        assert_eq!(record.headers, expect.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), "{number}");
    }
    // What came so keeps the type that it came with.
    for media_type in ["application/x-protobuf; messageType=M", "application/protobuf", "application/octet-stream"] {
        gateway.single(&station, media_type, wire).is_json(200, OK);
        let last = stored(gateway, &station).pop().unwrap();
        assert_eq!(last.headers.get("Content-Type").map(String::as_str), Some(media_type));
    }
    // And so does a dead letter, which is as it was posted.
    gateway.single(&station, "application/json", br#"{"a":1}"#).is_error(400);
    assert_eq!(dead_letters(gateway, &station)[0]["headers"]["Content-Type"], "application/json");
}

fn r14_a_replayed_record_that_became_protobuf_says_so(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "mended", "protobuf", PROTO, &[]);
    let headers = [("X-A", "1"), ("Content-Type", "application/json")];
    gateway.post("/stations/mended/produce/single", &headers, br#"{"c":"b"}"#).is_error(400);
    let wider = "syntax = \"proto3\"; message M { string a = 1; string c = 2; }";
    add_schema(&gateway, "mended-schema", "protobuf", wider, &[]);
    done(&gateway, &["schema", "activate", "mended-schema", "2"], "");
    let report = api(&gateway, "POST", "/stations/mended/dead-letters/replay", Some(&json!({}))).json();
    assert_eq!(report["replayed"], 1, "{report}");
    let record = stored(&gateway, "mended").remove(0);
    assert_eq!(record.payload, b"\x12\x01b");
    assert_eq!(record.headers.get("Content-Type").map(String::as_str), Some("application/x-protobuf"));
    assert_eq!(record.headers.get("X-A").map(String::as_str), Some("1"));
}

fn f14_a_repeated_field_is_a_list(gateway: &Gateway) {
    let station = unique("lists");
    let headers = [("X-Tag", "1"), ("X-Other", "o"), ("x-tag", "2"), ("X-TAG", "3, 4")];
    gateway.post(&format!("/stations/{station}/produce/single"), &headers, b"1").is_json(200, OK);
    let expect = [("X-Other", "o"), ("X-Tag", "1, 2, 3, 4")];
    assert_eq!(consumed(gateway, &station), [expect.map(|(name, value)| (name.to_owned(), value.to_owned())).into()]);
}

fn media_types_that_senders_use_are_taken(gateway: &Gateway) {
    let station = unique("sent-types");
    station_with_schema(gateway, &station, "protobuf", PROTO, &[]);
    for media_type in ["application/protobuf", "application/vnd.google.protobuf", "application/x-protobuf"] {
        gateway.single(&station, media_type, b"\x0a\x01b").is_json(200, OK);
        gateway.single(&station, media_type, br#"{"a":"b"}"#).is_error(400);
    }
    let plain = unique("plain");
    for media_type in ["application/avro", "avro/binary", "avro/bytes", "application/vnd.apache.avro+binary"] {
        gateway.single(&plain, media_type, b"\x02\x06foo").is_json(200, OK);
        let path = format!("/stations/{plain}/produce/batch");
        gateway.post(&path, &[("Content-Type", media_type)], b"[1]").is_error(415);
    }
    for (route, body) in [("single", "{}"), ("batch", "[{}]")] {
        let path = format!("/stations/{plain}/produce/{route}");
        gateway.post(&path, &[("Content-Type", "application/csp-report")], body.as_bytes()).is_json(200, OK);
    }
}
