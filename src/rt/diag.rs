//! What the peer of a connection has acknowledged, as the kernel knows it.
//!
//! `SIOCOUTQ` would say it of a socket, but no crate offers that without unsafe code. `sock_diag(7)` says the same number of
//! a connection that is named by its addresses: a question and an answer over a netlink socket, both of them
//! within the call, whatever the driver.

use super::net::Stream;
use nix::sys::socket::{SockaddrStorage, getpeername};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    cell::Cell,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, RawFd},
};

const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const ENOENT: i32 = 2;
const ESTALE: i32 = 116;

/// `nlmsghdr` and `inet_diag_req_v2`.
const REQUEST_LENGTH: u32 = 16 + 56;
const REQUEST_BYTES: usize = REQUEST_LENGTH as usize;
/// Where the `inet_diag_sockid` stands in a question, and in an answer.
const ID_ASKED: usize = 16 + 8;
const ID_ANSWERED: usize = 16 + 4;
/// Ports and addresses, the interface, the cookie.
const ADDRESSES_BYTES: usize = 36;
const COOKIE: usize = ADDRESSES_BYTES + 4;
const ID_BYTES: usize = COOKIE + 8;
/// Behind it: when a timer ends, and the bytes that were not read.
const UNACKNOWLEDGED: usize = ID_ANSWERED + ID_BYTES + 8;
/// What a kernel writes instead of a cookie that it is not to compare.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// Late answers to earlier questions that are passed over.
const STALE_ANSWERS: u32 = 16;

/// A way to ask the kernel about connections.
#[derive(Debug)]
pub struct SocketDiag {
    socket: Socket,
    sequence: Cell<u32>,
}

/// A connection, as it is asked about. It names that connection and no later one with its addresses.
#[derive(Debug, Clone)]
pub struct ConnectionId {
    request: [u8; REQUEST_BYTES],
    fd: RawFd,
}

/// What the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unacknowledged {
    /// So many bytes of what was written (a FIN counts as one) has the peer's kernel not acknowledged.
    Bytes(u32),
    /// The connection is no more: reset, or closed by both sides.
    Closed,
    /// It cannot be told just now.
    Unknown,
}

impl SocketDiag {
    /// Opens it and tries it on a connection to itself: a sandbox may lack it.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
        socket.set_nonblocking(true)?;
        let diag = Self { socket, sequence: Cell::new(0) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let id = ConnectionId::new(stream.local_addr()?, stream.peer_addr()?, stream.as_raw_fd());
        match diag.ask(&id.request)? {
            Some((Unacknowledged::Bytes(_), _)) => Ok(diag),
            _ => Err(io::Error::other("the kernel knows no connection to itself")),
        }
    }

    /// Returns the name of an open connection, to ask by from then on.
    #[must_use]
    pub fn identify(&self, stream: &Stream) -> Option<ConnectionId> {
        let (local, peer) = stream.addresses().ok()?;
        let mut id = ConnectionId::new(local, peer, stream.as_raw_fd());
        let (_, cookie) = self.ask(&id.request).ok()??;
        id.request[ID_ASKED + COOKIE..].copy_from_slice(&cookie);
        // As long as it is connected, no other connection has these addresses.
        getpeername::<SockaddrStorage>(id.fd).is_ok().then_some(id)
    }

    /// What the peer has not acknowledged. The connection's socket must still be open, in whatever state.
    #[must_use]
    pub fn unacknowledged(&self, id: &ConnectionId) -> Unacknowledged {
        match self.ask(&id.request) {
            Ok(Some((answer, _))) => answer,
            Ok(None) => Unacknowledged::Closed,
            Err(_) => Unacknowledged::Unknown,
        }
    }

