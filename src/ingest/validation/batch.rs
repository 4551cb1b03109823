//! Validates the records of a batch by a schema, a time slice at a time. The valid ones stay; the others are set aside
//! with what is wrong. Pure.
//!
//! What is stored of a valid record may be other bytes than came (JSON on a Protobuf station); the spans then lie in a
//! buffer of their own. Nothing is copied and nothing allocated while records are valid and stored as they came.

use super::super::Encoding;
use crate::{
    directory::contracts::ActiveSchema,
    limits::{CHECKED_RECORD_BYTES_MAX, VIOLATION_BYTES_MAX, VIOLATION_BYTES_MIN, VIOLATIONS_BYTES_MAX},
    record::Outcome,
    reject::{Reject, SizeLimit},
    rt::clock,
    schema::{self, Checked, Scratch, Violation},
    wire::Span,
};
use std::{sync::Arc, time::Instant};

/// Bytes of records between two looks at the clock: what they may cost grows with them. The clock is read after each
/// larger record.
const CLOCK_EVERY_BYTES: usize = 512;

/// A record that is not stored.
#[derive(Debug)]
pub(super) struct Invalid {
    /// Its index in the request.
    pub(super) index: usize,
    /// Its payload, in the body.
    pub(super) payload: Span,
    /// Why it is not stored.
    pub(super) reject: Reject,
    /// The schema that it was validated by.
    pub(super) schema: Arc<ActiveSchema>,
}

/// The records of a request while they are validated by a schema.
#[derive(Debug)]
pub(super) struct BatchValidation<'a> {
    body: &'a [u8],
    encoding: Encoding,
    /// Up to `valid`: records that passed. From `next` on: records to come.
    records: Vec<Span>,
    valid: usize,
    next: usize,
    /// What is stored in place of the body, once there is a record that is not stored as it came.
    rewritten: Option<Vec<u8>>,
    /// Which of the valid records became other bytes, once there is one.
    transcoded: Vec<bool>,
    refused: Vec<Invalid>,
    /// Bytes of the texts of these rejects.
    text_bytes: usize,
}

impl<'a> BatchValidation<'a> {
    pub(super) fn new(body: &'a [u8], records: Vec<Span>, encoding: Encoding) -> Self {
        Self {
            body,
            encoding,
            records,
            valid: 0,
            next: 0,
            rewritten: None,
            transcoded: Vec::new(),
            refused: Vec::new(),
            text_bytes: 0,
        }
    }

    /// Returns how many records were validated.
    pub(super) fn looked_at(&self) -> usize {
        self.next
    }

