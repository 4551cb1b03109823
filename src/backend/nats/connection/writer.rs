//! The task that writes: whole buffers at a time, one after the other.

use super::Connection;
use crate::rt::clock;
use crate::rt::{Notify, WriteHalf};
use std::{rc::Rc, time::Instant};

impl Connection {
    /// Writes what has gathered, until the connection ends.
    pub(super) async fn write(self: Rc<Self>, mut half: WriteHalf, done: Rc<Notify>) {
        let mut spare = Vec::new();
        loop {
            self.out.filled().await;
            if self.up.borrow().is_none() {
                break;
            }
            while !self.out.is_empty() {
                let full = self.out.take(std::mem::take(&mut spare));
                self.writing_since(Some(clock::now()));
                let (result, mut written) = half.write_all(full).await;
                self.writing_since(None);
                if result.is_err() {
                    // The stream is cut somewhere within an operation: it is of no further use.
                    self.shut_down();
                    done.notify();
                    return;
                }
                written.clear();
                if written.capacity() <= self.limits.window_bytes_max {
                    spare = written;
                }
            }
        }
        done.notify();
    }

    fn writing_since(&self, since: Option<Instant>) {
        if let Some(up) = &mut *self.up.borrow_mut() {
            up.writing_since = since;
        }
    }
}
