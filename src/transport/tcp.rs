//! TCP: a socket of the runtime.

use super::{Guard, Probe, Transport};
use crate::rt::{self, ConnectionId, SocketDiag, Unacknowledged};
use std::{io, net::SocketAddr};

/// A TCP connection.
#[derive(Debug)]
pub struct Tcp {
    stream: rt::Stream,
    peer: SocketAddr,
    sent: u64,
}

impl Tcp {
    /// Returns the transport over a socket that was accepted from `peer`.
    #[must_use]
    pub fn new(stream: rt::Stream, peer: SocketAddr) -> Self {
        Self { stream, peer, sent: 0 }
    }
}

impl Transport for Tcp {
    type Guard = rt::Guard;
    type Probe = SocketDiag;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn guard(&self) -> rt::Guard {
        self.stream.guard()
    }

    async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        self.stream.read(buffer).await
    }

    async fn write(&mut self, buffer: Vec<u8>, start: usize) -> (io::Result<usize>, Vec<u8>) {
        let (result, buffer) = self.stream.write(buffer, start).await;
        self.sent += result.as_ref().map_or(0, |count| *count as u64);
        (result, buffer)
    }

    async fn finish_writing(&mut self) -> io::Result<()> {
        self.stream.finish_writing().await?;
        self.sent += 1;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn peer_has_closed(&self) -> bool {
        self.stream.peer_has_closed()
    }

    fn identify(&self, probe: &SocketDiag) -> Option<ConnectionId> {
        probe.identify(&self.stream)
    }
}

impl Guard for rt::Guard {
    fn shut_down(&self) {
        rt::Guard::shut_down(*self);
    }

    fn shut_down_read(&self) {
        rt::Guard::shut_down_read(*self);
    }

    fn has_error(&self) -> bool {
        rt::Guard::has_error(*self)
    }
}

impl Probe for SocketDiag {
    type Id = ConnectionId;

    fn unacknowledged(&self, id: &ConnectionId) -> Unacknowledged {
        SocketDiag::unacknowledged(self, id)
    }
}