    /// Returns whether every record was validated.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.records.len()
    }

    /// Returns the bytes held beside the body and [`crate::limits::RECORD_OVERHEAD_BYTES`] for each record.
    pub(super) fn bytes(&self) -> usize {
        self.text_bytes.min(VIOLATIONS_BYTES_MAX + VIOLATION_BYTES_MAX)
            + self.rewritten.as_ref().map_or(0, Vec::capacity)
            + self.transcoded.capacity()
            + self.refused.capacity() * size_of::<Invalid>()
    }

    /// Validates records by a schema until the time has come, but one at least.
    pub(super) fn turn(
        &mut self,
        schema: &Arc<ActiveSchema>,
        scratch: &mut Scratch,
        until: Instant,
    ) -> Result<(), Reject> {
        let encoding = self.encoding;
        let check = |record: &[u8], out: &mut Vec<u8>| schema.schema.check(record, encoding, scratch, out);
        self.turn_with(schema, check, || clock::now() >= until)
    }

    fn turn_with(
        &mut self,
        schema: &Arc<ActiveSchema>,
        mut check: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Checked, Violation>,
        is_over: impl Fn() -> bool,
    ) -> Result<(), Reject> {
        let mut fresh = Vec::new();
        let mut bytes = 0;
        while let Some(record) = self.records.get(self.next).copied() {
            if record.len() > CHECKED_RECORD_BYTES_MAX {
                self.refuse(schema, record, Reject::TooLarge(SizeLimit::Record, CHECKED_RECORD_BYTES_MAX as u64));
            } else {
                let out = self.rewritten.as_mut().unwrap_or(&mut fresh);
                let before = out.len();
                match check(record.of(self.body), out) {
                    Ok(Checked::AsIs) => self.keep(record, before)?,
                    Ok(Checked::Transcoded) => self.keep_rewritten(before, &mut fresh)?,
                    Err(violation) => {
                        out.truncate(before);
                        let text = self.text_of(&violation);
                        self.refuse(schema, record, Reject::Schema(text));
                    }
                }
            }
            // The smallest record is a byte, with a separator beside it.
            bytes += record.len() + CLOCK_EVERY_BYTES / 16;
            if bytes >= CLOCK_EVERY_BYTES {
                if is_over() {
                    break;
                }
                bytes = 0;
            }
        }
        Ok(())
    }

    /// No schema is active any more: the records that are left pass.
    pub(super) fn pass_the_rest(&mut self) -> Result<(), Reject> {
        while let Some(record) = self.records.get(self.next).copied() {
            let before = self.rewritten.as_ref().map_or(0, Vec::len);
            self.keep(record, before)?;
        }
        Ok(())
    }

    /// Keeps a valid record as it came.
    fn keep(&mut self, record: Span, before: usize) -> Result<(), Reject> {
        let span = match &mut self.rewritten {
            None => record,
            Some(out) => {
                out.truncate(before);
                self.transcoded.push(false);
                append(out, record.of(self.body))?
            }
        };
        self.keep_span(span);
        Ok(())
    }

    /// Keeps a valid record as what stands in the buffer from `before` on.
    fn keep_rewritten(&mut self, before: usize, fresh: &mut Vec<u8>) -> Result<(), Reject> {
        if self.rewritten.is_none() {
            // The first one: the records that passed before it have to lie in the same buffer.
            let mut out = std::mem::take(fresh);
            let end = out.len();
            for span in self.records.iter_mut().take(self.valid) {
                *span = append(&mut out, span.of(self.body))?;
            }
            self.rewritten = Some(out);
            self.transcoded.resize(self.valid, false);
            self.transcoded.push(true);
            self.keep_span(span(before, end)?);
            return Ok(());
        }
        let end = self.rewritten.as_ref().map_or(0, Vec::len);
        self.transcoded.push(true);
        self.keep_span(span(before, end)?);
        Ok(())
    }

    fn keep_span(&mut self, span: Span) {
        if let Some(slot) = self.records.get_mut(self.valid) {
            *slot = span;
        }
        self.valid += 1;
        self.next += 1;
    }

    fn refuse(&mut self, schema: &Arc<ActiveSchema>, payload: Span, reject: Reject) {
        self.refused.push(Invalid { index: self.next, payload, reject, schema: Arc::clone(schema) });
        self.next += 1;
    }

    /// Returns the text about a record, cut to what is left for the texts of the request.
    fn text_of(&mut self, violation: &Violation) -> Box<str> {
        let mut text = violation.to_string();
        let max = if self.text_bytes < VIOLATIONS_BYTES_MAX { VIOLATION_BYTES_MAX } else { VIOLATION_BYTES_MIN };
        if text.len() > max {
            // With the mark the text is no longer than that.
            schema::cut(&mut text, max - '…'.len_utf8());
        }
        self.text_bytes += text.len();
        text.into_boxed_str()
    }

    /// Returns the valid records: their spans, and what these point into.
    pub(super) fn passed(&self) -> (&[u8], &[Span]) {
        (self.rewritten.as_deref().unwrap_or(self.body), self.records.get(..self.valid).unwrap_or_default())
    }

    /// Returns which of the valid records became other bytes; empty if none did.
    pub(super) fn transcoded(&self) -> &[bool] {
        &self.transcoded
    }

    /// Returns which records of the request are valid, if not all are.
    pub(super) fn places(&self) -> Option<Vec<u32>> {
        let mut refused = self.refused.iter().map(|refused| refused.index).peekable();
        refused.peek()?;
        let passed = (0..self.records.len()).filter(|index| refused.next_if_eq(index).is_none());
        // A body has fewer records than a span holds.
        Some(passed.map(|index| u32::try_from(index).unwrap_or(u32::MAX)).collect())
    }

    /// Returns the records that are not valid, in input order.
    pub(super) fn refused(&self) -> &[Invalid] {
        &self.refused
    }

    /// Returns the body: the records as they came.
    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Says of a refused record, the `place`-th of them, that it is not kept as a dead letter.
    pub(super) fn too_large_for_a_letter(&mut self, place: usize) {
        if let Some(Invalid { reject: Reject::Schema(text), .. }) = self.refused.get_mut(place) {
            *text = format!("{text} (the record is too large to be kept as a dead letter)").into_boxed_str();
        }
    }

    /// Returns one outcome for each record, in input order. `outcomes` are those of the valid records.
    pub(super) fn merge(self, outcomes: Vec<Outcome>) -> Vec<Outcome> {
        if self.refused.is_empty() {
            return outcomes;
        }
        let count = self.records.len();
        let mut passed = outcomes.into_iter();
        let mut refused = self.refused.into_iter().peekable();
        let next = |index| match refused.next_if(|refused| refused.index == index) {
            Some(refused) => Outcome::Failed(refused.reject),
            None => passed.next().unwrap_or(Outcome::Failed(Reject::Internal("a record without an outcome"))),
        };
        (0..count).map(next).collect()
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Result<Span, Reject> {
    let start = out.len();
    out.extend_from_slice(bytes);
    span(start, out.len())
}

fn span(start: usize, end: usize) -> Result<Span, Reject> {
    let place = |at| u32::try_from(at).map_err(|_| Reject::Overloaded("memory for request bodies"));
    Ok(Span { start: place(start)?, end: place(end)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::testing::number_schema;
    use crate::record::Receipt;
    use crate::schema::Fault;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// What a pretended schema says of a record, by its first byte.
    fn pretend(record: &[u8], out: &mut Vec<u8>) -> Result<Checked, Violation> {
        match record.first() {
            Some(b'i') => {
                out.extend_from_slice(b"half of what was to be written");
                let text = String::from_utf8_lossy(record).into_owned();
                Err(Violation { faults: vec![Fault { path: String::new(), text }], more: 0 })
            }
            Some(b't') => {
                out.extend_from_slice(b"wire ");
                out.extend_from_slice(record);
                Ok(Checked::Transcoded)
            }
            _ => Ok(Checked::AsIs),
        }
    }

    /// A body of these records, and where they lie in it.
    fn body_of(records: &[String]) -> (Vec<u8>, Vec<Span>) {
        let mut body = Vec::new();
        let spans = records.iter().map(|record| append(&mut body, record.as_bytes()).unwrap()).collect();
        (body, spans)
    }

    fn passed(batch: &BatchValidation<'_>) -> Vec<String> {
        let (buffer, spans) = batch.passed();
        spans.iter().map(|span| String::from_utf8(span.of(buffer).to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_turn_ends_when_its_time_has_come_and_the_next_goes_on_with_another_schema() {
        let mut records: Vec<String> = ["a0", "i1", "a2", "a3", "a4", "i5", "t6"].map(str::to_owned).into();
        records[3].push_str(&"-".repeat(CLOCK_EVERY_BYTES));
        let (body, spans) = body_of(&records);
        let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
        let (first, second) = (number_schema(1), number_schema(2));
        batch.turn_with(&first, pretend, || true).unwrap();
        assert_eq!((batch.looked_at(), batch.is_done()), (4, false));
        batch.turn_with(&second, pretend, || false).unwrap();
        assert!(batch.is_done());
        let refused: Vec<_> = batch.refused().iter().map(|refused| (refused.index, refused.schema.version)).collect();
        assert_eq!(refused, [(1, 1), (5, 2)]);
        assert_eq!(passed(&batch), ["a0", "a2", &records[3], "a4", "wire t6"]);
        assert_eq!(batch.places(), Some(vec![0, 2, 3, 4, 6]));
    }

    #[test]
    fn the_clock_is_looked_at_as_often_as_the_records_are_large() {
        for (len, records, looks) in [(1, 1_000, 1_000 / 16), (100, 1_000, 1_000 / 4), (512, 10, 10), (10_000, 10, 10)]
        {
            let (body, spans) = body_of(&vec!["a".repeat(len); records]);
            let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
            let looked = Cell::new(0);
            let is_over = || {
                looked.set(looked.get() + 1);
                false
            };
            batch.turn_with(&number_schema(1), pretend, is_over).unwrap();
            assert!((looks..=looks + 1).contains(&looked.get()), "{len}: {}", looked.get());
        }
    }

    #[test]
    fn what_is_left_passes_when_no_schema_is_in_force_any_more() {
        for first in ["a", "t", "i"] {
            let mut records: Vec<String> = [first, "a", "b", "c", "i", "t"].map(str::to_owned).into();
            records[3].push_str(&"-".repeat(CLOCK_EVERY_BYTES));
            let (body, spans) = body_of(&records);
            let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
            batch.turn_with(&number_schema(1), pretend, || true).unwrap();
            batch.pass_the_rest().unwrap();
            assert!(batch.is_done());
            assert!(passed(&batch).ends_with(&["i".to_owned(), "t".to_owned()]), "{:?}", passed(&batch));
        }
    }

    #[test]
    fn a_record_over_the_limit_is_not_even_looked_at() {
        let records = ["a".to_owned(), "a".repeat(CHECKED_RECORD_BYTES_MAX + 1)];
        let (body, spans) = body_of(&records);
        let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
        let looks = Cell::new(0);
        let check = |record: &[u8], out: &mut Vec<u8>| {
            looks.set(looks.get() + 1);
            pretend(record, out)
        };
        batch.turn_with(&number_schema(1), check, || false).unwrap();
        assert_eq!((looks.get(), batch.refused().len()), (1, 1));
        assert!(matches!(batch.refused()[0].reject, Reject::TooLarge(SizeLimit::Record, _)));
    }

    #[test]
    fn texts_about_records_are_bounded_each_and_together() {
        let records = vec![format!("i{}", "é".repeat(VIOLATION_BYTES_MAX)); 2_000];
        let (body, spans) = body_of(&records);
        let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
        batch.turn_with(&number_schema(1), pretend, || false).unwrap();
        let lens: Vec<usize> = batch
            .refused()
            .iter()
            .map(|refused| match &refused.reject {
                Reject::Schema(text) => text.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(lens[0] <= VIOLATION_BYTES_MAX && lens[0] > VIOLATION_BYTES_MAX - 4, "{}", lens[0]);
        assert!(lens[1_999] <= VIOLATION_BYTES_MIN && lens[1_999] > VIOLATION_BYTES_MIN - 4);
        assert!(lens.iter().sum::<usize>() < VIOLATIONS_BYTES_MAX + VIOLATION_BYTES_MAX + 2_000 * VIOLATION_BYTES_MIN);
    }

    #[test]
    fn the_schema_itself_is_asked() {
        let records = [r#"{"n":1}"#, r#"{"n":""}"#].map(str::to_owned);
        let (body, spans) = body_of(&records);
        let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
        while !batch.is_done() {
            batch.turn(&number_schema(1), &mut Scratch::default(), clock::now()).unwrap();
        }
        assert_eq!((passed(&batch), batch.refused().len()), (vec![records[0].clone()], 1));
    }

    proptest! {
        #[test]
        fn outcomes_keep_the_order_of_the_records(kinds in "[ait]{0,60}", over_after in prop::collection::vec(any::<bool>(), 20)) {
            let records: Vec<String> = kinds.chars().enumerate().map(|(at, kind)| format!("{kind}{at}")).collect();
            let (body, spans) = body_of(&records);
            let mut batch = BatchValidation::new(&body, spans, Encoding::Json);
            let schema = number_schema(1);
            let mut turns = over_after.iter().cycle();
            while !batch.is_done() {
                let over = turns.next().is_none_or(|over| *over);
                batch.turn_with(&schema, pretend, || over).unwrap();
            }
            let expect: Vec<String> = records
                .iter()
                .filter(|record| !record.starts_with('i'))
                .map(|record| if record.starts_with('t') { format!("wire {record}") } else { record.clone() })
                .collect();
            prop_assert_eq!(passed(&batch), expect.clone());
            let became: Vec<bool> = expect.iter().map(|record| record.starts_with("wire")).collect();
            prop_assert_eq!(batch.transcoded(), if became.contains(&true) { became.as_slice() } else { &[] });
            for refused in batch.refused() {
                prop_assert_eq!(refused.payload.of(&body), records[refused.index].as_bytes());
            }
            let stored = (0..expect.len()).map(|sequence| Outcome::Stored(Receipt { partition: 0, sequence: sequence as u64, duplicate: false }));
            let merged = batch.merge(stored.collect());
            prop_assert_eq!(merged.len(), records.len());
            let mut next = 0;
            for (record, outcome) in records.iter().zip(merged) {
                if record.starts_with('i') {
                    prop_assert_eq!(outcome, Outcome::Failed(Reject::Schema(record.as_str().into())));
                } else {
                    prop_assert_eq!(outcome, Outcome::Stored(Receipt { partition: 0, sequence: next, duplicate: false }));
                    next += 1;
                }
            }
        }
    }
}
