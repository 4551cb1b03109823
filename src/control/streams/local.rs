//! Stations of the embedded store.

use super::{
    Adopted, Answer, Description, Found, Group, GroupAdmin, Provisioner, RecordStore, Registered, StoredDeadLetter,
    StreamAdmin, StreamsError,
};
use crate::{
    backend::local::{GroupInfo, Records, StationError, StationInfo, Store, StoredRecord},
    control::nats::publish_mode::StreamTraits,
    reject::Reject,
    station::{Attributes, AttributesChange, Consumer, DirectGet, Name, PublishMode, Station},
};
use futures_util::future::BoxFuture;
use std::{future::ready, sync::Arc};

/// The embedded store as the control plane uses it.
#[derive(Debug, Clone)]
pub(in crate::control) struct LocalStreams(pub(in crate::control) Arc<Store>);

impl From<StationError> for StreamsError {
    fn from(error: StationError) -> Self {
        match error {
            StationError::Exists => Self::Exists,
            StationError::Unknown => Self::Unknown,
            StationError::Invalid(text) => Self::Invalid(text),
            StationError::Rejected(why) => Self::Failed(why),
        }
    }
}

impl From<StationInfo> for Description {
    fn from(info: StationInfo) -> Self {
        Self {
            name: info.station.name.clone(),
            records: info.partitions.iter().map(|partition| partition.records).sum(),
            bytes: info.partitions.iter().map(|partition| partition.bytes).sum(),
            attributes: info.attributes,
        }
    }
}

impl From<StoredRecord> for StoredDeadLetter {
    fn from(record: StoredRecord) -> Self {
        let StoredRecord { sequence, time_ms, headers, payload } = record;
        Self { sequence, time_ms, headers, payload }
    }
}

/// Returns a group as it is shown, if its durable is named as the gateway names them.
fn group(info: GroupInfo) -> Option<Group> {
    let known = |ms: u64| Some(ms).filter(|ms| *ms > 0);
    Some(Group {
        name: Consumer::group_name(&info.durable)?,
        created_ms: known(info.created_ms),
        used_ms: known(info.used_ms),
        principal: Some(info.principal.into_string()).filter(|principal| !principal.is_empty()),
    })
}

impl LocalStreams {
    async fn info(&self, name: &Name) -> Result<StationInfo, StreamsError> {
        self.0.describe_station(name).await.map_err(StreamsError::Failed)?.ok_or(StreamsError::Unknown)
    }

    async fn records(&self, name: &Name) -> Result<Option<Records>, StreamsError> {
        self.0.records(name).await.map_err(StreamsError::Failed)
    }
}

impl StreamAdmin for LocalStreams {
    fn create<'a>(&'a self, name: &'a Name, attributes: &'a Attributes) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.0.create_station(name, attributes).await?) })
    }

    fn describe<'a>(&'a self, name: &'a Name, _adopted: Option<&'a Adopted>) -> Answer<'a, Description> {
        Box::pin(async move { self.info(name).await.map(Description::from) })
    }

    fn list(&self) -> Answer<'_, Vec<Description>> {
        Box::pin(async move {
            let stations = self.0.stations().await.map_err(StreamsError::Failed)?;
            let own = |info: &StationInfo| info.station.name.dead_letters_of().is_none();
            Ok(stations.into_iter().filter(own).map(Description::from).collect())
        })
    }

    fn change<'a>(
        &'a self,
        name: &'a Name,
        _adopted: Option<&'a Adopted>,
        change: &'a AttributesChange,
    ) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.0.change_station(name, change).await?) })
    }

    fn remove<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(async move { self.0.delete_station(name).await.map(drop).map_err(StreamsError::Failed) })
    }

    fn check_adoptable<'a>(&'a self, _name: &'a Name, _adopted: &'a Adopted) -> Answer<'a, ()> {
        let text = "the embedded store has no streams to adopt: a station of it is made by `station create`";
        Box::pin(ready(Err(StreamsError::Invalid(text.to_owned()))))
    }

    fn can_be_lost(&self) -> bool {
        false
    }
}

impl RecordStore for LocalStreams {
    fn read<'a>(&'a self, name: &'a Name, after: u64, limit: usize) -> Answer<'a, Vec<StoredDeadLetter>> {
        Box::pin(async move {
            let Some(records) = self.records(name).await? else { return Ok(Vec::new()) };
            let read = on_disk(records, move |records| records.read(after, limit)).await?;
            Ok(read.into_iter().map(StoredDeadLetter::from).collect())
        })
    }

