//! The blocks of the control thread, of the embedded store's writer, and of the process.

use super::cell::{Counter, Gauge, Histogram, SharedCounter};

/// Lines of the log that nobody will read, because the queue before standard error was full or it could not be written. The log is
/// the process's, and so is its counter.
pub static LOG_LINES_DROPPED: SharedCounter = SharedCounter::new();

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginResult {
    /// The password was right.
    Accepted,
    /// It was not, or there is no such user.
    Refused,
    /// Too many logins waited.
    Overloaded,
    /// It was wrong too often, or guessers had taken their share: held back, or not looked at.
    Throttled,
}

impl LoginResult {
    /// All results, in the order of the block and of the text.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Refused, Self::Overloaded, Self::Throttled];

    /// Value of the label `result`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
        }
    }
}

/// What a shard asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// For a station.
    Station,
    /// For a consumer group.
    Consumer,
    /// For a login.
    Login,
}

impl RequestKind {
    /// All kinds, in the order of the block and of the text.
    pub const ALL: [Self; 3] = [Self::Station, Self::Consumer, Self::Login];

    /// Value of the label `kind`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Consumer => "consumer",
            Self::Login => "login",
        }
    }
}

/// When the broker syncs what it has written, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerSync {
    /// It is not.
    Unknown,
    /// After the acknowledgement, now and then.
    Interval,
    /// Before each acknowledgement.
    Always,
}

/// What the control thread counts; it is the only writer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ControlMetrics {
    logins: [Counter; LoginResult::ALL.len()],
    answers: [[Counter; 2]; RequestKind::ALL.len()],
    /// Revision of the registry that the shards were last told.
    pub registry_revision: Gauge,
    /// When the registry last confirmed what is known here, in seconds since 1970; 0 before, and where it is our own.
    pub registry_confirmed: Gauge,
    /// Users in the registry, without root.
    pub users: Gauge,
    /// Schemas in the registry.
    pub schemas: Gauge,
    /// Stations that the registry says something of.
    pub stations: Gauge,
    /// API keys in the registry.
    pub keys: Gauge,
    /// Documents of the registry that do not load, or do not compile, now.
    pub documents_refused: Gauge,
    /// 1 while the control plane's own broker connection stands, else 0.
    pub broker_up: Gauge,
    /// A [`BrokerSync`].
    sync: Gauge,
    /// Why JetStream cannot be used, as a number; 0: it can.
    jetstream_trouble: Gauge,
    /// Messages to a shard that found its inbox full.
    pub pushes_dropped: Counter,
}

impl ControlMetrics {
    /// Counts one login.
    pub fn login(&self, result: LoginResult) {
        if let Some(counter) = self.logins.get(result as usize) {
            counter.increment();
        }
    }

    /// Counts one answered request.
    pub fn answer(&self, kind: RequestKind, succeeded: bool) {
        if let Some(counter) = self.answers.get(kind as usize).and_then(|row| row.get(usize::from(succeeded))) {
            counter.increment();
        }
    }

    /// Sets why JetStream cannot be used through the control plane's connection: 0 if it can, and its number if something is the matter.
    pub fn set_jetstream_trouble(&self, number: u64) {
        self.jetstream_trouble.set(number);
    }

    /// Why JetStream cannot be used, as a number; 0: it can, as far as is known.
    #[must_use]
    pub fn jetstream_trouble(&self) -> u64 {
        self.jetstream_trouble.get()
    }

    /// Sets what is known of the broker's sync mode.
    pub fn broker_sync(&self, sync: BrokerSync) {
        self.sync.set(sync as u64);
    }

    /// 1 if the broker syncs always, 0 if it does not, nothing if that is not known.
    pub(super) fn sync_always(&self) -> Option<u64> {
        match self.sync.get() {
            known if known == BrokerSync::Always as u64 => Some(1),
            known if known == BrokerSync::Interval as u64 => Some(0),
            _ => None,
        }
    }

    /// Logins by result.
    pub(super) fn logins(&self) -> impl Iterator<Item = (LoginResult, u64)> {
        LoginResult::ALL.into_iter().zip(self.logins.iter().map(Counter::get))
    }

    /// Answers by kind; the first count is of refusals, the second of successes.
    pub(super) fn answers(&self) -> impl Iterator<Item = (RequestKind, [u64; 2])> {
        RequestKind::ALL.into_iter().zip(self.answers.iter().map(|row| row.each_ref().map(Counter::get)))
    }
}

/// What the embedded store's writer thread counts; it is the only writer, except of `read_only`, which the
/// control plane sets from the store's health when it is looked at.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct StoreMetrics {
    /// Group commits.
    pub commits: Counter,
    /// Records in them.
    pub commit_records: Counter,
    /// Time of one commit, to the disk and back.
    pub fsync: Histogram,
    /// 1 once the store has stopped taking records because it could not write, else 0.
    pub read_only: Gauge,
}

/// What the kernel says about the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessMetrics {
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// When the process began, in seconds since 1970.
    pub start_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
}
