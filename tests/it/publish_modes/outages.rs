//! Batches whose answers do not come, or come late: no success, nothing twice, nothing out of place.

use super::{OK, PATIENCE, WAYS, Way, array, count_becomes, create_full_at, keyed, purge, send_batch, stored, strings};
use crate::support::{eventually, gateway::Gateway, nats::NatsServer, proxy::Proxy, setup::Setup};

on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
    a_broker_killed_before_it_answers_is_503_and_serves_again_when_it_is_back,
    a_batch_cut_off_in_the_middle_is_503_and_no_record_is_out_of_place,
    a_batch_with_ids_that_was_cut_off_is_stored_once_and_in_order,
    late_answers_are_not_taken_for_those_of_later_batches,
]);

/// A gateway that publishes so, behind a proxy, with a station that both know; it holds one record.
fn behind_proxy(setup: Setup, way: Way) -> (Gateway, NatsServer, Proxy) {
    let server = way.server(setup);
    let proxy = Proxy::start(server.address());
    let gateway = way.gateway(setup, &proxy.url(), "ack_timeout = \"10s\"\nhold = \"5s\"");
    gateway.batch("cut", "[0]").is_json(200, OK);
    (gateway, server, proxy)
}

fn a_broker_killed_before_it_answers_is_503_and_serves_again_when_it_is_back(setup: Setup) {
    for way in WAYS {
        let (mut gateway, mut server, proxy) = behind_proxy(setup, way);
        proxy.swallow_answers();
        let mut waiting = send_batch(&gateway, "cut", &[], &array(1..301));
        count_becomes(&server, "cut", 301);
        server.kill9();
        proxy.cut(false);
        waiting.response().is_retryable(503);
        server.restart();
        gateway.wait_ready();
        gateway.batch("cut", &array(301..400)).is_json(200, OK);
        gateway.batch("cut", "[400]").is_json(200, OK);
        assert_eq!(stored(&server, "cut"), strings(0..401), "{way:?}");
    }
}

fn a_batch_cut_off_in_the_middle_is_503_and_no_record_is_out_of_place(setup: Setup) {
    for way in WAYS {
        let (mut gateway, server, proxy) = behind_proxy(setup, way);
        proxy.cut_after(20_000);
        gateway.batch("cut", &array(1..901)).is_retryable(503);
        gateway.wait_ready();
        gateway.batch("cut", "[1001,1002]").is_json(200, OK);
        let texts = stored(&server, "cut");
        let cut_off = u32::try_from(texts.len() - 2).unwrap();
        assert!(cut_off < 901, "{way:?}: it was not cut off");
        assert_eq!(texts, strings((0..cut_off).chain(1_001..1_003)), "{way:?}");
        if way.is_atomic() {
            assert_eq!(cut_off, 1, "{way:?}: a batch is stored whole or not at all");
        }
    }
}

fn a_batch_with_ids_that_was_cut_off_is_stored_once_and_in_order(setup: Setup) {
    for way in WAYS {
        let (mut gateway, server, proxy) = behind_proxy(setup, way);
        proxy.cut_after(20_000);
        keyed(&gateway, "cut", "key", &array(1..901)).is_json(200, OK);
        assert_eq!(stored(&server, "cut"), strings(0..901), "{way:?}");
        // As well when it was stored, and the answer did not come.
        proxy.swallow_answers();
        let mut waiting = send_batch(&gateway, "cut", &[("Idempotency-Key", "next")], &array(901..1_201));
        count_becomes(&server, "cut", 1_201);
        proxy.cut(false);
        waiting.response().is_json(200, OK);
        gateway.wait_ready();
        for (key, numbers) in [("key", 1..901), ("next", 901..1_201)] {
            keyed(&gateway, "cut", key, &array(numbers)).is_json(200, OK);
        }
        assert_eq!(stored(&server, "cut"), strings(0..1_201), "{way:?}");
    }
}

fn late_answers_are_not_taken_for_those_of_later_batches(setup: Setup) {
    for way in WAYS {
        let server = way.server(setup);
        let proxy = Proxy::start(server.address());
        let mut broker = create_full_at(&server, "late", 3);
        let gateway = way.gateway(setup, &proxy.url(), "ack_timeout = \"7s\"\nhold = \"2s\"");
        gateway.batch("late", "[0]").is_json(200, OK);
        // The answers that come late say "stored", those of the batch after it "full"; then the other way round.
        for (late, next, status, expect) in [("[1,2]", "[3,4]", 503, 0..3), ("[5,6]", "[7,8]", 200, 7..9)] {
            proxy.keep_answers_back();
            let unknown = gateway.batch("late", late).is_retryable(503);
            let before = proxy.bytes_kept_back();
            if status == 200 {
                purge(&mut broker, "late");
            }
            let mut waiting = send_batch(&gateway, "late", &[], next);
            eventually("it is answered", PATIENCE, || (proxy.bytes_kept_back() > before).then_some(()));
            proxy.let_answers_go();
            let response = waiting.response();
            assert_eq!(response.status, status, "{way:?} {}", response.text());
            assert!(status == 200 || response.is_retryable(503) != unknown, "{way:?} {unknown}");
            assert_eq!(stored(&server, "late"), strings(expect), "{way:?}");
        }
        gateway.batch("late", "[9]").is_json(200, OK);
        gateway.batch("late", "[10,11]").is_retryable(503);
        assert_eq!(stored(&server, "late"), strings(7..10), "{way:?}");
    }
}
