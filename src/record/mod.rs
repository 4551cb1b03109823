//! Records, as everybody who handles them speaks of them. Pure.

pub mod headers;
