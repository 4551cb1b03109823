//! Which header fields of a request are stored with its records. Pure.
//!
//! The operator writes an allow-list of rules ([`rules`]). A policy ([`policy`]) takes by it the fields of each request.
//! Whatever the rules say, [`never_stored`] has the last word.

mod never_stored;
mod policy;
mod rules;

pub use never_stored::is_never_stored;
pub use policy::HeaderPolicy;
pub use rules::{DEFAULT_RULES, HeaderRule, InvalidRule};
