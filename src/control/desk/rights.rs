//! One user, and changes of what a user may do.

use super::{
    ATTEMPTS_MAX, Desk, DeskError, UserView, What, patterns, view,
    views::{ChangeUser, Tagged},
};
use crate::control::{
    registry::RegistryError,
    users::{self, UserDocument},
};

impl Desk {
    /// One user. The tag of root never changes: neither does root while this gateway runs.
    pub async fn user(&self, name: &str) -> Result<Tagged<UserView>, DeskError> {
        let name = match self.name_of_other(name) {
            Ok(name) => name,
            Err(DeskError::Root) => {
                let root =
                    self.users().await?.into_iter().find(|user| user.root).ok_or(DeskError::Unknown(What::User))?;
                return Ok(Tagged { tag: "root".to_owned(), value: root });
            }
            Err(error) => return Err(error),
        };
        let book = self.book().await?;
        let entry = book.get(name.as_str()).ok_or(DeskError::Unknown(What::User))?;
        Ok(Tagged { tag: entry.revision.to_string(), value: view(&name, &entry.document) })
    }

    /// Changes what a user may do; `expected`: the tag that the user must have. Tokens stay good, with the new rights.
    pub async fn change_user(
        &self,
        name: &str,
        change: ChangeUser,
        expected: Option<&str>,
    ) -> Result<Tagged<UserView>, DeskError> {
        let name = self.name_of_other(name)?;
        let produce = change.produce.map(|list| patterns("produce", Some(list))).transpose()?;
        let consume = change.consume.map(|list| patterns("consume", Some(list))).transpose()?;
        for _ in 0..ATTEMPTS_MAX {
            let book = self.book().await?;
            let entry = book.get(name.as_str()).ok_or(DeskError::Unknown(What::User))?;
            let revision = book.stored_revision(&name).ok_or(DeskError::Unknown(What::User))?;
            if expected.is_some_and(|tag| tag != entry.revision.to_string()) {
                return Err(DeskError::Changed);
            }
            let old = &entry.document;
            let document = UserDocument::new(
                old.version,
                old.password.clone(),
                produce.clone().unwrap_or_else(|| old.produce.clone()),
                consume.clone().unwrap_or_else(|| old.consume.clone()),
            );
            match self.0.registry.put(&users::key(&name), document.store(), revision).await {
                Ok(revision) => {
                    self.until(|book| book.stored_revision(&name).is_none_or(|have| have >= revision)).await?;
                    tracing::info!(user = %name, "changed rights");
                    return Ok(Tagged { tag: revision.to_string(), value: view(&name, &document) });
                }
                // Somebody else was quicker: look at what has become of the user.
                Err(RegistryError::Conflict) => {
                    self.until(|book| book.stored_revision(&name).is_none_or(|have| have != revision)).await?;
                }
                Err(RegistryError::Failed(reject)) => return Err(DeskError::Backend(reject)),
            }
        }
        Err(DeskError::Contended)
    }
}
