//! The store as its users see it, against a real directory.

mod basics;
mod crash;
mod group_model;
mod recovery;
mod support;
mod waiting;
