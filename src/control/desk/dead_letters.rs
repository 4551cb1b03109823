//! Dead letters: read, replayed through validation again, purged.

use super::{
    Desk, DeskError, What, name_of,
    stations::adopted,
    views::{
        DeadLetterKind, DeadLetterSelection, DeadLetterView, Page, PageAsk, PurgeReport, ReplayFailure, ReplayReport,
    },
};
use crate::{
    control::{
        book::Book,
        documents::StationDocument,
        streams::{Letter, StreamsError},
        workshop,
    },
    limits::{DEAD_LETTERS_PAGE, DEAD_LETTERS_PER_CALL_MAX},
    reject::Reject,
    schema::{Checked, Encoding, Schema, Scratch},
    station::Name,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{collections::BTreeMap, sync::Arc};

/// A dead letter, taken apart.
#[derive(Debug, Default)]
struct Parts {
    /// What stands on it beside the record's own header fields, by name in lower case.
    marks: BTreeMap<String, String>,
    /// The record's own header fields.
    headers: Vec<(String, String)>,
}

impl Desk {
    /// Dead letters of a station, oldest first.
    pub async fn dead_letters(&self, station: &str, ask: &PageAsk) -> Result<Page<DeadLetterView>, DeskError> {
        let name = name_of::<StationDocument>(station)?;
        let after = match ask.after.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(after)) => after,
            Some(Err(_)) => return Err(DeskError::Invalid("a page of dead letters begins after a number".to_owned())),
        };
        let limit = ask.limit.clamp(1, super::PAGE_MAX);
        // One more, to know whether there is a next page.
        let mut letters = self.0.streams.read(&name.dead_letters(), after, limit + 1).await?;
        if letters.is_empty() {
            self.exists(&name).await?;
        }
        let more = match letters.last() {
            _ if letters.len() > limit => true,
            // Large ones come a few at a time: fewer than were asked for need not be all.
            Some(last) => !self.0.streams.read(&name.dead_letters(), last.sequence, 1).await?.is_empty(),
            None => false,
        };
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(|letter| letter.sequence.to_string());
        Ok(Page { items: letters.into_iter().map(view).collect(), next })
    }

    /// One dead letter.
    pub async fn dead_letter(&self, station: &str, id: u64) -> Result<DeadLetterView, DeskError> {
        let name = name_of::<StationDocument>(station)?;
        if let Some(letter) = self.letter(&name, id).await? {
            return Ok(view(letter));
        }
        self.exists(&name).await?;
        Err(DeskError::Unknown(What::DeadLetter))
    }

    /// Stores dead letters in their station, if they are valid now; what was stored is a dead letter no longer.
    pub async fn replay_dead_letters(
        &self,
        station: &str,
        which: DeadLetterSelection,
    ) -> Result<ReplayReport, DeskError> {
        let name = name_of::<StationDocument>(station)?;
        check_selection(&which)?;
        let book = self.book().await?;
        self.describe(&book, &name).await?;
        let schema = current_schema(&book, &name).await;
        let mut report = ReplayReport { replayed: 0, failed: Vec::new() };
        if let Some(ids) = which.ids {
            for id in ids {
                match self.letter(&name, id).await? {
                    Some(letter) => self.replay(&book, &name, &schema, letter, &mut report).await,
                    None => report.failed.push(ReplayFailure { id, error: "there is no such dead letter".to_owned() }),
                }
            }
            return Ok(report);
        }
        // What comes meanwhile is for the next time.
        let (until, mut after) = (super::now_ms(), 0);
        for _ in 0..DEAD_LETTERS_PER_CALL_MAX.div_ceil(DEAD_LETTERS_PAGE) {
            let letters = self.0.streams.read(&name.dead_letters(), after, DEAD_LETTERS_PAGE).await?;
            let Some(last) = letters.last() else { break };
            after = last.sequence;
            for letter in letters.into_iter().filter(|letter| letter.time_ms <= until) {
                self.replay(&book, &name, &schema, letter, &mut report).await;
            }
        }
        Ok(report)
    }

    /// Removes dead letters.
    pub async fn purge_dead_letters(
        &self,
        station: &str,
        which: DeadLetterSelection,
    ) -> Result<PurgeReport, DeskError> {
        let name = name_of::<StationDocument>(station)?;
        check_selection(&which)?;
        self.exists(&name).await?;
        match self.0.streams.discard(&name.dead_letters(), which.ids.as_deref()).await {
            Ok(purged) => Ok(PurgeReport { purged }),
            Err(StreamsError::Unknown) => Ok(PurgeReport { purged: 0 }),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is such a station, or something is known of one.
    async fn exists(&self, name: &Name) -> Result<(), DeskError> {
        let book = self.book().await?;
        if book.stations.get(name).is_some() {
            return Ok(());
        }
        self.describe(&book, name).await.map(drop)
    }

    async fn letter(&self, name: &Name, id: u64) -> Result<Option<Letter>, DeskError> {
        let Some(before) = id.checked_sub(1) else { return Ok(None) };
        let letters = self.0.streams.read(&name.dead_letters(), before, 1).await?;
        Ok(letters.into_iter().find(|letter| letter.sequence == id))
    }

    /// Stores one dead letter, and removes it from among them. The message id keeps a replay that is cut off between the two
    /// from storing it twice within the station's window.
    async fn replay(
        &self,
        book: &Book,
        name: &Name,
        schema: &Result<Option<Arc<Schema>>, String>,
        letter: Letter,
        report: &mut ReplayReport,
    ) {
        let id = letter.sequence;
        let result = async {
            let parts = parts(&letter.headers);
            let payload = match schema {
                Ok(None) => letter.payload,
                Ok(Some(schema)) => valid(Arc::clone(schema), letter.payload, encoding(&parts)).await?,
                Err(fault) => return Err(fault.clone()),
            };
            let headers: Vec<u8> =
                parts.headers.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()).collect();
            let message = format!("dead-letter-{name}-{id}");
            let stored = self.0.streams.store(name, adopted(book, name), &headers, &payload, &message).await;
            stored.map_err(|error| words(&error))?;
            match self.0.streams.discard(&name.dead_letters(), Some(&[id])).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("it was stored, and is still a dead letter: {}", words(&error))),
            }
        };
        match result.await {
            Ok(()) => report.replayed += 1,
            Err(error) => report.failed.push(ReplayFailure { id, error }),
        }
    }
}

