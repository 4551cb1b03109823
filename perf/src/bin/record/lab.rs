//! One run: a program is started, put under load, measured and stopped.

use crate::{
    Args,
    broker::Broker,
    case::{Case, Contender, Load, Program},
    process::{Process, answers_ok, free_address, named},
    schema,
};
use serde_json::Value;
use sluicegate_perf::{nats, outcome::Outcome};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where runs take place.
pub(crate) struct Lab<'a> {
    pub(crate) args: &'a Args,
    pub(crate) work: &'a Path,
    /// None in cases of the embedded store.
    pub(crate) broker: Option<&'a Broker>,
    /// Begin every run with nothing left to write: what is measured waits for the disk.
    pub(crate) settle: bool,
}

/// A gateway that runs.
struct Gateway {
    process: Process,
    address: String,
    admin: String,
}

impl Lab<'_> {
    /// Runs a contender once. `rate`: requests a second that are due, in an open loop.
    pub(crate) fn run(&self, contender: &Contender, rate: Option<f64>) -> io::Result<Outcome> {
        if self.settle {
            rustix::fs::sync();
        }
        match contender.program {
            Program::AppendFile => self.run_append(&contender.load),
            Program::NativePublisher => self.run_native(&contender.load, rate),
            _ => self.run_gateway(contender, rate),
        }
    }

    fn run_gateway(&self, contender: &Contender, rate: Option<f64>) -> io::Result<Outcome> {
        let broker = self.broker.filter(|_| contender.program != Program::NullServer);
        if let Some(broker) = broker
            && contender.load.stations > 1
        {
            // One stream for all: how the broker fares with thousands of streams is not what is measured.
            nats::create_stream(&broker.address, STATION, &format!("{STATION}.>"))?;
        }
        let outcome = self.run_under_load(contender, rate);
        let Some(broker) = broker else { return outcome.map(|(outcome, _)| outcome) };
        let stored = nats::stream_messages(&broker.address, STATION);
        // Deleted in any case, so that the next run begins with nothing.
        let deleted = nats::delete_stream(&broker.address, STATION);
        if contender.schemas > 0 {
            nats::delete_stream(&broker.address, REGISTRY)?;
        }
        let (outcome, records) = outcome?;
        deleted?;
        match stored? {
            stored if stored < records => {
                Err(io::Error::other(format!("{records} records acknowledged, {stored} stored")))
            }
            _ => Ok(outcome),
        }
    }

    /// Starts a gateway, loads it and stops it; answers how many records it acknowledged, too.
    fn run_under_load(&self, contender: &Contender, rate: Option<f64>) -> io::Result<(Outcome, u64)> {
        let gateway = self.start_gateway(contender)?;
        if contender.schemas > 0 {
            let sluicegate = &self.args.sluicegate;
            if contender.load.stations == 1 {
                schema::create(sluicegate, &gateway.admin, PASSWORD, STATION)?;
            }
            let stations = if contender.load.stations > 1 { MANY_STATIONS } else { STATION };
            schema::attach(sluicegate, &gateway.admin, PASSWORD, stations, contender.schemas, self.work)?;
        }
        let summary = self.put_load(&gateway, contender, rate)?;
        let (rss_mib, peak_mib) = gateway.process.memory_mib();
        let records = summary.pointer("/records").and_then(Value::as_u64).unwrap_or(0);
        Ok((Outcome { rss_mib, peak_mib, ..Outcome::of_gateway(&summary)? }, records))
    }

    fn run_native(&self, load: &Load, rate: Option<f64>) -> io::Result<Outcome> {
        let broker = self.broker.ok_or_else(|| io::Error::other("no broker runs"))?;
        let mut command = self.program(Program::NativePublisher);
        command
            .args(["--nats", &broker.address, "--size", &load.size.to_string()])
            .args(["--warmup", &load.warmup_s.to_string(), "--duration", &load.duration_s.to_string()])
            .args(["--account", &broker.process.id().to_string()])
            .args(rate.iter().flat_map(|rate| ["--rate".to_owned(), rate.to_string()]));
        Outcome::of_own_generator(&json(command.stderr(Stdio::inherit()))?)
    }

    fn run_append(&self, load: &Load) -> io::Result<Outcome> {
        let mut command = self.program(Program::AppendFile);
        command.args(["--size", &load.size.to_string(), "--directory"]).arg(self.work).args([
            "--warmup",
            &load.warmup_s.to_string(),
            "--duration",
            &load.duration_s.to_string(),
        ]);
        Outcome::of_own_generator(&json(command.stderr(Stdio::inherit()))?)
    }

    fn start_gateway(&self, contender: &Contender) -> io::Result<Gateway> {
        let (listen, admin) = (free_address()?, free_address()?);
        let nats = self.broker.map(|broker| format!("nats://{}", broker.address));
        let mut command = match contender.program {
            Program::Sluicegate => {
                let data = self.work.join("gateway");
                if data.exists() {
                    fs::remove_dir_all(&data)?;
                }
                let mut command = Command::new(&self.args.sluicegate);
                command.args(["serve", "--admin-listen", &admin, "--data-dir"]).arg(&data);
                command.args(nats.iter().flat_map(|nats| ["--nats", nats.as_str()]));
                command
            }
            Program::StraightforwardGateway => {
                let mut command = self.program(contender.program);
                command.args(nats.iter().flat_map(|nats| ["--nats", nats.as_str()]));
                command
            }
            _ => self.program(contender.program),
        };
        if let Some(driver) = &contender.driver {
            command.args(["--driver", driver]);
            command.args(self.args.shards.iter().flat_map(|count| ["--shards".to_owned(), count.to_string()]));
        }
        let log_path = self.work.join("gateway.log");
        let log = fs::File::create(&log_path)?;
        command.args(&contender.args).args(["--listen", &listen]).stdout(log.try_clone()?).stderr(log);
        command.env("ROOT_PASSWORD", PASSWORD).env("JWT_SECRET", SECRET).env("REFRESH_JWT_SECRET", REFRESH_SECRET);
        let mut gateway =
            Gateway { process: Process(command.spawn().map_err(named(command.get_program()))?), address: listen, admin: admin.clone() };
        let address = gateway.address.clone();
        let is_ready = || match contender.program {
            // It listens before it has found the broker; what it refused until then would count as failed.
            Program::Sluicegate => answers_ok(&admin, "/readyz") && answers_ok(&address, "/monitoring/status"),
            _ => answers_ok(&address, "/monitoring/status"),
        };
        gateway.process.wait_until(&log_path, is_ready)?;
        Ok(gateway)
    }

    fn put_load(&self, gateway: &Gateway, contender: &Contender, rate: Option<f64>) -> io::Result<Value> {
        let Load { connections, idle, stations, batch, size, gzip, warmup_s, duration_s, .. } = contender.load;
        let mut accounted = vec![gateway.process.id()];
        if contender.program != Program::NullServer {
            accounted.extend(self.broker.map(|broker| broker.process.id()));
        }
        let accounted: Vec<String> = accounted.iter().map(u32::to_string).collect();
        let mut command = Command::new(&self.args.sluicegate);
        command
            .args(["bench", "produce", "--json", "--url", &format!("http://{}", gateway.address)])
            .args(["--connections", &connections.to_string(), "--idle", &idle.to_string()])
            .args(["--batch", &batch.to_string()])
            .args(["--warmup", &format!("{warmup_s}s"), "--duration", &format!("{duration_s}s")])
            .args(["--account", &accounted.join(",")])
            .args(gzip.then_some("--gzip"))
            .args(rate.iter().flat_map(|rate| ["--rate".to_owned(), rate.to_string()]));
        if contender.load.described {
            command.arg("--file").arg(schema::write_events(self.work, size)?);
        } else {
            command.args(["--size", &size.to_string()]);
        }
        if stations > 1 {
            command.args(["--station", MANY_STATIONS, "--stations", &stations.to_string()]);
        } else {
            command.args(["--station", STATION]);
        }
        if contender.program == Program::NullServer {
            // It gives no tokens and reads none: one of the usual length.
            command.env("SLUICEGATE_TOKEN", "t".repeat(TOKEN_BYTES)).env_remove("SLUICEGATE_PASSWORD");
        } else {
            command.env("SLUICEGATE_USER", "root").env("SLUICEGATE_PASSWORD", PASSWORD).env_remove("SLUICEGATE_TOKEN");
        }
        json(&mut command)
    }

    fn program(&self, program: Program) -> Command {
        let beside = || std::env::current_exe().ok()?.parent().map(Path::to_owned);
        let directory: PathBuf = self.args.programs_dir.clone().or_else(beside).unwrap_or_default();
        Command::new(directory.join(program.name()))
    }
}

