//! A run from login to summary: what the threads share, and what happens beside them.

use super::{
    account::CpuReading,
    args::{Plan, Work},
    payload::{consume_body, produce_bodies},
    progress::Progress,
    report::{ProcessCpu, Summary},
    request::{Encoder, Parts},
    schedule::Schedule,
    tally::Tally,
    target,
    worker::{self, Orders, Sight},
};
use crate::rt::clock;
use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use std::{
    net::TcpStream,
    sync::{
        atomic::AtomicBool,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// Makes the run; `stop` ends it early, `show` gets its progress. An error says why it could not be made; failures of
/// single requests are in the summary.
pub(super) fn run(plan: &Plan, stop: &AtomicBool, show: &mut dyn FnMut(&str)) -> Result<Summary, String> {
    raise_file_limit();
    let bodies = match &plan.work {
        Work::Produce(produce) => produce_bodies(produce)?,
        Work::Consume(consume) => vec![consume_body(consume)],
    };
    let tokens = target::tokens(&plan.url, &plan.credential, plan.tokens, plan.timeout)?;
    let run_id = getrandom::u64().map_err(|error| error.to_string())?;
    let parts = Parts::new(&plan.url, &plan.stations, &tokens, &plan.work, bodies, run_id);
    let idle = open_idle(plan)?;
    let streams = open(plan, plan.connections)?;

    let epoch = clock::now();
    let (tally, cpu) = drive(plan, &parts, streams, epoch, (stop, show))?;
    let elapsed = Duration::from_nanos(tally.last).saturating_sub(plan.warmup);
    let idle_alive = idle.into_iter().filter(is_alive).count();
    Ok(Summary::new(plan, &tally, elapsed, cpu.own, cpu.processes, idle_alive))
}

/// CPU of the measured part.
struct Cpu {
    own: Duration,
    processes: Vec<ProcessCpu>,
}

/// Runs the threads and, beside them, shows the progress and reads the CPU times.
fn drive(
    plan: &Plan,
    parts: &Parts,
    streams: Vec<TcpStream>,
    epoch: Instant,
    (stop, show): (&AtomicBool, &mut dyn FnMut(&str)),
) -> Result<(Tally, Cpu), String> {
    let sights: Vec<Sight> = (0..plan.threads).map(|_| Sight::default()).collect();
    let (done, all_done) = mpsc::channel();
    std::thread::scope(|scope| {
        let workers: Vec<_> = deal(streams, plan.threads)
            .into_iter()
            .zip(&sights)
            .enumerate()
            .map(|(thread, (streams, sight))| {
                let orders = orders(plan, parts, streams, epoch, thread);
                let done = done.clone();
                scope.spawn(move || {
                    let outcome = worker::run(orders, sight, stop);
                    // The receiver is gone only if its thread panicked.
                    let _ = done.send(());
                    outcome
                })
            })
            .collect();
        let cpu = watch(plan, &sights, epoch, &all_done, show);
        let mut tally = Tally::default();
        for worker in workers {
            tally.add(&worker.join().map_err(|_| "a thread of the generator panicked".to_owned())??);
        }
        Ok((tally, cpu?))
    })
}

fn orders<'a>(plan: &Plan, parts: &'a Parts, streams: Vec<TcpStream>, epoch: Instant, thread: usize) -> Orders<'a> {
    Orders {
        epoch,
        address: plan.url.address,
        streams,
        pipeline: plan.pipeline,
        schedule: Schedule::new(plan.warmup, plan.extent, plan.rate, thread as u64, plan.threads as u64),
        encoder: Encoder::new(parts, u16::try_from(thread).unwrap_or(u16::MAX)),
        timeout: plan.timeout,
    }
}

/// Shows progress, and reads the CPU accounts when the measured part begins and when the last thread is done.
fn watch(
    plan: &Plan,
    sights: &[Sight],
    epoch: Instant,
    done: &mpsc::Receiver<()>,
    show: &mut dyn FnMut(&str),
) -> Result<Cpu, String> {
    let mut progress = Progress::new(plan);
    let mut before = None;
    let mut left = sights.len();
    let mut shown = epoch;
    while left > 0 {
        let until = match before {
            None => epoch + plan.warmup,
            Some(_) => shown + Progress::EVERY,
        };
        let until = until.min(shown + Progress::EVERY);
        match done.recv_timeout(until.saturating_duration_since(clock::now())) {
            Ok(()) => left -= 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if before.is_none() && clock::since(epoch) >= plan.warmup {
            before = Some(read_cpu(plan)?);
        }
        if clock::since(shown) >= Progress::EVERY {
            shown = clock::now();
            show(&progress.line(sights, clock::since(epoch)));
        }
    }
    let after = read_cpu(plan)?;
    let before = before.unwrap_or_else(|| after.clone());
    let processes = plan.account.iter().zip(before.1.iter().zip(&after.1));
    Ok(Cpu {
        own: after.0.saturating_sub(before.0),
        processes: processes.map(|(pid, (before, after))| ProcessCpu { pid: *pid, cpu: after.since(before) }).collect(),
    })
}

/// Reads the CPU time of this process, and of the processes that were named.
fn read_cpu(plan: &Plan) -> Result<(Duration, Vec<CpuReading>), String> {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own = Duration::new(own.tv_sec.unsigned_abs(), u32::try_from(own.tv_nsec).unwrap_or(0));
    let read = |pid: &u32| CpuReading::of(*pid).map_err(|error| format!("--account {pid}: {error}"));
    Ok((own, plan.account.iter().map(read).collect::<Result<_, _>>()?))
}

/// Distributes the connections over the threads, as evenly as possible.
fn deal(streams: Vec<TcpStream>, threads: usize) -> Vec<Vec<TcpStream>> {
    let mut hands: Vec<Vec<TcpStream>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, stream) in streams.into_iter().enumerate() {
        if let Some(hand) = hands.get_mut(index % threads) {
            hand.push(stream);
        }
    }
    hands
}

fn open(plan: &Plan, count: usize) -> Result<Vec<TcpStream>, String> {
    (0..count).map(|_| target::connect(&plan.url, plan.timeout)).collect()
}

/// Opens connections that make one request each, so that they are keep-alive connections to the server, and then stay.
fn open_idle(plan: &Plan) -> Result<Vec<TcpStream>, String> {
    let request = format!("GET /monitoring/status HTTP/1.1\r\nHost: {}\r\n\r\n", plan.url.authority);
    let mut streams = open(plan, plan.idle)?;
    for stream in &mut streams {
        target::exchange(stream, request.as_bytes(), plan.timeout)?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    }
    Ok(streams)
}

/// Returns whether the server still holds the connection: there is nothing to read, and no end.
fn is_alive(stream: &TcpStream) -> bool {
    stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Ten thousand connections need as many descriptors: the soft limit goes up to the hard one, if it may.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not, connecting will say so.
    let _ = setrlimit(Resource::Nofile, limit);
}
