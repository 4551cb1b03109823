//! Tells whether the reader of a pipe has read what was written to it.
//!
//! A pipe takes 64 KiB that nobody may ever read. The kernel says how much of it is unread, and when the reader has
//! closed its end.

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use std::{
    io::{self, Stdout},
    os::fd::AsRawFd,
    time::Duration,
};

/// Time between two looks at how much is unread. The end of the reader is an event.
const LOOK: Duration = Duration::from_millis(5);

/// Standard output, if it is a pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    poll: Poll,
    events: Events,
    /// Whether the reader has closed its end.
    gone: bool,
}

impl Pipe {
    /// Returns `None` if standard output is a file or a terminal: what is written there counts as read.
    pub(super) fn of(stdout: &Stdout) -> Option<Self> {
        let unread = rustix::io::ioctl_fionread(stdout);
        let is_pipe = unread.is_ok() && !io::IsTerminal::is_terminal(stdout);
        let poll = Poll::new().ok().filter(|_| is_pipe)?;
        // A file cannot be watched by epoll.
        poll.registry().register(&mut SourceFd(&stdout.as_raw_fd()), Token(0), Interest::WRITABLE).ok()?;
        Some(Self { poll, events: Events::with_capacity(4), gone: false })
    }

    /// Waits until everything is read. Returns `false` if the reader has closed its end before.
    pub(super) fn is_read(&mut self) -> bool {
        loop {
            // Where the kernel does not say, everything counts as read.
            if !rustix::io::ioctl_fionread(io::stdout()).is_ok_and(|unread| unread > 0) {
                return true;
            }
            if self.gone {
                return false;
            }
            // An interrupted look is one, too.
            let _interrupted = self.poll.poll(&mut self.events, Some(LOOK));
            self.gone |= self.events.iter().any(|event| event.is_error() || event.is_write_closed());
        }
    }
}
