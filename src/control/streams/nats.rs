//! Stations as JetStream streams.

use super::{Adopted, Description, Letter, StreamsError};
use crate::{
    config::StationSettings,
    control::broker::Broker,
    reject::Reject,
    station::{Attributes, AttributesChange, Name},
};

pub(super) async fn create(
    _broker: &Broker,
    _settings: &StationSettings,
    _name: &Name,
    _attributes: &Attributes,
) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn describe(
    _broker: &Broker,
    _settings: &StationSettings,
    _name: &Name,
    _adopted: Option<&Adopted>,
) -> Result<Description, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn list(_broker: &Broker, _settings: &StationSettings) -> Result<Vec<Description>, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn change(
    _broker: &Broker,
    _settings: &StationSettings,
    _name: &Name,
    _adopted: Option<&Adopted>,
    _change: &AttributesChange,
) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn remove(_broker: &Broker, _settings: &StationSettings, _name: &Name) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn read(
    _broker: &Broker,
    _settings: &StationSettings,
    _name: &Name,
    _after: u64,
    _limit: usize,
) -> Result<Vec<Letter>, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn discard(
    _broker: &Broker,
    _settings: &StationSettings,
    _name: &Name,
    _sequences: Option<&[u64]>,
) -> Result<u64, StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}

pub(super) async fn store(
    _broker: &Broker,
    _settings: &StationSettings,
    _name: &Name,
    _adopted: Option<&Adopted>,
    _headers: &[u8],
    _payload: &[u8],
    _id: &str,
) -> Result<(), StreamsError> {
    Err(StreamsError::Failed(Reject::Internal("not built")))
}
