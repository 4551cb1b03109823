//! What the documentation promises operators, compared with the program: the permissions that a broker has to give, and
//! the metrics that there are.

use crate::support::{
    admin::{api, dead_letters, done, station_with_schema},
    eventually,
    gateway::{Gateway, Plan},
    nats::NatsServer,
    readback::drain,
    setup::Setup,
};
use serde_json::json;
use std::time::Duration;

on_setups!(
    nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        the_documented_permissions_are_enough_for_everything,
        the_documented_permissions_are_enough_for_groups_and_for_what_is_kept_for_them,
        without_the_permissions_for_groups_records_come_and_go_and_groups_are_not_counted,
        every_metric_is_documented,
    ]
);

mod local {
    use super::*;
    on_setups!(local_epoll LOCAL_EPOLL => [every_metric_is_documented]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The block of the broker's configuration that stands in the documentation.
fn permissions() -> &'static str {
    let block = OPERATIONS.split("```text\n").find(|block| block.starts_with("authorization {")).unwrap();
    block.split("```").next().unwrap()
}

/// A gateway that may do on its broker what this says.
fn start(setup: Setup, permissions: &str) -> (NatsServer, Gateway) {
    let server = NatsServer::with_config(permissions);
    let config = "[nats]\nuser = \"gateway\"\npassword = \"change-me\"";
    let gateway = Plan::new(setup).nats_url(&server.url()).config(config).start();
    (server, gateway)
}

#[track_caller]
fn was_never_denied(gateway: &Gateway) {
    let log = gateway.process().stderr().to_lowercase();
    assert!(!log.contains("violation") && !log.contains("denied") && !log.contains("forbid"), "{log}");
}

fn the_documented_permissions_are_enough_for_everything(setup: Setup) {
    let (_server, gateway) = start(setup, permissions());
    gateway.single("orders.new", "text/plain", b"x").is_json(200, OK);
    assert_eq!(drain(&gateway, "orders.new", "g").len(), 1);
    station_with_schema(&gateway, "orders", "json", r#"{"type":"integer"}"#, &[]);
    gateway.batch("orders", "[1,\"a\",\"b\",\"c\"]");
    let letters = dead_letters(&gateway, "orders");
    assert_eq!(letters.len(), 3);
    done(&gateway, &["station", "detach", "orders"], "");
    let id = letters[0]["id"].to_string();
    done(&gateway, &["station", "dead-letters", "orders", "--replay", &id], "");
    done(&gateway, &["station", "dead-letters", "orders", "--purge", &letters[1]["id"].to_string()], "");
    done(&gateway, &["station", "dead-letters", "orders", "--purge"], "");
    assert_eq!(dead_letters(&gateway, "orders").len(), 0);
    done(&gateway, &["station", "change", "orders", "--retention-age", "3h"], "");
    done(&gateway, &["user", "add", "clerk", "--password-stdin"], "Correct-Horse-9!\n");
    done(&gateway, &["user", "remove", "clerk"], "");
    let key = done(&gateway, &["key", "create", "--produce", "orders"], "");
    done(&gateway, &["key", "revoke", key.split('_').nth(1).unwrap()], "");
    let listed = api(&gateway, "GET", "/stations", None).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    done(&gateway, &["station", "remove", "orders"], "");
    assert_eq!(api(&gateway, "GET", "/stations/orders", None).status, 404);
    was_never_denied(&gateway);
}

fn the_documented_permissions_are_enough_for_groups_and_for_what_is_kept_for_them(setup: Setup) {
    let (_server, gateway) = start(setup, permissions());
    let groups = |station: &str| {
        let listed = api(&gateway, "GET", &format!("/stations/{station}/groups"), None);
        assert_eq!(listed.status, 200, "{}", listed.text());
        let items = listed.json()["items"].as_array().unwrap().clone();
        items.iter().map(|group| group["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // On the second one, what no consumer is interested in is dropped: a consumer of the gateway keeps it for the first group.
    let acks = json!({"name": "orders.acks", "retention_acknowledged": true});
    assert_eq!(api(&gateway, "POST", "/stations", Some(&acks)).status, 201);
    for station in ["orders", "orders.acks"] {
        gateway.batch(station, "[1,2,3]").is_json(200, OK);
        assert_eq!(groups(station), Vec::<String>::new());
        assert_eq!(drain(&gateway, station, "g").len(), 3, "{station}");
        assert_eq!(groups(station), ["g"]);
    }
    eventually("the group keeps the records alone", Duration::from_secs(60), || {
        gateway.process().stderr().contains("the station's groups keep its records now").then_some(())
    });
    for station in ["orders", "orders.acks"] {
        done(&gateway, &["station", "groups", station, "--remove", "g"], "");
        assert_eq!(groups(station), Vec::<String>::new());
    }
    gateway.single("orders.acks", "text/plain", b"4").is_json(200, OK);
    assert_eq!(drain(&gateway, "orders.acks", "h").len(), 1, "kept for the next group");
    was_never_denied(&gateway);
}

fn without_the_permissions_for_groups_records_come_and_go_and_groups_are_not_counted(setup: Setup) {
    let (lines, count) = (permissions().lines(), permissions().lines().count());
    let others: Vec<&str> = lines.filter(|line| !line.contains("CONSUMER.LIST")).collect();
    assert_eq!(others.len(), count - 1);
    let (_server, gateway) = start(setup, &others.join("\n"));
    gateway.single("orders", "text/plain", b"x").is_json(200, OK);
    assert_eq!(drain(&gateway, "orders", "g").len(), 1);
    let log = gateway.process().stderr();
    assert!(log.contains("consumer groups cannot be counted") && log.contains("CONSUMER.LIST.orders"), "{log}");
    for (method, path) in [("GET", "/stations/orders/groups"), ("DELETE", "/stations/orders/groups/g")] {
        let refused = api(&gateway, method, path, None);
        assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{}", refused.text());
        assert!(refused.text().contains("$JS.API.CONSUMER."), "{}", refused.text());
    }
    // A stream that was just made has no consumers that would have to be listed before its records are kept.
    let acks = json!({"name": "orders.acks", "retention_acknowledged": true});
    assert_eq!(api(&gateway, "POST", "/stations", Some(&acks)).status, 201);
    gateway.single("orders.acks", "text/plain", b"x").is_json(200, OK);
    assert_eq!(drain(&gateway, "orders.acks", "g").len(), 1, "kept for the first group");
}

fn every_metric_is_documented(setup: Setup) {
    let gateway = Gateway::start(setup);
    let key = api(&gateway, "POST", "/keys", Some(&json!({"produce": ["a"]})));
    assert_eq!(key.status, 201);
    let metrics = gateway.metrics();
    let names: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() > 40, "{names:?}");
    // A row names one, or several with what differs at their ends.
    let rows: Vec<&str> = OPERATIONS.lines().filter(|line| line.starts_with("| `")).collect();
    for name in names {
        let documented = rows.iter().any(|row| {
            let words = row.split('|').nth(1).unwrap().split('`').filter(|word| !word.trim().is_empty());
            let words: Vec<&str> = words.map(|word| word.split('{').next().unwrap()).collect();
            words.iter().any(|word| *word == name || word.strip_prefix('…').is_some_and(|end| name.ends_with(end)))
        });
        assert!(documented, "{name} is not in docs/operations.md");
    }
}
