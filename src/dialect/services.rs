//! What a shard offers to all of its dialects.

use super::{Now, OpenStreams};
use crate::{
    auth::{Authenticator, Principal},
    consume::{Fetcher, Reader},
    directory::Directory,
    ingest::Ingest,
    limits::Limits,
    reject::Reject,
};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// The services of one shard. Dialects share them, so what one of them stores, limits or remembers holds for all.
#[derive(Debug)]
pub struct Services {
    /// Tokens, API keys and users.
    pub authenticator: RefCell<Authenticator>,
    /// Stations, groups and logins.
    pub directory: Rc<Directory>,
    /// Produce.
    pub ingest: Ingest,
    /// Consume.
    pub fetcher: Fetcher,
    /// Reads by place.
    pub reader: Rc<Reader>,
    /// The requests that go on after they were admitted.
    pub open_streams: Rc<OpenStreams>,
    /// Default lifetime of an access token.
    pub access_lifetime: Duration,
    /// Default lifetime of a refresh token.
    pub refresh_lifetime: Duration,
    /// Every limit.
    pub limits: Limits,
}

impl Services {
    /// Returns whom a credential belongs to.
    pub fn principal(&self, credential: &[u8], unix_s: u64) -> Result<Rc<Principal>, Reject> {
        let mut authenticator = self.authenticator.borrow_mut();
        let principal = authenticator.principal(credential, unix_s);
        let metrics = &self.ingest.metrics;
        metrics.token_cache_hits.add(authenticator.hits() - metrics.token_cache_hits.get());
        metrics.token_cache_misses.add(authenticator.misses() - metrics.token_cache_misses.get());
        principal
    }

    /// Ends what is overdue.
    pub fn sweep(&self, now: Now) {
        self.fetcher.sweep(now.instant);
        self.open_streams.sweep(&mut self.authenticator.borrow_mut(), now.unix_s);
    }
}
