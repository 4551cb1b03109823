//! (in the making)

/// Users and their rights, as one immutable snapshot.
#[derive(Debug)]
pub struct Users {}
