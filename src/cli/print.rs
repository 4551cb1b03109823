//! Prints: tables for people, the gateway's JSON for programs.

use super::{admin::AdminArgs, exit::Failure};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    fmt::Write as _,
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

/// The arguments that all commands of the admin API have: the output format, and which gateway to use.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Print the JSON of the gateway
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Common {
    /// Sends a request and returns the body of the answer, if its status is 2xx.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&str>) -> Result<Vec<u8>, Failure> {
        self.admin.call(method, path, body)
    }

    /// Prints an answer: with `--json` as it is, else what `text` makes of it.
    pub(super) fn show<T: DeserializeOwned>(&self, body: &[u8], text: impl FnOnce(T) -> String) -> Result<(), Failure> {
        if self.json {
            return say(&format!("{}\n", String::from_utf8_lossy(body).trim_end()));
        }
        say(&text(read(body)?))
    }

    /// Sends a request and prints the answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        text: impl FnOnce(T) -> String,
    ) -> Result<(), Failure> {
        self.show(&self.call(method, path, body)?, text)
    }

    /// Sends a request whose answer is empty, and prints `text`.
    pub(super) fn order(&self, method: &str, path: &str, body: Option<&str>, text: &str) -> Result<(), Failure> {
        self.call(method, path, body)?;
        say(if self.json { "{}\n" } else { text })
    }

    /// Prints a list that comes in pages as one; `field` is the field of the pages that has the elements.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        field: &str,
        text: impl FnOnce(Vec<T>) -> String,
    ) -> Result<(), Failure> {
        let elements = gather(field, |after| self.call("GET", &page_path(path, after), None))?;
        if self.json {
            let whole = Map::from_iter([(field.to_owned(), Value::Array(elements))]);
            return say(&format!("{}\n", Value::Object(whole)));
        }
        let elements: Result<Vec<T>, _> = elements.into_iter().map(serde_json::from_value).collect();
        say(&text(elements.map_err(|_| foreign())?))
    }
}

/// Returns a value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|fault| Failure::other(fault.to_string()))
}

/// Returns all elements of a list; `call` returns the page behind a name.
fn gather(field: &str, mut call: impl FnMut(Option<&str>) -> Result<Vec<u8>, Failure>) -> Result<Vec<Value>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        next: Option<String>,
        #[serde(flatten)]
        fields: Map<String, Value>,
    }
    let (mut elements, mut after) = (Vec::new(), None);
    loop {
        let mut page: Page = read(&call(after.as_deref())?)?;
        let Some(Value::Array(more)) = page.fields.remove(field) else { return Err(foreign()) };
        elements.extend(more);
        if page.next.is_none() || page.next == after {
            return Ok(elements);
        }
        after = page.next;
    }
}

fn page_path(path: &str, after: Option<&str>) -> String {
    after.map_or_else(|| path.to_owned(), |after| format!("{path}?after={}", encoded(after)))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| foreign())
}

fn foreign() -> Failure {
    Failure::other("the answer is not that of a gateway: check that the address is a gateway's admin listener")
}

/// Returns a name, encoded for a segment of a path.
pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Writes to standard output. A reader that has closed the pipe has seen enough; any other error is a failure.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(&fault)),
        _ => Ok(()),
    }
}

/// Returns the failure of a write to standard output.
pub(super) fn unwritten(fault: &io::Error) -> Failure {
    Failure::other(format!("standard output: {fault}"))
}

/// Writes a line to standard error. If that fails, the exit code alone says what happened.
pub(super) fn complain(line: &str) {
    mutter(&format!("{line}\n"));
}

/// Writes to standard error and ignores errors.
pub(super) fn mutter(text: &str) {
    let mut err = io::stderr().lock();
    let _nobody_reads = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Returns a table. Its columns are as wide as their widest cell.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|word| word.len())).max().unwrap_or(0)
    };
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = width(column);
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(head);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

/// Returns the patterns in words.
pub(super) fn words(patterns: &[String]) -> String {
    if patterns.is_empty() { "nothing".to_owned() } else { patterns.join(", ") }
}

/// Returns the date and time, in UTC.
pub(super) fn date(unix_ms: u64) -> String {
    UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)).map_or_else(String::new, httpdate::fmt_http_date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_straight_columns() {
        let rows = [["a".to_owned(), "1".to_owned()], ["größer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME    N\na       1\ngrößer\n");
        assert_eq!(table(["NAME", "N"], &[]), "NAME  N\n");
    }

    #[test]
    fn a_list_is_gathered_from_its_pages() {
        let mut asked = Vec::new();
        let gathered = gather("items", |after| {
            asked.push(after.map(str::to_owned));
            Ok(match after {
                None => br#"{"items":[1,2],"next":"b"}"#.to_vec(),
                Some(_) => br#"{"items":[3]}"#.to_vec(),
            })
        });
        assert_eq!(gathered, Ok(vec![1.into(), 2.into(), 3.into()]));
        assert_eq!(asked, [None, Some("b".to_owned())]);
        assert!(gather("items", |_| Ok(br#"{"users":[]}"#.to_vec())).is_err());
        assert!(gather("items", |_| Ok(b"<html>".to_vec())).is_err());
        // A gateway whose pages go round in circles is not followed for ever.
        assert!(gather("items", |_| Ok(br#"{"items":[],"next":"b"}"#.to_vec())).is_ok());
        assert_eq!(page_path("/x", Some("a b")), "/x?after=a%20b");
    }

    #[test]
    fn a_date_is_one_that_people_read() {
        assert_eq!(date(1_700_000_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
    }
}
