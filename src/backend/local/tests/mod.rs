//! The store as its users see it, against a real directory.

mod basics;
mod chunks;
mod crash;
mod group_model;
mod groups;
mod heal;
mod keeping;
mod letters;
mod reads;
mod recovery;
mod stations;
mod support;
mod torn;
mod trouble;
mod waiting;
mod whole;
