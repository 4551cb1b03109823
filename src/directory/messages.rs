//! What shards and the control plane say to each other: plain data through bounded channels.
//!
//! A shard sends a request with a ticket and gets exactly one response to it; everything else the control plane sends
//! unasked, as finished, immutable values.

use super::contracts::Contracts;
use crate::{
    auth::Users,
    reject::Reject,
    station::{Consumer, Name, Station},
};
use std::{net::IpAddr, sync::Arc, time::Instant};

/// What a shard requests of the control plane.
#[derive(Debug)]
pub enum Request {
    /// The station of this name; created where that is allowed and `create` is set.
    Station {
        /// Its name.
        name: Name,
        /// Whether the principal who asks may create it.
        create: bool,
    },
    /// The station of this name, once its streams allow reads by place, where that is possible. It is not created.
    AllowDirectGet {
        /// Its name.
        name: Name,
    },
    /// The consumer group of this station, created if need be.
    Consumer {
        /// The station.
        station: Arc<Station>,
        /// The group as the client names it; `None` is the default group.
        group: Option<Name>,
        /// Who asks; a group counts for who made it.
        principal: Box<str>,
    },
    /// Whether this password is that user's.
    Login {
        /// Tenant; 1 is the only one without further configuration.
        account: u32,
        /// Lower-cased user name.
        username: Box<str>,
        /// The password in clear. Never logged, dropped after the check.
        password: Box<str>,
        /// Who asks: guesses are counted by where they come from.
        peer: IpAddr,
    },
}

/// A request, and where its response goes.
#[derive(Debug)]
pub struct Envelope {
    /// The shard that sends it.
    pub shard: u16,
    /// Its ticket, which comes back with the response.
    pub ticket: u64,
    /// What it requests.
    pub request: Request,
}

/// The response to a request, of the same kind.
#[derive(Debug, Clone)]
pub enum Response {
    /// To [`Request::Station`] and [`Request::AllowDirectGet`].
    Station(Result<Arc<Station>, Reject>),
    /// To [`Request::Consumer`].
    Consumer(Result<Arc<Consumer>, Reject>),
    /// To [`Request::Login`]: the version of the password that was found right; `Err(Unauthorized)` for a wrong
    /// name or password.
    Login(Result<u32, Reject>),
}

/// What the control plane sends to a shard.
#[derive(Debug, Clone)]
pub enum ShardUpdate {
    /// A response.
    Response {
        /// The ticket of the request.
        ticket: u64,
        /// The response.
        response: Response,
    },
    /// All users and their rights; replaces what the shard had and empties its token cache.
    Users(Arc<Users>),
    /// All contracts: what stations require of their records, compiled for this shard alone.
    Contracts(Arc<Contracts>),
    /// At this time the registry said what the last snapshots of users and contracts say.
    Confirmed(Instant),
    /// Everything before this has been taken: to be dropped. Who waits for that learns it by the end of the channel.
    Taken(flume::Sender<()>),
    /// What is known of this station is no longer true: ask again.
    Forget(Name),
    /// What is known of any station is no longer true (the broker has changed). Their groups stay.
    ForgetStations,
    /// Finish what is in flight and stop.
    Drain,
}
