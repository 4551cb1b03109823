//! The consumer groups of a store: who made them, when they were last used, how many there may be.
//!
//! Groups are kept for as long as they are used, whether the process runs or not. What is written of that is coarse: at most once
//! in [`USED_EVERY`] for each group. An unused group expires by the wall clock, but not before it has been seen unused for a
//! while in monotonic time as well, so that a clock that was set wrong takes no group away.

use super::{
    GroupInfo, StationError,
    catalog::millis,
    format,
    messages::{GroupName, Request},
    writer::Writer,
};
use crate::{
    limits::{
        ACK_WAIT, GROUPS_PER_PRINCIPAL_MAX, GROUPS_PER_STATION_MAX, LOCAL_GROUPS_MAX, LOCAL_GROUPS_PER_PRINCIPAL_MAX,
    },
    reject::Reject,
    station::{Consumer, Name},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// How often it is written that a group is used, at most.
pub(super) const USED_EVERY: Duration = Duration::from_secs(3_600);
/// Groups that expire in one commit.
const EXPIRED_AT_ONCE: usize = 1_000;

/// A group on disk. Older versions wrote nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupDoc {
    /// ms since the epoch; 0: not known.
    pub(super) created_ms: u64,
    /// When it was last used, as far as that was written.
    pub(super) used_ms: u64,
    /// Who made it: a user's name, or `key:` and a key's id. Empty: not known.
    pub(super) principal: Box<str>,
}

