//! The bodies of a run, made before it begins.
//!
//! Several variants are made and sent in turn, so that neither a cache nor a compressor sees one body over and over;
//! how many is bounded by memory. The made-up events are the same in every run.

use super::args::{Consume, PayloadSource, Produce};
use libdeflater::{CompressionLvl, Compressor};
use serde_json::json;
use std::{fs, path::Path};

/// One request body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    /// The bytes that are sent, perhaps compressed.
    pub(super) wire: Vec<u8>,
    /// Records in it; 0 for a request that fetches.
    pub(super) records: u32,
    /// Bytes of their payloads, uncompressed and without what holds a batch together.
    pub(super) payload_bytes: u64,
}

/// The bodies that a producing run sends in turn, at least one.
pub(super) fn produce_bodies(produce: &Produce) -> Result<Vec<Body>, String> {
    let count = produce.batch.unwrap_or(1);
    let plain: Vec<Body> = match &produce.source {
        PayloadSource::Size(size) => {
            let variants = (BODIES_BYTES_MAX / count.saturating_mul(*size).max(1)).clamp(1, VARIANTS_MAX);
            if count.saturating_mul(*size) > BODIES_BYTES_MAX {
                return Err(format!("a body of {count} × {size} bytes is more than any gateway takes"));
            }
            let mut events = Events::default();
            (0..variants)
                .map(|_| {
                    let records: Vec<Vec<u8>> = (0..count).map(|_| events.next_of(*size)).collect();
                    body(&records, produce.batch.is_some())
                })
                .collect()
        }
        PayloadSource::File(path) => {
            let lines = read_lines(path)?;
            lines.chunks(count).map(|records| body(records, produce.batch.is_some())).collect()
        }
    };
    if !produce.gzip {
        return Ok(plain);
    }
    plain.into_iter().map(|body| Ok(Body { wire: gzip(&body.wire)?, ..body })).collect()
}

/// The body of every fetching request.
pub(super) fn consume_body(consume: &Consume) -> Body {
    let wire = json!({
        "consumer_name": "bench",
        "consumer_group": consume.group.as_str(),
        "batch_size": consume.batch,
        "batch_max_wait_time_ms": consume.wait.as_millis(),
    });
    Body { wire: wire.to_string().into_bytes(), records: 0, payload_bytes: 0 }
}

fn body(records: &[Vec<u8>], is_batch: bool) -> Body {
    let payload_bytes: usize = records.iter().map(Vec::len).sum();
    let wire = if is_batch {
        [b"[".as_slice(), &records.join(&b','), b"]"].concat()
    } else {
        records.first().cloned().unwrap_or_default()
    };
    let counted = u32::try_from(records.len()).expect("BATCH_RECORDS_MAX, which bounds a batch, is under 2^32");
    Body { wire, records: counted, payload_bytes: payload_bytes as u64 }
}

/// One payload a line; empty lines do not count.
fn read_lines(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let broken = |error: std::io::Error| format!("{}: {error}", path.display());
    if fs::metadata(path).map_err(broken)?.len() > FILE_BYTES_MAX {
        return Err(format!("{}: over {} MiB", path.display(), FILE_BYTES_MAX / 1024 / 1024));
    }
    let text = fs::read(path).map_err(broken)?;
    let mut records = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(line) {
            return Err(format!("{}: line {}: {error}", path.display(), number + 1));
        }
        records.push(line.to_vec());
    }
    if records.is_empty() { Err(format!("{}: no line in it", path.display())) } else { Ok(records) }
}

fn gzip(plain: &[u8]) -> Result<Vec<u8>, String> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut packed = vec![0; compressor.gzip_compress_bound(plain.len())];
    let length = compressor.gzip_compress(plain, &mut packed).map_err(|error| error.to_string())?;
    packed.truncate(length);
    Ok(packed)
}

/// Made-up change events: numbered, with a text in them that compresses as real ones do, neither well nor badly.
#[derive(Debug)]
struct Events {
    number: u64,
    random: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self { number: 0, random: 0x9E37_79B9_7F4A_7C15 }
    }
}

