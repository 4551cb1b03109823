//! Lists come in pages: which page a request wants, and what a page has.

use super::texts::NumberText;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which part of a list, in the order of names (or numbers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Begins behind this one.
    pub after: Option<String>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// These.
    pub items: Vec<T>,
    /// `after` of the next part; absent if this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Begins behind this one: the `next` of the part before.
    pub after: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}

/// Which part of a list of numbers; read as [`PageQuery`].
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LetterQuery {
    /// Begins behind this one: the `next` of the part before.
    #[param(value_type = Option<NumberText>)]
    pub after: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}