impl GroupDoc {
    fn text(&self) -> Vec<u8> {
        // Two numbers and a text can be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A group, as the writer knows it.
#[derive(Debug)]
struct Known {
    doc: GroupDoc,
    /// When it was last seen to be used, or the store was opened; monotonic.
    seen_ms: u64,
}

/// All groups of a store, by station.
#[derive(Debug, Default)]
pub(super) struct Groups {
    of: HashMap<Box<str>, BTreeMap<Box<str>, Known>>,
    count: usize,
}

impl Groups {
    /// Takes a group as its key and value have it, at this time by both clocks.
    pub(super) fn load(&mut self, key: &[u8], value: &[u8], (wall_ms, now_ms): (u64, u64)) {
        let Some((station, durable)) = format::parse_group_key(key) else { return };
        let mut doc: GroupDoc = serde_json::from_slice(value).unwrap_or_default();
        if doc.used_ms == 0 {
            doc.used_ms = wall_ms;
        }
        self.insert(station, durable, doc, now_ms);
    }

    fn insert(&mut self, station: &str, durable: &str, doc: GroupDoc, seen_ms: u64) {
        let of = self.of.entry(station.into()).or_default();
        if of.insert(durable.into(), Known { doc, seen_ms }).is_none() {
            self.count += 1;
        }
    }

    fn get_mut(&mut self, station: &str, durable: &str) -> Option<&mut Known> {
        self.of.get_mut(station)?.get_mut(durable)
    }

    fn remove(&mut self, station: &str, durable: &str) {
        let Some(of) = self.of.get_mut(station) else { return };
        if of.remove(durable).is_some() {
            self.count -= 1;
        }
        if of.is_empty() {
            self.of.remove(station);
        }
    }

    /// Forgets the groups of a station.
    pub(super) fn remove_station(&mut self, station: &str) {
        self.count -= self.of.remove(station).map_or(0, |of| of.len());
    }

    /// The groups of a station, by name.
    pub(super) fn list(&self, station: &str) -> Vec<GroupInfo> {
        let of = self.of.get(station).into_iter().flatten();
        of.map(|(durable, known)| GroupInfo {
            durable: durable.clone(),
            created_ms: known.doc.created_ms,
            used_ms: known.doc.used_ms,
            principal: known.doc.principal.clone(),
        })
        .collect()
    }

    /// Whether this principal may make another group of a station.
    fn check(&self, station: &str, principal: &str) -> Result<(), Reject> {
        let of = self.of.get(station);
        let own =
            |of: &BTreeMap<Box<str>, Known>| of.values().filter(|known| &*known.doc.principal == principal).count();
        let reached = |what: String, max: usize| {
            let text = format!("{what} has {max} consumer groups, as many as it may: remove some that are not used");
            Err(Reject::Conflict(text.into()))
        };
        if of.map_or(0, BTreeMap::len) >= GROUPS_PER_STATION_MAX {
            return reached(format!("station {station}"), GROUPS_PER_STATION_MAX);
        }
        if of.map_or(0, own) >= GROUPS_PER_PRINCIPAL_MAX {
            return reached(format!("{principal} on station {station}"), GROUPS_PER_PRINCIPAL_MAX);
        }
        if self.of.values().map(own).sum::<usize>() >= LOCAL_GROUPS_PER_PRINCIPAL_MAX {
            return reached(format!("{principal} on all stations"), LOCAL_GROUPS_PER_PRINCIPAL_MAX);
        }
        if self.count >= LOCAL_GROUPS_MAX {
            return reached("the embedded store".to_owned(), LOCAL_GROUPS_MAX);
        }
        Ok(())
    }

    /// Groups that were not used for this long.
    fn expired(&self, expiry: Duration, (wall_ms, now_ms): (u64, u64)) -> Vec<(Box<str>, Box<str>)> {
        let (unused, unseen) = (millis(expiry), millis(expiry.min(USED_EVERY)));
        let is_over = |known: &Known| {
            wall_ms.saturating_sub(known.doc.used_ms) >= unused && now_ms.saturating_sub(known.seen_ms) >= unseen
        };
        let all =
            self.of.iter().flat_map(|(station, of)| of.iter().map(move |(durable, known)| (station, durable, known)));
        let over = all.filter(|(_, _, known)| is_over(known));
        over.map(|(station, durable, _)| (station.clone(), durable.clone())).take(EXPIRED_AT_ONCE).collect()
    }
}

impl Writer {
    /// The consumer group of this name, made for this principal if it is not there.
    pub(super) fn consumer(
        &mut self,
        station: Name,
        group: Option<&Name>,
        principal: &str,
    ) -> Result<Arc<Consumer>, Reject> {
        if !self.stations.contains_key(&station) {
            return Err(Reject::StationUnknown(station.as_str().into()));
        }
        let durable = Consumer::durable_name(group).into_boxed_str();
        let now_ms = self.kept.clock.monotonic_ms();
        if let Some(known) = self.groups.get_mut(station.as_str(), &durable) {
            known.seen_ms = now_ms;
        } else {
            self.groups.check(station.as_str(), principal)?;
            let wall_ms = self.kept.clock.wall_ms();
            let doc = GroupDoc { created_ms: wall_ms, used_ms: wall_ms, principal: principal.into() };
            self.make_group(&station, &durable, &doc)?;
            self.groups.insert(station.as_str(), &durable, doc, now_ms);
        }
        Ok(Arc::new(Consumer { durable, station, ack_wait: ACK_WAIT }))
    }

    /// Saves a new group, or holds it until it can be saved: what it reads until then comes again after a crash.
    fn make_group(&mut self, station: &Name, durable: &str, doc: &GroupDoc) -> Result<(), Reject> {
        let key = format::group_key(station.as_str(), durable);
        if self.kept.shared.refusal().is_none() {
            let mut batch = self.disk.database.batch();
            // A position that was on its way when an older group of this name was removed is not this one's.
            for cursor in self.saved_cursors(station, durable).map_err(|error| self.disk.unreadable(&error))? {
                batch.remove(&self.disk.cursors, cursor);
            }
            batch.insert(&self.disk.catalog, key, doc.text());
            return self.commit(batch);
        }
        self.kept.held.groups.insert(key, doc.text());
        self.kept.reader.send(Request::GroupCame(GroupName { station: station.clone(), durable: durable.into() })).ok();
        Ok(())
    }

    /// Keys of the positions that are saved of a group.
    fn saved_cursors(&self, station: &Name, durable: &str) -> fjall::Result<Vec<Vec<u8>>> {
        let mut saved = Vec::new();
        for partition in self.stations.get(station).into_iter().flat_map(|entry| &entry.state.partitions) {
            let key = format::cursor_key(partition.id, durable);
            if self.disk.cursors.contains_key(&key)? {
                saved.push(key);
            }
        }
        Ok(saved)
    }

    /// A group is being used; written with what is committed next.
    pub(super) fn group_used(&mut self, name: &GroupName) {
        let (wall_ms, now_ms) = (self.kept.clock.wall_ms(), self.kept.clock.monotonic_ms());
        let Some(known) = self.groups.get_mut(name.station.as_str(), &name.durable) else { return };
        known.seen_ms = now_ms;
        known.doc.used_ms = wall_ms;
        self.kept.held.groups.insert(format::group_key(name.station.as_str(), &name.durable), known.doc.text());
    }

    /// Removes a group; whether there was one. Made again, it begins at the first record.
    pub(super) fn delete_group(&mut self, station: &Name, durable: &str) -> Result<bool, StationError> {
        if !self.stations.contains_key(station) {
            return Err(StationError::Unknown);
        }
        if self.groups.get_mut(station.as_str(), durable).is_none() {
            return Ok(false);
        }
        self.remove_groups(&[(station.as_str().into(), durable.into())]).map_err(StationError::Rejected)?;
        Ok(true)
    }

    /// Removes the groups that nobody has used for as long as the settings say.
    pub(super) fn expire_groups(&mut self) {
        let Some(expiry) = self.kept.defaults.group_expiry else { return };
        let expired = self.groups.expired(expiry, (self.kept.clock.wall_ms(), self.kept.clock.monotonic_ms()));
        if expired.is_empty() || self.remove_groups(&expired).is_err() {
            return;
        }
        for (station, group) in expired {
            tracing::info!(%station, %group, "a consumer group that nobody used has expired");
        }
    }

    fn remove_groups(&mut self, groups: &[(Box<str>, Box<str>)]) -> Result<(), Reject> {
        let mut batch = self.disk.database.batch();
        let mut removed = Vec::with_capacity(groups.len());
        for (station, durable) in groups {
            let Ok(name) = Name::parse(station) else { continue };
            for cursor in self.saved_cursors(&name, durable).map_err(|error| self.disk.unreadable(&error))? {
                batch.remove(&self.disk.cursors, cursor);
            }
            let key = format::group_key(station, durable);
            batch.remove(&self.disk.catalog, key.as_slice());
            removed.push((GroupName { station: name, durable: durable.clone() }, key));
        }
        self.commit(batch)?;
        for (name, key) in removed {
            self.kept.held.groups.remove(&key);
            for partition in self.stations.get(&name.station).into_iter().flat_map(|entry| &entry.state.partitions) {
                self.kept.held.cursors.remove(&format::cursor_key(partition.id, &name.durable));
            }
            self.groups.remove(name.station.as_str(), &name.durable);
            // The reader never waits for the writer, so waiting for it ends.
            self.kept.reader.send(Request::GroupWent(name)).ok();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn f1_a_full_station_or_store_says_which_limit_it_is() {
        let mut groups = Groups::default();
        for number in 0..LOCAL_GROUPS_MAX {
            let doc = GroupDoc { principal: format!("p{}", number % 100).into(), ..GroupDoc::default() };
            groups.insert(&format!("s{}", number / GROUPS_PER_STATION_MAX), &format!("g{number}"), doc, 0);
        }
        for (station, expect) in [("s3", "station s3 has 1000 "), ("fresh", "the embedded store has 10000 ")] {
            let refused = groups.check(station, "ann");
            assert!(matches!(&refused, Err(Reject::Conflict(text)) if text.contains(expect)), "{refused:?}");
        }
        groups.remove("s9", "g9999");
        assert_eq!(groups.check("fresh", "ann"), Ok(()));
        assert_eq!(groups.check("s9", "ann"), Ok(()));
    }

    #[test]
    fn a_group_expires_by_the_wall_clock_and_only_if_it_was_seen_unused() {
        let expiry = Duration::from_secs(35 * 86_400);
        let at = |used_ms, seen_ms, wall_ms, now_ms| {
            let mut groups = Groups::default();
            groups.insert("s", "g", GroupDoc { used_ms, ..GroupDoc::default() }, seen_ms);
            groups.expired(expiry, (wall_ms, now_ms)).len()
        };
        let start = 400 * DAY_MS;
        for (case, used_ms, wall_ms, now_ms, expect) in [
            ("used just now", start, start, 0, 0),
            ("used a month ago", start, start + 31 * DAY_MS, 31 * DAY_MS, 0),
            ("used long ago", start, start + 35 * DAY_MS, 35 * DAY_MS, 1),
            ("used long ago, but the store was only just opened", start, start + 36 * DAY_MS, 0, 0),
            ("the same an hour later", start, start + 36 * DAY_MS, 3_600_000, 1),
            ("the clock went back", start, start - 100 * DAY_MS, 36 * DAY_MS, 0),
        ] {
            assert_eq!(at(used_ms, 0, wall_ms, now_ms), expect, "{case}");
        }
        assert_eq!(
            at(start, 9 * DAY_MS, start + 99 * DAY_MS, 9 * DAY_MS),
            0,
            "a clock that jumped takes none that is used"
        );
    }

    #[test]
    fn what_an_older_version_wrote_counts_as_used_when_the_store_is_opened() {
        let mut groups = Groups::default();
        groups.load(&format::group_key("s", "g"), b"", (7, 0));
        let [group] = groups.list("s").try_into().expect("one");
        assert_eq!((&*group.durable, group.used_ms, group.created_ms, &*group.principal), ("g", 7, 0, ""));
        let doc = GroupDoc { created_ms: 1, used_ms: 2, principal: "eve".into() };
        groups.load(&format::group_key("s", "h"), &doc.text(), (7, 0));
        assert_eq!(groups.get_mut("s", "h").expect("there").doc, doc);
        assert_eq!(groups.count, 2);
        groups.remove("s", "h");
        groups.remove("s", "h");
        assert_eq!(groups.count, 1);
        groups.remove_station("s");
        assert_eq!(groups.count, 0);
    }
}
