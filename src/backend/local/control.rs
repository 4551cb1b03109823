//! What the control plane asks of the writer: stations, consumer groups, registry documents.
//!
//! Each change is a commit of its own, synced before it is answered.

use super::{
    PartitionInfo, PutError, StationError, StationInfo,
    catalog::{PartitionState, Rules, StationDoc, StationState},
    format::{self, Mark},
    messages::{Control, Discard, Request, RetentionCommand},
    writer::{Entry, Writer},
};
use crate::{
    limits::{LOCAL_PARTITION_IDS_MAX, LOCAL_PARTITIONS_MAX, LOCAL_REMOVED_MAX, PARTITIONS_MAX},
    reject::Reject,
    station::{Attributes, AttributesChange, Name, Station, Storage},
};
use fjall::OwnedWriteBatch;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

impl Writer {
    pub(super) fn control(&mut self, control: Control) {
        // Whoever does not wait any more is not told.
        match control {
            Control::Create { name, attributes, reply } => drop(reply.try_send(self.create(&name, &attributes))),
            Control::Change { name, change, reply } => drop(reply.try_send(self.change(&name, &change))),
            Control::Describe { name, reply } => {
                drop(reply.try_send(self.stations.get(&name).map(|one| self.info(one))));
            }
            Control::State { name, reply } => {
                drop(reply.try_send(self.stations.get(&name).map(|entry| Arc::clone(&entry.state))));
            }
            Control::Disk { reply } => drop(reply.try_send(self.disk.clone())),
            Control::Discard { station, which, reply } => drop(reply.try_send(self.discard(&station, which))),
            Control::Station { name, create, reply } => drop(reply.try_send(self.station(&name, create))),
            Control::DeleteStation { name, reply } => drop(reply.try_send(self.delete_station(&name))),
            Control::Consumer { station, group, principal, reply } => {
                drop(reply.try_send(self.consumer(station, group.as_ref(), &principal)));
            }
            Control::DeleteGroup { station, durable, reply } => {
                drop(reply.try_send(self.delete_group(&station, &durable)));
            }
            Control::ExpireGroups => self.expire_groups(),
            Control::Stations { reply } => drop(reply.try_send(self.list())),
            Control::Put { key, value, expect, reply } => drop(reply.try_send(self.put(&key, &value, expect))),
            Control::Delete { key, expect, reply } => drop(reply.try_send(self.delete(&key, expect))),
        }
    }

    fn station(&mut self, name: &Name, create: bool) -> Result<Arc<Station>, Reject> {
        if let Some(entry) = self.stations.get(name) {
            return Ok(entry.state.as_it_is());
        }
        if !create {
            return Err(Reject::StationUnknown(name.as_str().into()));
        }
        self.make(name, &self.kept.defaults.attributes())
    }

    fn create(&mut self, name: &Name, attributes: &Attributes) -> Result<(), StationError> {
        check(attributes)?;
        if let Some(entry) = self.stations.get(name) {
            let same = entry.state.partitions.len() == usize::from(attributes.partitions)
                && entry.state.rules() == Rules::from(attributes);
            return if same { Ok(()) } else { Err(StationError::Exists) };
        }
        self.make(name, attributes).map(drop).map_err(StationError::Rejected)
    }

    /// Makes a station that is not there.
    fn make(&mut self, name: &Name, attributes: &Attributes) -> Result<Arc<Station>, Reject> {
        let count = usize::from(attributes.partitions);
        let next = self.next_partition.checked_add(u32::from(attributes.partitions));
        let Some(next) = next.filter(|next| *next < LOCAL_PARTITION_IDS_MAX) else {
            let text = "the embedded store has had as many partitions in its life as it can number: begin a new data directory";
            return Err(Reject::Conflict(text.into()));
        };
        if self.partitions + count > LOCAL_PARTITIONS_MAX {
            let text = format!(
                "the embedded store has {} of at most {LOCAL_PARTITIONS_MAX} partitions, and {count} more do not fit: \
                 remove stations, or ask for fewer partitions",
                self.partitions
            );
            return Err(Reject::Conflict(text.into()));
        }
        let ids = (self.next_partition..next).collect();
        let rules = Rules::from(attributes);
        let doc = StationDoc { partitions: ids, rules, created_ms: self.kept.clock.wall_ms() };
        let mut batch = self.disk.database.batch();
        batch.insert(&self.disk.catalog, format::station_key(name.as_str()), text(&doc)?);
        batch.insert(&self.disk.catalog, format::NEXT_PARTITION, next.to_be_bytes());
        for id in &doc.partitions {
            batch.insert(&self.disk.catalog, format::mark_key(*id), Mark::EMPTY.encode());
        }
        self.commit(batch)?;
        self.next_partition = next;
        self.partitions += count;
        let state = Arc::new(StationState::new(name.clone(), &doc, &vec![Mark::EMPTY; count]));
        self.stations.insert(name.clone(), Entry::new(Arc::clone(&state)));
        // These two never wait for the writer, so waiting for them ends.
        self.kept.reader.send(Request::StationCame(Arc::clone(&state))).ok();
        self.kept.keep.send(RetentionCommand::StationCame(Arc::clone(&state))).ok();
        Ok(Arc::clone(&state.station))
    }

