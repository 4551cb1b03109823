//! What the store's threads say to each other: plain data through bounded channels.
//!
//! Shards send [`Job::Publish`] to the writer and [`Request`]s to the reader, and never block. The writer
//! may block on the reader (a station came or went); the reader and the retention thread never block on the
//! writer, so there is no circle to wait in.

use super::{
    StationError, StationInfo,
    catalog::StationState,
    condition::{Condition, State},
    disk::{Damage, Disk},
    heal::Pause,
    read::{ReadRequest, WatchRequest},
};
use crate::{
    backend::{Delivered, Settlement},
    record::Outcome,
    reject::Reject,
    station::{Attributes, AttributesChange, Consumer, Name, Station},
    wire::Span,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Neither closed nor failed, and still nobody there.
const GONE: &str = "a thread of the embedded store has ended; the log says why";

/// To the writer.
#[derive(Debug)]
pub(super) enum Job {
    Publish(PublishJob),
    Control(Control),
    /// Cursors as they are to be stored. They ride along with a commit; nobody waits for them.
    Cursors(Vec<(Vec<u8>, Vec<u8>)>),
    /// A consumer group is being used.
    Used(GroupName),
    /// The records of a partition below `first` are to go; they have `bytes`.
    Retire {
        station: Arc<StationState>,
        partition: usize,
        /// What was the first when they were counted; if it is another by now, they have to be counted anew.
        from: u64,
        first: u64,
        bytes: u64,
    },
    /// Commit what is queued, sync, and end.
    Close,
}

/// Records of one request.
#[derive(Debug)]
pub(super) struct PublishJob {
    pub(super) station: Name,
    /// Header block of every record, without the message id.
    pub(super) headers: Vec<u8>,
    /// The payloads, one after the other.
    pub(super) payloads: Vec<u8>,
    pub(super) records: Vec<PlannedRecord>,
    pub(super) id: Option<OwnedId>,
    /// Header fields of single records.
    pub(super) own: Option<OwnedFields>,
    /// All records or none: one commit takes them all. How many bytes of it they need, at most.
    pub(super) whole: Option<usize>,
    pub(super) reply: flume::Sender<Vec<Outcome>>,
    /// Its share of the queue, given back after the answer.
    pub(super) share: Share,
}

impl PublishJob {
    /// Answers a job that was not begun.
    pub(super) fn refuse(self, why: &Reject) {
        let outcomes = vec![Outcome::Failed(why.clone()); self.records.len()];
        self.reply.try_send(outcomes).ok();
    }
}

/// One record of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedRecord {
    /// In `payloads`.
    pub(super) payload: Span,
    /// Which record of the request it is.
    pub(super) place: usize,
    pub(super) partition: u16,
    /// Too large ones are answered in their place and not stored.
    pub(super) fits: bool,
}

/// A request's message id.
#[derive(Debug)]
pub(super) struct OwnedId {
    pub(super) base: Box<str>,
    /// The number of the request's first record, see [`crate::record::MessageId`].
    pub(super) numbered: Option<u64>,
}

/// Header fields of single records: one block, and the place of each record's in it.
#[derive(Debug)]
pub(super) struct OwnedFields {
    pub(super) block: Vec<u8>,
    pub(super) spans: Vec<Span>,
}

impl OwnedFields {
    /// Returns the fields of the request's record `index`.
    pub(super) fn of(&self, index: usize) -> &[u8] {
        self.spans.get(index).copied().unwrap_or_default().of(&self.block)
    }
}

/// Which records of a station's first partition are to go.
#[derive(Debug)]
pub(super) enum Discard {
    All,
    /// Sequence and bytes of each; none twice.
    These(Vec<(u64, u64)>),
}

