//! Stations with a schema: events of seven properties, the JSON Schema that describes them, and the calls that attach it.

use crate::process::named;
use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Made-up events of exactly `size` bytes with the seven properties of [`SCHEMA`], one a line.
pub(crate) fn write_events(work: &Path, size: u32) -> io::Result<PathBuf> {
    let path = work.join(format!("events-{size}.ndjson"));
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut lines = String::new();
    for number in 0..EVENTS {
        let kind = ["order.created", "order.changed", "order.closed"][number % 3];
        let start = lines.len();
        write!(
            lines,
            "{{\"id\":{},\"type\":\"{kind}\",\"at\":\"2026-01-01T00:00:{:02}Z\",\"device\":\"sensor-{number:06}\",\
             \"value\":{}.25,\"valid\":{},\"text\":\"",
            100_000 + number,
            number % 60,
            number % 10,
            if number % 2 == 0 { "true" } else { "null " },
        )
        .map_err(io::Error::other)?;
        while lines.len() - start < size.saturating_sub(2) {
            lines.push(char::from(b'a' + u8::try_from((lines.len() * 7 + number) % 26).unwrap_or(0)));
        }
        lines.push_str("\"}\n");
    }
    fs::write(&path, lines)?;
    Ok(path)
}

/// Adds `count` schemas and attaches each to a station of its own: `station` alone, or `station-0`, `station-1`, ….
pub(crate) fn attach(sluicegate: &Path, admin: &str, password: &str, station: &str, count: u32, work: &Path) -> io::Result<()> {
    let file = work.join("event.schema.json");
    for number in 0..count {
        // Each differs from the others, so that none can be the same compiled one.
        fs::write(&file, SCHEMA.replace("NUMBER", &number.to_string()))?;
        let (schema, station) = (format!("event-{number}"), if count == 1 { station.to_owned() } else { format!("{station}-{number}") });
        let file = file.display().to_string();
        run(sluicegate, admin, password, &["schema", "add", &schema, "--type", "json", "--file", &file])?;
        run(sluicegate, admin, password, &["station", "attach", &station, "--schema", &schema])?;
    }
    Ok(())
}

/// Makes a station that is not there yet.
pub(crate) fn create(sluicegate: &Path, admin: &str, password: &str, station: &str) -> io::Result<()> {
    run(sluicegate, admin, password, &["station", "create", station])
}

fn run(sluicegate: &Path, admin: &str, password: &str, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(sluicegate);
    command.args(arguments).args(["--url", &format!("http://{admin}")]);
    command.env("SLUICEGATE_USER", "root").env("SLUICEGATE_PASSWORD", password);
    let output = command.output().map_err(named(sluicegate))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr))))
}

const EVENTS: usize = 2_000;
const SCHEMA: &str = r#"{
    "$id": "event-NUMBER",
    "type": "object",
    "required": ["id", "type", "at", "device"],
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "type": {"enum": ["order.created", "order.changed", "order.closed"]},
        "at": {"type": "string", "minLength": 20},
        "device": {"type": "string", "pattern": "^sensor-[0-9]{6}$"},
        "value": {"type": "number", "maximum": 1000},
        "valid": {"type": ["boolean", "null"]},
        "text": {"type": "string", "maxLength": 4096}
    },
    "additionalProperties": false
}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_as_long_as_asked_and_what_the_schema_says() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let work = std::env::temp_dir().join(format!("sluicegate-perf-events-{}", std::process::id()));
        fs::create_dir_all(&work).unwrap();
        for size in [256, 1_024] {
            let text = fs::read_to_string(write_events(&work, size).unwrap()).unwrap();
            assert_eq!(text.lines().count(), EVENTS);
            for line in text.lines() {
                assert_eq!(line.len(), size as usize);
                let event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
                assert!(event.keys().eq(schema["properties"].as_object().unwrap().keys()), "{line}");
            }
        }
        fs::remove_dir_all(work).unwrap();
    }
}
