//! What holds for the texts of all formats: bounds that are looked at before a parser sees the text, and how what
//! others say is cut down to a message.

use super::{CompileError, Violation, cut};
use crate::limits::{self, SCHEMA_ERROR_BYTES_MAX, VIOLATION_PATH_BYTES_MAX, VIOLATION_VALUE_CHARS_MAX};

/// Refuses a schema that is too large or nests too deep for a recursive compiler. Text in quotes counts as nesting if
/// it has brackets: the limit is far above what people write.
pub(super) fn schema_text(bytes: usize, text: &str) -> Result<(), CompileError> {
    if bytes > limits::FORMAT_SCHEMA_BYTES_MAX {
        let most = limits::FORMAT_SCHEMA_BYTES_MAX;
        return Err(CompileError(format!("the schema has {bytes} bytes; at most {most} are allowed")));
    }
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::FORMAT_SCHEMA_DEPTH_MAX {
            let (line, column) = position(text, at);
            let most = limits::FORMAT_SCHEMA_DEPTH_MAX;
            return Err(CompileError(format!("line {line}, column {column}: nested deeper than {most} levels")));
        }
    }
    Ok(())
}

/// Refuses a JSON record that nests too deep or holds too many values to be read within bounds. Whether it is JSON at
/// all is its parser's question.
pub(super) fn json_record(record: &[u8], values_max: usize) -> Result<(), Violation> {
    let (mut depth, mut values, mut at) = (0_usize, 1_usize, 0);
    while let Some(byte) = record.get(at) {
        match byte {
            b'"' => at = string_end(record, at + 1),
            b'{' | b'[' => {
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > limits::FORMAT_DEPTH_MAX {
            return Err(too_deep(""));
        }
        if values > values_max {
            return Err(too_many(values_max));
        }
        at += 1;
    }
    Ok(())
}

/// Where the string that began before `at` is closed.
fn string_end(record: &[u8], mut at: usize) -> usize {
    while let Some(found) = record.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if record[at] == b'"' {
            return at;
        }
        at += 2;
    }
    record.len()
}

/// Refuses a record of more than `most` bytes.
pub(super) fn record_bytes(record: &[u8], most: usize) -> Result<(), Violation> {
    if record.len() <= most {
        return Ok(());
    }
    let text = format!("the record has {} bytes; at most {most} can be validated", record.len());
    Err(Violation::one("", text))
}

/// A record that nests too deep, there.
pub(super) fn too_deep(path: &str) -> Violation {
    Violation::one(path, format!("nested deeper than {} levels", limits::FORMAT_DEPTH_MAX))
}

/// A record of too many values.
pub(super) fn too_many(most: usize) -> Violation {
    Violation::one("", format!("the record has more than {most} values"))
}

/// Line and column, in characters, from 1, of a byte.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// A value of the record as a message quotes it.
pub(super) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(VIOLATION_VALUE_CHARS_MAX).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// A path, if it is long its end alone.
pub(super) fn path_end(path: String) -> String {
    if path.len() <= VIOLATION_PATH_BYTES_MAX {
        return path;
    }
    let from =
        (path.len() - VIOLATION_PATH_BYTES_MAX..path.len()).find(|at| path.is_char_boundary(*at)).unwrap_or(path.len());
    format!("…{}", &path[from..])
}

/// What a compiler says of a schema, cut.
pub(super) fn compiler_says(mut text: String) -> CompileError {
    cut(&mut text, SCHEMA_ERROR_BYTES_MAX);
    CompileError(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES_MAX: usize = 1_000;

    fn json_record(record: &[u8]) -> Result<(), Violation> {
        super::json_record(record, VALUES_MAX)
    }

    #[test]
    fn depth_and_values_are_counted_outside_strings() {
        let deep = "[".repeat(limits::FORMAT_DEPTH_MAX);
        assert_eq!(json_record(deep.as_bytes()), Ok(()));
        assert_eq!(
            json_record(format!("{deep}[").as_bytes()).unwrap_err().to_string(),
            "nested deeper than 100 levels"
        );
        assert_eq!(json_record(format!("\"{deep}[\\\"[\"").as_bytes()), Ok(()));
        let many = ",".repeat(VALUES_MAX);
        assert!(json_record(many.as_bytes()).is_err());
        assert_eq!(json_record(&many.as_bytes()[1..]), Ok(()));
        assert_eq!(json_record(format!("\"{many}\"").as_bytes()), Ok(()));
    }

    #[test]
    fn a_string_that_does_not_end_is_no_reason_to_leave_the_record() {
        for text in ["\"", "\"\\", "\"\\\"", "[\"a\\"] {
            assert_eq!(json_record(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(quoted(&"é".repeat(41)), format!("\"{}…\"", "é".repeat(40)));
        assert_eq!(path_end("é".repeat(150)), format!("…{}", "é".repeat(100)));
        assert_eq!(path_end("a.b".into()), "a.b");
        assert_eq!(compiler_says("é".repeat(1_001)).0.chars().count(), 1_001);
        assert_eq!(position("a\nbé{", 5), (2, 3));
    }
}