/// What the control plane asks of the writer; each is its own commit.
#[derive(Debug)]
pub(super) enum Control {
    Create {
        name: Name,
        attributes: Attributes,
        reply: flume::Sender<Result<(), StationError>>,
    },
    Change {
        name: Name,
        change: AttributesChange,
        reply: flume::Sender<Result<(), StationError>>,
    },
    Describe {
        name: Name,
        reply: flume::Sender<Option<StationInfo>>,
    },
    State {
        name: Name,
        reply: flume::Sender<Option<Arc<StationState>>>,
    },
    Disk {
        reply: flume::Sender<Disk>,
    },
    Discard {
        station: Arc<StationState>,
        which: Discard,
        reply: flume::Sender<Result<u64, StationError>>,
    },
    Station {
        name: Name,
        create: bool,
        reply: flume::Sender<Result<Arc<Station>, Reject>>,
    },
    DeleteStation {
        name: Name,
        reply: flume::Sender<Result<bool, Reject>>,
    },
    Consumer {
        station: Name,
        group: Option<Name>,
        principal: Box<str>,
        reply: flume::Sender<Result<Arc<Consumer>, Reject>>,
    },
    DeleteGroup {
        station: Name,
        durable: Box<str>,
        reply: flume::Sender<Result<bool, StationError>>,
    },
    ExpireGroups,
    Stations {
        reply: flume::Sender<Vec<StationInfo>>,
    },
    Put {
        key: String,
        value: Vec<u8>,
        expect: Option<u64>,
        reply: flume::Sender<Result<u64, super::PutError>>,
    },
    Delete {
        key: String,
        expect: Option<u64>,
        reply: flume::Sender<Result<bool, super::PutError>>,
    },
}

/// To the reader.
#[derive(Debug)]
pub(super) enum Request {
    Fetch(FetchRequest),
    Settle {
        group: GroupName,
        delivery: u64,
        settlement: Settlement,
        messages: Vec<(u16, u64)>,
    },
    /// The consume call is not waited for any more: what it has comes again.
    Cancel {
        group: GroupName,
        delivery: u64,
    },
    /// Records by place.
    Read(ReadRequest),
    /// A wait for records.
    Watch(WatchRequest),
    StationCame(Arc<StationState>),
    StationWent(Name),
    /// A group that could not be saved yet.
    GroupCame(GroupName),
    GroupWent(GroupName),
    /// Something was committed.
    Wake,
    /// The store is going to be opened anew.
    Pause(Pause),
    /// Answer who waits, hand the cursors to the writer, and end.
    Close,
}

/// Which consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupName {
    pub(super) station: Name,
    pub(super) durable: Box<str>,
}

/// A consume call.
#[derive(Debug)]
pub(super) struct FetchRequest {
    pub(super) group: GroupName,
    /// Number of the delivery that it becomes.
    pub(super) delivery: u64,
    pub(super) ack_wait: Duration,
    pub(super) records_max: u32,
    pub(super) bytes_max: usize,
    pub(super) wait: Duration,
    pub(super) reply: flume::Sender<Result<Delivered, Reject>>,
}

/// To the retention thread.
#[derive(Debug)]
pub(super) enum RetentionCommand {
    StationCame(Arc<StationState>),
    StationWent(Arc<StationState>),
    /// The store is going to be opened anew.
    Pause(Pause),
    /// Records of a partition were removed at somebody's wish; they had so many bytes.
    Discarded {
        partition: u32,
        bytes: u64,
    },
    /// Look now.
    #[cfg(test)]
    Look(flume::Sender<()>),
    Close,
}

/// What all handles and threads of a store share: gauges and flags, no locks.
///
/// A gauge and its gate together make an end that loses nobody: who sends counts itself in first and looks at
/// the gate then; who ends shuts the gate first and drains its channel until the gauge is 0. So a
/// message is either refused, or taken out of the channel by someone.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes of jobs that the writer has not finished.
    queued_bytes: AtomicUsize,
    /// The writer takes no more jobs.
    writer_gone: AtomicBool,
    /// Requests that are being sent to the reader at this moment.
    sending: AtomicUsize,
    /// The reader takes no more requests.
    reader_gone: AtomicBool,
    /// A [`Request::Wake`] is on its way to the reader.
    pub(super) wake_sent: AtomicBool,
    pub(super) closing: AtomicBool,
    /// Whether the store takes writes.
    pub(super) condition: Condition,
    pub(super) damage: Arc<Damage>,
    /// Commits fail, as if their sync did, and the store is not opened anew, until this is taken back.
    #[cfg(test)]
    pub(super) fail_next_commit: AtomicBool,
    /// What the device is said to have free, one less than this; 0: what it has.
    #[cfg(test)]
    pub(super) free_bytes: std::sync::atomic::AtomicU64,
    /// The database is behind, as if it had too much to write out.
    #[cfg(test)]
    pub(super) is_behind: AtomicBool,
}

