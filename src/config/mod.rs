//! Configuration: what is written (`file`) becomes what runs (`settings`), once.

pub mod settings;

pub use settings::*;
