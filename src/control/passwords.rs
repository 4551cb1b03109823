//! Hashes passwords one after another: hashing is slow on purpose, so it is never done on a data-path core and never
//! many at once.
//!
//! At most [`HASHES_AT_ONCE`] run, on the runtime's blocking threads; at most [`LOGINS_WAITING_MAX`] wait, and the next
//! one is refused at once. A wrong password costs one hash for every name: for a user that does not exist, and for root
//! too, whose password is known in clear. So the time of the answer does not tell who is who, and nobody's password can
//! be guessed faster than another's. A right one may be recognised without a hash ([`Passwords::recognises`]): its
//! sender knows it already, and it does not wait behind those who guess.

use super::registry::documents::PasswordHash;
use crate::{
    auth::password,
    config::Secret,
    limits::{LOGIN_PASSWORDS_KNOWN_MAX, LOGINS_WAITING_MAX},
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Passwords hashed at a time; each takes a core and 19 MiB for tens of milliseconds.
const HASHES_AT_ONCE: usize = 2;

/// Checks and makes hashes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    known: Arc<Known>,
}

/// Passwords that a hash has found right, as digests under a key that this process has drawn and shows nobody.
#[derive(Default)]
#[expect(clippy::disallowed_types, reason = "threads of the control plane share it; it is held for one look")]
struct Known {
    key: Option<[u8; 32]>,
    digests: std::sync::Mutex<HashSet<[u8; 32]>>,
}

/// What a password is compared with. Each costs the same.
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
            known: Arc::new(Known::new()),
        }
    }

    /// Returns whether this is the expected password, as far as that is known without a hash: root's, or one that was
    /// found right since this process has started.
    pub(super) fn recognises(&self, given: &str, expected: &Expected) -> bool {
        match expected {
            Expected::Text(text) => same(given, text.expose()),
            Expected::Hash(hash) => self.known.has(given, &hash.0),
            // As much work as for a user.
            Expected::Nothing => {
                let _never = self.known.has(given, "");
                false
            }
        }
    }

    /// Checks whether the password is the expected one.
    pub(super) async fn verify(&self, given: Box<str>, expected: Expected) -> Result<bool, Overloaded> {
        let known = Arc::clone(&self.known);
        self.run(move || match expected {
            Expected::Hash(hash) => {
                let right = password::verify(&given, &hash.0);
                if right {
                    known.add(&given, &hash.0);
                }
                right
            }
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

impl Known {
    fn new() -> Self {
        let mut key = [0; 32];
        // Without randomness no password is kept.
        let key = getrandom::fill(&mut key).is_ok().then_some(key);
        Self { key, ..Self::default() }
    }

    /// Returns the digest of a password under the hash that it was checked with: another password, or the same one set
    /// anew, is another hash.
    fn digest(&self, given: &str, hash: &str) -> Option<[u8; 32]> {
        let mut digest = Sha256::new_with_prefix(self.key?);
        digest.update(hash.len().to_le_bytes());
        digest.update(hash);
        digest.update(given);
        Some(digest.finalize().into())
    }

    fn has(&self, given: &str, hash: &str) -> bool {
        let Some(digest) = self.digest(given, hash) else { return false };
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    fn add(&self, given: &str, hash: &str) {
        let Some(digest) = self.digest(given, hash) else { return };
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= LOGIN_PASSWORDS_KNOWN_MAX {
            digests.clear();
        }
        digests.insert(digest);
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Known(********)")
    }
}

/// Compares two secrets in a time that depends on their lengths only.
pub(super) fn same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::clock;

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
                let began = clock::now();
                for _ in 0..5 {
                    assert!(passwords.verify("correct horse".into(), expected.clone()).await.is_ok());
                }
                costs.push(clock::since(began));
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
    fn a_password_that_was_found_right_is_recognised_until_it_is_another() {
        block_on(async {
            let passwords = Passwords::new();
            let hash = |text: &str| passwords.hash(text.into());
            let expected = Expected::Hash(hash("correct horse").await.expect("room"));
            assert!(!passwords.recognises("correct horse", &expected), "nobody has given it yet");
            for (given, right) in [("correct horsE", false), ("correct horse", true), ("", false)] {
                assert_eq!(passwords.verify(given.into(), expected.clone()).await, Ok(right));
                assert_eq!(passwords.recognises(given, &expected), right, "{given}");
            }
            assert!(!passwords.recognises("correct horse", &Expected::Nothing));
            let again = Expected::Hash(hash("correct horse").await.expect("room"));
            assert!(!passwords.recognises("correct horse", &again), "set anew");
            for (given, right) in [("memphis", true), ("memphiS", false)] {
                assert_eq!(passwords.recognises(given, &Expected::Text(Secret::new("memphis"))), right);
            }
        });
    }

    #[test]
    fn what_is_recognised_is_bounded() {
        let known = Known::new();
        for number in 0..=LOGIN_PASSWORDS_KNOWN_MAX {
            known.add(&number.to_string(), "hash");
        }
        assert!(known.digests.lock().expect("nobody has panicked").len() <= LOGIN_PASSWORDS_KNOWN_MAX);
        assert!(known.has(&LOGIN_PASSWORDS_KNOWN_MAX.to_string(), "hash"));
    }

    #[test]
    fn secrets_are_equal_only_if_they_are() {
        for (given, expect) in [("memphis", true), ("memphi", false), ("memphiS", false), ("", false)] {
            assert_eq!(same(given, "memphis"), expect, "{given}");
        }
    }
}
