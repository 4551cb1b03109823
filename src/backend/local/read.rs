//! Reads by place, and watches for what is appended: the shard's side and the reader thread's.
//!
//! A watch waits in the reader, which every commit wakes anyway: the writer does nothing for it. It is over with its
//! first answer, or when whoever waits has gone.

use super::{
    catalog::{PartitionState, StationState},
    disk::Disk,
    format::{Mark, Record},
    handle::Handle,
    messages::Request,
};
use crate::{
    backend::{Bounds, Page, Read, Start},
    limits::LOCAL_WATCHES_MAX,
    reject::Reject,
    station::{Name, Station},
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    rc::Rc,
    sync::Arc,
};

/// A read, on its way to the reader thread.
#[derive(Debug)]
pub(super) struct ReadRequest {
    station: Name,
    partition: u16,
    start: Start,
    bounds: Bounds,
    reply: flume::Sender<Result<Page, Reject>>,
}

/// A wait for records, on its way to the reader thread.
#[derive(Debug)]
pub(super) struct WatchRequest {
    station: Name,
    /// Partitions, and the sequence that each is to reach.
    wanted: Vec<(u16, u64)>,
    reply: flume::Sender<Reached>,
}

/// The partitions that have reached what was wanted of them, and the newest sequence of each.
type Reached = Result<Vec<(u16, u64)>, Reject>;

/// A shard's watch of one station.
#[derive(Debug)]
pub struct Watch {
    handle: Rc<Handle>,
    station: Arc<Station>,
}

impl Handle {
    /// Reads records by place.
    pub async fn read(&self, read: &Read<'_>) -> Result<Page, Reject> {
        let (reply, answer) = flume::bounded(1);
        let &Read { station, partition, start, bounds } = read;
        let request = ReadRequest { station: station.name.clone(), partition, start, bounds, reply };
        self.shared.send(&self.reader, Request::Read(request))?;
        answer.recv_async().await.map_err(|_| self.shared.gone())?
    }
}

impl Watch {
    pub(in crate::backend) fn new(handle: Rc<Handle>, station: Arc<Station>) -> Self {
        Self { handle, station }
    }

    /// Waits until a partition has something at or after the sequence that is wanted of it. May be dropped at any point.
    pub async fn reached(&mut self, wanted: &[(u16, u64)]) -> Reached {
        let (reply, answer) = flume::bounded(1);
        let request = WatchRequest { station: self.station.name.clone(), wanted: wanted.to_vec(), reply };
        let shared = &self.handle.shared;
        shared.send(&self.handle.reader, Request::Watch(request))?;
        answer.recv_async().await.map_err(|_| shared.gone())?
    }
}

impl ReadRequest {
    /// Answers from the disk.
    pub(super) fn serve(self, disk: &Disk, stations: &HashMap<Name, Arc<StationState>>) {
        let station = stations.get(&self.station).filter(|state| !state.is_deleted());
        let partition = station.and_then(|state| state.partitions.get(usize::from(self.partition)));
        let answer = match partition {
            Some(partition) => self.page(disk, partition).map_err(|error| disk.unreadable(&error)),
            None => Err(Reject::NoStream),
        };
        self.reply.try_send(answer).ok();
    }

    pub(super) fn refuse(self, why: Reject) {
        self.reply.try_send(Err(why)).ok();
    }

