//! Single records of a station's streams: read in their order, removed, stored.

use super::{
    CALLS_AT_ONCE, NatsStreams, failed, keep,
    provision::{self, PartitionStream},
    refused,
};
use crate::{
    config::Layout,
    control::{
        nats::client::{CallError, NatsClient, codes},
        streams::{Adopted, Answer, RecordStore, StoredDeadLetter, StreamsError},
    },
    limits::DEAD_LETTERS_BYTES_MAX,
    record::{MessageId, placement},
    reject::Reject,
    station::Name,
};
use async_nats::{HeaderMap, HeaderName, HeaderValue, jetstream::stream::RawMessage};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

/// The header field of a message id.
const ID_FIELD: &str = "Nats-Msg-Id";

impl RecordStore for NatsStreams {
    fn read<'a>(&'a self, name: &'a Name, after: u64, limit: usize) -> Answer<'a, Vec<StoredDeadLetter>> {
        Box::pin(read(&self.broker, self.settings.layout, name, after, limit))
    }

    fn discard<'a>(&'a self, name: &'a Name, sequences: Option<&'a [u64]>) -> Answer<'a, u64> {
        Box::pin(discard(&self.broker, self.settings.layout, name, sequences))
    }

    fn store<'a>(
        &'a self,
        name: &'a Name,
        adopted: Option<&'a Adopted>,
        record: (&'a [u8], &'a [u8]),
        id: &'a str,
    ) -> Answer<'a, ()> {
        Box::pin(store(&self.broker, self.settings.layout, name, adopted, record, id))
    }
}

async fn read(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredDeadLetter>, StreamsError> {
    #[derive(Deserialize)]
    struct Answer {
        message: RawMessage,
    }
    let Some(PartitionStream { subject, info }) = only_part(broker, layout, name).await? else {
        return Ok(Vec::new());
    };
    let verb = format!("STREAM.MSG.GET.{}", info.config.name);
    let (mut letters, mut bytes, mut next) = (Vec::new(), 0, after.saturating_add(1));
    while letters.len() < limit && bytes < DEAD_LETTERS_BYTES_MAX {
        let ask = json!({ "seq": next, "next_by_subj": subject });
        let message = match broker.call::<Answer>(&verb, &ask).await {
            Ok(answer) => answer.message,
            Err(CallError::Refused(codes::NO_MESSAGE, _)) => break,
            // The record was removed meanwhile.
            Err(error) if error.is_absent() => break,
            Err(error) => return Err(refused(error)),
        };
        next = message.sequence.saturating_add(1);
        let letter = letter(&message)?;
        bytes += letter.headers.len() + letter.payload.len();
        letters.push(letter);
    }
    Ok(letters)
}

fn letter(message: &RawMessage) -> Result<StoredDeadLetter, StreamsError> {
    let decode = |text: &str| {
        STANDARD.decode(text).map_err(|_| {
            StreamsError::Failed(Reject::BrokerFailed("the broker's answer does not parse: no base64".into()))
        })
    };
    let block = decode(message.headers.as_deref().unwrap_or_default())?;
    Ok(StoredDeadLetter {
        sequence: message.sequence,
        time_ms: u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
        headers: fields(&block).to_vec(),
        payload: decode(&message.payload)?,
    })
}

/// Returns the fields of a header block, without the line of the version and the empty line at its end.
fn fields(block: &[u8]) -> &[u8] {
    let line_end = block.windows(2).position(|pair| pair == b"\r\n");
    let rest = line_end.and_then(|at| block.get(at + 2..)).unwrap_or_default();
    rest.strip_suffix(b"\r\n").unwrap_or(rest)
}

async fn discard(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    sequences: Option<&[u64]>,
) -> Result<u64, StreamsError> {
    #[derive(Deserialize)]
    struct Purged {
        #[serde(default)]
        purged: u64,
    }
    let Some(PartitionStream { subject, info }) = only_part(broker, layout, name).await? else { return Ok(0) };
    let stream = &info.config.name;
    let Some(sequences) = sequences else {
        let answer = broker.call::<Purged>(&format!("STREAM.PURGE.{stream}"), &json!({ "filter": subject })).await;
        return answer.map(|answer| answer.purged).map_err(refused);
    };
    let verb = &format!("STREAM.MSG.DELETE.{stream}");
    let delete = |sequence: u64| async move {
        // The record is not overwritten with noise: that costs a write for each, and the block goes in time.
        match broker.call::<IgnoredAny>(verb, &json!({ "seq": sequence, "no_erase": true })).await {
            Ok(_) => Ok(1),
            Err(CallError::Refused(codes::NO_MESSAGE | codes::SEQUENCE_NOT_FOUND, _)) => Ok(0),
            Err(error) => Err(refused(error)),
        }
    };
    let count = |sum, one| async move { Ok(sum + one) };
    // For a sequence beyond the end the broker answers with the words of its files.
    let there = sequences.iter().copied().filter(|sequence| (1..=info.state.last_seq).contains(sequence));
    stream::iter(there.collect::<Vec<u64>>()).map(delete).buffered(CALLS_AT_ONCE).try_fold(0, count).await
}

async fn store(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    adopted: Option<&Adopted>,
    record: (&[u8], &[u8]),
    id: &str,
) -> Result<(), StreamsError> {
    let (block, payload) = record;
    let parts = provision::locate(broker, layout, name, adopted, None).await.map_err(failed)?;
    // Chosen as the data path would: a record that is sent there under this id meets the same duplicate window.
    let chosen = placement::choose(Some(MessageId { base: id, numbered: None }), 0, 0, parts.len());
    let part = parts.get(usize::from(chosen)).ok_or(StreamsError::Unknown)?;
    let headers = header_map(block, id)?;
    keep(broker, name, std::slice::from_ref(part)).await?;
    broker.publish(&part.subject, headers, payload.to_vec()).await.map_err(refused)
}

/// Returns the fields, `Name: value\r\n` each, and the message id; another id that stands among them is left out.
fn header_map(block: &[u8], id: &str) -> Result<HeaderMap, StreamsError> {
    let wrong = |what: &str| StreamsError::Invalid(format!("a header field cannot be stored: {what}"));
    let mut headers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8"))?;
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("it has no colon"))?;
        if name.eq_ignore_ascii_case(ID_FIELD) {
            continue;
        }
        let name: HeaderName = name.parse().map_err(|_| wrong("its name"))?;
        let value: HeaderValue = value.trim_ascii().parse().map_err(|_| wrong("its value"))?;
        headers.append(name, value);
    }
    headers.insert(ID_FIELD, id);
    Ok(headers)
}

