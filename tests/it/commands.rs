//! The commands that are clients of the admin API, in the forms that scripts rely on, and what `--json` prints of each.

use crate::support::{
    admin::{api, done, run},
    gateway::{BINARY, Gateway, ROOT_PASSWORD, ROOT_USER, bare_command, with_input},
    setup::{Backend, Setup},
};
use serde_json::{Value, json};
use std::path::Path;

on_setups!(
    local_epoll LOCAL_EPOLL, nats_epoll NATS_EPOLL => [
        schemas_of_every_type_are_added_and_activated,
        stations_are_made_attached_and_detached,
        users_and_keys_are_made_with_what_is_said_and_without,
        what_cannot_be_adopted_is_told,
        a_change_is_made_as_a_whole_or_not_at_all,
        who_may_not_and_what_is_wrong_has_an_exit_code_of_its_own,
        item8_a_reader_takes_from_its_group_what_it_has_read,
        item8_records_that_cannot_be_written_come_again,
        item8_consuming_makes_no_station_and_needs_a_group,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";

/// What a command prints for programs: one line of JSON.
#[track_caller]
fn json_of(gateway: &Gateway, arguments: &[&str], input: &str) -> Value {
    let printed = done(gateway, &[arguments, &["--json"]].concat(), input);
    assert_eq!(printed.matches('\n').count(), 1, "{printed}");
    serde_json::from_str(&printed).unwrap_or_else(|fault| panic!("{fault}: {printed}"))
}

fn file(gateway: &Gateway, name: &str, text: &str) -> String {
    let path = gateway.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const AVRO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const PROTO: &str = "syntax = \"proto3\";\nmessage First { string a = 1; }\nmessage Second { string b = 1; }\n";

fn schemas_of_every_type_are_added_and_activated(setup: Setup) {
    let gateway = Gateway::start(setup);
    for (kind, text, next) in [
        ("json", r#"{"type":"integer"}"#, r#"{"type":"string"}"#),
        ("protobuf", "syntax = \"proto3\";\nmessage A { string a = 1; }\n", PROTO),
        ("avro", AVRO, "\"string\""),
        ("graphql", "type Query { a: String }", "type Query { a: Int }"),
    ] {
        let (first, second) = (file(&gateway, &format!("{kind}.1"), text), file(&gateway, &format!("{kind}.2"), next));
        let added = json_of(&gateway, &["schema", "add", kind, "--type", kind, "--file", &first], "");
        assert_eq!((&added["name"], &added["type"]), (&json!(kind), &json!(kind)));
        assert_eq!((&added["version"], &added["active_version"]), (&json!(1), &json!(1)), "the first is active");
        let added = json_of(&gateway, &["schema", "add", kind, "--type", kind, "--file", &second], "");
        assert_eq!((&added["version"], &added["active_version"]), (&json!(2), &json!(1)), "the next is not yet");
        let active = json_of(&gateway, &["schema", "activate", kind, "2"], "");
        assert_eq!(active["active_version"], 2);
        done(&gateway, &["schema", "activate", kind, "1"], "");
        let shown = json_of(&gateway, &["schema", "show", kind], "");
        assert_eq!((&shown["active_version"], &shown["versions"][1]["schema"]), (&json!(1), &json!(next)));
    }
    let path = file(&gateway, "two.proto", PROTO);
    let add = ["schema", "add", "chosen", "--type", "protobuf", "--file", &path, "--message", "Second"];
    assert_eq!(json_of(&gateway, &add, "")["versions"][0]["message"], "Second");
    let listed = json_of(&gateway, &["schema", "list"], "");
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(5));
}

fn stations_are_made_attached_and_detached(setup: Setup) {
    let gateway = Gateway::start(setup);
    let plain = json_of(&gateway, &["station", "create", "plain"], "");
    assert_eq!((&plain["name"], &plain["partitions"], &plain["schema"]), (&json!("plain"), &json!(1), &Value::Null));
    let all = ["--partitions", "3", "--retention-age", "7d", "--storage", "file", "--replicas", "1"];
    let made = json_of(&gateway, &[&["station", "create", "made"], &all[..]].concat(), "");
    let said = ["partitions", "retention_age_s", "storage", "replicas"].map(|field| made[field].clone());
    assert_eq!(said, [json!(3), json!(604_800), json!("file"), json!(1)]);
    let again = json_of(&gateway, &[&["station", "create", "made"], &all[..]].concat(), "");
    assert_eq!(again, made, "the same again is no error");
    let path = file(&gateway, "s.json", r#"{"type":"integer"}"#);
    done(&gateway, &["schema", "add", "s", "--type", "json", "--file", &path], "");
    assert_eq!(json_of(&gateway, &["station", "attach", "plain", "--schema", "s"], "")["schema"], "s");
    gateway.single("plain", "application/json", b"1").is_json(200, OK);
    gateway.single("plain", "application/json", b"\"x\"").is_error(400);
    let letters = json_of(&gateway, &["station", "dead-letters", "plain"], "");
    assert_eq!(letters["items"].as_array().map(Vec::len), Some(1), "{letters}");
    assert_eq!((&letters["items"][0]["message"], &letters["items"][0]["kind"]), (&json!("\"x\""), &json!("schema")));
    let told = done(&gateway, &["station", "dead-letters", "plain"], "");
    assert!(told.starts_with("ID") && told.contains("schema s 1") && told.contains("root"), "{told}");
    assert_eq!(json_of(&gateway, &["station", "detach", "plain"], "")["schema"], Value::Null);
    gateway.single("plain", "application/json", b"\"x\"").is_json(200, OK);
    assert_eq!(json_of(&gateway, &["station", "dead-letters", "made"], ""), json!({"items": []}));
}

fn users_and_keys_are_made_with_what_is_said_and_without(setup: Setup) {
    let gateway = Gateway::start(setup);
    let one = ["user", "add", "one", "--password-stdin", "--produce", "a.*", "--consume", "b"];
    let one = json_of(&gateway, &one, "Correct-Horse-9!\n");
    assert_eq!((&one["produce"], &one["consume"]), (&json!(["a.*"]), &json!(["b"])));
    let two = json_of(&gateway, &["user", "add", "two", "--password-stdin"], "Correct-Horse-9!\n");
    assert_eq!((&two["produce"], &two["consume"]), (&json!(["*"]), &json!(["*"])));
    let said = ["key", "create", "--produce", "a.*", "--consume", "b", "--expires", "90d"];
    let made = json_of(&gateway, &said, "");
    assert_eq!((&made["produce"], &made["consume"], &made["admin"]), (&json!(["a.*"]), &json!(["b"]), &json!(false)));
    let lives = made["expires_ms"].as_u64().unwrap() - made["created_ms"].as_u64().unwrap();
    assert_eq!(lives, 90 * 86_400_000);
    assert!(made["key"].as_str().unwrap().starts_with("sgk_"));
    // As with a user: a key of which nothing is said may produce and consume, and no more.
    let bare = json_of(&gateway, &["key", "create"], "");
    assert_eq!((&bare["produce"], &bare["consume"], &bare["admin"]), (&json!(["*"]), &json!(["*"]), &json!(false)));
    assert_eq!(bare["expires_ms"], Value::Null);
    let only = json_of(&gateway, &["key", "create", "--produce", "a"], "");
    assert_eq!((&only["produce"], &only["consume"]), (&json!(["a"]), &json!([])), "once something is said, it is all");
    let id = made["id"].as_str().unwrap();
    assert_eq!(json_of(&gateway, &["key", "revoke", id], ""), json!({}));
    assert_eq!(api(&gateway, "GET", &format!("/keys/{id}"), None).status, 404);
}

fn who_may_not_and_what_is_wrong_has_an_exit_code_of_its_own(setup: Setup) {
    let gateway = Gateway::start(setup);
    let fails = |arguments: &[&str], code: i32| {
        let output = run(&gateway, arguments, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?}: {said}");
        assert!(!said.is_empty());
    };
    fails(&["schema", "activate", "none", "1", "--json"], 1);
    fails(&["station", "attach", "none", "--schema", "none", "--json"], 1);
    fails(&["station", "dead-letters", "none", "--json"], 1);
    fails(&["key", "revoke", "none", "--json"], 1);
    fails(&["station", "create", "a b"], 64);
    fails(&["schema", "add", "s", "--type", "json", "--file", "/nothing/here"], 64);
    fails(&["key", "create", "--expires", "soon"], 64);
    fails(&["station", "adopt", "s", "--stream", "NONE", "--subject", "s"], 1);
    assert_eq!(as_nobody(gateway.dir(), &format!("http://{}", gateway.admin())), Some(77));
    assert_eq!(as_nobody(gateway.dir(), "http://127.0.0.1:1"), Some(69));
}

/// A stream that is not there is named, and the embedded store says that it has none.
fn what_cannot_be_adopted_is_told(setup: Setup) {
    let gateway = Gateway::start(setup);
    gateway.single("here", "text/plain", b"1").is_json(200, OK);
    let before = api(&gateway, "GET", "/stations/here", None).json();
    let body = json!({"stream": "NONE", "subject": "here"});
    let refused = api(&gateway, "POST", "/stations/here/adopt", Some(&body));
    assert_eq!(refused.status, 400, "{}", refused.text());
    let told = refused.json()["detail"].as_str().unwrap().to_owned();
    let part = if setup.backend == Backend::Local { "embedded store" } else { "NONE" };
    assert!(told.contains(part), "{told}");
    assert_eq!(api(&gateway, "GET", "/stations/here", None).json(), before);
}

/// What a stream refuses leaves the registry as it was.
fn a_change_is_made_as_a_whole_or_not_at_all(setup: Setup) {
    let gateway = Gateway::start(setup);
    done(&gateway, &["station", "create", "whole"], "");
    let before = api(&gateway, "GET", "/stations/whole", None).json();
    let letters = json!({"invalid": false, "deliveries_max": 3, "retention_age_s": 60});
    let change = json!({"replicas": 3, "dead_letters": letters});
    let refused = api(&gateway, "PATCH", "/stations/whole", Some(&change));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(api(&gateway, "GET", "/stations/whole", None).json(), before);
    let changed = api(&gateway, "PATCH", "/stations/whole", Some(&json!({ "dead_letters": letters })));
    assert_eq!((changed.status, &changed.json()["dead_letters"]), (200, &letters));
}

fn as_nobody(dir: &Path, url: &str) -> Option<i32> {
    let mut command = bare_command(dir);
    command.args(["station", "list", "--url", url]);
    command.env("SLUICEGATE_USER", "root").env("SLUICEGATE_PASSWORD", "wrong");
    with_input(command, "").status.code()
}

/// Runs `consume` in a shell that does something with what it prints.
fn consumed(gateway: &Gateway, rest: &str) -> (Option<i32>, Vec<String>) {
    let mut shell = std::process::Command::new("bash");
    let url = format!("http://{}", gateway.address());
    shell.args(["-o", "pipefail", "-c", &format!("\"$0\" consume taken --group g --url {url} {rest}"), BINARY]);
    shell.current_dir(gateway.dir()).env("SLUICEGATE_USER", ROOT_USER).env("SLUICEGATE_PASSWORD", ROOT_PASSWORD);
    let output = with_input(shell, "");
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code(), lines)
}

fn fill(gateway: &Gateway, records: usize) {
    let batch: Vec<String> = (0..records).map(|number| number.to_string()).collect();
    gateway.batch("taken", &format!("[{}]", batch.join(","))).is_json(200, OK);
}

/// Two hundred short lines fit in a pipe that nobody reads any more.
fn item8_a_reader_takes_from_its_group_what_it_has_read(setup: Setup) {
    let gateway = Gateway::start(setup);
    fill(&gateway, 200);
    let (_, first) = consumed(&gateway, "--batch 200 | head -1");
    assert_eq!(first, ["0"]);
    let (_, next) = consumed(&gateway, "--batch 200 | head -3");
    assert!(next.len() == 3 && next[0] != "0", "{next:?}");
    let (code, rest) = consumed(&gateway, "--batch 64");
    assert_eq!(code, Some(0));
    let mut all: Vec<usize> = first.iter().chain(&next).chain(&rest).map(|line| line.parse().unwrap()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200, "none was lost");
    assert_eq!(first.len() + next.len() + rest.len(), 200, "and none came twice");
    assert_eq!(consumed(&gateway, ""), (Some(0), vec![]), "all are acknowledged");
}

fn item8_records_that_cannot_be_written_come_again(setup: Setup) {
    let gateway = Gateway::start(setup);
    fill(&gateway, 20);
    let (code, _) = consumed(&gateway, "> /dev/full");
    assert_eq!(code, Some(1), "standard output takes nothing");
    let (code, lines) = consumed(&gateway, "--count 20");
    assert_eq!((code, lines.len()), (Some(0), 20));
}

fn item8_consuming_makes_no_station_and_needs_a_group(setup: Setup) {
    let gateway = Gateway::start(setup);
    let url = format!("http://{}", gateway.address());
    let typo = gateway.run(&["consume", "odrers", "--group", "g", "--url", &url], "");
    let said = String::from_utf8_lossy(&typo.stderr).into_owned();
    assert_eq!((typo.status.code(), typo.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("odrers"), "{said}");
    assert_eq!(api(&gateway, "GET", "/stations/odrers", None).status, 404, "it is not made");
    let nobody = gateway.run(&["consume", "odrers", "--url", &url], "");
    assert_eq!(nobody.status.code(), Some(64), "nobody shares the group of production by leaving a word out");
}
