//! What HTTP alone costs: the gateway's own engine with nothing behind it.
//!
//! Connections, parser and runtime are those of the gateway, on as many threads as it takes by itself, each with a
//! listener of its own; a request is read whole, and answered as if its records were stored.

use clap::Parser;
use sluicegate::internals::{
    rt::{self, Driver, DriverChoice, Flavor, Listener, Reservation},
    service::{
        Admission, Admitted, BodyMode, Budget, Connections, Fields, Limits, Payload, Reject, Reply, Request, Route,
        Service, ShardMetrics, stored,
    },
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    thread,
};

/// The gateway's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every request is read whole and answered the same, without asking or storing anything. The answer is that of a
/// produce call whose records are stored.
#[derive(Debug)]
struct Null {
    body_bytes_max: u64,
}

impl Service for Null {
    type Call = ();

    fn admit(&self, _: &Request<'_>) -> Admission<()> {
        let body = BodyMode::Whole { bytes_max: self.body_bytes_max };
        Admission::Call(Admitted { call: (), route: Route::OTHER, body, is_verified: true, waits: false })
    }

    async fn handle(&self, (): (), _: &Request<'_>, _: Payload<'_>) -> Reply {
        stored(Route::OTHER)
    }

    /// The answer to what could not be read: what was wrong with it is of no interest here.
    fn reject(&self, reject: &Reject, route: Route, _: Option<&Request<'_>>) -> Reply {
        Reply { close: reject.closes(), ..Reply::new(400, Fields::default(), route) }
    }
}

#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:4444")]
    listen: SocketAddr,
    /// Threads; the cores that the process may use, if nothing is said.
    #[arg(long)]
    shards: Option<u16>,
    /// `auto`, `io_uring` or `epoll`.
    #[arg(long, default_value_t = DriverChoice::Auto)]
    driver: DriverChoice,
}

fn main() -> ExitCode {
    match serve(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> io::Result<()> {
    let _ = rt::raise_file_limit();
    let driver = Driver::choose(args.driver).map_err(io::Error::other)?;
    let port = Reservation::new(args.listen)?;
    let cores = || thread::available_parallelism().map_or(1, |count| u16::try_from(count.get()).unwrap_or(u16::MAX));
    let shards = args.shards.unwrap_or_else(cores);
    let mut threads = Vec::new();
    for index in 0..shards {
        let (listener, flavor) = (port.listener()?, driver.flavor);
        threads.push(thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            let _ = rt::pin_to_core(index.into(), shards.into());
            rt::run(flavor, || shard(listener, flavor, shards))?
        })?);
    }
    drop(port);
    threads
        .into_iter()
        .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard panicked"))))
}

/// One thread's connections, until the process ends.
async fn shard(listener: TcpListener, flavor: Flavor, shards: u16) -> io::Result<()> {
    let listener = Listener::new(listener, flavor)?;
    let limits = Limits::default().of_shard(shards);
    let budget = Budget::new(limits.shard_body_bytes_max);
    let service = Null { body_bytes_max: limits.body_bytes_max as u64 };
    let connections = Connections::new(service, limits, budget, Arc::<ShardMetrics>::default());
    rt::spawn(Rc::clone(&connections).sweep());
    connections.accept(listener).await;
    Ok(())
}
