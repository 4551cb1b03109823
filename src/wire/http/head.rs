//! A request's head, as every version of HTTP says it: method, target, authority and fields.
//!
//! All of it are places in one buffer: that of an HTTP/1 connection, or the one into which another version of HTTP
//! unpacks its fields. How the request is framed and whether its connection stays is not said here.

use crate::wire::Span;

/// Request methods that somebody here answers to. Methods are case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    /// Any other token, `CONNECT` and `TRACE` among them: no route takes it.
    #[default]
    Other,
}

impl Method {
    /// Recognises a method.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"PATCH" => Self::Patch,
            b"OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without white space around it; it may hold bytes beyond ASCII.
    pub value: Span,
}

/// A validated head. Every [`Span`] is a place in the buffer that it was read from, and holds as long as these bytes stay
/// where they are.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Request method.
    pub method: Method,
    /// The method as sent.
    pub method_text: Span,
    /// Request target, whole, as sent.
    pub target: Span,
    /// Path of the target as sent, not decoded: what comes before `?`. `/` where an absolute URI has none, `*` for the
    /// server as a whole (only with `OPTIONS`), empty for `CONNECT`.
    pub path: Span,
    /// What follows the first `?` of the target.
    pub query: Option<Span>,
    /// Whom the request is for: the target's authority where it names one, else `Host` (RFC 9112, section 3.2.2).
    pub authority: Option<Span>,
    /// `Authorization`.
    pub authorization: Option<Span>,
    /// `Content-Type`.
    pub content_type: Option<Span>,
    /// `Origin`.
    pub origin: Option<Span>,
    /// All fields in their order.
    pub fields: Vec<Field>,
}

impl Head {
    /// Returns the value of the first field of this name, in any letter case.
    #[must_use]
    pub fn field<'b>(&self, buf: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.values(buf, name).next()
    }

    /// Returns the values of all fields of this name, in any letter case, in their order.
    pub fn values<'b>(&self, buf: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.fields(buf).filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Returns all fields in their order: name as sent, value.
    pub fn fields<'b>(&self, buf: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + Clone {
        self.fields.iter().map(move |field| (field.name.of(buf), field.value.of(buf)))
    }
}
