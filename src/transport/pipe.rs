//! A connection in memory, for unit tests: two ends, each a [`Transport`], and what two kernels and a network do between them.
//!
//! What one end writes lies in its own buffer until the other end's kernel takes it, and there until it is read. Both
//! buffers are bounded, so the writer waits for a peer that does not read. The network can be interrupted: then nothing
//! arrives, neither bytes nor ends nor resets. As with TCP, closing an end with something unread resets the connection,
//! and so does what arrives at an end that is closed.

use super::{Guard, Probe, Transport};
use crate::rt::{Unacknowledged, Waiters};
use std::{cell::RefCell, collections::VecDeque, io, net::SocketAddr, rc::Rc};

/// One end of a pipe. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Pipe {
    handle: Handle,
    peer: SocketAddr,
    sent: u64,
}

/// One end of a pipe as its guard, and as its name.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    wire: Rc<Wire>,
    side: usize,
}

/// Knows everything about every pipe.
#[derive(Debug)]
pub(crate) struct PipeProbe;

#[derive(Debug)]
struct Wire {
    state: RefCell<State>,
    changed: Waiters,
}

#[derive(Debug)]
struct State {
    ends: [End; 2],
    capacity: usize,
    is_interrupted: bool,
}

/// What the kernel of one end knows.
#[derive(Debug, Default)]
struct End {
    /// Bytes that were written here and that the other end's kernel has not acknowledged.
    outgoing: VecDeque<u8>,
    /// Bytes that have arrived here and were not read.
    incoming: VecDeque<u8>,
    /// Nothing more will be written here.
    is_finished: bool,
    /// Nothing more will arrive here.
    is_ended: bool,
    /// Reading ends when everything is read that has arrived.
    is_reading_shut_down: bool,
    is_closed: bool,
    /// The other end is reset as soon as the network lets it know.
    resets: bool,
    is_reset: bool,
    /// Nobody was told of the reset yet.
    has_error: bool,
}

/// Returns both ends of a new connection. The first is the server's, whose peer is `client`. Each buffer has room for
/// `capacity` bytes.
pub(crate) fn pipe(client: SocketAddr, capacity: usize) -> (Pipe, Pipe) {
    assert!(capacity > 0, "nothing would ever arrive");
    let state = State { ends: Default::default(), capacity, is_interrupted: false };
    let wire = Rc::new(Wire { state: RefCell::new(state), changed: Waiters::default() });
    let end = |side, peer| Pipe { handle: Handle { wire: Rc::clone(&wire), side }, peer, sent: 0 };
    (end(0, client), end(1, SocketAddr::from(([127, 0, 0, 1], 80))))
}

impl State {
    /// Lets the network do what it can.
    fn deliver(&mut self) {
        if self.is_interrupted {
            return;
        }
        let [first, second] = &mut self.ends;
        first.send_to(second, self.capacity);
        second.send_to(first, self.capacity);
        if first.resets {
            second.reset();
        }
        if second.resets {
            first.reset();
        }
    }
}

impl End {
    fn send_to(&mut self, peer: &mut Self, capacity: usize) {
        peer.resets |= peer.is_closed && !self.outgoing.is_empty();
        let count = self.outgoing.len().min(capacity - peer.incoming.len());
        peer.incoming.extend(self.outgoing.drain(..count));
        peer.is_ended |= self.is_finished && self.outgoing.is_empty();
    }

    fn reset(&mut self) {
        self.has_error |= !self.is_reset;
        self.is_reset = true;
        self.incoming.clear();
        self.outgoing.clear();
    }

    fn close(&mut self) {
        self.resets |= !self.incoming.is_empty();
        self.incoming.clear();
        self.is_finished = true;
        self.is_closed = true;
    }

    fn is_readable(&self) -> bool {
        !self.incoming.is_empty() || self.is_ended || self.is_reading_shut_down || self.is_reset
    }

    /// Returns the error that nobody was told of yet.
    fn take_error(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_error) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// Reads into the spare capacity of `buffer`; `None`: there is nothing yet.
    fn read(&mut self, buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
        if !self.is_readable() {
            return None;
        }
        let count = self.incoming.len().min(buffer.capacity() - buffer.len());
        buffer.extend(self.incoming.drain(..count));
        Some(self.take_error().map(|()| count))
    }

