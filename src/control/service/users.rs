//! Users and their rights.

use super::{AdminError, AdminService, Amend, What, check_tag, name_of, patterns, tag_of, texts};
use crate::{
    api::{
        tags::Tagged,
        users::{AddUser, ChangeUser, UserView},
    },
    auth::password,
    control::{
        passwords::Overloaded,
        registry::documents::{ACCOUNT, UserDocument},
    },
    limits::CHANGE_ATTEMPTS_MAX,
    reject::Reject,
    station::Name,
};

impl AdminService {
    /// All users, root first.
    pub async fn users(&self) -> Result<Vec<UserView>, AdminError> {
        let snapshot = self.snapshot().await?;
        let root = self.root_view();
        let others = snapshot.users.iter().filter(|(name, _)| name.as_str() != root.name);
        let others: Vec<UserView> = others.map(|(name, entry)| view(name, &entry.document)).collect();
        Ok(std::iter::once(root).chain(others).collect())
    }

    /// One user.
    pub async fn user(&self, name: &str) -> Result<Tagged<UserView>, AdminError> {
        let name = name_of::<UserDocument>(name)?;
        let root = self.root_view();
        if name.as_str() == root.name {
            return Ok(Tagged { tag: tag_of(&root), value: root });
        }
        let snapshot = self.snapshot().await?;
        let entry = snapshot.users.get(&name).ok_or(AdminError::Unknown(What::User))?;
        Ok(tagged(&name, &entry.document))
    }

    /// Adds a user.
    pub async fn add_user(&self, new: AddUser) -> Result<UserView, AdminError> {
        let name = self.name_of_other(&new.name)?;
        check_rules(&name, &new.password)?;
        let everything = || vec!["*".to_owned()];
        let produce = patterns("produce", &new.produce.unwrap_or_else(everything))?;
        let consume = patterns("consume", &new.consume.unwrap_or_else(everything))?;
        // Ask before the hash is made: it is the dear part.
        if self.snapshot().await?.users.stored_revision(&name).is_some() {
            return Err(AdminError::Exists(What::User));
        }
        let hash = self.0.passwords.hash(new.password).await.map_err(|Overloaded| AdminError::Overloaded)?;
        let document = UserDocument::new(next_version(0)?, hash, produce, consume);
        let added = |now: super::Now<'_, UserDocument>| match now.stored {
            0 => Ok(Amend::Put(document.clone())),
            _ => Err(AdminError::Exists(What::User)),
        };
        self.amend(|snapshot| &snapshot.users, &name, CHANGE_ATTEMPTS_MAX, added).await?;
        tracing::info!(user = %name, "added user");
        Ok(view(&name, &document))
    }

    /// Gives a user another password. Tokens that were issued before are no longer valid.
    pub async fn set_password(&self, name: &str, password: Box<str>, expected: Option<&str>) -> Result<(), AdminError> {
        let name = self.name_of_other(name)?;
        check_rules(&name, &password)?;
        let snapshot = self.snapshot().await?;
        let known = snapshot.users.get(&name).ok_or(AdminError::Unknown(What::User))?;
        check_tag(expected, &shown(&name, &known.document))?;
        let hash = self.0.passwords.hash(password).await.map_err(|Overloaded| AdminError::Overloaded)?;
        // A document that does not load is written over with the one that works.
        let changed = |now: super::Now<'_, UserDocument>| {
            let old = now.document().ok_or(AdminError::Unknown(What::User))?;
            check_tag(expected, &shown(&name, old))?;
            let version = next_version(old.version)?;
            Ok(Amend::Put(UserDocument { version, password: hash.clone(), ..old.clone() }))
        };
        self.amend(|snapshot| &snapshot.users, &name, CHANGE_ATTEMPTS_MAX, changed).await?;
        tracing::info!(user = %name, "changed password");
        Ok(())
    }

    /// Gives a user other rights, which hold from now on: also for the tokens that were issued before.
    pub async fn change_user(
        &self,
        name: &str,
        change: ChangeUser,
        expected: Option<&str>,
    ) -> Result<Tagged<UserView>, AdminError> {
        let name = self.name_of_other(name)?;
        let list =
            |what: &str, given: &Option<Vec<String>>| given.as_ref().map(|list| patterns(what, list)).transpose();
        let (produce, consume) = (list("produce", &change.produce)?, list("consume", &change.consume)?);
        let changed = |now: super::Now<'_, UserDocument>| {
            let old = now.document().ok_or(AdminError::Unknown(What::User))?;
            check_tag(expected, &shown(&name, old))?;
            let mut new = old.clone();
            new.produce = produce.clone().unwrap_or(new.produce);
            new.consume = consume.clone().unwrap_or(new.consume);
            Ok(Amend::Put(new))
        };
        let snapshot = self.amend(|snapshot| &snapshot.users, &name, CHANGE_ATTEMPTS_MAX, changed).await?;
        tracing::info!(user = %name, "changed rights");
        let entry = snapshot.users.get(&name).ok_or(AdminError::Unknown(What::User))?;
        Ok(tagged(&name, &entry.document))
    }

    /// Removes a user, or a document in its place that does not load. Whoever was changed by others meanwhile
    /// is not removed.
    pub async fn remove_user(&self, name: &str, expected: Option<&str>) -> Result<(), AdminError> {
        let name = self.name_of_other(name)?;
        let removed = |now: super::Now<'_, UserDocument>| match now.document() {
            Some(document) => check_tag(expected, &shown(&name, document)).map(|()| Amend::Delete),
            None if now.stored > 0 => Ok(Amend::Delete),
            None => Err(AdminError::Unknown(What::User)),
        };
        self.amend(|snapshot| &snapshot.users, &name, 1, removed).await?;
        tracing::info!(user = %name, "removed user");
        Ok(())
    }

    fn root_view(&self) -> UserView {
        let everything = || vec!["*".to_owned()];
        let name = self.0.settings.auth.root_user.clone();
        UserView { name, account: ACCOUNT, produce: everything(), consume: everything(), root: true }
    }

    fn name_of_other(&self, text: &str) -> Result<Name, AdminError> {
        let name = name_of::<UserDocument>(text)?;
        if name.as_str() == self.0.settings.auth.root_user { Err(AdminError::Root) } else { Ok(name) }
    }
}

