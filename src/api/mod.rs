//! The types of the admin API: what its requests and answers hold, one file for each resource.
//!
//! They are plain data with the names of the JSON. `control` takes and returns them, `admin` reads and writes them as
//! JSON, `cli` is a client that uses the same types. A doc comment of a type or of a field is its description in
//! `/openapi.json`.
//!
//! Durations are whole seconds or milliseconds, as their names say. `Option` in a request means "as it is" or "by
//! default".
//!
//! Deliberately absent: rules. The service that takes a value checks it; a type only says which JSON is valid.

pub mod dead_letters;
pub mod groups;
pub mod health;
pub mod keys;
pub mod pages;
pub mod problem;
pub mod refusals;
pub mod schemas;
pub mod stations;
pub mod tags;
pub mod texts;
pub mod typed;
pub mod users;