    fn change(&mut self, name: &Name, change: &AttributesChange) -> Result<(), StationError> {
        let entry = self.stations.get(name).ok_or(StationError::Unknown)?;
        let state = Arc::clone(&entry.state);
        let attributes = state.attributes().changed(change);
        check(&attributes)?;
        let rules = Rules::from(&attributes);
        if rules == state.rules() {
            return Ok(());
        }
        let text = text(&state.doc(rules)).map_err(StationError::Rejected)?;
        let mut batch = self.disk.database.batch();
        batch.insert(&self.disk.catalog, format::station_key(name.as_str()), text);
        self.commit(batch).map_err(StationError::Rejected)?;
        state.set_rules(rules);
        Ok(())
    }

    /// Removes records of a station's first partition; how many there were. Those in front of all that are kept move
    /// the partition's beginning, as retention does; the others are remembered one by one.
    fn discard(&mut self, station: &Arc<StationState>, which: Discard) -> Result<u64, StationError> {
        let same = |entry: &&Entry| Arc::ptr_eq(&entry.state, station);
        let entry = self.stations.get(&station.station.name).filter(same).ok_or(StationError::Unknown)?;
        let (Some(state), Some(staged)) = (station.partitions.first(), entry.staged.first()) else { return Ok(0) };
        let old = staged.mark;
        let removed = self.disk.removed(state.id, old.first, old.last).map_err(|error| self.disk.unreadable(&error))?;
        let after = Removal::of(old, &removed, which);
        if after.removed.len() > LOCAL_REMOVED_MAX {
            return Err(StationError::Invalid(format!(
                "at most {LOCAL_REMOVED_MAX} records of a station can be removed from between others that stay; remove the \
                 older ones first, or all"
            )));
        }
        if after.count == 0 {
            return Ok(0);
        }
        let mut batch = self.disk.database.batch();
        for sequence in removed.keys().filter(|sequence| !after.removed.contains_key(sequence)) {
            batch.remove(&self.disk.catalog, format::removed_key(state.id, *sequence));
        }
        for (sequence, bytes) in after.removed.iter().filter(|(sequence, _)| !removed.contains_key(sequence)) {
            batch.insert(&self.disk.catalog, format::removed_key(state.id, *sequence), bytes.to_be_bytes());
        }
        batch.insert(&self.disk.catalog, format::mark_key(state.id), after.mark.encode());
        self.commit(batch).map_err(StationError::Rejected)?;
        let remembered = after.removed.len() as u64;
        if let Some(staged) = self.stations.get_mut(&station.station.name).and_then(|entry| entry.staged.first_mut()) {
            staged.mark = after.mark;
            staged.removed = remembered;
        }
        state.publish(after.mark);
        state.set_removed(remembered);
        let bytes = old.bytes.saturating_sub(after.mark.bytes);
        self.kept.keep.send(RetentionCommand::Discarded { partition: state.id, bytes }).ok();
        Ok(after.count)
    }

    fn delete_station(&mut self, name: &Name) -> Result<bool, Reject> {
        let Some(entry) = self.stations.get(name) else { return Ok(false) };
        let state = Arc::clone(&entry.state);
        let mut batch = self.disk.database.batch();
        batch.remove(&self.disk.catalog, format::station_key(name.as_str()));
        for item in self.disk.catalog.prefix(format::groups_prefix(name.as_str())) {
            batch.remove(&self.disk.catalog, item.key().map_err(|error| self.disk.unreadable(&error))?);
        }
        for PartitionState { id, .. } in &state.partitions {
            batch.remove(&self.disk.catalog, format::mark_key(*id));
            for sequence in
                self.disk.removed(*id, 0, u64::MAX).map_err(|error| self.disk.unreadable(&error))?.into_keys()
            {
                batch.remove(&self.disk.catalog, format::removed_key(*id, sequence));
            }
            for item in self.disk.cursors.prefix(id.to_be_bytes()) {
                batch.remove(&self.disk.cursors, item.key().map_err(|error| self.disk.unreadable(&error))?);
            }
        }
        self.commit(batch)?;
        self.groups.remove_station(name.as_str());
        let prefix = format::groups_prefix(name.as_str());
        self.kept.held.groups.retain(|key, _| !key.starts_with(&prefix));
        self.partitions = self.partitions.saturating_sub(state.partitions.len());
        self.stations.remove(name);
        state.deleted.store(true, Ordering::Release);
        self.kept.reader.send(Request::StationWent(name.clone())).ok();
        self.kept.keep.send(RetentionCommand::StationWent(state)).ok();
        Ok(true)
    }

