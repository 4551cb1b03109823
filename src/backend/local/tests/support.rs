//! A store in a directory of its own, and small ways to ask it.

use crate::{
    backend::{
        Delivered, Fetch, Publish, Settlement,
        local::{Clock, Handle, StationDefaults, StationInfo, Store, disk::Disk},
    },
    record::{MessageId, Outcome, Placement, Receipt},
    reject::Reject,
    station::{Attributes, Consumer, Name, Station},
    wire::Span,
};
use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

/// Where a test's time begins.
pub(super) const START_MS: u64 = 1_000_000;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        thread::park();
    }
}

/// Defaults without retention.
pub(super) fn defaults(partitions: u16) -> StationDefaults {
    StationDefaults {
        attributes: Attributes { partitions, retention_age: None, ..Attributes::default() },
        group_expiry: None,
    }
}

/// Defaults with something of their own.
pub(super) fn with(partitions: u16, set: impl FnOnce(&mut Attributes)) -> StationDefaults {
    let mut defaults = defaults(partitions);
    set(&mut defaults.attributes);
    defaults
}

/// A store, its directory and its time.
pub(super) struct Fixture {
    pub(super) store: Option<Store>,
    pub(super) now: Arc<AtomicU64>,
    pub(super) defaults: StationDefaults,
    dir: tempfile::TempDir,
}

impl Fixture {
    /// A new store whose time a test moves.
    pub(super) fn new(defaults: StationDefaults) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let now = Arc::new(AtomicU64::new(START_MS));
        let mut fixture = Self { store: None, now, defaults, dir };
        fixture.reopen();
        fixture
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(&mut self) {
        self.close();
        let clock = Clock::Manual(Arc::clone(&self.now));
        self.store = Some(Store::open(&self.dir(), self.defaults.clone(), clock).expect("the store opens"));
    }

    pub(super) fn close(&mut self) {
        if let Some(store) = self.store.take() {
            assert!(store.close(Duration::from_secs(20)), "the store closes in time");
        }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    /// The database below, for as long as the store is not opened anew.
    pub(super) fn disk(&self) -> Disk {
        self.store().disk().expect("answered")
    }

    pub(super) fn advance(&self, by: Duration) {
        self.now.fetch_add(u64::try_from(by.as_millis()).expect("short"), Ordering::SeqCst);
    }

    pub(super) fn station(&self, name: &str) -> Arc<Station> {
        block_on(self.store().station(&parse(name), true)).expect("a station")
    }

    pub(super) fn info(&self, name: &Name) -> StationInfo {
        block_on(self.store().describe_station(name)).expect("answered").expect("there")
    }

    pub(super) fn consumer(&self, station: &Station, group: &str) -> Arc<Consumer> {
        block_on(self.store().consumer(station, Some(&parse(group)), "tests")).expect("a consumer")
    }
}

pub(super) fn parse(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

/// A directory's files are copied, as a power cut would leave them.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Texts one after the other, and the place of each.
pub(super) fn spans(texts: &[&str]) -> (Vec<u8>, Vec<Span>) {
    let mut block = Vec::new();
    let mut spans = Vec::new();
    let at = |block: &Vec<u8>| u32::try_from(block.len()).expect("short");
    for text in texts {
        let start = at(&block);
        block.extend_from_slice(text.as_bytes());
        spans.push(Span { start, end: at(&block) });
    }
    (block, spans)
}

/// Publishes payloads, and answers their outcomes.
pub(super) fn publish(
    handle: &Handle,
    station: &Station,
    payloads: &[&str],
    id: Option<MessageId<'_>>,
) -> Result<Vec<Outcome>, Reject> {
    let (body, records) = spans(payloads);
    let mut outcomes = Vec::new();
    let mut list = Vec::new();
    let partitions = Placement::Auto.choose(id, records.len(), 0, station.partitions.len(), &mut list);
    let publish = Publish { headers: b"X-Test: yes\r\n", id, partitions, ..Publish::of(station, &body, &records) };
    block_on(handle.publish(&publish, &mut outcomes)).map(|()| outcomes)
}

/// Partition, sequence and whether it is a duplicate.
pub(super) fn stored(outcomes: &[Outcome]) -> Vec<(u16, u64, bool)> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Stored(Receipt { partition, sequence, duplicate }) => (*partition, *sequence, *duplicate),
            Outcome::Failed(why) => panic!("not stored: {why:?}"),
        })
        .collect()
}

/// Fetches, at most `records_max`, waiting `wait_ms`.
pub(super) fn fetch(
    handle: &Handle,
    station: &Station,
    consumer: &Consumer,
    records_max: u32,
    wait_ms: u64,
) -> Result<Delivered, Reject> {
    let wait = Duration::from_millis(wait_ms);
    block_on(handle.fetch(&Fetch { station, consumer, records_max, bytes_max: 1 << 20, wait }))
}

/// Partition, sequence and payload of what was delivered.
pub(super) fn content(delivered: &Delivered) -> Vec<(u16, u64, String)> {
    let text = |span: Span| String::from_utf8(span.of(&delivered.arena).to_vec()).expect("text");
    delivered.messages.iter().map(|one| (one.partition, one.sequence, text(one.payload))).collect()
}

/// Acknowledges what was delivered.
pub(super) fn acknowledge(handle: &Handle, consumer: &Consumer, delivered: &Delivered) {
    handle.settle(&consumer.station, consumer, delivered, Settlement::Acknowledge);
}
