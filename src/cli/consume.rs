//! `sluicegate consume`: prints the records of a station, one a line.
//!
//! A record is acknowledged once it was written to standard output and flushed, and, if that is a pipe, read from it.
//! So `| head -1` takes one record from its group, and a record that was not printed, for whatever reason, is delivered
//! again. No station is created for a name that is spelt wrong.

use super::{
    client::{JSON, LoginArgs, Session, persist},
    exit::{Exit, Failure},
    pipe::Pipe,
    print::{complain, unwritten},
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
    io::{self, Write},
    thread,
    time::Duration,
};

/// Print the records of a station.
#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    /// Name of the station
    station: String,
    /// Consumer group; each group gets every record, and keeps its position
    #[arg(long, value_name = "G")]
    group: String,
    /// Records in one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    batch: u32,
    /// Milliseconds that a request waits for records
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    wait: u32,
    /// Wait for new records when there are no more
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
/// The name of a consumer, which the gateway requires. Readers differ by their groups.
const CONSUMER_NAME: &str = "sluicegate-cli";

/// Runs the command.
pub(super) fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let station = Name::parse(&args.station).map_err(|fault| Failure::usage(fault.text("Station")))?;
    let mut session = Session::new(&args.url, args.login.find()?)?;
    let path = format!("/stations/{}/consume/batch", station.as_str());
    // With --follow it goes on after a restart of the gateway.
    let retry_for = if args.follow { Duration::MAX } else { Duration::ZERO };
    let call = |wanted: Wanted<'_>| {
        let body = request(args, &wanted);
        let reply = persist(retry_for, || session.post(&path, &[JSON], body.as_bytes()), thread::sleep)?;
        if reply.status == 200 {
            Ok(Answer { delivery: reply.delivery, body: reply.body })
        } else {
            Err(reply.failure())
        }
    };
    let plan = Plan { batch: args.batch.into(), count: args.count, follow: args.follow, json: args.json };
    let stdout = io::stdout();
    plan.run(call, stdout.lock(), Pipe::of(&stdout))
}

/// One request.
struct Wanted<'a> {
    /// Number of records to fetch; 0 for none.
    batch: u64,
    /// The records that were fetched before and are to be acknowledged.
    done: Option<Done<'a>>,
}

/// The first records of a delivery, which were printed.
#[derive(Clone, Copy)]
struct Done<'a> {
    delivery: &'a str,
    records: usize,
}

/// An answer of the gateway.
struct Answer {
    /// The id that acknowledges its records; `None` if there are none.
    delivery: Option<String>,
    body: Vec<u8>,
}

fn request(args: &ConsumeArgs, wanted: &Wanted<'_>) -> String {
    let mut body = serde_json::json!({
        "consumer_name": CONSUMER_NAME,
        "consumer_group": args.group,
        "batch_size": wanted.batch,
        "batch_max_wait_time_ms": args.wait,
        "create_station": false,
        "manual_ack": true,
    });
    if let (Some(done), Some(fields)) = (wanted.done, body.as_object_mut()) {
        fields.insert("ack".to_owned(), done.delivery.into());
        fields.insert("ack_records".to_owned(), done.records.into());
    }
    body.to_string()
}

/// How many records are read, and how they are printed.
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
    fn run(
        &self,
        mut call: impl FnMut(Wanted<'_>) -> Result<Answer, Failure>,
        mut out: impl Write,
        mut pipe: Option<Pipe>,
    ) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        // The delivery that was printed and is not acknowledged yet.
        let mut open: Option<(String, usize)> = None;
        while left > 0 {
            let answer = fetch(&mut call, self.batch.min(left), open.take().as_ref())?;
            let records: Vec<&RawValue> = serde_json::from_slice(&answer.body).map_err(|_| {
                Failure::other("the answer is not a list of records: check that the address is a gateway's data port")
            })?;
            let (printed, ended) = self.print_all(&records, &mut out, pipe.as_mut());
            open = answer.delivery.map(|delivery| (delivery, printed));
            if !matches!(ended, Ok(true)) {
                acknowledge(&mut call, open.as_ref())?;
                return ended.map(drop);
            }
            left = left.saturating_sub(records.len() as u64);
            if records.is_empty() && !self.follow {
                break;
            }
        }
        acknowledge(&mut call, open.as_ref())
    }

    /// Prints records as long as the reader takes them. Returns how many were taken, and whether to go on.
    fn print_all(
        &self,
        records: &[&RawValue],
        out: &mut impl Write,
        mut pipe: Option<&mut Pipe>,
    ) -> (usize, Result<bool, Failure>) {
        for (printed, record) in records.iter().enumerate() {
            match self.print(record, out).and_then(|()| out.flush()) {
                Ok(()) => {}
                // The reader has seen enough.
                Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => return (printed, Ok(false)),
                Err(fault) => return (printed, Err(unwritten(&fault))),
            }
            if pipe.as_mut().is_some_and(|pipe| !pipe.is_read()) {
                return (printed, Ok(false));
            }
        }
        (records.len(), Ok(true))
    }

    /// Prints a record in one write.
    fn print(&self, record: &RawValue, out: &mut impl Write) -> io::Result<()> {
        let mut line = if self.json {
            record.get().as_bytes().to_vec()
        } else {
            let record: Record<'_> = serde_json::from_str(record.get()).map_err(io::Error::other)?;
            if record.encoding.as_deref() == Some("base64") {
                let bytes = base64::engine::general_purpose::STANDARD.decode(record.message.as_bytes());
                bytes.map_err(io::Error::other)?
            } else {
                record.message.into_owned().into_bytes()
            }
        };
        line.push(b'\n');
        out.write_all(&line)
    }
}

