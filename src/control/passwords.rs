//! Hashing and checking passwords: slow on purpose, so never on a data-path core and never many at once.
//!
//! At most [`HASHES_AT_ONCE`] run, on the runtime's blocking threads; at most
//! [`LOGINS_WAITING_MAX`] wait, and the next one is refused at once. A user that does not exist costs
//! one hash too, so that the time of the answer does not tell which names exist.

use super::users::PasswordHash;
use crate::limits::LOGINS_WAITING_MAX;
use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Bytes of a password, at least.
pub(super) const PASSWORD_BYTES_MIN: usize = 8;
/// Bytes of a password, at most.
pub(super) const PASSWORD_BYTES_MAX: usize = 128;
/// Passwords hashed at a time; each takes a core and 19 MiB for tens of milliseconds.
const HASHES_AT_ONCE: usize = 2;
/// Costs that a stored hash may ask for, at most: KiB, passes, lanes.
const COST_MAX: (u32, u32, u32) = (256 * 1024, 16, 8);

/// Checks and makes hashes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// Checked in place of the hash of a user that does not exist.
    dummy: Arc<PasswordHash>,
}

/// Too many passwords wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

impl Passwords {
    /// Makes the dummy hash, so this takes as long as one login.
    pub(super) fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            admitted: Arc::new(Semaphore::new(LOGINS_WAITING_MAX)),
            dummy: Arc::new(hash_now("no user has this password")),
        }
    }

    /// Whether the password belongs to the hash; with `None` it never does.
    pub(super) async fn verify(&self, password: Box<str>, hash: Option<PasswordHash>) -> Result<bool, Overloaded> {
        let dummy = Arc::clone(&self.dummy);
        self.run(move || match hash {
            Some(hash) => verify_now(&password, &hash),
            None => {
                let _always_refused = verify_now(&password, &dummy);
                false
            }
        })
        .await
    }

    /// Makes the hash of a password.
    pub(super) async fn hash(&self, password: Box<str>) -> Result<PasswordHash, Overloaded> {
        self.run(move || hash_now(&password)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Overloaded> {
        let _admitted = self.admitted.try_acquire().map_err(|_| Overloaded)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Overloaded)?;
        // The permit goes with the work: a caller that gives up does not let more run at once.
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(running);
            result
        });
        work.await.map_err(|_| Overloaded)
    }
}

/// Compares two secrets in a time that depends on their lengths only.
pub(super) fn same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// The rule for new passwords. The error is for the user.
pub(super) fn check_rule(password: &str) -> Result<(), String> {
    if (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        Ok(())
    } else {
        Err(format!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"))
    }
}

/// Whether a stored hash is one that can be checked here, at a cost that is bearable.
pub(super) fn check_hash(text: &str) -> Result<(), String> {
    let hash = phc::PasswordHash::new(text).map_err(|_| "password is not a PHC string".to_owned())?;
    if hash.algorithm.as_str() != "argon2id" {
        return Err("password is not an argon2id hash".to_owned());
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("password has no salt or no hash".to_owned());
    }
    let params = Params::try_from(&hash).map_err(|_| "password has unknown argon2 parameters".to_owned())?;
    let (memory, passes, lanes) = COST_MAX;
    if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
        return Err(format!("password asks for more than the cost m={memory},t={passes},p={lanes}"));
    }
    Ok(())
}

fn verify_now(password: &str, hash: &PasswordHash) -> bool {
    phc::PasswordHash::new(&hash.0)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

fn hash_now(password: &str) -> PasswordHash {
    let hash = Argon2::default().hash_password(password.as_bytes());
    PasswordHash(hash.expect("the system has random numbers, and the parameters are the library's own").to_string())
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
            assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
            assert_eq!(check_hash(&hash.0), Ok(()));
            assert_ne!(passwords.hash("correct horse".into()).await.map(|hash| hash.0), Ok(hash.0.clone()));
            for (password, hash, expect) in [
                ("correct horse", Some(hash.clone()), true),
                ("correct horsE", Some(hash.clone()), false),
                ("", Some(hash), false),
                ("no user has this password", None, false),
                ("x", Some(PasswordHash("garbage".to_owned())), false),
            ] {
                assert_eq!(passwords.verify(password.into(), hash).await, Ok(expect), "{password}");
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
    fn passwords_have_8_to_128_bytes() {
        for (length, expect) in [(0, false), (7, false), (8, true), (128, true), (129, false)] {
            assert_eq!(check_rule(&"x".repeat(length)).is_ok(), expect, "{length}");
        }
    }

    #[test]
    fn secrets_are_equal_only_if_they_are() {
        for (given, expect) in [("memphis", true), ("memphi", false), ("memphiS", false), ("", false)] {
            assert_eq!(same(given, "memphis"), expect, "{given}");
        }
    }
}
