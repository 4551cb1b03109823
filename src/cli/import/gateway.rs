//! The admin API as the import uses it: look, change, compare.

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
    /// It will be the same with every other one.
    Stop(Failure),
    /// It is this one's.
    Entry(String),
}

impl Trouble {
    /// Says what of the entry it was.
    pub(super) fn about(self, what: &str) -> Self {
        match self {
            Self::Entry(text) => Self::Entry(format!("{what}: {text}")),
            Self::Stop(failure) => Self::Stop(failure),
        }
    }
}

impl Gateway<'_> {
    /// What is there under this path.
    pub(super) fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Trouble> {
        let reply = (self.send)("GET", path, None).map_err(Trouble::Stop)?;
        if reply.status == 404 { Ok(None) } else { parsed(&good(reply)?).map(Some) }
    }

    /// The answer to a change; nothing if the run is dry.
    pub(super) fn change(&self, method: &str, path: &str, body: &impl Serialize) -> Result<Option<Vec<u8>>, Trouble> {
        if self.dry_run {
            return Ok(None);
        }
        let body = serde_json::to_string(body).map_err(|fault| Trouble::Entry(fault.to_string()))?;
        let reply = (self.send)(method, path, Some(&body)).map_err(Trouble::Stop)?;
        good(reply).map(Some)
    }
}

/// The body of a good answer. Who may not do this may not do the next thing either, and a gateway that is away is away.
fn good(reply: Reply) -> Result<Vec<u8>, Trouble> {
    match reply.status {
        200..300 => Ok(reply.body),
        401 | 403 | 429 | 503 => Err(Trouble::Stop(reply.failure())),
        _ => Err(Trouble::Entry(reply.complaint())),
    }
}

/// What the admin API answers.
pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    let unknown = |fault| Failure::other(format!("the answer is none of the admin API: {fault}"));
    serde_json::from_slice(body).map_err(|fault| Trouble::Stop(unknown(fault)))
}

/// Attributes that this station's streams have otherwise.
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
