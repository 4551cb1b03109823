//! Wake-ups between tasks of one shard: no atomics, nothing is Send.

use super::{Elapsed, clock, deadline};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// One task waits, others notify it. A notification that comes first is kept.
#[derive(Debug, Default)]
pub struct Notify {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Wakes the waiting task, or lets the next wait return at once.
    pub fn notify(&self) {
        if self.set.replace(true) {
            return;
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for the next notification, and takes it.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Any number of tasks wait for a state to change; a change wakes them all and they look again.
#[derive(Debug, Default)]
pub struct Waiters {
    wakers: RefCell<Vec<(u64, Waker)>>,
    /// Counts changes, so that one that happens before the first poll is not missed.
    changes: Cell<u64>,
    numbers: Cell<u64>,
}

/// A wait for the next change. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Changed<'a> {
    waiters: &'a Waiters,
    seen: u64,
    number: u64,
}

impl Waiters {
    /// Wakes everyone.
    pub fn wake_all(&self) {
        self.changes.set(self.changes.get().wrapping_add(1));
        for (_, waker) in self.wakers.take() {
            waker.wake();
        }
    }

    /// Looks after each change until something is found, for `limit` at most.
    pub async fn wait_for<T>(&self, limit: Duration, mut find: impl FnMut() -> Option<T>) -> Result<T, Elapsed> {
        let until = clock::now() + limit;
        loop {
            if let Some(found) = find() {
                return Ok(found);
            }
            let left = until.saturating_duration_since(clock::now());
            deadline(left, self.changed()).await?;
        }
    }

    /// Waits for the next change after this call.
    pub fn changed(&self) -> Changed<'_> {
        self.numbers.set(self.numbers.get().wrapping_add(1));
        Changed { waiters: self, seen: self.changes.get(), number: self.numbers.get() }
    }
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.waiters.changes.get() != self.seen {
            return Poll::Ready(());
        }
        let mut wakers = self.waiters.wakers.borrow_mut();
        match wakers.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => wakers.push((self.number, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        let mut wakers = self.waiters.wakers.borrow_mut();
        if let Some(at) = wakers.iter().position(|(number, _)| *number == self.number) {
            wakers.swap_remove(at);
        }
    }
}

/// Something that happens once, such as the beginning of the end.
#[derive(Debug, Default)]
pub struct Once {
    happened: Cell<bool>,
    waiters: Waiters,
}

impl Once {
    /// It has happened.
    pub fn set(&self) {
        self.happened.set(true);
        self.waiters.wake_all();
    }

    /// Whether it has happened.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.happened.get()
    }

    /// Waits until it happens.
    pub async fn wait(&self) {
        while !self.happened.get() {
            self.waiters.changed().await;
        }
    }
}

/// What `work` yields, unless `end` comes first: then `work` is dropped. Only for work that may be dropped at any point.
pub async fn unless<T>(end: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    poll_fn(|context| {
        if let Poll::Ready(value) = work.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        end.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Lets every other task that is ready run first. A task whose socket always has data must do this now and then:
/// epoll's readiness stays, so none of its reads would wait by itself. (monoio's own yield goes to the *front* of the queue.)
pub async fn yield_now() {
    let turn = Rc::new(Notify::default());
    let next = Rc::clone(&turn);
    super::spawn(async move { next.notify() });
    turn.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_wait_that_is_given_up_leaves_no_waker_behind() {
        let waiters = Waiters::default();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut wait = pin!(waiters.changed());
            assert!(wait.as_mut().poll(&mut context).is_pending());
            assert!(wait.as_mut().poll(&mut context).is_pending());
            assert_eq!(waiters.wakers.borrow().len(), 1, "one waker a wait, however often it is polled");
        }
        assert_eq!(waiters.wakers.borrow().len(), 0);
        let mut wait = pin!(waiters.changed());
        waiters.wake_all();
        assert!(wait.as_mut().poll(&mut context).is_ready(), "a change before the first poll counts");
    }
}
