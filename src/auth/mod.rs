//! Who sends a request, and what they may do.
//!
//! The control plane owns the users and their password hashes; each shard holds an immutable snapshot of names and
//! rights and of API keys ([`Users`]), the signing keys ([`TokenKeys`]) and a bounded cache of tokens and keys it has
//! verified, together in an [`Authenticator`]. A request costs one cache lookup; everything else is per login.
//!
//! Invariants: a token holds no secret; a token without every claim it needs is [`Reject::Unauthorized`],
//! never a default and never root; an access token is no refresh token and the reverse; no key, token or
//! password shows in `Debug`, in an error or in a log line. Nothing here reads a clock: time is an argument.
//!
//! Deliberately absent: sessions and logout. A token ends with its lifetime, with a change of its user's
//! password, or with the user; an API key with its expiry, or when it is revoked. Nobody logs in with a key.
//!
//! [`Reject::Unauthorized`]: crate::reject::Reject::Unauthorized

mod authenticator;
mod cache;
mod credential;
pub mod keys;
pub mod password;
mod token;
mod users;

pub use authenticator::Authenticator;
pub use cache::TokenCache;
pub use credential::{Credential, credential, is_credential_in};
pub use token::{Claims, IssuedPair, Kind, TokenKeys, fuzz_token, lifetime_from_minutes};
pub use users::{ACCOUNT_DEFAULT, Identity, Principal, UserRecord, Users, root_version};
