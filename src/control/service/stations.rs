//! Stations: what the streams say of themselves, and what the registry says beside it.
//!
//! What both say is changed in the order that is safe if it is cut off between them: a schema is attached before the
//! stream takes records, and detached after the stream is gone. The attributes that a lost stream is made of again are
//! written before it is made, and taken back before it is removed.

use super::{AdminError, AdminService, Amend, Now, What, check_tag, name_of, page, tag_of};
use crate::{
    api::{
        dead_letters::DeadLetterSettings,
        pages::{Page, PageRequest},
        stations::{AdoptStation, ChangeStation, NewStation, StationView},
        tags::Tagged,
    },
    control::{
        registry::{
            documents::{DeadLetters, Document, SchemaDocument, StationDocument},
            snapshot::Snapshot,
        },
        streams::{Adopted, Description, StreamsError},
    },
    directory::messages::ShardUpdate,
    limits::CHANGE_ATTEMPTS_MAX,
    reject::Reject,
    station::{Attributes, AttributesChange, Name},
};
use futures_util::{StreamExt, TryStreamExt};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Adopted stations that are asked about at a time.
const DESCRIBED_AT_ONCE: usize = 16;

impl AdminService {
    /// Returns the stations that exist, by name: also those that were made on first use.
    pub async fn stations(&self, ask: &PageRequest) -> Result<Page<StationView>, AdminError> {
        let snapshot = self.snapshot().await?;
        let mut all: BTreeMap<Name, Description> =
            self.0.streams.list().await?.into_iter().map(|station| (station.name.clone(), station)).collect();
        let adopted =
            snapshot.stations.iter().filter_map(|(name, entry)| Some((name, entry.document.adopted.as_ref()?)));
        // Owned: the future must be able to move to another thread.
        let adopted: Vec<(Name, Adopted)> = adopted.map(|(name, adopted)| (name.clone(), adopted.clone())).collect();
        let described = futures_util::stream::iter(adopted).map(|(name, adopted)| {
            let streams = Arc::clone(&self.0.streams);
            async move {
                match streams.describe(&name, Some(&adopted)).await {
                    Ok(description) => Ok(Some(description)),
                    // An adopted station whose stream is gone, or another by now, hides no other.
                    Err(StreamsError::Unknown | StreamsError::Missing(_) | StreamsError::Invalid(_)) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        let described: Vec<Option<Description>> = described.buffered(DESCRIBED_AT_ONCE).try_collect().await?;
        all.extend(described.into_iter().flatten().map(|station| (station.name.clone(), station)));
        Ok(page(all.into_iter().map(|(name, station)| (name.to_string(), view(&snapshot, station))), ask))
    }

    /// Returns one station.
    pub async fn station(&self, name: &str) -> Result<Tagged<StationView>, AdminError> {
        let name = name_of::<StationDocument>(name)?;
        let snapshot = self.snapshot().await?;
        Ok(tagged(view(&snapshot, self.describe(&snapshot, &name).await?)))
    }

    /// Makes a station.
    pub async fn create_station(&self, new: NewStation) -> Result<Tagged<StationView>, AdminError> {
        let name = name_of::<StationDocument>(&new.name)?;
        let attributes = new.attributes(&self.0.settings.stations.attributes);
        attributes.check().map_err(AdminError::Invalid)?;
        let schema = new.schema.as_deref().map(name_of::<SchemaDocument>).transpose()?;
        let dead_letters = new.dead_letters.as_ref().map(dead_letters).unwrap_or_default();
        let given = self.given(&attributes);
        let document = StationDocument { schema, dead_letters, given, ..StationDocument::default() };
        document.check().map_err(AdminError::Invalid)?;
        let snapshot = self.snapshot().await?;
        let is_there = match self.0.streams.describe(&name, None).await {
            // The backend says whether it is the same.
            Ok(_) => self.0.streams.create(&name, &attributes).await.map(|()| true)?,
            Err(StreamsError::Unknown) => false,
            Err(error) => return Err(error.into()),
        };
        let said = self.say(&name, &document, is_there).await?;
        if let Err(error) = self.0.streams.create(&name, &attributes).await {
            // A station that was never made leaves nothing behind, unless somebody has changed it since.
            let fresh = said && snapshot.stations.stored_revision(&name).is_none();
            let never = |why: &Reject| matches!(why, Reject::Conflict(_) | Reject::StoreReadOnly(_));
            let may_be_made = matches!(&error, StreamsError::Failed(why) if !never(why));
            if fresh && !may_be_made {
                let undone = |now: Now<'_, StationDocument>| match now.document() {
                    Some(now) if *now == document => Ok(Amend::Delete),
                    _ => Ok(Amend::Keep),
                };
                self.amend(|snapshot| &snapshot.stations, &name, CHANGE_ATTEMPTS_MAX, undone).await?;
            }
            return Err(error.into());
        }
        self.forget(&name).await;
        tracing::info!(station = %name, "created station");
        self.station(name.as_str()).await
    }

    /// Returns the attributes that the registry keeps, so that a lost stream can be made as it was.
    fn given(&self, attributes: &Attributes) -> Option<Attributes> {
        (self.0.streams.can_be_lost() && attributes.check().is_ok()).then(|| attributes.in_whole_millis())
    }

    /// Writes the document of a new station, which may be there already as it is wanted. Returns whether there was
    /// something to write.
    async fn say(&self, name: &Name, document: &StationDocument, is_there: bool) -> Result<bool, AdminError> {
        let plain = *document == StationDocument::default();
        let made = |now: Now<'_, StationDocument>| {
            if let Some(schema) = &document.schema {
                now.snapshot.schemas.get(schema).ok_or(AdminError::Unknown(What::Schema))?;
            }
            match now.document() {
                Some(known) if known == document && now.is_whole() => Ok(Amend::Keep),
                // Its stream is as it is wanted; what the registry keeps of its attributes is older, or nothing.
                Some(known)
                    if (is_there || known.given.is_none())
                        && now.is_whole()
                        && *document == known.with(document.given.clone()) =>
                {
                    Ok(Amend::Put(document.clone()))
                }
                None if now.stored == 0 && plain => Ok(Amend::Keep),
                None if now.stored == 0 => Ok(Amend::Put(document.clone())),
                _ => Err(AdminError::Exists(What::Station)),
            }
        };
        let snapshot = self.amend(|snapshot| &snapshot.stations, name, CHANGE_ATTEMPTS_MAX, made).await?;
        self.keep_schema(&snapshot, name, None).await?;
        if let Some(schema) = &document.schema {
            self.compiled(schema).await;
        }
        Ok(!plain)
    }

    /// Makes a station of a stream that exists.
    pub async fn adopt_station(&self, name: &str, adopt: AdoptStation) -> Result<Tagged<StationView>, AdminError> {
        let name = name_of::<StationDocument>(name)?;
        let adopted = Adopted { stream: adopt.stream, subject: adopt.subject };
        check_subject(&adopted)?;
        // The stream is there, and can be a station.
        self.0.streams.check_adoptable(&name, &adopted).await?;
        match self.0.streams.describe(&name, None).await {
            Err(StreamsError::Unknown) => {}
            Err(error) => return Err(error.into()),
            // The station of this name is that very stream, or another one.
            Ok(_) if name.as_str() == adopted.subject => {}
            Ok(_) => return Err(AdminError::Exists(What::Station)),
        }
        let made = |now: Now<'_, StationDocument>| match now.document() {
            Some(known) if known.adopted.as_ref() == Some(&adopted) && now.is_whole() => Ok(Amend::Keep),
            Some(known) if known.adopted.is_some() => Err(AdminError::Exists(What::Station)),
            // The schema of a station that was here before stays.
            Some(known) => Ok(Amend::Put(StationDocument { adopted: Some(adopted.clone()), ..known.with(None) })),
            None if now.stored > 0 => Err(AdminError::Exists(What::Station)),
            None => Ok(Amend::Put(StationDocument { adopted: Some(adopted.clone()), ..StationDocument::default() })),
        };
        self.amend(|snapshot| &snapshot.stations, &name, CHANGE_ATTEMPTS_MAX, made).await?;
        self.forget(&name).await;
        tracing::info!(station = %name, stream = %adopted.stream, "adopted station");
        self.station(name.as_str()).await
    }

    /// Changes what the stream allows; `expected`: the tag that it must have.
    pub async fn change_station(
        &self,
        name: &str,
        change: ChangeStation,
        expected: Option<&str>,
    ) -> Result<Tagged<StationView>, AdminError> {
        let name = name_of::<StationDocument>(name)?;
        let snapshot = self.snapshot().await?;
        let known = self.describe(&snapshot, &name).await?;
        check_tag(expected, &stable(view(&snapshot, known.clone())))?;
        let of_stream = of_stream(&known.attributes, &change)?;
        let letters = change.dead_letters.as_ref().map(dead_letters);
        if let Some(letters) = &letters {
            let document = StationDocument { dead_letters: letters.clone(), ..StationDocument::default() };
            document.check().map_err(AdminError::Invalid)?;
        }
        // The stream may refuse, and then nothing has changed; the registry is written after it.
        if of_stream != AttributesChange::default() {
            let changed = self.0.streams.change(&name, adopted(&snapshot, &name), &of_stream).await;
            // Whatever fails from here on: no shard may go by a duplicate window that a part of the streams no longer
            // has.
            self.forget(&name).await;
            changed?;
        }
        if let Some(letters) = &letters {
            self.change_letters(&snapshot, &name, letters, expected.map(|_| &known)).await?;
        }
        self.remember(&name, of_stream != AttributesChange::default()).await?;
        self.forget(&name).await;
        tracing::info!(station = %name, "changed station");
        self.station(name.as_str()).await
    }

    /// Has the registry keep the attributes that a station has now, where it keeps them already or they were `changed`.
    /// Also if an earlier change was cut off here.
    async fn remember(&self, name: &Name, changed: bool) -> Result<(), AdminError> {
        let snapshot = self.snapshot().await?;
        let document = snapshot.stations.get(name).map(|entry| &entry.document);
        let kept = document.and_then(|document| document.given.as_ref());
        if adopted(&snapshot, name).is_some() || (kept.is_none() && !changed) {
            return Ok(());
        }
        let given = self.given(&self.describe(&snapshot, name).await?.attributes);
        if given.as_ref() == kept {
            return Ok(());
        }
        let remembered = |now: Now<'_, StationDocument>| match now.document() {
            None if now.stored > 0 => Ok(Amend::Keep),
            Some(old) if old.adopted.is_some() => Ok(Amend::Keep),
            old => Ok(Amend::Put(old.cloned().unwrap_or_default().with(given.clone()))),
        };
        self.amend(|snapshot| &snapshot.stations, name, CHANGE_ATTEMPTS_MAX, remembered).await.map(drop)
    }

