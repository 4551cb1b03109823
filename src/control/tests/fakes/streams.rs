//! Stations in a map.

use crate::{
    control::streams::{
        Adopted, Answer, Description, Group, GroupAdmin, RecordStore, StoredDeadLetter, StreamAdmin, StreamsError,
    },
    rt::clock,
    station::{Attributes, AttributesChange, Name},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Mutex, MutexGuard, watch};

/// Stations by name; streams that can be adopted are stations of the stream's name.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Stations(watch::Sender<BTreeMap<String, Stored>>, pub(in crate::control) Gate);

/// Keeps stations from being made while it is closed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    closed: Arc<Mutex<()>>,
    came: Arc<AtomicUsize>,
}

impl Gate {
    /// Closes the gate until the result is dropped.
    pub(crate) fn close(&self) -> MutexGuard<'_, ()> {
        self.closed.blocking_lock()
    }

    /// Returns how many have come to the gate so far.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    async fn pass(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
        drop(self.closed.lock().await);
    }
}

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

    fn look<T>(&self, look: impl FnOnce(&BTreeMap<String, Stored>) -> T) -> T {
        look(&self.0.borrow())
    }
}

fn answer<'a, T: Send + 'a>(answer: Result<T, StreamsError>) -> Answer<'a, T> {
    Box::pin(ready(answer))
}

fn described(stations: &BTreeMap<String, Stored>, name: &Name, key: &str) -> Result<Description, StreamsError> {
    let stored = stations.get(key).ok_or(StreamsError::Unknown)?;
    let bytes = stored.letters.iter().map(|letter| letter.payload.len() as u64).sum();
    let records = stored.letters.len() as u64;
    Ok(Description { name: name.clone(), attributes: stored.attributes.clone(), records, bytes })
}

impl StreamAdmin for Stations {
    fn create<'a>(&'a self, name: &'a Name, attributes: &'a Attributes) -> Answer<'a, ()> {
        let make = |stations: &mut BTreeMap<String, Stored>| {
            let new = || Stored { attributes: attributes.clone(), letters: Vec::new(), last: 0, ids: BTreeSet::new() };
            let known = stations.entry(name.to_string()).or_insert_with(new);
            if known.attributes == *attributes { Ok(()) } else { Err(StreamsError::Exists) }
        };
        Box::pin(async move {
            self.1.pass().await;
            self.with(make)
        })
    }

    fn describe<'a>(&'a self, name: &'a Name, adopted: Option<&'a Adopted>) -> Answer<'a, Description> {
        answer(self.look(|stations| described(stations, name, key(name, adopted))))
    }

    fn list(&self) -> Answer<'_, Vec<Description>> {
        answer(self.look(|stations| {
            let names = stations.keys().filter_map(|name| Name::parse(name).ok());
            names.map(|name| described(stations, &name, name.as_str())).collect()
        }))
    }

    fn change<'a>(
        &'a self,
        name: &'a Name,
        adopted: Option<&'a Adopted>,
        change: &'a AttributesChange,
    ) -> Answer<'a, ()> {
        answer(self.with(|stations| {
            let known = &mut stations.get_mut(key(name, adopted)).ok_or(StreamsError::Unknown)?.attributes;
            *known = known.changed(change);
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        self.with(|stations| drop(stations.remove(name.as_str())));
        answer(Ok(()))
    }

    fn check_adoptable<'a>(&'a self, name: &'a Name, adopted: &'a Adopted) -> Answer<'a, ()> {
        answer(self.look(|stations| described(stations, name, &adopted.stream).map(drop)))
    }

    fn can_be_lost(&self) -> bool {
        true
    }
}

impl RecordStore for Stations {
    fn read<'a>(&'a self, name: &'a Name, after: u64, limit: usize) -> Answer<'a, Vec<StoredDeadLetter>> {
        answer(Ok(self.look(|stations| {
            let letters = stations.get(name.as_str()).into_iter().flat_map(|stored| &stored.letters);
            letters.filter(|letter| letter.sequence > after).take(limit).cloned().collect()
        })))
    }

    fn discard<'a>(&'a self, name: &'a Name, sequences: Option<&'a [u64]>) -> Answer<'a, u64> {
        answer(self.with(|stations| {
            let letters = &mut stations.get_mut(name.as_str()).ok_or(StreamsError::Unknown)?.letters;
            let before = letters.len();
            letters.retain(|letter| sequences.is_some_and(|these| !these.contains(&letter.sequence)));
            Ok((before - letters.len()) as u64)
        }))
    }

    fn store<'a>(
        &'a self,
        name: &'a Name,
        adopted: Option<&'a Adopted>,
        record: (&'a [u8], &'a [u8]),
        id: &'a str,
    ) -> Answer<'a, ()> {
        answer(self.with(|stations| {
            let stored = stations.get_mut(key(name, adopted)).ok_or(StreamsError::Unknown)?;
            if stored.ids.insert(id.to_owned()) {
                stored.last += 1;
                let (headers, payload) = (record.0.to_vec(), record.1.to_vec());
                let time_ms = clock::unix_ms();
                stored.letters.push(StoredDeadLetter { sequence: stored.last, time_ms, headers, payload });
            }
            Ok(())
        }))
    }
}

/// There are none.
impl GroupAdmin for Stations {
    fn groups<'a>(&'a self, _name: &'a Name, _adopted: Option<&'a Adopted>) -> Answer<'a, Vec<Group>> {
        answer(Ok(Vec::new()))
    }

    fn remove_group<'a>(&'a self, _: &'a Name, _: Option<&'a Adopted>, _group: &'a Name) -> Answer<'a, bool> {
        answer(Ok(false))
    }
}

fn key<'a>(name: &'a Name, adopted: Option<&'a Adopted>) -> &'a str {
    adopted.map_or(name.as_str(), |adopted| adopted.stream.as_str())
}
