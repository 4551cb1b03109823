//! What may be stored is published again only while the station still knows its id: stations of a short duplicate window, and
//! answers that come after it, or not at all.

use crate::support::{
    PATIENCE, admin,
    broker::Broker,
    cluster::Cluster,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    nats::{NatsServer, version_line},
    proxy::Proxy,
    readback::stream_of,
    setup::Setup,
    unique,
};
use std::{thread, time::Duration};

mod alone {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        what_was_stored_on_a_lost_connection_is_not_stored_again_once_its_id_is_forgotten,
    ]);
}

/// Far longer than the window: the broker looks by a timer which ids to forget.
const PAST_THE_WINDOW: Duration = Duration::from_millis(1_600);

const OK: &str = "{\"error\":null,\"success\":true}";

/// One way to send records with an id: what the path ends in, the preference, the body, and how many records it has.
type Form = (&'static str, &'static str, &'static str, u64);

fn forms() -> &'static [Form] {
    const ALL: [Form; 3] = [
        ("single", "handling=lenient", "1", 1),
        ("batch", "handling=lenient", "[1,2,3]", 3),
        ("batch", "handling=strict", "[1,2,3]", 3),
    ];
    // An older broker knows no atomic batches.
    if version_line().contains("v2.10.") { &ALL[..2] } else { &ALL }
}

/// A station and how records are sent to it.
struct Line {
    station: String,
    form: Form,
    is_short: bool,
}

/// For each form a station of a short window, and one whose window is the usual one. The gateway knows them: each has a record.
fn lines(gateway: &Gateway) -> Vec<Line> {
    let both = forms().iter().flat_map(|form| [(*form, true), (*form, false)]);
    let line = |(form, is_short)| {
        let station = unique("window");
        let window = if is_short { "500ms" } else { "2m" };
        admin::done(gateway, &["station", "create", &station, "--idempotency-window", window], "");
        gateway.single(&station, "text/plain", b"first").is_json(200, OK);
        Line { station, form, is_short }
    };
    both.map(line).collect()
}

impl Line {
    fn send(&self, gateway: &Gateway) -> Http {
        let (path, preference, body, _) = self.form;
        let path = format!("/stations/{}/produce/{path}", self.station);
        let headers = [("Content-Type", "application/json"), ("Prefer", preference), ("Idempotency-Key", "sent once")];
        let mut http = Http::connect(gateway.address());
        http.send(&gateway.authorized("POST", &path, &headers, body.as_bytes()));
        http
    }

    /// How many records there are beside the first.
    fn stored(&self, broker: &mut Broker) -> u64 {
        broker.count(&stream_of(&self.station)) - 1
    }

    /// Waits until the broker has its records.
    fn wait_until_stored(&self, broker: &mut Broker) {
        eventually("it is stored", PATIENCE, || (self.stored(broker) >= self.form.3).then_some(()));
    }

    /// Whatever was answered, the records are there once; and where the id is known for long they were published again.
    fn is_stored_once(&self, broker: &mut Broker, response: &Response) {
        let (form, preference, _, count) = self.form;
        let what = format!("{form} {preference} short: {} {}", self.is_short, response.text());
        assert_eq!(self.stored(broker), count, "{what}");
        if !self.is_short {
            assert_eq!(response.status, 200, "{what}");
        } else if response.status != 200 {
            let text = response.is_retryable(503);
            assert!(text.contains("may be stored or not"), "{text}");
        }
    }
}

fn what_was_stored_on_a_lost_connection_is_not_stored_again_once_its_id_is_forgotten(setup: Setup) {
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let gateway = Plan::new(setup).nats_url(&proxy.url()).shards(1).start();
    let (mut broker, lines) = (Broker::connect(&server), lines(&gateway));
    proxy.swallow_answers();
    let mut waiting: Vec<Http> = lines.iter().map(|line| line.send(&gateway)).collect();
    for line in &lines {
        line.wait_until_stored(&mut broker);
    }
    thread::sleep(PAST_THE_WINDOW);
    proxy.cut(false);
    for (line, http) in lines.iter().zip(&mut waiting) {
        let response = http.response();
        line.is_stored_once(&mut broker, &response);
        assert!(!line.is_short || response.status == 503, "nobody has said that it is stored: {}", response.text());
    }
}

#[test]
fn what_a_cluster_stored_and_answers_after_the_window_is_stored_once() {
    let cluster = Cluster::start_behind_proxies();
    let gateway = Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).shards(1).start();
    let (mut broker, lines) = (cluster.broker(), lines(&gateway));
    (0..3).for_each(|index| cluster.client_link(index).keep_answers_back());
    let mut waiting: Vec<Http> = lines.iter().map(|line| line.send(&gateway)).collect();
    for line in &lines {
        line.wait_until_stored(&mut broker);
    }
    // Longer than an answer is waited for before a record is published again; the line is not given up so soon.
    thread::sleep(PAST_THE_WINDOW + Duration::from_millis(600));
    (0..3).for_each(|index| cluster.client_link(index).let_answers_go());
    for (line, http) in lines.iter().zip(&mut waiting) {
        let response = http.response();
        line.is_stored_once(&mut broker, &response);
    }
}
