//! How many bytes of bodies and answers a shard holds at a time. Pure accounting, single-threaded.
//!
//! What would exceed the budget is refused before it is allocated, so that memory under full load
//! is the sum that `limits` states. Requests that have not shown a valid credential can take a share of it and no
//! more: whoever has one always finds room beside them.

use crate::{limits::UNVERIFIED_SHARE, reject::Reject};
use std::{cell::Cell, rc::Rc};

/// The bytes that a shard may hold.
#[derive(Debug)]
pub struct Budget {
    used: Cell<usize>,
    /// What of it is held for requests without a verified credential.
    unverified: Cell<usize>,
    max: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { used: Cell::new(0), unverified: Cell::new(0), max })
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

    /// Nothing held yet, to be grown for a request whose credential is verified.
    #[must_use]
    pub fn hold(self: &Rc<Self>) -> Held {
        Held { budget: Rc::clone(self), bytes: 0, is_verified: true }
    }
}

/// Bytes held of a budget; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Rc<Budget>,
    bytes: usize,
    is_verified: bool,
}

impl Held {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on what is held is for a request whose credential is verified, or is not.
    pub fn set_verified(&mut self, is_verified: bool) {
        if self.is_verified != is_verified {
            let unverified = self.budget.unverified.get();
            let unverified = if is_verified { unverified.saturating_sub(self.bytes) } else { unverified + self.bytes };
            self.budget.unverified.set(unverified);
            self.is_verified = is_verified;
        }
    }

    /// Holds `bytes` in all from now on, if that is more than before.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Reject> {
        let more = bytes.saturating_sub(self.bytes);
        let used = self.budget.used.get().saturating_add(more);
        if used > self.budget.max {
            return Err(Reject::Overloaded("memory for request bodies"));
        }
        if !self.is_verified {
            let unverified = self.budget.unverified.get().saturating_add(more);
            if unverified > self.budget.max / UNVERIFIED_SHARE {
                return Err(Reject::Overloaded("memory for requests without a verified credential"));
            }
            self.budget.unverified.set(unverified);
        }
        self.budget.used.set(used);
        self.bytes += more;
        Ok(())
    }

    /// Parts with what is held beyond `bytes`: it is given back by itself.
    #[must_use]
    pub fn split_off(&mut self, bytes: usize) -> Self {
        let rest = self.bytes.saturating_sub(bytes);
        self.bytes -= rest;
        Self { budget: Rc::clone(&self.budget), bytes: rest, is_verified: self.is_verified }
    }

    /// Gives back what is held beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.used.set(self.budget.used.get() - less);
        if !self.is_verified {
            self.budget.unverified.set(self.budget.unverified.get().saturating_sub(less));
        }
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
        let rest = first.split_off(20);
        assert_eq!((first.bytes(), rest.bytes(), budget.used()), (20, 40, 100));
        assert_eq!(first.split_off(30).bytes(), 0, "no more than there is");
        drop(rest);
        assert_eq!(budget.used(), 60);
        drop(first);
        second.shrink_to(0);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn f4_who_has_shown_no_credential_takes_a_share_and_no_more() {
        let budget = Budget::new(100);
        let mut logins = budget.hold();
        logins.set_verified(false);
        assert!(logins.grow_to(100 / UNVERIFIED_SHARE + 1).is_err());
        logins.grow_to(100 / UNVERIFIED_SHARE).unwrap();
        let mut another = budget.hold();
        another.set_verified(false);
        assert!(another.grow_to(1).is_err());
        // Who shows one has the rest; and what was held until then counts there.
        another.set_verified(true);
        another.grow_to(50).unwrap();
        logins.set_verified(true);
        let mut later = budget.hold();
        later.set_verified(false);
        later.grow_to(20).unwrap();
        drop((logins, another, later));
        assert_eq!((budget.used(), budget.unverified.get()), (0, 0));
    }
}
