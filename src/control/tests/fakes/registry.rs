//! Registry documents in a map.

use crate::control::registry::{Answer, Change, Followed, RegistryError, RegistryStore};
use std::{collections::BTreeMap, future::ready, sync::Arc};
use tokio::sync::{Mutex, watch};

/// Documents in a map.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Documents {
    state: Arc<Mutex<State>>,
    /// Changes with each write.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    documents: BTreeMap<String, (Vec<u8>, u64)>,
    revision: u64,
}

impl Documents {
    pub(in crate::control) async fn list(&self) -> Vec<Change> {
        let state = self.state.lock().await;
        let change = |(key, (bytes, revision)): (&String, &(Vec<u8>, u64))| Change {
            key: key.clone(),
            bytes: Some(bytes.clone()),
            revision: *revision,
        };
        state.documents.iter().map(change).collect()
    }

    /// Writes a document, and has nobody read it.
    pub(in crate::control) async fn put_untold(&self, key: &str, bytes: &[u8]) {
        let mut state = self.state.lock().await;
        state.revision += 1;
        let revision = state.revision;
        state.documents.insert(key.to_owned(), (bytes.to_vec(), revision));
    }
}

impl RegistryStore for Documents {
    fn is_shared(&self) -> bool {
        false
    }

    fn follow(&self) -> Answer<'_, Followed> {
        // Before it is read: whoever writes meanwhile has it read again.
        let written = self.written.subscribe();
        Box::pin(async move { Ok(Followed::until_written(self.list().await, written)) })
    }

    fn last(&self) -> Answer<'_, Option<(i128, u64)>> {
        Box::pin(ready(Ok(None)))
    }

    fn put<'a>(&'a self, key: &'a str, bytes: Vec<u8>, expected: u64) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            state.compare(key, expected)?;
            state.revision += 1;
            let revision = state.revision;
            state.documents.insert(key.to_owned(), (bytes, revision));
            self.written.send_modify(|count| *count += 1);
            Ok(revision)
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            state.compare(key, expected)?;
            state.documents.remove(key);
            self.written.send_modify(|count| *count += 1);
            Ok(())
        })
    }
}

impl State {
    fn compare(&self, key: &str, expected: u64) -> Result<(), RegistryError> {
        let current = self.documents.get(key).map_or(0, |(_, revision)| *revision);
        if expected == current { Ok(()) } else { Err(RegistryError::Conflict) }
    }
}