    fn list(&self) -> Vec<StationInfo> {
        let mut stations: Vec<StationInfo> = self.stations.values().map(|entry| self.info(entry)).collect();
        stations.sort_by(|one, other| one.station.name.cmp(&other.station.name));
        stations
    }

    fn info(&self, entry: &Entry) -> StationInfo {
        let state = &entry.state;
        StationInfo {
            station: state.as_it_is(),
            attributes: state.attributes(),
            created_ms: state.created_ms,
            partitions: state.partitions.iter().map(|one| PartitionInfo::new(one.mark(), one.removed())).collect(),
            groups: self.groups.list(state.station.name.as_str()),
        }
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
        let found = self.disk.registry.get(key).map_err(|error| PutError::Rejected(self.disk.unreadable(&error)))?;
        let revision = found.and_then(|value| format::parse_u64(value.get(..8)?)).unwrap_or(0);
        match expect {
            Some(expect) if expect != revision => Err(PutError::Conflict { found: revision }),
            _ => Ok(revision),
        }
    }

    /// Answers a request while nothing can be written: what is there can still be found and read.
    pub(super) fn refuse_control(&mut self, control: Control, why: &Reject) {
        let refused = || StationError::Rejected(why.clone());
        match control {
            Control::Station { ref name, .. } if self.stations.contains_key(name) => self.control(control),
            Control::Stations { .. } | Control::Describe { .. } | Control::State { .. } | Control::Disk { .. } => {
                self.control(control);
            }
            Control::Create { reply, .. } | Control::Change { reply, .. } => drop(reply.try_send(Err(refused()))),
            Control::Discard { reply, .. } => drop(reply.try_send(Err(refused()))),
            Control::Station { reply, .. } => drop(reply.try_send(Err(why.clone()))),
            Control::DeleteStation { reply, .. } => drop(reply.try_send(Err(why.clone()))),
            // Reading goes on, also for a group that cannot be saved yet.
            Control::Consumer { .. } => self.control(control),
            Control::DeleteGroup { reply, .. } => drop(reply.try_send(Err(refused()))),
            // It is looked at again.
            Control::ExpireGroups => {}
            Control::Put { reply, .. } => drop(reply.try_send(Err(PutError::Rejected(why.clone())))),
            Control::Delete { reply, .. } => drop(reply.try_send(Err(PutError::Rejected(why.clone())))),
        }
    }

    /// A commit that is synced before it is answered.
    pub(super) fn commit(&mut self, batch: OwnedWriteBatch) -> Result<(), Reject> {
        self.sync(batch).map_err(|error| self.fail(&error))
    }
}

/// What a partition becomes when records are removed from it.
#[derive(Debug, PartialEq, Eq)]
struct Removal {
    mark: Mark,
    /// What is to be remembered: the removed records that lie between others, and the bytes of each.
    removed: BTreeMap<u64, u64>,
    /// How many records went.
    count: u64,
}

impl Removal {
    /// From a partition's mark and what was removed from it before.
    fn of(mut mark: Mark, before: &BTreeMap<u64, u64>, which: Discard) -> Self {
        let there = (mark.last + 1).saturating_sub(mark.first).saturating_sub(before.len() as u64);
        let Discard::These(records) = which else {
            let mark = Mark { first: mark.last + 1, last: mark.last, bytes: 0 };
            return Self { mark, removed: BTreeMap::new(), count: there };
        };
        let mut removed = before.clone();
        let mut count = 0;
        for (sequence, bytes) in records {
            if (mark.first..=mark.last).contains(&sequence) && removed.insert(sequence, bytes).is_none() {
                mark.bytes = mark.bytes.saturating_sub(bytes);
                count += 1;
            }
        }
        while removed.remove(&mark.first).is_some() {
            mark.first += 1;
        }
        Self { mark, removed, count }
    }
}

impl Control {
    /// Whether it is about less that is stored, not more.
    pub(super) fn gives_space_back(&self) -> bool {
        matches!(
            self,
            Self::DeleteStation { .. } | Self::DeleteGroup { .. } | Self::Discard { .. } | Self::Delete { .. }
        )
    }
}

/// Whether this store can keep such a station.
fn check(attributes: &Attributes) -> Result<(), StationError> {
    let refused = |text: String| Err(StationError::Invalid(text));
    if !(1..=PARTITIONS_MAX).contains(&attributes.partitions) {
        return refused(format!("a station has 1 to {PARTITIONS_MAX} partitions, not {}", attributes.partitions));
    }
    if attributes.replicas != 1 {
        return refused(format!("the embedded store keeps one copy; {} are asked for", attributes.replicas));
    }
    if attributes.storage != Storage::File {
        return refused("the embedded store keeps records on disk; it has no storage in memory".to_owned());
    }
    Ok(())
}

fn text(doc: &StationDoc) -> Result<Vec<u8>, Reject> {
    serde_json::to_vec(doc).map_err(|_| Reject::Internal("a station does not serialise"))
}