    /// Changes what becomes of a station's records that fail. `seen`: the station as the caller must have seen it, but
    /// for what the registry says, which must still be what `before` has.
    async fn change_letters(
        &self,
        before: &Snapshot,
        name: &Name,
        letters: &DeadLetters,
        seen: Option<&Description>,
    ) -> Result<(), AdminError> {
        let tag = seen.map(|known| tag_of(&stable(view(before, known.clone()))));
        let changed = |now: Now<'_, StationDocument>| match now.document() {
            // Nothing is written over a document that may say more than this gateway understands.
            None if now.stored > 0 => {
                Err(AdminError::Conflict("what the registry says of this station cannot be read here".to_owned()))
            }
            old => {
                if let Some(known) = seen {
                    check_tag(tag.as_deref(), &stable(view(now.snapshot, known.clone())))?;
                }
                Ok(Amend::Put(StationDocument { dead_letters: letters.clone(), ..old.cloned().unwrap_or_default() }))
            }
        };
        self.amend(|snapshot| &snapshot.stations, name, CHANGE_ATTEMPTS_MAX, changed).await?;
        // Also if it says the same as before: then an earlier change was cut off here.
        let age = Some(age(letters.retention_age_s));
        let change = AttributesChange { retention_age: age, ..AttributesChange::default() };
        match self.0.streams.change(&name.dead_letters(), None, &change).await {
            // The station is made on first use, and then as the document says.
            Ok(()) | Err(StreamsError::Unknown) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a station with its records and dead letters; of an adopted one only what the registry says.
    pub async fn remove_station(&self, name: &str, expected: Option<&str>) -> Result<(), AdminError> {
        let name = name_of::<StationDocument>(name)?;
        let snapshot = self.snapshot().await?;
        match self.0.streams.describe(&name, adopted(&snapshot, &name)).await {
            Ok(known) => check_tag(expected, &stable(view(&snapshot, known)))?,
            // A part of it is there, or was.
            Err(StreamsError::Missing(_)) => {}
            // The stream that it was made of is another by now, and is not touched.
            Err(StreamsError::Invalid(_)) if adopted(&snapshot, &name).is_some() => {}
            // The remains of a station that is gone can be removed.
            Err(StreamsError::Unknown)
                if snapshot.stations.stored_revision(&name).is_some()
                    || self.0.streams.describe(&name.dead_letters(), None).await.is_ok() => {}
            Err(error) => return Err(error.into()),
        }
        if adopted(&snapshot, &name).is_none() {
            self.remove_streams(&name).await?;
        }
        self.amend(|snapshot| &snapshot.stations, &name, CHANGE_ATTEMPTS_MAX, |_| Ok(Amend::Delete)).await?;
        self.forget(&name).await;
        tracing::info!(station = %name, "removed station");
        Ok(())
    }

    /// Removes a station's streams. Before that, the registry drops the attributes to make them of again: a gateway
    /// that finds a stream gone would make it.
    async fn remove_streams(&self, name: &Name) -> Result<(), AdminError> {
        let with = |given: Option<Attributes>| {
            move |now: Now<'_, StationDocument>| match now.document() {
                Some(old) if old.given != given => Ok(Amend::Put(old.with(given.clone()))),
                _ => Ok(Amend::Keep),
            }
        };
        let kept = self.snapshot().await?.stations.get(name).and_then(|entry| entry.document.given.clone());
        self.amend(|snapshot| &snapshot.stations, name, CHANGE_ATTEMPTS_MAX, with(None)).await?;
        let removed = async {
            self.0.streams.remove(name).await?;
            self.0.streams.remove(&name.dead_letters()).await
        };
        if let Err(error) = removed.await {
            self.amend(|snapshot| &snapshot.stations, name, CHANGE_ATTEMPTS_MAX, with(kept)).await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Attaches a schema: from now on all gateways validate records of this station by it.
    pub async fn attach_schema(
        &self,
        name: &str,
        schema: &str,
        expected: Option<&str>,
    ) -> Result<Tagged<StationView>, AdminError> {
        let schema = name_of::<SchemaDocument>(schema)?;
        self.set_schema(name, Some(&schema), expected).await
    }

    /// Detaches the schema: from now on records of this station are not validated.
    pub async fn detach_schema(&self, name: &str, expected: Option<&str>) -> Result<Tagged<StationView>, AdminError> {
        self.set_schema(name, None, expected).await
    }

    async fn set_schema(
        &self,
        name: &str,
        schema: Option<&Name>,
        expected: Option<&str>,
    ) -> Result<Tagged<StationView>, AdminError> {
        let name = name_of::<StationDocument>(name)?;
        let before = self.snapshot().await?;
        let known = self.describe(&before, &name).await?;
        let changed = |now: Now<'_, StationDocument>| {
            check_tag(expected, &stable(view(now.snapshot, known.clone())))?;
            if let Some(schema) = schema {
                now.snapshot.schemas.get(schema).ok_or(AdminError::Unknown(What::Schema))?;
            }
            let old = now.document().cloned().unwrap_or_default();
            if old.schema.as_ref() == schema && (now.is_whole() || now.stored == 0) {
                return Ok(Amend::Keep);
            }
            Ok(Amend::Put(StationDocument { schema: schema.cloned(), ..old }))
        };
        let snapshot = self.amend(|snapshot| &snapshot.stations, &name, CHANGE_ATTEMPTS_MAX, changed).await?;
        let was = before.stations.get(&name).and_then(|entry| entry.document.schema.clone());
        self.keep_schema(&snapshot, &name, was).await?;
        if let Some(schema) = schema {
            self.compiled(schema).await;
        }
        let schema = schema.map_or("none", Name::as_str);
        tracing::info!(station = %name, schema, "changed the station's schema");
        Ok(tagged(view(&snapshot, known)))
    }

    /// Detaches a schema again that was removed while it was attached: `before` comes back.
    async fn keep_schema(&self, snapshot: &Snapshot, name: &Name, before: Option<Name>) -> Result<(), AdminError> {
        let attached = snapshot.stations.get(name).and_then(|entry| entry.document.schema.clone());
        let Some(lost) = attached.filter(|schema| snapshot.schemas.stored_revision(schema).is_none()) else {
            return Ok(());
        };
        let undone = |now: Now<'_, StationDocument>| match now.document() {
            Some(old) if old.schema.as_ref() == Some(&lost) => {
                Ok(Amend::Put(StationDocument { schema: before.clone(), ..old.clone() }))
            }
            _ => Ok(Amend::Keep),
        };
        self.amend(|snapshot| &snapshot.stations, name, CHANGE_ATTEMPTS_MAX, undone).await?;
        Err(AdminError::Unknown(What::Schema))
    }

