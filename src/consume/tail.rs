//! Following a station by place: one position over all of its partitions, which its reader keeps.
//!
//! A [`Tail`] reads the partitions in turns, so that none of them holds up the others, and waits where it has read
//! everything. It moves on only as its caller says that records have been passed on: what [`Tail::places`] names is at any
//! time where the reader would have to go on, and a reader that comes back with it misses nothing and gets nothing twice.
//! It knows no HTTP and no form of a cursor.

use super::read::{Arrival, HeldPage, ReadCall, Reader};
use crate::{
    backend::{Bounds, Start},
    limits::{GATHER_TIME_MAX, TAIL_PAUSE_MAX, TAIL_PAUSE_MIN, TAIL_TROUBLE_MAX},
    reject::{Fault, Reject},
    rt::{self, Elapsed, clock},
    station::Name,
};
use std::{
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

/// Where a tail begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest records that are kept.
    First,
    /// With what is stored from now on.
    New,
    /// With what was stored at this time, in milliseconds since 1970, or later.
    Since(u64),
    /// With what was stored so long ago, or later.
    Ago(Duration),
    /// Partitions with these sequences; those that are not named, with what is new.
    At(Vec<(u16, u64)>),
}

/// A position in a station.
#[derive(Debug)]
pub struct Tail {
    reader: Rc<Reader>,
    station: Name,
    places: Box<[Place]>,
    /// The place whose turn it is.
    turn: usize,
    /// Since when its reads fail.
    trouble: Option<Instant>,
    /// Whether the answer of a read that others have begun will do.
    may_share: bool,
}

/// A position in one partition.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: u16,
    /// The sequence that comes next.
    next: u64,
    /// Whether there may be records that were not read.
    is_unread: bool,
}

/// Records of one partition that come next.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The partition.
    pub partition: u16,
    /// The sequences that retention removed before they were read.
    pub gap: Option<Range<u64>>,
    /// The records; there are none if only the gap was found.
    pub page: Rc<HeldPage>,
    at: usize,
}

/// What a tail does next.
#[derive(Debug)]
pub enum Step {
    /// There are records, or there is a gap.
    Piece(Piece),
    /// Nothing has come for as long as was asked for.
    Quiet,
    /// The shard drains.
    Draining,
}

impl Tail {
    /// Returns a position in all partitions of a station, or in one of them. A shard that is full is asked again for
    /// `hold`.
    pub async fn open(
        reader: &Rc<Reader>,
        station: &Name,
        partition: Option<u16>,
        begin: &Begin,
        hold: Duration,
    ) -> Result<Self, Reject> {
        let until = clock::now() + hold;
        let count = reader.partitions(station, clock::now()).await?;
        if partition.is_some_and(|partition| partition >= count) {
            return Err(Reject::Field("partition: the station has no such partition"));
        }
        if let Begin::At(cursor) = begin
            && cursor.iter().any(|(partition, _)| *partition >= count)
        {
            return Err(Reject::Field("the cursor names a partition that the station does not have"));
        }
        let partitions = partition.map_or(0..count, |partition| partition..partition + 1);
        let mut tail = Self {
            reader: Rc::clone(reader),
            station: station.clone(),
            places: Box::default(),
            turn: 0,
            trouble: None,
            may_share: false,
        };
        let mut places = Vec::with_capacity(partitions.len());
        for partition in partitions {
            places.push(tail.place(partition, begin, until).await?);
        }
        // Who comes back again and again for a little does not always begin with the same partition.
        let passed = places.iter().fold(0_u64, |sum, place: &Place| sum.wrapping_add(place.next));
        tail.turn = usize::try_from(passed % u64::from(count.max(1))).unwrap_or(0);
        tail.places = places.into();
        Ok(tail)
    }