impl Events {
    /// The next event, of exactly `size` bytes (at least [`super::args::SIZE_MIN`]).
    fn next_of(&mut self, size: usize) -> Vec<u8> {
        self.number = (self.number + 1) % NUMBERS;
        let mut event = format!("{{\"id\":{:06}", NUMBERS + self.number).into_bytes();
        let fields = format!(",\"type\":\"order.changed\",\"at\":\"2026-01-01T00:00:{:02}Z\"", self.number % 60);
        if event.len() + fields.len() + TEXT_BEGIN.len() + TEXT_END.len() <= size {
            event.extend_from_slice(fields.as_bytes());
        }
        if event.len() + TEXT_BEGIN.len() + TEXT_END.len() <= size {
            event.extend_from_slice(TEXT_BEGIN);
            while event.len() + TEXT_END.len() < size {
                event.push(self.letter());
            }
            event.extend_from_slice(TEXT_END);
        } else {
            // Too short for a text: white space before the end is JSON as well.
            event.resize(size - 1, b' ');
            event.push(b'}');
        }
        event
    }

    /// xorshift64*, by way of sixteen letters and spaces.
    fn letter(&mut self) -> u8 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let nibble = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 60;
        LETTERS.get(usize::try_from(nibble).unwrap_or(0)).copied().unwrap_or(b' ')
    }
}

const TEXT_BEGIN: &[u8] = b",\"text\":\"";
const TEXT_END: &[u8] = b"\"}";
const LETTERS: &[u8; 16] = b"etaoinshrdlu  cm";
/// Events are numbered below this, so that every number has as many digits.
const NUMBERS: u64 = 100_000;
/// Bodies that are made, of one run.
const VARIANTS_MAX: usize = 64;
/// Bytes of all of them.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a payload file.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::{super::args::SIZE_MIN, *};
    use serde_json::Value;
    use std::{io::Write, path::PathBuf};

    fn produce(batch: Option<usize>, source: PayloadSource) -> Produce {
        Produce { batch, source, gzip: false, message_id: false }
    }

    #[test]
    fn an_event_is_json_of_exactly_the_size_asked_for() {
        for size in SIZE_MIN..600 {
            let mut events = Events::default();
            for _ in 0..3 {
                let event = events.next_of(size);
                assert_eq!(event.len(), size);
                let value: Value = serde_json::from_slice(&event).expect("an event is JSON");
                assert!(value.get("id").is_some_and(Value::is_u64), "{value}");
            }
        }
    }

    #[test]
    fn a_batch_is_an_array_of_as_many_records() {
        let bodies = produce_bodies(&produce(Some(100), PayloadSource::Size(256))).unwrap();
        assert_eq!(bodies.len(), VARIANTS_MAX);
        for body in &bodies {
            let list: Vec<Value> = serde_json::from_slice(&body.wire).unwrap();
            assert_eq!((list.len(), body.records, body.payload_bytes), (100, 100, 25_600));
        }
        assert_ne!(bodies[0], bodies[1], "variants differ");
    }

    #[test]
    fn a_single_record_is_its_payload() {
        let bodies = produce_bodies(&produce(None, PayloadSource::Size(64))).unwrap();
        assert!(bodies.iter().all(|body| body.wire.len() == 64 && body.records == 1 && body.payload_bytes == 64));
    }

    #[test]
    fn a_batch_that_no_gateway_takes_is_refused_before_it_is_built() {
        assert!(produce_bodies(&produce(Some(100_000), PayloadSource::Size(1 << 20))).is_err());
    }

    #[test]
    fn the_lines_of_a_file_are_kept_as_they_are() {
        let (_keep, path) = file("{\"a\": 1.0}\n\n[2]\r\n3");
        let bodies = produce_bodies(&produce(Some(2), PayloadSource::File(path))).unwrap();
        let wires: Vec<&[u8]> = bodies.iter().map(|body| body.wire.as_slice()).collect();
        assert_eq!(wires, [b"[{\"a\": 1.0},[2]]".as_slice(), b"[3]"]);
        assert_eq!(bodies.iter().map(|body| body.records).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_file_without_a_record_or_with_a_broken_one_is_refused() {
        for text in ["", "\n \n", "{\"a\":1}\n{\"b\""] {
            let (_keep, path) = file(text);
            assert!(produce_bodies(&produce(None, PayloadSource::File(path))).is_err(), "{text:?}");
        }
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, PathBuf) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().to_owned();
        (file, path)
    }

    #[test]
    fn a_compressed_body_is_smaller_and_counts_as_much() {
        let plain = produce_bodies(&produce(Some(50), PayloadSource::Size(256))).unwrap();
        let packed = produce_bodies(&Produce { gzip: true, ..produce(Some(50), PayloadSource::Size(256)) }).unwrap();
        assert!(packed[0].wire.starts_with(&[0x1F, 0x8B]));
        assert!(packed[0].wire.len() < plain[0].wire.len() * 3 / 4);
        assert_eq!(packed[0].payload_bytes, plain[0].payload_bytes);
    }
}