    pub(super) async fn describe(&self, snapshot: &Snapshot, name: &Name) -> Result<Description, AdminError> {
        Ok(self.0.streams.describe(name, adopted(snapshot, name)).await?)
    }

    /// Has the shards ask anew for a station, also where they know that there is none.
    pub(super) async fn forget(&self, name: &Name) {
        for name in [name.clone(), name.dead_letters()] {
            self.0.fanout.broadcast(&ShardUpdate::Forget(name)).await;
        }
    }
}

pub(super) fn adopted<'a>(snapshot: &'a Snapshot, name: &Name) -> Option<&'a Adopted> {
    snapshot.stations.get(name)?.document.adopted.as_ref()
}

fn dead_letters(settings: &DeadLetterSettings) -> DeadLetters {
    let DeadLetterSettings { invalid, deliveries_max, retention_age_s } = *settings;
    DeadLetters { invalid, deliveries_max, retention_age_s }
}

/// Checks a subject that a record can be published on.
fn check_subject(adopted: &Adopted) -> Result<(), AdminError> {
    let refused = |what: &str| Err(AdminError::Invalid(what.to_owned()));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain(&adopted.stream) || adopted.stream.contains(['.', '*', '>', '/', '\\']) {
        return refused("the stream's name is not one that a stream can have");
    }
    let token = |token: &str| !token.is_empty() && !token.contains(['*', '>']);
    if !plain(&adopted.subject) || !adopted.subject.split('.').all(token) || adopted.subject.starts_with('$') {
        return refused("the subject must be one without wildcards that the stream listens on");
    }
    Ok(())
}

