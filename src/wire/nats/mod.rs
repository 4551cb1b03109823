//! The NATS client protocol, both ways: bytes from the broker to [`Op`]s, and what we say to bytes.
//!
//! [`next()`] reads one operation from the front of a buffer and keeps [`Span`](super::Span)s into it;
//! [`encode`] appends to the buffer of one write. Records go through here at millions a second, so neither
//! direction allocates for a record, builds a map or looks at a payload.
//!
//! Deliberately absent: sockets, TLS, time-outs and reconnecting (the connection's business), signing (the
//! caller passes the signature), and everything that JetStream adds ([`super::jetstream`]).

pub mod connect;
pub mod encode;
pub mod headers;
pub mod info;
pub mod parse;
pub mod server_error;

pub use connect::Connect;
pub use info::ServerInfo;
pub use parse::{Op, ParseLimits, Parsed, ProtocolError, next};
pub use server_error::ServerError;
