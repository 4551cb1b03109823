//! Logins: a name, a password, and where they come from.
//!
//! A right password is answered at once. A wrong one costs a hash. After too many wrong ones the answer is held back
//! and is 429 instead of 401. A login that gets no place or no hash has the same answer, so that a guess does not even
//! tell whether it was looked at (docs/adr/0023).

use super::{
    guesses::{Guesses, Network, Place},
    passwords::{Expected, Overloaded, Passwords},
};
use crate::{limits::LOGIN_FAILURES_FREE, reject::Reject, rt::clock};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// Seconds after which a login that found no place, or no share of the hashes, may come again.
const COME_AGAIN_S: u32 = 1;

/// Checks logins. Cheap to clone.
#[derive(Debug, Clone)]
#[expect(clippy::disallowed_types, reason = "tasks of the control thread share it; never held across an await")]
pub(super) struct Logins {
    guesses: Arc<std::sync::Mutex<Guesses>>,
    passwords: Passwords,
}

/// A place that is given back when it is dropped.
struct Held<'a> {
    logins: &'a Logins,
    place: Place,
}

impl Logins {
    pub(super) fn new(passwords: Passwords) -> Self {
        Self { guesses: Arc::default(), passwords }
    }

    /// Checks whether the password is the expected one, for a login with this name from there.
    /// [`Reject::Unauthorized`]: it is not; [`Reject::TooManyLogins`]: it is not, too often, or was not looked at;
    /// [`Reject::Overloaded`]: too many logins wait for a hash.
    pub(super) async fn check(
        &self,
        name: &str,
        network: Network,
        password: Box<str>,
        expected: Expected,
    ) -> Result<(), Reject> {
        let place = self.with(|guesses| guesses.enter(name, network, clock::now()));
        let mut held = Held { logins: self, place: place.ok_or(Reject::TooManyLogins(COME_AGAIN_S))? };
        if self.passwords.recognises(&password, &expected) {
            held.succeeded();
            return Ok(());
        }
        if !self.with(|guesses| guesses.hash(&mut held.place)) {
            return Err(held.come_again().await);
        }
        let verdict = self.passwords.verify(password, expected).await;
        self.with(|guesses| guesses.hashed(&mut held.place));
        match verdict {
            Ok(true) => {
                held.succeeded();
                Ok(())
            }
            Ok(false) => Err(held.failed(name).await),
            Err(Overloaded) => Err(Reject::Overloaded("the number of logins at a time")),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Guesses) -> T) -> T {
        look(&mut self.guesses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held<'_> {
    fn succeeded(&self) {
        self.logins.with(|guesses| guesses.succeeded(self.place, clock::now()));
    }

    async fn failed(self, name: &str) -> Reject {
        let (failures, delay) = self.logins.with(|guesses| {
            let failures = guesses.failed(self.place, clock::now());
            (failures, guesses.delay(self.place))
        });
        if failures == LOGIN_FAILURES_FREE + 1 {
            // Only a name that could be a user's is logged, and no text that a client made up.
            let name = crate::station::Name::parse(name).ok();
            let user = name.as_ref().map_or("(no name)", |name| name.as_str());
            tracing::warn!(user, network = %self.place.network(), failures, "wrong passwords are answered later and later");
        }
        match delay {
            None => Reject::Unauthorized,
            Some(delay) => self.wait(delay).await,
        }
    }

    /// A login that was not looked at, for want of a share of the hashes: no different from a failure.
    async fn come_again(self) -> Reject {
        match self.logins.with(|guesses| guesses.delay(self.place)) {
            None => Reject::TooManyLogins(COME_AGAIN_S),
            Some(delay) => self.wait(delay).await,
        }
    }

    /// Keeps the place for as long as a failure does.
    async fn wait(self, delay: Duration) -> Reject {
        sleep(delay).await;
        Reject::TooManyLogins(u32::try_from(delay.as_secs()).unwrap_or(u32::MAX).max(COME_AGAIN_S))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.logins.with(|guesses| guesses.leave(self.place));
    }
}
