//! Consumer groups of stations: listed and removed. They are made by the first consume call that names them.

use super::{AdminError, AdminService, What, name_of, page, stations::adopted};
use crate::{
    api::{
        groups::ConsumerGroupView,
        pages::{Page, PageRequest},
    },
    control::{registry::documents::StationDocument, streams::Group},
    station::Name,
};

impl AdminService {
    /// Returns the consumer groups of a station, by name.
    pub async fn consumer_groups(
        &self,
        station: &str,
        ask: &PageRequest,
    ) -> Result<Page<ConsumerGroupView>, AdminError> {
        let name = name_of::<StationDocument>(station)?;
        let snapshot = self.snapshot().await?;
        let groups = self.0.groups.groups(&name, adopted(&snapshot, &name)).await?;
        Ok(page(groups.into_iter().map(|group| (group.name.clone(), view(group))), ask))
    }

    /// Removes a consumer group of a station. The next consume call that names it makes it anew, at the first record.
    pub async fn remove_consumer_group(&self, station: &str, group: &str) -> Result<(), AdminError> {
        let name = name_of::<StationDocument>(station)?;
        let group = Name::parse(group).map_err(|fault| AdminError::Invalid(fault.text("Consumer group")))?;
        let snapshot = self.snapshot().await?;
        if !self.0.groups.remove_group(&name, adopted(&snapshot, &name), &group).await? {
            return Err(AdminError::Unknown(What::ConsumerGroup));
        }
        // Shards that know the group ask for it anew.
        self.forget(&name).await;
        tracing::info!(station = %name, %group, "removed consumer group");
        Ok(())
    }
}

fn view(group: Group) -> ConsumerGroupView {
    let Group { name, created_ms, used_ms, principal } = group;
    ConsumerGroupView { name, created_ms, used_ms, principal }
}
