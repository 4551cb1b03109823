//! Replies: what a service answers, whatever the protocol that carries it.

use super::{BodyStream, Handout};
use crate::{budget::Held, metrics::Route, wire::http::Fields};
use std::borrow::Cow;

/// A reply, ready to be written.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header fields. Those that frame the message are the connection's.
    pub fields: Fields,
    /// Body. The connection leaves it out where the request was HEAD.
    pub body: Body,
    /// Messages that the reply delivers. They are settled when the client has it.
    pub settle: Option<Handout>,
    /// What is held for the reply, until it has left.
    pub held: Option<Held>,
    /// The route that the request is counted as.
    pub route: Route,
    /// Whether the connection closes after it.
    pub close: bool,
}

/// The body of a reply.
#[derive(Debug, Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All of it.
    Whole(Cow<'static, [u8]>),
    /// Bytes that are produced while they are sent.
    Stream(BodyStream),
}

impl Reply {
    /// Returns a reply without a body.
    #[must_use]
    pub const fn new(status: u16, fields: Fields, route: Route) -> Self {
        Self { status, fields, body: Body::Empty, settle: None, held: None, route, close: false }
    }
}

impl Body {
    /// Returns the bytes that are there already.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty | Self::Stream(_) => b"",
            Self::Whole(bytes) => bytes,
        }
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Whole(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Cow::Owned(bytes))
    }
}
