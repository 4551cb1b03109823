//! The servers that a connection may go to: those that were configured, and those that the cluster has announced.

use crate::{limits::NATS_SERVERS_MAX, rt, wire::nats::ServerInfo};

/// Host and port.
pub(super) type Address = (String, u16);

/// The servers, and which of them were tried.
#[derive(Debug)]
pub(super) struct Servers {
    known: Vec<Address>,
    /// The last one that was returned.
    at: Option<usize>,
    /// The last one that accepted the connection.
    home: Option<usize>,
    /// Those that are tried before any other is tried again.
    untried: Vec<usize>,
}

impl Servers {
    /// These servers, of which this one comes first: shards begin at different ones.
    pub(super) fn new(known: Vec<Address>, first: usize) -> Self {
        let untried = if known.is_empty() { Vec::new() } else { vec![first % known.len()] };
        Self { known, at: None, home: None, untried }
    }

    /// Returns the server to try now: any of the others, all of them before one comes again. It is chosen by chance, so
    /// that shards whose server is lost do not all go to the same one.
    pub(super) fn next(&mut self) -> Option<Address> {
        self.choose(self.at)
    }

    /// Returns the server to try beside the present one, which does not serve or is about to stop.
    pub(super) fn next_elsewhere(&mut self) -> Option<Address> {
        self.untried.retain(|index| Some(*index) != self.home);
        self.choose(self.home)
    }

    fn choose(&mut self, but: Option<usize>) -> Option<Address> {
        if self.untried.is_empty() {
            self.untried = (0..self.known.len()).filter(|index| Some(*index) != but).collect();
        }
        let chosen = match self.untried.len() {
            0 => self.at?,
            count => self.untried.swap_remove(rt::chance(count)),
        };
        self.at = Some(chosen);
        self.known.get(chosen).cloned()
    }

    /// Notes that the last one that was tried accepted the connection.
    pub(super) fn connected(&mut self, info: &ServerInfo) {
        self.home = self.at;
        for url in &info.connect_urls {
            let Some((host, port)) = url.rsplit_once(':') else { continue };
            let Ok(port) = port.parse() else { continue };
            let server = (host.trim_matches(['[', ']']).to_owned(), port);
            if self.known.len() < NATS_SERVERS_MAX && !self.known.contains(&server) {
                self.known.push(server);
            }
        }
    }

    /// Notes that the present server serves: when it is lost, all others may be tried.
    pub(super) fn served(&mut self) {
        self.untried.clear();
    }

    /// Returns how many servers there are besides the present one.
    pub(super) fn others(&self) -> usize {
        self.known.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn servers(count: u16) -> Servers {
        Servers::new((0..count).map(|port| ("h".to_owned(), port)).collect(), 1)
    }

    #[test]
    fn c16_who_loses_a_server_goes_to_any_of_the_others_and_tries_all_of_them() {
        let mut after = HashSet::new();
        for _ in 0..200 {
            let mut servers = servers(4);
            assert_eq!(servers.next().map(|server| server.1), Some(1), "where it was told to begin");
            servers.connected(&ServerInfo::default());
            let next: Vec<u16> = (0..3).filter_map(|_| servers.next()).map(|server| server.1).collect();
            assert_eq!(next.iter().copied().collect::<HashSet<u16>>(), HashSet::from([0, 2, 3]), "{next:?}");
            after.insert(next[0]);
            assert_ne!(servers.next().map(|server| server.1), next.last().copied());
        }
        assert_eq!(after, HashSet::from([0, 2, 3]), "by chance");
    }

    #[test]
    fn c4_who_finds_no_service_goes_round_all_servers_before_one_comes_again() {
        for _ in 0..50 {
            let mut servers = servers(3);
            let mut at = vec![servers.next().map(|server| server.1)];
            for _ in 0..4 {
                servers.connected(&ServerInfo::default());
                at.push(servers.next_elsewhere().map(|server| server.1));
            }
            let met: HashSet<Option<u16>> = at[..3].iter().copied().collect();
            assert_eq!(met.len(), 3, "{at:?}");
            assert!(at.windows(2).all(|two| two[0] != two[1]), "{at:?}");
        }
        // A server that did serve is no worse than others when the next is lost.
        let after: HashSet<Option<u16>> = (0..50)
            .map(|_| {
                let mut servers = servers(3);
                servers.next();
                servers.connected(&ServerInfo::default());
                servers.next_elsewhere();
                servers.connected(&ServerInfo::default());
                servers.served();
                servers.next_elsewhere().map(|server| server.1)
            })
            .collect();
        assert!(after.contains(&Some(1)), "{after:?}");
    }

    #[test]
    fn one_server_is_tried_again_and_again_and_others_are_learned() {
        let mut servers = servers(1);
        for _ in 0..3 {
            assert_eq!(servers.next(), Some(("h".to_owned(), 0)));
        }
        assert_eq!(servers.others(), 0);
        let info =
            ServerInfo { connect_urls: vec!["[::1]:7".into(), "h:0".into(), "x".into()], ..ServerInfo::default() };
        servers.connected(&info);
        assert_eq!(servers.others(), 1);
        assert_eq!(servers.next(), Some(("::1".to_owned(), 7)));
        assert_eq!(Servers::new(Vec::new(), 3).next(), None);
    }
}
