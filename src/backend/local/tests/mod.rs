//! The store as its users see it, against a real directory.

mod basics;
mod crash;
mod recovery;
mod support;
mod waiting;