/// Returns the stream of a station of one partition, if it exists.
async fn only_part(broker: &NatsClient, layout: Layout, name: &Name) -> Result<Option<PartitionStream>, StreamsError> {
    match provision::locate(broker, layout, name, None, None).await {
        Ok(parts) if parts.len() == 1 => Ok(parts.into_iter().next()),
        Ok(_) => Err(StreamsError::Invalid(format!("the station {:?} has several partitions", name.as_str()))),
        Err(Reject::StationUnknown(_)) => Ok(None),
        Err(reject) => Err(failed(reject)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_between_version_and_empty_line() {
        for (block, expect) in [
            (&b"NATS/1.0\r\nA: b\r\nC: d\r\n\r\n"[..], &b"A: b\r\nC: d\r\n"[..]),
            (b"NATS/1.0\r\n\r\n", b""),
            (b"NATS/1.0\r\n", b""),
            (b"", b""),
            (b"no line", b""),
        ] {
            assert_eq!(fields(block), expect);
        }
    }

    #[test]
    fn header_fields_keep_their_names_and_the_id_is_the_one_that_is_given() {
        let headers = header_map(b"X-A: 1\r\nce-id: 2\r\nX-A: 3\r\nnats-msg-id: old\r\n", "new").expect("headers");
        let all = |name: &str| headers.get_all(name).map(|value| value.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (all("X-A"), all("ce-id"), all("Nats-Msg-Id")),
            (vec!["1".to_owned(), "3".to_owned()], vec!["2".to_owned()], vec!["new".to_owned()])
        );
        assert_eq!(all("nats-msg-id"), [""; 0]);
        for block in [&b"no colon\r\n"[..], b"X: \xff\r\n", b"\x01 x: y\r\n"] {
            assert!(matches!(header_map(block, "new"), Err(StreamsError::Invalid(_))), "{block:?}");
        }
    }
}