    fn discard<'a>(&'a self, name: &'a Name, sequences: Option<&'a [u64]>) -> Answer<'a, u64> {
        Box::pin(async move {
            let Some(records) = self.records(name).await? else { return Ok(0) };
            let found = match sequences.map(<[u64]>::to_vec) {
                None => None,
                Some(sequences) => Some(on_disk(records.clone(), move |records| records.find(&sequences)).await?),
            };
            Ok(self.0.discard(&records, found).await?)
        })
    }

    fn store<'a>(
        &'a self,
        name: &'a Name,
        _adopted: Option<&'a Adopted>,
        record: (&'a [u8], &'a [u8]),
        id: &'a str,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let station = self.0.station(name, false).await.map_err(|why| match why {
                Reject::StationUnknown(_) => StreamsError::Unknown,
                why => StreamsError::Failed(why),
            })?;
            let handle = self.0.handle();
            let stored = tokio::time::timeout(handle.ack_timeout(), handle.publish_one(&station, record, id)).await;
            stored.unwrap_or(Err(Reject::OutcomeUnknown)).map_err(StreamsError::Failed)
        })
    }
}

/// Reads the disk on a thread that may wait for it.
async fn on_disk<T: Send + 'static>(
    records: Records,
    read: impl FnOnce(&Records) -> Result<T, Reject> + Send + 'static,
) -> Result<T, StreamsError> {
    let read = tokio::task::spawn_blocking(move || read(&records)).await;
    read.map_err(|_| StreamsError::Failed(Reject::Internal("a read of the store was given up")))?
        .map_err(StreamsError::Failed)
}

impl GroupAdmin for LocalStreams {
    fn groups<'a>(&'a self, name: &'a Name, _adopted: Option<&'a Adopted>) -> Answer<'a, Vec<Group>> {
        Box::pin(async move {
            let mut groups: Vec<Group> = self.info(name).await?.groups.into_iter().filter_map(group).collect();
            groups.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(groups)
        })
    }

    fn remove_group<'a>(&'a self, name: &'a Name, _adopted: Option<&'a Adopted>, group: &'a Name) -> Answer<'a, bool> {
        Box::pin(async move { Ok(self.0.delete_group(name, &Consumer::durable_name(Some(group))).await?) })
    }
}