    /// Writes what there is room for; `None`: there is none yet.
    fn write(&mut self, bytes: &[u8], capacity: usize) -> Option<io::Result<usize>> {
        if let Err(error) = self.take_error() {
            return Some(Err(error));
        }
        if self.is_reset || self.is_finished {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(capacity - self.outgoing.len());
        self.outgoing.extend(bytes.iter().take(count));
        (count > 0 || bytes.is_empty()).then_some(Ok(count))
    }
}

impl Handle {
    /// Changes this end and what follows from that, and wakes everyone who waits.
    fn change<R>(&self, change: impl FnOnce(&mut State, usize) -> R) -> R {
        let result = {
            let mut state = self.wire.state.borrow_mut();
            let result = change(&mut state, self.side);
            state.deliver();
            result
        };
        self.wire.changed.wake_all();
        result
    }

    fn look<R>(&self, look: impl FnOnce(&End) -> R) -> R {
        look(&self.wire.state.borrow().ends[self.side])
    }

    /// Tries until there is a result, after each change.
    async fn until<R>(&self, mut attempt: impl FnMut(&mut End, usize) -> Option<R>) -> R {
        loop {
            let changed = self.wire.changed.changed();
            let result = {
                let state = &mut *self.wire.state.borrow_mut();
                attempt(&mut state.ends[self.side], state.capacity)
            };
            if let Some(result) = result {
                self.change(|_, _| ());
                return result;
            }
            changed.await;
        }
    }
}

impl Pipe {
    /// Stops the network from delivering anything in either direction, or lets it go on.
    pub(crate) fn interrupt(&self, is_interrupted: bool) {
        self.handle.change(|state, _| state.is_interrupted = is_interrupted);
    }

    /// Returns whether a read would have something.
    pub(crate) fn has_input(&self) -> bool {
        self.handle.look(|end| !end.incoming.is_empty())
    }

    /// Closes the end at once and resets the connection, whatever was read.
    pub(crate) fn reset(self) {
        self.handle.change(|state, side| state.ends[side].resets = true);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.handle.change(|state, side| state.ends[side].close());
    }
}

impl Transport for Pipe {
    type Guard = Handle;
    type Probe = PipeProbe;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn guard(&self) -> Handle {
        self.handle.clone()
    }

    async fn readable(&self) -> io::Result<()> {
        self.handle.until(|end, _| end.is_readable().then_some(Ok(()))).await
    }

    async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        assert!(buffer.capacity() > buffer.len(), "a read without room");
        let result = self.handle.until(|end, _| end.read(&mut buffer)).await;
        (result, buffer)
    }

    async fn write(&mut self, buffer: Vec<u8>, start: usize) -> (io::Result<usize>, Vec<u8>) {
        let result = self.handle.until(|end, capacity| end.write(&buffer[start..], capacity)).await;
        self.sent += result.as_ref().map_or(0, |count| *count as u64);
        (result, buffer)
    }

    async fn finish_writing(&mut self) -> io::Result<()> {
        if self.handle.look(|end| end.is_reset || end.is_finished) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.handle.change(|state, side| state.ends[side].is_finished = true);
        self.sent += 1;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn peer_has_closed(&self) -> bool {
        self.handle.look(|end| end.is_reset || (end.is_ended && end.incoming.is_empty()))
    }

    fn identify(&self, _: &PipeProbe) -> Option<Handle> {
        (!self.handle.look(|end| end.is_reset)).then(|| self.handle.clone())
    }
}

impl Guard for Handle {
    fn shut_down(&self) {
        self.change(|state, side| {
            state.ends[side].is_reading_shut_down = true;
            state.ends[side].is_finished = true;
        });
    }

    fn shut_down_read(&self) {
        self.change(|state, side| state.ends[side].is_reading_shut_down = true);
    }

    fn has_error(&self) -> bool {
        self.look(|end| end.has_error)
    }
}

impl Probe for PipeProbe {
    type Id = Handle;

