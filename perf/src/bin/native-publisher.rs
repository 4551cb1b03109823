//! The upper bound: a publisher that does nothing but publish.
//!
//! One raw connection, one thread. The messages are encoded before it begins, one behind the other, and written from
//! where they lie; a window bounds what is in flight; acknowledgements are counted, not matched. It publishes what the
//! gateway would store: the same payload size, the same header block, with a reply subject for the acknowledgement.
//!
//! With `--rate` it is an open loop: message number n is due at n / rate and written when it is due, whatever is still
//! without an acknowledgement, and its latency counts from when it was due.

#[path = "../../../src/bench/account.rs"]
mod account;

use account::CpuReading;
use clap::Parser;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use serde_json::json;
use sluicegate_perf::{
    nats::{self, Message},
    own_cpu,
    pace::{Pace, Timer},
};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    ops::Range,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Publishes to a JetStream stream of its own, as fast as acknowledgements allow, and prints what it reached as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:4222")]
    nats: String,
    /// The stream, which is made and deleted.
    #[arg(long, default_value = "perf-native")]
    stream: String,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Messages without an acknowledgement, at most.
    #[arg(long, default_value_t = 8_192)]
    window: usize,
    /// Bytes without an acknowledgement, at most.
    #[arg(long, default_value_t = 32 * 1024 * 1024)]
    window_bytes: usize,
    /// Seconds before the measured part.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Messages a second that are due, instead of as many as the window takes.
    #[arg(long)]
    rate: Option<f64>,
    /// Leave the header block out.
    #[arg(long)]
    no_headers: bool,
    /// Also account the CPU of these processes.
    #[arg(long, value_delimiter = ',')]
    account: Vec<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(errors) => ExitCode::from(u8::from(errors > 0)),
        Err(error) => {
            eprintln!("native-publisher: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Publishes, prints, and answers how many messages were not acknowledged.
fn run(args: &Args) -> io::Result<u64> {
    nats::create_stream(&args.nats, &args.stream, &args.stream)?;
    let published = publish(args);
    let stored = nats::stream_messages(&args.nats, &args.stream);
    nats::delete_stream(&args.nats, &args.stream)?;
    let result = published?;
    let errors = result.errors + u64::from(stored? < result.acknowledged_in_all);
    let seconds = result.elapsed.as_secs_f64();
    let count = result.acknowledged as f64;
    let micros = |quantile: f64| result.latency.value_at_quantile(quantile) as f64 / 1e3;
    let per_record = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1.0);
    let processes: Vec<_> = args
        .account
        .iter()
        .zip(&result.processes)
        .map(|(pid, cpu)| {
            json!({
                "pid": pid, "total_s": cpu.total.as_secs_f64(), "user_s": cpu.user.as_secs_f64(),
                "system_s": cpu.system.as_secs_f64(), "us_per_record": per_record(cpu.total),
            })
        })
        .collect();
    let summary = json!({
        "command": "native-publisher", "size": args.size, "window": args.window, "rate": args.rate, "elapsed_s": seconds,
        "records": result.acknowledged, "records_per_s": count / seconds,
        "mb_per_s": count * args.size as f64 / seconds / 1e6, "errors": errors,
        "latency_us": { "p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "p99.9": micros(0.999), "max": micros(1.0) },
        "cpu": { "generator_s": result.own.as_secs_f64(), "generator_us_per_record": per_record(result.own), "processes": processes },
    });
    println!("{summary}");
    Ok(errors)
}

struct Published {
    elapsed: Duration,
    /// In the measured part.
    acknowledged: u64,
    acknowledged_in_all: u64,
    errors: u64,
    latency: Histogram<u64>,
    own: Duration,
    processes: Vec<account::CpuUse>,
}

/// State of the connection.
struct Publisher {
    stream: TcpStream,
    /// Frames of equal length, one behind the other.
    frames: Vec<u8>,
    frame_bytes: usize,
    /// Next byte to write.
    at: usize,
    /// Whole frames written, acknowledged, refused.
    sent: u64,
    acknowledged: u64,
    refused: u64,
    pongs_due: usize,
    /// When runs of frames were written, oldest first: acknowledgements of one stream come in order.
    written: VecDeque<(Instant, u64)>,
    /// The open loop, and the times between which a message must be due to be measured.
    pace: Option<(Pace, Range<Instant>)>,
    input: Vec<u8>,
    latency: Histogram<u64>,
}

/// Clocks at one end of the measured part.
struct Mark {
    at: Instant,
    acknowledged: u64,
    own: Duration,
    processes: Vec<CpuReading>,
}

fn publish(args: &Args) -> io::Result<Published> {
    let inbox = "_INBOX.p.a";
    let stream = nats::connect(&args.nats, inbox)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    let mut timer = Timer::new(poll.registry(), Token(1))?;
    let (frames, frame_bytes) = encode(args, inbox);
    let window = (args.window.min(args.window_bytes / frame_bytes)).max(1) as u64;
    let begin = Instant::now();
    let warm = begin + Duration::from_secs_f64(args.warmup);
    let end = warm + Duration::from_secs_f64(args.duration);
    let mut publisher = Publisher {
        stream,
        frames,
        frame_bytes,
        at: 0,
        sent: 0,
        acknowledged: 0,
        refused: 0,
        pongs_due: 0,
        written: VecDeque::new(),
        pace: args.rate.map(|rate| (Pace { begin, rate }, warm..end)),
        input: Vec::new(),
        latency: histogram(),
    };
    let mut first: Option<Mark> = None;
    let mut events = Events::with_capacity(8);
    let last = loop {
        let now = Instant::now();
        if first.is_none() && now >= warm {
            if publisher.pace.is_none() {
                publisher.latency = histogram();
            }
            first = Some(mark(args, &publisher)?);
        }
        if now >= end {
            break mark(args, &publisher)?;
        }
        publisher.write(window)?;
        if !publisher.read()? {
            if let Some((pace, _)) = &publisher.pace {
                timer.wake_at(pace.due(publisher.sent))?;
            }
            poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        }
    };
    let closed_latency = publisher.pace.is_none().then(|| publisher.latency.clone());
    publisher.finish(&mut poll, &mut events)?;
    let latency = closed_latency.unwrap_or_else(|| publisher.latency.clone());
    let first = first.ok_or_else(|| io::Error::other("no time was measured"))?;
    Ok(Published {
        elapsed: last.at - first.at,
        acknowledged: last.acknowledged - first.acknowledged,
        acknowledged_in_all: publisher.acknowledged,
        errors: publisher.refused + (publisher.sent - publisher.acknowledged - publisher.refused),
        latency,
        own: last.own.saturating_sub(first.own),
        processes: first.processes.iter().zip(&last.processes).map(|(before, after)| after.since(before)).collect(),
    })
}

impl Publisher {
    /// Writes what the window and the kernel take, as far as it is due.
    fn write(&mut self, window: u64) -> io::Result<()> {
        loop {
            let room = window.saturating_sub(self.sent - self.acknowledged - self.refused);
            let due =
                self.pace.as_ref().map_or(u64::MAX, |(pace, _)| pace.due_by(Instant::now()).saturating_sub(self.sent));
            let room = room.min(due) as usize;
            let frame = self.at / self.frame_bytes;
            let frames = room.min(self.frames.len() / self.frame_bytes - frame);
            let until = (frame + frames) * self.frame_bytes;
            let mid_frame = !self.at.is_multiple_of(self.frame_bytes);
            // A frame that was begun goes on, whatever the window says.
            let until = if mid_frame { until.max((frame + 1) * self.frame_bytes) } else { until };
            if until <= self.at {
                return Ok(());
            }
            match self.stream.write(&self.frames[self.at..until]) {
                Ok(count) => {
                    self.at += count;
                    let whole = (self.at / self.frame_bytes - frame) as u64;
                    if whole > 0 {
                        self.sent += whole;
                        self.written.push_back((Instant::now(), whole));
                    }
                    if self.at == self.frames.len() {
                        self.at = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads acknowledgements; false if none had come.
    fn read(&mut self) -> io::Result<bool> {
        let kept = self.input.len();
        self.input.resize(kept + READ_BYTES, 0);
        let read = match self.stream.read(&mut self.input[kept..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        self.input.truncate(kept + read);
        if read == 0 {
            return Ok(false);
        }
        let (mut acknowledged, mut refused, mut complaint) = (0, 0, None);
        let pongs_due = &mut self.pongs_due;
        let used = nats::each_message(&self.input, |message, _| match message {
            Message::Payload(bytes) if bytes.starts_with(b"{\"stream\":") => acknowledged += 1,
            Message::Payload(_) | Message::Status(_) => refused += 1,
            Message::Ping => *pongs_due += 1,
            Message::Error(text) => complaint = Some(String::from_utf8_lossy(text).into_owned()),
            Message::Other => {}
        })?;
        self.input.drain(..used);
        if let Some(complaint) = complaint {
            return Err(io::Error::other(complaint));
        }
        self.acknowledged += acknowledged;
        self.refused += refused;
        self.account_latency(acknowledged + refused);
        // A pong can go out between frames only; the server pings every two minutes, and waits for two.
        if self.pongs_due > 0 && self.at.is_multiple_of(self.frame_bytes) {
            self.pongs_due = 0;
            self.stream.write_all(b"PONG\r\n")?;
        }
        Ok(true)
    }

    /// `count` more messages have an answer.
    fn account_latency(&mut self, mut count: u64) {
        let now = Instant::now();
        if let Some((pace, measured)) = &self.pace {
            let answered = self.acknowledged + self.refused;
            for due in (answered - count..answered).map(|number| pace.due(number)).filter(|due| measured.contains(due))
            {
                self.latency.saturating_record(nanos(now.saturating_duration_since(due)));
            }
            return;
        }
        while count > 0
            && let Some((at, frames)) = self.written.front_mut()
        {
            let taken = count.min(*frames);
            self.latency.saturating_record_n(nanos(now.duration_since(*at)), taken);
            *frames -= taken;
            count -= taken;
            if *frames == 0 {
                self.written.pop_front();
            }
        }
    }

    /// Completes a frame that was begun and waits for what is in flight.
    fn finish(&mut self, poll: &mut Poll, events: &mut Events) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            self.write(0)?;
            let in_flight = self.sent > self.acknowledged + self.refused;
            if !in_flight && self.at.is_multiple_of(self.frame_bytes) {
                return Ok(());
            }
            if !self.read()? {
                poll.poll(events, Some(Duration::from_millis(100)))?;
            }
        }
        Ok(())
    }
}

/// As many frames as make a good write, and the length of one.
fn encode(args: &Args, inbox: &str) -> (Vec<u8>, usize) {
    let subject = &args.stream;
    let payload = format!("{{\"id\":123456,\"text\":\"{}\"}}", "e".repeat(args.size.saturating_sub(23)));
    let frame = if args.no_headers {
        format!("PUB {subject} {inbox} {}\r\n{payload}\r\n", payload.len())
    } else {
        let head = "NATS/1.0\r\nContent-Type: application/json\r\n\r\n";
        format!("HPUB {subject} {inbox} {} {}\r\n{head}{payload}\r\n", head.len(), head.len() + payload.len())
    };
    let count = (BLOCK_BYTES / frame.len()).max(1);
    (frame.as_bytes().repeat(count), frame.len())
}

fn mark(args: &Args, publisher: &Publisher) -> io::Result<Mark> {
    Ok(Mark {
        at: Instant::now(),
        acknowledged: publisher.acknowledged,
        own: own_cpu(),
        processes: args.account.iter().map(|pid| CpuReading::of(*pid)).collect::<io::Result<_>>()?,
    })
}

/// At least one, which is the least that a histogram takes.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds in order, digits from 0 to 5")
}

/// Bytes of the pre-encoded frames; one write takes at most as much.
const BLOCK_BYTES: usize = 128 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;
