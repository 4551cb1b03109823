//! Stations of the embedded store.

use super::{Description, Letter, StreamsError};
use crate::{
    backend::local::Store,
    reject::Reject,
    station::{Attributes, AttributesChange, Name},
};
use std::sync::Arc;

pub(super) async fn create(_store: &Arc<Store>, _name: &Name, _attributes: &Attributes) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn describe(_store: &Arc<Store>, _name: &Name) -> Result<Description, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn list(_store: &Arc<Store>) -> Result<Vec<Description>, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn change(_store: &Arc<Store>, _name: &Name, _change: &AttributesChange) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn remove(_store: &Arc<Store>, _name: &Name) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn read(
    _store: &Arc<Store>,
    _name: &Name,
    _after: u64,
    _limit: usize,
) -> Result<Vec<Letter>, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn discard(
    _store: &Arc<Store>,
    _name: &Name,
    _sequences: Option<&[u64]>,
) -> Result<u64, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn store(
    _store: &Arc<Store>,
    _name: &Name,
    _headers: &[u8],
    _payload: &[u8],
    _id: &str,
) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}