fn age(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Returns what of the stream is to change; what would be the same is left out.
fn of_stream(known: &Attributes, change: &ChangeStation) -> Result<AttributesChange, AdminError> {
    if let Some(what) = change.other_than_fixed(known) {
        return Err(AdminError::Invalid(format!("{what} is fixed when the station is made")));
    }
    known.change_to(&change.attributes()).map_err(AdminError::Invalid)
}

fn view(snapshot: &Snapshot, description: Description) -> StationView {
    let Description { name, attributes, records, bytes } = description;
    let document =
        snapshot.stations.get(&name).map(|entry| StationDocument::clone(&entry.document)).unwrap_or_default();
    let DeadLetters { invalid, deliveries_max, retention_age_s } = document.dead_letters;
    StationView {
        schema: document.schema.as_ref().map(Name::to_string),
        adopted: document.adopted.map(|Adopted { stream, subject }| AdoptStation { stream, subject }),
        records,
        bytes,
        ..StationView::of(&name, &attributes, DeadLetterSettings { invalid, deliveries_max, retention_age_s })
    }
}

/// What the tag covers: not the numbers that change by themselves.
fn stable(view: StationView) -> StationView {
    StationView { records: 0, bytes: 0, ..view }
}

fn tagged(view: StationView) -> Tagged<StationView> {
    Tagged { tag: tag_of(&stable(view.clone())), value: view }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::Storage;

    type Change = fn(&mut NewStation);

    fn with(change: impl FnOnce(&mut NewStation)) -> Result<Attributes, AdminError> {
        let mut new = NewStation::default();
        change(&mut new);
        let attributes = new.attributes(&Attributes::default());
        attributes.check().map(|()| attributes).map_err(AdminError::Invalid)
    }

    #[test]
    fn what_is_not_said_is_as_configured_and_what_is_wrong_is_told() {
        let plain = with(|_| {}).expect("defaults");
        assert_eq!((plain.partitions, plain.replicas, plain.storage), (1, 1, Storage::File));
        assert_eq!(plain.retention_age, Some(Duration::from_secs(3_600)));
        assert_eq!(with(|new| new.retention_age_s = Some(0)).expect("for ever").retention_age, None);
        let short = with(|new| new.retention_age_s = Some(60)).expect("short");
        assert_eq!(short.duplicate_window, Duration::from_secs(60), "the default gives way");
        let wrong: [(Change, &str); 7] = [
            (|new| new.partitions = Some(0), "1 to 10000 partitions"),
            (|new| new.partitions = Some(10_001), "1 to 10000 partitions"),
            (|new| new.replicas = Some(0), "1 to 5 replicas"),
            (|new| new.replicas = Some(6), "1 to 5 replicas"),
            (|new| new.idempotency_window_ms = Some(99), "100 to 86400000 ms"),
            (|new| new.retention_age_s = Some(u64::MAX), "at most"),
            (|new| (new.retention_age_s, new.idempotency_window_ms) = (Some(1), Some(1_001)), "longer than"),
        ];
        for (change, expect) in wrong {
            assert!(matches!(with(change), Err(AdminError::Invalid(text)) if text.contains(expect)), "{expect}");
        }
    }

    #[test]
    fn a_change_says_what_is_another_and_what_can_be() {
        let known = with(|_| {}).expect("defaults");
        let same = ChangeStation {
            retention_age_s: Some(3_600),
            replicas: Some(1),
            partitions: Some(1),
            storage: Some(Storage::File.into()),
            idempotency_window_ms: Some(120_000),
            ..ChangeStation::default()
        };
        assert_eq!(of_stream(&known, &same), Ok(AttributesChange::default()));
        let shorter =
            ChangeStation { retention_age_s: Some(60), retention_records: Some(5), ..ChangeStation::default() };
        let change = of_stream(&known, &shorter).expect("possible");
        assert_eq!(change.retention_age, Some(Some(Duration::from_secs(60))));
        assert_eq!(change.duplicate_window, Some(Duration::from_secs(60)), "the window goes with it");
        assert_eq!((change.retention_records, change.retention_bytes), (Some(Some(5)), None));
        for refused in [
            ChangeStation { partitions: Some(2), ..ChangeStation::default() },
            ChangeStation { storage: Some(Storage::Memory.into()), ..ChangeStation::default() },
            ChangeStation { idempotency_window_ms: Some(3_600_001), ..ChangeStation::default() },
            ChangeStation { replicas: Some(6), ..ChangeStation::default() },
        ] {
            assert!(matches!(of_stream(&known, &refused), Err(AdminError::Invalid(_))), "{refused:?}");
        }
    }

    #[test]
    fn subjects_and_streams_that_cannot_be_are_refused() {
        for (stream, subject, expect) in [
            ("ORDERS", "orders.new", true),
            ("ORDERS", "orders.*", false),
            ("ORDERS", "orders.>", false),
            ("ORDERS", "orders..new", false),
            ("ORDERS", "orders new", false),
            ("ORDERS", "$SYS.x", false),
            ("ORDERS", "", false),
            ("", "orders", false),
            ("a.b", "orders", false),
            ("a b", "orders", false),
        ] {
            let adopted = Adopted { stream: stream.to_owned(), subject: subject.to_owned() };
            assert_eq!(check_subject(&adopted).is_ok(), expect, "{adopted:?}");
        }
    }
}