fn check_rules(name: &Name, password: &str) -> Result<(), AdminError> {
    password::check_rules(name.as_str(), password).map_err(|fault| AdminError::Invalid(fault.to_string()))
}

fn view(name: &Name, document: &UserDocument) -> UserView {
    UserView {
        name: name.as_str().to_owned(),
        account: document.account,
        produce: texts(&document.produce),
        consume: texts(&document.consume),
        root: false,
    }
}

/// What the tag is of: another password is a change as well.
fn shown(name: &Name, document: &UserDocument) -> (UserView, u32) {
    (view(name, document), document.version)
}

fn tagged(name: &Name, document: &UserDocument) -> Tagged<UserView> {
    Tagged { tag: tag_of(&shown(name, document)), value: view(name, document) }
}

/// Another version than before, and never 0. It is drawn by lot and not counted, so that it does not come back
/// either when the user was removed meanwhile and nothing of it is left.
fn next_version(before: u32) -> Result<u32, AdminError> {
    loop {
        let version = getrandom::u32()
            .map_err(|_| AdminError::Backend(Reject::Internal("the system gives no random numbers")))?;
        if version != 0 && version != before {
            return Ok(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn versions_do_not_come_back() {
        // Of 100 among 2^32, two are the same in one run of a million.
        let versions: HashSet<u32> = (0..100).map(|_| next_version(0).expect("randomness")).collect();
        assert_eq!(versions.len(), 100);
        assert!(!versions.contains(&0));
    }
}
