//! Dead letters: read, replayed through validation again, purged.

use super::{AdminError, AdminService, What, name_of, stations::adopted};
use crate::{
    api::{
        dead_letters::{DeadLetterKind, DeadLetterSelection, DeadLetterView, PurgeReport, ReplayFailure, ReplayReport},
        pages::{Page, PageRequest},
    },
    control::{
        registry::{documents::StationDocument, snapshot::Snapshot},
        schema_compiler,
        streams::{StoredDeadLetter, StreamsError},
    },
    dead_letters::fields,
    limits::{DEAD_LETTERS_PAGE, DEAD_LETTERS_PER_CALL_MAX},
    reject::Reject,
    schema::{Checked, Encoding, PROTOBUF_MEDIA_TYPE, Schema, Scratch},
    station::Name,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;

impl AdminService {
    /// Returns dead letters of a station, oldest first.
    pub async fn dead_letters(&self, station: &str, ask: &PageRequest) -> Result<Page<DeadLetterView>, AdminError> {
        let name = name_of::<StationDocument>(station)?;
        let after = match ask.after.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(after)) => after,
            Some(Err(_)) => return Err(AdminError::Invalid("a page of dead letters begins after a number".to_owned())),
        };
        let limit = ask.limit.clamp(1, super::PAGE_MAX);
        // One more, to know whether there is a next page.
        let mut letters = self.0.records.read(&name.dead_letters(), after, limit + 1).await?;
        if letters.is_empty() {
            self.exists(&name).await?;
        }
        let more = match letters.last() {
            _ if letters.len() > limit => true,
            // Large ones come a few at a time: fewer than were asked for need not be all.
            Some(last) => !self.0.records.read(&name.dead_letters(), last.sequence, 1).await?.is_empty(),
            None => false,
        };
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(|letter| letter.sequence.to_string());
        Ok(Page { items: letters.into_iter().map(view).collect(), next })
    }

    /// Returns one dead letter.
    pub async fn dead_letter(&self, station: &str, id: u64) -> Result<DeadLetterView, AdminError> {
        let name = name_of::<StationDocument>(station)?;
        if let Some(letter) = self.letter(&name, id).await? {
            return Ok(view(letter));
        }
        self.exists(&name).await?;
        Err(AdminError::Unknown(What::DeadLetter))
    }

    /// Stores dead letters in their station, if they are valid now; a record that was stored is no longer a dead
    /// letter.
    pub async fn replay_dead_letters(
        &self,
        station: &str,
        which: DeadLetterSelection,
    ) -> Result<ReplayReport, AdminError> {
        let name = name_of::<StationDocument>(station)?;
        check_selection(&which)?;
        let snapshot = self.snapshot().await?;
        self.describe(&snapshot, &name).await?;
        let schema = current_schema(&snapshot, &name).await;
        let replay = Arc::new(Replay { service: self.clone(), snapshot, name: name.clone(), schema });
        let mut report = ReplayReport { replayed: 0, failed: Vec::new() };
        if let Some(ids) = which.ids {
            for id in ids {
                match self.letter(&name, id).await? {
                    Some(letter) => Arc::clone(&replay).add(letter, &mut report).await,
                    None => report.failed.push(ReplayFailure { id, error: "there is no such dead letter".to_owned() }),
                }
            }
            return Ok(report);
        }
        // So many are there now: dead letters that come meanwhile are left for the next call.
        let there = match self.0.streams.describe(&name.dead_letters(), None).await {
            Ok(letters) => usize::try_from(letters.records).unwrap_or(usize::MAX),
            Err(StreamsError::Unknown) => 0,
            Err(error) => return Err(error.into()),
        };
        let (mut left, mut after) = (there.min(DEAD_LETTERS_PER_CALL_MAX), 0);
        while left > 0 {
            let letters = self.0.records.read(&name.dead_letters(), after, left.min(DEAD_LETTERS_PAGE)).await?;
            let Some(last) = letters.last() else { break };
            after = last.sequence;
            left = left.saturating_sub(letters.len());
            for letter in letters {
                Arc::clone(&replay).add(letter, &mut report).await;
            }
        }
        Ok(report)
    }

    /// Removes dead letters.
    pub async fn purge_dead_letters(
        &self,
        station: &str,
        which: DeadLetterSelection,
    ) -> Result<PurgeReport, AdminError> {
        let name = name_of::<StationDocument>(station)?;
        check_selection(&which)?;
        let purged = match self.0.records.discard(&name.dead_letters(), which.ids.as_deref()).await {
            Ok(purged) => purged,
            Err(StreamsError::Unknown) => 0,
            Err(error) => return Err(error.into()),
        };
        if purged == 0 {
            self.exists(&name).await?;
        }
        Ok(PurgeReport { purged })
    }

    /// Returns whether there is such a station, or something is known of one.
    async fn exists(&self, name: &Name) -> Result<(), AdminError> {
        let snapshot = self.snapshot().await?;
        if snapshot.stations.get(name).is_some() {
            return Ok(());
        }
        self.describe(&snapshot, name).await.map(drop)
    }

    async fn letter(&self, name: &Name, id: u64) -> Result<Option<StoredDeadLetter>, AdminError> {
        let Some(before) = id.checked_sub(1) else { return Ok(None) };
        let letters = self.0.records.read(&name.dead_letters(), before, 1).await?;
        Ok(letters.into_iter().find(|letter| letter.sequence == id))
    }
}

