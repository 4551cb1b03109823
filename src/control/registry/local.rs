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

    /// Writes, and has the registry read again. The two are one task: a caller that goes away between them must not
    /// leave the shards with what was before, a key that was revoked for example.
    async fn write<T, W>(&self, write: impl FnOnce(Arc<Store>) -> W) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, PutError>> + Send + 'static,
    {
        let (write, written) = (write(Arc::clone(&self.store)), self.written.clone());
        let writing = tokio::spawn(async move {
            let result = write.await;
            written.send_modify(|count| *count += 1);
            result
        });
        let result = writing.await;
        result
            .unwrap_or(Err(PutError::Rejected(Reject::Internal("a call of the store did not return"))))
            .map_err(Into::into)
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
        let key = key.to_owned();
        Box::pin(self.write(async move |store| store.registry_put(&key, &bytes, Some(expected)).await))
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> Answer<'a, ()> {
        let key = key.to_owned();
        Box::pin(self.write(async move |store| store.registry_delete(&key, Some(expected)).await.map(drop)))
    }
}
