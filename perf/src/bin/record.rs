//! Runs the cases and keeps a record of them.
//!
//! Each round runs every program of a case once, one after the other, so that whatever the machine does besides falls on
//! all of them; the record holds medians over the rounds. Programs are started anew for every run, on free ports of the
//! loopback; the broker runs once, on a real disk, and its stream is deleted after every run. What a run acknowledged
//! must be stored, or the run is an error. CPU is the kernel's account of each process over the measured part, read by
//! the load generator itself at its two ends.

use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use sluicegate_perf::{
    machine::Machine,
    nats,
    outcome::{Outcome, Row, table, write_csv},
};
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

#[derive(Debug, Parser)]
struct Args {
    /// The gateway that is measured, which is the load generator as well.
    #[arg(long, env = "SLUICEGATE_BIN", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/sluicegate"))]
    sluicegate: PathBuf,
    /// The broker.
    #[arg(long, env = "NATS_SERVER_BIN", default_value = "nats-server")]
    nats_server: PathBuf,
    /// The comparison programs are beside this one, if nothing else is said.
    #[arg(long)]
    programs_dir: Option<PathBuf>,
    /// Cases to run: files, or directories of them.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))]
    cases: Vec<PathBuf>,
    /// Programs to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Program::ALL)]
    programs: Vec<Program>,
    /// Drivers of the gateway.
    #[arg(long, value_delimiter = ',', default_values_t = ["io_uring".to_owned(), "epoll".to_owned()])]
    driver: Vec<String>,
    /// Shards of the gateway; what it chooses, if nothing is said.
    #[arg(long)]
    shards: Option<u16>,
    /// How often each program runs each case.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds measured, instead of what the case says. For trying out.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the broker and the gateway keep their data: on a disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/perf-work"))]
    work_dir: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/record"))]
    record_dir: PathBuf,
    /// Print the table and keep no record.
    #[arg(long)]
    dry: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    /// The upper bound, and what ratios refer to. Always run.
    NativePublisher,
    /// The gateway.
    Sluicegate,
    /// What a user would otherwise have.
    StraightforwardGateway,
}

impl Program {
    const ALL: [Self; 3] = [Self::NativePublisher, Self::Sluicegate, Self::StraightforwardGateway];
}

impl std::fmt::Display for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::NativePublisher => "native-publisher",
            Self::Sluicegate => "sluicegate",
            Self::StraightforwardGateway => "straightforward-gateway",
        })
    }
}

/// A case, as its file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    connections: u32,
    /// Records in a request; 1 posts singly.
    batch: u32,
    size: u32,
    warmup_s: f64,
    duration_s: f64,
}

/// A program in one of its variants.
#[derive(Debug, Clone)]
struct Contender {
    program: Program,
    driver: Option<String>,
}

fn main() -> ExitCode {
    match record(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record(args: &Args) -> io::Result<()> {
    let cases = load_cases(args)?;
    let contenders = contenders(args);
    fs::create_dir_all(&args.work_dir)?;
    refuse_memory(&args.work_dir)?;
    let work = tempdir(&args.work_dir)?;
    let machine = Machine::look();
    let broker = Broker::start(&args.nats_server, &work.0)?;
    let lab = Lab { args, work: &work.0, broker: &broker };
    let mut rows = Vec::new();
    for case in &cases {
        let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); contenders.len()];
        for round in 0..args.rounds {
            for (contender, list) in contenders.iter().zip(&mut outcomes) {
                eprint!("\r\x1b[K{} round {} of {}: {contender}", case.name, round + 1, args.rounds);
                let outcome = lab.run(contender, case);
                list.push(outcome.map_err(|error| io::Error::other(format!("{}, {contender}: {error}", case.name)))?);
            }
        }
        let native = outcomes.first().cloned().unwrap_or_default();
        for (contender, list) in contenders.iter().zip(&outcomes) {
            let driver = contender.driver.clone().unwrap_or_default();
            rows.push(Row::new(&case.name, &contender.program.to_string(), driver, list, &native));
        }
    }
    eprint!("\r\x1b[K");
    drop(broker);
    print!("{}", table(&rows));
    if !args.dry {
        let path = write_csv(&args.record_dir, &machine, &nats_version(&args.nats_server), &rows)?;
        println!("recorded in {}", path.display());
    }
    Ok(())
}