/// What all dead letters of one replay have in common.
#[derive(Debug)]
struct Replay {
    service: AdminService,
    snapshot: Arc<Snapshot>,
    name: Name,
    /// The schema that they have to be valid by; the error says why none is.
    schema: Result<Option<Arc<Schema>>, String>,
}

impl Replay {
    /// Replays one dead letter, to the end also where the caller goes away meanwhile: what is stored again must not
    /// stay a dead letter.
    async fn add(self: Arc<Self>, letter: StoredDeadLetter, report: &mut ReplayReport) {
        let id = letter.sequence;
        let replaying = tokio::spawn(async move { self.run(letter).await });
        match replaying.await.unwrap_or_else(|_| Err("the gateway failed: look whether it was stored".to_owned())) {
            Ok(()) => report.replayed += 1,
            Err(error) => report.failed.push(ReplayFailure { id, error }),
        }
    }

    /// Stores one dead letter in its station, and removes it from the dead letters. The message id keeps a replay that
    /// is cut off between the two from storing it twice within the station's duplicate window.
    async fn run(&self, letter: StoredDeadLetter) -> Result<(), String> {
        let Self { service, snapshot, name, schema } = self;
        let records = &service.0.records;
        let id = letter.sequence;
        let encoding = encoding(&letter.headers);
        let mut headers = Vec::new();
        fields::append_own_fields(&letter.headers, &mut headers);
        let payload = match schema {
            Ok(None) => letter.payload,
            Ok(Some(schema)) => {
                let (payload, checked) = valid(Arc::clone(schema), letter.payload, encoding).await?;
                if checked == Checked::Transcoded {
                    headers = fields::with_media_type(&headers, Some(PROTOBUF_MEDIA_TYPE));
                }
                payload
            }
            Err(fault) => return Err(fault.clone()),
        };
        let message = fields::id_of_replayed(name.as_str(), id, letter.time_ms);
        let stored = records.store(name, adopted(snapshot, name), (&headers, &payload), &message).await;
        stored.map_err(|error| words(&error))?;
        let discarded = records.discard(&name.dead_letters(), Some(&[id])).await;
        discarded.map(drop).map_err(|error| format!("it was stored, and is still a dead letter: {}", words(&error)))
    }
}

fn check_selection(which: &DeadLetterSelection) -> Result<(), AdminError> {
    if which.ids.as_ref().is_some_and(|ids| ids.len() > DEAD_LETTERS_PER_CALL_MAX) {
        return Err(AdminError::Invalid(format!("at most {DEAD_LETTERS_PER_CALL_MAX} dead letters at a time")));
    }
    Ok(())
}

/// Returns the active schema of a station, compiled for this call. The error says why no record is valid.
async fn current_schema(snapshot: &Snapshot, name: &Name) -> Result<Option<Arc<Schema>>, String> {
    if snapshot.stations.unknown().any(|unknown| unknown == *name) {
        return Err("what the registry says of this station cannot be read here".to_owned());
    }
    let Some(schema) = snapshot.stations.get(name).and_then(|entry| entry.document.schema.clone()) else {
        return Ok(None);
    };
    let source = snapshot.schemas.get(&schema).and_then(|entry| entry.document.source(entry.document.active));
    let source = source.ok_or_else(|| format!("the station's schema {schema} is not in the registry"))?;
    let compiled = schema_compiler::compile(source, 1).await.map_err(|fault| format!("schema {schema}: {fault}"))?;
    Ok(compiled.into_iter().next().map(Arc::new))
}

/// Returns what is to be stored of a record, if it is valid.
async fn valid(schema: Arc<Schema>, payload: Vec<u8>, encoding: Encoding) -> Result<(Vec<u8>, Checked), String> {
    let check = tokio::task::spawn_blocking(move || {
        let mut transcoded = Vec::new();
        match schema.check(&payload, encoding, &mut Scratch::default(), &mut transcoded) {
            Ok(Checked::AsIs) => Ok((payload, Checked::AsIs)),
            Ok(Checked::Transcoded) => Ok((transcoded, Checked::Transcoded)),
            Err(violation) => Err(violation.to_string()),
        }
    });
    check.await.unwrap_or_else(|_| Err("the validator broke down".to_owned()))
}

