//! The servers that a link may connect to: those that were configured, and those that the cluster told of.

use crate::{rt, wire::nats::ServerInfo};

/// Servers that are remembered.
const SERVERS_MAX: usize = 64;

/// Host and port.
pub(super) type Address = (String, u16);

/// The servers, and which was tried.
#[derive(Debug)]
pub(super) struct Servers {
    known: Vec<Address>,
    /// The last one that was given out.
    at: Option<usize>,
    /// Those that come before any other is tried again.
    untried: Vec<usize>,
}

impl Servers {
    /// These, of which this one comes first: shards begin at different ones.
    pub(super) fn new(known: Vec<Address>, first: usize) -> Self {
        let untried = if known.is_empty() { Vec::new() } else { vec![first % known.len()] };
        Self { known, at: None, untried }
    }

    /// The server to try now: any of the others, all of them before one comes again. By chance, so that those who were at a
    /// server that is lost do not all go to the same one.
    pub(super) fn next(&mut self) -> Option<Address> {
        if self.untried.is_empty() {
            self.untried = (0..self.known.len()).filter(|index| Some(*index) != self.at).collect();
        }
        let chosen = match self.untried.len() {
            0 => self.at?,
            count => self.untried.swap_remove(rt::chance(count)),
        };
        self.at = Some(chosen);
        self.known.get(chosen).cloned()
    }

    /// The last one that was tried let the link in: when it is lost, all others may be tried.
    pub(super) fn connected(&mut self, info: &ServerInfo) {
        self.untried.clear();
        for url in &info.connect_urls {
            let Some((host, port)) = url.rsplit_once(':') else { continue };
            let Ok(port) = port.parse() else { continue };
            let server = (host.trim_matches(['[', ']']).to_owned(), port);
            if self.known.len() < SERVERS_MAX && !self.known.contains(&server) {
                self.known.push(server);
            }
        }
    }

    /// Whether there is another server than the one that the link is at.
    pub(super) fn has_others(&self) -> bool {
        self.known.len() > 1
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
    fn one_server_is_tried_again_and_again_and_others_are_learned() {
        let mut servers = servers(1);
        for _ in 0..3 {
            assert_eq!(servers.next(), Some(("h".to_owned(), 0)));
        }
        assert!(!servers.has_others());
        let info =
            ServerInfo { connect_urls: vec!["[::1]:7".into(), "h:0".into(), "x".into()], ..ServerInfo::default() };
        servers.connected(&info);
        assert!(servers.has_others());
        assert_eq!(servers.next(), Some(("::1".to_owned(), 7)));
        assert_eq!(Servers::new(Vec::new(), 3).next(), None);
    }
}
