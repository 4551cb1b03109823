//! The registry under `kill -9`: whatever a write had come to, what loads afterwards is what was acknowledged.

use crate::support::{
    admin::{api, done},
    alone,
    gateway::Gateway,
    report,
    setup::{Backend, Setup},
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

on_setups!(
    local_epoll LOCAL_EPOLL, broker_io_uring NATS_IO_URING => [a_registry_loads_after_kill_9_at_any_point_of_a_write]
);
on_setups!(
    local_io_uring LOCAL_IO_URING, nats_epoll NATS_EPOLL => [what_was_said_of_a_station_outlives_a_restart]
);

const CYCLES: u64 = 6;

fn a_registry_loads_after_kill_9_at_any_point_of_a_write(setup: Setup) {
    let _turn = alone();
    let mut gateway = Gateway::start(setup);
    let mut versions = 0;
    for cycle in 0..CYCLES {
        let acknowledged = AtomicU64::new(versions);
        let attempted = AtomicU64::new(versions);
        // Versions are added one after the other until the gateway (or its broker) is killed under them.
        let reached = thread::scope(|scope| {
            let adder = scope.spawn(|| add_versions(&gateway, &acknowledged, &attempted));
            while acknowledged.load(Ordering::SeqCst) < versions + 2 {
                assert!(!adder.is_finished(), "{:?}", adder.join());
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(3 * cycle));
            kill(&gateway);
            adder.join().unwrap();
            (acknowledged.load(Ordering::SeqCst), attempted.load(Ordering::SeqCst))
        });
        gateway = restarted(gateway);
        let schema = api(&gateway, "GET", "/schemas/growing", None);
        assert_eq!(schema.status, 200, "{}", schema.text());
        let there = schema.json()["versions"].as_array().unwrap().clone();
        let count = there.len() as u64;
        assert!((reached.0..=reached.1).contains(&count), "cycle {cycle}: {count} versions are there, of {reached:?}");
        for (index, version) in there.iter().enumerate() {
            assert_eq!(version["schema"], text(index as u64 + 1), "whole, and in its place");
        }
        versions = count;
        assert!(gateway.metrics().contains("sluicegate_registry_documents_refused 0"), "everything loads");
    }
    report(&format!("{setup:?}: {CYCLES} kills, {versions} versions added, none lost, none torn"));
}

/// A schema that differs from version to version, of some size.
fn text(version: u64) -> String {
    json!({"title": format!("version {version}"), "description": "x".repeat(4_000), "type": "object"}).to_string()
}

fn add_versions(gateway: &Gateway, acknowledged: &AtomicU64, attempted: &AtomicU64) {
    loop {
        let version = acknowledged.load(Ordering::SeqCst) + 1;
        attempted.store(version, Ordering::SeqCst);
        let body = json!({"name": "growing", "type": "json", "schema": text(version)});
        let Ok(response) = std::panic::catch_unwind(|| api(gateway, "POST", "/schemas", Some(&body))) else { return };
        match response.status {
            201 => acknowledged.store(version, Ordering::SeqCst),
            503 => return,
            other => panic!("{other}: {}", response.text()),
        }
    }
}

/// Kills what keeps the registry.
fn kill(gateway: &Gateway) {
    match gateway.setup().backend {
        Backend::Local => gateway.process().signal("KILL"),
        Backend::Nats => gateway.nats().signal("KILL"),
    }
}

fn restarted(mut gateway: Gateway) -> Gateway {
    if gateway.setup().backend == Backend::Local {
        gateway.restart();
    } else {
        gateway.nats_mut().kill9();
        gateway.nats_mut().restart();
        gateway.wait_ready();
    }
    gateway
}

fn what_was_said_of_a_station_outlives_a_restart(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    crate::support::admin::add_schema(&gateway, "kept", "json", r#"{"type":"integer"}"#, &[]);
    crate::support::admin::add_schema(&gateway, "kept", "json", r#"{"type":"string"}"#, &[]);
    done(
        &gateway,
        &["station", "create", "lasting", "--partitions", "2", "--retention-age", "7d", "--storage", "file"],
        "",
    );
    done(&gateway, &["station", "attach", "lasting", "--schema", "kept"], "");
    done(&gateway, &["schema", "activate", "kept", "2"], "");
    let change = json!({"idempotency_window_ms": 60_000, "retention_records": 1_000});
    let changed = api(&gateway, "PATCH", "/stations/lasting", Some(&change));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let view = |gateway: &Gateway| -> Value { api(gateway, "GET", "/stations/lasting", None).json() };
    let before = view(&gateway);
    assert_eq!((&before["partitions"], &before["retention_age_s"]), (&json!(2), &json!(604_800)), "{before}");
    assert_eq!((&before["idempotency_window_ms"], &before["schema"]), (&json!(60_000), &json!("kept")));
    gateway.kill9();
    gateway.restart();
    assert_eq!(view(&gateway), before);
    gateway.single("lasting", "application/json", b"\"text\"").is_json(200, "{\"error\":null,\"success\":true}");
    gateway.single("lasting", "application/json", b"1").is_error(400);
}
