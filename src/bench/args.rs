//! The command line of `bench`, and the [`Plan`] that it becomes: complete, checked, in runtime types.

use super::target::Url;
use crate::{config::Secret, limits, station::Name};
use clap::{Args, Subcommand};
use std::{convert::Infallible, path::PathBuf, str::FromStr, time::Duration};

/// Put load on a gateway and measure it.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// What the requests do
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum BenchCommand {
    /// Posts records, singly or in batches.
    Produce {
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        produce: ProduceArgs,
    },
    /// Fetches records in batches.
    Consume {
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        consume: ConsumeArgs,
    },
}

/// The arguments of both commands.
#[derive(Debug, Clone, Args)]
struct LoadArgs {
    /// The gateway's data port.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4444", value_parser = Url::from_str)]
    url: Url,
    /// Station to use.
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = station)]
    station: Name,
    /// Spread the connections' requests over this many stations, NAME-0, NAME-1, …
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    stations: Option<usize>,
    /// User that logs in.
    #[arg(long, env = "SLUICEGATE_USER", default_value = "root")]
    user: String,
    /// Password of the user. It is safer in the environment, where other users cannot read it.
    #[arg(long, env = "SLUICEGATE_PASSWORD", hide_env_values = true, value_parser = secret)]
    password: Option<Secret>,
    /// An access token, instead of logging in.
    #[arg(long, env = "SLUICEGATE_TOKEN", hide_env_values = true, value_parser = secret, conflicts_with = "tokens")]
    token: Option<Secret>,
    /// Use this many distinct access tokens in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    tokens: usize,
    /// Connections that carry load.
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    connections: usize,
    /// Further keep-alive connections that make one request each and then only stay.
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: usize,
    /// Requests that a connection sends before the first of them is answered.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pipeline: usize,
    /// Threads of the generator.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    threads: usize,
    /// How long to measure: 10s, 500ms, 2m.
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Measure this many requests instead of a time.
    #[arg(long, short = 'n', value_name = "N", value_parser = at_least_one, conflicts_with = "duration")]
    requests: Option<usize>,
    /// Load before the measured part.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    warmup: Duration,
    /// Open loop: this many requests a second, whatever the answers do; latency counts from when each was due.
    #[arg(long, short, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Give a request up after this time.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Also measure the CPU time of these processes on this machine, such as the gateway and the broker.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    account: Vec<u32>,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
    /// Show the progress line although standard error is no terminal.
    #[arg(long)]
    progress: bool,
}

#[derive(Debug, Clone, Args)]
struct ProduceArgs {
    /// Records in a request; 0 or 1 posts them singly.
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Bytes of a record's payload, a made-up JSON event.
    #[arg(long, short, value_name = "BYTES", default_value_t = 256)]
    size: usize,
    /// Take the payloads from this file, one JSON value a line, over and over.
    #[arg(long, short, value_name = "PATH", conflicts_with = "size")]
    file: Option<PathBuf>,
    /// Compress the bodies.
    #[arg(long)]
    gzip: bool,
    /// Give every request an Idempotency-Key of its own.
    #[arg(long)]
    message_id: bool,
}

#[derive(Debug, Clone, Args)]
struct ConsumeArgs {
    /// Records to ask for in a request.
    #[arg(long, short, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    batch: usize,
    /// Consumer group.
    #[arg(long, short, value_name = "NAME", default_value = "bench", value_parser = group)]
    group: Name,
    /// How long a request may wait for records.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    wait: Duration,
}

/// One run, decided.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The gateway.
    pub(super) url: Url,
    /// At least one.
    pub(super) stations: Vec<Name>,
    /// The password to log in with, or a token.
    pub(super) credential: Credential,
    /// Distinct tokens, at least one.
    pub(super) tokens: usize,
    /// Connections of all threads, at least as many as threads.
    pub(super) connections: usize,
    /// Idle connections beside them.
    pub(super) idle: usize,
    /// Requests in flight on a connection, at least one.
    pub(super) pipeline: usize,
    /// At least one.
    pub(super) threads: usize,
    /// When the measured part ends.
    pub(super) extent: Extent,
    /// Load before the measured part.
    pub(super) warmup: Duration,
    /// Requests a second of all threads, finite and positive; none is the closed loop.
    pub(super) rate: Option<f64>,
    /// Time after which a request is given up.
    pub(super) timeout: Duration,
    /// Processes whose CPU to account.
    pub(super) account: Vec<u32>,
    /// Summary as JSON.
    pub(crate) json: bool,
    /// Progress line even without a terminal.
    pub(crate) progress: bool,
    /// What the requests do.
    pub(super) work: Work,
}

/// What ends the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Requests that begin (open loop: are due) within this time are measured.
    Time(Duration),
    /// This many requests are measured, over all threads.
    Requests(u64),
}

