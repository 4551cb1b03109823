//! Users: how they are added, changed and shown.

use super::{
    texts::{NameText, PatternText},
    typed,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A change of the rights of a user. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeUser {
    /// Patterns of the stations that the user may produce to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<PatternText>>, max_items = 256)]
    pub produce: Option<Vec<String>>,
    /// Patterns of the stations that the user may consume from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<PatternText>>, max_items = 256)]
    pub consume: Option<Vec<String>>,
}

/// A user, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Name of the user, in lower case.
    pub name: String,
    /// Tenant of the user.
    pub account: u32,
    /// Patterns of the stations that the user may produce to.
    pub produce: Vec<String>,
    /// Patterns of the stations that the user may consume from.
    pub consume: Vec<String>,
    /// Whether this is the root user of the configuration.
    pub root: bool,
}

/// A page of the list of users: root first, then by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// Users of this page.
    pub users: Vec<UserView>,
    /// Value of `after` for the next page. It is absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A new user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// Name of the user.
    #[schema(value_type = NameText)]
    pub name: String,
    /// Password of the user, 8 to 128 bytes.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    pub password: Box<str>,
    /// Patterns of the stations that the user may produce to. If it is absent, the user may produce to all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(value_type = Option<Vec<PatternText>>, nullable = false, max_items = 256)]
    pub produce: Option<Vec<String>>,
    /// Patterns of the stations that the user may consume from. If it is absent, the user may consume from all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(value_type = Option<Vec<PatternText>>, nullable = false, max_items = 256)]
    pub consume: Option<Vec<String>>,
}

/// A new password for a user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The password, 8 to 128 bytes.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    pub password: Box<str>,
}

/// Shows everything but the password.
impl fmt::Debug for AddUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, produce, consume, .. } = self;
        let mut shown = formatter.debug_struct("AddUser");
        shown.field("name", name).field("produce", produce).field("consume", consume).finish_non_exhaustive()
    }
}

/// Does not show the password.
impl fmt::Debug for SetPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SetPassword").finish_non_exhaustive()
    }
}
