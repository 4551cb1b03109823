//! Counts how much API keys are used, by the shards of this process: counts outlive the snapshots that carry them.

use super::registry::{documents::KeyDocument, snapshot::Collection};
use crate::{auth::keys::KeyUses, station::Name};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// The length of "the last minute".
const MINUTE: Duration = Duration::from_secs(60);

/// The counts of all keys. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct KeyUsage {
    shards: usize,
    meters: watch::Sender<HashMap<Name, Meter>>,
}

#[derive(Debug)]
struct Meter {
    uses: Arc<KeyUses>,
    /// All uses up to the end of the last minute.
    until_minute: u64,
    /// The uses within it.
    within_minute: u64,
}

impl KeyUsage {
    pub(super) fn new(shards: usize) -> Self {
        Self { shards, meters: watch::Sender::default() }
    }

    /// Returns the counter of this key's uses.
    pub(super) fn of(&self, id: &Name) -> Arc<KeyUses> {
        let meter = || Meter { uses: Arc::new(KeyUses::new(self.shards + 1)), until_minute: 0, within_minute: 0 };
        if let Some(meter) = self.meters.borrow().get(id) {
            return Arc::clone(&meter.uses);
        }
        let meter = meter();
        let uses = Arc::clone(&meter.uses);
        self.meters.send_modify(|meters| drop(meters.insert(id.clone(), meter)));
        uses
    }

    /// Counts one more request with this key on the admin API: the control thread has a cell of its own, behind those
    /// of the shards.
    pub(super) fn count(&self, id: &Name) {
        if let (Some(meter), Ok(cell)) = (self.meters.borrow().get(id), u16::try_from(self.shards)) {
            meter.uses.count(cell);
        }
    }

    /// Removes the counts of keys that no longer exist.
    pub(super) fn retain(&self, keys: &Collection<KeyDocument>) {
        self.meters.send_modify(|meters| meters.retain(|id, _| keys.get(id).is_some()));
    }

    /// Returns the uses of a key since the start, and within the last complete minute.
    pub(super) fn uses(&self, id: &Name) -> (u64, u64) {
        self.meters.borrow().get(id).map_or((0, 0), |meter| (meter.uses.total(), meter.within_minute))
    }

    /// Counts by the minute, for ever.
    pub(super) async fn run(self) {
        let mut minutes = interval(MINUTE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            minutes.tick().await;
            self.minute_is_over();
        }
    }

    fn minute_is_over(&self) {
        self.meters.send_modify(|meters| {
            for meter in meters.values_mut() {
                let total = meter.uses.total();
                meter.within_minute = total.saturating_sub(meter.until_minute);
                meter.until_minute = total;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_with_their_key_until_it_is_gone() {
        let usage = KeyUsage::new(2);
        let id = Name::parse("abc").expect("a name");
        let uses = usage.of(&id);
        assert!(Arc::ptr_eq(&uses, &usage.of(&id)));
        usage.minute_is_over();
        assert_eq!(usage.uses(&id), (uses.total(), 0));
        usage.retain(&Collection::default());
        assert!(!Arc::ptr_eq(&uses, &usage.of(&id)));
    }
}