impl Provisioner for LocalStreams {
    fn ready(&self) -> Answer<'_, (), Reject> {
        Box::pin(ready(Ok(())))
    }

    fn station<'a>(&'a self, name: &'a Name, _registered: Registered, create: bool) -> Answer<'a, Found, Reject> {
        Box::pin(async move { Ok(Found { station: self.0.station(name, create).await?, streams: Box::default() }) })
    }

    fn allow_direct_get<'a>(&'a self, station: &'a Station) -> BoxFuture<'a, DirectGet> {
        Box::pin(ready(station.direct_get))
    }

    fn publish_mode(&self, _streams: &[StreamTraits]) -> PublishMode {
        PublishMode::Single
    }

    fn consumer<'a>(
        &'a self,
        station: &'a Station,
        group: Option<&'a Name>,
        principal: &'a str,
    ) -> Answer<'a, Arc<Consumer>, Reject> {
        Box::pin(self.0.consumer(station, group, principal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::local::{Clock, StationDefaults},
        limits::LOCAL_RECORD_BYTES_MAX,
        station::Storage,
    };
    use std::time::Duration;

    const HEADERS: &[u8] = b"A: b\r\n";

    /// Runs a test against a new store.
    fn with_streams<F: Future<Output = ()>>(test: impl FnOnce(LocalStreams, Arc<Store>) -> F) {
        let directory = tempfile::tempdir().expect("a directory");
        let defaults = StationDefaults {
            attributes: Attributes { retention_age: None, ..Attributes::default() },
            group_expiry: None,
        };
        let store = Arc::new(Store::open(directory.path(), defaults, Clock::system()).expect("the store opens"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test(LocalStreams(Arc::clone(&store)), Arc::clone(&store)));
        drop(runtime);
        assert!(Arc::into_inner(store).expect("nobody else has it").close(Duration::from_secs(20)));
    }

    fn orders() -> Name {
        Name::parse("orders").expect("a name")
    }

    #[test]
    fn stations_are_made_described_changed_and_removed() {
        with_streams(|streams, _store| async move {
            let name = orders();
            assert_eq!(streams.describe(&name, None).await, Err(StreamsError::Unknown));
            assert_eq!(streams.remove(&name).await, Ok(()), "that there is none is no error");
            let change = AttributesChange { retention_records: Some(Some(5)), ..AttributesChange::default() };
            assert_eq!(streams.change(&name, None, &change).await, Err(StreamsError::Unknown));
            assert_eq!(streams.create(&name, &Attributes::default()).await, Ok(()));
            assert_eq!(streams.create(&name, &Attributes::default()).await, Ok(()));
            let other = Attributes { partitions: 2, ..Attributes::default() };
            assert_eq!(streams.create(&name, &other).await, Err(StreamsError::Exists));
            let memory = Attributes { storage: Storage::Memory, ..Attributes::default() };
            assert!(matches!(streams.create(&name, &memory).await, Err(StreamsError::Invalid(_))));
            assert_eq!(streams.change(&name, None, &change).await, Ok(()));
            streams.store(&name, None, (HEADERS, b"payload"), "id").await.expect("stored");
            let expect = Description {
                name: name.clone(),
                attributes: Attributes { retention_records: Some(5), ..Attributes::default() },
                records: 1,
                bytes: (HEADERS.len() + b"Nats-Msg-Id: id\r\n".len() + b"payload".len()) as u64,
            };
            assert_eq!(streams.describe(&name, None).await, Ok(expect.clone()));
            streams.create(&name.dead_letters(), &Attributes::default()).await.expect("made");
            assert_eq!(streams.list().await, Ok(vec![expect]), "those of dead letters are not listed");
            assert_eq!(streams.remove(&name).await, Ok(()));
            assert_eq!(streams.list().await, Ok(Vec::new()));
        });
    }

    #[test]
    fn letters_are_stored_once_read_and_removed() {
        with_streams(|streams, _store| async move {
            let name = orders().dead_letters();
            assert_eq!(streams.store(&name, None, (b"", b"a"), "1").await, Err(StreamsError::Unknown));
            assert_eq!(streams.read(&name, 0, 10).await, Ok(Vec::new()));
            assert_eq!(streams.discard(&name, None).await, Ok(0));
            assert_eq!(streams.discard(&name, Some(&[1])).await, Ok(0));
            streams.create(&name, &Attributes::default()).await.expect("made");
            for id in ["1", "2", "2", "3"] {
                assert_eq!(streams.store(&name, None, (HEADERS, id.as_bytes()), id).await, Ok(()));
            }
            let too_large = vec![b'x'; LOCAL_RECORD_BYTES_MAX];
            let refused = streams.store(&name, None, (HEADERS, &too_large), "4").await;
            assert!(matches!(refused, Err(StreamsError::Failed(Reject::TooLarge(..)))), "{refused:?}");
            let letters = streams.read(&name, 1, 10).await.expect("read");
            let found: Vec<(u64, &[u8], &[u8])> =
                letters.iter().map(|one| (one.sequence, one.headers.as_slice(), one.payload.as_slice())).collect();
            let expect: [(u64, &[u8], &[u8]); 2] =
                [(2, b"A: b\r\nNats-Msg-Id: 2\r\n", b"2"), (3, b"A: b\r\nNats-Msg-Id: 3\r\n", b"3")];
            assert_eq!(found, expect);
            assert!(letters.iter().all(|one| one.time_ms > 1_600_000_000_000), "ms since 1970");
            assert_eq!(streams.discard(&name, Some(&[2, 9])).await, Ok(1));
            assert_eq!(streams.describe(&name, None).await.map(|one| one.records), Ok(2));
            assert_eq!(streams.read(&name, 1, 10).await.map(|letters| letters.len()), Ok(1));
            assert_eq!(streams.discard(&name, None).await, Ok(2));
            assert_eq!(streams.describe(&name, None).await.map(|one| (one.records, one.bytes)), Ok((0, 0)));
        });
    }

    #[test]
    fn a_store_that_cannot_write_says_so() {
        with_streams(|streams, store| async move {
            streams.create(&orders(), &Attributes::default()).await.expect("made");
            store.refuse_writes();
            let change = AttributesChange { retention_records: Some(Some(5)), ..AttributesChange::default() };
            assert!(matches!(streams.change(&orders(), None, &change).await, Err(StreamsError::Failed(_))));
            assert!(matches!(streams.store(&orders(), None, (b"", b"a"), "1").await, Err(StreamsError::Failed(_))));
            assert!(matches!(streams.remove(&orders()).await, Err(StreamsError::Failed(_))));
            assert!(streams.describe(&orders(), None).await.is_ok(), "what is there can still be read");
        });
    }
}
