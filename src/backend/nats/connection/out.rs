//! What is to be written: everything that a turn of the loop says gathers here, and leaves in one write.

use crate::rt::Notify;
use std::{
    cell::{RefCell, RefMut},
    ops::{Deref, DerefMut},
};

/// The output of a connection.
#[derive(Debug, Default)]
pub(in crate::backend::nats) struct Out {
    buffer: RefCell<Vec<u8>>,
    filled: Notify,
}

/// The output, to append to. The writer is notified when it is dropped.
#[derive(Debug)]
pub(in crate::backend::nats) struct Append<'a> {
    buffer: RefMut<'a, Vec<u8>>,
    filled: &'a Notify,
}

impl Out {
    /// Opens the output. Only whole operations are appended: it may be written as soon as it is let go.
    pub(in crate::backend::nats) fn append(&self) -> Append<'_> {
        Append { buffer: self.buffer.borrow_mut(), filled: &self.filled }
    }

    /// Returns how many bytes wait for the write that is under way.
    pub(in crate::backend::nats) fn len(&self) -> usize {
        self.buffer.borrow().len()
    }

    /// Returns whether everything was taken to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.borrow().is_empty()
    }

    /// Takes everything, and leaves an empty buffer.
    pub(super) fn take(&self, empty: Vec<u8>) -> Vec<u8> {
        self.buffer.replace(empty)
    }

    /// Drops what was for a connection that is gone.
    pub(super) fn clear(&self) {
        self.buffer.borrow_mut().clear();
    }

    /// Waits until something was appended, or [`Out::wake`] was called.
    pub(super) async fn filled(&self) {
        self.filled.wait().await;
    }

    /// Lets the writer look at the connection again.
    pub(super) fn wake(&self) {
        self.filled.notify();
    }
}

impl Deref for Append<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl DerefMut for Append<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

impl Drop for Append<'_> {
    fn drop(&mut self) {
        self.filled.notify();
    }
}
