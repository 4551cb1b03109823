//! API keys. A key is shown when it is made and never again: the registry has its hash.

use super::{AdminError, AdminService, Amend, Now, What, check_tag, name_of, page, patterns, tag_of, texts};
use crate::{
    api::{
        keys::{CreatedKey, KeyView, NewKey},
        pages::{Page, PageRequest},
        tags::Tagged,
    },
    auth::keys,
    config::Unconfirmed,
    control::registry::documents::{Document, KeyDocument},
    limits::{CHANGE_ATTEMPTS_MAX, RETENTION_AGE_MAX},
    reject::Reject,
    rt::clock,
    station::Name,
};
use std::sync::Arc;

impl AdminService {
    /// Returns the keys, by id.
    pub async fn keys(&self, ask: &PageRequest) -> Result<Page<KeyView>, AdminError> {
        let snapshot = self.snapshot().await?;
        let all = snapshot.keys.iter().map(|(id, entry)| (id.to_string(), self.key_view(id, &entry.document)));
        Ok(page(all, ask))
    }

    /// Returns one key.
    pub async fn key(&self, id: &str) -> Result<Tagged<KeyView>, AdminError> {
        let id = name_of::<KeyDocument>(id)?;
        let snapshot = self.snapshot().await?;
        let entry = snapshot.keys.get(&id).ok_or(AdminError::Unknown(What::Key))?;
        Ok(Tagged { tag: tag_of(&*entry.document), value: self.key_view(&id, &entry.document) })
    }

    /// Makes a key.
    pub async fn create_key(&self, new: NewKey) -> Result<CreatedKey, AdminError> {
        let (produce, consume) = (patterns("produce", &new.produce)?, patterns("consume", &new.consume)?);
        let created_ms = clock::unix_ms();
        let expires_ms = match new.expires_in_s {
            Some(seconds) if seconds == 0 || seconds > RETENTION_AGE_MAX.as_secs() => {
                let text = format!("a key expires in 1 to {} s, or never", RETENTION_AGE_MAX.as_secs());
                return Err(AdminError::Invalid(text));
            }
            seconds => seconds.map(|seconds| created_ms.saturating_add(seconds.saturating_mul(1_000))),
        };
        let no_chance = || AdminError::Backend(Reject::Internal("the system gives no random numbers"));
        let made = keys::new_key().ok_or_else(no_chance)?;
        let id = name_of::<KeyDocument>(&made.id)?;
        let document = KeyDocument {
            description: new.description,
            produce,
            consume,
            admin: new.admin,
            expires_ms,
            ..KeyDocument::new(made.hash, created_ms)
        };
        document.check().map_err(AdminError::Invalid)?;
        let added = |now: Now<'_, KeyDocument>| match now.stored {
            0 => Ok(Amend::Put(document.clone())),
            _ => Err(AdminError::Exists(What::Key)),
        };
        self.amend(|snapshot| &snapshot.keys, &id, CHANGE_ATTEMPTS_MAX, added).await?;
        tracing::info!(key = %id, "created key");
        Ok(CreatedKey { key: made.text, view: self.key_view(&id, &document) })
    }

    /// Revokes a key, everywhere.
    pub async fn revoke_key(&self, id: &str, expected: Option<&str>) -> Result<(), AdminError> {
        let id = name_of::<KeyDocument>(id)?;
        let revoked = |now: Now<'_, KeyDocument>| match now.document() {
            Some(document) => check_tag(expected, document).map(|()| Amend::Delete),
            None if now.stored > 0 => Ok(Amend::Delete),
            None => Err(AdminError::Unknown(What::Key)),
        };
        self.amend(|snapshot| &snapshot.keys, &id, CHANGE_ATTEMPTS_MAX, revoked).await?;
        tracing::info!(key = %id, "revoked key");
        Ok(())
    }

    /// Returns the id of this key, if it is valid now, and whether it may use the admin API. To be called once a
    /// request: it counts as a use of the key. [`Reject::UsersUnknown`]: the text has the form of a key, and it is not
    /// known whether it is one.
    pub fn key_used(&self, key: &str) -> Result<Option<(String, bool)>, AdminError> {
        let Some(id) = keys::id_of(key).and_then(|id| Name::parse(id).ok()) else { return Ok(None) };
        let refused = self.0.settings.auth.unconfirmed == Unconfirmed::Refuse && self.0.snapshot.borrow().unconfirmed;
        if refused || !self.0.snapshot.borrow().loaded {
            return Err(AdminError::Backend(Reject::UsersUnknown));
        }
        let Some(document) = self.good_key(&id, key) else { return Ok(None) };
        self.0.usage.count(&id);
        Ok(Some((id.to_string(), document.admin)))
    }

    fn good_key(&self, id: &Name, key: &str) -> Option<Arc<KeyDocument>> {
        let document = Arc::clone(&self.0.snapshot.borrow().keys.get(id)?.document);
        // Compared whatever else holds, and in constant time.
        let same = keys::is_key(key, &document.hash()?);
        let good = document.expires_ms.is_none_or(|expires| clock::unix_ms() < expires);
        (same && good).then_some(document)
    }

    fn key_view(&self, id: &Name, document: &KeyDocument) -> KeyView {
        let (requests, requests_last_minute) = self.0.usage.uses(id);
        KeyView {
            id: id.to_string(),
            description: document.description.clone(),
            produce: texts(&document.produce),
            consume: texts(&document.consume),
            admin: document.admin,
            created_ms: document.created_ms,
            expires_ms: document.expires_ms,
            requests,
            requests_last_minute,
        }
    }
}
