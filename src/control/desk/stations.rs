//! Stations: what the streams say of themselves, and what the registry says beside it.

use super::{
    Desk, DeskError,
    views::{AdoptStation, ChangeStation, NewStation, Page, PageAsk, StationView, Tagged},
};
use crate::reject::Reject;

impl Desk {
    /// Stations that exist, by name: also those that were made on first use.
    pub async fn stations(&self, page: &PageAsk) -> Result<Page<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// One station.
    pub async fn station(&self, name: &str) -> Result<Tagged<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Makes a station.
    pub async fn create_station(&self, new: NewStation) -> Result<Tagged<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Makes a station of a stream that exists.
    pub async fn adopt_station(&self, name: &str, adopt: AdoptStation) -> Result<Tagged<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Changes what the stream allows; `expected`: the tag that it must have.
    pub async fn change_station(
        &self,
        name: &str,
        change: ChangeStation,
        expected: Option<&str>,
    ) -> Result<Tagged<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Removes a station with its records and dead letters; of an adopted one only what the registry says.
    pub async fn remove_station(&self, name: &str, expected: Option<&str>) -> Result<(), DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Records of this station are held against this schema from now on, by all gateways.
    pub async fn attach_schema(
        &self,
        name: &str,
        schema: &str,
        expected: Option<&str>,
    ) -> Result<Tagged<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }

    /// Records of this station are held against nothing from now on.
    pub async fn detach_schema(&self, name: &str, expected: Option<&str>) -> Result<Tagged<StationView>, DeskError> {
        Err(DeskError::Backend(Reject::Internal("not built")))
    }
}
