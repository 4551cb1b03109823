//! The seam below connections: streams of bytes, whatever carries them.
//!
//! A connection is generic over [`Transport`]; calls are dispatched statically, bytes never through a `dyn`. [`Tcp`] is a socket,
//! and in unit tests a `Pipe` is memory with virtual time. A transport may wrap another, as TLS does: then [`Transport::sent`] counts
//! what it gives to the transport below, and guard and probe are those of the transport below (ADR 39).
//!
//! As everywhere on a shard, a read or write that has begun runs to its end. What ends it early is its [`Guard`].

#[cfg(test)]
pub(crate) mod pipe;
mod tcp;

pub use tcp::Tcp;

use crate::rt::Unacknowledged;
use std::{fmt::Debug, io, net::SocketAddr};

/// A connection to a client: bytes in both directions.
pub trait Transport: Debug + Sized + 'static {
    /// Ends its pending operations from outside.
    type Guard: Guard;
    /// Knows what peers have acknowledged. One serves all transports of a shard.
    type Probe: Probe;

    /// Returns the address of the peer.
    fn peer(&self) -> SocketAddr;

    /// Returns the guard, which must not outlive the transport.
    fn guard(&self) -> Self::Guard;

    /// Waits until there is something to read, without a buffer. Unlike a read, this wait may be dropped.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Reads into the spare capacity of `buffer`, which must not be zero; `Ok(0)` is end of stream.
    fn read(&mut self, buffer: Vec<u8>) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;

    /// Writes what it can of `buffer` from `start` on, and returns how much of `buffer` that was.
    fn write(&mut self, buffer: Vec<u8>, start: usize) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;

    /// Writes all of `buffer`.
    fn write_all(&mut self, mut buffer: Vec<u8>) -> impl Future<Output = io::Result<()>> {
        async move {
            let mut written = 0;
            while written < buffer.len() {
                let (result, back) = self.write(buffer, written).await;
                buffer = back;
                match result? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => written += count,
                }
            }
            Ok(())
        }
    }

    /// Says that nothing more will be written.
    fn finish_writing(&mut self) -> impl Future<Output = io::Result<()>>;

    /// Returns how many bytes it has sent, as [`Probe::unacknowledged`] counts them: on the wire, and the end of the stream counts as one.
    fn sent(&self) -> u64;

    /// Returns whether the peer has closed its side, as far as is known by now.
    fn peer_has_closed(&self) -> bool;

    /// Returns the name by which the probe is asked about this connection; `None` if it is no more.
    fn identify(&self, probe: &Self::Probe) -> Option<<Self::Probe as Probe>::Id>;
}

/// Ends pending operations of a transport from outside, by shutting it down.
pub trait Guard: Debug {
    /// Shuts down both directions: reads return end of stream, writes fail.
    fn shut_down(&self);

    /// Shuts down the reading side: reads return what has come already and then end of stream; what is written still leaves.
    fn shut_down_read(&self);

    /// Returns whether an error, such as a reset, has been noted that nobody was told of yet.
    fn has_error(&self) -> bool;
}

/// Knows what peers have acknowledged of what was sent to them.
pub trait Probe: Debug + 'static {
    /// A connection, named so that no later one is taken for it.
    type Id: Debug;

    /// Returns how much the peer has not acknowledged. The transport must still be there, in whatever state.
    fn unacknowledged(&self, id: &Self::Id) -> Unacknowledged;
}
