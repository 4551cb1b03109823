//! The admin API as the import uses it: find, change, compare.

use crate::{
    api::stations::{NewStation, StationView},
    cli::{client::Reply, exit::Failure},
};
use serde::{Serialize, de::DeserializeOwned};

/// Sends a request to the admin listener.
type Send<'a> = &'a dyn Fn(&str, &str, Option<&str>) -> Result<Reply, Failure>;

/// The gateway that is imported into.
pub(super) struct Gateway<'a> {
    pub(super) send: Send<'a>,
    /// Whether nothing may be changed.
    pub(super) dry_run: bool,
}

/// Why an entry was not imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Every other entry would fail in the same way.
    Stop(Failure),
    /// Something is wrong with this entry.
    Entry(String),
}

impl Trouble {
    /// Adds to the text which part of the entry it was.
    pub(super) fn about(self, what: &str) -> Self {
        match self {
            Self::Entry(text) => Self::Entry(format!("{what}: {text}")),
            Self::Stop(failure) => Self::Stop(failure),
        }
    }
}

impl Gateway<'_> {
    /// Returns what is at this path, if it exists.
    pub(super) fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Trouble> {
        let reply = (self.send)("GET", path, None).map_err(Trouble::Stop)?;
        if reply.status == 404 { Ok(None) } else { parsed(&good(reply)?).map(Some) }
    }

    /// Makes a change and returns the answer, or `None` in a dry run.
    pub(super) fn change(&self, method: &str, path: &str, body: &impl Serialize) -> Result<Option<Vec<u8>>, Trouble> {
        if self.dry_run {
            return Ok(None);
        }
        let body = serde_json::to_string(body).map_err(|fault| Trouble::Entry(fault.to_string()))?;
        let reply = (self.send)(method, path, Some(&body)).map_err(Trouble::Stop)?;
        good(reply).map(Some)
    }
}

/// Returns the body of a 2xx answer. Where the right is missing or the gateway is away, the import stops: every other
/// entry would fail in the same way.
fn good(reply: Reply) -> Result<Vec<u8>, Trouble> {
    match reply.status {
        200..300 => Ok(reply.body),
        401 | 403 | 429 | 503 => Err(Trouble::Stop(reply.failure())),
        _ => Err(Trouble::Entry(reply.complaint())),
    }
}

/// Reads an answer of the admin API.
pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    let unknown = |fault| Failure::other(format!("the answer is not that of the admin API: {fault}"));
    serde_json::from_slice(body).map_err(|fault| Trouble::Stop(unknown(fault)))
}

/// Returns the attributes in which the station differs from the dump, in words.
pub(super) fn differences(here: &StationView, wanted: &NewStation) -> Vec<String> {
    let number = |name, here: u64, wanted: Option<u64>| (name, here.to_string(), wanted.map(|value| value.to_string()));
    let all = [
        number("partitions", here.partitions.into(), wanted.partitions.map(Into::into)),
        number("retention_age_s", here.retention_age_s, wanted.retention_age_s),
        number("retention_records", here.retention_records, wanted.retention_records),
        number("retention_bytes", here.retention_bytes, wanted.retention_bytes),
        number("replicas", here.replicas.into(), wanted.replicas.map(Into::into)),
        number("idempotency_window_ms", here.idempotency_window_ms, wanted.idempotency_window_ms),
        (
            "retention_acknowledged",
            here.retention_acknowledged.to_string(),
            wanted.retention_acknowledged.map(|value| value.to_string()),
        ),
        ("storage", format!("{:?}", here.storage), wanted.storage.map(|storage| format!("{storage:?}"))),
    ];
    let differing = all.into_iter().filter_map(|(name, here, wanted)| {
        let wanted = wanted.filter(|wanted| *wanted != here)?;
        Some(format!("{name} is {here} here, and {wanted} in the dump"))
    });
    differing.collect()
}
