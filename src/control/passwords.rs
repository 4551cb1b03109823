//! Passwords in turn: hashing is slow on purpose, so it is never done on a data-path core and never many at once.
//!
//! At most [`HASHES_AT_ONCE`] run, on the runtime's blocking threads; at most
//! [`LOGINS_WAITING_MAX`] wait, and the next one is refused at once. A user that does not exist costs
//! one hash too, and so does root, whose password is known in clear: the time of the answer does not
//! tell who is who, and nobody's password can be guessed faster than another's.

use super::documents::PasswordHash;
use crate::{auth::password, config::Secret, limits::LOGINS_WAITING_MAX};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Passwords hashed at a time; each takes a core and 19 MiB for tens of milliseconds.
const HASHES_AT_ONCE: usize = 2;

/// Checks and makes hashes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// What a password is held against. Each costs the same.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// A user's hash.
    Hash(PasswordHash),
    /// The password itself, as configured.
    Text(Secret),
    /// There is no such user: no password is right.
    Nothing,
}

/// Too many passwords wait already, or there is no memory for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            admitted: Arc::new(Semaphore::new(LOGINS_WAITING_MAX)),
        }
    }

    /// Whether the password is the expected one.
    pub(super) async fn verify(&self, given: Box<str>, expected: Expected) -> Result<bool, Overloaded> {
        self.run(move || match expected {
            Expected::Hash(hash) => password::verify(&given, &hash.0),
            Expected::Text(text) => {
                password::dummy_verify(&given);
                same(&given, text.expose())
            }
            Expected::Nothing => {
                password::dummy_verify(&given);
                false
            }
        })
        .await
    }

    /// Makes the hash of a password.
    pub(super) async fn hash(&self, given: Box<str>) -> Result<PasswordHash, Overloaded> {
        let hash = self.run(move || password::hash(&given)).await?;
        hash.map(PasswordHash).map_err(|_| Overloaded)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Overloaded> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| Overloaded)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Overloaded)?;
        // The permits go with the work: a caller that gives up does not let more run at once.
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((running, admitted));
            result
        });
        work.await.map_err(|_| Overloaded)
    }
}

/// Compares two secrets in a time that depends on their lengths only.
pub(super) fn same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn only_the_expected_password_is_right() {
        block_on(async {
            let passwords = Passwords::new();
            let hash = passwords.hash("correct horse".into()).await.expect("room");
            let text = || Expected::Text(Secret::new("correct horse"));
            for (given, expected, right) in [
                ("correct horse", Expected::Hash(hash.clone()), true),
                ("correct horsE", Expected::Hash(hash), false),
                ("correct horse", text(), true),
                ("correct horsE", text(), false),
                ("", text(), false),
                ("correct horse", Expected::Nothing, false),
                ("x", Expected::Hash(PasswordHash("garbage".to_owned())), false),
            ] {
                assert_eq!(passwords.verify(given.into(), expected.clone()).await, Ok(right), "{given} {expected:?}");
            }
        });
    }

    #[test]
    fn whoever_is_asked_for_costs_a_hash() {
        block_on(async {
            let passwords = Passwords::new();
            let hash = passwords.hash("correct horse".into()).await.expect("room");
            let mut costs = Vec::new();
            for expected in [Expected::Hash(hash), Expected::Text(Secret::new("correct horse")), Expected::Nothing] {
                let began = Instant::now();
                for _ in 0..5 {
                    assert!(passwords.verify("correct horse".into(), expected.clone()).await.is_ok());
                }
                costs.push(began.elapsed());
            }
            // A comparison takes no ten-thousandth of a hash; the machine's own noise is less than tenfold.
            let dearest = costs.iter().max().copied().unwrap_or_default();
            assert!(costs.iter().all(|cost| *cost * 10 > dearest), "{costs:?}");
        });
    }

    #[test]
    fn more_logins_than_may_wait_are_refused_and_the_others_are_served() {
        block_on(async {
            let passwords = Passwords::new();
            let root = || Expected::Text(Secret::new("memphis"));
            let logins = (0..LOGINS_WAITING_MAX + 10).map(|_| passwords.verify("x".into(), root()));
            let results = futures_util::future::join_all(logins).await;
            assert_eq!(results.iter().filter(|result| **result == Err(Overloaded)).count(), 10);
            assert_eq!(passwords.verify("x".into(), Expected::Nothing).await, Ok(false));
        });
    }

    #[test]
    fn secrets_are_equal_only_if_they_are() {
        for (given, expect) in [("memphis", true), ("memphi", false), ("memphiS", false), ("", false)] {
            assert_eq!(same(given, "memphis"), expect, "{given}");
        }
    }
}