fn check_selection(which: &DeadLetterSelection) -> Result<(), DeskError> {
    if which.ids.as_ref().is_some_and(|ids| ids.len() > DEAD_LETTERS_PER_CALL_MAX) {
        return Err(DeskError::Invalid(format!("at most {DEAD_LETTERS_PER_CALL_MAX} dead letters at a time")));
    }
    Ok(())
}

/// The schema in force of a station, compiled for this call. An error says why no record is valid.
async fn current_schema(book: &Book, name: &Name) -> Result<Option<Arc<Schema>>, String> {
    if book.stations.unknown().any(|unknown| unknown == *name) {
        return Err("what the registry says of this station cannot be read here".to_owned());
    }
    let Some(schema) = book.stations.get(name).and_then(|entry| entry.document.schema.clone()) else { return Ok(None) };
    let source = book.schemas.get(&schema).and_then(|entry| entry.document.source(entry.document.active));
    let source = source.ok_or_else(|| format!("the station's schema {schema} is not in the registry"))?;
    let compiled = workshop::compile(source, 1).await.map_err(|fault| format!("schema {schema}: {fault}"))?;
    Ok(compiled.into_iter().next().map(Arc::new))
}

/// What is to be stored of a record, if it is valid.
async fn valid(schema: Arc<Schema>, payload: Vec<u8>, encoding: Encoding) -> Result<Vec<u8>, String> {
    let check = tokio::task::spawn_blocking(move || {
        let mut transcoded = Vec::new();
        match schema.check(&payload, encoding, &mut Scratch::default(), &mut transcoded) {
            Ok(Checked::AsIs) => Ok(payload),
            Ok(Checked::Transcoded) => Ok(transcoded),
            Err(violation) => Err(violation.to_string()),
        }
    });
    check.await.unwrap_or_else(|_| Err("the validator broke down".to_owned()))
}

