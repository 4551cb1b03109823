//! The registry in the embedded store. Nobody else writes to it.

use super::{Answer, Change, Followed, RegistryError, RegistryStore};
use crate::{
    backend::local::{Document, PutError, Store},
    reject::Reject,
};
use std::{future::ready, sync::Arc};
use tokio::sync::watch;

/// The documents of the embedded store. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::control) struct LocalRegistry {
    store: Arc<Store>,
    /// Changes with each write, also with one that was refused: then a document is another than its writer knew.
    written: watch::Sender<u64>,
}

impl LocalRegistry {
    pub(in crate::control) fn new(store: Arc<Store>) -> Self {
        Self { store, written: watch::Sender::new(0) }
    }

    async fn list(&self) -> Result<Vec<Change>, RegistryError> {
        let store = Arc::clone(&self.store);
        // Listing reads the disk.
        let listed = tokio::task::spawn_blocking(move || store.registry_list("")).await;
        let listed = listed.unwrap_or(Err(Reject::Internal("a call of the store did not return")));
        let change = |Document { key, value, revision }| Change { key, bytes: Some(value), revision };
        Ok(listed.map_err(RegistryError::Failed)?.into_iter().map(change).collect())
    }
}

impl From<PutError> for RegistryError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Conflict { .. } => Self::Conflict,
            PutError::Rejected(reject) => Self::Failed(reject),
        }
    }
}

impl RegistryStore for LocalRegistry {
    fn is_shared(&self) -> bool {
        false
    }

    fn follow(&self) -> Answer<'_, Followed> {
        // Before it is read: whoever writes meanwhile has it read again.
        let written = self.written.subscribe();
        Box::pin(async move { Ok(Followed::until_written(self.list().await?, written)) })
    }

    fn last(&self) -> Answer<'_, Option<(i128, u64)>> {
        Box::pin(ready(Ok(None)))
    }

    fn put<'a>(&'a self, key: &'a str, bytes: Vec<u8>, expected: u64) -> Answer<'a, u64> {
        Box::pin(async move {
            let put = self.store.registry_put(key, &bytes, Some(expected)).await;
            self.written.send_modify(|count| *count += 1);
            Ok(put?)
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            let deleted = self.store.registry_delete(key, Some(expected)).await;
            self.written.send_modify(|count| *count += 1);
            Ok(deleted.map(drop)?)
        })
    }
}
