//! What the control plane asks of the writer: stations, consumer groups, registry documents.
//!
//! Each change is a commit of its own, synced before it is answered.

use super::{
    GroupInfo, PutError, StationInfo,
    catalog::{PARTITION_IDS_MAX, StationDoc, StationState},
    format::{self, Mark},
    job::{Control, Keep, Request},
    writer::{Entry, Writer},
};
use crate::{
    limits::{ACK_WAIT, LOCAL_GROUPS_MAX, LOCAL_PARTITIONS_MAX},
    reject::Reject,
    station::{Consumer, Name, Station},
};
use fjall::OwnedWriteBatch;
use std::sync::{Arc, atomic::Ordering};

impl Writer {
    pub(super) fn control(&mut self, control: Control) {
        // Whoever does not wait any more is not told.
        match control {
            Control::Station { name, create, reply } => drop(reply.try_send(self.station(&name, create))),
            Control::DeleteStation { name, reply } => drop(reply.try_send(self.delete_station(&name))),
            Control::Consumer { station, group, reply } => drop(reply.try_send(self.consumer(station, group.as_ref()))),
            Control::Stations { reply } => drop(reply.try_send(self.list())),
            Control::Put { key, value, expect, reply } => drop(reply.try_send(self.put(&key, &value, expect))),
            Control::Delete { key, expect, reply } => drop(reply.try_send(self.delete(&key, expect))),
        }
    }

    fn station(&mut self, name: &Name, create: bool) -> Result<Arc<Station>, Reject> {
        if let Some(entry) = self.stations.get(name) {
            return Ok(Arc::clone(&entry.state.station));
        }
        if !create {
            return Err(Reject::StationUnknown(name.as_str().into()));
        }
        let count = usize::from(self.defaults.partitions.max(1));
        let next = u32::try_from(count).ok().and_then(|count| self.next_partition.checked_add(count));
        let Some(next) = next.filter(|next| *next < PARTITION_IDS_MAX) else {
            return Err(Reject::Overloaded("partitions of the embedded store"));
        };
        if self.partitions + count > LOCAL_PARTITIONS_MAX {
            return Err(Reject::Overloaded("partitions of the embedded store"));
        }
        let doc = StationDoc::new(&self.defaults, self.next_partition, self.clock.wall_ms());
        let text = serde_json::to_vec(&doc).map_err(|_| Reject::Internal("a station does not serialise"))?;
        let mut batch = self.disk.database.batch();
        batch.insert(&self.disk.catalog, format::station_key(name.as_str()), text);
        batch.insert(&self.disk.catalog, format::NEXT_PARTITION, next.to_be_bytes());
        for id in &doc.partitions {
            batch.insert(&self.disk.catalog, format::mark_key(*id), Mark::EMPTY.encode());
        }
        self.commit(batch)?;
        self.next_partition = next;
        self.partitions += count;
        let state = Arc::new(StationState::new(name.clone(), doc, &vec![Mark::EMPTY; count]));
        self.stations.insert(name.clone(), Entry::new(Arc::clone(&state)));
        // These two never wait for the writer, so waiting for them ends.
        self.reader.send(Request::StationCame(Arc::clone(&state))).ok();
        self.keep.send(Keep::StationCame(Arc::clone(&state))).ok();
        Ok(Arc::clone(&state.station))
    }

    fn delete_station(&mut self, name: &Name) -> Result<bool, Reject> {
        let Some(entry) = self.stations.get(name) else { return Ok(false) };
        let state = Arc::clone(&entry.state);
        let mut batch = self.disk.database.batch();
        batch.remove(&self.disk.catalog, format::station_key(name.as_str()));
        let mut groups = 0;
        for item in self.disk.catalog.prefix(format::groups_prefix(name.as_str())) {
            batch.remove(&self.disk.catalog, item.key().map_err(|error| unreadable(&error))?);
            groups += 1;
        }
        for id in &state.doc.partitions {
            batch.remove(&self.disk.catalog, format::mark_key(*id));
            for item in self.disk.cursors.prefix(id.to_be_bytes()) {
                batch.remove(&self.disk.cursors, item.key().map_err(|error| unreadable(&error))?);
            }
        }
        self.commit(batch)?;
        self.groups = self.groups.saturating_sub(groups);
        self.partitions = self.partitions.saturating_sub(state.partitions.len());
        self.stations.remove(name);
        state.deleted.store(true, Ordering::Release);
        self.reader.send(Request::StationWent(name.clone())).ok();
        self.keep.send(Keep::StationWent(state)).ok();
        Ok(true)
    }

