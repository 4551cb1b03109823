//! Stations in a map, for tests of the code that uses streams.

use super::{Adopted, Description, StoredDeadLetter, StreamsError};
use crate::station::{Attributes, AttributesChange, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};
use tokio::sync::watch;

/// Stations by name; streams that can be adopted are stations of the stream's name.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Stations(watch::Sender<BTreeMap<String, Stored>>);

#[derive(Debug)]
struct Stored {
    attributes: Attributes,
    letters: Vec<StoredDeadLetter>,
    last: u64,
    ids: BTreeSet<String>,
}

impl Stations {
    /// Changes the stations, and returns the result of the change.
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Stored>) -> T) -> T {
        let mut result = None;
        self.0.send_modify(|stations| result = Some(change(stations)));
        result.expect("it was called")
    }

    pub(in super::super) fn create(&self, name: &Name, attributes: &Attributes) -> Result<(), StreamsError> {
        self.with(|stations| {
            let new = || Stored { attributes: attributes.clone(), letters: Vec::new(), last: 0, ids: BTreeSet::new() };
            let known = stations.entry(name.to_string()).or_insert_with(new);
            if known.attributes == *attributes { Ok(()) } else { Err(StreamsError::Exists) }
        })
    }

    pub(in super::super) fn describe(
        &self,
        name: &Name,
        adopted: Option<&Adopted>,
    ) -> Result<Description, StreamsError> {
        let stations = self.0.borrow();
        let stored = stations.get(key(name, adopted)).ok_or(StreamsError::Unknown)?;
        let bytes = stored.letters.iter().map(|letter| letter.payload.len() as u64).sum();
        let records = stored.letters.len() as u64;
        Ok(Description { name: name.clone(), attributes: stored.attributes.clone(), records, bytes })
    }

    pub(super) fn list(&self) -> Result<Vec<Description>, StreamsError> {
        let names: Vec<Name> = self.0.borrow().keys().filter_map(|name| Name::parse(name).ok()).collect();
        names.iter().map(|name| self.describe(name, None)).collect()
    }

    pub(super) fn change(
        &self,
        name: &Name,
        adopted: Option<&Adopted>,
        change: &AttributesChange,
    ) -> Result<(), StreamsError> {
        self.with(|stations| {
            let known = &mut stations.get_mut(key(name, adopted)).ok_or(StreamsError::Unknown)?.attributes;
            known.retention_age = change.retention_age.unwrap_or(known.retention_age);
            known.retention_records = change.retention_records.unwrap_or(known.retention_records);
            known.retention_bytes = change.retention_bytes.unwrap_or(known.retention_bytes);
            known.replicas = change.replicas.unwrap_or(known.replicas);
            known.duplicate_window = change.duplicate_window.unwrap_or(known.duplicate_window);
            Ok(())
        })
    }

    pub(in super::super) fn remove(&self, name: &Name) {
        self.0.send_modify(|stations| drop(stations.remove(name.as_str())));
    }

    pub(in super::super) fn read(&self, name: &Name, after: u64, limit: usize) -> Vec<StoredDeadLetter> {
        let stations = self.0.borrow();
        let letters = stations.get(name.as_str()).into_iter().flat_map(|stored| &stored.letters);
        letters.filter(|letter| letter.sequence > after).take(limit).cloned().collect()
    }

    pub(super) fn discard(&self, name: &Name, sequences: Option<&[u64]>) -> Result<u64, StreamsError> {
        self.with(|stations| {
            let letters = &mut stations.get_mut(name.as_str()).ok_or(StreamsError::Unknown)?.letters;
            let before = letters.len();
            letters.retain(|letter| sequences.is_some_and(|these| !these.contains(&letter.sequence)));
            Ok((before - letters.len()) as u64)
        })
    }

    pub(in super::super) fn store(
        &self,
        name: &Name,
        adopted: Option<&Adopted>,
        headers: &[u8],
        payload: &[u8],
        id: &str,
    ) -> Result<(), StreamsError> {
        self.with(|stations| {
            let stored = stations.get_mut(key(name, adopted)).ok_or(StreamsError::Unknown)?;
            if stored.ids.insert(id.to_owned()) {
                stored.last += 1;
                let (headers, payload) = (headers.to_vec(), payload.to_vec());
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let time_ms = u64::try_from(since.as_millis()).unwrap_or(0);
                stored.letters.push(StoredDeadLetter { sequence: stored.last, time_ms, headers, payload });
            }
            Ok(())
        })
    }
}

fn key<'a>(name: &'a Name, adopted: Option<&'a Adopted>) -> &'a str {
    adopted.map_or(name.as_str(), |adopted| adopted.stream.as_str())
}
