//! Sockets of a shard: listeners that share a port, streams, and outgoing connections.

use monoio::{
    buf::{IoBuf, IoBufMut, SliceMut},
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt},
};
use nix::sys::socket::{MsgFlags, Shutdown, getsockopt, recv, sockopt::SocketError};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

/// Connections that the kernel completes before a shard accepts them.
const BACKLOG: i32 = 4096;

/// An address that this process alone will serve.
///
/// Shards share a port through `SO_REUSEPORT`, and so could a second process, silently. The reservation
/// is bound without the option, which fails if anybody serves the address, and allows it afterwards,
/// for the shards. It is kept until all of them listen.
#[derive(Debug)]
pub struct Reservation {
    /// Held until the shards listen.
    _socket: Socket,
    address: SocketAddr,
}

impl Reservation {
    /// Reserves an address; port 0 picks a free one.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = tcp_socket(address)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { _socket: socket, address })
    }

    /// The address, with the port that was picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One listener of the address, for one shard. It may be made here and served on another thread.
    pub fn listener(&self) -> io::Result<std::net::TcpListener> {
        let socket = tcp_socket(self.address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&self.address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

/// A listener on a shard.
#[derive(Debug)]
pub struct Listener(monoio::net::TcpListener);

impl Listener {
    /// Takes over a listener on the thread that will serve it.
    pub fn new(listener: std::net::TcpListener, flavor: super::Flavor) -> io::Result<Self> {
        // io_uring answers EAGAIN at once on a non-blocking listener; epoll needs one.
        listener.set_nonblocking(flavor == super::Flavor::Epoll)?;
        Ok(Self(monoio::net::TcpListener::from_std(listener)?))
    }

    /// The next connection, and where it comes from. Must run to its end: see [`Listener::guard`] for stopping it.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Stream(stream), peer))
    }

    /// Stops the listener: it refuses new connections and the pending accept ends with an error.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard(self.0.as_raw_fd())
    }
}

/// Ends pending operations of a socket from outside, by shutting it down. It must not outlive the socket.
#[derive(Debug, Clone, Copy)]
pub struct Guard(RawFd);

impl Guard {
    /// Both directions: reads return end of stream, writes fail, a listener stops listening.
    pub fn shut_down(self) {
        // Already disconnected is as good.
        let _ = nix::sys::socket::shutdown(self.0, Shutdown::Both);
    }

    /// Whether the kernel has noted an error, such as a reset, that nobody has been told yet.
    #[must_use]
    pub fn has_error(self) -> bool {
        getsockopt(self.0, SocketError).is_ok_and(|error| error != 0)
    }

    /// Reads return end of stream; what is written still leaves.
    pub fn shut_down_read(self) {
        let _ = nix::sys::socket::shutdown(self.0, Shutdown::Read);
    }
}

/// A connection.
#[derive(Debug)]
pub struct Stream(monoio::net::TcpStream);

impl Stream {
    /// Waits until there is something to read, without a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable(false).await
    }

    /// Reads into the spare capacity of `buffer`, which must not be zero; `Ok(0)` is end of stream.
    /// Must run to its end.
    pub async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (begin, end) = (buffer.len(), buffer.capacity());
        let slice: SliceMut<Vec<u8>> = buffer.slice_mut(begin..end);
        let (result, slice) = self.0.read(slice).await;
        (result, slice.into_inner())
    }

    /// Writes all of `buffer`. Must run to its end.
    pub async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let (result, buffer) = self.0.write_all(buffer).await;
        (result.map(|_| ()), buffer)
    }

    /// Writes what it can of `buffer` from `start` on. Must run to its end.
    pub async fn write(&mut self, buffer: Vec<u8>, start: usize) -> (io::Result<usize>, Vec<u8>) {
        let (result, slice) = self.0.write(buffer.slice(start..)).await;
        (result, slice.into_inner())
    }

    /// Says that nothing more will be written.
    pub async fn finish_writing(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }

    /// Whether the peer has closed its side, as far as the kernel knows by now.
    #[must_use]
    pub fn peer_has_closed(&self) -> bool {
        let mut byte = [0_u8; 1];
        match recv(self.0.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(received) => received == 0,
            Err(error) => error != nix::errno::Errno::EAGAIN,
        }
    }

    /// Its own address and its peer's.
    pub(super) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.0.local_addr()?, self.0.peer_addr()?))
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The handle that ends this connection's pending operations.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard(self.0.as_raw_fd())
    }

    /// Halves for a task that reads and one that writes.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        use monoio::io::Splitable;
        let (read, write) = self.0.into_split();
        (ReadHalf(read), WriteHalf(write))
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct ReadHalf(monoio::net::tcp::TcpOwnedReadHalf);

impl ReadHalf {
    /// As [`Stream::read`].
    pub async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (begin, end) = (buffer.len(), buffer.capacity());
        let (result, slice) = self.0.read(buffer.slice_mut(begin..end)).await;
        (result, slice.into_inner())
    }
}

/// The writing half of a connection.
#[derive(Debug)]
pub struct WriteHalf(monoio::net::tcp::TcpOwnedWriteHalf);

impl WriteHalf {
    /// As [`Stream::write_all`].
    pub async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let (result, buffer) = self.0.write_all(buffer).await;
        (result.map(|_| ()), buffer)
    }
}

/// Resolves a name and connects, trying each address, for at most `limit` in all.
///
/// It runs on a thread of its own: name resolution blocks, and a connect that is cancelled on the
/// runtime leaks its socket (monoio 0.2.4).
pub async fn connect(host: &str, port: u16, limit: Duration, flavor: super::Flavor) -> io::Result<Stream> {
    let (sender, receiver) = flume::bounded(1);
    let host = host.to_owned();
    std::thread::Builder::new().name("connect".to_owned()).spawn(move || {
        let _ = sender.send(connect_blocking(&host, port, limit));
    })?;
    let stream = receiver.recv_async().await.map_err(|_| io::Error::other("the connecting thread ended"))??;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(flavor == super::Flavor::Epoll)?;
    Ok(Stream(monoio::net::TcpStream::from_std(stream)?))
}

fn connect_blocking(host: &str, port: u16, limit: Duration) -> io::Result<std::net::TcpStream> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    for address in addresses {
        match std::net::TcpStream::connect_timeout(&address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_served_cannot_be_reserved_again() {
        let first = Reservation::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let shards = [first.listener().unwrap(), first.listener().unwrap()];
        let while_reserved = Reservation::new(first.address()).map(|second| second.address());
        let address = first.address();
        drop(first);
        let while_listening = Reservation::new(address).map(|second| second.address());
        assert_eq!(while_reserved.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(while_listening.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(shards);
        assert!(Reservation::new(address).is_ok());
    }
}
