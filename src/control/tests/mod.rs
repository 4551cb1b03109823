//! Tests of the control plane as a whole: over the registry in memory, the embedded store and real servers.

pub(in crate::control) mod fakes;
mod local;
mod nats;
mod registry;
pub(crate) mod support;