fn contenders(args: &Args) -> Vec<Contender> {
    // First, because all ratios refer to it.
    let mut list = vec![Contender { program: Program::NativePublisher, driver: None }];
    if args.programs.contains(&Program::Sluicegate) {
        let variant = |driver: &String| Contender { program: Program::Sluicegate, driver: Some(driver.clone()) };
        list.extend(args.driver.iter().map(variant));
    }
    if args.programs.contains(&Program::StraightforwardGateway) {
        list.push(Contender { program: Program::StraightforwardGateway, driver: None });
    }
    list
}

impl std::fmt::Display for Contender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.driver {
            Some(driver) => write!(formatter, "{} ({driver})", self.program),
            None => self.program.fmt(formatter),
        }
    }
}

fn load_cases(args: &Args) -> io::Result<Vec<Case>> {
    let mut files = Vec::new();
    for path in &args.cases {
        if path.is_dir() {
            let found = fs::read_dir(path)?.flatten().map(|entry| entry.path());
            files.extend(found.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    let load = |path: &PathBuf| {
        let text = fs::read_to_string(path)?;
        let case: Case =
            toml::from_str(&text).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        Ok(Case { duration_s: args.seconds.unwrap_or(case.duration_s), ..case })
    };
    files.iter().map(load).collect()
}

/// Where runs take place.
struct Lab<'a> {
    args: &'a Args,
    work: &'a Path,
    broker: &'a Broker,
}

impl Lab<'_> {
    fn run(&self, contender: &Contender, case: &Case) -> io::Result<Outcome> {
        if contender.program == Program::NativePublisher {
            return self.run_native(case);
        }
        let gateway = self.start_gateway(contender)?;
        let summary = self.load(&gateway, case);
        drop(gateway);
        let stored = nats::stream_messages(&self.broker.address, STATION);
        // Deleted in any case, so that the next run begins with nothing.
        let deleted = nats::delete_stream(&self.broker.address, STATION);
        let summary = summary?;
        deleted?;
        let records = summary.pointer("/records").and_then(Value::as_u64).unwrap_or(0);
        if stored? < records {
            return Err(io::Error::other(format!("{records} records acknowledged, fewer stored")));
        }
        Outcome::of_gateway(&summary)
    }

    fn run_native(&self, case: &Case) -> io::Result<Outcome> {
        let output = Command::new(self.program("native-publisher"))
            .args(["--nats", &self.broker.address, "--size", &case.size.to_string()])
            .args(["--warmup", &case.warmup_s.to_string(), "--duration", &case.duration_s.to_string()])
            .args(["--account", &self.broker.process.id().to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        Outcome::of_native(&serde_json::from_slice(&output.stdout)?)
    }

    fn start_gateway(&self, contender: &Contender) -> io::Result<Gateway> {
        let (listen, admin) = (free_address()?, free_address()?);
        let data = self.work.join("gateway");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let nats = format!("nats://{}", self.broker.address);
        let mut command = match contender.program {
            Program::Sluicegate => {
                let mut command = Command::new(&self.args.sluicegate);
                command.args(["serve", "--admin-listen", &admin, "--nats", &nats, "--data-dir"]).arg(&data);
                command.args(contender.driver.iter().flat_map(|driver| ["--driver", driver.as_str()]));
                command.args(self.args.shards.iter().flat_map(|count| ["--shards".to_owned(), count.to_string()]));
                command
            }
            _ => {
                let mut command = Command::new(self.program("straightforward-gateway"));
                command.args(["--nats", &nats]);
                command
            }
        };
        let log_path = self.work.join("gateway.log");
        let log = fs::File::create(&log_path)?;
        command.args(["--listen", &listen]).stdout(log.try_clone()?).stderr(log);
        command.env("ROOT_PASSWORD", PASSWORD).env("JWT_SECRET", SECRET).env("REFRESH_JWT_SECRET", REFRESH_SECRET);
        let mut gateway = Gateway { process: Process(command.spawn()?), address: listen };
        let address = gateway.address.clone();
        let is_ready = || match contender.program {
            // It listens before it has found the broker; what it refused until then would count as failed.
            Program::Sluicegate => answers_ok(&admin, "/readyz") && answers_ok(&address, "/monitoring/status"),
            _ => answers_ok(&address, "/monitoring/status"),
        };
        gateway.process.wait_until(&log_path, is_ready)?;
        Ok(gateway)
    }

    fn load(&self, gateway: &Gateway, case: &Case) -> io::Result<Value> {
        let output = Command::new(&self.args.sluicegate)
            .args(["bench", "produce", "--json", "--station", STATION, "--url", &format!("http://{}", gateway.address)])
            .args(["--connections", &case.connections.to_string(), "--batch", &case.batch.to_string()])
            .args(["--size", &case.size.to_string()])
            .args(["--warmup", &format!("{}s", case.warmup_s), "--duration", &format!("{}s", case.duration_s)])
            .args(["--account", &format!("{},{}", gateway.process.id(), self.broker.process.id())])
            .env("SLUICEGATE_USER", "root")
            .env("SLUICEGATE_PASSWORD", PASSWORD)
            .env_remove("SLUICEGATE_TOKEN")
            .output()?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            return Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn program(&self, name: &str) -> PathBuf {
        let beside = || std::env::current_exe().ok()?.parent().map(Path::to_owned);
        self.args.programs_dir.clone().or_else(beside).unwrap_or_default().join(name)
    }
}

struct Gateway {
    process: Process,
    address: String,
}

struct Broker {
    process: Process,
    address: String,
}

impl Broker {
    fn start(binary: &Path, work: &Path) -> io::Result<Self> {
        let address = free_address()?;
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        let log_path = work.join("nats-server.log");
        let log = fs::File::create(&log_path)?;
        let child = Command::new(binary)
            .args(["-a", host, "-p", port, "-js", "-sd"])
            .arg(work.join("jetstream"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?;
        let mut broker = Self { process: Process(child), address };
        // With -js it answers when JetStream is up: the API is asked, not the port.
        let address = broker.address.clone();
        broker.process.wait_until(&log_path, || nats::request(&address, "$JS.API.INFO", &Value::Null).is_ok())?;
        Ok(broker)
    }
}

/// A child that does not outlive us.
struct Process(Child);

impl Process {
    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until `is_ready`; an error if the process ends before, or takes too long. `log` is where it says why.
    fn wait_until(&mut self, log: &Path, is_ready: impl Fn() -> bool) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_ready() {
            let ended = self.0.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let text = fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(5).collect();
                return Err(io::Error::other(format!("does not start; last lines first: {last:?}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    /// Asks, waits, and insists.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that goes when we do.
struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempdir(parent: &Path) -> io::Result<TempDir> {
    let path = parent.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&path)?;
    Ok(TempDir(path))
}

/// File storage in memory would measure something else.
fn refuse_memory(path: &Path) -> io::Result<()> {
    if rustix::fs::statfs(path)?.f_type as u64 == TMPFS {
        return Err(io::Error::other(format!("{} is in memory: give a --work-dir on a disk", path.display())));
    }
    Ok(())
}

/// Whether `GET path` there is answered with 200.
fn answers_ok(address: &str, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<bool, io::Error>(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// A port that was free a moment ago.
fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn nats_version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().rsplit('v').next().unwrap_or_default().to_owned()
}

/// Station and stream of the runs over HTTP.
const STATION: &str = "perf";
/// Of this laboratory only, on the loopback, for seconds.
const PASSWORD: &str = "perf-laboratory-Password-1";
const SECRET: &str = "perf-laboratory-secret-0123456789abcdef";
const REFRESH_SECRET: &str = "perf-laboratory-refresh-0123456789abcdef";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// Type of a memory file system.
const TMPFS: u64 = 0x0102_1994;