/// Fetches the next records. The same request acknowledges what was printed.
fn fetch(
    call: &mut impl FnMut(Wanted<'_>) -> Result<Answer, Failure>,
    batch: u64,
    open: Option<&(String, usize)>,
) -> Result<Answer, Failure> {
    if let Some((delivery, records)) = open {
        match call(Wanted { batch, done: Some(Done { delivery, records: *records }) }) {
            // Printing took longer than the gateway waits, or the gateway was restarted.
            Err(failure) if failure.exit == Exit::Failed => complain_of(&failure),
            other => return other,
        }
    }
    call(Wanted { batch, done: None })
}

/// Acknowledges what was printed, and gives the rest of the delivery back.
fn acknowledge(
    call: &mut impl FnMut(Wanted<'_>) -> Result<Answer, Failure>,
    open: Option<&(String, usize)>,
) -> Result<(), Failure> {
    let Some((delivery, records)) = open else { return Ok(()) };
    match call(Wanted { batch: 0, done: Some(Done { delivery, records: *records }) }) {
        Err(failure) if failure.exit == Exit::Failed => {
            complain_of(&failure);
            Ok(())
        }
        other => other.map(drop),
    }
}

fn complain_of(failure: &Failure) {
    complain(&format!("sluicegate: some of the records that were printed may come again: {failure}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the gateway was asked: how many records, and what was done of which delivery.
    type Asked = Vec<(u64, Option<(String, usize)>)>;

    /// A gateway that answers this, one after the other; each answer is the delivery of its number.
    fn gateway<'a>(
        answers: &'a [&str],
        asked: &'a mut Asked,
    ) -> impl FnMut(Wanted<'_>) -> Result<Answer, Failure> + 'a {
        let mut given = 0;
        move |wanted| {
            asked.push((wanted.batch, wanted.done.map(|done| (done.delivery.to_owned(), done.records))));
            if wanted.batch == 0 {
                return Ok(Answer { delivery: None, body: b"[]".to_vec() });
            }
            let body = answers.get(given).ok_or_else(|| Failure::unavailable("no more"))?;
            given += 1;
            let delivery = (*body != "[]").then(|| given.to_string());
            Ok(Answer { delivery, body: body.as_bytes().to_vec() })
        }
    }

    fn read(plan: &Plan, answers: &[&str]) -> (Vec<u8>, Asked, bool) {
        let (mut asked, mut out) = (Vec::new(), Vec::new());
        let done = plan.run(gateway(answers, &mut asked), &mut out, None).is_ok();
        (out, asked, done)
    }

    fn fetched(batch: u64, done: Option<(&str, usize)>) -> (u64, Option<(String, usize)>) {
        (batch, done.map(|(delivery, records)| (delivery.to_owned(), records)))
    }

    const PLAN: Plan = Plan { batch: 2, count: None, follow: false, json: false };

    #[test]
    fn bodies_are_printed_as_they_were_stored() {
        let answer = r#"[{"message":"{\"a\": 1}","headers":{}},{"message":"/wCA","headers":{},"encoding":"base64"},{"message":"é\n"}]"#;
        let (out, asked, done) = read(&PLAN, &[answer, "[]"]);
        assert_eq!((out, done), (b"{\"a\": 1}\n\xff\x00\x80\n\xc3\xa9\n\n".to_vec(), true));
        assert_eq!(asked, [fetched(2, None), fetched(2, Some(("1", 3)))], "what was printed is acknowledged, then");
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
        assert_eq!(read(&PLAN, &["[]"]).1, [fetched(2, None)]);
        let expect = [fetched(2, None), fetched(2, Some(("1", 2))), fetched(2, Some(("2", 1)))];
        assert_eq!(read(&PLAN, &[two, one, "[]"]).1, expect);
        let (out, asked, done) = read(&Plan { count: Some(3), ..PLAN }, &[two, one]);
        assert_eq!((out, done), (b"x\ny\nx\n".to_vec(), true));
        assert_eq!(asked, [fetched(2, None), fetched(1, Some(("1", 2))), fetched(0, Some(("2", 1)))]);
        let follow = Plan { follow: true, ..PLAN };
        let (out, asked, done) = read(&follow, &["[]", one, "[]"]);
        assert_eq!((out, asked.len(), done), (b"x\n".to_vec(), 4, false));
        assert!(!read(&PLAN, &["{\"error\":1}"]).2);
    }

    /// Takes this many writes, then fails.
    struct Closing(usize, io::ErrorKind);

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(self.1)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn item8_what_was_not_written_is_not_acknowledged() {
        let three = r#"[{"message":"x"},{"message":"y"},{"message":"z"}]"#;
        for (fault, is_ok) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let mut asked = Vec::new();
            let ended = PLAN.run(gateway(&[three], &mut asked), Closing(1, fault), None);
            assert_eq!(ended.is_ok(), is_ok, "{fault:?}");
            assert_eq!(asked, [fetched(2, None), fetched(0, Some(("1", 1)))], "{fault:?}: one was written");
        }
    }

    #[test]
    fn item8_a_delivery_that_the_gateway_knows_no_more_is_said_and_does_not_end_it() {
        let mut asked = 0;
        let call = |wanted: Wanted<'_>| {
            asked += 1;
            match (wanted.done, wanted.batch) {
                (Some(_), _) => Err(Failure::status(400, "no such delivery")),
                (None, 1) => Ok(Answer { delivery: None, body: b"[]".to_vec() }),
                (None, _) => Ok(Answer { delivery: Some("1".to_owned()), body: br#"[{"message":"x"}]"#.to_vec() }),
            }
        };
        let plan = Plan { count: Some(2), ..PLAN };
        assert_eq!(plan.run(call, &mut Vec::new(), None), Ok(()));
        assert_eq!(asked, 3, "asked again, without it");
    }
}
