//! Read buffers of a shard, lent to connections while they are served.

use std::cell::RefCell;

/// A stack of empty buffers, all of one capacity.
#[derive(Debug)]
pub struct BufferPool {
    free: RefCell<Vec<Vec<u8>>>,
    capacity: usize,
    kept_max: usize,
}

impl BufferPool {
    /// A pool of buffers of `capacity` bytes that keeps at most `kept_max` of them.
    #[must_use]
    pub fn new(capacity: usize, kept_max: usize) -> Self {
        Self { free: RefCell::default(), capacity, kept_max }
    }

    /// An empty buffer.
    #[must_use]
    pub fn lend(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Takes a buffer back. One that has grown is let go instead of kept.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.capacity() >= self.capacity && buffer.capacity() <= 2 * self.capacity && free.len() < self.kept_max {
            buffer.clear();
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_has_grown_is_not_kept() {
        let pool = BufferPool::new(64, 2);
        let mut grown = pool.lend();
        grown.resize(1024, 0);
        pool.give_back(grown);
        assert_eq!(pool.free.borrow().len(), 0);
        pool.give_back(pool.lend());
        assert_eq!(pool.free.borrow().len(), 1);
        assert_eq!(pool.lend().capacity(), 64);
    }
}
