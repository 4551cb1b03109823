//! How records are published: what is made, learned and decided on a real broker of any version.

use super::{
    super::support::{Gateway, PATIENCE, block_on, settings},
    Server,
};
use crate::{
    config::{BackendSettings, Layout, PublishModeChoice, Settings},
    directory::messages::ShardUpdate,
    reject::Reject,
    station::PublishMode,
};
use serde_json::{Value, json};

/// Settings for a server that is asked how it syncs.
fn monitored(server: &Server, choice: PublishModeChoice) -> Settings {
    let mut settings = settings(server.port);
    let BackendSettings::Nats(nats) = &mut settings.backend else { panic!("a broker") };
    nats.publish_mode = choice;
    nats.monitor_url = Some(format!("http://127.0.0.1:{}", server.http));
    settings
}

/// One call of the API, past the control plane.
pub(super) fn api(server: &Server, verb: &str, body: &Value) -> Value {
    block_on(async {
        let client = server.client().await;
        let answer = client.request(format!("$JS.API.{verb}"), body.to_string().into()).await.expect("an answer");
        serde_json::from_slice(&answer.payload).expect("JSON")
    })
}

/// Minor version of the server, all of which are 2.
pub(super) fn minor(server: &Server) -> u32 {
    let version = block_on(async { server.client().await.server_info().version });
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).expect("a version")
}

fn sync_always(gateway: &Gateway) -> Option<String> {
    let text = gateway.service.metrics_text(None);
    text.lines().find_map(|line| line.strip_prefix("sluicegate_broker_sync_always ").map(str::to_owned))
}

fn mode(gateway: &Gateway, station: &str) -> Result<PublishMode, Reject> {
    gateway.station(station, true).map(|station| station.publish_mode)
}

const AUTO: PublishMode = PublishMode::Atomic { records_min: 50 };

#[test]
fn new_streams_allow_batches_where_the_broker_knows_them() {
    let server = Server::start("");
    let expect = if minor(&server) >= 12 { json!(true) } else { Value::Null };
    for (layout, partitions, name, streams) in [
        (Layout::Plain, 1, "one", &["one"][..]),
        (Layout::Plain, 2, "two", &["two$1", "two$2"]),
        (Layout::Memphis, 1, "three", &["three$1"]),
    ] {
        let mut settings = settings(server.port);
        settings.stations.layout = layout;
        settings.stations.attributes.partitions = partitions;
        let gateway = Gateway::start(settings).ready();
        // Nobody said how the broker syncs.
        assert_eq!(mode(&gateway, name), Ok(PublishMode::Single));
        assert_eq!(sync_always(&gateway), None);
        for stream in streams {
            let info = api(&server, &format!("STREAM.INFO.{stream}"), &json!({}));
            assert_eq!(info["config"]["allow_atomic"], expect, "{info}");
        }
    }
}

#[test]
fn batches_are_chosen_for_what_a_broker_that_syncs_always_keeps_in_files_of_one_copy() {
    let server = Server::start_monitored("always");
    let gateway = Gateway::start(monitored(&server, PublishModeChoice::Auto)).ready();
    gateway.until("learned", |gateway| sync_always(gateway).as_deref() == Some("1"));
    let best = if minor(&server) >= 15 { AUTO } else { PublishMode::Single };
    assert_eq!(mode(&gateway, "made"), Ok(best));
    // Streams of others, that may not allow it.
    for (name, fields) in [("PLAIN", json!({})), ("MEMORY", json!({"storage": "memory", "allow_atomic": true}))] {
        let mut config = json!({"name": name, "subjects": [name.to_lowercase()], "storage": "file"});
        config.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let made = api(&server, &format!("STREAM.CREATE.{name}"), &config);
        assert_eq!(made.get("error"), None, "{made}");
        assert_eq!(mode(&gateway, &name.to_lowercase()), Ok(PublishMode::Single));
    }
    let forbidden = Gateway::start(monitored(&server, PublishModeChoice::Single)).ready();
    forbidden.until("learned", |gateway| sync_always(gateway).as_deref() == Some("1"));
    assert_eq!(mode(&forbidden, "made"), Ok(PublishMode::Single));
}

#[test]
fn batches_that_are_asked_for_need_no_knowledge_but_a_stream_that_allows_them() {
    let server = Server::start("");
    let mut settings = settings(server.port);
    let BackendSettings::Nats(nats) = &mut settings.backend else { panic!("a broker") };
    nats.publish_mode = PublishModeChoice::Atomic;
    let gateway = Gateway::start(settings);
    let expect = if minor(&server) >= 12 { PublishMode::Atomic { records_min: 2 } } else { PublishMode::Single };
    assert_eq!(mode(&gateway, "asked"), Ok(expect));
    api(&server, "STREAM.CREATE.PLAIN", &json!({"name": "PLAIN", "subjects": ["plain"]}));
    assert_eq!(mode(&gateway, "plain"), Ok(PublishMode::Single));
}

#[test]
fn shards_ask_for_their_stations_again_when_the_broker_begins_or_ceases_to_sync_always() {
    let mut server = Server::start_monitored("\"30s\"");
    let knows = minor(&server) >= 15;
    let gateway = Gateway::start(monitored(&server, PublishModeChoice::Auto)).ready();
    gateway.until("learned", |gateway| sync_always(gateway).as_deref() == Some("0"));
    assert_eq!(mode(&gateway, "s"), Ok(PublishMode::Single));
    for (sync, shown, best) in [("always", "1", AUTO), ("\"10s\"", "0", PublishMode::Single)] {
        while gateway.pushes.try_recv().is_ok() {}
        server.kill();
        server.sync(sync);
        server.run();
        gateway.until("learned again", |gateway| sync_always(gateway).as_deref() == Some(shown));
        if knows {
            while !matches!(gateway.pushes.recv_timeout(PATIENCE).expect("a push"), ShardUpdate::ForgetStations) {}
        }
        gateway.until("ready again", |gateway| gateway.service.reasons_not_ready().is_empty());
        assert_eq!(mode(&gateway, "s"), Ok(if knows { best } else { PublishMode::Single }));
    }
    // Nobody answers while the server is gone: what is known stays until another may stand there.
    server.kill();
    assert_eq!(sync_always(&gateway).as_deref(), Some("0"));
}
