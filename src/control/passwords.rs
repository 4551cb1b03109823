//! Passwords in turn: hashing is slow on purpose, so it is never done on a data-path core and never many at once.
//!
//! At most [`HASHES_AT_ONCE`] run, on the runtime's blocking threads; at most
//! [`LOGINS_WAITING_MAX`] wait, and the next one is refused at once. A user that does not exist costs
//! one hash too, so that the time of the answer does not tell which names exist.

use super::users::PasswordHash;
use crate::{auth::password, limits::LOGINS_WAITING_MAX};
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

    /// Whether the password belongs to the hash; with `None` it never does.
    pub(super) async fn verify(&self, given: Box<str>, hash: Option<PasswordHash>) -> Result<bool, Overloaded> {
        self.run(move || {
            let Some(hash) = hash else {
                password::dummy_verify(&given);
                return false;
            };
            password::verify(&given, &hash.0)
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

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_password_belongs_to_its_own_hash_only() {
        block_on(async {
            let passwords = Passwords::new();
            let hash = passwords.hash("correct horse".into()).await.expect("room");
            for (given, hash, expect) in [
                ("correct horse", Some(hash.clone()), true),
                ("correct horsE", Some(hash), false),
                ("correct horse", None, false),
                ("x", Some(PasswordHash("garbage".to_owned())), false),
            ] {
                assert_eq!(passwords.verify(given.into(), hash).await, Ok(expect), "{given}");
            }
        });
    }

    #[test]
    fn more_logins_than_may_wait_are_refused_and_the_others_are_served() {
        block_on(async {
            let passwords = Passwords::new();
            let logins = (0..LOGINS_WAITING_MAX + 10).map(|_| passwords.verify("x".into(), None));
            let results = futures_util::future::join_all(logins).await;
            assert_eq!(results.iter().filter(|result| **result == Err(Overloaded)).count(), 10);
            assert_eq!(passwords.verify("x".into(), None).await, Ok(false));
        });
    }

    #[test]
    fn secrets_are_equal_only_if_they_are() {
        for (given, expect) in [("memphis", true), ("memphi", false), ("memphiS", false), ("", false)] {
            assert_eq!(same(given, "memphis"), expect, "{given}");
        }
    }
}
