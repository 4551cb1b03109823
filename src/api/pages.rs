//! Lists come in pages: which page a request wants, and what a page has.

use super::texts::NumberText;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The page of a list that a caller wants. Lists are in the order of names (or numbers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The page begins behind this name.
    pub after: Option<String>,
    /// Number of items that the page has at most, 1 to 1,000.
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Items of this page.
    pub items: Vec<T>,
    /// Value of `after` for the next page. It is absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The query of a request for a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The page begins behind this one: the `next` of the page before.
    pub after: Option<String>,
    /// Number of items that the page has at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}

/// The query of a request for a list of numbers. It is read as [`PageQuery`].
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterQuery {
    /// The page begins behind this one: the `next` of the page before.
    #[param(value_type = Option<NumberText>)]
    pub after: Option<String>,
    /// Number of items that the page has at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}