/// How the generator gets its tokens.
#[derive(Debug, Clone)]
pub(super) enum Credential {
    /// Log in.
    Password {
        /// Name of the user.
        user: String,
        /// Password of the user.
        password: Secret,
    },
    /// Already logged in.
    Token(Secret),
}

/// What the requests do.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Post records.
    Produce(Produce),
    /// Fetch records.
    Consume(Consume),
}

/// Posting records.
#[derive(Debug, Clone)]
pub(super) struct Produce {
    /// Records of a request; `None` posts singly.
    pub(super) batch: Option<usize>,
    /// Where payloads come from.
    pub(super) source: PayloadSource,
    /// Bodies go compressed.
    pub(super) gzip: bool,
    /// Each request has a message id.
    pub(super) message_id: bool,
}

/// Where payloads come from.
#[derive(Debug, Clone)]
pub(super) enum PayloadSource {
    /// Made-up events of this many bytes.
    Size(usize),
    /// The lines of a file.
    File(PathBuf),
}

/// Fetching records.
#[derive(Debug, Clone)]
pub(super) struct Consume {
    /// Records asked for.
    pub(super) batch: usize,
    /// Consumer group.
    pub(super) group: Name,
    /// Time that the gateway may wait for records.
    pub(super) wait: Duration,
}

impl TryFrom<BenchArgs> for Plan {
    type Error = String;

    fn try_from(args: BenchArgs) -> Result<Self, String> {
        let (load, work) = match args.command {
            BenchCommand::Produce { load, produce } => (load, Work::Produce(produce_work(produce)?)),
            BenchCommand::Consume { load, consume } => (load, Work::Consume(consume_work(consume)?)),
        };
        if load.threads > load.connections {
            return Err(format!("{} threads need at least as many connections", load.threads));
        }
        let waits = match &work {
            Work::Consume(consume) => consume.wait,
            Work::Produce(_) => Duration::ZERO,
        };
        if load.timeout <= waits {
            return Err("--timeout must be longer than --wait".to_owned());
        }
        let credential = match (load.token, load.password) {
            (Some(token), _) => Credential::Token(token),
            (None, Some(password)) => Credential::Password { user: load.user, password },
            (None, None) => {
                return Err(
                    "give --password (or SLUICEGATE_PASSWORD) to log in, or --token (or SLUICEGATE_TOKEN)".to_owned()
                );
            }
        };
        Ok(Self {
            stations: spread(&load.station, load.stations)?,
            url: load.url,
            credential,
            tokens: load.tokens,
            connections: load.connections,
            idle: load.idle,
            pipeline: load.pipeline,
            threads: load.threads,
            extent: load.requests.map_or(Extent::Time(load.duration), |count| Extent::Requests(count as u64)),
            warmup: load.warmup,
            rate: load.rate,
            timeout: load.timeout,
            account: load.account,
            json: load.json,
            progress: load.progress,
            work,
        })
    }
}

fn produce_work(args: ProduceArgs) -> Result<Produce, String> {
    if args.batch > limits::BATCH_RECORDS_MAX {
        return Err(format!("--batch: at most {}", limits::BATCH_RECORDS_MAX));
    }
    let source = match args.file {
        Some(path) => PayloadSource::File(path),
        None if args.size < SIZE_MIN => return Err(format!("--size: at least {SIZE_MIN} bytes, the shortest event")),
        None => PayloadSource::Size(args.size),
    };
    Ok(Produce { batch: (args.batch > 1).then_some(args.batch), source, gzip: args.gzip, message_id: args.message_id })
}

fn consume_work(args: ConsumeArgs) -> Result<Consume, String> {
    if args.batch > limits::FETCH_RECORDS_MAX as usize {
        return Err(format!("--batch: at most {}", limits::FETCH_RECORDS_MAX));
    }
    if args.wait > limits::FETCH_WAIT_MAX {
        return Err(format!("--wait: at most {} s", limits::FETCH_WAIT_MAX.as_secs()));
    }
    Ok(Consume { batch: args.batch, group: args.group, wait: args.wait })
}

/// The stations of a run: the one that was named, or that name with a number after it.
fn spread(name: &Name, count: Option<usize>) -> Result<Vec<Name>, String> {
    match count {
        None => Ok(vec![name.clone()]),
        Some(count) => (0..count).map(|number| station(&format!("{name}-{number}"))).collect(),
    }
}

/// Shortest payload that can carry an event's number.
pub(super) const SIZE_MIN: usize = 16;

fn station(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|fault| fault.text("Station"))
}

fn group(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|fault| fault.text("Consumer group"))
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result of a value parser")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a positive number of requests a second".to_owned()),
    }
}

/// A time as people write it: a number and `ms`, `s`, `m` or `h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let seconds_each = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("unknown unit {unit:?}: ms, s, m or h")),
    };
    let number: f64 = digits.parse().map_err(|_| "a time is a number and ms, s, m or h".to_owned())?;
    Duration::try_from_secs_f64(number * seconds_each).map_err(|_| "no such time".to_owned())
}
