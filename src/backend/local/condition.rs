//! Whether the store takes writes: said by the writer, read by all, without a lock.

use crate::reject::Reject;
use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI32, AtomicU8, Ordering},
};

/// What the writer can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Everything.
    Writable = 0,
    /// The device has too little room for another commit; it begins again when there is enough.
    Full = 1,
    /// A write failed; the store is going to be opened anew.
    Failed = 2,
    /// A write failed, and opening the store anew has not helped: only a new process can.
    Lost = 3,
}

/// The state, and what explains it.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Where the store is.
    dir: PathBuf,
    state: AtomicU8,
    /// The operating system's number of the error that made the store fail; 0: it gave none.
    error: AtomicI32,
}

impl Condition {
    /// Of a store that takes writes.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..Self::default() }
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Writable,
            1 => State::Full,
            2 => State::Failed,
            _ => State::Lost,
        }
    }

    /// Only the writer calls this. Answers what it was before.
    pub(super) fn set(&self, state: State) -> State {
        let before = self.state();
        self.state.store(state as u8, Ordering::Release);
        before
    }

    /// Remembers why writing failed.
    pub(super) fn set_error(&self, error: Option<&io::Error>) {
        self.error.store(error.and_then(io::Error::raw_os_error).unwrap_or(0), Ordering::Release);
    }

    /// What a write gets that was not begun; `None` if it can be tried.
    pub(super) fn refusal(&self) -> Option<Reject> {
        match self.state() {
            State::Writable => None,
            State::Full => Some(Reject::StoreReadOnly(self.full_text().into())),
            State::Failed | State::Lost => Some(Reject::StoreReadOnly(self.failed_text().into())),
        }
    }

    /// What a write gets that was begun and failed.
    pub(super) fn failure(&self) -> Reject {
        Reject::StoreFailed(format!("{}; what was sent may be stored or not", self.failed_text()).into())
    }

    pub(super) fn full_text(&self) -> String {
        format!("no space left on the device of {}", self.dir.display())
    }

    pub(super) fn failed_text(&self) -> String {
        let dir = self.dir.display();
        match self.error.load(Ordering::Acquire) {
            0 => format!("the embedded store could not write to {dir}"),
            number => {
                let error = io::Error::from_raw_os_error(number);
                if error.kind() == io::ErrorKind::StorageFull {
                    self.full_text()
                } else {
                    format!("the embedded store could not write to {dir} ({error})")
                }
            }
        }
    }
}