    fn page(&self, disk: &Disk, partition: &PartitionState) -> fjall::Result<Page> {
        let mark = partition.mark();
        let asked = match self.start {
            Start::First => mark.first,
            Start::New => mark.last + 1,
            Start::Sequence(sequence) => sequence.max(1),
            Start::Since(time_ms) => first_since(disk, partition.id, mark, time_ms)?,
        };
        let mut page = Page::default();
        let mut is_whole = true;
        let from = asked.max(mark.first);
        let removed =
            if partition.removed() > 0 { disk.removed(partition.id, from, mark.last)? } else { BTreeMap::new() };
        if from <= mark.last {
            disk.scan(partition.id, from, mark.last, |time_ms, sequence, body| {
                if removed.contains_key(&sequence) {
                    return ControlFlow::Continue(());
                }
                // A body that does not parse cannot come from the writer; its bytes are shown rather than hidden.
                let Record { headers, payload } = Record::parse(body).unwrap_or(Record { headers: b"", payload: body });
                is_whole = page.push(&self.bounds, (sequence, time_ms), headers, payload);
                if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        if is_whole {
            page.next = asked.max(mark.last + 1);
        }
        if page.misses(self.start) {
            // Read again: what went while the records were read is not there either.
            let mark = partition.mark();
            page.kept = Some(mark.first..mark.last + 1);
        }
        Ok(page)
    }
}

/// Returns the sequence of the first record that was stored at that time or later; behind the last one if there is none. Times
/// are taken to rise with the sequences: a clock that was set back makes the answer less exact.
fn first_since(disk: &Disk, partition: u32, mark: Mark, time_ms: u64) -> fjall::Result<u64> {
    let (mut low, mut high) = (mark.first, mark.last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match disk.stored(partition, middle)? {
            Some((last, stored_ms)) if stored_ms < time_ms => low = last.max(middle) + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The watches that wait in the reader thread.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<(Arc<StationState>, WatchRequest)>);

impl Watches {
    /// Takes a watch in: [`Self::serve`] answers it.
    pub(super) fn add(&mut self, request: WatchRequest, stations: &HashMap<Name, Arc<StationState>>) {
        match stations.get(&request.station) {
            None => request.refuse(Reject::NoStream),
            Some(_) if self.0.len() >= LOCAL_WATCHES_MAX => {
                request.refuse(Reject::Overloaded("the number of reads that wait for records"));
            }
            Some(station) => self.0.push((Arc::clone(station), request)),
        }
    }

    /// Answers the watches that have reached what they want, and drops those of whoever has gone.
    pub(super) fn serve(&mut self) {
        self.0.retain(|(station, request)| {
            let reached = |(partition, sequence): &(u16, u64)| {
                let last = station.partitions.get(usize::from(*partition))?.mark().last;
                (last >= *sequence).then_some((*partition, last))
            };
            let found: Vec<(u16, u64)> = request.wanted.iter().filter_map(reached).collect();
            if found.is_empty() {
                return !request.reply.is_disconnected();
            }
            request.reply.try_send(Ok(found)).ok();
            false
        });
    }

    /// A station was deleted: who watches it learns that.
    pub(super) fn forget(&mut self, station: &Name) {
        for (_, request) in self.0.extract_if(.., |(_, request)| request.station == *station) {
            request.refuse(Reject::NoStream);
        }
    }

    /// Answers every watch with this.
    pub(super) fn end(&mut self, why: &Reject) {
        for (_, request) in self.0.drain(..) {
            request.refuse(why.clone());
        }
    }
}

impl WatchRequest {
    pub(super) fn refuse(self, why: Reject) {
        self.reply.try_send(Err(why)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::local::catalog::{Rules, StationDoc};

    #[test]
    fn a_watch_is_kept_until_it_is_answered_or_whoever_waits_has_gone() {
        let rules = Rules { age_ms: None, records: None, bytes: None, acknowledged: false, window_ms: 0 };
        let marks = [Mark { first: 1, last: 4, bytes: 4 }, Mark::EMPTY];
        let name = Name::parse("orders").expect("a name");
        let state =
            StationState::new(name.clone(), &StationDoc { partitions: vec![1, 2], rules, created_ms: 0 }, &marks);
        let stations = HashMap::from([(name.clone(), Arc::new(state))]);
        let mut watches = Watches::default();
        let mut add = |wanted: &[(u16, u64)]| {
            let (reply, answer) = flume::bounded(1);
            let request = WatchRequest { station: name.clone(), wanted: wanted.to_vec(), reply };
            watches.add(request, &stations);
            watches.serve();
            (answer, watches.0.len())
        };
        let (answer, kept) = add(&[(0, 4), (1, 1), (9, 1)]);
        assert_eq!((answer.try_recv(), kept), (Ok(Ok(vec![(0, 4)])), 0));
        let (waits, kept) = add(&[(0, 5), (1, 1)]);
        assert!(waits.is_empty() && kept == 1);
        drop(waits);
        let (waits, kept) = add(&[(0, 5)]);
        assert!(waits.is_empty() && kept == 1, "the other one has gone");
        watches.forget(&Name::parse("another").expect("a name"));
        assert!(waits.is_empty());
        watches.forget(&name);
        assert_eq!((waits.try_recv(), watches.0.len()), (Ok(Err(Reject::NoStream)), 0));
    }
}