    fn unacknowledged(&self, id: &Handle) -> Unacknowledged {
        let state = id.wire.state.borrow();
        let (own, peer) = (&state.ends[id.side], &state.ends[1 - id.side]);
        if own.is_reset || (peer.is_ended && own.is_ended) {
            return Unacknowledged::Closed;
        }
        let bytes = own.outgoing.len() + usize::from(own.is_finished && !peer.is_ended);
        Unacknowledged::Bytes(u32::try_from(bytes).expect("a buffer is small"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{self, virtual_time};
    use std::time::Duration;

    const CAPACITY: usize = 4;

    fn both() -> (Pipe, Pipe) {
        pipe("192.0.2.1:1234".parse().unwrap(), CAPACITY)
    }

    async fn read(end: &mut Pipe) -> io::Result<Vec<u8>> {
        let (result, buffer) = end.read(Vec::with_capacity(16)).await;
        result.map(|_| buffer)
    }

    #[test]
    fn bytes_arrive_in_order_and_a_writer_waits_for_room() {
        virtual_time::run(async {
            let (mut server, mut client) = both();
            let text = b"more than both buffers have room for";
            rt::spawn(async move {
                server.write_all(text.to_vec()).await.unwrap();
                assert_eq!(server.sent(), text.len() as u64);
            });
            let mut received = Vec::new();
            loop {
                rt::sleep(Duration::from_secs(1)).await;
                let piece = read(&mut client).await.unwrap();
                assert!(piece.len() <= CAPACITY);
                if piece.is_empty() {
                    break;
                }
                received.extend(piece);
            }
            assert_eq!(received, text);
        });
    }

    #[test]
    fn what_is_not_acknowledged_is_what_the_network_holds_and_what_has_no_room_there() {
        virtual_time::run(async {
            let (mut server, mut client) = both();
            let told = |server: &Pipe| PipeProbe.unacknowledged(&server.identify(&PipeProbe).unwrap());
            client.interrupt(true);
            server.write_all(b"abc".to_vec()).await.unwrap();
            assert_eq!(told(&server), Unacknowledged::Bytes(3));
            client.interrupt(false);
            assert_eq!(told(&server), Unacknowledged::Bytes(0), "unread, and acknowledged");
            server.write_all(b"de".to_vec()).await.unwrap();
            server.finish_writing().await.unwrap();
            assert_eq!((told(&server), server.sent()), (Unacknowledged::Bytes(2), 6), "one byte, and the end");
            assert_eq!(read(&mut client).await.unwrap(), b"abcd");
            assert_eq!(told(&server), Unacknowledged::Bytes(0));
            assert!(!server.peer_has_closed());
            assert_eq!(read(&mut client).await.unwrap(), b"e");
            drop(client);
            assert_eq!((told(&server), server.peer_has_closed()), (Unacknowledged::Closed, true));
            assert!(!server.guard().has_error(), "in order");
        });
    }

    #[test]
    fn who_closes_with_something_unread_resets_and_so_does_what_comes_after_a_close() {
        virtual_time::run(async {
            let (mut server, client) = both();
            server.write_all(b"abc".to_vec()).await.unwrap();
            drop(client);
            assert!(server.guard().has_error());
            assert_eq!(read(&mut server).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(read(&mut server).await.unwrap(), b"", "an error is told once");

            let (mut server, client) = both();
            drop(client);
            assert_eq!(read(&mut server).await.unwrap(), b"");
            assert!(server.write_all(b"abc".to_vec()).await.is_ok());
            assert!(server.write_all(b"abc".to_vec()).await.is_err());

            let (server, client) = both();
            client.reset();
            assert!(server.identify(&PipeProbe).is_none());
        });
    }

    #[test]
    fn a_guard_ends_what_is_pending() {
        virtual_time::run(async {
            let (mut server, mut client) = both();
            let guard = server.guard();
            rt::spawn(async move {
                rt::sleep(Duration::from_secs(1)).await;
                guard.shut_down_read();
                rt::sleep(Duration::from_secs(1)).await;
                guard.shut_down();
            });
            assert_eq!(read(&mut server).await.unwrap(), b"");
            client.write_all(b"ab".to_vec()).await.unwrap();
            assert_eq!(read(&mut server).await.unwrap(), b"ab", "as a kernel does");
            assert!(server.write_all(vec![b'x'; 4 * CAPACITY]).await.is_err(), "half of it written");
            let mut received = Vec::new();
            while let Some(piece) = Some(read(&mut client).await.unwrap()).filter(|piece| !piece.is_empty()) {
                received.extend(piece);
            }
            assert_eq!(received.len(), 2 * CAPACITY, "what was written leaves");
        });
    }
}
