//! The tag of a resource, which the admin API sends as its `ETag`.

/// A value and the tag of what it was when it was read: any change changes the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// Opaque: letters, digits and hyphens.
    pub tag: String,
    /// The value.
    pub value: T,
}
