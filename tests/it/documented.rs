//! What the documentation promises operators, held against the program: the permissions that a broker has to give, and
//! the metrics that there are.

use crate::support::{
    admin::{api, dead_letters, done, station_with_schema},
    gateway::{Gateway, Plan},
    nats::NatsServer,
    readback::drain,
    setup::Setup,
};
use serde_json::json;

on_setups!(
    nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        the_documented_permissions_are_enough_for_everything,
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

fn the_documented_permissions_are_enough_for_everything(setup: Setup) {
    let server = NatsServer::with_config(permissions());
    let config = "[nats]\nuser = \"gateway\"\npassword = \"change-me\"";
    let gateway = Plan::new(setup).nats_url(&server.url()).config(config).start();
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
    let log = gateway.process().stderr().to_lowercase();
    assert!(!log.contains("violation") && !log.contains("denied"), "{log}");
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
