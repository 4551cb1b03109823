//! Passwords: argon2id, kept as PHC strings.
//!
//! Hashing takes tens of milliseconds of a core and 19 MiB, on purpose. It is called from the control plane's hashing
//! thread and from the command line, never on a data-path core.
//!
//! A login for a user that does not exist must cost what a wrong password costs: see [`dummy_verify`].

use crate::limits::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use std::fmt;

/// What is wrong with a password that someone wants to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordFault {
    /// Fewer than [`PASSWORD_BYTES_MIN`] bytes.
    TooShort,
    /// More than [`PASSWORD_BYTES_MAX`] bytes.
    TooLong,
    /// A line end, a tab or another control character: a slip of the terminal.
    ControlCharacter,
    /// The user's own name.
    SameAsName,
}

impl fmt::Display for PasswordFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(formatter, "a password needs at least {PASSWORD_BYTES_MIN} characters"),
            Self::TooLong => write!(formatter, "a password may have at most {PASSWORD_BYTES_MAX} bytes"),
            Self::ControlCharacter => formatter.write_str("a password must not hold control characters"),
            Self::SameAsName => formatter.write_str("a password must not be the user's name"),
        }
    }
}

impl std::error::Error for PasswordFault {}

/// Hashing did not work: no memory or no randomness. Says nothing about the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashFailed;

impl fmt::Display for HashFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the password could not be hashed")
    }
}

impl std::error::Error for HashFailed {}

/// Checks a new password. Its length counts, its composition does not: whatever the original accepted is accepted.
pub fn check_rules(username: &str, password: &str) -> Result<(), PasswordFault> {
    if password.len() < PASSWORD_BYTES_MIN {
        return Err(PasswordFault::TooShort);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordFault::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordFault::ControlCharacter);
    }
    if password.eq_ignore_ascii_case(username) {
        return Err(PasswordFault::SameAsName);
    }
    Ok(())
}

/// Returns the PHC string of a password (`$argon2id$v=19$m=19456,t=2,p=1$…`) with a new random salt.
pub fn hash(password: &str) -> Result<String, HashFailed> {
    argon2id().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| HashFailed)
}

/// Returns whether this is the password of that PHC string. A string that [`check_hash`] refuses fits no password.
#[must_use]
pub fn verify(password: &str, phc: &str) -> bool {
    let Ok(expect) = parse(phc) else { return false };
    password.len() <= PASSWORD_BYTES_MAX && argon2id().verify_password(password.as_bytes(), &expect).is_ok()
}

/// Checks whether [`verify`] works with a stored hash: argon2id, complete, and at a bearable cost. The error says what
/// it is not.
pub fn check_hash(phc: &str) -> Result<(), &'static str> {
    parse(phc).map(|_| ())
}

fn parse(phc: &str) -> Result<PasswordHash, &'static str> {
    let hash = PasswordHash::new(phc).map_err(|_| "the hash of a password is no PHC string")?;
    if hash.algorithm.as_str() != "argon2id" {
        return Err("the hash of a password is not argon2id");
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("the hash of a password has no salt or no output");
    }
    let params = Params::try_from(&hash).map_err(|_| "the hash of a password has unknown parameters")?;
    if !Work::of(&params).is_affordable() {
        return Err("the hash of a password asks for too much work");
    }
    Ok(hash)
}

/// Does the work of [`verify`] for a user that does not exist, so that the time of an answer does not tell
/// whether the name or the password was wrong.
pub fn dummy_verify(password: &str) {
    std::hint::black_box(verify(password, NOBODYS));
}

/// Returns a hash with random bytes as salt and as output, with the parameters of [`hash`]: no password is known to
/// fit.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$j4IcnTTT15eo7tYUHc0MdA$awtud85K37hGB79lmMDygcVZ7k7EmkgIFRxipIkhIEw";

/// The parameters of a PHC string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Work {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Work {
    /// A stored hash may be stronger than ours, but not strong enough to stop the process.
    const MAX: Self = Self { memory_kib: 256 * 1024, passes: 16, lanes: 16 };

    fn of(params: &Params) -> Self {
        Self { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }

    fn is_affordable(self) -> bool {
        self.memory_kib <= Self::MAX.memory_kib && self.passes <= Self::MAX.passes && self.lanes <= Self::MAX.lanes
    }
}

/// Returns OWASP's parameters (19 MiB, two passes, one lane), which are the library's default.
fn argon2id() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_and_no_other() {
        let phc = hash("correct horse").expect("hashed");
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        for (password, expect) in [
            ("correct horse", true),
            ("correct horsf", false),
            ("Correct horse", false),
            ("", false),
            ("correct", false),
        ] {
            assert_eq!(verify(password, &phc), expect, "{password:?}");
        }
        assert_eq!(check_hash(&phc), Ok(()));
        assert_ne!(hash("correct horse").expect("hashed"), phc, "each hash has its own salt");
    }

    #[test]
    fn what_is_no_hash_or_too_much_work_fits_no_password() {
        let rest = "$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (phc, expect) in [
            (String::new(), "no PHC string"),
            ("secret".to_owned(), "no PHC string"),
            ("$argon2id$".to_owned(), "no PHC string"),
            ("$argon2id$v=19$m=19456,t=2,p=1".to_owned(), "no salt or no output"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA".to_owned(), "no salt or no output"),
            (format!("$scrypt$ln=1,r=8,p=1{rest}"), "not argon2id"),
            (format!("$argon2i$v=19$m=19456,t=2,p=1{rest}"), "not argon2id"),
            (format!("$argon2id$v=19$m=1,t=2,p=1{rest}"), "unknown parameters"),
            (format!("$argon2id$v=19$m=19456,t=2,x=1{rest}"), "unknown parameters"),
            (format!("$argon2id$v=19$m=4194304,t=2,p=1{rest}"), "too much work"),
            (format!("$argon2id$v=19$m=19456,t=4000000,p=1{rest}"), "too much work"),
            (format!("$argon2id$v=19$m=262144,t=1,p=1000{rest}"), "too much work"),
        ] {
            let verdict = check_hash(&phc);
            assert!(verdict.is_err_and(|reason| reason.contains(expect)), "{phc}: {verdict:?}");
            assert!(!verify("secret", &phc), "{phc}");
        }
    }

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs() {
        let nobodys = PasswordHash::new(NOBODYS).expect("a PHC string");
        let real = PasswordHash::new(&hash("x").expect("hashed")).expect("a PHC string");
        let shape = |hash: &PasswordHash| {
            let params = Params::try_from(hash).expect("parameters");
            (hash.algorithm.to_string(), hash.version, Work::of(&params), hash.hash.map(|output| output.len()))
        };
        assert_eq!(shape(&nobodys), shape(&real));
        dummy_verify("x");
    }

    #[test]
    fn the_rules_take_what_the_original_took_and_more() {
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        let too_long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        for (password, expect) in [
            ("Memphis1!", Ok(())),
            ("aA1!?-@#", Ok(())),
            ("correct horse battery staple", Ok(())),
            ("pässwörd", Ok(())),
            (longest.as_str(), Ok(())),
            (too_long.as_str(), Err(PasswordFault::TooLong)),
            ("", Err(PasswordFault::TooShort)),
            ("1234567", Err(PasswordFault::TooShort)),
            ("12345678\n", Err(PasswordFault::ControlCharacter)),
            ("1234\t5678", Err(PasswordFault::ControlCharacter)),
            ("some.User", Err(PasswordFault::SameAsName)),
        ] {
            assert_eq!(check_rules("some.user", password), expect, "{password:?}");
        }
    }
}