    fn consumer(&mut self, station: Name, group: Option<&Name>) -> Result<Arc<Consumer>, Reject> {
        if !self.stations.contains_key(&station) {
            return Err(Reject::StationUnknown(station.as_str().into()));
        }
        let durable = Consumer::durable_name(group).into_boxed_str();
        let key = format::group_key(station.as_str(), &durable);
        if !self.disk.catalog.contains_key(&key).map_err(|error| unreadable(&error))? {
            if self.groups >= LOCAL_GROUPS_MAX {
                return Err(Reject::Overloaded("consumer groups of the embedded store"));
            }
            let mut batch = self.disk.database.batch();
            batch.insert(&self.disk.catalog, key, b"".as_slice());
            self.commit(batch)?;
            self.groups += 1;
        }
        Ok(Arc::new(Consumer { durable, station, ack_wait: ACK_WAIT }))
    }

    fn list(&self) -> Vec<StationInfo> {
        let mut stations: Vec<StationInfo> = self
            .stations
            .values()
            .map(|entry| StationInfo {
                station: Arc::clone(&entry.state.station),
                created_ms: entry.state.doc.created_ms,
                partitions: entry.state.partitions.iter().map(|one| one.mark().into()).collect(),
                groups: self.groups_of(&entry.state.station.name),
            })
            .collect();
        stations.sort_by(|one, other| one.station.name.cmp(&other.station.name));
        stations
    }

    fn groups_of(&self, station: &Name) -> Vec<GroupInfo> {
        let prefix = format::groups_prefix(station.as_str());
        let keys = self.disk.catalog.prefix(&prefix).filter_map(|item| item.key().ok());
        keys.filter_map(|key| {
            let durable = std::str::from_utf8(key.get(prefix.len()..)?).ok()?;
            Some(GroupInfo { durable: durable.into() })
        })
        .collect()
    }

    fn put(&mut self, key: &str, value: &[u8], expect: Option<u64>) -> Result<u64, PutError> {
        self.compare(key, expect)?;
        let revision = self.revision + 1;
        let mut batch = self.disk.database.batch();
        batch.insert(&self.disk.registry, key, [&revision.to_be_bytes(), value].concat());
        batch.insert(&self.disk.catalog, format::REVISION, revision.to_be_bytes());
        self.commit(batch).map_err(PutError::Rejected)?;
        self.revision = revision;
        Ok(revision)
    }

    fn delete(&mut self, key: &str, expect: Option<u64>) -> Result<bool, PutError> {
        let found = self.compare(key, expect)?;
        if found == 0 {
            return Ok(false);
        }
        let revision = self.revision + 1;
        let mut batch = self.disk.database.batch();
        batch.remove(&self.disk.registry, key);
        batch.insert(&self.disk.catalog, format::REVISION, revision.to_be_bytes());
        self.commit(batch).map_err(PutError::Rejected)?;
        self.revision = revision;
        Ok(true)
    }

    /// The document's revision, 0 if there is none, if it is the expected one.
    fn compare(&self, key: &str, expect: Option<u64>) -> Result<u64, PutError> {
        let found = self.disk.registry.get(key).map_err(|error| PutError::Rejected(unreadable(&error)))?;
        let revision = found.and_then(|value| format::parse_u64(value.get(..8)?)).unwrap_or(0);
        match expect {
            Some(expect) if expect != revision => Err(PutError::Conflict { found: revision }),
            _ => Ok(revision),
        }
    }

    /// A commit that is synced before it is answered.
    fn commit(&mut self, batch: OwnedWriteBatch) -> Result<(), Reject> {
        self.sync(batch).map_err(|error| self.fail(&error))
    }
}

/// The store could not read; writing goes on.
fn unreadable(error: &fjall::Error) -> Reject {
    Reject::StoreFailed(format!("the store could not read: {error}").into())
}
