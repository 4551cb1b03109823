//! Bodies that come in pieces: bytes on their way between a connection and a call, within one task or one shard.
//!
//! [`pipe`] is a bounded buffer with a writing end and a reading end. Whoever writes waits while the buffer is full, and
//! learns that the reader has gone; whoever reads learns whether the bytes are complete. [`BodyStream`] is the body of a
//! reply that a future produces while it is sent.

use crate::reject::Reject;
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// The other end has gone, or the body cannot be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// What both ends share.
#[derive(Debug)]
struct Shared {
    buffer: RefCell<Vec<u8>>,
    room: usize,
    /// How the bytes end, once they do. A writer that is dropped before it said so leaves [`Reject::Internal`].
    end: RefCell<Option<Result<(), Reject>>>,
    reader_has_gone: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

/// The end of a pipe that is written to. One task writes.
#[derive(Debug)]
pub struct Sink(Rc<Shared>);

/// The end of a pipe that is read. One task reads.
#[derive(Debug)]
pub struct Source(Rc<Shared>);

/// Returns both ends of a pipe. A writer waits while it holds `room` bytes or more.
#[must_use]
pub fn pipe(room: usize) -> (Sink, Source) {
    let shared = Rc::new(Shared {
        buffer: RefCell::default(),
        room,
        end: RefCell::default(),
        reader_has_gone: Cell::new(false),
        reader: RefCell::default(),
        writer: RefCell::default(),
    });
    (Sink(Rc::clone(&shared)), Source(shared))
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Sink {
    /// Waits until there is room.
    pub async fn room(&self) -> Result<(), Broken> {
        poll_fn(|context| {
            if self.0.reader_has_gone.get() {
                return Poll::Ready(Err(Broken));
            }
            if self.0.buffer.borrow().len() < self.0.room {
                return Poll::Ready(Ok(()));
            }
            *self.0.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until there is room, and writes. What is written at once is kept whole: the pipe then holds the room and
    /// these bytes at most.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), Broken> {
        self.room().await?;
        self.write(|buffer| buffer.extend_from_slice(bytes));
        Ok(())
    }

    /// Waits until the reader has gone.
    pub async fn closed(&self) {
        poll_fn(|context| {
            if self.0.reader_has_gone.get() {
                return Poll::Ready(());
            }
            *self.0.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Writes without waiting, after [`Self::room`].
    pub fn write<T>(&self, append: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let written = append(&mut self.0.buffer.borrow_mut());
        wake(&self.0.reader);
        written
    }

    /// Ends the bytes: they are complete, or something went wrong. What was written before is still read.
    pub fn end(self, end: Result<(), Reject>) {
        *self.0.end.borrow_mut() = Some(end);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let unsaid = Err(Reject::Internal("a body ended without saying whether it is complete"));
        self.0.end.borrow_mut().get_or_insert(unsaid);
        wake(&self.0.reader);
    }
}

impl Source {
    /// Waits for bytes and takes all that are there, in place of what `into` holds. `Ok(false)`: there are no more, and
    /// they were complete. An error says why they are not.
    pub async fn read(&mut self, into: &mut Vec<u8>) -> Result<bool, Reject> {
        poll_fn(|context| self.poll_read(context, into)).await
    }

    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<bool, Reject>> {
        into.clear();
        if !self.0.buffer.borrow().is_empty() {
            std::mem::swap(&mut *self.0.buffer.borrow_mut(), into);
            wake(&self.0.writer);
            return Poll::Ready(Ok(true));
        }
        if let Some(end) = &*self.0.end.borrow() {
            return Poll::Ready(end.clone().map(|()| false));
        }
        *self.0.reader.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.0.reader_has_gone.set(true);
        wake(&self.0.writer);
    }
}

/// What a producer says at its end: [`Broken`] if the body is not complete.
type Produced = Result<(), Broken>;

/// The body of a reply, produced while it is sent. The connection runs the producer, and no further than the client
/// reads: while a write is under way nothing is produced.
///
/// A producer is never dropped in its midst once it has begun. When the client leaves, [`Sink::send`] fails and
/// [`Sink::closed`] returns, and the connection waits until the producer has ended; so it must end soon then. Nor does
/// the connection end a body by itself when the gateway shuts down: a producer whose body has no end by itself has to
/// heed that.
pub struct BodyStream {
    source: Source,
    producer: Option<Pin<Box<dyn Future<Output = Produced>>>>,
    has_begun: bool,
    end: Produced,
}

impl BodyStream {
    /// Returns the body that the future of `produce` writes. It is kept up to `room` bytes ahead of the client.
    pub fn new<F: Future<Output = Produced> + 'static>(room: usize, produce: impl FnOnce(Sink) -> F) -> Self {
        let (sink, source) = pipe(room);
        Self { source, producer: Some(Box::pin(produce(sink))), has_begun: false, end: Ok(()) }
    }

    /// Runs the producer, and takes all bytes that are there, in place of what `into` holds. `Ok(false)`: the body is
    /// complete.
    pub fn poll_next(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<bool, Broken>> {
        self.has_begun = true;
        if let Some(producer) = &mut self.producer
            && let Poll::Ready(end) = producer.as_mut().poll(context)
        {
            (self.producer, self.end) = (None, end);
        }
        // A producer may have ended its sink and go on: what it says at its end counts.
        match self.source.poll_read(context, into) {
            Poll::Ready(Ok(true)) => Poll::Ready(Ok(true)),
            _ if self.producer.is_none() => Poll::Ready(self.end.map(|()| false)),
            _ => Poll::Pending,
        }
    }

    /// Tells the producer that the client has gone, and waits until it has ended.
    pub async fn abandon(self) {
        drop(self.source);
        if let Some(producer) = self.producer.filter(|_| self.has_begun) {
            let _ = producer.await;
        }
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BodyStream").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls once.
    fn poll<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_writer_waits_while_the_pipe_is_full() {
        let (sink, mut source) = pipe(4);
        assert_eq!(poll(&mut Box::pin(sink.send(b"abcdef"))), Poll::Ready(Ok(())), "one write is kept whole");
        let mut more = Box::pin(sink.send(b"g"));
        assert!(poll(&mut more).is_pending());
        let mut bytes = b"old".to_vec();
        assert_eq!(poll(&mut Box::pin(source.read(&mut bytes))), Poll::Ready(Ok(true)));
        assert_eq!(bytes, b"abcdef");
        assert_eq!(poll(&mut more), Poll::Ready(Ok(())));
        drop(more);
        sink.end(Ok(()));
        assert_eq!(poll(&mut Box::pin(source.read(&mut bytes))), Poll::Ready(Ok(true)));
        assert_eq!(bytes, b"g");
        for _ in 0..2 {
            assert_eq!(poll(&mut Box::pin(source.read(&mut bytes))), Poll::Ready(Ok(false)));
        }
    }

    #[test]
    fn bytes_that_are_not_complete_say_why() {
        let mut bytes = Vec::new();
        let (sink, mut source) = pipe(4);
        sink.end(Err(Reject::RequestTimeout));
        assert_eq!(poll(&mut Box::pin(source.read(&mut bytes))), Poll::Ready(Err(Reject::RequestTimeout)));
        let (sink, mut source) = pipe(4);
        drop(sink);
        assert!(matches!(poll(&mut Box::pin(source.read(&mut bytes))), Poll::Ready(Err(Reject::Internal(_)))));
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_writer() {
        let (sink, source) = pipe(1);
        sink.write(|buffer| buffer.push(b'x'));
        let (mut send, mut closed) = (Box::pin(sink.send(b"y")), Box::pin(sink.closed()));
        assert!(poll(&mut send).is_pending() && poll(&mut closed).is_pending());
        drop(source);
        assert_eq!((poll(&mut send), poll(&mut closed)), (Poll::Ready(Err(Broken)), Poll::Ready(())));
        drop((send, closed));
        assert_eq!(poll(&mut Box::pin(sink.room())), Poll::Ready(Err(Broken)));
    }

    #[test]
    fn a_producer_is_run_to_its_end_also_when_its_reader_leaves() {
        let ended = Rc::new(Cell::new(false));
        let end = Rc::clone(&ended);
        let produce = |sink: Sink| async move {
            sink.send(b"first").await?;
            sink.closed().await;
            end.set(true);
            sink.send(b"second").await
        };
        let mut stream = BodyStream::new(16, produce);
        let (mut bytes, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
        assert_eq!(stream.poll_next(&mut context, &mut bytes), Poll::Ready(Ok(true)));
        assert_eq!(bytes, b"first");
        assert!(stream.poll_next(&mut context, &mut bytes).is_pending() && !ended.get());
        assert!(poll(&mut Box::pin(stream.abandon())).is_ready() && ended.get());
    }
}