    /// `None`: there is no such connection.
    fn ask(&self, request: &[u8; REQUEST_BYTES]) -> io::Result<Option<(Unacknowledged, [u8; 8])>> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let mut asked = *request;
        asked[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.socket.send(&asked)?;
        let mut answer = [0; 512];
        for _ in 0..STALE_ANSWERS {
            let length = (&self.socket).read(&mut answer)?;
            let answer = answer.get(..length).unwrap_or_default();
            if word(answer, 8) == Some(sequence) {
                return read_answer(request, answer);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn read_answer(request: &[u8], answer: &[u8]) -> io::Result<Option<(Unacknowledged, [u8; 8])>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    match kind.ok_or_else(malformed)? {
        NLMSG_ERROR => match word(answer, 16).ok_or_else(malformed)?.cast_signed().wrapping_neg() {
            ENOENT | ESTALE => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        },
        SOCK_DIAG_BY_FAMILY => {
            let id = answer.get(ID_ANSWERED..ID_ANSWERED + ID_BYTES).ok_or_else(malformed)?;
            // The kernel names the listener in place of a connection that it does not find.
            if id.get(..ADDRESSES_BYTES) != request.get(ID_ASKED..ID_ASKED + ADDRESSES_BYTES) {
                return Ok(None);
            }
            let cookie = id.get(COOKIE..).and_then(|cookie| cookie.try_into().ok()).ok_or_else(malformed)?;
            let bytes = word(answer, UNACKNOWLEDGED).ok_or_else(malformed)?;
            Ok(Some((Unacknowledged::Bytes(bytes), cookie)))
        }
        _ => Err(malformed()),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes)
}

impl ConnectionId {
    fn new(local: SocketAddr, peer: SocketAddr, fd: RawFd) -> Self {
        let (family, scope) = match local {
            SocketAddr::V4(_) => (AF_INET, 0),
            SocketAddr::V6(address) => (AF_INET6, address.scope_id()),
        };
        let mut bytes = Vec::with_capacity(REQUEST_BYTES);
        bytes.extend_from_slice(&REQUEST_LENGTH.to_ne_bytes());
        bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        // Sequence, which each question has anew, and the sender, which the kernel fills in.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
        // Connections in any state.
        bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
        bytes.extend_from_slice(&local.port().to_be_bytes());
        bytes.extend_from_slice(&peer.port().to_be_bytes());
        for address in [local, peer] {
            let mut octets = [0; 16];
            match address {
                SocketAddr::V4(address) => octets[..4].copy_from_slice(&address.ip().octets()),
                SocketAddr::V6(address) => octets = address.ip().octets(),
            }
            bytes.extend_from_slice(&octets);
        }
        bytes.extend_from_slice(&scope.to_ne_bytes());
        bytes.extend_from_slice(&NO_COOKIE);
        let mut request = [0; REQUEST_BYTES];
        request.copy_from_slice(&bytes);
        Self { request, fd }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, time::Duration};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// As [`SocketDiag::identify`], for a socket of the standard library.
    fn identify(diag: &SocketDiag, stream: &TcpStream) -> ConnectionId {
        let mut id = ConnectionId::new(stream.local_addr().unwrap(), stream.peer_addr().unwrap(), stream.as_raw_fd());
        let (_, cookie) = diag.ask(&id.request).unwrap().unwrap();
        id.request[ID_ASKED + COOKIE..].copy_from_slice(&cookie);
        id
    }

    fn eventually(diag: &SocketDiag, id: &ConnectionId, expect: impl Fn(Unacknowledged) -> bool) {
        for _ in 0..3_000 {
            if expect(diag.unacknowledged(id)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?}", diag.unacknowledged(id));
    }

    #[test]
    fn what_a_peer_has_not_acknowledged_is_told_from_what_it_has() {
        let diag = SocketDiag::open().unwrap();
        let (client, mut server) = pair();
        let id = identify(&diag, &server);
        server.write_all(b"some").unwrap();
        eventually(&diag, &id, |told| told == Unacknowledged::Bytes(0));
        // More than the peer's kernel has room for while nobody reads.
        server.set_nonblocking(true).unwrap();
        while server.write(&[b'x'; 8_192]).is_ok() {}
        assert!(matches!(diag.unacknowledged(&id), Unacknowledged::Bytes(1..)));
        // Closed with something unread: reset.
        drop(client);
        eventually(&diag, &id, |told| told == Unacknowledged::Closed);
    }

    #[test]
    fn a_peer_that_only_writes_no_more_is_told_from_one_that_is_gone() {
        let diag = SocketDiag::open().unwrap();
        for half in [true, false] {
            let (client, mut server) = pair();
            let id = identify(&diag, &server);
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let kept = half.then_some(client);
            server.write_all(b"answer").unwrap();
            let expect = if half { Unacknowledged::Bytes(0) } else { Unacknowledged::Closed };
            eventually(&diag, &id, |told| told == expect);
            drop(kept);
        }
    }

    #[test]
    fn another_connection_with_the_same_addresses_is_not_taken_for_it() {
        let diag = SocketDiag::open().unwrap();
        let (_client, server) = pair();
        let mut id = identify(&diag, &server);
        let last = id.request.last_mut().unwrap();
        *last = last.wrapping_add(1);
        assert_eq!(diag.unacknowledged(&id), Unacknowledged::Closed);
    }
}