    /// Returns where a partition begins.
    async fn place(&self, partition: u16, begin: &Begin, until: Instant) -> Result<Place, Reject> {
        let start = match begin {
            Begin::First => Start::First,
            Begin::New => Start::New,
            Begin::Since(unix_ms) => Start::Since(*unix_ms),
            Begin::Ago(ago) => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                Start::Since(clock::unix_ms().saturating_sub(ago))
            }
            Begin::At(cursor) => match cursor.iter().find(|(named, _)| *named == partition) {
                Some((_, next)) => return Ok(Place { partition, next: (*next).max(1), is_unread: true }),
                None => Start::New,
            },
        };
        let bounds = Bounds { records: 1, bytes: 0 };
        loop {
            match self.page(partition, start, bounds).await {
                Ok(page) => {
                    let next = page.records.first().map_or(page.next, |record| record.sequence);
                    return Ok(Place { partition, next, is_unread: !page.records.is_empty() });
                }
                Err(reject) if reject.fault() == Fault::Overload && clock::now() < until => {
                    rt::sleep(rt::jittered(TAIL_PAUSE_MIN / 2, TAIL_PAUSE_MIN)).await;
                }
                Err(reject) => return Err(reject),
            }
        }
    }

    /// Lets this tail use what other tails have just read. What was stored before it began it has in any case.
    #[must_use]
    pub fn sharing(self) -> Self {
        Self { may_share: true, ..self }
    }

    /// Returns each partition with the sequence that comes next.
    pub fn places(&self) -> impl Iterator<Item = (u16, u64)> {
        self.places.iter().map(|place| (place.partition, place.next))
    }

    /// Moves on: what lies before `next` in the piece's partition was passed on.
    pub fn pass(&mut self, piece: &Piece, next: u64) {
        if let Some(place) = self.places.get_mut(piece.at) {
            place.next = place.next.max(next);
        }
    }

    /// Returns what comes next, within these bounds, or [`Step::Quiet`] after so long. While the backend fails for the
    /// moment it is asked again; an error is what does not pass, or has lasted too long. May be dropped at any point.
    pub async fn next(&mut self, bounds: Bounds, quiet: Duration) -> Result<Step, Reject> {
        let until = clock::now() + quiet;
        let mut pause = TAIL_PAUSE_MIN;
        loop {
            let left = until.saturating_duration_since(clock::now());
            let reject = match rt::deadline(left, self.attempt(bounds, until)).await {
                Ok(Err(reject)) if passes(&reject) => reject,
                Ok(outcome) => return outcome,
                Err(Elapsed) => return Ok(Step::Quiet),
            };
            let since = *self.trouble.get_or_insert_with(clock::now);
            if clock::since(since) >= TAIL_TROUBLE_MAX {
                return Err(reject);
            }
            let left = until.saturating_duration_since(clock::now());
            rt::sleep(rt::jittered(pause / 2, pause).min(left)).await;
            if clock::now() >= until {
                return Ok(Step::Quiet);
            }
            pause = (2 * pause).min(TAIL_PAUSE_MAX);
            // What fails may be one partition alone: the others are looked at meanwhile.
            self.places.iter_mut().for_each(|place| place.is_unread = true);
        }
    }

    /// A tail of one partition that was made elsewhere.
    #[cfg(test)]
    pub(crate) fn at(reader: Rc<Reader>, station: Name, next: u64) -> Self {
        let places = Box::new([Place { partition: 0, next, is_unread: true }]);
        Self { reader, station, places, turn: 0, trouble: None, may_share: true }
    }

    async fn attempt(&mut self, bounds: Bounds, until: Instant) -> Result<Step, Reject> {
        loop {
            if let Some(piece) = self.read(bounds).await? {
                // A page that has room left was all that there was. The wait says whether more has come meanwhile, and
                // it is one for all who follow the station; a read is not.
                let is_full =
                    piece.page.records.len() >= bounds.records as usize || piece.page.arena.len() >= bounds.bytes / 2;
                self.set_unread(&piece, is_full);
                return Ok(Step::Piece(piece));
            }
            let places: Vec<_> = self.places().collect();
            let left = until.saturating_duration_since(clock::now());
            match self.reader.wait(&self.station, &places, left, clock::now()).await? {
                Arrival::Records(reached) => {
                    self.places.iter_mut().for_each(|place| place.is_unread |= reached.contains(&place.partition));
                }
                Arrival::TimeUp => return Ok(Step::Quiet),
                Arrival::Draining => return Ok(Step::Draining),
            }
        }
    }

    /// Reads what there is, fairly from all partitions, and passes it. It ends with the records or bytes that are allowed,
    /// with the last record that is kept, or after a while; the first records are there in any case.
    pub async fn gather(&mut self, records_max: u32, bytes_max: usize) -> Result<Vec<Piece>, Reject> {
        let until = clock::now() + GATHER_TIME_MAX;
        let (mut records, mut bytes, mut pieces) = (records_max, bytes_max, Vec::new());
        let (mut share, mut turns) = (0, 0);
        while records > 0 && bytes > 0 && (pieces.is_empty() || clock::now() < until) {
            if turns == 0 {
                turns = self.places.iter().filter(|place| place.is_unread).count().max(1);
                share = records.div_ceil(u32::try_from(turns).unwrap_or(u32::MAX));
            }
            turns -= 1;
            let piece = match self.read(Bounds { records: share.min(records), bytes }).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // What has come is good; the next call says what is wrong.
                Err(_) if !pieces.is_empty() => break,
                Err(reject) => return Err(reject),
            };
            records = records.saturating_sub(u32::try_from(piece.page.records.len()).unwrap_or(u32::MAX));
            bytes = bytes.saturating_sub(piece.page.arena.len());
            self.pass(&piece, piece.page.next);
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// Reads from the next partition that may have records, until one has some. `None`: all were read to their end.
    async fn read(&mut self, bounds: Bounds) -> Result<Option<Piece>, Reject> {
        let (count, turn) = (self.places.len(), self.turn);
        for at in (0..count).map(|step| (turn + step) % count) {
            let Some(Place { partition, next, is_unread: true }) = self.places.get(at).copied() else { continue };
            self.turn = at + 1;
            let start = Start::Sequence(next);
            let page = self.page(partition, start, bounds).await?;
            self.trouble = None;
            let gap = page.gap(start);
            let piece = Piece { partition, gap, page, at };
            if piece.page.records.is_empty() {
                self.set_unread(&piece, false);
                if piece.gap.is_none() {
                    self.pass(&piece, piece.page.next);
                    continue;
                }
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }

    async fn page(&self, partition: u16, start: Start, bounds: Bounds) -> Result<Rc<HeldPage>, Reject> {
        let (station, may_share) = (&self.station, self.may_share);
        self.reader.read(&ReadCall { station, partition, start, bounds, may_share, now: clock::now() }).await
    }

    fn set_unread(&mut self, piece: &Piece, is_unread: bool) {
        if let Some(place) = self.places.get_mut(piece.at) {
            place.is_unread = is_unread;
        }
    }
}

/// Returns whether what went wrong may be over in a moment.
fn passes(reject: &Reject) -> bool {
    matches!(reject.fault(), Fault::Overload | Fault::Upstream)
}

#[cfg(test)]
mod tests;