/// What the open loop of a case is due at: a part of what the fastest gateway reaches, found out beforehand.
pub(crate) fn open_rate(lab: &Lab<'_>, case: &Case, contenders: &[Contender]) -> io::Result<Option<f64>> {
    let Some(part) = case.load.rate_of_max else { return Ok(None) };
    let mut most = 0.0_f64;
    for contender in contenders.iter().filter(|contender| contender.program == Program::Sluicegate) {
        let outcome = lab.run(contender, None)?;
        most = most.max(outcome.records_per_s / f64::from(case.load.batch));
    }
    if most > 0.0 { Ok(Some((most * part).round())) } else { Err(io::Error::other("no gateway to find the rate with")) }
}

/// What a program printed, if it was content with its run.
fn json(command: &mut Command) -> io::Result<Value> {
    let output = command.output().map_err(named(command.get_program()))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text: String = String::from_utf8_lossy(&text).chars().take(FAILURE_CHARS_MAX).collect();
        return Err(io::Error::other(text));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Station and stream of the runs over HTTP; the stream alone where there are many stations.
const STATION: &str = "perf";
/// What the names of many stations begin with; that stream holds them.
const MANY_STATIONS: &str = "perf.s";
/// What keeps the schemas of a run.
const REGISTRY: &str = "KV_sluicegate";
/// Of this laboratory only, on the loopback, for seconds.
const PASSWORD: &str = "perf-laboratory-Password-1";
const SECRET: &str = "perf-laboratory-secret-0123456789abcdef";
const REFRESH_SECRET: &str = "perf-laboratory-refresh-0123456789abcdef";
/// Of an access token of the gateway.
const TOKEN_BYTES: usize = 200;
/// What is kept of a program's complaint.
const FAILURE_CHARS_MAX: usize = 600;
