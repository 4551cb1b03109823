//! The admin API and the commands that use it, as root.

use super::{
    gateway::{Gateway, ROOT_PASSWORD, ROOT_USER, bare_command, with_input},
    http::{self, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::process::Output;

/// Calls the admin API.
#[track_caller]
pub fn api(gateway: &Gateway, method: &str, path: &str, body: Option<&Value>) -> Response {
    api_with(gateway, method, path, &[], body)
}

/// Calls the admin API with these header fields beside those that every call has.
#[track_caller]
pub fn api_with(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Response {
    let basic = basic(ROOT_USER, ROOT_PASSWORD);
    let own = [("Authorization", basic.as_str()), ("Content-Type", "application/json")];
    let body = body.map(Value::to_string).unwrap_or_default();
    http::once(gateway.admin(), method, &format!("/api/v1{path}"), &[&own, headers].concat(), body.as_bytes())
}

/// A name and a password as the `Authorization` field has them (RFC 7617).
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Runs a command that is a client of the admin API, with the credentials that its users give it.
pub fn run(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    let mut command = bare_command(gateway.dir());
    let url = format!("http://{}", gateway.admin());
    command.args(arguments).args(["--url", &url]);
    command.env("SLUICEGATE_USER", ROOT_USER).env("SLUICEGATE_PASSWORD", ROOT_PASSWORD);
    with_input(command, input)
}

/// The same, which must succeed; what it prints.
#[track_caller]
pub fn done(gateway: &Gateway, arguments: &[&str], input: &str) -> String {
    let output = run(gateway, arguments, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Adds a schema, or its next version, by the command.
#[track_caller]
pub fn add_schema(gateway: &Gateway, name: &str, kind: &str, text: &str, more: &[&str]) {
    let path = gateway.dir().join(format!("{name}.{kind}"));
    std::fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    done(gateway, &[&["schema", "add", name, "--type", kind, "--file", file], more].concat(), "");
}

/// Makes a station with a schema of its own, and waits until every shard knows: answers of the data port then are of
/// records that were validated by it.
#[track_caller]
pub fn station_with_schema(gateway: &Gateway, station: &str, kind: &str, text: &str, more: &[&str]) {
    add_schema(gateway, &format!("{station}-schema"), kind, text, more);
    done(gateway, &["station", "create", station], "");
    done(gateway, &["station", "attach", station, "--schema", &format!("{station}-schema")], "");
}

/// The dead letters of a station, whole, oldest first.
#[track_caller]
pub fn dead_letters(gateway: &Gateway, station: &str) -> Vec<Value> {
    let mut letters = Vec::new();
    let mut after = String::new();
    loop {
        let response = api(gateway, "GET", &format!("/stations/{station}/dead-letters?limit=500{after}"), None);
        assert_eq!(response.status, 200, "{}", response.text());
        let page = response.json();
        letters.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return letters };
        after = format!("&after={next}");
    }
}

/// Records that a station holds, as the admin API says.
#[track_caller]
pub fn records_of(gateway: &Gateway, station: &str) -> u64 {
    let response = api(gateway, "GET", &format!("/stations/{station}"), None);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["records"].as_u64().unwrap()
}
