//! How many bytes of bodies and answers a shard holds at a time. Pure accounting, single-threaded.
//!
//! What would exceed the budget is refused before it is allocated, so that memory under full load
//! is the sum that `limits.rs` states.

use crate::reject::Reject;
use std::{cell::Cell, rc::Rc};

/// The bytes that a shard may hold.
#[derive(Debug)]
pub struct Budget {
    used: Cell<usize>,
    max: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { used: Cell::new(0), max })
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Bytes that are not held.
    #[must_use]
    pub fn left(&self) -> usize {
        self.max.saturating_sub(self.used.get())
    }

    /// Nothing held yet, to be grown.
    #[must_use]
    pub fn hold(self: &Rc<Self>) -> Held {
        Held { budget: Rc::clone(self), bytes: 0 }
    }
}

/// Bytes held of a budget; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Held {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `bytes` in all from now on, if that is more than before.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Reject> {
        let more = bytes.saturating_sub(self.bytes);
        let used = self.budget.used.get().saturating_add(more);
        if used > self.budget.max {
            return Err(Reject::Overloaded("memory for request bodies"));
        }
        self.budget.used.set(used);
        self.bytes += more;
        Ok(())
    }

    /// Gives back what is held beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.used.set(self.budget.used.get() - less);
        self.bytes -= less;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_exceed_the_budget_is_refused_and_what_is_dropped_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.hold();
        first.grow_to(60).unwrap();
        first.grow_to(50).unwrap();
        let mut second = budget.hold();
        assert!(second.grow_to(41).is_err());
        second.grow_to(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(first);
        second.shrink_to(0);
        assert_eq!(budget.used(), 0);
    }
}