/// How the record of a dead letter is encoded. One that failed validation is as it was sent. One that was delivered too
/// often is as it was stored, which may be in another form than its media type says.
fn encoding(block: &[u8]) -> Encoding {
    if fields::DeadLetterFields::read(block).is_some_and(|letter| letter.kind == fields::Kind::Deliveries) {
        return Encoding::Unsaid;
    }
    let field = fields::fields(block).find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    let kind = field.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
    Encoding::of_media_type(kind.as_deref().map(|kind| kind.split(';').next().unwrap_or_default().trim_ascii()))
}

fn words(error: &StreamsError) -> String {
    match error {
        StreamsError::Exists => "the station is another now".to_owned(),
        StreamsError::Unknown => "the station is gone".to_owned(),
        StreamsError::Invalid(text) | StreamsError::Missing(text) => text.clone(),
        StreamsError::Failed(
            Reject::BrokerRefused(_, text) | Reject::BrokerFailed(text) | Reject::StreamFull(text),
        ) => text.to_string(),
        StreamsError::Failed(reject) => reject.to_string(),
    }
}

fn view(stored: StoredDeadLetter) -> DeadLetterView {
    let StoredDeadLetter { sequence, time_ms, headers, payload } = stored;
    let (message, message_base64) = match String::from_utf8(payload) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    let mut own = Vec::new();
    fields::append_own_fields(&headers, &mut own);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers_shown = fields::fields(&own).map(|(name, value)| (text(name), text(value))).collect();
    // What somebody else has stored there says nothing of its encoding.
    let said = fields::DeadLetterFields::read(&headers);
    let kind = match said.as_ref().map(|said| said.kind) {
        Some(fields::Kind::Deliveries) => DeadLetterKind::Deliveries,
        Some(fields::Kind::Schema) | None => DeadLetterKind::Schema,
    };
    let (schema, schema_version) = said.as_ref().and_then(|said| said.schema.clone()).unzip();
    DeadLetterView {
        id: sequence,
        kind,
        error: said.as_ref().map(|said| said.error.to_string()).unwrap_or_default(),
        schema: schema.map(Into::into),
        schema_version,
        group: said.as_ref().and_then(|said| said.group.as_deref()).map(str::to_owned),
        principal: said.as_ref().and_then(|said| said.principal.as_deref()).map(str::to_owned),
        time_ms: said.map(|said| said.time_ms).filter(|time| *time > 0).unwrap_or(time_ms),
        message,
        message_base64,
        headers: headers_shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_shown_with_the_records_own_headers() {
        let headers = b"Content-Type: application/json; charset=utf-8\r\nNats-Msg-Id: 7\r\nX-A: b:c\r\n\
            Sluicegate-Dead-Letter: deliveries\r\nSluicegate-Error: too often\r\nSluicegate-Schema: prices\r\n\
            Sluicegate-Schema-Version: 3\r\nSluicegate-Time: 42\r\nSluicegate-Group: g\r\nSluicegate-Principal: ann\r\n";
        let letter = |payload: &[u8]| StoredDeadLetter {
            sequence: 5,
            time_ms: 9,
            headers: headers.to_vec(),
            payload: payload.to_vec(),
        };
        let shown = view(letter(b"{}"));
        assert_eq!((shown.id, shown.kind, shown.error.as_str()), (5, DeadLetterKind::Deliveries, "too often"));
        assert_eq!((shown.schema.as_deref(), shown.schema_version, shown.time_ms), (Some("prices"), Some(3), 42));
        assert_eq!((shown.group.as_deref(), shown.principal.as_deref()), (Some("g"), Some("ann")));
        let expect = [("Content-Type", "application/json; charset=utf-8"), ("X-A", "b:c")];
        assert_eq!(shown.headers, expect.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!((shown.message.as_deref(), shown.message_base64), (Some("{}"), None));
        let shown = view(letter(&[0xff]));
        assert_eq!((shown.message, shown.message_base64.as_deref()), (None, Some("/w==")));
        let shown =
            view(StoredDeadLetter { sequence: 1, time_ms: 9, headers: b"X-A: b\r\n".to_vec(), payload: Vec::new() });
        assert_eq!((shown.error.as_str(), shown.time_ms, shown.headers.len()), ("", 9, 1), "nothing is said of it");
    }

    #[test]
    fn a_record_is_read_as_it_was_posted_or_as_it_was_stored() {
        for (fields, expect) in [
            ("", Encoding::Unsaid),
            ("Sluicegate-Dead-Letter: schema\r\nContent-Type: application/x-protobuf\r\n", Encoding::Binary),
            ("content-type: Avro/Bytes\r\n", Encoding::Binary),
            ("Content-Type: application/json; charset=utf-8\r\n", Encoding::Json),
            ("Content-Type: application/json\r\nSluicegate-Dead-Letter: deliveries\r\n", Encoding::Unsaid),
        ] {
            assert_eq!(encoding(fields.as_bytes()), expect, "{fields}");
        }
    }
}
