//! `sluicegate consume`: records of a station, one a line.
//!
//! The gateway acknowledges a batch once its answer has left whole, so a record that was printed
//! does not come again to the same group; one that was on its way when this command was stopped may.

use super::{
    client::{JSON, LoginArgs, Session, persist},
    exit::Failure,
};
use crate::{
    limits::{FETCH_RECORDS_MAX, FETCH_WAIT_MAX},
    station::Name,
};
use base64::Engine;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
    thread,
    time::Duration,
};

/// Print records of a station.
#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    /// The station
    station: String,
    /// Consumer group; each group gets every record
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// Records in one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    batch: u32,
    /// Milliseconds that a request waits for records
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    wait: u32,
    /// Go on when there is nothing more for now
    #[arg(long)]
    follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print each record as JSON, with its headers, as the gateway sends it
    #[arg(long)]
    json: bool,
    /// Address of the gateway's data port
    #[arg(long, default_value = "http://127.0.0.1:4444")]
    url: String,
    #[command(flatten)]
    login: LoginArgs,
}

const _: () = assert!(FETCH_RECORDS_MAX == 5_000, "the range of --batch");
const _: () = assert!(FETCH_WAIT_MAX.as_secs() == 60, "the range of --wait");
/// Name that the gateway requires of a consumer; groups are what tells readers apart.
const CONSUMER_NAME: &str = "sluicegate-cli";

/// Does what was asked.
pub(super) fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let station = Name::parse(&args.station).map_err(|fault| Failure::usage(fault.text("Station")))?;
    let mut session = Session::new(&args.url, args.login.find()?)?;
    let path = format!("/stations/{}/consume/batch", station.as_str());
    // Whoever follows a station follows it over a restart of the gateway.
    let retry_for = if args.follow { Duration::MAX } else { Duration::ZERO };
    let fetch = |batch: u64| {
        let body = request(args, batch);
        let reply = persist(retry_for, || session.post(&path, &[JSON], body.as_bytes()), thread::sleep)?;
        if reply.status == 200 { Ok(reply.body) } else { Err(reply.failure()) }
    };
    let plan = Plan { batch: args.batch.into(), count: args.count, follow: args.follow, json: args.json };
    plan.run(fetch, BufWriter::new(io::stdout().lock()))
}

fn request(args: &ConsumeArgs, batch: u64) -> String {
    let mut body = serde_json::json!({
        "consumer_name": CONSUMER_NAME,
        "batch_size": batch,
        "batch_max_wait_time_ms": args.wait,
    });
    if let (Some(group), Some(fields)) = (&args.group, body.as_object_mut()) {
        fields.insert("consumer_group".to_owned(), group.as_str().into());
    }
    body.to_string()
}

/// How much is read, and how it is printed.
struct Plan {
    batch: u64,
    count: Option<u64>,
    follow: bool,
    json: bool,
}

/// A record as the gateway sends it.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    encoding: Option<Cow<'a, str>>,
}

impl Plan {
    fn run(&self, mut fetch: impl FnMut(u64) -> Result<Vec<u8>, Failure>, mut out: impl Write) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let body = fetch(self.batch.min(left))?;
            let records: Vec<&RawValue> = serde_json::from_slice(&body).map_err(|_| {
                Failure::other("the answer is no list of records: is this address a gateway's data port?")
            })?;
            for record in &records {
                match self.print(record, &mut out) {
                    Ok(()) => {}
                    // Whoever reads has seen enough.
                    Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(fault) => return Err(Failure::other(format!("standard output: {fault}"))),
                }
            }
            match out.flush() {
                Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                flushed => flushed.map_err(|fault| Failure::other(format!("standard output: {fault}")))?,
            }
            left = left.saturating_sub(records.len() as u64);
            if records.is_empty() && !self.follow {
                break;
            }
        }
        Ok(())
    }

    fn print(&self, record: &RawValue, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            out.write_all(record.get().as_bytes())?;
        } else {
            let record: Record<'_> = serde_json::from_str(record.get()).map_err(io::Error::other)?;
            if record.encoding.as_deref() == Some("base64") {
                let bytes = base64::engine::general_purpose::STANDARD.decode(record.message.as_bytes());
                out.write_all(&bytes.map_err(io::Error::other)?)?;
            } else {
                out.write_all(record.message.as_bytes())?;
            }
        }
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(plan: &Plan, answers: &[&str]) -> (Vec<u8>, Vec<u64>, bool) {
        let mut answers = answers.iter();
        let mut asked = Vec::new();
        let mut out = Vec::new();
        let done = plan.run(
            |batch| {
                asked.push(batch);
                answers.next().map(|answer| answer.as_bytes().to_vec()).ok_or_else(|| Failure::other("no more"))
            },
            &mut out,
        );
        (out, asked, done.is_ok())
    }

    const PLAN: Plan = Plan { batch: 2, count: None, follow: false, json: false };

    #[test]
    fn bodies_are_printed_as_they_were_stored() {
        let answer = r#"[{"message":"{\"a\": 1}","headers":{}},{"message":"/wCA","headers":{},"encoding":"base64"},{"message":"é\n"}]"#;
        assert_eq!(
            read(&PLAN, &[answer, "[]"]),
            (b"{\"a\": 1}\n\xff\x00\x80\n\xc3\xa9\n\n".to_vec(), vec![2, 2], true)
        );
        let json = Plan { json: true, ..PLAN };
        assert_eq!(
            read(&json, &[r#"[{"message":"x","headers":{"A":"b"}}]"#, "[]"]).0,
            b"{\"message\":\"x\",\"headers\":{\"A\":\"b\"}}\n"
        );
    }

    #[test]
    fn reading_ends_when_it_should() {
        let one = r#"[{"message":"x"}]"#;
        let two = r#"[{"message":"x"},{"message":"y"}]"#;
        assert_eq!(read(&PLAN, &["[]"]).1, [2]);
        assert_eq!(read(&PLAN, &[two, one, "[]"]).1, [2, 2, 2]);
        assert_eq!(read(&Plan { count: Some(3), ..PLAN }, &[two, one]), (b"x\ny\nx\n".to_vec(), vec![2, 1], true));
        let follow = Plan { follow: true, ..PLAN };
        assert_eq!(read(&follow, &["[]", one, "[]"]), (b"x\n".to_vec(), vec![2, 2, 2, 2], false));
        assert!(!read(&PLAN, &["{\"error\":1}"]).2);
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        assert_eq!(PLAN.run(|_| Ok(br#"[{"message":"x"}]"#.to_vec()), Closed), Ok(()));
    }
}