/// How a record is written, as far as its media type says.
fn encoding(parts: &Parts) -> Encoding {
    let field = parts.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let media = field.map_or("", |(_, value)| value).split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match media.as_str() {
        "application/x-protobuf" | "application/protobuf" | "avro/bytes" | "application/octet-stream" => {
            Encoding::Binary
        }
        media if media.contains("json") || media.starts_with("text/") => Encoding::Json,
        _ => Encoding::Unsaid,
    }
}

fn words(error: &StreamsError) -> String {
    match error {
        StreamsError::Exists => "the station is another now".to_owned(),
        StreamsError::Unknown => "the station is gone".to_owned(),
        StreamsError::Invalid(text) => text.clone(),
        StreamsError::Failed(Reject::BrokerRefused(_, text) | Reject::StreamFull(text)) => text.to_string(),
        StreamsError::Failed(reject) => format!("it was not stored: {reject:?}"),
    }
}

/// Takes the header fields of a dead letter apart.
fn parts(block: &[u8]) -> Parts {
    let mut parts = Parts::default();
    for line in String::from_utf8_lossy(block).split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim(), value.trim().to_owned());
        let lower = name.to_ascii_lowercase();
        match lower.strip_prefix("sluicegate-") {
            Some(mark) => drop(parts.marks.insert(mark.to_owned(), value)),
            // The broker's own are of the letter, not of the record.
            None if lower.starts_with("nats-") => {}
            None => parts.headers.push((name.to_owned(), value)),
        }
    }
    parts
}

fn view(letter: Letter) -> DeadLetterView {
    let Letter { sequence, time_ms, headers, payload } = letter;
    let Parts { mut marks, headers } = parts(&headers);
    let kind = match marks.get("dead-letter").map(String::as_str) {
        Some("deliveries") => DeadLetterKind::Deliveries,
        _ => DeadLetterKind::Schema,
    };
    let (message, message_base64) = match String::from_utf8(payload) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    DeadLetterView {
        id: sequence,
        kind,
        error: marks.remove("error").unwrap_or_default(),
        schema: marks.remove("schema"),
        schema_version: marks.get("schema-version").and_then(|text| text.parse().ok()),
        group: marks.remove("group"),
        principal: marks.remove("principal"),
        time_ms: marks.get("time").and_then(|text| text.parse().ok()).unwrap_or(time_ms),
        message,
        message_base64,
        headers: headers.into_iter().collect(),
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
        let letter =
            |payload: &[u8]| Letter { sequence: 5, time_ms: 9, headers: headers.to_vec(), payload: payload.to_vec() };
        let shown = view(letter(b"{}"));
        assert_eq!((shown.id, shown.kind, shown.error.as_str()), (5, DeadLetterKind::Deliveries, "too often"));
        assert_eq!((shown.schema.as_deref(), shown.schema_version, shown.time_ms), (Some("prices"), Some(3), 42));
        assert_eq!((shown.group.as_deref(), shown.principal.as_deref()), (Some("g"), Some("ann")));
        let expect = [("Content-Type", "application/json; charset=utf-8"), ("X-A", "b:c")];
        assert_eq!(shown.headers, expect.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!((shown.message.as_deref(), shown.message_base64), (Some("{}"), None));
        let shown = view(letter(&[0xff]));
        assert_eq!((shown.message, shown.message_base64.as_deref()), (None, Some("/w==")));
        assert_eq!(encoding(&parts(headers)), Encoding::Json);
    }

    #[test]
    fn the_media_type_says_how_a_record_is_written() {
        for (field, expect) in [
            ("", Encoding::Unsaid),
            ("Content-Type: application/x-protobuf\r\n", Encoding::Binary),
            ("content-type: avro/bytes\r\n", Encoding::Binary),
            ("Content-Type: text/plain\r\n", Encoding::Json),
            ("Content-Type: application/cloudevents+json\r\n", Encoding::Json),
            ("Content-Type: image/png\r\n", Encoding::Unsaid),
        ] {
            assert_eq!(encoding(&parts(field.as_bytes())), expect, "{field}");
        }
    }
}
