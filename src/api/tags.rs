//! The tag of a resource, which the admin API sends as its `ETag`.

/// A value with the tag of its state. The tag changes whenever the value does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// The tag. It is opaque: letters, digits and hyphens.
    pub tag: String,
    /// The value.
    pub value: T,
}
