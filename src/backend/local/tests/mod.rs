//! The store as its users see it, against a real directory.

mod basics;
mod recovery;
mod support;
