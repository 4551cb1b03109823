//! The store as its users see it, against a real directory.

mod basics;
mod chunks;
mod crash;
mod group_model;
mod keeping;
mod recovery;
mod support;
mod trouble;
mod waiting;
