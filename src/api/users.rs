//! Users: how they are added, changed and shown.

use super::{
    texts::{NameText, PatternText},
    typed,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Which rights a user is to have; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeUser {
    /// Patterns of stations that the user may produce to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<PatternText>>, max_items = 256)]
    pub produce: Option<Vec<String>>,
    /// Patterns of stations that the user may consume from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<PatternText>>, max_items = 256)]
    pub consume: Option<Vec<String>>,
}

/// A user, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Lower-cased name.
    pub name: String,
    /// Tenant.
    pub account: u32,
    /// Stations that the user may produce to.
    pub produce: Vec<String>,
    /// Stations that the user may consume from.
    pub consume: Vec<String>,
    /// Whether this is the root user of the configuration.
    pub root: bool,
}

/// A part of the list of users: root first, then by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    #[expect(missing_docs, reason = "its doc comment would be part of the description")]
    pub users: Vec<UserView>,
    /// `after` of the next part; absent if this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A user that is to be added.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// Its name.
    #[schema(value_type = NameText)]
    pub name: String,
    /// Its password: 8 to 128 bytes.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    pub password: Box<str>,
    /// Patterns of stations that it may produce to; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(value_type = Option<Vec<PatternText>>, nullable = false, max_items = 256)]
    pub produce: Option<Vec<String>>,
    /// Patterns of stations that it may consume from; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(value_type = Option<Vec<PatternText>>, nullable = false, max_items = 256)]
    pub consume: Option<Vec<String>>,
}

/// A password that a user is to have.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// 8 to 128 bytes.
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
