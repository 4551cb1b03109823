//! How many connections each client network has on a shard.
//!
//! A network is what one client has at its disposal: an IPv4 address, or the /64 of an IPv6 address (docs/adr/0022).

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

/// A client's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6(u128),
}

/// The networks that have connections.
#[derive(Debug)]
pub(super) struct Peers {
    open: RefCell<HashMap<Network, usize>>,
    /// The most connections of one network; 0: no limit.
    max: usize,
}

/// A connection that is counted until it is dropped.
#[derive(Debug)]
pub(super) struct Peer(Option<(Rc<Peers>, Network)>);

impl Network {
    fn of(peer: SocketAddr) -> Self {
        match peer.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(address.to_bits() >> 64),
        }
    }
}

impl Peers {
    /// A table in which each network may have `max` connections; 0: no limit.
    pub(super) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { open: RefCell::default(), max })
    }

    /// Counts a connection; `None`: its network has as many as it may have.
    pub(super) fn enter(self: &Rc<Self>, peer: SocketAddr) -> Option<Peer> {
        if self.max == 0 {
            return Some(Peer(None));
        }
        let network = Network::of(peer);
        let mut open = self.open.borrow_mut();
        let count = open.entry(network).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Peer(Some((Rc::clone(self), network))))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let Some((peers, network)) = self.0.take() else { return };
        let mut open = peers.open.borrow_mut();
        let left = open.get(&network).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            open.remove(&network);
        } else {
            open.insert(network, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_or_a_64_is_one_network_and_no_other() {
        let same = |one: &str, other: &str| Network::of(address(one)) == Network::of(address(other));
        assert!(same("10.0.0.1:1", "10.0.0.1:2"));
        assert!(same("10.0.0.1:1", "[::ffff:10.0.0.1]:1"));
        assert!(!same("10.0.0.1:1", "10.0.0.2:1"));
        assert!(same("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:1"));
        assert!(!same("[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1"));
    }

    #[test]
    fn a_network_has_so_many_and_has_room_again_when_one_is_gone() {
        let peers = Peers::new(2);
        let first = peers.enter(address("10.0.0.1:1")).unwrap();
        let second = peers.enter(address("10.0.0.1:2")).unwrap();
        assert!(peers.enter(address("10.0.0.1:3")).is_none());
        let other = peers.enter(address("10.0.0.2:1")).unwrap();
        drop(first);
        let third = peers.enter(address("10.0.0.1:3")).unwrap();
        drop((second, other, third));
        assert!(peers.open.borrow().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn without_a_bound_nobody_is_counted() {
        let peers = Peers::new(0);
        let all: Vec<_> = (0..100).map(|_| peers.enter(address("10.0.0.1:1")).unwrap()).collect();
        assert!(peers.open.borrow().is_empty());
        drop(all);
    }
}