impl Shared {
    /// Of a store in this directory.
    pub(super) fn new(dir: &Path) -> Self {
        Self { condition: Condition::new(dir), damage: Arc::new(Damage::new(dir)), ..Self::default() }
    }

    /// What a write gets that need not be tried: the store takes none.
    pub(super) fn refusal(&self) -> Option<Reject> {
        self.condition.refusal()
    }

    /// A write has failed, and the store was not opened anew yet.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.condition.state(), State::Failed | State::Lost)
    }

    /// Whether nothing may be written: a commit has failed, or a test wants the next one to.
    pub(super) fn is_failing(&self) -> bool {
        #[cfg(test)]
        if self.fail_next_commit.load(Ordering::SeqCst) {
            return true;
        }
        self.has_failed()
    }

    /// Sends a request to the reader, unless it is full or gone.
    pub(super) fn send(&self, reader: &flume::Sender<Request>, request: Request) -> Result<(), Reject> {
        self.sending.fetch_add(1, Ordering::SeqCst);
        let sent = if self.reader_gone.load(Ordering::SeqCst) {
            Err(self.gone())
        } else {
            reader.try_send(request).map_err(|error| match error {
                flume::TrySendError::Full(_) => Reject::Overloaded("the embedded store's queue"),
                flume::TrySendError::Disconnected(_) => self.gone(),
            })
        };
        self.sending.fetch_sub(1, Ordering::SeqCst);
        sent
    }

    /// Takes a share of the writer's queue of at most `bytes_max`.
    pub(super) fn share(self: &Arc<Self>, bytes: usize, bytes_max: usize) -> Result<Share, Reject> {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        let share = Share { shared: Arc::clone(self), bytes };
        if self.writer_gone.load(Ordering::SeqCst) {
            Err(self.gone())
        } else if before.saturating_add(bytes) > bytes_max {
            Err(Reject::Overloaded("the embedded store's queue"))
        } else {
            Ok(share)
        }
    }

    /// The writer has ended: whoever still waits for it learns that.
    pub(super) fn end_writer(&self, inbox: &flume::Receiver<Job>) {
        self.writer_gone.store(true, Ordering::SeqCst);
        drain(inbox, &self.queued_bytes, |job| {
            // Never looked at, so certainly not stored. One that was, and is dropped unanswered, may be.
            if let Job::Publish(job) = job {
                job.refuse(&self.gone());
            }
        });
    }

    /// The reader has ended: whoever still waits for it learns that.
    pub(super) fn end_reader(&self, inbox: &flume::Receiver<Request>) {
        self.reader_gone.store(true, Ordering::SeqCst);
        drain(inbox, &self.sending, drop);
    }

    /// What a caller gets whose job has nobody to take it.
    pub(super) fn gone(&self) -> Reject {
        if let Some(refusal) = self.refusal() {
            refusal
        } else if self.closing.load(Ordering::Acquire) {
            Reject::Draining
        } else {
            Reject::StoreFailed(GONE.into())
        }
    }
}

/// Ends what is in a channel until nobody is counted in any more.
fn drain<T>(inbox: &flume::Receiver<T>, gauge: &AtomicUsize, mut end: impl FnMut(T)) {
    loop {
        let nobody = gauge.load(Ordering::SeqCst) == 0;
        inbox.drain().for_each(&mut end);
        if nobody {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A job's share of the queue's bytes, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shared.queued_bytes.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_whether_it_was_granted_or_not() {
        let shared = Arc::new(Shared::default());
        let first = shared.share(60, 100);
        assert!(first.is_ok());
        assert_eq!(shared.share(60, 100).err(), Some(Reject::Overloaded("the embedded store's queue")));
        assert_eq!(shared.queued_bytes.load(Ordering::SeqCst), 60);
        drop(first);
        assert_eq!(shared.queued_bytes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn whoever_sends_while_the_reader_ends_is_refused_or_answered() {
        let shared = Arc::new(Shared::default());
        let (sender, inbox) = flume::bounded(8);
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let (shared, sender) = (Arc::clone(&shared), sender.clone());
                std::thread::spawn(move || {
                    while shared.send(&sender, Request::Wake) != Err(Reject::StoreFailed(GONE.into())) {}
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(5));
        shared.end_reader(&inbox);
        assert!(inbox.is_empty());
        for sender in senders {
            sender.join().expect("a sender ends");
        }
        assert!(inbox.is_empty(), "nothing was sent after the end");
    }
}
